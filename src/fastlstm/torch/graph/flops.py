"""What `torch.utils.flop_counter.FlopCounterMode` counts of the recorded operators: the products of the rows there are, as it
counts those of `nn.LSTM` where it sees them (on the device meta).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from fastlstm.cells import LSTM
from fastlstm.torch import context
from fastlstm.torch.graph import operator

_LSTM, _LSTM_BACKWARD = (context.overload(found).overloadpacket for found in (operator.lstm, operator.lstm_backward))


def _of_rows(sizes: Sequence[int], rows: int) -> int:
    known = operator.sizes_of(sizes)
    width = known.D * known.out
    total = 0
    for layer in range(known.layers):
        inputs = known.I if layer == 0 else width
        total += known.D * 2 * rows * (len(LSTM.gates) * known.H * (inputs + known.out) + known.H * known.P)
    return total


def _of_gradients(sizes: Sequence[int], rows: int, N: int, wanted: Sequence[bool]) -> int:
    """Each product has two gradients: of what is multiplied where that is wanted, and of the weight. What flows back through time
    is always wanted, into the initial state if the caller asks.
    """
    known = operator.sizes_of(sizes)
    want_x, want_h, _, *weights = wanted
    width, total = known.D * known.out, 0
    product = 2 * len(LSTM.gates) * known.H  # flops for each row and feature
    for cell in range(known.chains):
        layer = cell // known.D
        w_ih, w_hh, *rest = weights[cell * known.arrays : (cell + 1) * known.arrays]
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


@register_flop_formula(_LSTM, get_raw=True)
def _lstm(*arguments: Any, **_: Any) -> int:
    return _of_rows(arguments[10], _rows(arguments[0], arguments[6]))


@register_flop_formula(_LSTM_BACKWARD, get_raw=True)
def _lstm_backward(*arguments: Any, **_: Any) -> int:
    return _of_gradients(arguments[10], _rows(arguments[0], arguments[6]), arguments[1].shape[1], arguments[-1])
