"""A step of the GRU in plain tensor operations; beside `fastlstm.reference.gru`, its rung below."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.cells import GRU


class Steps(NamedTuple):
    """One layer in one direction at every step. The shapes are those of `output`, but for the features.

    h: (L, N, H_out), hidden states, before dropout; r, z, n: the gates after their activations, like h. Where the call's
    input is packed or nested, so are they; 0 past the end of a row.
    """

    h: Any
    r: Any
    z: Any
    n: Any


def step(a: Tensor, hx: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> Steps:
    """a (N, 3H) = w_ih x_t + b_ih; h (N, H) of the step before -> that of this one, and its gates. w_hr: None."""
    (h,) = hx
    r_x, z_x, n_x = a.chunk(len(GRU.gates), -1)
    r_h, z_h, n_h = linear(h, w_hh, b_hh).chunk(len(GRU.gates), -1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return Steps((1 - z) * n + z * h, r, z, n)
