"""The picture of a benchmark: how many times as long as ours each peer takes, point by point."""

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from fastlstm.bench.measure import Measured
from fastlstm.bench.points import geometric_mean
from fastlstm.cells import LSTM

COLORS = {
    "nn.LSTM": "#d1495b",
    "ONNX Runtime": "#00798c",
    "ONNX Runtime, bound": "#4fb3bf",
    "OpenVINO": "#7b4fa3",
    "JAX": "#e09f3e",
}  # by the label for an LSTM
GAP = 1.0  # between two purposes, in rows


def draw(rows: list[Measured], title: str, path: Path) -> None:
    """Write the picture; the name's end says in which format."""
    figure(rows, title).savefig(path, dpi=110)


def figure(rows: list[Measured], title: str) -> Figure:
    """A dot for each point and peer. Right of 1, ours is faster."""
    figure = Figure(figsize=(11, 1.9 + 0.3 * (len(rows) + GAP * _purposes(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    heights = group(axes, rows)
    peers = rows[0].peers
    colors = {label.replace(LSTM.name, rows[0].point.cell): color for label, color in COLORS.items()}
    for k, peer in enumerate(peers):
        shift = 0.16 * (k - (len(peers) - 1) / 2)  # or the spreads of two peers lie on each other
        ratios = [row.ratio(peer) for row in rows]
        at = [height + shift for height in heights]
        label = f"{peer}: geometric mean {geometric_mean(ratios):.2f}, worst {min(ratios):.2f}"
        low, high = zip(*(row.ratio_range(peer) for row in rows), strict=True)
        axes.hlines(at, low, high, color=colors[peer], linewidth=1.6, alpha=0.35)
        axes.scatter(ratios, at, s=34, color=colors[peer], label=label, zorder=3, edgecolor="white", linewidth=0.6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(
        "their time / ours, right of 1 ours is faster: median bursts, and the spread of neighbours; logarithmic"
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=min(2, len(peers)), frameon=False)
    return figure


def group(axes: Axes, rows: list[Measured]) -> list[float]:
    """Name the points down the left side, under a heading for each purpose; returns the height of each point."""
    heights: list[float] = []
    top = 0.0
    for k, (purpose, points) in enumerate(groupby(rows, key=lambda row: row.point.purpose)):
        count = len(list(points))
        heading = top
        heights += [heading + GAP + i for i in range(count)]
        top = heading + GAP + count
        if k % 2 == 0:
            axes.axhspan(heading - 0.5, top - 0.5, color="#f4f4f6", zorder=0)
        axes.annotate(
            purpose,
            (0, heading),
            (-6, 0),
            ("axes fraction", "data"),
            "offset points",
            ha="right",
            va="center",
            weight="bold",
        )
    axes.set_yticks(heights, [str(row.point) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(top - 0.5, -0.5)
    return heights


def _purposes(rows: list[Measured]) -> int:
    return sum(1 for _ in groupby(rows, key=lambda row: row.point.purpose))
