"""Every dtype that nn.LSTM takes: 16 bits, complex numbers, and autocast."""

import pytest
import torch
from conftest import assert_close, draw, evaluate, outcome, twin
from timing import ratio
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from fastlstm import LSTM
from tests.tolerances import AUTOCAST_LOSS

HALVES = [torch.float16, torch.bfloat16]
OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"proj_size": 5, "batch_first": True},
    {"num_layers": 3, "bias": False, "dropout": 0.4, "proj_size": 2},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
composite_is_expected = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


@each_options
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_16_bit_parameters_compute_in_float32_and_round_once(dtype, packed, options):
    """Closer to float64 than nn.LSTM's own 16-bit arithmetic: one rounding, of each result."""
    ours = LSTM(9, 17, **options, dtype=dtype).eval()
    call = draw(ours, 6, 5, lengths=[6, 5, 5, 2, 1] if packed else None)
    found = evaluate(ours, call)
    assert {t.dtype for t in found.values()} == {dtype}
    assert_close(found, evaluate(twin(ours, torch.float64), call.to(torch.float64)), dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_16_bit_dropout_drops_the_same_elements(dtype):
    ours = LSTM(9, 17, 3, dropout=0.5, dtype=dtype)
    call = draw(ours, 6, 5)
    assert_close(evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64)), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_16_bit_is_not_many_times_slower_than_float32(dtype):
    """nn.LSTM is 7 times slower in bfloat16 at inference, 21 times in training; ours converts at the ends alone."""
    single, half = LSTM(64, 128), LSTM(64, 128, dtype=dtype)
    calls = [(single, draw(single, 50, 16)), (half, draw(half, 50, 16))]
    assert ratio(lambda: evaluate(*calls[1]), lambda: evaluate(*calls[0]), wanted=2.0) < 2.0


@composite_is_expected
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@each_options
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex_works_as_in_nn_lstm(dtype, options):
    if options.get("dropout"):
        options = {**options, "dropout": 0.0}  # F.dropout itself refuses complex numbers
    ours = LSTM(5, 9, **options, dtype=dtype)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(0.5)  # tanh has poles off the real axis: stay clear of them
    call = draw(ours, 4, 3)
    call = call._replace(x=call.x * 0.3, hx=(call.hx[0] * 0.3, call.hx[1] * 0.3))
    assert_close(evaluate(ours, call), evaluate(twin(ours, torch.complex128), call.to(torch.complex128)), dtype)


# Autocast


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_cpu_autocast_works(dtype, options, grad):
    """nn.LSTM raises on many processors; where it answers, ours answers in the same dtypes."""
    ours = LSTM(9, 17, **options)
    theirs = twin(ours)
    call = draw(ours, 6, 5)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype):
        output, (h_n, c_n) = ours(call.x, call.hx)
        if outcome(lambda: theirs(call.x, call.hx))[0] is None:
            their_output, (their_h_n, their_c_n) = theirs(call.x, call.hx)
            assert (output.dtype, h_n.dtype, c_n.dtype) == (their_output.dtype, their_h_n.dtype, their_c_n.dtype)
    assert output.dtype is dtype
    reference = twin(ours, torch.float64)(*call.to(torch.float64)[:2])
    found = {"output": output, "h_n": h_n, "c_n": c_n}
    assert_close(found, {"output": reference[0], "h_n": reference[1][0], "c_n": reference[1][1]}, dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_cpu_autocast_takes_inputs_of_either_dtype_and_a_layer_before(dtype):
    """A Linear under autocast hands on 16-bit features; nn.LSTM doesn't mind the dtype there, and nor does ours."""
    linear, ours = nn.Linear(7, 9), LSTM(9, 17)
    x = torch.randn(6, 5, 7)
    with torch.autocast("cpu", dtype):
        features = linear(x)
        assert features.dtype is dtype
        output, _ = ours(features)
        loss = (output.float() ** 2).mean()
    loss.backward()
    assert {p.grad.dtype for p in [*linear.parameters(), *ours.parameters()]} == {torch.float32}
    exact = (twin(ours, torch.float64)(features.detach().double())[0] ** 2).mean()
    assert loss.item() == pytest.approx(exact.item(), rel=AUTOCAST_LOSS)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_cpu_autocast_gradients_are_those_of_the_cotangents(dtype):
    ours = LSTM(9, 17, 2)
    call = draw(ours, 6, 5)
    reference = evaluate(twin(ours, torch.float64), call.to(torch.float64))
    with torch.autocast("cpu", dtype):
        output, (h_n, c_n) = ours(call.x, call.hx)
    results = (output, h_n, c_n)
    torch.autograd.backward(results, [g.to(t.dtype) for g, t in zip(call.cotangents, results, strict=True)])
    found = {f"d{name}": p.grad for name, p in ours.named_parameters()}
    assert_close(found, {name: reference[name] for name in found}, dtype)


def test_cpu_autocast_packed_works():
    ours = LSTM(9, 17)
    x = torch.randn(6, 3, 9)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = ours(pack_padded_sequence(x, torch.tensor([6, 4, 1])))
    exact, _ = twin(ours, torch.float64)(pack_padded_sequence(x.double(), torch.tensor([6, 4, 1])))
    assert_close({"output": output.data}, {"output": exact.data}, torch.bfloat16)


def test_autocast_disabled_or_of_float64_changes_nothing():
    single, double = LSTM(3, 4), LSTM(3, 4, dtype=torch.float64)
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        assert torch.equal(single(x)[0], single(x)[0].float())
        assert single(x)[0].dtype is torch.float32
    plain = double(x.double())[0]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(double(x.double())[0], plain, rtol=0, atol=0)
