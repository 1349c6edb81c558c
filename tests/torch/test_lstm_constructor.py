"""The constructor, and the parameters it makes: `LSTM(...)` against `nn.LSTM(...)`; checkpoints go both ways."""

import inspect
import io
import itertools
import warnings

import pytest
import torch
from torch import nn

from fastlstm import LSTM

ARGUMENTS = [
    {},
    {"num_layers": 3},
    {"bias": False},
    {"batch_first": True},
    {"num_layers": 2, "dropout": 0.25},
    {"num_layers": 2, "dropout": 1},
    {"bidirectional": True},
    {"proj_size": 3},
    {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True, "proj_size": 2},
    {"dtype": torch.float64},
    {"dtype": torch.bfloat16, "proj_size": 1},
    {"dtype": torch.complex64},
    {"device": "meta"},
    {"device": torch.device("cpu")},
]
ATTRIBUTES = [
    "mode",
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "proj_size",
    "training",
]
each_arguments = pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
each_arguments_with_values = pytest.mark.parametrize(
    "arguments", [arguments for arguments in ARGUMENTS if arguments.get("device") != "meta"], ids=str
)


def pair(*arguments, **keywords) -> tuple[LSTM, nn.LSTM]:
    """Ours and torch's own, both from seed 0."""
    torch.manual_seed(0)
    ours = LSTM(*arguments, **keywords)
    torch.manual_seed(0)
    return ours, nn.LSTM(*arguments, **keywords)


def test_same_ten_parameters_in_the_same_order_with_the_same_defaults():
    def shown(layer: type) -> list[tuple[str, object]]:
        parameters = inspect.signature(layer.__init__).parameters.values()
        by_name_alone = {"checkpoint_every"}  # ours alone has it
        return [(p.name, p.default) for p in parameters if p.name not in {"self", "mode", *by_name_alone}]

    assert shown(LSTM) == shown(nn.RNNBase)
    assert len(shown(LSTM)) == 10


def test_all_ten_arguments_may_be_positional():
    ours, theirs = pair(7, 5, 2, False, True, 0.25, True, 3, "cpu", torch.float64)
    assert repr(ours) == repr(theirs)
    assert [getattr(ours, name) for name in ATTRIBUTES] == [getattr(theirs, name) for name in ATTRIBUTES]
    assert [p.dtype for p in ours.parameters()] == [p.dtype for p in theirs.parameters()]


@each_arguments
def test_parameters_have_the_same_names_order_shapes_and_dtypes(arguments):
    ours, theirs = pair(7, 5, **arguments)
    assert [(name, p.shape, p.dtype, p.device, p.requires_grad) for name, p in ours.named_parameters()] == [
        (name, p.shape, p.dtype, p.device, p.requires_grad) for name, p in theirs.named_parameters()
    ]
    assert list(ours.named_buffers()) == []


@each_arguments_with_values
def test_same_seed_gives_the_same_initial_bits(arguments):
    ours, theirs = pair(7, 5, **arguments)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    torch.manual_seed(1)
    ours.reset_parameters()
    after_ours = torch.rand(1)
    torch.manual_seed(1)
    theirs.reset_parameters()
    assert torch.equal(after_ours, torch.rand(1)), "reset_parameters draws as many numbers as nn.LSTM's"
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_initial_parameters_are_uniform_within_one_over_the_root_of_hidden_size():
    lstm = LSTM(64, 100)
    for parameter in lstm.parameters():
        assert parameter.detach().abs().max() <= 0.1
        assert parameter.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.1)


@each_arguments
def test_repr_is_equal_but_for_nothing(arguments):
    ours, theirs = pair(7, 5, **arguments)
    assert repr(ours) == repr(theirs)
    assert ours.extra_repr() == theirs.extra_repr()
    assert repr(nn.Sequential(ours)) == repr(nn.Sequential(theirs))


@each_arguments
def test_attributes(arguments):
    ours, theirs = pair(7, 5, **arguments)
    for name in ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name), name
        assert type(getattr(ours, name)) is type(getattr(theirs, name)), name


@each_arguments
def test_all_weights_are_the_parameters_themselves_layer_by_layer(arguments):
    ours, theirs = pair(7, 5, **arguments)
    mine, others = ([[w.shape for w in layer] for layer in lstm.all_weights] for lstm in (ours, theirs))
    assert mine == others
    assert [id(w) for layer in ours.all_weights for w in layer] == [id(p) for p in ours.parameters()]


def test_two_biases_stay_two_parameters():
    lstm = LSTM(3, 4)
    assert lstm.bias_ih_l0 is not lstm.bias_hh_l0
    assert lstm.bias_ih_l0.data_ptr() != lstm.bias_hh_l0.data_ptr()
    assert not torch.equal(lstm.bias_ih_l0, lstm.bias_hh_l0)


def test_flatten_parameters_exists_and_does_nothing():
    lstm = LSTM(3, 4, 2)
    before = [(p.data_ptr(), p._version) for p in lstm.parameters()]
    assert lstm.flatten_parameters() is None
    assert [(p.data_ptr(), p._version) for p in lstm.parameters()] == before


def test_is_a_module_but_no_subclass_of_nn_lstm():
    """Dynamo refuses every isinstance(m, nn.LSTM)."""
    assert issubclass(LSTM, nn.Module)
    assert not issubclass(LSTM, nn.RNNBase)


@each_arguments_with_values
def test_checkpoint_of_nn_lstm_loads_and_back_key_for_key(arguments):
    theirs = nn.LSTM(7, 5, **arguments)
    ours = LSTM(7, 5, **arguments)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert str(ours.load_state_dict(theirs.state_dict(), strict=True)) == "<All keys matched successfully>"
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    back = nn.LSTM(7, 5, **arguments)
    back.load_state_dict(ours.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), theirs.parameters(), strict=True))


def test_checkpoint_written_to_a_file_by_either_loads_into_the_other():
    """Through torch.save with weights_only."""
    theirs, ours = nn.LSTM(7, 5, 2, proj_size=3), LSTM(7, 5, 2, proj_size=3)
    for source, target in ((theirs, ours), (ours, nn.LSTM(7, 5, 2, proj_size=3))):
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        target.load_state_dict(torch.load(file, weights_only=True))
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize("source", [nn.LSTM(3, 4, 2), nn.LSTM(3, 5), nn.LSTM(3, 4, bias=False)], ids=repr)
def test_a_checkpoint_that_does_not_fit_raises_as_in_nn_lstm(source):
    with pytest.raises(RuntimeError) as ours:
        LSTM(3, 4).load_state_dict(source.state_dict())
    with pytest.raises(RuntimeError) as theirs:
        nn.LSTM(3, 4).load_state_dict(source.state_dict())
    assert str(ours.value) == str(theirs.value)


def test_constants_read_at_every_call_may_be_set_later():
    """Code sets lstm.dropout, lstm.batch_first or lstm.training on a built layer; nn.LSTM obeys at the next call."""
    ours, theirs = pair(3, 4, 2)
    x = torch.randn(6, 2, 3)
    for lstm in (ours, theirs):
        lstm.batch_first, lstm.dropout = True, 1.0
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    torch.testing.assert_close(ours(x)[1][0], theirs(x)[1][0])


@pytest.mark.parametrize("dropout", [0, 0.0, 0.5, 1, 1.0])
def test_dropout_with_one_layer_warns_as_nn_lstm(dropout):
    def warned(layer):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layer(3, 4, dropout=dropout)
        return [(w.category, str(w.message)) for w in caught]

    assert warned(LSTM) == warned(nn.LSTM)
    assert len(warned(LSTM)) == (dropout > 0)


@pytest.mark.parametrize("bidirectional", [1, 0, "yes", None, [], 2.5], ids=repr)
def test_bidirectional_may_be_anything_true_or_false(bidirectional):
    ours, theirs = pair(3, 4, bidirectional=bidirectional)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert bool(ours.bidirectional) == bool(theirs.bidirectional)


def test_a_bool_is_an_int_where_nn_lstm_takes_it_for_one():
    ours, theirs = pair(True, True, True)
    assert [tuple(p.shape) for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]


def test_default_dtype_and_default_device_are_obeyed():
    torch.set_default_dtype(torch.float64)
    assert {p.dtype for p in LSTM(3, 4).parameters()} == {torch.float64}
    with torch.device("meta"):
        assert {p.device.type for p in LSTM(3, 4).parameters()} == {"meta"}


WRONG = [0, -1, 2.5, "a", None, True, float("nan")]


CHECKED = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "proj_size"]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(CHECKED, 2)))
def test_order_of_checks_is_that_of_nn_lstm(first, second):
    """Two wrong arguments at once: the one nn.LSTM complains of is the one ours complains of."""
    for one, other in itertools.product(WRONG, WRONG):
        arguments = {"input_size": 3, "hidden_size": 4, first: one, second: other}

        def raised(layer, arguments=arguments):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    layer(**arguments)
                except Exception as error:
                    return type(error), str(error)
            return None, ""

        (our_type, our_message), (their_type, their_message) = raised(LSTM), raised(nn.LSTM)
        assert our_type is their_type, (
            f"{arguments}: {our_type} {our_message!r}, nn.LSTM {their_type} {their_message!r}"
        )
        if their_type is ValueError or "should be of type" in their_message:
            assert our_message.startswith(their_message), arguments
