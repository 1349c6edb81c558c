"""What the gates of a layer did over time: a column for each layer and direction, a row for each gate and state."""

from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn.utils.rnn import PackedSequence

from fastlstm.plot.panels import NOT_FINITE, ONE_BY_ONE, heat_maps, to_the_last
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
NARROWEST = 1.45  # inches of a panel: as wide as its title
DOTS = 80  # to an inch of a panel: a step, or the mean of several
LETTER = 0.064  # inches, of 8 points: a bit more than the mean of a line


def trace(trace: Trace | GRUTrace, row: int = 0, layer: int | None = None) -> Figure:
    """The gates, cells and hidden states of one sequence of a batch over its steps, which go to the right.

    trace: what `lstm.trace(x)` returns. row: which sequence, of N: its own steps, where rows have lengths. layer: which
    layer; None draws all of them. There is a column for each layer and direction, and one scale a row.

    Up to 32 units stand in the layer's order: i, f, o (r, z) on 0 to 1, g (n) on -1 to 1, c and h up to their largest
    magnitude. More are sorted, in each panel by itself: those that do alike stand side by side, and the colors go from the
    1st percentile of a row to the 99th. Of more units or steps than fit, several are drawn as their mean. NaN and infinities
    are magenta. The picture says which of these it does.

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
    P = columns[0][-1].shape[1]
    if T == 0:
        raise ValueError(f"row: {row} has no steps")
    wide = max(np.clip(0.07 * T, 4.6, 6.8) / len(columns), NARROWEST)
    tall = np.clip(0.14 * H, 1.2, 1.5)
    figure = Figure(figsize=(1.7 + len(columns) * wide, 1.5 + len(rows) * tall), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True)
    together = -(-T // int(wide * DOTS))
    for k, (_, words, colors, limits) in enumerate(rows):
        panels = list(grid[k])
        line = heat_maps(figure, panels, [column[k] for column in columns], colors, limits, together)
        panels[0].set_ylabel(f"{words}\n{line}", fontsize=9)
        for axes in panels:
            axes.tick_params(labelsize=8, labelleft=axes is panels[0])
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    for axes in grid[-1]:
        axes.xaxis.set_major_locator(to_the_last(T, 4 if wide > 2 else 2))
        axes.set_xlabel("step" if together == 1 else f"step, means of {together}", fontsize=9)
    title = f"row {row}: {_counted(T, 'step')}, {_counted(H, 'unit')}"
    figure.suptitle(title if P == H else f"{title}, projected to {P}", fontsize=11)
    said = _said([array for column in columns for array in column])
    figure.supxlabel(fill(said, int(figure.get_figwidth() / LETTER)), fontsize=8)
    return figure


def _said(arrays: list[NDArray[Any]]) -> str:
    """What is not seen of itself."""
    said = []
    if any(array.shape[1] > ONE_BY_ONE for array in arrays):
        said.append(
            "Sorted in each panel by itself: units that do alike stand side by side (by their angle in the plane of its first "
            "two principal components). Colors go from the 1st percentile of a row of panels to the 99th."
        )
    count = sum(int(array.size - np.isfinite(array).sum()) for array in arrays)
    if count:
        said.append(f"{NOT_FINITE.capitalize()}: {_counted(count, 'number')} not finite.")
    return " ".join(said)


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
