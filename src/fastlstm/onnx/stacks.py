"""Nodes that are the layers of one stacked LSTM or GRU: each reads what the one before it says, and nobody else does."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastlstm.onnx.constants import STANDARD, Scope
from fastlstm.onnx.nodes import Layer, is_recurrent

_SOME = (7, 11)  # an L and an N that no other size is likely to be
_MOST_STEPS = 4
_SAME = ("hidden_size", "bias", "batch_first", "bidirectional")


def readers(scopes: Sequence[Scope]) -> Counter[str]:
    """How many nodes and outputs of graphs name each value."""
    nodes = (name for scope in scopes for node in scope.nodes for name in node.input)
    return Counter([*nodes, *(put.name for scope in scopes for put in scope.graph.output)])


def before(node: Any, scope: Scope, readers: Counter[str]) -> Any:
    """The node whose whole output, its directions side by side, is all that this one reads, and which nobody else reads."""
    steps: list[Any] = []
    name = node.input[0] if node.input else ""
    while maker := scope.producers.get(name):
        if readers[name] - scope.asked[name] != 1:  # a shape says nothing that the layer doesn't
            return None
        if is_recurrent(maker):
            return maker if maker.output[0] == name and _join(steps, maker, scope) else None
        if maker.domain not in STANDARD or not maker.input or len(steps) == _MOST_STEPS:
            return None
        if maker.op_type not in ("Identity", "Dropout"):
            steps.insert(0, maker)
        name = maker.input[0]
    return None


def _join(steps: Sequence[Any], maker: Any, scope: Scope) -> bool:
    """Whether they make (L, N, D*H) of (L, D, N, H), whatever L and N are. A Squeeze is an error where there are two
    directions.
    """
    kinds = [step.op_type for step in steps]
    if kinds == ["Squeeze"]:
        return _integers(steps[0], scope) in ((1,), (-3,))
    if kinds != ["Transpose", "Reshape"] or _integers(steps[0], scope) != (0, 2, 1, 3):
        return False
    R, turned = scope.value(maker.input[2]) if len(maker.input) > 2 else None, steps[0].output[0]
    if R is None or R.ndim != 3:
        return False
    D, H = R.shape[0], min(R.shape[1:])
    L, N = (known or some for known, some in zip(_lengths(turned, scope), _SOME, strict=True))
    shape = scope.assuming(turned, np.broadcast_to(np.float32(0), (L, N, D, H))).value(
        next(iter(steps[1].input[1:]), "")
    )
    if shape is None or shape.shape != (3,) or shape.dtype != np.int64:
        return False
    sizes = [(L, N, D * H)[k] if size == 0 else int(size) for k, size in enumerate(shape)]
    found = [L * N * D * H // max(1, -int(np.prod(sizes))) if size == -1 else size for size in sizes]
    return found == [L, N, D * H]


def _lengths(name: str, scope: Scope) -> tuple[int, int]:
    """L and N of an array (L, N, D, H), 0 where the file doesn't say."""
    dims = scope.shapes.get(name, [])
    return (max(0, dims[0].dim_value), max(0, dims[1].dim_value)) if len(dims) == 4 else (0, 0)


def _integers(node: Any, scope: Scope) -> tuple[int, ...] | None:
    """The axes of a Squeeze, the order of a Transpose."""
    said = next((tuple(a.ints) for a in node.attribute if a.name in ("axes", "perm")), None)
    if said is None and len(node.input) > 1:
        value = scope.value(node.input[1])
        return None if value is None else tuple(np.ravel(value).tolist())
    return said


def fit(lower: Layer, upper: Layer) -> bool:
    """Whether torch could have both as layers of one module."""
    a, b = lower.arguments, upper.arguments
    return (
        lower.cell is upper.cell
        and not a["batch_first"]
        and all(a[name] == b[name] for name in _SAME)
        and b["input_size"] == a["hidden_size"] * (2 if a["bidirectional"] else 1)
        and next(iter(lower.arrays.values())).dtype == next(iter(upper.arrays.values())).dtype
        and (lower.hx is None) == (upper.hx is None)
        and (lower.hx is None or upper.hx is None or lower.hx[0].shape[1:] == upper.hx[0].shape[1:])
        and lower.lengths == upper.lengths
    )


def stacked(layers: Sequence[Layer]) -> Layer:
    """One layer of as many as there are, the lowest first; named after that."""
    arrays = {
        name.replace("_l0", f"_l{k}"): array for k, layer in enumerate(layers) for name, array in layer.arrays.items()
    }
    hx = None
    if layers[0].hx is not None:
        hx = tuple(np.concatenate(states) for states in zip(*(layer.hx or () for layer in layers), strict=True))
    return replace(layers[0], arguments={**layers[0].arguments, "num_layers": len(layers)}, arrays=arrays, hx=hx)
