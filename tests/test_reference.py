"""The lowest rung: the equations in float64, against finite differences and against nn.LSTM."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from fastlstm import reference
from fastlstm.reference import Weights
from tests.tolerances import REFERENCE_GRADIENT, REFERENCE_VALUE, SLOPE

SIZES = [(1, 1, 1, 1, 0), (3, 2, 4, 3, 0), (5, 1, 2, 6, 0), (4, 3, 1, 5, 2), (2, 2, 7, 4, 1)]  # T, N, I, H, P


class Drawn(NamedTuple):
    x: np.ndarray
    h_0: np.ndarray
    c_0: np.ndarray
    W: Weights
    cotangents: tuple[np.ndarray, np.ndarray, np.ndarray]


def draw(T: int, N: int, I: int, H: int, P: int) -> Drawn:
    generator = np.random.default_rng(0)

    def randn(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape)

    out = P or H
    W = Weights(randn(4 * H, I), randn(4 * H, out), randn(4 * H), randn(4 * H), randn(P, H) if P else None)
    cotangents = (randn(T, N, out), randn(N, out), randn(N, H))
    return Drawn(randn(T, N, I), randn(N, out), randn(N, H), W, cotangents)


def loss(drawn: Drawn) -> float:
    output, h_n, c_n, _ = reference.sequence(drawn.x, drawn.h_0, drawn.c_0, drawn.W)
    return sum(float((d * y).sum()) for d, y in zip(drawn.cotangents, (output, h_n, c_n), strict=True))


def gradients(drawn: Drawn) -> dict[str, np.ndarray]:
    output, _, _, steps = reference.sequence(drawn.x, drawn.h_0, drawn.c_0, drawn.W)
    dx, dh_0, dc_0, dW = reference.sequence_backward(
        *drawn.cotangents, drawn.x, drawn.h_0, drawn.c_0, output, steps, drawn.W
    )
    named = {"x": dx, "h_0": dh_0, "c_0": dc_0, **dW._asdict()}
    return {name: d for name, d in named.items() if d is not None}


@pytest.mark.parametrize(("T", "N", "I", "H", "P"), SIZES)
def test_every_gradient_is_the_slope_of_the_loss(T, N, I, H, P):
    drawn = draw(T, N, I, H, P)
    inputs = {"x": drawn.x, "h_0": drawn.h_0, "c_0": drawn.c_0, **drawn.W._asdict()}
    step = 1e-6
    for name, d in gradients(drawn).items():
        for index in np.ndindex(d.shape):
            kept = inputs[name][index]
            inputs[name][index] = kept + step
            above = loss(drawn)
            inputs[name][index] = kept - step
            below = loss(drawn)
            inputs[name][index] = kept
            slope = (above - below) / (2 * step)
            assert abs(slope - d[index]) < SLOPE * max(1.0, abs(slope)), f"d{name}{index}"


@pytest.mark.parametrize(("T", "N", "I", "H", "P"), SIZES)
def test_numbers_and_gradients_are_those_of_nn_lstm(T, N, I, H, P):
    drawn = draw(T, N, I, H, P)
    theirs = nn.LSTM(I, H, proj_size=P, dtype=torch.float64)
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"][: 4 + (P > 0)]
    theirs.load_state_dict({name: torch.tensor(w) for name, w in zip(names, drawn.W, strict=False)})
    x, h_0, c_0 = (torch.tensor(a).requires_grad_() for a in (drawn.x, drawn.h_0, drawn.c_0))
    output, (h_n, c_n) = theirs(x, (h_0[None], c_0[None]))
    expected = (output, h_n[0], c_n[0])
    found = reference.sequence(drawn.x, drawn.h_0, drawn.c_0, drawn.W)[:3]
    for name, mine, other in zip(("output", "h_n", "c_n"), found, expected, strict=True):
        np.testing.assert_allclose(mine, other.detach().numpy(), **REFERENCE_VALUE, err_msg=name)
    torch.autograd.backward(expected, [torch.tensor(d) for d in drawn.cotangents])
    slopes = [x.grad, h_0.grad, c_0.grad, *(getattr(theirs, name).grad for name in names)]
    for (name, d), other in zip(gradients(drawn).items(), slopes, strict=True):
        np.testing.assert_allclose(d, other.numpy(), **REFERENCE_GRADIENT, err_msg=f"d{name}")


def test_gates_far_out_stay_finite():
    drawn = draw(2, 1, 1, 2, 0)
    far = drawn._replace(x=drawn.x * 1e4)
    with np.errstate(all="raise", under="ignore"):
        values = gradients(far)
    assert all(np.isfinite(d).all() for d in values.values())
