"""`fastlstm shapes`: every tensor and parameter of an LSTM layer, its shape in letters and in numbers. Needs no torch.

The shapes are those of `torch.nn.LSTM`'s documentation; tests/cli/test_shapes.py compares them with the module itself.
"""

import json
import math
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table


class Shape(NamedTuple):
    """The same dimensions in letters and in numbers."""

    letters: str
    numbers: tuple[int, ...]


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
    """What an LSTM layer of given sizes looks like from outside."""

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
) -> Layer:
    """The sizes, tensors and parameters of `LSTM(input_size, hidden_size, num_layers, ...)` called on `length` steps.

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
    sizes |= {"H_in": input_size, "H_cell": hidden_size, "H_out": proj_size or hidden_size}
    if unbatched:
        del sizes["N"]
    return Layer(sizes, _tensors(sizes, batch_first), _parameters(sizes, proj_size > 0))


def _shape(sizes: dict[str, int], *dimensions: str) -> Shape:
    """The numbers that letters stand for: a dimension is a letter, a number or a product of them ("D*H_out")."""

    def number(dimension: str) -> int:
        return math.prod(sizes[factor] if factor in sizes else int(factor) for factor in dimension.split("*"))

    comma = "," if len(dimensions) == 1 else ""
    return Shape(f"({', '.join(dimensions)}{comma})", tuple(number(dimension) for dimension in dimensions))


def _tensors(sizes: dict[str, int], batch_first: bool) -> list[Tensor]:
    batched = "N" in sizes
    sequence = (["N", "L"] if batch_first else ["L", "N"]) if batched else ["L"]
    state = ["D*num_layers", "N"] if batched else ["D*num_layers"]
    features = _shape(sizes, *sequence, "H_in")
    output = _shape(sizes, *sequence, "D*H_out")
    hidden, cell = _shape(sizes, *state, "H_out"), _shape(sizes, *state, "H_cell")
    return [
        Tensor("input", "what each step reads", features),
        Tensor("h_0", "hidden state to start from; zeros if left out", hidden),
        Tensor("c_0", "cell state to start from; zeros if left out", cell),
        Tensor("output", "the last layer's hidden state at each step", output),
        Tensor("h_n", "every layer's hidden state after its last step", hidden),
        Tensor("c_n", "every layer's cell state after its last step", cell),
    ]


def _parameters(sizes: dict[str, int], projected: bool) -> list[Parameter]:
    parameters = []
    for layer in range(sizes["num_layers"]):
        for direction in range(sizes["D"]):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            below = "H_in" if layer == 0 else "D*H_out"
            parameters += [
                Parameter("weight_ih" + suffix, _shape(sizes, "4*H_cell", below)),
                Parameter("weight_hh" + suffix, _shape(sizes, "4*H_cell", "H_out")),
                Parameter("bias_ih" + suffix, _shape(sizes, "4*H_cell")),
                Parameter("bias_hh" + suffix, _shape(sizes, "4*H_cell")),
            ]
            if projected:
                parameters.append(Parameter("weight_hr" + suffix, _shape(sizes, "H_out", "H_cell")))
    return parameters


LEGEND = {
    "L": "steps",
    "N": "sequences in the batch",
    "D": "directions",
    "num_layers": "layers",
    "H_in": "input_size",
    "H_cell": "hidden_size",
    "H_out": "proj_size, or hidden_size without a projection",
}


def shapes(
    input_size: Annotated[int, typer.Option(help="Features of a step, H_in.")],
    hidden_size: Annotated[int, typer.Option(help="Units of a layer, H_cell.")],
    num_layers: Annotated[int, typer.Option(help="Layers stacked on each other.")] = 1,
    batch: Annotated[int, typer.Option(help="Sequences in the batch, N.")] = 3,
    length: Annotated[int, typer.Option(help="Steps of a sequence, L.")] = 5,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read both ways: D = 2.")] = False,
    proj_size: Annotated[int, typer.Option(help="Projected hidden state, H_out; 0 for none.")] = 0,
    batch_first: Annotated[bool, typer.Option("--batch-first", help="input and output as (N, L, ...).")] = False,
    unbatched: Annotated[bool, typer.Option("--unbatched", help="One sequence, no batch dimension.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for another program.")] = False,
) -> None:
    """Show the shape of every tensor and parameter of an LSTM layer, in letters and in numbers."""
    try:
        layer = describe(
            input_size,
            hidden_size,
            num_layers,
            batch=batch,
            length=length,
            bidirectional=bidirectional,
            proj_size=proj_size,
            batch_first=batch_first,
            unbatched=unbatched,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        print(to_json(layer))
    else:
        show(layer, Console())


def to_json(layer: Layer) -> str:
    """The same tables for a program: `sizes`, `tensors`, `parameters` (with `count`) and `total`."""
    tensors = [{"name": t.name, "meaning": t.meaning, **t.shape._asdict()} for t in layer.tensors]
    parameters = [{"name": p.name, **p.shape._asdict(), "count": p.size} for p in layer.parameters]
    tables = {"tensors": tensors, "parameters": parameters}
    return json.dumps({"sizes": layer.sizes, **tables, "total": layer.total}, indent=2)


def show(layer: Layer, console: Console) -> None:
    """Print what the letters mean, then the two tables."""
    for letter, size in layer.sizes.items():
        console.print(f"{letter:>10} = {size:<6} {LEGEND[letter]}", highlight=False)
    tensors = Table("tensor", "shape", "in numbers", "meaning")
    for tensor in layer.tensors:
        tensors.add_row(tensor.name, tensor.shape.letters, str(tensor.shape.numbers), tensor.meaning)
    parameters = Table("parameter", "shape", "in numbers", show_footer=True)
    parameters.add_column("count", justify="right", footer=f"{layer.total:,}")
    parameters.columns[0].footer = "total"
    for parameter in layer.parameters:
        name, (letters, numbers) = parameter
        parameters.add_row(name, letters, str(numbers), f"{parameter.size:,}")
    console.print(tensors, parameters)
