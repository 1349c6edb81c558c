"""What stands beside the ratios of a grid, and what is timed for it."""

import math

import pytest

from fastlstm.bench import grids, measure, models, points
from fastlstm.bench.contender import OURS, draw_inputs
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.measure import Measured, Schedule
from fastlstm.bench.peers import PEERS
from fastlstm.bench.points import Point, Work
from fastlstm.cells import GRU

TINY = {
    "people": Point("tiny", 3, 2, 4, 5, layers=2, D=2),
    "ragged": Point("tiny", 6, 4, 3, 5, packed=True),
    "proj": Point("tiny", 3, 2, 4, 5, P=3),
    "float64": Point("tiny", 3, 2, 4, 5, dtype="float64"),
    "bfloat16": Point("tiny", 3, 2, 4, 5, dtype="bfloat16"),
    "models": Point("tiny", 3, 2, 5, 5),
}
BESIDE = {
    "ragged": ["fastlstm dense"],
    "bfloat16": ["fastlstm float32"],
    "models": ["nn.LSTM alone", "fastlstm alone"],
}
GRUS = [name for name in GRIDS if name != "proj"]  # a GRU has no projection
NN = {PEERS["torch"].label: PEERS["torch"].prepare}


def contenders(name, train):
    return GRIDS[name].contenders(draw_inputs(TINY[name]), train, NN)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_the_contenders_of_a_grid_agree_and_are_timed(name, train):
    row = measure.measure(TINY[name], contenders(name, train), Schedule(bursts=2, seconds=0.001))
    assert list(row.seconds) == ["nn.LSTM", OURS, *BESIDE.get(name, [])]
    assert row.peers == ["nn.LSTM"]
    for extra in GRIDS[name].extras:
        value = extra.value(row)
        assert math.isfinite(value)
        assert value != 0


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", GRUS)
def test_the_contenders_of_a_gru_agree_and_are_timed(name, train):
    (point,) = points.of_cell([TINY[name]], GRU)
    contenders = GRIDS[name].contenders(draw_inputs(point), train, {"nn.GRU": PEERS["torch"].prepare})
    theirs, ours = (contender.results(contender.run()) for contender in list(contenders.values())[:2])
    assert set(theirs) == set(ours)
    assert ("prediction" if name == "models" else "h_n") in ours
    assert "c_n" not in ours
    assert any(key.endswith(".grad") for key in ours) == train
    row = measure.measure(point, contenders, Schedule(bursts=2, seconds=0.001))
    assert list(row.seconds) == ["nn.GRU", OURS, *(label.replace("LSTM", "GRU") for label in BESIDE.get(name, []))]
    assert row.peers == ["nn.GRU"]
    assert all(math.isfinite(extra.value(row)) for extra in GRIDS[name].extras)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_ours_is_compared_on_everything(name, train):
    theirs, ours = (contender.results(contender.run()) for contender in list(contenders(name, train).values())[:2])
    assert set(theirs) == set(ours)
    assert ("prediction" if name == "models" else "output") in ours
    assert any(key.endswith(".grad") for key in ours) == train
    assert (
        ours["prediction" if name == "models" else "output"].dtype == draw_inputs(TINY[name]).layer.weight_ih_l0.dtype
    )


def measured(point: Point, **microseconds: float) -> Measured:
    seconds = {name.replace("_", " ").replace("nn", "nn.LSTM"): [us * 1e-6] for name, us in microseconds.items()}
    return Measured(point, 1, seconds, {name: Work(1, 1) for name in seconds})


def test_a_packed_batch_should_take_its_share_of_the_dense_time():
    packed = Point("tiny", 90, 5, 4, 5, packed=True)  # 300 of 450 steps
    row = measured(packed, nn=10, fastlstm=4, fastlstm_dense=6)
    assert grids.packed_over_share(row) == pytest.approx(1)


def test_bfloat16_is_set_against_our_own_float32():
    assert grids.over_float32(measured(TINY["bfloat16"], nn=10, fastlstm=6, fastlstm_float32=5)) == pytest.approx(1.2)


def test_the_gain_of_a_model_is_set_against_amdahl():
    # The layer is 60 of 100 and falls to 20, so 60 would be left; the model took 80.
    row = measured(TINY["models"], nn=100, fastlstm=80, nn_alone=60, fastlstm_alone=20)
    assert models.predicted_gain(row) == pytest.approx(100 / 60)
    assert models.gain_over_prediction(row) == pytest.approx(0.75)


@pytest.mark.parametrize("train", [False, True])
def test_the_work_of_a_model_is_that_of_its_matrices(train):
    point = Point("tiny", 3, 2, 4, 4)
    matrices = 2 * 4 * 4
    more = 2 * point.rows * matrices * (3 if train else 1)
    assert models.work(point, train).flops == points.work(point, train).flops + more


def test_a_training_step_of_a_model_changes_every_parameter():
    model = models.Model(draw_inputs(TINY["models"]).layer, TINY["models"])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    models._training_step(model, draw_inputs(TINY["models"]).x)()
    assert all(not before[name].equal(p) for name, p in model.named_parameters())


@pytest.mark.parametrize("train", [False, True])
def test_a_model_is_its_layer_and_two_matrices(train):
    point = TINY["models"]
    matrices = point.I * point.I + point.H * point.I
    layer, model = points.work(point, train), models.work(point, train)
    assert model.flops - layer.flops == 2 * point.rows * matrices * (3 if train else 1)
    assert model.bytes - layer.bytes == (matrices + 2 * point.I) * 4 * (2 if train else 1)  # both have biases
