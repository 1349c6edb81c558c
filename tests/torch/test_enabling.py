"""enable(): nn.LSTM and nn.LSTMCell as they are, on the engine; and torch's own bits where it is off or can't."""

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import fastlstm
from fastlstm.torch.adopt import enabling
from tests.conftest import assert_bits, assert_close, draw, evaluate, outcome, run_python
from tests.doubles import CountingEngine

uses_jit = pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "bias": False},
    {"num_layers": 2, "proj_size": 2, "bidirectional": True},
    {"num_layers": 2, "dropout": 0.5},
]


@pytest.fixture(autouse=True)
def off_afterwards():
    yield
    fastlstm.disable()


@pytest.fixture
def runs(monkeypatch):
    """How often the engine ran."""
    counted: list[int] = []
    for module in ("graph.function", "adopt.enabling"):
        monkeypatch.setattr(f"fastlstm.torch.{module}._engine", CountingEngine(counted))
    return counted


def wide(lstm: nn.LSTM) -> nn.LSTM:
    theirs = nn.LSTM(
        lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.bias, lstm.batch_first, lstm.dropout, lstm.bidirectional,
        lstm.proj_size, dtype=torch.float64,
    )  # fmt: skip
    theirs.load_state_dict(lstm.state_dict())
    return theirs.train(lstm.training)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_call_runs_on_the_engine_with_the_same_numbers(options, packed, runs):
    lstm = nn.LSTM(3, 4, **options)  # constructed before
    call = draw(lstm, 7, 3, lengths=[3, 7, 1] if packed else None, enforce_sorted=False)
    expected = evaluate(wide(lstm), call.to(torch.float64))
    fastlstm.enable()
    found = evaluate(lstm, call)
    assert len(runs) == 1
    if not lstm.dropout:  # float64 draws other masks
        assert_close(found, expected, torch.float32)
    torch.manual_seed(0)
    ours = fastlstm.LSTM(3, 4, **options)
    ours.load_state_dict(lstm.state_dict())
    assert_bits(found, evaluate(ours, call))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode, runs):
    lstm = nn.LSTM(3, 4, 2)
    x = torch.randn(5, 2, 3)
    expected, _ = lstm(x)
    with fastlstm.enabled(), mode():
        output, _ = lstm(x)
        unbatched, _ = lstm(x[:, 0])
    assert len(runs) == 2
    torch.testing.assert_close(output, expected.detach())
    torch.testing.assert_close(unbatched, expected[:, 0].detach())


def test_subclasses_and_modules_constructed_afterwards(runs):
    class Theirs(nn.LSTM):
        def forward(self, x: Tensor, hx=None):
            return super().forward(2 * x, hx)

    fastlstm.enable()
    lstm = Theirs(3, 4)
    lstm(torch.randn(5, 2, 3))
    assert len(runs) == 1


def test_cells(runs):
    cell = nn.LSTMCell(3, 4)
    x, hx = torch.randn(2, 3, requires_grad=True), (torch.randn(2, 4), torch.randn(2, 4))
    expected = cell(x, hx)
    (theirs,) = torch.autograd.grad(expected[0].sum() + expected[1].sum(), x)
    with fastlstm.enabled():
        found = cell(x, hx)
        (ours,) = torch.autograd.grad(found[0].sum() + found[1].sum(), x)
        cell(x[0])
    assert len(runs) == 2
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, theirs)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.lstm(x)
        return self.head(output)


@uses_jit
@pytest.mark.parametrize("traced_while_on", [False, True])
@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript(how, traced_while_on, runs):
    model, x = Model(), torch.randn(2, 5, 3)
    expected = model(x)
    gradients = torch.autograd.grad(expected.sum(), list(model.parameters()))
    if traced_while_on:
        fastlstm.enable()
    scripted = torch.jit.script(model) if how == "script" else torch.jit.trace(model, (x,))
    assert "fastlstm::" not in str(scripted.inlined_graph)  # paths of sources are in it, too
    assert "aten::lstm" in str(scripted.inlined_graph)
    fastlstm.enable()
    for _ in range(3):  # the interpreter specialises in its first runs
        runs.clear()
        found = scripted(x)
        assert len(runs) == 1
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found.sum(), list(scripted.parameters())), gradients)
    fastlstm.disable()
    runs.clear()
    assert torch.equal(scripted(x), expected)
    assert not runs


@uses_jit
def test_torchscript_in_several_threads(runs):
    scripted, x = torch.jit.script(Model()), torch.randn(2, 5, 3)
    fastlstm.enable()
    expected = scripted(x).detach()
    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.extend(scripted(x).detach() for _ in range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(torch.equal(t, expected) for t in found)
    assert len(runs) == 1 + 4 * 20


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_disable_restores_torchs_bits(options):
    lstm = nn.LSTM(3, 4, **options)
    call = draw(lstm, 7, 3)
    before = evaluate(lstm, call)
    fastlstm.enable()
    evaluate(lstm, call)
    fastlstm.disable()
    assert_bits(evaluate(lstm, call), before)
    assert "Recurrence" not in type(lstm(call.x, call.hx)[0].grad_fn).__name__


def test_blocks_nest_and_calls_repeat(runs):
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)

    def on() -> bool:
        runs.clear()
        lstm(x)
        return bool(runs)

    assert not on()
    fastlstm.enable()
    fastlstm.enable()
    assert on()
    with fastlstm.enabled():
        assert on()
    assert on()
    fastlstm.disable()
    fastlstm.disable()
    assert not on()
    with fastlstm.enabled():
        with fastlstm.enabled():
            assert on()
        assert on()
    assert not on()

    def fails() -> None:
        with fastlstm.enabled():
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert not on()
    with fastlstm.enabled():
        fastlstm.disable()
        assert not on()
        with fastlstm.enabled():
            assert on()
        assert not on()
    assert not on()
    fastlstm.enable()
    with fastlstm.enabled():
        fastlstm.disable()
    assert on()
    fastlstm.disable()
    with fastlstm.enabled():
        fastlstm.enable()
    assert not on()


def test_a_block_that_ends_first_leaves_the_other_threads_on(runs):
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    first, second = fastlstm.enabled(), fastlstm.enabled()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    lstm(x)
    assert len(runs) == 1
    second.__exit__(None, None, None)
    lstm(x)
    assert len(runs) == 1


def test_a_forked_child_has_its_parents_state():
    printed = run_python(
        "import os, torch, fastlstm\n"
        "from fastlstm.torch.adopt.enabling import _state\n"
        "fastlstm.enable()\n"
        "_state.lock.acquire()\n"  # as another thread might at that moment
        "child = os.fork()\n"
        "if child == 0:\n"
        "    assert _state.active\n"
        "    torch.nn.LSTM(3, 4)(torch.randn(5, 2, 3))[0].sum().backward()\n"
        "    fastlstm.disable()\n"
        "    os._exit(int(_state.active))\n"
        "print(os.waitpid(child, 0)[1])\n"
    )
    assert printed.strip() == "0"


def test_blocks_of_many_threads_overlap():
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    expected = fastlstm.LSTM(3, 4)
    expected.load_state_dict(lstm.state_dict())
    bits = expected(x)[0].detach()
    wrong = []

    def work() -> None:
        for _ in range(50):
            with fastlstm.enabled():
                if not torch.equal(lstm(x)[0], bits):
                    wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not enabling._state.active


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_dropout_follows_the_mode(train, grad, packed):
    lstm = nn.LSTM(3, 4, 2, dropout=0.5).train(train)
    call = draw(lstm, 7, 3, lengths=[7, 3, 1] if packed else None)

    def run() -> Tensor:
        torch.manual_seed(3)
        output = lstm(call.x, call.hx)[0]
        return (output.data if packed else output).detach()

    with torch.set_grad_enabled(grad):
        expected = run()
        with fastlstm.enabled():
            torch.testing.assert_close(run(), expected)


@pytest.mark.parametrize("wrong", ["features", "states", "dtype", "length", "batch", "too few rows", "a step of none"])
def test_errors_are_torchs_own(wrong):
    lstm = nn.LSTM(3, 4)
    x, h, c = torch.zeros(5, 2, 3), torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)
    calls = {
        "features": lambda: torch.lstm(x[..., :2], (h, c), lstm._flat_weights, True, 1, 0.0, False, False, False),
        "states": lambda: torch.lstm(x, (h,), lstm._flat_weights, True, 1, 0.0, False, False, False),
        "dtype": lambda: torch.lstm(x.double(), (h, c), lstm._flat_weights, True, 1, 0.0, False, False, False),
        "length": lambda: lstm(x[:0]),
        "batch": lambda: lstm(PackedSequence(x[:, 0], torch.tensor([1, 2, 2]))),
        "too few rows": lambda: lstm(PackedSequence(x[:, 0], torch.tensor([2, 2, 2]))),
        "a step of none": lambda: lstm(PackedSequence(x[:4, 0], torch.tensor([2, 2, 0]))),
    }
    expected = outcome(calls[wrong])
    fastlstm.enable()
    assert outcome(calls[wrong]) == expected


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_what_the_engine_cannot_take_goes_to_torch(runs):
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    cases = {
        "complex": lambda: nn.LSTM(3, 4, dtype=torch.complex64)(x.to(torch.complex64))[0].shape,
        "an empty batch": lambda: lstm(x[:, :0])[0].shape,
        "meta": lambda: nn.LSTM(3, 4, device="meta")(x.to("meta"))[0].shape,
        "a transform": lambda: torch.func.grad(lambda t: nn.LSTM(3, 4)(t)[0].sum())(x).shape,
    }
    expected = {name: outcome(case) for name, case in cases.items()}
    fastlstm.enable()
    assert {name: outcome(case) for name, case in cases.items()} == expected
    assert not runs


@pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights", "ignore:`isinstance.treespec, LeafSpec")
@pytest.mark.parametrize("on", [True, False])
def test_what_records_a_model_decomposes_it_as_before(on):
    """Sizes left open: torch's decomposition in Python takes them, the one in C++ doesn't."""
    fastlstm.enable()
    if not on:
        fastlstm.disable()
    model, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    exported = torch.export.export(model, (x,), dynamic_shapes=({1: torch.export.Dim("N")},))
    assert "aten.lstm.input" in str(exported.graph)
    decomposed = exported.run_decompositions()
    assert "aten.lstm" not in str(decomposed.graph)
    for N in (2, 3):
        x = torch.randn(5, N, 3)
        torch.testing.assert_close(decomposed.module()(x), model(x))


def test_a_cell_of_no_units_goes_to_torch():
    cell, x = nn.LSTMCell(3, 0), torch.randn(2, 3)
    with fastlstm.enabled():
        assert [t.shape for t in cell(x)] == [(2, 0), (2, 0)]


def test_it_is_quiet(recwarn, capfd):
    with fastlstm.enabled():
        nn.LSTM(3, 4)(torch.randn(5, 2, 3))
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_a_compiled_model_computes_the_same():
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    with fastlstm.enabled():
        compiled = torch.compile(lambda t: lstm(t)[0], backend="eager")
        torch.testing.assert_close(compiled(x), lstm(x)[0])
