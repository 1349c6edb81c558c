"""torch.nn.LSTM on an engine of its own: the same layer, the same numbers, sooner on a CPU.

    from fastlstm import LSTM
    lstm = LSTM(10, 20, 2)
    output, (h_n, c_n) = lstm(torch.randn(5, 3, 10))

Importing this package imports neither PyTorch nor matplotlib: the names below are fetched when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastlstm import plot
    from fastlstm.checkpoint import save
    from fastlstm.torch import LSTM, LSTMCell, convert, disable, enable, enabled, engine, load, revert, strict

__version__ = "0.1.0"
