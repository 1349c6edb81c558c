"""The sizes that are measured, by what people run an LSTM or a GRU for, and the work that each of them is. Pure: no torch."""

import math
from typing import NamedTuple

from fastlstm.cells import BY_NAME, LSTM, Cell

ITEMSIZE = {"float32": 4, "float64": 8, "bfloat16": 2}


class Work(NamedTuple):
    """What one call cannot do without: floating-point operations, and bytes that come from memory or go there."""

    flops: int
    bytes: int


class Point(NamedTuple):
    """One call: what for, steps, batch, input features, hidden units, layers, directions, projected features (0: none),
    dtype of everything in it, whether the batch is packed, its rows from T/3 to T steps long, and the cell by name.
    """

    purpose: str
    T: int
    N: int
    I: int
    H: int
    layers: int = 1
    D: int = 1
    P: int = 0
    dtype: str = "float32"
    packed: bool = False
    cell: str = LSTM.name

    @property
    def kind(self) -> Cell:
        """The cell itself."""
        return BY_NAME[self.cell]

    @property
    def out(self) -> int:
        """Features of h: P, or H without a projection."""
        return self.P or self.H

    @property
    def lengths(self) -> list[int]:
        """Steps of each row, the longest first: all T, or spread evenly from T down to T/3 in a packed batch."""
        if not self.packed:
            return [self.T] * self.N
        shortest = self.T / 3
        return [round(self.T - (self.T - shortest) * row / max(1, self.N - 1)) for row in range(self.N)]

    @property
    def rows(self) -> int:
        """Steps of all rows together: T * N of a dense batch."""
        return sum(self.lengths)

    @property
    def sizes(self) -> str:
        """Whatever its cell."""
        said = f"T {self.T}, N {self.N}, I {self.I}, H {self.H}"
        if self.P:
            said += f", P {self.P}"
        if self.layers > 1:
            said += f", {self.layers} layers"
        if self.D == 2:
            said += ", 2 directions"
        return said

    def __str__(self) -> str:
        return self.sizes if self.kind is LSTM else f"{self.sizes}, {self.cell}"


def work(point: Point, train: bool) -> Work:
    """Of one call: forward, or forward and backward with the gradients of the input and of every parameter.

    flops: a multiply and an add for each weight of a matrix, row and step. Training is three times that: each product has
    two gradients, which are products of the same size.

    bytes: parameters, input and output, once each. Training is twice that: each has a gradient. What an engine saves
    between forward and backward is not in it: it could be computed again.
    """
    matrices = vectors = 0  # weights, and elements of biases
    rows = len(point.kind.gates) * point.H
    for layer in range(point.layers):
        features = point.I if layer == 0 else point.D * point.out
        matrices += point.D * (rows * (features + point.out) + point.P * point.H)
        vectors += point.D * 2 * rows
    elements = matrices + vectors + point.rows * (point.I + point.D * point.out)
    flops, moved = 2 * point.rows * matrices, elements * ITEMSIZE[point.dtype]
    return Work(3 * flops, 2 * moved) if train else Work(flops, moved)


def of_cell(points: list[Point], cell: Cell) -> list[Point]:
    """The same sizes for a cell. ValueError: they have a projection, which only an LSTM has."""
    if cell is not LSTM and any(point.P for point in points):
        raise ValueError(f"a {cell.name} has no projection")
    return [point._replace(cell=cell.name) for point in points]


def quick(points: list[Point]) -> list[Point]:
    """Those whose forward pass is a few milliseconds at most."""
    return [point for point in points if work(point, train=False).flops < 3e8]


PEOPLE = [
    *(Point("one step of one row", 1, 1, H, H) for H in (64, 256, 512)),
    *(Point("one row", 100, 1, H, H) for H in (16, 64, 128, 256, 512)),
    Point("the documentation's", 5, 3, 10, 20, layers=2),
    Point("small batch", 100, 8, 128, 128),
    Point("small batch", 1000, 4, 40, 128, layers=3),
    *(Point("reinforcement learning", 128, N, 64, H) for N in (16, 64) for H in (128, 256)),
    Point("forecasting", 28, 64, 28, 128),
    Point("forecasting", 48, 128, 8, 64),
    Point("forecasting", 365, 256, 27, 128),
    Point("forecasting", 512, 64, 7, 64),
    Point("speech", 160, 8, 40, 256, layers=3),
    Point("speech", 200, 16, 80, 320, layers=2, D=2),
    Point("text", 35, 20, 650, 650, layers=2),
    Point("text", 50, 32, 300, 512, D=2),
    Point("large", 100, 32, 128, 128),
    Point("large", 100, 64, 256, 256),
    Point("large", 50, 64, 512, 512),
    Point("large", 25, 64, 1024, 1024),
    Point("large", 50, 32, 1024, 1024),
]

RAGGED = [
    Point("small batch", 100, 8, 128, 128, packed=True),
    Point("forecasting", 365, 256, 27, 128, packed=True),
    Point("speech", 160, 8, 40, 256, layers=3, packed=True),
    Point("speech", 200, 16, 80, 320, layers=2, D=2, packed=True),
    Point("text", 50, 32, 300, 512, D=2, packed=True),
    Point("large", 100, 32, 128, 128, packed=True),
    Point("large", 100, 64, 256, 256, packed=True),
]

PROJ = [
    Point("one row", 100, 1, 128, 128, P=64),
    Point("small batch", 100, 8, 128, 128, P=64),
    Point("speech", 160, 8, 40, 512, layers=2, P=256),
    Point("text", 35, 20, 512, 1024, P=512),
    Point("large", 100, 32, 256, 256, P=128),
]

_OTHER_DTYPES = [
    Point("one step of one row", 1, 1, 64, 64),
    Point("one row", 100, 1, 128, 128),
    Point("small batch", 100, 8, 128, 128),
    Point("forecasting", 48, 128, 8, 64),
    Point("large", 100, 32, 128, 128),
    Point("large", 50, 64, 512, 512),
]
FLOAT64 = [point._replace(dtype="float64") for point in _OTHER_DTYPES]
BFLOAT16 = [point._replace(dtype="bfloat16") for point in _OTHER_DTYPES]

STREAM = [Point("step of a stream", 1, 1, H, H) for H in (32, 64, 128, 256)]

MODELS = [Point("whole model", 50, N, H, H) for N in (1, 16, 64) for H in (64, 256)]


def geometric_mean(ratios: list[float]) -> float:
    """The mean that is the same whichever side is the yardstick."""
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
