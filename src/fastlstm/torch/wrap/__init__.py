"""What stands around a call and is no part of it: autocast, torch.jit.trace and torch.jit.script, torch.fx."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastlstm.cells import CELLS, Cell
from fastlstm.torch import context, runners
from fastlstm.torch.batch import Batch, Dense, Results, Rows, States
from fastlstm.torch.graph import operator
from fastlstm.torch.wrap import autocast, tracing
from fastlstm.weights import Sizes


def run(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], dropout: float | None) -> Results:
    """output, h_n, c_n of a call whose x and hx have the right shapes, whatever watches it.

    hx: as the batch says. weights: in the order of `parameters()`. dropout: between layers; None outside training.
    Raises RuntimeError where devices, dtypes or the shapes of the weights don't fit.
    """
    if context.tracing_state() is not None:
        return tracing.record(sizes, batch, x, hx, weights, dropout)
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return autocast.run(sizes, batch, x, hx, weights, dropout)
    return runners.run(sizes, batch, x, hx, weights, dropout)


def _register(cell: Cell) -> None:
    @torch.library.impl(f"fastlstm::{tracing.layer_operator(cell)}", "CompositeImplicitAutograd")
    def _(x: Tensor, *arguments: Any) -> Results:
        hx, (weights, batch_sizes, sizes, dropout, is_cell, *ragged) = (
            arguments[: len(cell.states)],
            arguments[len(cell.states) :],
        )
        known = operator.sizes_of(*sizes)
        batch = operator.batch_of(x, hx[0], Rows(*ragged)._replace(batch_sizes=batch_sizes))
        # The module's own checks ran once, on the tensors it was traced with.
        operator.check_shapes(known, batch, x, hx)
        operator.check_rows(batch, x)
        if not is_cell:
            return run(known, batch, x, hx, weights, dropout)
        one = replace(known, is_cell=True)
        results = run(one, Dense(1, batch.N, (batch.N,)), x[0], tuple(t[0] for t in hx), weights, dropout)
        return tuple(t.unsqueeze(0) for t in results)


for _cell in CELLS:
    _register(_cell)
