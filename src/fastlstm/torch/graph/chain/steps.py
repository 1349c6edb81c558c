"""Whose steps the rows of a chain's tensors are, and which row stands before which."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from fastlstm.torch import context


@dataclass(frozen=True)  # no tuple: torch.func would look at each of its members for tensors, at every level
class Steps:
    """Whose steps they are: of a cell by its name, N sequences; batch_sizes: of a packed batch, None: T steps each."""

    cell: str
    T: int
    N: int
    batch_sizes: tuple[int, ...] | None
    reverse: bool

    def times(self, members: int) -> "Steps":
        """With so many members side by side in the place of every row."""
        sizes = None if self.batch_sizes is None else tuple(n * members for n in self.batch_sizes)
        return replace(self, N=self.N * members, batch_sizes=sizes)

    def before(self, initial: Tensor, x: Tensor) -> Tensor:
        """What each row's step before it has in x, or at the first one in `initial`."""
        if self.batch_sizes is None:
            rows = (len(x) // self.T) * (self.T - 1)
            return torch.cat(
                [x.narrow(0, len(x) - rows, rows), initial] if self.reverse else [initial, x.narrow(0, 0, rows)]
            )
        return torch.cat([initial, x]).index_select(0, _before(self))

    def before_transposed(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """From gradients of `before` to those of initial and x."""
        if self.batch_sizes is None:
            first = len(d) // self.T
            rest, zeros = len(d) - first, d.new_zeros(first, d.shape[-1])
            if self.reverse:
                return d.narrow(0, rest, first), torch.cat([zeros, d.narrow(0, 0, rest)])
            return d.narrow(0, 0, first), torch.cat([d.narrow(0, first, rest), zeros])
        both = d.new_zeros(self.N + len(d), d.shape[-1]).index_copy(0, _before(self), d)
        return both.narrow(0, 0, self.N), both.narrow(0, self.N, len(d))

    def last(self, x: Tensor) -> Tensor:
        """What each sequence's last step has in x."""
        if self.reverse:
            return x.narrow(0, 0, self.N)
        if self.batch_sizes is None:
            return x.narrow(0, len(x) - self.N, self.N)
        return x.index_select(0, _last(self))


def _offsets(sizes: tuple[int, ...]) -> list[int]:
    offsets = [0]
    for n in sizes:
        offsets.append(offsets[-1] + n)
    return offsets


def _index(rows: list[int]) -> Tensor:
    with context.outside_transforms():
        return torch.tensor(rows, dtype=torch.int64, device="cpu")


@lru_cache(32)
def _before(steps: Steps) -> Tensor:
    assert steps.batch_sizes is not None
    sizes, offsets = steps.batch_sizes, _offsets(steps.batch_sizes)
    rows = []
    for t, n in enumerate(sizes):
        at = t + 1 if steps.reverse else t - 1
        begun = min(n, sizes[at]) if 0 <= at < len(sizes) else 0
        start = steps.N + offsets[at] if begun else 0
        rows += [*range(start, start + begun), *range(begun, n)]
    return _index(rows)


@lru_cache(32)
def _last(steps: Steps) -> Tensor:
    assert steps.batch_sizes is not None
    sizes, offsets = steps.batch_sizes, _offsets(steps.batch_sizes)
    rows = [0] * steps.N
    for t, n in enumerate(sizes):
        rows[:n] = range(offsets[t], offsets[t] + n)
    return _index(rows)
