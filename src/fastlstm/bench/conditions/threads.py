"""Whether torch's default number of threads is a good one for ours: nobody should have to look for a better one.

A point over the line is taken twice more, and its median counts: where a call stays on one thread whatever is set, noise
can only fail it.
"""

from collections.abc import Callable
from typing import Any

import torch

from fastlstm.bench import in_torch
from fastlstm.bench.conditions.condition import MODES, Reading, Track, Verdict, worst
from fastlstm.bench.contender import draw_inputs
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.measure import Measured, Schedule, take_in_turn
from fastlstm.bench.points import Point, of_cell
from fastlstm.cells import Cell

GRID = "people"
SCHEDULE = Schedule(bursts=5, seconds=0.1)
LIMIT = 1.1
RATIO = "default / best"


def measure(track: Track, cell: Cell) -> list[Reading]:
    """Every number of threads from 1 to the default, in turn at each point."""
    default = torch.get_num_threads()
    points = [(point, mode) for mode in MODES for point in of_cell(GRIDS[GRID].points, cell)]
    try:
        return [_reading(point, mode, default) for point, mode in track(points)]
    finally:
        torch.set_num_threads(default)


def judge(readings: list[Reading], cell: Cell) -> Verdict:
    """The default's time over that of the best, where it is worst."""
    return worst(readings, RATIO, LIMIT, "time with default threads over that with the best number, worst")


def _reading(point: Point, mode: str, default: int) -> Reading:
    reading = _once(point, mode, default)
    if reading.values[RATIO] <= LIMIT:
        return reading
    readings = [reading, _once(point, mode, default), _once(point, mode, default)]
    return sorted(readings, key=lambda reading: reading.values[RATIO])[1]


def _once(point: Point, mode: str, default: int) -> Reading:
    run = in_torch.ours(draw_inputs(point), MODES[mode]).run
    counts = range(1, default + 1)
    calls, seconds = take_in_turn({_label(count): _with_threads(count, run) for count in counts}, SCHEDULE)
    measured = Measured(point, calls, seconds, work={})
    values = {name: measured.microseconds(name) for name in seconds}
    return Reading(str(point), mode, {**values, RATIO: values[_label(default)] / min(values.values())})


def _label(count: int) -> str:
    return f"threads: {count}, µs"


def _with_threads(count: int, run: Callable[[], Any]) -> Callable[[], Any]:
    """`run` with so many; set where it is another number, which the first, untimed call of a burst sees to."""

    def call() -> Any:
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
        return run()

    return call
