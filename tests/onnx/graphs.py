"""Models built by hand around an LSTM or GRU node, with random weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

I, H = 3, 4
OPSET = 17


def weights(kind: str = "LSTM", D: int = 1, seed: int = 0, features: int = I) -> dict[str, Any]:
    """W, R, B in ONNX's order."""
    random, rows = np.random.default_rng(seed), (4 if kind == "LSTM" else 3) * H
    shapes = {"W": (D, rows, features), "R": (D, rows, H), "B": (D, 2 * rows)}
    return {name: random.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def node(
    kind: str = "LSTM", inputs: Sequence[str] = ("x", "W", "R", "B"), name: str = "node", y: str = "y", **options: Any
) -> Any:
    options = {"hidden_size": H, **({"linear_before_reset": 1} if kind == "GRU" else {}), **options}
    return helper.make_node(kind, inputs, [y], name, **{k: v for k, v in options.items() if v is not None})


def model(nodes: Sequence[Any], arrays: dict[str, Any], outputs: Sequence[str] = ("y",), opset: int = OPSET) -> Any:
    """With the input x (L, N, I), and arrays as initializers: NumPy's or TensorProtos."""
    initializers = [
        array if isinstance(array, TensorProto) else numpy_helper.from_array(array, name)
        for name, array in arrays.items()
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["L", "N", I])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializers,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def one(kind: str = "LSTM", D: int = 1, **options: Any) -> Any:
    """A model of one node."""
    direction = "bidirectional" if D == 2 else "forward"
    return model([node(kind, **{"direction": direction, **options})], weights(kind, D))


def branch(nodes: Sequence[Any], output: str, arrays: dict[str, Any] | None = None) -> Any:
    """A graph for an attribute of If, Loop or Scan."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (arrays or {}).items()]
    return helper.make_graph(
        nodes, f"makes {output}", [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], initializers
    )


def constant(name: str, array: Any) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))


def external(tensor: Any, **said: str) -> Any:
    """A tensor whose numbers are said to be in a file."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in said.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def stack(kind: str, D: int, between: Any = None, outputs: Any = ("y",), **upper: Any) -> Any:
    """Two nodes, the second of which reads the first's output."""
    arrays = weights(kind, D) | {f"{k}2": v for k, v in weights(kind, D, 1, D * H).items()}
    arrays |= {"one": np.array([1]), "shape": np.array([0, 0, -1])}
    direction = {"direction": "bidirectional" if D == 2 else "forward"}
    joins = [helper.make_node("Squeeze", ["a", "one"], ["b"])]
    if D == 2:
        joins = [
            helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["t", "shape"], ["b"]),
        ]
    nodes = [node(kind, y="a", **direction), *(between or joins)]
    nodes.append(node(kind, ("b", "W2", "R2", "B2"), "upper", **{**direction, **upper}))
    return model(nodes, arrays, outputs)
