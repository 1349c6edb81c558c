"""The engine's calls on tensors whose memory can be read, without gradients and with them: an autograd Function.

In 16 bits the engine adds up in float32 and rounds each result once. The weights stand in the order of `parameters()`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Results, Rows, States
from fastlstm.torch.graph.derivatives import differentiate
from fastlstm.torch.memory import as_integers, as_read
from fastlstm.torch.runners import composite
from fastlstm.weights import Sizes


class _NotTakenError(Exception):
    """The engine does not take the tensors as they are."""


def attempt(
    sizes: Sizes,
    parameters: Mapping[str, Any],
    names: Sequence[str],
    x: Any,
    hx: Any,
    batch_first: Any = False,
    lengths: Any = None,
    reset: Any = None,
) -> Any:
    """output, h_n, c_n with gradients, of a call that nobody has looked at. None, and nothing done, where it is not one that the
    engine takes as it is; where nobody watches (`context.is_unseen`).
    """
    if hx is None:
        hx = sizes.zeros
    elif len(sizes.of_states) == 1:
        hx = (hx,)
    elif type(hx) is not tuple or len(hx) != 2 or hx[0] is None or hx[1] is None:
        return None
    try:
        apply: Any = Recurrence.apply
        return apply(sizes, None, (batch_first, lengths, reset), 0, x, *hx, *map(parameters.__getitem__, names))
    except (KeyError, _NotTakenError):
        return None


def differentiable(
    sizes: Sizes,
    batch: Batch,
    rows: Rows,
    x: Tensor,
    hx: States,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
) -> Results:
    """output, h_n, c_n with gradients: `forward`, and its errors."""
    apply: Any = Recurrence.apply
    output, *states = apply(sizes, batch, rows, len(masks), x, *hx, *masks, *weights)
    return (states[0] if output is None else output), *states


def forward(
    sizes: Sizes,
    batch: Batch,
    rows: Rows,
    x: Tensor,
    hx: States,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    keep: Any,
    run: Callable[..., Any] | None = None,
) -> Any:
    """What `_engine.forward`, or `run`, returns. keep: False, True, or an array for what backward will need.

    RuntimeError, ValueError: rows that x has not, or a tensor of another size than the call has.
    """
    more = () if run else (keep,)
    run = run or _engine.forward
    threads = torch.get_num_threads()
    result = run(sizes.layer, weights, x, or_none(hx), threads, *rows, masks, *more)
    if result is not None:
        return result
    # Once more, with all that it reads in order: after the last change that anyone makes to it.
    rows = in_order(rows)
    x, hx = as_read(x), tuple(None if t is None else as_read(t) for t in hx)
    weights, masks = [as_read(w) for w in weights], [as_read(mask) for mask in masks]
    result = run(sizes.layer, weights, x, or_none(hx), threads, *rows, masks, *more)
    if result is None:
        batches.refuse_rows(batch, x)
        shapes = [list(t.shape) for t in (x, *hx, *weights, *masks) if t is not None]
        raise RuntimeError(f"a tensor is not of the size that the call has: expected those of {sizes}, got {shapes}")
    return result


def or_none(hx: Sequence[Tensor | None]) -> Any:
    """As the engine takes it."""
    return None if hx[0] is None else hx if len(hx) > 1 else hx[0]


def in_order(rows: Rows) -> Rows:
    """The same, as the engine reads them."""
    batch_first, lengths, reset, batch_sizes, offsets = rows
    reset = None if reset is None else as_read(reset)
    return Rows(batch_first, as_integers(lengths), reset, as_integers(batch_sizes), as_integers(offsets))


def backward(
    kept: _engine.Kept,
    inputs: Sequence[Tensor | None],
    masks: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """From the gradients of output, h_n, c_n, and of what `_engine.trace` reads, all or none (None: zeros), to those of x, h_0,
    c_0 and the weights that are `wanted`. RuntimeError: a tensor is another than it was in forward.
    """
    threads = torch.get_num_threads()
    # That of a sum is one number, expanded.
    gradients = [d if d is None or d.is_contiguous() else _as_it_was(d, inputs[0]) for d in gradients]
    found = _engine.backward(kept, inputs, masks, gradients, wanted, threads)
    if found is None:
        like = inputs[0]
        inputs = [_as_it_was(t, like) for t in inputs]
        gradients = [_as_it_was(d, like) for d in gradients]
        found = _engine.backward(kept, inputs, [as_read(mask) for mask in masks], gradients, wanted, threads)
    if found is None:
        raise RuntimeError(
            f"{_CHANGED}: expected the shapes it had, got {[list(t.shape) for t in inputs if t is not None]}"
        )
    return found


_CHANGED = "a tensor that backward reads has other data than it had in forward, or another shape, or none: no gradients"


def _as_it_was(tensor: Tensor | None, like: Tensor | None) -> Tensor | None:
    """A tensor as the engine reads it. RuntimeError where it lost its memory or its dtype, which `.data` can do to it."""
    if tensor is None:
        return None
    if like is None or tensor.dtype is not like.dtype:
        raise RuntimeError(_CHANGED)
    try:
        return as_read(tensor)
    except RuntimeError:
        raise RuntimeError(_CHANGED) from None


_SECOND_TIME = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
    "Specify retain_graph=True if you need to backward through the graph a second time."
)


class Recurrence(torch.autograd.Function):
    """The op with gradients. In the ctx style: with `setup_context` it would cost 50 us instead of 14."""

    @staticmethod
    def forward(ctx: Any, sizes: Sizes, batch: Batch | None, rows: Any, masks: int, x: Any, *tensors: Any) -> Any:
        """tensors: h_0, c_0, then so many masks, then the weights. batch: None: of a call that nobody has looked at; then rows
        are the first of `Rows`.
        """
        count = len(sizes.of_states)
        hx, weights = tensors[:count], tensors[count:]
        if batch is None:
            threads, keep, (first, lengths, reset) = torch.get_num_threads(), any(ctx.needs_input_grad), rows
            result = _engine.forward(
                sizes.layer, weights, x, or_none(hx), threads, first, lengths, reset, None, None, (), keep
            )
            if result is None:
                raise _NotTakenError
        else:
            result = forward(sizes, batch, rows, x, hx, weights[masks:], weights[:masks], True)
        output, last, *kept = result
        states = last if isinstance(last, tuple) else (last,)
        keep_for_backward(ctx, sizes, masks, kept[0] if kept else None, x, tensors)
        return (None if sizes.is_cell else output), *states  # the output of a cell is its h_n

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients_of(ctx, gradients, composite.layer)


def keep_for_backward(
    ctx: Any, sizes: Sizes, masks: int, kept: _engine.Kept | None, x: Tensor, tensors: Sequence[Any]
) -> None:
    """What `gradients_of` will need of a forward pass: of its results nothing, which the caller may change.

    tensors: h_0, c_0, then so many masks, then the weights.
    """
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, *tensors)
    ctx.sizes, ctx.masks, ctx.kept = sizes, masks, kept


def reached(sizes: Sizes, T: int, needs: list[bool], gradients: Sequence[Any]) -> list[bool]:
    """Which of x, h_0, c_0 and the weights get a gradient, of those that need one: none, as in nn.LSTM, the last layer's
    projections, where only the cells of a single step have gradients.
    """
    if sizes.P and gradients[0] is None and gradients[1] is None and T == 1:
        for d in range(sizes.D):
            needs[-1 - d * sizes.arrays] = False
    return needs


def gradients_of(ctx: Any, gradients: Sequence[Any], compute: Callable[..., Sequence[Tensor]]) -> Any:
    """The gradients of all that forward was given. gradients: of output, h_n, c_n, and of what `_engine.trace` reads, in its
    order, where forward returned it. compute: as `differentiate` takes it.
    """
    # `kept` is held while it is read: of two threads in one graph, the first to be done gives it back.
    kept, sizes, count = ctx.kept, ctx.sizes, ctx.masks
    masks: Sequence[Tensor] = ()
    inputs, wanted = [*ctx.saved_tensors], [*ctx.needs_input_grad[4:]]
    if kept is None:
        raise RuntimeError(_SECOND_TIME)
    first = 1 + len(sizes.of_states)
    if count:
        masks = inputs[first : first + count]
        del inputs[first : first + count], wanted[first : first + count]
    if sizes.P:
        wanted = reached(sizes, kept.T, wanted, gradients)
    plain = not torch.is_grad_enabled()
    if not all(map(context.is_readable, gradients)):
        # A lazy negation is no reason to leave the engine.
        gradients = [d if context.is_readable(d) else d.resolve_neg() for d in gradients]
        plain = plain and all(map(context.is_readable, gradients))
    if not plain:
        found = differentiate(sizes, kept.rows(), inputs, masks, gradients, wanted, compute)
    else:
        found = backward(kept, inputs, masks, gradients, wanted)
        if not context.graph_stays():
            ctx.kept = None  # back to the pool now: the graph may outlive the next forward
    if count:
        found[first:first] = [None] * count
    return None, None, None, None, *found
