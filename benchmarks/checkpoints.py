"""A long sequence with `checkpoint_every` and without: the time of a training step, and the bytes that live from forward to
backward, output included. `python benchmarks/checkpoints.py [threads] [LSTM|GRU]`.

Times are lower quartiles of single steps, in turn. Bytes are counted, not sampled: what the engine keeps, and for nn.LSTM what
autograd saves, input and parameters left out. Both in numbers a row and unit (over T N H and 4 bytes).
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

import fastlstm
from fastlstm.cells import BY_NAME, LSTM

T, I, H, EVERY = 4096, 128, 128, 64
SECONDS = 12.0


def step_of(layer: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    leaf = x.clone().requires_grad_()
    cotangent = torch.randn(*x.shape[:2], H)

    def step() -> None:
        leaf.grad = None
        layer.zero_grad()
        layer(leaf)[0].backward(cotangent)

    return step


def seconds(steps: list[Callable[[], object]]) -> list[float]:
    """Of each: the lower quartile of single steps, in turn."""
    for step in steps:
        step()
    found: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(found[0]) < 8:
        for step, times in zip(steps, found, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return [sorted(times)[len(times) // 4] for times in found]


def kept_by_ours(layer: nn.Module, x: torch.Tensor) -> int:
    output = layer(x)[0]
    return 4 * (output.grad_fn.kept.reals + output.numel())


def kept_by_torch(layer: nn.Module, x: torch.Tensor) -> int:
    saved: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = layer(x)[0]
    saved[output.untyped_storage().data_ptr()] = output.untyped_storage().nbytes()
    for t in (x, *layer.parameters()):
        saved.pop(t.untyped_storage().data_ptr(), None)
    return sum(saved.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Time and memory of a long sequence, with checkpoint_every and without."
    )
    parser.add_argument("threads", nargs="?", type=int, default=2)
    parser.add_argument("cell", nargs="?", choices=list(BY_NAME), default=LSTM.name)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kind = getattr(fastlstm, arguments.cell)
    for N in (1, 8, 32):
        torch.manual_seed(0)
        x = torch.randn(T, N, I)
        everything, some, theirs = kind(I, H), kind(I, H, checkpoint_every=EVERY), getattr(nn, arguments.cell)(I, H)
        before, after = seconds([step_of(layer, x) for layer in (everything, some)])
        counts = [kept_by_ours(everything, x), kept_by_ours(some, x), kept_by_torch(theirs, x)]
        own, few, torchs = (count / (4 * T * N * H) for count in counts)
        said = (
            f"{arguments.cell} T {T} N {N} H {H} every {EVERY}: {after:.3f} s over {before:.3f}, {after / before:.2f}"
        )
        print(f"{said}; numbers a row and unit {few:.2f} (without {own:.2f}, torch.nn {torchs:.2f})", flush=True)
