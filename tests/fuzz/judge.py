"""Runs a case on both layers and says what came of it: both raised, both agree, a listed difference, or a failure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fastlstm
from tests.conftest import VALUES
from tests.fuzz import differences, expected
from tests.fuzz.case import Case
from tests.fuzz.closeness import close, unlike_by_more_than_rounding
from tests.fuzz.outcome import Outcome, run
from tests.fuzz.source import reference, script


@dataclass(frozen=True)
class Verdict:
    """kind: "agreed", "raised", "listed" (name: which difference), "failed" (name: what kind of failure)."""

    kind: str
    name: str = ""
    detail: str = ""


def judge(case: Case, tell: Callable[[str], None] = lambda stage: None, torch_survives: bool = True) -> Verdict:
    """torch_survives: whether nn.LSTM itself lives through this case; ours must in any way."""
    theirs = Outcome()
    if torch_survives:
        theirs = run(case, reference(case), nn, lambda stage: tell(f"theirs {stage}"))
    ours = run(case, script(case), fastlstm, lambda stage: tell(f"ours {stage}"))
    tell("judge")
    if not torch_survives:
        return Verdict("listed", "torch crashes")
    found = compare(case, ours, theirs)
    if found is None:
        return Verdict("raised" if ours.error is not None else "agreed")
    name, detail = found
    listed = (
        "" if name == "internal error" or name.startswith("input written") else differences.find(case, ours, theirs)
    )
    return Verdict("listed", listed) if listed else Verdict("failed", name, detail)


def compare(case: Case, ours: Outcome, theirs: Outcome) -> tuple[str, str] | None:
    """What is wrong: its kind and a sentence; None: nothing."""
    said = "\n".join(
        f"{whose}: {outcome.raised or 'no error'} {str(outcome.error or '')[:300]!r}"
        for whose, outcome in (("ours", ours), ("theirs", theirs))
    )
    said += f"\nstages: ours {ours.stage}, theirs {theirs.stage}"
    if ours.error is not None:
        text = str(ours.error)
        if isinstance(ours.error, SystemError) or "incompatible function arguments" in text:
            return "internal error", said
    if ours.changed:
        return f"input written to: {ours.changed}", said
    if ours.error is not None or theirs.error is not None:
        if isinstance(theirs.error, expected.Unfit) and isinstance(ours.error, (TypeError, ValueError, RuntimeError)):
            return None
        if type(ours.error) is not type(theirs.error):
            return f"ours {_raised(ours, ours.error is not None)}; theirs {_raised(theirs, ours.error is None)}", said
        return None
    return _compare_results(case, ours, theirs)


def _compare_results(case: Case, ours: Outcome, theirs: Outcome) -> tuple[str, str] | None:
    for name, fact in theirs.facts.items():
        mine = ours.facts.get(name)
        if case.form in ("lengths", "nested") and name in VALUES and mine is not None:
            fact, mine = fact[:3], mine[:3]  # the reference computes them in its own way
        if not _equal(fact, mine):
            return f"{name} is another kind of tensor", f"ours {mine}, theirs {fact}"
    if list(ours.entries) != list(theirs.entries):
        return "other entries", f"ours {list(ours.entries)}, theirs {list(theirs.entries)}"
    off = [name for name in ours.entries if not close(case, name, ours.entries[name], theirs.entries[name])]
    in_both = [name for name in off if ours.entries[name] is not None and theirs.entries[name] is not None]
    if in_both:
        by_rounding = set(in_both).difference(unlike_by_more_than_rounding(case, ours, in_both, theirs))
        off = [name for name in off if name not in by_rounding]
    if not off:
        return None
    name = off[0]
    mine, other = ours.entries[name], theirs.entries[name]
    kind = "gradient" if name not in VALUES else "value"
    if mine is None or other is None:
        return f"{kind} present in one: {_family(name)}", f"{off}: ours {mine is not None}, theirs {other is not None}"
    return f"{kind}s differ", f"{off}; {name} {tuple(mine.shape)}, {_furthest(mine, other)}"


def _furthest(ours: Tensor, theirs: Tensor) -> str:
    """The element that is off most, or is no number in one of them."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype or ours.device.type != "cpu":
        return f"theirs {tuple(theirs.shape)}, {theirs.dtype}"
    distance = (ours - theirs).abs().masked_fill((ours == theirs) | (ours.isnan() & theirs.isnan()), 0)
    k = int(distance.nan_to_num(nan=float("inf")).double().argmax())
    return f"element {k}: ours {ours.flatten()[k].item()}, theirs {theirs.flatten()[k].item()} ({ours.dtype})"


def _raised(outcome: Outcome, words: bool) -> str:
    """The error, without the numbers in it."""
    if outcome.error is None:
        return "raises nothing"
    text = re.sub(r"-?\d+|Input|hidden|parameter", "#", str(outcome.error).split("\n")[0])[:40]
    return f"{outcome.raised} at {outcome.stage}" + (f" ({text})" if words else "")


def _family(name: str) -> str:
    return name.split("_l")[0]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.device == b.device and (a.device.type == "meta" or torch.equal(a, b))
    return bool(a == b)
