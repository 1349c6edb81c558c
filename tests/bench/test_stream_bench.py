"""A stream's steps: the engines agree, from state to state, and the floor and the tails are what they say."""

from types import SimpleNamespace

import pytest
import torch

from fastlstm.bench import measure, points
from fastlstm.bench.contender import OURS, Contender, draw_inputs
from fastlstm.bench.measure import Measured
from fastlstm.bench.peers import PEERS
from fastlstm.bench.points import Point, Work
from fastlstm.bench.stream import bare, latency, measuring, report
from fastlstm.bench.stream.latency import Tail
from fastlstm.bench.stream.measuring import BARE, Schedule, Streamed
from fastlstm.cells import CELLS

TINY = Point("tiny", 1, 1, 4, 5)
SHORT = Schedule(measure.Schedule(bursts=2, seconds=0.001), rounds=2, steps=30)
STREAMING = [name for name, peer in PEERS.items() if peer.streams]


def steps_of(name):
    """The peer's, or a skip where its packages are not installed."""
    for package in PEERS[name].packages:
        pytest.importorskip(package)
    return PEERS[name].steps


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
@pytest.mark.parametrize("name", STREAMING)
def test_a_peer_goes_on_from_its_last_state(name, cell):
    (point,) = points.of_cell([TINY], cell)
    inputs = draw_inputs(point)
    with torch.inference_mode():
        output, states = inputs.layer(inputs.x.expand(4, 1, 4))
        states = states if isinstance(states, tuple) else (states,)
        expected = {"output": output[-1:], **{f"{kind}_n": s for kind, s in zip(cell.states, states, strict=True)}}
        for how, contender in measuring.contenders_of(inputs, {name: steps_of(name)}).items():
            for _ in range(4):
                returned = contender.run()
            results = contender.results(returned)
            assert {key: value.shape for key, value in results.items()} == {
                key: value.shape for key, value in expected.items()
            }
            measure.compare(how, results, expected, "float32")


def test_who_forgets_the_state_is_not_timed():
    def forgetful(inputs):
        outcome = {"output": torch.tanh(inputs.x[..., :1].expand(1, 1, 5))}
        return {"": Contender(lambda: None, lambda returned: outcome, Work(1, 1))}

    with pytest.raises(ValueError, match=f"{OURS} at T 1, N 1, I 4, H 5: output differs"):
        measuring.measure_stream(TINY, {"forgetful": forgetful}, SHORT)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_engines_and_the_bare_loop_are_timed_in_turn(cell):
    (point,) = points.of_cell([TINY], cell)
    row = measuring.measure_stream(point, {f"nn.{cell.name}": PEERS["torch"].steps}, SHORT)
    assert list(row.measured.seconds) == [f"nn.{cell.name}", OURS, BARE]
    assert row.measured.peers == [f"nn.{cell.name}"]
    assert {len(bursts) for bursts in row.measured.seconds.values()} == {2}
    assert row.floor > 0
    assert len(row.tails) == 2
    assert {*row.tails[0]} == {OURS, BARE}
    assert all(tail.high >= tail.median > 0 for tails in row.tails for tail in tails.values())
    assert row.calls[OURS] > row.calls[f"nn.{cell.name}"]  # a burst of either lasts as long


def test_onnx_runtime_is_called_in_two_ways():
    steps = steps_of("onnxruntime")
    assert list(steps(draw_inputs(TINY))) == ["", ", bound"]


def loops(dot: list[float], dot_empty: float) -> dict[str, list[float]]:
    """Bursts in microseconds, as seconds; the search takes 4, 8 and 6, with a call of 1."""
    taken = {"search": [5, 9, 7], "search, empty": [1, 8, 1], "dot product": dot, "dot product, empty": [dot_empty] * 3}
    return {name: [burst * 1e-6 for burst in bursts] for name, bursts in taken.items()}


@pytest.mark.parametrize(
    ("dot", "dot_empty", "floor"),
    [
        ([6, 7, 3], 4, [2, 3, bare.TICK * 1e6]),  # the faster loop, without the call
        ([17, 17, 17], 4, [4, 8, 6]),
        ([5, 5, 5], 4, [4, 8, 6]),  # a small part of its call: not to be trusted
    ],
)
def test_the_floor_is_the_faster_loop_without_the_call_around_it(dot, dot_empty, floor):
    assert [burst * 1e6 for burst in bare.fastest(loops(dot, dot_empty))] == pytest.approx(floor)


def test_a_bare_loop_reads_all_it_is_to_read():
    calls = bare.bare_calls(4096)
    assert set(calls) == {"search", "search, empty", "dot product", "dot product, empty"}
    assert calls["search"]() == calls["search, empty"]() == -1  # what is looked for is nowhere
    assert calls["dot product"]().item() == 4096 / 8  # pairs of float32
    assert calls["dot product, empty"]().item() == bare.FEW / 8


def test_a_tail_is_the_999th_of_a_thousand():
    found = latency.tail([*range(1, 999), 5_000, 1_000_000])
    assert found == pytest.approx(Tail(500.5e-9, 5_000e-9))
    assert found.ratio == pytest.approx(5_000 / 500.5)


def test_single_steps_are_timed_in_chunks_in_turn(monkeypatch):
    monkeypatch.setattr(latency, "CHUNK", 2)
    monkeypatch.setattr(latency, "WARM_UP", 1)
    order = []
    tails = latency.tails_in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, steps=5)
    assert "".join(order) == "aaabbb" + "bbbaaa" + "aabb"  # each with a step that isn't timed
    assert set(tails) == {"a", "b"}


def test_a_steps_time_is_its_own(monkeypatch):
    clock = SimpleNamespace(now=0)
    monkeypatch.setattr(latency, "perf_counter_ns", lambda: clock.now)
    lasting = iter([3, 5, 4])

    def step():
        clock.now += next(lasting)

    assert latency._single_steps(step, 3) == [3, 5, 4]


def streamed(over_bare: float) -> Streamed:
    """A point where a step takes 2 us, nn.LSTM 80, the bare loop 1, whose tail is 1.5."""
    seconds = {"nn.LSTM": [80e-6] * 3, OURS: [2e-6] * 3, BARE: [1e-6] * 3}
    tails = {OURS: Tail(2e-6, 2e-6 * 1.5 * over_bare), BARE: Tail(1e-6, 1.5e-6)}
    works = {name: Work(1, 1) for name in ("nn.LSTM", OURS)}
    return Streamed(Measured(TINY, 10, seconds, works), {"nn.LSTM": 1, OURS: 40}, [tails])


def test_the_table_has_the_floor_and_the_tails():
    table = report.table([streamed(1.2)])
    cells = {column.header: list(column.cells) for column in table.columns}
    assert cells["I, H"] == ["4, 5", "", ""]
    assert cells["engine"] == ["nn.LSTM", OURS, BARE]
    assert cells["µs"] == ["80.00", "2.00", "1.00"]
    assert cells["of floor"] == ["1%", "50%", ""]
    assert cells["/ ours"] == ["40.00", "", ""]
    assert cells["p99.9 / p50"] == ["", "1.80", "1.50"]
    assert cells["over bare's"] == ["", "1.20", ""]


@pytest.mark.parametrize(("over_bare", "verdict"), [(1.29, "holds"), (1.31, "does not hold")])
def test_the_summary_says_whether_steps_are_even(over_bare, verdict):
    lines = report.summary([streamed(1.0), streamed(over_bare)])
    assert lines[0].startswith("nn.LSTM / fastlstm: geometric mean 40.00 over 2 points")
    assert f"highest {over_bare:.2f}" in lines[1]
    assert lines[2] == f"p99.9 / p50, fastlstm / bare loop: at most 1.3 {verdict}"


def test_a_line_of_the_file_has_its_own_figures_only():
    theirs, ours, loop = report.csv_lines([streamed(1.2)])
    assert [line["engine"] for line in (theirs, ours, loop)] == ["nn.LSTM", OURS, BARE]
    assert (theirs["p50_us"], theirs["over_bare"], theirs["calls_a_burst"]) == ("", "", "1")
    assert (ours["p50_us"], ours["p99.9_us"], ours["p99.9/p50"], ours["over_bare"]) == (
        "2.000",
        "3.600",
        "1.800",
        "1.200",
    )
    assert (loop["median_us"], loop["floor_us"], loop["over_bare"], loop["calls_a_burst"]) == ("1.000", "1.000", "", "")
    assert float(ours["read_GB/s"]) == pytest.approx(points.work(TINY, train=False).bytes / 1e3, abs=0.05)
