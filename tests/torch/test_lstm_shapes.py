"""Shapes: the table of tensors, the order of rows in h_n and c_n, and the empty sizes, as nn.LSTM has them."""

import itertools

import pytest
import torch
from conftest import assert_close, draw, evaluate, outcome, twin
from torch import Tensor, nn

from fastlstm import LSTM

L, N, H_IN, H = 5, 3, 7, 4
EACH_LAYER = pytest.mark.parametrize(
    ("num_layers", "bidirectional", "proj_size", "batch_first"),
    list(itertools.product([1, 2, 3], [False, True], [0, 2], [False, True])),
)


def build(num_layers: int, bidirectional: bool, proj_size: int, batch_first: bool) -> LSTM:
    return LSTM(H_IN, H, num_layers, batch_first=batch_first, bidirectional=bidirectional, proj_size=proj_size)


def layout(returned: tuple[Tensor, tuple[Tensor, Tensor]]) -> list[tuple[object, ...]]:
    output, hidden = returned
    assert isinstance(returned, tuple)
    assert isinstance(hidden, tuple)
    return [(t.shape, t.stride(), t.is_contiguous(), t.dtype, t.device) for t in (output, *hidden)]


@EACH_LAYER
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("batch", [None, N, 1], ids=["unbatched", "batch", "batch_of_one"])
def test_table_of_shapes_and_strides(num_layers, bidirectional, proj_size, batch_first, batch, grad):
    ours = build(num_layers, bidirectional, proj_size, batch_first)
    call = draw(ours, L, batch)
    with torch.set_grad_enabled(grad):
        for hx in (None, call.hx):
            assert layout(ours(call.x, hx)) == layout(twin(ours)(call.x, hx))
    D, P = 1 + bidirectional, proj_size or H
    leading = [L] if batch is None else [batch, L] if batch_first else [L, batch]
    middle = [] if batch is None else [batch]
    output, (h_n, c_n) = ours(call.x)
    assert [*output.shape] == [*leading, D * P]
    assert [*h_n.shape] == [D * num_layers, *middle, P]
    assert [*c_n.shape] == [D * num_layers, *middle, H]


def test_batch_first_output_is_a_transpose_not_a_copy():
    output, _ = LSTM(H_IN, H, batch_first=True)(torch.randn(N, L, H_IN))
    assert not output.is_contiguous()
    assert output.transpose(0, 1).is_contiguous()


@EACH_LAYER
def test_unbatched_call_ignores_batch_first_and_equals_a_batch_of_one(
    num_layers, bidirectional, proj_size, batch_first
):
    ours = build(num_layers, bidirectional, proj_size, batch_first)
    call = draw(ours, L, None)
    assert_close(evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64)), torch.float32)
    output, (h_n, c_n) = ours(call.x, call.hx)
    batched = ours(call.x.unsqueeze(0 if batch_first else 1), (call.hx[0].unsqueeze(1), call.hx[1].unsqueeze(1)))
    assert torch.equal(output, batched[0].squeeze(0 if batch_first else 1))
    assert torch.equal(h_n, batched[1][0].squeeze(1))
    assert torch.equal(c_n, batched[1][1].squeeze(1))


@EACH_LAYER
def test_omitted_states_are_zeros(num_layers, bidirectional, proj_size, batch_first):
    ours = build(num_layers, bidirectional, proj_size, batch_first)
    call = draw(ours, L, N)
    zeros = (torch.zeros_like(call.hx[0]), torch.zeros_like(call.hx[1]))
    explicit, omitted = evaluate(ours, call._replace(hx=zeros)), evaluate(ours, call._replace(hx=None))
    assert_close(omitted, {name: value for name, value in explicit.items() if name in omitted})
    assert_close(omitted, evaluate(twin(ours, torch.float64), call._replace(hx=None).to(torch.float64)), torch.float32)


@EACH_LAYER
def test_rows_of_h_n_and_c_n_are_layer_major_then_direction(num_layers, bidirectional, proj_size, batch_first):
    """The last layer's rows are the ends of `output`: forward its last step, reverse its first."""
    ours = build(num_layers, bidirectional, proj_size, batch_first)
    x = torch.randn(N, L, H_IN) if batch_first else torch.randn(L, N, H_IN)
    output, (h_n, c_n) = ours(x)
    theirs, (their_h_n, their_c_n) = twin(ours)(x)
    torch.testing.assert_close((output, h_n, c_n), (theirs, their_h_n, their_c_n))
    steps = output.transpose(0, 1) if batch_first else output
    P = proj_size or H
    D = 1 + bidirectional
    assert torch.equal(h_n[(num_layers - 1) * D], steps[-1, :, :P])
    if bidirectional:
        assert torch.equal(h_n[-1], steps[0, :, P:]), "the reverse direction's state after it has read the first step"


def test_a_stack_of_layers_is_each_layer_after_the_other():
    """Layer k > 0 reads the D * H_out features of the layer below."""
    stack = LSTM(H_IN, H, 2, bidirectional=True, proj_size=2)
    below, above = LSTM(H_IN, H, bidirectional=True, proj_size=2), LSTM(4, H, bidirectional=True, proj_size=2)
    below.load_state_dict({name: p for name, p in stack.state_dict().items() if "_l0" in name})
    above.load_state_dict({name.replace("_l1", "_l0"): p for name, p in stack.state_dict().items() if "_l1" in name})
    call = draw(stack, L, N)
    h_0, c_0 = call.hx
    output, (h_n, c_n) = stack(call.x, call.hx)
    middle, (h_below, c_below) = below(call.x, (h_0[:2], c_0[:2]))
    last, (h_above, c_above) = above(middle, (h_0[2:], c_0[2:]))
    torch.testing.assert_close(output, last)
    torch.testing.assert_close(h_n, torch.cat([h_below, h_above]))
    torch.testing.assert_close(c_n, torch.cat([c_below, c_above]))


@EACH_LAYER
def test_a_batch_of_none_works_forward_and_backward(num_layers, bidirectional, proj_size, batch_first):
    ours = build(num_layers, bidirectional, proj_size, batch_first)
    call = draw(ours, L, 0)
    assert layout(ours(call.x)) == layout(twin(ours)(call.x))
    with torch.no_grad():
        assert layout(ours(call.x, call.hx)) == layout(twin(ours)(call.x, call.hx))
    found = evaluate(ours, call)
    assert all(found[f"d{name}"] is None or not found[f"d{name}"].any() for name, _ in ours.named_parameters())
    assert found["dx"].shape == call.x.shape


@EACH_LAYER
@pytest.mark.parametrize("batch", [None, N, 0], ids=["unbatched", "batch", "empty_batch"])
def test_no_steps_raises(num_layers, bidirectional, proj_size, batch_first, batch):
    ours = build(num_layers, bidirectional, proj_size, batch_first)
    x = draw(ours, 0, batch).x
    kind, message = outcome(lambda: ours(x))
    their_kind, their_message = outcome(lambda: twin(ours)(x))
    assert kind is their_kind is RuntimeError
    assert message.startswith(their_message)
    assert their_message == "Expected sequence length to be larger than 0 in RNN"


@pytest.mark.parametrize("T", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_smallest_sizes(T, size):
    ours = LSTM(size, size, 2, bidirectional=True, dtype=torch.float64)
    call = draw(ours, T, size)
    assert_close(evaluate(ours, call), evaluate(twin(ours), call))


def test_outputs_own_their_memory():
    """No result of a call is a view of its arguments, or changes when the layer is called again."""
    lstm = LSTM(H_IN, H)
    call = draw(lstm, L, N)
    with torch.no_grad():
        output, (h_n, c_n) = lstm(call.x, call.hx)
        kept = [t.clone() for t in (output, h_n, c_n)]
        for _ in range(3):
            lstm(torch.randn(L, N, H_IN), (h_n, c_n))
    assert all(torch.equal(a, b) for a, b in zip(kept, (output, h_n, c_n), strict=True))
    assert not {t.untyped_storage().data_ptr() for t in (output, h_n, c_n)} & {
        t.untyped_storage().data_ptr() for t in (call.x, *call.hx)
    }


@pytest.mark.parametrize("layer", [LSTM, nn.LSTM], ids=["ours", "theirs"])
def test_a_step_at_a_time_is_the_whole_sequence(layer):
    """Feeding h_n, c_n back as h_0, c_0 continues the sequence (streaming)."""
    lstm = layer(H_IN, H, 2, proj_size=2, dtype=torch.float64)
    x = torch.randn(L, N, H_IN, dtype=torch.float64)
    whole, (h_n, c_n) = lstm(x)
    state, steps = None, []
    for t in range(L):
        step, state = lstm(x[t : t + 1], state)
        steps.append(step)
    torch.testing.assert_close(torch.cat(steps), whole)
    torch.testing.assert_close(state, (h_n, c_n))


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}, {"dropout": 0.5, "num_layers": 2}]
)
def test_no_step_but_lengths_that_say_so(options, grad, compiler):
    """Empty output, the initial states, and their gradients; without lengths it raises as nn.LSTM does."""
    lstm = LSTM(3, 4, **options)
    k, P = lstm.num_layers * (1 + lstm.bidirectional), lstm.proj_size or 4
    width = P * (1 + lstm.bidirectional)

    def runs(x: Tensor, hx: tuple[Tensor, Tensor] | None, batch: tuple[int, ...], **more: object) -> None:
        with torch.set_grad_enabled(grad):
            output, (h_n, c_n) = lstm(x, hx, **more)
            traced = lstm.trace(x, hx, **more)
        assert output.shape[-1] == width
        assert output.numel() == traced.output.numel() == traced.layers[0][0].f.numel() == 0
        assert h_n.shape == (k, *batch, P)
        assert c_n.shape == (k, *batch, 4)
        for mine, initial in ((h_n, 0), (c_n, 1), (traced.h_n, 0), (traced.c_n, 1)):
            assert torch.equal(mine, torch.zeros_like(mine) if hx is None else hx[initial])
        if grad and hx is not None:
            found = torch.autograd.grad(h_n.sum() + 2 * c_n.sum(), (*hx, x, *lstm.parameters()), allow_unused=True)
            assert torch.equal(found[0], torch.ones_like(hx[0]))
            assert torch.equal(found[1], torch.full_like(hx[1], 2))
            assert all(d is None or not d.any() for d in found[2:])

    for batch in ((2,), ()):
        hx = (torch.randn(k, *batch, P, requires_grad=True), torch.randn(k, *batch, 4, requires_grad=True))
        for state in (None, hx):
            x = torch.zeros(0, *batch, 3, requires_grad=True)
            lengths = torch.zeros(batch, dtype=torch.int64)
            runs(x, state, batch, lengths=lengths)
            runs(x, state, batch, lengths=lengths, reset=torch.zeros(0, *batch, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        lstm(torch.zeros(0, 2, 3))
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        lstm(torch.zeros(0, 2, 3), reset=torch.zeros(0, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="from 0 to L = 0"):
        lstm(torch.zeros(0, 2, 3), lengths=[0, 1])
    lstm.batch_first = True
    assert lstm(torch.zeros(2, 0, 3), lengths=[0, 0])[0].shape == (2, 0, width)
    compiled = torch.compile(lstm, backend="eager", fullgraph=True)
    with torch.set_grad_enabled(grad):
        assert compiled(torch.zeros(2, 0, 3), lengths=torch.tensor([0, 0]))[0].shape == (2, 0, width)
