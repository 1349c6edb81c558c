"""A failing case made smaller: one field after another back to its default, as long as it fails in the same way."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from tests.fuzz.case import Case, Odd

_DENSE = {"form": "dense", "packing": None, "lengths": "", "reset": "", "unfit": False}
_SMALLER = {"I": (1, 2, 3), "H": (1, 2, 3), "P": (0, 1), "T": (1, 2, 3), "N": (None, 1, 2, 3), "layers": (1, 2)}


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """fails: whether a case still does what is looked for."""
    plain = Case()
    for _ in range(2):
        before = case
        for name in (field.name for field in fields(Case)):
            for smaller in _candidates(case, name, getattr(plain, name)):
                tried = replace(case, **(_DENSE if name == "form" else {name: smaller}))
                if _consistent(tried, case) and fails(tried):
                    case = tried
                    break
        if case == before:
            break
    return case


def _candidates(case: Case, name: str, plain: Any) -> list[Any]:
    now = getattr(case, name)
    if name == "seed" or now == plain:
        return []
    if name in _SMALLER:
        tried = [size for size in _SMALLER[name] if size != now]
        return [size for size in tried if now is None or size is None or size < now]
    if name in ("x", "h", "c"):
        return [Odd(), *(replace(now, **{part: getattr(Odd(), part)}) for part in ("layout", "dtype", "shape", "grad"))]
    if name == "weights":
        return [{}, *({w: odd} for w, odd in now.items())]
    if name == "used":
        return [(0, 1, 2), (0,)]
    if name in ("form", "packing"):
        return ["dense"] if name == "form" else []
    if name == "hx":
        return ["", "h" if case.is_gru else "(h, c)"]
    if name == "layer":
        return ["GRU" if case.is_gru else "LSTM"]
    return [plain]


def _consistent(case: Case, before: Case) -> bool:
    """Whether the parts of the case still belong together."""
    if case.P and case.P >= case.H:
        return False
    if any(w not in case.parameters for w in (*case.weights, *case.frozen)):
        return False
    if case.form in ("packed", "built", "nested"):
        return case.packing is not None and (case.N, case.T) == (before.N, before.T)
    if case.form == "lengths":
        same = (case.N, case.T, case.batch_first) == (before.N, before.T, before.batch_first)
        same = same and (not case.unfit or (case.lengths, case.reset) == (before.lengths, before.reset))
        return same and bool(case.lengths or case.reset)
    return True
