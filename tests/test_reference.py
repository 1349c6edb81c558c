"""The lowest rung: the equations in float64, against finite differences and against torch's modules."""

from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from fastlstm import reference
from fastlstm.cells import CELLS
from fastlstm.reference import Weights
from tests.tolerances import REFERENCE_GRADIENT, REFERENCE_VALUE, SLOPE

CELL = {cell.name: cell for cell in CELLS}
EQUATIONS = {name: getattr(reference, name.lower()) for name in CELL}
SIZES = [(1, 1, 1, 1, 0), (3, 2, 4, 3, 0), (5, 1, 2, 6, 0), (4, 3, 1, 5, 2), (2, 2, 7, 4, 1)]  # T, N, I, H, P
CASES = [(name, *sizes) for name in CELL for sizes in SIZES if name == "LSTM" or not sizes[-1]]


class Drawn(NamedTuple):
    cell: ModuleType
    x: np.ndarray
    hx: tuple[np.ndarray, ...]
    W: Weights
    cotangents: tuple[np.ndarray, ...]


def draw(name: str, T: int, N: int, I: int, H: int, P: int) -> Drawn:
    generator = np.random.default_rng(0)

    def randn(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape)

    out, rows, states = P or H, len(CELL[name].gates) * H, len(CELL[name].states)
    W = Weights(randn(rows, I), randn(rows, out), randn(rows), randn(rows), randn(P, H) if P else None)
    cotangents = (randn(T, N, out), randn(N, out), randn(N, H))[: 1 + states]
    return Drawn(EQUATIONS[name], randn(T, N, I), (randn(N, out), randn(N, H))[:states], W, cotangents)


def results(drawn: Drawn) -> tuple[np.ndarray, ...]:
    output, states, _ = reference.sequence(drawn.cell, drawn.x, drawn.hx, drawn.W)
    return output, *states[-1]


def loss(drawn: Drawn) -> float:
    return sum(float((d * y).sum()) for d, y in zip(drawn.cotangents, results(drawn), strict=True))


def inputs(drawn: Drawn) -> dict[str, np.ndarray]:
    return {"x": drawn.x, **dict(zip(("h_0", "c_0"), drawn.hx, strict=False)), **drawn.W._asdict()}


def gradients(drawn: Drawn) -> dict[str, np.ndarray]:
    cell, x, hx, W, (doutput, *dhx_n) = drawn
    _, states, steps = reference.sequence(cell, x, hx, W)
    dx, dhx, dW = reference.sequence_backward(cell, doutput, tuple(dhx_n), x, hx, states, steps, W)
    named = {"x": dx, **dict(zip(("h_0", "c_0"), dhx, strict=False)), **dW._asdict()}
    return {name: d for name, d in named.items() if d is not None}


@pytest.mark.parametrize(("name", "T", "N", "I", "H", "P"), CASES)
def test_every_gradient_is_the_slope_of_the_loss(name, T, N, I, H, P):
    drawn = draw(name, T, N, I, H, P)
    step = 1e-6
    for of, d in gradients(drawn).items():
        array = inputs(drawn)[of]
        for index in np.ndindex(d.shape):
            kept = array[index]
            array[index] = kept + step
            above = loss(drawn)
            array[index] = kept - step
            below = loss(drawn)
            array[index] = kept
            slope = (above - below) / (2 * step)
            assert abs(slope - d[index]) < SLOPE * max(1.0, abs(slope)), f"d{of}{index}"


@pytest.mark.parametrize(("name", "T", "N", "I", "H", "P"), CASES)
def test_numbers_and_gradients_are_those_of_torch(name, T, N, I, H, P):
    drawn = draw(name, T, N, I, H, P)
    theirs = getattr(nn, name)(I, H, dtype=torch.float64, **({"proj_size": P} if P else {}))
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"][: 4 + (P > 0)]
    theirs.load_state_dict({of: torch.tensor(w) for of, w in zip(names, drawn.W, strict=False)})
    x, *hx = (torch.tensor(a).requires_grad_() for a in (drawn.x, *drawn.hx))
    output, last = theirs(x, tuple(state[None] for state in hx) if len(hx) > 1 else hx[0][None])
    expected = (output, *(state[0] for state in (last if len(hx) > 1 else [last])))
    for of, mine, other in zip(("output", "h_n", "c_n"), results(drawn), expected, strict=False):
        np.testing.assert_allclose(mine, other.detach().numpy(), **REFERENCE_VALUE, err_msg=of)
    torch.autograd.backward(expected, [torch.tensor(d) for d in drawn.cotangents])
    slopes = [x.grad, *(state.grad for state in hx), *(getattr(theirs, of).grad for of in names)]
    for (of, d), other in zip(gradients(drawn).items(), slopes, strict=True):
        np.testing.assert_allclose(d, other.numpy(), **REFERENCE_GRADIENT, err_msg=f"d{of}")


@pytest.mark.parametrize("name", CELL)
def test_gates_far_out_stay_finite(name):
    drawn = draw(name, 2, 1, 1, 2, 0)
    far = drawn._replace(x=drawn.x * 1e4)
    with np.errstate(all="raise", under="ignore"):
        values = gradients(far)
    assert all(np.isfinite(d).all() for d in values.values())
