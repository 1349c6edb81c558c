"""The demo's report (Markdown) and its checkpoint."""

from pathlib import Path

from safetensors.torch import save_file

import fastlstm
from fastlstm.bench.host import host
from fastlstm.demo.outcome import Outcome
from fastlstm.demo.training import EVERY_EPOCH, FIRST_EPOCH, Settings

PICTURE, REPORT, LSTM, HEAD = "forecast.png", "report.md", "lstm.safetensors", "head.safetensors"
FILES = (PICTURE, REPORT, LSTM, HEAD)


def scores(outcome: Outcome) -> list[tuple[str, float, float]]:
    """Name, RMSE and MAE (ppm) of every forecast of the held-out years."""
    named = {
        "seasonal naive: the value 52 weeks before": outcome.naive,
        "seasonal naive with drift": outcome.drift,
        "nn.LSTM": outcome.nn,
        "fastlstm.LSTM": outcome.ours,
    }
    return [(name, outcome.rmse(forecast), outcome.mae(forecast)) for name, forecast in named.items()]


def save_checkpoint(outcome: Outcome, folder: Path) -> None:
    """The layer as `fastlstm.save` writes it; the head beside it, with the scale of its output as metadata."""
    fastlstm.save(outcome.pair.ours.lstm, folder / LSTM)
    save_file(outcome.pair.ours.head.state_dict(), folder / HEAD, metadata={"scale": repr(outcome.scale)})


def write_report(outcome: Outcome, settings: Settings, path: Path) -> None:
    """Everything the demo measured, so that it can be read, and repeated, later."""
    series, pair = outcome.series, outcome.pair
    held_out = f"{series.dates[series.held_out]} to {series.dates[-1]}"
    score_rows = [f"| {name} | {rmse:.3f} | {mae:.3f} |" for name, rmse, mae in scores(outcome)]
    epoch_rows = [
        f"| {k + 1} | {pair.nn.epoch_losses[k]:.6f} | {pair.ours.epoch_losses[k]:.6f} "
        f"| {pair.nn.seconds[k]:.2f} | {pair.ours.seconds[k]:.2f} |"
        for k in range(len(pair.nn.seconds))
    ]
    lines = [
        "# A year ahead: weekly CO2 at Mauna Loa",
        "",
        f"![Forecast against truth, and both loss curves]({PICTURE})",
        "",
        "## The forecast",
        "",
        f"{len(outcome.origins)} forecasts of 52 weeks, one from each week of the held-out years ({held_out}) that has a year of",
        "them ahead.",
        "",
        "| forecast | RMSE, ppm | MAE, ppm |",
        "|---|---|---|",
        *score_rows,
        "",
        f"RMSE of fastlstm.LSTM: {outcome.gain(outcome.naive):.0%} below the seasonal naive forecast, "
        f"{outcome.gain(outcome.drift):.0%} below the one with drift.",
        "",
        "## The same training, twice",
        "",
        f"nn.LSTM took {sum(pair.nn.seconds):.1f} s, fastlstm.LSTM {sum(pair.ours.seconds):.1f} s, head and optimizer "
        f"included; ratio of the median epochs: {pair.ratio():.2f}.",
        "Largest relative difference of the losses: "
        f"{pair.first_epoch_difference():.1e} over the steps of the first epoch (allowed {FIRST_EPOCH:.0e}), "
        f"{pair.epoch_difference():.1e} over the means of all epochs (allowed {EVERY_EPOCH:.0e}).",
        "",
        "| epoch | nn.LSTM loss | fastlstm.LSTM loss | nn.LSTM s | fastlstm.LSTM s |",
        "|---|---|---|---|---|",
        *epoch_rows,
        "",
        "## How",
        "",
        "The series ships with the package (`fastlstm/data/README.md` has its source and terms). Gaps are filled on a "
        "straight line and never scored. The model reads two years of weeks, relative to the mean of the last one, and "
        "the time of the year, and forecasts the 52 weeks ahead relative to that mean; it is trained on windows that "
        "end before the held-out years.",
        "",
        f"- settings: {', '.join(f'{name} {value}' for name, value in settings._asdict().items())}",
        f"- machine: {', '.join(f'{name} {value}' for name, value in host(settings.threads).items())}",
        f"- checkpoint: `{LSTM}` (read it with `fastlstm.load`) and `{HEAD}`",
        "- again: `fastlstm demo`",
        "",
    ]
    path.write_text("\n".join(lines))
