"""What the machine allows: the speed of its own matrix product and of its memory, measured when a benchmark starts."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from fastlstm.bench.points import Work

EDGE = 1024  # of the product: far more arithmetic than traffic
COPIED = 128 * 2**20  # bytes: no cache of one core holds them


class Floor(NamedTuple):
    """flops a second of torch.mm, and bytes a second of a copy (read and written bytes both count)."""

    flops: float
    bandwidth: float

    def seconds(self, work: Work) -> float:
        """No engine bound to torch.mm's units and to memory can do `work` in less.

        An engine can be below it: in float32 with matrix units that torch.mm leaves alone there (AMX), or where everything
        stays in a cache, whose bandwidth is many times that of memory.
        """
        return max(work.flops / self.flops, work.bytes / self.bandwidth)


# The products that a call in a dtype could be made of: the faster one is its peak. Not every processor has units for bfloat16.
PRODUCTS = {"bfloat16": (torch.bfloat16, torch.float32), "float32": (torch.float32,), "float64": (torch.float64,)}


def measure_floor(dtype: str) -> Floor:
    """Of a dtype of the grid, with as many threads as torch uses now."""
    source = torch.ones(COPIED, dtype=torch.uint8)
    target = torch.ones_like(source)  # its pages exist before the clock runs
    return Floor(
        flops=max(_flops(product) for product in PRODUCTS[dtype]),
        bandwidth=2 * COPIED / _fastest(lambda: target.copy_(source), 10),
    )


def _flops(dtype: torch.dtype) -> float:
    a = torch.ones(EDGE, EDGE, dtype=dtype)
    product = torch.empty_like(a)
    return 2 * EDGE**3 / _fastest(lambda: torch.mm(a, a, out=product), 30)


def _fastest(call: Callable[[], object], count: int) -> float:
    """Seconds of the fastest of `count` calls: a ceiling is what the machine can do undisturbed."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
