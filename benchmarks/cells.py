"""A GRU's time over an LSTM's of the same sizes, in turn. `python benchmarks/cells.py`: one thread, lower quartiles of bursts; on
another instruction set with FASTLSTM_ISA.
"""

import time
from collections.abc import Callable

import torch

import fastlstm
from fastlstm import _engine

SIZES = [
    (100, 1, 64, 64),
    (100, 1, 256, 256),
    (100, 8, 128, 128),
    (128, 16, 64, 256),
    (100, 64, 256, 256),
    (50, 64, 512, 512),
    (365, 64, 27, 128),
]  # T, N, I, H
SECONDS = 1.0


def call_of(kind: type, T: int, N: int, I: int, H: int, train: bool) -> Callable[[], object]:
    torch.manual_seed(0)
    layer, x = kind(I, H), torch.randn(T, N, I)
    cotangent = torch.randn(T, N, H)

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    return (lambda: layer(x)[0].backward(cotangent)) if train else infer


def microseconds(calls: list[Callable[[], object]]) -> list[float]:
    """Of each: the lower quartile of bursts of some 3 ms, in turn."""
    bursts: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    for call in calls:
        call()
    count = max(1, int(0.003 * len(calls) / (time.perf_counter() - start)))
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(bursts[0]) < 8:
        for call, found in zip(calls, bursts, strict=True):
            call()
            start = time.perf_counter()
            for _ in range(count):
                call()
            found.append((time.perf_counter() - start) / count * 1e6)
    return [sorted(found)[len(found) // 4] for found in bursts]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(_engine.isa())
    for sizes in SIZES:
        ratios = []
        for train in (False, True):
            lstm, gru = microseconds([call_of(kind, *sizes, train) for kind in (fastlstm.LSTM, fastlstm.GRU)])
            ratios.append(gru / lstm)
        print(f"T, N, I, H {sizes}: inference {ratios[0]:.2f}, training {ratios[1]:.2f}", flush=True)
