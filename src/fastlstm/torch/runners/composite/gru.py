"""A step of the GRU in plain tensor operations; beside `fastlstm.reference.gru`, its rung below."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.cells import GRU
from fastlstm.traces import GRUSteps


def step(a: Tensor, hx: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> GRUSteps:
    """a (N, 3H) = w_ih x_t + b_ih; h (N, H) of the step before -> that of this one, and its gates. w_hr: None."""
    (h,) = hx
    r_x, z_x, n_x = a.chunk(len(GRU.gates), -1)
    r_h, z_h, n_h = linear(h, w_hh, b_hh).chunk(len(GRU.gates), -1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return GRUSteps((1 - z) * n + z * h, r, z, n)
