"""torch's own kernel: cuDNN's on CUDA, where that can do the call."""

from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Ragged, Results, States
from fastlstm.torch.context import Context
from fastlstm.weights import Sizes

NAME = "cudnn"


def why_not(sizes: Sizes, device: torch.device, dtype: torch.dtype, context: Context) -> str | None:
    if device.type != "cuda":
        return f"torch's own kernel is for CUDA tensors, not for {device.type!r}"
    return (
        "torch.func transforms and forward-mode derivatives need plain tensor operations"
        if context.transformed
        else None
    )


def why(device: torch.device, dtype: torch.dtype) -> str:
    return "a CUDA tensor goes to torch's own kernel: cuDNN's, where that can do the call"


def run(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], dropout: float) -> Results:
    """The arguments of `runners.run`."""
    whole, x3, states = batches.full(batch, sizes, x, hx)
    packing = batches.packing_of(whole, sizes, x3) if isinstance(whole, Ragged) else None
    if packing is not None:
        if not packing.batch_sizes:  # no row has a step: torch's kernel takes no such batch
            return batches.like_the_caller(batch, x, (x3.new_zeros(*x3.shape[:-1], sizes.D * sizes.out), *states))

        def compute(x: Tensor, hx: Results, weights: list[Tensor], _: Any, steps: list[int]) -> Results:
            return call(sizes, x, hx, weights, dropout, torch.tensor(steps))

        return batches.like_the_caller(batch, x, packing.through(compute, x3, states, weights, []))
    return batches.like_the_caller(batch, x, call(sizes, x3, states, weights, dropout, whole.rows.batch_sizes))


def call(
    sizes: Sizes, x: Tensor, hx: Results, weights: list[Tensor], dropout: float, batch_sizes: Tensor | None
) -> Results:
    """torch's operator. x (T, N, I), or (rows, I) with batch_sizes; h_0 (layers * D, N, P or H), c_0 (layers * D, N, H)."""
    options = (sizes.bias, sizes.layers, dropout, dropout > 0, sizes.D == 2)
    name, given = sizes.cell.name.lower(), batches.last_of(hx)
    if batch_sizes is None:
        return context.torch_layer(name, x, given, weights, *options, False)
    return context.torch_layer(name, x, batch_sizes, given, weights, *options)
