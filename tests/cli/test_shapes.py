"""`fastlstm shapes` says what nn.LSTM does: every tensor, every parameter, every refusal."""

import itertools
import json
import math

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from fastlstm.cli import app
from fastlstm.shapes import describe

OPTIONS = [
    {"bidirectional": b, "proj_size": p, "batch_first": f, "unbatched": u}
    for b, p, f, u in itertools.product([False, True], [0, 3], [False, True], [False, True])
]
SIZES = [(10, 20, 2, 3, 5), (1, 4, 1, 1, 1), (7, 5, 3, 2, 9)]  # input_size, hidden_size, num_layers, batch, length


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", OPTIONS)
def test_shapes_are_those_of_nn_lstm(sizes, options):
    input_size, hidden_size, num_layers, batch, length = sizes
    layer = describe(input_size, hidden_size, num_layers, batch=batch, length=length, **options)
    shape = {tensor.name: tensor.shape.numbers for tensor in layer.tensors}
    arguments = {name: value for name, value in options.items() if name != "unbatched"}
    lstm = nn.LSTM(input_size, hidden_size, num_layers, **arguments)

    # nn.LSTM refuses an h_0 or a c_0 of any other shape.
    h_0, c_0 = torch.zeros(shape["h_0"]), torch.zeros(shape["c_0"])
    output, (h_n, c_n) = lstm(torch.zeros(shape["input"]), (h_0, c_0))

    assert shape["output"] == output.shape
    assert (shape["h_n"], shape["c_n"]) == (h_n.shape, c_n.shape)
    parameters = {parameter.name: parameter.shape.numbers for parameter in layer.parameters}
    assert list(parameters.items()) == [(name, tuple(p.shape)) for name, p in lstm.named_parameters()]
    assert layer.total == sum(p.numel() for p in lstm.parameters())


@pytest.mark.parametrize("options", OPTIONS)
def test_letters_stand_for_the_numbers(options):
    layer = describe(7, 5, 2, batch=3, length=11, **options)
    for shape in [entry.shape for entry in (*layer.tensors, *layer.parameters)]:
        numbers = eval(shape.letters, {"__builtins__": {}}, layer.sizes)
        assert numbers == shape.numbers


REFUSED = [
    ((0, 4), {}, "input_size must be greater than zero"),
    ((4, 0), {}, "hidden_size must be greater than zero"),
    ((4, 4, 0), {}, "num_layers must be greater than zero"),
    ((4, 4), {"proj_size": -1}, "proj_size should be a positive integer or zero to disable projections"),
    ((4, 4), {"proj_size": 4}, "proj_size has to be smaller than hidden_size"),
]


@pytest.mark.parametrize(("sizes", "options", "message"), REFUSED)
def test_refuses_what_nn_lstm_refuses_in_its_words(sizes, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        nn.LSTM(*sizes, **options)
    with pytest.raises(ValueError, match=f"^{message}$"):
        describe(*sizes, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden-size", "20"], "--input-size"),
        (["--input-size", "ten", "--hidden-size", "20"], "--input-size"),
        (["--input-size", "10", "--hidden-size", "20", "--proj-size", "20"], "proj_size has to be smaller"),
        (["--input-size", "10", "--hidden-size", "20", "--batch", "0"], "batch must be greater than zero"),
        (["--input-size", "10", "--hidden-size", "20", "--length", "-1"], "length must be greater than zero"),
    ],
)
def test_bad_input_exits_with_2_and_says_why(arguments, message):
    result = CliRunner().invoke(app, ["shapes", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_json_holds_the_same_tables():
    command = "shapes --input-size 10 --hidden-size 20 --num-layers 2 --bidirectional --proj-size 5 --unbatched --json"
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    layer = describe(10, 20, 2, bidirectional=True, proj_size=5, unbatched=True)
    assert printed["sizes"] == layer.sizes
    assert [tuple(t["numbers"]) for t in printed["tensors"]] == [t.shape.numbers for t in layer.tensors]
    assert [p["count"] for p in printed["parameters"]] == [math.prod(p.shape.numbers) for p in layer.parameters]
    assert printed["total"] == layer.total


def test_the_tables_show_letters_numbers_and_the_total():
    result = CliRunner().invoke(app, ["shapes", "--input-size", "10", "--hidden-size", "20", "--num-layers", "2"])
    assert result.exit_code == 0
    for expected in ("(D*num_layers, N, H_out)", "(2, 3, 20)", "weight_hh_l1", "(80, 20)", "5,920"):
        assert expected in result.stdout
