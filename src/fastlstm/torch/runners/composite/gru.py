"""A step of the GRU in plain tensor operations; beside `fastlstm.reference.gru`, its rung below. And its slopes, as an LSTM's."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.cells import GRU
from fastlstm.traces import GRUSteps

GATES = len(GRU.gates)
SUMS = GATES + 1  # n's over x, r, z, and n's over h, which r is multiplied by: the engine's order
FIRST_OF_HIDDEN = 1


def step(a: Tensor, hx: tuple[Tensor, ...], w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None) -> GRUSteps:
    """a (N, 3H) = w_ih x_t + b_ih; h (N, H) of the step before -> that of this one, and its gates. w_hr: None."""
    (h,) = hx
    r_x, z_x, n_x = a.chunk(GATES, -1)
    r_h, z_h, n_h = linear(h, w_hh, b_hh).chunk(GATES, -1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return GRUSteps((1 - z) * n + z * h, r, z, n)


def sums(x: Tensor, w_ih: Tensor, b_ih: Tensor | None, b_hh: Tensor | None, linear: Any = linear) -> Tensor:
    r, z, n = linear(x, w_ih, b_ih).chunk(GATES, -1)
    if b_hh is None:
        return torch.cat([n, r, z, torch.zeros_like(n)], -1)
    b_r, b_z, b_n = b_hh.chunk(GATES, -1)
    return torch.cat([n, r + b_r, z + b_z, b_n.expand_as(n)], -1)


def of_input(da: Tensor) -> Tensor:
    return da.narrow(-1, 0, da.shape[-1] // SUMS * GATES)


def as_weights(rows: Tensor) -> Tensor:
    return rows.roll(-(len(rows) // GATES), 0)


def as_sums(w: Tensor) -> Tensor:
    return w.roll(len(w) // GATES, 0)


def steps(h: Tensor, gates: Tensor) -> GRUSteps:
    n, r, z, _ = gates.chunk(SUMS, -1)
    return GRUSteps(h, r, z, n)


def slopes(gates: Tensor, h_before: Tensor, h: Tensor) -> Tensor:
    """Of h_t to the four sums, and to h_{t-1} past them."""
    n, r, z, n_h = gates.chunk(SUMS, -1)
    of_n = (1 - z) * (1 - n * n)
    return torch.cat([of_n, of_n * n_h * r * (1 - r), (h_before - n) * z * (1 - z), of_n * r, z], -1)


def gates_from_sums(gates: Tensor, s: Tensor) -> Tensor:
    n, r, z, n_h = gates.chunk(SUMS, -1)
    s_n, s_r, s_z, s_h = s.chunk(SUMS, -1)
    r_t = s_r * r * (1 - r)
    return torch.cat([(1 - n * n) * (s_n + r_t * n_h + r * s_h), r_t, s_z * z * (1 - z), s_h], -1)


def sums_from_gates(gates: Tensor, d: Tensor) -> Tensor:
    n, r, z, n_h = gates.chunk(SUMS, -1)
    d_n, d_r, d_z, d_h = d.chunk(SUMS, -1)
    ds = d_n * (1 - n * n)
    return torch.cat([ds, (d_r + ds * n_h) * r * (1 - r), d_z * z * (1 - z), d_h + ds * r], -1)


def pairs(reaching: tuple[Tensor, ...], states: tuple[Tensor, ...], s: Tensor, h_before: Tensor) -> Tensor:
    (dh,) = reaching
    return torch.cat([dh * each for each in (*s.chunk(SUMS, -1), h_before)], -1)


def injected(slopes_t: Tensor, states: tuple[Tensor, ...], s: Tensor, h_before: Tensor) -> tuple[Tensor, Tensor | None]:
    *of_sums, direct = slopes_t.chunk(SUMS + 1, -1)
    n, r, z, n_h = (slope * each for slope, each in zip(of_sums, s.chunk(SUMS, -1), strict=True))
    return n + r + z + n_h + direct * h_before, None


def reached(slopes_t: Tensor, reaching: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None, Tensor]:
    *of_sums, direct = slopes_t.chunk(SUMS + 1, -1)
    (dh,) = reaching
    return torch.cat([slope * dh for slope in of_sums], -1), None, direct * dh
