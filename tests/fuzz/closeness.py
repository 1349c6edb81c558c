"""How far apart two results are, and how far they may be."""

import math
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from tests.conftest import SMALLEST_ELEMENT, TOLERANCE, VALUES
from tests.fuzz.case import Case
from tests.fuzz.outcome import Outcome, run, same, widen
from tests.fuzz.source import widened


@lru_cache
def _tolerance(dtype: torch.dtype, quantity: str) -> float:
    return TOLERANCE.get((dtype, quantity), 0.0)


def error_of(name: str, a: Tensor, b: Tensor, dtype: torch.dtype) -> float:
    """Of a, in tolerances; infinite where one has a NaN or an infinity that the other has not."""
    if a.shape != b.shape:
        return math.inf
    if a.numel() == 0:
        return 0.0
    wide = torch.complex128 if b.is_complex() else torch.float64
    a, b = a.detach().to(wide), b.detach().to(wide)
    strange = ~torch.isfinite(b)
    if strange.any() or not torch.isfinite(a).all():
        if not same(torch.isnan(a), torch.isnan(b)) or not same(a[strange], b[strange]):
            return math.inf
        a, b = a.masked_fill(strange, 0), b.masked_fill(strange, 0)
        if not torch.isfinite(a).all():
            return math.inf
    error, size = a - b, b
    if name in VALUES:
        return float((error.abs() / size.abs().clamp(min=1)).max()) / _tolerance(dtype, "value")
    floor = SMALLEST_ELEMENT * b.numel() ** 0.5 if bool(b.any()) else 1.0
    return float(error.norm()) / max(float(size.norm()), floor) / _tolerance(dtype, "gradient")


def close(case: Case, name: str, ours: Tensor | None, theirs: Tensor | None) -> bool:
    if ours is None or theirs is None:  # of a row without a step the reference takes no gradient
        zeros = case.form in ("lengths", "nested") and name not in VALUES and ours is not None and not ours.any()
        return ours is theirs or zeros
    if ours.layout is not torch.strided or ours.device.type != "cpu":
        return ours.shape == theirs.shape
    dtype = ours.dtype
    return dtype == theirs.dtype and error_of(name, ours, theirs, dtype) <= 1


_ROUNDINGS = 4


def unlike_by_more_than_rounding(case: Case, ours: Outcome, names: list[str], *others: Outcome) -> list[str]:
    """Those of these that are further from float64 than the tolerance, and than ten times what rounding does to this case: to
    the results of others (nn.LSTM's own), or in float64, where every number it starts from is moved by half a last digit.
    Where slopes multiply what is rounded (large weights, poles of a complex tanh), two results of one exactness are off by this
    much by chance, one in 5,000.
    """
    exact = run(case, widened(case), nn, change=widen)
    rounded = []
    for seed in range(_ROUNDINGS):
        rounding = torch.Generator().manual_seed(seed)
        rounded.append(run(case, widened(case), nn, change=partial(widen, rounding=rounding)))
    return [name for name in names if not _within_rounding(name, ours, [*others, *rounded], exact)]


def _within_rounding(name: str, ours: Outcome, others: list[Outcome], exact: Outcome) -> bool:
    mine, right = ours.entries[name], exact.entries.get(name)
    theirs = [other.entries.get(name) for other in others]
    if mine is None or right is None or exact.error is not None:
        return False
    limit = max(1.0, *(10 * error_of(name, t, right, mine.dtype) for t in theirs if t is not None))
    return math.isfinite(limit) and error_of(name, mine, right, mine.dtype) <= limit
