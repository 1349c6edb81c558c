"""enable() leaves no trace in what torch records of its own operators: a table, each column in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TABLE = str(Path(__file__).parent / "recordings.py")


@pytest.fixture(scope="module")
def columns() -> dict[str, dict[str, Any]]:
    """By what was said before: all three at once, each is half a minute."""
    running = {
        said: subprocess.Popen([sys.executable, TABLE, said], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for said in ("never", "block", "on")
    }
    found = {}
    for said, process in running.items():
        printed, complaints = process.communicate(timeout=600)
        assert process.returncode == 0, complaints
        found[said] = json.loads(printed.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("said", ["block", "on"])
def test_torch_records_its_own_operators_as_where_nobody_said_enable(
    said: str, columns: dict[str, dict[str, Any]]
) -> None:
    never, found = columns["never"], columns[said]
    assert never["dense: onnx"][0] == "LSTM"
    assert "aten.lstm.input" in never["dense: export"]
    other = {row: (never[row], found[row]) for row in never if found[row] != never[row]}
    assert not other
    assert list(found) == list(never)
