"""One step of one row, H 64, without gradients: nn.LSTM and nn.LSTMCell before enable(), under it, after disable(), and
ours. `python benchmarks/enabled.py`: one thread, microseconds, medians of 9 bursts; all but the first in turn.
"""

import timeit
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

import fastlstm

H, CALLS = 64, 500


def microseconds(call: Callable[[], object]) -> float:
    return timeit.timeit(call, number=CALLS) / CALLS * 1e6


def measure(name: str, theirs: nn.Module, ours: nn.Module, x: torch.Tensor) -> None:
    on, off, own = [], [], []
    for _ in range(9):
        with fastlstm.enabled():
            on.append(microseconds(lambda: theirs(x)))
        off.append(microseconds(lambda: theirs(x)))
        own.append(microseconds(lambda: ours(x)))
    said = (f"{what} {median(times):.1f}" for what, times in (("on", on), ("off", off), ("ours", own)))
    print(f"{name}: {', '.join(said)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Kernels, once registered, stay: both are timed before the first enable().
    with torch.no_grad():
        pairs = [
            ("nn.LSTMCell", nn.LSTMCell(H, H), fastlstm.LSTMCell(H, H), torch.randn(1, H)),
            ("nn.LSTM", nn.LSTM(H, H), fastlstm.LSTM(H, H), torch.randn(1, 1, H)),
        ]
        for name, theirs, _, x in pairs:
            print(
                f"{name} before any enable(): {median(microseconds(lambda m=theirs, x=x: m(x)) for _ in range(9)):.1f}"
            )
        for pair in pairs:
            measure(*pair)
