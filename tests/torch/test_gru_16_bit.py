"""16-bit calls of a GRU: the float32 call's numbers, rounded once, to the bit, on every instruction set, as for an LSTM.

But for products of pairs of bfloat16, where the processor has them: those are held to the table of tolerances.
"""

from typing import Any

import pytest
import torch

from fastlstm import GRU, GRUCell, _engine
from tests.conftest import Call, assert_bits, assert_close, draw, evaluate, twin
from tests.torch import steps
from tests.torch.test_lstm_16_bit import SIZES, in_pairs, isa, rounded, widened

__all__ = ["isa"]  # a fixture
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "bias": False, "dropout": 0.5, "batch_first": True},
]
each_dtype = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
each_size = pytest.mark.parametrize("size", SIZES, ids=str)
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def draw_below_one(gru: GRU, T: int, N: int | None, **more: Any) -> Call:
    """h_0 from -1 to 1, as the states that follow are: just above 1, one rounding alone is what the table allows."""
    call = draw(gru, T, N, **more)
    return call if call.hx is None else call._replace(hx=call.hx.clamp(-1, 1))


def assert_rounded(gru: GRU, T: int, isa: str, found: Any, expected: Any, hint: object = "") -> None:
    """In pairs near, elsewhere the bits."""
    dtype = gru.weight_hh_l0.dtype
    if in_pairs(gru, T, isa):
        assert_close(found, expected, dtype, hint)
    else:
        assert_bits(found, rounded(expected, dtype), hint)


@each_dtype
@each_size
@each_options
def test_training_and_inference_are_float32_rounded_once(options, size, dtype, isa):
    I, H, T, N = size
    ours = GRU(I, H, **options, dtype=dtype)
    single = widened(ours)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for lengths in [None] if T == 1 or N is None else [None, [max(1, T - k) for k in range(N)]]:
            call = draw_below_one(ours, T, N, lengths=lengths)
            wide = call.to(torch.float32)
            found, expected = evaluate(ours.train(), call), evaluate(single.train(), wide)
            assert_rounded(ours, T, isa, found, expected, (threads, lengths))
            with torch.no_grad():
                results, theirs = ours.eval()(call.x, call.hx), single.eval()(wide.x, wide.hx)
            for t, right in zip(results, theirs, strict=True):
                t, right = (t, right) if lengths is None or torch.is_tensor(t) else (t.data, right.data)
                assert_rounded(ours, T, isa, {"output": t}, {"output": right}, (threads, lengths, "no_grad"))


@pytest.mark.skipif("avx512_bf16" not in _engine.isas(), reason="wants a processor with products of pairs of bfloat16")
@pytest.mark.parametrize("size", [(7, 64, 40, 3), (64, 128, 60, 8), (33, 34, 25, 1), (32, 66, 9, 17)], ids=str)
@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_products_of_pairs(options, size):
    """As near to float64 as bfloat16 is, and nearer than nn.GRU; a row has its bits alone."""
    I, H, T, N = size
    ours = GRU(I, H, **options, dtype=torch.bfloat16)
    lengths = [max(2, T - 2 * k) for k in range(N)]
    for call in (draw_below_one(ours, T, N), draw_below_one(ours, T, N, lengths=lengths)):
        exact = evaluate(twin(ours, torch.float64), call.to(torch.float64))
        found, theirs = evaluate(ours, call), evaluate(twin(ours), call)
        assert_close(found, exact, torch.bfloat16)
        wanted = [f"d{name}" for name, _ in ours.named_parameters()]
        errors = [sum((e[k].double() - exact[k]).norm() / exact[k].norm() for k in wanted) for e in (found, theirs)]
        assert errors[0] < errors[1]
    call = draw_below_one(ours, T, N)
    with torch.no_grad():
        output, h_n = ours(call.x, call.hx, lengths=lengths)
        for n, length in enumerate(lengths):
            alone, h = ours(call.x[:length, n : n + 1], call.hx[:, n : n + 1].contiguous())
            assert_bits({"output": output[:length, n : n + 1], "h_n": h_n[:, n : n + 1]}, {"output": alone, "h_n": h})


@each_dtype
@pytest.mark.parametrize("N", [None, 1, 7])
def test_a_step_is_float32_rounded_once(N, dtype, isa):
    ours = GRUCell(19, 33, dtype=dtype)
    x, h, (cotangent,) = steps.tensors(GRUCell, N, 19, 33, dtype)
    found, single = steps.evaluate(ours, x, h, (cotangent,)), widened(ours)
    expected = steps.evaluate(single, x.float(), h.float(), (cotangent.float(),))
    assert_bits(found, rounded(expected, dtype))
    with torch.no_grad():
        assert torch.equal(ours(x, h), found["h_n"])


@each_dtype
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["x", "h_0", "weight_hh_l0", "doutput"])
def test_nan_and_inf_travel_as_in_float32(place, value, dtype, isa):
    ours = GRU(5, 9, dtype=dtype)
    call = draw(ours, 5, 4)
    target = {"x": call.x, "h_0": call.hx, "doutput": call.cotangents[0], **ours.state_dict()}[place]
    target[tuple(size // 2 for size in target.shape)] = value
    found, expected = evaluate(ours, call), evaluate(widened(ours), call.to(torch.float32))
    assert any(not t.isfinite().all() for t in found.values())
    assert_bits(
        {k: t.nan_to_num(nan=99.0) for k, t in found.items()},
        {k: t.to(dtype).nan_to_num(nan=99.0) for k, t in expected.items()},
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_output_may_be_changed_in_place_before_backward(dtype):
    """What backward reads is the output before it was rounded, in memory of its own."""
    ours = GRU(9, 34, dtype=dtype)
    x = torch.randn(6, 5, 9, dtype=dtype)
    gradients = []
    for change in (lambda t: t.mul_(2.0), lambda t: t * 2.0):
        ours.zero_grad()
        change(ours(x)[0]).sum().backward()
        gradients.append({name: p.grad for name, p in ours.named_parameters()})
    assert_bits(*gradients)
