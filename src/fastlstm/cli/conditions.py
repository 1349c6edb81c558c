"""`fastlstm conditions`: what a fast engine must also be, each held to a line."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from fastlstm.cli.bench import command
from fastlstm.cli.cell import CELL, cell_named
from fastlstm.cli.needs import needs, needs_file
from fastlstm.cli.output import output, progress, show


def conditions(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Of first-call, memory, resident, load and threads; left out: all of them."
        ),
    ] = None,
    cell: Annotated[str, CELL] = "lstm",
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write every reading to this file.")] = None,
) -> None:
    """Measure start, memory, load and default threads. Exit with status 1 if a line isn't held."""
    needs("torch")
    import torch

    from fastlstm.bench.conditions import CONDITIONS
    from fastlstm.bench.conditions.report import table, write_csv
    from fastlstm.bench.host import host

    known = [name for name, condition in CONDITIONS.items() if condition.runs_here]
    names = list(dict.fromkeys(names or known))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"there is no condition {unknown[0]!r} on this system, but {', '.join(known)}")
    kind = cell_named(cell)
    needs_file(csv_file, "--csv")

    console, shown = output(), progress()
    where = host(torch.get_num_threads())
    console.print(", ".join(f"{name} {value}" for name, value in where.items()), highlight=False)
    expected = {name: CONDITIONS[name].minutes for name in names}
    each = ", ".join(f"{name} {minutes}" for name, minutes in expected.items())
    console.print(f"about {sum(expected.values())} minutes on two idle cores: {each}", highlight=False)
    taken, verdicts = {}, []
    for name in names:
        readings = CONDITIONS[name].measure(partial(track, description=name, console=shown), kind)
        verdict = CONDITIONS[name].judge(readings, kind)
        show(console, table(readings))
        console.print(f"{name} {verdict}\n", highlight=False)
        taken[name] = readings
        verdicts.append(verdict)
    if csv_file is not None:
        write_csv(csv_file, taken, {**where, "command": command()})
    raise typer.Exit(0 if all(verdict.holds for verdict in verdicts) else 1)
