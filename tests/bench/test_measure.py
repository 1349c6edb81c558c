"""What is timed is compared first, taken in turn, and reported as what was measured."""

import time
from types import SimpleNamespace

import pytest
import torch

from fastlstm.bench import measure
from fastlstm.bench.contender import Contender
from fastlstm.bench.measure import Measured, Schedule
from fastlstm.bench.points import Point, Work

TINY = Point("tiny", 3, 2, 4, 5)
SHORT = Schedule(bursts=3, seconds=0.001)


@pytest.mark.parametrize("name", ["output", "weight.grad"])
@pytest.mark.parametrize("dtype", measure.TOLERANCE)
def test_different_results_are_refused(name, dtype):
    right = {name: torch.tensor([1.0, -2.0], dtype=torch.float64)}
    measure.compare("the same", right, right, dtype)
    off = 2 * measure.TOLERANCE[dtype] * (1 + 10 * name.endswith("grad"))
    for wrong in (torch.tensor([1.0, -2 - 2 * off], dtype=torch.float64), torch.tensor([1.0, float("nan")])):
        with pytest.raises(ValueError, match=f"{name} differs"):
            measure.compare("another", {name: wrong}, right, dtype)


def contender(**results: float) -> Contender:
    values = {name: torch.tensor([value]) for name, value in results.items()}
    return Contender(lambda: None, lambda returned: values, Work(1, 1))


def test_contenders_agree_on_the_names_they_share_or_are_not_timed():
    agreeing = {"a": contender(output=1), "fastlstm": contender(output=1, more=2), "c": contender(more=2)}
    row = measure.measure(TINY, agreeing, SHORT)
    assert row.peers == ["a"]
    for wrong in (contender(output=2), contender(more=1)):
        with pytest.raises(ValueError, match="c at T 3, N 2, I 4, H 5"):
            measure.measure(TINY, {**agreeing, "c": wrong}, SHORT)


def test_calls_are_taken_in_turn_and_each_burst_is_timed(monkeypatch):
    monkeypatch.setattr(measure, "WARM_UP", 0)
    order = []
    calls = {"slow": lambda: (order.append("slow"), time.sleep(0.02)), "fast": lambda: order.append("fast")}
    count, seconds = measure.take_in_turn(calls, Schedule(bursts=4, seconds=0.04))
    assert count == 2
    assert {name: len(bursts) for name, bursts in seconds.items()} == {"slow": 4, "fast": 4}
    assert all(burst >= 0.02 for burst in seconds["slow"])
    assert all(burst < 0.02 for burst in seconds["fast"])
    bursts = order[6:]  # three calls of each found the count
    turns = [bursts[k] for k in range(0, len(bursts), count + 1)]
    assert turns == ["slow", "fast", "fast", "slow", "slow", "fast", "fast", "slow"]


def test_a_warm_up_is_one_long_call_or_many_short_ones(monkeypatch):
    for seconds, expected in ((2 * measure.WARM_UP, 1), (measure.WARM_UP / 9.5, 10)):
        calls: list[float] = []
        clock = SimpleNamespace(perf_counter=lambda calls=calls: sum(calls))
        monkeypatch.setattr(measure, "time", clock)
        measure.warm_up(lambda calls=calls, seconds=seconds: calls.append(seconds))
        assert len(calls) == expected


def test_ratios_are_of_medians_and_their_range_of_neighbours():
    seconds = {"nn.LSTM": [4e-6, 8e-6, 30e-6], "fastlstm": [2e-6, 2e-6, 10e-6]}
    row = Measured(TINY, 1, seconds, {name: Work(flops=16_000, bytes=1) for name in seconds})
    assert row.microseconds("nn.LSTM") == pytest.approx(8)
    assert row.ratio("nn.LSTM") == pytest.approx(4)
    assert row.ratio_range("nn.LSTM") == pytest.approx((2, 4))
    assert row.gflops("nn.LSTM") == pytest.approx(2)
    assert row.gflops("fastlstm") == pytest.approx(8)
