"""What rows a call has: Dense, Packed or Ragged. Once from what the caller gave, it goes down to the engine and leads back.

Nothing crosses the edges of a row's segments, where it ends early or starts anew midway, so each is a sequence of its own, and
together they are a packed batch, which every runner can do; the engine is told where the rows stand, and moves nothing.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastlstm import _engine
from fastlstm.errors import refuse_any_length
from fastlstm.torch import context
from fastlstm.torch.memory import as_integers
from fastlstm.weights import Sizes

States = tuple[Tensor | None, ...]  # what each chain starts from, h_0, and an LSTM's c_0; None: zeros
Results = tuple[Tensor, ...]  # output, then what each chain ends in, h_n, and an LSTM's c_n


def last_of(states: Any) -> Any:
    """As the caller gets them: h_n alone, or a tuple of all that the cell has."""
    return states[0] if len(states) == 1 else states


def results_of(found: Any) -> Results:
    """output, h_n, c_n from what the engine returns."""
    output, states, *_ = found
    return output, *(states if isinstance(states, tuple) else (states,))


class Rows(NamedTuple):
    """A batch as the engine takes it: the tail of the arguments of `_engine.forward`."""

    batch_first: Any = False
    lengths: Any = None
    reset: Any = None
    batch_sizes: Any = None
    offsets: Any = None


_DENSE = Rows()


class Dense(NamedTuple):
    """x (T, N, I), or (T, I); of LSTMCell (N, I), or (I), and T is 1. state: what stands before the features in the shape of h_n
    and c_n. swapped: the caller has (N, T, features).
    """

    T: int
    N: int
    state: tuple[int, ...]
    swapped: bool = False

    @property
    def rows(self) -> Rows:
        return _DENSE  # x is turned already

    def place(self, steps: Tensor) -> Any:
        """From rows of steps to what the caller gets."""
        return steps.transpose(0, 1) if self.swapped else steps

    def order(self, states: Results) -> Results:
        """The caller's order of rows in h_n and c_n."""
        return states


class Packed(NamedTuple):
    """x (rows, I). batch_sizes: (T), on the CPU; the others as PackedSequence has them."""

    T: int
    N: int
    state: tuple[int, ...]
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    @property
    def rows(self) -> Rows:
        return Rows(batch_sizes=self.batch_sizes)

    def place(self, steps: Tensor) -> Any:
        return PackedSequence(steps, self.batch_sizes, self.sorted_indices, self.unsorted_indices)

    def order(self, states: Results) -> Results:
        order = self.unsorted_indices
        return states if order is None else tuple(t.index_select(1, order) for t in states)


class Restarts(NamedTuple):
    """Of a jagged batch whose rows are the segments of a padded one, row after row (`reset_to`): what the caller has. lengths: as
    a padded batch has them; last: (N), which segment is the last one of each row, on the device of x.
    """

    T: int
    N: int
    batched: bool
    batch_first: bool
    lengths: Tensor | None
    last: Tensor

    def place(self, steps: Tensor) -> Tensor:
        if not self.batched:
            return steps
        rows = steps.reshape(self.N, self.T, steps.shape[-1])
        return rows if self.batch_first else rows.transpose(0, 1).contiguous()

    def order(self, states: Results) -> Results:
        last = tuple(t.index_select(1, self.last) for t in states)
        return last if self.batched else tuple(t.squeeze(1) for t in last)


class Ragged(NamedTuple):
    """Padded: x (T, N, I), (N, T, I) with batch_first, or (T, I); lengths: (N) of int64, or one number, or None; reset: bool in
    the shape of x but its features, or None. Jagged, T unknown: x (places, I); offsets: (N + 1) of int64, where rows start;
    lengths: (N), or None: up to the next offset; nested: offsets and lengths of the caller's tensor, or restarts: the caller's
    padded batch. All but those of `nested` on the CPU.
    """

    T: int
    N: int
    state: tuple[int, ...]
    lengths: Tensor | None = None
    reset: Tensor | None = None
    offsets: Tensor | None = None
    batch_first: bool = False
    nested: tuple[Tensor, Tensor | None] | None = None
    restarts: Restarts | None = None

    @property
    def rows(self) -> Rows:
        return Rows(self.batch_first, self.lengths, self.reset, None, self.offsets)

    def place(self, steps: Tensor) -> Any:
        if self.restarts is not None:
            return self.restarts.place(steps)
        return steps if self.nested is None else torch.nested.nested_tensor_from_jagged(steps, *self.nested)

    def order(self, states: Results) -> Results:
        return states if self.restarts is None else self.restarts.order(states)


Batch = Dense | Packed | Ragged


def lengths_of_caller(batch: Batch) -> Any:
    """What `lengths` says of a padded batch: where that is a jagged one of its segments, those of its rows."""
    return batch.restarts.lengths if isinstance(batch, Ragged) and batch.restarts is not None else batch.rows.lengths


def full(batch: Batch, sizes: Sizes, x: Tensor, hx: States) -> tuple[Batch, Tensor, Results]:
    """The same call with a dimension for N everywhere: x (T, N, I), (N, T, I) or (rows, I), h_0 (layers * D, N, P or H), c_0
    (layers * D, N, H), zeros where they are None.
    """
    return *whole(batch, sizes, x), states_of(sizes, batch.N, x, hx)


def whole(batch: Batch, sizes: Sizes, x: Tensor) -> tuple[Batch, Tensor]:
    """The batch and x in the `full` form."""
    if batch.rows.batch_sizes is not None or batch.rows.offsets is not None or x.dim() == 3:
        return batch, x
    x = x.reshape(batch.T, batch.N, sizes.I)
    if isinstance(batch, Ragged):
        lengths = None if batch.lengths is None else batch.lengths.reshape(1)
        reset = None if batch.reset is None else batch.reset.unsqueeze(1)
        batch = batch._replace(lengths=lengths, reset=reset)
    return batch, x


def states_of(sizes: Sizes, N: Any, x: Tensor, hx: States) -> Results:
    """hx in the `full` form; of x only what it is made of counts."""
    shapes = [(sizes.chains, N, features) for features in sizes.of_states]
    return tuple(
        x.new_zeros(shape) if t is None else t if t.dim() == 3 else t.reshape(shape)
        for t, shape in zip(hx, shapes, strict=True)
    )


def like_the_caller(batch: Batch, x: Tensor, results: Sequence[Tensor]) -> Results:
    """From the full form back to the caller's number of dimensions: of x, and of the batch's state."""
    output, *states = results
    if output.dim() != x.dim():
        output = output.reshape(*x.shape[:-1], output.shape[-1])
    if len(batch.state) != 2:
        states = [t.reshape(*batch.state, t.shape[-1]) for t in states]
    return output, *states


def masks_of(batch: Batch, sizes: Sizes, x: Tensor, p: float) -> list[Tensor]:
    """The factors of `F.dropout` on each layer's output but the last's, drawn in layer order as nn.LSTM draws them: (T, N, ..) of
    a padded batch, in the order of x's rows for others. Segments of a padded batch have those of the padded batch.
    """
    restarts = batch.restarts if isinstance(batch, Ragged) else None
    in_order = isinstance(batch, Packed) or batch.rows.offsets is not None
    padded = batch if restarts is None else restarts
    rows = x.shape[:1] if in_order and restarts is None else (padded.T, padded.N)
    ones = x.new_ones((*rows, sizes.D * sizes.out))
    drawn = [torch.nn.functional.dropout(ones, p, True) for _ in range(sizes.layers - 1)]
    return drawn if restarts is None else [mask.transpose(0, 1).reshape(len(x), -1) for mask in drawn]


def on_device(rows: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """Vectors of int64 from the CPU on this device: by one copy, for which nobody waits."""
    if device.type == "cpu":
        return rows
    return torch.split(torch.cat(list(rows)).to(device, non_blocking=True), [len(r) for r in rows])


class Packing(NamedTuple):
    """The packed batch of a ragged one: how many rows each step has, and for each where it stands in x, h_0, h_n and the masks of
    the caller; -1: nowhere.
    """

    N: int
    batch_sizes: list[int]
    places: Tensor
    initial: Tensor
    final: Tensor
    mask_rows: Tensor

    def to(self, device: torch.device) -> "Packing":
        """It, with what says where rows stand on this device."""
        rows = (self.places, self.initial, self.final, self.mask_rows)
        return Packing(self.N, self.batch_sizes, *on_device(rows, device))

    def through(
        self,
        compute: Callable[..., Sequence[Tensor]],
        x: Tensor,
        hx: Results,
        weights: list[Tensor],
        masks: Sequence[Tensor],
    ) -> list[Tensor]:
        """What compute(x, hx, weights, masks, batch_sizes) returns for the packed batch, in the caller's places: output, h_n,
        c_n, and what more has output's rows, which are 0 where x's have no step. The arguments are those of the `full` form.

        In tensor operations: any device, recorded, differentiable.
        """
        self = self.to(x.device)
        rows = x.reshape(-1, x.shape[-1]).index_select(0, self.places)
        masks = [mask.reshape(-1, mask.shape[-1]).index_select(0, self.mask_rows) for mask in masks]
        steps: list[int] | None = self.batch_sizes
        if not steps:  # a rectangle of no rows
            rows, masks, steps = rows.unsqueeze(0), [mask.unsqueeze(0) for mask in masks], None
        output, *more = compute(rows, tuple(map(self._started, hx)), weights, masks, steps)
        last = [self._ended(t, first) for t, first in zip(more, hx, strict=False)]
        return [self._placed(x, output), *last, *(self._placed(x, t) for t in more[len(hx) :])]

    def _placed(self, x: Tensor, steps: Tensor) -> Tensor:
        features = steps.shape[-1]
        places = math.prod(x.shape[:-1])
        whole = steps.new_zeros(places, features).index_copy(0, self.places, steps.reshape(-1, features))
        return whole.reshape(*x.shape[:-1], features)

    def _started(self, state: Tensor) -> Tensor:
        """(chains, segments, features) from h_0 or c_0; row 0 is where -1 leads."""
        features = state.shape[-1]
        rows = torch.cat([state.new_zeros(1, features), state.reshape(-1, features)])
        return rows.index_select(0, self.initial + 1).reshape(len(state), -1, features)

    def _ended(self, last: Tensor, state: Tensor) -> Tensor:
        """h_n or c_n from that of the segments."""
        features = last.shape[-1]
        rows = torch.cat([state.new_zeros(1, features), state.reshape(-1, features)]).to(last.dtype)
        rows = rows.index_copy(0, self.final + 1, last.reshape(-1, features))
        return rows.narrow(0, 1, len(rows) - 1).reshape(state.shape)


def packing(found: Any) -> Packing:
    """From what `_engine.rows` or `_engine.Kept.rows` says of a ragged batch."""
    N, batch_sizes, *rows = found
    with context.outside_transforms():
        return Packing(N, batch_sizes, *(torch.tensor(r, dtype=torch.int64, device="cpu") for r in rows))


def packing_of(batch: Ragged, sizes: Sizes, x: Tensor) -> Packing | None:
    """Of a batch in the `full` form; None: it is dense. ValueError: lengths or offsets that no batch of x's sizes has."""
    found = rows_of(batch, sizes, x)
    return None if found is None else packing(found)


def rows_of(batch: Batch, sizes: Sizes, x: Tensor) -> Any:
    """What `_engine.Kept.rows` would say, of a batch in the `full` form, and errors as `packing_of`."""
    if isinstance(batch, Dense):
        return None
    if isinstance(batch, Packed):
        return [n for n in batch.batch_sizes.tolist() if n > 0]
    with context.outside_transforms():
        lengths, offsets = (None if t is None else as_integers(t) for t in (batch.lengths, batch.offsets))
        found = _engine.rows(sizes.layer, list(x.shape), batch.batch_first, lengths, batch.reset, offsets)
    if found is None:
        refuse_rows(batch, x)
    return found


def refuse_rows(batch: Batch, x: Tensor) -> None:
    """RuntimeError (packed), ValueError (ragged): the batch's rows are not those of x. None: they are."""
    if isinstance(batch, Packed):
        steps = batch.batch_sizes.tolist()
        if sum(steps) != x.shape[0]:
            raise RuntimeError(f"batch_sizes add up to {sum(steps)} rows, but the packed data has {x.shape[0]}")
        if steps != sorted(steps, reverse=True) or steps[0] != batch.N or steps[-1] < 0:
            raise RuntimeError("batch_sizes of a PackedSequence: expected numbers of rows that do not rise")
    if isinstance(batch, Ragged) and batch.offsets is not None:
        _refuse_jagged(batch.offsets, batch.lengths, x.shape[0])
    elif isinstance(batch, Ragged) and batch.lengths is not None:
        refuse_any_length(batch.lengths.reshape(-1).tolist(), batch.T)


def _refuse_jagged(offsets: Tensor, lengths: Tensor | None, places: int) -> None:
    starts: list[int] = offsets.tolist()
    own = [b - a for a, b in pairwise(starts)] if lengths is None else lengths.tolist()
    rows = list(zip(starts, own, strict=False))
    if any(not 0 <= start <= places or not 0 <= n <= places - start for start, n in rows):
        raise ValueError(f"offsets and lengths of a nested tensor: expected rows within its {places} values")
    filled = sorted((start, n) for start, n in rows if n > 0)
    if any(start + n > after for (start, n), (after, _) in pairwise(filled)):
        raise ValueError("offsets and lengths of a nested tensor: expected rows that do not overlap")
