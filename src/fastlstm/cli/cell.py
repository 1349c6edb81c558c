"""The option --cell: which recurrent layer a command is about."""

from typing import Any

import typer

from fastlstm.cells import BY_NAME, Cell

NAMES = {name.lower(): cell for name, cell in BY_NAME.items()}
CELL: Any = typer.Option(help=f"The layer's cell: {' or '.join(NAMES)}.")  # Any: typer's own type


def cell_named(name: str) -> Cell:
    """The cell that --cell names, in whichever case."""
    if name.lower() not in NAMES:
        raise typer.BadParameter(f"there is no cell {name!r}, but {', '.join(NAMES)}", param_hint="--cell")
    return NAMES[name.lower()]
