"""The sizes that every engine is measured at: one layer, one direction, float32."""

from typing import NamedTuple


class Point(NamedTuple):
    """Steps, batch, input features, hidden units."""

    T: int
    N: int
    I: int
    H: int

    @property
    def flops(self) -> int:
        """Of one forward pass: a multiply and an add for each weight, row and step."""
        return 2 * self.T * self.N * 4 * self.H * (self.I + self.H)

    def __str__(self) -> str:
        return f"T {self.T}, N {self.N}, I {self.I}, H {self.H}"


GRID = [
    Point(1, 1, 64, 64),
    Point(1, 1, 256, 256),
    Point(100, 1, 64, 64),
    Point(100, 1, 256, 256),
    Point(100, 1, 512, 512),
    Point(100, 8, 128, 128),
    Point(100, 32, 128, 128),
    Point(100, 64, 256, 256),
    Point(100, 64, 512, 512),
    Point(50, 32, 1024, 1024),
    Point(200, 16, 64, 64),
    Point(1000, 4, 40, 128),
    Point(512, 64, 7, 64),
    Point(365, 256, 27, 128),
    Point(28, 64, 28, 128),
]

QUICK = [point for point in GRID if point.flops < 3e8]  # a few milliseconds a call, and less
