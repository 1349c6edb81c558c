"""NaN, Inf and the far ends of the range: as in nn.LSTM; denormal numbers, which cost nothing."""

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, twin
from timing import ratio
from torch import Tensor

from fastlstm import LSTM


def _special(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Where the NaNs and infinities are, as numbers: 1 NaN, 2 Inf, 3 -Inf."""
    return {name: t.isnan() * 1.0 + t.isposinf() * 2.0 + t.isneginf() * 3.0 for name, t in found.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "place", ["x", "h_0", "c_0", "weight_ih_l0", "weight_hh_l1_reverse", "bias_hh_l1", "doutput", "dc_n"]
)
@pytest.mark.parametrize(
    "size", [(5, 9, 4), (260, 258, 9)], ids=str
)  # the second goes to matrix tiles, where there are some
def test_nan_and_inf_travel_as_in_nn_lstm(size, place, value, dtype):
    I, H, N = size
    ours = LSTM(I, H, 2, bidirectional=True, dtype=dtype)
    call = draw(ours, 12, N)
    (h_0, c_0), (doutput, _, dc_n) = call.hx, call.cotangents
    target = {"x": call.x, "h_0": h_0, "c_0": c_0, "doutput": doutput, "dc_n": dc_n, **ours.state_dict()}[place]
    target[tuple(size // 2 for size in target.shape)] = value
    found, theirs = evaluate(ours, call), evaluate(twin(ours), call)
    if not place.startswith("bias") or value != value:  # an infinite bias saturates its gate, and no more
        assert any(marks.any() for marks in _special(theirs).values()), "the value arrives somewhere"
    assert_bits(_special(found), _special(theirs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e10, 1e30])
def test_saturated_gates_are_as_in_nn_lstm(scale, dtype):
    ours = LSTM(5, 9, 2, dtype=dtype)
    call = draw(ours, 12, 4)
    call = call._replace(x=call.x * scale)
    found, reference = evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64))
    assert all(t.isfinite().all() for t in found.values())
    values = ("output", "h_n", "c_n")
    if scale <= 1e2:  # beyond, the argument of a gate is rounded by too much where the gate is not saturated
        assert_close({n: found[n] for n in values}, {n: reference[n] for n in values})
    assert all(found[n].abs().max() <= 16 for n in values), "|c| grows by at most 1 a step"


@pytest.mark.slow
def test_denormal_cells_cost_no_more():
    """At most 1.2 times. Zero weights keep c at half of itself a step, down through the denormals."""
    ours = LSTM(32, 128)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    x, h_0 = torch.zeros(60, 8, 32), torch.zeros(1, 8, 128)
    normal, tiny = torch.ones(1, 8, 128), torch.full((1, 8, 128), 1e-38)

    def run(c_0: Tensor) -> Tensor:
        with torch.no_grad():
            return ours(x, (h_0, c_0))[1][1]

    assert 0 <= run(tiny).abs().max() < torch.finfo(torch.float32).tiny
    assert ratio(lambda: run(tiny), lambda: run(normal), wanted=1.2) < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("place", ["x", "weights", "doutput"])
def test_denormal_inputs_weights_and_cotangents_cost_no_more(place):
    """At most 1.2 times."""
    usual, tiny = LSTM(32, 128), LSTM(32, 128)
    x, doutput = torch.rand(20, 8, 32), torch.rand(20, 8, 128)
    calls = [[usual, x, doutput], [tiny, x * 1e-39, doutput]]
    if place == "weights":
        calls[1][1] = x
        for name, parameter in tiny.named_parameters():
            if "weight" in name:
                parameter.data.mul_(1e-38)
    elif place == "doutput":
        calls[1][1:] = [x, doutput * 1e-40]

    def run(lstm: LSTM, x: Tensor, doutput: Tensor) -> None:
        lstm.zero_grad(set_to_none=True)
        lstm(x)[0].backward(doutput)

    assert ratio(lambda: run(*calls[1]), lambda: run(*calls[0]), wanted=1.2) < 1.2


def test_flush_denormal_setting_is_left_as_it_was():
    """A denormal in torch's own arithmetic is still one after a call."""
    ours = LSTM(5, 9, 2)
    evaluate(ours, draw(ours, 6, 4))
    assert (torch.tensor([1e-38]) * torch.tensor([0.1])).item() > 0
