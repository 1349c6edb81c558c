"""Errors against a wider reference: float32 forward under 2e-6 (H <= 256, T <= 100), gradients under 1e-5 of their norm,
float64 under 1e-12 (tests/tolerances.py).

The reference of float32 is nn.LSTM in float64; that of float64 the same equations in NumPy's long double, forward and
backward.
"""

import numpy as np
import pytest
import torch
from conftest import Evaluation, Hidden, assert_close, draw, evaluate, twin
from torch import Tensor, nn

from fastlstm import LSTM, _engine
from tests.tolerances import FLOAT32_ROUNDING, OF_NN_LSTMS_ERROR, OF_NN_LSTMS_ERRORS_TOGETHER, OF_NN_LSTMS_MEDIAN_ERROR

# T, N, I, H
SHAPES = [
    (1, 1, 64, 64),
    (1, 1, 256, 256),
    (1, 64, 256, 256),
    (100, 1, 64, 64),
    (100, 1, 256, 256),
    (100, 8, 128, 128),
    (100, 6, 256, 256),
    (100, 33, 40, 128),
    (28, 64, 28, 128),
    (97, 7, 63, 97),
    (63, 97, 7, 63),
    (100, 17, 1, 1),
    (100, 5, 255, 255),
    (100, 3, 257, 241),
]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))


@each_shape
@pytest.mark.parametrize("isa", _engine.isas())
def test_float32_forward_and_gradients(isa, shape):
    T, N, I, H = shape
    usual = _engine.isa()
    _engine.use_isa(isa)
    try:
        ours = LSTM(I, H)
        call = draw(ours, T, N)
        found = evaluate(ours, call)
    finally:
        _engine.use_isa(usual)
    assert_close(found, evaluate(twin(ours, torch.float64), call.to(torch.float64)), hint=f"{isa} {shape}")


@pytest.mark.parametrize(
    "options",
    [{"num_layers": 3}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "proj_size": 65}, {"bias": False}],
    ids=str,
)
def test_float32_of_deeper_layers(options):
    ours = LSTM(63, 128, **options)
    call = draw(ours, 100, 9)
    assert_close(evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64)))


@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("weights", [0.3, 1.0, 3.0])
def test_float32_over_the_whole_range_of_the_gates(weights, scale):
    """Small and large inputs and weights: the straight part of the gates, their bends, and their flat ends."""
    ours = LSTM(32, 64)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(weights)
    call = draw(ours, 20, 8)
    call = call._replace(x=call.x * scale)
    found, reference = evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64))
    values = ("output", "h_n", "c_n")
    if scale * weights <= 5:
        assert_close({n: found[n] for n in values}, {n: reference[n] for n in values})
    # Arguments of order 30 carry a float32 rounding of order 1e-6 themselves: there nn.LSTM's own error is the yardstick.
    theirs = evaluate(twin(ours), call)
    for name, exact in reference.items():
        mine, other = (found[name].double() - exact).norm(), (theirs[name].double() - exact).norm()
        assert mine <= OF_NN_LSTMS_ERROR * other + FLOAT32_ROUNDING * exact.norm(), (
            f"{name}: error {mine:.3g}, nn.LSTM's {other:.3g}"
        )


def test_float32_errors_are_no_larger_than_nn_lstms_own():
    """On the whole: the norm of all errors of all shapes, at most 1.5 times nn.LSTM's."""
    squares = {"ours": 0.0, "theirs": 0.0}
    for T, N, I, H in SHAPES[:10]:
        ours = LSTM(I, H)
        call = draw(ours, T, N)
        reference = evaluate(twin(ours, torch.float64), call.to(torch.float64))
        for who, lstm in (("ours", ours), ("theirs", twin(ours))):
            for name, value in evaluate(lstm, call).items():
                exact = reference[name]
                squares[who] += ((value.double() - exact).norm() / exact.norm().clamp(min=1e-3)).item() ** 2
    assert squares["ours"] ** 0.5 <= OF_NN_LSTMS_ERRORS_TOGETHER * squares["theirs"] ** 0.5, squares


def long_double(ours: nn.Module, x: Tensor, hx: Hidden, cotangents: tuple[Tensor, Tensor, Tensor]) -> Evaluation:
    """One layer, one direction, in long double: the equations forward, and each of them differentiated backward."""
    W = {name: p.detach().numpy().astype(np.longdouble) for name, p in ours.named_parameters()}
    w_ih, w_hh, b = W["weight_ih_l0"], W["weight_hh_l0"], W["bias_ih_l0"] + W["bias_hh_l0"]
    x, h, c = (t.numpy().astype(np.longdouble) for t in (x, hx[0][0], hx[1][0]))
    doutput, dh, dc = (t.numpy().astype(np.longdouble) for t in (cotangents[0], cotangents[1][0], cotangents[2][0]))

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a))

    steps, output = [], []
    for x_t in x:
        i, f, g, o = np.split(x_t @ w_ih.T + h @ w_hh.T + b, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        steps.append((x_t, h, c, i, f, g, o))
        c = f * c + i * g
        h = o * np.tanh(c)
        output.append(h)
    found = {"output": np.stack(output), "h_n": h[None], "c_n": c[None]}
    dx, dw_ih, dw_hh, db, c_t = np.zeros_like(x), np.zeros_like(w_ih), np.zeros_like(w_hh), np.zeros_like(b), c
    for t, (x_t, h, c, i, f, g, o) in reversed(list(enumerate(steps))):
        dh = dh + doutput[t]
        dc = dc + dh * o * (1 - np.tanh(c_t) ** 2)
        do = dh * np.tanh(c_t)
        gates = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), do * o * (1 - o)]
        dgates = np.concatenate(gates, axis=1)
        dx[t], dw_ih, dw_hh, db = dgates @ w_ih, dw_ih + dgates.T @ x_t, dw_hh + dgates.T @ h, db + dgates.sum(0)
        dh, dc, c_t = dgates @ w_hh, dc * f, c
    found |= {"dx": dx, "dh_0": dh[None], "dc_0": dc[None]}
    found |= {"dweight_ih_l0": dw_ih, "dweight_hh_l0": dw_hh, "dbias_ih_l0": db, "dbias_hh_l0": db}
    return {name: torch.from_numpy(value.astype(np.float64)) for name, value in found.items()}


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 3, 7, 4), (50, 4, 33, 31), (97, 7, 17, 63), (100, 2, 64, 64)])
@pytest.mark.parametrize("isa", _engine.isas())
def test_float64_against_long_double(isa, shape):
    T, N, I, H = shape
    usual = _engine.isa()
    _engine.use_isa(isa)
    try:
        ours = LSTM(I, H, dtype=torch.float64)
        call = draw(ours, T, N)
        found = evaluate(ours, call)
    finally:
        _engine.use_isa(usual)
    assert_close(found, long_double(ours, *call), hint=f"{isa} {shape}")


@pytest.mark.parametrize("options", [{"num_layers": 3}, {"num_layers": 2, "bidirectional": True, "proj_size": 33}])
def test_float64_against_nn_lstm(options):
    ours = LSTM(63, 97, **options, dtype=torch.float64)
    call = draw(ours, 60, 9)
    assert_close(evaluate(ours, call), evaluate(twin(ours), call))


# T, N, I, H, and P where h is projected: sums of many terms, of few beside many, and of a single column.
LONG_SUMS = [
    (1, 4, 1, 512, 0),
    (1, 4, 64, 256, 0),
    (20, 1, 1, 512, 0),
    (20, 4, 64, 256, 0),
    (20, 33, 27, 64, 0),
    (20, 33, 1, 256, 0),
    (5, 33, 64, 1024, 64),
    (3, 4, 2048, 64, 0),
]


@pytest.mark.parametrize("shape", LONG_SUMS, ids=lambda s: "-".join(map(str, s)))
@pytest.mark.parametrize("isa", _engine.isas())
def test_float32_root_mean_square_errors_are_nn_lstms(isa, shape):
    """Every result's, at most 1.2 times nn.LSTM's in the median of five seeds. In one chain of additions: up to 9 times."""
    T, N, I, H, P = shape
    usual = _engine.isa()
    ratios: dict[str, list[float]] = {}
    for seed in range(5):
        torch.manual_seed(seed)
        ours = LSTM(I, H, proj_size=P)
        call = draw(ours, T, N, seed=seed)
        _engine.use_isa(isa)
        try:
            found = evaluate(ours, call)
        finally:
            _engine.use_isa(usual)
        theirs = evaluate(twin(ours), call)
        for name, exact in evaluate(twin(ours, torch.float64), call.to(torch.float64)).items():
            error, other = (found[name].double() - exact).norm(), (theirs[name].double() - exact).norm()
            ratios.setdefault(name, []).append((error / other).item())
    medians = {name: sorted(of)[2] for name, of in ratios.items()}
    assert max(medians.values()) <= OF_NN_LSTMS_MEDIAN_ERROR, medians
