"""Which engine runs a call, why, and what is said about it; and the one function that calls torch's own kernel."""

import sys
import traceback
import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastlstm.weights import Sizes


class FallbackWarning(UserWarning):
    """A call runs in plain tensor operations, where a faster engine is what one would expect."""


class Engine(NamedTuple):
    """What runs a call: `name` is 'native', 'cudnn' or 'composite'; `why` says so in words."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


REAL = frozenset({torch.float32, torch.float64})
HALF = frozenset({torch.float16, torch.bfloat16})
NATIVE = {dtype: str(dtype).removeprefix("torch.") for dtype in REAL | HALF}
"""The dtypes of the engine's arrays, and its names for them."""

tracing_state = torch._C._get_tracing_state
"""What torch.jit.trace keeps while it watches, else None."""

torch_traces = False
"""Whether a torch.jit.trace records torch's own operator, which `enable()` brings to the engine: set by that."""

_CONVERTERS = frozenset({"openvino"})  # packages that trace a model to read torch's operators in it

_strict = False
_said: set[str] = set()


def strict(on: bool = True) -> None:
    """From now on, in this process, a call that would run in plain tensor operations raises RuntimeError instead."""
    global _strict
    _strict = on


def transformed() -> bool:
    """Whether a torch.func transform (grad, vmap, jvp, ...) or forward-mode differentiation is at work."""
    depth: int = torch._C._functorch.get_dynamic_layer_stack_depth()
    return depth > 0 or forward_ad._current_level >= 0


def choose(device: torch.device, dtype: torch.dtype) -> Engine:
    """The engine for a call on tensors of this device and dtype, here and now."""
    if transformed():
        return Engine("composite", "torch.func transforms and forward-mode derivatives need plain tensor operations")
    if device.type == "cuda":
        return Engine("cudnn", "a CUDA tensor goes to torch's own kernel: cuDNN's, where that can do the call")
    if device.type == "meta":
        return Engine("native", "a meta tensor has shapes only: nothing runs")
    if device.type != "cpu":
        return Engine("composite", f"there is no engine for the device {device.type!r}")
    if dtype in REAL:
        return Engine("native", f"the CPU engine computes in {str(dtype).removeprefix('torch.')}")
    if dtype in HALF:
        return Engine("native", f"the CPU engine adds up in float32 and rounds to {str(dtype).removeprefix('torch.')}")
    return Engine("composite", f"the CPU engine has no {str(dtype).removeprefix('torch.')}")


def traces_for_others() -> bool:
    """Whether what is traced here and now is read by something that knows torch's operators alone."""
    if torch_traces or torch.onnx.is_in_onnx_export():
        return True
    if _CONVERTERS.isdisjoint(sys.modules):
        return False
    frames = (frame for frame, _ in traceback.walk_stack(None))
    return any(str(frame.f_globals.get("__name__")).partition(".")[0] in _CONVERTERS for frame in frames)


def fall_back(why: str) -> None:
    """Announces, once for each reason, that plain tensor operations run; raises RuntimeError in strict mode."""
    if _strict:
        raise RuntimeError(f"fastlstm.strict: this call would run in plain tensor operations: {why}")
    if why not in _said and not torch.compiler.is_compiling():  # which cannot trace a warning
        _said.add(why)
        warnings.warn(f"fastlstm runs in plain tensor operations, slowly: {why}", FallbackWarning, stacklevel=2)


def torch_kernel(
    sizes: Sizes,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    dropout: float,
    batch_sizes: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Hands the call to torch's own LSTM: cuDNN on CUDA.

    x (T, N, I), or (rows, I) with batch_sizes; h_0 (layers * D, N, P or H), c_0 (layers * D, N, H); the weights in the
    order of `parameters()`; dropout: between layers, 0 outside training. Returns output, h_n, c_n.
    """
    options = (sizes.bias, sizes.layers, dropout, dropout > 0, sizes.D == 2)
    output: Tensor
    if batch_sizes is None:
        output, h_n, c_n = torch._VF.lstm(x, (h_0, c_0), weights, *options, False)
    else:
        output, h_n, c_n = torch._VF.lstm(x, batch_sizes, (h_0, c_0), weights, *options)
    return output, h_n, c_n
