"""The torch face: modules that stand in for nn.LSTM and nn.LSTMCell. One way down: lstm, functional, autograd, the
engine.
"""

import torch

from fastlstm import _engine
from fastlstm.torch import flops, lowering  # noqa: F401  # torch finds what they register
from fastlstm.torch.adopt import convert, disable, enable, enabled, revert
from fastlstm.torch.base import engine
from fastlstm.torch.cell import LSTMCell
from fastlstm.torch.lstm import LSTM
from fastlstm.torch.parallel import share_torch_threads
from fastlstm.torch.restore import load
from fastlstm.torch.route import strict

__all__ = [
    "LSTM",
    "LSTMCell",
    "convert",
    "disable",
    "enable",
    "enabled",
    "engine",
    "load",
    "revert",
    "strict",
]

_engine.use_torch(torch)
share_torch_threads()
