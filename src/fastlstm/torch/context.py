"""What watches or changes a call here and now: every probe of a private name of torch, what for, and where it was seen.

Each was seen in the torch versions from 2.8 to 2.15. What torch keeps for `enable()` and `convert()` to change stands in
`adopt/internals.py`.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from types import CodeType, SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch._C import _functorch
from torch._C._dynamo import eval_frame
from torch._decomp import register_decomposition as register_decomposition  # torch.onnx.export looks into its table
from torch.autograd import forward_ad
from torch.jit._trace import TracerWarning as TracerWarning  # of a check that compares traced sizes
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes

Function = TypeVar("Function", bound=Callable[..., Any])

tracing_state = torch._C._get_tracing_state
"""What torch.jit.trace keeps while it watches, else None."""

is_dynamo_compiling = torch.compiler.is_dynamo_compiling
"""By a name of its own, as what follows: each step of a way to a name is a guard of compiled programs, and a module that two ways
lead to is one in Python, of 1 us.
"""

is_autocast_enabled = torch.is_autocast_enabled

saving_hooks = torch._C._autograd._top_saved_tensors_default_hooks
"""saving_hooks(True): what torch.autograd.graph.saved_tensors_hooks would pack saved tensors with, else None."""

is_profiled = torch._C._autograd._profiler_enabled
profiled_as = torch._C._profiler._RecordFunctionFast
"""Whether a profiler watches this thread, and what gives a name to what happens within: `with profiled_as(name)`."""

graph_stays = torch._C._autograd._get_current_graph_task_keep_graph
"""Within a backward: whether its caller retains the graph."""

autocast_is_on = torch._C._is_any_autocast_enabled
"""Whether an autocast of any device is at work."""

_dispatch_modes = torch._C._len_torch_dispatch_stack  # TorchDispatchMode: FlopCounterMode, make_fx, FakeTensorMode
_function_modes = torch._C._len_torch_function_stack  # TorchFunctionMode, and default devices
_function_mode = torch._C._get_function_stack_at
_transform_level = torch._C._functorch.maybe_current_level  # torch.func: grad, vmap, jvp
_transform_depth = torch._C._functorch.get_dynamic_layer_stack_depth
_innermost: Callable[[], Any] = torch._C._functorch.peek_interpreter_stack
_unpack_dual: Callable[[Tensor], tuple[Tensor, Tensor | None]] = forward_ad.unpack_dual


class Context(NamedTuple):
    """What a runner is asked about beside the call. transformed: by torch.func, or forward-mode differentiation; recorded: by
    what keeps operations, and has no memory behind its tensors; mapped: the innermost transform is a vmap, and nothing records.
    """

    transformed: bool
    recorded: bool = False
    mapped: bool = False


def here() -> Context:
    """That of this place and time."""
    recorded = torch.compiler.is_compiling() or tracing_state() is not None or _dispatch_modes() > 0
    if _transform_depth() == 0:
        return Context(is_transformed(), recorded)
    recorded = recorded or _is_functionalized()
    return Context(True, recorded, not recorded and innermost_is_vmap())


def is_transformed() -> bool:
    """By torch.func, or forward-mode differentiation."""
    return _transform_depth() > 0 or forward_ad._current_level >= 0


def _is_functionalized() -> bool:
    """Whether torch.func.functionalize is among the transforms: it has no rule for an autograd Function."""
    transforms = _functorch.get_interpreter_stack() or ()
    return any(transform.key() == _functorch.TransformType.Functionalize for transform in transforms)


def is_plain() -> bool:
    """Whether nothing watches or changes tensor operations: memory tells what a tensor is."""
    return not (
        is_dynamo_compiling()  # torch.export has a dispatch mode
        or (autocast_is_on() and is_autocast_enabled("cpu"))  # the former alone takes a quarter of the time
        or tracing_state() is not None
        or _dispatch_modes() > 0
        or _transform_level() is not None
        or forward_ad._current_level >= 0
    )


def is_unseen() -> bool:
    """Whether nobody is to see the call: `is_plain`, and no TorchFunctionMode, to which a registered operator goes."""
    return is_plain() and (_function_modes() == 0 or only_devices())


def only_devices() -> bool:
    """Whether all modes of torch's functions are default devices, which are none to see a call."""
    return all(isinstance(_function_mode(k), DeviceContext) for k in range(_function_modes()))


def outside_transforms() -> AbstractContextManager[Any]:
    """What comes to be inside a torch.func transform has no address."""
    inside = _transform_level() is not None
    return torch._C._DisableFuncTorch() if inside else nullcontext()


def without_autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", enabled=False) if autocast_is_on() else nullcontext()


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
        innermost = _innermost() if torch._C._are_functorch_transforms_active() else None
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


def innermost_is_vmap() -> bool:
    """Whether torch.func.vmap is the innermost transform here."""
    innermost = _innermost()
    return innermost is not None and innermost.key() == _functorch.TransformType.Vmap


def is_mapped_alone() -> bool:
    """Whether one torch.func.vmap is all that changes tensor operations."""
    return (
        _transform_depth() == 1
        and innermost_is_vmap()
        and not (torch.compiler.is_compiling() or _dispatch_modes() > 0 or tracing_state() is not None)
        and not is_autocast_enabled("cpu")
        and forward_ad._current_level < 0
    )


def vmap_level() -> tuple[int, Callable[[Any], tuple[Any, int | None]], Callable[[Tensor, int | None], Tensor]]:
    """Of the innermost transform, which is a vmap: how many members it has; what makes of one of its tensors what it is below it,
    and the dimension of members (None: it is the same for all); and the other way.
    """
    innermost = _innermost()  # whose memory the pointer reads
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
    innermost = _innermost()
    return forward_ad._current_level >= 0 if innermost is None else innermost.key() == _functorch.TransformType.Jvp


def unpack_dual(tensor: Tensor | None) -> tuple[Any, Any]:
    """A tensor of the innermost transform, which is forward mode, and its tangent (None: zeros), as they are below it."""
    if tensor is None:
        return None, None
    primal, tangent = _unpack_dual(tensor)
    interpreter = _innermost()
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
    """What torch's own does for a vmap, in a third of the time (4 us)."""

    def __enter__(self) -> None:
        self.level = _functorch.pop_dynamic_layer_stack()

    def __exit__(self, *_: object) -> None:
        _functorch.push_dynamic_layer_stack(self.level)


def below_innermost() -> AbstractContextManager[Any]:
    """Within, the innermost transform, or forward mode where there is none, is not at work."""
    innermost = _innermost()
    if innermost is None:
        return forward_ad._set_fwd_grad_enabled(False)
    if innermost.key() == _functorch.TransformType.Vmap:
        return _BelowVmap()
    from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter

    return retrieve_current_functorch_interpreter().lower()


def is_mapped(tensor: Tensor) -> bool:
    """Whether torch.func.vmap maps over it, or over what another transform has wrapped."""
    if torch.compiler.is_compiling():  # Dynamo knows this function, and breaks the graph at the others
        return bool(_functorch.is_batchedtensor(tensor))
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            return True
        tensor = _functorch.get_unwrapped(tensor)
    return False


def is_wrapper(tensor: Tensor) -> bool:
    """Whether it is of a subclass that holds other tensors, and has no memory of its own."""
    wraps: bool = torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.Python)
    return wraps


def is_zeros_without_memory(tensor: Tensor) -> bool:
    """Whether it is one of torch's own stand-ins for zeros."""
    return tensor._is_zerotensor()


def ragged_dimension(nested: Tensor) -> int:
    """Which dimension of a tensor of layout torch.jagged has no one length."""
    dimension: int = nested._ragged_idx  # type: ignore[attr-defined]
    return dimension


def _kind(tensor: Tensor) -> int:
    kind: int = torch._C._dispatch_keys(tensor).raw_repr()
    return kind


def _readable_kinds() -> set[int]:
    """Those of plain tensors with gradients and of inference_mode's, whatever mode this is imported in."""
    with torch.inference_mode(False), _disable_current_modes(), outside_transforms():
        kinds = {_kind(torch.empty(0, device="cpu"))}
        with torch.inference_mode():
            kinds.add(_kind(torch.empty(0, device="cpu")))
    return kinds


_READABLE = _readable_kinds()


def is_readable(tensor: Tensor | None) -> bool:
    """Whether memory holds the tensor's numbers: no transform's wrapper, no lazy negation, no zero without storage."""
    return tensor is None or _kind(tensor) in _READABLE


def hide_from_dynamo(code: CodeType) -> None:
    """Where nn.LSTM breaks a graph, as by default, its call is to run as it is: torch.compile would make a graph of what is
    beneath it, with torch's operator. torch._dynamo.disable does this too, but breaks graphs, and takes seconds to import.
    """
    skip = eval_frame._FrameAction.SKIP
    eval_frame.set_code_exec_strategy(code, eval_frame._FrameExecStrategy(skip, skip))


def outside_graphs(run: Function) -> Function:
    """torch.compile breaks its graph at a call of this function, as it does at nn.LSTM, and leaves what is beneath it alone."""
    run._torchdynamo_disable = True  # type: ignore[attr-defined]
    hide_from_dynamo(run.__code__)
    return run


def torch_layer(name: str, *arguments: Any) -> Any:
    """torch's own operator, 'lstm', 'gru_cell', .., which calls cuDNN on CUDA: nn.LSTM and its like call it so."""
    return getattr(torch._VF, name)(*arguments)


def keep_whole(operators: tuple[str, ...]) -> None:
    """Tells Inductor that its programs call these operators as they are. Where `CI` is in the environment it refuses to, for the
    decompositions that only torch.onnx.export is meant to find. It takes a second to import: to be told when it asks for shapes.
    """
    import sys

    inductor = sys.modules.get("torch._inductor.lowering")
    if inductor is not None:
        inductor.FALLBACK_ALLOW_LIST.update(operators)
