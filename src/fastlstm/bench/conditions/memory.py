"""How much memory a training step takes at its peak, above the parameters, the input and the cotangent.

What is kept for backward, scratch, output and gradients, and what a pool keeps from one step to the next. The steps are the
first of their size in a process where a tiny one ran before: the engine's code and threads do not count.
"""

from fastlstm.bench.conditions.condition import Reading, Track, Verdict, both, over_theirs, theirs, worst
from fastlstm.bench.conditions.process import fresh, peak_of
from fastlstm.bench.contender import OURS, Prepare, draw_inputs
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.points import Point, geometric_mean, of_cell
from fastlstm.cells import Cell

GRID = "people"
BEFORE = Point("runs before", 2, 2, 3, 4)
STEPS = 3
PAGE = 2**-8  # MiB: a tiny step may find all it needs in pages that the process has already
LIMIT = 1


def measure(track: Track, cell: Cell) -> list[Reading]:
    """Each engine at each point in a process of its own."""
    return [_reading(point) for point in track(of_cell(GRIDS[GRID].points, cell))]


def judge(readings: list[Reading], cell: Cell) -> Verdict:
    """Ours over torch's, where it is worst."""
    ratio = over_theirs(cell)
    mean = geometric_mean([reading.values[ratio] for reading in readings])
    return worst(readings, ratio, LIMIT, f"peak memory over {theirs(cell)}'s, geometric mean {mean:.2f}x, worst")


def _reading(point: Point) -> Reading:
    cell = point.kind
    peak = {name: fresh(step_peak, prepare, point) for name, prepare in both(cell).items()}
    values = {f"{name}, MiB": mib for name, mib in peak.items()}
    return Reading(str(point), "train", {**values, over_theirs(cell): peak[OURS] / peak[theirs(cell)]})


def step_peak(prepare: Prepare, point: Point) -> float:
    """MiB that some forwards and backwards add at their peak. For a fresh process."""
    prepare(draw_inputs(BEFORE._replace(cell=point.cell)), True).run()
    step = prepare(draw_inputs(point), True).run

    def steps() -> None:
        for _ in range(STEPS):
            step()

    return max(PAGE, peak_of(steps))
