"""Calls that no operator of torch's does, for torch.onnx.export: lengths as ONNX's own nodes have them; a projection and resets,
which those don't have, as a loop over time that stays one, whatever the length.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.cells import LSTM, Cell
from fastlstm.torch.batch import Results
from fastlstm.torch.graph.operator import Call
from fastlstm.torch.runners.composite import CELLS
from fastlstm.weights import Sizes


def run(call: Call) -> Results:
    """output, h_n, c_n of a call with lengths, resets or a projection, or several of these, without masks."""
    first, lengths, reset, *_ = call.rows
    if not hasattr(torch.onnx, "ops"):
        raise NotImplementedError("torch.onnx.export takes lengths, reset and projections since PyTorch 2.8")
    x = call.x.transpose(0, 1) if first else call.x
    if reset is not None and first:
        reset = reset.transpose(0, 1)
    last: list[Results] = []
    for k in range(call.sizes.layers):
        chains = slice(k * call.sizes.D, (k + 1) * call.sizes.D)
        states = tuple(t[chains] for t in call.states)
        weights = call.weights[chains.start * call.sizes.arrays : chains.stop * call.sizes.arrays]
        if reset is None and call.sizes.P == 0:
            x, *ends = _node(call.sizes, x, states, weights, lengths)
        else:
            x, *ends = _loops(call.sizes, x, states, weights, lengths, reset)
        last.append(tuple(ends))
    return x.transpose(0, 1) if first else x, *map(torch.cat, zip(*last, strict=True))


def _node(sizes: Sizes, x: Tensor, hx: Results, weights: Sequence[Tensor], lengths: Tensor) -> Results:
    """A layer by an LSTM or GRU of ONNX. x (T, N, features), hx (D, N, H) each; output (T, N, D*H)."""
    arrays, (T, N, _) = sizes.arrays, x.shape
    own = [weights[k * arrays : (k + 1) * arrays] for k in range(sizes.D)]
    given = [torch.stack([_in_order(sizes.cell, w[k]) for w in own]) for k in (0, 1)]
    if sizes.bias:
        given.append(torch.stack([torch.cat([_in_order(sizes.cell, w[k]) for k in (2, 3)]) for w in own]))
    options: dict[str, Any] = {"hidden_size": sizes.H, "direction": "bidirectional" if sizes.D == 2 else "forward"}
    if sizes.cell is not LSTM:
        options["linear_before_reset"] = 1
    y, *last = torch.onnx.ops.symbolic_multi_out(
        sizes.cell.name,
        [x, *given, *([] if sizes.bias else [None]), lengths.to(torch.int32), *hx],
        options,
        dtypes=[x.dtype] * (1 + len(hx)),
        shapes=[(T, sizes.D, N, sizes.H), *(t.shape for t in hx)],
        version=14,
    )
    empty = (lengths == 0).reshape(1, -1, 1)  # ONNX Runtime says that such a row ends in zeros
    ends = [torch.where(empty, began, end) for began, end in zip(hx, last, strict=True)]
    return _side_by_side(y), *ends


def _side_by_side(y: Tensor) -> Tensor:
    """(T, D, N, H) as (T, N, D*H), whatever T and N are: so nothing of their sizes is computed, and whoever reads the file sees
    that the node above reads all of it.
    """
    shape = torch.cat([y.new_full((1,), size, dtype=torch.int64) for size in (0, 0, -1)])  # a constant of the file
    turned, (T, D, N, H) = y.transpose(1, 2), y.shape
    return torch.onnx.ops.symbolic("Reshape", [turned, shape], dtype=y.dtype, shape=(T, N, D * H), version=14)


def _in_order(cell: Cell, rows: Tensor) -> Tensor:
    """By slices, which the exporter computes, so that the file has one array, as `from_onnx` and others expect it."""
    H = rows.shape[0] // len(cell.gates)
    return torch.cat([rows[k * H : (k + 1) * H] for k in map(cell.gates.index, cell.onnx_gates)])


def _loops(
    sizes: Sizes, x: Tensor, hx: Results, weights: Sequence[Tensor], lengths: Tensor | None, reset: Tensor | None
) -> Results:
    """A layer by a Scan for each direction; arguments and results as `_node`."""
    inside = None
    if lengths is not None:
        inside = (torch.arange(x.shape[0], device=x.device).unsqueeze(1) < lengths).unsqueeze(-1)
    sides = []
    for k in range(sizes.D):
        own = weights[k * sizes.arrays : (k + 1) * sizes.arrays]
        fresh = None if reset is None else reset.unsqueeze(-1)
        if fresh is not None and k == 1:  # the step after is another segment's, if it is the row's at all
            after = fresh if inside is None else fresh & inside
            fresh = torch.cat([after[1:], torch.zeros_like(after[:1])])
        sides.append(_loop(sizes, x, tuple(t[k] for t in hx), own, inside, fresh, k == 1))
    outputs, *last = zip(*sides, strict=True)
    return torch.cat(outputs, -1), *map(torch.stack, last)


def _loop(
    sizes: Sizes,
    x: Tensor,
    hx: Results,
    weights: Sequence[Tensor],
    inside: Tensor | None,
    fresh: Tensor | None,
    reverse: bool,
) -> Results:
    """One direction: output (T, N, P or H), the states after its last step. inside, fresh (T, N, 1): whether a step is the row's
    own, and whether it begins with zeros.
    """
    states, flags = len(hx), [t for t in (inside, fresh) if t is not None]
    scanned = [linear(x, weights[0], weights[2] if sizes.bias else None), *flags]
    if reverse:
        scanned = [t.flip(0) for t in scanned]

    def step(*given: Tensor) -> list[Tensor]:
        before, a, own = given[:states], given[states], list(given[states + 1 : states + 1 + len(flags)])
        w_hh, *rest = given[states + 1 + len(flags) :]
        b_hh, w_hr = rest[0] if sizes.bias else None, rest[-1] if sizes.P else None
        is_inside = own.pop(0) if inside is not None else None
        begins = before if fresh is None else tuple(torch.where(own[0], torch.zeros_like(t), t) for t in before)
        after = CELLS[sizes.cell.name].step(a, begins, w_hh, b_hh, w_hr)[:states]
        if is_inside is None:
            return [*(t.clone() for t in after), after[0].clone()]
        ends = [torch.where(is_inside, new, old) for new, old in zip(after, before, strict=True)]
        return [*ends, torch.where(is_inside, after[0], torch.zeros_like(after[0]))]

    more = [weights[1], *([weights[3]] if sizes.bias else []), *([weights[-1]] if sizes.P else [])]
    *last, output = torch.ops.higher_order.scan(step, [t.contiguous() for t in hx], scanned, tuple(more))
    return output.flip(0) if reverse else output, *last
