"""The op on the native engine: its gradients, only those asked for, and what needs more than it can do."""

import gc
import weakref
from typing import Any

import pytest
import torch
from conftest import assert_close, draw, evaluate, outcome, twin
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from fastlstm import LSTM, LSTMCell
from fastlstm.torch.graph import function
from fastlstm.torch.runners.fallback import FallbackWarning
from tests.doubles import Spy

falls_back = pytest.mark.filterwarnings(f"ignore::{FallbackWarning.__module__}.{FallbackWarning.__name__}")
uses_jit = pytest.mark.filterwarnings("ignore:`torch.jit")  # deprecated, and used by people and by torch itself


def watch(monkeypatch: pytest.MonkeyPatch, *, takes_tensors: bool) -> Spy:
    watching = Spy(takes_tensors=takes_tensors)
    monkeypatch.setattr(function, "_engine", watching)
    if not takes_tensors:
        monkeypatch.setattr(function, "attempt", lambda *_: None)
    return watching


@pytest.fixture(params=[True, False], ids=["as they are", "in order"])
def spy(request, monkeypatch):
    return watch(monkeypatch, takes_tensors=request.param)


def double(**options: Any) -> LSTM:
    return LSTM(3, 4, dtype=torch.float64, **options)


@pytest.mark.parametrize(
    "options", [{"batch_first": True}, {"num_layers": 3, "dropout": 0.4}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("N", [None, 2], ids=["unbatched", "batched"])
def test_gradcheck(options, N, spy):
    lstm = double(**options)
    call = draw(lstm, 3, N)
    names = [name for name, _ in lstm.named_parameters()]

    def run(x: Tensor, h_0: Tensor, c_0: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(0)  # the same masks every time
        named = dict(zip(names, weights, strict=True))
        output, states = torch.func.functional_call(lstm, named, (x, (h_0, c_0)))
        return output, *states

    inputs = [t.requires_grad_() for t in (call.x, *call.hx)]
    assert torch.autograd.gradcheck(run, (*inputs, *lstm.parameters()))
    assert len(spy.asked) >= 3, "the engine was not asked"


@pytest.mark.parametrize("shape", [(2, 3), (3,)], ids=["batched", "unbatched"])
@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck_of_a_cell(bias, shape, spy):
    cell = LSTMCell(3, 4, bias, dtype=torch.float64)
    x, h, c = (torch.randn(*shape[:-1], n, dtype=torch.float64, requires_grad=True) for n in (3, 4, 4))
    names = [name for name, _ in cell.named_parameters()]

    def run(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(cell, dict(zip(names, weights, strict=True)), (x, (h, c)))

    assert torch.autograd.gradcheck(run, (x, h, c, *cell.parameters()))
    assert spy.asked


def test_without_gradients_nothing_is_saved(spy):
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad():
        assert not lstm(x)[0].requires_grad
    assert spy.kept == []  # the module's own call took it, which keeps nothing
    lstm.requires_grad_(False)
    assert not lstm(x)[0].requires_grad
    assert not any(spy.kept)
    lstm.bias_hh_l0.requires_grad_()
    assert lstm(x)[0].requires_grad
    assert spy.kept[-1]


def ragged(kind: str, lstm: LSTM, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
    """x of 6 steps and 5 rows, and the call of it as a batch that is no rectangle: its output is a dense tensor."""
    x, lengths = torch.randn(6, 5, 3, requires_grad=True), torch.tensor([4, 0, 6, 1, 3])
    reset = torch.rand(6, 5) < 0.3
    if kind == "packed":
        packed = pack_padded_sequence(x, lengths.clamp(min=1), enforce_sorted=False)
        output, states = lstm(packed, hx)
        return x, (output.data, *states)
    if kind == "nested":
        rows = torch.nested.as_nested_tensor([x[: max(1, n), k] for k, n in enumerate(lengths)], layout=torch.jagged)
        output, states = lstm(rows, hx)
        return x, (output.values(), *states)
    arguments = {
        "lengths": {"lengths": lengths},
        "reset": {"reset": reset},
        "both": {"lengths": lengths, "reset": reset},
    }
    output, states = lstm(x, hx, **arguments[kind])
    return x, (output, *states)


@pytest.mark.parametrize("kind", ["packed", "nested", "lengths", "reset", "both"])
def test_a_batch_that_is_no_rectangle_crosses_once_each_way_with_the_same_bits(kind, monkeypatch):
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2}
    torch.manual_seed(0)
    lstm = LSTM(3, 4, **options)
    states = [torch.randn(4, 5, n) for n in (2, 4)]
    found = []
    for takes_tensors in (True, False):
        spy = watch(monkeypatch, takes_tensors=takes_tensors)
        torch.manual_seed(1)
        h_0, c_0 = (t.clone().requires_grad_() for t in states)
        x, results = ragged(kind, lstm, (h_0, c_0))
        inputs = [x, h_0, c_0, *lstm.parameters()]
        found.append([*results, *torch.autograd.grad(results, inputs, [torch.randn_like(t) for t in results])])
        assert (spy.again == []) is takes_tensors
        assert len(spy.asked) == 1
    assert all(map(torch.equal, *found))


WEIGHTS = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"]


@pytest.mark.parametrize(
    "wanted",
    [{"x"}, {"h_0"}, {"c_0"}, *({name} for name in WEIGHTS), {"x", "bias_hh_l0"}],
    ids=lambda names: "-".join(sorted(names)),
)
def test_only_what_requires_grad_is_computed(wanted, spy):
    """The engine makes each gradient that is asked for, and no other; the numbers are the same."""
    lstm = double(proj_size=2)
    call = draw(lstm, 4, 2)
    everything = evaluate(lstm, call)
    evaluate(lstm, draw(lstm, 4, 2, seed=1))  # other numbers, or the scratch would hold the right sums already
    lstm.zero_grad()
    tensors = {"x": call.x, "h_0": call.hx[0], "c_0": call.hx[1], **dict(lstm.named_parameters())}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name in wanted)
    output, (h_n, c_n) = lstm(call.x, call.hx)
    torch.autograd.backward((output, h_n, c_n), call.cotangents)
    asked = zip(["x", "h_0", "c_0", *WEIGHTS], spy.asked[-1], strict=True)
    assert {name for name, is_asked in asked if is_asked} == wanted
    for name, tensor in tensors.items():
        assert (tensor.grad is not None) == (name in wanted)
        if tensor.grad is not None:
            assert torch.equal(tensor.grad, everything[f"d{name}"]), name


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 2)], ids=str)
def test_a_result_that_no_one_uses_costs_no_zeros(used, spy):
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    output, (h_n, c_n) = lstm(x)
    sum((output, h_n, c_n)[k].sum() for k in used).backward()
    assert tuple(k for k, is_there in enumerate(spy.cotangents[0]) if is_there) == used


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False, "batch_first": True}, {"proj_size": 2, "num_layers": 2, "bidirectional": True}],
    ids=str,
)
@pytest.mark.parametrize("N", [None, 1, 5], ids=["unbatched", "one", "batched"])
def test_tensors_and_addresses_give_the_same_bits(N, options, dtype, monkeypatch):
    lstm = LSTM(3, 4, dtype=dtype, **options)
    call = draw(lstm, 6, N)
    found = []
    for takes_tensors in (True, False):
        spy = watch(monkeypatch, takes_tensors=takes_tensors)
        found.append(evaluate(lstm, call))
        assert len(spy.asked) == 1
        lstm.zero_grad()
    tensors, addresses = found
    assert tensors.keys() == addresses.keys()
    for name, t in tensors.items():
        assert torch.equal(t, addresses[name]), name


def freed(tensor: Tensor) -> None:
    tensor.untyped_storage().resize_(0)


def laid_otherwise(tensor: Tensor) -> Tensor:
    tensor.data = tensor.data.transpose(0, 1).contiguous().transpose(0, 1)
    return tensor


CHANGED = {
    "another dtype": lambda lstm, y, d: setattr(lstm.weight_hh_l0, "data", lstm.weight_hh_l0.data.double()),
    "another shape": lambda lstm, y, d: setattr(lstm.weight_hh_l0, "data", torch.zeros(1, 1)),
    "nothing left of a weight": lambda lstm, y, d: setattr(lstm.weight_hh_l0, "data", torch.empty(0)),
    "no memory of the input": lambda lstm, y, d: freed(y),
    "no memory of a gradient": lambda lstm, y, d: freed(d),
    "no memory of one that lies otherwise": lambda lstm, y, d: freed(laid_otherwise(d)),
}


@pytest.mark.parametrize("change", CHANGED)
def test_what_lost_its_data_after_forward_is_refused(change, spy):
    lstm, x = LSTM(8, 8), torch.randn(5, 2, 8, requires_grad=True)
    y = x * 1.5
    output, _ = lstm(y)
    d = torch.randn_like(output)
    CHANGED[change](lstm, y, d)
    with pytest.raises(RuntimeError, match="has other data than it had in forward"):
        output.backward(d)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [(kind, changed) for kind in ("rectangle", "packed") for changed in ("x", "h_0", "c_0")]
    + [("lengths", "h_0"), ("lengths", "c_0")],  # of its x it keeps a view, which stays
)
def test_what_has_other_sizes_since_forward_is_refused(kind, changed, spy):
    lstm = LSTM(3, 4)
    states = (torch.randn(1, 5, 4, requires_grad=True), torch.randn(1, 5, 4, requires_grad=True))
    x = torch.randn(6, 5, 3, requires_grad=True)
    if kind == "packed":
        packed = pack_padded_sequence(x, torch.tensor([6, 5, 3, 2, 1]))
        x = packed.data.detach().requires_grad_()
        output = lstm(packed._replace(data=x), states)[0].data
    else:
        lengths = {"lengths": torch.tensor([6, 5, 3, 2, 1])} if kind == "lengths" else {}
        output = lstm(x, states, **lengths)[0]
    tensor = {"x": x, "h_0": states[0], "c_0": states[1]}[changed]
    tensor.data = tensor.data[..., :1, :].clone()
    with pytest.raises(RuntimeError, match="has other data than it had in forward"):
        output.sum().backward()


def test_what_lies_otherwise_in_memory_since_forward_gives_the_same_gradients(spy):
    lstm, x = LSTM(8, 8), torch.randn(5, 2, 8, requires_grad=True)
    (expected,) = torch.autograd.grad(lstm(x)[0].sum(), x)
    output, _ = lstm(x)
    lstm.weight_hh_l0.data = lstm.weight_hh_l0.data.t().contiguous().t()
    (dx,) = torch.autograd.grad(output.sum(), x)
    assert torch.equal(dx, expected)


def test_retain_graph_and_its_end():
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    loss = lstm(x)[0].square().sum()
    node = loss.grad_fn.next_functions[0][0].next_functions[0][0]
    found = [torch.autograd.grad(loss, lstm.weight_hh_l0, retain_graph=True)[0] for _ in range(2)]
    assert torch.equal(*found)
    assert node.kept is not None
    assert torch.equal(found[0], torch.autograd.grad(loss, lstm.weight_hh_l0)[0])
    assert node.kept is None, "the workspace is kept though nothing can use it"
    kind, words = outcome(loss.backward)
    assert kind is RuntimeError
    assert "a second time" in words


def test_the_graph_lets_go_of_its_workspace():
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    output = lstm(x)[0]
    alive = weakref.ref(output.grad_fn)
    del output
    gc.collect()
    assert alive() is None


def test_a_freed_storage_is_an_error_not_a_crash():
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    for broken in (lambda: lstm.bias_hh_l0, lambda: x):
        with torch.no_grad():
            storage = broken().untyped_storage()
            content = storage.tolist()
            storage.resize_(0)
            kind, words = outcome(lambda: lstm(x))
            assert (kind, "no memory" in words) == (RuntimeError, True)
            storage.resize_(len(content))
            storage.copy_(torch.tensor(content, dtype=torch.uint8).untyped_storage())
    assert lstm(x)[0].isfinite().all()


# Derivatives of any order, and batches of them


@falls_back
@pytest.mark.parametrize("lengths", [None, [3, 2]], ids=["dense", "packed"])
def test_double_backward(lengths):
    lstm = double(num_layers=2, bidirectional=True, proj_size=2)
    call = draw(lstm, 3, 2, lengths=lengths)
    data = (call.x if lengths is None else call.x.data).requires_grad_()
    h_0, c_0 = (t.requires_grad_() for t in call.hx)
    names = [name for name, _ in lstm.named_parameters()]

    def run(data: Tensor, h_0: Tensor, c_0: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        x = data if lengths is None else call.x._replace(data=data)
        named = dict(zip(names, weights, strict=True))
        output, states = torch.func.functional_call(lstm, named, (x, (h_0, c_0)))
        return (output if lengths is None else output.data), *states

    assert torch.autograd.gradgradcheck(run, (data, h_0, c_0, *lstm.parameters()), fast_mode=True)


@falls_back
def test_double_backward_where_one_input_is_made_of_another():
    """x is also h_0: each gradient must flow through its own argument alone, or it is counted twice."""

    def penalty(lstm: nn.Module) -> tuple[Tensor, ...]:
        x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(1, 3, 4).requires_grad_()
        output, _ = lstm(x.sin(), (x, x.cos()))
        (dx,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), [x, lstm.weight_hh_l0])

    ours = LSTM(4, 4, dtype=torch.float64)
    found, expected = penalty(ours), penalty(twin(ours))
    assert_close(dict(zip("xw", found, strict=True)), dict(zip("xw", expected, strict=True)))


@falls_back
def test_gradients_of_many_cotangents_at_once():
    lstm = double(bidirectional=True)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.autograd.functional.jacobian(lambda x: lstm(x)[0].sum(0), x, vectorize=True)
    expected = torch.autograd.functional.jacobian(lambda x: lstm(x)[0].sum(0), x)
    assert_close({"rows": rows}, {"rows": expected})


@falls_back
@uses_jit
def test_transforms_give_what_reverse_mode_gives_on_nn_lstm():
    ours = double(num_layers=2, bidirectional=True)
    theirs = twin(ours)
    x, v = torch.randn(2, 4, 2, 3, dtype=torch.float64).unbind()
    both = torch.stack([x, v], 1)

    def total(x: Tensor, lstm: nn.Module = ours) -> Tensor:
        return lstm(x)[0].square().sum()

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(ours, parameters, (x,))[0].square().sum()

    def forward_mode() -> Tensor:
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, v)
            return torch.autograd.forward_ad.unpack_dual(total(dual)).tangent

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 1))(dict(ours.named_parameters()), both)
    found = {
        "grad": torch.func.grad(total)(x),
        "vmap": torch.func.vmap(lambda x: ours(x)[0], in_dims=1, out_dims=1)(both),
        "jvp": torch.func.jvp(total, (x,), (v,))[1],
        "forward mode": forward_mode(),
        "jacfwd": torch.func.jacfwd(total)(x),
        "hessian": torch.func.hessian(total)(x),
        "per sample": per_sample["weight_hh_l1"],
    }
    (slope,) = torch.autograd.grad(total(x.requires_grad_(), theirs), x)
    expected = {
        "grad": slope,
        "vmap": torch.stack([theirs(x)[0], theirs(v)[0]], 1),
        "jvp": (slope * v).sum(),
        "forward mode": (slope * v).sum(),
        "jacfwd": slope,
        "hessian": torch.autograd.functional.hessian(lambda x: total(x, theirs), x),
        "per sample": torch.stack([torch.autograd.grad(total(t, theirs), theirs.weight_hh_l1)[0] for t in (x, v)]),
    }
    assert_close(found, expected)
