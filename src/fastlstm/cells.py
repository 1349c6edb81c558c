"""What a recurrent cell is made of, by name. Its maths: a file a cell in `reference/`, `torch/runners/composite/` and
`native/src/cell/`.
"""

from typing import NamedTuple


class Cell(NamedTuple):
    """name: of torch's module, and of ONNX's operator; gates: in the order of the rows of w_ih, and in ONNX's, which calls an
    LSTM's g c and a GRU's n h; states: what one step hands to the next, the first of which is the output.
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    onnx_gates: tuple[str, ...]


LSTM = Cell("LSTM", gates=("i", "f", "g", "o"), states=("h", "c"), onnx_gates=("i", "o", "f", "g"))
GRU = Cell("GRU", gates=("r", "z", "n"), states=("h",), onnx_gates=("z", "r", "n"))
CELLS = (LSTM, GRU)  # where one stands here is its number in exported programs
BY_NAME = {cell.name: cell for cell in CELLS}
