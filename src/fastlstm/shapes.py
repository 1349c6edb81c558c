"""Every tensor and parameter of an LSTM or a GRU, its shape in letters and in numbers. Needs no torch.

The shapes are those of torch's documentation; tests/test_shapes.py compares them with the modules themselves.
"""

import math
from typing import NamedTuple

from fastlstm.cells import BY_NAME, LSTM

PACKED = "sum of lengths"  # the letters of the one dimension that stands for L and N in a PackedSequence


class Shape(NamedTuple):
    """The same dimensions in letters and in numbers."""

    letters: str
    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.letters} = {self.numbers}"


class Tensor(NamedTuple):
    """What goes in or comes out of a call."""

    name: str
    meaning: str
    shape: Shape


class Parameter(NamedTuple):
    """What the layer learns."""

    name: str
    shape: Shape

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape.numbers)


class Layer(NamedTuple):
    """What a layer of given sizes looks like from outside."""

    sizes: dict[str, int]
    tensors: list[Tensor]
    parameters: list[Parameter]

    @property
    def total(self) -> int:
        """How many numbers the layer learns."""
        return sum(parameter.size for parameter in self.parameters)


def describe(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    batch: int = 3,
    length: int = 5,
    bidirectional: bool = False,
    proj_size: int = 0,
    batch_first: bool = False,
    unbatched: bool = False,
    bias: bool = True,
    rows: int | None = None,
    cell: str = "LSTM",
) -> Layer:
    """The sizes, tensors and parameters of `LSTM(input_size, hidden_size, num_layers, ...)` called on `length` steps.

    rows: the steps of all sequences together, where they are packed; `length` is then that of the longest. cell: "LSTM" or
    "GRU", whose H_cell is its H_out.
    Raises ValueError, with `nn.LSTM`'s own words where it has some, for sizes no layer can have.
    """
    positive = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    for name, size in {**positive, "batch": batch, "length": length}.items():
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")

    sizes = {"L": length, "N": batch, "D": 2 if bidirectional else 1, "num_layers": num_layers}
    if cell != LSTM.name and proj_size:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
    of = BY_NAME[cell]
    sizes |= {"H_in": input_size, "H_cell": hidden_size, "H_out": proj_size or hidden_size}
    if len(of.states) == 1:
        del sizes["H_cell"]
    if unbatched:
        del sizes["N"]
    sequence = ["L"] if unbatched else ["N", "L"] if batch_first else ["L", "N"]
    if rows is not None:
        sizes, sequence = {**sizes, PACKED: rows}, [PACKED]
    return Layer(sizes, _tensors(sizes, sequence), _parameters(sizes, len(of.gates), bias, proj_size > 0))


def shape(sizes: dict[str, int], *dimensions: str) -> Shape:
    """The numbers that letters stand for: a dimension is a letter, a number or a product of them ("D*H_out")."""

    def number(dimension: str) -> int:
        return math.prod(sizes[factor] if factor in sizes else int(factor) for factor in dimension.split("*"))

    comma = "," if len(dimensions) == 1 else ""
    return Shape(f"({', '.join(dimensions)}{comma})", tuple(number(dimension) for dimension in dimensions))


def _tensors(sizes: dict[str, int], sequence: list[str]) -> list[Tensor]:
    state = ["D*num_layers", "N"] if "N" in sizes else ["D*num_layers"]
    features = shape(sizes, *sequence, "H_in")
    output = shape(sizes, *sequence, "D*H_out")
    states = [("h", "hidden state", shape(sizes, *state, "H_out"))]
    if "H_cell" in sizes:
        states.append(("c", "cell state", shape(sizes, *state, "H_cell")))
    return [
        Tensor("input", "what each step reads", features),
        *(Tensor(f"{letter}_0", f"{words} to start from; zeros if left out", found) for letter, words, found in states),
        Tensor("output", "the last layer's hidden state at each step", output),
        *(
            Tensor(f"{letter}_n", f"every layer's {words} after its last step", found)
            for letter, words, found in states
        ),
    ]


def _parameters(sizes: dict[str, int], gates: int, bias: bool, projected: bool) -> list[Parameter]:
    parameters = []
    rows = f"{gates}*{'H_cell' if 'H_cell' in sizes else 'H_out'}"
    for layer in range(sizes["num_layers"]):
        for direction in range(sizes["D"]):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            below = "H_in" if layer == 0 else "D*H_out"
            parameters += [
                Parameter("weight_ih" + suffix, shape(sizes, rows, below)),
                Parameter("weight_hh" + suffix, shape(sizes, rows, "H_out")),
            ]
            if bias:
                parameters += [Parameter(f"bias_{of}{suffix}", shape(sizes, rows)) for of in ("ih", "hh")]
            if projected:
                parameters.append(Parameter("weight_hr" + suffix, shape(sizes, "H_out", "H_cell")))
    return parameters


LEGEND = {
    "L": "steps",
    "N": "sequences in the batch",
    "D": "directions",
    "num_layers": "layers",
    "H_in": "input_size",
    "H_cell": "hidden_size",
    "H_out": "proj_size, or hidden_size without a projection",
    PACKED: "steps of all sequences",
}


def meaning(layer: Layer, letter: str) -> str:
    """Of a letter in a layer's sizes."""
    return "hidden_size" if letter == "H_out" and "H_cell" not in layer.sizes else LEGEND[letter]
