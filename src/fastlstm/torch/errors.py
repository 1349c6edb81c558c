"""What is wrong with the arguments of a call, in nn.LSTM's words where it has some, and the shape that was expected."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import route
from fastlstm.weights import Sizes


def expected_states(sizes: Sizes, state: tuple[int, ...]) -> str:
    """The end of a message. state: what h_0 and c_0 have before their features."""
    letters = "D*num_layers, N" if len(state) == 2 else "D*num_layers"
    return (
        f": expected h_0 of shape ({letters}, H_out) = {(*state, sizes.out)}"
        f" and c_0 of shape ({letters}, H_cell) = {(*state, sizes.H)}"
    )


def check_states(sizes: Sizes, h_0: Tensor, c_0: Tensor, hx: Sequence[Tensor], state: tuple[int, ...], N: int) -> None:
    """RuntimeError: h_0 or c_0, from hx, has another shape, or there are more of them. TypeError: hx is no pair."""
    for k, (t, features) in enumerate(((h_0, sizes.out), (c_0, sizes.H))):
        if t.shape != (*state, features):
            got = list(t.shape) if len(state) == 2 else [t.shape[0], 1, *t.shape[1:]]
            raise RuntimeError(
                f"Expected hidden[{k}] size {(sizes.cells, N, features)}, got {got}{expected_states(sizes, state)}"
            )
    if not isinstance(hx, (tuple, list)):
        raise TypeError(f"expected hx to be a tuple (h_0, c_0), got {type(hx).__name__}")
    if len(hx) != 2:
        raise RuntimeError(f"lstm expects two hidden states, (h_0, c_0), got {len(hx)}")


def check_batch_sizes(batch_sizes: Tensor, rows: int) -> Any:
    """How many rows the first step has; under torch.jit.trace, which must follow it, a tensor.

    TypeError: not one row of integers. IndexError: no step. RuntimeError: another number of rows than the packed data can have.
    Whether they fall and add up is seen where they are counted (`autograd.problem_of`).
    """
    if batch_sizes.dim() != 1 or batch_sizes.dtype not in _INTEGERS:
        got = f"{batch_sizes.dtype} of shape {tuple(batch_sizes.shape)}"
        raise TypeError(f"batch_sizes of a PackedSequence: expected integers of shape (L,), got {got}")
    if len(batch_sizes) == 0:
        raise IndexError("batch_sizes of a PackedSequence: expected at least one step, got none")
    if route.tracing_state() is not None:
        return batch_sizes[0]
    N = int(batch_sizes[0])
    if not torch.compiler.is_compiling() and not 0 <= N <= rows:
        raise RuntimeError(f"batch_sizes begin with {N} rows, but the packed data has {rows}")
    return N


_INTEGERS = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


def refuse_features(sizes: Sizes, shape: Sequence[int], batch_first: bool) -> None:
    """RuntimeError: an input of this shape has another number of features."""
    letters = {2: "L, H_in", 3: "N, L, H_in" if batch_first else "L, N, H_in"}[len(shape)]
    raise RuntimeError(
        f"input.size(-1) must be equal to input_size. Expected {sizes.I}, got {shape[-1]}"
        f": expected input of shape ({letters}) = {(*shape[:-1], sizes.I)}"
    )


def check_dtype(dtype: torch.dtype, expected: torch.dtype) -> None:
    """ValueError: the input's dtype is not that of the weights, and no autocast is there to mend it."""
    if not torch._C._is_any_autocast_enabled():
        raise ValueError(
            f"RNN input dtype ({dtype}) does not match weight dtype ({expected}). "
            f"Convert input: input.to({expected}), or convert model: model.to({dtype})"
        )
