"""Which bits a result may depend on: a row's on nothing but the row, gradients' not on the number of threads, and none on
padding.
"""

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, twin
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from fastlstm import LSTM
from tests.torch.same_bits import (
    THREADS,
    each_dtype,
    each_size,
    forward,
    hold_gradients,
    hold_gradients_in_halves,
    hold_packed_rows_alone,
    hold_padding_unread,
    hold_rows_alone,
    rows,
)

OPTIONS = [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": True}, {"num_layers": 3, "bias": False}]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def build(size: tuple[int, int], options: dict[str, object], dtype: torch.dtype) -> LSTM:
    I, H = size
    proj_size = H // 2 if options.get("proj_size") else 0
    return LSTM(I, H, **{**options, "proj_size": proj_size}, dtype=dtype)


# A row's forward result is the same bits whatever the other rows, the batch size and the number of threads.


@each_dtype
@each_options
@each_size
@pytest.mark.parametrize("T", [1, 2, 19])
def test_a_rows_bits_do_not_depend_on_batch_mates_or_threads(T, size, options, dtype):
    lstm = build(size, options, dtype)
    N = 70
    call = draw(lstm, T, N)
    ranges = [range(N), range(6), range(7), range(12, 29), range(32, 65), range(69, -1, -1)]
    hold_rows_alone(lstm, call, [[0], [69], [5, 3], *map(list, ranges)], THREADS)


@each_dtype
@pytest.mark.parametrize("bidirectional", [False, True])
def test_bits_depend_on_neither_where_no_cache_holds_the_weights(bidirectional, dtype):
    """From 12 MiB on the plan shares units, and projects a block of steps at once, for more rows than otherwise."""
    lstm = LSTM(800, 720, bidirectional=bidirectional, dtype=dtype)
    call = draw(lstm, 3, 110)
    torch.set_num_threads(1)
    whole = forward(lstm, call, False)
    some = rows(call, list(range(20)))
    some = some._replace(cotangents=tuple(t[:, :20] for t in some.cotangents))
    gradients = evaluate(lstm, some)
    for threads in THREADS:
        torch.set_num_threads(threads)
        for batch in ([3], list(range(13)), list(range(40, 60)), list(range(110))):
            expected = {name: t[:, batch] for name, t in whole.items()}
            assert_bits(forward(lstm, rows(call, batch), False), expected, hint=f"{threads} threads, {len(batch)} rows")
        assert_bits(evaluate(lstm, some), gradients, hint=f"{threads} threads")


@each_dtype
@each_size
def test_other_rows_may_hold_anything(size, dtype):
    """NaN, infinities and huge numbers in the other rows leave a row's bits alone."""
    lstm = build(size, {"num_layers": 2, "bidirectional": True}, dtype)
    call = draw(lstm, 9, 13)
    expected = forward(lstm, call, False)
    for value in (float("nan"), float("inf"), 1e30):
        x = call.x.clone()
        x[:, 1::2] = value
        found = forward(lstm, call._replace(x=x), False)
        assert_bits({n: t[:, ::2] for n, t in found.items()}, {n: t[:, ::2] for n, t in expected.items()}, hint=value)


@each_dtype
@each_options
def test_a_rows_bits_are_its_own_in_packed_batches(options, dtype):
    lstm = build((33, 65), options, dtype)
    hold_packed_rows_alone(lstm, draw(lstm, 19, 9))


# Gradients are the same bits for any number of threads.


@each_dtype
@each_options
@each_size
@pytest.mark.parametrize("batch", [(1, 1), (1, 64), (19, 1), (19, 5), (11, 64)], ids=str)
def test_gradients_have_the_same_bits_for_any_number_of_threads(batch, size, options, dtype, teams):
    before = teams()
    lstm = build(size, options, dtype)
    hold_gradients(lstm, draw(lstm, *batch), THREADS[1:], times=2)
    if batch[1] > 1 and size[1] >= 64:  # else the call may not be worth a thread
        assert teams() >= before + 12


@each_dtype
@pytest.mark.parametrize("lengths", ["whole", "ragged", "one long"])
def test_gradients_have_the_same_bits_where_a_batch_is_summed_in_halves(lengths, dtype, teams):
    before = teams()
    hold_gradients_in_halves(LSTM, lengths, dtype, [2, 3, 4, 6])
    assert teams() == before + 8


@each_dtype
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients_have_the_same_bits_where_segments_are_summed_in_halves(batch_first, dtype, teams):
    """Rows that the engine brings and sends block by block, half by half."""
    lstm = LSTM(7, 19, batch_first=batch_first, dtype=dtype)
    T, N = 50, 24
    lead = (N, T) if batch_first else (T, N)
    x, cotangent = torch.randn(*lead, 7, dtype=dtype), torch.randn(*lead, 19, dtype=dtype)
    lengths, reset = torch.randint(1, T + 1, (N,)), torch.rand(lead) < 0.02

    def run(lstm: torch.nn.Module, x: Tensor) -> dict[str, Tensor]:
        leaf = x.clone().requires_grad_()
        lstm.zero_grad()
        output, _ = lstm(leaf, lengths=lengths, reset=reset)
        output.backward(cotangent.to(x.dtype))
        return {"output": output.detach(), "dx": leaf.grad, **{f"d{n}": p.grad for n, p in lstm.named_parameters()}}

    torch.set_num_threads(1)
    expected = {name: t.clone() for name, t in run(lstm, x).items()}
    exact = LSTM(7, 19, batch_first=batch_first, dtype=torch.float64)
    exact.load_state_dict(lstm.state_dict())
    assert_close(expected, run(exact, x.double()))
    before = teams()
    for threads in (2, 3, 4, 6):
        torch.set_num_threads(threads)
        assert_bits(run(lstm, x), expected, hint=f"{threads} threads")
    assert teams() == before + 8


@pytest.mark.parametrize("by", ["lengths", "reset"])
def test_gradients_have_the_same_bits_where_halves_stand_in_different_blocks(by, teams):
    """Each has its own place for what it sends: a shared one was wrong in nine runs of ten."""
    lstm, x = LSTM(128, 64, batch_first=True), torch.randn(40, 200, 128, requires_grad=True)
    ragged = {
        "lengths": {"lengths": torch.linspace(1, 200, 40).long()},
        "reset": {"reset": torch.rand(40, 200) < 0.01},
    }[by]
    cotangent = torch.randn(40, 200, 64)

    def dx() -> dict[str, Tensor]:
        return {"dx": torch.autograd.grad(lstm(x, **ragged)[0], x, cotangent)[0]}

    torch.set_num_threads(1)
    expected = dx()
    before = teams()
    for threads in (2, 2, 2, 4, 4):
        torch.set_num_threads(threads)
        assert_bits(dx(), expected, hint=f"{threads} threads")
    assert teams() == before + 10


@pytest.mark.parametrize("size", [(512, 512), (300, 512)], ids=str)
def test_a_rows_bits_are_its_own_where_a_sum_is_cut_and_batch_sizes_differ(size, teams):
    """Members are at different steps, and a row's cut sums wait in one place for them all: wrong in every run once."""
    lstm = LSTM(*size)
    packed = pack_padded_sequence(torch.randn(20, 64, size[0]), torch.linspace(20, 1, 64).long())

    def output() -> dict[str, Tensor]:
        with torch.no_grad():
            return {"output": lstm(packed)[0].data}

    torch.set_num_threads(1)
    expected = output()
    assert_close(expected, {"output": twin(lstm, torch.float64)(packed.to(torch.float64))[0].data.detach()})
    before = teams()
    for threads in (2, 2, 3, 4):
        torch.set_num_threads(threads)
        assert_bits(output(), expected, hint=f"{threads} threads")
    assert teams() == before + 4


@each_dtype
def test_gradients_have_the_same_bits_in_packed_batches(dtype, teams):
    lstm = build((33, 65), {"num_layers": 2, "bidirectional": True}, dtype)
    call = draw(lstm, 19, 12, lengths=[19, 19, 17, 12, 12, 11, 9, 7, 3, 1, 1, 1])
    before = teams()
    hold_gradients(lstm, call, THREADS[1:])
    assert teams() == before + 6


# Padding is never read.


@each_dtype
@each_options
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_nan_in_padding_changes_nothing(enforce_sorted, options, dtype):
    hold_padding_unread(build((7, 9), options, dtype), enforce_sorted)
