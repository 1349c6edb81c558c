"""A step of the GRU, gates in the order r, z, n.

    r, z = sigmoid(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh)
    n = tanh(w_ih x_t + b_ih + r * (w_hh h_{t-1} + b_hh))    (each with its own rows of the weights)
    h_t = (1 - z) * n + z * h_{t-1}

Source: Cho et al. 2014, with r after the product as in `torch.nn.GRU` (and ONNX's linear_before_reset = 1).
"""

from typing import NamedTuple

import numpy as np

from fastlstm.cells import GRU
from fastlstm.reference.weights import Array, Weights, sigmoid


class Step(NamedTuple):
    """What one step computed, all (N, H): the gates, and the recurrent part of n, w_hh h_{t-1} + b_hh."""

    r: Array
    z: Array
    n: Array
    n_h: Array


def step(x: Array, hx: tuple[Array, ...], W: Weights) -> tuple[tuple[Array], Step]:
    """x (N, I) and h (N, H) of the step before -> h and what `step_backward` needs."""
    (h,) = hx
    r_x, z_x, n_x = np.split(x @ W.w_ih.T + W.b_ih, len(GRU.gates), axis=1)
    r_h, z_h, n_h = np.split(h @ W.w_hh.T + W.b_hh, len(GRU.gates), axis=1)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    n = np.tanh(n_x + r * n_h)
    return ((1 - z) * n + z * h,), Step(r, z, n, n_h)


def step_backward(
    dhx: tuple[Array, ...], x: Array, hx: tuple[Array, ...], kept: Step, W: Weights
) -> tuple[Array, tuple[Array], Weights]:
    """From the gradient of a step's h to those of its x, h (of the step before) and weights."""
    (dh,), (h,), (r, z, n, n_h) = dhx, hx, kept
    dn = dh * (1 - z) * (1 - n**2)
    dz = dh * (h - n) * z * (1 - z)
    dr = dn * n_h * r * (1 - r)
    da_x, da_h = np.concatenate([dr, dz, dn], axis=1), np.concatenate([dr, dz, dn * r], axis=1)
    return da_x @ W.w_ih, (da_h @ W.w_hh + dh * z,), Weights(da_x.T @ x, da_h.T @ h, da_x.sum(axis=0), da_h.sum(axis=0))
