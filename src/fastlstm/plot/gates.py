"""What the gates of a layer did over time, as heat maps."""

from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch.nn.utils.rnn import PackedSequence

from fastlstm.traces import GRUTrace, Trace


class _Row(NamedTuple):
    """limits: None: symmetric about 0, to the largest magnitude."""

    letter: str
    words: str
    colors: str = "viridis"
    limits: tuple[float, float] | None = (0, 1)


ROWS: dict[type[Any], tuple[_Row, ...]] = {
    Trace: (
        _Row("i", "input gate i"),
        _Row("f", "forget gate f"),
        _Row("g", "candidate g", "RdBu_r", (-1, 1)),
        _Row("o", "output gate o"),
        _Row("c", "cell state c", "RdBu_r", None),
        _Row("h", "hidden state h", "RdBu_r", None),
    ),
    GRUTrace: (
        _Row("r", "reset gate r"),
        _Row("z", "update gate z"),
        _Row("n", "candidate n", "RdBu_r", (-1, 1)),
        _Row("h", "hidden state h", "RdBu_r", None),
    ),
}
NOT_FINITE = "magenta"  # in neither color map


def trace(trace: Trace | GRUTrace, row: int = 0, layer: int | None = None) -> Figure:
    """The gates, cells and hidden states of one sequence of a batch as heat maps: units down, time to the right.

    trace: what `lstm.trace(x)` returns. row: which sequence, of N: its own steps, where rows have lengths. layer: which
    layer; None draws all of them. There is a column for each layer and direction, and one color bar a row. i, f, o (r, z)
    are drawn on 0 to 1, g (n) on -1 to 1, c and h up to their largest magnitude; NaN and infinities in magenta. Where there
    are more units or steps than pixels, their colors are averaged.

    TypeError: not a trace, or of complex numbers. ValueError: no such row or layer, or a row without steps.
    """
    if type(trace) not in ROWS:
        kinds = "fastlstm.LSTM.trace or fastlstm.GRU.trace"
        raise TypeError(f"trace: expected what {kinds} returns, got {type(trace).__name__}")
    rows = ROWS[type(trace)]
    layers = range(len(trace.layers))
    shown = layers if layer is None else [_index("layer", layer, len(layers))]
    names, columns = [], []
    for k in shown:
        for direction, steps in enumerate(trace.layers[k]):
            words = ["forward \N{RIGHTWARDS ARROW}", "reverse \N{LEFTWARDS ARROW}"][direction]
            names.append(f"layer {k}, {words}" if len(trace.layers[k]) == 2 else f"layer {k}")
            columns.append([_sequence(getattr(steps, entry[0]), row, trace) for entry in rows])

    T, H = columns[0][0].shape
    if T == 0:
        raise ValueError(f"row: {row} has no steps")
    count = len(columns)
    wide = np.clip(0.07 * T, max(2.4, 5 / count), max(2.4, 9 / count))
    tall = np.clip(0.14 * H, 1.3, 2.1)
    figure = Figure(figsize=(1.9 + count * wide, 1.1 + len(rows) * tall), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True)
    for k, (_, words, colors, limits) in enumerate(rows):
        low, high = limits or _symmetric([column[k] for column in columns])
        for axes, column in zip(grid[k], columns, strict=True):
            image = axes.imshow(
                column[k].T,
                cmap=colormaps[colors].with_extremes(bad=NOT_FINITE),
                vmin=low,
                vmax=high,
                aspect="auto",
                interpolation="antialiased",
                interpolation_stage="rgba",
            )
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
            axes.tick_params(labelsize=8, labelleft=axes is grid[k, 0])
        grid[k, 0].set_ylabel(f"{words}\nunit", fontsize=9)
        figure.colorbar(image, ax=list(grid[k]), pad=0.01, fraction=0.05, aspect=12).ax.tick_params(labelsize=8)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=10)
    for axes in grid[-1]:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.set_xlabel("step", fontsize=9)
    figure.suptitle(f"row {row}: {_counted(T, 'step')}, {_counted(H, 'unit')}", fontsize=11)
    return figure


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _index(name: str, given: int, count: int) -> int:
    """A place in `count` things, from one that may count from the end."""
    if count == 0:
        raise ValueError(f"{name}: there is none")
    try:
        return range(count)[given]
    except IndexError:
        raise ValueError(f"{name}: expected one of {count}, from 0 to {count - 1}, got {given}") from None


def _sequence(steps: Any, row: int, trace: Trace | GRUTrace) -> NDArray[Any]:
    """(T, features): the steps of one row of the batch, its own where rows have lengths."""
    if isinstance(steps, PackedSequence):
        sizes = steps.batch_sizes
        at = _index("row", row, int(sizes[0]))
        if steps.unsorted_indices is not None:
            at = int(steps.unsorted_indices[at])
        found = steps.data[((sizes.cumsum(0) - sizes + at)[sizes > at]).to(steps.data.device)]
    elif steps.is_nested:
        found = steps.unbind()[_index("row", row, steps.size(0))]
    elif steps.dim() == 3:
        rows = steps if trace.batch_first else steps.transpose(0, 1)
        found = rows[_index("row", row, len(rows))]
    else:
        _index("row", row, 1)
        found = steps
    if trace.lengths is not None:
        found = found[: int(trace.lengths[row])]
    if found.is_complex():
        raise TypeError(f"trace: expected real numbers, got {found.dtype}")
    narrow = found.dtype in (torch.float16, torch.bfloat16)  # NumPy has no bfloat16
    numbers: NDArray[Any] = found.detach().to("cpu", torch.float32 if narrow else found.dtype).numpy()
    return numbers


def _symmetric(arrays: list[NDArray[Any]]) -> tuple[float, float]:
    """Limits about 0 that all finite numbers are within."""
    largest = max(float(np.abs(a, where=np.isfinite(a), out=np.zeros_like(a)).max(initial=0)) for a in arrays)
    return -(largest or 1.0), largest or 1.0
