"""Runs a case on both layers and says what came of it: both raised, both agree, a listed difference, or a failure."""

import contextlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastlstm
from tests.conftest import SMALLEST_ELEMENT, TOLERANCE, VALUES
from tests.fuzz import differences, expected
from tests.fuzz.case import Case
from tests.fuzz.source import DEFINITIONS, Script, reference, script, widened

_CODE: dict[str, Any] = {"torch": torch}
for _text in DEFINITIONS.values():
    exec(_text, _CODE)
_DEFINED = {name: _CODE[name] for name in DEFINITIONS}
_DERIVED = re.compile(r"x = (PackedSequence|pack_padded|torch.nested)|\w+ = .*_base\b(?!.*requires_grad_\(\)$)")
_INPUTS = (
    "x",
    "data",
    "padded",
    "h",
    "c",
    "sizes",
    "lengths",
    "reset",
    "x_base",
    "data_base",
    "padded_base",
    "h_base",
    "c_base",
)


@dataclass
class Outcome:
    """What a run came to. stage: how far it was ("make", "call", "backward", "done")."""

    stage: str = "make"
    error: BaseException | None = None
    entries: dict[str, Tensor | None] = field(default_factory=dict)  # results and gradients, by name
    facts: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    changed: str = ""  # an input that the call wrote to

    @property
    def raised(self) -> str:
        return "" if self.error is None else type(self.error).__name__


@dataclass(frozen=True)
class Verdict:
    """kind: "agreed", "raised", "listed" (name: which difference), "failed" (name: what kind of failure)."""

    kind: str
    name: str = ""
    detail: str = ""


def _compiled(source: str, what: str) -> Any:
    return compile(source, f"<{what}>", "exec")


def run(case: Case, written: Script, home: Any, tell: Callable[[str], None], widen: bool = False) -> Outcome:
    """home: where LSTM and LSTMCell come from. tell: hears of each stage before it begins."""
    found = Outcome()
    variables: dict[str, Any] = {
        "torch": torch,
        "fastlstm": fastlstm,
        "PackedSequence": PackedSequence,
        "pack_padded_sequence": pack_padded_sequence,
        "LSTM": home.LSTM,
        "LSTMCell": home.LSTMCell,
        "by_reference": partial(expected.by_reference, case),
        **_DEFINED,
    }
    found.variables = variables
    try:
        tell("make")
        exec(_compiled(written.make, "make"), variables)
        if widen:
            _widen(variables, written.make)
        before = {} if home is nn else _copies(variables)
        found.stage = "call"
        tell("call")
        exec(_compiled(written.call, "call"), variables)
        expected.finish(case, variables, theirs=home is nn)
        found.changed = _changed(before, variables)
        _results(case, found)
        if written.backward:
            found.stage = "backward"
            tell("backward")
            exec(_compiled(written.backward, "backward"), variables)
            found.changed = found.changed or _changed(before, variables)
            _gradients(found)
        found.stage = "done"
    except Exception as error:
        found.error = error
    finally:
        if case.threads != 1:
            torch.set_num_threads(1)
    return found


def _widen(variables: dict[str, Any], make: str) -> None:
    """Everything in float64; what is made of other variables anew."""
    wide = torch.complex128 if next(variables["layer"].parameters()).is_complex() else torch.float64
    variables["layer"].to(wide)
    derived = [line for line in make.splitlines() if _DERIVED.match(line)]
    for name in _INPUTS:
        t = variables.get(name)
        if isinstance(t, Tensor) and not t.is_nested and (t.is_floating_point() or t.is_complex()):
            variables[name] = t.detach().to(wide).requires_grad_(t.requires_grad)
    for line in derived:
        exec(_compiled(line, "widen"), variables)


def _dense(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_nested
        and not value.is_quantized
        and value.device.type == "cpu"
        and (value.untyped_storage().nbytes() > 0 or value._is_zerotensor())
    )


def _copies(variables: dict[str, Any]) -> dict[str, Tensor]:
    given = {name: variables[name] for name in _INPUTS if _dense(variables.get(name))}
    with contextlib.suppress(Exception):
        given |= {name: w for name, w in variables["layer"].named_parameters() if _dense(w)}
    return {name: t.detach().clone() for name, t in given.items()}


def _changed(before: dict[str, Tensor], variables: dict[str, Any]) -> str:
    parameters = dict(variables["layer"].named_parameters()) if before else {}
    for name, was in before.items():
        now = variables[name] if name in variables else parameters.get(name)
        if now is not None and not _same(was, now.detach()):
            return name
    return ""


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def _results(case: Case, found: Outcome) -> None:
    variables = found.variables
    result = variables["result"]
    if case.layer == "LSTMCell":
        names = dict(zip(("h_n", "c_n"), result, strict=True))
    else:
        output, (h_n, c_n) = result
        if isinstance(output, PackedSequence):
            found.facts["packing"] = output[1:]
            output = output.data
        elif output.is_nested:
            found.facts["offsets"] = output.offsets()
            output = output.values()
        names = {"output": output, "h_n": h_n, "c_n": c_n}
    variables |= names
    for name, t in names.items():
        found.facts[name] = (tuple(t.shape), t.dtype, t.device.type, t.requires_grad, t.is_inference())
        kept = t.detach()
        found.entries[name] = kept.resolve_neg().clone() if t.device.type == "cpu" else None


def _gradients(found: Outcome) -> None:
    variables = found.variables
    for name in _INPUTS:
        t = variables.get(name)
        if isinstance(t, Tensor) and t.is_leaf and t.requires_grad:
            found.entries[f"d{name}"] = t.grad
    for name, w in variables["layer"].named_parameters():
        found.entries[f"d{name}"] = w.grad


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
    off = [name for name in ours.entries if not _close(case, name, ours.entries[name], theirs.entries[name])]
    if not off:
        return None
    if all(ours.entries[name] is not None and theirs.entries[name] is not None for name in off):
        off = _against_wide(case, ours, theirs, off)
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


@lru_cache
def _tolerance(dtype: torch.dtype, quantity: str) -> float:
    return TOLERANCE.get((dtype, quantity), 0.0)


def _error(name: str, a: Tensor, b: Tensor, dtype: torch.dtype) -> float:
    """Of a, in tolerances; infinite where one has a NaN or an infinity that the other has not."""
    if a.shape != b.shape:
        return math.inf
    if a.numel() == 0:
        return 0.0
    wide = torch.complex128 if b.is_complex() else torch.float64
    a, b = a.detach().to(wide), b.detach().to(wide)
    strange = ~torch.isfinite(b)
    if strange.any() or not torch.isfinite(a).all():
        if not _same(torch.isnan(a), torch.isnan(b)) or not _same(a[strange], b[strange]):
            return math.inf
        a, b = a.masked_fill(strange, 0), b.masked_fill(strange, 0)
        if not torch.isfinite(a).all():
            return math.inf
    error, size = a - b, b
    if name in VALUES:
        return float((error.abs() / size.abs().clamp(min=1)).max()) / _tolerance(dtype, "value")
    floor = SMALLEST_ELEMENT * b.numel() ** 0.5 if bool(b.any()) else 1.0
    return float(error.norm()) / max(float(size.norm()), floor) / _tolerance(dtype, "gradient")


def _close(case: Case, name: str, ours: Tensor | None, theirs: Tensor | None) -> bool:
    if ours is None or theirs is None:  # of a row without a step the reference takes no gradient
        zeros = case.form in ("lengths", "nested") and name not in VALUES and ours is not None and not ours.any()
        return ours is theirs or zeros
    if ours.layout is not torch.strided or ours.device.type != "cpu":
        return ours.shape == theirs.shape
    dtype = ours.dtype
    return dtype == theirs.dtype and _error(name, ours, theirs, dtype) <= 1


def _against_wide(case: Case, ours: Outcome, theirs: Outcome, names: list[str]) -> list[str]:
    """Those of these that are further from float64 than the tolerance and than ten times theirs: where slopes multiply what is
    rounded (large weights, poles of a complex tanh), two results of one exactness are off by this much by chance, one in 5,000.
    """
    wide = run(case, widened(case), nn, lambda stage: None, widen=True)
    if wide.error is not None:
        return names
    off = []
    for name in names:
        mine, other, exact = ours.entries[name], theirs.entries[name], wide.entries.get(name)
        if mine is None or other is None or exact is None:
            off.append(name)
            continue
        dtype = mine.dtype
        limit = max(1.0, 10 * _error(name, other, exact, dtype))
        if math.isinf(limit) or _error(name, mine, exact, dtype) > limit:
            off.append(name)
    return off
