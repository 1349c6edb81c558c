"""What a tensor's memory holds: the engine knows of a tensor only what its numbers lie like."""

from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import context


def in_order(tensor: Tensor) -> Tensor:
    """It, or a copy with its elements one after the other; differentiable. RuntimeError: its storage was freed."""
    if tensor.is_contiguous() or context.is_zeros_without_memory(tensor):
        return tensor
    refuse_freed(tensor)
    return tensor.contiguous()


def as_read(tensor: Tensor) -> Tensor:
    """A tensor whose memory holds its numbers in order, as the engine reads them: it, or a copy. RuntimeError: freed."""
    if context.is_zeros_without_memory(tensor):
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
    if type(tensor) is not Tensor:
        tensor = tensor.as_subclass(Tensor)  # of a subclass that only adds methods: others' operations are their own
    refuse_freed(tensor)
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    tensor = tensor.contiguous()
    if tensor.data_ptr() % tensor.element_size():  # as torch.frombuffer makes them
        return tensor.clone()
    return tensor


def as_integers(tensor: Tensor | None) -> Tensor | None:
    """int64 on the CPU, as `as_read`."""
    return None if tensor is None else as_read(tensor.to("cpu", torch.int64))


def refuse_freed(tensor: Tensor) -> None:
    """RuntimeError: its storage was freed."""
    if tensor.numel() and not tensor.untyped_storage().nbytes():  # torch itself would copy from there
        raise RuntimeError("a tensor has no memory: its storage was freed")


def refuse_any_freed(*tensors: Any) -> None:
    """RuntimeError: one of them has lost its memory, where torch's own operations are about to read it."""
    if not context.is_plain():  # a tensor may be a wrapper, whose memory is another's
        return
    for t in tensors:
        if isinstance(t, Tensor) and t.layout is torch.strided and not context.is_wrapper(t):
            refuse_freed(t)
