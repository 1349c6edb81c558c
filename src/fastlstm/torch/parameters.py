"""What LSTM and LSTMCell share: parameters, looked up by name at every call."""

import math
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fastlstm import _engine
from fastlstm.torch.wrap import script
from fastlstm.weights import Sizes, named_shapes

# Of this process alone, neither pickled nor copied: from the constructor's arguments, and for torch.jit.script.
DERIVED = ("_sizes", "_names", *script.PREPARED)
_SIZES = frozenset(
    {"input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size", "checkpoint_every"}
)


# In place of the sizes where an attribute is not what it should be: the engine takes no call with these.
UNKNOWN: Any = SimpleNamespace(layer=_engine.Layer(0, 0), of_states=(0, 0), zeros=(None, None), chains=0, shapes=((),))


class Recurrent(nn.Module):
    """A module with the parameters of a recurrent layer, or of one step of it.

    It keeps no list of tensors: parametrize, weight_norm, prune, functional_call and replicate put others in place of
    the parameters, and whatever carries the name when the module is called is what it computes with.
    """

    _sizes: Sizes = UNKNOWN
    _names: tuple[str, ...] = ()

    @classmethod
    def _sizes_of_attributes(cls, module: Any) -> Sizes:
        """From the constructor's arguments, of this class or torch's. TypeError, ValueError: one of them can't be."""
        raise NotImplementedError

    def _create_parameters(self, device: Any, dtype: Any) -> None:
        for name, shape in self._look_up().items():
            setattr(self, name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))

    def __getstate__(self) -> dict[str, Any]:
        """The attributes that torch.nn's module has, so that whoever reads a pickle needs to know this class alone."""
        return {name: value for name, value in self.__dict__.items() if name not in DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._look_up()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _SIZES and "_sizes" in self.__dict__:  # torch's modules read them at every call
            try:
                self._look_up()
            except (TypeError, ValueError):  # the next call says so, unless another attribute mends it
                del self._sizes, self._names

    def _known(self) -> Sizes:
        """The sizes of a call. TypeError, ValueError: an attribute is not what the constructor would take."""
        if self._sizes is UNKNOWN:
            self._look_up()
        return self._sizes

    def _look_up(self) -> dict[str, tuple[int, ...]]:
        self._sizes = self._sizes_of_attributes(self)
        shapes = named_shapes(self._sizes)
        self._names = tuple(shapes)
        return shapes

    def reset_parameters(self) -> None:
        """Draws every parameter anew from U(-1/sqrt(H), 1/sqrt(H)), in the order of `parameters()`."""
        H = self._known().H
        bound = 1.0 / math.sqrt(H) if H > 0 else 0
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _weights(self) -> list[Tensor]:
        parameters = self._parameters
        try:
            return [parameters[name] for name in self._names]  # type: ignore[misc]  # None is refused further down
        except KeyError:
            return [self._weight(name) for name in self._names]

    def _weight(self, name: str) -> Tensor:
        try:
            weight: Tensor = getattr(self, name)
        except AttributeError as error:
            raise RuntimeError(f"expected a parameter {name}, which the layer has not: {error}") from error
        return weight


def forward_of(base: type[Recurrent], name: str) -> Any:
    """`base.forward`, in whose errors Python names this class."""
    forward: Any = base.forward
    found = FunctionType(forward.__code__, forward.__globals__, "forward", forward.__defaults__)
    found.__kwdefaults__ = forward.__kwdefaults__
    found.__qualname__, found.__doc__ = f"{name}.forward", forward.__doc__
    return found
