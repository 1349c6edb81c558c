"""How many times as long one call takes as another, on a machine that may be busy."""

import time
from collections.abc import Callable


def ratio(first: Callable[[], object], second: Callable[[], object], wanted: float) -> float:
    """The time of one call over the other's, the best of a few rounds: a busy machine only ever adds time."""
    lowest = float("inf")
    for _ in range(8):
        seconds = []
        for function in (first, second):
            function()
            times = []
            for _ in range(8):
                start = time.perf_counter()
                function()
                times.append(time.perf_counter() - start)
            seconds.append(min(times))
        lowest = min(lowest, seconds[0] / seconds[1])
        if lowest < wanted:
            break
    return lowest
