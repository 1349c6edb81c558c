"""Which bits a GRU's results may depend on: a row's on nothing but the row, gradients' not on the number of threads, and none on
padding; as `test_lstm_same_bits` has it.
"""

from typing import Any

import pytest
import torch

from fastlstm import GRU
from tests.conftest import assert_bits, draw
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
)

OPTIONS: list[dict[str, Any]] = [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 3, "bias": False}]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


@each_dtype
@each_options
@each_size
@pytest.mark.parametrize("T", [1, 2, 11])
def test_a_rows_bits_do_not_depend_on_batch_mates_or_threads(T, size, options, dtype):
    gru, N = GRU(*size, **options, dtype=dtype), 70
    call = draw(gru, T, N)
    ranges = [range(7), range(12, 29), range(69, -1, -1)]
    hold_rows_alone(gru, call, [[0], [69], [5, 3], *map(list, ranges)], [1, 2, 3])


@each_dtype
@each_size
def test_other_rows_may_hold_anything(size, dtype):
    """NaN, infinities and huge numbers in the other rows leave a row's bits alone."""
    gru = GRU(*size, num_layers=2, bidirectional=True, dtype=dtype)
    call = draw(gru, 9, 13)
    expected = forward(gru, call, False)
    for value in (float("nan"), float("inf"), 1e30):
        x, h_0 = call.x.clone(), call.hx.clone()
        x[:, 1::2] = h_0[:, 1::2] = value
        found = forward(gru, call._replace(x=x, hx=h_0), False)
        assert_bits({n: t[:, ::2] for n, t in found.items()}, {n: t[:, ::2] for n, t in expected.items()}, hint=value)


@each_dtype
@each_options
def test_a_rows_bits_are_its_own_in_packed_batches(options, dtype):
    gru = GRU(33, 65, **options, dtype=dtype)
    hold_packed_rows_alone(gru, draw(gru, 19, 9))


@each_dtype
@each_options
@each_size
@pytest.mark.parametrize("batch", [(1, 1), (1, 64), (9, 1), (11, 33)], ids=str)
def test_gradients_have_the_same_bits_for_any_number_of_threads(batch, size, options, dtype, teams):
    before = teams()
    gru = GRU(*size, **options, dtype=dtype)
    hold_gradients(gru, draw(gru, *batch), THREADS[1:])
    if batch[1] > 1 and size[1] >= 64:  # else the call may not be worth a thread
        assert teams() >= before + 6


@each_dtype
@pytest.mark.parametrize("lengths", ["whole", "ragged", "one long"])
def test_gradients_have_the_same_bits_where_a_batch_is_summed_in_halves(lengths, dtype, teams):
    before = teams()
    hold_gradients_in_halves(GRU, lengths, dtype, [2, 3, 4])
    assert teams() == before + 6


@each_dtype
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients_have_the_same_bits_where_segments_are_summed_in_halves(batch_first, dtype, teams):
    gru = GRU(7, 19, batch_first=batch_first, dtype=dtype)
    T, N = 50, 24
    call = draw(gru, T, N)
    arguments = {"lengths": torch.randint(1, T + 1, (N,)), "reset": torch.rand(call.x.shape[:2]) < 0.02}
    before = teams()
    hold_gradients(gru, call, [2, 3, 4], **arguments)
    assert teams() == before + 6


@each_dtype
@each_options
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_nan_in_padding_changes_nothing(enforce_sorted, options, dtype):
    hold_padding_unread(GRU(7, 9, **options, dtype=dtype), enforce_sorted)


@each_dtype
def test_inference_has_the_bits_of_itself_in_every_layout(dtype):
    """Strides, batch_first, and a batch of one beside an unbatched call."""
    gru, first = GRU(33, 40, 2, dtype=dtype), GRU(33, 40, 2, batch_first=True, dtype=dtype)
    first.load_state_dict(gru.state_dict())
    call = draw(gru, 7, 5)
    expected = forward(gru, call, False)
    for x in (call.x.transpose(0, 1).contiguous().transpose(0, 1), call.x.flip(0).flip(0), call.x.clone()):
        assert_bits(forward(gru, call._replace(x=x), False), expected)
    turned = forward(first, call._replace(x=call.x.transpose(0, 1)), False)
    assert_bits(turned | {"output": turned["output"].transpose(0, 1)}, expected)
    with torch.no_grad():
        output, h_n = gru(call.x[:, 2], call.hx[:, 2])
    assert_bits({"output": output, "h_n": h_n}, {name: t[:, 2] for name, t in expected.items()})
