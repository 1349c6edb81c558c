"""Every peer computes what nn.LSTM does."""

import pytest
import torch

from fastlstm.bench import in_torch, measure
from fastlstm.bench.contender import draw_inputs
from fastlstm.bench.peers import PEERS
from fastlstm.bench.points import Point

POINTS = [
    Point("tiny", 3, 2, 4, 5),
    Point("tiny", 4, 3, 5, 8, layers=3),
    Point("tiny", 4, 1, 3, 6, layers=2, D=2),
]


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
def test_a_peer_returns_the_names_and_values_of_nn_lstm(name, train, point):
    contender = prepare(name)(draw_inputs(point), train)
    inputs = draw_inputs(point)
    x = inputs.x.requires_grad_(train)
    output, (h_n, c_n) = inputs.lstm(x)
    expected = {"output": output, "h_n": h_n, "c_n": c_n}
    if train:
        output.backward(inputs.cotangent)
        expected["input.grad"] = x.grad
        expected |= {f"{key}.grad": p.grad for key, p in inputs.lstm.named_parameters()}
    actual = results(contender)
    assert set(actual) == set(expected)
    assert {key: value.shape for key, value in actual.items()} == {key: value.shape for key, value in expected.items()}
    measure.compare(name, actual, expected, "float32")
    measure.compare(f"{name}, called again", results(contender), expected, "float32")


def test_inference_records_no_graph():
    output, _ = in_torch.ours(draw_inputs(POINTS[0]), False).run()
    assert output.is_inference()
    assert not output.requires_grad


def test_the_gates_are_put_in_the_order_of_onnx():
    pytest.importorskip("onnx")
    from fastlstm.bench import onnx_model

    lstm = torch.nn.LSTM(1, 1)
    lstm.bias_ih_l0.data = torch.tensor([1.0, 2.0, 3.0, 4.0])  # i, f, g, o
    assert onnx_model._iofc(lstm, "bias_ih_l0").tolist() == [1, 4, 2, 3]
