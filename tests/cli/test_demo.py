"""`fastlstm demo`: an honest split, forecasts that are what they say, equal training, and the files it promises."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

import fastlstm
from fastlstm.cli import app
from fastlstm.demo import outcome, report, series, training
from fastlstm.demo.series import WINDOW, YEAR
from fastlstm.demo.training import Settings

SMALL = Settings(hidden_size=6, num_layers=1, epochs=2, batch=512)


@pytest.fixture(scope="module")
def co2():
    return series.load()


def test_the_series_is_weekly_and_its_gaps_are_on_straight_lines(co2):
    assert set(np.diff(co2.dates).astype(int)) == {7}
    assert (len(co2.co2), int((~co2.measured).sum())) == (2284, 59)
    assert str(co2.dates[0]) == "1958-03-29"
    assert co2.co2[0] == 316.1
    gap = np.flatnonzero(~co2.measured)[0]
    assert co2.measured[[gap - 1, gap + 1]].all()
    assert co2.co2[gap] == pytest.approx((co2.co2[gap - 1] + co2.co2[gap + 1]) / 2)


def test_training_sees_nothing_of_the_held_out_years(co2):
    def training_data(known):
        scale, origins = series.scale_of(known), series.training_origins(known)
        return scale, series.inputs(known, scale, origins), series.targets(known, scale, origins)

    other = co2.co2.copy()
    other[co2.held_out :] = 1000.0
    assert co2.measured[co2.held_out - 1]  # no gap is filled from the held-out side
    changed = co2._replace(co2=other)
    for seen, without in zip(training_data(co2), training_data(changed), strict=True):
        assert np.array_equal(seen, without)


def test_a_forecast_sees_nothing_after_its_origin(co2):
    origins = series.held_out_origins(co2)[[0, 100, -1]]
    scale = series.scale_of(co2)
    for k, origin in enumerate(origins):
        other = co2.co2.copy()
        other[origin + 1 :] = 1000.0
        changed = co2._replace(co2=other)
        one = origins[k : k + 1]
        assert np.array_equal(series.inputs(co2, scale, one), series.inputs(changed, scale, one))
        for forecast in (series.seasonal_naive, series.seasonal_naive_with_drift):
            assert np.array_equal(forecast(co2, one), forecast(changed, one))
        assert (series.truth(changed, one) == 1000.0).all()


def test_windows_and_naive_forecasts_by_hand(co2):
    origins = np.array([500, 1000])
    scale = series.scale_of(co2)
    x, y = series.inputs(co2, scale, origins), series.targets(co2, scale, origins)
    assert x.shape == (WINDOW, 2, 3)
    assert y.shape == (2, YEAR)
    level = co2.co2[500 - YEAR + 1 : 501].mean()
    assert x[-1, 0, 0] == pytest.approx((co2.co2[500] - level) / scale)
    assert x[0, 0, 0] == pytest.approx((co2.co2[500 - WINDOW + 1] - level) / scale)
    assert y[0, 0] == pytest.approx((co2.co2[501] - level) / scale, rel=1e-5)
    assert series.in_ppm(co2, scale, origins, y)[0] == pytest.approx(co2.co2[501:553], abs=1e-4)
    assert series.seasonal_naive(co2, origins)[1, 3] == co2.co2[1000 + 4 - YEAR]
    drift = np.mean([co2.co2[t] - co2.co2[t - YEAR] for t in range(YEAR, 1001)])
    assert series.seasonal_naive_with_drift(co2, origins)[1, 3] == pytest.approx(co2.co2[1000 + 4 - YEAR] + drift)


def test_unmeasured_weeks_are_not_scored(co2):
    gap = int(np.flatnonzero(~co2.measured)[-1])
    truth = series.truth(co2, np.array([gap - 1]))
    assert np.isnan(truth[0, 0])
    assert not np.isnan(truth[0, 1])


@pytest.fixture(scope="module")
def trained(co2):
    scale, origins = series.scale_of(co2), series.training_origins(co2)
    x, y = series.inputs(co2, scale, origins), series.targets(co2, scale, origins)
    advanced: list[str] = []
    *_, pair = training.train(x, y, SMALL, advanced.append)
    assert advanced == ["nn", "ours", "ours", "nn"]
    return outcome.evaluate(co2, scale, pair)


def test_both_are_trained_alike(trained):
    assert isinstance(trained.pair.nn.lstm, nn.LSTM)
    assert isinstance(trained.pair.ours.lstm, fastlstm.LSTM)
    assert [len(epoch) for epoch in trained.pair.nn.losses] == [4, 4]
    assert trained.pair.first_epoch_difference() <= 1e-4
    assert trained.pair.epoch_difference() <= 1e-2
    assert trained.pair.ours.epoch_losses[1] < trained.pair.ours.epoch_losses[0]


def test_failures_name_what_does_not_hold(trained):
    assert not any("losses" in failure for failure in trained.failures())
    useless = trained._replace(ours=trained.naive + 10)
    assert "the forecast does not beat the seasonal naive one" in useless.failures()
    drifted = trained.pair.ours.losses
    trained.pair.ours.losses = [[loss * 1.02 for loss in epoch] for epoch in drifted]
    assert sum("differ by 2.0e-02" in failure for failure in trained.failures()) == 2
    trained.pair.ours.losses = drifted


def test_the_ratio_is_nn_lstms_time_over_ours(trained, monkeypatch):
    monkeypatch.setattr(trained.pair.nn, "seconds", [9.0, 4.0, 4.0])
    monkeypatch.setattr(trained.pair.ours, "seconds", [2.0, 2.0, 0.1])
    assert trained.pair.ratio() == 2


def test_one_step_that_differs_is_seen(trained, monkeypatch):
    first, *rest = trained.pair.ours.losses
    monkeypatch.setattr(trained.pair.ours, "losses", [[*first[:-1], first[-1] * 1.02], *rest])
    assert trained.pair.first_epoch_difference() == pytest.approx(0.02, rel=1e-2)


def test_each_forecast_has_its_own_score(trained):
    scores = {name: (rmse, mae) for name, rmse, mae in report.scores(trained._replace(ours=trained.truth))}
    assert scores["fastlstm.LSTM"] == (0, 0)
    assert all(rmse > 0 for name, (rmse, _) in scores.items() if name != "fastlstm.LSTM")


def test_the_score_of_the_truth_is_zero(trained):
    assert trained.rmse(trained.truth) == trained.mae(trained.truth) == 0
    assert trained.rmse(trained.truth + 2) == pytest.approx(2)


def test_the_checkpoint_forecasts_as_the_trained_model_does(trained, tmp_path):
    report.save_checkpoint(trained, tmp_path)
    lstm = fastlstm.load(tmp_path / report.LSTM)
    head = nn.Linear(SMALL.hidden_size, YEAR)
    head.load_state_dict(load_file(tmp_path / report.HEAD))
    with safe_open(tmp_path / report.HEAD, "pt") as file:
        scale = float(file.metadata()["scale"])
    with torch.inference_mode():
        output, _ = lstm(torch.from_numpy(series.inputs(trained.series, scale, trained.origins)))
        forecast = series.in_ppm(trained.series, scale, trained.origins, head(output[-1]).numpy())
    assert np.array_equal(forecast, trained.ours)


def test_the_example_forecasts_the_year_after_the_series(trained, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "forecast_next_year.py"

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(example), str(tmp_path)], capture_output=True, text=True, check=False
        )

    without = run()
    assert without.returncode == 1
    assert without.stderr.endswith(": run `fastlstm demo` first\n")
    report.save_checkpoint(trained, tmp_path)
    result = run()
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 13
    assert all(line.endswith(" ppm") for line in result.stdout.splitlines())


def test_the_command_writes_picture_report_and_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Settings", lambda: SMALL._replace(epochs=4, batch=64, learning_rate=2e-2))
    folder = tmp_path / "results"
    result = CliRunner().invoke(app, ["demo", "--output", str(folder)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} == {report.PICTURE, report.REPORT, report.LSTM, report.HEAD}
    assert (folder / report.PICTURE).read_bytes().startswith(b"\x89PNG")
    text = (folder / report.REPORT).read_text()
    assert "| fastlstm.LSTM |" in text
    assert "| 4 |" in text
    assert "RMSE" in result.stdout
    assert "ratio" in result.stdout


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path / "file" / "out")], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "--output" in result.output


def test_the_command_exits_with_1_where_a_claim_fails(tmp_path, monkeypatch):
    class Wrong(nn.LSTM):
        def forward(self, x):
            output, hx = super().forward(x)
            return output * 1.01, hx

    monkeypatch.setattr(fastlstm, "LSTM", Wrong)
    monkeypatch.setattr(fastlstm, "engine", lambda lstm, x: fastlstm.torch.runners.Engine("composite", "a wrong one"))
    monkeypatch.setattr(training, "Settings", lambda: SMALL)
    monkeypatch.setattr(report, "save_checkpoint", lambda *_: None)
    result = CliRunner().invoke(app, ["demo", "--output", str(tmp_path)], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "does not hold" in result.stdout
