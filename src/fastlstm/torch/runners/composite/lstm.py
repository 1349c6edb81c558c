"""A step of the LSTM in plain tensor operations; beside `fastlstm.reference.lstm`, its rung below. And its slopes, its
derivatives, as `graph/chain/` asks a cell for them: arrays side by side, (rows, arrays * H).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.cells import LSTM
from fastlstm.traces import Steps

GATES = len(LSTM.gates)
FIRST_OF_HIDDEN = 0  # of a unit's sums, here i, f, g, o, the first that R h_{t-1} reaches


def step(a: Tensor, hx: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> Steps:
    """a (N, 4H) = w_ih x_t + b_ih; h (N, P or H) and c (N, H) of the step before -> those of this one, and its gates."""
    h, c = hx
    i, f, g, o = (a + linear(h, w_hh, b_hh)).chunk(GATES, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return Steps(h if w_hr is None else linear(h, w_hr), c, i, f, g, o)


def sums(x: Tensor, w_ih: Tensor, b_ih: Tensor | None, b_hh: Tensor | None, linear: Any = linear) -> Tensor:
    """What a step's sums are without R h_{t-1}: by `linear`, or what has its arguments."""
    found: Tensor = linear(x, w_ih, None if b_ih is None or b_hh is None else b_ih + b_hh)
    return found


def of_input(da: Tensor) -> Tensor:
    """Of gradients of the sums those of W x_t."""
    return da


def as_weights(rows: Tensor) -> Tensor:
    """From rows in the order of these to the order of W's."""
    return rows


def as_sums(w: Tensor) -> Tensor:
    """The other way."""
    return w


def steps(h: Tensor, c: Tensor, gates: Tensor) -> Steps:
    """Of all rows."""
    return Steps(h, c, *gates.chunk(GATES, -1))


def slopes(gates: Tensor, c_before: Tensor, c: Tensor) -> Tensor:
    """Of c_t to the sums of i, f, g; of h_t to that of o; of c_t to c_{t-1}; of h_t to c_t."""
    i, f, g, o = gates.chunk(GATES, -1)
    tanh_c = torch.tanh(c)
    of_sums = (g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o))
    return torch.cat([*of_sums, f, o * (1 - tanh_c * tanh_c)], -1)


def gates_from_sums(gates: Tensor, s: Tensor) -> Tensor:
    """The tangent of the gates."""
    return s * _own(gates)


def sums_from_gates(gates: Tensor, d: Tensor) -> Tensor:
    """The gradient of the sums, given that of the gates."""
    return d * _own(gates)


def _own(gates: Tensor) -> Tensor:
    i, f, g, o = gates.chunk(GATES, -1)
    return torch.cat([i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)], -1)


def pairs(reaching: tuple[Tensor, ...], states: tuple[Tensor, ...], s: Tensor, c_before: Tensor) -> Tensor:
    """The gradient of the slopes: what reaches h and c, times the tangent that a slope is multiplied by."""
    (dh, dc), (_, c) = reaching, states
    i, f, g, o = s.chunk(GATES, -1)
    return torch.cat([dc * i, dc * f, dc * g, dh * o, dc * c_before, dh * c], -1)


def injected(slopes_t: Tensor, states: tuple[Tensor, ...], s: Tensor, c_before: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a change of the slopes adds to the tangents of h_t, past c_t, and of c_t."""
    i, f, g, o, direct, shown = slopes_t.chunk(GATES + 2, -1)
    s_i, s_f, s_g, s_o = s.chunk(GATES, -1)
    return o * s_o + shown * states[1], i * s_i + f * s_f + g * s_g + direct * c_before


def reached(slopes_t: Tensor, reaching: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None, Tensor]:
    """What a change of the slopes adds to what reaches the sums, c_t, and c_{t-1}."""
    i, f, g, o, direct, shown = slopes_t.chunk(GATES + 2, -1)
    dh, dc = reaching
    return torch.cat([i * dc, f * dc, g * dc, o * dh], -1), shown * dh, direct * dc
