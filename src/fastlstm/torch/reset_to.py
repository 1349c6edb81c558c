"""Segments that begin in states of the caller's: a padded batch with `reset_to` is a jagged one, each of whose rows is a segment
and has an h_0 and a c_0 of its own. Whoever runs a nested tensor runs it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastlstm import errors
from fastlstm.torch import context, runners
from fastlstm.torch.batch import Ragged, Restarts, Results, States, on_device
from fastlstm.torch.memory import refuse_any_freed
from fastlstm.weights import Sizes


def read(sizes: Sizes, batch: Ragged, x: Tensor, hx: States, reset_to: Any) -> tuple[Ragged, Tensor, States]:
    """The batch of a call, x and hx in its form, from a padded one with resets and what the caller calls reset_to.

    TypeError: not h, or (h, c). ValueError: another shape, or a layer of two directions. RuntimeError: another device, dtype or
    layout than x has, or torch.func.vmap maps over resets or lengths.
    """
    if sizes.D == 2:
        raise ValueError(
            "reset_to: expected a layer of one direction: the reverse one begins a segment at its last step, where there is no "
            "state to start from"
        )
    given = _states(sizes, batch, reset_to)
    refuse_any_freed(x, *hx, *given)
    autocast = runners.autocasts(x)
    for kind, states in (("hidden", hx), ("reset_to", given)):
        for t in states:
            if t is not None:
                runners.check_same(kind, x, t, autocast)
    if not batch.T or not batch.N:
        return batch, x, hx  # nothing starts
    batched = len(batch.state) == 2
    with context.outside_transforms():
        found = _segments(batch, batched, x.device)
    lengths, offsets, rows, steps, begins, last = found
    restarts = Restarts(batch.T, batch.N, batched, batch.batch_first, batch.lengths, last)
    states = tuple(
        _begun(t if t is None or batched else t.unsqueeze(1), d, rows, steps, begins)
        for t, d in zip(hx, given, strict=True)
    )
    if batched:
        x = (x if batch.batch_first else x.transpose(0, 1)).reshape(-1, sizes.I)
    N = offsets.shape[0] - 1
    return Ragged(1, N, (sizes.chains, N), lengths, None, offsets, restarts=restarts), x, states


class _Segments(NamedTuple):
    """The S segments, row after row. lengths (S), offsets (S + 1), where they start in x of (N * T): both on the CPU. rows (S):
    of which row they are; steps (S): where they start in the caller's leading dimensions; begins (S): whether in what is
    given there; last (N): which is the last one of a row.
    """

    lengths: Tensor
    offsets: Tensor
    rows: Tensor
    steps: Tensor
    begins: Tensor
    last: Tensor


def _segments(batch: Ragged, batched: bool, device: torch.device) -> _Segments:
    """A row without a step is a segment without one. Where something records, no shape may depend on resets: every place is a
    segment there, most of them without a step.
    """
    T, N, reset, own = batch.T, batch.N, batch.reset, batch.lengths
    assert reset is not None
    for name, t in (("reset", reset), ("lengths", own)):
        if t is not None and context.is_mapped(t):
            raise RuntimeError(
                f"torch.func.vmap can't map over {name} of a call with reset_to: expected the same for all"
            )
    recorded = context.here().recorded
    if own is not None and not recorded:
        errors.refuse_any_length(own.reshape(-1).tolist(), T)
    reset = reset.reshape(N, T) if batch.batch_first or not batched else reset.t()
    at = torch.arange(T, device="cpu")
    if own is not None:
        own = torch.where((own >= 0) & (own <= T), own, -1).reshape(N)  # that no row has: refused where it runs
        reset = reset & (at < own.unsqueeze(1))
    starts = reset | (at == 0)
    if recorded:
        chosen = torch.arange(N * T, device="cpu")
        places = torch.where(starts.flatten(), chosen, N * T)
        after = places.flip(0).cummin(0).values.flip(0)
        last = torch.where(starts, chosen.reshape(N, T), 0).amax(1)
    else:
        after = chosen = starts.flatten().nonzero().squeeze(1)
        last = starts.sum(1).cumsum(0) - 1
    end = chosen.new_full((1,), N * T)
    after, rows = torch.cat([after[1:], end]), chosen // T
    if own is not None:
        after = torch.minimum(after, rows * T + own[rows])
    lengths = after - chosen
    if recorded:
        lengths = torch.where(starts.flatten(), lengths, 0)
    steps = chosen % T * N + rows if batched and not batch.batch_first else chosen
    begins = reset.flatten()[chosen].long()
    rows, steps, begins, last = on_device((rows, steps, begins, last), device)
    return _Segments(lengths, torch.cat([chosen, end]), rows, steps, begins.bool(), last)


def _begun(state: Tensor | None, given: Tensor, rows: Tensor, steps: Tensor, begins: Tensor) -> Tensor:
    """h_0 or c_0 of the segments. state: that of the caller's rows (chains, N, features), or None: zeros."""
    here = given.reshape(-1, *given.shape[-2:]).index_select(0, steps).transpose(0, 1)
    others = here.new_zeros(()) if state is None else state.index_select(1, rows)
    return torch.where(begins.unsqueeze(-1), here, others)


def _states(sizes: Sizes, batch: Ragged, reset_to: Any) -> Results:
    names = sizes.cell.states
    expected = f"a tuple ({', '.join(names)}) of tensors" if len(names) > 1 else f"a tensor {names[0]}"
    found: Any = reset_to if len(names) > 1 else (reset_to,)
    if not isinstance(found, (tuple, list)) or any(not isinstance(t, Tensor) for t in found):
        raise TypeError(f"reset_to: expected {expected}, got {type(reset_to).__name__}")
    if len(found) != len(names):
        raise TypeError(f"reset_to: expected {expected}, got {len(found)}")
    steps = (batch.T,) if len(batch.state) == 1 else (batch.N, batch.T) if batch.batch_first else (batch.T, batch.N)
    lead = (*steps, sizes.chains)
    if any(t.shape != (*lead, features) for t, features in zip(found, sizes.of_states, strict=True)):
        errors.refuse_reset_to(sizes, found, lead, batch.batch_first)
    return tuple(found)
