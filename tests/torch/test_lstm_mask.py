"""mask: lengths, said by a bool for each step, as torchrl says them."""

import pytest
import torch

from fastlstm import LSTM
from tests.conftest import assert_bits, draw, evaluate, outcome

T, N = 7, 5
LENGTHS = [3, 0, 7, 1, 5]


def mask_of(lengths: list[int], batch_first: bool) -> torch.Tensor:
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    return mask if batch_first else mask.T


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("options", [{}, {"batch_first": True, "num_layers": 2, "bidirectional": True}], ids=str)
def test_it_says_what_lengths_say(options, grad):
    lstm = LSTM(3, 4, **options)
    call, mask = draw(lstm, T, N), mask_of(LENGTHS, lstm.batch_first)
    assert_bits(evaluate(lstm, call, mask=mask), evaluate(lstm, call, lengths=LENGTHS))
    reset = torch.rand(mask.shape) < 0.2
    with torch.set_grad_enabled(grad):
        found, expected = lstm(call.x, call.hx, None, reset, mask), lstm(call.x, call.hx, LENGTHS, reset)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(lstm(call.x[0], mask=mask.new_ones(len(call.x[0])))[0], lstm(call.x[0])[0])


def test_compiled():
    torch.compiler.reset()
    lstm = LSTM(3, 4, batch_first=True)
    call, mask = draw(lstm, T, N), mask_of(LENGTHS, True)
    compiled = torch.compile(lambda x, mask: lstm(x, mask=mask)[0], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(call.x, mask), lstm(call.x, mask=mask)[0])
    mask[0, 5] = True
    with pytest.raises(ValueError, match="lengths"):
        compiled(call.x, mask)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda m: {"mask": m.float()}, TypeError, "mask: expected bool, got torch.float32: mask.bool() makes it so"),
        (lambda m: {"mask": m[:, 1:]}, ValueError, "mask: expected shape (7, 5), got (7, 4)"),
        (lambda m: {"mask": ~m}, ValueError, "mask: expected True for the first steps of a row and False for the rest"),
        (lambda m: {"mask": m, "lengths": LENGTHS}, ValueError, "expected lengths or mask, got both"),
    ],
)
@pytest.mark.parametrize("grad", [True, False])
def test_what_is_refused(change, kind, message, grad):
    lstm, x = LSTM(3, 4), torch.randn(T, N, 3)
    with torch.set_grad_enabled(grad):
        assert outcome(lambda: lstm(x, **change(mask_of(LENGTHS, False)))) == (kind, message)


def test_what_has_lengths_of_its_own_takes_none():
    packed = torch.nn.utils.rnn.pack_sequence([torch.randn(T, 3)])
    kind, message = outcome(lambda: LSTM(3, 4)(packed, mask=torch.ones(T, 1, dtype=torch.bool)))
    assert (kind, message) == (TypeError, "mask is for a padded tensor, got a PackedSequence")


def test_symbolic_trace_keeps_it():
    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = LSTM(3, 4)

        def forward(self, x, mask):
            return self.lstm(x, mask=mask)[0]

    model, x, mask = Holder(), torch.randn(T, N, 3), mask_of(LENGTHS, False)
    assert torch.equal(torch.fx.symbolic_trace(model)(x, mask), model(x, mask))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_trace_takes_it_too(batch_first):
    lstm, mask = LSTM(3, 4, batch_first=batch_first), mask_of(LENGTHS, batch_first)
    x = torch.randn(*mask.shape, 3)
    found, expected = lstm.trace(x, mask=mask), lstm.trace(x, lengths=LENGTHS)
    assert torch.equal(found.output, expected.output)
    assert torch.equal(found.lengths, torch.tensor(LENGTHS))
    assert torch.equal(found.layers[0][0].f, expected.layers[0][0].f)
    kind, message = outcome(lambda: lstm.trace(x, lengths=LENGTHS, mask=mask))
    assert (kind, message) == (ValueError, "expected lengths or mask, got both")
