"""The op where something records it: torch's own checks, compile, export, jit.trace, checkpointing, hooks on what is
saved.
"""

import copy
import io
import itertools
import warnings
from typing import Any

import pytest
import torch
from conftest import assert_bits, assert_close, draw, evaluate, outcome
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from fastlstm import LSTM, LSTMCell, _engine
from fastlstm.torch.batch import Rows
from fastlstm.torch.graph import operator
from fastlstm.torch.runners.fallback import FallbackWarning
from fastlstm.weights import Sizes
from tests.tolerances import TOLERANCE

falls_back = pytest.mark.filterwarnings(f"ignore::{FallbackWarning.__module__}.{FallbackWarning.__name__}")
uses_jit = pytest.mark.filterwarnings("ignore:`torch.jit")  # deprecated, and used by people and by torch itself


def double(**options: Any) -> LSTM:
    return LSTM(3, 4, dtype=torch.float64, **options)


DENSE = Rows()
CONFIGURATIONS = [
    {},
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "proj_size": 2},
]


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_the_operators_keep_torchs_rules(options, save):
    """Schema, fake kernel, autograd registration and tracing with symbolic shapes, as torch itself checks them."""
    lstm = double(**options)
    call = draw(lstm, 4, 2)
    sizes = lstm._sizes
    weights = [p.detach().requires_grad_(save) for p in lstm.parameters()]
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=save)
    masks = [torch.ones(4, 2, sizes.D * sizes.out, dtype=torch.float64)] * (sizes.layers - 1)
    per_row = operator.saved_reals(*sizes.numbers, dtype="float64") if save else 0
    arguments = (x, *call.hx, weights, masks, False, None, None, None, None, sizes.numbers, per_row)
    torch.library.opcheck(operator.lstm, arguments)
    packed = torch.tensor([2, 2, 2, 1])
    arguments = (
        x.detach().reshape(-1, 3)[:7].requires_grad_(save),
        *call.hx,
        weights,
        [],
        False,
        None,
        None,
        packed,
        None,
        sizes.numbers,
        per_row,
    )
    torch.library.opcheck(operator.lstm, arguments)


DTYPES = ["float32", "float64", "bfloat16", "float16"]


def test_saved_is_linear_in_the_rows_for_the_fake_kernel_to_know():
    for H, P, layers, D, kind in itertools.product([1, 7, 64], [0, 3], [1, 2], [1, 2], DTYPES):
        if P >= H:
            continue
        sizes, dtype = Sizes(5, H, P, layers, D), getattr(torch, kind)
        one = sizes.layer.saved_reals(kind)
        weights = [torch.zeros(shape, dtype=dtype) for shape in sizes.shapes]

        def kept(rows, *more, sizes=sizes, weights=weights, dtype=dtype):
            done = _engine.forward(sizes.layer, weights, torch.zeros(*rows, 5, dtype=dtype), None, 1, *more, keep=True)
            return done[2]

        for T, N in ((1, 1), (3, 7), (500, 2), (2, 700)):
            assert kept((T, N)).reals == T * N * one
        assert kept((8,), False, None, None, torch.tensor([5, 2, 1])).reals == 8 * one
        assert kept((5, 3), False, torch.tensor([5, 2, 4])).reals == 11 * one


def test_the_operator_refuses_what_does_not_fit():
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    h_0, c_0 = torch.zeros(2, 1, 2, 4)
    weights, numbers = list(lstm.parameters()), lstm._sizes.numbers

    def run(*changed: Any) -> tuple[type[BaseException] | None, str]:
        return outcome(lambda: operator.lstm(*changed[:5], False, None, None, changed[5], None, numbers, 0))

    assert run(x, h_0, c_0, weights, [], None) == (None, "")
    for kind, words in (
        run(x[..., :2], h_0, c_0, weights, [], None),
        run(x, h_0[..., :3], c_0, weights, [], None),
        run(x, h_0, c_0[:, :1], weights, [], None),
        run(x, h_0, c_0, weights[:3], [], None),
        run(x, h_0, c_0, [weights[1], weights[0], *weights[2:]], [], None),
        run(x[:0], h_0, c_0, weights, [], None),
        run(x.double(), h_0, c_0, weights, [], None),
        run(x[0], h_0, c_0, weights, [], torch.tensor([2, 1])),
    ):
        assert kind is RuntimeError
        assert "expected" in words.lower() or "add up to" in words
    kind, words = outcome(lambda: operator.lstm(x, h_0, c_0, weights, [], *DENSE, numbers, 1))
    assert kind is RuntimeError
    assert "another instruction set or version" in words


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("options", [*CONFIGURATIONS, {"num_layers": 2, "dropout": 0.5}], ids=str)
def test_compile_without_a_graph_break(options):
    lstm = double(**options)
    compiled = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    call = draw(lstm, 4, 2)
    results = [evaluate(copy.deepcopy(lstm), call)]
    x, h_0, c_0 = (t.clone().requires_grad_() for t in (call.x, *call.hx))
    torch.manual_seed(0)
    output, (h_n, c_n) = compiled(x, (h_0, c_0))
    torch.autograd.backward((output, h_n, c_n), call.cotangents)
    gradients = {f"d{name}": p.grad for name, p in lstm.named_parameters()}
    found = {"output": output, "h_n": h_n, "c_n": c_n, "dx": x.grad, "dh_0": h_0.grad, "dc_0": c_0.grad, **gradients}
    assert_bits({name: None if t is None else t.detach() for name, t in found.items()}, results[0])
    assert output.stride() == lstm(call.x)[0].stride()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("ragged", [False, True])
def test_compile_with_states_of_any_stride(ragged):
    lstm, x = LSTM(3, 4, 2), torch.randn(5, 2, 3)
    hx = tuple(torch.randn(2, 2, 4).transpose(0, 1) for _ in range(2))
    arguments = {"lengths": torch.tensor([5, 2])} if ragged else {}
    compiled = torch.compile(lambda x, hx: lstm(x, hx, **arguments)[0], backend="aot_eager")
    torch.testing.assert_close(compiled(x, hx), lstm(x, hx, **arguments)[0])


@pytest.mark.usefixtures("compiler")
def test_compile_follows_the_sizes_of_a_call():
    lstm, cell = LSTM(3, 4, batch_first=True), LSTMCell(3, 4)
    steps = torch.compile(lstm, fullgraph=True, dynamic=True, backend="aot_eager")
    step = torch.compile(cell, fullgraph=True, dynamic=True, backend="aot_eager")
    for N, T in ((2, 5), (3, 6), (7, 4)):
        x = torch.randn(N, T, 3)
        assert torch.equal(steps(x)[0], lstm(x)[0])
        assert torch.equal(step(x[:, 0])[1], cell(x[:, 0])[1])
        with torch.no_grad():
            assert torch.equal(steps(x)[0], lstm(x)[0])


@pytest.mark.usefixtures("compiler")
def test_compile_with_16_bits_autocast_packed_data_and_transforms():
    half, x = LSTM(3, 4, dtype=torch.bfloat16), torch.randn(5, 2, 3)
    compiled = torch.compile(half, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x.bfloat16())[0], half(x.bfloat16())[0])
    lstm = LSTM(3, 4)
    compiled = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(x)[0], lstm(x)[0])
    packed = pack_padded_sequence(x, torch.tensor([5, 3]))
    assert torch.equal(torch.compile(lstm, backend="aot_eager")(packed)[0].data, lstm(packed)[0].data)
    slope = torch.func.grad(lambda x: lstm(x)[0].sum())
    found = torch.compile(slope, fullgraph=True, backend="aot_eager")(x)
    (expected,) = torch.autograd.grad(lstm(x.requires_grad_())[0].sum(), x)
    assert_close({"dx": found}, {"dx": expected})


@pytest.mark.slow
@uses_jit
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("isa", _engine.isas())
def test_compile_with_inductor_whatever_its_cache_remembers(isa):
    """The compiler keeps graphs on disk: one made for an instruction set must not come back for another."""
    used = _engine.isa()
    _engine.use_isa(isa)
    try:
        compile_and_compare()
    finally:
        _engine.use_isa(used)


def compile_and_compare() -> None:
    lstm, x = LSTM(3, 4, 2), torch.randn(5, 2, 3)
    compiled = torch.compile(lstm, fullgraph=True)
    output, _ = compiled(x)
    output.sum().backward()
    found = {name: p.grad.clone() for name, p in lstm.named_parameters()}
    lstm.zero_grad()
    lstm(x)[0].sum().backward()
    assert_bits(found, {name: p.grad for name, p in lstm.named_parameters()})


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("strict", [False, True])
def test_export_with_sizes_left_open(strict):
    lstm, x = LSTM(3, 4, 2, bidirectional=True).eval(), torch.randn(5, 2, 3)
    sizes = {"input": {0: torch.export.Dim("L", min=2), 1: torch.export.Dim("N", min=2)}}
    exported = torch.export.export(lstm, (x,), dynamic_shapes=sizes, strict=strict)
    operators = [str(node.target) for node in exported.graph.nodes if "fastlstm" in str(node.target)]
    assert operators == ["fastlstm.lstm.default"]
    other = torch.randn(7, 4, 3)
    assert torch.equal(exported.module()(other)[0], lstm(other)[0])


class Model(nn.Module):
    """A model that packs what it is given, between other layers."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.lstm = LSTM(3, 4, batch_first=True, **options)
        self.cell = LSTMCell(4, 2)
        self.head = nn.Linear(2, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, (h_n, _) = self.lstm(packed)
        padded, _ = pad_packed_sequence(output, batch_first=True)
        unpacked, _ = self.lstm(x, (h_n.relu(), h_n.tanh()))
        h, _ = self.cell(padded[:, 0] + unpacked[:, -1])
        return self.head(h)


@uses_jit
@pytest.mark.parametrize("train", [False, True])
def test_jit_trace_follows_sizes_lengths_and_gradients(train):
    """Traced with one batch, saved, loaded and run with another: no TracerWarning, the same numbers, the same
    gradients.
    """
    model = Model().train(train)
    traced = torch.jit.trace(model, (torch.randn(2, 5, 3), torch.tensor([3, 5])))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    x, lengths = torch.randn(4, 7, 3), torch.tensor([1, 7, 4, 4])
    found, expected = loaded(x, lengths), model(x, lengths)
    assert torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    gradients = {name: p.grad for name, p in loaded.named_parameters()}
    assert_bits(gradients, {name: p.grad for name, p in model.named_parameters()})
    with torch.no_grad():
        assert torch.equal(loaded(x, lengths), model(x, lengths))


@uses_jit
def test_a_trace_still_checks_and_still_drops():
    lstm = LSTM(3, 4, 2, dropout=0.5)
    traced = torch.jit.trace(lstm, torch.randn(5, 2, 3), check_trace=False)
    x = torch.randn(6, 3, 3)
    torch.manual_seed(1)
    found = traced(x)[0]
    torch.manual_seed(1)
    assert torch.equal(found, lstm(x)[0])
    kind, words = outcome(lambda: traced(torch.randn(6, 3, 2)))
    assert kind is RuntimeError
    assert "expected input (L, N, H_in) = (6, 3, 3), got [6, 3, 2]" in words


@uses_jit
def test_a_traced_unbatched_call():
    lstm = LSTM(3, 4)
    traced = torch.jit.trace(lstm, torch.randn(5, 3))
    x = torch.randn(7, 3)
    for found, expected in zip((traced(x)[0], *traced(x)[1]), (lstm(x)[0], *lstm(x)[1]), strict=True):
        assert found.shape == expected.shape
        assert torch.equal(found, expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant):
    lstm = LSTM(3, 4, 2, dropout=0.5)
    call = draw(lstm, 5, 2)
    expected = evaluate(lstm, call)

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = lstm
            self.named_parameters = lstm.named_parameters

        def forward(self, x: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            def run(x: Tensor, h_0: Tensor, c_0: Tensor) -> tuple[Tensor, ...]:
                output, states = self.lstm(x, (h_0, c_0))
                return output, *states

            output, h_n, c_n = checkpoint(run, x, *hx, use_reentrant=use_reentrant)
            return output, (h_n, c_n)

    assert_bits(evaluate(Checkpointed(), call), expected)


def test_hooks_on_saved_tensors_see_all_that_is_saved():
    """So that checkpointing and offloading really free the memory."""
    lstm, x = LSTM(3, 64), torch.randn(50, 4, 3)
    packed = []

    def pack(tensor: Tensor) -> Tensor:
        packed.append(tensor.numel())
        return tensor.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output, _ = lstm(x)
    assert sum(packed) > 50 * 4 * 64 * 4, "the gates did not pass the hook"
    output.sum().backward()
    found = {name: p.grad.clone() for name, p in lstm.named_parameters()}
    lstm.zero_grad()
    lstm(x)[0].sum().backward()
    assert_bits(found, {name: p.grad for name, p in lstm.named_parameters()})


@falls_back
def test_double_backward_of_a_recorded_call():
    lstm = double()
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)

    def penalty() -> Tensor:
        (dx,) = torch.autograd.grad(lstm(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), x)[0]

    expected = penalty()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        found = penalty()
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE[torch.float64, "value"])


def test_fake_tensors_run_nothing():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        output, (h_n, _) = LSTM(3, 4, 2, batch_first=True)(torch.randn(2, 5, 3))
    assert (output.shape, h_n.shape) == ((2, 5, 4), (2, 2, 4))


def test_sizes_are_what_an_operator_can_carry():
    sizes = Sizes(3, 5, 2, 2, 2, False)
    assert sizes.numbers == (3, 5, 2, 2, 2, 0)
    assert Sizes(*sizes.numbers[:5], bool(sizes.numbers[5])) == sizes


@pytest.mark.parametrize(
    "wrong",
    [{"doutput": (1, 2, 4)}, {"doutput": (5, 2, 1)}, {"dh_n": (1, 1, 4)}, {"dc_n": (2, 2, 4)}, {"saved": None}],
    ids=str,
)
def test_the_backward_operator_refuses_what_does_not_fit(wrong):
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    h_0, c_0 = torch.zeros(2, 1, 2, 4)
    weights, numbers = list(lstm.parameters()), lstm._sizes.numbers
    per_row = operator.saved_reals(3, 4, 0, 1, 1, 1, dtype="float32")
    output, h_n, c_n, saved = operator.lstm(x, h_0, c_0, weights, [], *DENSE, numbers, per_row)
    given = {
        "saved": saved,
        "doutput": torch.ones_like(output),
        "dh_n": torch.ones_like(h_n),
        "dc_n": torch.ones_like(c_n),
    }

    def run(**changed: Tensor) -> object:
        return operator.lstm_backward(
            x, h_0, c_0, weights, [], *DENSE, numbers, *{**given, **changed}.values(), [True] * 7
        )

    assert outcome(run) == (None, "")
    kind, _ = outcome(
        lambda: run(**{k: saved.to(torch.uint8) if v is None else torch.ones(v) for k, v in wrong.items()})
    )
    assert kind is RuntimeError


def test_an_onnx_export_sees_torchs_operator(monkeypatch):
    """torch.onnx.export (dynamo=False) traces the model, and knows aten::lstm."""
    model, x = nn.Sequential(LSTM(3, 4, 2, bidirectional=True)).eval(), torch.randn(5, 2, 3)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, (x,))
    assert "aten::lstm" in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), model(x))


def test_a_traced_cell_is_a_cell_under_autocast():
    """Whose states keep a wider dtype, where a layer's are rounded."""
    cell, x, hx = LSTMCell(3, 4), torch.randn(2, 3), (torch.randn(2, 4), torch.randn(2, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(cell, (x, hx))
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = cell(x, hx), traced(x, hx)
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    torch.testing.assert_close(found, expected)
