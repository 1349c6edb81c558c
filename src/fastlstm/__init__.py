"""torch.nn.LSTM and torch.nn.GRU on an engine of their own: the same layers, the same numbers, faster on a CPU.

    from fastlstm import LSTM
    lstm = LSTM(10, 20, 2)
    output, (h_n, c_n) = lstm(torch.randn(5, 3, 10))

Importing this package imports neither PyTorch nor matplotlib: the names below are fetched when they are first used. Where
PyTorch is imported, before or after, it gets the operators that exported and traced models name.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastlstm import torch_hook, torch_versions

if TYPE_CHECKING:
    from fastlstm import plot
    from fastlstm.checkpoint import save
    from fastlstm.onnx import to_onnx
    from fastlstm.torch import (
        GRU,
        LSTM,
        GRUCell,
        LSTMCell,
        convert,
        disable,
        enable,
        enabled,
        engine,
        from_onnx,
        load,
        onnx_layers,
        revert,
        strict,
    )

__version__ = "0.1.0"
__all__ = [
    "GRU",
    "LSTM",
    "GRUCell",
    "LSTMCell",
    "__version__",
    "convert",
    "disable",
    "enable",
    "enabled",
    "engine",
    "from_onnx",
    "load",
    "onnx_layers",
    "plot",
    "revert",
    "save",
    "strict",
    "to_onnx",
]

_HOME = {
    "GRU": "fastlstm.torch",
    "GRUCell": "fastlstm.torch",
    "LSTM": "fastlstm.torch",
    "LSTMCell": "fastlstm.torch",
    "convert": "fastlstm.torch",
    "disable": "fastlstm.torch",
    "enable": "fastlstm.torch",
    "enabled": "fastlstm.torch",
    "engine": "fastlstm.torch",
    "revert": "fastlstm.torch",
    "strict": "fastlstm.torch",
    "from_onnx": "fastlstm.torch",
    "load": "fastlstm.torch",
    "onnx_layers": "fastlstm.torch",
    "plot": "fastlstm.plot",
    "save": "fastlstm.checkpoint",
    "to_onnx": "fastlstm.onnx",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastlstm' has no attribute {name!r}")
    try:
        if _HOME[name] == "fastlstm.torch":
            torch_versions.refuse_older()
        home = import_module(_HOME[name])
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f'fastlstm.{name} needs PyTorch: pip install ".[torch]" in the folder of fastlstm') from error
    value = home if home.__name__ == f"{__name__}.{name}" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")}.union(__all__))


torch_hook.watch()
