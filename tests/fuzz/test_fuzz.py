"""A short run of the fuzzer, and that it finds what it is for: a wrong number, another error, a crash, a hang."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

import fastlstm
from tests.fuzz import workers
from tests.fuzz.case import Case, Odd, draw
from tests.fuzz.differences import LISTED
from tests.fuzz.judge import Verdict, compare, judge
from tests.fuzz.outcome import run
from tests.fuzz.source import reference, script


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


@pytest.mark.parametrize(("dtype", "wrong"), [("float32", 1e-4), ("float64", 1e-10), ("bfloat16", 0.1)])
def test_a_wrong_number_is_found_and_one_that_is_rounded_is_not(dtype: str, wrong: float) -> None:
    case = Case(I=3, H=5, T=4, N=2, dtype=dtype, mode="grad")
    for name in ("c_n", "dweight_hh_l0"):
        for error, found in ((0.0, None), (wrong, f"{'value' if name == 'c_n' else 'gradient'}s differ")):
            ours, theirs = run(case, script(case), fastlstm), run(case, reference(case), nn)
            entry = ours.entries[name]
            assert entry is not None
            entry *= 1 + error
            said = compare(case, ours, theirs)
            assert (said and said[0]) == found, said


@pytest.mark.parametrize("layer", ["GRU", "GRUCell"])
def test_a_wrong_number_of_a_gru_is_found(layer: str) -> None:
    case = Case(layer=layer, I=3, H=5, T=4, N=2, mode="grad", hx="h")
    for name in ("h_n", "dh", "dweight_hh" if layer == "GRUCell" else "dweight_hh_l0"):
        for factor in (1.0, 1.0 + 1e-4):
            tried = replace(case, h=Odd(grad="leaf"))
            ours, theirs = run(tried, script(tried), fastlstm), run(tried, reference(tried), nn)
            entry = ours.entries[name]
            assert entry is not None
            entry *= factor
            assert (compare(tried, ours, theirs) is None) == (factor == 1), name


def test_every_kind_of_layer_is_drawn_in_every_way() -> None:
    drawn = [draw(0, index) for index in range(600)]
    assert sum(case.is_gru for case in drawn) == 200
    for layer in ("LSTM", "LSTMCell", "GRU", "GRUCell"):
        assert {"class", "enable"} <= {case.way for case in drawn if case.layer == layer}
    for layer in ("LSTM", "GRU"):
        cases = [case for case in drawn if case.layer == layer]
        assert {case.form for case in cases} == {"dense", "packed", "built", "lengths", "nested"}
        assert any(case.trace for case in cases)


def test_slopes_that_multiply_what_is_rounded_are_no_failure() -> None:
    """Weights of N(0, 1): a digit of an input's moves gradients by hundreds of tolerances."""
    case = draw(0, 46735)
    assert case.weights.keys() >= {"weight_ih_l0", "weight_hh_l0", "weight_hr_l0"}
    assert judge(case) == Verdict("agreed")
