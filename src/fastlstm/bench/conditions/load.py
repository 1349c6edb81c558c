"""Whether ours stays ahead of nn.LSTM, or nn.GRU, where another process is busy on one core.

Threads that meet at every step wait for the one that has lost its core: the finer an engine cuts its work, the more.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastlstm.bench.conditions.condition import MODES, Reading, Track, Verdict, both, over_theirs, theirs, worst
from fastlstm.bench.contender import draw_inputs
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.measure import Schedule
from fastlstm.bench.measure import measure as take
from fastlstm.bench.points import Point, of_cell
from fastlstm.cells import Cell

GRID = "people"
SCHEDULE = Schedule(bursts=5, seconds=0.1)
LIMIT = 1
# Ends by itself where this process was killed: nobody else would end it.
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"


def measure(track: Track, cell: Cell) -> list[Reading]:
    """Both engines in turn at each point, the busy process beside them all the time."""
    with busy():
        points = [(point, mode) for mode in MODES for point in of_cell(GRIDS[GRID].points, cell)]
        return [_reading(point, mode) for point, mode in track(points)]


def judge(readings: list[Reading], cell: Cell) -> Verdict:
    """Our time over torch's, where it is worst."""
    return worst(readings, over_theirs(cell), LIMIT, f"time over {theirs(cell)}'s under the same load, worst")


def _reading(point: Point, mode: str) -> Reading:
    inputs, cell = draw_inputs(point), point.kind
    engines = both(cell)
    measured = take(point, {name: prepare(inputs, MODES[mode]) for name, prepare in engines.items()}, SCHEDULE)
    values = {f"{name}, µs": measured.microseconds(name) for name in engines}
    return Reading(str(point), mode, {**values, over_theirs(cell): 1 / measured.ratio(theirs(cell))})


@contextmanager
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that computes all the time, on whichever core the system gives it."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
