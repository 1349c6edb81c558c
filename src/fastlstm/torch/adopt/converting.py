"""`convert(model)`: its nn.LSTM and nn.GRU, nn.LSTMCell and nn.GRUCell run on the engine, where they stand; `revert(model)`:
and back.

A module changes its class, or with keep_type gets a mark, and stays the object it is. So its parameters (an optimizer has
them), hooks, mode, device, and whoever else holds the module or its weights are as before.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastlstm.torch.adopt import internals
from fastlstm.torch.adopt.asking import who_asks
from fastlstm.torch.adopt.keeping import MARK, heed_marks
from fastlstm.torch.cell import LSTMCell
from fastlstm.torch.gru import GRU, GRUCell
from fastlstm.torch.layer import Layer
from fastlstm.torch.lstm import LSTM
from fastlstm.torch.parameters import DERIVED, Recurrent
from fastlstm.weights import named_shapes

_OURS: dict[type[nn.Module], type[Recurrent]] = {
    nn.LSTM: LSTM,
    nn.LSTMCell: LSTMCell,
    nn.GRU: GRU,
    nn.GRUCell: GRUCell,
}
_THEIRS: dict[type[nn.Module], type[nn.Module]] = {ours: theirs for theirs, ours in _OURS.items()}


@dataclass(frozen=True)
class Report:
    """What `convert` or `revert` did: the names of the modules it changed, and of those it left alone, with the reason.

    asked: of those it changed, the ones whose type some module around them asks for, and in which methods.
    """

    changed: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [_named(name) + ": changed" + self._but(name) for name in self.changed]
        lines += [f"{_named(name)}: left alone, {why}" for name, why in self.left.items()]
        return "\n".join(lines) or "nothing to change"

    def _but(self, name: str) -> str:
        if name not in self.asked:
            return ""
        return f"; {self.asked[name]} asked for its type, which keep_type=True leaves as it is"


def _named(name: str) -> str:
    return name or "(the model itself)"


def convert(model: nn.Module, *, keep_type: bool = False) -> Report:
    """Makes every nn.LSTM, nn.LSTMCell, nn.GRU and nn.GRUCell in the model, itself too, one of fastlstm: same Parameter
    objects, hooks, mode and names.

    keep_type: they stay what they are to all who look, and their calls alone go to the engine. For code that asks for the
    type, to initialize, replace or quantize by it, and for subclasses and parametrized modules.

    Left alone, and reported: TorchScript and modules whose forward was replaced; without keep_type also subclasses,
    parametrized modules, and weights that are not parameters. TypeError: model is not a module.
    """
    if keep_type:
        heed_marks()
        report = _each(model, (*_OURS, *_OURS.values()), _mark)
    else:
        report = _each(model, tuple(_OURS), _to_ours)
        layers = {name: _THEIRS[type(model.get_submodule(name))] for name in report.changed}
        report.asked.update(who_asks(model, layers))
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and module.original_name in {kind.__name__ for kind in _OURS}:
            report.left[name] = f"TorchScript runs its own copy of nn.{module.original_name}: enable() reaches it"
    return report


def revert(model: nn.Module) -> Report:
    """Makes every layer and cell of fastlstm in the model, itself too, torch's own, and what kept its type runs on torch's
    kernels again: same Parameter objects, hooks, mode and names.

    Left alone, and reported: as `convert` does. TypeError: model is not a module.
    """
    return _each(model, (*_OURS, *_OURS.values()), _to_theirs)


def _each(model: nn.Module, kinds: tuple[type[nn.Module], ...], change: Callable[[Any], str | bool]) -> Report:
    """What `change` says of a module of one of these kinds: whether it changed it, or why it couldn't."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    report = Report()
    for name, module in list(model.named_modules()):
        if isinstance(module, kinds):
            said = change(module)
            if said is True:
                report.changed.append(name)
            elif said:
                report.left[name] = said
    return report


def _mark(module: Any) -> str | bool:
    if isinstance(module, tuple(_OURS.values())):
        return f"a fastlstm.{type(module).__name__} already: revert(model) first"
    if "forward" in vars(module):
        return "its forward was replaced"
    new = MARK not in vars(module)
    vars(module)[MARK] = True
    return new


def _why_not(module: Any, kind: type[nn.Module]) -> str | None:
    """Why its class can't be changed."""
    if type(module) is not kind:
        if parametrize.is_parametrized(module):
            return "parametrized"
        return f"a subclass, {type(module).__name__}, whose forward may be its own"
    if "forward" in vars(module):
        return "its forward was replaced"
    # It reads the arguments, which both kinds have.
    shapes = named_shapes(_OURS.get(kind, kind)._sizes_of_attributes(module))
    if any(module._parameters.get(name) is None for name in shapes):
        return "its weights are not parameters (weight_norm, prune, or another of their kind computes them)"
    return None


def _kind(module: Any, kinds: Iterable[type[nn.Module]]) -> Any:
    """Which of these it is, or a subclass of."""
    return next(kind for kind in kinds if isinstance(module, kind))


def _to_ours(module: Any) -> str | bool:
    theirs = _kind(module, _OURS)
    why = _why_not(module, theirs)
    if why is not None:
        return why
    for name in (*internals.FLAT, MARK):
        vars(module).pop(name, None)
    module.__class__ = _OURS[theirs]
    module._look_up()
    return True


def _to_theirs(module: Any) -> str | bool:
    if isinstance(module, tuple(_OURS)):
        return bool(vars(module).pop(MARK, False))
    ours = _kind(module, _THEIRS)
    theirs = _THEIRS[ours]
    why = _why_not(module, ours)
    if why is not None:
        return why
    is_layer = isinstance(module, Layer)
    chains = internals.names_by_chain(module) if is_layer else []
    for name in DERIVED:
        vars(module).pop(name, None)
    module.__class__ = theirs
    if is_layer:
        internals.restore_flat_weights(module, chains)
    return True
