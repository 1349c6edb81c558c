"""What a call is: its sizes, the forms its tensors take, and the packed batch of one that is no rectangle."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch.memory import as_read
from fastlstm.torch.segments import Segments, indices, lengths_of, outside_transforms, reset_of
from fastlstm.weights import Sizes


class Ragged(NamedTuple):
    """What makes a batch no rectangle, where a call is recorded: the segments are made anew whenever that runs.

    lengths: (N) int64, or None. reset: (T, N) bool, or None. offsets: (N + 1), where the rows of a jagged tensor start, or
    None. batch_first: rows of x and output are in the order of (N, T), not (T, N).
    """

    lengths: Tensor | None
    reset: Tensor | None
    offsets: Tensor | None
    batch_first: bool


class Call(NamedTuple):
    """T steps of N rows. batch_sizes: of a packed batch, on the CPU. cell: asked by LSTMCell, whose T is 1.

    state: what stands before the features in the shape of h_n and c_n: (layers * D, N), or less where the caller has
    fewer dimensions. The engine reads memory and does not care; every other route wants the `full` form.

    segments: T, N and state are those of the packed batch they make, while x, h_0 and c_0 are the caller's.
    drawn: rows, T, N: dropout masks are drawn for (T, N, ..) as for a dense batch, and these rows of them used.
    unpacked: the batch is packed by its segments alone; the caller's was not.
    ragged: T, N and state are the caller's (T of a jagged tensor: 1), and x is (places, I).
    """

    sizes: Sizes
    T: int
    N: int
    state: tuple[int, ...]
    batch_sizes: Tensor | None = None
    cell: bool = False
    segments: Segments | None = None
    drawn: tuple[Tensor, int, int] | None = None
    unpacked: bool = False
    ragged: Ragged | None = None


def full(call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """x as (T, N, I), or (rows, I) if packed; h_0 as (layers * D, N, P or H), c_0 as (layers * D, N, H), zeros where
    not given.
    """
    if call.batch_sizes is None and x.dim() != 3:
        x = x.reshape(call.T, call.N, call.sizes.I)
    return x, *full_states(call, x, h_0, c_0)


def full_states(call: Call, x: Tensor, h_0: Tensor | None, c_0: Tensor | None) -> tuple[Tensor, Tensor]:
    """h_0 and c_0 as `full` has them; of x only what it is made of counts."""
    sizes = call.sizes
    h_shape, c_shape = (sizes.cells, call.N, sizes.out), (sizes.cells, call.N, sizes.H)
    h_0 = x.new_zeros(h_shape) if h_0 is None else h_0 if h_0.dim() == 3 else h_0.reshape(h_shape)
    c_0 = x.new_zeros(c_shape) if c_0 is None else c_0 if c_0.dim() == 3 else c_0.reshape(c_shape)
    return h_0, c_0


def masks_of(call: Call, x: Tensor, p: float) -> list[Tensor]:
    """The factors of `F.dropout` on each layer's output but the last's, drawn in layer order as nn.LSTM draws them."""
    features = call.sizes.D * call.sizes.out
    rows: tuple[int, ...] = (call.T, call.N) if call.batch_sizes is None else tuple(x.shape[:1])
    if call.ragged is not None and call.ragged.offsets is not None:
        rows = tuple(x.shape[:1])
    if call.drawn is not None:
        rows = call.drawn[1:]
    elif call.segments is not None:
        rows = (call.segments.made.steps,)
    masks = [torch.nn.functional.dropout(x.new_ones((*rows, features)), p, True) for _ in range(call.sizes.layers - 1)]
    if call.drawn is None:
        return masks
    used = call.drawn[0].to(x.device)
    return [mask.reshape(-1, features).index_select(0, used) for mask in masks]


def segmented(call: Call, lengths: Any, reset: Any, *, batch_first: bool, dropout: float) -> Call | None:
    """The packed batch of a dense call's segments; None where the batch is a rectangle after all.

    lengths, reset: the caller's, or None. Rows of x and output, (T * N) of them, are in the order of (T, N), or of (N, T)
    with batch_first. dropout: that of the call. TypeError, ValueError: lengths or reset are not what they should be.
    """
    with outside_transforms():
        lengths, reset = checked(call, lengths, reset, batch_first)
    made = segments_of(call, lengths, reset)
    if made.whole:
        return None
    return packed_by(made, call, lengths, batch_first=batch_first, dropout=dropout)


def checked(call: Call, lengths: Any, reset: Any, batch_first: bool) -> tuple[Tensor | None, Tensor | None]:
    """(N) of int64 and (T, N) of bool on the CPU, from the caller's. TypeError, ValueError as `segmented`."""
    batched = len(call.state) == 2
    return (
        None if lengths is None else lengths_of(lengths, call.N, batched),
        None if reset is None else reset_of(reset, call.T, call.N, batched, batch_first),
    )


def segments_of(call: Call, lengths: Tensor | None, reset: Tensor | None) -> _engine.Segments:
    """Of a dense call, from its `checked` lengths and resets. ValueError: a length is not from 0 to T."""
    with outside_transforms():
        lengths = None if lengths is None else as_read(lengths)  # held until the engine is done
        return _engine.Segments(
            call.T,
            call.N,
            0 if lengths is None else lengths.data_ptr(),
            0 if reset is None else reset.data_ptr(),
            *((0, 0) if reset is None else reset.stride()),
        )


def packed_by(made: _engine.Segments, call: Call, lengths: Tensor | None, *, batch_first: bool, dropout: float) -> Call:
    """The packed batch of a dense call's segments, those that were made of its `checked` lengths and resets."""
    T, N = call.T, call.N
    with outside_transforms():
        empty = lengths.eq(0) if made.empty and lengths is not None else None
    step, row = (1, T) if batch_first else (N, 1)
    packed = _packed(call, Segments(made, call.sizes, step, row, None, T * N, call.state, empty))
    if dropout == 0 or call.sizes.layers == 1:
        return packed
    return packed._replace(drawn=(indices(made.steps, lambda to: _engine.Segments.places(made, N, 1, 0, to)), T, N))


def jagged(call: Call, offsets: Tensor, lengths: Tensor | None, places: int) -> Call:
    """The packed batch of a jagged tensor of `places` rows: offsets (N + 1); lengths (N), or None: up to the next offset.

    T of `call` does not count: it is the longest length. ValueError: a row is not within the values, or two share some.
    """
    with outside_transforms():
        starts = offsets[:-1].to("cpu", torch.int64, copy=True)  # backward reads them, too
        apart = lengths is None  # a row ends where the next one starts
        lengths = as_read((offsets.diff() if lengths is None else lengths).to("cpu", torch.int64))
        T = int(lengths.max()) if call.N > 0 else 0
        if ((starts < 0) | (starts > places) | (lengths > places - starts)).any():  # a sum of theirs may overflow
            raise ValueError(f"offsets and lengths of a nested tensor: expected rows within its {places} values")
        if not (apart or _apart(starts, lengths)):
            raise ValueError("offsets and lengths of a nested tensor: expected rows that do not overlap")
        made = _engine.Segments(T, call.N, lengths.data_ptr(), 0, 0, 0)
        empty = lengths.eq(0) if made.empty else None
    return _packed(call, Segments(made, call.sizes, 1, 0, starts, places, call.state, empty))


def _apart(starts: Tensor, lengths: Tensor) -> bool:
    """Whether no two rows share a place: each would write its output there."""
    filled = lengths > 0
    starts, order = starts[filled].sort()
    ends = starts + lengths[filled][order]
    return bool((ends[:-1] <= starts[1:]).all())


def _packed(call: Call, segments: Segments) -> Call:
    made, cells = segments.made, call.sizes.cells
    # Where no row has a step: a rectangle of none.
    return Call(call.sizes, max(1, made.T), made.count, (cells, made.count), segments=segments, unpacked=True)
