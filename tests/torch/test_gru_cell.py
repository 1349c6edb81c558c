"""GRUCell where it is not as `test_cell` has both cells: its errors, its equations, and what may be done with its one state."""

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fastlstm
from fastlstm import GRUCell
from tests.conftest import assert_bits, assert_close, outcome
from tests.tolerances import STEP_VALUE
from tests.torch.steps import double, evaluate, named, tensors, twin

N, I, H = 3, 7, 5
Pair = namedtuple("Pair", "h c")
each_grad = pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
double_backward = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape)


# Errors


CALLS: dict[str, Any] = {
    "3-D input": lambda: (zeros(1, N, I),),
    "0-D input": lambda: (torch.tensor(1.0),),
    "features": lambda: (zeros(N, 4),),
    "features, unbatched": lambda: (zeros(4),),
    "3-D h": lambda: (zeros(N, I), zeros(1, N, H)),
    "0-D h": lambda: (zeros(N, I), torch.tensor(1.0)),
    "h batch": lambda: (zeros(N, I), zeros(2, H)),
    "h size": lambda: (zeros(N, I), zeros(N, 4)),
    "h size, unbatched": lambda: (zeros(I), zeros(4)),
    "unbatched h for a batch": lambda: (zeros(N, I), zeros(H)),
    "batched h for an unbatched input": lambda: (zeros(I), zeros(1, H)),
    "a pair of states": lambda: (zeros(N, I), (zeros(N, H), zeros(N, H))),
    "a named pair": lambda: (zeros(N, I), Pair(zeros(N, H), zeros(N, H))),
    "a tuple of one state": lambda: (zeros(N, I), (zeros(N, H),)),
    "a list": lambda: (zeros(N, I), [zeros(N, H)]),
    "an empty tuple": lambda: (zeros(N, I), ()),
    "a number": lambda: (zeros(N, I), 3),
    "no input": lambda: (),
    "None for input": lambda: (None,),
    "three arguments": lambda: (zeros(N, I), zeros(N, H), zeros(N, H)),
}
# Here nn.GRUCell's own message is a raw complaint of a product of matrices, or of no argument by name.
RAW: dict[str, tuple[Any, list[str]]] = {
    "double input": (lambda: (zeros(N, I).double(),), ["float64", "float32"]),
    "double h": (lambda: (zeros(N, I), zeros(N, H).double()), ["float64", "float32"]),
    "h on another device": (lambda: (zeros(N, I), zeros(N, H).to("meta")), ["device", "cpu", "meta"]),
}


@each_grad
@pytest.mark.parametrize("name", CALLS)
def test_wrong_call_raises_what_nn_gru_cell_raises(name, grad):
    with torch.set_grad_enabled(grad):
        kind, message = outcome(lambda: GRUCell(I, H)(*CALLS[name]()))
        their_kind, their_message = outcome(lambda: nn.GRUCell(I, H)(*CALLS[name]()))
    assert their_kind is not None, "nn.GRUCell takes this now"
    assert kind is their_kind, message
    assert message.startswith(their_message), f"{message!r} does not start with {their_message!r}"


@each_grad
@pytest.mark.parametrize("name", RAW)
def test_a_clear_refusal_where_nn_gru_cell_complains_rawly(name, grad):
    call, words = RAW[name]
    with torch.set_grad_enabled(grad):
        kind, message = outcome(lambda: GRUCell(I, H)(*call()))
        assert outcome(lambda: nn.GRUCell(I, H)(*call()))[0] is not None
    assert kind in (RuntimeError, ValueError)
    assert all(word in message for word in words), message
    assert "mat1" not in message


@pytest.mark.parametrize("name", ["features", "h size", "h batch", "3-D h"])
def test_refusals_show_the_expected_shape_in_letters_and_numbers(name):
    _, message = outcome(lambda: GRUCell(I, H)(*CALLS[name]()))
    letters, numbers = {
        "features": ("(N, H_in)", f"({N}, {I})"),
        "3-D h": ("(N, H_cell)", f"H_cell = {H}"),
    }.get(name, ("(N, H_cell)", f"({N}, {H})"))
    assert letters in message, message
    assert numbers in message, message
    assert "expected c" not in message, "a GRU has none"


@each_grad
def test_as_many_states_as_units_for_an_unbatched_input(grad):
    """nn.GRUCell reads outside its arrays here, if it does not refuse it."""
    with torch.set_grad_enabled(grad):
        kind, message = outcome(lambda: GRUCell(I, H)(zeros(I), zeros(H, H)))
    assert kind is RuntimeError
    assert all(word in message for word in ("2D", "3D", f"({H},)")), message


@pytest.mark.parametrize("wrong", [[1, 2], np.zeros((N, I), dtype=np.float32), "x"], ids=["list", "array", "str"])
def test_an_input_that_is_no_tensor_is_refused(wrong):
    assert outcome(lambda: nn.GRUCell(I, H)(wrong))[0] is not None
    assert outcome(lambda: GRUCell(I, H)(wrong))[0] is not None


# The equations, and a state that the caller changes


def test_the_equations_of_a_step():
    """r is between the two parts of n: its bias b_hn is multiplied, too."""
    cell = GRUCell(I, H, dtype=torch.float64)
    x, h, _ = tensors(GRUCell, N, I, H, torch.float64)
    given, kept = (x @ cell.weight_ih.T + cell.bias_ih).chunk(3, -1), (h @ cell.weight_hh.T + cell.bias_hh).chunk(3, -1)
    r, z = torch.sigmoid(given[0] + kept[0]), torch.sigmoid(given[1] + kept[1])
    n = torch.tanh(given[2] + r * kept[2])
    torch.testing.assert_close(cell(x, h), (1 - z) * n + z * h, **STEP_VALUE)


@given(st.none() | st.integers(0, 9), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.booleans())
def test_any_size_beside_nn_gru_cell(batch, inputs, units, bias, hx):
    cell = GRUCell(inputs, units, bias)
    x, h, cotangents = tensors(GRUCell, batch, inputs, units, torch.float32)
    arguments = (x, h if hx else None, cotangents)
    exact = tuple(double(part) for part in arguments)
    assert_close(evaluate(cell, *arguments), evaluate(twin(cell, torch.float64), *exact), torch.float32)


def test_gradients_of_frozen_parameters_and_of_a_frozen_cell():
    ours = GRUCell(I, H, dtype=torch.float64)
    theirs = twin(ours)
    x, h, cotangents = tensors(GRUCell, N, I, H, torch.float64)
    for frozen in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        for cell in (ours, theirs):
            cell.get_parameter(frozen).requires_grad_(False)
        assert_close(evaluate(ours, x, h, cotangents), evaluate(theirs, x, h, cotangents), hint=f"{frozen} frozen, too")
    assert not ours(x, h).requires_grad


def test_the_state_may_be_changed_in_place_before_backward():
    """As policies do where an episode ends."""
    ours = GRUCell(I, H)
    x, keep = torch.randn(4, N, I), torch.tensor([[1.0], [0.0], [1.0]])
    gradients = []
    for cell, change in ((ours, Tensor.mul_), (ours, Tensor.mul), (twin(ours), Tensor.mul)):
        cell.zero_grad(set_to_none=True)
        h = torch.zeros(N, H)
        for x_t in x:
            h = change(cell(x_t, h), keep)
        h.sum().backward()
        gradients.append({name: p.grad.clone() for name, p in cell.named_parameters()})
    assert_bits(gradients[0], gradients[1])
    assert_close(gradients[0], gradients[2])


@double_backward
@pytest.mark.parametrize("bias", [True, False])
def test_gradgradcheck(bias):
    cell = GRUCell(2, 3, bias, dtype=torch.float64)
    x, h, _ = tensors(GRUCell, 2, 2, 3, torch.float64)

    def run(x: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
        parameters = dict(zip([name for name, _ in cell.named_parameters()], weights, strict=True))
        return torch.func.functional_call(cell, parameters, (x, h))

    assert torch.autograd.gradgradcheck(run, (x.requires_grad_(), h.requires_grad_(), *cell.parameters()))


@double_backward
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward-mode rules use it
def test_transforms_of_torch_func():
    cell = GRUCell(I, H, dtype=torch.float64)
    theirs = twin(cell)
    x, h, _ = tensors(GRUCell, N, I, H, torch.float64)
    tangents = torch.randn_like(x), torch.randn_like(h)
    torch.testing.assert_close(torch.func.vmap(cell)(x, h), cell(x, h))
    found = torch.func.jvp(cell, (x, h), tangents)
    torch.testing.assert_close(found, torch.func.jvp(theirs, (x, h), tangents))
    torch.testing.assert_close(torch.func.jacrev(cell, (0, 1))(x, h), torch.func.jacrev(theirs, (0, 1))(x, h))


def test_a_step_that_says_its_engine():
    for dtype, name in ((torch.float32, "native"), (torch.bfloat16, "native"), (torch.complex64, "composite")):
        assert fastlstm.engine(GRUCell(I, H, dtype=dtype), torch.zeros(N, I, dtype=dtype)).name == name


def test_no_grad_and_inference_mode_have_the_bits_of_training():
    cell = GRUCell(33, 40)
    x, h, _ = tensors(GRUCell, 9, 33, 40, torch.float32)
    expected = named(cell(x, h))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = cell(x, h)
        assert not found.requires_grad
        assert_bits(named(found), expected)
