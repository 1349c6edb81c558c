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


class CountingEngine:
    """`counted` gets the thread's number each time the engine runs."""

    def __init__(self, counted: list[int]) -> None:
        self._counted = counted

    def __getattr__(self, name: str) -> object:
        found = getattr(_engine, name)
        if name not in ("forward", "dense", "infer", "infer_cell"):
            return found

        def run(*arguments: object, **keywords: object) -> object:
            results = found(*arguments, **keywords)
            if results is not None or name == "forward":  # the others return None where they leave a call alone
                self._counted.append(threading.get_ident())
            return results

        return run


class WillingEngine:
    """Every call takes the threads it asks for."""

    def __getattr__(self, name: str) -> object:
        found = getattr(_engine, name)
        if name not in ("forward", "backward", "dense", "dense_backward", "infer"):
            return found

        def run(*arguments: object, **keywords: object) -> object:
            _engine.let_teams_run()
            return found(*arguments, **keywords)

        return run


class Spy:
    """A list of what the engine was asked for: where to save, and which gradients it gets and is to compute."""

    def __init__(self, *, takes_tensors: bool) -> None:
        self.saved: list[int] = []
        self.cotangents: list[list[bool]] = []  # of output, h_n, c_n: which are there
        self.asked: list[list[bool]] = []  # of x, h_0, c_0, the weights in the engine's or torch's order
        self.by_address: list[str] = []  # the calls without tensors
        self.takes_tensors = takes_tensors
        self.Problem, self.Workspace, self.empty = _engine.Problem, _engine.Workspace, _engine.empty

    def dense(self, *arguments: Any, **keywords: Any) -> Any:
        if not self.takes_tensors:
            return None
        self.saved.append(_named("dense", arguments, keywords)["saved"])
        return _engine.dense(*arguments, **keywords)

    def forward(self, *arguments: Any, **keywords: Any) -> None:
        self.saved.append(_named("forward", arguments, keywords)["saved"])
        self.by_address.append("forward")
        _engine.forward(*arguments, **keywords)

    def dense_backward(self, *arguments: Any, **keywords: Any) -> Any:
        if not self.takes_tensors:
            return None
        call = _named("dense_backward", arguments, keywords)
        self.cotangents.append([d is not None for d in call["gradients"]])
        self.asked.append(list(call["wanted"]))
        return _engine.dense_backward(*arguments, **keywords)

    def backward(self, *arguments: Any, **keywords: Any) -> None:
        call = _named("backward", arguments, keywords)
        self.by_address.append("backward")
        self.cotangents.append([bool(call[name]) for name in ("doutput", "dh_n", "dc_n")])
        self.asked.append([bool(d) for d in (call["dx"], call["dh_0"], call["dc_0"], *call["dweights"])])
        _engine.backward(*arguments, **keywords)
