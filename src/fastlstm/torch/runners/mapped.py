"""A call under torch.func.vmap, as one call without it: members stand side by side, as more rows of the batch, and who runs that
is asked anew; each member has a call of its own where the weights are batched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import batch as batches
from fastlstm.torch import context, transforms
from fastlstm.torch.batch import Batch, Dense, Packed, Ragged, Results, States
from fastlstm.torch.context import Context
from fastlstm.weights import Sizes

Below = TypeVar("Below")


def below(ask: Callable[[Context], Below]) -> Below:
    """What is answered without vmap's level."""
    with transforms.below_innermost():
        return ask(context.here())


def attempt(sizes: Sizes, parameters: Mapping[str, Any], x: Any, batch_first: bool) -> Any:
    """output and the last states of a padded batch without initial states, of which vmap maps over x alone, where no gradients
    are wanted: in 0.1 ms less than `run`. None: it is not such a call.
    """
    if not context.is_mapped_alone() or not isinstance(x, Tensor):
        return None
    members, unwrap, wrap = transforms.vmap_level()
    inner, dim = unwrap(x)
    if dim is None or inner.dim() != 4 or not inner.numel() or any(map(transforms.is_batched, parameters.values())):
        return None
    with transforms.below_innermost():
        apart = inner.movedim(dim, 2)
        rows = (apart.transpose(0, 1) if batch_first else apart).flatten(1, 2).contiguous()
        found = _engine.forward(sizes.layer, parameters, rows, None, torch.get_num_threads(), False, None, None)
        if found is None:
            return None
        output, *states = (t.view(len(t), -1, members, t.shape[-1]) for t in batches.results_of(found))
        output = output.transpose(0, 1) if batch_first else output
    return wrap(output, 2), batches.last_of(tuple(wrap(t, 2) for t in states))


def run(
    run_below: Callable[..., Results],
    sizes: Sizes,
    batch: Batch,
    x: Tensor,
    hx: States,
    weights: list[Tensor],
    masks: Sequence[Tensor],
) -> Results:
    """The arguments and results of `runners.run`, with masks drawn. run_below: takes the same, without vmap's level."""
    whole, x3 = batches.whole(batch, sizes, x)
    whole = whole._replace(state=(sizes.chains, batch.N))
    if sizes.is_cell:
        sizes = replace(sizes, is_cell=False)  # of one step
    states = hx if hx[0] is None else batches.states_of(sizes, batch.N, x, hx)
    rows = whole.rows
    tensors = [x3, *states, *masks, rows.lengths, rows.reset]
    members, unwrap, wrap = transforms.vmap_level()
    given = [unwrap(t) for t in tensors]
    own = [unwrap(w) for w in weights]
    with transforms.below_innermost():
        if any(dim is not None for _, dim in own):
            results = _each(run_below, sizes, whole, given, own, len(masks), members)
        elif any(dim is not None for _, dim in given):
            results = _side_by_side(run_below, sizes, whole, given, weights, len(masks), members)
        else:
            same = _call(run_below, sizes, whole, [t for t, _ in given], weights, len(masks))
            results = [(t, None) for t in same]
    return batches.like_the_caller(batch, x, [wrap(t, dim) for t, dim in results])


def _call(
    run_below: Callable[..., Results],
    sizes: Sizes,
    batch: Any,
    tensors: Sequence[Any],
    weights: list[Tensor],
    masks: int,
) -> Results:
    """tensors: x, h_0, c_0, then so many masks, then lengths and reset."""
    x, *rest, lengths, reset = tensors
    states = len(sizes.of_states)
    if isinstance(batch, Ragged):
        batch = batch._replace(lengths=lengths, reset=reset)
    return run_below(sizes, batch, x, tuple(rest[:states]), weights, rest[states : states + masks])


def _each(
    run_below: Callable[..., Results],
    sizes: Sizes,
    batch: Batch,
    given: Sequence[tuple[Any, int | None]],
    weights: Sequence[tuple[Tensor, int | None]],
    masks: int,
    members: int,
) -> list[tuple[Tensor, int | None]]:
    def of_member(k: int, tensors: Sequence[tuple[Any, int | None]]) -> list[Any]:
        return [t if dim is None else t.select(dim, k) for t, dim in tensors]

    all_of = [_call(run_below, sizes, batch, of_member(k, given), of_member(k, weights), masks) for k in range(members)]
    return [(torch.stack(each), 0) for each in zip(*all_of, strict=True)]


def _side_by_side(
    run_below: Callable[..., Results],
    sizes: Sizes,
    batch: Any,
    given: Sequence[tuple[Any, int | None]],
    weights: list[Tensor],
    masks: int,
    members: int,
) -> list[tuple[Tensor, int | None]]:
    """Members next to each other in the place of each row of the batch."""
    first = isinstance(batch, Ragged) and batch.batch_first  # x is (N, T, I): a row is the first dimension
    packed = isinstance(batch, Packed)
    own = 1 + len(sizes.of_states) + masks

    def row_of(k: int) -> int:
        """Which dimension of a tensor are the rows: x, h_0, c_0, masks, lengths, reset."""
        packed_row = packed and not 1 <= k < own - masks
        return 0 if k == own or packed_row or (first and k in (0, own + 1)) else 1

    def put(k: int, tensor: Any, dim: int | None) -> Any:
        if tensor is None:
            return None
        at = row_of(k) + 1
        if dim is None:
            tensor = tensor.unsqueeze(at)
            tensor = tensor.expand(*tensor.shape[:at], members, *tensor.shape[at + 1 :])
        elif dim != at:
            tensor = tensor.movedim(dim, at)
        return tensor.flatten(at - 1, at)

    tensors = [put(k, t, dim) for k, (t, dim) in enumerate(given)]
    N = batch.N * members
    wide = batch._replace(N=N, state=(sizes.chains, N))
    if isinstance(batch, Packed):
        wide = wide._replace(batch_sizes=batch.batch_sizes * members, sorted_indices=None, unsorted_indices=None)
    if isinstance(batch, Dense):
        wide = wide._replace(swapped=False)
    output, *states = _call(run_below, sizes, wide, tensors, weights, masks)
    at, (x, dim) = row_of(0), given[0]
    rows = [size for k, size in enumerate(x.shape) if k != dim][at]
    apart = [(output, at, rows), *((t, 1, batch.N) for t in states)]
    return [(t.reshape(*t.shape[:d], count, members, *t.shape[d + 1 :]), d + 1) for t, d, count in apart]
