"""lengths, reset, mask and nested tensors with a GRU: rows that end early and start anew, against each segment on nn.GRU."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastlstm import GRU
from tests.conftest import assert_bits, assert_close, draw, evaluate, outcome
from tests.torch.row_by_row import row_by_row
from tests.torch.test_lstm_lengths import LENGTHS, NEVER, WRONG, H, I, N, T, X, compare, layers, resets
from tests.torch.test_lstm_mask import mask_of
from tests.torch.test_lstm_nested import nested, padded_from

falls_back = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")
of_torch = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")


def results(gru: GRU, *arguments: Any, **more: Any) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(zip(("output", "h_n"), gru(*arguments, **more), strict=True))


# lengths and reset


@given(layers(GRU), st.integers(1, 9), st.none() | st.integers(0, 6), st.booleans(), st.booleans(), st.data())
def test_it_is_what_every_segment_is_alone_with_every_gradient(gru, T, N, hx, short, data):
    compare(gru, T, N, hx, short, data)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("hidden", [4, 64, 256])
def test_a_row_has_the_bits_it_has_alone(hidden, bidirectional):
    gru = GRU(hidden, hidden, 2, bidirectional=bidirectional)
    call = draw(gru, 9, 6)
    lengths, reset = [9, 2, 0, 5, 9, 3], resets(0.2, 9, 6)
    for one in (None, reset):
        found = results(gru, call.x, call.hx, lengths=lengths, reset=one)
        for n, length in enumerate(lengths):
            if length == 0:
                continue
            row, h_0 = call.x[:length, n : n + 1], call.hx[:, n : n + 1]
            alone = results(gru, row, h_0, reset=None if one is None else one[:length, n : n + 1])
            here = {"output": found["output"][:length, n : n + 1], "h_n": found["h_n"][:, n : n + 1]}
            # A segment of one step, alone, takes the path for single steps: there to rounding.
            close = one is not None and one[1:length, n].any()
            (assert_close if close else assert_bits)(here, alone, hint=n)


def test_lengths_are_those_of_a_packed_batch():
    gru = GRU(I, H, 2, bidirectional=True)
    call, lengths = draw(gru, T, N), [3, 1, 7, 2, 5]
    packed = results(gru, pack_padded_sequence(call.x, torch.tensor(lengths), enforce_sorted=False), call.hx)
    packed["output"] = pad_packed_sequence(packed["output"])[0]
    assert_bits(results(gru, call.x, call.hx, lengths=lengths), packed)


@pytest.mark.parametrize("reset", [False, True])
def test_padding_is_never_read(reset):
    gru = GRU(I, H, 2, bidirectional=True, batch_first=True)
    call = draw(gru, T, N)
    dirty = call._replace(x=call.x.clone(), cotangents=tuple(t.clone() for t in call.cotangents))
    for n, length in enumerate(LENGTHS):
        dirty.x[n, length:] = float("nan")
        dirty.cotangents[0][n, length:] = float("nan")
    more = {"lengths": LENGTHS, "reset": resets(0.3, N, T) if reset else None}
    found = evaluate(gru, dirty, **more)
    assert_bits(found, evaluate(gru, call, **more))
    assert all(t.isfinite().all() for t in found.values())
    for n, length in enumerate(LENGTHS):
        assert (found["output"][n, length:] == 0).all()
        assert (found["dx"][n, length:] == 0).all()


def test_a_row_without_a_step_ends_in_the_state_it_began_with():
    gru = GRU(I, H, 2)
    call = draw(gru, T, N)
    for lengths in (LENGTHS, [0] * N):
        found = evaluate(gru, call, lengths=lengths)
        assert torch.equal(found["h_n"][:, 1], call.hx[:, 1])
        assert torch.equal(found["dh_0"][:, 1], call.cotangents[1][:, 1])
    assert (found["dweight_ih_l0"] == 0).all()
    assert (found["dx"] == 0).all()
    assert (results(gru, call.x, lengths=LENGTHS)["h_n"][:, 1] == 0).all()


def test_full_lengths_and_no_resets_change_no_bit():
    gru = GRU(I, H, 2, bidirectional=True, dropout=0.5, batch_first=True)
    call = draw(gru, T, N)
    plain = evaluate(gru, call)
    assert_bits(evaluate(gru, call, lengths=[T] * N, reset=torch.zeros(N, T, dtype=torch.bool)), plain)


def test_nothing_crosses_the_edge_of_a_segment():
    """NaN in one segment stays in it, and so do gradients, in both directions and every layer."""
    gru = GRU(I, H, 3, bidirectional=True)
    x, reset = torch.randn(T, 1, I), torch.zeros(T, 1, dtype=torch.bool)
    reset[3] = reset[5] = True
    dirty = x.clone()
    dirty[3:5] = float("nan")
    output, clean = gru(dirty, reset=reset)[0], gru(x, reset=reset)[0]
    assert output[3:5].isnan().all()
    assert torch.equal(output[:3], clean[:3])
    assert torch.equal(output[5:], clean[5:])
    leaf = x.clone().requires_grad_()
    gru(leaf, reset=reset)[0][3:5].sum().backward()
    assert (leaf.grad[:3] == 0).all()
    assert (leaf.grad[5:] == 0).all()
    assert (leaf.grad[3:5] != 0).all()


def test_reset_is_the_usual_loop_over_time():
    gru = GRU(I, H, 2, dtype=torch.float64)
    call, reset = draw(gru, T, N), resets(0.3, T, N)
    h, outputs = call.hx, []
    with torch.no_grad():
        for t in range(T):
            output, h = gru(call.x[t : t + 1], h * ~reset[t, :, None])
            outputs.append(output)
    assert_close(results(gru, call.x, call.hx, reset=reset), {"output": torch.cat(outputs), "h_n": h}, torch.float64)


@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_falls_where_it_would_without_lengths(batch_first):
    """The masks are drawn for the whole (T, N, ..) tensor, so the same seed drops the same elements."""
    gru = GRU(I, H, 2, dropout=0.5, dtype=torch.float64, batch_first=batch_first)
    call, reset = draw(gru, T, N), resets(0.2, *((N, T) if batch_first else (T, N)))
    torch.manual_seed(3)
    ours, _ = gru(call.x, lengths=LENGTHS, reset=reset)
    first, second = GRU(I, H, dtype=torch.float64), GRU(H, H, dtype=torch.float64)
    state = gru.state_dict()
    first.load_state_dict({name: t for name, t in state.items() if name.endswith("l0")})
    second.load_state_dict({name.replace("l1", "l0"): t for name, t in state.items() if name.endswith("l1")})
    x, at = (call.x.transpose(0, 1), reset.t()) if batch_first else (call.x, reset)
    torch.manual_seed(3)
    between = dropout(first(x, lengths=LENGTHS, reset=at)[0], 0.5, True)
    expected, _ = second(between, lengths=LENGTHS, reset=at)
    assert_bits({"output": ours}, {"output": expected.transpose(0, 1) if batch_first else expected})


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_length_or_reset_is_refused_as_by_the_lstm(wrong):
    x, arguments, kind, message = WRONG[wrong]
    assert outcome(lambda: GRU(I, H)(x, **arguments)) == (kind, message)


@falls_back
@pytest.mark.parametrize("reset", [False, True])
def test_gradients_are_right_and_have_gradients(reset):
    gru = GRU(2, 3, 2, bidirectional=True, dtype=torch.float64)
    x, h_0 = torch.randn(4, 3, 2, dtype=torch.float64), torch.randn(4, 3, 3, dtype=torch.float64)
    names = [name for name, _ in gru.named_parameters()]
    more = {"lengths": [4, 0, 2], "reset": resets(0.3, 4, 3) if reset else None}

    def run(x: Tensor, h_0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(gru, dict(zip(names, weights, strict=True)), (x, h_0), more)

    inputs = (x.requires_grad_(), h_0.requires_grad_(), *gru.parameters())
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_the_number_of_threads_changes_no_bit(teams):
    gru = GRU(40, 64, 2, bidirectional=True)
    call = draw(gru, 50, 24)
    arguments = {"lengths": [1 + 2 * n for n in range(24)], "reset": resets(0.05, 50, 24)}
    before, found = teams(), []
    for threads in (1, 2, 3):  # which a fixture sets back
        torch.set_num_threads(threads)
        found.append(evaluate(gru, call, **arguments))
    assert teams() == before + 4
    assert_bits(found[1], found[0])
    assert_bits(found[2], found[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(dtype):
    gru = GRU(I, H, 2, dtype=dtype)
    call = draw(gru, T, N)
    call = call._replace(hx=call.hx.clamp(-1, 1))
    found = evaluate(gru, call, lengths=LENGTHS)
    assert_close(found, evaluate(row_by_row(gru, torch.float64), call.to(torch.float64), lengths=LENGTHS), dtype)


@falls_back
def test_under_autocast_saved_tensor_hooks_and_transforms():
    gru = GRU(I, H, 2)
    call = draw(gru, T, N)
    expected = evaluate(gru, call, lengths=LENGTHS)
    with torch.autograd.graph.save_on_cpu():
        assert_bits(evaluate(gru, call, lengths=LENGTHS), expected)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = gru(call.x.bfloat16(), lengths=LENGTHS)
    assert output.dtype is torch.bfloat16
    assert (output[3:, 0] == 0).all()
    found = torch.func.grad(lambda x: gru(x, call.hx, lengths=LENGTHS)[0].mul(call.cotangents[0]).sum())(call.x)
    zero = [call.cotangents[0], torch.zeros_like(call.cotangents[1])]
    leaf = evaluate(gru, call._replace(cotangents=tuple(zero)), lengths=LENGTHS)
    assert_close({"dx": found}, {"dx": leaf["dx"]}, torch.float32)


# mask


@pytest.mark.parametrize("options", [{}, {"batch_first": True, "num_layers": 2, "bidirectional": True}], ids=str)
def test_a_mask_says_what_lengths_say(options):
    gru = GRU(I, H, **options)
    call, mask = draw(gru, T, N), mask_of(LENGTHS, gru.batch_first)
    assert_bits(evaluate(gru, call, mask=mask), evaluate(gru, call, lengths=LENGTHS))
    reset = torch.rand(mask.shape) < 0.2
    assert_bits(
        results(gru, call.x, call.hx, None, reset, mask), results(gru, call.x, call.hx, lengths=LENGTHS, reset=reset)
    )
    with pytest.raises(ValueError, match="got both"):
        gru(call.x, mask=mask, lengths=LENGTHS)
    with pytest.raises(ValueError, match="True for the first steps"):
        gru(call.x, mask=~mask)


# Nested tensors, and what has lengths of its own


@of_torch
@pytest.mark.parametrize("hx", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": False}], ids=str)
def test_a_nested_tensor_is_what_lengths_give(options, hx):
    gru = GRU(I, H, **{"batch_first": True, **options})
    padded, lengths = torch.randn(4, 7, I), [3, 1, 7, 5]
    h_0 = torch.randn(gru.num_layers * (2 if gru.bidirectional else 1), 4, H) if hx else None
    values = nested(padded, lengths).values().requires_grad_()
    jagged = torch.nested.nested_tensor_from_jagged(values, nested(padded, lengths).offsets())
    output, h_n = gru(jagged, h_0)
    assert output.layout is torch.jagged
    assert torch.equal(output.offsets(), jagged.offsets())
    (output.values().sum() + h_n.sum()).backward()
    found = {"output": padded_from(output), "h_n": h_n, "dx": values.grad}
    found |= {name: p.grad for name, p in gru.named_parameters()}

    gru.zero_grad()
    x = padded.clone().requires_grad_()
    output, h_n = gru(x if gru.batch_first else x.transpose(0, 1), h_0, lengths=lengths)
    (output.sum() + h_n.sum()).backward()
    output = output if gru.batch_first else output.transpose(0, 1)
    dx = torch.cat([row[:length] for row, length in zip(x.grad, lengths, strict=True)])
    expected = {"output": output, "h_n": h_n, "dx": dx}
    assert_bits(found, expected | {name: p.grad for name, p in gru.named_parameters()})


@of_torch
@pytest.mark.parametrize("more", [{"lengths": [7, 6, 5, 4, 3]}, {"reset": NEVER}, {"mask": NEVER}], ids=list)
def test_what_has_lengths_of_its_own_takes_no_others(more):
    for x, kind in (
        (pack_padded_sequence(X, torch.tensor([7, 6, 5, 4, 3])), "PackedSequence"),
        (nested(X.transpose(0, 1), [7, 6, 5, 4, 3]), "nested tensor"),
    ):
        kind_of_error, message = outcome(lambda x=x: GRU(I, H)(x, **more))
        assert kind_of_error is TypeError
        assert f"got a {kind}" in message


@of_torch
@pytest.mark.parametrize(
    ("hx", "kind", "message"),
    [
        (torch.zeros(1, 3, H), RuntimeError, "Expected hidden size (1, 4, 4), got [1, 3, 4]"),
        (torch.zeros(1, 4, 5), RuntimeError, "Expected hidden size (1, 4, 4), got [1, 4, 5]"),
        ((torch.zeros(1, 4, H),) * 2, AttributeError, "GRU: expected hx to be a tensor h_0, got tuple"),
    ],
    ids=["rows", "units", "a pair"],
)
def test_wrong_states_of_a_nested_tensor(hx, kind, message):
    found, said = outcome(lambda: GRU(I, H)(nested(torch.randn(4, 7, I), [3, 1, 7, 5]), hx))
    assert found is kind
    assert said.startswith(message)
