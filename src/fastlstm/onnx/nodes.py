"""An LSTM or GRU node as a layer: its attributes, weights under torch's names, and the states that the file fixes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from fastlstm.cells import BY_NAME, GRU, LSTM, Cell
from fastlstm.onnx.constants import STANDARD, Scope
from fastlstm.onnx.gates import from_onnx_order
from fastlstm.onnx.model import Array
from fastlstm.weights import Sizes, named_shapes

_QUANTIZED = "DynamicQuantizeLSTM"  # ONNX Runtime's, whose weights are integers
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_MORE_INPUTS = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")
_ACTIVATIONS = {LSTM: ("sigmoid", "tanh", "tanh"), GRU: ("sigmoid", "tanh")}
_REALS = ("float16", "float32", "float64", "bfloat16")
_HARMLESS = frozenset({"activation_alpha", "activation_beta", "output_sequence"})


@dataclass(frozen=True)
class Layer:
    """name: of its (first) node. arguments: of torch's constructor. arrays: under torch's names. hx: states that the file
    fixes and that are not zeros; None where the graph computes or takes them. lengths: the name of what gives them.
    """

    name: str
    cell: Cell
    arguments: Mapping[str, Any]
    arrays: Mapping[str, Array]
    hx: tuple[Array, ...] | None = None
    lengths: str = ""


def is_recurrent(node: Any) -> bool:
    return (node.domain in STANDARD and node.op_type in BY_NAME) or (
        node.domain == "com.microsoft" and node.op_type == _QUANTIZED
    )


def name_of(node: Any) -> str:
    """Its name, or that of its first output where it has none."""
    return str(node.name or next(filter(None, node.output), node.op_type))


def read(node: Any, scope: Scope) -> Layer:
    """ValueError: it is not such a layer as ours; it names the node, and its attribute or input."""
    try:
        return _Reader(node, scope).layer()
    except ValueError as error:
        raise ValueError(f"{node.op_type} node {name_of(node)!r}: {error}") from error


class _Reader:
    def __init__(self, node: Any, scope: Scope) -> None:
        self.node, self.scope = node, scope
        self.cell = BY_NAME.get(node.op_type, LSTM)
        names = _INPUTS[:6] if self.cell is GRU else _INPUTS + _MORE_INPUTS
        if len(node.input) > len(names):
            raise ValueError(f"it has {len(node.input)} inputs")
        self.inputs = {name: value for name, value in zip(names, node.input, strict=False) if value}

    def layer(self) -> Layer:
        D, layout, hidden_size = self._attributes()
        if "P" in self.inputs:
            raise ValueError("it has peepholes (P), which no layer of torch's has")
        W, R = self._weights("W"), self._weights("R")
        gates = len(self.cell.gates)
        if W.ndim != 3 or R.ndim != 3 or W.shape[:2] != R.shape[:2] or W.shape[0] != D or 0 in W.shape:
            raise ValueError(
                f"W and R have the shapes {W.shape} and {R.shape}, which are not those of {D} direction(s)"
            )
        I, H = W.shape[2], R.shape[2]
        if R.shape != (D, gates * H, H) or hidden_size not in (None, H):
            raise ValueError(
                f"R has the shape {R.shape}, and hidden_size is {hidden_size}: expected {(D, gates * H, H)}"
            )
        B = self._constant("B") if "B" in self.inputs else None
        if B is not None and B.shape != (D, 2 * gates * H):
            raise ValueError(f"B has the shape {B.shape}, expected {(D, 2 * gates * H)}")
        dtypes = {array.dtype for array in (W, R, B) if array is not None}
        if len(dtypes) > 1 or W.dtype.name not in _REALS:
            raise ValueError(f"expected weights of one real dtype, got {', '.join(sorted(d.name for d in dtypes))}")
        sizes = Sizes(I, H, D=D, bias=B is not None, cell=self.cell)
        arguments = {
            "input_size": I,
            "hidden_size": H,
            "num_layers": 1,
            "bias": sizes.bias,
            "batch_first": layout == 1,
            "dropout": 0.0,
            "bidirectional": D == 2,
        }
        if self.cell is LSTM:
            arguments["proj_size"] = 0
        return Layer(
            name_of(self.node),
            self.cell,
            arguments,
            self._named(sizes, W, R, B),
            self._states(sizes, layout),
            self.inputs.get("sequence_lens", ""),
        )

    def _attributes(self) -> tuple[int, int, int | None]:
        """Directions, layout, hidden_size."""
        said = {a.name: onnx.helper.get_attribute_value(a) for a in self.node.attribute}
        direction = _text(said.pop("direction", b"forward"))
        if direction not in ("forward", "bidirectional"):
            raise ValueError(f"direction is {direction!r}, and no layer of torch's has the reverse one alone")
        D = 2 if direction == "bidirectional" else 1
        layout, hidden_size = said.pop("layout", 0), said.pop("hidden_size", None)
        if layout not in (0, 1):
            raise ValueError(f"layout is {layout!r}, expected 0 or 1")
        names = said.pop("activations", [])
        given = [_text(name).lower() for name in (names if isinstance(names, list) else [names])]
        if given and given != [*_ACTIVATIONS[self.cell]] * D:
            raise ValueError(f"activations are {', '.join(given)}, expected {', '.join(_ACTIVATIONS[self.cell])}")
        if said.pop("input_forget", 0) != 0:
            raise ValueError("input_forget is 1: its input and forget gates are coupled")
        if self.cell is GRU and said.pop("linear_before_reset", 0) != 1:
            raise ValueError(
                "linear_before_reset is 0, as torch's GRU has never been: its n resets h, not R_n h + b_hn"
            )
        for name in said:
            if name not in _HARMLESS:
                raise ValueError(f"it has the attribute {name}, which no layer of torch's knows")
        return D, layout, hidden_size

    def _constant(self, name: str) -> Array:
        value = self.scope.value(self.inputs[name]) if name in self.inputs else None
        if value is None:
            raise ValueError(f"its {name} is not a constant of the file")
        return value

    def _weights(self, name: str) -> Array:
        """(D, gates*H, features), as real numbers."""
        found = self._constant(name)
        self.scope.constants.spend(found.size)
        if self.node.op_type != _QUANTIZED:
            return found
        scale, zero = self._constant(f"{name}_scale"), self._constant(f"{name}_zero_point")
        D = found.shape[0] if found.ndim == 3 else 0
        fits = all(t.shape in ((D,), (D, found.shape[-1])) for t in (scale, zero)) if D else False
        if not fits or scale.dtype != np.float32 or found.dtype.itemsize != 1:
            raise ValueError(f"{name} is not quantized as ONNX Runtime does it")
        reals = found.astype(np.float32) - zero.astype(np.float32).reshape(D, 1, -1)
        return np.asarray((reals * scale.reshape(D, 1, -1)).swapaxes(1, 2))

    def _named(self, sizes: Sizes, W: Array, R: Array, B: Array | None) -> dict[str, Array]:
        arrays: list[Array] = []
        for k in range(sizes.D):
            own = [W[k], R[k], *([] if B is None else np.split(B[k], 2))]
            arrays += [from_onnx_order(self.cell, rows) for rows in own]
        return dict(zip(named_shapes(sizes), arrays, strict=True))

    def _states(self, sizes: Sizes, layout: int) -> tuple[Array, ...] | None:
        """None: zeros, or not constant."""
        given = [self.inputs.get(f"initial_{state}") for state in sizes.cell.states]
        found = [None if name is None else self.scope.value(name) for name in given]
        whole = next((value for value in found if value is not None), None)
        if whole is None or any(value is None and name for name, value in zip(given, found, strict=True)):
            return None
        states = [np.zeros_like(whole) if value is None else value for value in found]
        if any(t.ndim != 3 or t.shape != whole.shape or t.shape[1 if layout else 0] != sizes.D for t in states):
            raise ValueError(f"its initial states have the shapes {', '.join(str(t.shape) for t in states)}")
        states = [t.swapaxes(0, 1) if layout else t for t in states]
        return tuple(states) if any(t.any() for t in states) else None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
