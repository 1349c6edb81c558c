"""Errors against nn.LSTM's own: `python benchmarks/accuracy.py [seeds] [threads]`.

Each number is a ratio of root mean square errors, ours over nn.LSTM's, both against nn.LSTM in float64 with the same weights, on
a random call: the median over the seeds (five, where none are given). A size is T, N, I, H, and P where h is projected.
"""

import sys
from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor, nn

import fastlstm

SIZES = [
    # One step: of one row, of few, of many.
    *(
        (1, 1, I, H)
        for I, H in ((64, 64), (64, 256), (1, 512), (512, 512), (1, 2048), (1024, 1024), (8192, 64), (1, 8192))
    ),
    *((1, 4, I, H) for I, H in ((64, 256), (1, 512), (1, 2048))),
    *((1, 64, I, H) for I, H in ((64, 256), (1, 512), (1, 2048))),
    # Many steps: of one row, of few, of many.
    *((100, 1, I, H) for I, H in ((1, 16), (16, 16), (64, 64), (64, 256), (256, 256), (1, 512), (512, 512))),
    *((10, 1, I, H) for I, H in ((1, 2048), (2048, 64), (8192, 64))),
    *((50, 4, I, H) for I, H in ((64, 64), (64, 256), (1, 512))),
    *((50, 33, I, H) for I, H in ((1, 16), (27, 64), (64, 64), (64, 256), (256, 256), (1, 512))),
    (365, 64, 27, 64),
    (2, 33, 1, 2048),
    (2, 1, 1, 8192),
    (2, 300, 64, 64),
    (2, 3000, 16, 32),
    # Projected.
    *((20, N, 64, H, P) for N in (1, 33) for H, P in ((256, 64), (1024, 512))),
    (1, 1, 64, 1024, 512),
]


def results(lstm: nn.Module, drawn: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Outputs and gradients of a call, by name."""
    dtype = next(lstm.parameters()).dtype
    x, h_0, c_0 = (t.detach().to(dtype, copy=True).requires_grad_() for t in drawn[:3])
    output, (h_n, c_n) = lstm(x, (h_0, c_0))
    torch.autograd.backward((output, h_n, c_n), [t.to(output.dtype) for t in drawn[3:]])
    yield "output", output.detach()
    yield "c_n", c_n.detach()
    yield from (("dx", x.grad), ("dh_0", h_0.grad), ("dc_0", c_0.grad))
    for name, parameter in lstm.named_parameters():
        if name != "bias_hh_l0":  # that of bias_ih_l0
            yield f"d{name.removesuffix('_l0')}", parameter.grad
        parameter.grad = None


def ratios(size: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Ours over nn.LSTM's, by the names of results."""
    T, N, I, H, P = (*size, 0)[:5]
    torch.manual_seed(seed)
    theirs = nn.LSTM(I, H, proj_size=P).to(dtype)
    ours = fastlstm.LSTM(I, H, proj_size=P).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    out = P or H
    drawn = [torch.randn(T, N, I), torch.randn(1, N, out) / 10, torch.randn(1, N, H) / 10]
    drawn += [torch.randn(T, N, out), torch.randn(1, N, out), torch.randn(1, N, H)]
    drawn = [t.to(dtype) for t in drawn]
    measured = [dict(results(lstm, drawn)) for lstm in (ours, theirs)]
    exact = dict(results(theirs.double(), drawn))
    errors = [
        {name: (value.double() - exact[name]).norm().item() for name, value in found.items()} for found in measured
    ]
    return {name: error / max(errors[1][name], 1e-300) for name, error in errors[0].items()}


def line(size: tuple[int, ...], seeds: int) -> str:
    found = [ratios(size, seed) for seed in range(seeds)]
    medians = {name: median(each[name] for each in found) for name in found[0]}
    return ", ".join(f"{name} {ratio:.2f}" for name, ratio in medians.items())


if __name__ == "__main__":
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    for size in SIZES:
        print(f"{size!s:22} {line(size, seeds)}", flush=True)
