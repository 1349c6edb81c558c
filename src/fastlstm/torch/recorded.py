"""The same op where something records it (torch.compile, export, a dispatch mode, saved-tensor hooks): a custom
operator.

With gradients it costs 53 us a call against 14, so it runs only where it must. What `backward` will need is a plain
tensor here. A recorded graph runs again on other tensors, past every check of the module: so the op checks what it is
given.
"""

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import autograd, route
from fastlstm.torch.call import Call
from fastlstm.weights import Sizes

# x (T, N, I) or (rows, I); h_0 (layers * D, N, P or H); c_0 (layers * D, N, H); weights as in parameters(); the six
# `Sizes`.
_INPUTS = "Tensor x, Tensor h_0, Tensor c_0, Tensor[] weights, Tensor[]? masks, Tensor? batch_sizes, int[] sizes"

_GRADIENTS = "Tensor? doutput, Tensor? dh_n, Tensor? dc_n"


@lru_cache
def _sizes(I: int, H: int, P: int, layers: int, D: int, bias: int) -> Sizes:
    return Sizes(I, H, P, layers, D, bool(bias))


def call_of(sizes: list[int], x: Tensor, h_0: Tensor, batch_sizes: Tensor | None) -> Call:
    """A recorded call from its tensors: x (T, N, I) or (rows, I), h_0 (layers * D, N, P or H)."""
    T = x.shape[0] if batch_sizes is None else batch_sizes.shape[0]
    return Call(_sizes(*sizes), T, h_0.shape[1], h_0.shape[:2], batch_sizes)


def saved_reals(I: int, H: int, P: int, layers: int, D: int, dtype: str) -> int:
    """How many reals a row leaves for `backward`: by the engine's contract, `saved` is linear in the rows."""
    return _engine.Problem(1, 1, I, H, P, layers, D, dtype).saved_reals


def multiplies_bfloat16(I: int, H: int, P: int, layers: int, D: int) -> bool:
    """Whether a bfloat16 call of several steps is faster than a float32 one."""
    return _engine.Problem(2, 1, I, H, P, layers, D, "bfloat16").multiplies_bfloat16


# What torch.compiler.assume_constant_result does, without the second it takes to import the compiler. Constants in the
# graph, and so in the key of the compiler's cache on disk: another instruction set or version saves other amounts.
saved_reals._dynamo_marked_constant = True  # type: ignore[attr-defined]
multiplies_bfloat16._dynamo_marked_constant = True  # type: ignore[attr-defined]


def room(x: Tensor, reals: int) -> Tensor:
    """For so many reals, which are float32 where x has 16 bits."""
    return x.new_empty(reals, dtype=torch.float32 if x.dtype in route.HALF else x.dtype)


def check_dtypes(x: Tensor, others: Sequence[Tensor]) -> None:
    """Raises RuntimeError unless all are of one dtype that the engine has."""
    if x.dtype not in route.NATIVE or any(t.dtype is not x.dtype for t in others):
        raise RuntimeError(
            f"expected tensors of one dtype, float32, float64, bfloat16 or float16, got {x.dtype} and others"
        )


def check_shapes(call: Call, x: Tensor, h_0: Tensor, c_0: Tensor) -> None:
    """Raises RuntimeError unless x, h_0 and c_0 fit each other and the sizes."""
    sizes, N = call.sizes, call.N
    letters = "(L, N, H_in)" if call.batch_sizes is None else "(sum of lengths, H_in)"
    lead = (call.T, N) if call.batch_sizes is None else tuple(x.shape[:1])
    for name, t, expected in (
        (f"input {letters}", x, (*lead, sizes.I)),
        ("h_0 (D*num_layers, N, H_out)", h_0, (sizes.cells, N, sizes.out)),
        ("c_0 (D*num_layers, N, H_cell)", c_0, (sizes.cells, N, sizes.H)),
    ):
        if t.shape != expected:
            raise RuntimeError(f"expected {name} = {expected}, got {list(t.shape)}")
    if call.T < 1:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")


def _check(call: Call, x: Tensor, h_0: Tensor, c_0: Tensor, weights: list[Tensor], masks: list[Tensor]) -> None:
    check_shapes(call, x, h_0, c_0)
    sizes = call.sizes
    expected = [*sizes.shapes, *[(*x.shape[:-1], sizes.D * sizes.out)] * (sizes.layers - 1 if masks else 0)]
    given = [*weights, *masks]
    if [tuple(t.shape) for t in given] != expected:
        raise RuntimeError(f"expected weights and masks of shapes {expected}, got {[list(t.shape) for t in given]}")
    check_dtypes(x, [h_0, c_0, *given])


def check_saved(problem: _engine.Problem, x: Tensor, saved: Tensor) -> None:
    if saved.numel() < problem.saved_reals or saved.dtype is not room(x, 0).dtype:
        raise RuntimeError("this graph was recorded for another instruction set or version of the engine")


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
    batch_sizes: Tensor | None,
    sizes: list[int],
    per_row: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """output, h_n, c_n, and what backward will need: `per_row` reals a row, or none."""
    masks, call = masks or [], call_of(sizes, x, h_0, batch_sizes)
    _check(call, x, h_0, c_0, weights, masks)
    x, h_0, c_0 = x.contiguous(), h_0.contiguous(), c_0.contiguous()
    weights, masks = [w.contiguous() for w in weights], [m.contiguous() for m in masks]
    problem = autograd.problem_of(call, x)
    saved = room(x, per_row * problem.rows)
    if per_row:
        check_saved(problem, x, saved)
    output, h_n, c_n = autograd.forward(call, problem, x, h_0, c_0, weights, masks, saved.data_ptr() if per_row else 0)
    return output, h_n, c_n, saved


def stay_whole() -> None:
    """Tells Inductor that its programs call these operators as they are. Where `CI` is in the environment it refuses to, for the
    decompositions that only torch.onnx.export is meant to find (lowering.py). It takes a second to import: told when it asks for
    shapes, which it does of every operator that it has not met.
    """
    inductor = sys.modules.get("torch._inductor.lowering")
    if inductor is not None:
        inductor.FALLBACK_ALLOW_LIST.update(("fastlstm::lstm", "fastlstm::segments"))


@lstm.register_fake
def shapes(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    masks: list[Tensor] | None,
    batch_sizes: Tensor | None,
    sizes: list[int],
    per_row: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    stay_whole()
    call = call_of(sizes, x, h_0, batch_sizes)
    output = x.new_empty((*x.shape[:-1], call.sizes.D * call.sizes.out))
    saved = room(x, per_row * (call.T * call.N if batch_sizes is None else x.shape[0]))
    return output, x.new_empty(h_0.shape), x.new_empty(c_0.shape), saved


@torch.library.custom_op(
    "fastlstm::lstm_backward",
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
    batch_sizes: Tensor | None,
    sizes: list[int],
    saved: Tensor,
    doutput: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    wanted: list[bool],
) -> list[Tensor]:
    """The gradients of x, h_0, c_0 and the weights: those that are wanted, and only those."""
    masks, call = masks or [], call_of(sizes, x, h_0, batch_sizes)
    _check(call, x, h_0, c_0, weights, masks)
    inputs = [t.contiguous() for t in (x, h_0, c_0, *weights)]
    masks = [m.contiguous() for m in masks]
    problem = autograd.problem_of(call, x)
    check_saved(problem, x, saved)
    saved = saved.contiguous()
    made = autograd.backward(call, problem, inputs, masks, saved.data_ptr(), (doutput, dh_n, dc_n), wanted)
    return [d for d in made if d is not None]


@lstm_backward.register_fake
def _(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    masks: list[Tensor] | None,
    batch_sizes: Tensor | None,
    sizes: list[int],
    saved: Tensor,
    doutput: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    wanted: list[bool],
) -> list[Tensor]:
    return [t.new_empty(t.shape) for t, want in zip((x, h_0, c_0, *weights), wanted, strict=True) if want]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, h_0, c_0, weights, masks, batch_sizes, sizes, _ = inputs
    masks = masks or []
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[3])
    ctx.save_for_backward(output[3], batch_sizes, x, h_0, c_0, *weights, *masks)
    ctx.sizes, ctx.weights = sizes, len(weights)


def _backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    saved, batch_sizes, x, h_0, c_0, *rest = ctx.saved_tensors
    weights, masks = rest[: ctx.weights], rest[ctx.weights :]
    needs = ctx.needs_input_grad
    wanted = [*needs[:3], *needs[3]]
    if torch.is_grad_enabled():
        call = call_of(ctx.sizes, x, h_0, batch_sizes)
        made = autograd.differentiate(call, [x, h_0, c_0, *weights], masks, gradients[:3], wanted)
    else:
        found = iter(lstm_backward(x, h_0, c_0, weights, masks, batch_sizes, ctx.sizes, saved, *gradients[:3], wanted))
        made = [next(found) if want else None for want in wanted]
    return *made[:3], made[3:], [None] * len(masks), None, None, None


lstm.register_autograd(_backward, setup_context=_setup_context)
