"""A chain from its input: `Chain` with W x_t + b within the pass, a tensor as wide as the sums less to write and to read."""

from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import transforms
from fastlstm.torch.graph.chain.passes import Pass, add_product, call, hidden, zeros_where_none
from fastlstm.torch.graph.chain.products import product
from fastlstm.torch.graph.chain.projection import project
from fastlstm.torch.graph.chain.steps import Steps
from fastlstm.torch.graph.chain.steps_passes import AdjointOfSteps, TangentOfSteps
from fastlstm.torch.runners.composite import CELLS

_CACHE = (
    1 << 20
)  # bytes of a processor's own cache in which W and R stay, from step to step; else one product of all rows


def stays_in_cache(w_ih: Tensor, w_hh: Tensor) -> bool:
    """Whether the pass is the faster way."""
    return (w_ih.numel() + w_hh.numel()) * w_ih.element_size() <= _CACHE


class ChainOfInput(Pass):
    """R, W, b_ih, b_hh, x (rows, I), h_0, c_0 -> as `Chain`."""

    WEIGHTS = 4

    @staticmethod
    def forward(
        steps: Steps,
        w: Tensor,
        w_ih: Tensor,
        b_ih: Tensor | None,
        b_hh: Tensor | None,
        x: Tensor,
        h_0: Tensor,
        c_0: Tensor | None,
    ) -> tuple[Tensor, ...]:
        return call(steps, w, "of_input", (w_ih, w, b_ih, b_hh), x, h_0, c_0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.steps, w, w_ih, b_ih, _, x, h_0, c_0 = inputs
        ctx.has_bias = b_ih is not None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(w, h_0, c_0, w_ih, x, *output)
        ctx.save_for_forward(w, h_0, c_0, w_ih, x, *output)

    @staticmethod
    def _read(ctx: Any) -> Any:
        """R, W, x, h of the steps before, and the steps as slopes are found from them."""
        w, h_0, c_0, w_ih, x, h, *c, gates = ctx.saved_tensors
        return w, w_ih, x, ctx.steps.before(h_0, h), (gates, c[0], c_0) if c else (gates, h, h_0)

    @staticmethod
    @transforms.derivable_within
    def backward(ctx: Any, *gradients: Any) -> Any:
        w, w_ih, x, h_before, of_steps = ChainOfInput._read(ctx)
        dh, *dc, dgates = gradients
        da, dh_0, *rest = AdjointOfSteps.apply(ctx.steps, w, *of_steps, dh, dc[0] if dc else None, dgates)
        cell = CELLS[ctx.steps.cell]
        of_x, of_h = cell.of_input(da), hidden(ctx.steps, da, w)
        _, wants_w, wants_w_ih, wants_b_ih, wants_b_hh, wants_x, *_ = ctx.needs_input_grad
        return (
            None,
            product(of_h, h_before) if wants_w else None,
            cell.as_weights(product(of_x, x)) if wants_w_ih else None,
            cell.as_weights(of_x.sum(0)) if wants_b_ih else None,
            of_h.sum(0) if wants_b_hh else None,
            of_x @ cell.as_sums(w_ih) if wants_x else None,
            dh_0,
            rest[0] if dc else None,
        )

    @staticmethod
    @transforms.forward_mode_within
    def jvp(ctx: Any, _: Any, w_t: Any, w_ih_t: Any, b_ih_t: Any, b_hh_t: Any, x_t: Any, h_0_t: Any, c_0_t: Any) -> Any:
        w, w_ih, x, h_before, of_steps = ChainOfInput._read(ctx)
        cell, biases = CELLS[ctx.steps.cell], (b_ih_t, b_hh_t)
        a_t = torch.zeros_like(of_steps[0])
        if x_t is not None:
            a_t = a_t + cell.sums(x_t, w_ih, None, None, project)
        if any(t is not None for t in (w_ih_t, *biases)):
            w_ih_t = torch.zeros_like(w_ih) if w_ih_t is None else w_ih_t
            if ctx.has_bias:
                biases = tuple(w.new_zeros(len(w_ih)) if t is None else t for t in biases)
            a_t = a_t + cell.sums(x, w_ih_t, *biases, project)
        if w_t is not None:
            a_t = add_product(ctx.steps, a_t, w_t, h_before)
        return TangentOfSteps.apply(ctx.steps, w, *of_steps, a_t, *zeros_where_none(ctx, h_0_t, c_0_t))
