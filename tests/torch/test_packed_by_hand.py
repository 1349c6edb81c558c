"""PackedSequences that nobody packed: batch_sizes and indices that are odd, wrong or do not fit, and sizes that overflow."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import assert_close, draw, evaluate, outcome, twin
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import fastlstm
from fastlstm import LSTM

I, H = 3, 4
each_grad = pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])


def steps(*batch_sizes: int, rows: int | None = None, dtype: torch.dtype = torch.int64) -> PackedSequence:
    return PackedSequence(
        torch.randn(sum(batch_sizes) if rows is None else rows, I), torch.tensor(batch_sizes, dtype=dtype)
    )


def ways(grad: bool) -> dict[str, Callable[[PackedSequence, Any], Any]]:
    """Every way into the engine that takes a packed batch."""

    def enabled(x: PackedSequence, hx: Any) -> Any:
        with fastlstm.enabled():
            return nn.LSTM(I, H)(x, hx)

    found: dict[str, Callable[[PackedSequence, Any], Any]] = {
        "call": lambda x, hx: LSTM(I, H)(x, hx),
        "bidirectional": lambda x, hx: LSTM(I, H // 2, bidirectional=True)(x, None),
        "trace": lambda x, hx: LSTM(I, H).trace(x, hx),
        "enabled": enabled,
    }
    if grad:
        found["recorded"] = lambda x, hx: _with_hooks(lambda: LSTM(I, H)(x, hx))
    return found


def _with_hooks(run: Callable[[], Any]) -> Any:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        return run()


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "proj_size": 2}], ids=str)
@pytest.mark.parametrize("trailing", [1, 3])
def test_steps_without_rows_at_the_end_are_what_nn_lstm_makes_of_them(options, trailing):
    ours = LSTM(I, H, **options, dtype=torch.float64)
    call = draw(ours, 4, 3, lengths=[4, 2, 1])
    sizes = torch.cat([call.x.batch_sizes, torch.zeros(trailing, dtype=torch.int64)])
    longer = call._replace(x=call.x._replace(batch_sizes=sizes))
    assert_close(evaluate(ours, longer), evaluate(twin(ours), longer))
    assert torch.equal(ours(longer.x)[0].batch_sizes, sizes)
    with torch.no_grad():
        assert torch.equal(ours(longer.x)[0].data, ours(call.x)[0].data)
    assert torch.equal(ours.trace(longer.x).layers[0][0].c.data, ours.trace(call.x).layers[0][0].c.data)


@each_grad
def test_no_row_at_all(grad):
    lstm = LSTM(I, H)
    with torch.set_grad_enabled(grad):
        output, (h_n, c_n) = lstm(steps(0, 0))
        theirs, (their_h_n, _) = twin(lstm)(steps(0, 0))
    assert output.data.shape == theirs.data.shape == (0, H)
    assert h_n.shape == c_n.shape == their_h_n.shape == (1, 0, H)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32], ids=str)
@each_grad
def test_integers_of_any_kind_count(dtype, grad):
    lstm, x = LSTM(I, H), steps(3, 2, 2)
    with torch.set_grad_enabled(grad):
        assert torch.equal(lstm(x._replace(batch_sizes=x.batch_sizes.to(dtype)))[0].data, lstm(x)[0].data)
        spread = torch.stack([x.batch_sizes, torch.full((3,), 99)], 1)[:, 0]
        assert torch.equal(lstm(x._replace(batch_sizes=spread))[0].data, lstm(x)[0].data)


WRONG = {
    "no step": (PackedSequence(torch.zeros(0, I), torch.zeros(0, dtype=torch.int64)), IndexError),
    "data that is no tensor": (PackedSequence("x", torch.tensor([1])), TypeError),  # type: ignore[arg-type]
    "rise": (steps(1, 2), RuntimeError),
    "begin again": (steps(2, 0, 1), RuntimeError),
    "fewer rows than data": (steps(2, 1, rows=4), RuntimeError),
    "more rows than data": (steps(2, 1, rows=2), RuntimeError),
    "below 0": (steps(2, -1, rows=1), RuntimeError),
    "below 0 at first": (steps(-1, rows=1), RuntimeError),
    "floats": (steps(2, 1, dtype=torch.float32), TypeError),
    "bools": (steps(1, 1, dtype=torch.bool), TypeError),
    "a matrix": (PackedSequence(torch.randn(3, I), torch.tensor([[2, 1]])), TypeError),
    "more than can be counted": (
        PackedSequence(torch.zeros(2**16, I), torch.tensor([2**60 + 2**12] * 16)),
        RuntimeError,
    ),
    "at first as many as can be": (PackedSequence(torch.zeros(4, I), torch.tensor([2**63 - 1, 5])), RuntimeError),
    "a sum that wraps to the rows": (PackedSequence(torch.zeros(4, I), torch.tensor([4, *[2**62] * 4])), RuntimeError),
}


@each_grad
@pytest.mark.parametrize("name", WRONG)
def test_malformed_batch_sizes_are_refused(name, grad):
    x, kind = WRONG[name]
    for way, run in ways(grad).items():
        if way == "enabled":  # what the engine does not take is torch's to refuse, or to take
            continue
        with torch.set_grad_enabled(grad):
            raised, message = outcome(lambda run=run: run(x, None))
        assert raised is kind, f"{way}: {message}"
        assert "incompatible function arguments" not in message, way


@each_grad
@pytest.mark.parametrize("rows", [300, 100_000])
def test_indices_that_leave_fewer_states_than_rows_are_refused(rows, grad):
    few = torch.tensor([0, 1])
    x = PackedSequence(torch.zeros(rows, I), torch.tensor([rows]), few, torch.arange(rows))
    hx = (torch.zeros(1, rows, H), torch.zeros(1, rows, H))
    for way, run in ways(grad).items():
        if way in ("bidirectional", "enabled"):  # without hx; and torch's own layer reads outside its arrays here
            continue
        with torch.set_grad_enabled(grad):
            raised, message = outcome(lambda run=run: run(x, hx))
        assert raised is RuntimeError, f"{way}: {message}"


@each_grad
@pytest.mark.parametrize(
    "indices", [torch.tensor([0, 5, 1]), torch.tensor([0, -1, 1]), torch.tensor([0.0, 1.0, 2.0])], ids=str
)
def test_indices_outside_the_batch_are_refused(indices: Tensor, grad):
    x = PackedSequence(torch.zeros(6, I), torch.tensor([3, 2, 1]), indices, torch.arange(3))
    hx = (torch.zeros(1, 3, H), torch.zeros(1, 3, H))
    with torch.set_grad_enabled(grad):
        expected = outcome(lambda: nn.LSTM(I, H)(x, hx))[0]
        assert expected is not None
        assert outcome(lambda: LSTM(I, H)(x, hx))[0] is expected


@each_grad
@pytest.mark.filterwarnings("ignore::fastlstm.torch.runners.fallback.FallbackWarning")
@pytest.mark.parametrize("name", ["rise", "begin again", "fewer rows than data", "more rows than data", "below 0"])
def test_plain_operations_refuse_them_too(name, grad):
    """Those of complex numbers, which would repeat the row of a step that has one, and h_0 for those that it has not."""
    x, kind = WRONG[name]
    x = x._replace(data=x.data.to(torch.complex64))
    lstm = LSTM(I, H, dtype=torch.complex64)
    for run in (lstm, lstm.trace):
        with torch.set_grad_enabled(grad):
            raised, message = outcome(lambda run=run: run(x))
        assert raised is kind, message
        assert "batch_sizes" in message


@each_grad
def test_floats_are_torchs_to_refuse_under_enable(grad):
    x = steps(2, 1, dtype=torch.float64)
    model = nn.LSTM(I, H)
    with torch.set_grad_enabled(grad):
        expected = outcome(lambda: model(x))
        with fastlstm.enabled():
            assert outcome(lambda: model(x)) == expected
