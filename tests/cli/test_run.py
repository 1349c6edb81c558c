"""`fastlstm run`: the layer's output in a file, whatever pieces it was computed in."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fastlstm
from fastlstm.cli import app
from fastlstm.cli import run as command


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [tmp_path / "layer.safetensors", tmp_path / "x.npy", tmp_path / "y.npy"]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (103, 2), (100, 3), (65, None), (2, 1)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_pieces_are_the_whole(monkeypatch, paths, kind, bidirectional, shape, batch_first):
    monkeypatch.setattr(command, "CHUNK", 34)
    layer = getattr(fastlstm, kind)(3, 4, 2, batch_first=batch_first, bidirectional=bidirectional)
    fastlstm.save(layer, paths[0])
    T, N = shape
    lead = (T,) if N is None else (N, T) if batch_first else (T, N)
    x = np.random.default_rng(0).standard_normal((*lead, 3)).astype(np.float32)
    np.save(paths[1], x)
    done = invoke(*paths)
    assert done.exit_code == 0, done.output
    with torch.no_grad():
        assert np.array_equal(np.load(paths[2]), layer(torch.from_numpy(x))[0].numpy())


def test_what_it_refuses(paths, tmp_path):
    layer = fastlstm.LSTM(3, 4)
    fastlstm.save(layer, paths[0])
    np.save(paths[1], np.zeros((5, 2, 4), np.float32))
    for arguments, words in (
        (paths, "H_in = 3, got float32 of shape (5, 2, 4)"),
        ([paths[0], paths[0], paths[2]], "Invalid value"),
        ([paths[1], paths[1], paths[2]], "no safetensors file"),
        ([*paths, "--prefix", "encoder."], "it has layers under ''"),
        ([paths[0], tmp_path / "nothing.npy", paths[2]], "No such file"),
    ):
        done = invoke(*arguments)
        assert done.exit_code != 0
        assert words in re.sub(r"\s+", " ", done.output), done.output
        assert not paths[2].exists()
    np.save(paths[1], np.zeros((5, 2, 3), np.float32))
    before = paths[1].read_bytes()
    assert "OUTPUT.npy is INPUT.npy" in invoke(paths[0], paths[1], paths[1]).output
    assert paths[1].read_bytes() == before
    fastlstm.save(fastlstm.LSTMCell(3, 4), paths[0])
    assert "LSTMCell, which is one step" in re.sub(r"\s+", " ", invoke(*paths).output)
