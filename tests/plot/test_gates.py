"""plot.trace draws the numbers of the trace, all of them and no others, so that they can be read."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import run_python
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, unpack_sequence

from fastlstm import GRU, LSTM, plot
from fastlstm.traces import GRUSteps, GRUTrace, Steps, Trace
from tests.readable import assert_readable, drawn

WORDS = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "c": "cell state c",
    "h": "hidden state h",
}


def panels(figure) -> list[list]:
    """The heat maps, a list for each of the six rows."""
    axes = [axes for axes in figure.axes if axes.get_images()]
    count = len(axes) // len(WORDS)
    return [axes[k : k + count] for k in range(0, len(axes), count)]


def assert_shows(figure, expected: list[dict[str, Tensor]]) -> None:
    """expected: for each column, the tensor (T, features) of each letter."""
    rows = panels(figure)
    assert [len(row) for row in rows] == [len(expected)] * len(WORDS)
    for (letter, words), row in zip(WORDS.items(), rows, strict=True):
        assert row[0].get_ylabel() == f"{words}\nunit"
        for axes, column in zip(row, expected, strict=True):
            (image,) = axes.get_images()
            wanted = column[letter].detach().double().numpy().T
            np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), wanted, err_msg=words)


def of(trace, pick) -> list[dict[str, Tensor]]:
    return [{letter: pick(getattr(steps, letter)) for letter in WORDS} for layer in trace.layers for steps in layer]


@settings(max_examples=6)
@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 2), st.booleans(), st.booleans(), st.data())
def test_the_images_are_the_numbers_of_the_row(T, N, layers, bidirectional, batch_first, data):
    row = data.draw(st.integers(-N, N - 1))
    lstm = LSTM(3, 4, layers, batch_first=batch_first, bidirectional=bidirectional, proj_size=2)
    trace = lstm.trace(torch.randn(*((N, T) if batch_first else (T, N)), 3, requires_grad=True))
    assert_shows(plot.trace(trace, row), of(trace, lambda t: t[row] if batch_first else t[:, row]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_is_drawn(dtype):
    lstm = LSTM(3, 4, dtype=dtype)
    trace = lstm.trace(torch.randn(5, 3, dtype=dtype))
    assert_shows(plot.trace(trace), of(trace, lambda t: t))


def test_one_step_of_one_unit_is_counted_so():
    figure = plot.trace(LSTM(3, 1).trace(torch.randn(1, 3)))
    assert figure.get_suptitle() == "row 0: 1 step, 1 unit"
    for axes in figure.axes[:6]:
        assert all(float(tick).is_integer() for tick in axes.get_xticks())


@pytest.mark.parametrize("row", [0, 1, 2])
def test_of_a_packed_batch_a_row_has_its_own_steps(row):
    lstm, lengths = LSTM(3, 4, bidirectional=True), torch.tensor([2, 5, 3])
    trace = lstm.trace(pack_padded_sequence(torch.randn(5, 3, 3), lengths, enforce_sorted=False))
    figure = plot.trace(trace, row)
    assert_shows(figure, of(trace, lambda t: unpack_sequence(t)[row]))
    assert figure.get_suptitle() == f"row {row}: {lengths[row]} steps, 4 units"


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_of_a_nested_batch_a_row_has_its_own_steps():
    rows = [torch.randn(4, 3), torch.randn(2, 3)]
    lstm = LSTM(3, 4, batch_first=True)
    trace = lstm.trace(torch.nested.nested_tensor(rows, layout=torch.jagged))
    assert_shows(plot.trace(trace, 1), of(trace, lambda t: t.unbind()[1]))


def test_columns_are_named_and_one_layer_can_be_drawn_alone():
    trace = LSTM(3, 4, 2, bidirectional=True).trace(torch.randn(5, 2, 3))
    names = [f"layer {k}, {way}" for k in (0, 1) for way in ("forward →", "reverse ←")]
    assert [axes.get_title() for axes in panels(plot.trace(trace))[0]] == names
    for layer in (1, -1):
        figure = plot.trace(trace, layer=layer)
        assert [axes.get_title() for axes in panels(figure)[0]] == names[2:]
        assert_shows(figure, of(trace, lambda t: t[:, 0])[2:])


def test_a_row_of_panels_has_one_scale_and_zero_in_its_middle():
    trace = LSTM(3, 4, 2).trace(10 * torch.randn(5, 2, 3))
    for (letter, _), row in zip(WORDS.items(), panels(plot.trace(trace)), strict=True):
        limits = {axes.get_images()[0].get_clim() for axes in row}
        largest = max(getattr(steps, letter)[:, 0].abs().max().item() for (steps,) in trace.layers)
        expected = (0, 1) if letter in "ifo" else (-1, 1) if letter == "g" else (-largest, largest)
        assert limits == {expected}, letter


def test_what_is_not_finite_stands_out_and_leaves_the_scale_alone():
    trace = LSTM(3, 4).trace(torch.randn(5, 2, 3))
    (steps,) = trace.layers[0]
    steps.c[2, 0, 1], steps.c[3, 0, 1] = float("nan"), float("inf")
    largest = steps.c[:, 0][steps.c[:, 0].isfinite()].abs().max().item()
    (image,) = panels(plot.trace(trace))[4][0].get_images()
    assert image.get_clim() == (-largest, largest)
    colors = image.to_rgba(image.get_array())
    magenta = (colors[..., :3] == (1, 0, 1)).all(-1)
    assert np.argwhere(magenta).tolist() == [[1, 2], [1, 3]]  # unit, step
    assert plot.trace(trace).get_supxlabel() == "Magenta: 2 numbers not finite."


@settings(max_examples=2)
@given(
    st.sampled_from([LSTM, GRU]), st.sampled_from([1, 8, 32, 33, 300, 1024]), st.sampled_from([1, 5, 50]),
    st.just(1), st.booleans(), st.sampled_from([1.0, 1e-9, 1e30]),
)  # fmt: skip
@example(LSTM, 1024, 1001, 1, False, 1.0)
@example(GRU, 33, 12345, 1, True, 1e-9)
def test_it_can_be_read(kind, H, T, layers, bidirectional, scale):
    figure = plot.trace(made_up(kind, H, T, layers, bidirectional, scale))
    assert_readable(figure, drawn(figure))
    lefts = [axes for axes in figure.axes if axes.get_images() and axes.get_ylabel()]
    assert all({0, H - 1} <= set(axes.get_yticks()) for axes in lefts)
    assert all({0, T - 1} <= set(axes.get_xticks()) for axes in lefts)


def made_up(kind, H: int, T: int, layers: int, bidirectional: bool, scale: float):
    """A trace of random numbers: of a thousand units it comes in no time."""
    trace, steps = (Trace, Steps) if kind is LSTM else (GRUTrace, GRUSteps)
    made = [[steps(*(scale * torch.randn(T, H) for _ in steps._fields)) for _ in range(1 + bidirectional)]] * layers
    return trace(**dict.fromkeys(trace._fields))._replace(layers=made, batch_first=False)


def test_of_many_units_it_says_how_they_are_sorted_and_averaged():
    figure = plot.trace(made_up(GRU, 300, 1000, 1, False, 1.0))
    image, *_ = (axes for axes in figure.axes if axes.get_images())
    assert image.get_ylabel() == "reset gate r\n300 units, sorted,\nmeans of 3"
    assert {axes.get_xlabel() for axes in figure.axes} >= {"step, means of 2"}
    said = " ".join(figure.get_supxlabel().split())
    assert said.startswith("Sorted in each panel by itself: units that do alike stand side by side")
    assert said.endswith("from the 1st percentile of a row of panels to the 99th.")
    assert plot.trace(made_up(GRU, 32, 50, 1, False, 1.0)).get_supxlabel() == ""


def test_a_projection_has_rows_of_its_own():
    figure = plot.trace(LSTM(3, 40, proj_size=6).trace(torch.randn(5, 3)))
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_images()]
    assert labels[-2:] == ["cell state c\n40 units, sorted", "hidden state h\nunit"]
    assert figure.get_suptitle() == "row 0: 5 steps, 40 units, projected to 6"


def test_wrong_arguments_are_refused():
    lstm = LSTM(3, 4, 2)
    trace = lstm.trace(torch.randn(5, 2, 3))
    with pytest.raises(
        TypeError, match=r"^trace: expected what fastlstm.LSTM.trace or fastlstm.GRU.trace returns, got tuple$"
    ):
        plot.trace(lstm(torch.randn(5, 2, 3)))
    with pytest.raises(ValueError, match=r"^row: expected one of 2, from 0 to 1, got 2$"):
        plot.trace(trace, 2)
    with pytest.raises(ValueError, match=r"^layer: expected one of 2, from 0 to 1, got -3$"):
        plot.trace(trace, layer=-3)
    with pytest.raises(ValueError, match=r"^row: expected one of 1, from 0 to 0, got 1$"):
        plot.trace(lstm.trace(torch.randn(5, 3)), 1)
    with pytest.raises(TypeError, match="integer"):
        plot.trace(trace, 0.5)


def test_threads_draw_at_the_same_time_and_pyplot_is_not_touched(tmp_path):
    lstm = LSTM(3, 8)
    traces = [lstm.trace(torch.randn(20, 1, 3)) for _ in range(2)]

    def draw(k: int) -> bytes:
        plot.trace(traces[k]).savefig(tmp_path / f"{k}.png")
        return (tmp_path / f"{k}.png").read_bytes()

    alone = [draw(k) for k in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(draw, range(2))) == alone
    assert "matplotlib.pyplot" not in sys.modules


def test_without_matplotlib_it_says_what_to_install():
    printed = run_python(
        "import sys; sys.modules['matplotlib'] = None\n"  # as if it were not installed
        "import fastlstm\n"
        "for how in ('import fastlstm.plot', 'from fastlstm import plot', 'fastlstm.plot'):\n"
        "    try: exec(how)\n"
        "    except ImportError as error: print(error)\n"
    )
    assert (
        printed.splitlines() == ['fastlstm.plot needs matplotlib: pip install ".[plot]" in the folder of fastlstm'] * 3
    )


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_row_with_a_length_is_drawn_without_its_padding(batch_first):
    lstm = LSTM(3, 4, batch_first=batch_first)
    x = torch.randn(7, 3, 3)
    trace = lstm.trace(x.transpose(0, 1) if batch_first else x, lengths=[7, 2, 0])
    figure = plot.trace(trace, row=-2)
    assert figure.get_suptitle() == "row -2: 2 steps, 4 units"
    assert_shows(figure, of(trace, lambda t: (t[1] if batch_first else t[:, 1])[:2]))
    with pytest.raises(ValueError, match="row: 2 has no steps"):
        plot.trace(trace, row=2)


def test_a_batch_of_nothing_has_no_row():
    with pytest.raises(ValueError, match="row: there is none"):
        plot.trace(LSTM(3, 4).trace(torch.randn(5, 0, 3)))


def test_a_gru_has_its_own_rows():
    trace = GRU(3, 4, 2, bidirectional=True).trace(torch.randn(6, 2, 3))
    figure = plot.trace(trace, 1)
    axes = [axes for axes in figure.axes if axes.get_images()]
    columns = [steps for layer in trace.layers for steps in layer]
    words = {"r": "reset gate r", "z": "update gate z", "n": "candidate n", "h": "hidden state h"}
    assert len(axes) == len(words) * len(columns)
    for k, (letter, said) in enumerate(words.items()):
        row = axes[k * len(columns) : (k + 1) * len(columns)]
        assert row[0].get_ylabel() == f"{said}\nunit"
        for found, steps in zip(row, columns, strict=True):
            (image,) = found.get_images()
            wanted = getattr(steps, letter)[:, 1].detach().double().numpy().T
            np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), wanted, err_msg=said)
    assert_readable(figure, drawn(figure))
