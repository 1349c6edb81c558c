"""How much memory a training step takes at its peak, above the parameters, the input and the cotangent.

What is kept for backward, scratch, output and gradients, and what a pool keeps from one step to the next. The steps are the
first of their size in a process where a tiny one ran before: the engine's code and threads do not count.
"""

from fastlstm.bench.conditions.condition import BOTH, THEIRS, Reading, Track, Verdict, worst
from fastlstm.bench.conditions.process import fresh, peak_of
from fastlstm.bench.contender import OURS, Prepare, draw_inputs
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.points import Point, geometric_mean

GRID = "people"
BEFORE = Point("runs before", 2, 2, 3, 4)
STEPS = 3
PAGE = 2**-8  # MiB: a tiny step may find all it needs in pages that the process has already
LIMIT = 1
RATIO = f"{OURS} / {THEIRS}"


def measure(track: Track) -> list[Reading]:
    """Each engine at each point in a process of its own."""
    return [_reading(point) for point in track(GRIDS[GRID].points)]


def judge(readings: list[Reading]) -> Verdict:
    """Ours over nn.LSTM's, where it is worst."""
    mean = geometric_mean([reading.values[RATIO] for reading in readings])
    return worst(readings, RATIO, LIMIT, f"peak memory over nn.LSTM's, geometric mean {mean:.2f}x, worst")


def _reading(point: Point) -> Reading:
    peak = {name: fresh(step_peak, prepare, point) for name, prepare in BOTH.items()}
    values = {f"{name}, MiB": mib for name, mib in peak.items()}
    return Reading(str(point), "train", {**values, RATIO: peak[OURS] / peak[THEIRS]})


def step_peak(prepare: Prepare, point: Point) -> float:
    """MiB that some forwards and backwards add at their peak. For a fresh process."""
    prepare(draw_inputs(BEFORE), True).run()
    step = prepare(draw_inputs(point), True).run

    def steps() -> None:
        for _ in range(STEPS):
            step()

    return max(PAGE, peak_of(steps))
