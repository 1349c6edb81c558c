"""The engine as registered operators, three a cell, for whatever records a call: torch.compile, export, a dispatch mode,
saved-tensor hooks.

With gradients one costs 53 us a call against 14, so it runs only where it must. They are defined in torch's library, not by
its custom_op, whose wrappers take 16 us a call. What `backward` will need is a plain
tensor here. A recorded graph runs again on other tensors, past every check of the module: so the operator checks what it is
given. How many segments a ragged batch has, and of how many steps, is data: outside the operator no shape depends on it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.cells import CELLS, LSTM, Cell
from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Dense, Packed, Ragged, Results, Rows, States
from fastlstm.torch.dtypes import HALF, NAMES
from fastlstm.torch.graph import function
from fastlstm.torch.graph.derivatives import differentiate
from fastlstm.torch.memory import as_read
from fastlstm.weights import Sizes


@lru_cache
def sizes_of(I: int, H: int, P: int, layers: int, D: int, bias: int, cell: int = 0) -> Sizes:
    """From `Sizes.numbers`."""
    return Sizes(I, H, P, layers, D, bool(bias), cell=CELLS[cell])


class Call(NamedTuple):
    """The arguments of an operator with gradients: x and hx in the `full` form of the batch, hx of a dense one may be None;
    weights as in parameters(); masks as `masks_of` draws them; `Sizes.numbers`.
    """

    x: Tensor
    hx: States
    weights: list[Tensor]
    masks: list[Tensor]
    rows: Rows
    numbers: list[int]

    @staticmethod
    def schema(cell: Cell) -> str:
        states = ", ".join(f"Tensor? {state}_0" for state in cell.states)
        return (
            f"Tensor x, {states}, Tensor[] weights, Tensor[]? masks, "
            "bool batch_first, Tensor? lengths, Tensor? reset, Tensor? batch_sizes, Tensor? offsets, int[] sizes"
        )

    @staticmethod
    def read(cell: Cell, arguments: Sequence[Any]) -> tuple["Call", Sequence[Any]]:
        """And what follows of the arguments."""
        x, *rest = arguments
        states = len(cell.states)
        weights, masks, *rows, numbers = rest[states : states + 8]
        return Call(x, tuple(rest[:states]), weights, masks or [], Rows(*rows), numbers), rest[states + 8 :]

    @property
    def sizes(self) -> Sizes:
        return sizes_of(*self.numbers)

    @property
    def batch(self) -> Batch:
        return batch_of(self.x, self.hx[0], self.rows)

    @property
    def states(self) -> Results:
        """hx, with zeros where there is none."""
        return batches.states_of(self.sizes, self.batch.N, self.x, self.hx)

    @property
    def inputs(self) -> list[Tensor | None]:
        """What has gradients."""
        return [self.x, *self.hx, *self.weights]


def batch_of(x: Tensor, h_0: Tensor | None, rows: Rows) -> Batch:
    """The batch of a recorded call. Without h_0 it is dense, and nobody reads its `state`."""
    if h_0 is None:
        return Dense(x.shape[0], x.shape[1], ())
    N, state = h_0.shape[1], h_0.shape[:2]
    if rows.batch_sizes is not None:
        return Packed(rows.batch_sizes.shape[0], N, state, rows.batch_sizes)
    T = 1 if rows.offsets is not None else x.shape[1 if rows.batch_first else 0]
    if rows.lengths is None and rows.reset is None and rows.offsets is None:
        return Dense(T, N, state)
    return Ragged(T, N, state, rows.lengths, rows.reset, rows.offsets, rows.batch_first)


def saved_reals(*numbers: int, dtype: str) -> int:
    """How many reals a row leaves for `backward`: by the engine's contract, they are linear in the rows."""
    return sizes_of(*numbers).layer.saved_reals(dtype)


def multiplies_bfloat16(*numbers: int) -> bool:
    """Whether a bfloat16 call of several steps is faster than a float32 one."""
    return sizes_of(*numbers).layer.multiplies_bfloat16()


# What torch.compiler.assume_constant_result does, without the second it takes to import the compiler. Constants in the
# graph, and so in the key of the compiler's cache on disk: another instruction set or version saves other amounts.
saved_reals._dynamo_marked_constant = True  # type: ignore[attr-defined]
multiplies_bfloat16._dynamo_marked_constant = True  # type: ignore[attr-defined]


def run(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], masks: list[Tensor]) -> Results:
    """output, h_n, c_n of a call that something records. The arguments are those of `runners.native.run`."""
    grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *hx, *weights) if t is not None)
    whole, x3, states = batches.full(batch, sizes, x, hx)
    per_row = saved_reals(*sizes.numbers, dtype=NAMES[x.dtype]) if grad else 0
    forward = OPERATORS[sizes.cell.name].forward
    results = forward(x3, *states, weights, masks, *whole.rows, sizes.numbers, per_row)
    return batches.like_the_caller(batch, x, results[:-1])


def room(x: Tensor, reals: Any) -> Tensor:
    """For so many reals, which are float32 where x has 16 bits."""
    return x.new_empty(reals, dtype=torch.float32 if x.dtype in HALF else x.dtype)


def _rows(x: Tensor) -> Any:
    rows = x.shape[0]
    return rows * x.shape[1] if x.dim() == 3 else rows


def check_shapes(sizes: Sizes, batch: Batch, x: Tensor, hx: States) -> None:
    """Raises RuntimeError unless x, h_0 and c_0 fit each other and the sizes."""
    N = batch.N
    rows = batch.rows
    if rows.batch_sizes is not None or rows.offsets is not None:
        letters, lead = "(sum of lengths, H_in)", tuple(x.shape[:1])
    elif rows.batch_first:
        letters, lead = "(N, L, H_in)", (N, batch.T)
    else:
        letters, lead = "(L, N, H_in)", (batch.T, N)
    found: list[tuple[str, Tensor, tuple[Any, ...]]] = [(f"input {letters}", x, (*lead, sizes.I))]
    for state, t, features in zip(sizes.cell.states, hx, sizes.of_states, strict=True):
        width = "H_out" if state == "h" else "H_cell"
        if t is not None:
            found.append((f"{state}_0 (D*num_layers, N, {width})", t, (sizes.chains, N, features)))
    for name, t, expected in found:
        if t.shape != expected:
            raise RuntimeError(f"expected {name} = {expected}, got {list(t.shape)}")
    if batch.T < 1 and rows.lengths is None:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")


def _check(call: Call) -> None:
    sizes, batch, x = call.sizes, call.batch, call.x
    check_shapes(sizes, batch, x, call.hx)
    rows = x.shape[:-1] if not isinstance(batch, Ragged) or batch.offsets is not None else (batch.T, batch.N)
    expected = [*sizes.shapes, *[(*rows, sizes.D * sizes.out)] * (sizes.layers - 1 if call.masks else 0)]
    found = [*call.weights, *call.masks]
    if [tuple(t.shape) for t in found] != expected:
        raise RuntimeError(f"expected weights and masks of shapes {expected}, got {[list(t.shape) for t in found]}")
    if x.dtype not in NAMES or any(t is not None and t.dtype is not x.dtype for t in (*call.hx, *found)):
        raise RuntimeError(
            f"expected tensors of one dtype, float32, float64, bfloat16 or float16, got {x.dtype} and others"
        )
    check_rows(batch, x)


def check_rows(batch: Batch, x: Tensor) -> None:
    """Raises RuntimeError unless lengths, resets and offsets, where there are some, have shapes and dtypes that fit x."""
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


def _forward(cell: Cell, *arguments: Any) -> tuple[Tensor, ...]:
    """output, h_n, c_n, and what backward will need: `per_row` reals a row, or none."""
    call, (per_row,) = Call.read(cell, arguments)
    sizes, x, rows = call.sizes, call.x, call.rows
    saved = _engine.empty([per_row * _rows(x)], "float64" if x.dtype is torch.float64 else "float32")
    keep = saved if per_row else False
    threads = torch.get_num_threads()
    found = _engine.forward(sizes.layer, call.weights, x, function.or_none(call.hx), threads, *rows, call.masks, keep)
    if found is None:  # the engine has looked at all of it: what is amiss, or else once more with what it can read
        _check(call)
        if per_row and per_row < sizes.layer.saved_reals(NAMES[x.dtype]):
            raise RuntimeError(_OTHER_VERSION)
        found = function.forward(sizes, call.batch, rows, x, call.hx, call.weights, call.masks, keep)
    return *batches.results_of(found), saved


def shapes(cell: Cell, *arguments: Any) -> tuple[Tensor, ...]:
    """Tensors without numbers, of the shapes that the operator of such a call returns."""
    context.keep_whole(tuple(f"fastlstm::{name.lower()}" for name in OPERATORS))
    call, (per_row,) = Call.read(cell, arguments)
    sizes, x, N = call.sizes, call.x, call.batch.N
    output = x.new_empty((*x.shape[:-1], sizes.D * sizes.out))
    states = (x.new_empty((sizes.chains, N, features)) for features in sizes.of_states)
    return output, *states, room(x, per_row * _rows(x))


def _backward(cell: Cell, *arguments: Any) -> list[Tensor]:
    """The gradients of x, h_0, c_0 and the weights: those that are wanted, and only those."""
    call, (saved, *gradients, wanted) = Call.read(cell, arguments)
    x, rows, layer = call.x, call.rows, call.sizes.layer
    found = None
    kept = _engine.kept(layer, x, saved, *rows)
    if kept is not None:
        found = _engine.backward(kept, call.inputs, call.masks, gradients, wanted, torch.get_num_threads())
    if found is None:  # as in `_forward`
        call = call._replace(masks=[as_read(mask) for mask in call.masks])
        _check(call)
        inputs = [None if t is None else as_read(t) for t in call.inputs]
        if saved.dtype is not room(x, 0).dtype:
            raise RuntimeError(_OTHER_VERSION)
        kept = _engine.kept(layer, inputs[0], as_read(saved), *function.in_order(rows))
        if kept is None:
            batches.refuse_rows(call.batch, x)
            raise RuntimeError(_OTHER_VERSION)
        found = function.backward(kept, inputs, call.masks, gradients, wanted)
    return [d for d in found if d is not None]


def _shapes_of_gradients(cell: Cell, *arguments: Any) -> list[Tensor]:
    inputs, wanted = Call.read(cell, arguments)[0].inputs, arguments[-1]
    return [t.new_empty(t.shape) for t, want in zip(inputs, wanted, strict=True) if want and t is not None]


def _infer(cell: Cell, *arguments: Any) -> Results:
    """output, h_n, c_n of a dense call. x (T, N, I), or (N, T, I) with batch_first; h_0 and c_0 as in `Call`, or None."""
    states = 1 + len(cell.states)
    x, hx, (weights, batch_first, numbers) = arguments[0], arguments[1:states], arguments[states:]
    sizes, threads = sizes_of(*numbers), torch.get_num_threads()
    steps = x.transpose(0, 1).contiguous() if batch_first else x
    found = _engine.forward(sizes.layer, weights, steps, function.or_none(hx), threads, False, None, None)
    if found is None:  # as in `_forward`
        batch = Dense(steps.shape[0], steps.shape[1], (sizes.chains, steps.shape[1]))
        call = Call(steps, hx, weights, [], batch.rows, numbers)
        _check(call)
        found = function.forward(sizes, batch, batch.rows, steps, call.states, weights, [], False)
    output, *last = batches.results_of(found)
    return (output.transpose(0, 1) if batch_first else output), *last


def _shapes_of_inference(x: Tensor, *arguments: Any) -> Results:
    *_hx, _weights, batch_first, numbers = arguments
    context.keep_whole(tuple(f"fastlstm::{name.lower()}_inference" for name in OPERATORS))
    sizes = sizes_of(*numbers)
    N, T = x.shape[:2] if batch_first else reversed(x.shape[:2])
    output = x.new_empty((T, N, sizes.D * sizes.out))
    states = (x.new_empty((sizes.chains, N, features)) for features in sizes.of_states)
    return (output.transpose(0, 1) if batch_first else output), *states


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    call, _ = Call.read(ctx.cell, inputs)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[-1])
    first, *rows = call.rows
    ctx.save_for_backward(output[-1], *rows, call.x, *call.hx, *call.weights, *call.masks)
    ctx.numbers, ctx.batch_first, ctx.weights = call.numbers, first, len(call.weights)


def _differentiated(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    sizes = sizes_of(*ctx.numbers)
    states = len(sizes.of_states)
    saved, lengths, reset, batch_sizes, offsets, x, *rest = ctx.saved_tensors
    hx, weights, masks = tuple(rest[:states]), rest[states : states + ctx.weights], rest[states + ctx.weights :]
    rows = Rows(ctx.batch_first, lengths, reset, batch_sizes, offsets)
    needs, batch = ctx.needs_input_grad, batch_of(x, hx[0], rows)
    T = 0 if isinstance(batch, Ragged) else batch.T
    wanted = function.reached(sizes, T, [*needs[: 1 + states], *needs[1 + states]], gradients)
    if torch.is_grad_enabled():
        found = batches.rows_of(batch, sizes, x)
        results = differentiate(sizes, found, [x, *hx, *weights], masks, gradients[:-1], wanted)
    else:
        backward = OPERATORS[sizes.cell.name].backward
        some = iter(backward(x, *hx, weights, masks, *rows, ctx.numbers, saved, *gradients[:-1], wanted))
        results = [next(some) if want else None for want in wanted]
    return *results[: 1 + states], results[1 + states :], [None] * len(masks), *[None] * 7


class Operators(NamedTuple):
    """A cell's. forward: fastlstm::<cell>, with what backward needs as its last result; backward: fastlstm::<cell>_backward;
    inference: fastlstm::<cell>_inference, a dense call that has no gradients: torch's own way to a kernel that has takes 7 us.
    """

    forward: Any
    backward: Any
    inference: Any


def _define(name: str, schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    torch.library.define(f"fastlstm::{name}", schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(f"fastlstm::{name}", "cpu", kernel)
    torch.library.register_fake(f"fastlstm::{name}", fake)
    return getattr(torch.ops.fastlstm, name).default


def _register(cell: Cell) -> Operators:
    name, inputs = cell.name.lower(), Call.schema(cell)
    results = ", ".join(["Tensor"] * (1 + len(cell.states)))
    states = ", ".join(f"Tensor? {state}_0" for state in cell.states)
    gradients = ", ".join(f"Tensor? d{result}" for result in ("output", *(f"{state}_n" for state in cell.states)))

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.cell = cell
        _setup_context(ctx, inputs, output)

    operators = Operators(
        _define(
            name, f"({inputs}, int per_row) -> ({results}, Tensor)", partial(_forward, cell), partial(shapes, cell)
        ),
        _define(
            f"{name}_backward",
            f"({inputs}, Tensor saved, {gradients}, bool[] wanted) -> Tensor[]",
            partial(_backward, cell),
            partial(_shapes_of_gradients, cell),
        ),
        _define(
            f"{name}_inference",
            f"(Tensor x, {states}, Tensor[] weights, bool batch_first, int[] sizes) -> ({results})",
            partial(_infer, cell),
            _shapes_of_inference,
        ),
    )
    torch.library.register_autograd(f"fastlstm::{name}", _differentiated, setup_context=keep)
    return operators


OPERATORS = {cell.name: _register(cell) for cell in CELLS}
lstm, lstm_backward, lstm_inference = OPERATORS[LSTM.name]
