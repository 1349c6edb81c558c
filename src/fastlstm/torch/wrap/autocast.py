"""CPU autocast: what is cast, what is computed in float32 and rounded, and to which dtypes, as torch's own modules do."""

import torch
from torch import Tensor

from fastlstm.cells import LSTM
from fastlstm.torch import context, runners
from fastlstm.torch.batch import Batch, Packed, Results, States, masks_of
from fastlstm.torch.dtypes import HALF
from fastlstm.torch.graph import operator
from fastlstm.torch.memory import refuse_any_freed
from fastlstm.weights import Sizes

# Casting the weights takes what bfloat16 saves in so many steps of one row: (16, 1, 512, 512) 1.06 ms, and 1.04 in float32.
_CASTING_STEPS = 16


def run(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], dropout: float | None) -> Results:
    """The arguments and errors of `wrap.run`."""
    refuse_any_freed(x, *hx, *weights)
    runners.check(sizes, x, hx, weights, autocast=True)
    runner, _ = runners.choose(sizes, x.device, x.dtype, context.here())
    masks = masks_of(batch, sizes, x, dropout) if dropout else []
    if x.dtype not in HALF and x.dtype is not torch.float32:
        return runners.run_with(sizes, batch, x, hx, weights, masks)
    dtypes = _dtypes(sizes, batch, x, hx)
    wide = torch.float32
    if runner is runners.native and set(dtypes) == {torch.bfloat16} and _is_worth_casting(sizes, batch):
        wide = torch.bfloat16
    hx = tuple(None if t is None else t.to(wide) for t in hx)
    weights, masks = ([t.to(wide) for t in tensors] for tensors in (weights, masks))
    with torch.autocast("cpu", enabled=False):
        results = runners.run_with(sizes, batch, x.to(wide), hx, weights, masks)
    return tuple(t.to(dtype) for t, dtype in zip(results, dtypes, strict=True))


def _is_worth_casting(sizes: Sizes, batch: Batch) -> bool:
    """Whether the products of several steps are faster in bfloat16 by more than it takes to cast the weights for them."""
    steps = batch.T if batch.rows.offsets is None else _CASTING_STEPS
    return steps >= _CASTING_STEPS and operator.multiplies_bfloat16(*sizes.numbers)


def _dtypes(sizes: Sizes, batch: Batch, x: Tensor, hx: States) -> list[torch.dtype]:
    """Those of output, h_n and c_n under CPU autocast.

    torch's fused kernel, for a call of nn.LSTM that is not packed and has no projection, rounds everything. Elsewhere the state
    keeps the wider dtype it came in, and h takes that of c, unless it comes out of a projection.
    """
    rounded = torch.get_autocast_dtype("cpu")
    if sizes.cell is LSTM and not isinstance(batch, Packed) and not sizes.is_cell and sizes.P == 0:
        return [rounded] * (1 + len(hx))
    kept = torch.promote_types(rounded, (x if hx[-1] is None else hx[-1]).dtype)
    of_h = kept if sizes.P == 0 else rounded
    return [of_h, of_h, *[kept] * (len(hx) - 1)]
