"""`convert(model)`: its nn.LSTM modules become fastlstm.LSTM where they stand; `revert(model)`: and back.

A module changes its class and stays the object it is. So its parameters (an optimizer has them), hooks, mode, device, and
whoever else holds the module or its weights are as before.
"""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastlstm.torch.lstm import LSTM
from fastlstm.weights import cell_shapes

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
    report = Report()
    for name, module in _modules(model):
        if type(module) is nn.LSTM:
            why = _not_convertible(module)
            if why is None:
                _to_ours(module)
                report.changed.append(name)
            else:
                report.left[name] = why
        elif isinstance(module, nn.LSTM):
            report.left[name] = _why_a_subclass(module)
        elif isinstance(module, torch.jit.ScriptModule) and module.original_name == "LSTM":
            report.left[name] = "TorchScript runs its own copy of nn.LSTM: enable() reaches it"
    return report


def revert(model: nn.Module) -> Report:
    """Makes every fastlstm.LSTM in the model, itself too, an nn.LSTM: same Parameter objects, hooks, mode and names.

    Subclasses are left alone, and reported. TypeError: model is not a module.
    """
    report = Report()
    for name, module in _modules(model):
        if type(module) is LSTM:
            why = _not_convertible(module)
            if why is None:
                _to_theirs(module)
                report.changed.append(name)
            else:
                report.left[name] = why
        elif isinstance(module, LSTM):
            report.left[name] = _why_a_subclass(module)
    return report


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    return list(model.named_modules())


def _why_a_subclass(module: nn.Module) -> str:
    if parametrize.is_parametrized(module):
        return "parametrized"
    return f"a subclass, {type(module).__name__}, whose forward may be its own"


def _not_convertible(module: nn.LSTM | LSTM) -> str | None:
    if "forward" in vars(module):
        return "its forward was replaced"
    if any(module._parameters.get(name) is None for name in _names(module)):
        return "its weights are not parameters (weight_norm, prune, or another of their kind computes them)"
    return None


def _names(module: nn.LSTM | LSTM) -> list[str]:
    return [name for names in _all_names(module) for name in names]


def _all_names(module: nn.LSTM | LSTM) -> list[list[str]]:
    """The names of the parameters, a list a layer and direction, as nn.LSTM keeps them."""
    sizes, _ = LSTM._named_shapes(module)  # type: ignore[arg-type]  # it reads the arguments, which both have
    suffixes = [f"_l{layer}{suffix}" for layer in range(sizes.layers) for suffix in ("", "_reverse")[: sizes.D]]
    return [[name + suffix for name in cell_shapes(sizes)] for suffix in suffixes]


def _to_ours(module: nn.LSTM) -> None:
    for name in _FLAT:
        vars(module).pop(name, None)
    module.__class__ = LSTM  # type: ignore[assignment]
    sizes, shapes = LSTM._named_shapes(module)  # type: ignore[arg-type]
    vars(module).update(_sizes=sizes, _names=tuple(shapes))


def _to_theirs(module: LSTM) -> None:
    names = _all_names(module)
    for name in ("_sizes", "_names"):
        vars(module).pop(name, None)
    module.__class__ = nn.LSTM  # type: ignore[assignment]
    vars(module).update(_all_weights=names, _flat_weights_names=[name for cell in names for name in cell])
    module._init_flat_weights()  # type: ignore[operator]
