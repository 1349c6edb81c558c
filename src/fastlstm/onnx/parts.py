"""Nodes and initializers of a graph that is being built."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from fastlstm.onnx.model import Array


class Parts:
    """end: of the names of its values, by which those of a graph within another differ from that one's."""

    def __init__(self, end: str = "") -> None:
        self.end = end
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def add(self, kind: str, *inputs: str, outputs: str | Sequence[str] = "", name: str = "", **attributes: Any) -> str:
        """A node with those outputs, or one of some name; the name of its first output."""
        made = [outputs or f"{kind.lower()}_{len(self.nodes)}{self.end}"] if isinstance(outputs, str) else list(outputs)
        self.nodes.append(helper.make_node(kind, inputs, made, name or None, **attributes))
        return made[0]

    def array(self, name: str, array: Array) -> str:
        if all(known.name != name for known in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def integers(self, *numbers: int) -> str:
        return self.array("_".join(["axes", *map(str, numbers)]), np.array(numbers, np.int64))

    def scalar(self, number: int) -> str:
        return self.array(f"number_{number}", np.array(number, np.int64))

    def split(self, name: str, count: int, length: int) -> list[str]:
        """Pieces of that length, along the first axis."""
        pieces = [f"{name}_l{k}" for k in range(count)]
        if count == 1:
            return [self.add("Identity", name, outputs=pieces)]
        self.add("Split", name, self.array(f"{name}_lengths", np.full(count, length)), outputs=pieces, axis=0)
        return pieces
