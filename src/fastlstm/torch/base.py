"""What LSTM and LSTMCell share: parameters, looked up by name at every call."""

import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning
from torch.nn.utils.rnn import PackedSequence

from fastlstm.torch import route
from fastlstm.weights import Sizes

DERIVED = ("_sizes", "_names")  # from the constructor's arguments: neither pickled nor copied
_SIZES = frozenset({"input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size"})


# In place of the sizes where an attribute is not what it should be: the engine takes no call with these.
_UNKNOWN: Any = SimpleNamespace(numbers=[])


class Recurrent(nn.Module):
    """A module with LSTM parameters.

    It keeps no list of tensors: parametrize, weight_norm, prune, functional_call and replicate put others in place of
    the parameters, and whatever carries the name when the module is called is what it computes with.
    """

    _sizes: Sizes = _UNKNOWN
    _names: tuple[str, ...] = ()

    def _named_shapes(self) -> tuple[Sizes, dict[str, tuple[int, ...]]]:
        """The sizes, and the name and shape of each parameter, from the constructor's arguments."""
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
        if self._sizes is _UNKNOWN:
            self._look_up()
        return self._sizes

    def _look_up(self) -> dict[str, tuple[int, ...]]:
        self._sizes, shapes = self._named_shapes()
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

    def __prepare_scriptable__(self) -> nn.Module:
        """torch.jit.script asks this for what it should compile; it would put that in the caller's model, too."""
        raise RuntimeError(
            f"torch.jit.script can't compile fastlstm.{type(self).__name__}: script torch.nn.{type(self).__name__} in its place "
            "(fastlstm.revert(model) exchanges every LSTM), which runs on the engine under fastlstm.enable()"
        )

    def _leaf(self, input: torch.fx.Proxy, **more: Any) -> Any:
        """What torch.fx records of a module it does not look into, as it doesn't of torch.nn's."""
        tracer = input.tracer
        given = {name: value for name, value in more.items() if value is not None}
        return tracer.create_proxy("call_module", tracer.path_of_module(self), (input,), given)  # type: ignore[attr-defined]

    def _traced(self, run: Callable[[Any, Any], Any], input: Any, hx: Any) -> Any:
        """Runs a call that torch.jit.trace watches. Its checks compare traced sizes; the op makes them again on every
        run.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TracerWarning)
            return run(input, hx)


def engine(lstm: Recurrent, x: Tensor | PackedSequence) -> route.Engine:
    """Which engine `lstm(x)` would run on, 'native', 'cudnn' or 'composite', and why.

    lstm: a fastlstm.LSTM or LSTMCell. Raises TypeError for anything else.
    """
    if not isinstance(lstm, Recurrent):
        raise TypeError(f"expected a fastlstm.LSTM or fastlstm.LSTMCell, got {type(lstm).__name__}")
    data = x.data if isinstance(x, PackedSequence) else x
    return route.choose(data.device, data.dtype)
