"""The picture of the demo: forecast against truth over the held-out years, its error, and both loss curves."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fastlstm.demo.outcome import Outcome
from fastlstm.demo.series import YEAR

TRUTH, OURS, NAIVE, NN = "black", "tab:red", "tab:gray", "tab:blue"


def draw(outcome: Outcome, path: Path) -> None:
    """Write the picture as PNG."""
    figure = Figure(figsize=(13, 10), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 2, height_ratios=[3, 1.4, 2.4])
    above = figure.add_subplot(grid[0, :])
    forecasts(above, outcome)
    errors(figure.add_subplot(grid[1, :], sharex=above), outcome)
    losses(figure.add_subplot(grid[2, 0]), outcome)
    by_week(figure.add_subplot(grid[2, 1]), outcome)
    figure.savefig(path, dpi=110)


def yearly(outcome: Outcome) -> NDArray[np.int64]:
    """Which held-out origins to draw: one every 52 weeks, so that each week of the held-out years is forecast once."""
    weeks = np.arange(outcome.origins[0], outcome.origins[-1] + 1, YEAR)
    return np.flatnonzero(np.isin(outcome.origins, weeks))


def forecasts(axes: Axes, outcome: Outcome) -> None:
    """The concentration and the forecasts made at the turn of each year."""
    series = outcome.series
    shown = slice(series.held_out - YEAR, None)
    co2 = np.where(series.measured, series.co2, np.nan)
    axes.plot(series.dates[shown], co2[shown], color=TRUTH, linewidth=1.2, label="measured")
    for number, k in enumerate(yearly(outcome)):
        weeks = slice(outcome.origins[k] + 1, outcome.origins[k] + YEAR + 1)
        label = {"ours": "fastlstm.LSTM, a year ahead", "naive": "seasonal naive"} if number == 0 else {}
        axes.plot(series.dates[weeks], outcome.naive[k], color=NAIVE, linestyle=":", label=label.get("naive"))
        axes.plot(series.dates[weeks], outcome.ours[k], color=OURS, linewidth=1.8, label=label.get("ours"))
        axes.axvline(series.dates[outcome.origins[k]], color=NAIVE, linewidth=0.6, alpha=0.5)
    axes.set_ylabel("CO2 at Mauna Loa, ppm")
    axes.set_title("A year ahead over the held-out years, from what was known at each vertical line")
    axes.legend(loc="upper left")


def errors(axes: Axes, outcome: Outcome) -> None:
    """Forecast minus truth for the same forecasts."""
    axes.axhline(0, color=TRUTH, linewidth=0.8)
    for k in yearly(outcome):
        weeks = outcome.series.dates[outcome.origins[k] + 1 : outcome.origins[k] + YEAR + 1]
        axes.plot(weeks, outcome.naive[k] - outcome.truth[k], color=NAIVE, linestyle=":")
        axes.plot(weeks, outcome.ours[k] - outcome.truth[k], color=OURS, linewidth=1.2)
        axes.axvline(outcome.series.dates[outcome.origins[k]], color=NAIVE, linewidth=0.6, alpha=0.5)
    axes.set_ylabel("forecast - measured, ppm")


def losses(axes: Axes, outcome: Outcome) -> None:
    """Both loss curves, every step; ours is drawn dashed on top of nn.LSTM's, or nothing of that one would be seen."""
    pair = outcome.pair
    epochs = np.arange(1, np.size(pair.nn.losses) + 1) / len(pair.nn.losses[0])
    names = [f"nn.LSTM, {sum(pair.nn.seconds):.1f} s", f"fastlstm.LSTM, {sum(pair.ours.seconds):.1f} s"]
    axes.plot(epochs, np.ravel(pair.nn.losses), color=NN, linewidth=3.5, alpha=0.5, label=names[0])
    axes.plot(epochs, np.ravel(pair.ours.losses), color=OURS, linewidth=1.2, linestyle="--", label=names[1])
    axes.set_xlabel("epoch")
    axes.set_yscale("log")
    axes.set_ylabel("training loss of each step")
    axes.set_title(f"The same training: losses differ by {pair.epoch_difference():.0e} at most (epochs, relative)")
    axes.legend(loc="upper right")


def by_week(axes: Axes, outcome: Outcome) -> None:
    """The error of every held-out forecast by how far ahead it looks."""
    ahead = np.arange(1, YEAR + 1)
    curves = (
        ("seasonal naive", outcome.naive, NAIVE, ":"),
        ("seasonal naive with drift", outcome.drift, "tab:olive", "-."),
        ("fastlstm.LSTM", outcome.ours, OURS, "-"),
    )
    for name, forecast, color, style in curves:
        rmse = np.sqrt(np.nanmean((forecast - outcome.truth) ** 2, axis=0))
        axes.plot(ahead, rmse, color=color, linestyle=style, label=f"{name}, {outcome.rmse(forecast):.2f} ppm overall")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("weeks ahead")
    axes.set_ylabel("RMSE over the held-out years, ppm")
    axes.set_title(f"{len(outcome.origins)} forecasts, a week apart")
    axes.legend(loc="lower right")
