"""Derivatives beside what they are made of: `python benchmarks/derivatives.py [threads] [LSTM|GRU]`.

At (T, N, I, H) = (100, 32, 64, 128), float32; each number is the median of 41 calls, taken in turn. A ratio's line is what the
layer is held to; the products alone, counted, are in brackets.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

import fastlstm
from fastlstm.cells import BY_NAME, LSTM

T, N, I, H = 100, 32, 64, 128
MEMBERS = 8
CALLS = 41


def in_turn(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds a call."""
    for call in calls.values():
        call()
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(CALLS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            found[name].append((time.perf_counter() - start) * 1e3)
    return {name: median(times) for name, times in found.items()}


def without_gradients(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            call()

    return run


def compare(line: str, over: str, calls: dict[str, Callable[[], object]], allowed: float) -> None:
    """The first of two calls over the second."""
    (_, above), (_, below) = in_turn(calls).items()
    said = "" if above / below <= allowed else "  OVER ITS LINE"
    print(f"{line}: {above:.2f} ms, {above / below:.2f} of {over}, line {allowed}{said}", flush=True)


def double_backward(layer: nn.Module, x: Tensor) -> None:
    leaf, parameters = x.clone().requires_grad_(), list(layer.parameters())

    def first() -> Tensor:
        return torch.autograd.grad(layer(leaf)[0].sum(), leaf)[0]

    def both() -> Any:
        (d,) = torch.autograd.grad(layer(leaf)[0].sum(), leaf, create_graph=True)
        return torch.autograd.grad(d.pow(2).sum(), parameters)

    line = "gradient of squares of the gradient to x"
    compare(line, "forward and gradient to x (3)", {"double": both, "first": first}, 4)


def forward_mode(layer: nn.Module, x: Tensor) -> None:
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}
    along = torch.randn_like(x)

    def call(parameters: Any, x: Tensor) -> Any:
        return functional_call(layer, parameters, (x,))[0]

    forward = without_gradients(lambda: layer(x))
    of_x = {"jvp": lambda: jvp(lambda x: call(parameters, x), (x,), (along,)), "forward": forward}
    compare("jvp, of x", "forward (2)", of_x, 2.5)
    of_all = {"jvp": lambda: jvp(call, (parameters, x), (tangents, along)), "forward": forward}
    compare("jvp, of x and parameters", "forward (3)", of_all, 3.7)


def batched(layer: nn.Module, x: Tensor) -> None:
    members = x.reshape(T, MEMBERS, N // MEMBERS, I).movedim(1, 0).contiguous()
    mapped = vmap(lambda x: layer(x)[0])
    calls = {
        "vmap": without_gradients(lambda: mapped(members)),
        "folded": without_gradients(lambda: layer(x)),
    }
    compare(f"vmap over {MEMBERS} inputs", "the folded batch", calls, 1.1)


def per_sample(layer: nn.Module, x: Tensor) -> None:
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    own = list(layer.parameters())

    def loss(parameters: Any, sequence: Tensor) -> Tensor:
        return functional_call(layer, parameters, (sequence.unsqueeze(1),))[0].pow(2).sum()

    def whole(x: Tensor) -> Any:
        return torch.autograd.grad(layer(x)[0].pow(2).sum(), own)

    each = vmap(grad(loss), in_dims=(None, 1))
    line = f"gradients of {N} samples"
    calls: dict[str, Callable[[], object]] = {"each": lambda: each(parameters, x), "whole": lambda: whole(x)}
    compare(line, "forward and backward of the batch", calls, 1.7)
    calls["whole"] = lambda: [whole(x[:, n : n + 1]) for n in range(N)]
    compare(line, f"{N} calls", calls, 1)


def ensemble(layers: list[Any], x: Tensor) -> None:
    stacked, _ = stack_module_state(layers)
    stacked = {name: p.detach() for name, p in stacked.items()}
    together = vmap(lambda parameters: functional_call(layers[0], parameters, (x,))[0])
    calls = {
        "vmap": without_gradients(lambda: together(stacked)),
        "each": without_gradients(lambda: [layer(x) for layer in layers]),
    }
    compare(f"an ensemble of {MEMBERS}", f"{MEMBERS} calls", calls, 1.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Derivatives beside what they are made of.")
    parser.add_argument("threads", nargs="?", type=int, default=2)
    parser.add_argument("cell", nargs="?", choices=list(BY_NAME), default=LSTM.name)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    build = getattr(fastlstm, arguments.cell)
    sequences = torch.randn(T, N, I)
    for measure in (double_backward, forward_mode, batched, per_sample):
        measure(build(I, H), sequences)
    ensemble([build(I, H) for _ in range(MEMBERS)], sequences)
