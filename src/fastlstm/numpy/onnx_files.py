"""`fastlstm.numpy.from_onnx` and `fastlstm.numpy.onnx_layers`: the layers of an ONNX file on NumPy arrays."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlstm.numpy.layers import GRU, LSTM

if TYPE_CHECKING:
    from fastlstm.onnx.nodes import Layer

_KINDS: dict[str, type[LSTM] | type[GRU]] = {"LSTM": LSTM, "GRU": GRU}


class OnnxLayer(NamedTuple):
    """As `fastlstm.onnx_layers` has them."""

    layer: LSTM | GRU
    hx: Any


def from_onnx(model: Any, name: str | None = None) -> LSTM | GRU:
    """The layer of an ONNX file, as `fastlstm.from_onnx` reads it, on NumPy arrays and without torch.

    model: a path, or an onnx.ModelProto. 16-bit weights are widened to float32. Errors as `fastlstm.from_onnx`.
    """
    from fastlstm.onnx import reading  # the package onnx takes longer to import than this one

    return _layer(reading.chosen(model, name))


def onnx_layers(model: Any) -> dict[str, OnnxLayer]:
    """Every layer of an ONNX file by its name, with the initial states that the file fixes: as `fastlstm.onnx_layers`."""
    from fastlstm.onnx import reading

    return reading.every(model, _with_states)


def _layer(found: "Layer") -> LSTM | GRU:
    arrays = {name: _wide(array) for name, array in found.arrays.items()}
    return _KINDS[found.cell.name](arrays, batch_first=found.arguments["batch_first"])


def _with_states(found: "Layer") -> OnnxLayer:
    layer = _layer(found)
    states = None if found.hx is None else tuple(np.array(state, layer.dtype) for state in found.hx)
    return OnnxLayer(layer, states[0] if states and len(states) == 1 else states)


def _wide(array: Any) -> Any:
    return np.asarray(array, np.float32 if array.dtype.itemsize == 2 else array.dtype)
