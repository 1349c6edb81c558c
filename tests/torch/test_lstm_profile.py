"""What a profile shows: no recurrent operator of torch, and nothing per step."""

from collections.abc import Callable

import pytest
import torch
from conftest import draw, evaluate, twin

from fastlstm import LSTM

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
    assert not [name for name in found[0] + found[1] if "lstm" in name or "rnn" in name or "mm" in name]


def test_the_profile_of_nn_lstm_does_show_its_operator():
    """So the tests above can fail."""
    theirs = twin(LSTM(7, 9))
    assert "aten::lstm" in events(lambda: theirs(torch.randn(6, 3, 7)))
