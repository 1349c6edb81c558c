"""docs/operations.md: every cell of its tables is what happens."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import operations.data
import operations.derivatives
import operations.graphs
import operations.moves
import operations.tools  # noqa: F401  # each adds its rows
import pytest
from operations import OPERATIONS, quietly
from torch import nn

import fastlstm

KINDS = {"nn.LSTM": nn.LSTM, "fastlstm.LSTM": fastlstm.LSTM}
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def table() -> dict[str, dict[str, str]]:
    """The cells of the page, by operation and column."""
    lines = [line.strip("| ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [re.split(r" *\| *", line) for line in lines]
    header = ["operation", *KINDS]
    cells = {name: dict(zip(KINDS, found, strict=True)) for name, *found in rows if [name, *found] != header}
    assert len(cells) == sum(row != header for row in rows), "an operation has two rows"
    return cells


CELLS = table()


def test_the_page_has_the_operations_that_run_and_no_other() -> None:
    assert sorted(CELLS) == sorted(OPERATIONS)


@pytest.mark.slow
@pytest.mark.parametrize("column", KINDS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_cell_is_what_happens(name: str, column: str) -> None:
    cell, run, refusal = CELLS[name][column], OPERATIONS[name].run, OPERATIONS[name].refusals.get(column)
    if refusal is None:
        assert cell == ("not run" if name == "CUDA" else "yes")
        quietly(run, KINDS[column])
        return
    assert re.match(r"no: \S", cell)
    with pytest.raises(Exception, match=refusal):
        quietly(run, KINDS[column])


def kept(*arguments: Any, **options: Any) -> nn.Module:
    layer = nn.LSTM(*arguments, **options)
    fastlstm.convert(layer, keep_type=True)
    return layer


# What nn.LSTM can and fastlstm.LSTM can't, and the way that the page names for it, where there is one.
BEHIND: dict[str, Callable[..., nn.Module] | None] = {
    "results: `resize_` to more elements, of a large one": None,
    "`isinstance(layer, nn.LSTM)`": kept,
    "`quantize_dynamic`": kept,
}


def test_what_nn_lstm_can_and_ours_cannot() -> None:
    assert {name for name, cell in CELLS.items() if cell["nn.LSTM"] == "yes" != cell["fastlstm.LSTM"]} == set(BEHIND)


@pytest.mark.parametrize("name", [name for name, way in BEHIND.items() if way is not None])
def test_a_way_that_the_page_names(name: str) -> None:
    way: Any = BEHIND[name]
    quietly(OPERATIONS[name].run, way)
