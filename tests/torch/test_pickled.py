"""Pickles of a layer: what `torch.save(model)` and its kin do with nn.LSTM, and the pickles that there are already."""

import copy
import io
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from conftest import run_python
from torch import nn

import fastlstm
from fastlstm import LSTM, LSTMCell

# What torch.save(model) wrote of an nn.ModuleDict of five while a pickle still had Sizes in it.
OLD = Path(__file__).parent / "pickled_with_sizes.pt"
OPTIONS = {
    "num_layers": 2,
    "bias": False,
    "batch_first": True,
    "dropout": 0.25,
    "bidirectional": True,
    "proj_size": 2,
}
KINDS = {
    "plain": lambda kind: kind.LSTM(3, 4),
    "options": lambda kind: kind.LSTM(3, 5, **OPTIONS).eval(),
    "cell": lambda kind: kind.LSTMCell(3, 4),
    "cell_without_bias": lambda kind: kind.LSTMCell(3, 4, bias=False),
}


def converted(_: object) -> nn.Module:
    module = nn.LSTM(3, 4)
    fastlstm.convert(module)
    return module


OURS = {**KINDS, "converted": converted}


def saved(module: nn.Module) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return file


def assert_same(again: nn.Module, module: nn.Module) -> None:
    assert type(again) is type(module)
    assert repr(again) == repr(module)
    assert again.training == module.training
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), module.parameters(), strict=True))
    x = torch.randn(5, 3)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.manual_seed(0)
            expected = module(x)
            torch.manual_seed(0)
            torch.testing.assert_close(again(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
@pytest.mark.parametrize("name", OURS)
def test_weights_only_needs_the_class_alone(name, used):
    """As nn.LSTM does; so a pickle names no other class of ours."""
    module = OURS[name](fastlstm)
    if used:
        module(torch.randn(5, 3))[0].sum().backward()
        module.zero_grad()
    assert torch.serialization.get_unsafe_globals_in_checkpoint(saved(module)) == [
        f"{type(module).__module__}.{type(module).__qualname__}"
    ]
    with torch.serialization.safe_globals([type(module)]):
        assert_same(torch.load(saved(module), weights_only=True), module)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_pickled_are_torchs_own_attributes(name):
    ours, theirs = KINDS[name](fastlstm), KINDS[name](nn)
    state = ours.__reduce_ex__(2)[2]
    assert set(state) <= set(vars(theirs))
    attributes = [key for key in vars(theirs) if not key.startswith("_")]
    assert {key: state[key] for key in attributes} == {key: vars(theirs)[key] for key in attributes}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(name, protocol):
    module = OURS[name](fastlstm)
    assert_same(pickle.loads(pickle.dumps(module, protocol)), module)


@pytest.mark.parametrize("name", OURS)
def test_an_old_pickle_loads(name):
    module = torch.load(OLD, weights_only=False)[name]
    fresh = OURS[name](fastlstm)
    assert type(module) is (LSTMCell if "cell" in name else LSTM)
    assert repr(module) == repr(fresh)
    assert module.training == fresh.training
    fresh.load_state_dict(module.state_dict())
    assert_same(module, fresh)
    assert vars(module).keys() == vars(fresh).keys()
    assert "fastlstm.weights" not in str(torch.serialization.get_unsafe_globals_in_checkpoint(saved(module)))


@pytest.mark.parametrize("name", KINDS)
def test_a_shallow_copy_shares_what_nn_lstms_does(name):
    for kind in (fastlstm, nn):
        module = KINDS[name](kind)
        again = copy.copy(module)
        assert [id(p) for p in again.parameters()] == [id(p) for p in module.parameters()]
        assert again._parameters is module._parameters
        assert_same(again, module)


def test_a_copy_goes_its_own_way():
    """What is derived from the arguments is derived anew: the copy's arguments may change."""
    module = LSTM(3, 4, 2)
    again = copy.copy(module)
    again.num_layers = 1
    assert again(torch.randn(5, 3))[1][0].shape == (1, 4)
    assert module(torch.randn(5, 3))[1][0].shape == (2, 4)


def test_there_and_back_and_while_enabled():
    model = nn.Sequential(nn.LSTM(3, 4))
    fastlstm.convert(model)
    with fastlstm.enabled():
        again = pickle.loads(pickle.dumps(model))
        theirs = nn.LSTM(3, 4)
        assert_same(pickle.loads(pickle.dumps(theirs)), theirs)
    assert_same(again, model)
    fastlstm.revert(again)
    assert type(again[0]) is nn.LSTM
    assert_same(pickle.loads(pickle.dumps(again)), again)


def test_a_process_that_has_not_heard_of_us_loads_it(tmp_path):
    x = torch.randn(5, 3)
    modules = [make(fastlstm).eval() for make in OURS.values()]
    torch.save((x, [(module, module(x)[0]) for module in modules]), tmp_path / "models.pt")
    said = run_python(
        "import torch\n"
        f"x, found = torch.load({str(tmp_path / 'models.pt')!r}, weights_only=False)\n"
        "for model, expected in found: torch.testing.assert_close(model(x)[0], expected, rtol=0, atol=0)\n"
        "print([type(model).__name__ for model, _ in found])\n"
    )
    assert said == f"{[type(module).__name__ for module in modules]}\n"


@pytest.mark.parametrize("name", OURS)
def test_torch_package_takes_it(name, tmp_path):
    module = OURS[name](fastlstm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its storages
        with torch.package.PackageExporter(tmp_path / "model.zip") as exporter:
            exporter.extern("fastlstm.**")
            exporter.save_pickle("model", "model.pkl", module)
        again = torch.package.PackageImporter(tmp_path / "model.zip").load_pickle("model", "model.pkl")
    assert_same(again, module)
