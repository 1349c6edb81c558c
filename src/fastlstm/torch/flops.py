"""What `torch.utils.flop_counter.FlopCounterMode` counts of the recorded operators: the products of the rows there are, as it
counts those of `nn.LSTM` where it sees them (on the device meta).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from fastlstm.torch import recorded, recorded_segments
from fastlstm.weights import Sizes

_LSTM, _LSTM_BACKWARD, _SEGMENTS, _SEGMENTS_BACKWARD = (
    operator._opoverload.overloadpacket
    for operator in (recorded.lstm, recorded.lstm_backward, recorded_segments.lstm, recorded_segments.lstm_backward)
)


def _known(numbers: Sequence[int]) -> Sizes:
    I, H, P, layers, D, bias = numbers
    return Sizes(I, H, P, layers, D, bool(bias))


def _of_rows(sizes: Sequence[int], rows: int) -> int:
    known = _known(sizes)
    width = known.D * known.out
    total = 0
    for layer in range(known.layers):
        inputs = known.I if layer == 0 else width
        total += known.D * 2 * rows * (4 * known.H * (inputs + known.out) + known.H * known.P)
    return total


def _of_gradients(sizes: Sequence[int], rows: int, N: int, wanted: Sequence[bool]) -> int:
    """Each product has two gradients: of what is multiplied where that is wanted, and of the weight. What flows back through time
    is always wanted, into the initial state if the caller asks.
    """
    known = _known(sizes)
    want_x, want_h, _, *weights = wanted
    width, total = known.D * known.out, 0
    for cell in range(known.cells):
        layer = cell // known.D
        w_ih, w_hh, *rest = weights[cell * known.arrays : (cell + 1) * known.arrays]
        inputs = known.I if layer == 0 else width
        back = rows if want_h else max(0, rows - N)
        total += 8 * known.H * inputs * rows * (int(w_ih) + int(want_x or layer > 0))
        total += 8 * known.H * known.out * (rows * int(w_hh) + back)
        if known.P:
            total += 2 * known.H * known.P * rows * (1 + int(rest[-1]))
    return total


def _rows(x: torch.Size) -> int:
    return int(torch.Size(x[:-1]).numel())


@register_flop_formula(_LSTM)
def _lstm(
    x: Any, h_0: Any, c_0: Any, weights: Any, masks: Any, batch_sizes: Any, sizes: Any, *_: Any, **__: Any
) -> int:
    return _of_rows(sizes, _rows(x))


@register_flop_formula(_LSTM_BACKWARD)
def _lstm_backward(
    x: Any, h_0: Any, c_0: Any, weights: Any, masks: Any, batch_sizes: Any, sizes: Any, *rest: Any, **__: Any
) -> int:
    return _of_gradients(sizes, _rows(x), h_0[1], rest[-1])


def _steps(lengths: Any, x: Any) -> int:
    return int(lengths.sum()) if lengths is not None and lengths.device.type == "cpu" else int(x.shape[0])


@register_flop_formula(_SEGMENTS, get_raw=True)
def _segments(*given: Any, **_: Any) -> int:
    return _of_rows(given[11], _steps(given[5], given[0]))


@register_flop_formula(_SEGMENTS_BACKWARD, get_raw=True)
def _segments_backward(*given: Any, **_: Any) -> int:
    return _of_gradients(given[11], _steps(given[5], given[0]), given[1].shape[1], given[-1])
