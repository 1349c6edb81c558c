"""The picture has a dot for every point and peer, where its ratio is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlstm.bench import picture
from fastlstm.bench.contender import OURS
from fastlstm.bench.grids import GRIDS
from fastlstm.bench.measure import Measured
from fastlstm.bench.peers import PEERS
from fastlstm.bench.points import Point, Work
from fastlstm.cli.bench import STREAM
from tests.readable import assert_readable, drawn


def measured(purpose: str, T: int, **seconds: float) -> Measured:
    names = {"nn": "nn.LSTM", "jax": "JAX", "ours": "fastlstm", "beside": "fastlstm dense"}
    named = {names[name]: [value, value * 1.1, value * 0.9] for name, value in seconds.items()}
    return Measured(Point(purpose, T, 1, 2, 3), 1, named, {name: Work(1, 1) for name in named})


ROWS = [
    measured("short", 1, nn=8, jax=2, ours=1, beside=7),
    measured("short", 2, nn=2, jax=1, ours=1, beside=7),
    measured("long", 3, nn=4, jax=0.5, ours=1, beside=7),
]
HOW = {"grid": "people", "mode": "train", "processor": "AMD EPYC", "isa": "avx2", "threads": "2"}


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
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.point.sizes for row in ROWS]
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


def test_every_peer_has_a_color_and_a_marker_of_its_own():
    assert set(picture.LOOKS) == {*(peer.label for peer in PEERS.values()), "ONNX Runtime, bound"}
    for looks in zip(*picture.LOOKS.values(), strict=True):
        assert len(set(looks)) == len(picture.LOOKS)


def test_it_is_written_in_the_format_of_its_name(tmp_path):
    picture.draw(ROWS, HOW, tmp_path / "ratios.png")
    picture.draw(ROWS, HOW, tmp_path / "ratios.svg")
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "ratios.svg").read_text()


def test_a_line_has_all_ratios_of_two_bursts():
    (line, *_) = [
        lines for lines in picture.figure(ROWS[:1], "title").axes[0].collections if hasattr(lines, "get_segments")
    ]
    ((low, _), (high, _)) = line.get_segments()[0]
    assert (low, high) == pytest.approx((8 * 0.9 / 1.1, 8 * 1.1 / 0.9))


def test_the_words_are_said_once():
    point = ROWS[0].point._replace(cell="GRU", layers=2, D=2)
    assert picture.heading(point, HOW) == (
        "GRU at sizes people use: training (forward + backward)\nfloat32, AMD EPYC (avx2), 2 threads"
    )
    assert picture.heading(point, {**HOW, "threads": "1"}).endswith(", 1 thread")
    assert point.sizes == "T 1, N 1, I 2, H 3, 2 layers, 2 directions"
    letters = picture.caption(ROWS).splitlines()[0]
    assert letters == "T steps, N rows (sequences of a batch), I input features, H hidden units"
    projected = ROWS[0]._replace(point=point._replace(P=2))
    assert picture.caption([projected]).splitlines()[0] == f"{letters}, P features that h is projected to"


def test_every_grid_has_words():
    assert set(picture.WORDS) == {*GRIDS, STREAM}


@settings(max_examples=2)
@given(st.integers(1, 12), st.integers(1, 4), st.booleans(), st.sampled_from([0.01, 1, 300]))
def test_it_can_be_read(count, peers, train, ratio):
    names = list(picture.LOOKS)[:peers]
    seconds = {**{name: [ratio * (k + 1)] * 3 for k, name in enumerate(names)}, OURS: [0.8, 1, 1.3]}
    points = [Point(f"purpose {k // 2}", 1000, 256, 1024, 1024, 3, 2, 512) for k in range(count)]
    rows = [Measured(point, 1, seconds, {}) for point in points]
    how = {**HOW, "mode": "train" if train else "infer", "processor": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"}
    figure = picture.figure(rows, picture.heading(points[0], how))
    assert_readable(figure, drawn(figure))
