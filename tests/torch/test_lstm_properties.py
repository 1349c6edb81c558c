"""Properties of the layer for any arguments and shapes (hypothesis): whatever nn.LSTM takes ours takes, with the same results;
whatever it refuses ours refuses, in the same words."""

import warnings

import pytest
import torch
from conftest import assert_close, draw, evaluate, outcome, twin
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fastlstm import LSTM

small = st.integers(1, 12)
arguments = st.fixed_dictionaries(
    {
        "input_size": small,
        "hidden_size": small,
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "bidirectional": st.booleans(),
    }
).flatmap(lambda made: st.integers(0, made["hidden_size"] - 1).map(lambda proj_size: {**made, "proj_size": proj_size}))


def build(arguments: dict[str, object], **others: object) -> LSTM:
    torch.manual_seed(0)  # the fixture's seed is for the test, not for each of its examples
    return LSTM(**{**arguments, **others})


@settings(max_examples=150)
@given(
    arguments=arguments, T=st.integers(1, 9), N=st.none() | st.integers(0, 9), hx=st.booleans(), seed=st.integers(0, 99)
)
def test_any_dense_call_is_nn_lstms(arguments, T, N, hx, seed):
    ours = build(arguments, dtype=torch.float64)
    call = draw(ours, T, N, hx=hx, seed=seed)
    if N == 0:  # nn.LSTM's own backward pass refuses an empty batch here and there
        shapes = [[t.shape for t in (output, *hidden)] for output, hidden in (ours(call.x), twin(ours)(call.x))]
        assert shapes[0] == shapes[1]
    else:
        assert_close(evaluate(ours, call), evaluate(twin(ours), call))


@settings(max_examples=100)
@given(
    arguments=arguments,
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    hx=st.booleans(),
    in_order=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_packed_call_is_nn_lstms(arguments, lengths, hx, in_order, seed):
    ours = build(arguments, dtype=torch.float64)
    lengths = sorted(lengths, reverse=True) if in_order else lengths
    call = draw(ours, max(lengths), len(lengths), hx=hx, lengths=lengths, enforce_sorted=in_order, seed=seed)
    assert_close(evaluate(ours, call), evaluate(twin(ours), call))


numbers = st.sampled_from([0.0, 0.5, 1.0, 1.5, -0.5, float("nan"), float("inf")])
anything = st.integers(-2, 6) | st.booleans() | st.none() | numbers | st.sampled_from(["a", "1"])
checked = st.sampled_from(["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "proj_size"])


@settings(max_examples=400)
@given(wrong=st.dictionaries(checked, anything))
def test_any_construction_ends_as_nn_lstms_does(wrong):
    given_arguments = {"input_size": 3, "hidden_size": 4, **wrong}

    def construct(layer: type[nn.Module]) -> tuple[object, ...]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made: list[nn.Module] = []
            kind, message = outcome(lambda: made.append(layer(**given_arguments)))
            said = [(w.category, str(w.message)) for w in caught if "Initializing zero-element" not in str(w.message)]
        return kind, message, said, repr(made[0]) if made else ""

    kind, message, said, shown = construct(LSTM)
    their_kind, their_message, their_said, their_shown = construct(nn.LSTM)
    assert kind is their_kind, f"{message!r}, nn.LSTM {their_message!r}"
    assert shown == their_shown
    assert said == their_said
    if their_kind is ValueError:
        assert message.startswith(their_message)


sizes = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)


@settings(max_examples=400)
@given(
    x=sizes | st.sampled_from([(5, 3, 4), (3, 5, 4), (5, 4)]),
    h_0=sizes | st.sampled_from([(2, 3, 2), (2, 3, 4), (2, 2), (2, 4)]),
    c_0=sizes | st.sampled_from([(2, 3, 4), (2, 3, 2), (2, 4), (2, 2)]),
    given_states=st.booleans(),
    batch_first=st.booleans(),
    proj_size=st.sampled_from([0, 2]),
)
def test_any_shapes_end_as_with_nn_lstm(x, h_0, c_0, given_states, batch_first, proj_size):
    ours = LSTM(4, 4, 2, batch_first=batch_first, proj_size=proj_size)
    theirs = twin(ours)
    states = (torch.zeros(h_0), torch.zeros(c_0)) if given_states else None
    results: list[list[torch.Size]] = []

    def call(lstm: nn.Module) -> None:
        output, hidden = lstm(torch.zeros(x), states)
        results.append([t.shape for t in (output, *hidden)])

    their_kind, their_message = outcome(lambda: call(theirs))
    kind, message = outcome(lambda: call(ours))
    assert kind is their_kind, f"{message!r}, nn.LSTM {their_message!r}"
    assert message.startswith(their_message)
    if kind is None:
        assert results[0] == results[1]


@settings(max_examples=60)
@given(arguments=arguments, T=st.integers(2, 9), N=st.integers(1, 6), cut=st.integers(1, 8))
def test_a_sequence_may_be_cut_anywhere_and_its_state_carried(arguments, T, N, cut):
    lstm = build(arguments, bidirectional=False, dtype=torch.float64)
    call = draw(lstm, T, N)
    x = call.x.transpose(0, 1) if lstm.batch_first else call.x
    cut = min(cut, T - 1)

    def run(part: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, state = lstm(part.transpose(0, 1) if lstm.batch_first else part, state)
        return (output.transpose(0, 1) if lstm.batch_first else output), state

    whole, ends = run(x, call.hx)
    first, state = run(x[:cut], call.hx)
    second, state = run(x[cut:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(state, ends)


@settings(max_examples=60)
@given(arguments=arguments, T=st.integers(1, 9), N=st.integers(1, 6), scale=st.floats(-3, 3))
def test_gradients_are_linear_in_the_cotangents(arguments, T, N, scale):
    lstm = build(arguments, dtype=torch.float64)
    call = draw(lstm, T, N)
    once = evaluate(lstm, call)
    scaled = evaluate(lstm, call._replace(cotangents=tuple(g * scale for g in call.cotangents)))
    for name, value in once.items():
        expected = value if name in ("output", "h_n", "c_n") else value * scale
        torch.testing.assert_close(scaled[name], expected, msg=lambda said, name=name: f"{name}: {said}")


@settings(max_examples=60)
@given(arguments=arguments, T=st.integers(1, 9), N=st.integers(1, 6), data=st.data())
def test_rows_may_be_put_in_any_order(arguments, T, N, data):
    lstm = build(arguments)
    call = draw(lstm, T, N)
    order = data.draw(st.permutations(range(N)))
    batch = 0 if lstm.batch_first else 1
    output, (h_n, c_n) = lstm(call.x, call.hx)
    index = torch.tensor(order)
    moved = lstm(call.x.index_select(batch, index), (call.hx[0][:, index], call.hx[1][:, index]))
    assert torch.equal(moved[0], output.index_select(batch, index))
    assert torch.equal(moved[1][0], h_n[:, index])
    assert torch.equal(moved[1][1], c_n[:, index])


@pytest.mark.filterwarnings("ignore:dropout option adds")
@settings(max_examples=60)
@given(
    arguments=arguments,
    dropout=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    training=st.booleans(),
    T=st.integers(1, 6),
    N=st.none() | st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_any_dropout_drops_what_nn_lstm_drops(arguments, dropout, training, T, N, seed):
    ours = build(arguments, dropout=dropout, dtype=torch.float64).train(training)
    call = draw(ours, T, N)
    assert_close(evaluate(ours, call, seed=seed), evaluate(twin(ours), call, seed=seed))
