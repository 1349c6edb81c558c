"""CPU autocast: what is cast, what is computed in float32 and rounded, and to which dtypes, as nn.LSTM and nn.LSTMCell do."""

import torch
from torch import Tensor

from fastlstm.torch import context, runners
from fastlstm.torch.batch import Batch, Packed, State, Three, masks_of
from fastlstm.torch.dtypes import HALF
from fastlstm.torch.graph import operator
from fastlstm.torch.memory import refuse_any_freed
from fastlstm.torch.runners.fallback import fall_back
from fastlstm.weights import Sizes

# Casting the weights takes what bfloat16 saves in so many steps of one row: (16, 1, 512, 512) 1.06 ms, and 1.04 in float32.
_CASTING_STEPS = 16


def run(sizes: Sizes, batch: Batch, x: Tensor, h_0: State, c_0: State, weights: list[Tensor], dropout: float) -> Three:
    """The arguments and errors of `wrap.run`."""
    refuse_any_freed(x, h_0, c_0, *weights)
    runners.check(sizes, x, h_0, c_0, weights, autocast=True)
    runner, engine = runners.choose(sizes, x.device, x.dtype, context.here())
    if runner is runners.composite:
        fall_back(engine.why)
    masks = masks_of(batch, sizes, x, dropout) if dropout > 0 else []
    if x.dtype not in HALF and x.dtype is not torch.float32:
        results: Three = runner.run(sizes, batch, x, h_0, c_0, weights, masks)
        return results
    of_h, of_c = _dtypes(sizes, batch, x, c_0)
    wide = torch.float32
    if runner is runners.native and of_h is of_c is torch.bfloat16 and _is_worth_casting(sizes, batch):
        wide = torch.bfloat16
    h_0, c_0 = (None if t is None else t.to(wide) for t in (h_0, c_0))
    weights, masks = ([t.to(wide) for t in tensors] for tensors in (weights, masks))
    with torch.autocast("cpu", enabled=False):
        output, h_n, c_n = runner.run(sizes, batch, x.to(wide), h_0, c_0, weights, masks)
    return output.to(of_h), h_n.to(of_h), c_n.to(of_c)


def _is_worth_casting(sizes: Sizes, batch: Batch) -> bool:
    """Whether the products of several steps are faster in bfloat16 by more than it takes to cast the weights for them."""
    steps = batch.T if batch.rows.offsets is None else _CASTING_STEPS
    return steps >= _CASTING_STEPS and operator.multiplies_bfloat16(*sizes.numbers)


def _dtypes(sizes: Sizes, batch: Batch, x: Tensor, c_0: Tensor | None) -> tuple[torch.dtype, torch.dtype]:
    """Those of h and c under CPU autocast.

    torch's fused kernel, for a call that is not packed and has no projection, rounds everything. Elsewhere the state keeps the
    wider dtype it came in, and h takes that of c, unless it comes out of a projection.
    """
    rounded = torch.get_autocast_dtype("cpu")
    if not isinstance(batch, Packed) and not sizes.is_cell and sizes.P == 0:
        return rounded, rounded
    kept = torch.promote_types(rounded, (x if c_0 is None else c_0).dtype)
    return (kept if sizes.P == 0 else rounded), kept
