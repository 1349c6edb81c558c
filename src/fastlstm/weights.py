"""torch's parameter names <-> the engine's weight order: the one place that knows both. No framework in here.

The engine takes five arrays for each layer and direction, w_ih, w_hh, b_ih, b_hh, w_hr, some of them absent. torch
names and orders those that are present: `named_shapes` follows `parameters()`.
"""

from dataclasses import dataclass, field
from functools import cached_property

from fastlstm import _engine
from fastlstm.cells import CELLS, LSTM, Cell


@dataclass(frozen=True)
class Sizes:
    """What the constructor fixes, in the alphabet of the project. P = 0: no projection; D: directions; is_cell: of LSTMCell,
    whose parameters have no layer in their names.

    What follows from it is computed once, into plain attributes: a call has microseconds, and torch.compile reads
    nothing else.
    """

    I: int
    H: int
    P: int = 0
    layers: int = 1
    D: int = 1
    bias: bool = True
    is_cell: bool = False
    cell: Cell = LSTM
    checkpoint_every: int = 0
    """Of how many steps forward keeps the last state for backward, which computes the others again; 0: it keeps all it needs."""

    out: int = field(init=False, repr=False, compare=False)
    """How many features h has: P, or H without a projection."""
    of_states: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """How many features each state has."""
    zeros: tuple[None, ...] = field(init=False, repr=False, compare=False)
    """The states of a call whose caller says nothing."""
    chains: int = field(init=False, repr=False, compare=False)
    """Pairs of a layer and a direction, each a chain through time: the rows of h_n and c_n."""
    arrays: int = field(init=False, repr=False, compare=False)
    """How many arrays a layer has in one direction."""
    shapes: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    """The shapes of nn.LSTM's parameters, in the order of `parameters()`."""
    numbers: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """As integers, an operator's argument: recorded calls keep everything."""

    def __post_init__(self) -> None:
        derive = object.__setattr__  # the dataclass is frozen
        derive(self, "out", self.P or self.H)
        derive(self, "of_states", (self.out, self.H)[: len(self.cell.states)])
        derive(self, "zeros", (None,) * len(self.of_states))
        derive(self, "chains", self.layers * self.D)
        derive(self, "arrays", count_arrays(self.P, self.bias))
        derive(self, "shapes", tuple(named_shapes(self).values()))
        which = CELLS.index(self.cell)  # the LSTM's, 0, is left out: programs from before there was another have none
        derive(self, "numbers", (*map(int, self._six), *((which,) if which else ())))

    @property
    def _six(self) -> tuple[int, int, int, int, int, bool]:
        return self.I, self.H, self.P, self.layers, self.D, self.bias

    @cached_property
    def layer(self) -> _engine.Layer:
        """The engine's; once it is asked for: sizes that come from a file may be beyond every integer."""
        return _engine.Layer(*self._six, self.is_cell, tuple(named_shapes(self)), self.cell.name, self.checkpoint_every)


def count_arrays(P: int, bias: bool) -> int:
    """How many arrays a layer has in one direction."""
    return 2 + 2 * bias + (P > 0)


def cell_shapes(sizes: Sizes, layer: int = 0) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a layer has in one direction: those of torch's module of one step."""
    features = sizes.I if layer == 0 else sizes.D * sizes.out
    rows = len(sizes.cell.gates) * sizes.H
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, features), "weight_hh": (rows, sizes.out)}
    if sizes.bias:
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if sizes.P > 0:
        shapes |= {"weight_hr": (sizes.P, sizes.H)}
    return shapes


def named_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the parameters, in the order of `parameters()`."""
    if sizes.is_cell:
        return cell_shapes(sizes)
    return {
        f"{name}_l{layer}{suffix}": shape
        for layer in range(sizes.layers)
        for suffix in ("", "_reverse")[: sizes.D]
        for name, shape in cell_shapes(sizes, layer).items()
    }
