"""`fastlstm bench`: fastlstm.LSTM or fastlstm.GRU and the engines people use over a grid of sizes, in turn in one process."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import track

from fastlstm.cli.cell import CELL, cell_named
from fastlstm.cli.needs import needs, needs_file, needs_picture
from fastlstm.cli.output import output, progress, show

if TYPE_CHECKING:
    from fastlstm.bench.grids import Grid
    from fastlstm.bench.peers import Peer
    from fastlstm.bench.points import Point
    from fastlstm.cells import Cell

MOST_THREADS = max(256, 2 * (os.cpu_count() or 1))  # OpenMP ends the process where the system gives it no more


def bench(
    peers: Annotated[str, typer.Option(help="Of torch, onnxruntime, openvino and jax, with commas between.")] = "torch",
    grid: Annotated[str, typer.Option(help="The sizes: people, ragged, proj, float64, bfloat16 or models.")] = "people",
    cell: Annotated[str, CELL] = "lstm",
    train: Annotated[bool, typer.Option("--train", help="Forward and backward in place of inference.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MOST_THREADS, help="For every engine; left out: torch's choice.")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write every measurement to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the ratios into this file (PNG, SVG or PDF).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer, shorter bursts; leave out the large points.")] = False,
) -> None:
    """Time fastlstm.LSTM or fastlstm.GRU against other engines. Over a grid of sizes, after comparing what they compute."""
    needs("torch")
    from fastlstm.bench import measure
    from fastlstm.bench.contender import draw_inputs
    from fastlstm.bench.floor import measure_floor
    from fastlstm.bench.host import host
    from fastlstm.bench.points import quick as quick_ones
    from fastlstm.bench.record import write_csv
    from fastlstm.bench.table import summary, table

    chosen = chosen_grid(grid)
    kind = cell_named(cell)
    points = chosen_points(chosen, kind)
    against = chosen_peers(peers, chosen, train)
    packages = list(dict.fromkeys(package for peer in against for package in peer.packages))
    needs(*packages, *(["matplotlib"] if plot is not None else []))
    needs_file(csv_file, "--csv")
    needs_picture(plot, "--plot")
    threads = measure.set_threads(threads)  # before a peer starts: each takes its number from torch
    prepare = {peer.label_for(kind): peer.prepare for peer in against}
    schedule = measure.FULL
    if quick:
        points, schedule = quick_ones(points), measure.QUICK

    where = host(threads, packages)
    mode = "training (forward + backward)" if train else "inference"
    said = ", ".join(f"{name} {value}" for name, value in where.items())
    console = output()
    console.print(f"{kind.name}, {mode}, {points[0].dtype}, {said}", highlight=False)
    floor = measure_floor(points[0].dtype)
    rows = [
        measure.measure(point, chosen.contenders(draw_inputs(point), train, prepare), schedule)
        for point in track(points, "Measuring", console=progress())
    ]
    show(console, table(rows, floor, chosen.extras))
    console.print(
        f"floor: torch.mm {floor.flops / 1e9:.0f} GFLOP/s, copy {floor.bandwidth / 1e9:.1f} GB/s", highlight=False
    )
    for line in summary(rows, chosen.extras):
        console.print(line, highlight=False)
    if csv_file is not None:
        how = {"grid": grid, "mode": "train" if train else "infer"}
        write_csv(csv_file, rows, floor, {**how, **where, "command": command()})
    if plot is not None:
        from fastlstm.bench.picture import draw

        title = (
            f"{kind.name}, {grid}: {mode}, {points[0].dtype}, {where['processor']} ({where['isa']}), threads: {threads}"
        )
        draw(rows, title, plot)


def chosen_grid(name: str) -> "Grid":
    """The grid of that name."""
    from fastlstm.bench.grids import GRIDS

    if name not in GRIDS:
        raise typer.BadParameter(f"there is no grid {name!r}, but {', '.join(GRIDS)}", param_hint="--grid")
    return GRIDS[name]


def chosen_points(grid: "Grid", cell: "Cell") -> "list[Point]":
    """The grid's points, for that cell."""
    from fastlstm.bench.points import of_cell

    try:
        return of_cell(grid.points, cell)
    except ValueError as error:
        raise typer.BadParameter(f"{error}, which this grid is of", param_hint="--grid") from error


def chosen_peers(names: str, grid: "Grid", train: bool) -> "list[Peer]":
    """The peers of those names, where each can do what is asked for."""
    from fastlstm.bench.peers import PEERS

    chosen = list(dict.fromkeys(names.split(",")))
    unknown = [name for name in chosen if name not in PEERS]
    if unknown:
        raise typer.BadParameter(f"there is no peer {unknown[0]!r}, but {', '.join(PEERS)}", param_hint="--peers")
    if chosen != ["torch"] and not grid.any_peer:
        raise typer.BadParameter("this grid has no peer but torch", param_hint="--peers")
    untrained = [name for name in chosen if not PEERS[name].trains]
    if train and untrained:
        raise typer.BadParameter(f"{' and '.join(untrained)} can't train: inference only", param_hint="--peers")
    return [PEERS[name] for name in chosen]


def command() -> str:
    """The command line as the user typed it, without the path of the script."""
    return " ".join(["fastlstm", *sys.argv[1:]])
