"""torch.jit.script: the layer's numbers from torch's operators, without fastlstm too; the model stays as it is."""

import copy
import operator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_close, run_python, twin
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")

X, LENGTHS = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 5, 1])


class Calls(nn.Module):
    """Every kind of call that both nn's layers and ours take."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor):
        output, last = self.layer(x)
        again, _ = self.layer(x, last)
        rows = pack_padded_sequence(x, lengths, self.layer.batch_first, enforce_sorted=False)
        packed, ends = self.layer(rows)
        more, _ = self.layer(rows, ends)
        alone, state = self.layer(x[0])
        return output, last, again, pad_packed_sequence(packed)[0], ends, more.data, alone, self.layer(x[0], state)


class Steps(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.layer = cell

    def forward(self, x: Tensor, lengths: Tensor):
        state, alone = self.layer(x[0]), self.layer(x[0, 0])
        return self.layer(x[1], state), self.layer(x[1, 0], alone)


LAYERS: list[tuple[Any, dict[str, Any]]] = [
    (kind, options)
    for kind in (LSTM, GRU)
    for options in (
        {"num_layers": 2, "bidirectional": True},
        {"batch_first": True, "bias": False},
        {"dtype": torch.float64, "checkpoint_every": 4},
    )
] + [(LSTM, {"proj_size": 2, "num_layers": 2}), (LSTMCell, {}), (GRUCell, {"bias": False})]


def model_of(kind: Any, options: dict[str, Any]) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    layer = kind(4, 6, **options)
    model = Steps(layer) if kind in (LSTMCell, GRUCell) else Calls(layer)
    x = X.to(options.get("dtype"))
    return model, (x.transpose(0, 1) if options.get("batch_first") else x, LENGTHS)


def leaves(results: Any) -> list[Tensor]:
    return [t for part in results for t in leaves(part)] if isinstance(results, tuple) else [results]


def test_a_script_has_the_numbers_where_fastlstm_is_not_installed(tmp_path: Path) -> None:
    expected = []
    for k, (kind, options) in enumerate(LAYERS):
        model, call = model_of(kind, options)
        scripted = torch.jit.script(model)
        assert type(model.layer) is kind
        assert list(scripted.state_dict()) == list(model.state_dict())
        torch.testing.assert_close(scripted(*call), model(*call), rtol=2e-6, atol=2e-6)
        torch.jit.save(scripted, str(tmp_path / f"{k}.pt"))
        expected.append((call, [t.detach() for t in leaves(model(*call))]))
    torch.save(expected, tmp_path / "expected.pt")
    run_python(
        "import sys\n"
        "sys.modules['fastlstm'] = None\n"  # as if it were not installed
        "import torch\n"
        "def leaves(r): return [t for p in r for t in leaves(p)] if isinstance(r, tuple) else [r]\n"
        f"for k, (call, expected) in enumerate(torch.load({str(tmp_path / 'expected.pt')!r})):\n"
        f"    found = leaves(torch.jit.load(f'{tmp_path}/{{k}}.pt')(*call))\n"
        "    torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-6)\n"
    )


@pytest.mark.parametrize(("kind", "options"), LAYERS, ids=str)
def test_a_script_trains_the_parameters_of_the_model(kind: Any, options: dict[str, Any]) -> None:
    model, call = model_of(kind, options)
    scripted, theirs = torch.jit.script(model), copy.deepcopy(model)
    fastlstm.revert(theirs)
    for run in (scripted, theirs):
        sum(t.sin().sum() for t in leaves(run(*call))).backward()
    found, expected = ({name: p.grad for name, p in m.named_parameters()} for m in (model, theirs))
    assert_close(found, expected, options.get("dtype"))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    torch.testing.assert_close(scripted(*call), model(*call), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("kind", [LSTM, GRU, LSTMCell, GRUCell])
def test_a_model_is_after_it_what_it_was(kind: Any) -> None:
    module = kind(4, 6)
    model = nn.Sequential(module)
    attributes, expected = set(module.__getstate__()), module(X[0])
    torch.jit.script(model)
    assert model[0] is module
    assert type(module) is kind
    assert set(module.__getstate__()) == attributes
    assert all(map(torch.equal, leaves(module(X[0])), leaves(expected)))
    fastlstm.revert(model)
    torch.jit.script(model)
    fastlstm.convert(model)
    torch.jit.script(model)


@pytest.mark.parametrize("kind", [LSTM, GRU, LSTMCell, GRUCell])
def test_a_script_runs_on_the_engine_under_enable(kind: Any) -> None:
    scripted = torch.jit.script(nn.Sequential(kind(4, 6)))
    engines = {}
    for on in (False, True):
        with torch.no_grad(), fastlstm.enabled() if on else nullcontext():
            scripted(X[0])
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
                scripted(X[0])
        engines[on] = [event.name for event in profile.events() if event.name.startswith("fastlstm::")]
    assert engines == {False: [], True: [f"fastlstm::{kind.__name__.removesuffix('Cell').lower()}"]}


@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
def test_a_cell_alone_can_be_called(kind: Any) -> None:
    cell = kind(4, 6)
    torch.testing.assert_close(torch.jit.script(cell)(X[0]), cell(X[0]))


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize(
    ("shape", "words"), [((5, 2, 3), "Expected 4, got 3"), ((1, 5, 2, 4), "to be 2D or 3D, got 4D")], ids=str
)
def test_a_script_refuses_what_nn_lstm_refuses(kind: Any, shape: tuple[int, ...], words: str) -> None:
    ours, x = kind(4, 6), torch.zeros(shape)
    for layer in (ours, twin(ours)):
        with pytest.raises(torch.jit.Error, match=words):
            torch.jit.script(nn.Sequential(layer))(x)


def test_lengths_are_no_argument_of_a_script() -> None:
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = LSTM(4, 6)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output: Tensor = self.lstm(x, lengths=lengths)[0]
            return output

    model = Ragged()
    with pytest.raises(RuntimeError, match="lengths unknown"):
        torch.jit.script(model)
    model(X, LENGTHS)


class Same(LSTM):
    pass


class Doubled(LSTM):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Asks(LSTM):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class DoubledCell(LSTMCell):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def test_a_subclass_own_forward_is_compiled_or_refused() -> None:
    same = nn.Sequential(Same(4, 6))
    torch.testing.assert_close(torch.jit.script(same)(X), same(X))
    for kind in (Doubled, type("Further", (Doubled,), {}), DoubledCell):
        assert torch.equal(torch.jit.script(nn.Sequential(kind(4, 6)))(X), X * 2)
    with pytest.raises(RuntimeError, match="super"):
        torch.jit.script(nn.Sequential(Asks(4, 6)))


def test_weights_that_are_computed_are_refused() -> None:
    """The script would keep those of now, and train nothing."""
    model = nn.Sequential(parametrizations.weight_norm(LSTM(4, 6), "weight_hh_l0"))
    with pytest.raises(RuntimeError, match=r"computed of others.*remove that first"):
        torch.jit.script(model)
    nn.utils.parametrize.remove_parametrizations(model[0], "weight_hh_l0")
    torch.testing.assert_close(torch.jit.script(model)(X), model(X))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("script_first", [True, False])
def test_a_trace_is_ours_after_a_script_too(script_first: bool, tmp_path: Path) -> None:
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.more = LSTM(4, 6), GRU(6, 6)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            output: Tensor = self.more(self.rows(x, lengths=lengths)[0])[0]
            return output

    model = Ragged()
    if script_first:
        torch.jit.script(model.rows)
        torch.jit.script(nn.Sequential(model.more))
    torch.jit.save(torch.jit.trace(model, (X, LENGTHS)), str(tmp_path / "trace.pt"))
    trace = torch.jit.load(str(tmp_path / "trace.pt"))
    assert "fastlstm::layer" in str(trace.inlined_graph)
    assert "fastlstm::gru_layer" in str(trace.inlined_graph)
    assert list(trace.state_dict()) == list(model.state_dict())
    assert torch.equal(trace(X[:, :2], LENGTHS[:2]), model(X[:, :2], LENGTHS[:2]))
    for run in (model, trace):
        run(X, LENGTHS).sum().backward()
    for p, own in zip(trace.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p.grad, own.grad)


def test_a_trace_of_a_model_that_exports_a_method() -> None:
    class Exports(nn.Sequential):
        @torch.jit.export
        def of(self, x: Tensor) -> Tensor:
            return x * 2

    model = Exports(LSTM(4, 6))
    trace = torch.jit.trace(model, (X,))
    assert torch.equal(trace.of(X), X * 2)
    assert torch.equal(trace(X)[0], model(X)[0])


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_flat_weights_are_read_alone(kind: Any) -> None:
    """nn.LSTM computes with what is written there; ours with what has the name."""
    layer = kind(4, 6, 2)
    assert all(map(operator.is_, layer._flat_weights, layer.parameters()))
    assert len(layer._flat_weights) == 8
    with pytest.raises(AttributeError):
        layer._flat_weights = []
    layer.weight_hh_l0 = nn.Parameter(torch.zeros_like(layer.weight_hh_l0))
    assert layer._flat_weights[1] is layer.weight_hh_l0


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_helpers_are_torchs(kind: Any) -> None:
    ours = kind(4, 6, 2, bidirectional=True, batch_first=True)
    theirs = twin(ours)
    packed: PackedSequence = pack_padded_sequence(X, LENGTHS, enforce_sorted=False)
    for x, batch_sizes in ((X, None), (packed.data, packed.batch_sizes)):
        expected = theirs.get_expected_hidden_size(x, batch_sizes)
        assert ours.get_expected_hidden_size(x, batch_sizes) == expected
        h = torch.randn(expected)
        state = (h, h) if kind is LSTM else h
        ours.check_forward_args(x, state, batch_sizes)
        found, own = (
            layer.permute_hidden(state, None if batch_sizes is None else packed.sorted_indices)
            for layer in (ours, theirs)
        )
        assert all(map(torch.equal, leaves(found), leaves(own)))
    for layer in (ours, theirs):
        with pytest.raises(ValueError, match="does not match weight dtype"):
            layer.check_input(X.double(), None)
        with pytest.raises(RuntimeError, match="Expected hidden size"):
            layer.check_hidden_size(torch.zeros(1), (4, 3, 6))
