"""What torch.func and forward-mode differentiation do to a call: their levels, one below another, and autograd Functions within
them. Every probe of a private name of torch was seen as those of `context` were.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, wraps
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch.autograd import forward_ad

from fastlstm.torch.context import Function, innermost_transform, is_readable, without_autocast

_unpack_dual: Callable[[Tensor], tuple[Tensor, Tensor | None]] = forward_ad.unpack_dual


def forward_mode_within(jvp: Function) -> Function:
    """An autograd Function's `jvp`, itself differentiable forward: torch turns forward mode off around it, at all levels of
    torch.func, whose outer ones would find derivatives of zero. And for tangents in a batch, as `derivable_within`.
    """

    @wraps(jvp)
    def differentiable(ctx: Any, *tangents: Any) -> Any:
        saved = SimpleNamespace(**vars(ctx))
        with forward_ad._set_fwd_grad_enabled(True):
            saved.saved_tensors = [t if t is None else _unpack_dual(t)[0] for t in ctx.saved_tensors]
            return _in_full(jvp, saved, tangents)

    return differentiable  # type: ignore[return-value]


def derivable_within(backward: Function) -> Function:
    """An autograd Function's `backward`, of operations that autocast leaves alone, and for gradients that
    torch.autograd.grad(is_grads_batched=True) has batched: in a way older than torch.func, that Functions within do not know.
    They get torch.func.vmap's.
    """

    @wraps(backward)
    def differentiable(ctx: Any, *gradients: Any) -> Any:
        return _in_full(backward, ctx, gradients)

    return differentiable  # type: ignore[return-value]


def _in_full(derivative: Callable[..., Any], ctx: Any, given: Sequence[Any]) -> Any:
    """derivative(ctx, *given), without autocast, and without batches in the older way."""
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    batched = level > 0 and any(
        isinstance(t, Tensor) and _functorch.maybe_get_level(t) <= 0 and not is_readable(t) for t in given
    )
    with without_autocast():
        return _of_batch(derivative, ctx, given, level) if batched else derivative(ctx, *given)


def _of_batch(derivative: Callable[..., Any], ctx: Any, given: Sequence[Any], level: int) -> Any:
    there = [k for k, t in enumerate(given) if isinstance(t, Tensor)]
    returned: list[int] = []

    def of_member(*own: Tensor) -> Any:
        by_place = dict(zip(there, own, strict=True))
        found = derivative(ctx, *(by_place.get(k) for k in range(len(given))))
        if isinstance(found, Tensor):
            return found
        returned[:] = [len(found), *(k for k, t in enumerate(found) if t is not None)]
        return tuple(t for t in found if t is not None)

    one = 1  # member: of no consequence, each is batched, or the same for all
    rows = [torch._remove_batch_dim(given[k], level, one, 0) for k in there]
    members = max(len(t) for t in rows)
    results = torch.func.vmap(of_member)(*(t.expand(members, *t.shape[1:]) for t in rows))
    if isinstance(results, Tensor):
        return torch._add_batch_dim(results.contiguous(), 0, level)
    by_place = {k: torch._add_batch_dim(t.contiguous(), 0, level) for k, t in zip(returned[1:], results, strict=True)}
    return tuple(by_place.get(k) for k in range(returned[0]))


class Derivable(torch.autograd.Function):
    """An autograd Function of tensors and plain values, whose results are tensors none of which it was given. Within torch.func
    as any other, in a third of the time (0.6 ms a level): torch makes a class at each level of a call, and looks everywhere for
    tensors.
    """

    @classmethod
    def apply(cls, *given: Any) -> Any:
        innermost = innermost_transform() if torch._C._are_functorch_transforms_active() else None
        kind = None if innermost is None else innermost.key()
        if kind == _functorch.TransformType.Vmap:
            return cls._apply_to_members(given)
        if kind == _functorch.TransformType.Grad:
            return _at_one_level(cls, given)
        return super().apply(*given)  # type: ignore[no-untyped-call]

    @classmethod
    def _apply_to_members(cls, given: Sequence[Any]) -> Any:
        members, unwrap, wrap = vmap_level()
        pairs = [unwrap(t) if isinstance(t, Tensor) else (t, None) for t in given]
        dims = tuple(dim for _, dim in pairs)
        with below_innermost():
            below = [t for t, _ in pairs]
            if all(dim is None for dim in dims):
                return cls.apply(*below)
            found, out = cls.vmap(SimpleNamespace(batch_size=members), dims, *below)  # type: ignore[no-untyped-call]
        return wrap(found, out) if isinstance(found, Tensor) else tuple(map(wrap, found, out))


_here = threading.local()
"""`levels`: the transforms of the calls at one level that are on their way to their node's forward."""


def _at_one_level(function: type[Derivable], given: Sequence[Any]) -> Any:
    """The Function's node of the innermost transform's graph, which is a gradient's; beneath it, the call once more."""
    from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
    from torch._functorch.utils import enable_single_level_autograd_function

    _here.levels = [*getattr(_here, "levels", ()), retrieve_current_functorch_interpreter()]
    with enable_single_level_autograd_function():
        return _node(function).apply(*(_functorch.unwrap_if_dead(t) if isinstance(t, Tensor) else t for t in given))


@cache
def _node(function: type[Derivable]) -> Any:
    class Node(torch.autograd.function._SingleLevelFunction):
        @staticmethod
        def forward(*given: Any) -> Any:
            interpreter = _here.levels.pop()
            level = interpreter.level()
            below = [_functorch._unwrap_for_grad(t, level) if isinstance(t, Tensor) else t for t in given]
            with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True), interpreter.lower():
                found = function.apply(*below)
            if isinstance(found, Tensor):
                return _functorch._wrap_for_grad(found, level)
            return tuple(_functorch._wrap_for_grad(t, level) for t in found)

        setup_context = staticmethod(function.setup_context)
        backward = staticmethod(function.backward)

    Node.__name__ = function.__name__
    return Node


is_batched: Callable[[Tensor], bool] = _functorch.is_batchedtensor
"""Whether a vmap that is at work maps over it."""


def vmap_level() -> tuple[int, Callable[[Any], tuple[Any, int | None]], Callable[[Tensor, int | None], Tensor]]:
    """Of the innermost transform, which is a vmap: how many members it has; what makes of one of its tensors what it is below it,
    and the dimension of members (None: it is the same for all); and the other way.
    """
    innermost = innermost_transform()  # whose memory the pointer reads
    interpreter = _functorch.CVmapInterpreterPtr(innermost)
    level, members = interpreter.level(), interpreter.batchSize()

    def unwrap(tensor: Any) -> tuple[Any, int | None]:
        if tensor is None or not _functorch.is_batchedtensor(tensor) or _functorch.maybe_get_level(tensor) != level:
            return tensor, None
        return _functorch.get_unwrapped(tensor), _functorch.maybe_get_bdim(tensor)

    def wrap(tensor: Tensor, dim: int | None) -> Tensor:
        return tensor if dim is None else _functorch._add_batch_dim(tensor, dim, level)

    return members, unwrap, wrap


def innermost_is_forward_mode() -> bool:
    """Whether torch.func.jvp, or torch.autograd.forward_ad where there is no transform, is the innermost one here."""
    innermost = innermost_transform()
    return forward_ad._current_level >= 0 if innermost is None else innermost.key() == _functorch.TransformType.Jvp


def unpack_dual(tensor: Tensor | None) -> tuple[Any, Any]:
    """A tensor of the innermost transform, which is forward mode, and its tangent (None: zeros), as they are below it."""
    if tensor is None:
        return None, None
    primal, tangent = _unpack_dual(tensor)
    interpreter = innermost_transform()
    if interpreter is None:
        return primal, tangent
    level = interpreter.level()

    def below(t: Any) -> Any:
        wrapped = t is not None and _functorch.is_gradtrackingtensor(t) and _functorch.maybe_get_level(t) == level
        return _functorch.get_unwrapped(t) if wrapped else t

    return below(primal), below(tangent)


make_dual: Callable[[Tensor, Tensor], Tensor] = forward_ad.make_dual


def jvp(function: Callable[..., Any], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> Any:
    """torch.func.jvp, within torch.autograd.forward_ad, too: it enters a level of its own there, which that has no second of."""
    from torch._functorch import eager_transforms

    entered = forward_ad._current_level >= 0 and eager_transforms.JVP_NESTING == 0
    eager_transforms.JVP_NESTING += entered
    try:
        return torch.func.jvp(function, primals, tangents)
    finally:
        eager_transforms.JVP_NESTING -= entered


without_dead_wrapper = _functorch.unwrap_if_dead
"""A tensor without the wrappers of torch.func transforms that have ended, as what a Function saved may have."""


class _BelowVmap(AbstractContextManager[None]):
    """What torch's own does for a vmap, in less than half of the time (4 us)."""

    def __enter__(self) -> None:
        self.level = _functorch.pop_dynamic_layer_stack()

    def __exit__(self, *_: object) -> None:
        _functorch.push_dynamic_layer_stack(self.level)


def below_innermost() -> AbstractContextManager[Any]:
    """Within, the innermost transform, or forward mode where there is none, is not at work."""
    innermost = innermost_transform()
    if innermost is None:
        return forward_ad._set_fwd_grad_enabled(False)
    if innermost.key() == _functorch.TransformType.Vmap:
        return _BelowVmap()
    from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter

    return retrieve_current_functorch_interpreter().lower()
