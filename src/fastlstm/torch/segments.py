"""Batches that are no rectangle: rows that end early (lengths), rows that start anew midway (resets), jagged tensors.

Nothing crosses the edges of a segment, so each is a sequence of its own, and together they are a packed batch, which every
engine can do. What is here: the arguments and their errors, and the way into the packed batch and back.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.weights import Sizes


class Segments(NamedTuple):
    """The segments of a batch, and where they stand in the caller's tensors.

    Step t of row n is row t * step + n * row, or t * step + starts[n], of the `places` rows of x and output. state: as in
    `Call`, the caller's. empty: (N), which rows have no step; None: all have one.
    """

    made: _engine.Segments
    sizes: Sizes
    step: int
    row: int
    starts: Tensor | None
    places: int
    state: tuple[int, ...]
    empty: Tensor | None

    def problem(self, dtype: str) -> _engine.Problem:
        """The packed batch, for the engine, which reads and writes the caller's tensors."""
        sizes, starts = self.sizes, 0 if self.starts is None else self.starts.data_ptr()
        return _engine.Problem(
            self.made,
            self.step,
            self.row,
            starts,
            self.places,
            sizes.I,
            sizes.H,
            sizes.P,
            sizes.layers,
            sizes.D,
            dtype,
        )

    @property
    def fills(self) -> bool:
        """Whether every place has a step."""
        return self.made.steps == self.places

    def pack(
        self, x: Tensor, h_0: Tensor | None, c_0: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """From the caller's tensors to those of a packed batch, and its batch_sizes; None: no row has a step.

        In tensor operations: any device, recorded, differentiable. The engine does without.
        """
        made, sizes = self.made, self.sizes
        initial = indices(
            sizes.cells * made.count, lambda to: _engine.Segments.initial(made, sizes.layers, sizes.D, to)
        )
        h_0, c_0 = (None if t is None else _started(t, initial, sizes.cells) for t in (h_0, c_0))
        batch_sizes = indices(made.T, lambda to: _engine.Segments.batch_sizes(made, to)) if made.steps > 0 else None
        return x.index_select(0, self.rows(x.device)), h_0, c_0, batch_sizes

    def unpack(self, output: Tensor, h_n: Tensor, c_n: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        """And back: output, and what more has its rows, are 0 past a row's end."""
        made, sizes = self.made, self.sizes
        rows = self.rows(output.device)
        whole, *more_whole = (
            t.new_zeros(self.places, t.shape[-1]).index_copy(0, rows, t.reshape(-1, t.shape[-1]))
            for t in (output, *more)
        )
        final = indices(sizes.cells * made.count, lambda to: _engine.Segments.final(made, sizes.layers, sizes.D, to))
        return whole, _ended(h_n, final, self.state), _ended(c_n, final, self.state), *more_whole

    def rows(self, device: torch.device) -> Tensor:
        starts = 0 if self.starts is None else self.starts.data_ptr()
        return indices(
            self.made.steps, lambda to: _engine.Segments.places(self.made, self.step, self.row, starts, to)
        ).to(device)

    def or_initial(self, state: Tensor | None, final: Tensor) -> Tensor:
        """h_n or c_n where a row without a step ends in the state it began with."""
        if self.empty is None or state is None:
            return final
        empty = self.empty.to(final.device)
        return torch.where(empty.reshape(-1, 1) if len(self.state) == 2 else empty, state.to(final.dtype), final)


def indices(count: int, write: Callable[[int], None]) -> Tensor:
    """int64 on the CPU, as many as `write` writes to the address it is given.

    `write` names the class of what it calls, not the object: torch.compile loses the object of a bound native method.
    """
    with outside_transforms():
        made = torch.empty(count, dtype=torch.int64, device="cpu")  # whatever the default device is
        write(made.data_ptr())
        return made


def outside_transforms() -> AbstractContextManager[Any]:
    """What is made inside a torch.func transform has no address."""
    inside = torch._C._functorch.maybe_current_level() is not None
    return torch._C._DisableFuncTorch() if inside else nullcontext()


def _started(state: Tensor, initial: Tensor, cells: int) -> Tensor:
    """(cells, segments, features) from the caller's h_0 or c_0; row 0 is where -1 leads."""
    features = state.shape[-1]
    rows = torch.cat([state.new_zeros(1, features), state.reshape(-1, features)])
    return rows.index_select(0, initial.to(state.device) + 1).reshape(cells, -1, features)


def _ended(last: Tensor, final: Tensor, state: tuple[int, ...]) -> Tensor:
    """The caller's h_n or c_n from that of the segments."""
    features = last.shape[-1]
    rows = last.new_zeros(math.prod(state) + 1, features)
    rows = rows.index_copy(0, final.to(last.device) + 1, last.reshape(-1, features))
    return rows[1:].reshape(*state, features)


def lengths_of(lengths: Any, N: int, batched: bool) -> Tensor:
    """int64 on the CPU, from what the caller calls lengths: integers of any kind, in a tensor on any device or in what
    `torch.as_tensor` takes, a list say.

    TypeError: not integers. ValueError: not (N,), or, unbatched, not one number.
    """
    given = _as_tensor("lengths", "integers", lengths)
    if given.numel() == 0:
        given = given.long()  # an empty list is one of floats
    if given.dtype is torch.bool or given.is_floating_point() or given.is_complex():
        raise TypeError(f"lengths: expected integers, got {given.dtype}")
    shape: tuple[int, ...] = (N,) if batched else ()
    if given.shape != shape:
        got = tuple(given.shape)
        if batched:
            raise ValueError(f"lengths: expected shape (N,) = {shape}, got {got}")
        raise ValueError(f"lengths: expected one number for an unbatched input, got shape {got}")
    return given.detach().reshape(-1).to("cpu", torch.int64).contiguous()


def lengths_of_mask(mask: Any, lengths: Any, input: Any, batch_first: bool) -> Tensor:
    """What `lengths` says otherwise, from what the caller calls mask, in the shape of input but for its features.

    TypeError: not bool, or input is not padded. ValueError: another shape, True after False, or lengths are given, too.
    """
    if lengths is not None:
        raise ValueError("expected lengths or mask, got both")
    if not isinstance(input, Tensor) or input.is_nested:
        kind = "nested tensor" if isinstance(input, Tensor) else type(input).__name__
        raise TypeError(f"mask is for a padded tensor, got a {kind}")
    given = _as_tensor("mask", "bool", mask)
    if given.dtype is not torch.bool:
        raise TypeError(f"mask: expected bool, got {given.dtype}: mask.bool() makes it so")
    if given.shape != input.shape[:-1]:
        raise ValueError(f"mask: expected shape {tuple(input.shape[:-1])}, got {tuple(given.shape)}")
    time = -1 if batch_first else 0
    made, falling = given.sum(time), given.to(torch.int8).diff(dim=time).le(0).all(time)
    if torch.compiler.is_compiling():
        return torch.where(falling, made, -1)  # refused where it runs: it is no length
    if not falling.all():
        raise ValueError("mask: expected True for the first steps of a row and False for the rest")
    return made


def reset_of(reset: Any, T: int, N: int, batched: bool, batch_first: bool) -> Tensor:
    """(T, N) of bool on the CPU, from what the caller calls reset. TypeError: not bool. ValueError: another shape."""
    given = _as_tensor("reset", "bool", reset)
    if given.dtype is not torch.bool:
        raise TypeError(f"reset: expected bool, got {given.dtype}: reset.bool() makes it so")
    letters = "(L,)"
    shape: tuple[int, ...] = (T,)
    if batched:
        letters, shape = ("(N, L)", (N, T)) if batch_first else ("(L, N)", (T, N))
    if given.shape != shape:
        raise ValueError(f"reset: expected shape {letters} = {shape}, got {tuple(given.shape)}")
    given = given.detach().cpu()
    if not batched:
        return given.unsqueeze(1)
    return given.transpose(0, 1) if batch_first else given


def _as_tensor(name: str, kind: str, given: Any) -> Tensor:
    if isinstance(given, Tensor):
        if torch._C._functorch.is_batchedtensor(given):
            raise RuntimeError(f"torch.func.vmap can't map over {name}: expected the same for all")
        return given
    try:
        # `tensor` where it will do: the compiler takes numbers in it for variables, in `as_tensor` for constants.
        make = torch.tensor if isinstance(given, int | list | tuple) else torch.as_tensor
        return make(given, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(
            f"{name}: expected {kind}, in a tensor or a list, got {type(given).__name__}: {error}"
        ) from None
