"""torch.jit.trace: a call is one node, an operator that goes the same way again whenever the trace runs, or torch's own."""

import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastlstm.cells import CELLS, LSTM, Cell
from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Ragged, Results, States
from fastlstm.torch.runners import torch_kernel
from fastlstm.weights import Sizes

for_torch = False
"""Whether a torch.jit.trace records torch's own operator, which `enable()` brings to the engine: set by that."""

_CONVERTERS = frozenset({"openvino"})  # packages that trace a model to read torch's operators in it


def quietly(run: Callable[..., Any], *arguments: Any) -> Any:
    """A call that torch.jit.trace may watch. Its checks compare traced sizes; the operator makes them again on every run."""
    if context.tracing_state() is None:
        return run(*arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", context.TracerWarning)
        return run(*arguments)


def record(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], dropout: float | None) -> Results:
    """output, h_n, c_n of a call that torch.jit.trace watches."""
    whole, x3, states = batches.full(batch, sizes, x, hx)
    first, lengths, reset, batch_sizes, offsets = whole.rows
    if offsets is not None:
        raise RuntimeError("torch.jit.trace takes no nested tensor: trace the padded batch and its lengths")
    if not _is_read_by_others():
        results = getattr(torch.ops.fastlstm, layer_operator(sizes.cell))(
            x3, *states, weights, batch_sizes, sizes.numbers, dropout, sizes.is_cell, first, lengths, reset
        )
    elif isinstance(whole, Ragged):
        raise RuntimeError("torch's own operator, which this trace is to have, takes neither lengths nor resets")
    else:
        results = torch_kernel.call(sizes, x3, states, weights, dropout, batch_sizes)
    return batches.like_the_caller(batch, x, results)


def _is_read_by_others() -> bool:
    """Whether what is traced here and now is read by something that knows torch's operators alone."""
    if for_torch or torch.onnx.is_in_onnx_export():
        return True
    if _CONVERTERS.isdisjoint(sys.modules):
        return False
    frames = (frame for frame, _ in traceback.walk_stack(None))
    return any(str(frame.f_globals.get("__name__")).partition(".")[0] in _CONVERTERS for frame in frames)


def layer_operator(cell: Cell) -> str:
    """The name of what a torch.jit.trace records."""
    return "layer" if cell is LSTM else f"{cell.name.lower()}_layer"


for _cell in CELLS:
    torch.library.define(
        f"fastlstm::{layer_operator(_cell)}",
        f"(Tensor x, {', '.join(f'Tensor {state}_0' for state in _cell.states)}, Tensor[] weights, Tensor? batch_sizes, "
        "int[] sizes, float? dropout, bool cell, bool batch_first=False, Tensor? lengths=None, Tensor? reset=None) "
        f"-> ({', '.join(['Tensor'] * (1 + len(_cell.states)))})",
    )
