"""torch's own kernel: cuDNN's on CUDA, where that can do the call."""

from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Ragged, State, Three
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


def run(sizes: Sizes, batch: Batch, x: Tensor, h_0: State, c_0: State, weights: list[Tensor], dropout: float) -> Three:
    """The arguments of `runners.run`."""
    whole, x3, h_0, c_0 = batches.full(batch, sizes, x, h_0, c_0)
    packing = batches.packing_of(whole, sizes, x3) if isinstance(whole, Ragged) else None
    if packing is not None:
        if not packing.batch_sizes:  # no row has a step: torch's kernel takes no such batch
            return batches.like_the_caller(batch, x, (x3.new_zeros(*x3.shape[:-1], sizes.D * sizes.out), h_0, c_0))

        def compute(x: Tensor, h_0: Tensor, c_0: Tensor, weights: list[Tensor], _: Any, steps: list[int]) -> Three:
            return call(sizes, x, h_0, c_0, weights, dropout, torch.tensor(steps))

        return batches.like_the_caller(batch, x, packing.through(compute, x3, h_0, c_0, weights, []))
    return batches.like_the_caller(batch, x, call(sizes, x3, h_0, c_0, weights, dropout, whole.rows.batch_sizes))


def call(
    sizes: Sizes, x: Tensor, h_0: Tensor, c_0: Tensor, weights: list[Tensor], dropout: float, batch_sizes: Tensor | None
) -> Three:
    """torch's operator. x (T, N, I), or (rows, I) with batch_sizes; h_0 (layers * D, N, P or H), c_0 (layers * D, N, H)."""
    options = (sizes.bias, sizes.layers, dropout, dropout > 0, sizes.D == 2)
    if batch_sizes is None:
        return context.torch_lstm(x, (h_0, c_0), weights, *options, False)
    return context.torch_lstm(x, batch_sizes, (h_0, c_0), weights, *options)
