"""A point of the grid: the engines and the bare loop in turn, first bursts of steps, then single ones."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

import fastlstm.numpy
from fastlstm.bench import measure
from fastlstm.bench.contender import OURS, Contender, Inputs, Results, Steps, draw_inputs, final_states
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import Point, work
from fastlstm.bench.stream.bare import SEARCH, bare_calls, fastest
from fastlstm.bench.stream.latency import Tail, tails_in_turn

BARE = "bare loop"
COMPARED = 3  # steps before the results are compared: a state that is not passed on would show


class Schedule(NamedTuple):
    """bursts: of steps. rounds: of single ones, how many each has."""

    bursts: measure.Schedule
    rounds: int
    steps: int


FULL = Schedule(measure.FULL, rounds=5, steps=20_000)
QUICK = Schedule(measure.QUICK, rounds=1, steps=20_000)


class Streamed(NamedTuple):
    """One point. measured: the bursts, of the bare loop too, without the call around it. calls: how many a burst has. tails:
    by round, of our single steps and of the bare loop's.
    """

    measured: Measured
    calls: dict[str, int]
    tails: list[dict[str, Tail]]

    @property
    def floor(self) -> float:
        """Microseconds to read as many bytes as a step does."""
        return self.measured.microseconds(BARE)

    def tail(self, name: str) -> float:
        """The 99.9th percentile over the median, of ours or of the bare loop's: the median round."""
        return median(tails[name].ratio for tails in self.tails)

    @property
    def tail_over_bare(self) -> float:
        """Our tail over that of the bare loop: the median round."""
        return median(tails[OURS].ratio / tails[BARE].ratio for tails in self.tails)


def measure_stream(point: Point, peers: dict[str, Steps], schedule: Schedule) -> Streamed:
    """Check that the engines agree after some steps, then time them and the bare loop in turn.

    Under one inference_mode: who runs nn.LSTM step by step enters it once.
    """
    with torch.inference_mode():
        contenders = contenders_of(draw_inputs(point), peers)
        measure.agree(point, contenders, calls=COMPARED)
        engines = {name: contender.run for name, contender in contenders.items()}
        bare = bare_calls(work(point, train=False).bytes)
        calls = {**engines, **bare}
        counts = {name: _calls_a_burst(call, schedule.bursts.seconds) for name, call in calls.items()}
        bursts = measure.bursts_in_turn(calls, counts, schedule.bursts.bursts)
        single = {OURS: engines[OURS], BARE: bare[SEARCH]}
        tails = [tails_in_turn(single, schedule.steps) for _ in range(schedule.rounds)]
    seconds = {**{name: bursts[name] for name in engines}, BARE: fastest({name: bursts[name] for name in bare})}
    works = {name: contender.work for name, contender in contenders.items()}
    return Streamed(Measured(point, counts[OURS], seconds, works), counts, tails)


def _calls_a_burst(call: Callable[[], object], seconds: float) -> int:
    """A step of ours is a hundredth of the slowest engine's: with as many calls its bursts would be too short to trust."""
    measure.warm_up(call)
    return max(1, round(seconds / min(measure.seconds_of(call, 10) for _ in range(3))))


def contenders_of(inputs: Inputs, peers: dict[str, Steps]) -> dict[str, Contender]:
    """The peers, by label and by how each is called, then ours."""
    theirs = {f"{label}{how}": one for label, steps in peers.items() for how, one in steps(inputs).items()}
    return {**theirs, OURS: ours(inputs)}


def ours(inputs: Inputs) -> Contender:
    """fastlstm.numpy's stream, `out` given."""
    point = inputs.point
    layer = getattr(fastlstm.numpy, point.cell).from_state({k: p.numpy() for k, p in inputs.layer.state_dict().items()})
    stream = layer.stream()
    frame = inputs.x.numpy().reshape(point.I)  # type: ignore[union-attr]  # a tensor: a step is dense
    out = np.empty(point.H, np.float32)

    def results(returned: np.ndarray) -> Results:
        states = stream.state if isinstance(stream.state, tuple) else (stream.state,)
        values = {"output": returned.reshape(1, 1, point.H), **dict(zip(final_states(point), states, strict=True))}
        return {name: torch.from_numpy(value.copy()) for name, value in values.items()}

    return Contender(lambda: stream.step(frame, out=out), results, work(point, train=False))
