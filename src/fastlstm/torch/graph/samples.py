"""Gradients of each sample by itself, (N, *shape) of a parameter: what training with differential privacy clips.

A parameter's gradient is a sum over rows, of what reaches the product it is in times what it is multiplied by. So one pass back
through all rows, which need not know of samples, finds what reaches; then a product of batches sums each sample's rows apart.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Packed, Ragged, Results, States
from fastlstm.torch.dtypes import HALF
from fastlstm.torch.graph import chain as chains
from fastlstm.torch.graph.chain.passes import hidden
from fastlstm.torch.graph.chain.steps import Steps
from fastlstm.torch.runners import composite
from fastlstm.weights import Sizes


def samples_of(batch: Batch) -> int:
    """How many the caller has."""
    restarts = batch.restarts if isinstance(batch, Ragged) else None
    return batch.N if restarts is None else restarts.N


def gradients(
    sizes: Sizes,
    batch: Batch,
    x: Tensor,
    hx: States,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    of_results: Sequence[Tensor],
) -> list[Tensor]:
    """From the gradients of output, h_n and c_n, in the shapes that `runners.run` gives them, to those of the weights.

    Tensors on the CPU, of one dtype; in 16 bits it adds up in float32, and rounds once.
    """
    dtype = x.dtype
    wide = torch.float32 if dtype in HALF else dtype

    def known(tensors: Sequence[Any]) -> list[Any]:
        return [None if t is None else t.detach().to(wide) for t in tensors]

    links: list[_Link] = []
    whose: list[Tensor] = []
    own, factors = known(weights), [*known(masks), _whose(batch, x)]  # samples' numbers go where dropout's factors go
    with torch.enable_grad(), context.without_autocast():
        compute, chain = partial(_layer, whose), partial(_chain, links)
        given = tuple(known(hx))
        results = composite.run(sizes, batch, x.detach().to(wide), given, own, factors, compute, chain)
        reached = [t for link in links for t in link.reached]
        found = torch.autograd.grad(results, reached, known(of_results), allow_unused=True, materialize_grads=True)
    rows, each = _Rows(whose[0].reshape(-1), samples_of(batch)), iter(found)
    of_links = (
        _of_link(sizes, link, w_hh, [next(each) for _ in link.reached], rows)
        for link, w_hh in zip(links, own[1 :: sizes.arrays], strict=True)
    )
    return [t.to(dtype) for of_link in of_links for t in of_link]


def _whose(batch: Batch, x: Tensor) -> Tensor:
    """The number of each row's sample, as dropout's factors stand (`batch.masks_of`), with one feature."""
    numbers = torch.arange(samples_of(batch), device="cpu")
    if isinstance(batch, Packed):
        in_order = numbers if batch.sorted_indices is None else batch.sorted_indices
        numbers = torch.cat([in_order[:n] for n in batch.batch_sizes.tolist()])
    elif isinstance(batch, Ragged) and batch.restarts is not None:
        numbers = numbers.repeat_interleave(batch.restarts.T)
    elif isinstance(batch, Ragged) and batch.offsets is not None:
        starts, own = batch.offsets[:-1], batch.offsets.diff() if batch.lengths is None else batch.lengths
        places = torch.arange(int(own.sum()), device="cpu") + (starts - own.cumsum(0) + own).repeat_interleave(own)
        numbers = torch.zeros(len(x), dtype=torch.int64, device="cpu").index_copy(
            0, places, numbers.repeat_interleave(own)
        )
    else:
        numbers = numbers.expand(batch.T, -1)
    return numbers.unsqueeze(-1)


def _layer(
    whose: list[Tensor], sizes: Sizes, x: Tensor, hx: Results, weights: Any, masks: Any, steps: Any, chain: Any
) -> Results:
    """`composite.layer`; the last of its masks is kept in `whose`, now in the order of x's rows."""
    *masks, numbers = masks
    whose.append(numbers)
    return composite.layer(sizes, x, hx, weights, masks, steps, chain)


class _Link(NamedTuple):
    """A chain's products. x (rows, I) gave of_x; before: h a step before; a: the sums, to which w's product is added. With a
    projection: inner, which gave projected.
    """

    steps: Steps
    w: Tensor
    x: Tensor
    of_x: Tensor
    before: Tensor
    a: Tensor
    inner: Tensor | None
    projected: Tensor | None

    @property
    def reached(self) -> list[Tensor]:
        return [t for t in (self.a, self.of_x, self.projected) if t is not None]


def _chain(
    links: list[_Link], sizes: Sizes, x: Tensor, hx: Sequence[Tensor], weights: Any, reverse: bool, batch_sizes: Any
) -> Any:
    """`chain.run`, whose products are kept in `links`."""
    products: list[tuple[Tensor, Tensor]] = []
    called: list[Any] = []

    def project(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        y = linear(x, w, b)
        products.append((x.detach(), y if y.requires_grad else y.requires_grad_()))
        return y

    def through_time(*given: Any) -> Any:
        called.extend(given)
        return chains.Chain.apply(*given)

    found, last = chains.run(sizes, x, hx, weights, reverse, batch_sizes, project, through_time)
    steps, w, a, *_ = called
    before = steps.before(hx[0].detach(), found.h.detach().reshape(-1, sizes.out))
    (given, of_x), *projected = products
    links.append(_Link(steps, w, given, of_x, before, a, *(projected[0] if projected else (None, None))))
    return found, last


class _Rows:
    """Which rows are whose."""

    def __init__(self, numbers: Tensor, N: int) -> None:
        counts = torch.bincount(numbers, minlength=N)
        self.N, self.T = N, int(counts.max()) if N else 0
        self.order = torch.argsort(numbers, stable=True)
        first = (torch.arange(N, device="cpu") * self.T - counts.cumsum(0) + counts).repeat_interleave(counts)
        self.places = None if int(counts.sum()) == N * self.T else first + torch.arange(len(numbers), device="cpu")

    def apart(self, t: Tensor) -> Tensor:
        """(N, T, features) from (rows, features); zeros where a sample has fewer rows than T."""
        t = t.index_select(0, self.order)
        if self.places is not None:
            t = t.new_zeros(self.N * self.T, t.shape[-1]).index_copy(0, self.places, t)
        return t.reshape(self.N, self.T, t.shape[-1])


def _of_link(sizes: Sizes, link: _Link, w_hh: Tensor, reached: Sequence[Tensor], rows: _Rows) -> list[Tensor]:
    """In the order of `parameters()`."""
    da, of_x, *of_projected = reached
    of_hidden = hidden(link.steps, da, link.w)
    d_h = rows.apart(of_hidden)
    d_x = d_h if link.of_x is link.a else rows.apart(of_x)
    found = [d_x.mT @ rows.apart(link.x), d_h.mT @ rows.apart(link.before)]
    if sizes.bias:
        found += [d_x.sum(1), d_h.sum(1)]
    if link.inner is not None:  # what is projected goes to the results, and to the next step
        to_results, to_next = (rows.apart(d).mT for d in (*of_projected, of_hidden @ w_hh))
        earlier = link.steps.before(link.inner.new_zeros(link.steps.N, sizes.H), link.inner)
        found.append(to_results @ rows.apart(link.inner) + to_next @ rows.apart(earlier))
    return found
