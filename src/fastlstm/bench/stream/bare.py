"""The floor of a step: loops that read as many bytes, and do nothing else."""

from collections.abc import Callable
from statistics import median

import torch

SEARCH, DOT = "search", "dot product"
EMPTY = ", empty"  # after a loop's name: the same call over next to no bytes
FEW = 64  # bytes
TICK = 1e-9  # seconds, of the clock: nothing takes less


def bare_calls(count: int) -> dict[str, Callable[[], object]]:
    """Reading so many bytes once, each on one thread (torch's number is the caller's to set), and the same calls empty.

    A search for a byte that isn't there, the C library's memchr: a call of 0.1 us. And a dot product of the first half and the
    second: two streams, which a cache that isn't the nearest may serve faster than one; a call of 1 us. Which is the faster
    differs from size to size; sums, maxima and products with a vector, NumPy's and torch's, were slower.
    """
    absent, present = 1, b"\2"  # not zeros: bytes(count) would be one page of the system's, many times
    held, held_few = present * count, present * FEW
    first, second = torch.ones(count // 8 * 2).chunk(2)
    first_few, second_few = first[: FEW // 8], second[: FEW // 8]
    return {
        SEARCH: lambda: held.find(absent),
        SEARCH + EMPTY: lambda: held_few.find(absent),
        DOT: lambda: torch.dot(first, second),
        DOT + EMPTY: lambda: torch.dot(first_few, second_few),
    }


def fastest(seconds: dict[str, list[float]]) -> list[float]:
    """Of the faster loop, burst by burst, without the call around it. seconds: of each of the calls above.

    The dot product counts where its reading takes half as long as the call around it, at least: less than that, which 32 KiB
    take, is lost in how much a call varies.
    """
    search, dot = (_without_call(seconds[loop], seconds[loop + EMPTY]) for loop in (SEARCH, DOT))
    told_apart = median(dot) >= median(seconds[DOT + EMPTY]) / 2
    return min(search, dot, key=median) if told_apart else search


def _without_call(loop: list[float], empty: list[float]) -> list[float]:
    around = median(empty)
    return [max(TICK, burst - around) for burst in loop]
