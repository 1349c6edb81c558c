"""The grid: `LSTM` against `nn.LSTM` in float64 over 1,600 configurations, outputs and every gradient by name.

Configurations are drawn from one seed, so each is the same case on every machine, and each is named by what it is. The
sizes are odd and even, one, a vector's width (4, 8, 16) and the tile's rows (6) with their neighbours, and two that fit
nothing: 63 and 97.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from conftest import VALUES, assert_close, draw, evaluate, states_of, twin

from fastlstm import LSTM, _engine

COUNT = 1600
STEPS = [1, 1, 2, 3, 4, 5, 7, 8, 16, 31, 63, 97]
BATCHES = [None, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 33, 63, 97]
FEATURES = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 97]
MOST_WORK = 1.5e7  # multiply-adds of a forward pass: a case takes milliseconds, the file a minute


class Configuration(NamedTuple):
    dtype: torch.dtype
    T: int
    N: int | None
    I: int
    H: int
    P: int
    layers: int
    bias: bool
    bidirectional: bool
    batch_first: bool
    dropout: float
    hx: bool
    lengths: tuple[int, ...] | None
    enforce_sorted: bool
    training: bool
    threads: int
    seed: int

    def __str__(self) -> str:
        parts = [
            str(self.dtype).removeprefix("torch."),
            f"T{self.T}",
            f"N{self.N}",
            f"I{self.I}",
            f"H{self.H}",
            f"layers{self.layers}",
        ]
        parts += [f"P{self.P}"] * bool(self.P) + [f"dropout{self.dropout}"] * bool(self.dropout)
        parts += (
            ["no_bias"] * (not self.bias) + ["bidirectional"] * self.bidirectional + ["batch_first"] * self.batch_first
        )
        parts += ["hx"] * self.hx + ["eval"] * (not self.training) + ["packed"] * (self.lengths is not None)
        parts += ["unsorted"] * (not self.enforce_sorted)
        return "-".join([*parts, f"threads{self.threads}", f"seed{self.seed}"])


def work(c: Configuration) -> float:
    out, D = c.P or c.H, 1 + c.bidirectional
    features = c.I + (c.layers - 1) * D * out + c.layers * out
    return c.T * (c.N or 1) * D * (4 * c.H * features + c.layers * c.P * c.H)


def draw_one(
    pick: random.Random, seed: int, kind: tuple[torch.dtype, int, bool, bool, bool, bool, bool]
) -> Configuration:
    dtype, layers, bias, bidirectional, projected, hx, packed = kind
    T, H = pick.choice(STEPS), pick.choice(FEATURES[projected:])
    N = pick.choice(BATCHES[packed:])
    enforce_sorted = not packed or pick.random() < 0.5
    lengths = None
    if packed:
        lengths = [T, *(pick.randint(1, T) for _ in range((N or 1) - 1))]
        lengths = sorted(lengths, reverse=True) if enforce_sorted else pick.sample(lengths, len(lengths))
    return Configuration(
        dtype=dtype,
        T=T,
        N=N,
        I=pick.choice(FEATURES),
        H=H,
        P=pick.randint(1, H - 1) if projected else 0,
        layers=layers,
        bias=bias,
        bidirectional=bidirectional,
        batch_first=pick.random() < 0.4,
        dropout=pick.choice([0.0, 0.3, 0.3, 1.0]) if layers > 1 else 0.0,
        hx=hx,
        lengths=None if lengths is None else tuple(lengths),
        enforce_sorted=enforce_sorted,
        training=pick.random() < 0.85,
        threads=pick.choice([1, 2, 3]),
        seed=seed,
    )


def configurations() -> Iterator[Configuration]:
    """Every kind of call in turn, COUNT in all, each with sizes of its own."""
    pick = random.Random(1997)
    flags = [[False, True]] * 5
    kinds = itertools.cycle(itertools.product([torch.float32, torch.float64], [1, 2, 3], *flags))
    for seed, kind in zip(range(COUNT), kinds, strict=False):
        configuration = draw_one(pick, seed, kind)
        while work(configuration) > MOST_WORK:
            configuration = draw_one(pick, seed, kind)
        yield configuration


GRID = list(configurations())


def compare(c: Configuration, kind: Any = LSTM) -> None:
    torch.manual_seed(c.seed)
    projection = {"proj_size": c.P} if c.P else {}
    arguments = (c.I, c.H, c.layers, c.bias, c.batch_first, c.dropout, c.bidirectional)
    ours = kind(*arguments, **projection, dtype=c.dtype).train(c.training)
    lengths = None if c.lengths is None else list(c.lengths)
    call = draw(ours, c.T, c.N, hx=c.hx, lengths=lengths, enforce_sorted=c.enforce_sorted, seed=c.seed)
    torch.set_num_threads(c.threads)
    found = evaluate(ours, call, seed=c.seed)
    torch.set_num_threads(1)
    reference = evaluate(twin(ours, torch.float64), call.to(torch.float64), seed=c.seed)
    assert_close(found, reference, c.dtype, hint=str(c))
    with torch.no_grad():
        torch.manual_seed(c.seed)
        output, last = ours(call.x, call.hx)
    results = (output if lengths is None else output.data, *states_of(last))
    inference = dict(zip(VALUES, results, strict=False))
    assert_close(inference, {name: reference[name] for name in inference}, c.dtype, hint=f"no_grad {c}")


@pytest.mark.parametrize("configuration", GRID, ids=str)
def test_outputs_and_every_gradient_are_nn_lstms(configuration):
    compare(configuration)


@pytest.fixture
def other_isa(request: pytest.FixtureRequest) -> Iterator[None]:
    usual = _engine.isa()
    _engine.use_isa(request.param)
    yield
    _engine.use_isa(usual)


OTHERS = [name for name in _engine.isas() if name != _engine.isa()]


@pytest.mark.skipif(not OTHERS, reason="one instruction set only")
@pytest.mark.parametrize("other_isa", OTHERS, indirect=True)
@pytest.mark.parametrize("configuration", GRID[::8], ids=str)
def test_every_other_instruction_set_of_this_processor_agrees_too(configuration, other_isa):
    compare(configuration)


def test_the_grid_holds_every_value_of_every_option_in_every_dtype():
    for dtype in (torch.float32, torch.float64):
        cases = [c for c in GRID if c.dtype is dtype]
        assert len(cases) > 700
        assert {c.T for c in cases} == set(STEPS)
        assert {c.N for c in cases} == set(BATCHES)
        assert {c.I for c in cases} == {c.H for c in cases} == set(FEATURES)
        kinds = Counter(
            (c.layers, c.bias, c.bidirectional, c.P > 0, c.hx, "packed" if c.lengths else "dense") for c in cases
        )
        assert len(kinds) == 3 * 2**5, "every combination of layers, bias, directions, projection, hx and packing"
        assert min(kinds.values()) >= 8
        assert sum(bool(c.lengths) and not c.enforce_sorted for c in cases) > 80
        assert sum(c.dropout > 0 and c.training for c in cases) > 200
        assert sum(c.batch_first for c in cases) > 200
    assert len(set(GRID)) == COUNT >= 1500
