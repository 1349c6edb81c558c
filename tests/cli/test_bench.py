"""`fastlstm bench`: what it times is compared first, and what it reports follows from what it measured."""

import csv
import time

import pytest
import torch
from typer.testing import CliRunner

from fastlstm.bench import grid, measure, peers
from fastlstm.bench.grid import Point
from fastlstm.bench.measure import Measured, Schedule
from fastlstm.cli import app

TINY = Point(3, 2, 4, 5)


@pytest.mark.parametrize("train", [False, True])
def test_both_engines_return_the_same_names_and_values(train):
    theirs, ours = (prepare(TINY, train)() for prepare in peers.PEERS.values())
    assert list(theirs) == list(ours)
    assert ("input.grad" in theirs) == ("weight_hh_l0.grad" in theirs) == train
    measure.compare("ours", ours, theirs)


def test_inference_records_no_graph():
    assert not any(value.requires_grad for value in peers.fastlstm_lstm(TINY, False)().values())


@pytest.mark.parametrize("name", ["output", "weight.grad"])
def test_different_results_are_not_timed(name):
    right = {name: torch.tensor([1.0, -2.0])}
    measure.compare("the same", right, right)
    for wrong in (torch.tensor([1.0, -2.001]), torch.tensor([1.0, float("nan")])):
        with pytest.raises(ValueError, match=f"{name} differs"):
            measure.compare("another", {name: wrong}, right)


def test_calls_are_taken_in_turn_and_each_burst_is_timed():
    order = []
    calls = {"slow": lambda: (order.append("slow"), time.sleep(0.004)), "fast": lambda: order.append("fast")}
    count, seconds = measure.take_in_turn(calls, Schedule(bursts=4, seconds=0.008))
    assert count == 2
    assert {name: len(bursts) for name, bursts in seconds.items()} == {"slow": 4, "fast": 4}
    assert all(burst >= 0.004 for burst in seconds["slow"])
    assert all(burst < 0.004 for burst in seconds["fast"])
    bursts = order[4:]  # two calls of each found the count
    turns = [bursts[k] for k in range(0, len(bursts), count + 1)]
    assert turns == ["slow", "fast", "fast", "slow", "slow", "fast", "fast", "slow"]


def test_ratios_are_of_medians_and_their_range_of_neighbours():
    row = Measured(TINY, 1, {"nn.LSTM": [4e-6, 8e-6, 30e-6], "fastlstm": [2e-6, 2e-6, 10e-6]})
    assert row.microseconds("nn.LSTM") == pytest.approx(8)
    assert row.ratio("nn.LSTM", "fastlstm") == pytest.approx(4)
    assert row.ratio_range("nn.LSTM", "fastlstm") == pytest.approx((2, 4))


def test_the_geometric_mean_has_no_favourite_side():
    assert measure.geometric_mean([2.0, 0.5]) == pytest.approx(1)
    assert measure.geometric_mean([8.0, 1.0, 1.0]) == pytest.approx(2)


@pytest.mark.parametrize("mode", [[], ["--train"]])
def test_the_command_measures_every_point_and_writes_it(mode, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "QUICK", [TINY, Point(1, 1, 3, 2)])
    monkeypatch.setattr(measure, "QUICK", Schedule(bursts=3, seconds=0.001))
    file = tmp_path / "bench.csv"
    arguments = ["bench", *mode, "--quick", "--threads", "1", "--csv", str(file)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "geometric mean" in result.stdout
    assert "worst" in result.stdout
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["T"], row["H"], row["engine"]) for row in rows] == [
        ("3", "5", "nn.LSTM"),
        ("3", "5", "fastlstm"),
        ("1", "2", "nn.LSTM"),
        ("1", "2", "fastlstm"),
    ]
    for row in rows:
        assert 0 < float(row["lowest_us"]) <= float(row["median_us"]) <= float(row["highest_us"])
        assert row["mode"] == ("train" if mode else "infer")
        assert row["threads"] == "1"
        assert row["torch"] == torch.__version__
        assert row["bursts"] == "3"
        assert all(row[name] for name in ("processor", "isa", "fastlstm", "python", "command"))


def test_the_grid_has_no_point_twice_and_quick_is_a_part_of_it():
    assert len(set(grid.GRID)) == len(grid.GRID) == 15
    assert set(grid.QUICK) < set(grid.GRID)
