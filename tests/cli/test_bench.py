"""`fastlstm bench`: it measures what was asked for, prints and writes it, and refuses what it can't do."""

import csv
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fastlstm.bench import floor, measure, points
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.measure import Schedule
from fastlstm.bench.peers import PEERS
from fastlstm.bench.points import Point
from fastlstm.bench.record import write_lines
from fastlstm.bench.stream import measuring
from fastlstm.cli import app, needs
from fastlstm.cli.bench import STREAM

POINTS = [Point("tiny", 3, 2, 4, 5), Point("step", 1, 1, 3, 2, layers=2)]
LARGE = Point("large", 200, 64, 256, 256)  # --quick leaves it out


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A few milliseconds a run, in place of minutes; torch's threads as they were."""
    monkeypatch.setitem(GRIDS, "people", GRIDS["people"]._replace(points=[*POINTS, LARGE]))
    monkeypatch.setitem(GRIDS, "ragged", GRIDS["ragged"]._replace(points=[Point("ragged", 6, 4, 3, 5, packed=True)]))
    monkeypatch.setattr(points, "STREAM", [Point("step", 1, 1, 3, 3), Point("step", 1, 1, 4, 4)])
    monkeypatch.setattr(measure, "QUICK", Schedule(bursts=3, seconds=0.001))
    monkeypatch.setattr(measuring, "QUICK", measuring.Schedule(measure.QUICK, rounds=1, steps=50))
    monkeypatch.setattr(floor, "EDGE", 256)
    monkeypatch.setattr(floor, "COPIED", 2**20)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", "--quick", "--threads", "1", *arguments], env={"COLUMNS": "140"})


@pytest.mark.parametrize("mode", [[], ["--train"]])
def test_the_command_measures_every_point_and_writes_it(mode, tmp_path):
    file = tmp_path / "bench.csv"
    result = bench(*mode, "--csv", str(file))
    assert result.exit_code == 0, result.output
    assert "nn.LSTM / fastlstm: geometric mean" in result.stdout
    assert "lowest" in result.stdout
    assert "floor: torch.mm" in result.stdout
    assert "over 100% of it: all that a small call has stays in a cache" in " ".join(result.stdout.split())
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["purpose"], row["T"], row["layers"], row["engine"]) for row in rows] == [
        ("tiny", "3", "1", "nn.LSTM"),
        ("tiny", "3", "1", "fastlstm"),
        ("step", "1", "2", "nn.LSTM"),
        ("step", "1", "2", "fastlstm"),
    ]
    for row in rows:
        assert 0 < float(row["lowest_us"]) <= float(row["median_us"]) <= float(row["highest_us"])
        assert float(row["floor_us"]) >= 0
        assert float(row["GFLOP/s"]) >= 0
        assert float(row["peak_GFLOP/s"]) > 0
        assert float(row["copy_GB/s"]) > 0
        assert (row["D"], row["P"], row["dtype"], row["packed"]) == ("1", "0", "float32", "0")
        assert (row["grid"], row["mode"]) == ("people", "train" if mode else "infer")
        assert row["threads"] == "1"
        assert row["torch"] == torch.__version__
        assert row["bursts"] == "3"
        assert all(row[name] for name in ("processor", "isa", "fastlstm", "python", "command"))
    flops = (6 if mode else 2) * 6 * 4 * 5 * 9
    assert float(rows[0]["GFLOP/s"]) == pytest.approx(flops / float(rows[0]["median_us"]) / 1e3, abs=0.02)


@pytest.mark.parametrize("mode", [[], ["--train"]])
def test_a_gru_stands_beside_nn_gru(mode, tmp_path):
    file = tmp_path / "gru.csv"
    result = bench("--cell", "gru", *mode, "--csv", str(file), "--plot", str(tmp_path / "gru.svg"))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("GRU, ")
    assert "nn.GRU / fastlstm: geometric mean" in result.stdout
    assert "LSTM" not in result.stdout
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["cell"], row["engine"]) for row in rows] == [("GRU", "nn.GRU"), ("GRU", "fastlstm")] * 2
    flops = (6 if mode else 2) * 6 * 3 * 5 * 9
    assert float(rows[0]["GFLOP/s"]) == pytest.approx(flops / float(rows[0]["median_us"]) / 1e3, abs=0.02)


def test_other_engines_stand_beside_nn_gru():
    for package in ("onnxruntime", "onnx", "openvino"):
        pytest.importorskip(package)
    result = bench("--cell", "GRU", "--peers", "torch,onnxruntime,openvino")
    assert result.exit_code == 0, result.output
    for label in ("nn.GRU", "ONNX Runtime", "OpenVINO"):
        assert f"{label} / fastlstm: geometric mean" in result.stdout


def test_a_grid_by_name_prints_its_figure_too():
    result = bench("--grid", "ragged")
    assert result.exit_code == 0, result.output
    assert "fastlstm dense" in result.stdout
    assert "packed / its share of dense: geometric mean" in result.stdout


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_stream_is_measured_step_by_step(cell, tmp_path):
    file, picture = tmp_path / "stream.csv", tmp_path / "stream.svg"
    result = bench("--grid", "stream", "--cell", cell, "--csv", str(file), "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{cell}, one step of one row of a stream")
    assert f"nn.{cell} / fastlstm: geometric mean" in result.stdout
    assert "p99.9 / p50, fastlstm / bare loop: at most 1.3" in result.stdout
    assert "<svg" in picture.read_text()
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["H"], row["cell"], row["engine"]) for row in rows] == [
        (H, cell, engine) for H in ("3", "4") for engine in (f"nn.{cell}", "fastlstm", "bare loop")
    ]
    for row in rows:
        assert 0 < float(row["lowest_us"]) <= float(row["median_us"]) <= float(row["highest_us"])
        assert float(row["floor_us"]) > 0
        assert (row["grid"], row["mode"], row["threads"], row["bursts"]) == ("stream", "infer", "1", "3")
        assert all(row[name] for name in ("processor", "isa", "fastlstm", "torch", "python", "command"))
        assert bool(row["p99.9/p50"]) == (row["engine"] != f"nn.{cell}")
        assert bool(row["over_bare"]) == (row["engine"] == "fastlstm")


def test_other_engines_go_step_by_step_too(tmp_path):
    for package in ("onnxruntime", "onnx", "openvino"):
        pytest.importorskip(package)
    picture = tmp_path / "stream.svg"
    result = bench("--grid", "stream", "--peers", "torch,onnxruntime,openvino", "--plot", str(picture))
    assert result.exit_code == 0, result.output
    for label in ("nn.LSTM", "ONNX Runtime", "ONNX Runtime, bound", "OpenVINO"):
        assert f"{label} / fastlstm: geometric mean" in result.stdout
    assert "<svg" in picture.read_text()


def test_a_stream_has_one_thread_where_none_is_asked_for():
    torch.set_num_threads(2)
    result = CliRunner().invoke(app, ["bench", "--grid", "stream", "--quick"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "threads 1," in result.stdout


def test_the_ratios_are_drawn(tmp_path):
    picture = tmp_path / "ratios.png"
    assert bench("--plot", str(picture)).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_kept_csv_is_drawn_and_nothing_measured(tmp_path, monkeypatch):
    file, pictures = tmp_path / "a.csv", [tmp_path / "measured.svg", tmp_path / "kept.svg"]
    assert bench("--csv", str(file), "--plot", str(pictures[0])).exit_code == 0
    monkeypatch.delattr(measure, "measure")
    result = CliRunner().invoke(app, ["bench", "--from", str(file), "--plot", str(pictures[1])])
    assert result.exit_code == 0, result.output
    counts = [picture.read_text().count("<use ") for picture in pictures]
    assert counts[0] == counts[1]


def test_a_kept_csv_stands_beside_plot_alone(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("a,b\n")
    picture = ["--plot", str(tmp_path / "a.svg")]
    for others in ([], [*picture, "--train"]):
        result = CliRunner().invoke(app, ["bench", "--from", str(file), *others], env={"COLUMNS": "200"})
        assert result.exit_code == 2
        assert "stands beside --plot, and no other option" in result.output
    result = CliRunner().invoke(app, ["bench", "--from", str(file), *picture], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert "expected a CSV of fastlstm bench, but it has no column" in result.output


@pytest.mark.parametrize("column", ["grid", "mode", "engine", "cell"])
def test_a_csv_with_words_that_no_picture_knows_is_refused(column, tmp_path):
    file = tmp_path / "a.csv"
    assert bench("--csv", str(file)).exit_code == 0
    lines = list(csv.DictReader(file.read_text().splitlines()))
    for line in lines:
        if column != "engine" or line[column] != "fastlstm":
            line[column] = "strange"
    write_lines(file, lines)
    result = CliRunner().invoke(
        app, ["bench", "--from", str(file), "--plot", str(tmp_path / "a.svg")], env={"COLUMNS": "400"}
    )
    assert result.exit_code == 2, result.exception
    assert f"{column}: expected " in result.output


def test_other_engines_stand_beside_torch(tmp_path):
    for package in ("onnxruntime", "onnx", "openvino"):
        pytest.importorskip(package)
    file = tmp_path / "bench.csv"
    result = bench("--peers", "torch,onnxruntime,openvino", "--csv", str(file))
    assert result.exit_code == 0, result.output
    for label in ("nn.LSTM", "ONNX Runtime", "OpenVINO"):
        assert f"{label} / fastlstm: geometric mean" in result.stdout
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["engine"] for row in rows[:4]] == ["nn.LSTM", "ONNX Runtime", "OpenVINO", "fastlstm"]
    assert all(row[package] for row in rows for package in ("onnxruntime", "onnx", "openvino"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--grid", "people,ragged"], "there is no grid 'people,ragged', but people, ragged, proj"),
        (["--cell", "rnn"], "there is no cell 'rnn', but lstm, gru"),
        (["--cell", "gru", "--grid", "proj"], "a GRU has no projection, which this grid is of"),
        (["--peers", "torch,tensorflow"], "there is no peer 'tensorflow', but torch, onnxruntime, openvino, jax"),
        (["--peers", "torch,jax", "--grid", "float64"], "this grid has no peer but torch"),
        (["--peers", "torch,onnxruntime,openvino", "--train"], "onnxruntime and openvino can't train"),
        (["--grid", "stream", "--train"], "a stream can't train: it has no gradients"),
        (["--grid", "stream", "--threads", "2"], "a step of a stream runs on one thread: 1, or left out"),
        (["--grid", "stream", "--peers", "torch,jax"], "jax is not measured step by step"),
        (["--grid", "stream", "--peers", "torch,tensorflow"], "there is no peer 'tensorflow'"),
        (["--grid", "stream", "--cell", "rnn"], "there is no cell 'rnn', but lstm, gru"),
    ],
)
def test_what_it_can_not_do_is_refused(arguments, said):
    result = bench(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_the_floor_is_that_of_the_grids_dtype(monkeypatch):
    asked = []
    monkeypatch.setattr(floor, "measure_floor", lambda dtype: asked.append(dtype) or floor.Floor(1e9, 1e9))
    monkeypatch.setitem(GRIDS, "float64", GRIDS["float64"]._replace(points=[POINTS[0]._replace(dtype="float64")]))
    assert bench("--grid", "float64").exit_code == 0
    assert asked == ["float64"]


@pytest.mark.parametrize("grid", ["people", "stream"])
@pytest.mark.parametrize("option", ["--csv", "--plot"])
def test_a_folder_that_is_not_there_is_named_before_anything_is_measured(option, grid, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "measure", None)
    monkeypatch.setattr(measuring, "measure_stream", None)
    result = bench("--grid", grid, option, str(tmp_path / "nowhere" / "a.svg"))
    assert result.exit_code == 2
    assert option in result.output
    assert "there is no folder" in result.output


def test_every_grid_and_peer_is_named_where_one_looks_for_it():
    root = Path(__file__).parents[2]
    makefile, page = ((root / name).read_text() for name in ("Makefile", "benchmarks/README.md"))
    said = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "200"}).output
    recipe = makefile[makefile.index("\nbench:") : makefile.index("define bench_grid")]
    for name in (*GRIDS, STREAM, *PEERS):
        assert name in said
        assert f"| {name} |" in page
        assert name in recipe or name == "people"  # which is the default
    assert "lstm or gru" in said
    for file in (recipe, page):
        assert "bench --cell gru" in file
        assert "gru.csv" in file
        assert "gru-training.csv" in file


def test_a_peer_that_is_not_installed_names_what_to_install(monkeypatch):
    monkeypatch.setattr(needs, "find_spec", lambda package: package == "torch" or None)
    result = bench("--peers", "onnxruntime")
    assert result.exit_code == 1
    assert 'needs onnxruntime and onnx: pip install ".[bench]" in the folder of fastlstm' in result.output
