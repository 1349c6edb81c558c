"""A step of the LSTM, gates in the order i, f, g, o.

    i, f, o = sigmoid(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh),  g = tanh(the same, with its own rows of the weights)
    c_t = f * c_{t-1} + i * g,    h_t = o * tanh(c_t)    (then h_t = w_hr h_t where there is a w_hr)

Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000 (forget gate), Sak et al. 2014 (projection), as
`torch.nn.LSTM` has them.
"""

from typing import NamedTuple

import numpy as np

from fastlstm.cells import LSTM
from fastlstm.reference.weights import Array, Weights, sigmoid


class Step(NamedTuple):
    """What one step computed, all (N, H): the gates and the cell state."""

    i: Array
    f: Array
    g: Array
    o: Array
    c: Array


def step(x: Array, hx: tuple[Array, ...], W: Weights) -> tuple[tuple[Array, Array], Step]:
    """x (N, I), h (N, P or H) and c (N, H) of the step before -> h, c and what `step_backward` needs."""
    h, c = hx
    i, f, g, o = np.split(x @ W.w_ih.T + W.b_ih + h @ W.w_hh.T + W.b_hh, len(LSTM.gates), axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c + i * g
    h = o * np.tanh(c)
    if W.w_hr is not None:
        h = h @ W.w_hr.T
    return (h, c), Step(i, f, g, o, c)


def step_backward(
    dhx: tuple[Array, ...], x: Array, hx: tuple[Array, ...], kept: Step, W: Weights
) -> tuple[Array, tuple[Array, Array], Weights]:
    """From the gradients of a step's h and c to those of its x, h, c (of the step before) and weights."""
    (dh, dc), (h, c), (i, f, g, o, c_t) = dhx, hx, kept
    dw_hr = None
    if W.w_hr is not None:
        dw_hr = dh.T @ (o * np.tanh(c_t))
        dh = dh @ W.w_hr
    do = dh * np.tanh(c_t)
    dc = dc + dh * o * (1 - np.tanh(c_t) ** 2)
    di, df, dg = dc * g, dc * c, dc * i
    da = np.concatenate([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=1)
    db = da.sum(axis=0)
    return da @ W.w_ih, (da @ W.w_hh, dc * f), Weights(da.T @ x, da.T @ h, db, db, dw_hr)
