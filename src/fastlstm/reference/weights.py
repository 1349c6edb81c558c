"""What every cell computes with."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Weights(NamedTuple):
    """With G gates: w_ih (GH, I), w_hh (GH, P or H), b_ih (GH), b_hh (GH), w_hr (P, H) or None. Gradients have the same form."""

    w_ih: Array
    w_hh: Array
    b_ih: Array
    b_hh: Array
    w_hr: Array | None = None


def added(a: Weights, b: Weights) -> Weights:
    """The sum of two gradients."""
    w_hr = None if a.w_hr is None or b.w_hr is None else a.w_hr + b.w_hr
    return Weights(a.w_ih + b.w_ih, a.w_hh + b.w_hh, a.b_ih + b.b_ih, a.b_hh + b.b_hh, w_hr)


def sigmoid(a: Array) -> Array:
    # by way of tanh: exp overflows at -710
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * a))
