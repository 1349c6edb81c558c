"""What stands around a call and is no part of it: autocast, torch.jit.trace, torch.fx."""

import torch
from torch import Tensor

from fastlstm.torch import context, runners
from fastlstm.torch.batch import Batch, Dense, Rows, State, Three
from fastlstm.torch.graph import operator
from fastlstm.torch.wrap import autocast, tracing
from fastlstm.weights import Sizes


def run(sizes: Sizes, batch: Batch, x: Tensor, h_0: State, c_0: State, weights: list[Tensor], dropout: float) -> Three:
    """output, h_n, c_n of a call whose x, h_0 and c_0 have the right shapes, whatever watches it.

    x, h_0, c_0: as the batch says, or None: zeros. weights: in the order of `parameters()`. dropout: between layers; 0 outside
    training. Raises RuntimeError where devices, dtypes or the shapes of the weights don't fit.
    """
    if context.tracing_state() is not None:
        return tracing.record(sizes, batch, x, h_0, c_0, weights, dropout)
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return autocast.run(sizes, batch, x, h_0, c_0, weights, dropout)
    return runners.run(sizes, batch, x, h_0, c_0, weights, dropout)


@torch.library.impl("fastlstm::layer", "CompositeImplicitAutograd")
def _layer(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    sizes: list[int],
    dropout: float,
    cell: bool,
) -> Three:
    known = operator.sizes_of(sizes)
    batch = operator.batch_of(x, h_0, Rows(batch_sizes=batch_sizes))
    operator.check_shapes(
        known, batch, x, h_0, c_0
    )  # the module's own checks ran once, on the tensors it was traced with
    if not cell:
        return run(known, batch, x, h_0, c_0, weights, dropout)
    one = Sizes(known.I, known.H, bias=known.bias, is_cell=True)
    results = run(one, Dense(1, batch.N, (batch.N,)), x[0], h_0[0], c_0[0], weights, dropout)
    output, h_n, c_n = (t.unsqueeze(0) for t in results)
    return output, h_n, c_n
