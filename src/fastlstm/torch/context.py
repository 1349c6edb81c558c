"""What watches or changes a call here and now: every probe of a private name of torch, what for, and where it was seen.

Each was seen in the torch versions from 2.8 to 2.15. What torch keeps for `enable()` and `convert()` to change stands in
`adopt/internals.py`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import CodeType
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

is_exporting = torch.compiler.is_exporting

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

innermost_transform: Callable[[], Any] = torch._C._functorch.peek_interpreter_stack
"""The transform of torch.func that is to see an operation first; None where there is none."""


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


def innermost_is_vmap() -> bool:
    """Whether torch.func.vmap is the innermost transform here."""
    transform = innermost_transform()
    return transform is not None and transform.key() == _functorch.TransformType.Vmap


def is_mapped_alone() -> bool:
    """Whether one torch.func.vmap is all that watches a call, or changes tensor operations."""
    return (
        _transform_depth() == 1
        and innermost_is_vmap()
        and not (torch.compiler.is_compiling() or _dispatch_modes() > 0 or tracing_state() is not None)
        and not (is_autocast_enabled("cpu") or forward_ad._current_level >= 0 or is_profiled())
        and only_devices()
    )


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
