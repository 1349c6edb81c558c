"""From what the caller gave to the arrays of a call, and what is wrong with them, in the torch face's words."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastlstm import errors
from fastlstm.weights import Sizes

Array = NDArray[Any]

if TYPE_CHECKING:

    class HasArray(Protocol):
        """NumPy's arrays, and whatever hands one out, such as a tensor. numpy's own ArrayLike lets a str pass."""

        def __array__(self) -> Array: ...

    # What a type checker lets a caller say: all that `np.asarray` makes an array of numbers of.
    Nested = Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]
    Values = HasArray | Nested
    Frames = Values | Sequence[HasArray]
    Lengths = HasArray | Sequence[int] | int
    Flags = HasArray | Sequence[bool] | Sequence[Sequence[bool]]


class Call(NamedTuple):
    """x and hx as the engine takes them; rows: batch_first, lengths, reset; place: from rows of steps to what the caller gets."""

    x: Array
    hx: Any
    rows: tuple[bool, Array | None, Array | None]
    place: Callable[[Array], Array]


def read(sizes: Sizes, dtype: np.dtype[Any], batch_first: bool, x: Any, hx: Any, lengths: Any, reset: Any) -> Call:
    """Of a layer's call. Raises what the class says."""
    x = np.asarray(x)
    if x.ndim not in (2, 3):
        errors.refuse_rank(sizes, x.ndim, batch_first)
    batched = x.ndim == 3
    swapped = batch_first and batched
    T, N = x.shape[1 if swapped else 0], x.shape[0 if swapped else 1] if batched else 1
    state = (sizes.chains, N) if batched else (sizes.chains,)
    states = _states(sizes, hx)
    if any(t.ndim != x.ndim for t in states):
        errors.refuse_dimensions(sizes, states, "batched" if batched else "unbatched", x.ndim, state)
    _check_input(x, dtype)
    if x.shape[-1] != sizes.I:
        errors.refuse_features(sizes, x.shape, batch_first)
    if states:
        errors.check_states(sizes, states, hx, state, N)
    if T == 0 and lengths is None:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    given = _given(x, states)
    if lengths is None and reset is None:  # such rows are put in the order of time
        x = _plain(x.swapaxes(0, 1) if swapped else x)
        return Call(x, given, (False, None, None), (lambda steps: steps.swapaxes(0, 1)) if swapped else _same)
    rows = (swapped, _lengths(lengths, T, N, batched), _reset(reset, T, N, batched, swapped))
    return Call(_plain(x), given, rows, _same)


def read_step(sizes: Sizes, dtype: np.dtype[Any], x: Any, hx: Any) -> Call:
    """Of a cell's call. ValueError: another number of dimensions. RuntimeError: another shape or dtype."""
    x = np.asarray(x)
    if x.ndim not in (1, 2):
        errors.refuse_step_rank(sizes, x.ndim)
    states = _states(sizes, hx)
    if x.shape[-1] != sizes.I:
        errors.refuse_step_features(sizes, x.shape)
    for letter, t in zip(sizes.cell.states, states, strict=True) if states else ():
        expected = (*x.shape[:-1], sizes.H)
        if t.shape != expected:
            raise RuntimeError(f"expected {letter} of shape ({'N, ' * (x.ndim - 1)}H_cell) = {expected}, got {t.shape}")
    _check_input(x, dtype)
    return Call(_plain(x), _given(x, states), (False, None, None), _same)


def not_taken(sizes: Sizes, call: Call) -> RuntimeError:
    """What is said where the engine takes no such call: all was checked."""
    return RuntimeError(f"the engine takes no call of {sizes} with an input of shape {call.x.shape}")


def _states(sizes: Sizes, hx: Any) -> tuple[Array, ...]:
    """None: none."""
    if hx is None:
        return ()
    if len(sizes.of_states) == 1:
        return (np.asarray(hx),)
    if not isinstance(hx, tuple | list):
        raise TypeError(f"expected hx to be a tuple (h_0, c_0), got {type(hx).__name__}")
    if len(hx) != 2:
        raise RuntimeError(f"lstm expects two hidden states, (h_0, c_0), got {len(hx)}")
    return tuple(map(np.asarray, hx))


def _given(x: Array, states: tuple[Array, ...]) -> Any:
    for t in states:
        if t.dtype.newbyteorder("=") != x.dtype.newbyteorder("="):
            raise RuntimeError(
                "Input and hidden tensors are not the same dtype, "
                f"found input tensor with {x.dtype} and hidden tensor with {t.dtype}"
            )
    plain = tuple(map(_plain, states))
    return None if not plain else plain if len(plain) > 1 else plain[0]


def _check_input(x: Array, dtype: np.dtype[Any]) -> None:
    if x.dtype.newbyteorder("=") != dtype:
        raise ValueError(
            f"RNN input dtype ({x.dtype}) does not match weight dtype ({dtype}). Convert input: x.astype(np.{dtype})"
        )


def _plain(array: Array) -> Array:
    """In order, aligned, of this machine's byte order: it, or a copy."""
    return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])


def _lengths(lengths: Any, T: int, N: int, batched: bool) -> Array | None:
    if lengths is None:
        return None
    found = np.asarray(lengths)
    if found.size == 0:
        found = found.astype(np.int64)  # an empty list is one of floats
    if not np.issubdtype(found.dtype, np.integer):
        raise TypeError(f"lengths: expected integers, got {found.dtype}")
    shape = (N,) if batched else ()
    if found.shape != shape:
        errors.refuse_lengths(found.shape, N, batched)
    errors.refuse_any_length(found.reshape(-1).tolist(), T)
    return np.ascontiguousarray(found, np.int64).reshape(shape)


def _reset(reset: Any, T: int, N: int, batched: bool, batch_first: bool) -> Array | None:
    if reset is None:
        return None
    found = np.asarray(reset)
    if found.dtype != np.bool_:
        raise TypeError(f"reset: expected bool, got {found.dtype}: reset.astype(bool) makes it so")
    shape = (T,) if not batched else (N, T) if batch_first else (T, N)
    if found.shape != shape:
        errors.refuse_reset(found.shape, shape, batch_first)
    return found


def _same(steps: Array) -> Array:
    return steps
