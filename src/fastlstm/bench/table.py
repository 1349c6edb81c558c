"""What a benchmark prints: a table of what was measured, and a summary in a line a figure."""

from itertools import zip_longest

from rich import box
from rich.table import Table

from fastlstm.bench.contender import OURS
from fastlstm.bench.floor import Floor
from fastlstm.bench.grids import Extra
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point, geometric_mean
from fastlstm.cells import LSTM


def table(rows: list[Measured], floor: Floor, extras: tuple[Extra, ...]) -> Table:
    """For each point a line a contender, and one for the floor of ours."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    result.add_column("T, N, I, H", min_width=len("100, 64, 512, 512"))
    result.add_column("engine", no_wrap=True)
    for name in ("µs", "GFLOP/s", "of floor", "/ ours", "from-to", *(extra.name for extra in extras)):
        result.add_column(name, justify="right")
    for row in rows:
        lines = [_line(row, name, floor, extras) for name in row.seconds]
        lines.append(["floor", f"{floor.seconds(row.work[OURS]) * 1e6:,.1f}"])
        for label, cells in zip_longest(_labels(row.point), lines, fillvalue=""):
            result.add_row(label, *cells)
        result.add_section()
    return result


def _labels(point: Point) -> list[str]:
    """What stands beside the lines of a point: what it is for, its sizes, and what it is beyond one LSTM."""
    more = [f"P {point.P}"] if point.P else []
    more += [f"{point.layers} layers"] if point.layers > 1 else []
    more += ["2 directions"] if point.D == 2 else []
    more += [] if point.kind is LSTM else [point.cell]
    labels = [point.purpose, f"{point.T}, {point.N}, {point.I}, {point.H}"]
    return [*labels, ", ".join(more)] if more else labels


def _line(row: Measured, name: str, floor: Floor, extras: tuple[Extra, ...]) -> list[str]:
    took = row.microseconds(name)
    share = floor.seconds(row.work[name]) * 1e6 / took
    cells = [name, f"{took:,.0f}", f"{row.gflops(name):.1f}", f"{share:.0%}"]
    if name in row.peers:
        low, high = row.ratio_range(name)
        cells += [f"{row.ratio(name):.2f}", f"{low:.2f}-{high:.2f}"]
    elif name == OURS:
        cells += ["", "", *(f"{extra.value(row):.2f}" for extra in extras)]
    return cells


def summary(rows: list[Measured], extras: tuple[Extra, ...]) -> list[str]:
    """The geometric mean of every peer's ratios and of every extra figure, with the points at either end."""
    figures = {f"{peer} / {OURS}": [row.ratio(peer) for row in rows] for peer in rows[0].peers}
    figures |= {extra.name: [extra.value(row) for row in rows] for extra in extras}
    return [summary_line(name, values, [row.point for row in rows]) for name, values in figures.items()]


def summary_line(name: str, values: list[float], points: list[Point]) -> str:
    """A figure's geometric mean, and the points at either end."""
    ends = [f"{value:.2f} at {points[values.index(value)]}" for value in (min(values), max(values))]
    mean = geometric_mean(values)
    return f"{name}: geometric mean {mean:.2f} over {len(values)} points, lowest {ends[0]}, highest {ends[1]}"
