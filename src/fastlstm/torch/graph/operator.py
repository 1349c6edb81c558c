"""The engine as a registered operator, for whatever records a call: torch.compile, export, a dispatch mode, saved-tensor hooks.

With gradients it costs 53 us a call against 14, so it runs only where it must. What `backward` will need is a plain
tensor here. A recorded graph runs again on other tensors, past every check of the module: so the operator checks what it is
given. How many segments a ragged batch has, and of how many steps, is data: outside the operator no shape depends on it.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Dense, Packed, Ragged, Rows, State, Three
from fastlstm.torch.dtypes import HALF, NAMES
from fastlstm.torch.graph import function
from fastlstm.torch.graph.derivatives import differentiate
from fastlstm.torch.memory import as_read
from fastlstm.weights import Sizes

# x, h_0, c_0 in the `full` form of `batch`; weights as in parameters(); masks as `masks_of` draws them; the six `Sizes`.
_INPUTS = (
    "Tensor x, Tensor h_0, Tensor c_0, Tensor[] weights, Tensor[]? masks, "
    "bool batch_first, Tensor? lengths, Tensor? reset, Tensor? batch_sizes, Tensor? offsets, int[] sizes"
)
_GRADIENTS = "Tensor saved, Tensor? doutput, Tensor? dh_n, Tensor? dc_n, bool[] wanted"


@lru_cache
def _sizes(I: int, H: int, P: int, layers: int, D: int, bias: int) -> Sizes:
    return Sizes(I, H, P, layers, D, bool(bias))


def sizes_of(numbers: Sequence[int]) -> Sizes:
    """From the operator's argument."""
    return _sizes(*numbers)


def batch_of(x: Tensor, h_0: Tensor, rows: Rows) -> Batch:
    """The batch of a recorded call."""
    N, state = h_0.shape[1], h_0.shape[:2]
    if rows.batch_sizes is not None:
        return Packed(rows.batch_sizes.shape[0], N, state, rows.batch_sizes)
    T = 1 if rows.offsets is not None else x.shape[1 if rows.batch_first else 0]
    if rows.lengths is None and rows.reset is None and rows.offsets is None:
        return Dense(T, N, state)
    return Ragged(T, N, state, rows.lengths, rows.reset, rows.offsets, rows.batch_first)


def saved_reals(I: int, H: int, P: int, layers: int, D: int, bias: int, *, dtype: str) -> int:
    """How many reals a row leaves for `backward`: by the engine's contract, they are linear in the rows."""
    return _sizes(I, H, P, layers, D, bias).layer.saved_reals(dtype)


def multiplies_bfloat16(I: int, H: int, P: int, layers: int, D: int, bias: int) -> bool:
    """Whether a bfloat16 call of several steps is faster than a float32 one."""
    return _sizes(I, H, P, layers, D, bias).layer.multiplies_bfloat16()


# What torch.compiler.assume_constant_result does, without the second it takes to import the compiler. Constants in the
# graph, and so in the key of the compiler's cache on disk: another instruction set or version saves other amounts.
saved_reals._dynamo_marked_constant = True  # type: ignore[attr-defined]
multiplies_bfloat16._dynamo_marked_constant = True  # type: ignore[attr-defined]


def run(
    sizes: Sizes, batch: Batch, x: Tensor, h_0: State, c_0: State, weights: list[Tensor], masks: list[Tensor]
) -> Three:
    """output, h_n, c_n of a call that something records. The arguments are those of `runners.native.run`."""
    grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, h_0, c_0, *weights) if t is not None)
    whole, x3, h_0, c_0 = batches.full(batch, sizes, x, h_0, c_0)
    per_row = saved_reals(*sizes.numbers, dtype=NAMES[x.dtype]) if grad else 0
    output, h_n, c_n, _ = lstm(x3, h_0, c_0, weights, masks, *whole.rows, sizes.numbers, per_row)
    return batches.like_the_caller(batch, x, (output, h_n, c_n))


def room(x: Tensor, reals: Any) -> Tensor:
    """For so many reals, which are float32 where x has 16 bits."""
    return x.new_empty(reals, dtype=torch.float32 if x.dtype in HALF else x.dtype)


def _rows(x: Tensor) -> Any:
    rows = x.shape[0]
    return rows * x.shape[1] if x.dim() == 3 else rows


def check_shapes(sizes: Sizes, batch: Batch, x: Tensor, h_0: Tensor, c_0: Tensor) -> None:
    """Raises RuntimeError unless x, h_0 and c_0 fit each other and the sizes."""
    N = batch.N
    rows = batch.rows
    if rows.batch_sizes is not None or rows.offsets is not None:
        letters, lead = "(sum of lengths, H_in)", tuple(x.shape[:1])
    elif rows.batch_first:
        letters, lead = "(N, L, H_in)", (N, batch.T)
    else:
        letters, lead = "(L, N, H_in)", (batch.T, N)
    for name, t, expected in (
        (f"input {letters}", x, (*lead, sizes.I)),
        ("h_0 (D*num_layers, N, H_out)", h_0, (sizes.chains, N, sizes.out)),
        ("c_0 (D*num_layers, N, H_cell)", c_0, (sizes.chains, N, sizes.H)),
    ):
        if t.shape != expected:
            raise RuntimeError(f"expected {name} = {expected}, got {list(t.shape)}")
    if batch.T < 1 and rows.lengths is None:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")


def _check(
    sizes: Sizes, batch: Batch, x: Tensor, h_0: Tensor, c_0: Tensor, weights: list[Tensor], masks: list[Tensor]
) -> None:
    check_shapes(sizes, batch, x, h_0, c_0)
    rows = x.shape[:-1] if not isinstance(batch, Ragged) or batch.offsets is not None else (batch.T, batch.N)
    expected = [*sizes.shapes, *[(*rows, sizes.D * sizes.out)] * (sizes.layers - 1 if masks else 0)]
    found = [*weights, *masks]
    if [tuple(t.shape) for t in found] != expected:
        raise RuntimeError(f"expected weights and masks of shapes {expected}, got {[list(t.shape) for t in found]}")
    if x.dtype not in NAMES or any(t.dtype is not x.dtype for t in (h_0, c_0, *found)):
        raise RuntimeError(
            f"expected tensors of one dtype, float32, float64, bfloat16 or float16, got {x.dtype} and others"
        )
    if not isinstance(batch, Ragged):
        return
    of_rows: list[tuple[Tensor | None, tuple[int, ...], torch.dtype]] = [(batch.lengths, (batch.N,), torch.int64)]
    if batch.offsets is not None:
        of_rows.append((batch.offsets, (batch.N + 1,), torch.int64))
    else:
        of_rows.append((batch.reset, tuple(x.shape[:2]), torch.bool))
    for t, shape, dtype in of_rows:
        if t is not None and (t.shape != shape or t.dtype is not dtype or not t.is_cpu):
            raise RuntimeError(
                f"expected lengths, resets or offsets of shape {shape}, {dtype}, on the CPU, got {list(t.shape)}, {t.dtype}"
            )


_OTHER_VERSION = "this graph was recorded for another instruction set or version of the engine"


@torch.library.custom_op(
    "fastlstm::lstm",
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
    batch_first: bool,
    lengths: Tensor | None,
    reset: Tensor | None,
    batch_sizes: Tensor | None,
    offsets: Tensor | None,
    sizes: list[int],
    per_row: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """output, h_n, c_n, and what backward will need: `per_row` reals a row, or none."""
    known, masks = sizes_of(sizes), masks or []
    batch = batch_of(x, h_0, Rows(batch_first, lengths, reset, batch_sizes, offsets))
    _check(known, batch, x, h_0, c_0, weights, masks)
    if per_row and per_row < known.layer.saved_reals(NAMES[x.dtype]):
        raise RuntimeError(_OTHER_VERSION)
    saved = room(x, per_row * _rows(x))
    keep = saved if per_row else False
    output, (h_n, c_n), *_ = function.forward(known, batch, batch.rows, x, h_0, c_0, weights, masks, keep)
    return output, h_n, c_n, saved


@lstm.register_fake
def shapes(x: Tensor, h_0: Tensor, c_0: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    context.keep_whole(("fastlstm::lstm",))
    *_, sizes, per_row = rest
    known = sizes_of(sizes)
    output = x.new_empty((*x.shape[:-1], known.D * known.out))
    return output, x.new_empty(h_0.shape), x.new_empty(c_0.shape), room(x, per_row * _rows(x))


@torch.library.custom_op(
    "fastlstm::lstm_backward", mutates_args=(), device_types="cpu", schema=f"({_INPUTS}, {_GRADIENTS}) -> Tensor[]"
)
def lstm_backward(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    masks: list[Tensor] | None,
    batch_first: bool,
    lengths: Tensor | None,
    reset: Tensor | None,
    batch_sizes: Tensor | None,
    offsets: Tensor | None,
    sizes: list[int],
    saved: Tensor,
    doutput: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    wanted: list[bool],
) -> list[Tensor]:
    """The gradients of x, h_0, c_0 and the weights: those that are wanted, and only those."""
    known, masks = sizes_of(sizes), [as_read(mask) for mask in masks or []]
    batch = batch_of(x, h_0, Rows(batch_first, lengths, reset, batch_sizes, offsets))
    _check(known, batch, x, h_0, c_0, weights, masks)
    inputs = [as_read(t) for t in (x, h_0, c_0, *weights)]
    if saved.dtype is not room(x, 0).dtype:
        raise RuntimeError(_OTHER_VERSION)
    rows = function.in_order(batch.rows)
    kept = _engine.kept(known.layer, inputs[0], as_read(saved), *rows)
    if kept is None:
        batches.refuse_rows(batch, x)
        raise RuntimeError(_OTHER_VERSION)
    found = function.backward(kept, inputs, masks, (doutput, dh_n, dc_n), wanted)
    return [d for d in found if d is not None]


@lstm_backward.register_fake
def _(x: Tensor, h_0: Tensor, c_0: Tensor, weights: list[Tensor], *rest: Any) -> list[Tensor]:
    return [t.new_empty(t.shape) for t, want in zip((x, h_0, c_0, *weights), rest[-1], strict=True) if want]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, h_0, c_0, weights, masks, batch_first, *rows, sizes, _ = inputs
    masks = masks or []
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[3])
    ctx.save_for_backward(output[3], *rows, x, h_0, c_0, *weights, *masks)
    ctx.sizes, ctx.batch_first, ctx.weights = sizes, batch_first, len(weights)


def _backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    saved, lengths, reset, batch_sizes, offsets, x, h_0, c_0, *rest = ctx.saved_tensors
    rows = Rows(ctx.batch_first, lengths, reset, batch_sizes, offsets)
    weights, masks = rest[: ctx.weights], rest[ctx.weights :]
    needs = ctx.needs_input_grad
    sizes, batch = sizes_of(ctx.sizes), batch_of(x, h_0, rows)
    T = 0 if isinstance(batch, Ragged) else batch.T
    wanted = function.reached(sizes, T, [*needs[:3], *needs[3]], gradients)
    if torch.is_grad_enabled():
        found = batches.rows_of(batch, sizes, x)
        results = differentiate(sizes, found, [x, h_0, c_0, *weights], masks, gradients[:3], wanted)
    else:
        some = iter(lstm_backward(x, h_0, c_0, weights, masks, *rows, ctx.sizes, saved, *gradients[:3], wanted))
        results = [next(some) if want else None for want in wanted]
    return *results[:3], results[3:], [None] * len(masks), *[None] * 7


lstm.register_autograd(_backward, setup_context=_setup_context)
