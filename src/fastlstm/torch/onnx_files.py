"""`fastlstm.from_onnx` and `fastlstm.onnx_layers`: the layers of an ONNX file as modules."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastlstm.torch.gru import GRU
from fastlstm.torch.lstm import LSTM

if TYPE_CHECKING:
    from fastlstm.onnx.nodes import Layer

_MODULES = {module.__name__: module for module in (LSTM, GRU)}


class OnnxLayer(NamedTuple):
    """A layer of an ONNX file, and the initial states that the file fixes for it, as the layer takes them: (D*num_layers, N,
    H_cell) each, with the file's N. hx is None where they are zeros, or are for the caller to give.
    """

    layer: LSTM | GRU
    hx: Any


def from_onnx(model: Any, name: str | None = None) -> LSTM | GRU:
    """The layer of an ONNX file, as a module that can be trained on: a path, or an onnx.ModelProto.

    name: which one, where there are several: the name of its node, of its first node where it has several layers. Without a
    name, ValueError names all that there are.

    LSTM and GRU nodes are read wherever they are, also in the branches of an If and the bodies of loops, and ONNX Runtime's
    DynamicQuantizeLSTM, whose weights come back as the float32 numbers that they stand for. Nodes that are the layers of one
    LSTM, each reading nothing but the one before, are one module; nodes with the same weights, as the branches of an If have
    them, are one layer. States that the graph computes or takes as inputs are the caller's to give, as hx, and sequence_lens as
    lengths. It is the node's layer, not the model's: batch_first is False but where a node's layout is 1, or `to_onnx` wrote
    the file. Other exporters write a layer with batch_first as Transposes around a node without, and those can't be told from
    Transposes of the model's own: `layer.batch_first = True` sets it.

    Nothing in the file is executed, no file outside of its folder is read, and no size in it is believed before the bytes are
    there. Raises ValueError, which names the node and what of it no layer of torch's has (clip, peepholes, input_forget, other
    activations, a reverse direction alone, a GRU whose linear_before_reset is 0), for initial states that the file fixes
    (`onnx_layers` has those), and where the file is broken or has no such node; TypeError for another argument; OSError where
    the file, or one with its weights, can't be read; ImportError without the package onnx.
    """
    from fastlstm.onnx import reading  # wants the package onnx, as nothing else here does

    return _module(reading.chosen(model, name))


def onnx_layers(model: Any) -> dict[str, OnnxLayer]:
    """Every layer of an ONNX file by its name, with the states that the file fixes: `layer, hx = onnx_layers(model)[name]`.

    Arguments and errors as `from_onnx`; any layer that can't be read is an error.
    """
    from fastlstm.onnx import reading

    return reading.every(model, _with_states)


def _module(found: "Layer") -> LSTM | GRU:
    tensors = {name: _tensor(array) for name, array in found.arrays.items()}
    dtype = next(iter(tensors.values())).dtype
    module: Any = _MODULES[found.cell.name](**found.arguments, device="meta", dtype=dtype)
    module.load_state_dict(tensors, assign=True)
    return module  # type: ignore[no-any-return]


def _with_states(found: "Layer") -> OnnxLayer:
    states = None if found.hx is None else tuple(map(_tensor, found.hx))
    return OnnxLayer(_module(found), states[0] if states and len(states) == 1 else states)


def _tensor(array: NDArray[Any]) -> Tensor:
    """A copy."""
    if array.dtype.name == "bfloat16":  # of ml_dtypes: torch knows its bits
        return torch.from_numpy(np.array(array.view(np.int16))).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
