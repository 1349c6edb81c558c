"""A condition: readings, each with a few figures, and a verdict that holds the worst of them to a line."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from fastlstm.bench.contender import OURS, Prepare
from fastlstm.bench.in_torch import ours
from fastlstm.bench.peers import PEERS
from fastlstm.cells import Cell

Track = Callable[[Sequence[Any]], Iterable[Any]]  # goes through a sequence and shows how far it is
MODES = {"infer": False, "train": True}  # by the name that a CSV has: whether to train


def theirs(cell: Cell) -> str:
    """The name of torch's layer with that cell."""
    return PEERS["torch"].label_for(cell)


def both(cell: Cell) -> dict[str, Prepare]:
    """Torch's layer and ours by name; the points that they get have the cell."""
    return {theirs(cell): PEERS["torch"].prepare, OURS: ours}


def over_theirs(cell: Cell) -> str:
    """The name of a ratio, ours over torch's."""
    return f"{OURS} / {theirs(cell)}"


class Reading(NamedTuple):
    """at: the point, or what else is varied. mode: infer, train, or both together. values: by name, which has the unit;
    all readings of a condition have the same names.
    """

    at: str
    mode: str
    values: dict[str, float]


class Verdict(NamedTuple):
    """figure: the worst, in `unit`. limit: what it may be at most. said: what the figure is, and where it was taken."""

    figure: float
    limit: float
    unit: str
    said: str

    @property
    def holds(self) -> bool:
        """Whether the figure is within the line; a figure that is no number is not."""
        return self.figure <= self.limit

    def __str__(self) -> str:
        held = "holds" if self.holds else "does not hold"
        return f"{held}: {self.said}: {self.figure:.2f}{self.unit}, line {self.limit:.2f}{self.unit}"


class Condition(NamedTuple):
    """measure: takes the readings; a function of how to show progress, and of the layer's cell. judge: what they say together,
    for that cell. minutes: how many that takes on two idle cores. runs_here: whether this system tells what is to be read.
    """

    measure: Callable[[Track, Cell], list[Reading]]
    judge: Callable[[list[Reading], Cell], Verdict]
    minutes: int
    runs_here: bool = True


def worst(readings: list[Reading], name: str, limit: float, said: str) -> Verdict:
    """The verdict on the highest value of that name, a factor."""
    highest = max(readings, key=lambda reading: reading.values[name])
    return Verdict(highest.values[name], limit, "x", f"{said} ({highest.at}, {highest.mode})")
