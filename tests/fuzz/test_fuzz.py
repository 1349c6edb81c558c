"""A short run of the fuzzer, and that it finds what it is for: a wrong number, another error, a crash, a hang."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz import workers
from tests.fuzz.differences import LISTED


def test_two_thousand_random_calls_agree_with_torch() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--count", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "2000 calls" in done.stdout


def test_a_worker_that_dies_or_hangs_is_named_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SLOW", 1.0)

    def work(item: str, tell: object) -> str:
        tell("working")  # type: ignore[operator]
        if item == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if item == "sleep":
            time.sleep(60)
        return item.upper()

    items = ["a", "die", "b", "sleep", "c"]
    found = dict(workers.run(items, work))
    assert list(found) == items
    assert (found["a"], found["b"], found["c"]) == ("A", "B", "C")
    assert found["die"].how == "SIGSEGV"
    assert found["die"].stage == "working"
    assert found["sleep"].how.startswith("hang")


def test_people_can_read_of_every_difference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "layer.md").read_text()
    for difference in LISTED:
        assert f"| {difference.name} | {difference.reason} |" in page
