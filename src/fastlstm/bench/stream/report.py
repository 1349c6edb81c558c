"""How a stream's measurements are shown: a table and a summary on the screen, and a CSV file with a line for each engine."""

from itertools import zip_longest
from statistics import median

from rich import box
from rich.table import Table

from fastlstm.bench.contender import OURS
from fastlstm.bench.points import work
from fastlstm.bench.record import burst_columns, point_columns
from fastlstm.bench.stream.measuring import BARE, Streamed
from fastlstm.bench.table import summary as ratios
from fastlstm.bench.table import summary_line

MOST = 1.3  # our tail over the bare loop's


def table(rows: list[Streamed]) -> Table:
    """For each point a line an engine, and one for the bare loop, which is the floor."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    result.add_column("I, H", min_width=len("256, 256"))
    result.add_column("engine", no_wrap=True)
    for name in ("µs", "of floor", "/ ours", "from-to", "p99.9 / p50", "over bare's"):
        result.add_column(name, justify="right")
    for row in rows:
        point = row.measured.point
        lines = [_line(row, name) for name in row.measured.seconds]
        for label, cells in zip_longest([f"{point.I}, {point.H}"], lines, fillvalue=""):
            result.add_row(label, *cells)
        result.add_section()
    return result


def _line(row: Streamed, name: str) -> list[str]:
    took = row.measured.microseconds(name)
    cells = [name, f"{took:,.0f}" if took >= 100 else f"{took:.2f}", "" if name == BARE else f"{row.floor / took:.0%}"]
    if name in row.measured.peers:
        low, high = row.measured.ratio_range(name)
        return [*cells, f"{row.measured.ratio(name):.2f}", f"{low:.2f}-{high:.2f}"]
    return [*cells, "", "", f"{row.tail(name):.2f}", f"{row.tail_over_bare:.2f}" if name == OURS else ""]


def summary(rows: list[Streamed]) -> list[str]:
    """A line a figure: every peer's ratios, our tail over the bare loop's, and whether that is as even as it should be."""
    measured = [row.measured for row in rows]
    over_bare = [row.tail_over_bare for row in rows]
    name = f"p99.9 / p50, {OURS} / {BARE}"
    verdict = "holds" if max(over_bare) <= MOST else "does not hold"
    return [
        *ratios(measured, ()),
        summary_line(name, over_bare, [row.point for row in measured]),
        f"{name}: at most {MOST} {verdict}",
    ]


def csv_lines(rows: list[Streamed]) -> list[dict[str, str]]:
    """A line for each point and engine, and one for the bare loop."""
    return [
        {**point_columns(row.measured.point), **_engine(row, name)} for row in rows for name in row.measured.seconds
    ]


def _engine(row: Streamed, name: str) -> dict[str, str]:
    tails = [tails[name] for tails in row.tails if name in tails]
    bytes_read = work(row.measured.point, train=False).bytes
    return {
        **burst_columns(name, row.measured.seconds[name], digits=3),
        "calls_a_burst": str(row.calls.get(name, "")),
        "floor_us": f"{row.floor:.3f}",
        "read_GB/s": f"{bytes_read / row.floor / 1e3:.1f}",
        "p50_us": f"{median(one.median for one in tails) * 1e6:.3f}" if tails else "",
        "p99.9_us": f"{median(one.high for one in tails) * 1e6:.3f}" if tails else "",
        "p99.9/p50": f"{row.tail(name):.3f}" if tails else "",
        "over_bare": f"{row.tail_over_bare:.3f}" if name == OURS else "",
    }
