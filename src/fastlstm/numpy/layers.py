"""Layers and cells on NumPy arrays. Their weights are copies, which nothing changes."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from fastlstm import _engine, cells, streams
from fastlstm.cells import Cell
from fastlstm.files import KEY
from fastlstm.numpy import arguments, state
from fastlstm.numpy.stream import Stream
from fastlstm.numpy.threads import get_num_threads
from fastlstm.traces import STEPS, TRACES, GRUTrace, Trace
from fastlstm.weights import named_shapes

if TYPE_CHECKING:
    from fastlstm.numpy.arguments import Array, Flags, Frames, Lengths, Values

AnyLayer = TypeVar("AnyLayer", bound="Recurrent")


class Recurrent:
    """What layers and cells share. dtype: of the weights and of a call, float32 or float64."""

    cell: ClassVar[Cell]
    is_cell: ClassVar[bool] = False

    def __init__(self, arrays: Mapping[str, Any], prefix: str = "") -> None:
        if not isinstance(arrays, Mapping):
            raise TypeError(
                f"expected trained weights by name, got {type(arrays).__name__}: {type(self).__name__}.load(path) reads a file, "
                f"{type(self).__name__}.from_state(arrays) takes them from a dict"
            )
        found = {name: np.asarray(array) for name, array in state.with_prefix(arrays, prefix).items()}
        self.sizes = state.sizes_of(self.cell, self.is_cell, {name: array.shape for name, array in found.items()})
        own = {name: found[name] for name in named_shapes(self.sizes)}
        kinds = {array.dtype for array in own.values()}
        if len(kinds) > 1 or not kinds <= {np.dtype(name) for name in ("float16", "float32", "float64")}:
            raise ValueError(
                f"expected parameters of one dtype, float16, float32 or float64, got {sorted(map(str, kinds))}"
            )
        self.dtype = np.promote_types(
            kinds.pop(), np.float32
        )  # float16 is a way to keep weights: computed is in float32
        self.weights = {name: np.array(array, self.dtype, order="C") for name, array in own.items()}
        for array in self.weights.values():
            array.flags.writeable = False
        self._arrays = list(self.weights.values())

    @classmethod
    def from_state(cls: type[AnyLayer], arrays: Mapping[str, Any], prefix: str = "", **options: Any) -> AnyLayer:
        """From arrays by torch's names, such as `{name: t.numpy() for name, t in lstm.state_dict().items()}`; they are copied.

        prefix: of the names, where they are a whole model's: "encoder.". Others are passed by. ValueError: they are not the
        parameters of such a layer; it says what is wrong, and which prefixes have layers.
        """
        return cls(arrays, prefix, **options)

    @classmethod
    def load(cls: type[AnyLayer], path: str | bytes | os.PathLike[Any], prefix: str = "", **options: Any) -> AnyLayer:
        """From a file of `fastlstm.save`, or any safetensors file that has torch's names, under a prefix: "encoder.".

        bfloat16 and float16 weights are widened to float32. Nothing in the file is executed. FileNotFoundError, another OSError
        where there is no regular file; ValueError: it is not a safetensors file, or has no such layer; it says what is wrong,
        and which prefixes have layers.
        """
        try:
            arrays, metadata = state.read(path, prefix)
            return cls(arrays, **{**cls._saved(metadata), **options})
        except ValueError as error:
            raise ValueError(f"{os.fsdecode(path)}: {error}") from error

    @classmethod
    def _saved(cls, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Arguments that no shape tells, from the metadata of a file of `fastlstm.save`."""
        return {}

    def __reduce__(self) -> Any:
        """Pickled and copied as what it is made of: the engine's memory stays where it is."""
        return _made, (type(self), self.weights, self._keywords())

    def _keywords(self) -> dict[str, Any]:
        """What the constructor was told beside the weights."""
        return {}

    def __repr__(self) -> str:
        shown = f"{self.sizes.I}, {self.sizes.H}"
        for name, value, usual in (("proj_size", self.sizes.P, 0), ("num_layers", self.sizes.layers, 1)):
            shown += f", {name}={value}" if value != usual else ""
        return f"{type(self).__name__}({shown}{'' if self.sizes.bias else ', bias=False'}{self._options()})"

    def _options(self) -> str:
        return ""


def _made(kind: type[Recurrent], weights: Mapping[str, Any], keywords: Mapping[str, Any]) -> Recurrent:
    return kind(weights, **keywords)


class Layer(Recurrent):
    def __init__(self, arrays: Mapping[str, Any], prefix: str = "", *, batch_first: bool = False) -> None:
        super().__init__(arrays, prefix)
        self.batch_first = batch_first
        self._packed = _engine.PackedWeights(self.sizes.layer, self._arrays, str(self.dtype))

    @classmethod
    def _saved(cls, metadata: Mapping[str, str]) -> dict[str, Any]:
        if KEY not in metadata:
            return {}
        from fastlstm import checkpoint  # what it takes to write one would be a third of this package's import

        _, arguments = checkpoint.described(metadata)
        return {"batch_first": arguments.get("batch_first", False)}

    def _keywords(self) -> dict[str, Any]:
        return {"batch_first": self.batch_first}

    def _options(self) -> str:
        said = ", batch_first=True" if self.batch_first else ""
        return said + (", bidirectional=True" if self.sizes.D == 2 else "")

    def __call__(self, x: Any, hx: Any = None, lengths: Any = None, reset: Any = None) -> Any:
        """x, hx -> output, and the last states in hx's form; shapes as the class says."""
        if type(x) is np.ndarray:
            threads = get_num_threads()
            done = _engine.forward(self.sizes.layer, self._packed, x, hx, threads, self.batch_first, lengths, reset)
            if done is not None:
                return done
        call = arguments.read(self.sizes, self.dtype, self.batch_first, x, hx, lengths, reset)
        done = _engine.forward(self.sizes.layer, self._packed, call.x, call.hx, get_num_threads(), *call.rows)
        if done is None:
            raise arguments.not_taken(self.sizes, call)
        return call.place(done[0]), done[1]

    def stream(self, batch: int = 1) -> Stream:
        """The layer frame by frame: `stream.step(frame)`. All streams share the layer's weights.

        batch: how many sequences run side by side. ValueError: below 1, or the layer is bidirectional, whose reverse direction
        begins at the last step.
        """
        streams.check(self.sizes, batch)
        return Stream(self._packed, self.sizes, self.dtype, batch)

    def _trace(self, x: Any, hx: Any, lengths: Any, reset: Any) -> Any:
        call = arguments.read(self.sizes, self.dtype, self.batch_first, x, hx, lengths, reset)
        done = _engine.trace(self.sizes.layer, self._packed, call.x, call.hx, get_num_threads(), *call.rows)
        if done is None:
            raise arguments.not_taken(self.sizes, call)
        output, states, _, rest = done
        steps, D = STEPS[self.cell.name], self.sizes.D
        arrays = len(steps._fields) - 1
        outputs = [*rest[arrays * self.sizes.chains :], output]
        hidden = outputs if D == 1 else [side for both in outputs for side in np.split(both, 2, -1)]
        placed = [steps(*map(call.place, (h, *rest[arrays * k : arrays * (k + 1)]))) for k, h in enumerate(hidden)]
        layers = tuple(tuple(placed[k : k + D]) for k in range(0, len(placed), D))
        last = states if isinstance(states, tuple) else (states,)
        own = None if call.rows[1] is None else call.rows[1].reshape(-1).copy()
        return TRACES[self.cell.name](call.place(output), *last, layers, self.batch_first, own)


class StepCell(Recurrent):
    is_cell = True

    def __call__(self, x: Any, hx: Any = None) -> Any:
        """x, hx -> the new state, or states, in hx's form; shapes as the class says."""
        if type(x) is np.ndarray:
            done = _engine.forward(self.sizes.layer, self._arrays, x, hx, get_num_threads())
            if done is not None:
                return done[1]
        call = arguments.read_step(self.sizes, self.dtype, x, hx)
        done = _engine.forward(self.sizes.layer, self._arrays, call.x, call.hx, get_num_threads())
        if done is None:
            raise arguments.not_taken(self.sizes, call)
        return done[1]


class LSTM(Layer):
    """`fastlstm.LSTM` on NumPy arrays, at inference: its arguments are read off its weights. See `load` and `from_state`.

    Args: batch_first: x and output are (N, L, features); of a file of `fastlstm.save`: as it was saved.

    Shapes: L = length, N = batch, D = 2 if bidirectional else 1, H_in = input_size, H_cell = hidden_size, H_out =
    proj_size or H_cell.

    - x: (L, N, H_in); (N, L, H_in) with batch_first; (L, H_in) unbatched
    - hx: (h_0, c_0), h_0 (D*num_layers, N, H_out), c_0 (D*num_layers, N, H_cell); (D*num_layers, ...) unbatched; zeros by default
    - lengths: (N) integers from 0 to L. Row n is its first lengths[n] steps: what follows is never read, its output is 0
    - reset: bool (L, N); (N, L) with batch_first; (L) unbatched. True at t: the state before it is zeros in every layer
      (`reset_to` is the torch face's alone: here, states in the place of zeros make calls of their own)
    - returns output (L, N, D*H_out) and (h_n, c_n), as `fastlstm.LSTM` does

    Errors are those of `fastlstm.LSTM`. Source: `torch.nn.LSTM`.
    """

    cell = cells.LSTM

    if TYPE_CHECKING:

        def __call__(
            self,
            x: Frames,
            hx: tuple[Values, Values] | None = None,
            lengths: Lengths | None = None,
            reset: Flags | None = None,
        ) -> tuple[Array, tuple[Array, Array]]: ...

    def trace(self, x: Any, hx: Any = None, lengths: Any = None, reset: Any = None) -> Trace:
        """The call, with every layer's h, c, i, f, g, o at every step: `trace.layers[layer][direction]`, each like output."""
        found: Trace = self._trace(x, hx, lengths, reset)
        return found


class GRU(Layer):
    """`fastlstm.GRU` on NumPy arrays, as `fastlstm.numpy.LSTM`; hx is h_0, an array, and h_n is returned beside output."""

    cell = cells.GRU

    if TYPE_CHECKING:

        def __call__(
            self,
            x: Frames,
            hx: Values | None = None,
            lengths: Lengths | None = None,
            reset: Flags | None = None,
        ) -> tuple[Array, Array]: ...

    def trace(self, x: Any, hx: Any = None, lengths: Any = None, reset: Any = None) -> GRUTrace:
        """The call, with every layer's h, r, z, n at every step: `trace.layers[layer][direction]`, each like output."""
        found: GRUTrace = self._trace(x, hx, lengths, reset)
        return found


class LSTMCell(StepCell):
    """`fastlstm.LSTMCell` on NumPy arrays: x (N, H_in) or (H_in), hx (h, c), each (N, H_cell) or (H_cell), -> (h, c)."""

    cell = cells.LSTM

    if TYPE_CHECKING:

        def __call__(self, x: Frames, hx: tuple[Values, Values] | None = None) -> tuple[Array, Array]: ...


class GRUCell(StepCell):
    """`fastlstm.GRUCell` on NumPy arrays: x (N, H_in) or (H_in), hx h, (N, H_cell) or (H_cell), -> h."""

    cell = cells.GRU

    if TYPE_CHECKING:

        def __call__(self, x: Frames, hx: Values | None = None) -> Array: ...


def load(path: str | bytes | os.PathLike[Any], prefix: str = "") -> LSTM | GRU | LSTMCell | GRUCell:
    """The layer or cell that a file has under a prefix, of whichever class it is. Errors as `LSTM.load`."""
    arrays, metadata = state.read(path, prefix)
    shapes = {name: array.shape for name, array in arrays.items()}
    kinds: tuple[type[Any], ...] = (LSTM, GRU) if "weight_hh_l0" in shapes else (LSTMCell, GRUCell)
    for kind in kinds:
        try:
            state.sizes_of(kind.cell, kind.is_cell, shapes)
        except ValueError as error:
            why = error
        else:
            found: LSTM | GRU | LSTMCell | GRUCell = kind(arrays, **kind._saved(metadata))
            return found
    raise ValueError(f"{os.fsdecode(path)}: {why}") from why
