"""`convert(model, keep_type=True)`: an nn.LSTM, nn.GRU or a cell of theirs that stays one to all who look, and whose calls run
on the engine.

Such a module has a mark among its own attributes, a plain bool: copies, replicas and pickles have it, too, and where nobody
knows of it it means nothing. `forward` of these classes tells by it: for a module with the mark it is the class's very own
forward, but that the operators it calls are ours, wherever the engine takes the call. Nothing is switched on and off around
a call: threads, exceptions and calls within calls have nothing to leave behind.
"""

from collections.abc import Callable
from functools import partial, update_wrapper
from operator import is_
from threading import Lock
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fastlstm import _engine
from fastlstm.cells import CELLS, GRU, LSTM, Cell
from fastlstm.torch import context
from fastlstm.torch.adopt import internals
from fastlstm.torch.adopt.enabling import data_on_engine, input_on_engine, step_on_engine
from fastlstm.weights import Sizes, named_shapes

MARK = "_on_fastlstm"
_TYPES = (int, int, int, int, bool, bool, bool)  # of the arguments an nn.LSTM is made of
_known: dict[tuple[Any, ...], tuple[Sizes, tuple[str, ...]]] = {}
_lock = Lock()


class _Operators(ModuleType):
    """By which torch.nn calls torch's operators: what is not ours is torch's. TorchScript looks into modules alone."""

    def __getattr__(self, name: str) -> Any:
        return getattr(internals.VF, name)


def _layer(cell: Cell, x: Any, *arguments: Any) -> Any:
    results = None
    # (batch_sizes, hx, params, ..) of a packed call, else (hx, params, ..); an LSTM's hx is a list.
    if isinstance(arguments[2 - len(cell.states)], Tensor):
        if _sound(cell, x, *arguments[1:3]) and _declared(*arguments[3:]):
            results = data_on_engine(cell, x, *arguments)
    elif _sound(cell, x, *arguments[:2]) and _declared(*arguments[2:]):
        results = input_on_engine(cell, x, *arguments)
    return getattr(internals.VF, cell.name.lower())(x, *arguments) if results is None else results


def _step(cell: Cell, x: Any, hx: Any, *params: Any) -> Any:
    results = None
    if _sound(cell, x, hx, [t for t in params if t is not None]):
        results = step_on_engine(cell, x, hx, *params)
    return getattr(internals.VF, f"{cell.name.lower()}_cell")(x, hx, *params) if results is None else results


def _sound(cell: Cell, x: Any, hx: Any, params: Any) -> bool:
    """Whether these are what an operator has made sure of before its kernel sees them."""
    states = (hx,) if len(cell.states) == 1 else hx
    return (
        context.only_devices()  # else whoever watches torch's functions is to see them
        and isinstance(x, Tensor)
        and isinstance(states, (tuple, list))
        and isinstance(params, list)
        and all(isinstance(t, Tensor) for t in (*states, *params))
    )


def _declared(bias: Any, num_layers: Any, dropout: Any, *flags: Any) -> bool:
    """Whether these have the types that the operator declares; to it no int is a bool."""
    return (
        type(num_layers) is int and type(dropout) in (float, int) and all(type(flag) is bool for flag in (bias, *flags))
    )


def _infer(cell: Cell, m: Any, input: Any, hx: Any) -> Any:
    """nn.LSTM's call without gradients, checked, allocated and run by the engine at once; None: forward is to run."""
    if torch.is_grad_enabled() or type(m) is not getattr(nn, cell.name) or not context.is_unseen():
        return None
    key = (m.input_size, m.hidden_size, m.proj_size, m.num_layers, m.bidirectional, m.bias, m.batch_first)
    if tuple(map(type, key)) != _TYPES or type(m.dropout) is not float or type(m.training) is not bool:
        return None
    if (m.training and m.dropout) or context.is_profiled():
        return None
    if (cell, key) not in _known:
        sizes = Sizes(*key[:4], 2 if m.bidirectional else 1, m.bias, cell=cell)
        _known[cell, key] = sizes, tuple(named_shapes(sizes))
    sizes, names = _known[cell, key]
    own, flat = m._parameters, internals.flat_weights(m)  # nn.LSTM reads these: the same, unless somebody meddles
    if len(flat) != len(names) or not all(map(is_, map(own.get, names), flat)):
        return None
    return _engine.forward(sizes.layer, own, input, hx, torch.get_num_threads(), m.batch_first)


def _infer_step(cell: Cell, m: Any, input: Any, hx: Any) -> Any:
    """The same of nn.LSTMCell's."""
    if torch.is_grad_enabled() or type(m) is not getattr(nn, f"{cell.name}Cell") or not context.is_unseen():
        return None
    key = (m.input_size, m.hidden_size, m.bias)
    if tuple(map(type, key)) != (int, int, bool) or context.is_profiled():
        return None
    if (cell, key) not in _known:
        sizes = Sizes(m.input_size, m.hidden_size, bias=m.bias, is_cell=True, cell=cell)
        _known[cell, key] = sizes, tuple(named_shapes(sizes))
    sizes, _ = _known[cell, key]
    done = _engine.forward(sizes.layer, m._parameters, input, hx, torch.get_num_threads())
    return None if done is None else done[1]


_operators = _Operators("_VF")


# Functions without a closure: Dynamo would look for it in the operator of torch's that has the name.
def _lstm(x: Any, *arguments: Any) -> Any:
    return _layer(LSTM, x, *arguments)


def _lstm_cell(x: Any, hx: Any, *params: Any) -> Any:
    return _step(LSTM, x, hx, *params)


def _gru(x: Any, *arguments: Any) -> Any:
    return _layer(GRU, x, *arguments)


def _gru_cell(x: Any, hx: Any, *params: Any) -> Any:
    return _step(GRU, x, hx, *params)


for _ours in (_lstm, _lstm_cell, _gru, _gru_cell):
    _name = _ours.__name__.removeprefix("_")
    setattr(_operators, _name, _ours)
    internals.register_builtin(_ours, f"aten::{_name}")  # what TorchScript compiles a call of it to


class _Forward:
    """In the place of a class's `forward`: what it was, but to modules with the mark."""

    def __init__(self, own: FunctionType, infer: Callable[[Any, Any, Any], Any]) -> None:
        self.own = own
        names = {**own.__globals__, "_VF": _operators}
        # Another code object: torch.compile keeps what it made of a function with its code.
        run = FunctionType(own.__code__.replace(), names, own.__name__, own.__defaults__, own.__closure__)

        mark = MARK

        def forward(self: Any, input: Any, hx: Any = None) -> Any:
            if mark not in self.__dict__:  # `revert` came after somebody took hold of this method
                return own(self, input, hx)
            results = infer(self, input, hx)
            return run(self, input, hx) if results is None else results

        # torch.jit.script reads the source of __wrapped__, and resolves its names in these: so it compiles nn.LSTM's own.
        self.on_engine = FunctionType(forward.__code__, names, own.__name__, forward.__defaults__, forward.__closure__)
        update_wrapper(self.on_engine, own)
        context.hide_from_dynamo(self.on_engine.__code__)

    def __get__(self, module: nn.Module | None, kind: type[nn.Module]) -> Any:
        if module is None:
            return self.own
        return (self.on_engine if MARK in module.__dict__ else self.own).__get__(module, kind)


def heed_marks() -> None:
    """From now on, and for good: calls of other threads may stand in it."""
    with _lock:
        for cell in CELLS:
            for name, infer in ((cell.name, _infer), (f"{cell.name}Cell", _infer_step)):
                kind = getattr(nn, name)
                own = vars(kind)["forward"]
                if isinstance(own, FunctionType) and "_VF" in own.__code__.co_names:
                    kind.forward = _Forward(own, partial(infer, cell))
