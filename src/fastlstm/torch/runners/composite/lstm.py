"""A step of the LSTM in plain tensor operations; beside `fastlstm.reference.lstm`, its rung below."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.cells import LSTM


class Steps(NamedTuple):
    """One layer in one direction at every step. The shapes are those of `output`, but for the features.

    h: (L, N, H_out), hidden states, before dropout; c: (L, N, H_cell), cell states; i, f, g, o: (L, N, H_cell), the gates
    after their activations. Where the call's input is packed or nested, so are they; 0 past the end of a row.
    """

    h: Any
    c: Any
    i: Any
    f: Any
    g: Any
    o: Any


def step(a: Tensor, hx: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> Steps:
    """a (N, 4H) = w_ih x_t + b_ih; h (N, P or H) and c (N, H) of the step before -> those of this one, and its gates."""
    h, c = hx
    i, f, g, o = (a + linear(h, w_hh, b_hh)).chunk(len(LSTM.gates), -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return Steps(h if w_hr is None else linear(h, w_hr), c, i, f, g, o)
