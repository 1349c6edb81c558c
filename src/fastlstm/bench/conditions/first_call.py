"""What the first call of a process costs beside later ones: whoever starts a process for a few calls pays for it.

The first one loads code, starts threads and touches new memory; making the layer and its input is not part of it, nor
what torch imports for any backward.
"""

from statistics import median

import torch

from fastlstm.bench.conditions.condition import MODES, Reading, Track, Verdict, both, worst
from fastlstm.bench.conditions.process import fresh
from fastlstm.bench.contender import OURS, Prepare, draw_inputs
from fastlstm.bench.measure import seconds_of
from fastlstm.bench.points import Point, of_cell
from fastlstm.cells import Cell

POINTS = [
    Point("one row", 100, 1, 64, 64),
    Point("large", 100, 32, 128, 128),
    Point("large", 50, 64, 512, 512),
]
PROCESSES = 5  # for each figure, which is their median
LATER = 9  # calls after the first
LIMIT = 3
RATIO = f"{OURS} first / later"


def measure(track: Track, cell: Cell) -> list[Reading]:
    """Both engines in turn, each time in a process of its own."""
    points = [(point, mode) for point in of_cell(POINTS, cell) for mode in MODES]
    return [_reading(point, mode) for point, mode in track(points)]


def judge(readings: list[Reading], cell: Cell) -> Verdict:
    """Ours, where it is worst."""
    return worst(readings, RATIO, LIMIT, "the first call over a later one")


def _reading(point: Point, mode: str) -> Reading:
    engines = both(point.kind)
    runs = [
        {name: fresh(first_and_later, prepare, point, MODES[mode], LATER) for name, prepare in engines.items()}
        for _ in range(PROCESSES)
    ]
    values = {}
    for name in engines:
        values[f"{name} first, µs"] = median(run[name][0] for run in runs) * 1e6
        values[f"{name} later, µs"] = median(run[name][1] for run in runs) * 1e6
        values[f"{name} first / later"] = median(run[name][0] / run[name][1] for run in runs)
    return Reading(str(point), mode, values)


def first_and_later(prepare: Prepare, point: Point, train: bool, later: int) -> tuple[float, float]:
    """Seconds of the first call, and the median of so many after it. For a fresh process."""
    run = prepare(draw_inputs(point), train).run
    if (
        train
    ):  # torch imports 500 modules (a second) at the first backward that is given a cotangent, whatever the layer
        torch.ones(1, requires_grad=True).backward(torch.ones(1))  # type: ignore[no-untyped-call]
    first = seconds_of(run, 1)
    return first, median(seconds_of(run, 1) for _ in range(later))
