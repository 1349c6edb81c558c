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
STEP: dict[str, Any] = {"LSTM": lstm.step, "GRU": gru.step}


def direction(
    sizes: Sizes, a: Sequence[Tensor], hx: Results, weights: Sequence[Tensor], reverse: bool
) -> tuple[list[Any], Results]:
    """One layer in one direction over `a`, w_ih x_t + b_ih of each step, (batch of the step, gates * H) -> its steps, the last
    states. weights: those of the layer and direction.

    A step touches its own rows alone. Forward, the rows that have ended keep their last state; in reverse, those that
    have not begun keep their first.
    """
    w_hh, b_hh, w_hr = weights[1], weights[3] if sizes.bias else None, weights[-1] if sizes.P > 0 else None
    step, steps = STEP[sizes.cell.name], {}
    for t in reversed(range(len(a))) if reverse else range(len(a)):
        batch = a[t].shape[0]
        steps[t] = step(a[t], tuple(state[:batch] for state in hx), w_hh, b_hh, w_hr)
        now = steps[t][: len(hx)]
        hx = now if batch == len(hx[0]) else tuple(torch.cat([s, was[batch:]]) for s, was in zip(now, hx, strict=True))
    return [steps[t] for t in range(len(a))], hx


def traced(
    sizes: Sizes,
    x: Tensor,
    hx: Results,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    batch_sizes: list[int] | None,
) -> tuple[Results, list[Any]]:
    """The whole layer: what `layer` returns, and every step of each layer and direction, (.., features) like output."""
    last, trace = [], []
    for layer in range(sizes.layers):
        for k in range(layer * sizes.D, (layer + 1) * sizes.D):
            own = weights[k * sizes.arrays : (k + 1) * sizes.arrays]
            a = linear(x, own[0], own[2] if sizes.bias else None)
            inputs = a.unbind(0) if batch_sizes is None else torch.split(a, batch_sizes)
            steps, states = direction(sizes, inputs, tuple(state[k] for state in hx), own, k % sizes.D == 1)
            join = torch.stack if batch_sizes is None else torch.cat
            trace.append(type(steps[0])(*(join(list(arrays)) for arrays in zip(*steps, strict=True))))
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
) -> Results:
    """The whole layer.

    x (T, N, I), or (rows, I) with batch_sizes; hx: h_0 (layers * D, N, P or H), c_0 (layers * D, N, H); the weights in the
    order of `parameters()`; masks: none, or layers - 1 factors on a layer's output. Returns output (.., D * (P or H)),
    and hx after the last steps.
    """
    return traced(sizes, x, hx, weights, masks, batch_sizes)[0]


def run(
    sizes: Sizes,
    batch: Batch,
    x: Tensor,
    hx: States,
    weights: list[Tensor],
    masks: list[Tensor],
    compute: Any = layer,
) -> Any:
    """The arguments and results of `runners.run`, with masks drawn. compute: `layer`, or what returns further results."""
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
