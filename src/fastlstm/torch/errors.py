"""What is wrong with the dtype or the layout of a call's tensors, in nn.LSTM's words where it has some."""

import torch
from torch import Tensor

from fastlstm.torch import context


def refuse_layout(kind: str, t: Tensor) -> None:
    """RuntimeError: a sparse tensor, say."""
    raise RuntimeError(f"expected {kind} tensors of layout torch.strided, got {t.layout}: t.to_dense() makes them so")


def check_dtype(dtype: torch.dtype, expected: torch.dtype) -> None:
    """ValueError: the input's dtype is not that of the weights, and no autocast is there to mend it."""
    if not context.autocast_is_on():
        raise ValueError(
            f"RNN input dtype ({dtype}) does not match weight dtype ({expected}). "
            f"Convert input: input.to({expected}), or convert model: model.to({dtype})"
        )
