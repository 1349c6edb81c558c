"""Derivatives of higher order, and batched ones: the layer once more, in operations that have them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import States
from fastlstm.torch.dtypes import HALF
from fastlstm.torch.runners import chained, composite
from fastlstm.weights import Sizes


def differentiate(
    sizes: Sizes,
    rows: Any,
    inputs: Sequence[Tensor | None],
    masks: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
    compute: Callable[..., Sequence[Tensor]] = composite.layer,
) -> list[Tensor | None]:
    """From the gradients of output, h_n and c_n to the `wanted` ones of x, h_0, c_0 and the weights, themselves differentiable.

    rows: what `_engine.Kept.rows` says. compute: `composite.layer`, or what returns further results and has `gradients` of them.
    """
    create_graph, states = torch.is_grad_enabled(), len(sizes.of_states)
    # Under autocast, too, forward computed in the dtype of its tensors.
    with torch.enable_grad(), context.without_autocast():
        # Each input by another name: where one was computed from another, its gradient must not flow through both.
        inputs = [None if t is None else t.view_as(t) for t in inputs]
        wide = [t.float() if t is not None and t.dtype in HALF else t for t in inputs]
        x, hx, weights = wide[0], tuple(wide[1 : 1 + states]), wide[1 + states :]
        assert x is not None
        compute = partial(compute, chain=chained.chain_for(sizes, x))
        results = _compute(
            sizes, rows, x, hx, [w for w in weights if w is not None], [m.to(x.dtype) for m in masks], compute
        )
        known = [(y.reshape(d.shape).to(d.dtype), d) for y, d in zip(results, gradients, strict=True) if d is not None]
        asked = [t for t, want in zip(inputs, wanted, strict=True) if want and t is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in known], asked, [d for _, d in known], create_graph=create_graph, allow_unused=True
            )
        )
    return [next(found) if want and t is not None else None for t, want in zip(inputs, wanted, strict=True)]


def _compute(
    sizes: Sizes,
    rows: Any,
    x: Tensor,
    hx: States,
    weights: list[Tensor],
    masks: list[Tensor],
    compute: Callable[..., Sequence[Tensor]],
) -> Sequence[Tensor]:
    """`compute`, whose results have the rows of x, but for their number of dimensions."""
    if isinstance(rows, tuple):
        packing = batches.packing(rows)
        return packing.through(partial(compute, sizes), x, batches.states_of(sizes, packing.N, x, hx), weights, masks)
    if rows:
        return compute(sizes, x, batches.states_of(sizes, rows[0], x, hx), weights, masks, rows)
    if x.dim() != 3:  # (T, I), or of a cell (N, I) or (I)
        one_step = sizes.is_cell or rows is not None  # or a packed batch without one
        x = x.reshape((1, -1, sizes.I) if one_step else (-1, 1, sizes.I))
    return compute(sizes, x, batches.states_of(sizes, x.shape[1], x, hx), weights, masks, None)
