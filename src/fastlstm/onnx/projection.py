"""A layer of an LSTM with a projection, which ONNX has no node for: a Scan over time for each direction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from fastlstm.onnx.model import Array
from fastlstm.onnx.parts import Parts
from fastlstm.weights import Sizes, cell_shapes


def layer(
    parts: Parts, sizes: Sizes, k: int, arrays: Mapping[str, Array], x: str, states: Sequence[str], rows: str
) -> tuple[str, list[str]]:
    """The arguments and results of an LSTM's; rows: of `inside`. The weights keep torch's names and order."""
    sides = [_direction(parts, sizes, k, d, arrays, x, states, rows) for d in range(sizes.D)]
    outputs, *last = zip(*sides, strict=True)
    ends = [[parts.add("Unsqueeze", state, parts.integers(0)) for state in of] for of in last]
    return parts.add("Concat", *outputs, axis=2), [parts.add("Concat", *of, axis=0) for of in ends]


def inside(parts: Parts, x: str, lengths: str) -> str:
    """(L, N, 1): whether a step is one of its row's own."""
    zero, one = parts.scalar(0), parts.scalar(1)
    L = parts.add("Squeeze", parts.add("Shape", x, start=0, end=1), parts.integers(0))
    steps = parts.add("Unsqueeze", parts.add("Range", zero, L, one), parts.integers(1, 2))
    return parts.add("Less", steps, parts.add("Unsqueeze", lengths, parts.integers(1)))


def _direction(
    parts: Parts,
    sizes: Sizes,
    k: int,
    d: int,
    arrays: Mapping[str, Array],
    x: str,
    states: Sequence[str],
    rows: str,
) -> list[str]:
    """The names of output (L, N, P), h_n (N, P) and c_n (N, H)."""
    end = f"_l{k}" + ("", "_reverse")[d]
    w = {name: parts.array(name + end, arrays[name + end]) for name in cell_shapes(sizes, k)}
    of_input = parts.add("MatMul", x, parts.add("Transpose", w["weight_ih"], perm=[1, 0]))
    if sizes.bias:
        of_input = parts.add("Add", of_input, parts.add("Add", w["bias_ih"], w["bias_hh"]))
    given = [parts.add("Gather", state, parts.scalar(d), axis=0) for state in states]
    scanned = [of_input, *([rows] if rows else [])]
    if rows:
        parts.array("zero", np.zeros((), arrays[f"weight_hr{end}"].dtype))
    results = [f"{name}{end}" for name in ("last_h", "last_c", "output")]
    parts.add(
        "Scan",
        *given,
        *scanned,
        outputs=results,
        name=f"lstm{end}",
        body=_step(sizes, end, helper.np_dtype_to_tensor_dtype(arrays[f"weight_hr{end}"].dtype), bool(rows)),
        num_scan_inputs=len(scanned),
        scan_input_directions=[d] * len(scanned),
        scan_output_directions=[d],
    )
    return [results[2], *results[:2]]


def _step(sizes: Sizes, end: str, real: int, ragged: bool) -> Any:
    """One step of one direction: h, c, the input's part of the gates, and whether the step is the row's own."""
    parts = Parts(end)
    h, c, of_input, inside = (f"{name}{end}" for name in ("h", "c", "of_input", "inside"))
    gates = [f"{gate}{end}" for gate in sizes.cell.gates]
    parts.add("Split", parts.add("Gemm", h, f"weight_hh{end}", of_input, transB=1), outputs=gates, axis=1)
    i, f, o = (parts.add("Sigmoid", gates[n]) for n in (0, 1, 3))
    kept = parts.add("Mul", f, c)
    new_c = parts.add("Add", kept, parts.add("Mul", i, parts.add("Tanh", gates[2])))
    cell = parts.add("Mul", o, parts.add("Tanh", new_c))
    new_h = parts.add("Gemm", cell, f"weight_hr{end}", transB=1)
    output = new_h
    if ragged:
        output = parts.add("Where", inside, new_h, "zero")
        new_h, new_c = (parts.add("Where", inside, new, old) for new, old in ((new_h, h), (new_c, c)))
    results = [parts.add("Identity", name) for name in (new_h, new_c, output)]
    widths = {h: sizes.P, c: sizes.H, of_input: len(sizes.cell.gates) * sizes.H}
    inputs = [helper.make_tensor_value_info(name, real, [None, width]) for name, width in widths.items()]
    if ragged:
        inputs.append(helper.make_tensor_value_info(inside, TensorProto.BOOL, [None, 1]))
    outputs = [
        helper.make_tensor_value_info(name, real, [None, width])
        for name, width in zip(results, (sizes.P, sizes.H, sizes.P), strict=True)
    ]
    return helper.make_graph(parts.nodes, f"step{end}", inputs, outputs)
