"""What `test_lstm_same_bits` and `test_gru_same_bits` hold each of their layers to, in one place."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.conftest import VALUES, Call, assert_bits, assert_close, draw, evaluate, like, states_of, twin

THREADS = [1, 2, 3, 5]
SIZES = [
    (7, 1),
    (3, 7),
    (64, 64),
    (33, 97),
    (65, 200),
    (256, 258),
]  # I, H; the last goes to matrix tiles where there are some
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
each_size = pytest.mark.parametrize("size", SIZES, ids=str)
LENGTHS = [19, 19, 12, 7, 7, 5, 2, 1, 1]


def forward(layer: nn.Module, call: Call, grad: bool) -> dict[str, Tensor]:
    with torch.set_grad_enabled(grad):
        output, last = layer(call.x, call.hx)
    results = [output, *states_of(last)]
    return {name: t.detach() for name, t in zip(VALUES, results, strict=False)}


def rows(call: Call, chosen: list[int]) -> Call:
    return Call(call.x[:, chosen], like(call.hx, [t[:, chosen] for t in states_of(call.hx)]), call.cotangents)


def hold_rows_alone(layer: nn.Module, call: Call, batches: list[list[int]], threads: list[int]) -> None:
    """A row's bits depend on neither its batch mates nor the threads."""
    for grad in (False, True):
        torch.set_num_threads(1)
        whole = forward(layer, call, grad)
        for count in threads:
            torch.set_num_threads(count)
            for batch in batches:
                expected = {name: t[:, batch] for name, t in whole.items()}
                hint = f"{count} threads, rows {batch}, grad {grad}"
                assert_bits(forward(layer, rows(call, batch), grad), expected, hint)


def hold_packed_rows_alone(layer: nn.Module, call: Call) -> None:
    """Of the same T: a row among other mates, of other lengths, in another place."""

    def run(chosen: list[int]) -> dict[str, Tensor]:
        some = rows(call, chosen)
        packed = pack_padded_sequence(some.x, torch.tensor([LENGTHS[k] for k in chosen]), enforce_sorted=False)
        with torch.no_grad():
            output, last = layer(packed, some.hx)
        return dict(zip(VALUES, [pad_packed_sequence(output)[0], *states_of(last)], strict=False))

    whole = run(list(range(len(LENGTHS))))
    for count in THREADS:
        torch.set_num_threads(count)
        for chosen in ([0], [1], [0, 1], [8, 0, 3], [2, 4, 6, 0, 8], list(range(8, -1, -1))):
            expected = {name: t[:, chosen] for name, t in whole.items()}
            assert_bits(run(chosen), expected, hint=f"{count} threads, rows {chosen}")


def hold_gradients(layer: nn.Module, call: Call, threads: list[int], times: int = 1, **arguments: Any) -> None:
    """The same bits for any number of threads."""
    torch.set_num_threads(1)
    expected = evaluate(layer, call, **arguments)
    for count in threads:
        torch.set_num_threads(count)
        for _ in range(times):
            assert_bits(evaluate(layer, call, **arguments), expected, hint=f"{count} threads")


def hold_gradients_in_halves(kind: Any, lengths: str, dtype: torch.dtype, threads: list[int]) -> None:
    """Many rows of few units: each half of the batch has its own sums (halves.h), whoever adds them up."""
    T, N = 40, 21
    drawn = {
        "whole": torch.full((N,), T),
        "ragged": torch.randint(T // 2, T + 1, (N,)).sort(descending=True).values,
        "one long": torch.tensor([T * N] + [2] * (N - 1)),  # half of the work: for many steps the other half has no row
    }[lengths]
    layer = kind(7, 19, num_layers=2, bidirectional=True, dtype=dtype)
    call = draw(layer, int(drawn[0]), N, lengths=None if lengths == "whole" else drawn.tolist())
    torch.set_num_threads(1)
    assert_close(evaluate(layer, call), evaluate(twin(layer, torch.float64), call.to(torch.float64)))
    hold_gradients(layer, call, threads)


def hold_padding_unread(layer: nn.Module, enforce_sorted: bool) -> None:
    """NaN in padding changes nothing."""
    lengths = [6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4]
    call = draw(layer, 6, 4)
    spoiled = call.x.clone()
    for row, length in enumerate(lengths):
        spoiled[length:, row] = float("nan")

    def run(x: Tensor) -> dict[str, Tensor]:
        layer.zero_grad(set_to_none=True)
        x = x.clone().requires_grad_()
        packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=enforce_sorted)
        output, last = layer(packed, call.hx)
        padded, _ = pad_packed_sequence(output)
        h_n, *others = states_of(last)
        (padded.pow(2).sum() + h_n.sum() + sum(c_n.pow(2).sum() for c_n in others)).backward()
        found = {f"d{name}": p.grad for name, p in layer.named_parameters()} | {"dx": x.grad}
        results = [padded, h_n, *others]
        return found | {name: t.detach() for name, t in zip(VALUES, results, strict=False)}

    found = run(spoiled)
    assert all(t.isfinite().all() for t in found.values())
    assert_bits(found, run(call.x))
