"""A wrong constructor or call raises what nn.LSTM raises.

Each wrong call is made to the installed nn.LSTM too: ours has its type, and its message up front; what follows shows the
expected shape in letters and numbers. Where nn.LSTM's own message is a raw complaint of a kernel, or where it silently accepts
nonsense, ours is held to name the argument and the shape.
"""

import numpy as np
import pytest
import torch
from conftest import outcome
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fastlstm import LSTM
from tests.torch.refusals import hold_as_torch, hold_clear

T, N, I, H = 5, 2, 3, 4
x = torch.zeros(T, N, I)


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


def packed(features: int = I, dtype: torch.dtype = torch.float32) -> PackedSequence:
    return pack_padded_sequence(torch.zeros(T, N, features, dtype=dtype), torch.tensor([5, 3]))


def unsorted() -> PackedSequence:
    return pack_padded_sequence(x, torch.tensor([3, 5]), enforce_sorted=False)


# The constructor: (positional arguments, keyword arguments).
CONSTRUCTIONS = {
    "dropout above 1": ((I, H, 2), {"dropout": 1.5}),
    "dropout below 0": ((I, H, 2), {"dropout": -0.1}),
    "dropout is True": ((I, H, 2), {"dropout": True}),
    "dropout is NaN": ((I, H, 2), {"dropout": float("nan")}),
    "dropout is a word": ((I, H, 2), {"dropout": "a"}),
    "dropout is a number in quotes": ((I, H, 2), {"dropout": "0.5"}),
    "dropout is None": ((I, H, 2), {"dropout": None}),
    "dropout is a tensor": ((I, H, 2), {"dropout": torch.tensor(0.5)}),
    "bias is an int": ((I, H), {"bias": 1}),
    "bias is None": ((I, H), {"bias": None}),
    "batch_first is an int": ((I, H), {"batch_first": 0}),
    "input_size is zero": ((0, H), {}),
    "input_size is negative": ((-1, H), {}),
    "input_size is a float": ((3.0, H), {}),
    "input_size is numpy.int64": ((np.int64(3), H), {}),
    "hidden_size is zero": ((I, 0), {}),
    "hidden_size is negative": ((I, -1), {}),
    "hidden_size is a float": ((I, 4.0), {}),
    "hidden_size is a word": ((I, "4"), {}),
    "num_layers is zero": ((I, H, 0), {}),
    "num_layers is negative": ((I, H, -2), {}),
    "proj_size is negative": ((I, H), {"proj_size": -1}),
    "proj_size is hidden_size": ((I, H), {"proj_size": H}),
    "proj_size is above hidden_size": ((I, H), {"proj_size": H + 1}),
    "everything wrong at once": ((0, 0.5, -1, 1, 1, 2.0), {"proj_size": -1}),
    "dtype is an integer": ((I, H), {"dtype": torch.int64}),
    "device unheard of": ((I, H), {"device": "nowhere"}),
}

# Calls of LSTM(**arguments)(*inputs) where nn.LSTM's own message is a good one: ours starts with it.
CALLS = {
    "4-D input": ({}, lambda: (zeros(1, T, N, I),)),
    "1-D input": ({}, lambda: (zeros(I),)),
    "0-D input": ({}, lambda: (torch.tensor(1.0),)),
    "features": ({}, lambda: (zeros(T, N, 4),)),
    "features, unbatched": ({}, lambda: (zeros(T, 4),)),
    "features, batch first": ({"batch_first": True}, lambda: (zeros(N, T, 4),)),
    "double input": ({}, lambda: (x.double(),)),
    "half input": ({}, lambda: (x.half(),)),
    "integer input": ({}, lambda: (x.long(),)),
    "float input of a double layer": ({"dtype": torch.float64}, lambda: (x,)),
    "dtype and features": ({}, lambda: (zeros(T, N, 4).double(),)),
    "h_0 batch": ({}, lambda: (x, (zeros(1, 3, H), zeros(1, N, H)))),
    "h_0 size": ({}, lambda: (x, (zeros(1, N, 5), zeros(1, N, H)))),
    "h_0 layers": ({"num_layers": 2}, lambda: (x, (zeros(1, N, H), zeros(2, N, H)))),
    "h_0 directions": ({"bidirectional": True}, lambda: (x, (zeros(1, N, H), zeros(2, N, H)))),
    "h_0 batch first": ({"batch_first": True}, lambda: (zeros(N, T, I), (zeros(N, 1, H), zeros(N, 1, H)))),
    "c_0 batch": ({}, lambda: (x, (zeros(1, N, H), zeros(1, 3, H)))),
    "c_0 size": ({}, lambda: (x, (zeros(1, N, H), zeros(1, N, 5)))),
    "h_0 of the cell's size": ({"proj_size": 2}, lambda: (x, (zeros(1, N, H), zeros(1, N, H)))),
    "c_0 of the projection's size": ({"proj_size": 2}, lambda: (x, (zeros(1, N, 2), zeros(1, N, 2)))),
    "2-D states for 3-D input": ({}, lambda: (x, (zeros(N, H), zeros(N, H)))),
    "2-D c_0 for 3-D input": ({}, lambda: (x, (zeros(1, N, H), zeros(N, H)))),
    "4-D h_0 for 3-D input": ({}, lambda: (x, (zeros(1, 1, N, H), zeros(1, N, H)))),
    "3-D states for 2-D input": ({}, lambda: (zeros(T, I), (zeros(1, 1, H), zeros(1, 1, H)))),
    "3-D h_0 for 2-D input": ({}, lambda: (zeros(T, I), (zeros(1, 1, H), zeros(1, H)))),
    "h_0 size, unbatched": ({}, lambda: (zeros(T, I), (zeros(1, 5), zeros(1, H)))),
    "c_0 size, unbatched": ({}, lambda: (zeros(T, I), (zeros(1, H), zeros(1, 5)))),
    "a 3-tuple of states": ({}, lambda: (x, (zeros(1, N, H),) * 3)),
    "a 3-tuple of states, packed": ({}, lambda: (packed(), (zeros(1, N, H),) * 3)),
    "no steps": ({}, lambda: (zeros(0, N, I),)),
    "no steps, batch first": ({"batch_first": True}, lambda: (zeros(N, 0, I),)),
    "no steps, unbatched": ({}, lambda: (zeros(0, I),)),
    "states on another device": ({}, lambda: (x, (zeros(1, N, H).to("meta"), zeros(1, N, H).to("meta")))),
    "input on another device": ({}, lambda: (x.to("meta"),)),
}

# Calls where nn.LSTM answers with a raw complaint of a kernel, an IndexError, or not at all. Ours: the exception's type, and
# what its message must hold: the argument's letter, and its expected shape in letters and in numbers.
OUR_OWN = {
    "packed features": ({}, lambda: (packed(4),), RuntimeError, ["input_size", "3", "4"]),
    "packed double": ({}, lambda: (packed(I, torch.float64),), ValueError, ["torch.float64", "torch.float32"]),
    "packed h_0 batch": (
        {},
        lambda: (packed(), (zeros(1, 3, H), zeros(1, 3, H))),
        RuntimeError,
        ["hidden[0]", "(1, 2, 4)"],
    ),
    "packed h_0 too few": (
        {},
        lambda: (packed(), (zeros(1, 1, H), zeros(1, 1, H))),
        RuntimeError,
        ["hidden[0]", "(1, 2, 4)"],
    ),
    "packed h_0 size": (
        {},
        lambda: (packed(), (zeros(1, N, 5), zeros(1, N, H))),
        RuntimeError,
        ["hidden[0]", "(1, 2, 4)"],
    ),
    "packed c_0 size": (
        {},
        lambda: (packed(), (zeros(1, N, H), zeros(1, N, 5))),
        RuntimeError,
        ["hidden[1]", "(1, 2, 4)"],
    ),
    "packed layers": (
        {},
        lambda: (packed(), (zeros(2, N, H), zeros(2, N, H))),
        RuntimeError,
        ["hidden[0]", "(1, 2, 4)"],
    ),
    "packed projection": (
        {"proj_size": 2},
        lambda: (packed(), (zeros(1, N, H), zeros(1, N, H))),
        RuntimeError,
        ["hidden[0]", "(1, 2, 2)"],
    ),
    "packed 2-D states": ({}, lambda: (packed(), (zeros(N, H), zeros(N, H))), RuntimeError, ["3-D", "2-D"]),
    "unsorted, an oversized h_0": (
        {},
        lambda: (unsorted(), (zeros(1, 3, H), zeros(1, 3, H))),
        RuntimeError,
        ["hidden[0]", "(1, 2, 4)", "[1, 3, 4]"],
    ),
    "unsorted, an oversized c_0": (
        {},
        lambda: (unsorted(), (zeros(1, 2, H), zeros(1, 3, H))),
        RuntimeError,
        ["hidden[1]", "(1, 2, 4)", "[1, 3, 4]"],
    ),
    "unsorted, too few": (
        {},
        lambda: (unsorted(), (zeros(1, 1, H), zeros(1, 1, H))),
        RuntimeError,
        ["hidden[0]", "(1, 2, 4)", "[1, 1, 4]"],
    ),
    "packed 3-D data": (
        {},
        lambda: (PackedSequence(zeros(8, 1, I), torch.tensor([2, 2, 2, 1, 1])),),
        RuntimeError,
        ["2 dimensions", "got 3"],
    ),
    "h_0 alone": ({}, lambda: (x, zeros(1, N, H)), IndexError, ["(h_0, c_0)", "Tensor"]),
    "h_0 alone, unbatched": ({}, lambda: (zeros(T, I), zeros(1, H)), IndexError, ["(h_0, c_0)", "Tensor"]),
    "h_0 alone, packed": ({}, lambda: (packed(), [zeros(1, N, H)]), IndexError, ["(h_0, c_0)", "list"]),
    "double states": (
        {},
        lambda: (x, (zeros(1, N, H).double(),) * 2),
        (RuntimeError, ValueError),
        ["float64", "float32"],
    ),
    "double c_0": (
        {},
        lambda: (x, (zeros(1, N, H), zeros(1, N, H).double())),
        (RuntimeError, ValueError),
        ["float64", "float32"],
    ),
    "packed double states": (
        {},
        lambda: (packed(), (zeros(1, N, H).double(),) * 2),
        (RuntimeError, ValueError),
        ["float64"],
    ),
}

# Letters and numbers: which letters of the alphabet a refusal must show beside the numbers.
LETTERS = {
    "features": ["(L, N, H_in)", f"({T}, {N}, {I})"],
    "features, unbatched": ["(L, H_in)", f"({T}, {I})"],
    "features, batch first": ["(N, L, H_in)", f"({N}, {T}, {I})"],
    "packed features": ["H_in", str(I)],
    "h_0 batch": ["(D*num_layers, N, H_out)", f"(1, {N}, {H})"],
    "h_0 directions": ["(D*num_layers, N, H_out)", f"(2, {N}, {H})"],
    "c_0 of the projection's size": ["(D*num_layers, N, H_cell)", f"(1, {N}, {H})"],
    "h_0 of the cell's size": ["(D*num_layers, N, H_out)", f"(1, {N}, 2)"],
    "2-D states for 3-D input": ["(D*num_layers, N, H_out)", f"(1, {N}, {H})"],
    "3-D states for 2-D input": ["(D*num_layers, H_out)", f"(1, {H})"],
    "h_0 size, unbatched": ["(D*num_layers, H_out)", f"(1, {H})"],
    "4-D input": ["(L, N, H_in)", "(L, H_in)"],
    "unsorted, an oversized h_0": ["(D*num_layers, N, H_out)", f"(1, {N}, {H})"],
    "packed c_0 size": ["(D*num_layers, N, H_cell)", f"(1, {N}, {H})"],
}


def complaint(layer: type[nn.Module], name: str) -> tuple[type[BaseException] | None, str]:
    arguments, inputs = (CALLS.get(name) or OUR_OWN[name])[:2]
    torch.manual_seed(0)
    return outcome(lambda: layer(I, H, **arguments)(*inputs()))


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_wrong_construction_raises_what_nn_lstm_raises(name):
    positional, keywords = CONSTRUCTIONS[name]
    kind, message = outcome(lambda: LSTM(*positional, **keywords))
    their_kind, their_message = outcome(lambda: nn.LSTM(*positional, **keywords))
    assert their_kind is not None, "nn.LSTM takes this now"
    assert kind is their_kind
    assert message.startswith(their_message)


@pytest.mark.parametrize(
    ("positional", "keywords"),
    [
        ((), {}),
        ((I,), {}),
        ((I, H, 1, True, False, 0.0, False, 0, None, None, None), {}),
        ((I, H), {"foo": 1}),
        ((I, H), {"mode": "GRU"}),
    ],
)
def test_a_wrong_number_or_name_of_arguments_is_a_type_error(positional, keywords):
    assert outcome(lambda: LSTM(*positional, **keywords))[0] is TypeError
    assert outcome(lambda: nn.LSTM(*positional, **keywords))[0] is TypeError


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("name", CALLS)
def test_wrong_call_raises_what_nn_lstm_raises(name, grad):
    with torch.set_grad_enabled(grad):
        hold_as_torch(complaint, LSTM, name)


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("name", OUR_OWN)
def test_a_clear_refusal_where_nn_lstm_complains_rawly_or_not_at_all(name, grad):
    with torch.set_grad_enabled(grad):
        hold_clear(complaint, LSTM, name, *OUR_OWN[name][2:])


@pytest.mark.parametrize("name", LETTERS)
def test_refusals_show_the_expected_shape_in_letters_and_numbers(name):
    _, message = complaint(LSTM, name)
    for word in LETTERS[name]:
        assert word in message, f"{word!r} is not in {message!r}"


@pytest.mark.parametrize("hx", [(None, None), (zeros(1, N, H), None), (zeros(1, N, H),), zeros(1, N, H), 3], ids=repr)
def test_states_that_are_no_pair_of_tensors_are_refused(hx):
    kind, message = outcome(lambda: LSTM(I, H)(x, hx))
    assert outcome(lambda: nn.LSTM(I, H)(x, hx))[0] is not None
    assert kind is not None
    assert message


@pytest.mark.parametrize(
    "wrong", [[1, 2], np.zeros((T, N, I), dtype=np.float32), None, "x"], ids=["list", "array", "None", "str"]
)
def test_an_input_that_is_no_tensor_is_refused(wrong):
    assert outcome(lambda: LSTM(I, H)(wrong))[0] is not None
    assert outcome(lambda: nn.LSTM(I, H)(wrong))[0] is not None


def test_no_input_at_all_is_a_type_error():
    kind, message = outcome(lambda: LSTM(I, H)())
    assert (kind, message) == outcome(lambda: nn.LSTM(I, H)())


def test_a_refused_call_leaves_the_layer_usable():
    lstm = LSTM(I, H)
    before = lstm(x)[0]
    for name in CALLS:
        if CALLS[name][0] == {}:
            assert outcome(lambda name=name: lstm(*CALLS[name][1]()))[0] is not None
    assert torch.equal(lstm(x)[0], before)


def test_a_list_of_states_is_as_good_as_a_tuple():
    ours = LSTM(I, H)
    states = [torch.randn(1, N, H), torch.randn(1, N, H)]
    theirs = nn.LSTM(I, H)
    theirs.load_state_dict(ours.state_dict())
    for sequence in (x, packed(), unsorted()):
        assert outcome(lambda sequence=sequence: theirs(sequence, states))[0] is None
        torch.testing.assert_close(ours(sequence, states)[0], ours(sequence, tuple(states))[0], rtol=0, atol=0)
