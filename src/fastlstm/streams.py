"""A layer that runs frame by frame, on arrays of any kind that the engine takes."""

from typing import Any, TypeVar

from fastlstm import _engine
from fastlstm.weights import Sizes

SameStream = TypeVar("SameStream", bound="Stream")


class Stream:
    """What `stream()` of a layer returns: `batch` sequences side by side, from zero states.

    In whatever pieces a sequence comes, its output has the bits of one call of the layer (but of a call of a single step, which
    adds up in an order of its own). One thread at a time; many streams may share a layer in many threads. Given `out`,
    `step` and `block` allocate nothing.

    Shapes: N = batch, H_in, H_out and H_cell as the layer's; without N everywhere where batch is 1, if the caller leaves it out.
    """

    def __init__(self, weights: _engine.PackedWeights, sizes: Sizes, dtype: Any, batch: int) -> None:
        self.sizes, self.dtype, self.batch = sizes, dtype, batch
        self._of(_engine.Stream(weights, batch))

    def _of(self, stream: _engine.Stream) -> None:
        self._stream, self._step, self._block = stream, stream.step, stream.block

    def step(self, frame: Any, out: Any = None) -> Any:
        """frame (N, H_in) -> (N, H_out), in `out` if that is given.

        ValueError: another shape or dtype, or an array that is not contiguous and aligned.
        """
        done = self._step(frame, out)
        if done is None:
            raise self._refusal("N, ", frame, out)
        return done

    def block(self, frames: Any, out: Any = None) -> Any:
        """frames (L, N, H_in) -> (L, N, H_out), in `out` if that is given: L steps. Errors as `step`."""
        done = self._block(frames, out)
        if done is None:
            raise self._refusal("L, N, ", frames, out)
        return done

    def reset(self, rows: Any = None) -> None:
        """From zero states again: all rows, or those that an index, a list, a slice or a mask (N) names. IndexError."""
        if rows is None:
            self._stream.reset()
            return
        for row in self._chosen(rows):
            self._stream.reset(row)

    @property
    def state(self) -> Any:
        """Copies: h (num_layers, N, H_out); of an LSTM (h, c), c (num_layers, N, H_cell). May be set; ValueError: other sizes."""
        states = tuple(map(self._empty, self._shapes()))
        self._stream.get_state(states)
        return states if len(states) > 1 else states[0]

    @state.setter
    def state(self, states: Any) -> None:
        given = states if isinstance(states, tuple | list) else (states,)
        found = tuple(map(self._in_order, given))
        got = [tuple(array.shape) for array in found]
        if got != self._shapes() or not self._stream.set_state(found):
            raise ValueError(f"expected states of shapes {self._shapes()}, got {got}")

    def copy(self: SameStream) -> SameStream:
        """Another stream of the same layer, in the same state."""
        other = object.__new__(type(self))
        other.sizes, other.dtype, other.batch = self.sizes, self.dtype, self.batch
        other._of(self._stream.copy())
        return other

    def _chosen(self, rows: Any) -> list[int]:
        raise NotImplementedError

    def _empty(self, shape: tuple[int, ...]) -> Any:
        raise NotImplementedError

    def _in_order(self, array: Any) -> Any:
        """Contiguous, of the stream's dtype."""
        raise NotImplementedError

    def _shapes(self) -> list[tuple[int, ...]]:
        return [(self.sizes.layers, self.batch, features) for features in self.sizes.of_states]

    def _refusal(self, lead: str, x: Any, out: Any) -> ValueError:
        letters = f"({lead}H_in), N = {self.batch}, H_in = {self.sizes.I}"
        said = f"expected a contiguous array of {self.dtype} and shape {letters}, got {_described(x)}"
        if out is not None:
            said += (
                f", and a writable one of shape ({lead}H_out), H_out = {self.sizes.out}, for out, got {_described(out)}"
            )
        return ValueError(said)


def check(sizes: Sizes, batch: int) -> None:
    """ValueError: such a layer can't stream, or there are no rows."""
    if sizes.D == 2:
        raise ValueError("a bidirectional layer can't stream: its reverse direction begins at the last step")
    if batch < 1:
        raise ValueError(f"expected a batch of at least 1, got {batch}")


def _described(array: Any) -> str:
    shape = tuple(getattr(array, "shape", ()))
    said = f"{getattr(array, 'dtype', type(array).__name__)} of shape {shape}"
    return said if _is_contiguous(array) else f"{said}, not contiguous: numpy.ascontiguousarray(x) or x.contiguous() is"


def _is_contiguous(array: Any) -> bool:
    """True of what is no array, too."""
    if hasattr(array, "is_contiguous"):
        return bool(array.is_contiguous())
    return bool(getattr(getattr(array, "flags", None), "c_contiguous", True))
