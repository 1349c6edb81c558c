"""What a call may be made in: default device and dtype, the meta device, eval, no_grad, inference_mode, anomaly detection."""

import itertools

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, twin
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from fastlstm import LSTM
from tests.tolerances import INFERENCE

OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"proj_size": 5, "batch_first": True},
    {"num_layers": 3, "bias": False, "dropout": 0.4, "proj_size": 2},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


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
