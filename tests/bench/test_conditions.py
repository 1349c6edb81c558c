"""Every condition reads what it says it reads, and its verdict is on the worst of it."""

import os
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from fastlstm.bench.conditions import CONDITIONS, first_call, load, memory, process, resident, threads
from fastlstm.bench.conditions.condition import Reading, Verdict, both
from fastlstm.bench.contender import Contender, Inputs
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.measure import Measured, Schedule
from fastlstm.bench.points import Point, Work
from fastlstm.cells import CELLS, GRU, LSTM

TINY = Point("tiny", 3, 2, 4, 5)
CALLED = {LSTM: "T 3, N 2, I 4, H 5", GRU: "T 3, N 2, I 4, H 5, GRU"}
each_cell = pytest.mark.parametrize("cell", CELLS, ids=[cell.name for cell in CELLS])
on_linux = pytest.mark.skipif(not process.TELLS_MEMORY, reason="only Linux tells a process's memory")


@pytest.fixture
def tiny(monkeypatch):
    """One tiny point, short bursts, one process for each figure."""
    monkeypatch.setitem(GRIDS, "people", GRIDS["people"]._replace(points=[TINY]))
    monkeypatch.setattr(first_call, "POINTS", [TINY])
    monkeypatch.setattr(first_call, "PROCESSES", 1)
    for module in (load, threads):
        monkeypatch.setattr(module, "SCHEDULE", Schedule(bursts=2, seconds=0.001))
    for name, value in {"CALLS": 40, "EVERY": 20, "SETTLED": 20, "THREADS": (2,)}.items():
        monkeypatch.setattr(resident, name, value)


MODES = {
    "first-call": ["infer", "train"],
    "memory": ["train"],
    "resident": ["both"],
    "load": ["infer", "train"],
    "threads": ["infer", "train"],
}
FIGURES = {
    "first-call": [f"{{}} {figure}" for figure in ("first, µs", "later, µs", "first / later")],
    "memory": ["{}, MiB"],
    "resident": [],
    "load": ["{}, µs"],
    "threads": [],
}
OTHERS = {
    "first-call": [],
    "memory": ["fastlstm / {}"],
    "resident": ["20 calls, MiB", "40 calls, MiB"],
    "load": ["fastlstm / {}"],
    "threads": ["threads: 1, µs", "threads: 2, µs", "default / best"],
}


# A GRU's first-call starts four processes, each of which imports torch, and runs nothing that memory's two do not.
CASES = [(name, cell) for name in CONDITIONS for cell in CELLS if (name, cell) != ("first-call", GRU)]


@pytest.mark.parametrize(
    ("name", "cell"), [pytest.param(name, cell, id=f"{name}-{cell.name}", marks=on_linux) for name, cell in CASES]
)
def test_a_condition_reads_its_figures_and_judges_them(name, cell, tiny):
    torch.set_num_threads(2)
    steps = []
    readings = CONDITIONS[name].measure(lambda sequence: (steps.append(step) or step for step in sequence), cell)
    at = {LSTM: "Python threads: 2", GRU: "Python threads: 2, GRU"} if name == "resident" else CALLED
    assert [reading[:2] for reading in readings] == [(at[cell], mode) for mode in MODES[name]]
    assert len(steps) == (2 if name == "resident" else len(readings))
    theirs = f"nn.{cell.name}"
    of_both = [figure.format(label) for label in (theirs, "fastlstm") for figure in FIGURES[name]]
    assert list(readings[0].values) == of_both + [figure.format(theirs) for figure in OTHERS[name]]
    assert all(reading.values.keys() == readings[0].values.keys() for reading in readings)
    assert all(value > 0 for reading in readings for value in reading.values.values())
    assert CONDITIONS[name].judge(readings, cell).limit > 0
    assert torch.get_num_threads() == 2


@each_cell
@pytest.mark.parametrize("module", [first_call, memory, load])
def test_ours_twice_as_bad_reads_two(module, cell, tiny, monkeypatch):
    theirs = f"nn.{cell.name}"
    name = "fastlstm first / later" if module is first_call else f"fastlstm / {theirs}"
    trained, loaded = set(), []

    def fresh(function, prepare, point, train=True, *_):
        trained.add(train)
        assert point.cell == cell.name
        bad = prepare is both(cell)["fastlstm"]
        return (2.0 if bad else 1.0, 1.0) if module is first_call else 2.0 if bad else 1.0

    @contextmanager
    def busy():
        loaded.append("begins")
        yield
        loaded.append("ends")

    def take(point, contenders, schedule):
        loaded.append("measured")
        assert point.cell == cell.name
        return Measured(point, 1, {theirs: [1.0], "fastlstm": [2.0]}, {})

    if module is load:
        monkeypatch.setattr(load, "busy", busy)
        monkeypatch.setattr(load, "take", take)
    else:
        monkeypatch.setattr(module, "fresh", fresh)
    readings = module.measure(iter, cell)
    assert [reading.values[name] for reading in readings] == [2] * len(readings)
    verdict = module.judge(readings, cell)
    assert not verdict._replace(limit=1).holds
    assert module is first_call or f" over {theirs}'s" in verdict.said
    assert cell is LSTM or "LSTM" not in verdict.said
    if module is load:
        assert loaded == ["begins", "measured", "measured", "ends"]
    if module is first_call:
        assert trained == {False, True}


@each_cell
def test_the_peak_is_that_of_training_steps_after_a_tiny_one(cell, monkeypatch):
    asked = []

    def prepare(inputs: Inputs, train: bool) -> Contender:
        return Contender(lambda: asked.append((inputs.point, train)), lambda returned: {}, Work(1, 1))

    def peak_of(call):
        asked.append("from here on")
        call()
        return 5.0

    monkeypatch.setattr(memory, "peak_of", peak_of)
    point, before = (size._replace(cell=cell.name) for size in (TINY, memory.BEFORE))
    assert memory.step_peak(prepare, point) == 5
    assert asked == [(before, True), "from here on", *[(point, True)] * memory.STEPS]


def test_a_verdict_holds_what_it_says():
    assert str(Verdict(3, 2, " MiB", "it grew")) == "does not hold: it grew: 3.00 MiB, line 2.00 MiB"
    assert str(Verdict(2, 2, " MiB", "it grew")) == "holds: it grew: 2.00 MiB, line 2.00 MiB"


@pytest.mark.parametrize(
    ("module", "name", "limit", "said"),
    [
        (first_call, "fastlstm first / later", 3, "the first call over a later one (b, train)"),
        (memory, "fastlstm / {}", 1, "peak memory over {}'s, geometric mean 0.71x, worst (b, train)"),
        (load, "fastlstm / {}", 1, "time over {}'s under the same load, worst (b, train)"),
        (threads, "default / best", 1.1, "time with default threads over that with the best number, worst (b, train)"),
    ],
)
@each_cell
def test_the_highest_factor_is_held_to_the_line(module, name, limit, said, cell):
    name = name.format(f"nn.{cell.name}")
    readings = [Reading("a", "infer", {name: limit / 2}), Reading("b", "train", {name: limit})]
    verdict = module.judge(readings, cell)
    assert verdict.holds
    assert (verdict.figure, verdict.limit) == (limit, limit)
    assert verdict.said == said.format(f"nn.{cell.name}")
    verdict = module.judge([Reading("c", "infer", {name: limit * 1.01}), *readings], cell)
    assert not verdict.holds
    assert str(verdict).startswith("does not hold: ")
    assert "(c, infer)" in verdict.said


def test_a_figure_that_is_no_number_does_not_hold():
    assert not Verdict(float("nan"), 1, "x", "nothing was measured").holds


def grown(settled: float, last: float, at: str = "Python threads: 1") -> Reading:
    return Reading(at, "both", {"1,000 calls, MiB": 1, "2,000 calls, MiB": settled, "10,000 calls, MiB": last})


@pytest.mark.parametrize(("settled", "allowed"), [(100, 32), (320, 32), (1000, 100)])
def test_resident_memory_may_grow_by_a_tenth_or_32_mib(settled, allowed):
    assert resident.judge([grown(settled, settled + allowed)], LSTM).holds
    assert resident.judge([grown(settled, settled - 50)], LSTM).holds
    verdict = resident.judge([grown(settled, settled + allowed + 1), grown(2000, 2150, "Python threads: 8")], LSTM)
    assert not verdict.holds
    assert (verdict.figure, verdict.limit) == (allowed + 1, allowed)


def test_a_fresh_process_is_another_one_and_hands_back_what_it_finds():
    assert process.fresh(os.getpid) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        process.fresh(divmod, 1, 0)


@on_linux
def test_the_peak_counts_what_a_call_holds_for_a_while_and_no_earlier_call():
    held = 64 * 2**20
    first = process.peak_of(lambda: bytearray(held).find(b"x"))  # every page is read, and freed at the end
    assert first == pytest.approx(64, abs=4)
    assert process.peak_of(lambda: None) < 4
    before = process.resident()
    kept = bytearray(held)
    assert kept.find(b"x") == -1
    assert process.resident() - before == pytest.approx(64, abs=4)


def slow_first(inputs: Inputs, train: bool) -> Contender:
    """0.2 s, and 0.01 s for every later call."""
    seconds = iter([0.2])
    return Contender(lambda: time.sleep(next(seconds, 0.01)), lambda returned: {}, Work(1, 1))


def test_the_first_call_is_told_from_later_ones():
    first, later = first_call.first_and_later(slow_first, TINY, False, 3)
    assert 0.01 <= later < 0.2 <= first


@on_linux
def test_a_leak_is_seen(monkeypatch):
    leaked = []
    monkeypatch.setattr(resident, "call", lambda cell, seed: leaked.append(bytearray(b"x" * 2**20)))
    before = resident.held_after(2, range(32), LSTM)
    assert resident.held_after(2, range(64), LSTM) - before == pytest.approx(64, abs=4)
    assert len(leaked) == 96


@each_cell
def test_random_calls_train_and_infer_with_the_threads_asked_for(cell, monkeypatch):
    seen, steps = set(), set()
    barrier = threading.Barrier(3, timeout=60)  # broken where fewer than three threads call

    class Layer(getattr(torch.nn, cell.name)):
        def forward(self, x):
            barrier.wait()
            seen.add(threading.get_ident())
            steps.add((x.requires_grad, torch.is_grad_enabled()))
            return super().forward(x)

    monkeypatch.setattr(resident.fastlstm, cell.name, Layer)
    monkeypatch.setattr(resident, "resident", lambda: 1.0)
    assert resident.held_after(3, range(12), cell) == 1.0
    assert len(seen) == 3
    assert steps == {(True, True), (False, False)}


@on_linux
def test_the_busy_process_is_busy_and_ends():
    with load.busy() as process:
        clock = (~process.pid << 3) | 2  # what clock_getcpuclockid gives: the processor time of that process
        end = time.monotonic() + 60
        while time.clock_gettime(clock) < 0.5:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
    assert process.poll() is not None


def test_a_call_runs_with_the_number_of_threads_it_was_made_for():
    calls = [threads._with_threads(count, torch.get_num_threads) for count in (1, 2)]
    assert [call() for call in (*calls, *calls)] == [1, 2, 1, 2]


def test_a_default_that_is_not_the_best_stands_out(tiny, monkeypatch):
    """Two threads that take twice as long as one."""

    def fake(calls, schedule):
        return 1, {name: [1.0 * call()] for name, call in calls.items()}

    count_threads = Contender(torch.get_num_threads, None, None)
    monkeypatch.setattr(threads.in_torch, "ours", lambda inputs, train: count_threads)
    monkeypatch.setattr(threads, "take_in_turn", fake)
    torch.set_num_threads(2)
    readings = threads.measure(iter, LSTM)
    assert readings[0].values == {"threads: 1, µs": 1e6, "threads: 2, µs": 2e6, "default / best": 2}
    assert not threads.judge(readings, LSTM).holds
    assert torch.get_num_threads() == 2


def test_a_point_over_the_line_is_taken_twice_more_and_its_median_counts(tiny, monkeypatch):
    for slowness, expected in (([1.05, 9], 1.05), ([1.3, 1.0, 1.2], 1.2), ([5, 1.04, 1.02], 1.04)):
        taken = iter(slowness)
        monkeypatch.setattr(
            threads,
            "take_in_turn",
            lambda calls, schedule, taken=taken: (1, {a: [s] for a, s in zip(calls, (1.0, next(taken)), strict=True)}),
        )
        torch.set_num_threads(2)
        assert threads._reading(TINY, "infer", 2).values["default / best"] == pytest.approx(expected)
