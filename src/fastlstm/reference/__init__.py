"""The equations in NumPy float64, forward and backward: one layer, one direction, no options. A cell is a file of this folder.

The alphabet: sizes T (time), N (batch), I (input), H (hidden), P (projected output); hx, the states that one step hands to the
next: h, and an LSTM's c.

A cell's file has `step`, from x_t and the states to the new states and what `step_backward` will need of them, and that.
Every faster implementation is tested against the rung below it; this is the lowest.
"""

from types import ModuleType

import numpy as np

from fastlstm.reference import gru, lstm
from fastlstm.reference.weights import Array, Weights, added

__all__ = ["Array", "Weights", "gru", "lstm", "sequence", "sequence_backward"]

States = tuple[Array, ...]


def sequence(cell: ModuleType, x: Array, hx: States, W: Weights) -> tuple[Array, list[States], list[tuple[Array, ...]]]:
    """x (T, N, I), hx the states (N, ..) to start from -> output (T, N, P or H), the states after every step, and what each
    step keeps.
    """
    states, steps = [], []
    for x_t in x:
        hx, kept = cell.step(x_t, hx, W)
        states.append(hx)
        steps.append(kept)
    return np.stack([h for h, *_ in states]), states, steps


def sequence_backward(
    cell: ModuleType,
    doutput: Array,
    dhx_n: States,
    x: Array,
    hx: States,
    states: list[States],
    steps: list[tuple[Array, ...]],
    W: Weights,
) -> tuple[Array, States, Weights]:
    """From the gradients of output and of the last states to those of x, hx and the weights."""
    dhx, dx = dhx_n, np.empty_like(x)
    total: Weights | None = None
    for t in reversed(range(len(x))):
        dhx = (dhx[0] + doutput[t], *dhx[1:])
        dx[t], dhx, dW_t = cell.step_backward(dhx, x[t], states[t - 1] if t > 0 else hx, steps[t], W)
        total = dW_t if total is None else added(total, dW_t)
    assert total is not None, "a sequence has at least one step"
    return dx, dhx, total
