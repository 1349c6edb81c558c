"""A chain, one layer in one direction, as an operation that has derivatives of any order, forward and backward, and batched.

It and its derivatives are passes of the engine (native/include/fastlstm/chain.h). With a step's slopes fixed, its tangent is
linear: s'_t = a'_t + R h'_{t-1}, and c'_t, h'_t from s'_t and c'_{t-1}; the adjoint is that map transposed. Each is the other's
derivative with respect to what it is linear in; with respect to a slope or to R, a derivative is a product of what one pass
found and what the other did. Slopes are tensor operations on gates and states (`runners/composite/`): those torch differentiates.

Tensors are (rows, features), row after row as `Steps` has them; of the states before the first step (N, H). S: sums of a unit.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import transforms
from fastlstm.torch.graph.chain.of_input import ChainOfInput, stays_in_cache
from fastlstm.torch.graph.chain.passes import Pass, add_product, call, hidden, zeros_where_none
from fastlstm.torch.graph.chain.products import product
from fastlstm.torch.graph.chain.projection import project
from fastlstm.torch.graph.chain.steps import Steps
from fastlstm.torch.graph.chain.steps_passes import AdjointOfSteps, TangentOfSteps
from fastlstm.torch.runners.composite import CELLS
from fastlstm.weights import Sizes


class Chain(Pass):
    """a (rows, S * H), h_0, c_0 (N, H), w_hh -> h, c (rows, H), gates (rows, S * H). Of a cell with one state: no c_0, no c."""

    @staticmethod
    def forward(steps: Steps, w: Tensor, a: Tensor, h_0: Tensor, c_0: Tensor | None) -> tuple[Tensor, ...]:
        return call(steps, w, "forward", w, a, h_0, c_0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        steps, w, _, h_0, c_0 = inputs
        ctx.steps = steps
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(w, h_0, c_0, *output)
        ctx.save_for_forward(w, h_0, c_0, *output)

    @staticmethod
    def _read(ctx: Any) -> Any:
        """R, h of the steps before, and the steps as slopes are found from them."""
        w, h_0, c_0, h, *c, gates = ctx.saved_tensors
        return w, ctx.steps.before(h_0, h), (gates, c[0], c_0) if c else (gates, h, h_0)

    @staticmethod
    @transforms.derivable_within
    def backward(ctx: Any, *gradients: Any) -> Any:
        w, h_before, of_steps = Chain._read(ctx)
        dh, *dc, dgates = gradients
        da, dh_0, *rest = AdjointOfSteps.apply(ctx.steps, w, *of_steps, dh, dc[0] if dc else None, dgates)
        dw = product(hidden(ctx.steps, da, w), h_before) if ctx.needs_input_grad[1] else None
        return None, dw, da, dh_0, rest[0] if dc else None

    @staticmethod
    @transforms.forward_mode_within
    def jvp(ctx: Any, _: Any, w_t: Any, a_t: Any, h_0_t: Any, c_0_t: Any) -> Any:
        w, h_before, of_steps = Chain._read(ctx)
        a_t = torch.zeros_like(of_steps[0]) if a_t is None else a_t
        if w_t is not None:
            a_t = add_product(ctx.steps, a_t, w_t, h_before)
        return TangentOfSteps.apply(ctx.steps, w, *of_steps, a_t, *zeros_where_none(ctx, h_0_t, c_0_t))


def run(
    sizes: Sizes,
    x: Tensor,
    hx: Sequence[Tensor],
    weights: Sequence[Tensor],
    reverse: bool,
    batch_sizes: list[int] | None,
    project: Any = project,
    through_time: Any = None,
) -> tuple[Any, tuple[Tensor, ...]]:
    """As `composite.chain`, with x of at least one row. project, through_time: for whoever is to see the products: what has the
    arguments and results of `project` and `Chain.apply`.
    """
    cell, arrays = CELLS[sizes.cell.name], sizes.arrays
    w_ih, w_hh, *rest = weights[:arrays]
    b_ih, b_hh = rest[:2] if sizes.bias else (None, None)
    w_hr = rest[-1] if sizes.P else None
    N = hx[0].shape[0]
    T = x.shape[0] if batch_sizes is None else len(batch_sizes)
    steps = Steps(sizes.cell.name, T, N, None if batch_sizes is None else tuple(batch_sizes), reverse)
    rows, (h_0, *c_0) = x.flatten(0, -2), hx
    if w_hr is None and through_time is None and stays_in_cache(w_ih, w_hh):
        h, *c, gates = ChainOfInput.apply(steps, w_hh, w_ih, b_ih, b_hh, rows, h_0, c_0[0] if c_0 else None)
    else:
        a = cell.sums(rows, w_ih, b_ih, b_hh, project)
        if w_hr is not None:
            # R W_hr in the place of R, and of h_t what is not projected: but for what the first step adds up of h_0.
            a = a + steps.before(h_0 @ w_hh.t(), torch.zeros_like(a))
            w_hh, h_0 = w_hh @ w_hr, torch.zeros_like(c_0[0])
        h, *c, gates = (through_time or Chain.apply)(steps, w_hh, a, h_0, c_0[0] if c_0 else None)
    if w_hr is not None:
        h = project(h, w_hr, None)
    found = cell.steps(h, *c, gates)
    in_shape = type(found)(*(t.reshape(*x.shape[:-1], t.shape[-1]) for t in found))
    return in_shape, tuple(steps.last(t) for t in (h, *c))
