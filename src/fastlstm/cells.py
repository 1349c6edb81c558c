"""What a recurrent cell is made of, by name. Its maths: `reference.py`, `torch/runners/composite.py`, `native/src/cell/`."""

from typing import NamedTuple


class Cell(NamedTuple):
    """gates: in the order of the rows of w_ih; states: what one step hands to the next, the first of which is the output."""

    gates: tuple[str, ...]
    states: tuple[str, ...]


LSTM = Cell(gates=("i", "f", "g", "o"), states=("h", "c"))
