"""From what the caller gave to a batch: the arguments of a call, and what is wrong with them."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastlstm import errors
from fastlstm.torch import context
from fastlstm.torch import reset_to as states_of_segments
from fastlstm.torch.batch import Batch, Dense, Packed, Ragged, Results, States
from fastlstm.torch.errors import check_dtype, refuse_layout
from fastlstm.torch.memory import refuse_freed
from fastlstm.weights import Sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    # What a type checker lets a caller say: all that `_as_tensor` is for.
    Lengths = Tensor | NDArray[Any] | Sequence[int] | int
    Flags = Tensor | NDArray[Any] | Sequence[bool] | Sequence[Sequence[bool]]

Operands = tuple[Batch, Tensor, States]  # the batch, x, h_0 and c_0


def read(
    sizes: Sizes,
    dtype: torch.dtype,
    lstm: Any,
    plain: bool,
    input: Any,
    hx: Any,
    lengths: Any,
    reset: Any,
    reset_to: Any = None,
) -> Operands:
    """The batch of an LSTM's call, x, h_0 and c_0 in its form. dtype: of the weights; lstm: whose batch_first counts where
    the input is padded; plain: memory says what tensors are.

    Raises what the class LSTM says.
    """
    if lengths is not None or reset is not None:
        if not isinstance(input, Tensor) or input.is_nested:
            kind = "nested tensor" if isinstance(input, Tensor) else type(input).__name__
            raise TypeError(f"lengths and reset are for a padded tensor, got a {kind}")
        if context.tracing_state() is not None and any(not isinstance(t, Tensor | None) for t in (lengths, reset)):
            raise RuntimeError("torch.jit.trace would keep the lengths and resets it saw: expected tensors")
    if reset_to is not None:
        if reset is None:
            raise ValueError(
                "reset_to: expected reset, too, which says at which steps a sequence starts from these states"
            )
        if context.tracing_state() is not None:
            raise RuntimeError("torch.jit.trace would keep the segments it saw: trace a call without reset_to")
        batch, input, hx = _padded(sizes, dtype, bool(lstm.batch_first), input, hx, lengths, reset)
        assert isinstance(batch, Ragged)
        return states_of_segments.read(sizes, batch, input, hx, reset_to)
    if isinstance(input, PackedSequence):
        return _packed(sizes, dtype, plain, input, hx)
    if getattr(input, "is_nested", False):
        return _nested(sizes, dtype, input, hx)
    return _padded(sizes, dtype, bool(lstm.batch_first), input, hx, lengths, reset)


def _states(sizes: Sizes, hx: Any) -> Results:
    """h_0, and an LSTM's c_0. IndexError: of an LSTM there are not two, as where only h_0 is given. AttributeError, as nn.GRU
    raises: h_0 is no tensor.
    """
    if len(sizes.of_states) == 1:
        if not isinstance(hx, Tensor):
            raise AttributeError(f"{sizes.cell.name}: expected hx to be a tensor h_0, got {type(hx).__name__}")
        return (hx,)
    try:
        return hx[0], hx[1]
    except IndexError:
        raise IndexError(f"expected hx to be a tuple (h_0, c_0), got {type(hx).__name__} of length {len(hx)}") from None


def _padded(
    sizes: Sizes, dtype: torch.dtype, batch_first: bool, input: Tensor, hx: Any, lengths: Any, reset: Any
) -> Operands:
    dims = input.dim()
    if dims not in (2, 3):
        errors.refuse_rank(sizes, dims, batch_first)
    if input.layout is not torch.strided:  # torch's transpose of an empty MKL-DNN tensor divides by zero
        refuse_layout("input", input)
    swapped = batch_first and dims == 3
    shape = input.shape
    T, N = shape[1 if swapped else 0], 1 if dims == 2 else shape[0 if swapped else 1]
    state: tuple[int, ...] = (sizes.chains, N) if dims == 3 else (sizes.chains,)
    states = None if hx is None else _states(sizes, hx)
    if states is not None and any(t.dim() != dims for t in states):
        errors.refuse_dimensions(sizes, states, "batched" if dims == 3 else "unbatched", dims, state)
    if input.dtype is not dtype:
        check_dtype(input.dtype, dtype)
    if shape[-1] != sizes.I:
        errors.refuse_features(sizes, shape, batch_first)
    if states is not None:
        errors.check_states(sizes, states, hx, state, N)
    operand = states or sizes.zeros
    if T == 0 and lengths is None:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    if lengths is None and reset is None:
        return Dense(T, N, state, swapped), input.transpose(0, 1) if swapped else input, operand
    batched = dims == 3
    with context.outside_transforms():
        lengths = None if lengths is None else lengths_of(lengths, N, batched)
        reset = None if reset is None else reset_of(reset, T, N, batched, swapped)
    return Ragged(T, N, state, lengths, reset, batch_first=swapped), input, operand


def _nested(sizes: Sizes, dtype: torch.dtype, input: Tensor, hx: Any) -> Operands:
    letters = f"(N, L of each row, H_in), H_in = {sizes.I}"
    if input.layout is not torch.jagged or input.dim() != 3 or context.ragged_dimension(input) != 1:
        raise ValueError(f"{sizes.cell.name}: expected a nested tensor of layout torch.jagged and shape {letters}")
    if input.dtype is not dtype:
        check_dtype(input.dtype, dtype)
    values, offsets, lengths = input.values(), input.offsets(), input.lengths()  # type: ignore[attr-defined]
    if values.shape[-1] != sizes.I:
        raise RuntimeError(
            f"input.size(-1) must be equal to input_size. Expected {sizes.I}, got {values.shape[-1]}"
            f": expected a nested tensor of shape {letters}"
        )
    N = offsets.shape[0] - 1
    state = (sizes.chains, N)
    states = None if hx is None else _states(sizes, hx)
    if states is not None:
        errors.check_states(sizes, states, hx, state, N)
    with context.outside_transforms():
        own = None if lengths is None else lengths.to("cpu", torch.int64)
        starts = offsets.to("cpu", torch.int64)
    return Ragged(1, N, state, own, None, starts, nested=(offsets, lengths)), values, states or sizes.zeros


def _packed(sizes: Sizes, dtype: torch.dtype, plain: bool, input: PackedSequence, hx: Any) -> Operands:
    x, batch_sizes, sorted_indices, unsorted_indices = input
    if not isinstance(x, Tensor):
        raise TypeError(f"data of a PackedSequence: expected a tensor, got {type(x).__name__}")
    if x.dtype is not dtype:
        check_dtype(x.dtype, dtype)
    if x.dim() != 2:
        raise RuntimeError(f"input must have 2 dimensions, got {x.dim()}")
    if x.shape[1] != sizes.I:
        raise RuntimeError(
            f"input.size(-1) must be equal to input_size. Expected {sizes.I}, got {x.shape[1]}"
            f": expected packed data of shape (sum of lengths, H_in) = {(x.shape[0], sizes.I)}"
        )
    N = _batch_of(batch_sizes, x.shape[0])
    state = (sizes.chains, N)
    states = None if hx is None else _states(sizes, hx)
    if states is not None:
        if len(states) > 1 and any(t.dim() != 3 for t in states):  # nn.GRU compares the whole shape
            errors.refuse_dimensions(sizes, states, "packed", 3, state)
        errors.check_states(sizes, states, hx, state, N)
        if sorted_indices is not None:
            if plain:  # no wrapper, whose memory is another's
                for t in states:
                    refuse_freed(t)
            states = tuple(t.index_select(1, sorted_indices) for t in states)
            errors.check_states(sizes, states, hx, state, N)  # the indices may be fewer than the rows
    return (
        Packed(len(batch_sizes), N, state, batch_sizes, sorted_indices, unsorted_indices),
        x,
        states or sizes.zeros,
    )


INTEGERS = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


def _batch_of(batch_sizes: Tensor, rows: int) -> Any:
    """How many rows the first step has; under torch.jit.trace, which must follow it, a tensor.

    TypeError: not one row of integers. IndexError: no step. RuntimeError: another number of rows than the packed data can have.
    Whether they fall and add up is seen where they are counted (`batch.refuse_rows`).
    """
    if batch_sizes.dim() != 1 or batch_sizes.dtype not in INTEGERS:
        got = f"{batch_sizes.dtype} of shape {tuple(batch_sizes.shape)}"
        raise TypeError(f"batch_sizes of a PackedSequence: expected integers of shape (L,), got {got}")
    if len(batch_sizes) == 0:
        raise IndexError("batch_sizes of a PackedSequence: expected at least one step, got none")
    if context.tracing_state() is not None:
        return batch_sizes[0]
    N = int(batch_sizes[0])
    if not torch.compiler.is_compiling() and not 0 <= N <= rows:
        raise RuntimeError(f"batch_sizes begin with {N} rows, but the packed data has {rows}")
    return N


def lengths_of(lengths: Any, N: int, batched: bool) -> Tensor:
    """int64 on the CPU, in the shape of `lengths`, from what the caller calls so: integers of any kind, in a tensor on any device
    or in what `torch.as_tensor` takes, a list say.

    TypeError: not integers. ValueError: not (N,), or, unbatched, not one number.
    """
    found = _as_tensor("lengths", "integers", lengths)
    if found.numel() == 0:
        found = found.long()  # an empty list is one of floats
    if found.dtype is torch.bool or found.is_floating_point() or found.is_complex():
        raise TypeError(f"lengths: expected integers, got {found.dtype}")
    shape: tuple[int, ...] = (N,) if batched else ()
    if found.shape != shape:
        errors.refuse_lengths(tuple(found.shape), N, batched)
    return found.detach().to("cpu", torch.int64).contiguous()


def lengths_of_mask(mask: Any, lengths: Any, input: Any, batch_first: bool) -> Tensor:
    """What `lengths` says otherwise, from what the caller calls mask, in the shape of input but for its features.

    TypeError: not bool, or input is not padded. ValueError: another shape, True after False, or lengths are given, too.
    """
    if lengths is not None:
        raise ValueError("expected lengths or mask, got both")
    if not isinstance(input, Tensor) or input.is_nested:
        kind = "nested tensor" if isinstance(input, Tensor) else type(input).__name__
        raise TypeError(f"mask is for a padded tensor, got a {kind}")
    found = _as_tensor("mask", "bool", mask)
    if found.dtype is not torch.bool:
        raise TypeError(f"mask: expected bool, got {found.dtype}: mask.bool() makes it so")
    if found.shape != input.shape[:-1]:
        raise ValueError(f"mask: expected shape {tuple(input.shape[:-1])}, got {tuple(found.shape)}")
    time = -1 if batch_first else 0
    found = found.detach().cpu()  # by one copy; the lengths are needed there
    own, falling = found.sum(time), found.to(torch.int8).diff(dim=time).le(0).all(time)
    if torch.compiler.is_compiling() or context.tracing_state() is not None:
        return torch.where(falling, own, -1)  # refused where it runs: it is no length
    if not falling.all():
        raise ValueError("mask: expected True for the first steps of a row and False for the rest")
    return own


def reset_of(reset: Any, T: int, N: int, batched: bool, batch_first: bool) -> Tensor:
    """bool on the CPU, in the shape of x but its features, from what the caller calls reset. TypeError: not bool. ValueError:
    another shape.
    """
    found = _as_tensor("reset", "bool", reset)
    if found.dtype is not torch.bool:
        raise TypeError(f"reset: expected bool, got {found.dtype}: reset.bool() makes it so")
    shape = (T,) if not batched else (N, T) if batch_first else (T, N)
    if found.shape != shape:
        errors.refuse_reset(tuple(found.shape), shape, batch_first)
    return found.detach().cpu()


def _as_tensor(name: str, kind: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if context.is_mapped(value) and not context.innermost_is_vmap():
            raise RuntimeError(
                f"torch.func.vmap can't map over {name} around another transform: expected the same for all"
            )
        return value
    try:
        # `tensor` where it will do: the compiler takes numbers in it for variables, in `as_tensor` for constants.
        make = torch.tensor if isinstance(value, int | list | tuple) else torch.as_tensor
        return make(value, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(
            f"{name}: expected {kind}, in a tensor or a list, got {type(value).__name__}: {error}"
        ) from None
