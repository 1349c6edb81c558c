"""A case, run on one of the two layers, and what came of it."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastlstm
from tests.conftest import states_of
from tests.fuzz import expected
from tests.fuzz.case import Case
from tests.fuzz.source import DEFINITIONS, Script

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


def _compiled(source: str, what: str) -> Any:
    return compile(source, f"<{what}>", "exec")


def run(
    case: Case,
    written: Script,
    home: Any,
    tell: Callable[[str], None] = lambda stage: None,
    change: Callable[[dict[str, Any], str], None] | None = None,
) -> Outcome:
    """home: where the layers come from. tell: hears of each stage before it begins. change: of the variables, before the
    call; it is given the source that made them, too.
    """
    found = Outcome()
    variables: dict[str, Any] = {
        "torch": torch,
        "fastlstm": fastlstm,
        "PackedSequence": PackedSequence,
        "pack_padded_sequence": pack_padded_sequence,
        **{name: getattr(home, name) for name in ("LSTM", "LSTMCell", "GRU", "GRUCell")},
        "by_reference": partial(expected.by_reference, case),
        **_DEFINED,
    }
    found.variables = variables
    try:
        tell("make")
        exec(_compiled(written.make, "make"), variables)
        if change is not None:
            change(variables, written.make)
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


def widen(variables: dict[str, Any], make: str, rounding: torch.Generator | None = None) -> None:
    """Everything in float64; what is made of other variables anew. rounding: moves every number by up to half a last digit of
    what it was, of float32 where that has 16 bits.
    """
    layer = variables["layer"]
    dtype = next(layer.parameters()).dtype
    wide = torch.complex128 if dtype.is_complex else torch.float64
    digit = min(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)

    def widened(t: Tensor) -> Tensor:
        t = t.detach().to(wide)
        if rounding is not None:
            t = t * (1 + digit * (torch.rand(t.shape, dtype=torch.float64, generator=rounding) - 0.5))
        return t

    layer.to(wide)
    for w in layer.parameters():
        w.data = widened(w)
    derived = [line for line in make.splitlines() if _DERIVED.match(line)]
    for name in _INPUTS:
        t = variables.get(name)
        if isinstance(t, Tensor) and not t.is_nested and (t.is_floating_point() or t.is_complex()):
            variables[name] = widened(t).requires_grad_(t.requires_grad)
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
        if now is not None and not same(was, now.detach()):
            return name
    return ""


def same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())


def _results(case: Case, found: Outcome) -> None:
    variables = found.variables
    result = variables["result"]
    if case.is_step:
        names = dict(zip(case.results, states_of(result), strict=True))
    else:
        output, last = result
        if isinstance(output, PackedSequence):
            found.facts["packing"] = output[1:]
            output = output.data
        elif output.is_nested:
            found.facts["offsets"] = output.offsets()
            output = output.values()
        names = dict(zip(case.results, (output, *states_of(last)), strict=True))
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
