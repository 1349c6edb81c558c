"""Which bits a GRU's results may depend on: a row's on nothing but the row, gradients' not on the number of threads, and none on
padding; as `test_lstm_same_bits` has it.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastlstm import GRU
from tests.conftest import Call, assert_bits, assert_close, draw, evaluate, twin

THREADS = [1, 2, 3, 5]
SIZES = [(7, 1), (3, 7), (64, 64), (33, 97), (65, 200), (256, 258)]  # I, H; the last goes to matrix tiles
OPTIONS: list[dict[str, Any]] = [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 3, "bias": False}]
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def forward(gru: GRU, call: Call, grad: bool) -> dict[str, Tensor]:
    with torch.set_grad_enabled(grad):
        output, h_n = gru(call.x, call.hx)
    return {"output": output.detach(), "h_n": h_n.detach()}


def rows(call: Call, chosen: list[int]) -> Call:
    return Call(call.x[:, chosen], call.hx[:, chosen], call.cotangents)


@each_dtype
@each_options
@each_size
@pytest.mark.parametrize("T", [1, 2, 11])
def test_a_rows_bits_do_not_depend_on_batch_mates_or_threads(T, size, options, dtype):
    gru, N = GRU(*size, **options, dtype=dtype), 70
    call = draw(gru, T, N)
    ranges = [range(7), range(12, 29), range(69, -1, -1)]
    for grad in (False, True):
        torch.set_num_threads(1)
        whole = forward(gru, call, grad)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for batch in ([0], [69], [5, 3], *map(list, ranges)):
                expected = {name: t[:, batch] for name, t in whole.items()}
                hint = f"{threads} threads, rows {batch}, grad {grad}"
                assert_bits(forward(gru, rows(call, batch), grad), expected, hint)


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
    """Of the same T: a row among other mates, of other lengths, in another place."""
    gru = GRU(33, 65, **options, dtype=dtype)
    call = draw(gru, 19, 9)
    lengths = [19, 19, 12, 7, 7, 5, 2, 1, 1]

    def run(chosen: list[int]) -> dict[str, Tensor]:
        some = rows(call, chosen)
        packed = pack_padded_sequence(some.x, torch.tensor([lengths[k] for k in chosen]), enforce_sorted=False)
        with torch.no_grad():
            output, h_n = gru(packed, some.hx)
        return {"output": pad_packed_sequence(output)[0], "h_n": h_n}

    whole = run(list(range(9)))
    for threads in THREADS:
        torch.set_num_threads(threads)
        for chosen in ([0], [1], [0, 1], [8, 0, 3], [2, 4, 6, 0, 8], list(range(8, -1, -1))):
            expected = {name: t[:, chosen] for name, t in whole.items()}
            assert_bits(run(chosen), expected, hint=f"{threads} threads, rows {chosen}")


@each_dtype
@each_options
@each_size
@pytest.mark.parametrize("batch", [(1, 1), (1, 64), (9, 1), (11, 33)], ids=str)
def test_gradients_have_the_same_bits_for_any_number_of_threads(batch, size, options, dtype, teams):
    before = teams()
    gru = GRU(*size, **options, dtype=dtype)
    call = draw(gru, *batch)
    torch.set_num_threads(1)
    expected = evaluate(gru, call)
    for threads in THREADS[1:]:
        torch.set_num_threads(threads)
        assert_bits(evaluate(gru, call), expected, hint=f"{threads} threads")
    if batch[1] > 1 and size[1] >= 64:  # else the call may not be worth a thread
        assert teams() >= before + 6


@each_dtype
@pytest.mark.parametrize("lengths", ["whole", "ragged", "one long"])
def test_gradients_have_the_same_bits_where_a_batch_is_summed_in_halves(lengths, dtype, teams):
    """Many rows of few units: each half of the batch has its own sums, whoever adds them up."""
    T, N = 40, 21
    drawn = {
        "whole": torch.full((N,), T),
        "ragged": torch.randint(T // 2, T + 1, (N,)).sort(descending=True).values,
        "one long": torch.tensor([T * N] + [2] * (N - 1)),  # half of the work: for many steps the other half has no row
    }[lengths]
    gru = GRU(7, 19, num_layers=2, bidirectional=True, dtype=dtype)
    call = draw(gru, int(drawn[0]), N, lengths=None if lengths == "whole" else drawn.tolist())
    torch.set_num_threads(1)
    expected = evaluate(gru, call)
    assert_close(expected, evaluate(twin(gru, torch.float64), call.to(torch.float64)))
    before = teams()
    for threads in (2, 3, 4):
        torch.set_num_threads(threads)
        assert_bits(evaluate(gru, call), expected, hint=f"{threads} threads")
    assert teams() == before + 6


@each_dtype
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients_have_the_same_bits_where_segments_are_summed_in_halves(batch_first, dtype, teams):
    gru = GRU(7, 19, batch_first=batch_first, dtype=dtype)
    T, N = 50, 24
    call = draw(gru, T, N)
    arguments = {"lengths": torch.randint(1, T + 1, (N,)), "reset": torch.rand(call.x.shape[:2]) < 0.02}
    torch.set_num_threads(1)
    expected = evaluate(gru, call, **arguments)
    before = teams()
    for threads in (2, 3, 4):
        torch.set_num_threads(threads)
        assert_bits(evaluate(gru, call, **arguments), expected, hint=f"{threads} threads")
    assert teams() == before + 6


@each_dtype
@each_options
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_nan_in_padding_changes_nothing(enforce_sorted, options, dtype):
    gru = GRU(7, 9, **options, dtype=dtype)
    lengths = [6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4]
    call = draw(gru, 6, 4)
    spoiled = call.x.clone()
    for row, length in enumerate(lengths):
        spoiled[length:, row] = float("nan")

    def run(x: Tensor) -> dict[str, Tensor]:
        gru.zero_grad(set_to_none=True)
        x = x.clone().requires_grad_()
        packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=enforce_sorted)
        output, h_n = gru(packed, call.hx)
        padded, _ = pad_packed_sequence(output)
        (padded.pow(2).sum() + h_n.sum()).backward()
        named = {f"d{name}": p.grad for name, p in gru.named_parameters()}
        return {"output": padded.detach(), "h_n": h_n.detach(), "dx": x.grad, **named}

    found = run(spoiled)
    assert all(t.isfinite().all() for t in found.values())
    assert_bits(found, run(call.x))


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
