"""Time calls in turn, in bursts, in one process: on a shared machine trust only ratios of neighbours in time."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch

from fastlstm.bench.contender import OURS, Contender, Results
from fastlstm.bench.points import Point, Work

# Seconds between bursts: workers of the other side may still spin after their last call, ONNX Runtime's for 0.03.
PAUSE = 0.06
# Seconds of calls that are not timed, at the start of a burst: a thread that has slept may take 1 ms to wake.
WARM_UP = 0.003


class Schedule(NamedTuple):
    """How many bursts each contender gets at a point, and how long one lasts (at least one call)."""

    bursts: int
    seconds: float


FULL = Schedule(bursts=9, seconds=0.1)
QUICK = Schedule(bursts=5, seconds=0.02)


class Measured(NamedTuple):
    """One point: each contender's seconds a call, burst by burst (the k-th bursts of all are neighbours in time).

    The peers come first, then ours, then what else is timed to understand ours.
    """

    point: Point
    calls: int
    seconds: dict[str, list[float]]
    work: dict[str, Work]

    @property
    def peers(self) -> list[str]:
        """The engines that ours is measured against."""
        names = list(self.seconds)
        return names[: names.index(OURS)]

    def microseconds(self, name: str) -> float:
        """The median burst of a contender."""
        return median(self.seconds[name]) * 1e6

    def ratio(self, name: str) -> float:
        """How many times as long as ours the contender takes: medians of bursts."""
        return self.microseconds(name) / self.microseconds(OURS)

    def ratio_range(self, name: str) -> tuple[float, float]:
        """The lowest and highest ratio of neighbouring bursts."""
        ratios = [a / b for a, b in zip(self.seconds[name], self.seconds[OURS], strict=True)]
        return min(ratios), max(ratios)

    def ratio_bounds(self, name: str) -> tuple[float, float]:
        """Between them lies the ratio of any two bursts; what a CSV of the fastest and the slowest still has."""
        ours, theirs = self.seconds[OURS], self.seconds[name]
        return min(theirs) / max(ours), max(theirs) / min(ours)

    def gflops(self, name: str) -> float:
        """GFLOP/s of a contender's median burst."""
        return self.work[name].flops / self.microseconds(name) / 1e3


def measure(point: Point, contenders: dict[str, Contender], schedule: Schedule) -> Measured:
    """Check that the contenders agree at `point`, then time them in turn."""
    agree(point, contenders)
    seconds = take_in_turn({name: contender.run for name, contender in contenders.items()}, schedule)
    return Measured(point, *seconds, {name: contender.work for name, contender in contenders.items()})


def agree(point: Point, contenders: dict[str, Contender], calls: int = 1) -> None:
    """Raise ValueError where the last of so many calls of a contender returned something else than the others'."""
    expected: Results = {}
    for name, contender in contenders.items():
        for _ in range(calls):
            returned = contender.run()
        results = contender.results(returned)
        shared = {key: results[key] for key in results if key in expected}
        compare(f"{name} at {point}", shared, expected, point.dtype)
        expected = {**results, **expected}


# How far apart two engines' results may be, as a share of the largest element; ten times that for a gradient.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13, "bfloat16": 2e-2}


def compare(what: str, actual: Results, expected: Results, dtype: str) -> None:
    """Raise ValueError where two engines differ by more than TOLERANCE.

    A guard against timing something else than the same work; `fastlstm check` is the precise comparison.
    """
    for name, value in actual.items():
        largest = expected[name].abs().max().item()
        error = (value - expected[name]).abs().max().item()
        if not error <= TOLERANCE[dtype] * (10 if name.endswith(".grad") else 1) * largest:
            raise ValueError(f"{what}: {name} differs by {error:.1e}, its largest element is {largest:.1e}")


def take_in_turn(calls: dict[str, Callable[[], Any]], schedule: Schedule) -> tuple[int, dict[str, list[float]]]:
    """Burst by burst, A B A B: how many calls a burst has (the same for all), and each one's seconds a call.

    A burst starts with calls that aren't timed, and who goes first alternates.
    """
    for call in calls.values():
        warm_up(call)
    slowest = max(seconds_of(call, 2) for call in calls.values())
    count = max(1, round(schedule.seconds / slowest))
    return count, bursts_in_turn(calls, dict.fromkeys(calls, count), schedule.bursts)


def bursts_in_turn(calls: dict[str, Callable[[], Any]], counts: dict[str, int], bursts: int) -> dict[str, list[float]]:
    """Each one's seconds a call, of so many bursts of as many calls as `counts` says."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for burst in range(bursts):
        for name in list(calls) if burst % 2 == 0 else reversed(calls):
            time.sleep(PAUSE)
            warm_up(calls[name])
            seconds[name].append(seconds_of(calls[name], counts[name]))
    return seconds


def warm_up(call: Callable[[], Any]) -> None:
    """Calls for WARM_UP, one at least."""
    end = time.perf_counter() + WARM_UP
    call()
    while time.perf_counter() < end:
        call()


def seconds_of(call: Callable[[], Any], count: int) -> float:
    """Seconds a call, of `count` in a row."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def set_threads(threads: int | None) -> int:
    """Let torch, and with it every contender, use `threads` (or leave it alone); returns how many it uses."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
