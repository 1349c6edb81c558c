"""torch's parameter names <-> the engine's weight order: the one place that knows both. No framework in here.

The engine takes five arrays for each layer and direction, w_ih, w_hh, b_ih, b_hh, w_hr, some of them absent. torch
names and orders those that are present: `shapes` follows `parameters()`, `slots` leads from there to the engine's five.
"""

from dataclasses import dataclass, field

_ORDER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


@dataclass(frozen=True)
class Sizes:
    """What the constructor fixes, in the alphabet of the project. P = 0: no projection; D: directions.

    What follows from it is computed once, into plain attributes: a call has microseconds, and torch.compile reads
    nothing else.
    """

    I: int
    H: int
    P: int = 0
    layers: int = 1
    D: int = 1
    bias: bool = True

    out: int = field(init=False, repr=False, compare=False)
    """How many features h has: P, or H without a projection."""
    cells: int = field(init=False, repr=False, compare=False)
    """Pairs of a layer and a direction: the rows of h_n and c_n."""
    arrays: int = field(init=False, repr=False, compare=False)
    """How many arrays a layer has in one direction."""
    shapes: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    """The shapes of nn.LSTM's parameters, in the order of `parameters()`."""
    numbers: list[int] = field(init=False, repr=False, compare=False)
    """The six sizes as integers, as an operator's arguments."""
    slots: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Where each of the engine's five arrays a cell is among the present ones, and -1, the end, for an absent one:
    `[*present, 0][k] for k in slots` is the engine's order."""

    def __post_init__(self) -> None:
        derive = object.__setattr__  # the dataclass is frozen
        derive(self, "out", self.P or self.H)
        derive(self, "cells", self.layers * self.D)
        derive(self, "arrays", count_arrays(self.P, self.bias))
        derive(self, "shapes", tuple(named_shapes(self).values()))
        derive(self, "numbers", [self.I, self.H, self.P, self.layers, self.D, int(self.bias)])
        present = list(cell_shapes(self))
        derive(
            self,
            "slots",
            tuple(
                cell * self.arrays + present.index(name) if name in present else -1
                for cell in range(self.cells)
                for name in _ORDER
            ),
        )


def count_arrays(P: int, bias: bool) -> int:
    """How many arrays a layer has in one direction."""
    return 2 + 2 * bias + (P > 0)


def cell_shapes(sizes: Sizes, layer: int = 0) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a layer has in one direction: those of `nn.LSTMCell`."""
    features = sizes.I if layer == 0 else sizes.D * sizes.out
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (4 * sizes.H, features), "weight_hh": (4 * sizes.H, sizes.out)}
    if sizes.bias:
        shapes |= {"bias_ih": (4 * sizes.H,), "bias_hh": (4 * sizes.H,)}
    if sizes.P > 0:
        shapes |= {"weight_hr": (sizes.P, sizes.H)}
    return shapes


def named_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The names and shapes of `nn.LSTM`'s parameters, in the order of `parameters()`."""
    return {
        f"{name}_l{layer}{suffix}": shape
        for layer in range(sizes.layers)
        for suffix in ("", "_reverse")[: sizes.D]
        for name, shape in cell_shapes(sizes, layer).items()
    }
