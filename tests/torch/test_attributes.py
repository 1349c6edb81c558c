"""torch/attributes.py: arguments of the constructor that are set later, to what nn.LSTM takes and to nonsense."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import outcome
from torch import nn

from fastlstm import LSTM, LSTMCell

T, N, I, H = 5, 2, 3, 4
each_grad = pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])


def build(**options: Any) -> LSTM:
    return LSTM(I, H, 2, **options)


def call(lstm: nn.Module, grad: bool) -> torch.Tensor:
    with torch.set_grad_enabled(grad):
        output: torch.Tensor = lstm(torch.ones(T, N, I), (torch.ones(2, N, H), torch.ones(2, N, H)))[0]
    return output.detach()


SAME = {
    "hidden_size": [4.0, np.int64(4), torch.tensor(4)],
    "input_size": [3.0, np.int32(3), torch.tensor(3)],
    "num_layers": [2.0, np.int64(2), torch.tensor(2)],
    "proj_size": [0.0, -1, False, np.int64(0)],
    "bias": [1, "yes", np.bool_(True)],
    "bidirectional": [0, None, "", np.bool_(False)],
    "batch_first": [0, None, np.bool_(False), torch.tensor(False)],
    "dropout": [0, False, np.float32(0), torch.tensor(0.0)],
    "training": [1, "yes", np.bool_(True)],
}


@each_grad
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SAME.items() for value in values])
def test_what_python_takes_for_the_same_number_or_flag_changes_nothing(name, value, grad):
    lstm = build()
    expected = call(lstm, grad)
    setattr(lstm, name, value)
    assert torch.equal(call(lstm, grad), expected)


@each_grad
@pytest.mark.parametrize("flag", [1, "yes", np.bool_(True), torch.tensor(True)], ids=str)
def test_any_true_flag_is_batch_first(flag, grad):
    lstm = build(batch_first=True)
    x, hx = torch.randn(N, T, I), (torch.randn(2, N, H), torch.randn(2, N, H))
    with torch.set_grad_enabled(grad):
        expected = lstm(x, hx)[0]
        lstm.batch_first = flag  # type: ignore[assignment]
        assert torch.equal(lstm(x, hx)[0], expected)
        assert torch.equal(lstm(x, hx, lengths=[T] * N)[0], expected)
        assert torch.equal(lstm.trace(x, hx).output, expected)


NONSENSE = {
    "hidden_size": [
        ("4", TypeError),
        (None, TypeError),
        (4.5, TypeError),
        (0, ValueError),
        (-1, ValueError),
        (2**70, ValueError),
    ],
    "input_size": [("3", TypeError), (None, TypeError), (0, ValueError)],
    "num_layers": [(2**40, ValueError), ("2", TypeError), (None, TypeError), (0, ValueError), (-1, ValueError)],
    "proj_size": [("1", TypeError), (None, TypeError), (4, ValueError), (2**70, ValueError)],
    "dropout": [
        ("x", TypeError),
        ("0.5", TypeError),
        (None, TypeError),
        (2.0, RuntimeError),
        (-1, RuntimeError),
        (float("nan"), RuntimeError),
    ],
}


@each_grad
@pytest.mark.parametrize(("name", "value", "kind"), [(name, *row) for name, rows in NONSENSE.items() for row in rows])
def test_nonsense_is_a_clear_error_at_the_call_and_can_be_mended(name, value, kind, grad):
    lstm = build()
    before, expected = getattr(lstm, name), call(lstm, grad)
    setattr(lstm, name, value)  # another attribute may be about to make sense of it
    raised, message = outcome(lambda: call(lstm, grad))
    assert raised is kind, message
    assert name in message
    assert "incompatible function arguments" not in message
    setattr(lstm, name, before)
    assert torch.equal(call(lstm, grad), expected)


@each_grad
@pytest.mark.parametrize(("name", "value"), [("num_layers", 3), ("bidirectional", True), ("proj_size", 2)])
def test_parameters_that_the_attributes_ask_for_and_the_layer_has_not(name, value, grad):
    lstm = build()
    setattr(lstm, name, value)
    for x in (torch.ones(T, N, I), torch.ones(T, I)):
        with torch.set_grad_enabled(grad):
            assert outcome(lambda x=x: lstm(x))[0] is RuntimeError


@each_grad
def test_a_layer_that_is_no_longer_bidirectional_reads_its_forward_parameters(grad):
    lstm, forward = build(bidirectional=True), build()
    lstm.bidirectional = False
    for k, inputs in enumerate((I, H)):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            own = getattr(lstm, f"{name}_l{k}")
            own.data = own.data[:, :inputs] if name == "weight_ih" else own.data
            getattr(forward, f"{name}_l{k}").data = own.data.clone()
    assert torch.equal(call(lstm, grad), call(forward, grad))


@each_grad
def test_packed_input_does_without_batch_first(grad):
    lstm = LSTM(I, H)
    del lstm.batch_first
    padded = torch.randn(T, N, I)
    packed = torch.nn.utils.rnn.pack_padded_sequence(padded, [T, 1])
    with torch.set_grad_enabled(grad):
        assert lstm(packed)[0].data.shape == (T + 1, H)
        assert outcome(lambda: lstm(padded))[0] is AttributeError


@each_grad
def test_a_dropout_between_no_layers_is_not_asked(grad):
    lstm = LSTM(I, H)
    lstm.dropout = 2.0
    with torch.set_grad_enabled(grad):
        assert lstm(torch.ones(T, N, I))[0].shape == (T, N, H)


@each_grad
@pytest.mark.parametrize(
    ("name", "same", "wrong"), [("hidden_size", 4.0, "4"), ("input_size", 3.0, None), ("bias", 1, None)]
)
def test_cell(name, same, wrong, grad):
    cell, x, hx = LSTMCell(I, H), torch.randn(N, I), (torch.randn(N, H), torch.randn(N, H))
    with torch.set_grad_enabled(grad):
        expected = cell(x, hx)[0]
        setattr(cell, name, same)
        assert torch.equal(cell(x, hx)[0], expected)
        setattr(cell, name, wrong)
        if name == "bias":  # None: a flag that is not set
            assert cell(x, hx)[0].shape == (N, H)
        else:
            kind, message = outcome(lambda: cell(x, hx))
            assert kind is TypeError
            assert name in message
