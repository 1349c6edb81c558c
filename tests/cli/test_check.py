"""`fastlstm check`: it passes on this machine, and fails, by name, for an engine that is wrong."""

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fastlstm
from fastlstm.cli import app
from fastlstm.cli.check import RESULTS, configurations, error_of, measure, tolerance


def test_this_machines_engine_is_within_its_tolerances():
    result = CliRunner().invoke(app, ["check", "--count", "60", "--seed", "1"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "OVER" not in result.stdout
    for name in ("output", "h_n", "c_n", "input.grad", "h_0.grad", "c_0.grad", "weight_ih.grad", "weight_hr.grad"):
        assert name in result.stdout
    rows = [
        [cell.strip() for cell in line.split("│")[1:6]]
        for line in result.stdout.splitlines()
        if line.startswith("│ float")
    ]
    names = {dtype: [row[1] for row in rows if row[0] == dtype] for dtype in ("float32", "float64")}
    assert names["float32"] == names["float64"] == list(RESULTS)
    assert {row[4] == "-" for row in rows if row[0] == "float64"} == {True}  # nn.LSTM against itself
    assert {row[4] == "-" for row in rows if row[0] == "float32"} == {False}


def wrong(change: str) -> type[nn.LSTM]:
    """nn.LSTM with one result or one gradient scaled by 1 + 1e-4."""

    class Wrong(nn.LSTM):
        def forward(self, x, hx=None):
            if change == "weight_hh.grad":
                for name, parameter in self.named_parameters():
                    if name.startswith("weight_hh"):
                        parameter.register_hook(lambda gradient: gradient * (1 + 1e-4))
            output, (h_n, c_n) = super().forward(x, hx)
            return output, (h_n, c_n + 1e-4 * c_n.detach() if change == "c_n" else c_n)

    return Wrong


@pytest.mark.parametrize("change", ["c_n", "weight_hh.grad"])
def test_an_engine_that_is_wrong_fails_by_name(change, monkeypatch):
    monkeypatch.setattr(fastlstm, "LSTM", wrong(change))
    monkeypatch.setattr("fastlstm.cli.check.engine_in_use", lambda: "a wrong engine")
    result = CliRunner().invoke(app, ["check", "--count", "20"], env={"COLUMNS": "120"})
    assert result.exit_code == 1
    over = [line.split("│")[1:3] for line in result.stdout.splitlines() if "OVER" in line]
    assert [[cell.strip() for cell in row] for row in over] == [["float32", change], ["float64", change]]


def test_a_result_that_is_not_a_number_is_over(monkeypatch):
    class NotANumber(nn.LSTM):
        def forward(self, x, hx=None):
            output, (h_n, c_n) = super().forward(x, hx)
            return output, (h_n, c_n * float("nan"))

    monkeypatch.setattr(fastlstm, "LSTM", NotANumber)
    for configuration in configurations(4, 0):
        assert measure(configuration)["c_n"][0] == float("inf")


def test_values_are_compared_absolutely_and_gradients_by_their_norms():
    expected, ours = [torch.tensor([300.0, 400.0]).double()], [torch.tensor([300.0, 405.0])]
    assert error_of("output", ours, expected) == 5
    assert error_of("weight_ih.grad", ours, expected) == pytest.approx(5 / 500)
    zero = [torch.zeros(2).double()]
    assert error_of("weight_hh.grad", [torch.zeros(2)], zero) == 0
    assert error_of("weight_hh.grad", [torch.tensor([0.0, 1e-30])], zero) == float("inf")


def test_configurations_are_the_same_for_the_same_seed_and_cover_every_option():
    drawn = list(configurations(300, 0))
    assert drawn == list(configurations(300, 0))
    assert drawn != list(configurations(300, 1))
    for name in ("bias", "batch_first", "bidirectional"):
        assert {c.arguments[name] for c in drawn} == {False, True}
    assert {c.arguments["num_layers"] for c in drawn} == {1, 2, 3}
    assert {c.dtype for c in drawn} == {"float32", "float64"}
    assert {c.hx for c in drawn} == {bool(c.lengths) for c in drawn} == {False, True}
    for name in ("proj_size", "dropout"):
        assert {bool(c.arguments[name]) for c in drawn} == {False, True}


def test_the_tolerances_are_those_promised():
    assert tolerance("output", "float32") == 2e-6
    assert tolerance("weight_ih.grad", "float32") == 1e-5
    assert tolerance("output", "float64") == tolerance("weight_ih.grad", "float64") == 1e-12


def test_threads_are_as_before():
    torch.set_num_threads(2)  # conftest puts it back
    measure(next(configurations(1, 0)))
    assert torch.get_num_threads() == 2


def test_the_worst_of_all_configurations_counts(monkeypatch):
    errors = iter([(0.0, 5e-7), (1e-3, 0.0), (0.0, 0.0)])
    monkeypatch.setattr("fastlstm.cli.check.measure", lambda configuration: {"c_n": next(errors)})
    result = CliRunner().invoke(app, ["check", "--count", "3"], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    (row,) = [line.split("│")[1:7] for line in result.stdout.splitlines() if line.startswith("│ float")]
    assert [cell.strip() for cell in row] == ["float32", "c_n", "1.0e-03", "2e-06", "5.0e-07", "OVER"]
    second = str(list(configurations(3, 0))[1])
    assert f"over: float32 c_n: 1.0e-03 at {second}" in result.stdout
