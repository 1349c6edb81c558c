"""How readings are shown: a table on the screen, and a CSV file with a line for each value."""

import csv
from pathlib import Path

from rich import box
from rich.table import Table

from fastlstm.bench.conditions.condition import Reading


def table(readings: list[Reading]) -> Table:
    """A line for each reading, a column for each value."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    result.add_column("at", min_width=20)
    result.add_column("mode")
    for name in readings[0].values:
        result.add_column(name, justify="right")
    for at, mode, values in readings:
        result.add_row(at, mode, *(_short(value) for value in values.values()))
    return result


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def write_csv(path: Path, taken: dict[str, list[Reading]], where: dict[str, str]) -> None:
    """The readings by condition: what was read and its unit, the value; and `where` it was taken, on every line."""
    with path.open("w", newline="") as file:
        lines = [
            {"condition": name, "at": at, "mode": mode, "figure": figure, "value": f"{value:.6g}", **where}
            for name, readings in taken.items()
            for at, mode, values in readings
            for figure, value in values.items()
        ]
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
