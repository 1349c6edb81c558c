"""convert(model, keep_type=True): an nn.LSTM and nn.LSTMCell to all who look, and on the engine when they are called."""

import copy
import inspect
import io
import pickle
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.overrides import TorchFunctionMode

import fastlstm
from tests.conftest import assert_bits, assert_close, draw, evaluate, run_python, twin
from tests.torch.kept import Model, counting, kept, on_engine

OPTIONS = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "bias": False},
    {"num_layers": 2, "proj_size": 2, "bidirectional": True},
    {"num_layers": 2, "dropout": 0.5},
]


@pytest.fixture
def runs(monkeypatch):
    return counting(monkeypatch)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_calls_run_on_the_engine_with_the_same_numbers(options, packed, runs):
    lstm = nn.LSTM(3, 4, **options)
    call = draw(lstm, 7, 3, lengths=[3, 7, 1] if packed else None, enforce_sorted=False)
    expected = evaluate(twin(lstm, torch.float64), call.to(torch.float64))
    bits = evaluate(lstm, call)
    found = evaluate(kept(lstm), call)
    assert len(runs) == 1
    if not lstm.dropout:  # float64 draws other masks
        assert_close(found, expected, torch.float32)
    ours = fastlstm.LSTM(3, 4, **options)
    ours.load_state_dict(lstm.state_dict())
    assert_bits(found, evaluate(ours, call))
    assert fastlstm.revert(lstm).changed == [""]
    assert on_engine(runs, lambda: assert_bits(evaluate(lstm, call), bits)) == 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_without_gradients(options, mode, runs):
    lstm = nn.LSTM(3, 4, **options).eval()
    call = draw(lstm, 7, 3)
    with mode():
        expected = lstm(call.x, call.hx)
        unbatched = lstm(call.x[0])
        kept(lstm)
        torch.testing.assert_close(lstm(call.x, hx=call.hx), expected)
        torch.testing.assert_close(lstm(input=call.x[0]), unbatched)
    assert len(runs) == 2


@pytest.mark.parametrize("bias", [True, False])
def test_cells(bias, runs):
    cell = nn.LSTMCell(3, 4, bias=bias)
    x, hx = torch.randn(2, 3, requires_grad=True), (torch.randn(2, 4), torch.randn(2, 4))

    def run() -> list[Tensor]:
        h, c = cell(x, hx)
        with torch.no_grad():
            alone = cell(x[0])
        return [h, c, *torch.autograd.grad(h.sum() + c.sum(), [x, *cell.parameters()]), *alone]

    expected = run()
    assert not runs
    kept(cell)
    torch.testing.assert_close(run(), expected)
    assert len(runs) == 2
    fastlstm.revert(cell)
    assert all(torch.equal(a, b) for a, b in zip(run(), expected, strict=True))


def test_it_is_what_it_was():
    model = Model()
    lstm, attributes, said = model.lstm, dict(vars(model.lstm)), repr(model)
    keys, parameters = list(model.state_dict()), list(model.parameters())
    report = fastlstm.convert(model, keep_type=True)
    assert report.changed == ["lstm", "cell"]
    assert str(report) == "lstm: changed\ncell: changed"
    assert type(model.lstm) is nn.LSTM
    assert type(model.cell) is nn.LSTMCell
    assert model.lstm is lstm
    assert repr(model) == said
    assert list(model.state_dict()) == keys
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert {name: value for name, value in vars(lstm).items() if name in attributes} == attributes
    assert {type(value) for name, value in vars(lstm).items() if name not in attributes} == {bool}
    assert not fastlstm.convert(model, keep_type=True).changed
    assert fastlstm.revert(model).changed == ["lstm", "cell"]
    assert vars(lstm) == attributes
    assert not fastlstm.revert(model).changed


def test_the_class_is_what_it_was():
    own = nn.LSTM.forward
    kept(nn.LSTM(3, 4))
    assert nn.LSTM.forward is own
    assert nn.LSTM(3, 4).forward.__func__ is own
    assert pickle.loads(pickle.dumps(nn.LSTM.forward)) is own
    assert inspect.signature(nn.LSTM(3, 4).forward) == inspect.signature(kept(nn.LSTM(3, 4)).forward)


def test_modules_without_the_mark_have_torchs_bits(runs):
    lstm = nn.LSTM(3, 4, 2)
    call = draw(lstm, 7, 3)
    before = evaluate(lstm, call)
    kept(nn.LSTM(3, 4, 2))
    assert on_engine(runs, lambda: assert_bits(evaluate(lstm, call), before)) == 0


def test_hooks_run_and_what_they_call_is_theirs(runs):
    lstm, other, x = kept(nn.LSTM(3, 4)), nn.LSTM(3, 4), torch.randn(5, 2, 3)
    seen = []
    lstm.register_forward_pre_hook(lambda *_: seen.append("pre"))
    lstm.register_forward_hook(lambda *_: seen.append(other(x)))
    lstm.register_full_backward_hook(lambda *_: seen.append("backward"))
    lstm(x.requires_grad_())[0].sum().backward()
    assert len(runs) == 1
    assert seen[0] == "pre"
    assert seen[2] == "backward"
    with torch.no_grad():
        assert on_engine(runs, lambda: lstm(x)) == 1


def copies(module: nn.Module) -> dict[str, nn.Module]:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return {
        "deepcopy": copy.deepcopy(module),
        "copy": copy.copy(module),
        "replica": module._replicate_for_data_parallel(),
        "pickle": pickle.loads(pickle.dumps(module)),
        "save": torch.load(file, weights_only=False),
    }


@pytest.mark.parametrize("how", ["deepcopy", "copy", "replica", "pickle", "save"])
def test_copies_run_on_the_engine_with_their_own_weights(how, runs):
    lstm, x = kept(nn.LSTM(3, 4)), torch.randn(5, 2, 3)
    again = copies(lstm)[how]
    with torch.no_grad():
        expected = lstm(x)[0].clone()
        for name, parameter in lstm.named_parameters():
            setattr(again, name, 2 * parameter if how == "replica" else nn.Parameter(2 * parameter))
        assert on_engine(runs, lambda: again(x)) == 1
        assert not torch.equal(again(x)[0], expected)
        if how != "copy":  # which shares the dict of parameters
            assert torch.equal(lstm(x)[0], expected)


def test_a_pickle_loads_where_fastlstm_is_not(tmp_path):
    model, x = Model(), torch.randn(2, 5, 3)
    expected = [*model.lstm(x)[0].detach()]
    torch.save(kept(model.lstm), tmp_path / "lstm.pt")
    torch.save((x, torch.stack(expected)), tmp_path / "expected.pt")
    printed = run_python(
        "import sys\n"
        "sys.modules['fastlstm'] = None\n"  # as if it were not installed
        "import torch\n"
        f"x, expected = torch.load({str(tmp_path / 'expected.pt')!r})\n"
        "torch.serialization.add_safe_globals([torch.nn.LSTM])\n"
        f"lstm = torch.load({str(tmp_path / 'lstm.pt')!r}, weights_only=True)\n"
        "torch.jit.script(lstm)\n"
        "print(torch.equal(lstm(x)[0], expected))\n"
    )
    assert printed.strip() == "True"


class Theirs(nn.LSTM):
    def forward(self, x: Tensor, hx=None):
        return super().forward(2 * x, hx)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
        lambda m: torch.nn.utils.weight_norm(m, "weight_hh_l0"),
        lambda m: prune.random_unstructured(m, "weight_hh_l0", 0.5),
        lambda m: m.double().float(),
        lambda m: m.share_memory(),
        lambda m: m.load_state_dict({k: v.clone() for k, v in m.state_dict().items()}, assign=True),
    ],
    ids=["parametrize", "weight_norm", "prune", "dtypes", "share_memory", "assign"],
)
def test_weights_that_are_changed(change, before, runs):
    lstm, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    if not before:
        kept(lstm)
    change(lstm)
    if before:
        kept(lstm)

    def run() -> list[Tensor]:
        output, _ = lstm(x)
        return [output, *torch.autograd.grad(output.sum(), list(lstm.parameters()))]

    found = run()
    with torch.no_grad():
        torch.testing.assert_close(lstm(x)[0], found[0])
    assert len(runs) == 2
    assert fastlstm.revert(lstm).changed == [""]
    torch.testing.assert_close(found, run())
    assert len(runs) == 2


def test_functional_call_and_weights_set_by_hand(runs):
    lstm, x = kept(nn.LSTM(3, 4)), torch.randn(5, 2, 3)
    other = nn.LSTM(3, 4)
    with torch.no_grad():
        expected = other(x)
        torch.testing.assert_close(torch.func.functional_call(lstm, dict(other.named_parameters()), (x,)), expected)
        assert len(runs) == 1
        again = kept(nn.LSTM(3, 4))
        again._flat_weights = list(other.parameters())  # nn.LSTM computes with these
        torch.testing.assert_close(again(x), expected)


def test_subclasses(runs):
    lstm, x = Theirs(3, 4), torch.randn(5, 2, 3)
    expected = lstm(x)
    kept(lstm)
    torch.testing.assert_close(lstm(x), expected)
    with torch.no_grad():
        lstm(x)
    assert type(lstm) is Theirs
    assert len(runs) == 2


def test_whoever_watches_torchs_functions_sees_them(runs):
    seen = []

    class Watching(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    lstm, cell, x = kept(nn.LSTM(3, 4)), kept(nn.LSTMCell(3, 4)), torch.randn(5, 2, 3)
    for grad in (True, False):
        seen.clear()
        with torch.set_grad_enabled(grad), Watching():
            lstm(x)
            cell(x[0])
        assert {"lstm", "lstm_cell"} <= set(seen)
    assert not runs
    with torch.device("cpu"):  # a mode, too
        lstm(x)
        cell(x[0])
    assert len(runs) == 2


def test_exceptions_leave_nothing_behind(runs):
    lstm, other, x = kept(nn.LSTM(3, 4)), nn.LSTM(3, 4), torch.randn(5, 2, 3)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            lstm(x[..., :2])
        assert on_engine(runs, lambda: other(x)) == 0
        assert on_engine(runs, lambda: lstm(x)) == 1


def test_threads_do_not_mix():
    marked, plain, x = kept(nn.LSTM(3, 4)), nn.LSTM(3, 4), torch.randn(5, 2, 3)
    plain.load_state_dict(marked.state_dict())
    expected = [m(x)[0].detach() for m in (marked, plain)]
    names = [type(m(x)[0].grad_fn).__name__ for m in (marked, plain)]
    assert names[0] != names[1]
    wrong = []

    def work(k: int) -> None:
        for _ in range(200):
            output = (marked, plain)[k](x)[0]
            if type(output.grad_fn).__name__ != names[k] or not torch.equal(output, expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k % 2,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_code_that_looks_for_the_type_finds_it(runs):
    model = Model()
    kept(model)

    def initialize(module: nn.Module) -> None:
        by_type = {nn.LSTM: "weight_hh_l0", nn.LSTMCell: "weight_hh"}
        if type(module) in by_type:
            nn.init.orthogonal_(getattr(module, by_type[type(module)]))

    model.apply(initialize)
    for weight in (model.lstm.weight_hh_l0, model.cell.weight_hh):
        torch.testing.assert_close(weight.T @ weight, torch.eye(4))
    model(torch.randn(2, 5, 3))
    assert len(runs) == 2


def test_what_is_left_and_the_ways_between(runs):
    replaced, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    replaced.forward = lambda x: x
    model = nn.ModuleDict({"a": replaced, "b": fastlstm.LSTM(3, 4), "c": fastlstm.LSTMCell(3, 4), "d": nn.LSTM(3, 4)})
    report = fastlstm.convert(model, keep_type=True)
    assert report.changed == ["d"]
    assert report.left == {
        "a": "its forward was replaced",
        "b": "a fastlstm.LSTM already: revert(model) first",
        "c": "a fastlstm.LSTMCell already: revert(model) first",
    }
    attributes = set(vars(fastlstm.LSTM(3, 4)))
    assert fastlstm.convert(model).changed == ["d"]  # from the mark to the class
    assert type(model["d"]) is fastlstm.LSTM
    assert set(vars(model["d"])) == attributes
    assert fastlstm.revert(model).changed == ["b", "c", "d"]
    assert on_engine(runs, lambda: model["d"](x)) == 0


def test_revert_reaches_a_method_that_somebody_holds(runs):
    lstm, x = kept(nn.LSTM(3, 4)), torch.randn(5, 2, 3)
    held = lstm.forward
    lstm.forward = lambda *arguments: held(*arguments)  # as those do that move weights around a call
    assert on_engine(runs, lambda: lstm(x)) == 1
    assert fastlstm.revert(lstm).changed == [""]
    assert on_engine(runs, lambda: lstm(x)) == 0
