"""The op on the native engine, for tensors whose memory can be read by address: without gradients, and with them.

`functional` sees to it that the tensors here are real, of one dtype, contiguous, on the CPU and of the right shape. In
16 bits the engine adds up in float32 and rounds each result once. The weights stand in the order of `parameters()`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fastlstm import _engine
from fastlstm.torch import composite, route
from fastlstm.torch.call import Call, full
from fastlstm.torch.memory import as_read
from fastlstm.torch.segments import outside_transforms
from fastlstm.weights import Sizes

_LARGE = 1 << 16  # elements: worth asking the engine, whose own bound is in bytes


def problem_of(call: Call, x: Tensor) -> _engine.Problem:
    """The engine's view of a call. RuntimeError: batch sizes that rise, or don't add up to x's rows."""
    sizes, dtype = call.sizes, route.NATIVE[x.dtype]
    if call.segments is not None:
        return call.segments.problem(dtype)
    six = (sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, dtype)
    if call.batch_sizes is None:
        return _engine.Problem(call.T if call.N else 1, call.N, *six)
    steps = call.batch_sizes.tolist()
    if sum(steps) != x.shape[0]:
        raise RuntimeError(f"batch_sizes add up to {sum(steps)} rows, but the packed data has {x.shape[0]}")
    while steps and steps[-1] == 0:  # steps that no row has
        steps.pop()
    if not steps:
        return _engine.Problem(1, 0, *six)
    try:
        return _engine.Problem(len(steps), call.N, *six, steps)
    except ValueError:
        raise RuntimeError("batch_sizes of a PackedSequence: expected numbers of rows that do not rise") from None


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def addresses(sizes: Sizes, present: list[int]) -> list[int]:
    """The engine's five addresses for each layer and direction, given those of the arrays that are present."""
    present.append(0)
    return [present[k] for k in sizes.slots]


def _new(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Uninitialised, of the dtype of `like`; what is large in memory that does not go back to the system between calls."""
    if math.prod(shape) >= _LARGE:
        made = _engine.empty(shape, route.NATIVE[like.dtype])
        if made is not None:
            return made
    return like.new_empty(shape)


def forward(
    call: Call,
    problem: _engine.Problem,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    saved: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """output, h_n, c_n. `saved`: the address of what `backward` will need, 0 at inference."""
    sizes = call.sizes
    state, rows_left_out = call.state, False
    if call.segments is not None:
        state, rows_left_out = call.segments.state, call.segments.empty is not None
    if not masks:
        at_once = _engine.dense(problem, state, (x, h_0, c_0, *weights), saved, torch.get_num_threads())
        if at_once is not None:
            return at_once
    # One place for all that reaches the engine by address, after the last change that anyone makes to it.
    x, weights = as_read(x), [as_read(w) for w in weights]
    h_0, c_0 = (None if t is None else as_read(t) for t in (h_0, c_0))
    _check_sizes(_OTHER_SIZES, sizes, problem, (x, h_0, c_0, *weights))
    output = _new(x, (*x.shape[:-1], sizes.D * sizes.out))
    problem.clear(output.data_ptr(), sizes.D * sizes.out)
    new = x.new_zeros if rows_left_out else x.new_empty
    h_n, c_n = new((*state, sizes.out)), new((*state, sizes.H))
    _engine.forward(
        problem,
        x.data_ptr(),
        address(h_0),
        address(c_0),
        addresses(sizes, list(map(address, weights))),
        [mask.data_ptr() for mask in masks],
        output.data_ptr(),
        h_n.data_ptr(),
        c_n.data_ptr(),
        saved,
        torch.get_num_threads(),
    )
    return output, h_n, c_n


def backward(
    call: Call,
    problem: _engine.Problem,
    inputs: Sequence[Tensor | None],
    masks: Sequence[Tensor],
    output: Tensor | None,
    saved: int,
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
    dsteps: Sequence[Tensor | None] = (),
    dhidden: Sequence[Tensor | None] = (),
) -> list[Tensor | None]:
    """From the gradients of output, h_n, c_n (None: zeros) to the `wanted` ones of x, h_0, c_0 and the weights.

    dsteps, dhidden: the gradients of what `_engine.trace` reads, in its order; empty, both: none.
    """
    # Held until the engine is done.
    gradients, dsteps, dhidden = ([_as_it_was(d, inputs[0]) for d in given] for given in (gradients, dsteps, dhidden))
    if not (masks or dsteps or dhidden):
        at_once = _engine.dense_backward(problem, inputs, output, saved, gradients, wanted, torch.get_num_threads())
        if at_once is not None:
            return at_once
    output, *inputs = (_as_it_was(t, inputs[0]) for t in (output, *inputs))
    _check_sizes(_CHANGED, call.sizes, problem, inputs, (output, None, None), gradients)
    x, h_0, c_0, *weights = map(address, inputs)
    made = [_new(t, t.shape) if want and t is not None else None for t, want in zip(inputs, wanted, strict=True)]
    if call.segments is not None:  # not all of x, h_0 and c_0 is read
        if made[0] is not None:
            problem.clear(made[0].data_ptr(), call.sizes.I)
        for d in made[1:3]:
            if d is not None:
                d.zero_()
    doutput, dh_n, dc_n = map(address, gradients)
    dx, dh_0, dc_0, *dweights = map(address, made)
    _engine.backward(
        problem,
        x,
        h_0,
        c_0,
        addresses(call.sizes, weights),
        [mask.data_ptr() for mask in masks],
        address(output),
        saved,
        doutput,
        dh_n,
        dc_n,
        dx,
        dh_0,
        dc_0,
        addresses(call.sizes, dweights),
        torch.get_num_threads(),
        [address(d) for d in dsteps],
        [address(d) for d in dhidden],
    )
    return made


def _check_sizes(
    otherwise: str,
    sizes: Sizes,
    problem: _engine.Problem,
    inputs: Sequence[Tensor | None],
    *results: Sequence[Tensor | None],
) -> None:
    """RuntimeError: an array is not of the size that the engine will read. results: of output, h_n and c_n, or None."""
    places, states = problem.places, problem.states
    of_results = ((places, sizes.D * sizes.out), (states, sizes.out), (states, sizes.H))
    of_inputs = ((places, sizes.I), *of_results[1:], *sizes.shapes)
    for tensors, shapes in ((inputs, of_inputs), *((three, of_results) for three in results)):
        for t, shape in zip(tensors, shapes, strict=True):
            if t is not None and (t.numel() != math.prod(shape) or t.shape[-1:] != shape[-1:]):
                raise RuntimeError(
                    f"{otherwise}: expected (.., {shape[-1]}) of {math.prod(shape)}, got {list(t.shape)}"
                )


_OTHER_SIZES = "a tensor is not of the size that the call has"
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


def differentiate(
    call: Call,
    inputs: Sequence[Tensor | None],
    masks: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[bool],
    compute: Callable[..., Sequence[Tensor]] = composite.lstm,
) -> list[Tensor | None]:
    """`backward`, by computing the layer again in plain tensor operations: itself differentiable, and blind to
    addresses. compute: `composite.lstm`, or what returns further results and has `gradients` of them.
    """
    route.fall_back("gradients of gradients, and batched gradients, need plain tensor operations")
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Each input by another name: where one was computed from another, its gradient must not flow through both.
        inputs = [None if t is None else t.view_as(t) for t in inputs]
        wide = [t.float() if t is not None and t.dtype in route.HALF else t for t in inputs]
        x, h_0, c_0, *weights = wide
        assert x is not None
        if call.segments is not None:
            x, h_0, c_0, batch_sizes = call.segments.pack(x, h_0, c_0)
            call = call._replace(batch_sizes=batch_sizes)
        outputs = compute(
            call.sizes,
            *full(call, x, h_0, c_0),
            [w for w in weights if w is not None],
            [mask.to(x.dtype) for mask in masks],
            call.batch_sizes,
        )
        if call.segments is not None:
            outputs = call.segments.unpack(*outputs)
        known = [(y.reshape(d.shape).to(d.dtype), d) for y, d in zip(outputs, gradients, strict=True) if d is not None]
        asked = [t for t, want in zip(inputs, wanted, strict=True) if want and t is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in known], asked, [d for _, d in known], create_graph=create_graph, allow_unused=True
            )
        )
    return [next(found) if want and t is not None else None for t, want in zip(inputs, wanted, strict=True)]


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


def readable(tensor: Tensor | None) -> bool:
    """Whether memory holds the tensor's numbers: no transform's wrapper, no lazy negation, no zero without storage."""
    return tensor is None or _kind(tensor) in _READABLE


_SECOND_TIME = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
    "Specify retain_graph=True if you need to backward through the graph a second time."
)


class Lstm(torch.autograd.Function):
    """The op with gradients. In the ctx style: with `setup_context` it would cost 50 us instead of 14."""

    @staticmethod
    def forward(ctx: Any, call: Call, masks: int, x: Tensor, *tensors: Any) -> Any:
        """tensors: h_0, c_0, then so many masks, then the weights."""
        h_0, c_0, *rest = tensors
        problem = problem_of(call, x)
        workspace = _engine.Workspace(problem.saved_bytes)
        made = forward(call, problem, x, h_0, c_0, rest[masks:], rest[:masks], workspace.address)
        keep(ctx, call, masks, problem, workspace, made[0], x, tensors)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return turn_back(ctx, gradients, composite.lstm)


def keep(
    ctx: Any,
    call: Call,
    masks: int,
    problem: _engine.Problem,
    workspace: _engine.Workspace,
    output: Tensor,
    x: Tensor,
    tensors: Sequence[Any],
) -> None:
    """What `turn_back` will need of a forward pass. tensors: h_0, c_0, then so many masks, then the weights."""
    ctx.set_materialize_grads(False)
    # A rounded output is not read again: its float32 numbers are in the workspace. Nor is a cell's: it may be changed in place.
    read_again = x.dtype not in route.HALF and not call.cell
    ctx.save_for_backward(output if read_again else None, x, *tensors)
    ctx.call, ctx.masks, ctx.problem, ctx.workspace = call, masks, problem, workspace


def turn_back(ctx: Any, gradients: Sequence[Any], compute: Callable[..., Sequence[Tensor]]) -> Any:
    """The gradients of all that forward was given. gradients: of output, h_n, c_n, and of what `_engine.trace` reads, in its
    order, where forward returned it. compute: as `differentiate` takes it.
    """
    output, x, h_0, c_0, *rest = ctx.saved_tensors
    masks, inputs = rest[: ctx.masks], [x, h_0, c_0, *rest[ctx.masks :]]
    needs = ctx.needs_input_grad[2:]
    wanted = [*needs[:3], *needs[3 + ctx.masks :]]
    # A lazy negation is no reason to leave the engine.
    gradients = tuple(d if readable(d) else d.resolve_neg() for d in gradients)
    if torch.is_grad_enabled() or not all(map(readable, gradients)):
        made = differentiate(ctx.call, inputs, masks, gradients, wanted, compute)
    else:
        # Held while it is read: of two threads in one graph, the first to be done gives it back.
        workspace, steps = ctx.workspace, 3 + 5 * ctx.call.sizes.cells
        if workspace is None:
            raise RuntimeError(_SECOND_TIME)
        ends, dsteps, dhidden = gradients[:3], gradients[3:steps], gradients[steps:]
        made = backward(ctx.call, ctx.problem, inputs, masks, output, workspace.address, ends, wanted, dsteps, dhidden)
        if not torch._C._autograd._get_current_graph_task_keep_graph():
            ctx.workspace = None  # back to the pool now: the graph may outlive the next forward
    return None, None, *made[:3], *[None] * ctx.masks, *made[3:]
