"""semantics.md, "Numbers, dtypes, modes": every dtype, autocast, NaN and Inf, denormals, strides, devices, train and eval."""

import itertools
import time

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, outcome, twin
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from fastlstm import LSTM
from tests.tolerances import AUTOCAST_LOSS, INFERENCE

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
    assert _ratio(lambda: evaluate(*calls[1]), lambda: evaluate(*calls[0]), wanted=2.0) < 2.0


def _ratio(first, second, wanted: float) -> float:
    """The time of one call over the other's, the best of a few rounds: a busy machine only ever adds time."""
    ratio = float("inf")
    for _ in range(8):
        seconds = []
        for function in (first, second):
            function()
            times = []
            for _ in range(8):
                start = time.perf_counter()
                function()
                times.append(time.perf_counter() - start)
            seconds.append(min(times))
        ratio = min(ratio, seconds[0] / seconds[1])
        if ratio < wanted:
            break
    return ratio


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


# NaN, Inf, and the far ends of the range


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
    """semantics.md: 1.2 times. Zero weights keep c at half of itself a step, down through the denormals."""
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
    assert _ratio(lambda: run(tiny), lambda: run(normal), wanted=1.2) < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("place", ["x", "weights", "doutput"])
def test_denormal_inputs_weights_and_cotangents_cost_no_more(place):
    """semantics.md: 1.2 times."""
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

    assert _ratio(lambda: run(*calls[1]), lambda: run(*calls[0]), wanted=1.2) < 1.2


def test_flush_denormal_setting_is_left_as_it_was():
    """A denormal in torch's own arithmetic is still one after a call."""
    ours = LSTM(5, 9, 2)
    evaluate(ours, draw(ours, 6, 4))
    assert (torch.tensor([1e-38]) * torch.tensor([0.1])).item() > 0


# Strides


def strange(tensor: Tensor) -> dict[str, Tensor]:
    """The same values behind other strides and offsets."""
    every_other = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), torch.nan, dtype=tensor.dtype)
    every_other[..., ::2] = tensor
    offset = torch.full((tensor.numel() + 1,), torch.nan, dtype=tensor.dtype)
    offset[1:] = tensor.flatten()
    last_first = tensor.transpose(0, -1).contiguous().transpose(0, -1)
    return {
        "every other": every_other[..., ::2],
        "offset by one": offset[1:].view(tensor.shape),
        "last dimension first": last_first,
        "lazily negated": torch._neg_view(-tensor),
        "expanded": tensor[..., :1].expand_as(tensor),
    }


@pytest.mark.parametrize("kind", ["every other", "offset by one", "last dimension first", "lazily negated", "expanded"])
@pytest.mark.parametrize("place", ["x", "h_0", "c_0", "doutput", "dh_n", "dc_n"])
def test_inputs_and_cotangents_of_any_stride(place, kind):
    ours = LSTM(5, 9, 2, bidirectional=True, dtype=torch.float64)
    call = draw(ours, 6, 4)
    x, (h_0, c_0), (doutput, dh_n, dc_n) = call
    names = {"x": x, "h_0": h_0, "c_0": c_0, "doutput": doutput, "dh_n": dh_n, "dc_n": dc_n}
    names[place] = strange(names[place])[kind].requires_grad_(place in ("x", "h_0", "c_0"))
    x, h_0, c_0, *cotangents = names.values()

    def run(lstm: nn.Module) -> dict[str, Tensor]:
        output, (h_n, c_n) = lstm(x, (h_0, c_0))
        wanted = [*lstm.parameters()] + [t for t in (x, h_0, c_0) if t.requires_grad]
        gradients = torch.autograd.grad((output, h_n, c_n), wanted, cotangents)
        return {"output": output, "h_n": h_n, "c_n": c_n} | {f"d{k}": g for k, g in enumerate(gradients)}

    assert_close(run(ours), run(twin(ours)))


@pytest.mark.parametrize("kind", ["every other", "offset by one", "last dimension first", "expanded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_weights_of_any_stride(dtype, kind):
    ours = LSTM(5, 9, 2, bidirectional=True, proj_size=3, dtype=dtype)
    for parameter in ours.parameters():
        parameter.data = strange(parameter.data)[kind]
    call = draw(ours, 6, 4)
    found = evaluate(ours, call)
    assert_close(found, evaluate(twin(ours, torch.float64), call.to(torch.float64)), dtype)


def test_sum_of_the_output_as_loss():
    """Its cotangent is one number expanded over the whole output: every stride is zero."""
    ours = LSTM(5, 9, batch_first=True, dtype=torch.float64)
    theirs = twin(ours)
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    for lstm in (ours, theirs):
        lstm(x)[0].sum().backward()
    found, expected = ({f"d{name}": p.grad for name, p in lstm.named_parameters()} for lstm in (ours, theirs))
    assert_close(found, expected)


# Devices and modes


@each_options
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_meta_device_gives_the_shapes(options, packed):
    ours = LSTM(5, 9, **options, device="meta")
    theirs = nn.LSTM(5, 9, **options, device="meta")
    x = torch.randn(6, 6, 5, device="meta")
    if packed:
        x = pack_padded_sequence(torch.randn(6, 6, 5), torch.tensor([6, 5, 4, 3, 2, 1]), theirs.batch_first).to("meta")
    (output, hidden), (their_output, their_hidden) = ours(x), theirs(x)
    if packed:
        output, their_output = output.data, their_output.data
    assert [(t.shape, t.dtype, t.device) for t in (output, *hidden)] == [
        (t.shape, t.dtype, t.device) for t in (their_output, *their_hidden)
    ]


def test_default_device_is_obeyed_through_a_call():
    torch.set_default_device("meta")
    try:
        ours = LSTM(5, 9)
        output, (h_n, c_n) = ours(torch.randn(6, 4, 5))
        on_cpu = LSTM(5, 9, device="cpu")
        cpu_output, cpu_hidden = on_cpu(torch.randn(6, 4, 5, device="cpu"))
    finally:
        torch.set_default_device(None)
    assert {t.device.type for t in (output, h_n, c_n)} == {"meta"}
    assert {t.device.type for t in (cpu_output, *cpu_hidden)} == {"cpu"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_default_dtype_does_not_leak_into_a_call(dtype):
    """A float32 layer stays float32 whatever the default is; its zero states too."""
    ours = LSTM(5, 9, 2, dropout=0.5, dtype=torch.float32)
    call = draw(ours, 6, 4, hx=False)
    before = evaluate(ours, call)
    torch.set_default_dtype(dtype)
    assert_bits(evaluate(ours, call), before)


def test_eval_changes_dropout_alone_and_backward_works_in_it():
    ours = LSTM(5, 9, 3, dropout=0.5, dtype=torch.float64)
    plain = LSTM(5, 9, 3, dtype=torch.float64)
    plain.load_state_dict(ours.state_dict())
    call = draw(ours, 6, 4)
    assert_bits(evaluate(ours.eval(), call), evaluate(plain, call))
    assert_bits(evaluate(plain.eval(), call), evaluate(plain.train(), call))
    assert_close(evaluate(ours, call), evaluate(twin(ours), call))
    assert not torch.equal(evaluate(ours.train(), call)["output"], evaluate(ours.eval(), call)["output"])


@each_options
def test_no_grad_and_inference_mode_give_the_training_numbers(options):
    ours = LSTM(5, 9, **options).eval()
    call = draw(ours, 6, 4)
    output, (h_n, c_n) = ours(call.x, call.hx)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            quiet = ours(call.x, call.hx)
        assert not quiet[0].requires_grad
        assert quiet[0].is_inference() == isinstance(mode, torch.inference_mode)
        found = {"output": quiet[0], "h_n": quiet[1][0], "c_n": quiet[1][1]}
        assert_close(found, {"output": output, "h_n": h_n, "c_n": c_n})
    with torch.inference_mode():
        x = call.x.clone()
    with torch.no_grad():
        torch.testing.assert_close(ours(x, call.hx)[0], output, **INFERENCE)


def test_same_call_twice_gives_the_same_bits():
    for dtype, options in itertools.product((torch.float32, torch.float64), OPTIONS):
        ours = LSTM(5, 9, **options, dtype=dtype)
        call = draw(ours, 6, 4)
        assert_bits(evaluate(ours, call), evaluate(ours, call))


def test_anomaly_mode_and_deterministic_algorithms_work():
    ours = LSTM(5, 9, 2)
    call = draw(ours, 6, 4)
    plain = evaluate(ours, call)
    torch.use_deterministic_algorithms(True)
    try:
        assert_bits(evaluate(ours, call), plain)
    finally:
        torch.use_deterministic_algorithms(False)
    with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly():
        assert_bits(evaluate(ours, call), plain)
