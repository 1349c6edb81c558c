"""What a call is: its sizes, and the two forms its tensors take."""

from typing import NamedTuple

import torch
from torch import Tensor

from fastlstm.weights import Sizes


class Call(NamedTuple):
    """T steps of N rows. batch_sizes: of a packed batch, on the CPU. cell: asked by LSTMCell, whose T is 1.

    state: what stands before the features in the shape of h_n and c_n: (layers * D, N), or less where the caller has
    fewer dimensions. The engine reads memory and does not care; every other route wants the `full` form.
    """

    sizes: Sizes
    T: int
    N: int
    state: tuple[int, ...]
    batch_sizes: Tensor | None = None
    cell: bool = False


def full(call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """x as (T, N, I), or (rows, I) if packed; h_0 as (layers * D, N, P or H), c_0 as (layers * D, N, H), zeros where
    not given.
    """
    sizes = call.sizes
    if call.batch_sizes is None and x.dim() != 3:
        x = x.reshape(call.T, call.N, sizes.I)
    h_shape, c_shape = (sizes.cells, call.N, sizes.out), (sizes.cells, call.N, sizes.H)
    h_0 = x.new_zeros(h_shape) if h_0 is None else h_0 if h_0.dim() == 3 else h_0.reshape(h_shape)
    c_0 = x.new_zeros(c_shape) if c_0 is None else c_0 if c_0.dim() == 3 else c_0.reshape(c_shape)
    return x, h_0, c_0


def masks_of(call: Call, x: Tensor, p: float) -> list[Tensor]:
    """The factors of `F.dropout` on each layer's output but the last's, drawn in layer order as nn.LSTM draws them."""
    sizes = call.sizes
    rows = (call.T, call.N) if call.batch_sizes is None else x.shape[:1]
    return [
        torch.nn.functional.dropout(x.new_ones((*rows, sizes.D * sizes.out)), p, True) for _ in range(sizes.layers - 1)
    ]
