"""What a chain's input gives to its sums, W x_t + b of all rows at once: torch's linear, but for its batch rule. Members stand
side by side as a chain's do, so that nothing as wide as the sums is moved between the two.
"""

from typing import Any

from torch import Tensor
from torch.nn.functional import linear

from fastlstm.torch import transforms
from fastlstm.torch.graph.chain.products import product


class Projection(transforms.Derivable):
    """x (rows, I), W (width, I), b (width) or None -> (rows, width)."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return linear(x, w, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, w, b = inputs
        ctx.has_bias = b is not None
        ctx.save_for_backward(x, w)
        ctx.save_for_forward(x, w)

    @staticmethod
    @transforms.derivable_within
    def backward(ctx: Any, d: Any) -> Any:
        (x, w), (of_x, of_w, of_b) = ctx.saved_tensors, ctx.needs_input_grad
        return d @ w if of_x else None, product(d, x) if of_w else None, d.sum(0) if ctx.has_bias and of_b else None

    @staticmethod
    @transforms.forward_mode_within
    def jvp(ctx: Any, x_t: Any, w_t: Any, b_t: Any) -> Any:
        x, w = ctx.saved_tensors
        found = [linear(x_t, w)] if x_t is not None else []
        found += [linear(x, w_t)] if w_t is not None else []
        total = sum(found[1:], found[0]) if found else x.new_zeros(len(x), len(w))
        return total if b_t is None else total + b_t

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Any:
        members, (of_x, of_w, of_b) = info.batch_size, in_dims
        if of_w is None and of_b is None:
            rows = x.movedim(of_x, 1)
            found: Any = Projection.apply(rows.flatten(0, 1), w, b)
            return found.reshape(len(rows), members, len(w)), 1
        x = x.expand(members, *x.shape) if of_x is None else x.movedim(of_x, 0)
        w = w.expand(members, *w.shape) if of_w is None else w.movedim(of_w, 0)
        found = x @ w.mT
        return found if b is None else found + (b if of_b is None else b.movedim(of_b, 0).unsqueeze(1)), 0


def project(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """`linear`, of (rows, I)."""
    found: Tensor = Projection.apply(x, w, b)
    return found
