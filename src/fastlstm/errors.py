"""What is wrong with the shapes of a call, in torch's words where it has some, and the shape that was expected: for both faces.

States are arrays of any kind: only their shapes are read.
"""

from collections.abc import Sequence
from typing import Any

from fastlstm.weights import Sizes


def expected_states(sizes: Sizes, state: tuple[int, ...]) -> str:
    """The end of a message. state: what h_0 and c_0 have before their features."""
    letters = "D*num_layers, N" if len(state) == 2 else "D*num_layers"
    h_0 = f": expected h_0 of shape ({letters}, H_out) = {(*state, sizes.out)}"
    return h_0 if len(sizes.of_states) == 1 else f"{h_0} and c_0 of shape ({letters}, H_cell) = {(*state, sizes.H)}"


def refuse_dimensions(sizes: Sizes, states: Sequence[Any], kind: str, dims: int, state: tuple[int, ...]) -> None:
    """RuntimeError: the states of a call whose input is 'batched', 'unbatched' or 'packed' have another number of dimensions."""
    of_input, should = ("packed", "") if kind == "packed" else (f"{kind} {dims}-D", "also ")
    names, tensors = ("hx and cx", "({}) tensors") if len(states) > 1 else ("hx", "{} tensor")
    got = tensors.format(", ".join(f"{len(t.shape)}-D" for t in states))
    expected = expected_states(sizes, state)
    raise RuntimeError(f"For {of_input} input, {names} should {should}be {dims}-D but got {got}{expected}")


def check_states(sizes: Sizes, states: Sequence[Any], hx: Any, state: tuple[int, ...], N: int) -> None:
    """RuntimeError: h_0 or c_0, from hx, has another shape, or there are more of them. TypeError: hx is no pair."""
    for k, (t, features) in enumerate(zip(states, sizes.of_states, strict=True)):
        if t.shape != (*state, features):
            got = list(t.shape) if len(state) == 2 else [t.shape[0], 1, *t.shape[1:]]
            name = f"hidden[{k}]" if len(states) > 1 else "hidden"
            expected = expected_states(sizes, state)
            raise RuntimeError(f"Expected {name} size {(sizes.chains, N, features)}, got {got}{expected}")
    if len(states) == 1:
        return
    if not isinstance(hx, (tuple, list)):
        raise TypeError(f"expected hx to be a tuple (h_0, c_0), got {type(hx).__name__}")
    if len(hx) != 2:
        raise RuntimeError(f"lstm expects two hidden states, (h_0, c_0), got {len(hx)}")


def refuse_features(sizes: Sizes, shape: Sequence[int], batch_first: bool) -> None:
    """RuntimeError: an input of this shape has another number of features."""
    letters = {2: "L, H_in", 3: "N, L, H_in" if batch_first else "L, N, H_in"}[len(shape)]
    raise RuntimeError(
        f"input.size(-1) must be equal to input_size. Expected {sizes.I}, got {shape[-1]}"
        f": expected input of shape ({letters}) = {(*shape[:-1], sizes.I)}"
    )


def refuse_rank(sizes: Sizes, dims: int, batch_first: bool) -> None:
    """ValueError: an input of a layer has so many dimensions."""
    letters = "(N, L, H_in)" if batch_first else "(L, N, H_in)"
    raise ValueError(
        f"{sizes.cell.name}: Expected input to be 2D or 3D, got {dims}D instead"
        f": expected {letters}, or (L, H_in) unbatched, H_in = {sizes.I}"
    )


def refuse_step_rank(sizes: Sizes, dims: int) -> None:
    """ValueError: an input of a cell has so many dimensions."""
    raise ValueError(
        f"{sizes.cell.name}Cell: Expected input to be 1D or 2D, got {dims}D instead"
        f": expected (N, H_in), or (H_in) unbatched, H_in = {sizes.I}"
    )


def refuse_step_features(sizes: Sizes, shape: Sequence[int]) -> None:
    """RuntimeError: an input of a cell, of this shape, has another number of features."""
    raise RuntimeError(
        f"input has inconsistent input_size: got {shape[-1]} expected {sizes.I}"
        f": expected input of shape ({'N, ' * (len(shape) - 1)}H_in) = {(*shape[:-1], sizes.I)}"
    )


def refuse_lengths(shape: tuple[int, ...], N: int, batched: bool) -> None:
    """ValueError: lengths of this shape."""
    if batched:
        raise ValueError(f"lengths: expected shape (N,) = {(N,)}, got {shape}")
    raise ValueError(f"lengths: expected one number for an unbatched input, got shape {shape}")


def refuse_any_length(lengths: Sequence[int], T: int) -> None:
    """ValueError: one of them is not from 0 to T."""
    wrong = [n for n in lengths if not 0 <= n <= T]
    if wrong:
        raise ValueError(f"lengths: expected numbers from 0 to L = {T}, got {wrong[0]}")


def refuse_reset(shape: tuple[int, ...], expected: tuple[int, ...], batch_first: bool) -> None:
    """ValueError: resets of this shape."""
    letters = "(L,)" if len(expected) == 1 else "(N, L)" if batch_first else "(L, N)"
    raise ValueError(f"reset: expected shape {letters} = {expected}, got {shape}")


def refuse_reset_to(sizes: Sizes, found: Sequence[Any], lead: tuple[int, ...], batch_first: bool) -> None:
    """ValueError: the states to start anew from have other shapes. lead: what they have before their features."""
    steps = "L" if len(lead) == 2 else "N, L" if batch_first else "L, N"
    letters = {"h": f"({steps}, D*num_layers, H_out)", "c": f"({steps}, D*num_layers, H_cell)"}
    states = list(zip(sizes.cell.states, sizes.of_states, found, strict=True))
    expected = " and ".join(f"{state} of shape {letters[state]} = {(*lead, features)}" for state, features, _ in states)
    got = " and ".join(f"{tuple(t.shape)}" for _, _, t in states)
    raise ValueError(f"reset_to: expected {expected}, got {got}")
