"""The native engine with something around it, to stand in the place of a module's `_engine`. Every call is passed on."""

import ast
import threading
from pathlib import Path
from typing import Any

from fastlstm import _engine

_STUB = ast.parse(Path(_engine.__file__).with_name("_engine.pyi").read_text())
_PARAMETERS = {f.name: [p.arg for p in f.args.args] for f in _STUB.body if isinstance(f, ast.FunctionDef)}


def _named(function: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names that the engine's stub has for them, wherever they stand."""
    return dict(zip(_PARAMETERS[function], arguments, strict=False)) | keywords


WITHOUT_TABLE = """
import torch
if hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
    del torch.Tensor.__dlpack_c_exchange_api__
"""
"""The start of a script whose torch has no DLPack exchange table, as before PyTorch 2.10."""


class CountingEngine:
    """`counted` gets the thread's number each time the engine runs."""

    def __init__(self, counted: list[int]) -> None:
        self._counted = counted

    def __getattr__(self, name: str) -> object:
        found = getattr(_engine, name)
        if name not in ("forward", "trace"):
            return found

        def run(*arguments: object, **keywords: object) -> object:
            results = found(*arguments, **keywords)
            if results is not None:  # None: it leaves the call alone
                self._counted.append(threading.get_ident())
            return results

        return run


class WillingEngine:
    """Every call takes the threads it asks for."""

    def __getattr__(self, name: str) -> object:
        found = getattr(_engine, name)
        if name not in ("forward", "backward", "trace"):
            return found

        def run(*arguments: object, **keywords: object) -> object:
            _engine.let_teams_run()
            return found(*arguments, **keywords)

        return run


class Spy:
    """A list of what the engine was asked for: whether to keep, and which gradients it gets and is to compute.

    takes_tensors: else it refuses every other call, as it does where a tensor does not lie in order.
    """

    def __init__(self, *, takes_tensors: bool) -> None:
        self.kept: list[bool] = []
        self.cotangents: list[list[bool]] = []  # of output, h_n, c_n: which are there
        self.asked: list[list[bool]] = []  # of x, h_0, c_0, the weights in torch's order
        self.again: list[str] = []  # the calls that came again, with all in order
        self.takes_tensors = takes_tensors
        self._refused: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(_engine, name)

    def _refuses(self, name: str) -> bool:
        if self.takes_tensors:
            return False
        if name in self._refused:
            self._refused.remove(name)
            self.again.append(name)
            return False
        self._refused.add(name)
        return True

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        if self._refuses("forward"):
            return None
        self.kept.append(_named("forward", arguments, keywords).get("keep", False) is not False)
        return _engine.forward(*arguments, **keywords)

    def backward(self, *arguments: Any, **keywords: Any) -> Any:
        if self._refuses("backward"):
            return None
        found = _engine.backward(*arguments, **keywords)
        if found is not None:
            call = _named("backward", arguments, keywords)
            self.cotangents.append([d is not None for d in call["gradients"]])
            self.asked.append(list(call["wanted"]))
        return found
