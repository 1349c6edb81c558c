"""The values of a graph that are constant: initializers, and what a few standard operators make of them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from fastlstm.onnx.model import Array, Model, array_of

# They make no more numbers than they are given, and so a file can't ask for more than it has bytes.
_FOLDED = frozenset({"Identity", "Slice", "Concat", "Unsqueeze", "Squeeze", "Transpose", "Cast", "Reshape"})
_OF_SHAPES = frozenset({"Shape", "Gather", "Mul"})  # the same of a few numbers
_FEW = 16
STANDARD = ("", "ai.onnx")  # the domain of ONNX's own operators, by either name
_DEEPEST = 100  # operators between a weight and the layer
_MOST = 64  # numbers that may be computed for every one that is read


class Constants:
    """What the scopes of one model share: how much may still be computed."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.opsets = list(model.proto.opset_import)
        self.left = 0

    def read(self, tensor: Any) -> Array:
        found = array_of(self.model, tensor)
        self.left += _MOST * found.size
        return found

    def constant(self, node: Any) -> Array | None:
        """Of a Constant; None: one of another kind than weights and axes are."""
        for attribute in node.attribute:
            if attribute.name == "value":
                return self.read(attribute.t)
            if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
                given = onnx.helper.get_attribute_value(attribute)
                return np.array(given, np.float32 if "float" in attribute.name else np.int64)
        return None

    def spend(self, numbers: int) -> None:
        self.left -= numbers
        if self.left < 0:
            raise ValueError("there is more to compute than a file of its size can need")

    def computed(self, node: Any, feeds: Mapping[str, Array]) -> Array:
        if node.op_type != "Shape":  # reads no numbers, and may be of an array that only has a shape
            self.spend(sum(feeds[name].size for name in node.input if name))
        return self._run(node, feeds)

    def _run(self, node: Any, feeds: Mapping[str, Array]) -> Array:
        inputs = [onnx.helper.make_empty_tensor_value_info(name) for name in feeds]
        outputs = [onnx.helper.make_empty_tensor_value_info(node.output[0])]
        graph = onnx.helper.make_graph([node], "constant", inputs, outputs)
        try:
            single = onnx.helper.make_model(graph, opset_imports=self.opsets)
            (found,) = ReferenceEvaluator(single).run(None, dict(feeds))
        except Exception as error:  # whatever onnx's own evaluator, or NumPy in it, says of a node that is wrong
            raise ValueError(
                f"node {node.name or node.output[0]!r} ({node.op_type}) can't be computed: {error}"
            ) from error
        return np.asarray(found)


class Scope:
    """The names that the nodes of a graph see: its own, then those of the graph around it. shapes: that the file says of values;
    asked: how many operators read the shape of a value.
    """

    def __init__(self, constants: Constants, graph: Any, outer: "Scope | None" = None) -> None:
        self.constants, self.graph, self.outer = constants, graph, outer
        self.nodes = list(graph.node)
        if not all(isinstance(name, str) for name in _names(graph)):
            raise ValueError("the model has a name that is not UTF-8")
        self.shapes = {put.name: put.type.tensor_type.shape.dim for put in graph.value_info}
        self.asked = Counter(name for node in self.nodes if node.op_type == "Shape" for name in node.input)
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._inputs = {put.name for put in graph.input}
        self._known: dict[str, Array | None] = {}

    def value(self, name: str, depth: int = 0) -> Array | None:
        """None: it is not constant. ValueError: it can't be computed."""
        if depth > _DEEPEST:
            raise ValueError(f"{name!r} is further than {_DEEPEST} operators from any weights")
        if name in self._known:
            return self._known[name]
        if name in self.initializers:
            found: Array | None = self.constants.read(self.initializers[name])
        elif name in self.producers:
            found = self._made_by(self.producers[name], depth)
        elif name in self._inputs or self.outer is None:
            found = None
        else:
            return self.outer.value(name, depth)
        self._known[name] = found
        return found

    def _made_by(self, node: Any, depth: int) -> Array | None:
        if node.domain not in STANDARD:
            return None
        if node.op_type == "Constant":
            return self.constants.constant(node)
        if node.op_type not in _FOLDED | _OF_SHAPES:
            return None
        feeds = {name: self.value(name, depth + 1) for name in node.input if name}
        given = {name: value for name, value in feeds.items() if value is not None}
        if len(given) < len(feeds):
            return None
        if node.op_type in ("Gather", "Mul") and any(value.size > _FEW for value in given.values()):
            return None
        return self.constants.computed(node, given)

    def assuming(self, name: str, array: Array) -> "Scope":
        """The same graph, in which a value is that array."""
        scope = copy(self)
        scope._known = {name: array}
        return scope


def scopes(model: Model) -> Iterator[Scope]:
    """Of the model's graph and of every graph in it, also in the bodies of If, Loop and Scan."""
    constants = Constants(model)
    found = [Scope(constants, model.proto.graph)]
    while found:
        scope = found.pop(0)
        yield scope
        found[:0] = [Scope(constants, graph, scope) for node in scope.nodes for graph in bodies(node)]


def bodies(node: Any) -> list[Any]:
    """The graphs in a node's attributes."""
    return [
        graph
        for attribute in node.attribute
        for graph in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
    ]


def _names(graph: Any) -> Iterator[Any]:
    """Every text of a graph that is looked up: as bytes where it is not UTF-8."""
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (tensor.name for tensor in graph.initializer)
