"""`fastlstm shapes`: every tensor and parameter of an LSTM or a GRU, its shape in letters and in numbers. Needs no torch.

What they are is in `fastlstm.shapes`.
"""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fastlstm.cli import output
from fastlstm.cli.cell import CELL, cell_named
from fastlstm.shapes import Layer, describe, meaning

MOST = 2**63 - 1  # what a tensor's size may be
MOST_LAYERS = 10_000  # each is four lines of a table, or more


def shapes(
    input_size: Annotated[int, typer.Option(max=MOST, help="Features of a step, H_in.")],
    hidden_size: Annotated[int, typer.Option(max=MOST, help="Units of a layer, H_cell.")],
    num_layers: Annotated[int, typer.Option(max=MOST_LAYERS, help="Layers stacked on each other.")] = 1,
    batch: Annotated[int, typer.Option(max=MOST, help="Sequences in the batch, N.")] = 3,
    length: Annotated[int, typer.Option(max=MOST, help="Steps of a sequence, L.")] = 5,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read both ways: D = 2.")] = False,
    proj_size: Annotated[int, typer.Option(max=MOST, help="Projected hidden state, H_out; 0 for none.")] = 0,
    batch_first: Annotated[bool, typer.Option("--batch-first", help="input and output as (N, L, ...).")] = False,
    unbatched: Annotated[bool, typer.Option("--unbatched", help="One sequence, no batch dimension.")] = False,
    cell: Annotated[str, CELL] = "lstm",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for another program.")] = False,
) -> None:
    """Show the shapes of a layer's tensors and parameters. They are in letters and in numbers."""
    kind = cell_named(cell)
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
            cell=kind.name,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        print(to_json(layer))
    else:
        show(layer, output.output())


def to_json(layer: Layer) -> str:
    """The same tables for a program: `sizes`, `tensors`, `parameters` (with `count`) and `total`."""
    tensors = [{"name": t.name, "meaning": t.meaning, **t.shape._asdict()} for t in layer.tensors]
    parameters = [{"name": p.name, **p.shape._asdict(), "count": p.size} for p in layer.parameters]
    tables = {"tensors": tensors, "parameters": parameters}
    return json.dumps({"sizes": layer.sizes, **tables, "total": layer.total}, indent=2)


def show(layer: Layer, console: Console) -> None:
    """Print what the letters mean, then the two tables."""
    for letter, size in layer.sizes.items():
        console.print(f"{letter:>10} = {size:<6} {meaning(layer, letter)}", highlight=False)
    tensors = Table("tensor", "shape", "in numbers", "meaning")
    for tensor in layer.tensors:
        tensors.add_row(tensor.name, tensor.shape.letters, str(tensor.shape.numbers), tensor.meaning)
    parameters = Table("parameter", "shape", "in numbers", show_footer=True)
    parameters.add_column("count", justify="right", footer=f"{layer.total:,}")
    parameters.columns[0].footer = "total"
    for parameter in layer.parameters:
        name, (letters, numbers) = parameter
        parameters.add_row(name, letters, str(numbers), f"{parameter.size:,}")
    output.show(console, tensors, parameters)
