"""A wrong constructor or call of GRU raises what nn.GRU raises, as `test_lstm_errors` has it for the LSTM."""

import itertools
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm import GRU
from tests.conftest import outcome
from tests.torch.refusals import hold_as_torch, hold_clear
from tests.torch.test_lstm_constructor import CHECKED, WRONG
from tests.torch.test_lstm_errors import CONSTRUCTIONS, H, I, N, T, packed, unsorted, x, zeros

Pair = namedtuple("Pair", "h c")
each_grad = pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
FIRST_SEVEN = (7, 5, 2, False, True, 0.25, True)
PROJECTIONS = [
    ((I, H), {"proj_size": proj_size}) for proj_size in (0, 2, H, -1, None)
]  # by name not even 0, which changes nothing

# Calls of GRU(**arguments)(*inputs): nn.GRU's message is a good one, and ours starts with it.
CALLS: dict[str, tuple[dict[str, Any], Any]] = {
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
    "h_0 batch": ({}, lambda: (x, zeros(1, 3, H))),
    "h_0 size": ({}, lambda: (x, zeros(1, N, 5))),
    "h_0 layers": ({"num_layers": 2}, lambda: (x, zeros(1, N, H))),
    "h_0 directions": ({"bidirectional": True}, lambda: (x, zeros(1, N, H))),
    "h_0 batch first": ({"batch_first": True}, lambda: (zeros(N, T, I), zeros(N, 1, H))),
    "2-D h_0 for 3-D input": ({}, lambda: (x, zeros(N, H))),
    "4-D h_0 for 3-D input": ({}, lambda: (x, zeros(1, 1, N, H))),
    "3-D h_0 for 2-D input": ({}, lambda: (zeros(T, I), zeros(1, 1, H))),
    "1-D h_0 for 2-D input": ({}, lambda: (zeros(T, I), zeros(H))),
    "h_0 size, unbatched": ({}, lambda: (zeros(T, I), zeros(1, 5))),
    "h_0 layers, unbatched": ({"num_layers": 3}, lambda: (zeros(T, I), zeros(1, H))),
    "packed h_0 batch": ({}, lambda: (packed(), zeros(1, 3, H))),
    "packed h_0 too few": ({}, lambda: (packed(), zeros(1, 1, H))),
    "packed h_0 size": ({}, lambda: (packed(), zeros(1, N, 5))),
    "packed layers": ({}, lambda: (packed(), zeros(2, N, H))),
    "packed 2-D h_0": ({}, lambda: (packed(), zeros(N, H))),
    "packed features": ({}, lambda: (packed(4),)),
    "packed 3-D data": ({}, lambda: (PackedSequence(zeros(8, 1, I), torch.tensor([2, 2, 2, 1, 1])),)),
    "no steps": ({}, lambda: (zeros(0, N, I),)),
    "no steps, batch first": ({"batch_first": True}, lambda: (zeros(N, 0, I),)),
    "no steps, unbatched": ({}, lambda: (zeros(0, I),)),
    "h_0 on another device": ({}, lambda: (x, zeros(1, N, H).to("meta"))),
    "input on another device": ({}, lambda: (x.to("meta"),)),
}

# Calls where nn.GRU answers with a raw complaint of a kernel, or not at all. Ours: the exception's type, and what its message
# must hold.
OUR_OWN: dict[str, tuple[dict[str, Any], Any, Any, list[str]]] = {
    "packed double": ({}, lambda: (packed(I, torch.float64),), ValueError, ["torch.float64", "torch.float32"]),
    "double h_0": ({}, lambda: (x, zeros(1, N, H).double()), (RuntimeError, ValueError), ["float64", "float32"]),
    "packed double h_0": ({}, lambda: (packed(), zeros(1, N, H).double()), (RuntimeError, ValueError), ["float64"]),
    "unsorted, an oversized h_0": (
        {},
        lambda: (unsorted(), zeros(1, 3, H)),
        RuntimeError,
        ["hidden", "(1, 2, 4)", "[1, 3, 4]"],
    ),
    "unsorted, too few": ({}, lambda: (unsorted(), zeros(1, 1, H)), RuntimeError, ["hidden", "(1, 2, 4)"]),
    "no batch_sizes": (
        {},
        lambda: (PackedSequence(zeros(0, I), torch.tensor([], dtype=torch.int64)),),
        IndexError,
        ["batch_sizes", "at least one step"],
    ),
}

# hx that is no tensor: nn.GRU asks it for its dimensions, or for rows of it.
NO_TENSORS = {
    "a pair": (zeros(1, N, H), zeros(1, N, H)),
    "a tuple of one": (zeros(1, N, H),),
    "a list": [zeros(1, N, H)],
    "a named tuple": Pair(zeros(1, N, H), zeros(1, N, H)),
    "an array": np.zeros((1, N, H), dtype=np.float32),
    "a number": 3,
    "a word": "h",
    "an empty tuple": (),
    "Nones": (None, None),
    "False": False,
}

# Letters and numbers: what a refusal must show of the expected shape.
LETTERS = {
    "features": ["(L, N, H_in)", f"({T}, {N}, {I})"],
    "features, unbatched": ["(L, H_in)", f"({T}, {I})"],
    "features, batch first": ["(N, L, H_in)", f"({N}, {T}, {I})"],
    "packed features": ["(sum of lengths, H_in)", f"(8, {I})"],
    "h_0 batch": ["(D*num_layers, N, H_out)", f"(1, {N}, {H})"],
    "h_0 directions": ["(D*num_layers, N, H_out)", f"(2, {N}, {H})"],
    "2-D h_0 for 3-D input": ["(D*num_layers, N, H_out)", f"(1, {N}, {H})"],
    "3-D h_0 for 2-D input": ["(D*num_layers, H_out)", f"(1, {H})"],
    "h_0 size, unbatched": ["(D*num_layers, H_out)", f"(1, {H})"],
    "4-D input": ["(L, N, H_in)", "(L, H_in)"],
    "unsorted, an oversized h_0": ["(D*num_layers, N, H_out)", f"(1, {N}, {H})"],
    "packed h_0 size": ["(D*num_layers, N, H_out)", f"(1, {N}, {H})"],
}


def complaint(layer: type[nn.Module], name: str) -> tuple[type[BaseException] | None, str]:
    arguments, inputs = (CALLS.get(name) or OUR_OWN[name])[:2]
    torch.manual_seed(0)
    return outcome(lambda: layer(I, H, **arguments)(*inputs()))


# The constructor


@pytest.mark.parametrize(
    ("positional", "keywords"),
    [case for case in CONSTRUCTIONS.values() if "proj_size" not in case[1]] + PROJECTIONS,
    ids=str,
)
def test_wrong_construction_raises_what_nn_gru_raises(positional, keywords):
    kind, message = outcome(lambda: GRU(*positional, **keywords))
    their_kind, their_message = outcome(lambda: nn.GRU(*positional, **keywords))
    assert their_kind is not None, "nn.GRU takes this now"
    assert kind is their_kind
    assert message.startswith(their_message)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(CHECKED[:-1], 2)))
def test_order_of_checks_is_that_of_nn_gru(first, second):
    for one, other in itertools.product(WRONG, WRONG):
        arguments = {"input_size": 3, "hidden_size": 4, "num_layers": 2, first: one, second: other}
        kind, message = outcome(lambda a=arguments: GRU(**a))
        their_kind, their_message = outcome(lambda a=arguments: nn.GRU(**a))
        assert kind is their_kind, (arguments, message, their_message)
        if their_kind is ValueError or "should be of type" in their_message:
            assert message.startswith(their_message), arguments


@pytest.mark.parametrize(
    "rest", [(), (0,), (0, "cpu"), (0, None, torch.float64), (0, torch.device("cpu"), torch.bfloat16)], ids=str
)
def test_arguments_by_position_are_those_of_the_installed_torch(rest):
    """The eighth is proj_size, whatever the signature that nn.GRU shows says: it hands all of them to nn.RNNBase."""
    torch.manual_seed(0)
    ours = GRU(*FIRST_SEVEN, *rest)
    torch.manual_seed(0)
    theirs = nn.GRU(*FIRST_SEVEN, *rest)
    assert repr(ours) == repr(theirs)
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    assert all(torch.equal(a, b) and a.dtype is b.dtype for a, b in pairs)


@pytest.mark.parametrize("rest", [(1,), (4,)], ids=str)
def test_a_projection_by_position_is_refused(rest):
    """nn.GRU makes a layer of it that fails in every call without hx."""
    theirs = nn.GRU(*FIRST_SEVEN, *rest)
    assert outcome(lambda: theirs(zeros(2, 6, 7)))[0] is RuntimeError
    kind, message = outcome(lambda: GRU(*FIRST_SEVEN, *rest))
    assert (kind, message) == (ValueError, "proj_size argument is only supported for LSTM, not RNN or GRU")


@pytest.mark.parametrize(
    ("positional", "keywords"),
    [
        ((), {}),
        ((I,), {}),
        ((*FIRST_SEVEN, "cpu"), {}),
        ((*FIRST_SEVEN, None), {}),
        ((*FIRST_SEVEN, 0, None, None, None), {}),
        ((*FIRST_SEVEN, 0, "cpu"), {"device": "cpu"}),
        ((I, H), {"foo": 1}),
        ((I, H), {"mode": "LSTM"}),
        ((I, H), {"nonlinearity": "relu"}),
        ((I, H, 1), {"num_layers": 1}),
    ],
    ids=str,
)
def test_a_wrong_number_or_name_of_arguments_is_a_type_error(positional, keywords):
    assert outcome(lambda: nn.GRU(*positional, **keywords))[0] is TypeError
    assert outcome(lambda: GRU(*positional, **keywords))[0] is TypeError


# Calls


@each_grad
@pytest.mark.parametrize("name", CALLS)
def test_wrong_call_raises_what_nn_gru_raises(name, grad):
    with torch.set_grad_enabled(grad):
        hold_as_torch(complaint, GRU, name)


@each_grad
@pytest.mark.parametrize("name", OUR_OWN)
def test_a_clear_refusal_where_nn_gru_complains_rawly_or_not_at_all(name, grad):
    with torch.set_grad_enabled(grad):
        hold_clear(complaint, GRU, name, *OUR_OWN[name][2:])


@pytest.mark.parametrize("name", LETTERS)
def test_refusals_show_the_expected_shape_in_letters_and_numbers(name):
    _, message = complaint(GRU, name)
    for word in LETTERS[name]:
        assert word in message, f"{word!r} is not in {message!r}"
    assert "c_0" not in message, "a GRU has none"


@each_grad
@pytest.mark.parametrize("form", ["dense", "unbatched", "packed", "unsorted", "lengths"])
@pytest.mark.parametrize("name", NO_TENSORS)
def test_hx_that_is_no_tensor_is_refused_as_nn_gru_refuses_it(name, form, grad):
    hx = NO_TENSORS[name]
    sequence = {"dense": x, "unbatched": x[:, 0], "packed": packed(), "unsorted": unsorted(), "lengths": x}[form]
    lengths = {"lengths": [5, 3]} if form == "lengths" else {}
    with torch.set_grad_enabled(grad):
        kind, message = outcome(lambda: GRU(I, H)(sequence, hx, **lengths))
        their_kind, _ = outcome(lambda: nn.GRU(I, H)(sequence, hx))
    assert kind is AttributeError
    assert message == f"GRU: expected hx to be a tensor h_0, got {type(hx).__name__}"
    assert their_kind in (
        AttributeError,
        TypeError,
    )  # unsorted, nn.GRU calls a method of it that it has not, or wants a tensor


def test_hx_none_is_zeros():
    ours = GRU(I, H, 2)
    given = torch.randn(T, N, I)
    for sequence, lead in ((given, (2, N)), (given[:, 0], (2,)), (packed(), (2, N)), (unsorted(), (2, N))):
        found, expected = ours(sequence, None), ours(sequence, zeros(*lead, H))
        assert torch.equal(found[1], expected[1])
        assert torch.equal(found[1], ours(sequence)[1])


@pytest.mark.parametrize(
    "wrong", [[1, 2], np.zeros((T, N, I), dtype=np.float32), None, "x"], ids=["list", "array", "None", "str"]
)
def test_an_input_that_is_no_tensor_is_refused(wrong):
    assert outcome(lambda: GRU(I, H)(wrong))[0] is not None
    assert outcome(lambda: nn.GRU(I, H)(wrong))[0] is not None


def test_no_input_at_all_is_a_type_error():
    assert outcome(lambda: GRU(I, H)()) == outcome(lambda: nn.GRU(I, H)())


def test_a_refused_call_leaves_the_layer_usable():
    gru = GRU(I, H)
    before = gru(x)[0]
    for name in CALLS:
        if CALLS[name][0] == {}:
            assert outcome(lambda name=name: gru(*CALLS[name][1]()))[0] is not None
    assert torch.equal(gru(x)[0], before)


def test_errors_of_a_trace_are_those_of_forward():
    gru = GRU(I, H)
    for arguments in ((x[..., :2],), (x, zeros(1, N, H).double()), (x.double(),), (x[:0],), (x, (zeros(1, N, H),))):
        expected = outcome(lambda a=arguments: gru(*a))
        assert expected[0] is not None
        assert outcome(lambda a=arguments: gru.trace(*a)) == expected


# Attributes that are set later


@each_grad
@pytest.mark.parametrize("proj_size", [1, H - 1, H, 7])
def test_a_projection_set_later_is_refused(proj_size, grad):
    """By nn.GRU where it expects h_0 of this size, in most calls."""
    gru = GRU(I, H)
    gru.proj_size = proj_size
    with torch.set_grad_enabled(grad):
        kind, message = outcome(lambda: gru(x))
    assert kind in (RuntimeError, ValueError)
    assert "proj_size" in message
    gru.proj_size = 0
    assert torch.equal(gru(x)[0], gru(x, zeros(1, N, H))[0])
