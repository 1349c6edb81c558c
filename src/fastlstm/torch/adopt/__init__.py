"""The engine under code that names nn.LSTM: `enable()` for all of a process, `convert()` for the modules of a model."""

from fastlstm.torch.adopt.converting import Report, convert, revert
from fastlstm.torch.adopt.enabling import disable, enable, enabled

__all__ = ["Report", "convert", "disable", "enable", "enabled", "revert"]
