"""The CSV file of a benchmark: a line for each point and contender."""

import csv
from pathlib import Path
from statistics import median

from fastlstm.bench.floor import Floor
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point


def write_csv(path: Path, rows: list[Measured], floor: Floor, where: dict[str, str]) -> None:
    """Microseconds a call (median, fastest, slowest burst), GFLOP/s, the floor; and `where` it ran, on every line."""
    lines = [
        {**point_columns(row.point), **_contender(row, name, floor), **where, **_machine(floor)}
        for row in rows
        for name in row.seconds
    ]
    write_lines(path, lines)


def write_lines(path: Path, lines: list[dict[str, str]]) -> None:
    """All with the columns of the first."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def point_columns(point: Point) -> dict[str, str]:
    """What a point is."""
    return {name: str(int(value) if name == "packed" else value) for name, value in point._asdict().items()}


def burst_columns(name: str, seconds: list[float], digits: int) -> dict[str, str]:
    """What an engine's bursts took, in microseconds a call."""
    microseconds = {"median_us": median(seconds), "lowest_us": min(seconds), "highest_us": max(seconds)}
    return {
        "engine": name,
        **{column: f"{value * 1e6:.{digits}f}" for column, value in microseconds.items()},
        "bursts": str(len(seconds)),
    }


def _contender(row: Measured, name: str, floor: Floor) -> dict[str, str]:
    return {
        **burst_columns(name, row.seconds[name], digits=1),
        "calls_a_burst": str(row.calls),
        "GFLOP/s": f"{row.gflops(name):.2f}",
        "floor_us": f"{floor.seconds(row.work[name]) * 1e6:.2f}",
    }


def _machine(floor: Floor) -> dict[str, str]:
    return {"peak_GFLOP/s": f"{floor.flops / 1e9:.1f}", "copy_GB/s": f"{floor.bandwidth / 1e9:.1f}"}
