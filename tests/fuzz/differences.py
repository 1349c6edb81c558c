"""Where ours and nn.LSTM are known to differ, and why: each has a line in the docs (docs/layer.md, docs/adopt.md)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.fuzz.case import Case


class Difference(NamedTuple):
    name: str
    applies: Callable[[Case, Any, Any, str], bool]  # the case, our outcome, theirs, what `compare` found
    reason: str


LISTED: tuple[Difference, ...] = ()


def find(case: Case, ours: Any, theirs: Any, found: str) -> str:
    """The name of the listed difference that this is; "": none."""
    for difference in LISTED:
        if difference.applies(case, ours, theirs, found):
            return difference.name
    return ""
