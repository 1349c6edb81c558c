"""What all rows of a chain add to the gradient of a matrix: of a batch of calls one such sum each, written into the engine's
memory, as it is large: 32 samples of an LSTM(64, 128) have 12.6 MB, which the system would give page by page at every call.
"""

from typing import Any

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import transforms
from fastlstm.torch.dtypes import NAMES


class Product(transforms.Derivable):
    """d (rows, M), x (rows, K) -> d^T x (M, K); of B members beside each other, (rows, B, M), (rows, B, K) -> (B, M, K)."""

    @staticmethod
    def forward(d: Tensor, x: Tensor) -> Tensor:
        if d.dim() == 2:
            return d.t() @ x
        total: Tensor = _engine.empty([d.shape[1], d.shape[2], x.shape[2]], NAMES[d.dtype])
        torch.bmm(d.permute(1, 2, 0), x.permute(1, 0, 2), out=total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    @transforms.derivable_within
    def backward(ctx: Any, gradient: Any) -> Any:
        (d, x), (of_d, of_x) = ctx.saved_tensors, ctx.needs_input_grad
        if d.dim() == 2:
            return x @ gradient.t() if of_d else None, d @ gradient if of_x else None
        by_member_d, by_member_x = d.transpose(0, 1), x.transpose(0, 1)
        dd = (by_member_x @ gradient.mT).transpose(0, 1) if of_d else None
        return dd, (by_member_d @ gradient).transpose(0, 1) if of_x else None

    @staticmethod
    @transforms.forward_mode_within
    def jvp(ctx: Any, d_t: Any, x_t: Any) -> Any:
        d, x = ctx.saved_tensors
        found = [Product.apply(d_t, x)] if d_t is not None else []
        found += [Product.apply(d, x_t)] if x_t is not None else []
        return sum(found[1:], found[0])

    @staticmethod
    def vmap(info: Any, in_dims: Any, d: Tensor, x: Tensor) -> Any:
        members = info.batch_size

        def beside(t: Tensor, dim: int | None) -> Tensor:
            t = t.unsqueeze(1).expand(-1, members, *t.shape[1:]) if dim is None else t.movedim(dim, 1)
            return t.flatten(1, 2) if t.dim() == 4 else t

        all_d, all_x = beside(d, in_dims[0]), beside(x, in_dims[1])
        found: Any = Product.apply(all_d, all_x)
        of_one = [size for k, size in enumerate(d.shape) if k != in_dims[0]]
        return found.reshape(members, *of_one[1:-1], *found.shape[1:]), 0


def product(d: Tensor, x: Tensor) -> Tensor:
    """d^T x, of (rows, M) and (rows, K)."""
    found: Tensor = Product.apply(d, x)
    return found
