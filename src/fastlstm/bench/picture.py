"""The picture of a benchmark: how many times as long as ours each peer takes, point by point."""

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullLocator

from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point, geometric_mean
from fastlstm.cells import BY_NAME, LSTM


class Look(NamedTuple):
    """Of a peer's dots: their shape, too, for eyes and printers that don't tell the colors apart."""

    color: str
    marker: str


LOOKS = {
    "nn.LSTM": Look("#d1495b", "o"),
    "ONNX Runtime": Look("#00798c", "s"),
    "ONNX Runtime, bound": Look("#4fb3bf", "D"),
    "OpenVINO": Look("#7b4fa3", "^"),
    "JAX": Look("#e09f3e", "v"),
}  # by the label for an LSTM
WORDS = {
    "people": "at sizes people use",
    "ragged": "on packed batches of rows of T/3 to T steps",
    "proj": "with a projection",
    "float64": "at a few sizes people use",
    "bfloat16": "at a few sizes people use",
    "models": "in a whole model: Linear, the layer, Linear",
    "stream": "step by step on a stream of one row",
}  # by the grid
LETTERS = {
    "T": "steps",
    "N": "rows (sequences of a batch)",
    "I": "input features",
    "H": "hidden units",
    "P": "features that h is projected to",
}
MODES = {"infer": "inference", "train": "training (forward + backward)"}
GAP = 1.0  # between two purposes, in rows
INCHES = 0.26  # a row of up to three peers


def draw(rows: list[Measured], how: dict[str, str], path: Path) -> None:
    """Write the picture; the name's end says in which format. how: as for `heading`."""
    figure(rows, heading(rows[0].point, how)).savefig(path, dpi=110)


def check(rows: list[Measured], how: dict[str, str]) -> None:
    """ValueError: there is no picture of these. For what a file says, which anybody may have written."""
    for column, known in (("grid", WORDS), ("mode", MODES)):
        if how[column] not in known:
            raise ValueError(f"{column}: expected one of {', '.join(known)}, got {how[column]!r}")
    cell = rows[0].point.cell
    if any(row.point.cell != cell for row in rows) or cell not in BY_NAME:
        raise ValueError(f"cell: expected {' or '.join(BY_NAME)}, the same on every line")
    unknown = [peer for peer in rows[0].peers if peer not in _looks(cell)]
    if unknown:
        raise ValueError(f"engine: expected one of {', '.join(_looks(cell))}, got {unknown[0]!r}")


def heading(point: Point, how: dict[str, str]) -> str:
    """What was measured, and where. how: the grid, mode, processor, isa and threads of a CSV."""
    threads = "1 thread" if how["threads"] == "1" else f"{how['threads']} threads"
    where = f"{point.dtype}, {how['processor']} ({how['isa']}), {threads}"
    return f"{point.cell} {WORDS[how['grid']]}: {MODES[how['mode']]}\n{where}"


def figure(rows: list[Measured], title: str) -> Figure:
    """A dot for each point and peer. Right of 1, ours is faster."""
    peers = rows[0].peers
    legend_rows = -(-len(peers) // 2)
    height = 1.9 + 0.2 * legend_rows + INCHES * max(1, len(peers) / 3) * (len(rows) + GAP * _purposes(rows))
    figure = Figure(figsize=(10, height), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    heights = group(axes, rows)
    looks = _looks(rows[0].point.cell)
    for k, peer in enumerate(peers):
        color, marker = looks[peer]
        shift = 0.22 * (k - (len(peers) - 1) / 2)  # or the spreads of two peers lie on each other
        ratios = [row.ratio(peer) for row in rows]
        at = [height + shift for height in heights]
        label = f"{peer}: geometric mean {geometric_mean(ratios):.2f}, worst {min(ratios):.2f}"
        low, high = zip(*(row.ratio_bounds(peer) for row in rows), strict=True)
        axes.hlines(at, low, high, color=color, linewidth=1.6, alpha=0.35)
        axes.scatter(
            ratios, at, s=30, color=color, marker=marker, label=label, zorder=3, edgecolor="white", linewidth=0.6
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    left, right = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 3, 5, 7) if right < 150 * left else (1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("their time / ours, logarithmic: right of 1, ours is faster")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(title, fontsize=12)
    legend = figure.legend(loc="outside lower center", ncols=min(2, len(peers)), frameon=False, title=caption(rows))
    legend.get_title().set_multialignment("center")
    return figure


def caption(rows: list[Measured]) -> str:
    """What the letters and the marks are."""
    said = " ".join(row.point.sizes for row in rows)
    letters = ", ".join(f"{letter} {words}" for letter, words in LETTERS.items() if f"{letter} " in said)
    return (
        f"{letters}\n"
        "dot: median bursts of calls; line: from their fastest burst over our slowest to their slowest over our fastest"
    )


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
    axes.set_yticks(heights, [row.point.sizes for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(top - 0.5, -0.5)
    return heights


def _looks(cell: str) -> dict[str, Look]:
    """By the label for that cell."""
    return {label.replace(LSTM.name, cell): look for label, look in LOOKS.items()}


def _purposes(rows: list[Measured]) -> int:
    return sum(1 for _ in groupby(rows, key=lambda row: row.point.purpose))
