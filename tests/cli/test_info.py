"""`fastlstm info` reports what the engine and torch themselves say."""

import os
import subprocess
import sys

import torch
from typer.testing import CliRunner

import fastlstm
from fastlstm import _engine
from fastlstm.cli import app


def lines(environment: dict[str, str] | None = None) -> dict[str, str]:
    """The table that `info` prints, by name."""
    result = CliRunner().invoke(app, ["info"], env={"COLUMNS": "200", **(environment or {})})
    assert result.exit_code == 0, result.output
    rows = (line.strip().split("  ", 1) for line in result.stdout.splitlines())
    return {name: value.strip() for name, value in rows}


def test_it_says_what_runs_here():
    table = lines()
    assert table["fastlstm"] == fastlstm.__version__
    assert table["instruction sets"] == ", ".join(_engine.isas())
    assert table["in use"].split()[0] == _engine.isa()
    assert table["torch"] == torch.__version__
    assert table["a CPU tensor goes to"].startswith("native: ")


def test_threads_are_those_of_torch():
    torch.set_num_threads(2)  # conftest puts it back
    assert lines()["threads"].startswith("2 ")


def test_a_forced_instruction_set_is_named():
    assert lines({"FASTLSTM_ISA": "generic"})["in use"].endswith("(FASTLSTM_ISA=generic)")


def test_a_forced_instruction_set_that_is_not_here_is_one_line():
    environment = {**os.environ, "FASTLSTM_ISA": "z80"}
    said = subprocess.run(
        [sys.executable, "-c", "from fastlstm.__main__ import main; main()", "info"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 1
    assert said.stderr.startswith("FASTLSTM_ISA: instruction set 'z80' is not available here; available: generic")
    assert len(said.stderr.splitlines()) == 1
