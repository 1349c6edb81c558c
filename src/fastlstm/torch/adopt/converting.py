"""`convert(model)`: its nn.LSTM modules become fastlstm.LSTM where they stand; `revert(model)`: and back.

A module changes its class and stays the object it is. So its parameters (an optimizer has them), hooks, mode, device, and
whoever else holds the module or its weights are as before.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastlstm.torch.lstm import LSTM

# What nn.LSTM has beside its arguments: its own list of the weights, which it makes anew.
_FLAT = ("_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights")


@dataclass(frozen=True)
class Report:
    """What `convert` or `revert` did: the names of the modules it changed, and of those it left alone, with the reason."""

    changed: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name or '(the model itself)'}: changed" for name in self.changed]
        lines += [f"{name or '(the model itself)'}: left alone, {why}" for name, why in self.left.items()]
        return "\n".join(lines) or "nothing to change"


def convert(model: nn.Module) -> Report:
    """Makes every nn.LSTM in the model, itself too, a fastlstm.LSTM: same Parameter objects, hooks, mode and names.

    Left alone, and reported: subclasses of nn.LSTM, parametrized modules, TorchScript, and weights that are not parameters.
    TypeError: model is not a module.
    """
    report = _exchange(model, nn.LSTM, _to_ours)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and module.original_name == "LSTM":
            report.left[name] = "TorchScript runs its own copy of nn.LSTM: enable() reaches it"
    return report


def revert(model: nn.Module) -> Report:
    """Makes every fastlstm.LSTM in the model, itself too, an nn.LSTM: same Parameter objects, hooks, mode and names.

    Left alone, and reported: as `convert` does. TypeError: model is not a module.
    """
    return _exchange(model, LSTM, _to_theirs)


def _exchange(model: nn.Module, kind: type[nn.Module], change: Callable[[Any], None]) -> Report:
    """Changes the modules of exactly this kind."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    report = Report()
    for name, module in list(model.named_modules()):
        if not isinstance(module, kind):
            continue
        why = _not_convertible(module) if type(module) is kind else _why_a_subclass(module)
        if why is None:
            change(module)
            report.changed.append(name)
        else:
            report.left[name] = why
    return report


def _why_a_subclass(module: nn.Module) -> str:
    if parametrize.is_parametrized(module):
        return "parametrized"
    return f"a subclass, {type(module).__name__}, whose forward may be its own"


def _not_convertible(module: Any) -> str | None:
    if "forward" in vars(module):
        return "its forward was replaced"
    _, shapes = LSTM._named_shapes(module)  # it reads the arguments, which both kinds have
    if any(module._parameters.get(name) is None for name in shapes):
        return "its weights are not parameters (weight_norm, prune, or another of their kind computes them)"
    return None


def _to_ours(module: Any) -> None:
    for name in _FLAT:
        vars(module).pop(name, None)
    module.__class__ = LSTM
    module._look_up()


def _to_theirs(module: Any) -> None:
    sizes, shapes = LSTM._named_shapes(module)
    names = list(shapes)
    for name in ("_sizes", "_names"):
        vars(module).pop(name, None)
    module.__class__ = nn.LSTM
    cells = [names[k : k + sizes.arrays] for k in range(0, len(names), sizes.arrays)]
    vars(module).update(_all_weights=cells, _flat_weights_names=names)
    module._init_flat_weights()
