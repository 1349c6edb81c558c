"""What a tensor's memory holds: the engine reads addresses, and knows of a tensor only what its numbers lie like."""

from torch import Tensor


def in_order(tensor: Tensor) -> Tensor:
    """It, or a copy with its elements one after the other; differentiable. RuntimeError: its storage was freed."""
    if tensor.is_contiguous() or tensor._is_zerotensor():
        return tensor
    refuse_freed(tensor)
    return tensor.contiguous()


def as_read(tensor: Tensor) -> Tensor:
    """A tensor whose memory holds its numbers in order, as the engine reads them: it, or a copy. RuntimeError: freed."""
    if tensor._is_zerotensor():
        return tensor.clone()
    refuse_freed(tensor)
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    tensor = tensor.contiguous()
    if tensor.data_ptr() % tensor.element_size():  # as torch.frombuffer makes them
        return tensor.clone()
    return tensor


def refuse_freed(tensor: Tensor) -> None:
    """RuntimeError: its storage was freed."""
    if tensor.numel() and not tensor.untyped_storage().nbytes():  # torch itself would copy from there
        raise RuntimeError("a tensor has no memory: its storage was freed")
