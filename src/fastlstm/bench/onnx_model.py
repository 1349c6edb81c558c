"""A layer as an ONNX model: one LSTM node a layer, every size fixed."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from fastlstm.bench.points import Point

FLOAT = TensorProto.FLOAT


def model(point: Point, lstm: nn.LSTM) -> bytes:
    """x (T, N, I) -> output (T, N, D*H), h_n and c_n (layers*D, N, H); the parameters are part of the model."""
    T, N, D, H = point.T, point.N, point.D, point.H
    # In ONNX, Y is (T, D, N, H). Of a single direction that is (T, N, H) already, and a Reshape moves nothing.
    constants = {"shape": np.array([T, N, D * H], dtype=np.int64)}
    nodes = []
    x = "x"
    for layer in range(point.layers):
        for name, letter in (("weight_ih", "W"), ("weight_hh", "R")):
            constants[f"{letter}{layer}"] = np.stack([_iofc(lstm, f"{name}_l{layer}{end}") for end in _ends(D)])
        biases = [[_iofc(lstm, f"{name}_l{layer}{end}") for name in ("bias_ih", "bias_hh")] for end in _ends(D)]
        constants[f"B{layer}"] = np.stack([np.concatenate(both) for both in biases])
        direction = "bidirectional" if D == 2 else "forward"
        inputs, outputs = [x, f"W{layer}", f"R{layer}", f"B{layer}"], [f"Y{layer}", f"h{layer}", f"c{layer}"]
        nodes.append(helper.make_node("LSTM", inputs, outputs, hidden_size=H, direction=direction))
        y = outputs[0]
        if D == 2:
            nodes.append(helper.make_node("Transpose", [y], [f"{y}t"], perm=[0, 2, 1, 3]))
            y = f"{y}t"
        x = "output" if layer == point.layers - 1 else f"x{layer + 1}"
        nodes.append(helper.make_node("Reshape", [y, "shape"], [x]))
    for state in ("h", "c"):
        layers = [f"{state}{layer}" for layer in range(point.layers)]
        nodes.append(helper.make_node("Concat", layers, [f"{state}_n"], axis=0))
    states = (point.layers * D, N, H)
    graph = helper.make_graph(
        nodes,
        "lstm",
        [helper.make_tensor_value_info("x", FLOAT, (T, N, point.I))],
        [
            helper.make_tensor_value_info(name, FLOAT, shape)
            for name, shape in (("output", (T, N, D * H)), ("h_n", states), ("c_n", states))
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    serialized: bytes = proto.SerializeToString()
    return serialized


def _ends(D: int) -> tuple[str, ...]:
    """How the names of a layer's parameters end, one for each direction."""
    return ("", "_reverse")[:D]


def _iofc(lstm: nn.LSTM, name: str) -> NDArray[np.float32]:
    """A parameter, its gates i, f, g, o in ONNX's order: i, o, f, g (which ONNX calls c)."""
    i, f, g, o = np.split(lstm.get_parameter(name).detach().numpy(), 4)
    return np.concatenate([i, o, f, g])
