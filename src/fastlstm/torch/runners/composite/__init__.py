"""The equations in plain tensor operations: any device, any dtype (complex too), any order of derivative.

Slow, and used where no engine can do a call. What a step computes stands in a file a cell beside this one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.torch import batch as batches
from fastlstm.torch.batch import Batch, Ragged, Results, States
from fastlstm.torch.runners.composite import gru, lstm
from fastlstm.weights import Sizes

NAME = "composite"
CELLS: dict[str, Any] = {"LSTM": lstm, "GRU": gru}


def chain(
    sizes: Sizes,
    x: Tensor,
    hx: Sequence[Tensor],
    weights: Sequence[Tensor],
    reverse: bool,
    batch_sizes: list[int] | None,
) -> tuple[Any, tuple[Tensor, ...]]:
    """One layer in one direction -> its steps, (.., features) like x, and the last states. hx and weights: its own.

    A step touches its own rows alone. Forward, the rows that have ended keep their last state; in reverse, those that
    have not begun keep their first.
    """
    w_hh, b_hh, w_hr = weights[1], weights[3] if sizes.bias else None, weights[-1] if sizes.P > 0 else None
    all_a = linear(x, weights[0], weights[2] if sizes.bias else None)
    a = all_a.unbind(0) if batch_sizes is None else torch.split(all_a, batch_sizes)
    step, steps, states = CELLS[sizes.cell.name].step, {}, tuple(hx)
    for t in reversed(range(len(a))) if reverse else range(len(a)):
        batch = a[t].shape[0]
        steps[t] = step(a[t], tuple(state[:batch] for state in states), w_hh, b_hh, w_hr)
        now = steps[t][: len(states)]
        states = (
            now
            if batch == len(states[0])
            else tuple(torch.cat([s, was[batch:]]) for s, was in zip(now, states, strict=True))
        )
    join = torch.stack if batch_sizes is None else torch.cat
    in_order = [steps[t] for t in range(len(a))]
    return type(in_order[0])(*(join(list(arrays)) for arrays in zip(*in_order, strict=True))), states


def traced(
    sizes: Sizes,
    x: Tensor,
    hx: Results,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    batch_sizes: list[int] | None,
    chain: Any = chain,
) -> tuple[Results, list[Any]]:
    """The whole layer: what `layer` returns, and every step of each layer and direction, (.., features) like output."""
    last, trace = [], []
    for layer in range(sizes.layers):
        for k in range(layer * sizes.D, (layer + 1) * sizes.D):
            own = weights[k * sizes.arrays : (k + 1) * sizes.arrays]
            steps, states = chain(sizes, x, tuple(state[k] for state in hx), own, k % sizes.D == 1, batch_sizes)
            trace.append(steps)
            last.append(states)
        x = torch.cat([steps.h for steps in trace[-sizes.D :]], -1)
        if masks and layer + 1 < sizes.layers:
            x = x * masks[layer]
    return (x, *map(torch.stack, zip(*last, strict=True))), trace


def layer(
    sizes: Sizes,
    x: Tensor,
    hx: Results,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    batch_sizes: list[int] | None,
    chain: Any = chain,
) -> Results:
    """The whole layer, chain by chain: by `chain`, or what has its arguments and results.

    x (T, N, I), or (rows, I) with batch_sizes; hx: h_0 (layers * D, N, P or H), c_0 (layers * D, N, H); the weights in the
    order of `parameters()`; masks: none, or layers - 1 factors on a layer's output. Returns output (.., D * (P or H)),
    and hx after the last steps.
    """
    return traced(sizes, x, hx, weights, masks, batch_sizes, chain=chain)[0]


def run(
    sizes: Sizes,
    batch: Batch,
    x: Tensor,
    hx: States,
    weights: list[Tensor],
    masks: list[Tensor],
    compute: Any = layer,
    chain: Any = chain,
) -> Any:
    """The arguments and results of `runners.run`, with masks drawn. compute: `layer`, or what returns further results; chain: as
    it takes it.
    """
    compute = partial(compute, chain=chain)
    whole, x3, states = batches.full(batch, sizes, x, hx)
    packing = batches.packing_of(whole, sizes, x3) if isinstance(whole, Ragged) else None
    if packing is not None:
        results = packing.through(partial(compute, sizes), x3, states, weights, masks)
    else:
        batches.refuse_rows(whole, x3)
        steps = batches.rows_of(whole, sizes, x3)
        if steps == []:  # packed, without a step
            x3, masks, steps = x3.unsqueeze(0), [mask.unsqueeze(0) for mask in masks], None
        results = compute(sizes, x3, states, weights, masks, steps)
    own = 1 + len(hx)
    return *batches.like_the_caller(batch, x, results[:own]), *(
        t.reshape(*x.shape[:-1], t.shape[-1]) for t in results[own:]
    )
