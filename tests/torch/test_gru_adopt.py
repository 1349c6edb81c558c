"""nn.GRU and nn.GRUCell on the engine: enable(), convert() and keep_type, and torch's own bits where they are off."""

import copy
import io
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence

import fastlstm
from fastlstm import GRU, GRUCell
from tests.conftest import assert_bits, assert_close, draw, evaluate, outcome, run_python, twin
from tests.torch.kept import counting, kept, on_engine

OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "bias": False},
    {"num_layers": 2, "dropout": 0.5},
]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
each_way = pytest.mark.parametrize("way", ["enabled", "keep_type"])
each_grad = pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])


@pytest.fixture(autouse=True)
def off_afterwards():
    yield
    fastlstm.disable()


@pytest.fixture
def runs(monkeypatch):
    """An entry for every time the engine runs."""
    return counting(monkeypatch)


def adopted(way: str, module: nn.Module) -> Any:
    """The module, and a block in which it runs on the engine."""
    if way == "keep_type":
        kept(module)
        return nullcontext()
    return fastlstm.enabled()


# On the engine, with its numbers


@each_way
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
@each_options
def test_every_call_runs_on_the_engine_and_afterwards_on_torch_to_the_bit(options, packed, way, runs):
    gru = nn.GRU(3, 4, **options)  # made before
    call = draw(gru, 7, 3, lengths=[3, 7, 1] if packed else None, enforce_sorted=False)
    before = evaluate(gru, call)
    expected = evaluate(twin(gru, torch.float64), call.to(torch.float64))
    assert not runs
    ours = GRU(3, 4, **options)
    ours.load_state_dict(gru.state_dict())
    with adopted(way, gru):
        found = evaluate(gru, call)
    assert len(runs) == 1
    assert_bits(found, evaluate(ours, call))
    assert_close(found, expected, torch.float32)
    if way == "keep_type":
        assert fastlstm.revert(gru).changed == [""]
    assert on_engine(runs, lambda: assert_bits(evaluate(gru, call), before)) == 0


@each_way
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@each_options
def test_without_gradients(options, mode, way, runs):
    gru = nn.GRU(3, 4, **options).eval()
    call = draw(gru, 7, 3)
    with mode():
        expected, unbatched = gru(call.x, call.hx), gru(call.x[0])
        with adopted(way, gru):
            torch.testing.assert_close(gru(call.x, hx=call.hx), expected)
            torch.testing.assert_close(gru(input=call.x[0]), unbatched)
    assert len(runs) == 2


@each_way
@pytest.mark.parametrize("bias", [True, False])
def test_cells(bias, way, runs):
    cell = nn.GRUCell(3, 4, bias)
    x, h = torch.randn(2, 3, requires_grad=True), torch.randn(2, 4)

    def run() -> list[Tensor]:
        found = cell(x, h)
        with torch.no_grad():
            alone = cell(x[0])
        return [found, *torch.autograd.grad(found.sum(), [x, *cell.parameters()]), alone]

    expected = run()
    with adopted(way, cell):
        torch.testing.assert_close(run(), expected)
    assert len(runs) == 2
    fastlstm.revert(cell)
    assert all(torch.equal(a, b) for a, b in zip(run(), expected, strict=True))


@each_way
def test_subclasses_and_dropouts_masks(way, runs):
    class Theirs(nn.GRU):
        def forward(self, x: Tensor, hx: Any = None) -> Any:
            return super().forward(2 * x, hx)

    gru, x = Theirs(3, 4, 2, dropout=0.5), torch.randn(5, 2, 3)

    def run() -> Tensor:
        torch.manual_seed(3)
        return gru(x)[0]

    expected = run()
    with adopted(way, gru):
        torch.testing.assert_close(run(), expected)
    assert type(gru) is Theirs
    assert len(runs) == 1


def test_enable_is_for_lstms_and_grus_together(runs):
    model = nn.ModuleList([nn.LSTM(3, 4), nn.GRU(4, 4), nn.RNN(4, 2)])

    def run(x: Tensor) -> Tensor:
        for layer in model:
            x, _ = layer(x)
        return x

    x = torch.randn(5, 2, 3)
    expected = run(x)
    fastlstm.enable()
    torch.testing.assert_close(run(x), expected)
    assert len(runs) == 2
    fastlstm.disable()
    assert on_engine(runs, lambda: torch.equal(run(x), expected)) == 0


# Errors are torch's own

X, H_0 = torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)


def setting(name: str, value: object) -> Callable[[nn.Module], Any]:
    def call(gru: nn.Module) -> list[torch.Size]:
        setattr(gru, name, value)
        return [t.shape for t in gru(X)]

    return call


WRONG: dict[str, Callable[[Any], Any]] = {
    "features": lambda m: m(X[..., :2]),
    "dims": lambda m: m(X[None]),
    "dtype": lambda m: m(X.double()),
    "length": lambda m: m(X[:0]),
    "batch": lambda m: m(X, H_0[:, :1]),
    "a pair": lambda m: m(X, (H_0, H_0)),
    "a tuple of one": lambda m: m(X, (H_0,)),
    "a double state": lambda m: m(X, H_0.double()),
    "a list": lambda m: m([1, 2]),
    "an argument too many": lambda m: m(X, H_0, 3),
    "an unknown argument": lambda m: m(X, mask=None),
    "packed": lambda m: m(PackedSequence(X[:, 0], torch.tensor([1, 2, 2]))),
    "packed, too few rows": lambda m: m(PackedSequence(X[:, 0], torch.tensor([2, 2, 2]))),
    "packed, a step of none": lambda m: m(PackedSequence(X[:4, 0], torch.tensor([2, 2, 0]))),
    "packed, a pair": lambda m: m(PackedSequence(X[:, 0], torch.tensor([2, 2, 1])), (H_0, H_0)),
    "hidden_size": setting("hidden_size", 4.0),
    "batch_first": setting("batch_first", 1),
    "bias": setting("bias", 1),
    "bidirectional": setting("bidirectional", 0),
    "num_layers": setting("num_layers", 0),
    "dropout": setting("dropout", None),
    "training": setting("training", 1),
    "proj_size": setting("proj_size", 2),
}
WRONG_STEPS: dict[str, Callable[[Any], Any]] = {
    "dims": lambda m: m(X),
    "features": lambda m: m(X[0, :, :2]),
    "batch": lambda m: m(X[0], H_0[0, :1]),
    "units": lambda m: m(X[0], H_0[0, :, :3]),
    "a pair": lambda m: m(X[0], (H_0[0], H_0[0])),
    "dtype": lambda m: m(X[0].double()),
    "hidden_size": lambda m: (setattr(m, "hidden_size", 4.0), m(X[0])),
}


@each_way
@each_grad
@pytest.mark.parametrize("wrong", WRONG)
def test_errors_of_layers(wrong, grad, way):
    gru = nn.GRU(3, 4)
    with torch.set_grad_enabled(grad):
        expected = outcome(lambda: WRONG[wrong](copy.deepcopy(gru)))
        with adopted(way, gru):
            assert outcome(lambda: WRONG[wrong](gru)) == expected


@each_way
@each_grad
@pytest.mark.parametrize("wrong", WRONG_STEPS)
def test_errors_of_cells(wrong, grad, way):
    cell = nn.GRUCell(3, 4)
    with torch.set_grad_enabled(grad):
        expected = outcome(lambda: WRONG_STEPS[wrong](copy.deepcopy(cell)))
        with adopted(way, cell):
            assert outcome(lambda: WRONG_STEPS[wrong](cell)) == expected


@each_way
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_what_the_engine_cannot_take_goes_to_torch(way, runs):
    x = torch.randn(5, 2, 3)
    cases: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "complex": (nn.GRU(3, 4, dtype=torch.complex64), lambda m: m(x.to(torch.complex64))[0]),
        "an empty batch": (nn.GRU(3, 4), lambda m: m(x[:, :0])[0]),
        "meta": (nn.GRU(3, 4, device="meta"), lambda m: m(x.to("meta"))[0].shape),
        "a transform": (nn.GRU(3, 4), lambda m: torch.func.grad(lambda t: m(t)[0].sum())(x)),
        "no units": (nn.GRUCell(3, 0), lambda m: m(x[0])),
    }
    for module, case in cases.values():
        expected = case(module)
        with adopted(way, module):
            found = case(module)
        assert torch.equal(found, expected) if isinstance(found, Tensor) else found == expected
    assert not runs


# convert() and revert()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, 2, batch_first=True, bidirectional=True)
        self.cell = nn.GRUCell(8, 4)
        self.lstm = nn.LSTM(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        output, h_n = self.gru(x)
        return self.lstm(self.cell(output[:, 0], h_n[0])[None])[0].sum()

    def asks(self) -> bool:
        return isinstance(self.gru, nn.GRU)


def test_convert_and_revert_keep_the_objects():
    model, x = Model(), torch.randn(2, 5, 3)
    said, keys, parameters, attributes = (
        repr(model),
        list(model.state_dict()),
        list(model.parameters()),
        vars(model.gru).keys(),
    )
    attributes = set(attributes)

    def run() -> list[Tensor]:
        loss = model(x)
        return [loss, *torch.autograd.grad(loss, parameters)]

    before = run()
    report = fastlstm.convert(model)
    assert report.changed == ["gru", "cell", "lstm"]
    assert report.asked == {"gru": "Model.asks"}
    assert (type(model.gru), type(model.cell)) == (GRU, GRUCell)
    assert (repr(model), list(model.state_dict())) == (said, keys)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert set(vars(model.gru)) == set(vars(GRU(3, 4)))
    torch.testing.assert_close(run(), before)
    again = copy.deepcopy(model)
    assert torch.equal(again(x), model(x))
    assert fastlstm.revert(model).changed == ["gru", "cell", "lstm"]
    assert (type(model.gru), type(model.cell)) == (nn.GRU, nn.GRUCell)
    assert set(vars(model.gru)) == attributes
    assert all(torch.equal(a, b) for a, b in zip(run(), before, strict=True))


@each_options
def test_layers_written_as_ours_revert_too(options):
    gru = GRU(3, 4, **options)
    call = draw(gru, 7, 3)
    theirs = twin(gru)
    assert fastlstm.revert(gru).changed == [""]
    assert type(gru) is nn.GRU
    assert_bits(evaluate(gru, call), evaluate(theirs, call))


def test_what_is_left_alone_says_why():
    class Own(nn.GRU):
        pass

    replaced = nn.GRU(3, 4)
    replaced.forward = lambda x: x  # type: ignore[method-assign]
    model = nn.ModuleDict(
        {
            "parametrized": parametrizations.weight_norm(nn.GRU(3, 4), "weight_hh_l0"),
            "own": Own(3, 4),
            "replaced": replaced,
            "cell": parametrizations.weight_norm(nn.GRUCell(3, 4), "weight_hh"),
        }
    )
    report = fastlstm.convert(model)
    assert report.changed == []
    assert report.left == {
        "parametrized": "parametrized",
        "own": "a subclass, Own, whose forward may be its own",
        "replaced": "its forward was replaced",
        "cell": "parametrized",
    }
    assert fastlstm.convert(model, keep_type=True).changed == ["parametrized", "own", "cell"]


def test_keep_type_leaves_class_state_and_pickles_as_they_are(tmp_path):
    gru, own, x = nn.GRU(3, 4), nn.GRU.forward, torch.randn(5, 2, 3)
    expected, attributes = gru(x)[0], dict(vars(gru))
    kept(gru)
    assert type(gru) is nn.GRU
    assert nn.GRU.forward is own
    assert nn.GRU(3, 4).forward.__func__ is own
    assert {name: value for name, value in vars(gru).items() if name in attributes} == attributes
    torch.save(gru, tmp_path / "gru.pt")
    torch.save((x, expected.detach()), tmp_path / "call.pt")
    printed = run_python(
        "import sys\n"
        "sys.modules['fastlstm'] = None\n"  # as if it were not installed
        "import torch\n"
        f"x, expected = torch.load({str(tmp_path / 'call.pt')!r})\n"
        "torch.serialization.add_safe_globals([torch.nn.GRU])\n"
        f"gru = torch.load({str(tmp_path / 'gru.pt')!r}, weights_only=True)\n"
        "torch.jit.script(gru)\n"
        "print(torch.equal(gru(x)[0], expected))\n"
    )
    assert printed.strip() == "True"


@pytest.mark.parametrize("make", [lambda k: k.GRU(3, 4, 2, bidirectional=True), lambda k: k.GRUCell(3, 4, bias=False)])
def test_pickles_need_the_class_alone(make):
    module, theirs = make(fastlstm), make(nn)
    module(torch.randn(5, 3))[0].sum().backward()
    module.zero_grad()
    assert set(module.__reduce_ex__(2)[2]) <= set(vars(theirs))
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(file) == [f"fastlstm.torch.gru.{type(module).__name__}"]
    file.seek(0)
    with torch.serialization.safe_globals([type(module)]):
        again = torch.load(file, weights_only=True)
    x = torch.randn(5, 3)
    for copied in (again, *(pickle.loads(pickle.dumps(module, protocol)) for protocol in range(2, 6))):
        assert repr(copied) == repr(module)
        torch.testing.assert_close(copied(x), module(x), rtol=0, atol=0)
