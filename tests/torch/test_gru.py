"""GRU as the module that nn.GRU is: its arguments, parameters, checkpoints and copies, dropout's masks, dtypes and autocast."""

import copy
import io
import itertools
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastlstm
from fastlstm import GRU
from fastlstm.torch.runners import fallback
from tests.conftest import assert_bits, assert_close, draw, evaluate, outcome, twin
from tests.torch.test_lstm_constructor import ATTRIBUTES

T, N, I, H = 6, 4, 7, 5
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3},
    {"bias": False},
    {"batch_first": True},
    {"num_layers": 2, "dropout": 0.25},
    {"num_layers": 2, "dropout": 1},
    {"bidirectional": True},
    {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True},
    {"dtype": torch.float64},
    {"dtype": torch.bfloat16},
    {"dtype": torch.complex64},
    {"device": "meta"},
    {"device": torch.device("cpu")},
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"bias": False, "batch_first": True},
    {"num_layers": 3, "bias": False, "dropout": 0.4},
]
HALVES = [torch.bfloat16, torch.float16]
each_arguments = pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
each_half = pytest.mark.parametrize("dtype", HALVES, ids=str)
falls_back = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")


def pair(*arguments: Any, **keywords: Any) -> tuple[GRU, nn.GRU]:
    """Ours and torch's own, both from seed 0."""
    torch.manual_seed(0)
    ours = GRU(*arguments, **keywords)
    torch.manual_seed(0)
    return ours, nn.GRU(*arguments, **keywords)


def assert_equal_parameters(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        assert (a.shape, a.dtype, a.device, a.requires_grad) == (b.shape, b.dtype, b.device, b.requires_grad), name
        assert a.device.type == "meta" or torch.equal(a, b), name


# The constructor and the parameters


@each_arguments
def test_parameters_attributes_and_repr_are_nn_grus_to_the_bit(arguments):
    ours, theirs = pair(I, H, **arguments)
    assert_equal_parameters(ours, theirs)
    assert list(ours.named_buffers()) == []
    assert repr(ours) == repr(theirs)
    assert repr(nn.Sequential(ours)) == repr(nn.Sequential(theirs))
    for name in ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name), name
        assert type(getattr(ours, name)) is type(getattr(theirs, name)), name
    assert [id(w) for layer in ours.all_weights for w in layer] == [id(p) for p in ours.parameters()]
    assert [[w.shape for w in layer] for layer in ours.all_weights] == [
        [w.shape for w in layer] for layer in theirs.all_weights
    ]
    assert ours.flatten_parameters() is None


@each_arguments
def test_reset_parameters_draws_what_nn_gru_draws(arguments):
    ours, theirs = pair(I, H, **arguments)
    numbers = []
    for gru in (ours, theirs):
        torch.manual_seed(1)
        gru.reset_parameters()
        numbers.append(torch.rand(1))
    assert torch.equal(*numbers), "as many numbers are drawn"
    assert_equal_parameters(ours, theirs)


def test_it_is_a_module_but_no_subclass_of_nn_gru():
    assert issubclass(GRU, nn.Module)
    assert not issubclass(GRU, nn.RNNBase)


@pytest.mark.parametrize("dropout", [0, 0.0, 0.5, 1])
def test_dropout_with_one_layer_warns_as_nn_gru_at_the_callers_line(dropout):
    def warned(layer: Any) -> list[tuple[type, str, str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layer(3, 4, dropout=dropout)
        return [(w.category, str(w.message)) for w in caught]

    assert warned(GRU) == warned(nn.GRU)
    assert len(warned(GRU)) == (dropout > 0)


@pytest.mark.parametrize("arguments", ARGUMENTS[:9], ids=str)
def test_checkpoints_load_both_ways_key_for_key(arguments):
    theirs, ours = nn.GRU(I, H, **arguments), GRU(I, H, **arguments)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    file = io.BytesIO()
    torch.save(theirs.state_dict(), file)
    file.seek(0)
    assert str(ours.load_state_dict(torch.load(file, weights_only=True))) == "<All keys matched successfully>"
    assert_equal_parameters(ours, theirs)
    back = nn.GRU(I, H, **arguments)
    back.load_state_dict(ours.state_dict(), strict=True)
    assert_equal_parameters(back, theirs)


@pytest.mark.parametrize("source", [nn.GRU(3, 4, 2), nn.GRU(3, 5), nn.GRU(3, 4, bias=False), nn.LSTM(3, 4)], ids=repr)
def test_a_checkpoint_that_does_not_fit_raises_as_in_nn_gru(source):
    found = [outcome(lambda k=kind: k(3, 4).load_state_dict(source.state_dict())) for kind in (GRU, nn.GRU)]
    assert found[0] == found[1]
    assert found[0][0] is RuntimeError


# Copies, moves, and parameters that change


def through_torch_save(gru: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(gru, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m)), through_torch_save]
)
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_copy_is_the_same_layer(duplicate, used):
    ours = GRU(I, H, 3, bidirectional=True, dropout=0.5, batch_first=True).eval()
    call = draw(ours, T, N)
    if used:
        evaluate(ours, call)
        ours.zero_grad(set_to_none=True)
    again = duplicate(ours)
    assert type(again) is GRU
    assert (repr(again), again.training) == (repr(ours), ours.training)
    assert_bits(evaluate(again, call), evaluate(ours, call))
    again.num_layers = 1  # what is derived from the arguments is derived anew
    assert again(call.x)[1].shape == (2, N, H)
    assert ours(call.x)[1].shape == (6, N, H)


def test_moves_between_dtypes_and_from_meta():
    ours = GRU(I, H, 2, bidirectional=True)
    theirs = twin(ours)
    for move in (nn.Module.double, nn.Module.half, nn.Module.bfloat16, nn.Module.float):
        move(ours), move(theirs)
        assert_equal_parameters(ours, theirs)
        call = draw(ours, T, N)
        assert_close(evaluate(ours, call), evaluate(twin(ours, torch.float64), call.to(torch.float64)))
    again = GRU(I, H, 2, bidirectional=True, device="meta")
    again.load_state_dict(ours.state_dict(), assign=True)
    assert_bits(evaluate(again, call), evaluate(ours, call))


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_a_changed_parameter_or_argument_is_seen_by_the_next_call(grad):
    ours, theirs = pair(I, H, 2, dtype=torch.float64)
    x = torch.randn(N, T, I, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        before = ours(x)[0]
        for gru in (ours, theirs):
            gru.weight_hh_l1.detach()[3:7, 2] += 5
            gru.bias_hh_l0 = nn.Parameter(3 * gru.bias_hh_l0.detach())
            gru.batch_first, gru.dropout = True, 1.0
        assert not torch.equal(ours(x)[0], before)
        torch.testing.assert_close(ours(x), theirs(x))


# Dropout


@each_options
@pytest.mark.parametrize("dropout", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("num_layers", [2, 3])
def test_the_same_seed_drops_the_same_elements(num_layers, dropout, options):
    ours = GRU(I, H, **{**options, "num_layers": num_layers, "dropout": dropout})
    for lengths in (None, [6, 4, 4, 1]):
        call = draw(ours, T, N, lengths=lengths)
        found = evaluate(ours, call, seed=2)
        after = torch.rand(4)
        reference = evaluate(twin(ours, torch.float64), call.to(torch.float64), seed=2)
        assert torch.equal(after, torch.rand(4)), "as many random numbers are drawn"
        assert_close(found, reference, torch.float32)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_dropout_without_grad_and_none_in_eval(mode):
    ours = GRU(I, H, 2, dropout=0.5)
    theirs, x = twin(ours), torch.randn(T, N, I)
    results = []
    for gru in (ours, theirs):
        torch.manual_seed(0)
        with mode():
            results.append(gru(x))
        results.append(gru.eval()(x))
        results.append(torch.rand(1))
    torch.testing.assert_close(results[:2], results[3:5])
    assert torch.equal(results[2], results[5]), "eval draws nothing"


# Dtypes and autocast


@falls_back
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex_works_as_in_nn_gru(dtype):
    ours = GRU(I, H, 2, bidirectional=True, dtype=dtype)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(0.5)  # tanh has poles off the real axis: stay clear of them
    call = draw(ours, T, N)
    call = call._replace(x=call.x * 0.3, hx=call.hx * 0.3)
    assert_close(evaluate(ours, call), evaluate(twin(ours, torch.complex128), call.to(torch.complex128)), dtype)


@each_half
@pytest.mark.parametrize("form", ["dense", "unbatched", "packed"])
def test_cpu_autocast_returns_the_dtypes_of_nn_gru(form, dtype):
    """The state keeps the wider of its dtype and autocast's, and output is that state: for nn.GRU torch has no fused kernel."""
    ours = GRU(I, H, 2, bidirectional=True)
    theirs = twin(ours)
    x, h_0 = torch.randn(T, N, I), torch.randn(4, N, H)
    x, h_0 = (x[:, 0], h_0[:, 0]) if form == "unbatched" else (x, h_0)
    kinds = (torch.float32, *HALVES)
    for of_x, of_h in itertools.product(kinds, (None, *kinds)):
        given, hx = x.to(of_x), None if of_h is None else h_0.to(of_h)
        if form == "packed":
            given = nn.utils.rnn.pack_padded_sequence(given, torch.tensor([6, 4, 4, 1]))
        with torch.autocast("cpu", dtype):
            found, expected = ours(given, hx), theirs(given, hx)
        wanted = [t.dtype for t in (expected[0][0] if form == "packed" else expected[0], expected[1])]
        assert [t.dtype for t in (found[0][0] if form == "packed" else found[0], found[1])] == wanted, (of_x, of_h)


@each_half
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_cpu_autocast_has_the_numbers(options, grad, dtype):
    ours = GRU(I, H, **options)
    call = draw(ours, T, N)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype):
        found = ours(call.x, call.hx)
    reference = twin(ours, torch.float64)(*call.to(torch.float64)[:2])
    results = [dict(zip(("output", "h_n"), map(Tensor.detach, both), strict=True)) for both in (found, reference)]
    assert_close(*results, dtype)
    if grad:
        torch.autograd.backward(found, call.cotangents)
        exact = evaluate(twin(ours, torch.float64), call.to(torch.float64))
        gradients = {f"d{name}": p.grad for name, p in ours.named_parameters()}
        assert_close(gradients, {name: exact[name] for name in gradients}, dtype)


# Who runs it


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float32, "native"), (torch.float64, "native"), (torch.bfloat16, "native"), (torch.complex64, "composite")],
)
def test_the_engine_that_runs_it(dtype, name):
    gru, x = GRU(I, H, dtype=dtype), torch.zeros(T, N, I, dtype=dtype)
    assert fastlstm.engine(gru, x).name == name
    assert fastlstm.engine(gru, x, lengths=[6, 5, 2, 1]).name == name
    assert fastlstm.engine(gru, torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 5, 2, 1]))).name == name


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_strict_refuses_what_falls_back():
    fastlstm.strict(True)
    try:
        assert outcome(lambda: GRU(I, H)(torch.zeros(T, N, I)))[0] is None
        kind, message = outcome(lambda: GRU(I, H, dtype=torch.complex64)(torch.zeros(T, N, I, dtype=torch.complex64)))
    finally:
        fastlstm.strict(False)
    assert kind is RuntimeError
    assert "no complex64" in message


def test_a_fallback_is_said_once():
    gru, x = GRU(I, H, dtype=torch.bfloat16), torch.zeros(T, N, I, dtype=torch.bfloat16)
    with pytest.warns(fallback.FallbackWarning, match="plain tensor operations"):
        torch.func.grad(lambda t: gru(t)[0].sum())(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.func.grad(lambda t: gru(t)[0].sum())(x)
        gru(x)


@each_options
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_meta_device_gives_the_shapes(options, packed):
    ours, theirs = GRU(5, 9, **options, device="meta"), nn.GRU(5, 9, **options, device="meta")
    x = torch.randn(6, 6, 5)
    if packed:
        x = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 5, 4, 3, 2, 1]), theirs.batch_first)
    (output, h_n), (their_output, their_h_n) = ours(x.to("meta")), theirs(x.to("meta"))
    if packed:
        output, their_output = output.data, their_output.data
    assert [(t.shape, t.dtype, t.device) for t in (output, h_n)] == [
        (t.shape, t.dtype, t.device) for t in (their_output, their_h_n)
    ]
