"""The equations of the LSTM in NumPy float64, forward and backward: one layer, one direction, no options.

The alphabet: sizes T (time), N (batch), I (input), H (hidden), P (projected output); gates in the order i, f, g, o.

    i, f, o = sigmoid(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh),  g = tanh(the same, with its own rows of the weights)
    c_t = f * c_{t-1} + i * g,    h_t = o * tanh(c_t)    (then h_t = w_hr h_t where there is a w_hr)

Every faster implementation is tested against the rung below it; this is the lowest.
Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000 (forget gate), Sak et al. 2014 (projection), as
`torch.nn.LSTM` has them.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastlstm.cells import LSTM

Array = npt.NDArray[np.float64]


class Weights(NamedTuple):
    """w_ih (4H, I), w_hh (4H, P or H), b_ih (4H), b_hh (4H), w_hr (P, H) or None. Gradients have the same form."""

    w_ih: Array
    w_hh: Array
    b_ih: Array
    b_hh: Array
    w_hr: Array | None = None


class Step(NamedTuple):
    """What one step computed, all (N, H): the gates and the cell state."""

    i: Array
    f: Array
    g: Array
    o: Array
    c: Array


def sigmoid(a: Array) -> Array:
    # by way of tanh: exp overflows at -710
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * a))


def step(x: Array, h: Array, c: Array, W: Weights) -> tuple[Array, Array, Step]:
    """One step: x (N, I), h (N, P or H) and c (N, H) of the step before -> h, c and what `step_backward` needs."""
    i, f, g, o = np.split(x @ W.w_ih.T + W.b_ih + h @ W.w_hh.T + W.b_hh, len(LSTM.gates), axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    c = f * c + i * g
    h = o * np.tanh(c)
    if W.w_hr is not None:
        h = h @ W.w_hr.T
    return h, c, Step(i, f, g, o, c)


def step_backward(
    dh: Array, dc: Array, x: Array, h: Array, c: Array, kept: Step, W: Weights
) -> tuple[Array, Array, Array, Weights]:
    """From the gradients of a step's h and c to those of its x, h, c (of the step before) and weights."""
    i, f, g, o, c_t = kept
    dw_hr = None
    if W.w_hr is not None:
        dw_hr = dh.T @ (o * np.tanh(c_t))
        dh = dh @ W.w_hr
    do = dh * np.tanh(c_t)
    dc = dc + dh * o * (1 - np.tanh(c_t) ** 2)
    di, df, dg = dc * g, dc * c, dc * i
    da = np.concatenate([di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=1)
    db = da.sum(axis=0)
    return da @ W.w_ih, da @ W.w_hh, dc * f, Weights(da.T @ x, da.T @ h, db, db, dw_hr)


def added(a: Weights, b: Weights) -> Weights:
    """The sum of two gradients."""
    w_hr = None if a.w_hr is None or b.w_hr is None else a.w_hr + b.w_hr
    return Weights(a.w_ih + b.w_ih, a.w_hh + b.w_hh, a.b_ih + b.b_ih, a.b_hh + b.b_hh, w_hr)


def sequence(x: Array, h_0: Array, c_0: Array, W: Weights) -> tuple[Array, Array, Array, list[Step]]:
    """x (T, N, I), h_0 (N, P or H), c_0 (N, H) -> output (T, N, P or H), h_n, c_n, and every `Step`."""
    h, c, output, steps = h_0, c_0, [], []
    for x_t in x:
        h, c, kept = step(x_t, h, c, W)
        output.append(h)
        steps.append(kept)
    return np.stack(output), h, c, steps


def sequence_backward(
    doutput: Array,
    dh_n: Array,
    dc_n: Array,
    x: Array,
    h_0: Array,
    c_0: Array,
    output: Array,
    steps: list[Step],
    W: Weights,
) -> tuple[Array, Array, Array, Weights]:
    """From the gradients of output, h_n and c_n to those of x, h_0, c_0 and the weights."""
    dh, dc = dh_n, dc_n
    dx = np.empty_like(x)
    total: Weights | None = None
    for t in reversed(range(len(x))):
        h, c = (output[t - 1], steps[t - 1].c) if t > 0 else (h_0, c_0)
        dx[t], dh, dc, dW_t = step_backward(dh + doutput[t], dc, x[t], h, c, steps[t], W)
        total = dW_t if total is None else added(total, dW_t)
    assert total is not None, "a sequence has at least one step"
    return dx, dh, dc, total
