"""A torch that is too old is refused in one line, before anything of it is asked that it may lack."""

import os
import subprocess
import sys

import pytest
import torch

from fastlstm.torch_versions import OLDEST, refuse_older

# A torch that has a version, and nothing else.
DOUBLE = """
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
torch = sys.modules["torch"] = module_from_spec(ModuleSpec("torch", None))
torch.__version__ = "2.5.1"
"""
SAID = f"fastlstm needs PyTorch {OLDEST} or later, and this is 2.5.1: pip install -U torch"
MAIN = "from fastlstm.__main__ import main; main()"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "400"}
    return subprocess.run(
        [sys.executable, "-c", DOUBLE + script, *arguments], env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["LSTM", "GRUCell", "convert", "enable", "load", "strict"])
def test_each_name_says_so(name: str) -> None:
    done = run(f"from fastlstm import {name}")
    assert done.returncode == 1
    warning, *_, error = done.stderr.splitlines()
    assert error == f"ImportError: {SAID}"
    assert "fastlstm has not registered its operators" in warning
    assert "fastlstm/torch/" not in done.stderr  # nothing beneath was begun


def test_what_needs_no_torch_goes_on() -> None:
    done = run("import fastlstm.numpy\nprint(fastlstm.numpy.LSTM)")
    assert done.stdout == "<class 'fastlstm.numpy.layers.LSTM'>\n", done.stderr


def test_info_says_so() -> None:
    done = run(MAIN, "info")
    assert done.returncode == 0
    assert SAID in done.stdout


def test_a_command_that_needs_torch_says_so() -> None:
    done = run(MAIN, "check")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == SAID


@pytest.mark.parametrize("version", [f"{OLDEST}.0", "2.10.0+cpu", "2.15.0", "2.16.0a0+git1234567", "3.0"])
def test_others_are_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)(version))
    refuse_older()
