"""What a profile shows: no recurrent operator of torch, and nothing per step."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from conftest import draw, evaluate, twin
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils._pytree import tree_leaves

import fastlstm
from fastlstm import GRU, LSTM, GRUCell, LSTMCell

OPTIONS = [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 4}, {"num_layers": 3, "bias": False}]
STEP = {"aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "aten::sigmoid", "aten::tanh"}


def events(function: Callable[[], object]) -> list[str]:
    function()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as trace:
        function()
    return [event.name for event in trace.events()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_a_profile_shows_no_recurrent_operator_and_none_per_step(packed, options, dtype):
    """Forward and backward: as many events for 60 steps as for 6, and none of them torch's own LSTM."""
    lstm = LSTM(7, 9, **options, dtype=dtype)
    found = {}
    for T in (6, 60):
        call = draw(lstm, T, 3, lengths=[T, T // 2, 1] if packed else None)
        found[T] = events(lambda call=call: evaluate(lstm, call))
        assert not [name for name in found[T] if "lstm" in name.lower() and name.startswith("aten")]
        assert not [name for name in found[T] if "rnn" in name.lower()]
        assert not STEP & set(found[T])
    steps = {T: len(names) for T, names in found.items()}
    assert steps[6] == steps[60], steps


def test_a_profile_of_inference_is_as_quiet():
    lstm = LSTM(7, 9, 2)
    found = []
    for T in (6, 60):
        x = torch.randn(T, 3, 7)
        with torch.no_grad():
            found.append(events(lambda x=x: lstm(x)))
    assert len(found[0]) == len(found[1])
    assert not [name for name in found[0] + found[1] if "aten::lstm" in name or "rnn" in name or "mm" in name]


MODULES = [
    (LSTM(4, 6), "fastlstm::lstm"),
    (LSTM(4, 6, batch_first=True).requires_grad_(False), "fastlstm::lstm"),
    (LSTMCell(4, 6), "fastlstm::lstm"),
    (GRU(4, 6), "fastlstm::gru"),
    (GRUCell(4, 6), "fastlstm::gru"),
]
each_module = pytest.mark.parametrize(("module", "name"), MODULES, ids=[type(m).__name__ for m, _ in MODULES])


@each_module
def test_a_call_has_a_name_and_it_once(module, name):
    def named(x: torch.Tensor | PackedSequence, grad: bool) -> list[str]:
        with torch.set_grad_enabled(grad):
            return [event for event in events(lambda: module(x)) if event in (name, "Recurrence")]

    x = torch.randn(5, 4)
    computed = next(module.parameters()).requires_grad
    assert named(x, True) == (["Recurrence"] if computed else [name])
    for given in (x, x.t().contiguous().t()):  # the latter the engine does not take as it is
        assert named(given, False) == [name]
    if isinstance(module, LSTM | GRU):
        assert named(pack_sequence([x, x[:2]]), False) == [name]


@each_module
def test_a_profile_changes_no_bit(module, name):
    x, found = torch.randn(5, 4), []
    with torch.no_grad():
        before = module(x)
        events(lambda: found.append(module(x)))
    assert all(map(torch.equal, tree_leaves(found[-1]), tree_leaves(before)))


@pytest.mark.parametrize("adopt", [fastlstm.convert, None], ids=["keep_type", "enabled"])
def test_nn_lstm_on_the_engine_has_the_name_too(adopt):
    layer, cell, x = nn.LSTM(4, 6), nn.LSTMCell(4, 6), torch.randn(5, 4)
    if adopt:
        adopt(nn.ModuleList([layer, cell]), keep_type=True)
    with torch.no_grad(), nullcontext() if adopt else fastlstm.enabled():
        for module in (layer, cell):
            assert events(lambda module=module: module(x)).count("fastlstm::lstm") == 1


def test_the_profile_of_nn_lstm_does_show_its_operator():
    """So the tests above can fail."""
    theirs = twin(LSTM(7, 9))
    assert "aten::lstm" in events(lambda: theirs(torch.randn(6, 3, 7)))
