"""plot.shapes writes every shape there is, where it belongs, so that it can be read."""

import itertools
import re

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from fastlstm import GRU, LSTM, plot
from tests.readable import assert_readable, drawn

OPTIONS = [
    {"bidirectional": b, "proj_size": p, "batch_first": f, "bias": p == 0}
    for b, p, f in itertools.product([False, True], [0, 3], [False, True])
]


def written(figure) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


def shape_of(texts: list[str], name: str) -> tuple[int, ...]:
    """The numbers on the line beneath a name."""
    return numbers(texts[texts.index(name) + 1])


def numbers(line: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", line.rpartition(" = ")[2])))


@pytest.mark.parametrize(("kind", "batched"), [(LSTM, True), (LSTM, False), (nn.LSTM, True)])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_numbers_are_those_of_the_tensors(kind, options, batched):
    lstm = kind(10, 20, 2, **options)
    x = torch.randn(*((3, 6) if options["batch_first"] else (6, 3)), 10) if batched else torch.randn(6, 10)
    output, (h_n, c_n) = lstm(x)
    texts = written(plot.shapes(lstm, x))

    for name, parameter in lstm.named_parameters():
        assert shape_of(texts, name) == parameter.shape
    for name, tensor in {"input": x, "output": output, "h_0": h_n, "c_0": c_n, "h_n": h_n, "c_n": c_n}.items():
        (line,) = [text for text in texts if text.startswith(f"{name} ")]
        assert numbers(re.search(r"\) = (\(.*?\))", line)[0]) == tensor.shape
    for k in range(len(h_n)):
        assert shape_of(texts, f"h_0[{k}]") == shape_of(texts, f"h_n[{k}]") == h_n[k].shape
        assert shape_of(texts, f"c_0[{k}]") == shape_of(texts, f"c_n[{k}]") == c_n[k].shape
    along = ":, " if options["batch_first"] and batched else ""
    for t in (1, 2, 6):
        step = f"[{along}{t - 1}]"
        assert shape_of(texts, f"x_{t} = input{step}") == eval(f"x{step}.shape", {"x": x})
        assert shape_of(texts, f"output{step}") == eval(f"output{step}.shape", {"output": output})
        assert shape_of(texts, f"h_{t} of layer 0") == eval(f"output{step}.shape", {"output": output})
        assert texts.count(f"h_{t}") == texts.count(f"c_{t}") == len(h_n)
    assert not any(text.startswith("x_3") for text in texts)
    assert texts[0] == f"LSTM({lstm.extra_repr()})"


def test_letters_stand_beside_the_numbers():
    texts = written(plot.shapes(LSTM(10, 20, bidirectional=True), torch.randn(5, 3, 10)))
    for expected in ("(N, H_in) = (3, 10)", "  (4*H_cell, H_in) = (80, 10)", "(N, D*H_out) = (3, 40)"):
        assert expected in texts
    assert "  (4*H_cell,) = (80,)" in texts


def test_of_a_packed_sequence_a_step_has_the_rows_that_are_left():
    lstm = LSTM(10, 20)
    packed = pack_sequence([torch.randn(length, 10) for length in (2, 6, 3)], enforce_sorted=False)
    texts = written(plot.shapes(lstm, packed))
    assert texts[texts.index("x_2") + 1] == "(N_2, H_in) = (3, 10)"
    assert texts[texts.index("x_6") + 1] == "(N_6, H_in) = (1, 10)"
    assert texts[texts.index("h_n[0]") + 1] == "(N, H_out) = (3, 20)"
    assert any("(sum of lengths, H_in) = (11, 10)" in text for text in texts)
    assert any(text.strip().startswith("N_t") for text in texts)


def test_states_enter_where_a_direction_begins():
    figure = plot.shapes(LSTM(10, 20, bidirectional=True), torch.randn(5, 3, 10))
    at = {text: (box.x0, box.y0) for text, box in drawn(figure)}
    assert at["h_0[0]"][0] < at["x_1 = input[0]"][0] < at["x_5 = input[4]"][0] < at["h_n[0]"][0]
    assert at["h_n[1]"][0] < at["x_1 = input[0]"][0] < at["x_5 = input[4]"][0] < at["h_0[1]"][0]
    assert at["x_1 = input[0]"][1] < at["h_0[0]"][1] < at["h_0[1]"][1] < at["output[0]"][1]


@pytest.mark.parametrize("T", [1, 2, 3, 4])
def test_few_steps_are_all_drawn(T):
    texts = written(plot.shapes(LSTM(10, 20), torch.randn(T, 3, 10)))
    assert [text for text in texts if text.startswith("x_")] == [
        f"x_{t} = input[{t - 1}]" for t in range(1, T + 1) if T <= 3 or t in (1, 2, T)
    ]
    assert ("⋯" in texts) == (T > 3)


def assert_no_arrow_crosses_text(figure, texts) -> None:
    """The axes are the figure in inches: the points of the arrows are where they are drawn."""
    dpi = figure.dpi
    (axes,) = figure.axes
    paths = [list(zip(*line.get_data(), strict=True)) for line in axes.lines]
    paths += [[note.xyann, note.xy] for note in axes.texts if hasattr(note, "xyann")]
    segments = [pair for path in paths for pair in itertools.pairwise(path)]
    assert segments
    for (x0, y0), (x1, y1) in segments:
        assert x0 == x1 or y0 == y1
        left, right, low, high = (dpi * at for at in (min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)))
        for text, box in texts:
            assert right < box.x0 or box.x1 < left or high < box.y0 or box.y1 < low, f"an arrow crosses {text!r}"


SIZES = [
    (1, 1, 1, 1, {}),
    (5, 3, 10, 8, {}),
    (50, 3, 10, 512, {"num_layers": 3, "bidirectional": True}),
    (1000, 256, 4096, 2048, {"num_layers": 3, "bidirectional": True, "proj_size": 1024, "batch_first": True}),
    (2, 3, 10, 20, {"bidirectional": True, "bias": False, "dropout": 0.0}),
]


@pytest.mark.parametrize(("T", "N", "I", "H", "options"), SIZES)
def test_it_can_be_read(T, N, I, H, options):
    lstm = LSTM(I, H, device="meta", **options)
    x = torch.empty(*((N, T) if options.get("batch_first") else (T, N)), I, device="meta")
    figure = plot.shapes(lstm, x)
    texts = drawn(figure)
    assert_readable(figure, texts)
    assert_no_arrow_crosses_text(figure, texts)


def test_a_packed_one_can_be_read():
    packed = pack_sequence([torch.randn(length, 10) for length in (1200, 2)])
    figure = plot.shapes(LSTM(10, 20, 2, bidirectional=True), packed)
    texts = drawn(figure)
    assert_readable(figure, texts)
    assert_no_arrow_crosses_text(figure, texts)


def test_wrong_arguments_are_refused():
    lstm, x = LSTM(10, 20), torch.randn(5, 3, 10)
    with pytest.raises(TypeError, match=r"^lstm: expected .* a fastlstm.LSTM or a torch.nn.LSTM, got RNN$"):
        plot.shapes(nn.RNN(10, 20), x)
    with pytest.raises(TypeError, match=r"^x: expected a tensor or a PackedSequence, got list$"):
        plot.shapes(lstm, x.tolist())
    with pytest.raises(TypeError, match="nested tensor: pack or pad it"):
        plot.shapes(lstm, torch.nested.nested_tensor([x[0], x[1]], layout=torch.jagged))
    letters = r"^x: expected \(L, N, H_in\), or \(L, H_in\) unbatched, H_in = 10, got "
    with pytest.raises(ValueError, match=letters + r"\[5, 3, 11\]$"):
        plot.shapes(lstm, torch.randn(5, 3, 11))
    with pytest.raises(ValueError, match=letters + r"\[10\]$"):
        plot.shapes(lstm, torch.randn(10))
    with pytest.raises(ValueError, match="length must be greater than zero"):
        plot.shapes(lstm, torch.randn(0, 3, 10))


@pytest.mark.parametrize("kind", [GRU, nn.GRU])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_gru_has_one_state(kind, bidirectional):
    gru = kind(10, 20, 2, bidirectional=bidirectional)
    x = torch.randn(6, 3, 10)
    figure = plot.shapes(gru, x)
    texts = written(figure)
    output, h_n = gru(x)
    assert texts[0] == f"GRU({gru.extra_repr()})"
    for name, parameter in gru.named_parameters():
        assert shape_of(texts, name) == parameter.shape
    for name, tensor in {"input": x, "output": output, "h_0": h_n, "h_n": h_n}.items():
        (line,) = [text for text in texts if text.startswith(f"{name} ")]
        assert numbers(re.search(r"\) = (\(.*?\))", line)[0]) == tensor.shape
    assert texts.count("h_2") == len(h_n)
    assert not any(text.startswith(("c_", "c_0")) for text in texts)
    assert_readable(figure, drawn(figure))
