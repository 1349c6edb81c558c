"""The torch face: modules that stand in for torch's recurrent ones. One way down: modules, batch, runners, the engine."""

import torch

from fastlstm import _engine
from fastlstm.torch.adopt import convert, disable, enable, enabled, engine, revert
from fastlstm.torch.cell import LSTMCell
from fastlstm.torch.checkpoint import load
from fastlstm.torch.graph import flops, lowering  # noqa: F401  # torch finds what they register
from fastlstm.torch.gru import GRU, GRUCell
from fastlstm.torch.lstm import LSTM
from fastlstm.torch.onnx_files import from_onnx, onnx_layers
from fastlstm.torch.runners.fallback import strict
from fastlstm.torch.threads import share_torch_threads

__all__ = [
    "GRU",
    "LSTM",
    "GRUCell",
    "LSTMCell",
    "convert",
    "disable",
    "enable",
    "enabled",
    "engine",
    "from_onnx",
    "load",
    "onnx_layers",
    "revert",
    "strict",
]

HAS_EXCHANGE_TABLE = _engine.use_torch(torch)
share_torch_threads()
