"""The CSV file of a benchmark: a line for each point and contender."""

import csv
import math
from pathlib import Path
from statistics import median

from fastlstm.bench.contender import OURS
from fastlstm.bench.floor import Floor
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point
from fastlstm.cells import LSTM

BURSTS = ("median_us", "lowest_us", "highest_us")
HOW = ("grid", "mode", "processor", "isa", "threads")


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


def read_csv(path: Path) -> tuple[list[Measured], dict[str, str]]:
    """What such a file, or that of a stream, holds: of each contender's bursts the median, the fastest and the slowest; and
    the columns of the first line, which say how and where. ValueError: another file.
    """
    expected = [*(name for name in Point._fields if name != "cell"), "engine", *BURSTS, *HOW]
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in expected if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"expected a CSV of fastlstm bench, but it has no column {', '.join(missing)}"
                f" (such a CSV has {', '.join(expected)})"
            )
        lines = []
        for line in reader:
            short = [name for name in expected if line[name] is None]
            if short:
                raise ValueError(f"line {reader.line_num} ends before {', '.join(short)}")
            lines.append(line)
    seconds: dict[Point, dict[str, list[float]]] = {}
    for line in lines:
        bursts = [float(line[column]) / 1e6 for column in BURSTS]
        if not all(0 < burst < math.inf for burst in bursts):
            raise ValueError(f"expected times above 0, got {', '.join(line[column] for column in BURSTS)}")
        seconds.setdefault(_point(line), {})[line["engine"]] = bursts
    if not lines or not all(OURS in engines for engines in seconds.values()):
        raise ValueError(f"expected lines of {OURS} at every point")
    rows = [Measured(point, len(BURSTS), engines, {}) for point, engines in seconds.items()]
    if not rows[0].peers or any(set(row.peers) != set(rows[0].peers) for row in rows):
        raise ValueError(f"expected lines of the same engines before that of {OURS} at every point")
    return rows, lines[0]


def _point(line: dict[str, str]) -> Point:
    sizes = {name: int(line[name]) for name in ("T", "N", "I", "H", "layers", "D", "P")}
    return Point(
        line["purpose"], **sizes, dtype=line["dtype"], packed=line["packed"] == "1", cell=line.get("cell", LSTM.name)
    )


def point_columns(point: Point) -> dict[str, str]:
    """What a point is."""
    return {name: str(int(value) if name == "packed" else value) for name, value in point._asdict().items()}


def burst_columns(name: str, seconds: list[float], digits: int) -> dict[str, str]:
    """What an engine's bursts took, in microseconds a call."""
    values = (median(seconds), min(seconds), max(seconds))
    return {
        "engine": name,
        **{column: f"{value * 1e6:.{digits}f}" for column, value in zip(BURSTS, values, strict=True)},
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
