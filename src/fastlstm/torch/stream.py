"""`fastlstm.LSTM.stream`: tensors in and out, without gradients."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastlstm import streams


class Stream(streams.Stream):
    __doc__ = streams.Stream.__doc__

    if TYPE_CHECKING:

        def step(self, frame: Tensor, out: Tensor | None = None) -> Tensor: ...
        def block(self, frames: Tensor, out: Tensor | None = None) -> Tensor: ...

    def _chosen(self, rows: Any) -> list[int]:
        found: list[int] = torch.arange(self.batch)[rows].reshape(-1).tolist()
        return found

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        return torch.empty(shape, dtype=self.dtype)

    def _in_order(self, array: Any) -> Tensor:
        return torch.as_tensor(array, dtype=self.dtype).detach().contiguous()
