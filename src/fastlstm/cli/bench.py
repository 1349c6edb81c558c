"""`fastlstm bench`: nn.LSTM and fastlstm.LSTM over the grid, in turn in one process."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fastlstm.cli.needs import needs

if TYPE_CHECKING:
    from fastlstm.bench.measure import Measured


def bench(
    train: Annotated[bool, typer.Option("--train", help="Forward and backward in place of inference.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="For both engines; left out: torch's choice.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write every measurement to this file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer, shorter bursts; leave out the large points.")] = False,
) -> None:
    """Time fastlstm.LSTM against nn.LSTM over a grid of sizes, after comparing what they compute."""
    needs("torch")
    from fastlstm.bench import grid, measure
    from fastlstm.bench.host import host

    threads = measure.set_threads(threads)
    points, schedule = (grid.QUICK, measure.QUICK) if quick else (grid.GRID, measure.FULL)
    console = Console()
    rows = [measure.measure(point, train, schedule) for point in track(points, "Measuring", console=console)]
    where = host(threads)
    mode = "training (forward + backward)" if train else "inference"
    console.print(f"{mode}, float32, {', '.join(f'{name} {value}' for name, value in where.items())}", highlight=False)
    show(rows, console)
    if csv_file is not None:
        write_csv(csv_file, rows, {"mode": "train" if train else "infer", **where, "command": command()})


def show(rows: "list[Measured]", console: Console) -> None:
    """A line a point, then the geometric mean and the worst point."""
    from fastlstm.bench.measure import geometric_mean

    *peers, ours = rows[0].seconds
    table = Table()
    table.add_column("T, N, I, H", no_wrap=True)
    for name in (*peers, ours):
        table.add_column(f"{name} µs", justify="right")
    for name in peers:
        table.add_column(f"{name} / {ours}", justify="right")
        table.add_column("from-to", justify="right")
    for row in rows:
        cells = [f"{row.microseconds(name):,.0f}" for name in (*peers, ours)]
        for name in peers:
            low, high = row.ratio_range(name, ours)
            cells += [f"{row.ratio(name, ours):.2f}", f"{low:.2f}-{high:.2f}"]
        table.add_row(", ".join(map(str, row.point)), *cells)
    console.print(table)
    for name in peers:
        worst = min(rows, key=lambda row: row.ratio(name, ours))
        mean = geometric_mean([row.ratio(name, ours) for row in rows])
        console.print(
            f"{name} / {ours}: geometric mean {mean:.2f} over {len(rows)} points, "
            f"worst {worst.ratio(name, ours):.2f} at {worst.point}",
            highlight=False,
        )


def write_csv(path: Path, rows: "list[Measured]", where: dict[str, str]) -> None:
    """A line for each point and engine: microseconds a call (median, fastest, slowest burst), and where it ran."""
    with path.open("w", newline="") as file:
        measured = ["T", "N", "I", "H", "engine", "median_us", "lowest_us", "highest_us", "bursts", "calls_a_burst"]
        writer = csv.DictWriter(file, [*measured, *where])
        writer.writeheader()
        for row in rows:
            for engine, seconds in row.seconds.items():
                times = [row.microseconds(engine), min(seconds) * 1e6, max(seconds) * 1e6]
                cells = [*row.point, engine, *(f"{value:.1f}" for value in times), len(seconds), row.calls]
                writer.writerow({**dict(zip(measured, cells, strict=True)), **where})


def command() -> str:
    """The command line as the user typed it, without the path of the script."""
    return " ".join(["fastlstm", *sys.argv[1:]])
