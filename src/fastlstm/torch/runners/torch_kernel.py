"""torch's own kernel: cuDNN's on CUDA, where that can do the call."""

from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Ragged, Results, States
from fastlstm.torch.context import Context
from fastlstm.torch.dtypes import NAMES
from fastlstm.weights import Sizes

NAME = "cudnn"


def why_not(sizes: Sizes, device: torch.device, dtype: torch.dtype, context: Context) -> str | None:
    if device.type != "cuda":
        return f"torch's own kernel is for CUDA tensors, not for {device.type!r}"
    if dtype not in NAMES:
        return f"torch's own kernel for CUDA has no {str(dtype).removeprefix('torch.')}"
    if context.transformed:
        return "torch.func transforms and forward-mode derivatives need plain tensor operations"
    return None


def why(device: torch.device, dtype: torch.dtype) -> str:
    return "a CUDA tensor goes to torch's own kernel: cuDNN's, where that can do the call"


@context.outside_graphs  # which would make of the operator a loop over time, unrolled
def run(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], dropout: float | None) -> Results:
    """The arguments of `runners.run`."""
    whole, x3, states = batches.full(batch, sizes, x, hx)
    states, weights = tuple(t.contiguous() for t in states), [w.contiguous() for w in weights]  # cuDNN takes no others
    if sizes.is_cell:
        return batches.like_the_caller(batch, x, _step(sizes, x3, states, weights))

    def compute(x: Tensor, hx: Results, weights: list[Tensor], _: Any, steps: list[int] | None) -> Results:
        batch_sizes = None if steps is None else torch.tensor(steps, device="cpu")  # whatever the default device is
        return call(sizes, x, hx, weights, dropout, batch_sizes)

    packing = batches.packing_of(whole, sizes, x3) if isinstance(whole, Ragged) else None
    if packing is not None:
        return batches.like_the_caller(batch, x, packing.through(compute, x3, states, weights, []))
    batches.refuse_rows(whole, x3)
    steps = batches.rows_of(whole, sizes, x3)
    if steps == []:  # packed, without a step
        x3, steps = x3.unsqueeze(0), None
    return batches.like_the_caller(batch, x, compute(x3, states, weights, None, steps))


def call(
    sizes: Sizes, x: Tensor, hx: Results, weights: list[Tensor], dropout: float | None, batch_sizes: Tensor | None
) -> Results:
    """torch's operator. x (T, N, I), or (rows, I) with batch_sizes; h_0 (layers * D, N, P or H), c_0 (layers * D, N, H)."""
    # Only what ran in training has gradients from cuDNN, with dropout or without.
    options = (sizes.bias, sizes.layers, dropout or 0.0, dropout is not None, sizes.D == 2)
    name, given = sizes.cell.name.lower(), batches.last_of(hx)
    if batch_sizes is None:
        results: Results = context.torch_layer(name, x, given, weights, *options, False)
    else:
        results = context.torch_layer(name, x, batch_sizes, given, weights, *options)
    return results


def _step(sizes: Sizes, x: Tensor, hx: Results, weights: list[Tensor]) -> Results:
    """A cell's operator, as nn.LSTMCell calls it, which has derivatives of any order; cuDNN's layer has the first alone."""
    given = batches.last_of(tuple(t.squeeze(0) for t in hx))
    last = context.torch_layer(f"{sizes.cell.name.lower()}_cell", x.squeeze(0), given, *weights)
    states = tuple(t.unsqueeze(0) for t in (last if isinstance(last, tuple) else (last,)))
    return states[0], *states
