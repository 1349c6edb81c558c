"""LSTMCell against nn.LSTMCell: arguments, parameters, numbers, gradients, errors."""

import copy
import inspect
import itertools
import pickle
from contextlib import nullcontext

import pytest
import torch
from conftest import Evaluation, Hidden, assert_bits, assert_close, outcome
from torch import Tensor, nn

import fastlstm
from fastlstm import LSTM, LSTMCell
from tests.tolerances import AUTOCAST_CELL, TOLERANCE

N, I, H = 3, 7, 5
DTYPES = [torch.float32, torch.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_bias = pytest.mark.parametrize("bias", [True, False])


def twin(cell: nn.Module, dtype: torch.dtype | None = None) -> nn.LSTMCell:
    theirs = nn.LSTMCell(cell.input_size, cell.hidden_size, cell.bias, dtype=cell.weight_ih.dtype)
    theirs.load_state_dict(cell.state_dict())
    return theirs.to(dtype)


def evaluate(cell: nn.Module, x: Tensor, hx: Hidden | None, dh: Tensor, dc: Tensor) -> Evaluation:
    """h_n and c_n, and the gradient of every input and parameter."""
    cell.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    hx = None if hx is None else (hx[0].clone().requires_grad_(), hx[1].clone().requires_grad_())
    h, c = cell(x, hx)
    torch.autograd.backward((h, c), (dh, dc))
    found = {"h_n": h.detach(), "c_n": c.detach(), "dx": x.grad}
    if hx is not None:
        found |= {"dh_0": hx[0].grad, "dc_0": hx[1].grad}
    return found | {f"d{name}": p.grad for name, p in cell.named_parameters()}


def tensors(batch: int | None, I: int, H: int, dtype: torch.dtype) -> tuple[Tensor, Hidden, Tensor, Tensor]:
    leading = () if batch is None else (batch,)
    drawn = [torch.randn(*leading, size).to(dtype) for size in (I, H, H, H, H)]
    return drawn[0], (drawn[1], drawn[2]), drawn[3], drawn[4]


def double(value: object) -> object:
    return tuple(double(v) for v in value) if isinstance(value, tuple) else None if value is None else value.double()


# The constructor and the parameters


def test_same_arguments_with_the_same_defaults():
    def shown(layer: type) -> list[tuple[str, object]]:
        return [(p.name, p.default) for p in inspect.signature(layer).parameters.values()]

    assert shown(LSTMCell) == shown(nn.LSTMCell)
    assert [name for name, _ in shown(LSTMCell)] == ["input_size", "hidden_size", "bias", "device", "dtype"]


@each_bias
@each_dtype
def test_parameters_repr_and_initial_bits(dtype, bias):
    torch.manual_seed(0)
    ours = LSTMCell(I, H, bias, "cpu", dtype)
    torch.manual_seed(0)
    theirs = nn.LSTMCell(I, H, bias, "cpu", dtype)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    for name in ("input_size", "hidden_size", "bias", "training"):
        assert getattr(ours, name) == getattr(theirs, name)
    if not bias:
        assert ours.bias_ih is None
        assert ours.bias_hh is None
    torch.manual_seed(1)
    ours.reset_parameters()
    torch.manual_seed(1)
    theirs.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@each_bias
def test_checkpoints_load_both_ways(bias):
    ours, theirs = LSTMCell(I, H, bias), nn.LSTMCell(I, H, bias)
    ours.load_state_dict(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    nn.LSTMCell(I, H, bias).load_state_dict(ours.state_dict())


@pytest.mark.parametrize("arguments", [(3, 4.0), (3.0, 4), (3, -1), (-1, 4), ("3", 4)], ids=str)
def test_wrong_construction_raises_what_nn_lstm_cell_raises(arguments):
    kind, message = outcome(lambda: LSTMCell(*arguments))
    their_kind, their_message = outcome(lambda: nn.LSTMCell(*arguments))
    assert their_kind is not None
    assert kind is their_kind, (message, their_message)


# Numbers


SIZES = [1, 2, 3, 5, 8, 15, 16, 17, 33, 63, 97]
GRID = [
    (batch, SIZES[k % 11], SIZES[(3 * k + 1) % 11], bias, hx)
    for k, (batch, bias, hx) in enumerate(
        itertools.product([None, 1, 2, 3, 5, 6, 7, 13, 16, 17, 64], [True, False], [True, False])
    )
]


@each_dtype
@pytest.mark.parametrize(("batch", "I", "H", "bias", "hx"), GRID)
def test_results_and_every_gradient_are_nn_lstm_cells(batch, I, H, bias, hx, dtype):
    ours = LSTMCell(I, H, bias, dtype=dtype)
    x, states, dh, dc = tensors(batch, I, H, dtype)
    arguments = (x, states if hx else None, dh, dc)
    found = evaluate(ours, *arguments)
    reference = evaluate(twin(ours, torch.float64), *double(arguments))
    assert_close(found, reference, dtype)
    with torch.no_grad():
        h, c = ours(x, states if hx else None)
    assert_close({"h_n": h, "c_n": c}, {"h_n": reference["h_n"], "c_n": reference["c_n"]}, dtype)


@pytest.mark.parametrize("way", ["class", "enabled", "keep_type"])
@pytest.mark.parametrize(("I", "H"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("batch", [None, 0, 2])
def test_no_input_or_no_units(batch, I, H, way):
    ours = LSTMCell(I, H) if way == "class" else nn.LSTMCell(I, H)
    theirs = twin(ours)
    if way == "keep_type":
        fastlstm.convert(nn.ModuleList([ours]), keep_type=True)
    x, _, dh, dc = tensors(batch, I, H, torch.float32)
    with fastlstm.enabled() if way == "enabled" else nullcontext():
        found = evaluate(ours, x, None, dh, dc)
        with torch.no_grad():
            h, c = ours(x)
    assert_close(found, evaluate(theirs, x, None, dh, dc))
    assert_close({"h_n": h, "c_n": c}, {"h_n": found["h_n"], "c_n": found["c_n"]})


@each_dtype
def test_a_loop_of_cells_is_the_layer(dtype):
    """Step after step with the graph carried along: the same outputs, and the same gradients of the shared weights."""
    lstm, cell = LSTM(I, H, dtype=dtype), LSTMCell(I, H, dtype=dtype)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in lstm.state_dict().items()})
    x = torch.randn(9, N, I, dtype=dtype)
    lstm(x)[0].pow(2).sum().backward()
    state, steps = None, []
    for x_t in x:
        state = cell(x_t, state)
        steps.append(state[0])
    torch.stack(steps).pow(2).sum().backward()
    named = zip(cell.named_parameters(), lstm.parameters(), strict=True)
    pairs = [(f"d{name}", mine.grad, other.grad) for (name, mine), other in named]
    assert_close({n: mine for n, mine, _ in pairs}, {n: other for n, _, other in pairs}, dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_16_bit_parameters(dtype):
    ours = LSTMCell(I, H, dtype=dtype)
    arguments = tensors(N, I, H, dtype)
    found = evaluate(ours, *arguments)
    assert {t.dtype for t in found.values()} == {dtype}
    assert_close(found, evaluate(twin(ours, torch.float64), *double(arguments)), dtype)


@pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations", "ignore:Complex modules are a new")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex(dtype):
    ours = LSTMCell(I, H, dtype=dtype)
    x = torch.randn(N, I, dtype=dtype) * 0.2
    (h, c), (their_h, their_c) = ours(x), twin(ours, torch.complex128)(x.to(torch.complex128))
    assert_close({"h_n": h, "c_n": c}, {"h_n": their_h, "c_n": their_c}, dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_cpu_autocast_returns_the_dtypes_of_nn_lstm_cell(dtype):
    ours = LSTMCell(I, H)
    x, hx, _, _ = tensors(N, I, H, torch.float32)
    with torch.autocast("cpu", dtype):
        for states in (None, hx):
            (h, c), (their_h, their_c) = ours(x, states), twin(ours)(x, states)
            assert (h.dtype, c.dtype) == (their_h.dtype, their_c.dtype)
            exact = twin(ours, torch.float64)(x.double(), double(states))
            assert (h.double() - exact[0]).abs().max() <= TOLERANCE[dtype, "value"]
            assert (c.double() - exact[1]).abs().max() <= TOLERANCE[dtype, "value"] * AUTOCAST_CELL


@each_dtype
def test_a_rows_bits_do_not_depend_on_batch_mates_or_threads(dtype):
    cell = LSTMCell(33, 97, dtype=dtype)
    x, (h, c), _, _ = tensors(70, 33, 97, dtype)
    with torch.no_grad():
        whole = cell(x, (h, c))
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for chosen in ([0], [5, 3], list(range(6)), list(range(69, -1, -1))):
                found = cell(x[chosen], (h[chosen], c[chosen]))
                expected = {"h_n": whole[0][chosen], "c_n": whole[1][chosen]}
                assert_bits({"h_n": found[0], "c_n": found[1]}, expected, hint=f"{threads} threads, rows {chosen}")


def test_gradients_of_one_result_alone_and_of_frozen_parameters():
    ours = LSTMCell(I, H, dtype=torch.float64)
    ours.weight_hh.requires_grad_(False)
    theirs = twin(ours)
    x = torch.randn(N, I, dtype=torch.float64)
    for k in range(2):
        wanted = [[p for p in cell.parameters() if p is not cell.weight_hh] for cell in (ours, theirs)]
        found = torch.autograd.grad(ours(x)[k].sum(), wanted[0], allow_unused=True)
        expected = torch.autograd.grad(theirs(x)[k].sum(), wanted[1], allow_unused=True)
        assert_close(dict(enumerate(found)), dict(enumerate(expected)))


@each_bias
def test_gradcheck(bias):
    cell = LSTMCell(2, 3, bias, dtype=torch.float64)
    x, (h, c), _, _ = tensors(2, 2, 3, torch.float64)
    leaves = [t.requires_grad_() for t in (x, h, c)]

    def run(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip([name for name, _ in cell.named_parameters()], weights, strict=True))
        return torch.func.functional_call(cell, named, (x, (h, c)))

    assert torch.autograd.gradcheck(run, (*leaves, *cell.parameters()))


# Shapes, modes and machinery


@pytest.mark.parametrize("batch", [None, 0, 1, N])
def test_shapes(batch):
    ours = LSTMCell(I, H)
    x, hx, _, _ = tensors(batch, I, H, torch.float32)
    for states in (None, hx, list(hx)):
        result, expected = ours(x, states), twin(ours)(x, states)
        assert isinstance(result, tuple)
        assert [(t.shape, t.stride(), t.dtype) for t in result] == [(t.shape, t.stride(), t.dtype) for t in expected]


def test_unbatched_equals_a_batch_of_one():
    ours = LSTMCell(I, H)
    x, (h, c), _, _ = tensors(None, I, H, torch.float32)
    alone, batched = ours(x, (h, c)), ours(x[None], (h[None], c[None]))
    assert torch.equal(alone[0], batched[0][0])
    assert torch.equal(alone[1], batched[1][0])


def test_omitted_states_are_zeros():
    ours = LSTMCell(I, H)
    x = torch.randn(N, I)
    zeros = torch.zeros(N, H)
    for mine, other in zip(ours(x), ours(x, (zeros, zeros)), strict=True):
        assert torch.equal(mine, other)


def test_strided_inputs():
    ours = LSTMCell(I, H, dtype=torch.float64)
    x, (h, c), _, _ = tensors(N, I, H, torch.float64)
    strided = [t.t().contiguous().t() for t in (x, h, c)]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(ours(strided[0], (strided[1], strided[2])), twin(ours)(x, (h, c)))


def test_meta_device():
    ours = LSTMCell(I, H, device="meta")
    h, c = ours(torch.randn(N, I, device="meta"))
    assert h.shape == c.shape == (N, H)
    assert h.device.type == c.device.type == "meta"


def test_copies_and_changed_parameters():
    ours = LSTMCell(I, H)
    x = torch.randn(N, I)
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(again(x)[0], ours(x)[0])
    before = ours(x)[0]
    ours.weight_ih.data.mul_(2)
    assert not torch.equal(ours(x)[0], before)
    torch.testing.assert_close(ours(x), twin(ours)(x))


def test_no_recurrent_operator_of_torch_runs():
    ours = LSTMCell(I, H)
    x, hx, dh, dc = tensors(N, I, H, torch.float32)
    evaluate(ours, x, hx, dh, dc)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as trace:
        evaluate(ours, x, hx, dh, dc)
    names = {event.name for event in trace.events()}
    assert not [name for name in names if "lstm_cell" in name.lower()]
    assert not names & {"aten::mm", "aten::addmm", "aten::linear", "aten::sigmoid", "aten::tanh"}


# Errors


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape)


CALLS = {
    "3-D input": lambda: (zeros(1, N, I),),
    "0-D input": lambda: (torch.tensor(1.0),),
    "features": lambda: (zeros(N, 4),),
    "features, unbatched": lambda: (zeros(4),),
    "3-D h": lambda: (zeros(N, I), (zeros(1, N, H), zeros(N, H))),
    "3-D c": lambda: (zeros(N, I), (zeros(N, H), zeros(1, N, H))),
    "h batch": lambda: (zeros(N, I), (zeros(2, H), zeros(N, H))),
    "c batch": lambda: (zeros(N, I), (zeros(N, H), zeros(2, H))),
    "h size": lambda: (zeros(N, I), (zeros(N, 4), zeros(N, H))),
    "c size": lambda: (zeros(N, I), (zeros(N, H), zeros(N, 4))),
    "a 3-tuple of states": lambda: (zeros(N, I), (zeros(N, H),) * 3),
    "one state": lambda: (zeros(N, I), (zeros(N, H),)),
    "unbatched h for a batch": lambda: (zeros(N, I), (zeros(H), zeros(H))),
    "batched h for an unbatched input": lambda: (zeros(I), (zeros(1, H), zeros(1, H))),
}
# Here nn.LSTMCell's own message is a raw complaint of a product of matrices.
RAW = {
    "double input": (lambda: (zeros(N, I).double(),), ["float64", "float32"]),
    "double states": (lambda: (zeros(N, I), (zeros(N, H).double(),) * 2), ["float64", "float32"]),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_call_raises_what_nn_lstm_cell_raises(name):
    kind, message = outcome(lambda: LSTMCell(I, H)(*CALLS[name]()))
    their_kind, their_message = outcome(lambda: nn.LSTMCell(I, H)(*CALLS[name]()))
    assert their_kind is not None, "nn.LSTMCell takes this now"
    assert kind is their_kind, message
    assert message.startswith(their_message), f"{message!r} does not start with {their_message!r}"


@pytest.mark.parametrize("name", ["features", "h size", "c batch"])
def test_refusals_show_the_expected_shape_in_letters_and_numbers(name):
    _, message = outcome(lambda: LSTMCell(I, H)(*CALLS[name]()))
    letters, numbers = ("(N, H_in)", f"({N}, {I})") if name == "features" else ("(N, H_cell)", f"({N}, {H})")
    assert letters in message.replace("H_out", "H_cell"), message
    assert numbers in message, message


@pytest.mark.parametrize("name", RAW)
def test_a_clear_refusal_where_nn_lstm_cell_complains_rawly(name):
    call, words = RAW[name]
    kind, message = outcome(lambda: LSTMCell(I, H)(*call()))
    assert outcome(lambda: nn.LSTMCell(I, H)(*call()))[0] is not None
    assert kind in (RuntimeError, ValueError)
    assert all(word in message for word in words), message
    assert "mat1" not in message


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_as_many_states_as_units_for_an_unbatched_input(grad):
    """nn.LSTMCell reads outside its arrays here."""
    with torch.set_grad_enabled(grad):
        kind, message = outcome(lambda: LSTMCell(I, H)(zeros(I), (zeros(H, H), zeros(H, H))))
    assert kind is RuntimeError
    assert all(word in message for word in ("2D", "3D", f"({H},)")), message


@pytest.mark.parametrize("hx", [(None, None), zeros(N, H), 3], ids=["Nones", "a tensor", "a number"])
def test_states_that_are_no_pair_of_tensors_are_refused(hx):
    assert outcome(lambda: nn.LSTMCell(I, H)(zeros(N, I), hx))[0] is not None
    assert outcome(lambda: LSTMCell(I, H)(zeros(N, I), hx))[0] is not None


def test_the_state_may_be_changed_in_place_before_backward():
    """As policies do where an episode ends: h of nn.LSTMCell is nothing that its backward pass reads."""
    ours = LSTMCell(I, H)
    x, keep = torch.randn(4, N, I), torch.tensor([[1.0], [0.0], [1.0]])
    gradients = []
    for cell in (ours, twin(ours)):
        h = c = torch.zeros(N, H)
        for x_t in x:
            h, c = cell(x_t, (h, c))
            h.mul_(keep)
            c.mul_(keep)
        h.sum().backward()
        gradients.append({name: p.grad for name, p in cell.named_parameters()})
    assert_close(*gradients)


@pytest.mark.parametrize("kind", [LSTMCell, fastlstm.GRUCell])
@pytest.mark.parametrize("grad", [True, False])
def test_an_array_of_numpy_is_no_input(kind, grad):
    """The engine would take it."""
    cell = kind(3, 4)
    with torch.set_grad_enabled(grad), pytest.raises(AttributeError, match="dim"):
        cell(torch.randn(2, 3).numpy())
