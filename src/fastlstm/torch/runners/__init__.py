"""Who runs a call: torch_kernel, native, chained or composite, the first that has nothing against it; why; what is said about it.

A runner has a name, `why_not(sizes, device, dtype, context)`, in words, or None, `why`, which says what speaks for it, and `run`.
`fastlstm.engine`, strict mode and the call itself ask the same functions.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from fastlstm.torch import context, transforms
from fastlstm.torch.batch import Batch, Results, States, masks_of
from fastlstm.torch.context import Context
from fastlstm.torch.dtypes import HALF
from fastlstm.torch.errors import refuse_layout
from fastlstm.torch.memory import refuse_any_freed
from fastlstm.torch.runners import chained, composite, forward_mode, mapped, native, torch_kernel
from fastlstm.torch.runners.fallback import fall_back
from fastlstm.weights import Sizes, named_shapes


class Engine(NamedTuple):
    """What runs a call: `name` is 'native', 'cudnn', 'composite', or 'torch' of a module of torch's; `why` says so in words."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


def choose(sizes: Sizes, device: torch.device, dtype: torch.dtype, context: Context) -> tuple[ModuleType, str]:
    """The runner of a call on tensors of this device and dtype; where it is composite, what the others have against it."""
    if context.mapped and device.type == "cpu":
        return mapped, ""
    against = ""
    for runner in (torch_kernel, chained if context.transformed else native):
        why_not = runner.why_not(sizes, device, dtype, context)
        if why_not is None:
            return runner, ""
        against = why_not
    return composite, against


def engine(sizes: Sizes, device: torch.device, dtype: torch.dtype, context: Context) -> Engine:
    """What runs such a call, in the end."""
    runner, against = choose(sizes, device, dtype, context)
    if runner is mapped:
        return mapped.below(lambda below: engine(sizes, device, dtype, below))
    return Engine(runner.NAME, against or runner.why(device, dtype))


def run(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], dropout: float | None) -> Results:
    """The arguments and errors of `wrap.run`."""
    refuse_any_freed(x, *hx, *weights)
    check(sizes, x, hx, weights, autocast=autocasts(x))
    if choose(sizes, x.device, x.dtype, context.here())[0] is torch_kernel:
        return torch_kernel.run(sizes, batch, x, hx, weights, dropout)
    return run_with(sizes, batch, x, hx, weights, masks_of(batch, sizes, x, dropout) if dropout else [])


def run_with(
    sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], masks: Sequence[Tensor]
) -> Results:
    """With masks drawn, on what is not torch's kernel."""
    here = context.here()
    if batch.rows.offsets is not None:
        here = here._replace(mapped=False)  # rows that are anywhere can't stand side by side
    runner, against = choose(sizes, x.device, x.dtype, here)
    if runner is mapped:
        return mapped.run(run_with, sizes, batch, x, hx, weights, masks)
    if runner is chained and transforms.innermost_is_forward_mode():
        found = forward_mode.run(sizes, batch, x, hx, weights, masks)
        if found is not None:
            return found
    if runner is composite and sizes.I and sizes.H:  # else nothing is slow
        fall_back(against)
    results: Results = runner.run(sizes, batch, x, hx, weights, list(masks))
    return results


def autocasts(x: Tensor) -> bool:
    """Whether a call on this tensor is under autocast, which makes tensors of several dtypes one."""
    return x.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(x.device.type)


def check(sizes: Sizes, x: Tensor, hx: States, weights: list[Tensor], autocast: bool) -> None:
    """Raises where the tensors of a call don't belong together, in torch's words where it has some."""
    for k, (w, shape) in enumerate(zip(weights, sizes.shapes, strict=True)):
        if not isinstance(w, Tensor):
            raise TypeError(f"expected Tensor as parameter {_name(sizes, k)}, but got {type(w).__name__}")
        check_same("parameter", x, w, autocast)
        if w.shape != shape:
            raise RuntimeError(f"parameter {_name(sizes, k)}: expected shape {shape}, got {list(w.shape)}")
    for kind, t in (("input", x), *(("hidden", t) for t in hx)):
        if t is not None:
            check_same(kind, x, t, autocast)


def _name(sizes: Sizes, parameter: int) -> str:
    return list(named_shapes(sizes))[parameter]


def check_same(kind: str, x: Tensor, t: Tensor, autocast: bool) -> None:
    """RuntimeError: a tensor of this kind has another layout, device or dtype than x has."""
    if t.layout is not torch.strided:
        refuse_layout(kind, t)
    if t.device != x.device:
        raise RuntimeError(
            f"Input and {kind} tensors are not at the same device, "
            f"found input tensor at {x.device} and {kind} tensor at {t.device}"
        )
    castable = (*HALF, torch.float32)
    if t.dtype != x.dtype and not (autocast and t.dtype in castable and x.dtype in castable):
        raise RuntimeError(
            f"Input and {kind} tensors are not the same dtype, "
            f"found input tensor with {x.dtype} and {kind} tensor with {t.dtype}"
        )
