"""The grid of `test_lstm_grid`, for the GRU: 640 configurations against `nn.GRU` in float64, every gradient by name."""

import itertools
import random
from collections import Counter

import pytest
import torch

from fastlstm import GRU, _engine
from tests.torch.test_lstm_grid import MOST_WORK, Configuration, compare, draw_one, other_isa, work

__all__ = ["other_isa"]  # a fixture
COUNT = 640


def configurations() -> list[Configuration]:
    pick = random.Random(2014)
    flags = [[False, True]] * 2
    kinds = itertools.cycle(
        itertools.product([torch.float32, torch.float64], [1, 2, 3], *flags, [False], [False, True], [False, True])
    )
    found = []
    for seed, kind in zip(range(COUNT), kinds, strict=False):
        configuration = draw_one(pick, seed, kind)
        while work(configuration) > MOST_WORK:
            configuration = draw_one(pick, seed, kind)
        found.append(configuration)
    return found


GRID = configurations()
OTHERS = [name for name in _engine.isas() if name != _engine.isa()]


@pytest.mark.parametrize("configuration", GRID, ids=str)
def test_outputs_and_every_gradient_are_nn_grus(configuration):
    compare(configuration, GRU)


@pytest.mark.skipif(not OTHERS, reason="one instruction set only")
@pytest.mark.parametrize("other_isa", OTHERS, indirect=True)
@pytest.mark.parametrize("configuration", GRID[::8], ids=str)
def test_every_other_instruction_set_of_this_processor_agrees_too(configuration, other_isa):
    compare(configuration, GRU)


def test_the_grid_holds_every_combination_of_options():
    kinds = Counter((c.dtype, c.layers, c.bias, c.bidirectional, c.hx, c.lengths is None) for c in GRID)
    assert len(kinds) == 2 * 3 * 2**4
    assert len(set(GRID)) == COUNT >= 500
