"""`fastlstm.to_onnx`: a layer as a model of its own, of ONNX's standard operators."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from fastlstm import checkpoint
from fastlstm.cells import BY_NAME, GRU, LSTM
from fastlstm.files import KEY, replace
from fastlstm.onnx import projection
from fastlstm.onnx.gates import to_onnx_order
from fastlstm.onnx.model import Array
from fastlstm.onnx.parts import Parts
from fastlstm.weights import Sizes

_OPSET, _IR = 17, 8  # of 2022: ONNX Runtime 1.12 and whatever came after
_LARGEST = 2**31 - 1  # bytes of one protobuf message


def to_onnx(layer: Any, path: str | bytes | os.PathLike[Any], lengths: bool = False) -> None:
    """Writes a layer to `path` as an ONNX model for inference, with the states as inputs and any L and N.

    layer: an LSTM or GRU of fastlstm, torch.nn or fastlstm.numpy, in float16, float32 or float64, of which ONNX Runtime runs
    float32 alone on a CPU. lengths: whether the model takes lengths, too. Inputs and outputs are the layer's, in its letters:

    - input (L, N, H_in), (N, L, H_in) with batch_first; h_0 (D*num_layers, N, H_out), and c_0 (D*num_layers, N, H_cell) of an
      LSTM; lengths (N), int64
    - output (L, N, D*H_out), (N, L, D*H_out) with batch_first; h_n, c_n as h_0, c_0

    Every layer is an LSTM or GRU node; with proj_size > 0, which ONNX has no node for, a Scan for each direction. The file is
    replaced whole, or not at all, and `from_onnx` makes the same layer of it.

    Raises TypeError for any other module, ValueError for another dtype or 2 GB of weights and more, OSError as `save` does.
    """
    kind, arguments, arrays = _content(layer)
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) > 1 or next(iter(dtypes)) not in (np.float16, np.float32, np.float64):
        raise ValueError(f"expected parameters of float16, float32 or float64, got {', '.join(map(str, dtypes))}")
    if sum(array.nbytes for array in arrays.values()) > _LARGEST - 2**20:
        raise ValueError("an ONNX model is less than 2 GB, and this layer's weights are more")
    model = _model(checkpoint.sizes_of(kind, arguments), arrays, arguments["batch_first"], lengths)
    helper.set_model_props(model, {KEY: json.dumps({"format": 1, "class": kind, "arguments": arguments})})
    onnx.checker.check_model(model)
    replace(str(Path(os.fsdecode(path))), model.SerializeToString())


def _content(layer: Any) -> tuple[str, dict[str, Any], dict[str, Array]]:
    kind = checkpoint.kind_of(type(layer))
    if kind not in BY_NAME:
        raise TypeError(f"expected an LSTM or GRU of fastlstm, torch.nn or fastlstm.numpy, got {type(layer).__name__}")
    if not hasattr(layer, "sizes"):
        kind, arguments, tensors = checkpoint.content(layer)
        if any("bfloat16" in str(t.dtype) for t in tensors.values()):
            raise ValueError("expected parameters of float16, float32 or float64, got bfloat16: layer.float() has such")
        return kind, arguments, {name: tensor.numpy() for name, tensor in tensors.items()}
    sizes: Sizes = layer.sizes  # of the NumPy face
    arguments = {
        "input_size": sizes.I,
        "hidden_size": sizes.H,
        "num_layers": sizes.layers,
        "bias": sizes.bias,
        "batch_first": layer.batch_first,
        "dropout": 0.0,
        "bidirectional": sizes.D == 2,
    }
    return kind, arguments | ({"proj_size": sizes.P} if sizes.cell is LSTM else {}), dict(layer.weights)


def _model(sizes: Sizes, arrays: Mapping[str, Array], batch_first: bool, lengths: bool) -> Any:
    parts, states = Parts(), sizes.cell.states
    real = helper.np_dtype_to_tensor_dtype(next(iter(arrays.values())).dtype)
    lead = ["N", "L"] if batch_first else ["L", "N"]
    inputs = [helper.make_tensor_value_info("input", real, [*lead, sizes.I])]
    outputs = [helper.make_tensor_value_info("output", real, [*lead, sizes.D * sizes.out])]
    for state, features in zip(states, sizes.of_states, strict=True):
        inputs.append(helper.make_tensor_value_info(f"{state}_0", real, [sizes.chains, "N", features]))
        outputs.append(helper.make_tensor_value_info(f"{state}_n", real, [sizes.chains, "N", features]))
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT64, ["N"]))
    x = parts.add("Transpose", "input", perm=[1, 0, 2]) if batch_first else "input"
    given = [parts.split(f"{state}_0", sizes.layers, sizes.D) for state in states]
    layer, rows, last = _layer, "", []
    if sizes.P:
        layer = projection.layer
        rows = projection.inside(parts, x, "lengths") if lengths else ""
    elif lengths:
        rows = parts.add("Cast", "lengths", to=TensorProto.INT32)
    for k, own in enumerate(zip(*given, strict=True)):
        x, ends = layer(parts, sizes, k, arrays, x, own, rows)
        last.append(ends)
    if batch_first:
        parts.add("Transpose", x, outputs="output", perm=[1, 0, 2])
    else:
        parts.add("Identity", x, outputs="output")
    empty = parts.add("Equal", "lengths", parts.scalar(0)) if lengths else ""
    for state, names in zip(states, zip(*last, strict=True), strict=True):
        if not empty:
            parts.add("Concat", *names, outputs=f"{state}_n", axis=0)
            continue
        rows = parts.add("Unsqueeze", empty, parts.integers(0, 2))  # of such a row ONNX Runtime has zeros
        parts.add("Where", rows, f"{state}_0", parts.add("Concat", *names, axis=0), outputs=f"{state}_n")
    graph = helper.make_graph(parts.nodes, sizes.cell.name, inputs, outputs, parts.initializers)
    opsets = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name=KEY)


def _layer(
    parts: Parts, sizes: Sizes, k: int, arrays: Mapping[str, Array], x: str, states: Sequence[str], rows: str
) -> tuple[str, list[str]]:
    """Adds layer k. x (L, N, features); states (D, N, H_cell) each; rows: their lengths. The names of its output
    (L, N, D*H_cell), and of the last states.
    """
    ends = [f"_l{k}{side}" for side in ("", "_reverse")[: sizes.D]]

    def stacked(*names: str) -> Array:
        rows = [[to_onnx_order(sizes.cell, arrays[name + end]) for name in names] for end in ends]
        return np.stack([np.concatenate(own) for own in rows])

    given = [parts.array(f"W_l{k}", stacked("weight_ih")), parts.array(f"R_l{k}", stacked("weight_hh"))]
    given.append(parts.array(f"B_l{k}", stacked("bias_ih", "bias_hh")) if sizes.bias else "")
    kind = sizes.cell.name
    results = [f"{name}_l{k}" for name in ("Y", *(f"Y_{state}" for state in sizes.cell.states))]
    options: dict[str, Any] = {"hidden_size": sizes.H, "direction": "bidirectional" if sizes.D == 2 else "forward"}
    if sizes.cell is GRU:
        options["linear_before_reset"] = 1
    parts.add(kind, x, *given, rows, *states, outputs=results, name=f"{kind.lower()}_l{k}", **options)
    if sizes.D == 1:
        return parts.add("Squeeze", results[0], parts.integers(1)), results[1:]
    sides = parts.add("Transpose", results[0], perm=[0, 2, 1, 3])
    return parts.add("Reshape", sides, parts.integers(0, 0, sizes.D * sizes.H)), results[1:]
