"""`fastlstm.load`: a checkpoint as a module."""

import os
from typing import Any

from fastlstm import checkpoint
from fastlstm.torch.cell import LSTMCell
from fastlstm.torch.gru import GRU, GRUCell
from fastlstm.torch.lstm import LSTM

_MODULES = {module.__name__: module for module in (LSTM, LSTMCell, GRU, GRUCell)}


def load(path: str | bytes | os.PathLike[Any]) -> LSTM | LSTMCell | GRU | GRUCell:
    """The module that `fastlstm.save` wrote to `path`, on the CPU, in the dtype it was saved in.

    Nothing in the file is executed. Raises FileNotFoundError, another OSError where there is no regular file but something
    else, such as a folder (IsADirectoryError) or a FIFO, or ValueError where the file is not such a checkpoint, or its
    tensors are not those of its constructor arguments; it is compared before anything is allocated.
    """
    kind, arguments, tensors = checkpoint.read(path, "pt")
    dtype = next(iter(tensors.values())).dtype
    # On the meta device: no random numbers are drawn, no memory is touched twice.
    module: Any = _MODULES[kind](**arguments, device="meta", dtype=dtype)
    # Copies: what is read is the file itself, mapped, and whoever writes to that would write to the layer.
    module.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
    return module  # type: ignore[no-any-return]
