"""Time calls in turn, in bursts, in one process: on a shared machine trust only ratios of neighbours in time."""

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch

from fastlstm.bench.grid import Point
from fastlstm.bench.peers import PEERS, Results

# Seconds between bursts: workers of the other side may still spin, tens of milliseconds after their last call.
PAUSE = 0.03


class Schedule(NamedTuple):
    """How many bursts each peer gets at a point, and how long one lasts (at least one call)."""

    bursts: int
    seconds: float


FULL = Schedule(bursts=9, seconds=0.1)
QUICK = Schedule(bursts=5, seconds=0.02)


class Measured(NamedTuple):
    """One point: each peer's seconds a call, burst by burst (the k-th bursts of all peers are neighbours in time)."""

    point: Point
    calls: int
    seconds: dict[str, list[float]]

    def microseconds(self, peer: str) -> float:
        """The median burst of a peer."""
        return median(self.seconds[peer]) * 1e6

    def ratio(self, peer: str, ours: str) -> float:
        """How many times as long as ours the peer takes: medians of bursts."""
        return self.microseconds(peer) / self.microseconds(ours)

    def ratio_range(self, peer: str, ours: str) -> tuple[float, float]:
        """The lowest and highest ratio of neighbouring bursts."""
        ratios = [a / b for a, b in zip(self.seconds[peer], self.seconds[ours], strict=True)]
        return min(ratios), max(ratios)


def measure(point: Point, train: bool, schedule: Schedule) -> Measured:
    """Check that all peers give the same results at `point`, then time them in turn."""
    calls = {name: prepare(point, train) for name, prepare in PEERS.items()}
    first, *others = calls
    expected = calls[first]()
    for name in others:
        compare(f"{name} at {point}", calls[name](), expected)
    return Measured(point, *take_in_turn(calls, schedule))


def compare(what: str, actual: Results, expected: Results) -> None:
    """Raise ValueError where two engines differ by more than 1e-5 of the largest element (1e-4 for a gradient).

    A guard against timing something else than the same work; `fastlstm check` is the precise comparison.
    """
    for name in expected:
        largest = expected[name].abs().max().item()
        error = (actual[name] - expected[name]).abs().max().item()
        if not error <= (1e-4 if name.endswith(".grad") else 1e-5) * largest:
            raise ValueError(f"{what}: {name} differs by {error:.1e}, its largest element is {largest:.1e}")


def take_in_turn(calls: dict[str, Callable[[], Any]], schedule: Schedule) -> tuple[int, dict[str, list[float]]]:
    """Burst by burst, A B A B: how many calls a burst has (the same for all), and each one's seconds a call.

    A burst starts with a call that isn't timed, and who goes first alternates.
    """
    slowest = max(_seconds_of(call, 2) for call in calls.values())
    count = max(1, round(schedule.seconds / slowest))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for burst in range(schedule.bursts):
        for name in list(calls) if burst % 2 == 0 else reversed(calls):
            time.sleep(PAUSE)
            calls[name]()
            seconds[name].append(_seconds_of(calls[name], count))
    return count, seconds


def _seconds_of(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def geometric_mean(ratios: list[float]) -> float:
    """The mean that is the same whichever side is the yardstick."""
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))


def set_threads(threads: int | None) -> int:
    """Let torch, and with it both engines, use `threads` (or leave it alone); returns how many it uses."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
