"""One call of the layer: checks what the tensors are, draws the dropout masks, and sends it down the right route."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from fastlstm.torch import autograd, composite, recorded, recorded_segments, route
from fastlstm.torch.call import Call, full, masks_of
from fastlstm.torch.memory import in_order
from fastlstm.torch.segments import Segments
from fastlstm.weights import Sizes, cell_shapes, named_shapes

Result = tuple[Tensor, Tensor, Tensor]

_PLAIN = frozenset({Tensor, Parameter})
_STRIDED = torch.strided
# Casting the weights takes what bfloat16 saves in so many steps of one row: (16, 1, 512, 512) 1.06 ms, and 1.04 in float32.
_CASTING_STEPS = 16

# Looked up once: a call has microseconds.
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transform_level = torch._C._functorch.maybe_current_level
saving_hooks = torch._C._autograd._top_saved_tensors_default_hooks


def lstm(
    call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor], dropout: float
) -> Result:
    """output, h_n, c_n of a call whose x, h_0 and c_0 have the right shapes.

    x: (T, N, I), or with fewer dimensions where they are 1; packed: (rows, I); with segments: (places, I). h_0 and c_0:
    `call.state` (`call.segments.state`) and the features, or None: zeros. weights: in the order of `parameters()`.
    dropout: between layers; 0 outside training. Raises RuntimeError where devices, dtypes or the shapes of the weights
    don't fit.
    """
    if call.segments is not None:
        output, h_n, c_n = _segmented(call, call.segments, x, h_0, c_0, weights, dropout)
        return output, call.segments.or_initial(h_0, h_n), call.segments.or_initial(c_0, c_n)
    # A ragged call goes to its op, even where the compiler that asked for it is gone by now.
    grad = None if call.ragged is not None else direct(call.sizes, x, h_0, c_0, weights)
    if grad is None:
        return _indirect(call, x, h_0, c_0, weights, dropout)
    return _native(call, x, h_0, c_0, weights, masks_of(call, x, dropout) if dropout > 0 else [], grad)


def _segmented(
    call: Call,
    segments: Segments,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    dropout: float,
) -> Result:
    """The engine is told where the rows stand; whatever else runs is given a packed batch."""
    grad = direct(call.sizes, x, h_0, c_0, weights)
    if grad is None or (grad and saving_hooks(True) is not None):
        x, h_0, c_0, batch_sizes = segments.pack(x, h_0, c_0)
        call = call._replace(segments=None, batch_sizes=batch_sizes)
        output, h_n, c_n = segments.unpack(*lstm(call, x, h_0, c_0, weights, dropout))
        return output, h_n, c_n
    return _native(call, x, h_0, c_0, weights, masks_of(call, x, dropout) if dropout > 0 else [], grad)


def plain() -> bool:
    """Whether nothing watches or changes tensor operations here and now: what a tensor is, its memory tells."""
    return not (
        torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
        or route.tracing_state() is not None
        or _dispatch_modes() > 0
        or _transform_level() is not None
        or forward_ad._current_level >= 0
    )


def direct(sizes: Sizes, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor]) -> bool | None:
    """Whether gradients are wanted, where the engine can be called by address; None, no error yet, elsewhere."""
    if not plain():
        return None
    dtype = x.dtype
    if dtype not in route.NATIVE:
        return None
    grad = False
    for t in (x, h_0, c_0):
        if t is not None:
            if type(t) not in _PLAIN or t.dtype is not dtype or not t.is_cpu or t.is_neg() or t.layout is not _STRIDED:
                return None
            grad = grad or t.requires_grad
    for t, shape in zip(weights, sizes.shapes, strict=True):
        if type(t) not in _PLAIN or t.dtype is not dtype or t.shape != shape or not t.is_cpu or t.is_neg():
            return None
        grad = grad or t.requires_grad
    return grad and torch.is_grad_enabled()


def _native(
    call: Call,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    masks: list[Tensor],
    grad: bool,
) -> Result:
    if not x.is_contiguous():
        x = in_order(x)
    if h_0 is not None and not h_0.is_contiguous():
        h_0 = in_order(h_0)
    if c_0 is not None and not c_0.is_contiguous():
        c_0 = in_order(c_0)
    for k, w in enumerate(weights):
        if not w.is_contiguous():
            weights[k] = in_order(w)
    if not grad:
        return autograd.forward(call, autograd.problem_of(call, x), x, h_0, c_0, weights, masks)
    if saving_hooks(True) is not None:
        return _recorded(call, x, h_0, c_0, weights, masks)
    apply: Any = autograd.Lstm.apply
    result: Result = apply(call, len(masks), x, h_0, c_0, *masks, *weights)
    return result


def _recorded(
    call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor], masks: list[Tensor]
) -> Result:
    grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, h_0, c_0, *weights) if t is not None)
    if call.ragged is not None:
        return like_the_caller(call, x, recorded_segments.run(call, call.ragged, x, h_0, c_0, weights, masks, grad))
    x3, h_0, c_0 = full(call, x, h_0, c_0)
    sizes = call.sizes
    dtype = route.NATIVE[x.dtype]
    per_row = recorded.saved_reals(sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, dtype) if grad else 0
    output, h_n, c_n, _ = recorded.lstm(x3, h_0, c_0, weights, masks, call.batch_sizes, sizes.numbers, per_row)
    return like_the_caller(call, x, (output, h_n, c_n))


def like_the_caller(call: Call, x: Tensor, result: Sequence[Tensor]) -> Result:
    """From the full form back to the caller's number of dimensions."""
    output, h_n, c_n = result
    if output.dim() != x.dim():
        output = output.reshape(*x.shape[:-1], output.shape[-1])
    if len(call.state) != 2:
        h_n, c_n = h_n.reshape(*call.state, h_n.shape[-1]), c_n.reshape(*call.state, c_n.shape[-1])
    return output, h_n, c_n


def _indirect(
    call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor], dropout: float
) -> Result:
    """Whatever is not a plain call on real CPU tensors."""
    if route.tracing_state() is not None:
        return _traced(call, x, h_0, c_0, weights, dropout)
    autocast = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    check(call, x, h_0, c_0, weights, autocast)
    engine = route.choose(x.device, x.dtype)
    if engine.name == "cudnn":
        result = route.torch_kernel(call.sizes, *full(call, x, h_0, c_0), weights, dropout, call.batch_sizes)
        return like_the_caller(call, x, result)
    masks = masks_of(call, x, dropout) if dropout > 0 else []
    if autocast and x.dtype is not torch.float64:
        dtypes = _autocast_dtypes(call, x, c_0)
        with torch.autocast("cpu", enabled=False):
            if engine.name == "native" and dtypes == (torch.bfloat16, torch.bfloat16) and _worth_casting(call):
                h_0, c_0 = (None if t is None else t.bfloat16() for t in (h_0, c_0))
                weights, masks = ([t.bfloat16() for t in given] for given in (weights, masks))
                return _run(engine, call, x.bfloat16(), h_0, c_0, weights, masks)
            return _rounded(engine, dtypes, call, x, h_0, c_0, weights, masks)
    return _run(engine, call, x, h_0, c_0, weights, masks)


def _run(
    engine: route.Engine,
    call: Call,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    masks: list[Tensor],
) -> Result:
    if engine.name == "native":
        grad = None if call.ragged is not None else direct(call.sizes, x, h_0, c_0, weights)
        if grad is not None:
            return _native(call, x, h_0, c_0, weights, masks, grad)
        return _recorded(call, x, h_0, c_0, weights, masks)
    if call.ragged is not None:
        raise RuntimeError(
            f"torch.compile has recorded lengths, resets or a nested tensor for the engine, but {engine.why}"
        )
    route.fall_back(engine.why)
    result = composite.lstm(call.sizes, *full(call, x, h_0, c_0), weights, masks, call.batch_sizes)
    return like_the_caller(call, x, result)


def _rounded(
    engine: route.Engine,
    dtypes: tuple[torch.dtype, torch.dtype],
    call: Call,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    masks: list[Tensor],
) -> Result:
    """Computes in float32 what comes in fewer bits, and rounds the results: h and c to one of `dtypes` each."""
    h_0, c_0 = None if h_0 is None else h_0.float(), None if c_0 is None else c_0.float()
    output, h_n, c_n = _run(
        engine, call, x.float(), h_0, c_0, [w.float() for w in weights], [mask.float() for mask in masks]
    )
    return output.to(dtypes[0]), h_n.to(dtypes[0]), c_n.to(dtypes[1])


def _worth_casting(call: Call) -> bool:
    """Whether the products of several steps are faster in bfloat16 by more than it takes to cast the weights for them."""
    sizes = call.sizes
    return call.T >= _CASTING_STEPS and recorded.multiplies_bfloat16(sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D)


def _autocast_dtypes(call: Call, x: Tensor, c_0: Tensor | None) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of h and c that nn.LSTM and nn.LSTMCell return under CPU autocast.

    Their fused kernel, for a dense call without projection, rounds everything. Elsewhere the state keeps the wider
    dtype it came in, and h takes that of c, unless it comes out of a projection.
    """
    rounded = torch.get_autocast_dtype("cpu")
    if (call.batch_sizes is None or call.unpacked) and not call.cell and call.sizes.P == 0:
        return rounded, rounded
    kept = torch.promote_types(rounded, (x if c_0 is None else c_0).dtype)
    return (kept if call.sizes.P == 0 else rounded), kept


def _traced(
    call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor], dropout: float
) -> Result:
    """Leaves one node in a torch.jit.trace: the op below, which comes back here whenever the trace runs, or torch's."""
    x3, h_0, c_0 = full(call, x, h_0, c_0)
    if route.traces_for_others():
        result = route.torch_kernel(call.sizes, x3, h_0, c_0, weights, dropout, call.batch_sizes)
        return like_the_caller(call, x, result)
    result = torch.ops.fastlstm.layer(x3, h_0, c_0, weights, call.batch_sizes, call.sizes.numbers, dropout, call.cell)
    return like_the_caller(call, x, result)


torch.library.define(
    "fastlstm::layer",
    "(Tensor x, Tensor h_0, Tensor c_0, Tensor[] weights, Tensor? batch_sizes, int[] sizes, float dropout, bool cell)"
    " -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("fastlstm::layer", "CompositeImplicitAutograd")
def _layer(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    sizes: list[int],
    dropout: float,
    cell: bool,
) -> Result:
    call = recorded.call_of(sizes, x, h_0, batch_sizes)._replace(cell=cell)
    recorded.check_shapes(call, x, h_0, c_0)  # the module's own checks ran once, on the tensors it was traced with
    return lstm(call, x, h_0, c_0, weights, dropout)


def check(call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None, weights: list[Tensor], autocast: bool) -> None:
    """Raises where the tensors of a call don't belong together, in torch's words where it has some."""
    shapes = cell_shapes(call.sizes) if call.cell else named_shapes(call.sizes)
    for w, (name, shape) in zip(weights, shapes.items(), strict=True):
        if not isinstance(w, Tensor):
            raise TypeError(f"expected Tensor as parameter {name}, but got {type(w).__name__}")
        _same("parameter", x, w, autocast)
        if w.shape != shape:
            raise RuntimeError(f"parameter {name}: expected shape {shape}, got {list(w.shape)}")
    for kind, t in (("input", x), ("hidden", h_0), ("hidden", c_0)):
        if t is not None:
            _same(kind, x, t, autocast)


def _same(kind: str, x: Tensor, t: Tensor, autocast: bool) -> None:
    if t.layout is not _STRIDED:
        raise RuntimeError(
            f"expected {kind} tensors of layout torch.strided, got {t.layout}: t.to_dense() makes them so"
        )
    if t.device != x.device:
        raise RuntimeError(
            f"Input and {kind} tensors are not at the same device, "
            f"found input tensor at {x.device} and {kind} tensor at {t.device}"
        )
    castable = (*route.HALF, torch.float32)
    if t.dtype != x.dtype and not (autocast and t.dtype in castable and x.dtype in castable):
        raise RuntimeError(
            f"Input and {kind} tensors are not the same dtype, "
            f"found input tensor with {x.dtype} and {kind} tensor with {t.dtype}"
        )
