"""LSTMCell and GRUCell against nn.LSTMCell and nn.GRUCell: arguments, parameters, numbers, gradients; the LSTMCell's errors."""

import copy
import inspect
import itertools
import pickle
from contextlib import nullcontext

import pytest
import torch
from conftest import assert_bits, assert_close, outcome, states_of
from torch import Tensor, nn

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell
from tests.conftest import like
from tests.tolerances import AUTOCAST_CELL, TOLERANCE
from tests.torch.steps import chosen, double, evaluate, named, tensors, torchs, twin

N, I, H = 3, 7, 5
DTYPES = [torch.float32, torch.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_bias = pytest.mark.parametrize("bias", [True, False])
each_kind = pytest.mark.parametrize("kind", [LSTMCell, GRUCell], ids=lambda kind: kind.__name__)


# The constructor and the parameters


@each_kind
def test_same_arguments_with_the_same_defaults(kind):
    def shown(layer: type) -> list[tuple[str, object]]:
        return [(p.name, p.default) for p in inspect.signature(layer).parameters.values()]

    assert shown(kind) == shown(torchs(kind))
    assert [name for name, _ in shown(kind)] == ["input_size", "hidden_size", "bias", "device", "dtype"]


@each_kind
@each_bias
@each_dtype
def test_parameters_repr_and_initial_bits(dtype, bias, kind):
    torch.manual_seed(0)
    ours = kind(I, H, bias, "cpu", dtype)
    torch.manual_seed(0)
    theirs = torchs(kind)(I, H, bias, "cpu", dtype)
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


@each_kind
@each_bias
def test_checkpoints_load_both_ways(bias, kind):
    ours, theirs = kind(I, H, bias), torchs(kind)(I, H, bias)
    ours.load_state_dict(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    torchs(kind)(I, H, bias).load_state_dict(ours.state_dict())


@each_kind
@pytest.mark.parametrize("arguments", [(3, 4.0), (3.0, 4), (3, -1), (-1, 4), ("3", 4)], ids=str)
def test_wrong_construction_raises_what_torchs_cell_raises(arguments, kind):
    raised, message = outcome(lambda: kind(*arguments))
    theirs, their_message = outcome(lambda: torchs(kind)(*arguments))
    assert theirs is not None
    assert raised is theirs, (message, their_message)


# Numbers


SIZES = [1, 2, 3, 5, 8, 15, 16, 17, 33, 63, 97]
GRID = [
    (batch, SIZES[k % 11], SIZES[(3 * k + 1) % 11], bias, hx)
    for k, (batch, bias, hx) in enumerate(
        itertools.product([None, 1, 2, 3, 5, 6, 7, 13, 16, 17, 64], [True, False], [True, False])
    )
]


@each_kind
@each_dtype
@pytest.mark.parametrize(("batch", "I", "H", "bias", "hx"), GRID)
def test_results_and_every_gradient_are_those_of_torchs_cell(batch, I, H, bias, hx, dtype, kind):
    ours = kind(I, H, bias, dtype=dtype)
    x, states, cotangents = tensors(kind, batch, I, H, dtype)
    arguments = (x, states if hx else None, cotangents)
    found = evaluate(ours, *arguments)
    reference = evaluate(twin(ours, torch.float64), *double(arguments))
    assert_close(found, reference, dtype)
    with torch.no_grad():
        results = named(ours(x, states if hx else None))
    assert_close(results, {name: reference[name] for name in results}, dtype)


@each_kind
@pytest.mark.parametrize("way", ["class", "enabled", "keep_type"])
@pytest.mark.parametrize(("I", "H"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("batch", [None, 0, 2])
def test_no_input_or_no_units(batch, I, H, way, kind):
    ours = kind(I, H) if way == "class" else torchs(kind)(I, H)
    theirs = twin(ours)
    if way == "keep_type":
        fastlstm.convert(nn.ModuleList([ours]), keep_type=True)
    x, _, cotangents = tensors(kind, batch, I, H, torch.float32)
    with fastlstm.enabled() if way == "enabled" else nullcontext():
        found = evaluate(ours, x, None, cotangents)
        with torch.no_grad():
            results = named(ours(x))
    assert_close(found, evaluate(theirs, x, None, cotangents))
    assert_close(results, {name: found[name] for name in results})


@pytest.mark.parametrize(("layer", "kind"), [(LSTM, LSTMCell), (GRU, GRUCell)], ids=["LSTM", "GRU"])
@each_dtype
def test_a_loop_of_cells_is_the_layer(dtype, layer, kind):
    """Step after step with the graph carried along: the same outputs, and the same gradients of the shared weights."""
    lstm, cell = layer(I, H, dtype=dtype), kind(I, H, dtype=dtype)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in lstm.state_dict().items()})
    x = torch.randn(9, N, I, dtype=dtype)
    lstm(x)[0].pow(2).sum().backward()
    state, steps = None, []
    for x_t in x:
        state = cell(x_t, state)
        steps.append(states_of(state)[0])
    torch.stack(steps).pow(2).sum().backward()
    named = zip(cell.named_parameters(), lstm.parameters(), strict=True)
    pairs = [(f"d{name}", mine.grad, other.grad) for (name, mine), other in named]
    assert_close({n: mine for n, mine, _ in pairs}, {n: other for n, _, other in pairs}, dtype)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_16_bit_parameters(dtype, kind):
    ours = kind(I, H, dtype=dtype)
    arguments = tensors(kind, N, I, H, dtype)
    found = evaluate(ours, *arguments)
    assert {t.dtype for t in found.values()} == {dtype}
    assert_close(found, evaluate(twin(ours, torch.float64), *double(arguments)), dtype)


@pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations", "ignore:Complex modules are a new")
@each_kind
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex(dtype, kind):
    ours = kind(I, H, dtype=dtype)
    x = torch.randn(N, I, dtype=dtype) * 0.2
    assert_close(named(ours(x)), named(twin(ours, torch.complex128)(x.to(torch.complex128))), dtype)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_cpu_autocast_returns_the_dtypes_of_torchs_cell(dtype, kind):
    ours = kind(I, H)
    x, hx, _ = tensors(kind, N, I, H, torch.float32)
    with torch.autocast("cpu", dtype):
        for states in (None, hx):
            found, theirs = states_of(ours(x, states)), states_of(twin(ours)(x, states))
            assert [t.dtype for t in found] == [t.dtype for t in theirs]
            exact = states_of(twin(ours, torch.float64)(x.double(), double(states)))
            for t, right, times in zip(found, exact, (1, AUTOCAST_CELL), strict=False):
                assert (t.double() - right).abs().max() <= TOLERANCE[dtype, "value"] * times


@each_kind
@each_dtype
def test_a_rows_bits_do_not_depend_on_batch_mates_or_threads(dtype, kind):
    cell = kind(33, 97, dtype=dtype)
    x, hx, _ = tensors(kind, 70, 33, 97, dtype)
    with torch.no_grad():
        whole = cell(x, hx)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for rows in ([0], [5, 3], list(range(6)), list(range(69, -1, -1))):
                found, expected = cell(x[rows], chosen(hx, rows)), chosen(whole, rows)
                assert_bits(named(found), named(expected), hint=f"{threads} threads, rows {rows}")


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


@each_kind
@each_bias
def test_gradcheck(bias, kind):
    cell = kind(2, 3, bias, dtype=torch.float64)
    x, hx, _ = tensors(kind, 2, 2, 3, torch.float64)
    leaves = [t.requires_grad_() for t in (x, *states_of(hx))]

    def run(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        states, weights = others[: len(leaves) - 1], others[len(leaves) - 1 :]
        parameters = dict(zip([name for name, _ in cell.named_parameters()], weights, strict=True))
        return states_of(torch.func.functional_call(cell, parameters, (x, like(hx, states))))

    assert torch.autograd.gradcheck(run, (*leaves, *cell.parameters()))


# Shapes, modes and machinery


@each_kind
@pytest.mark.parametrize("batch", [None, 0, 1, N])
def test_shapes(batch, kind):
    ours = kind(I, H)
    x, hx, _ = tensors(kind, batch, I, H, torch.float32)
    for states in (None, hx, *([list(hx)] if isinstance(hx, tuple) else [])):
        result, expected = ours(x, states), twin(ours)(x, states)
        assert isinstance(result, type(hx))
        assert [(t.shape, t.stride(), t.dtype) for t in states_of(result)] == [
            (t.shape, t.stride(), t.dtype) for t in states_of(expected)
        ]


@each_kind
def test_unbatched_equals_a_batch_of_one(kind):
    ours = kind(I, H)
    x, hx, _ = tensors(kind, None, I, H, torch.float32)
    alone, batched = ours(x, hx), ours(x[None], chosen(hx, None))
    assert_bits(named(alone), named(chosen(batched, 0)))


@each_kind
def test_omitted_states_are_zeros(kind):
    ours = kind(I, H)
    x = torch.randn(N, I)
    zeros = torch.zeros(N, H)
    assert_bits(named(ours(x)), named(ours(x, (zeros, zeros) if kind is LSTMCell else zeros)))


@each_kind
def test_strided_inputs(kind):
    ours = kind(I, H, dtype=torch.float64)
    x, hx, _ = tensors(kind, N, I, H, torch.float64)
    strided = [t.t().contiguous().t() for t in (x, *states_of(hx))]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(ours(strided[0], like(hx, tuple(strided[1:]))), twin(ours)(x, hx))


@each_kind
def test_meta_device(kind):
    ours = kind(I, H, device="meta")
    for t in states_of(ours(torch.randn(N, I, device="meta"))):
        assert t.shape == (N, H)
        assert t.device.type == "meta"


@each_kind
def test_copies_and_changed_parameters(kind):
    ours = kind(I, H)
    x = torch.randn(N, I)
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(again(x)[0], ours(x)[0])
    before = ours(x)[0]
    ours.weight_ih.data.mul_(2)
    assert not torch.equal(ours(x)[0], before)
    torch.testing.assert_close(ours(x), twin(ours)(x))


@each_kind
def test_no_recurrent_operator_of_torch_runs(kind):
    ours = kind(I, H)
    arguments = tensors(kind, N, I, H, torch.float32)
    evaluate(ours, *arguments)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as trace:
        evaluate(ours, *arguments)
    names = {event.name for event in trace.events()}
    assert not [name for name in names if "lstm_cell" in name.lower() or "gru_cell" in name.lower()]
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
    "no input": lambda: (),
    "three arguments": lambda: (zeros(N, I), (zeros(N, H), zeros(N, H)), zeros(N, H)),
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
