"""Forward mode by itself: a layer and its tangent, chain by chain, in one pass of the engine each, which keeps nothing.

Where a result may be differentiated once more, its tensors need operations that know how: `chained`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import batch as batches
from fastlstm.torch import context, transforms
from fastlstm.torch.batch import Batch, Ragged, Results, States
from fastlstm.torch.graph.chain.steps import Steps
from fastlstm.torch.memory import as_read
from fastlstm.torch.runners import chained
from fastlstm.weights import Sizes

NAME = "native"

Dual = tuple[Any, Any]  # a tensor, and its tangent or None


def run(
    sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], masks: Sequence[Tensor]
) -> Results | None:
    """The arguments and results of `runners.run`, with masks drawn. None: this is not such a call."""
    if sizes.P or chained.why_not(sizes, x.device, x.dtype, context.here()) is not None:
        return None
    pairs = [transforms.unpack_dual(t) for t in (x, *hx, *weights, *masks)]
    if not _are_plain([t for pair in pairs for t in pair if t is not None]) or all(t is None for _, t in pairs):
        return None
    count = 1 + len(hx)
    given, own, factors = pairs[:count], pairs[count : count + len(weights)], pairs[count + len(weights) :]
    with transforms.below_innermost():
        results = _whole(sizes, batch, given, own, [mask for mask, _ in factors])
    return tuple(transforms.make_dual(t, tangent) for t, tangent in results)


def _are_plain(tensors: Sequence[Tensor]) -> bool:
    """Whether the engine can read them, and nobody asks for gradients of what it makes of them."""
    grad = torch.is_grad_enabled()
    return all(context.is_readable(t) and not (grad and t.requires_grad) for t in tensors)


def _whole(
    sizes: Sizes, batch: Batch, given: Sequence[Dual], weights: Sequence[Dual], masks: list[Tensor]
) -> list[Dual]:
    """x, h_0, c_0 -> output, h_n, c_n, each with its tangent."""
    x, x_t = given[0]
    whole, x3, states = batches.full(batch, sizes, x, tuple(t for t, _ in given[1:]))
    x3_t = None if x_t is None else x_t.reshape(x3.shape)
    states_t = [None if t is None else t.reshape(s.shape) for s, (_, t) in zip(states, given[1:], strict=True)]
    of_weights: Any = weights
    packing = batches.packing_of(whole, sizes, x3) if isinstance(whole, Ragged) else None
    if packing is not None:
        # A row's tangent stands behind it while rows move.
        both = [
            torch.cat([t, torch.zeros_like(t) if d is None else d], -1)
            for t, d in zip((x3, *states), (x3_t, *states_t), strict=True)
        ]
        results = packing.through(partial(_side_by_side, sizes), both[0], tuple(both[1:]), of_weights, masks)
        pairs: list[Any] = [t.chunk(2, -1) for t in results]
    else:
        batches.refuse_rows(whole, x3)
        steps = batches.rows_of(whole, sizes, x3)
        if steps == []:  # packed, without a step
            x3, x3_t, steps = x3.unsqueeze(0), None if x3_t is None else x3_t.unsqueeze(0), None
        pairs = _layer(sizes, (x3, x3_t), list(zip(states, states_t, strict=True)), weights, masks, steps)
    values, tangents = (batches.like_the_caller(batch, x, each) for each in zip(*pairs, strict=True))
    return list(zip(values, tangents, strict=True))


def _side_by_side(
    sizes: Sizes, x: Tensor, hx: Results, weights: Any, masks: Any, steps: list[int] | None
) -> list[Tensor]:
    def halves(t: Tensor) -> Any:
        return tuple(half.contiguous() for half in t.chunk(2, -1))

    return [torch.cat(pair, -1) for pair in _layer(sizes, halves(x), [halves(t) for t in hx], weights, masks, steps)]


def _layer(
    sizes: Sizes,
    x: Dual,
    hx: Sequence[Dual],
    weights: Sequence[Dual],
    masks: Sequence[Tensor],
    batch_sizes: list[int] | None,
) -> list[Dual]:
    """As `composite.layer`, of pairs."""
    last: list[Any] = []
    for layer in range(sizes.layers):
        sides: list[Any] = []
        for k in range(layer * sizes.D, (layer + 1) * sizes.D):
            own = weights[k * sizes.arrays : (k + 1) * sizes.arrays]
            states = [(t[k], None if d is None else d[k]) for t, d in hx]
            output, final = _chain(sizes, x, states, own, k % sizes.D == 1, batch_sizes)
            sides.append(output)
            last.append(final)
        value, tangent = (torch.cat(each, -1) for each in zip(*sides, strict=True))
        x = (value, tangent)
        if masks and layer + 1 < sizes.layers:
            x = (x[0] * masks[layer], x[1] * masks[layer])
    final_states = [tuple(map(torch.stack, zip(*of_state, strict=True))) for of_state in zip(*last, strict=True)]
    return [x, *final_states]


def _chain(
    sizes: Sizes, x: Dual, hx: Sequence[Dual], weights: Sequence[Dual], reverse: bool, batch_sizes: list[int] | None
) -> tuple[Dual, list[Dual]]:
    rows, rows_t = (None if t is None else as_read(t.reshape(-1, t.shape[-1])) for t in x)
    assert rows is not None
    lead = x[0].shape[:-1]
    T = x[0].shape[0] if batch_sizes is None else len(batch_sizes)
    N = hx[0][0].shape[0]
    own = [as_read(w) for w, _ in weights]
    own_t = None
    if any(d is not None for _, d in weights):
        own_t = [torch.zeros_like(w) if d is None else as_read(d) for w, d in weights]
    states = [None if t is None else as_read(t) for pair in hx for t in pair]
    states += [None] * (4 - len(states))
    chain = _engine.Chain(sizes.cell.name, T, N, sizes.H, batch_sizes, reverse, torch.get_num_threads())
    found = chain.dual(_four(own), None if own_t is None else _four(own_t), rows, rows_t, *states)
    assert found is not None
    h, *c, h_t = found[:-1] if len(hx) > 1 else found
    steps = Steps(sizes.cell.name, T, N, None if batch_sizes is None else tuple(batch_sizes), reverse)
    final = [(steps.last(h), steps.last(h_t)), *((c_n, found[-1]) for c_n in c)]
    return (h.reshape(*lead, sizes.H), h_t.reshape(*lead, sizes.H)), final


def _four(weights: list[Tensor]) -> list[Tensor | None]:
    return [*weights, None, None][:4]
