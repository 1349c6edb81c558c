"""The CSV file of a benchmark: a line for each point and contender."""

import csv
from pathlib import Path

from fastlstm.bench.floor import Floor
from fastlstm.bench.measure import Measured


def write_csv(path: Path, rows: list[Measured], floor: Floor, where: dict[str, str]) -> None:
    """Microseconds a call (median, fastest, slowest burst), GFLOP/s, the floor; and `where` it ran, on every line."""
    with path.open("w", newline="") as file:
        lines = [
            {**_point(row), **_contender(row, name, floor), **where, **_machine(floor)}
            for row in rows
            for name in row.seconds
        ]
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _point(row: Measured) -> dict[str, str]:
    point = row.point._asdict()
    return {name: str(int(value) if name == "packed" else value) for name, value in point.items()}


def _contender(row: Measured, name: str, floor: Floor) -> dict[str, str]:
    seconds = row.seconds[name]
    return {
        "engine": name,
        "median_us": f"{row.microseconds(name):.1f}",
        "lowest_us": f"{min(seconds) * 1e6:.1f}",
        "highest_us": f"{max(seconds) * 1e6:.1f}",
        "bursts": str(len(seconds)),
        "calls_a_burst": str(row.calls),
        "GFLOP/s": f"{row.gflops(name):.2f}",
        "floor_us": f"{floor.seconds(row.work[name]) * 1e6:.2f}",
    }


def _machine(floor: Floor) -> dict[str, str]:
    return {"peak_GFLOP/s": f"{floor.flops / 1e9:.1f}", "copy_GB/s": f"{floor.bandwidth / 1e9:.1f}"}
