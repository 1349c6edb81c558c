"""A step of the LSTM in plain tensor operations; beside `fastlstm.reference.lstm`, its rung below."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.cells import LSTM
from fastlstm.traces import Steps


def step(a: Tensor, hx: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> Steps:
    """a (N, 4H) = w_ih x_t + b_ih; h (N, P or H) and c (N, H) of the step before -> those of this one, and its gates."""
    h, c = hx
    i, f, g, o = (a + linear(h, w_hh, b_hh)).chunk(len(LSTM.gates), -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return Steps(h if w_hr is None else linear(h, w_hr), c, i, f, g, o)
