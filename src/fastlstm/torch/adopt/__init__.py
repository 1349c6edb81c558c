"""The engine under code that names nn.LSTM: `enable()` for all of a process, `convert()` for the modules of a model."""

from fastlstm.torch.adopt.converting import Report, convert, revert
from fastlstm.torch.adopt.enabling import disable, enable, enabled
from fastlstm.torch.adopt.saying import engine

__all__ = ["Report", "convert", "disable", "enable", "enabled", "engine", "revert"]
