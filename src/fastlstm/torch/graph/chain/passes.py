"""The two linear passes of a chain, the tangent and the adjoint, given slopes: each is the other transposed, so that all their
derivatives are made of the two, and of products.

Those with respect to a slope, or to R: a product of what one pass found and what the other did, at the same step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.torch import transforms
from fastlstm.torch.graph.chain.products import product
from fastlstm.torch.graph.chain.steps import Steps
from fastlstm.torch.memory import as_read
from fastlstm.torch.runners.composite import CELLS


def call(steps: Steps, w_hh: Tensor, name: str, *given: Any) -> tuple[Tensor, ...]:
    """A pass of the engine. given: tensors, tuples of them, None."""
    H = w_hh.shape[-1]
    sizes = None if steps.batch_sizes is None else list(steps.batch_sizes)
    chain = _engine.Chain(steps.cell, steps.T, steps.N, H, sizes, steps.reverse, torch.get_num_threads())
    read = [tuple(map(_read, t)) if isinstance(t, tuple) else _read(t) for t in given]
    found = getattr(chain, name)(*read)
    if found is None:
        shapes = [getattr(t, "shape", None) if not isinstance(t, tuple) else [u.shape for u in t] for t in given]
        raise RuntimeError(f"a tensor is not of the size that {steps} has, H = {H}: got {shapes}")
    return tuple(found)


def _without(shape: Sequence[int], dim: int) -> list[int]:
    return [*shape[:dim], *shape[dim + 1 :]]


def _read(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else as_read(tensor)


class Pass(transforms.Derivable):
    """An autograd Function of `Steps`, R or so many `WEIGHTS`, and what has rows. Of a batch of calls members stand side by side,
    as more rows, in one call; each has one of its own where weights are batched.
    """

    WEIGHTS = 1

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[Any], steps: Steps, *tensors: Any) -> Any:
        """The results' batch is their dimension -2, or their first."""
        members, dims = info.batch_size, in_dims[1:]
        if members == 0:
            like = [
                t if t is None or d is None else t.new_zeros(_without(t.shape, d))
                for t, d in zip(tensors, dims, strict=True)
            ]
            results = [t.unsqueeze(0)[:0] for t in cls.apply(steps, *like)]
            return tuple(results), (0,) * len(results)
        if any(dim is not None for dim in dims[: cls.WEIGHTS]):
            of_members = [
                [t if t is None or d is None else t.select(d, k) for t, d in zip(tensors, dims, strict=True)]
                for k in range(members)
            ]
            found = zip(*(cls.apply(steps, *own) for own in of_members), strict=True)
            results = [torch.stack(each) for each in found]
            return tuple(results), (0,) * len(results)

        def side_by_side(t: Tensor | None, dim: int | None) -> Tensor | None:
            if t is None:
                return None
            t = t.unsqueeze(-2).expand(-1, members, -1) if dim is None else t.movedim(dim, -2)
            return t.flatten(0, 1).contiguous()  # one row expanded has no memory of its own, and can have no tangent

        weights, rows = tensors[: cls.WEIGHTS], zip(tensors[cls.WEIGHTS :], dims[cls.WEIGHTS :], strict=True)
        found = cls.apply(steps.times(members), *weights, *(side_by_side(t, d) for t, d in rows))
        results = [t.unflatten(0, (len(t) // members, members)) for t in found]
        return tuple(results), (1,) * len(results)


def hidden(steps: Steps, sums: Tensor, w: Tensor) -> Tensor:
    """Of (rows, S * H) the sums that R reaches."""
    G, H = w.shape
    return sums.narrow(-1, CELLS[steps.cell].FIRST_OF_HIDDEN * H, G)


def add_product(steps: Steps, a: Tensor, w: Tensor, h: Tensor) -> Tensor:
    """a (rows, S * H) + R h, where R reaches."""
    G, H = w.shape
    reached, first = h @ w.t(), CELLS[steps.cell].FIRST_OF_HIDDEN * H
    return a + torch.nn.functional.pad(reached, (first, a.shape[-1] - first - G))


def only_needed(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    """None for what was no tensor in forward."""
    return tuple(d if need else None for d, need in zip(gradients, ctx.needs_input_grad, strict=True))


def some(ds: Tensor | None, more: Tensor | None) -> Tensor | None:
    return more if ds is None else ds if more is None else ds + more


def zeros_where_none(ctx: Any, h_0_t: Any, c_0_t: Any) -> Any:
    _, h_0, c_0, *_ = ctx.saved_tensors
    h_0_t = torch.zeros_like(h_0) if h_0_t is None else h_0_t
    return h_0_t, c_0 if c_0 is None else torch.zeros_like(c_0) if c_0_t is None else c_0_t


class _Linear(Pass):
    """What the two linear passes share: derivatives with respect to the slopes and to R, of which both are bilinear.

    Of the pair, the tangent's h, c and sums stand beside the adjoint's all_dh, all_dc and da: what one finds is what the other is
    given. The derivative with respect to a slope of a sum is (what reaches that sum's state) * (that sum), and so on.
    """

    @staticmethod
    def of_coefficients(
        ctx: Any,
        slope: Tensor,
        w: Tensor,
        adjoint: Sequence[Tensor],
        tangent: Sequence[Tensor],
        before: Sequence[Tensor],
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of R and the slopes. adjoint: all_dh, all_dc, da; tangent: h, c, sums; before: h, c a step before."""
        wants_w, wants_slopes = ctx.needs_input_grad[1:3]
        cell = CELLS[ctx.steps.cell]
        dw = product(hidden(ctx.steps, adjoint[-1], w), before[0]) if wants_w else None
        return dw, cell.pairs(adjoint[:-1], tangent[:-1], tangent[-1], before[-1]) if wants_slopes else None


class Tangent(_Linear):
    """slopes, a (rows, S * H), h_0, c_0, e_h, e_c (rows, H) or None -> h, c (rows, H), sums (rows, S * H)."""

    @staticmethod
    def forward(steps: Steps, w: Tensor, slope: Tensor, *given: Tensor | None) -> tuple[Tensor, ...]:
        return call(steps, w, "tangent", slope, w, *given)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        steps, w, slope, _, h_0, c_0, *_ = inputs
        ctx.steps = steps
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(w, h_0, c_0, slope, *output)
        ctx.save_for_forward(w, h_0, c_0, slope, *output)

    @staticmethod
    def _before(ctx: Any) -> Any:
        w, h_0, c_0, slope, h, *c, sums = ctx.saved_tensors
        before = [ctx.steps.before(h_0, h), *(ctx.steps.before(c_0, each) for each in c)]
        return w, slope, (h, *c, sums), before

    @staticmethod
    @transforms.derivable_within
    def backward(ctx: Any, *gradients: Any) -> Any:
        w, slope, tangent, before = Tangent._before(ctx)
        dh, *dc, ds = gradients
        found = Adjoint.apply(ctx.steps, w, slope, dh, dc[0] if dc else None, ds)
        da, first, reaching = found[0], found[1 : 2 + len(dc)], found[2 + len(dc) :]
        dw, dslope = Tangent.of_coefficients(ctx, slope, w, (*reaching, da), tangent, before)
        pad = () if dc else (None,)
        return only_needed(ctx, None, dw, dslope, da, *first, *pad, *reaching, *pad)

    @staticmethod
    @transforms.forward_mode_within
    def jvp(ctx: Any, _: Any, w_t: Any, slope_t: Any, a_t: Any, h_0_t: Any, c_0_t: Any, e_h_t: Any, e_c_t: Any) -> Any:
        w, slope, tangent, before = Tangent._before(ctx)
        a_t = torch.zeros_like(tangent[-1]) if a_t is None else a_t
        if w_t is not None:
            a_t = add_product(ctx.steps, a_t, w_t, before[0])
        if slope_t is not None:
            cell = CELLS[ctx.steps.cell]
            e_h, e_c = cell.injected(slope_t, tangent[:-1], tangent[-1], before[-1])
            e_h_t, e_c_t = some(e_h_t, e_h), some(e_c_t, e_c)
        h_0_t, c_0_t = zeros_where_none(ctx, h_0_t, c_0_t)
        return Tangent.apply(ctx.steps, w, slope, a_t, h_0_t, c_0_t, e_h_t, e_c_t)


class Adjoint(_Linear):
    """slopes, dh, dc (rows, H), ds (rows, S * H) or None -> da (rows, S * H), dh_0, dc_0 (N, H), all_dh, all_dc (rows, H)."""

    @staticmethod
    def forward(steps: Steps, w: Tensor, slope: Tensor, *given: Tensor | None) -> tuple[Tensor, ...]:
        return call(steps, w, "adjoint", slope, w, *given)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        steps, w, slope, *_ = inputs
        ctx.steps = steps
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(w, slope, *output)
        ctx.save_for_forward(w, slope, *output)

    @staticmethod
    def _read(ctx: Any) -> Any:
        w, slope, da, *rest = ctx.saved_tensors
        return w, slope, (*rest[len(rest) // 2 :], da)

    @staticmethod
    @transforms.derivable_within
    def backward(ctx: Any, da_v: Any, *gradients: Any) -> Any:
        w, slope, adjoint = Adjoint._read(ctx)
        states = len(gradients) // 2
        e = gradients[states:]
        da_v = torch.zeros_like(adjoint[-1]) if da_v is None else da_v
        zeros = w.new_zeros(ctx.steps.N, w.shape[-1])
        first = [zeros if t is None else t for t in gradients[:states]]
        pad = (None,) * (2 - states)
        tangent = Tangent.apply(ctx.steps, w, slope, da_v, *first, *pad, *e, *pad)
        before = [ctx.steps.before(t, each) for t, each in zip(first, tangent, strict=False)]
        dw, dslope = Adjoint.of_coefficients(ctx, slope, w, adjoint, tangent, before)
        return only_needed(ctx, None, dw, dslope, *tangent[:-1], *pad, tangent[-1])

    @staticmethod
    @transforms.forward_mode_within
    def jvp(ctx: Any, _: Any, w_t: Any, slope_t: Any, dh_t: Any, dc_t: Any, ds_t: Any) -> Any:
        steps = ctx.steps
        w, slope, adjoint = Adjoint._read(ctx)
        da, has_c = adjoint[-1], len(adjoint) > 2
        first: list[Any] = [None, None]
        if w_t is not None:
            first[0], more = steps.before_transposed(hidden(steps, da, w) @ w_t)
            dh_t = some(dh_t, more)
        if slope_t is not None:
            cell = CELLS[steps.cell]
            of_sums, to_state, to_before = cell.reached(slope_t, adjoint[:-1])
            ds_t = some(ds_t, of_sums)
            start, more = steps.before_transposed(to_before)
            if has_c:
                first[1] = start
                dc_t = some(some(dc_t, more), to_state)
            else:
                first[0] = some(first[0], start)
                dh_t = some(dh_t, more)
        found_da, *rest = Adjoint.apply(steps, w, slope, dh_t, dc_t, ds_t)
        rest = [
            t if more is None else t + more
            for t, more in zip(rest, [*first[: len(rest) // 2], *[None] * 2], strict=False)
        ]
        return found_da, *rest
