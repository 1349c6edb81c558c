"""The equations in plain tensor operations: any device, any dtype (complex too), any order of derivative.

Slow, and used where no engine can do a call; written to be read beside `fastlstm.reference`, its rung below.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.cells import LSTM
from fastlstm.torch import batch as batches
from fastlstm.torch.batch import Batch, Ragged, State
from fastlstm.weights import Sizes

NAME = "composite"


class Step(NamedTuple):
    """One step: the hidden state (N, P or H), the cell and the gates (N, H) after their activations."""

    h: Tensor
    c: Tensor
    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor


def step(gates: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> Step:
    """gates (N, 4H) = w_ih x_t + b_ih, h (N, P or H) and c (N, H) of the step before."""
    i, f, g, o = (gates + linear(h, w_hh, b_hh)).chunk(len(LSTM.gates), -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return Step(h if w_hr is None else linear(h, w_hr), c, i, f, g, o)


def direction(
    x: Sequence[Tensor], h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None, reverse: bool
) -> tuple[list[Step], Tensor, Tensor]:
    """One layer in one direction over `x`, the input gates of each step, (batch of the step, 4H) -> its steps, h_n, c_n.

    A step touches its own rows alone. Forward, the rows that have ended keep their last state; in reverse, those that
    have not begun keep their first.
    """
    steps: dict[int, Step] = {}
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        batch = x[t].shape[0]
        steps[t] = step(x[t], h[:batch], c[:batch], w_hh, b_hh, w_hr)
        h_t, c_t = steps[t][:2]
        h, c = (h_t, c_t) if batch == len(h) else (torch.cat([h_t, h[batch:]]), torch.cat([c_t, c[batch:]]))
    return [steps[t] for t in range(len(x))], h, c


def traced(
    sizes: Sizes,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    batch_sizes: list[int] | None,
) -> tuple[tuple[Tensor, Tensor, Tensor], list[Step]]:
    """The whole layer: what `lstm` returns, and every step of each layer and direction, (.., features) like output."""
    h_n, c_n, trace = [], [], []
    for layer in range(sizes.layers):
        for k in range(layer * sizes.D, (layer + 1) * sizes.D):
            w_ih, w_hh, *rest = weights[k * sizes.arrays : (k + 1) * sizes.arrays]
            b_ih, b_hh = rest[:2] if sizes.bias else (None, None)
            w_hr = rest[-1] if sizes.P > 0 else None
            gates = linear(x, w_ih, b_ih)
            inputs = gates.unbind(0) if batch_sizes is None else torch.split(gates, batch_sizes)
            steps, h, c = direction(inputs, h_0[k], c_0[k], w_hh, b_hh, w_hr, k % sizes.D == 1)
            join = torch.stack if batch_sizes is None else torch.cat
            trace.append(Step(*(join(list(arrays)) for arrays in zip(*steps, strict=True))))
            h_n.append(h)
            c_n.append(c)
        x = torch.cat([steps.h for steps in trace[-sizes.D :]], -1)
        if masks and layer + 1 < sizes.layers:
            x = x * masks[layer]
    return (x, torch.stack(h_n), torch.stack(c_n)), trace


def lstm(
    sizes: Sizes,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    batch_sizes: list[int] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole layer.

    x (T, N, I), or (rows, I) with batch_sizes; h_0 (layers * D, N, P or H), c_0 (layers * D, N, H); the weights in the
    order of `parameters()`; masks: none, or layers - 1 factors on a layer's output. Returns output (.., D * (P or H)),
    h_n, c_n.
    """
    return traced(sizes, x, h_0, c_0, weights, masks, batch_sizes)[0]


def run(
    sizes: Sizes,
    batch: Batch,
    x: Tensor,
    h_0: State,
    c_0: State,
    weights: list[Tensor],
    masks: list[Tensor],
    compute: Any = lstm,
) -> Any:
    """The arguments and results of `runners.run`, with masks drawn. compute: `lstm`, or what returns further results."""
    whole, x3, h_0, c_0 = batches.full(batch, sizes, x, h_0, c_0)
    packing = batches.packing_of(whole, sizes, x3) if isinstance(whole, Ragged) else None
    if packing is not None:
        output, h_n, c_n, *more = packing.through(partial(compute, sizes), x3, h_0, c_0, weights, masks)
    else:
        batches.refuse_rows(whole, x3)
        steps = batches.rows_of(whole, sizes, x3)
        if steps == []:  # packed, without a step
            x3, masks, steps = x3.unsqueeze(0), [mask.unsqueeze(0) for mask in masks], None
        output, h_n, c_n, *more = compute(sizes, x3, h_0, c_0, weights, masks, steps)
    return *batches.like_the_caller(batch, x, (output, h_n, c_n)), *(
        t.reshape(*x.shape[:-1], t.shape[-1]) for t in more
    )
