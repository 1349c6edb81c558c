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

STREAM = "stream"  # the grid that is measured in another way than all others: bench/stream
MOST_THREADS = max(256, 2 * (os.cpu_count() or 1))  # OpenMP ends the process where the system gives it no more


def bench(
    context: typer.Context,
    peers: Annotated[str, typer.Option(help="Of torch, onnxruntime, openvino and jax, with commas between.")] = "torch",
    grid: Annotated[
        str, typer.Option(help="The sizes: people, ragged, proj, float64, bfloat16, models or stream.")
    ] = "people",
    cell: Annotated[str, CELL] = "lstm",
    train: Annotated[bool, typer.Option("--train", help="Forward and backward in place of inference.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MOST_THREADS, help="For every engine; left out: torch's choice.")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write every measurement to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the ratios into this file (PNG, SVG or PDF).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer, shorter bursts; leave out the large points.")] = False,
    recorded: Annotated[
        Path | None,
        typer.Option("--from", exists=True, dir_okay=False, help="Measure nothing: --plot what this CSV has."),
    ] = None,
) -> None:
    """Time fastlstm.LSTM or fastlstm.GRU against other engines. Over a grid of sizes, after comparing what they compute."""
    needs("torch")
    if recorded is not None:
        draw_recorded(context, recorded, plot)
        return
    if grid == STREAM:
        bench_stream(peers, cell_named(cell), train, threads, csv_file, plot, quick)
        return
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
        f"floor: torch.mm {floor.flops / 1e9:.0f} GFLOP/s, copy {floor.bandwidth / 1e9:.1f} GB/s of memory; over 100% of it: "
        "all that a small call has stays in a cache, or matrix units (AMX) do what torch.mm leaves to others",
        highlight=False,
    )
    for line in summary(rows, chosen.extras):
        console.print(line, highlight=False)
    how = {"grid": grid, "mode": "train" if train else "infer"}
    if csv_file is not None:
        write_csv(csv_file, rows, floor, {**how, **where, "command": command()})
    if plot is not None:
        from fastlstm.bench.picture import draw

        draw(rows, {**how, **where}, plot)


def bench_stream(
    peers: str, cell: "Cell", train: bool, threads: int | None, csv_file: Path | None, plot: Path | None, quick: bool
) -> None:
    """The grid whose points are steps of a stream, with its own figures."""
    from fastlstm.bench import measure
    from fastlstm.bench.host import host
    from fastlstm.bench.points import STREAM as POINTS
    from fastlstm.bench.points import of_cell
    from fastlstm.bench.record import write_lines
    from fastlstm.bench.stream import measuring, report

    refuse_for_stream(train, threads)
    against = streaming_peers(peers)
    packages = list(dict.fromkeys(package for peer in against for package in peer.packages))
    needs(*packages, *(["matplotlib"] if plot is not None else []))
    needs_file(csv_file, "--csv")
    needs_picture(plot, "--plot")
    where = host(measure.set_threads(1), packages)  # before a peer starts: each takes its number from torch
    steps = {peer.label_for(cell): peer.steps for peer in against}
    schedule = measuring.QUICK if quick else measuring.FULL

    said = ", ".join(f"{name} {value}" for name, value in where.items())
    console = output()
    console.print(f"{cell.name}, one step of one row of a stream, float32, {said}", highlight=False)
    rows = [
        measuring.measure_stream(point, steps, schedule)
        for point in track(of_cell(POINTS, cell), "Measuring", console=progress())
    ]
    show(console, report.table(rows))
    for line in report.summary(rows):
        console.print(line, highlight=False)
    how = {"grid": STREAM, "mode": "infer", **where}
    if csv_file is not None:
        write_lines(csv_file, [{**line, **how, "command": command()} for line in report.csv_lines(rows)])
    if plot is not None:
        from fastlstm.bench.picture import draw

        draw([row.measured for row in rows], how, plot)


def draw_recorded(context: typer.Context, file: Path, plot: Path | None) -> None:
    """The picture of what was measured before."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if plot is None or given != {"recorded", "plot"}:
        raise typer.BadParameter("stands beside --plot, and no other option", param_hint="--from")
    needs("matplotlib")
    needs_picture(plot, "--plot")
    from fastlstm.bench import picture
    from fastlstm.bench.record import read_csv

    try:
        rows, how = read_csv(file)
        picture.check(rows, how)
    except ValueError as error:
        raise typer.BadParameter(f"{str(file)!r}: {error}", param_hint="--from") from None
    picture.draw(rows, how, plot)


def refuse_for_stream(train: bool, threads: int | None) -> None:
    """A stream has no gradients, and one row on several threads would only wait for them."""
    if train:
        raise typer.BadParameter("a stream can't train: it has no gradients", param_hint="--train")
    if threads not in (None, 1):
        raise typer.BadParameter("a step of a stream runs on one thread: 1, or left out", param_hint="--threads")


def streaming_peers(names: str) -> "list[Peer]":
    """The peers of those names, where each can be asked for single steps."""
    chosen = named_peers(names)
    others = [name for name, peer in chosen.items() if not peer.streams]
    if others:
        raise typer.BadParameter(f"{' and '.join(others)} is not measured step by step", param_hint="--peers")
    return list(chosen.values())


def chosen_grid(name: str) -> "Grid":
    """The grid of that name."""
    from fastlstm.bench.grids import GRIDS

    if name not in GRIDS:
        raise typer.BadParameter(f"there is no grid {name!r}, but {', '.join([*GRIDS, STREAM])}", param_hint="--grid")
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
    chosen = named_peers(names)
    if list(chosen) != ["torch"] and not grid.any_peer:
        raise typer.BadParameter("this grid has no peer but torch", param_hint="--peers")
    untrained = [name for name, peer in chosen.items() if not peer.trains]
    if train and untrained:
        raise typer.BadParameter(f"{' and '.join(untrained)} can't train: inference only", param_hint="--peers")
    return list(chosen.values())


def named_peers(names: str) -> "dict[str, Peer]":
    """The peers of those names."""
    from fastlstm.bench.peers import PEERS

    chosen = list(dict.fromkeys(names.split(",")))
    unknown = [name for name in chosen if name not in PEERS]
    if unknown:
        raise typer.BadParameter(f"there is no peer {unknown[0]!r}, but {', '.join(PEERS)}", param_hint="--peers")
    return {name: PEERS[name] for name in chosen}


def command() -> str:
    """The command line as the user typed it, without the path of the script."""
    return " ".join(["fastlstm", *sys.argv[1:]])
