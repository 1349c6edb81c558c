"""Nested tensors of layout jagged: what `lengths` gives for the padded tensor, without padding in between."""

import pytest
import torch
from torch import Tensor

from fastlstm import LSTM
from tests.conftest import assert_bits, outcome

I, H = 3, 4
LENGTHS = [3, 1, 7, 5]

# torch's own words about a feature of its own
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")


def nested(padded: Tensor, lengths: list[int]) -> Tensor:
    return torch.nested.nested_tensor(
        [row[:length] for row, length in zip(padded, lengths, strict=True)], layout=torch.jagged
    )


def padded_from(jagged: Tensor) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(jagged.detach().unbind()), batch_first=True)


@pytest.mark.parametrize("hx", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}, {"batch_first": False}]
)
def test_it_is_what_lengths_give(options, hx):
    lstm = LSTM(I, H, **{"batch_first": True, **options})
    padded = torch.randn(4, 7, I)
    cells, P = lstm.num_layers * (2 if lstm.bidirectional else 1), lstm.proj_size or H
    state = (torch.randn(cells, 4, P), torch.randn(cells, 4, H)) if hx else None
    values = nested(padded, LENGTHS).values().requires_grad_()
    jagged = torch.nested.nested_tensor_from_jagged(values, nested(padded, LENGTHS).offsets())
    output, (h_n, c_n) = lstm(jagged, state)
    assert output.is_nested
    assert output.layout is torch.jagged
    assert torch.equal(output.offsets(), jagged.offsets())
    (output.values().sum() + h_n.sum() + c_n.sum()).backward()
    found = {"output": padded_from(output), "h_n": h_n, "c_n": c_n, "dx": values.grad}
    found |= {name: p.grad for name, p in lstm.named_parameters()}

    lstm.zero_grad()
    x = padded.clone().requires_grad_()
    padded = x if lstm.batch_first else x.transpose(0, 1)
    output, (h_n, c_n) = lstm(padded, state, lengths=LENGTHS)
    (output.sum() + h_n.sum() + c_n.sum()).backward()
    output = output if lstm.batch_first else output.transpose(0, 1)
    dx = torch.cat([row[:length] for row, length in zip(x.grad, LENGTHS, strict=True)])
    expected = {"output": output, "h_n": h_n, "c_n": c_n, "dx": dx}
    assert_bits(found, expected | {name: p.grad for name, p in lstm.named_parameters()})


def test_operations_between_layers_keep_the_structure():
    first, second = LSTM(I, H), LSTM(H, 2)
    jagged = nested(torch.randn(4, 7, I), LENGTHS)
    between, _ = first(jagged)
    output, _ = second(torch.relu(between) + between)
    assert output.shape[:2] == jagged.shape[:2]


def test_values_of_no_row_are_zeros():
    values = torch.randn(300, I, requires_grad=True)
    lstm = LSTM(I, H)
    poison = [torch.full((300, n), 7.0) for n in (I, H) for _ in range(20)]
    del poison  # what comes next may stand there
    jagged = torch.nested.nested_tensor_from_jagged(values, torch.tensor([0]), min_seqlen=0, max_seqlen=0)
    output = lstm(jagged)[0].values()
    (dx,) = torch.autograd.grad(output.sum(), values)
    assert not output.any()
    assert not dx.any()


def test_rows_with_holes_between_them():
    lstm = LSTM(I, H, batch_first=True)
    whole = torch.randn(4, 7, I)
    starts, lengths = torch.tensor([0, 2, 1, 4]), torch.tensor([3, 1, 6, 0])
    jagged = torch.nested.narrow(whole, 1, starts, lengths, layout=torch.jagged)
    poison = [torch.full((28, H), 7.0) for _ in range(40)]
    del poison  # what comes next may stand there
    output, (h_n, _) = lstm(jagged)
    covered = torch.zeros(28, dtype=torch.bool)
    for at, length in zip(output.offsets().tolist(), lengths.tolist(), strict=False):
        covered[at : at + length] = True
    assert 0 < int(covered.sum()) < 28
    assert not output.values()[~covered].any()
    for n, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        if length == 0:
            assert (h_n[:, n] == 0).all()
            continue
        alone, (h, _) = lstm(whole[n : n + 1, start : start + length], lengths=[length])
        at = int(output.offsets()[n])
        torch.testing.assert_close(output.values()[at : at + length], alone[0])
        torch.testing.assert_close(h_n[:, n], h[:, 0])


def test_what_is_not_a_batch_of_rows_is_refused():
    lstm = LSTM(I, H)
    strided = torch.nested.nested_tensor([torch.randn(2, I), torch.randn(3, I)], layout=torch.strided)
    flat = torch.nested.nested_tensor([torch.randn(2), torch.randn(3)], layout=torch.jagged)
    for wrong in (strided, flat):
        kind, message = outcome(lambda x=wrong: lstm(x))
        assert kind is ValueError, message
        assert (
            message
            == "LSTM: expected a nested tensor of layout torch.jagged and shape (N, L of each row, H_in), H_in = 3"
        )
    kind, message = outcome(lambda: lstm(nested(torch.randn(4, 7, 5), LENGTHS)))
    assert kind is RuntimeError
    assert message.endswith("Expected 3, got 5: expected a nested tensor of shape (N, L of each row, H_in), H_in = 3")
    kind, message = outcome(lambda: lstm(nested(torch.randn(4, 7, I), LENGTHS), (torch.zeros(1, 3, H),) * 2))
    assert kind is RuntimeError
    assert message.startswith("Expected hidden[0] size (1, 4, 4), got [1, 3, 4]")
    kind, _ = outcome(lambda: lstm(nested(torch.randn(4, 7, I), LENGTHS), lengths=LENGTHS))
    assert kind is TypeError


def test_sizes_that_overflow_are_refused():
    jagged = torch.nested.nested_tensor_from_jagged(
        torch.randn(6, I), torch.tensor([2**63 - 2, 0, 0]), torch.tensor([4, 1])
    )
    kind, message = outcome(lambda: LSTM(I, H)(jagged))
    assert kind is ValueError
    assert message == "offsets and lengths of a nested tensor: expected rows within its 6 values"


def test_offsets_changed_in_place_before_backward_count_for_nothing():
    lstm, offsets = LSTM(I, H), torch.tensor([0, 3, 7])
    values = torch.randn(7, I, requires_grad=True)

    def gradient(change: bool) -> Tensor:
        lstm.zero_grad()
        output, _ = lstm(torch.nested.nested_tensor_from_jagged(values, offsets))
        if change:
            offsets[1] = 1
        (dx,) = torch.autograd.grad(output.values().square().sum(), values)
        return dx

    assert torch.equal(gradient(False), gradient(True))


@pytest.mark.parametrize("offsets", [[0, 3, 9], [-2, 3, 5], [0, 4, 3]])
def test_rows_outside_the_values_are_refused(offsets):
    jagged = torch.nested.nested_tensor_from_jagged(torch.randn(5, I), torch.tensor(offsets))
    kind, message = outcome(lambda: LSTM(I, H)(jagged))
    assert kind is ValueError
    assert "expected" in message


def with_lengths(starts: list[int], lengths: list[int]) -> Tensor:
    """A jagged tensor made by hand, of ten values: the last offset is where nothing starts."""
    offsets = torch.tensor([*starts, 10])
    return torch.nested.nested_tensor_from_jagged(torch.randn(10, I), offsets, torch.tensor(lengths))


@pytest.mark.parametrize("lengths", [[4, 2, 3], [1, 5, 2], [0, 7, 3]])
def test_rows_that_overlap_are_refused(lengths):
    kind, message = outcome(lambda: LSTM(I, H)(with_lengths([0, 3, 7], lengths)))
    assert kind is ValueError
    assert message == "offsets and lengths of a nested tensor: expected rows that do not overlap"


def test_rows_in_any_order_that_only_touch_are_taken():
    lstm = LSTM(I, H)
    jagged = with_lengths([6, 0, 2, 3], [4, 2, 0, 3])  # the row without values starts where another does
    output, _ = lstm(jagged)
    values = jagged.values()
    for n, (start, length) in enumerate(zip([6, 0, 3], [4, 2, 3], strict=True)):
        alone, _ = lstm(values[start : start + length])
        assert torch.equal(output.values()[start : start + length], alone), n
