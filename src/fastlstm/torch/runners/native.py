"""The engine on the CPU: by address where memory tells what tensors are, as a registered operator where something records."""

import torch
from torch import Tensor
from torch.nn import Parameter

from fastlstm.torch import batch as batches
from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Results, States
from fastlstm.torch.context import Context
from fastlstm.torch.dtypes import HALF, NAMES
from fastlstm.torch.graph import function, operator
from fastlstm.torch.memory import in_order
from fastlstm.weights import Sizes

NAME = "native"

_PLAIN = frozenset({Tensor, Parameter})


def why_not(sizes: Sizes, device: torch.device, dtype: torch.dtype, context: Context) -> str | None:
    if device.type not in ("cpu", "meta"):
        return f"there is no engine for the device {device.type!r}"
    if device.type == "cpu" and dtype not in NAMES:
        return f"the CPU engine has no {str(dtype).removeprefix('torch.')}"
    if not sizes.I or not sizes.H:
        return "without features or units there is nothing for an engine"
    return None


def why(device: torch.device, dtype: torch.dtype) -> str:
    if device.type == "meta":
        return "a meta tensor has shapes only: nothing runs"
    if dtype in HALF:
        return f"the CPU engine adds up in float32 and rounds to {NAMES[dtype]}"
    return f"the CPU engine computes in {NAMES[dtype]}"


def run(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], masks: list[Tensor]) -> Results:
    """The arguments and results of `runners.run`, with masks drawn."""
    if context.is_unseen():
        grad = wants_graph(sizes, x, hx, weights)
        if grad is False or (grad and context.saving_hooks(True) is None):
            return _run_by_address(sizes, batch, x, hx, weights, masks, grad)
    return operator.run(sizes, batch, x, hx, weights, masks)


def run_plain(
    sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], dropout: float | None
) -> Results | None:
    """A call where nobody watches (`context.is_unseen`). None, no error yet: its tensors are not all of the engine's kind."""
    grad = wants_graph(sizes, x, hx, weights)
    if grad is None:
        return None
    masks = batches.masks_of(batch, sizes, x, dropout) if dropout else []
    if grad and context.saving_hooks(True) is not None:
        return operator.run(sizes, batch, x, hx, weights, masks)
    return _run_by_address(sizes, batch, x, hx, weights, masks, grad)


def wants_graph(sizes: Sizes, x: Tensor, hx: States, weights: list[Tensor]) -> bool | None:
    """Whether gradients are wanted, where memory tells what tensors are; None, no error yet, where one is of another kind."""
    dtype = x.dtype
    if dtype not in NAMES or not sizes.I or not sizes.H:
        return None
    grad = False
    for t in (x, *hx):
        if t is not None:
            if (
                type(t) not in _PLAIN
                or t.dtype is not dtype
                or not t.is_cpu
                or t.is_neg()
                or t.layout is not torch.strided
            ):
                return None
            grad = grad or t.requires_grad
    for t, shape in zip(weights, sizes.shapes, strict=True):
        if type(t) not in _PLAIN or t.dtype is not dtype or t.shape != shape or not t.is_cpu or t.is_neg():
            return None
        grad = grad or t.requires_grad
    return grad and torch.is_grad_enabled()


def _run_by_address(
    sizes: Sizes,
    batch: Batch,
    x: Tensor,
    hx: States,
    weights: list[Tensor],
    masks: list[Tensor],
    grad: bool,
) -> Results:
    x = x if x.is_contiguous() else in_order(x)
    hx = tuple(t if t is None or t.is_contiguous() else in_order(t) for t in hx)
    weights = [w if w.is_contiguous() else in_order(w) for w in weights]
    rows = batch.rows
    if grad:
        return function.differentiable(sizes, batch, rows, x, hx, weights, masks)
    if not context.is_profiled():
        return batches.results_of(function.forward(sizes, batch, rows, x, hx, weights, masks, False))
    with context.profiled_as(f"fastlstm::{sizes.cell.name.lower()}"):  # no operator of torch's, which would have a name
        return batches.results_of(function.forward(sizes, batch, rows, x, hx, weights, masks, False))
