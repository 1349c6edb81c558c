"""How evenly steps take their time: each is timed by itself, beside those of a loop that the machine disturbs as much."""

from collections.abc import Callable
from itertools import cycle
from statistics import median
from time import perf_counter_ns
from typing import NamedTuple

CHUNK = 1000  # steps in a row: few enough that both sides meet the same disturbances
WARM_UP = 20  # steps that are not timed, at the start of a chunk: the other side's memory is in the cache
HIGH = 0.999


class Tail(NamedTuple):
    """Seconds of single steps: the median, and the 99.9th percentile."""

    median: float
    high: float

    @property
    def ratio(self) -> float:
        """How much longer than usual the slow ones take."""
        return self.high / self.median


def tail(nanoseconds: list[int]) -> Tail:
    """Of so many steps."""
    ordered = sorted(nanoseconds)
    return Tail(median(ordered) * 1e-9, ordered[int(HIGH * (len(ordered) - 1))] * 1e-9)


def tails_in_turn(calls: dict[str, Callable[[], object]], steps: int) -> dict[str, Tail]:
    """Of `steps` calls of each, chunk by chunk in turn, A B B A."""
    taken: dict[str, list[int]] = {name: [] for name in calls}
    left = steps
    for order in cycle((list(calls), list(reversed(calls)))):
        count = min(CHUNK, left)
        for name in order:
            for _ in range(WARM_UP):
                calls[name]()
            taken[name] += _single_steps(calls[name], count)
        left -= count
        if not left:
            break
    return {name: tail(nanoseconds) for name, nanoseconds in taken.items()}


def _single_steps(call: Callable[[], object], count: int) -> list[int]:
    nanoseconds = [0] * count  # so that nothing grows while the clock runs
    for k in range(count):
        start = perf_counter_ns()
        call()
        nanoseconds[k] = perf_counter_ns() - start
    return nanoseconds
