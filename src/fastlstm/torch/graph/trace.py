"""Looking inside a call: every layer's hidden states, cells and gates at every step, differentiable like its results."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import context, runners
from fastlstm.torch.batch import Batch, Results, Rows, States, masks_of, results_of
from fastlstm.torch.dtypes import HALF
from fastlstm.torch.graph import function
from fastlstm.torch.memory import in_order, refuse_any_freed
from fastlstm.torch.runners import chained, composite, native
from fastlstm.traces import STEPS
from fastlstm.weights import Sizes


def trace(
    sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], dropout: float | None
) -> tuple[Results, list[Any]]:
    """What `wrap.run` returns, and the `Steps` of each layer and direction, in the shape of output.

    The arguments are those of `wrap.run`. Raises RuntimeError as it does.
    """
    refuse_any_freed(x, *hx, *weights)
    x, weights = x.resolve_neg(), [w.resolve_neg() for w in weights]
    hx = tuple(None if t is None else t.resolve_neg() for t in hx)
    grad = native.wants_graph(sizes, x, hx, weights) if context.is_plain() else None
    masks = masks_of(batch, sizes, x, dropout) if dropout else []
    if grad is None or (grad and context.saving_hooks(True) is not None):
        runners.check(sizes, x, hx, weights, runners.autocasts(x))
        traced: Any = _composite(sizes, batch, x, hx, weights, masks)
    else:
        x = in_order(x)
        hx = tuple(None if t is None else in_order(t) for t in hx)
        weights = [in_order(w) for w in weights]
        if grad:
            traced = _Traced.apply(sizes, batch, batch.rows, len(masks), x, *hx, *masks, *weights)  # type: ignore[no-untyped-call]
        else:
            traced = _run(sizes, batch, x, hx, weights, masks)[0]
    own = 1 + len(hx)
    return traced[:own], _steps(sizes, traced[0], traced[own:])


def _steps(sizes: Sizes, output: Tensor, rest: Sequence[Tensor]) -> list[Any]:
    """rest: all but h of the `Steps` of each layer and direction, then the outputs of the layers but the last."""
    steps = STEPS[sizes.cell.name]
    arrays = len(steps._fields) - 1
    outputs = [*rest[arrays * sizes.chains :], output]
    hidden = outputs if sizes.D == 1 else [side for both in outputs for side in both.chunk(2, -1)]
    return [steps(h, *rest[arrays * k : arrays * (k + 1)]) for k, h in enumerate(hidden)]


def _composite(
    sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], masks: list[Tensor]
) -> list[Tensor]:
    dtype = x.dtype
    wide = torch.float32 if dtype in HALF else dtype  # 16 bits are rounded once, as by the engine
    hx = tuple(None if t is None else t.to(wide) for t in hx)
    weights, masks = ([t.to(wide) for t in tensors] for tensors in (weights, masks))
    chain = chained.chain_for(sizes, x.to(wide))
    return [t.to(dtype) for t in composite.run(sizes, batch, x.to(wide), hx, weights, masks, _flat, chain)]


def _flat(
    sizes: Sizes, x: Tensor, hx: Results, weights: Any, masks: Any, batch_sizes: Any, chain: Any = composite.chain
) -> list[Tensor]:
    """The results of `composite.traced`, in the order of the engine's."""
    results, steps = composite.traced(sizes, x, hx, weights, masks, batch_sizes, chain=chain)
    hidden = [torch.cat([s.h for s in steps[k : k + sizes.D]], -1) for k in range(0, sizes.chains - sizes.D, sizes.D)]
    return [*results, *(array for s in steps for array in s[1:]), *hidden]


def _run(
    sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: Sequence[Tensor], masks: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], _engine.Kept]:
    found = function.forward(sizes, batch, batch.rows, x, hx, weights, masks, True, _engine.trace)
    return (*results_of(found), *found[3]), found[2]


class _Traced(torch.autograd.Function):
    """`function.Recurrence`, whose saved numbers are read out, and which takes gradients of them."""

    @staticmethod
    def forward(ctx: Any, sizes: Sizes, batch: Batch, rows: Rows, masks: int, x: Tensor, *tensors: Any) -> Any:
        hx, rest = tensors[: len(sizes.of_states)], tensors[len(sizes.of_states) :]
        results, kept = _run(sizes, batch, x, hx, rest[masks:], rest[:masks])
        function.keep_for_backward(ctx, sizes, masks, kept, x, tensors)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return function.gradients_of(ctx, gradients, _flat)
