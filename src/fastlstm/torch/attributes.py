"""The constructor's arguments as attributes, which anyone may set later: what they mean for a call, or what is wrong.

nn.LSTM reads them at every call and takes what Python takes for a number or a flag. So do these; the rest raises what the
constructor raises, with gradients and without.
"""

import operator
from typing import Any

from torch import nn

from fastlstm.cells import LSTM, Cell
from fastlstm.weights import Sizes

_TOO_MANY_LAYERS = 1 << 16  # a name each is made when the attribute is set
_TOO_MANY = 1 << 56  # four gates of both directions, in bytes, still fit 64 bits

NO_PROJECTION = "proj_size argument is only supported for LSTM, not RNN or GRU"


def layer_sizes(lstm: Any, cell: Cell) -> Sizes:
    """Those of a layer with nn.LSTM's attributes. TypeError, ValueError: one of them can't be."""
    H = at_least_one(lstm, "hidden_size")
    I, layers = at_least_one(lstm, "input_size"), at_least_one(lstm, "num_layers")
    if layers > _TOO_MANY_LAYERS:
        raise ValueError(f"num_layers must be at most {_TOO_MANY_LAYERS}, got {layers}")
    P = max(0, whole(lstm, "proj_size"))  # nn.LSTM takes what is below 0 for none
    if P >= H:
        raise ValueError("proj_size has to be smaller than hidden_size")
    if P and cell is not LSTM:
        raise ValueError(NO_PROJECTION)
    D, bias = 2 if lstm.bidirectional else 1, bool(lstm.bias)
    return Sizes(I, H, P, layers, D, bias, cell=cell, checkpoint_every=_checkpoint_every(lstm))


class CheckpointEvery:
    """The attribute where it isn't set: None, or the submodule to which a subclass gave this name, which nn.Module finds only
    where the class has no such attribute. What is set stands in the layer's __dict__, which goes first.
    """

    def __get__(self, layer: Any, kind: type) -> Any:
        return None if layer is None else layer._modules.get("checkpoint_every")


def checkpoint_every_of(layer: Any) -> Any:
    """As it was set; None where it wasn't, or is a submodule."""
    found = getattr(layer, "checkpoint_every", None)  # a layer of torch.nn has none
    return None if isinstance(found, nn.Module) else found


def _checkpoint_every(layer: Any) -> int:
    return 0 if checkpoint_every_of(layer) is None else at_least_one(layer, "checkpoint_every")


def step_sizes(module: Any, cell: Cell) -> Sizes:
    """Those of a module with nn.LSTMCell's attributes, which may have no input or no units. TypeError: one can't be."""
    I, H = whole(module, "input_size"), whole(module, "hidden_size")
    return Sizes(I, H, bias=bool(module.bias), is_cell=True, cell=cell)


def dropout_of(lstm: Any) -> float | None:
    """The probability for a call: 0 where nothing lies between layers; None outside training.

    TypeError: not a number. RuntimeError: not from 0 to 1.
    """
    if not lstm.training:
        return None
    if lstm.num_layers == 1:
        return 0.0
    try:
        p = float("" if isinstance(lstm.dropout, str) else lstm.dropout)  # which float would read
    except (TypeError, ValueError):
        raise TypeError(f"dropout should be a number, got: {type(lstm.dropout).__name__}") from None
    if not 0 <= p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p:g}")
    return p


def whole(module: Any, name: str) -> int:
    """The attribute as an int: 4.0 counts as 4, as it does where nn.LSTM compares it.

    TypeError: it is no whole number. ValueError: no array can be so large.
    """
    value = getattr(module, name)
    try:
        number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        raise TypeError(f"{name} should be of type int, got: {type(value).__name__}") from None
    if number >= _TOO_MANY:
        raise ValueError(f"{name} must be smaller than 2**56, got {number}")
    return number


def refuse_no_int(name: str, value: Any, *, bools: bool = True) -> None:
    """TypeError: a constructor's argument that torch takes for no dimension, though a call would take the attribute."""
    if not hasattr(value, "__index__") or (isinstance(value, bool) and not bools):
        raise TypeError(f"{name} should be of type int, got: {type(value).__name__}")


def at_least_one(module: Any, name: str) -> int:
    """ValueError: below 1."""
    value = whole(module, name)
    if value <= 0:
        raise ValueError(f"{name} must be greater than zero")
    return value
