"""A layer as an ONNX model: one LSTM or GRU node a layer, every size fixed; and a step of one."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from fastlstm.bench.contender import final_states
from fastlstm.bench.points import Point
from fastlstm.onnx.gates import to_onnx_order

FLOAT = TensorProto.FLOAT
# Of a GRU: r * (R_n h + b_hn), as torch has it, where the default is R_n (r * h) + b_hn.
ATTRIBUTES: dict[str, dict[str, int]] = {"LSTM": {}, "GRU": {"linear_before_reset": 1}}


def model(point: Point, layer: nn.RNNBase) -> bytes:
    """x (T, N, I) -> output (T, N, D*H), h_n and an LSTM's c_n (layers*D, N, H); the parameters are part of the model."""
    T, N, D, H, kind = point.T, point.N, point.D, point.H, point.kind

    def parameter(name: str) -> NDArray[np.float32]:
        return to_onnx_order(kind, layer.get_parameter(name).detach().numpy())

    # In ONNX, Y is (T, D, N, H). Of a single direction that is (T, N, H) already, and a Reshape moves nothing.
    constants = {"shape": np.array([T, N, D * H], dtype=np.int64)}
    nodes = []
    x = "x"
    for k in range(point.layers):
        for name, letter in (("weight_ih", "W"), ("weight_hh", "R")):
            constants[f"{letter}{k}"] = np.stack([parameter(f"{name}_l{k}{end}") for end in _ends(D)])
        biases = [[parameter(f"{name}_l{k}{end}") for name in ("bias_ih", "bias_hh")] for end in _ends(D)]
        constants[f"B{k}"] = np.stack([np.concatenate(both) for both in biases])
        direction = "bidirectional" if D == 2 else "forward"
        inputs, outputs = [x, f"W{k}", f"R{k}", f"B{k}"], [f"{name}{k}" for name in ("Y", *kind.states)]
        attributes = {"hidden_size": H, "direction": direction, **ATTRIBUTES[kind.name]}
        nodes.append(helper.make_node(kind.name, inputs, outputs, **attributes))
        y = outputs[0]
        if D == 2:
            nodes.append(helper.make_node("Transpose", [y], [f"{y}t"], perm=[0, 2, 1, 3]))
            y = f"{y}t"
        x = "output" if k == point.layers - 1 else f"x{k + 1}"
        nodes.append(helper.make_node("Reshape", [y, "shape"], [x]))
    for state in kind.states:
        layers = [f"{state}{k}" for k in range(point.layers)]
        nodes.append(helper.make_node("Concat", layers, [f"{state}_n"], axis=0))
    states = (point.layers * D, N, H)
    graph = helper.make_graph(
        nodes,
        kind.name,
        [helper.make_tensor_value_info("x", FLOAT, (T, N, point.I))],
        [
            helper.make_tensor_value_info(name, FLOAT, shape)
            for name, shape in {"output": (T, N, D * H), **dict.fromkeys(final_states(point), states)}.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return _serialized(graph)


def step_model(point: Point, layer: nn.RNNBase) -> bytes:
    """x (1, 1, I), h_0 and an LSTM's c_0 (1, 1, H) -> h_n and c_n: one node, whose h_n is the output."""
    kind, H = point.kind, point.H
    parameters = {name: to_onnx_order(kind, p.detach().numpy()) for name, p in layer.named_parameters()}
    biases = np.concatenate([parameters["bias_ih_l0"], parameters["bias_hh_l0"]])
    constants = {"W": parameters["weight_ih_l0"][None], "R": parameters["weight_hh_l0"][None], "B": biases[None]}
    states = [f"{state}_0" for state in kind.states]
    outputs = final_states(point)
    no_lengths, no_sequence = "", ""
    node = helper.make_node(
        kind.name,
        ["x", *constants, no_lengths, *states],
        [no_sequence, *outputs],
        hidden_size=H,
        **ATTRIBUTES[kind.name],
    )
    graph = helper.make_graph(
        [node],
        kind.name,
        [
            helper.make_tensor_value_info(name, FLOAT, (1, 1, features))
            for name, features in {"x": point.I, **dict.fromkeys(states, H)}.items()
        ],
        [helper.make_tensor_value_info(name, FLOAT, (1, 1, H)) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return _serialized(graph)


def _serialized(graph: onnx.GraphProto) -> bytes:
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    serialized: bytes = proto.SerializeToString()
    return serialized


def _ends(D: int) -> tuple[str, ...]:
    """How the names of a layer's parameters end, one for each direction."""
    return ("", "_reverse")[:D]
