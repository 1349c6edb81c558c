"""The picture has a dot for every point and peer, where its ratio is."""

import pytest

from fastlstm.bench import picture
from fastlstm.bench.measure import Measured
from fastlstm.bench.peers import PEERS
from fastlstm.bench.points import Point, Work


def measured(purpose: str, T: int, **seconds: float) -> Measured:
    names = {"nn": "nn.LSTM", "jax": "JAX", "ours": "fastlstm", "beside": "fastlstm dense"}
    named = {names[name]: [value, value * 1.1, value * 0.9] for name, value in seconds.items()}
    return Measured(Point(purpose, T, 1, 2, 3), 1, named, {name: Work(1, 1) for name in named})


ROWS = [
    measured("short", 1, nn=8, jax=2, ours=1, beside=7),
    measured("short", 2, nn=2, jax=1, ours=1, beside=7),
    measured("long", 3, nn=4, jax=0.5, ours=1, beside=7),
]


def test_every_ratio_is_a_dot_and_the_legend_has_the_means():
    figure = picture.figure(ROWS, "title")
    (axes,) = figure.axes
    dots = [collection for collection in axes.collections if collection.get_label().startswith(("nn.LSTM", "JAX"))]
    assert [collection.get_offsets()[:, 0].tolist() for collection in dots] == [
        pytest.approx([8, 2, 4]),
        pytest.approx([2, 1, 0.5]),
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "nn.LSTM: geometric mean 4.00, worst 2.00",
        "JAX: geometric mean 1.00, worst 0.50",
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(row.point) for row in ROWS]
    assert {"short", "long"} <= {text.get_text() for text in axes.texts}
    assert axes.get_xscale() == "log"


def test_a_gru_has_the_colors_of_the_lstm():
    seconds = {"nn.GRU" if name == "nn.LSTM" else name: value for name, value in ROWS[0].seconds.items()}
    gru = ROWS[0]._replace(point=ROWS[0].point._replace(cell="GRU"), seconds=seconds)
    drawn = [
        [dots.get_facecolor().tolist() for dots in picture.figure([row], "title").axes[0].collections]
        for row in (gru, ROWS[0])
    ]
    assert drawn[0] == drawn[1]
    legend = picture.figure([gru], "title").legends[0]
    assert [text.get_text().partition(":")[0] for text in legend.get_texts()] == ["nn.GRU", "JAX"]


def test_every_peer_has_a_color_of_its_own():
    assert set(picture.COLORS) == {*(peer.label for peer in PEERS.values()), "ONNX Runtime, bound"}
    assert len(set(picture.COLORS.values())) == len(picture.COLORS)


def test_it_is_written_in_the_format_of_its_name(tmp_path):
    picture.draw(ROWS, "title", tmp_path / "ratios.png")
    picture.draw(ROWS, "title", tmp_path / "ratios.svg")
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "ratios.svg").read_text()
