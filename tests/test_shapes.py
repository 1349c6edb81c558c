"""The table of shapes says what nn.LSTM does: every tensor, every parameter, every refusal."""

import itertools

import pytest
import torch
from torch import nn

from fastlstm.shapes import LEGEND, describe

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


def test_a_layer_without_biases_has_none():
    names = [parameter.name for parameter in describe(7, 5, bias=False, proj_size=2).parameters]
    assert names == [name for name, _ in nn.LSTM(7, 5, bias=False, proj_size=2).named_parameters()]


def test_a_packed_sequence_has_one_dimension_for_time_and_batch():
    layer = describe(7, 5, batch=3, length=4, rows=9)
    shape = {tensor.name: tensor.shape for tensor in layer.tensors}
    assert str(shape["input"]) == "(sum of lengths, H_in) = (9, 7)"
    assert str(shape["output"]) == "(sum of lengths, D*H_out) = (9, 5)"
    assert str(shape["h_n"]) == "(D*num_layers, N, H_out) = (1, 3, 5)"
    assert set(layer.sizes) <= set(LEGEND)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", [options for options in OPTIONS if not options["proj_size"]])
def test_shapes_are_those_of_nn_gru(sizes, options):
    input_size, hidden_size, num_layers, batch, length = sizes
    layer = describe(input_size, hidden_size, num_layers, batch=batch, length=length, **options, cell="GRU")
    shape = {tensor.name: tensor.shape.numbers for tensor in layer.tensors}
    gru = nn.GRU(
        input_size,
        hidden_size,
        num_layers,
        bidirectional=options["bidirectional"],
        batch_first=options["batch_first"],
    )
    output, h_n = gru(torch.zeros(shape["input"]), torch.zeros(shape["h_0"]))
    assert list(shape) == ["input", "h_0", "output", "h_n"]
    assert (shape["output"], shape["h_n"]) == (output.shape, h_n.shape)
    parameters = {parameter.name: parameter.shape.numbers for parameter in layer.parameters}
    assert list(parameters.items()) == [(name, tuple(p.shape)) for name, p in gru.named_parameters()]
    for entry in [found.shape for found in (*layer.tensors, *layer.parameters)]:
        assert eval(entry.letters, {"__builtins__": {}}, layer.sizes) == entry.numbers


def test_a_gru_has_no_projection():
    with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
        describe(4, 4, proj_size=2, cell="GRU")
