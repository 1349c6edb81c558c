"""`checkpoint_every`: what forward does not keep, backward computes again. No bit of a result or gradient changes."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fastlstm
from fastlstm import GRU, LSTM, _engine

pytestmark = pytest.mark.filterwarnings("ignore:fastlstm runs in plain tensor operations")
each_kind = pytest.mark.parametrize("kind", [LSTM, GRU])
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
sizes = st.fixed_dictionaries(
    {
        "input_size": st.sampled_from([1, 3, 8, 17]),
        "hidden_size": st.sampled_from([1, 3, 16, 33, 40]),
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "bidirectional": st.booleans(),
        "dropout": st.sampled_from([0.0, 0.3]),
    }
)


@pytest.fixture(params=_engine.isas())
def isa(request):
    before = _engine.isa()
    _engine.use_isa(request.param)
    yield request.param
    _engine.use_isa(before)


def pair(kind: Any, every: int, **arguments: Any) -> tuple[Any, Any]:
    """A layer that keeps everything, and the same that keeps the last state of so many steps."""
    torch.manual_seed(0)
    keeps_all = kind(**arguments)
    some = kind(**arguments, checkpoint_every=every)
    some.load_state_dict(keeps_all.state_dict())
    return keeps_all, some


def kept(output: torch.Tensor) -> int:
    """The numbers that a call's engine keeps for its backward pass."""
    return output.grad_fn.kept.reals


@pytest.mark.filterwarnings("ignore:dropout option")
@each_dtype
@each_kind
@settings(max_examples=25)
@given(
    arguments=sizes,
    projected=st.booleans(),
    batch=st.sampled_from([(600, None), (600, 1), (90, 7), (70, 30), (9, 90), (4, 300), (1, 300), (257, 2)]),
    every=st.sampled_from([1, 20, 64, 1000]),
    hx=st.booleans(),
    threads=st.integers(1, 3),
)
def test_no_bit_changes(kind, dtype, arguments, projected, batch, every, hx, threads):
    if projected and kind is LSTM and arguments["hidden_size"] > 1:
        arguments = {**arguments, "proj_size": arguments["hidden_size"] // 2}
    torch.set_num_threads(threads)
    keeps_all, some = pair(kind, every, **arguments, dtype=dtype)
    call = draw(some, *batch, hx=hx)
    assert_bits(evaluate(some, call), evaluate(keeps_all, call))


@each_dtype
@each_kind
@pytest.mark.parametrize("batch", [(300, 3), (60, 33)], ids=str)
def test_no_bit_changes_on_any_instruction_set(isa, batch, kind, dtype):
    for options in ({"num_layers": 2}, {"bidirectional": True}, {"num_layers": 2, "dropout": 0.5}):
        keeps_all, some = pair(kind, 1, input_size=24, hidden_size=32, dtype=dtype, **options)
        call = draw(some, *batch)
        expected = evaluate(keeps_all, call)
        assert_bits(evaluate(some, call), expected, hint=options)


@each_dtype
@each_kind
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_bit_changes_in_packed_batches(bidirectional, kind, dtype):
    keeps_all, some = pair(
        kind, 20, input_size=5, hidden_size=34, num_layers=2, bidirectional=bidirectional, dtype=dtype
    )
    lengths = torch.linspace(3, 120, 24).long().tolist()
    call = draw(some, 120, 24, lengths=lengths, enforce_sorted=False)
    assert_bits(evaluate(some, call), evaluate(keeps_all, call))
    assert kept(some(call.x)[0].data) < kept(keeps_all(call.x)[0].data) / 2


@each_dtype
@each_kind
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_bit_changes_with_lengths_and_resets(bidirectional, batch_first, kind, dtype):
    options = {"num_layers": 2, "dropout": 0.5, "bidirectional": bidirectional, "batch_first": batch_first}
    keeps_all, some = pair(kind, 20, input_size=5, hidden_size=34, dtype=dtype, **options)
    call = draw(some, 150, 24)
    reset = torch.rand(call.x.shape[:2]) < 0.005
    lengths = torch.linspace(0, 150, 24).long()
    for ragged in ({"lengths": lengths}, {"reset": reset}, {"lengths": lengths, "reset": reset}):
        assert_bits(evaluate(some, call, **ragged), evaluate(keeps_all, call, **ragged), hint=list(ragged))
        assert kept(some(call.x, **ragged)[0]) < kept(keeps_all(call.x, **ragged)[0]) / 2


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@each_kind
def test_no_bit_changes_with_nested_tensors(kind):
    keeps_all, some = pair(kind, 20, input_size=5, hidden_size=34, num_layers=2)
    values = [torch.randn(length, 5) for length in range(20, 200, 12)]

    def gradients(layer: nn.Module) -> dict[str, Any]:
        x = torch.nested.nested_tensor(values, layout=torch.jagged)
        output, _ = layer(x)
        output.values().square().sum().backward()
        return {"output": output.values().detach()} | {f"d{name}": p.grad for name, p in layer.named_parameters()}

    assert_bits(gradients(some), gradients(keeps_all))


@each_kind
@pytest.mark.parametrize("N", [1, 8, 32])
def test_little_more_lives_from_forward_to_backward_than_the_output(kind, N):
    """nn.LSTM takes 16.1 H numbers a row (`python benchmarks/checkpoints.py`)."""
    T, H = 4096, 128
    layer = kind(16, H, checkpoint_every=64)
    output, _ = layer(torch.randn(T, N, 16))
    assert kept(output) + output.numel() <= 1.04 * H * T * N
    stacked = kind(16, H, num_layers=3, checkpoint_every=64)  # the outputs in between are kept
    output, _ = stacked(torch.randn(T, N, 16))
    assert kept(output) + output.numel() <= 3 * 1.04 * H * T * N


@each_kind
def test_up_to_so_many_steps_everything_is_kept(kind):
    keeps_all, some = pair(kind, 256, input_size=3, hidden_size=8)
    for T, fewer in ((256, False), (257, True)):
        x = torch.randn(T, 4, 3)
        assert (kept(some(x)[0]) < kept(keeps_all(x)[0])) == fewer


@each_kind
def test_only_what_is_wanted(kind):
    keeps_all, some = pair(kind, 64, input_size=3, hidden_size=8, num_layers=2)
    for wanted in ("weight_hh_l0", "weight_ih_l1", "bias_hh_l1", "bias_ih_l0"):
        found = []
        for layer in (keeps_all, some):
            layer.requires_grad_(False)
            parameter = layer.get_parameter(wanted).requires_grad_()
            torch.manual_seed(0)
            output, _ = layer(torch.randn(300, 5, 3))
            found.append({f"d{wanted}": torch.autograd.grad(output.square().sum(), parameter)[0]})
        assert_bits(found[1], found[0], hint=wanted)


@each_kind
def test_a_state_may_be_all_that_has_a_gradient(kind):
    keeps_all, some = pair(kind, 64, input_size=3, hidden_size=8, num_layers=2)
    x = torch.randn(300, 5, 3)

    def gradients(layer: nn.Module) -> dict[str, Any]:
        leaf = x.clone().requires_grad_()
        h_n, *_ = layer(leaf)[1]
        return {"dx": torch.autograd.grad(h_n.sum(), leaf)[0]}

    assert_bits(gradients(some), gradients(keeps_all))


@each_kind
def test_the_caller_may_change_the_output(kind):
    keeps_all, some = pair(kind, 64, input_size=3, hidden_size=8, num_layers=2)
    found = []
    for layer in (keeps_all, some):
        torch.manual_seed(0)
        output, _ = layer(torch.randn(300, 5, 3))
        output.detach().zero_()
        grads = torch.autograd.grad(output, list(layer.parameters()), torch.ones_like(output))
        found.append(dict(zip((f"d{name}" for name, _ in layer.named_parameters()), grads, strict=True)))
        assert all(d.any() for d in grads)
    assert_bits(found[1], found[0])


@each_kind
def test_gradients_of_gradients(kind):
    keeps_all, some = pair(kind, 1, input_size=3, hidden_size=4, dtype=torch.float64)
    x = torch.randn(130, 4, 3, dtype=torch.float64)

    def second(layer: nn.Module) -> dict[str, Any]:
        leaf = x.clone().requires_grad_()
        output, _ = layer(leaf)
        (dx,) = torch.autograd.grad(output.square().sum(), leaf, create_graph=True)
        assert kept(output) < kept(keeps_all(leaf)[0]) or layer is keeps_all
        return {"dx": torch.autograd.grad(dx.square().sum(), leaf)[0]}

    assert_bits(second(some), second(keeps_all))


@each_kind
def test_a_graph_is_walked_once_or_again_where_it_is_retained(kind):
    layer = kind(3, 8, checkpoint_every=64)
    output, _ = layer(torch.randn(300, 5, 3))
    loss = output.square().sum()
    parameters = list(layer.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    names = [name for name, _ in layer.named_parameters()]
    assert_bits(dict(zip(names, second, strict=True)), dict(zip(names, first, strict=True)))
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        torch.autograd.grad(loss, parameters)


@each_kind
def test_a_recorded_call_and_a_trace_keep_everything_and_have_the_same_bits(kind):
    keeps_all, some = pair(kind, 64, input_size=3, hidden_size=8, num_layers=2)
    call = draw(some, 300, 5)
    expected = evaluate(keeps_all, call)
    with torch.autograd.graph.save_on_cpu():
        assert_bits(evaluate(some, call), expected)
    compiled = torch.compile(some, backend="aot_eager", fullgraph=True)
    assert_bits(evaluate(some, call), expected)
    assert_bits({"output": compiled(call.x, call.hx)[0]}, {"output": expected["output"]})
    traced, steps = some.trace(call.x, call.hx), keeps_all.trace(call.x, call.hx)
    for layer, other in zip(traced.layers, steps.layers, strict=True):
        for ours, theirs in zip(layer[0], other[0], strict=True):
            assert torch.equal(ours, theirs)
    cotangents = [torch.ones_like(t) for t in traced.layers[0][0]]
    parameter, same = some.weight_hh_l0, keeps_all.weight_hh_l0
    assert torch.equal(
        torch.autograd.grad(traced.layers[0][0], parameter, cotangents)[0],
        torch.autograd.grad(steps.layers[0][0], same, cotangents)[0],
    )


@each_kind
def test_transforms_keep_everything(kind):
    keeps_all, some = pair(kind, 1, input_size=3, hidden_size=4, dtype=torch.float64)
    x = torch.randn(130, 4, 3, dtype=torch.float64)

    def gradient(layer: nn.Module) -> dict[str, Any]:
        return {"dx": torch.func.grad(lambda x: layer(x)[0].square().sum())(x)}

    assert_close(gradient(some), gradient(keeps_all))


@each_kind
def test_it_is_shown_where_it_is_set_copied_and_pickled(kind):
    layer = kind(3, 8, checkpoint_every=64)
    assert repr(layer) == f"{kind.__name__}(3, 8, checkpoint_every=64)"
    assert repr(kind(3, 8)) == f"{kind.__name__}(3, 8)"
    assert "checkpoint_every" not in vars(kind(3, 8))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    x = torch.randn(300, 5, 3)
    for same in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert same.checkpoint_every == 64
        assert kept(same(x)[0]) == kept(layer(x)[0])


@each_kind
def test_it_may_be_set_later(kind):
    layer = kind(3, 8)
    x = torch.randn(300, 5, 3)
    everything = kept(layer(x)[0])
    layer.checkpoint_every = 64
    assert kept(layer(x)[0]) < everything
    layer.checkpoint_every = None
    assert kept(layer(x)[0]) == everything
    layer.checkpoint_every = 0
    assert outcome(lambda: layer(x)) == (ValueError, "checkpoint_every must be greater than zero")


@each_kind
def test_what_is_no_number_of_steps_is_refused(kind):
    for value in (2.5, "64", True):
        said = f"checkpoint_every should be of type int, got: {type(value).__name__}"
        assert outcome(lambda value=value: kind(3, 8, checkpoint_every=value)) == (TypeError, said)
    for value in (0, -1):
        said = "checkpoint_every must be greater than zero"
        assert outcome(lambda value=value: kind(3, 8, checkpoint_every=value)) == (ValueError, said)


@each_kind
def test_a_layer_of_torch_becomes_one_that_keeps_everything(kind):
    model = nn.Sequential(getattr(nn, kind.__name__)(3, 8))
    fastlstm.convert(model)
    assert model[0].checkpoint_every is None


@each_kind
def test_a_submodule_of_a_subclass_may_have_the_name(kind):
    class Own(kind):
        def __init__(self, part: nn.Module) -> None:
            super().__init__(3, 4)
            self.checkpoint_every = part

    part = nn.Linear(4, 2)
    layer, plain, x = Own(part), kind(3, 4), torch.randn(5, 2, 3)
    assert layer.checkpoint_every is dict(layer.named_modules())["checkpoint_every"] is part
    plain.load_state_dict(layer.state_dict(), strict=False)
    assert torch.equal(layer(x)[0], plain(x)[0])
    assert layer.extra_repr() == plain.extra_repr() == "3, 4"
    assert copy.deepcopy(layer).checkpoint_every.weight is not part.weight
    del layer.checkpoint_every
    assert layer.checkpoint_every is plain.checkpoint_every is kind.checkpoint_every is None


@each_kind
def test_a_layer_of_torch_with_such_a_part_is_converted(kind):
    theirs = getattr(nn, kind.__name__)(3, 4)
    theirs.checkpoint_every = nn.Linear(4, 2)
    model = nn.Sequential(theirs)
    fastlstm.convert(model)
    ours = model[0]
    assert type(ours) is kind
    assert ours.checkpoint_every is theirs.checkpoint_every
    assert ours(torch.randn(5, 2, 3))[0].shape == (5, 2, 4)
