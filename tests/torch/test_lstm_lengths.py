"""Rows that end early (lengths) and start anew midway (reset), against every segment as a call of its own."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fastlstm import LSTM, _engine
from tests.conftest import assert_bits, assert_close, draw, evaluate, outcome
from tests.torch.row_by_row import row_by_row

T, N, I, H = 7, 5, 3, 4
LENGTHS = [3, 0, 7, 1, 5]
falls_back = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


def resets(density: float, *shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density


@st.composite
def layers(draw_one, kind=LSTM):
    H = draw_one(st.sampled_from([1, 2, 5, 17, 33]))
    torch.manual_seed(draw_one(st.integers(0, 9)))
    return kind(
        draw_one(st.integers(1, 9)),
        H,
        draw_one(st.integers(1, 3)),
        bias=draw_one(st.booleans()),
        batch_first=draw_one(st.booleans()),
        bidirectional=draw_one(st.booleans()),
        **({"proj_size": draw_one(st.integers(0, H - 1))} if kind is LSTM else {}),
        dtype=draw_one(st.sampled_from([torch.float32, torch.float64])),
    )


@given(layers(), st.integers(1, 9), st.none() | st.integers(0, 6), st.booleans(), st.booleans(), st.data())
def test_it_is_what_every_segment_is_alone_with_every_gradient(lstm, T, N, hx, short, data):
    compare(lstm, T, N, hx, short, data)


def compare(lstm, T, N, hx, short, data):
    shape = [T] if N is None else [N, T] if lstm.batch_first else [T, N]
    lengths = None
    if short:
        length = st.integers(0, T)
        lengths = data.draw(length if N is None else st.lists(length, min_size=N, max_size=N))
    density = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]) if short else st.sampled_from([0.1, 0.5, 1.0]))
    reset = resets(density, *shape, seed=data.draw(st.integers(0, 9))) if density else None
    call = draw(lstm, T, N, hx=hx)
    ours = evaluate(lstm, call, lengths=lengths, reset=reset)
    if N == 0 or not any([T] if lengths is None else [lengths] if N is None else lengths):
        return  # nothing to compare with: no row has a step
    theirs = row_by_row(lstm, torch.float64)
    expected = evaluate(theirs, call.to(torch.float64), lengths=lengths, reset=reset)
    expected = {name: torch.zeros_like(ours[name]) if t is None else t for name, t in expected.items()}
    assert_close(ours, expected, lstm.weight_ih_l0.dtype)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("hidden", [4, 64, 256])
def test_a_row_has_the_bits_it_has_alone(hidden, bidirectional):
    lstm = LSTM(hidden, hidden, 2, bidirectional=bidirectional)
    call = draw(lstm, 9, 6)
    lengths, reset = [9, 2, 0, 5, 9, 3], resets(0.2, 9, 6)
    with torch.no_grad():
        for one in (None, reset):
            output, (h_n, c_n) = lstm(call.x, call.hx, lengths=lengths, reset=one)
            for n, length in enumerate(lengths):
                if length == 0:
                    continue
                row, hx = call.x[:length, n : n + 1], tuple(t[:, n : n + 1] for t in call.hx)
                alone, (h, c) = lstm(row, hx, reset=None if one is None else one[:length, n : n + 1])
                here = {
                    "output": output[:length, n : n + 1],
                    "h_n": h_n[:, n : n + 1],
                    "c_n": c_n[:, n : n + 1],
                }
                # A segment of one step, alone, takes the path for single steps: there to rounding.
                close = one is not None and one[1:length, n].any()
                (assert_close if close else assert_bits)(here, {"output": alone, "h_n": h, "c_n": c}, hint=n)


def test_lengths_are_those_of_a_packed_batch():
    lstm = LSTM(I, H, 2, bidirectional=True)
    call = draw(lstm, T, N)
    lengths = [3, 1, 7, 2, 5]
    packed = pack_padded_sequence(call.x, torch.tensor(lengths), enforce_sorted=False)
    output, (h_n, c_n) = lstm(packed, call.hx)
    ours, (h, c) = lstm(call.x, call.hx, lengths=lengths)
    expected = {"output": pad_packed_sequence(output)[0], "h_n": h_n, "c_n": c_n}
    assert_bits({"output": ours, "h_n": h, "c_n": c}, expected)


def test_padding_is_never_read():
    lstm = LSTM(I, H, 2, bidirectional=True, batch_first=True)
    call = draw(lstm, T, N)
    dirty = call._replace(x=call.x.clone(), cotangents=tuple(t.clone() for t in call.cotangents))
    for n, length in enumerate(LENGTHS):
        dirty.x[n, length:] = float("nan")
        dirty.cotangents[0][n, length:] = float("nan")
    found = evaluate(lstm, dirty, lengths=LENGTHS)
    assert_bits(found, evaluate(lstm, call, lengths=LENGTHS))
    assert all(t.isfinite().all() for t in found.values())
    for n, length in enumerate(LENGTHS):
        assert (found["output"][n, length:] == 0).all()
        assert (found["dx"][n, length:] == 0).all()


def test_a_row_without_a_step_ends_in_the_state_it_began_with():
    lstm = LSTM(I, H, 2)
    call = draw(lstm, T, N)
    for lengths in (LENGTHS, [0] * N):
        found = evaluate(lstm, call, lengths=lengths)
        for k, name in enumerate(("h_n", "c_n")):
            assert torch.equal(found[name][:, 1], call.hx[k][:, 1])
            assert torch.equal(found["d" + name[0] + "_0"][:, 1], call.cotangents[1 + k][:, 1])
    assert (found["dweight_ih_l0"] == 0).all()
    assert (found["dx"] == 0).all()
    _, (h_n, c_n) = lstm(call.x, lengths=LENGTHS)
    assert (h_n[:, 1] == 0).all()
    assert (c_n[:, 1] == 0).all()


def test_full_lengths_and_no_resets_change_no_bit():
    lstm = LSTM(I, H, 2, bidirectional=True, dropout=0.5, batch_first=True)
    call = draw(lstm, T, N)
    plain = evaluate(lstm, call)
    assert_bits(evaluate(lstm, call, lengths=[T] * N, reset=torch.zeros(N, T, dtype=torch.bool)), plain)


def test_nothing_crosses_the_edge_of_a_segment():
    """NaN in one segment stays in it, and so do gradients, in both directions and every layer."""
    lstm = LSTM(I, H, 3, bidirectional=True)
    x = torch.randn(T, 1, I)
    reset = torch.zeros(T, 1, dtype=torch.bool)
    reset[3] = reset[5] = True
    dirty = x.clone()
    dirty[3:5] = float("nan")
    output, _ = lstm(dirty, reset=reset)
    clean, _ = lstm(x, reset=reset)
    assert output[3:5].isnan().all()
    assert torch.equal(output[:3], clean[:3])
    assert torch.equal(output[5:], clean[5:])
    leaf = x.clone().requires_grad_()
    lstm(leaf, reset=reset)[0][3:5].sum().backward()
    assert (leaf.grad[:3] == 0).all()
    assert (leaf.grad[5:] == 0).all()
    assert (leaf.grad[3:5] != 0).all()


def test_reset_is_the_usual_loop_over_time():
    lstm = LSTM(I, H, 2, dtype=torch.float64)
    call = draw(lstm, T, N)
    reset = resets(0.3, T, N)
    h, c = call.hx
    outputs = []
    for t in range(T):
        keep = ~reset[t, :, None]
        output, (h, c) = lstm(call.x[t : t + 1], (h * keep, c * keep))
        outputs.append(output)
    ours, (h_n, c_n) = lstm(call.x, call.hx, reset=reset)
    assert_close(
        {"output": ours, "h_n": h_n, "c_n": c_n}, {"output": torch.cat(outputs), "h_n": h, "c_n": c}, torch.float64
    )


def test_dropout_falls_where_it_would_without_lengths():
    """The masks are drawn for the whole (T, N, ..) tensor, so the same seed drops the same elements."""
    for batch_first in (False, True):
        lstm = LSTM(I, H, 2, dropout=0.5, dtype=torch.float64, batch_first=batch_first)
        call = draw(lstm, T, N)
        reset = resets(0.2, *((N, T) if batch_first else (T, N)))
        torch.manual_seed(3)
        ours, _ = lstm(call.x, lengths=LENGTHS, reset=reset)
        first, second = LSTM(I, H, dtype=torch.float64), LSTM(H, H, dtype=torch.float64)
        first.load_state_dict({name: t for name, t in lstm.state_dict().items() if name.endswith("l0")})
        second.load_state_dict(
            {name.replace("l1", "l0"): t for name, t in lstm.state_dict().items() if name.endswith("l1")}
        )
        x, at = (call.x.transpose(0, 1), reset.t()) if batch_first else (call.x, reset)
        torch.manual_seed(3)
        between = dropout(first(x, lengths=LENGTHS, reset=at)[0], 0.5, True)
        expected, _ = second(between, lengths=LENGTHS, reset=at)
        assert_bits({"output": ours}, {"output": expected.transpose(0, 1) if batch_first else expected})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16])
def test_lengths_come_in_any_integer_dtype(dtype):
    lstm = LSTM(I, H)
    x = torch.randn(T, N, I)
    expected = lstm(x, lengths=LENGTHS)[0]
    for lengths in (torch.tensor(LENGTHS, dtype=dtype), tuple(LENGTHS), np.array(LENGTHS)):
        assert torch.equal(lstm(x, lengths=lengths)[0], expected)
    every_other = torch.tensor([LENGTHS, LENGTHS], dtype=torch.int64).t().contiguous()[:, 0]
    assert not every_other.is_contiguous()
    assert torch.equal(lstm(x, lengths=every_other)[0], expected)


X = torch.zeros(T, N, I)
NEVER = torch.zeros(T, N, dtype=torch.bool)
WRONG = {
    "float": (X, {"lengths": torch.ones(N)}, TypeError, "lengths: expected integers, got torch.float32"),
    "bool": (X, {"lengths": [True] * N}, TypeError, "lengths: expected integers, got torch.bool"),
    "too few": (X, {"lengths": [1, 2]}, ValueError, "lengths: expected shape (N,) = (5,), got (2,)"),
    "a column": (
        X,
        {"lengths": torch.ones(N, 1).long()},
        ValueError,
        "lengths: expected shape (N,) = (5,), got (5, 1)",
    ),
    "negative": (X, {"lengths": [1, 2, -3, 4, 5]}, ValueError, "lengths: expected numbers from 0 to L = 7, got -3"),
    "too long": (X, {"lengths": [1, 2, 8, 4, 5]}, ValueError, "lengths: expected numbers from 0 to L = 7, got 8"),
    "unbatched": (
        X[:, 0],
        {"lengths": [3]},
        ValueError,
        "lengths: expected one number for an unbatched input, got shape (1,)",
    ),
    "a word": (
        X,
        {"lengths": "abc"},
        TypeError,
        "lengths: expected integers, in a tensor or a list, got str: new(): invalid data type 'str'",
    ),
    "a set": (
        X,
        {"reset": {True}},
        TypeError,
        "reset: expected bool, in a tensor or a list, got set: Could not infer dtype of set",
    ),
    "integers": (
        X,
        {"reset": NEVER.long()},
        TypeError,
        "reset: expected bool, got torch.int64: reset.bool() makes it so",
    ),
    "swapped": (X, {"reset": NEVER.t()}, ValueError, "reset: expected shape (L, N) = (7, 5), got (5, 7)"),
    "no batch": (X[:, 0], {"reset": NEVER}, ValueError, "reset: expected shape (L,) = (7,), got (7, 5)"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_length_or_reset_is_refused_before_anything_runs(wrong, monkeypatch):
    x, arguments, kind, message = WRONG[wrong]
    taken = []
    real = _engine.forward

    def spy(*given):
        done = real(*given)
        taken.append(done is not None)
        return done

    monkeypatch.setattr(_engine, "forward", spy)
    assert outcome(lambda: LSTM(I, H)(x, **arguments)) == (kind, message)
    assert not any(taken)


@pytest.mark.parametrize("name", ["lengths", "reset"])
def test_vmap_over_them_around_another_transform_is_refused_by_name(name):
    lstm, batched = LSTM(I, H), {"lengths": torch.ones(2, N).long(), "reset": NEVER.expand(2, T, N)}[name]

    def loss(x, given):
        return lstm(x, **{name: given})[0].sum()

    kind, message = outcome(lambda: torch.func.vmap(torch.func.grad(loss), (None, 0))(X, batched))
    assert kind is RuntimeError
    assert message == f"torch.func.vmap can't map over {name} around another transform: expected the same for all"


def test_batch_first_resets_are_batch_first():
    message = "reset: expected shape (N, L) = (5, 7), got (7, 5)"
    lstm = LSTM(I, H, batch_first=True)
    assert outcome(lambda: lstm(X.transpose(0, 1), reset=NEVER)) == (ValueError, message)


def test_what_has_lengths_of_its_own_takes_no_others():
    packed = pack_padded_sequence(X, torch.tensor([7, 6, 5, 4, 3]))
    kind, message = outcome(lambda: LSTM(I, H)(packed, lengths=[7, 6, 5, 4, 3]))
    assert kind is TypeError
    assert "got a PackedSequence" in message


@falls_back
def test_gradients_are_right_and_have_gradients():
    lstm = LSTM(2, 3, 2, bidirectional=True, dtype=torch.float64)
    x, reset = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True), resets(0.3, 4, 3)
    hx = tuple(torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def run(x, h_0, c_0, *weights):
        parameters = dict(zip(dict(lstm.named_parameters()), weights, strict=True))
        arguments = {"lengths": [4, 0, 2], "reset": reset}
        output, state = torch.func.functional_call(lstm, parameters, (x, (h_0, c_0)), arguments)
        return output, *state

    inputs = (x, *hx, *lstm.parameters())
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_the_number_of_threads_changes_no_bit(teams):
    lstm = LSTM(40, 64, 2, bidirectional=True)
    call = draw(lstm, 50, 24)
    arguments = {"lengths": [1 + 2 * n for n in range(24)], "reset": resets(0.05, 50, 24)}
    found = []
    before = teams()
    for threads in (1, 2, 3):  # which a fixture sets back
        torch.set_num_threads(threads)
        found.append(evaluate(lstm, call, **arguments))
    assert teams() == before + 4
    assert_bits(found[1], found[0])
    assert_bits(found[2], found[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(dtype):
    lstm = LSTM(I, H, 2, dtype=dtype)
    call = draw(lstm, T, N)
    found = evaluate(lstm, call, lengths=LENGTHS)
    theirs = row_by_row(lstm, torch.float64)
    assert_close(found, evaluate(theirs, call.to(torch.float64), lengths=LENGTHS), dtype)


@falls_back
def test_under_autocast_saved_tensor_hooks_and_transforms():
    lstm = LSTM(I, H, 2)
    call = draw(lstm, T, N)
    expected = evaluate(lstm, call, lengths=LENGTHS)
    with torch.autograd.graph.save_on_cpu():
        assert_bits(evaluate(lstm, call, lengths=LENGTHS), expected)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = lstm(call.x, lengths=LENGTHS)
    assert output.dtype is torch.bfloat16
    assert (output[3:, 0] == 0).all()

    def loss(x):
        return lstm(x, call.hx, lengths=LENGTHS)[0].mul(call.cotangents[0]).sum()

    leaf = call.x.clone().requires_grad_()
    loss(leaf).backward()
    found = torch.func.grad(loss)(call.x)
    assert_close({"dx": found}, {"dx": leaf.grad}, torch.float32)


@falls_back
@pytest.mark.parametrize("kind", ["plain", "dropout", "complex", "hooks", "autocast"])
def test_whatever_the_default_device_is(kind):
    lstm = LSTM(I, H, 2, dropout=0.5 if kind == "dropout" else 0, dtype=torch.complex64 if kind == "complex" else None)
    x, reset = torch.randn(T, N, I, dtype=next(lstm.parameters()).dtype), resets(0.3, T, N)

    def run() -> Tensor:
        torch.manual_seed(0)
        keep = torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t)
        with torch.autocast("cpu", enabled=kind == "autocast"), keep if kind == "hooks" else nullcontext():
            return lstm(x, lengths=LENGTHS, reset=reset)[0]

    expected = run()
    with torch.device("meta"):
        found = run()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("shape", [(20, 5), (20, 1), (3, 5)])
def test_any_byte_but_zero_is_a_reset(shape):
    """A view of bytes as bool may hold any."""
    resets = torch.zeros(shape, dtype=torch.uint8)
    resets[2::5, ::2] = 2
    resets[-1] = 255
    lstm, x = LSTM(I, H), torch.randn(*shape, I)
    expected = lstm(x, reset=resets != 0)[0]
    assert not torch.equal(expected, lstm(x)[0])
    assert torch.equal(lstm(x, reset=resets.view(torch.bool))[0], expected)
