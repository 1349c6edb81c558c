"""`fastlstm conditions`: it measures what was asked for, prints and writes it, and says by its status whether it holds."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastlstm.bench.conditions import CONDITIONS
from fastlstm.bench.conditions.condition import Condition, Reading, Verdict
from fastlstm.cells import GRU, LSTM
from fastlstm.cli import app


def condition(figure: float) -> Condition:
    def measure(track, cell):
        return [Reading(f"point {k}", "train", {"ours, µs": figure * k, "ratio": 0.5}) for k in track([1, 2])]

    return Condition(
        measure, lambda readings, cell: Verdict(readings[-1].values["ours, µs"], 3, "x", "the last one"), minutes=2
    )


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Two conditions that take no time."""
    for name in list(CONDITIONS):
        monkeypatch.delitem(CONDITIONS, name)
    monkeypatch.setitem(CONDITIONS, "small", condition(1.0))
    monkeypatch.setitem(CONDITIONS, "large", condition(400.0))
    monkeypatch.setitem(CONDITIONS, "elsewhere", condition(1.0)._replace(runs_here=False))


def conditions(*arguments):
    return CliRunner().invoke(app, ["conditions", *arguments], env={"COLUMNS": "160"})


def test_one_that_holds():
    result = conditions("small")
    assert result.exit_code == 0, result.output
    assert "small holds: the last one: 2.00x, line 3.00x" in result.stdout
    assert "about 2 minutes on two idle cores: small 2\n" in result.stdout
    assert "small ━" in result.stderr  # how far it is: stdout may be a file
    assert "point 1" in result.stdout
    assert "large" not in result.stdout


def test_all_are_measured_and_written_and_one_that_does_not_hold_shows_in_the_status(tmp_path):
    file = tmp_path / "conditions.csv"
    result = conditions("--csv", str(file))
    assert result.exit_code == 1, result.output
    assert "small holds" in result.stdout
    assert "about 4 minutes on two idle cores: small 2, large 2\n" in result.stdout
    assert "large does not hold: the last one: 800.00x, line 3.00x" in result.stdout
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["condition"], row["at"], row["mode"], row["figure"], row["value"]) for row in rows] == [
        (name, f"point {k}", "train", figure, value)
        for name, ours in (("small", 1), ("large", 400))
        for k in (1, 2)
        for figure, value in (("ours, µs", str(ours * k)), ("ratio", "0.5"))
    ]
    assert all(row[name] for row in rows for name in ("processor", "isa", "threads", "torch", "command"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], LSTM), (["--cell", "lstm"], LSTM), (["--cell", "gru"], GRU), (["--cell", "GRU"], GRU)],
)
def test_a_condition_is_measured_and_judged_for_the_cell(arguments, expected, monkeypatch):
    cells = []
    plain = condition(1.0)

    def measure(track, cell):
        cells.append(cell)
        return plain.measure(track, cell)

    def judge(readings, cell):
        cells.append(cell)
        return plain.judge(readings, cell)

    monkeypatch.setitem(CONDITIONS, "small", plain._replace(measure=measure, judge=judge))
    result = conditions("small", *arguments)
    assert result.exit_code == 0, result.output
    assert cells == [expected, expected]


def test_a_cell_that_does_not_exist_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setitem(CONDITIONS, "small", condition(1.0)._replace(measure=None))
    result = conditions("small", "--cell", "rnn")
    assert result.exit_code == 2
    assert "there is no cell 'rnn', but lstm, gru" in result.output


@pytest.mark.parametrize("name", ["speed", "elsewhere"])
def test_one_that_does_not_exist_is_refused(name):
    result = conditions("small", name)
    assert result.exit_code == 2
    assert f"there is no condition '{name}' on this system, but small, large" in result.output


def test_a_folder_that_is_not_there_is_named_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(CONDITIONS, "small", condition(1.0)._replace(measure=None))
    result = conditions("small", "--csv", str(tmp_path / "nowhere" / "a.csv"))
    assert result.exit_code == 2
    assert "--csv" in result.output
    assert "there is no folder" in result.output


def test_every_condition_is_named_where_one_looks_for_it(monkeypatch):
    monkeypatch.undo()
    root = Path(__file__).parents[2]
    page = (root / "benchmarks" / "README.md").read_text()
    said = conditions("--help").output
    assert len(CONDITIONS) == 5
    assert all(condition.minutes > 0 for condition in CONDITIONS.values())
    for name in CONDITIONS:
        assert name in said
        assert f"| {name} |" in page
