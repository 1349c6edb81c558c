"""A step of a stream: one row, float32, through Python with `out=`, beside nn.LSTM and nn.GRU under inference_mode with the state
passed by hand. `python benchmarks/stream.py`: one thread, microseconds, medians of 9 bursts, in turn.
"""

import timeit
from statistics import median

import numpy as np
import torch
from torch import nn

import fastlstm.numpy


def microseconds(call, count: int) -> float:
    return timeit.timeit(call, number=count) / count * 1e6


def measure(kind: str, H: int) -> None:
    module = getattr(nn, kind)(H, H)
    layer = getattr(fastlstm.numpy, kind).from_state({name: t.numpy() for name, t in module.state_dict().items()})
    stream, frame, out = (
        layer.stream(),
        np.random.default_rng(0).standard_normal(H, np.float32),
        np.empty(H, np.float32),
    )
    x, state = torch.from_numpy(frame).reshape(1, 1, H), torch.zeros(1, 1, H)
    hx = (state, state) if kind == "LSTM" else state
    ours, theirs = [], []
    with torch.inference_mode():
        for _ in range(9):
            ours.append(microseconds(lambda: stream.step(frame, out=out), 5000))
            theirs.append(microseconds(lambda: module(x, hx), 300))
    print(f"{kind} {H}: step {median(ours):.2f} us, nn.{kind} {median(theirs):.1f} us")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in ("LSTM", "GRU"):
        for H in (32, 64, 128, 256):
            measure(kind, H)
