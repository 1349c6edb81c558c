"""What `torch.utils.flop_counter.FlopCounterMode` counts of the recorded operators: the products of the rows there are, as it
counts those of `nn.LSTM` where it sees them (on the device meta).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from fastlstm.cells import CELLS, Cell
from fastlstm.torch.graph import operator
from fastlstm.weights import Sizes


def _of_rows(known: Sizes, rows: int) -> int:
    width = known.D * known.out
    total = 0
    for layer in range(known.layers):
        inputs = known.I if layer == 0 else width
        total += known.D * 2 * rows * (len(known.cell.gates) * known.H * (inputs + known.out) + known.H * known.P)
    return total


def _of_gradients(known: Sizes, rows: int, N: int, wanted: Sequence[bool]) -> int:
    """Each product has two gradients: of what is multiplied where that is wanted, and of the weight. What flows back through time
    is always wanted, into the initial state if the caller asks.
    """
    want_x, want_h, weights = *wanted[:2], wanted[1 + len(known.of_states) :]
    width, total = known.D * known.out, 0
    product = 2 * len(known.cell.gates) * known.H  # flops for each row and feature
    for chain in range(known.chains):
        layer = chain // known.D
        w_ih, w_hh, *rest = weights[chain * known.arrays : (chain + 1) * known.arrays]
        inputs = known.I if layer == 0 else width
        back = rows if want_h else max(0, rows - N)
        total += product * inputs * rows * (int(w_ih) + int(want_x or layer > 0))
        total += product * known.out * (rows * int(w_hh) + back)
        if known.P:
            total += 2 * known.H * known.P * rows * (1 + int(rest[-1]))
    return total


def _rows(x: Any, lengths: Any) -> int:
    """The steps there are: of every row, or of the lengths where they can be read."""
    if lengths is not None and lengths.device.type == "cpu":
        return int(lengths.sum())
    return int(torch.Size(x.shape[:-1]).numel())


def _forward(cell: Cell, *arguments: Any, **_: Any) -> int:
    call, _per_row = operator.Call.read(cell, arguments)
    return _of_rows(call.sizes, _rows(call.x, call.rows.lengths))


def _backward(cell: Cell, *arguments: Any, **_: Any) -> int:
    call, (*_rest, wanted) = operator.Call.read(cell, arguments)
    return _of_gradients(call.sizes, _rows(call.x, call.rows.lengths), call.batch.N, wanted)


def _inference(cell: Cell, x: Any, *arguments: Any, **_: Any) -> int:
    return _of_rows(operator.sizes_of(*arguments[-1]), _rows(x, None))


for _cell in CELLS:
    for _operator, _formula in zip(operator.OPERATORS[_cell.name], (_forward, _backward, _inference), strict=True):
        register_flop_formula(_operator.overloadpacket, get_raw=True)(partial(_formula, _cell))
