"""Every peer computes what nn.LSTM does, or nn.GRU."""

import pytest

from fastlstm.bench import in_torch, measure, points
from fastlstm.bench.contender import draw_inputs
from fastlstm.bench.peers import PEERS
from fastlstm.bench.points import Point
from fastlstm.cells import CELLS, GRU

POINTS = [
    Point("tiny", 3, 2, 4, 5),
    Point("tiny", 4, 3, 5, 8, layers=3),
    Point("tiny", 4, 1, 3, 6, layers=2, D=2),
]
POINTS += points.of_cell(POINTS, GRU)


def prepare(name):
    """The peer's, or a skip where its packages are not installed."""
    for package in PEERS[name].packages:
        pytest.importorskip(package)
    return PEERS[name].prepare


def results(contender):
    return contender.results(contender.run())


@pytest.mark.parametrize("point", POINTS, ids=str)
@pytest.mark.parametrize(
    ("name", "train"), [(name, train) for name, peer in PEERS.items() for train in (False, True)[: 1 + peer.trains]]
)
def test_a_peer_returns_the_names_and_values_of_torch(name, train, point):
    contender = prepare(name)(draw_inputs(point), train)
    inputs = draw_inputs(point)
    x = inputs.x.requires_grad_(train)
    output, states = inputs.layer(x)
    if point.cell == "GRU":
        expected = {"output": output, "h_n": states}
    else:
        expected = {"output": output, "h_n": states[0], "c_n": states[1]}
    if train:
        output.backward(inputs.cotangent)
        expected["input.grad"] = x.grad
        expected |= {f"{key}.grad": p.grad for key, p in inputs.layer.named_parameters()}
    actual = results(contender)
    assert set(actual) == set(expected)
    assert {key: value.shape for key, value in actual.items()} == {key: value.shape for key, value in expected.items()}
    measure.compare(name, actual, expected, "float32")
    measure.compare(f"{name}, called again", results(contender), expected, "float32")


def test_inference_records_no_graph():
    output, _ = in_torch.ours(draw_inputs(POINTS[0]), False).run()
    assert output.is_inference()
    assert not output.requires_grad


def test_only_torchs_label_says_the_cell():
    assert {name: [peer.label_for(cell) for cell in CELLS] for name, peer in PEERS.items()} == {
        "torch": ["nn.LSTM", "nn.GRU"],
        "onnxruntime": ["ONNX Runtime"] * 2,
        "openvino": ["OpenVINO"] * 2,
        "jax": ["JAX"] * 2,
    }
