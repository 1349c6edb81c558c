"""PackedSequence: the order of hx, h_n and c_n, what the output carries, and where each row begins and ends."""

import itertools

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, twin
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from fastlstm import LSTM

OPTIONS = [
    {},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3},
    {"num_layers": 3, "bias": False},
]
LENGTHS = {
    "sorted": [6, 5, 5, 2, 1],
    "all alike": [4, 4, 4],
    "unsorted": [2, 6, 1, 5, 5],
    "ascending": [1, 2, 3, 4, 5, 6],
    "one row": [6],
    "one step": [1, 1, 1],
    "one long": [9, 1, 1, 1],
}
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
each_lengths = pytest.mark.parametrize("lengths", list(LENGTHS.values()), ids=list(LENGTHS))


def build(options: dict[str, object], dtype: torch.dtype = torch.float64) -> LSTM:
    return LSTM(5, 9, **options, dtype=dtype)


def is_sorted(lengths: list[int]) -> bool:
    return lengths == sorted(lengths, reverse=True)


@each_options
@each_lengths
@pytest.mark.parametrize("hx", [True, False], ids=["hx", "no_hx"])
def test_outputs_and_gradients_are_nn_lstms(lengths, options, hx):
    ours = build(options)
    for enforce_sorted in {False, is_sorted(lengths)}:
        call = draw(ours, max(lengths), len(lengths), hx=hx, lengths=lengths, enforce_sorted=enforce_sorted)
        assert_close(evaluate(ours, call), evaluate(twin(ours), call))


@each_lengths
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_the_output_carries_batch_sizes_and_both_index_tensors(lengths, grad):
    ours = build({})
    for enforce_sorted in {False, is_sorted(lengths)}:
        call = draw(ours, max(lengths), len(lengths), lengths=lengths, enforce_sorted=enforce_sorted)
        with torch.set_grad_enabled(grad):
            output, _ = ours(call.x, call.hx)
            theirs, _ = twin(ours)(call.x, call.hx)
        assert type(output) is PackedSequence
        assert torch.equal(output.batch_sizes, theirs.batch_sizes)
        for mine, other in zip(output[2:], theirs[2:], strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or torch.equal(mine, other)
        (padded, found), (their_padded, their_lengths) = pad_packed_sequence(output), pad_packed_sequence(theirs)
        torch.testing.assert_close(padded, their_padded)
        assert torch.equal(found, their_lengths)


@each_options
@each_lengths
def test_every_row_is_the_row_alone(lengths, options):
    """hx in the caller's order; h_n and c_n come back in it; a row ends after its own last step, and its reverse direction
    begins there."""
    ours = build(options)
    N = len(lengths)
    call = draw(ours, max(lengths), N)
    h_0, c_0 = call.hx
    packed = pack_padded_sequence(call.x, torch.tensor(lengths), enforce_sorted=False)
    output, (h_n, c_n) = ours(packed, call.hx)
    padded, _ = pad_packed_sequence(output)
    for row, length in enumerate(lengths):
        alone, (h_alone, c_alone) = ours(call.x[:length, row], (h_0[:, row], c_0[:, row]))
        torch.testing.assert_close(padded[:length, row], alone)
        torch.testing.assert_close(h_n[:, row], h_alone)
        torch.testing.assert_close(c_n[:, row], c_alone)


@each_options
def test_equal_lengths_are_the_dense_call(options):
    ours = build(options)
    call = draw(ours, 6, 4)
    dense = evaluate(ours, call)
    packed = evaluate(
        ours,
        call._replace(
            x=pack_padded_sequence(call.x, torch.tensor([6] * 4)),
            cotangents=(call.cotangents[0].reshape(24, -1), *call.cotangents[1:]),
        ),
    )
    dense["output"], dense["dx"] = dense["output"].reshape(24, -1), dense["dx"].reshape(24, -1)
    assert_close(packed, dense)


@pytest.mark.parametrize("lengths", list(itertools.permutations([4, 2, 1])), ids=str)
def test_h_n_and_c_n_follow_any_order_of_the_rows(lengths):
    ours = build({"bidirectional": True}, torch.float32)
    sequences = [torch.full((length, 5), float(length)) for length in lengths]
    h_0 = torch.tensor(lengths).float().view(1, 3, 1).expand(2, 3, 9) / 10
    _, (h_n, c_n) = ours(pack_sequence(sequences, enforce_sorted=False), (h_0, h_0))
    for row in range(len(lengths)):
        _, (h, c) = ours(sequences[row], (h_0[:, row], h_0[:, row]))
        torch.testing.assert_close(h_n[:, row], h)
        torch.testing.assert_close(c_n[:, row], c)


@each_options
def test_batch_first_is_of_no_matter_to_packed_data(options):
    ours = build({**options, "batch_first": True})
    plain = build(options)
    plain.load_state_dict(ours.state_dict())
    call = draw(plain, 6, 4, lengths=[6, 3, 3, 1])
    assert_bits(evaluate(ours, call), evaluate(plain, call))


def test_pack_padded_of_a_batch_first_tensor():
    ours = LSTM(5, 9, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    call = draw(ours, 6, 5, lengths=[2, 6, 1, 5, 5], enforce_sorted=False)
    assert_close(evaluate(ours, call), evaluate(twin(ours), call))


def test_gradient_of_padding_is_zero():
    ours = build({"num_layers": 2, "bidirectional": True})
    lengths = [6, 3, 1]
    x = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
    output, _ = ours(pack_padded_sequence(x, torch.tensor(lengths)))
    pad_packed_sequence(output)[0].sum().backward()
    for row, length in enumerate(lengths):
        assert x.grad[:length, row].abs().min() > 0
        assert not x.grad[length:, row].any()


@each_options
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_long_and_very_uneven(options, dtype):
    lengths = [97, *range(40, 0, -3), *[1] * 17]
    ours = build(options, dtype)
    call = draw(ours, 97, len(lengths), lengths=lengths)
    assert_close(evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64)), dtype)


def test_dropout_masks_of_packed_data_are_nn_lstms():
    ours = build({"num_layers": 3, "dropout": 0.5, "bidirectional": True})
    for lengths, enforce_sorted in (([6, 5, 5, 2, 1], True), ([2, 6, 1, 5, 5], False)):
        call = draw(ours, 6, 5, lengths=lengths, enforce_sorted=enforce_sorted)
        assert_close(evaluate(ours, call, seed=7), evaluate(twin(ours), call, seed=7))


def test_a_hand_made_packed_sequence_of_strided_data():
    """Any PackedSequence, not only one that torch's helpers made: data of another stride, a sub-class of the tuple."""
    ours = build({})
    data = torch.randn(5, 11, dtype=torch.float64).t()
    packed = PackedSequence(data, torch.tensor([4, 4, 2, 1]))
    assert not packed.data.is_contiguous()
    output, hidden = ours(packed)
    theirs, their_hidden = twin(ours)(packed)
    torch.testing.assert_close(output.data, theirs.data)
    torch.testing.assert_close(hidden, their_hidden)


def test_packed_output_feeds_the_next_layer():
    first, second = build({"bidirectional": True}), LSTM(18, 4, dtype=torch.float64)
    call = draw(first, 6, 5, lengths=[2, 6, 1, 5, 5], enforce_sorted=False)

    def run(one: torch.nn.Module, two: torch.nn.Module) -> tuple[Tensor, ...]:
        output, (h_n, c_n) = two(one(call.x)[0])
        return output.data, h_n, c_n

    torch.testing.assert_close(run(first, second), run(twin(first), twin(second)))
