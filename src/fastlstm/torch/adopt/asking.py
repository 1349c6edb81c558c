"""Who asks for a layer's type: methods of the modules around it with `isinstance(..., nn.LSTM)` or `type(...) is nn.LSTM`.

What it can see of it: functions that are given a module, and dicts by type, ask elsewhere.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import nn


def who_asks(model: nn.Module, changed: dict[str, type[nn.Module]]) -> dict[str, str]:
    """For each layer, by name, that some module around it asks for its type: the nearest one's class and methods.

    changed: the layers' names, and the type that they had.
    """
    known: dict[tuple[type, type], str] = {}
    found = {}
    for name, kind in changed.items():
        for around in _around(model, name):
            if (around, kind) not in known:
                known[around, kind] = ", ".join(_methods_that_ask(around, kind))
            if known[around, kind]:
                found[name] = known[around, kind]
                break
    return found


def _around(model: nn.Module, name: str) -> Iterator[type[nn.Module]]:
    """The classes of the modules that hold this one, from the nearest to the model."""
    while name:
        name = name.rpartition(".")[0]
        yield type(model.get_submodule(name))


def _methods_that_ask(kind: type, layer: type[nn.Module]) -> Iterator[str]:
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] not in ("torch", "builtins"):
            for name, member in vars(base).items():
                function = inspect.unwrap(getattr(member, "__func__", None) or getattr(member, "fget", None) or member)
                if isinstance(function, FunctionType) and _asks(function, layer):
                    yield f"{base.__name__}.{name}"


def _asks(function: FunctionType, layer: type[nn.Module]) -> bool:
    if not _names(function.__code__, layer.__name__):  # most don't, and to read a source takes a millisecond
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # no source, or not one that stands alone
        return False
    return any(
        _value(node, function.__globals__) is layer
        for asked in ast.walk(tree)
        for part in _compared(asked)
        for node in ast.walk(part)
    )


def _names(code: CodeType, name: str) -> bool:
    return name in code.co_names or any(_names(c, name) for c in code.co_consts if isinstance(c, CodeType))


def _compared(node: ast.AST) -> list[ast.expr]:
    """What an expression asks a type to be."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
        return node.args[1:]
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(
            (isinstance(side, ast.Call) and isinstance(side.func, ast.Name) and side.func.id == "type")
            or (isinstance(side, ast.Attribute) and side.attr == "__class__")
            for side in sides
        ):
            return sides
    return []


def _value(node: ast.AST, names: dict[str, Any]) -> Any:
    """What a dotted name stands for; None: it is not one, or not known."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        of = _value(node.value, names)
        return getattr(of, node.attr, None) if isinstance(of, ModuleType) else None
    return None
