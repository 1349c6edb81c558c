"""ONNX files: a layer written as one, and the LSTMs and GRUs of any such file read. No framework in here.

Protobuf is parsed by the package onnx, and nothing in a file is executed.
"""

try:
    import onnx  # noqa: F401  # absolute: the package, not this one
except ModuleNotFoundError as error:
    raise ImportError('ONNX files need the package onnx: pip install ".[onnx]" in the folder of fastlstm') from error

from fastlstm.onnx.writing import to_onnx

__all__ = ["to_onnx"]
