"""Packages as they are on PyPI, with their nn.LSTM or nn.GRU on the engine: the same results, and how long they take.

`hold` runs one thing a package does as it is, within `fastlstm.enabled()`, after `fastlstm.convert(model)`, and after
`fastlstm.convert(model, keep_type=True)`.
Not a part of `make test`: `make test-ecosystem` installs the packages. A missing package is an error.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version

import pytest
import torch
from torch import Tensor, nn

import fastlstm
from tests.doubles import CountingEngine
from tests.tolerances import OF_BOTH_SIDES, TOLERANCE

ROUNDS = 7  # each runs every way once, in turn
LINES: list[str] = []  # of the summary

Results = dict[str, Tensor]  # a name that starts with "d" and a space is a gradient's


def gradients(loss: Tensor, model: nn.Module) -> Results:
    """Of every parameter that the loss depends on."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {f"d {name}": grad for name, grad in zip(named, found, strict=True) if grad is not None}


def _assert_same(found: Results, expected: Results) -> None:
    """To float32 accuracy: outputs by torch's own measure, gradients by the norm of the difference."""
    assert list(found) == list(expected)
    norms = {name: t.norm().item() for name, t in expected.items() if name.startswith("d ")}
    # Either side has an error of its own. What cancels to almost nothing next to the rest has no small relative one.
    floor = 1e-3 * max(norms.values(), default=0.0)
    for name, theirs in expected.items():
        if name in norms:
            error = (found[name] - theirs).norm().item()
            limit = OF_BOTH_SIDES * TOLERANCE[torch.float32, "gradient"] * max(norms[name], floor)
            assert error <= limit, f"{name}: error {error:.3g}, limit {limit:.3g}, norm {norms[name]:.3g}"
        else:
            torch.testing.assert_close(found[name], theirs, msg=lambda message, name=name: f"{name}: {message}")


@contextmanager
def _converted(model: nn.Module, keep_type: bool) -> Iterator[None]:
    report = fastlstm.convert(model, keep_type=keep_type)
    assert report.changed, str(report)
    try:
        yield
    finally:
        assert fastlstm.revert(model).changed == report.changed


@contextmanager
def counting() -> Iterator[list[int]]:
    """An entry for every time the engine ran."""
    counted: list[int] = []

    with pytest.MonkeyPatch.context() as patch:
        for module in ("graph.function", "layer", "cell", "adopt.enabling", "adopt.keeping"):
            patch.setattr(sys.modules[f"fastlstm.torch.{module}"], "_engine", CountingEngine(counted))
        yield counted


def hold(package: str, what: str, model: nn.Module, run: Callable[[], Results], *, converts: bool = True) -> None:
    """Every way gives the results of `run` as it is; a line with the time ratios is printed at the end.

    converts=False: the package's layer is one that `convert` leaves alone, with a reason; keep_type takes every one of torch's.
    """
    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {"torch": nullcontext, "enable": fastlstm.enabled}
    if converts:
        ways["convert"] = lambda: _converted(model, keep_type=False)
    else:
        report = fastlstm.convert(model)
        assert not report.changed
        assert report.left
    if any(isinstance(module, nn.LSTM | nn.GRU | nn.LSTMCell | nn.GRUCell) for module in model.modules()):
        ways["keep_type"] = lambda: _converted(model, keep_type=True)
    expected = run()
    for way, entered in ways.items():
        with entered(), counting() as counted:
            found = run()
        assert bool(counted) == (way != "torch"), way
        _assert_same(found, expected)
    after = run()
    assert all(torch.equal(after[name], t) for name, t in expected.items()), "disabled and reverted: torch's own bits"
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, entered in ways.items():
            with entered():
                start = time.perf_counter()
                run()
                seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    ratios = [f"{way} {medians['torch'] / medians[way]:.2f}" for way in ways if way != "torch"]
    LINES.append(f"{package} {version(package)}, {what}: torch {1e3 * medians['torch']:.1f} ms, {', '.join(ratios)}")
