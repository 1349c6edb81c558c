"""Tensors whose memory is not simply their numbers: negated lazily, misaligned, zeros without memory, expanded."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import assert_close, outcome
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import fastlstm
from fastlstm import LSTM, LSTMCell

T, N, I, H = 5, 3, 4, 6


def negated(plain: Tensor) -> Tensor:
    """The imaginary part of a conjugate, whose memory has the other sign; contiguous all the same."""
    if plain.dtype is torch.bfloat16:  # of which there are no complex numbers
        return torch._neg_view(-plain)
    numbers = torch.complex(
        torch.zeros(plain.numel() + 1, dtype=plain.dtype), torch.zeros(plain.numel() + 1, dtype=plain.dtype)
    )
    imag = numbers.conj().imag
    lazy = torch.as_strided(imag, plain.shape, plain.stride(), 1)
    lazy.copy_(plain)
    assert lazy.is_neg()
    assert lazy.is_contiguous()
    return lazy


def misaligned(plain: Tensor) -> Tensor:
    """One byte off what its elements want."""
    bytes_of = bytearray(1) + bytearray(plain.contiguous().view(torch.uint8).numpy().tobytes())
    tensor = torch.frombuffer(bytes_of, dtype=plain.dtype, offset=1, count=plain.numel()).view(plain.shape)
    assert tensor.data_ptr() % tensor.element_size()
    return tensor


def strided(plain: Tensor) -> Tensor:
    return torch.stack([plain, plain], -1)[..., 1]


ODD: dict[str, Callable[[Tensor], Tensor]] = {"negated": negated, "misaligned": misaligned, "strided": strided}
each_odd = pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))
each_grad = pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def run(module: nn.Module, x: Any, hx: Any, grad: bool, **more: Any) -> dict[str, Tensor | None]:
    """Results, and all gradients where there are any."""
    with torch.set_grad_enabled(grad):
        results = module(x, hx, **more)
        first, rest = (results[0], results[1]) if isinstance(results[1], tuple) else (results[0], results[1:])
        tensors = [first.data if isinstance(first, PackedSequence) else first, *rest]
        if grad:
            sum((t * t).sum() for t in tensors).backward()
    data = x.data if isinstance(x, PackedSequence) else x
    found: dict[str, Tensor | None] = dict(zip(("output", "h_n", "c_n"), (t.detach() for t in tensors), strict=False))
    found |= {"dx": data.grad, "dh_0": hx[0].grad, "dc_0": hx[1].grad}
    return found | {name: p.grad for name, p in module.named_parameters()}


def twins(kind: type[nn.Module], dtype: torch.dtype, odd: Callable[[Tensor], Tensor]) -> tuple[nn.Module, nn.Module]:
    """Two layers of one kind with the same numbers, those of the second odd."""
    plain, other = kind(I, H, dtype=dtype), kind(I, H, dtype=dtype)
    for name, p in plain.named_parameters():
        setattr(other, name, nn.Parameter(odd(p.detach())))
    return plain, other


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [t.detach().requires_grad_() for t in tensors]


@each_odd
@each_grad
@each_dtype
@pytest.mark.parametrize("way", ["plain", "enabled", "lengths", "reset", "packed", "bfloat16"])
def test_the_layer_reads_the_numbers_not_the_memory(odd, grad, dtype, way):
    if way == "bfloat16":
        dtype = torch.bfloat16
    lstm, other = twins(nn.LSTM if way == "enabled" else LSTM, dtype, odd)
    hx = [torch.randn(1, N, H).to(dtype), torch.randn(1, N, H).to(dtype)]
    more: dict[str, Any] = {}
    rows: tuple[int, ...] = (T, N)
    if way == "lengths":
        more = {"lengths": torch.tensor([T, 2, 0])}
    elif way == "reset":
        more = {"reset": torch.rand(T, N) < 0.3}
    elif way == "packed":
        rows = (9,)
    x = torch.randn(*rows, I).to(dtype)
    found = []
    for module, change in ((lstm, Tensor.clone), (other, odd)):
        data, h_0, c_0 = leaves(*(change(t) for t in (x, *hx)))
        sequence = PackedSequence(data, torch.tensor([3, 3, 2, 1])) if way == "packed" else data
        with fastlstm.enabled() if way == "enabled" else torch.autograd.set_grad_enabled(True):
            found.append(run(module, sequence, (h_0, c_0), grad, **more))
    assert_close(found[1], found[0])


@each_odd
@each_grad
@each_dtype
@pytest.mark.parametrize("kind", [LSTMCell, nn.LSTMCell], ids=["LSTMCell", "enabled"])
def test_the_cell_reads_the_numbers_not_the_memory(odd, grad, dtype, kind):
    cell, other = twins(kind, dtype, odd)
    tensors = [torch.randn(N, size, dtype=dtype) for size in (I, H, H)]
    found = []
    for module, change in ((cell, Tensor.clone), (other, odd)):
        x, h, c = leaves(*(change(t) for t in tensors))
        with fastlstm.enabled():
            found.append(run(module, x, (h, c), grad))
    assert_close(found[1], found[0])


@each_odd
@each_grad
def test_a_trace_reads_the_numbers(odd, grad):
    lstm, other = twins(LSTM, torch.float32, odd)
    x = torch.randn(T, N, I)
    with torch.set_grad_enabled(grad):
        expected, found = lstm.trace(x), other.trace(odd(x))
    for ours, theirs in zip(found.layers[0][0], expected.layers[0][0], strict=True):
        torch.testing.assert_close(ours, theirs)


@each_grad
@pytest.mark.parametrize("way", ["plain", "enabled", "lengths", "nested"])
def test_zeros_that_have_no_memory(grad, way):
    """nn.LSTM itself reads memory that is not there: held to the same call with zeros."""
    lstm = nn.LSTM(I, H) if way == "enabled" else LSTM(I, H)
    more = {"lengths": torch.tensor([T, 2, 1])} if way == "lengths" else {}
    found = []
    for zeros in (torch.zeros, torch._efficientzerotensor):
        lstm.zero_grad()
        x, h_0, c_0 = leaves(zeros((T, N, I)), zeros((1, N, H)), zeros((1, N, H)))
        if way == "nested":
            x = leaves(zeros((9, I)))[0]
            nested = torch.nested.nested_tensor_from_jagged(x, torch.tensor([0, 5, 5, 9]))
            with torch.set_grad_enabled(grad):
                output, (h_n, c_n) = lstm(nested, (h_0, c_0))
                found.append({"output": output.values().detach(), "h_n": h_n.detach(), "c_n": c_n.detach()})
            continue
        with fastlstm.enabled():
            found.append(run(lstm, x, (h_0, c_0), grad, **more))
    assert_close(found[1], found[0])


@each_grad
def test_lengths_without_memory_are_zeros(grad):
    lstm = LSTM(I, H)
    lengths = torch._efficientzerotensor((N,), dtype=torch.int64)
    with torch.set_grad_enabled(grad):
        output, (h_n, _) = lstm(torch.randn(T, N, I), lengths=lengths)
    assert not output.any()
    assert not h_n.any()


@each_grad
@pytest.mark.parametrize(
    "view", [lambda t: t, lambda t: t[1:], lambda t: t[:, ::2]], ids=["whole", "at an offset", "strided"]
)
@pytest.mark.parametrize("which", ["x", "h_0", "weight"])
def test_a_freed_storage_is_refused(which, view, grad):
    """As FSDP frees them; a view's address is then its offset."""
    lstm = LSTM(I, H)
    whole = {"x": torch.randn(T + 1, 2 * N, I), "h_0": torch.randn(2, 2 * N, H), "weight": torch.randn(8 * H, 2 * H)}[
        which
    ]
    odd = view(whole)
    x, h_0 = torch.randn(T, N, I), torch.randn(1, N, H)
    if which == "x":
        x = odd
        h_0 = torch.randn(1, x.shape[1], H)
    elif which == "h_0":
        h_0 = odd[:1]
        x = torch.randn(T, h_0.shape[1], I)
    else:
        lstm.weight_hh_l0 = nn.Parameter(odd[: 4 * H, :H])
    whole.untyped_storage().resize_(0)
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match=r"freed|out of bounds|storage"):
        lstm(x, (h_0, torch.zeros_like(h_0)))


@each_grad
@pytest.mark.parametrize("layout", [Tensor.to_sparse, Tensor.to_mkldnn])
def test_another_layout_is_refused_in_words(layout, grad):
    calls = (
        lambda: LSTM(I, H)(layout(torch.randn(T, N, I))),
        lambda: LSTM(I, H)(torch.randn(T, I), (layout(torch.randn(1, H)), torch.zeros(1, H))),
        lambda: LSTMCell(I, H)(layout(torch.randn(N, I))),
    )
    for call in calls:
        with torch.set_grad_enabled(grad):
            kind, message = outcome(call)
        assert kind in (RuntimeError, TypeError)
        assert "layout" in message, message


@each_grad
@pytest.mark.parametrize("which", [0, 1], ids=["h_0", "c_0"])
def test_a_freed_state_of_an_unsorted_batch_is_refused(which, grad):
    """torch's own index_select reads it."""
    x = pack_sequence([torch.randn(2, I), torch.randn(3, I)], enforce_sorted=False)
    hx = [torch.randn(1, 2, H), torch.randn(1, 2, H)]
    hx[which].untyped_storage().resize_(0)
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match="freed"):
        LSTM(I, H)(x, tuple(hx))


FREED_CALLS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "lengths": lambda t: LSTM(I, H)(t["x"], (t["h_0"], t["c_0"]), lengths=[T, 1, 2]),
    "trace": lambda t: LSTM(I, H).trace(t["x"], (t["h_0"], t["c_0"])),
    "trace with lengths": lambda t: LSTM(I, H).trace(t["x"], (t["h_0"], t["c_0"]), lengths=[T, 1, 2]),
    "dense": lambda t: LSTM(I, H)(t["x"], (t["h_0"], t["c_0"])),
    "nested": lambda t: LSTM(I, H)(
        torch.nested.nested_tensor_from_jagged(t["x"].flatten(0, 1), torch.tensor([0, 2, 5, T * N])),
        (t["h_0"], t["c_0"]),
    ),
    "cell": lambda t: LSTMCell(I, H)(t["x"][0], (t["h_0"][0], t["c_0"][0])),
}


@each_grad
@pytest.mark.parametrize("which", ["x", "h_0", "c_0"])
@pytest.mark.parametrize("name", FREED_CALLS)
def test_a_freed_storage_is_refused_where_a_lazy_negation_is_resolved(name, which, grad):
    """By torch, which does not look whether there is memory."""
    plain = {"x": torch.randn(T, N, I), "h_0": torch.randn(1, N, H), "c_0": torch.randn(1, N, H)}
    plain[which].untyped_storage().resize_(0)
    lazy = {key: torch._neg_view(t) for key, t in plain.items()}
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match=r"freed|out of bounds"):
        FREED_CALLS[name](lazy)


@each_grad
def test_freed_resets_are_not_taken_for_none(grad):
    reset = torch.ones(T, N, dtype=torch.bool)
    reset.untyped_storage().resize_(0)
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match="freed"):
        LSTM(I, H)(torch.randn(T, N, I), reset=reset)


@each_grad
def test_an_mkldnn_tensor_of_no_steps_is_refused(grad):
    """torch's transpose of one divides by zero, and ends the process."""
    x = torch.randn(N, 0, I).to_mkldnn()
    with torch.set_grad_enabled(grad), pytest.raises(RuntimeError, match="layout"):
        LSTM(I, H, batch_first=True)(x)
