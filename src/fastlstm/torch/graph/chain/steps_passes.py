"""The two passes with respect to the steps that a chain computed, whose slopes they find on their way: a third of the time that
slopes as tensors take. Their own derivatives are those of `passes`, from slopes in tensor operations; but for the first one of
the adjoint, a double backward, which is a pass of the engine, too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import context, transforms
from fastlstm.torch.graph.chain.passes import Adjoint, Pass, Tangent, call, hidden, only_needed
from fastlstm.torch.graph.chain.products import product
from fastlstm.torch.graph.chain.steps import Steps
from fastlstm.torch.runners.composite import CELLS


def _slopes(steps: Steps, gates: Tensor, state: Tensor, state_0: Tensor) -> Tensor:
    slopes: Tensor = CELLS[steps.cell].slopes(gates, steps.before(state_0, state), state)
    return slopes


def _tangent(
    steps: Steps, w: Tensor, gates: Tensor, state: Tensor, state_0: Tensor, a: Tensor, h_0: Tensor, c_0: Tensor | None
) -> tuple[Tensor, ...]:
    found: Any = Tangent.apply(steps, w, _slopes(steps, gates, state, state_0), a, h_0, c_0, None, None)
    return *found[:-1], CELLS[steps.cell].gates_from_sums(gates, found[-1])


def _adjoint(
    steps: Steps, w: Tensor, gates: Tensor, state: Tensor, state_0: Tensor, dh: Any, dc: Any, dgates: Any
) -> tuple[Tensor, ...]:
    ds = None if dgates is None else CELLS[steps.cell].sums_from_gates(gates, dgates)
    found: tuple[Tensor, ...] = Adjoint.apply(steps, w, _slopes(steps, gates, state, state_0), dh, dc, ds)
    return found


def _of_tensors(
    function: Callable[..., Any], steps: Steps, tensors: Sequence[Any]
) -> tuple[Callable[..., Any], list[int]]:
    """`function` of those of its arguments that are there, and which they are."""
    there = [k for k, t in enumerate(tensors) if t is not None]

    def of_those(*own: Tensor) -> Any:
        given = dict(zip(there, own, strict=True))
        return function(steps, *(given.get(k) for k in range(len(tensors))))

    return of_those, there


def _given(ctx: Any) -> list[Any]:
    return [t if t is None else transforms.without_dead_wrapper(t) for t in ctx.saved_tensors[: ctx.given]]


def _pull(function: Callable[..., Any], ctx: Any, gradients: Sequence[Any]) -> tuple[Any, ...]:
    """The gradients of what the Function of ctx was given, themselves differentiable."""
    tensors = _given(ctx)
    of_those, there = _of_tensors(function, ctx.steps, tensors)
    pulled: Any = torch.func.vjp(of_those, *(tensors[k] for k in there))
    results, pull = pulled
    found = pull(tuple(torch.zeros_like(y) if d is None else d for y, d in zip(results, gradients, strict=True)))
    by_place = dict(zip(there, found, strict=True))
    return only_needed(ctx, None, *(by_place.get(k) for k in range(len(tensors))))


def _push(function: Callable[..., Any], ctx: Any, tangents: Sequence[Any]) -> Any:
    tensors = _given(ctx)
    of_those, there = _of_tensors(function, ctx.steps, tensors)
    own = tuple(tensors[k] for k in there)
    with_zeros = (torch.zeros_like(t) if tangents[k] is None else tangents[k] for k, t in zip(there, own, strict=True))
    return transforms.jvp(of_those, own, tuple(with_zeros))[1]


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.steps, *tensors = inputs
    ctx.given = len(tensors)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output)
    ctx.save_for_forward(*tensors, *output)


class TangentOfSteps(Pass):
    """R, gates, state, state_0, then the tangents of a (rows, S * H), h_0 and c_0 -> those of h, c (rows, H) and the gates."""

    @staticmethod
    def forward(
        steps: Steps, w: Tensor, gates: Tensor, state: Tensor, state_0: Tensor, *given: Any
    ) -> tuple[Tensor, ...]:
        return call(steps, w, "tangent", (gates, state, state_0), w, *given, None, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _keep(ctx, inputs, output)

    @staticmethod
    @transforms.derivable_within
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _pull(_tangent, ctx, gradients)

    @staticmethod
    @transforms.forward_mode_within
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        return _push(_tangent, ctx, tangents)


class AdjointOfSteps(Pass):
    """R, gates, state, state_0, then the gradients of h, c (rows, H) and the gates, or None -> those of a (rows, S * H), h_0 and
    c_0 (N, H), and what reaches h and c (rows, H) in all.
    """

    @staticmethod
    def forward(
        steps: Steps, w: Tensor, gates: Tensor, state: Tensor, state_0: Tensor, *given: Any
    ) -> tuple[Tensor, ...]:
        return call(steps, w, "adjoint", (gates, state, state_0), w, *given)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _keep(ctx, inputs, output)

    @staticmethod
    @transforms.derivable_within
    def backward(ctx: Any, *gradients: Any) -> Any:
        saved, states = ctx.saved_tensors, len(gradients) // 2
        of_reaching, dgates = gradients[1 + states :], saved[ctx.given - 1]
        first = not torch.is_grad_enabled() and dgates is None and all(d is None for d in of_reaching)
        if first and all(map(context.is_readable, (*saved, *gradients))):
            return AdjointOfSteps._double_backward(ctx, gradients[: 1 + states])
        return _pull(_adjoint, ctx, gradients)

    @staticmethod
    def _double_backward(ctx: Any, gradients: Any) -> Any:
        w, *of_steps = ctx.saved_tensors[:4]
        da, *rest = ctx.saved_tensors[ctx.given :]
        reaching = rest[len(rest) // 2 :]
        pad = (None,) * (2 - len(reaching))
        sizes = ((*of_steps[0].shape,), *[(ctx.steps.N, w.shape[-1])] * len(reaching))
        da_v, *first = (w.new_zeros(s) if d is None else d for d, s in zip(gradients, sizes, strict=True))
        *dhx, gates, state, state_0 = call(
            ctx.steps, w, "second", tuple(of_steps), w, *reaching, *pad, da_v, *first, *pad
        )
        dw = None
        if ctx.needs_input_grad[1]:
            dw = product(hidden(ctx.steps, da, w), ctx.steps.before(first[0], dhx[0]))
        return only_needed(ctx, None, dw, gates, state, state_0, *dhx, *pad, None)

    @staticmethod
    @transforms.forward_mode_within
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        return _push(_adjoint, ctx, tangents)
