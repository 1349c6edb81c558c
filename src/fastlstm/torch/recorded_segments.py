"""`recorded.lstm` for lengths, resets and jagged tensors: an operator that makes the segments when it runs.

How many there are, and of how many steps, is data: outside the op no shape may depend on it. So x and output stand as the
caller has them, masks are drawn for every place, and what `backward` will need has room for a step at each.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import autograd, recorded, route
from fastlstm.torch.call import Call, Ragged, full_states, jagged, packed_by, segments_of
from fastlstm.torch.segments import Segments
from fastlstm.weights import Sizes

# x (places, I); h_0 (layers * D, N, P or H); c_0 (layers * D, N, H); weights as in parameters(); masks (T, N, ..) or, with
# offsets, (places, ..); the fields of `Ragged`; T and N of the call; the six `Sizes`.
_INPUTS = (
    "Tensor x, Tensor h_0, Tensor c_0, Tensor[] weights, Tensor[]? masks, "
    "Tensor? lengths, Tensor? reset, Tensor? offsets, bool batch_first, SymInt T, SymInt N, int[] sizes"
)

_GRADIENTS = "Tensor? doutput, Tensor? dh_n, Tensor? dc_n"

Result = tuple[Tensor, Tensor, Tensor]


def run(
    call: Call,
    ragged: Ragged,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    masks: list[Tensor],
    grad: bool,
) -> Result:
    """output (places, ..), h_n, c_n of a call that is recorded. x: (places, I); h_0, c_0: as `Call` says, or None."""
    sizes = call.sizes
    h_0, c_0 = full_states(call, x, h_0, c_0)
    dtype = route.NATIVE[x.dtype]
    per_row = recorded.saved_reals(sizes.I, sizes.H, sizes.P, sizes.layers, sizes.D, dtype) if grad else 0
    output, h_n, c_n, _ = lstm(x, h_0, c_0, weights, masks, *ragged, call.T, call.N, sizes.numbers, per_row)
    return output, h_n, c_n


def _packed(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    masks: list[Tensor],
    ragged: Ragged,
    T: int,
    N: int,
    numbers: list[int],
) -> tuple[Call, Segments, list[Tensor]]:
    """The packed batch, and the masks of its rows. RuntimeError, ValueError: what a graph was given does not fit."""
    I, H, P, layers, D, bias = numbers
    sizes = Sizes(I, H, P, layers, D, bool(bias))
    call = Call(sizes, T, N, (sizes.cells, N))
    places = x.shape[0] if ragged.offsets is not None else T * N
    features = sizes.D * sizes.out
    mask_shape = (places, features) if ragged.offsets is not None else (T, N, features)
    expected = [(places, sizes.I), (sizes.cells, N, sizes.out), (sizes.cells, N, sizes.H), *sizes.shapes]
    expected += [mask_shape] * (sizes.layers - 1 if masks else 0)
    given = [x, h_0, c_0, *weights, *masks]
    if [tuple(t.shape) for t in given] != expected:
        raise RuntimeError(f"expected tensors of shapes {expected}, got {[list(t.shape) for t in given]}")
    recorded.check_dtypes(x, given)
    of_ragged: list[tuple[Tensor | None, tuple[int, ...], torch.dtype]]
    if ragged.offsets is not None:
        dtype = ragged.offsets.dtype
        of_ragged = [(ragged.offsets, (N + 1,), dtype), (ragged.lengths, (N,), dtype)]
    else:
        of_ragged = [(ragged.lengths, (N,), torch.int64), (ragged.reset, (T, N), torch.bool)]
    for t, shape, dtype in of_ragged:
        if t is not None and (t.shape != shape or t.dtype is not dtype or not t.is_cpu):
            raise RuntimeError(
                f"expected lengths, resets or offsets of shape {shape}, {dtype}, on the CPU, got {list(t.shape)}, {t.dtype}"
            )
    if ragged.offsets is not None:
        call = jagged(call, ragged.offsets, ragged.lengths, places)
    else:
        made = segments_of(call, ragged.lengths, ragged.reset)
        dropout = 1.0 if masks else 0.0
        call = packed_by(made, call, ragged.lengths, batch_first=ragged.batch_first, dropout=dropout)
    assert call.segments is not None
    if masks:
        rows = call.segments.rows(x.device) if call.drawn is None else call.drawn[0]
        masks = [mask.reshape(-1, features).index_select(0, rows) for mask in masks]
    return call, call.segments, masks


@torch.library.custom_op(
    "fastlstm::segments",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, int per_row) -> (Tensor, Tensor, Tensor, Tensor)",
)
def lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    masks: list[Tensor] | None,
    lengths: Tensor | None,
    reset: Tensor | None,
    offsets: Tensor | None,
    batch_first: bool,
    T: int,
    N: int,
    sizes: list[int],
    per_row: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """output, h_n, c_n, and what backward will need: `per_row` reals a place, or none."""
    ragged = Ragged(lengths, reset, offsets, batch_first)
    call, segments, masks = _packed(x, h_0, c_0, weights, masks or [], ragged, T, N, sizes)
    x, h_0, c_0 = x.contiguous(), h_0.contiguous(), c_0.contiguous()
    problem = autograd.problem_of(call, x)
    saved = recorded.room(x, per_row * x.shape[0])
    if per_row:
        recorded.check_saved(problem, x, saved)
    at = saved.data_ptr() if per_row else 0
    output, h_n, c_n = autograd.forward(call, problem, x, h_0, c_0, [w.contiguous() for w in weights], masks, at)
    return output, segments.or_initial(h_0, h_n), segments.or_initial(c_0, c_n), saved


@lstm.register_fake
def shapes(x: Tensor, h_0: Tensor, c_0: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    recorded.stay_whole()
    sizes, per_row = rest[-2:]
    _, H, P, _, D, _ = sizes
    output, saved = x.new_empty((x.shape[0], D * (P or H))), recorded.room(x, per_row * x.shape[0])
    return output, x.new_empty(h_0.shape), x.new_empty(c_0.shape), saved


@torch.library.custom_op(
    "fastlstm::segments_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, Tensor saved, {_GRADIENTS}, bool[] wanted) -> Tensor[]",
)
def lstm_backward(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    masks: list[Tensor] | None,
    lengths: Tensor | None,
    reset: Tensor | None,
    offsets: Tensor | None,
    batch_first: bool,
    T: int,
    N: int,
    sizes: list[int],
    saved: Tensor,
    doutput: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    wanted: list[bool],
) -> list[Tensor]:
    """The gradients of x, h_0, c_0 and the weights: those that are wanted, and only those."""
    ragged = Ragged(lengths, reset, offsets, batch_first)
    call, segments, masks = _packed(x, h_0, c_0, weights, masks or [], ragged, T, N, sizes)
    inputs = [t.contiguous() for t in (x, h_0, c_0, *weights)]
    problem = autograd.problem_of(call, x)
    recorded.check_saved(problem, x, saved)
    saved = saved.contiguous()
    gradients = (doutput, dh_n, dc_n)
    made = autograd.backward(call, problem, inputs, masks, saved.data_ptr(), gradients, wanted)
    if segments.empty is not None:  # such a row ends in the state it began with
        for d, end in zip(made[1:3], gradients[1:], strict=True):
            if d is not None and end is not None:
                d += torch.where(segments.empty.reshape(-1, 1), end, 0)
    return [d for d in made if d is not None]


@lstm_backward.register_fake
def _(x: Tensor, h_0: Tensor, c_0: Tensor, weights: list[Tensor], *rest: Any) -> list[Tensor]:
    return [t.new_empty(t.shape) for t, want in zip((x, h_0, c_0, *weights), rest[-1], strict=True) if want]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, h_0, c_0, weights, masks, *rest = inputs
    masks = masks or []
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[3])
    ctx.save_for_backward(output[3], x, h_0, c_0, *rest[:3], *weights, *masks)
    ctx.rest, ctx.weights = rest[3:-1], len(weights)


def _backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError("a recorded call with lengths, resets or a nested tensor has no gradients of its gradients")
    saved, x, h_0, c_0, lengths, reset, offsets, *tensors = ctx.saved_tensors
    weights, masks = tensors[: ctx.weights], tensors[ctx.weights :]
    needs: Sequence[Any] = ctx.needs_input_grad
    wanted = [*needs[:3], *needs[3]]
    given = (x, h_0, c_0, weights, masks, lengths, reset, offsets, *ctx.rest)
    found = iter(lstm_backward(*given, saved, *gradients[:3], wanted))
    made = [next(found) if want else None for want in wanted]
    return *made[:3], made[3:], [None] * len(masks), *[None] * 8


lstm.register_autograd(_backward, setup_context=_setup_context)
