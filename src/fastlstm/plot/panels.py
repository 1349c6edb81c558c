"""One quantity of a layer over its steps as heat maps: a panel for each layer and direction, units down."""

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

NOT_FINITE = "magenta"  # in neither color map
ONE_BY_ONE = 32  # units in the layer's order, on a fixed scale: each is 5 pixels high or more. More are sorted
LINES = 100  # of a panel, which is 1.2 inches high or more: a line is a pixel or more
SAMPLE = 10**6  # numbers that percentiles are taken of, where there are twice as many or more
STEPS_TO_SORT_BY = 200  # every so manieth of more says as well what a unit does, and in a hundredth of a second


def heat_maps(
    figure: Figure,
    panels: list[Axes],
    arrays: list[NDArray[Any]],
    colors: str,
    limits: tuple[float, float] | None,
    steps: int,
) -> str:
    """On one scale for all panels, whose bar stands at the right; returns in words what a line is.

    arrays: (T, units). limits: of few units; None: symmetric about 0, to the largest magnitude. steps: how many a column of
    pixels stands for. A pixel of several numbers has their mean: by itself matplotlib would blur others into it.
    """
    units = arrays[0].shape[1]
    many = units > ONE_BY_ONE
    about_zero = limits is None or limits[0] < 0
    low, high = _scale(arrays, about_zero) if many else limits or _symmetric(arrays)
    together = -(-units // LINES)
    for axes, array in zip(panels, arrays, strict=True):
        drawn = means(array[:, order(array)].T, together, steps) if many else means(array.T, 1, steps)
        image = axes.imshow(
            drawn,
            cmap=colormaps[colors].with_extremes(bad=NOT_FINITE),
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="nearest",
            extent=(-0.5, drawn.shape[1] * steps - 0.5, drawn.shape[0] * together - 0.5, -0.5),
        )
        axes.set(xlim=(-0.5, len(array) - 0.5), ylim=(units - 0.5, -0.5))  # where the last mean is of fewer, it is cut
        axes.yaxis.set_major_locator(to_the_last(units))
    bar = figure.colorbar(image, ax=panels, pad=0.01, fraction=0.05, aspect=12, extend="both" if many else "neither")
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.set_major_formatter("{x:g}")
    if not many:
        return "unit"
    return f"{units} units, sorted" + (f",\nmeans of {together}" if together > 1 else "")


def means(array: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Of so many rows and columns each, of fewer at the end; NaN where a number is not finite."""
    if rows == columns == 1:
        return array
    numbers = np.where(np.isfinite(array), array, np.nan).astype(np.float64)
    for axis, count in enumerate((rows, columns)):
        length = numbers.shape[axis]
        starts = np.arange(0, length, count)
        counts = np.minimum(count, length - starts)
        numbers = np.add.reduceat(numbers, starts, axis) / (counts[:, None] if axis == 0 else counts)
    return numbers


def order(array: NDArray[Any]) -> NDArray[np.intp]:
    """Units, those that do alike side by side: by their angle in the plane of the first two principal components, where a
    unit is a point with its steps for coordinates. From the side of the higher numbers to that of the lower.
    """
    finite = np.where(np.isfinite(array), array, 0)[:: -(-len(array) // STEPS_TO_SORT_BY)].astype(np.float64)
    if len(finite) == 1:
        return np.argsort(-finite[0], kind="stable")
    points = finite - finite.mean(1, keepdims=True)
    points /= np.abs(points).max() or 1.0
    second, first = np.linalg.eigh(points @ points.T)[1][:, -2:].T @ points
    if first @ finite.mean(0) > 0:
        first = -first
    return np.argsort(np.arctan2(first, second), kind="stable")


def to_the_last(count: int, ticks: int = 4) -> FixedLocator:
    """Round numbers from 0, with `ticks` spaces between them at most, and count - 1; none so near to it that they touch."""
    last = count - 1
    nice = [float(tick) for tick in MaxNLocator(ticks, integer=True).tick_values(0, last) if tick <= last]
    apart = min((b - a for a, b in pairwise(nice)), default=0.0)
    return FixedLocator([*(tick for tick in nice if last - tick >= 0.7 * apart), last] if last else [0])


def _scale(arrays: list[NDArray[Any]], about_zero: bool) -> tuple[float, float]:
    """From the 1st to the 99th percentile of the finite numbers; about 0: that of their magnitudes, at either side."""
    numbers = np.concatenate([array[np.isfinite(array)] for array in arrays])
    if not numbers.size:
        return _symmetric(arrays)
    numbers = numbers[:: max(1, numbers.size // SAMPLE)]
    low, high = np.quantile(np.abs(numbers), (0, 0.99)) if about_zero else np.quantile(numbers, (0.01, 0.99))
    if not low < high:
        return _symmetric(arrays)
    return (-float(high) if about_zero else float(low)), float(high)


def _symmetric(arrays: list[NDArray[Any]]) -> tuple[float, float]:
    """Limits about 0 that all finite numbers are within."""
    largest = max(float(np.abs(a, where=np.isfinite(a), out=np.zeros_like(a)).max(initial=0)) for a in arrays)
    return -(largest or 1.0), largest or 1.0
