"""Lengths, resets and traces against what they stand in for: `python benchmarks/segments.py [threads] [LSTM|GRU]`.

Each number is the median of five bursts, taken in turn. Lengths are spread evenly from L/3 to L, in random order; "share" is
sum(lengths) / (L N). The loop is the one over time that recurrent policies run, with nn.LSTM or nn.GRU.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastlstm
from fastlstm.cells import BY_NAME, LSTM, Cell

BURST = 0.1  # seconds


def burst(call: Callable[[], object]) -> float:
    """Microseconds a call."""
    call()
    start = time.perf_counter()
    call()
    count = max(1, int(BURST / (time.perf_counter() - start)))
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count * 1e6


def in_turn(calls: Sequence[Callable[[], object]]) -> list[float]:
    rounds = [[burst(call) for call in calls] for _ in range(5)]
    return [median(times) for times in zip(*rounds, strict=True)]


def run(forward: Callable[[Tensor], Tensor], x: Tensor, layer: nn.Module, train: bool) -> Callable[[], object]:
    """A call of `forward` that returns output; with its backward pass in training."""
    if not train:

        def infer() -> None:
            with torch.no_grad():
                forward(x)

        return infer
    leaf = x.clone().requires_grad_()
    cotangent = torch.randn_like(forward(leaf))

    def step() -> None:
        leaf.grad = None
        layer.zero_grad()
        forward(leaf).backward(cotangent)

    return step


def mode(train: bool) -> str:
    return "train" if train else "infer"


def layers(cell: Cell, I: int, H: int) -> tuple[Any, Any]:
    """Torch's layer and ours."""
    return getattr(nn, cell.name)(I, H), getattr(fastlstm, cell.name)(I, H)


def lengths(cell: Cell, L: int, N: int, H: int, train: bool) -> None:
    torch.manual_seed(0)
    (theirs, ours), x = layers(cell, H, H), torch.randn(L, N, H)
    drawn = torch.linspace(L / 3, L, N).round().long()[torch.randperm(N)]

    def packed(x: Tensor) -> Tensor:
        output, _ = theirs(pack_padded_sequence(x, drawn, enforce_sorted=False))
        return pad_packed_sequence(output, total_length=L)[0]

    dense, ragged, before = in_turn(
        [
            run(lambda x: ours(x)[0], x, ours, train),
            run(lambda x: ours(x, lengths=drawn)[0], x, ours, train),
            run(packed, x, theirs, train),
        ]
    )
    over = ragged / dense / (drawn.sum().item() / (L * N))
    said = f"lengths L {L:4} N {N} H {H} {mode(train)}"
    print(f"{said}: over its share {over:.2f}, nn.{cell.name} packed / ours {before / ragged:.2f}", flush=True)


def resets(cell: Cell, N: int, H: int, train: bool) -> None:
    L, I = 128, 64
    torch.manual_seed(0)
    (theirs, ours), x = layers(cell, I, H), torch.randn(L, N, I)
    masks = [torch.rand(L, N) < density for density in (0, 0.01, 0.1, 0.5)]
    keep = (~masks[1]).float()[:, :, None]

    def loop_of_two_states(x: Tensor) -> Tensor:
        h = c = torch.zeros(1, N, H)
        steps = []
        for t in range(L):
            output, (h, c) = theirs(x[t : t + 1], (h * keep[t], c * keep[t]))
            steps.append(output)
        return torch.cat(steps)

    def loop_of_one_state(x: Tensor) -> Tensor:
        h = torch.zeros(1, N, H)
        steps = []
        for t in range(L):
            output, h = theirs(x[t : t + 1], h * keep[t])
            steps.append(output)
        return torch.cat(steps)

    # Each as one would write it by hand: a loop over states of any number would cost nn.GRU or nn.LSTM more.
    loop = loop_of_two_states if cell is LSTM else loop_of_one_state

    plain, *masked, before = in_turn(
        [
            run(lambda x: ours(x)[0], x, ours, train),
            *(run(lambda x, m=mask: ours(x, reset=m)[0], x, ours, train) for mask in masks),
            run(loop, x, theirs, train),
        ]
    )
    over = ", ".join(f"{time / plain:.2f}" for time in masked)
    said = f"reset N {N} H {H} {mode(train)}"
    print(f"{said}: over unmasked at 0, 1, 10, 50% {over}; loop / ours at 1% {before / masked[1]:.1f}", flush=True)


def traces(cell: Cell, L: int, N: int, H: int, grad: bool) -> None:
    (_, ours), x = layers(cell, H, H), torch.randn(L, N, H)

    def forward(call: Callable[[Tensor], object]) -> Callable[[], object]:
        def timed() -> None:
            with torch.set_grad_enabled(grad):
                call(x)

        return timed

    plain, traced = in_turn([forward(ours), forward(ours.trace)])
    print(f"trace L {L} N {N} H {H} {'with' if grad else 'no'} grad: {traced / plain:.2f} of forward")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Lengths, resets and traces against what they stand in for.")
    parser.add_argument("threads", nargs="?", type=int, default=2)
    parser.add_argument("cell", nargs="?", choices=list(BY_NAME), default=LSTM.name)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = BY_NAME[arguments.cell]
    for L in (10, 100, 1000):
        for train in (False, True):
            lengths(chosen, L, 64, 128, train)
    for N in (16, 64):
        for H in (128, 256):
            for train in (False, True):
                resets(chosen, N, H, train)
    for N, H in ((1, 64), (32, 128), (64, 256)):
        for grad in (False, True):
            traces(chosen, 100, N, H, grad)
