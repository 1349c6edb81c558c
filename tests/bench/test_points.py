"""The sizes, the work that each of them is, and the floor that follows from it."""

from types import SimpleNamespace

import pytest
import torch

from fastlstm.bench import floor
from fastlstm.bench.contender import draw_inputs
from fastlstm.bench.floor import Floor, measure_floor
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.points import Point, Work, geometric_mean, of_cell, quick, work
from fastlstm.cells import GRU, LSTM

TINY = Point("tiny", 3, 2, 4, 5)


def test_the_work_of_a_layer():
    # 4*5 gate rows over 4 + 5 columns, for 3 steps of 2 rows; 2*4*5 elements of biases; x has 4 features, output 5
    assert work(TINY, train=False) == Work(flops=2 * 6 * 180, bytes=4 * (180 + 40 + 6 * 4 + 6 * 5))
    assert work(TINY, train=True) == Work(flops=6 * 6 * 180, bytes=8 * (180 + 40 + 6 * 4 + 6 * 5))


def test_a_gru_has_three_of_four_gates():
    gru = TINY._replace(cell="GRU")
    assert work(gru, train=False) == Work(flops=2 * 6 * 135, bytes=4 * (135 + 30 + 6 * 4 + 6 * 5))
    assert work(gru, train=True) == Work(flops=6 * 6 * 135, bytes=8 * (135 + 30 + 6 * 4 + 6 * 5))


def test_the_points_of_a_cell():
    assert of_cell([TINY], LSTM) == [TINY]
    assert [str(point) for point in of_cell([TINY, TINY._replace(D=2)], GRU)] == [
        "T 3, N 2, I 4, H 5, GRU",
        "T 3, N 2, I 4, H 5, 2 directions, GRU",
    ]
    with pytest.raises(ValueError, match="a GRU has no projection"):
        of_cell([TINY, TINY._replace(P=3)], GRU)


@pytest.mark.parametrize(
    "point",
    [
        TINY._replace(layers=3),
        TINY._replace(layers=2, D=2),
        TINY._replace(layers=2, D=2, P=3),
        TINY._replace(P=2, dtype="float64"),
        TINY._replace(N=4, T=9, packed=True),
        TINY._replace(dtype="bfloat16"),
        TINY._replace(layers=2, D=2, cell="GRU"),
        TINY._replace(N=4, T=9, packed=True, cell="GRU"),
    ],
    ids=str,
)
def test_the_work_is_that_of_the_layer_itself(point):
    """Each weight of a matrix once for every step of every row, and the bytes of the tensors that exist."""
    _, layer, x, cotangent = draw_inputs(point)
    parameters = list(layer.parameters())
    matrices = sum(p.numel() for p in parameters if p.dim() == 2)
    tensors = [*parameters, x.data if point.packed else x, cotangent]
    flops, moved = work(point, train=False)
    assert flops == 2 * sum(point.lengths) * matrices
    assert moved == sum(t.numel() * t.element_size() for t in tensors)


def test_lengths_are_spread_evenly_from_a_third_to_all_steps():
    packed = TINY._replace(T=90, N=5, packed=True)
    assert packed.lengths == [90, 75, 60, 45, 30]
    assert packed.rows == 300
    assert packed._replace(packed=False).rows == 450
    assert packed._replace(N=1).lengths == [90]


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    machine = Floor(flops=100e9, bandwidth=10e9)
    assert machine.seconds(Work(flops=200, bytes=10)) == pytest.approx(2e-9)
    assert machine.seconds(Work(flops=200, bytes=30)) == pytest.approx(3e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_machine_is_measured(dtype, monkeypatch):
    monkeypatch.setattr(floor, "EDGE", 256)
    monkeypatch.setattr(floor, "COPIED", 2**22)
    seen = []
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: (seen.append(a.dtype), mm(a, b, out=out)))
    flops, bandwidth = measure_floor(dtype)
    assert set(seen) == set(floor.PRODUCTS[dtype])
    assert 1e8 < flops < 1e14
    assert 1e8 < bandwidth < 1e13


def test_the_floor_by_a_clock_of_its_own(monkeypatch):
    """Calls of 2 s and 1 s in turn: the fastest counts, a product is 2 n^3 operations, a copy reads and writes."""
    instants = iter([instant for k in range(200) for instant in (10.0 * k, 10.0 * k + (1 if k % 2 else 2))])
    monkeypatch.setattr(floor, "time", SimpleNamespace(perf_counter=lambda: next(instants)))
    monkeypatch.setattr(floor, "EDGE", 8)
    monkeypatch.setattr(floor, "COPIED", 2**20)
    assert measure_floor("float32") == Floor(flops=2 * 8**3, bandwidth=2 * 2**20)
    monkeypatch.setattr(floor, "_flops", {torch.bfloat16: 1.0, torch.float32: 3.0, torch.float64: 5.0}.get)
    assert [measure_floor(dtype).flops for dtype in ("bfloat16", "float32", "float64")] == [3, 3, 5]


def test_the_geometric_mean_has_no_favourite_side():
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1)
    assert geometric_mean([8.0, 1.0, 1.0]) == pytest.approx(2)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_has_no_point_twice_one_dtype_and_quick_points(name):
    points = GRIDS[name].points
    assert len(set(points)) == len(points)
    assert len({point.dtype for point in points}) == 1
    small = quick(points)
    assert small
    assert set(small) < set(points)
    purposes = [point.purpose for point in points]
    assert sorted(set(purposes), key=purposes.index) == [
        p for k, p in enumerate(purposes) if [p] != purposes[k - 1 : k]
    ]
