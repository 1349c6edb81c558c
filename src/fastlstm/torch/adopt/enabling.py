"""`enable()`: every nn.LSTM and nn.GRU, nn.LSTMCell and nn.GRUCell of the process runs on the engine, without a change to
anybody's code.

Those of a kind end in three operators of torch, from Python and from TorchScript alike. Kernels of ours stand in for them on the
CPU, under the tensors' autograd; what the engine can't take, and everything while it is off, goes on to torch's own.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastlstm import _engine
from fastlstm.cells import CELLS, LSTM, Cell
from fastlstm.torch import context
from fastlstm.torch.adopt import internals
from fastlstm.torch.arguments import INTEGERS
from fastlstm.torch.batch import Dense, Packed, last_of, results_of
from fastlstm.torch.runners import native
from fastlstm.torch.wrap import tracing
from fastlstm.weights import Sizes, count_arrays


class _State:
    """scopes: what each holds, on or off; the process first, then the `enabled()` blocks that are open. The last decides."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.library: torch.library.Library | None = None
        self.scopes = [[False]]
        self.active = False  # read at every call

    def settle(self) -> None:
        """With the lock held."""
        if self.scopes[-1][0] and self.library is None:
            # For good: to take a kernel away while another thread is in it would free it under that thread's feet.
            library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
            for op, run, cell in _operators():
                kernel = partial(_kernel, op, run, cell)
                library.impl(op, kernel, internals.AUTOGRAD.name)  # type: ignore[no-untyped-call]
                library.impl(op, kernel, internals.BELOW.name)  # type: ignore[no-untyped-call]
                internals.hide_kernels(op)
            self.library = library
        self.active = tracing.for_torch = self.scopes[-1][0]


_state = _State()


def _in_a_child() -> None:
    """A forked child has its parent's state, but not the thread that may have held the lock."""
    _state.lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_a_child)


def enable() -> None:
    """From now on nn.LSTM and nn.GRU, nn.LSTMCell and nn.GRUCell run on the engine, whoever made them and whenever; again:
    nothing changes.

    For the whole process; inside an `enabled()` block until that ends.
    """
    _switch(True)


def disable() -> None:
    """From now on they run on torch's own kernels, to the bit; inside an `enabled()` block until that ends."""
    _switch(False)


def _switch(on: bool) -> None:
    with _state.lock:
        _state.scopes[-1][0] = on
        _state.settle()


def is_on() -> bool:
    """Whether calls go to the engine now."""
    return _state.active


@contextmanager
def enabled() -> Iterator[None]:
    """Within this block, in every thread, they run on the engine; after it as before, whatever was said inside.

    Blocks nest. Those of several threads may overlap: on until the last one ends.
    """
    scope = [True]
    with _state.lock:
        _state.scopes.append(scope)
        _state.settle()
    try:
        yield
    finally:
        with _state.lock:  # by identity: another thread's may be equal
            _state.scopes = [other for other in _state.scopes if other is not scope]
            _state.settle()


def _kernel(op: Any, run: Callable[..., Any], cell: Cell, *arguments: Any) -> Any:
    results = run(cell, *arguments) if _state.active else None
    return internals.own_kernel(op, *arguments) if results is None else results


# Found once: 20 us each. No lru_cache: Dynamo, which meets the kernels as frames, warns about those.
_known: dict[tuple[int, int, int, int, int, bool, bool, Cell], Sizes] = {}


def _sizes_of(
    cell: Cell, params: Sequence[Tensor], bias: bool, layers: int, D: int, is_cell: bool = False
) -> Sizes | None:
    """None: these are not the parameters of such a layer."""
    for projected in (False, True) if cell is LSTM else (False,):
        if len(params) == layers * D * count_arrays(int(projected), bias) and params[0].dim() == params[1].dim() == 2:
            rows, I = params[0].shape
            key = (I, rows // len(cell.gates), params[1].shape[1] if projected else 0, layers, D, bias, is_cell, cell)
            if key not in _known:
                _known[key] = Sizes(*key)
            return _known[key]
    return None


def _states(cell: Cell, hx: Any) -> tuple[Tensor, ...]:
    """The operator's list, or its one tensor."""
    return tuple(hx) if len(cell.states) > 1 else (hx,)


def _fits(sizes: Sizes, features: int, N: int, hx: Sequence[Tensor]) -> bool:
    states = [(sizes.chains, N, width) for width in sizes.of_states]
    return features == sizes.I and N > 0 and [tuple(t.shape) for t in hx] == states


def input_on_engine(
    cell: Cell,
    x: Tensor,
    hx: Any,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """What `aten::lstm.input` returns, or another cell's; None: the engine can't take the call."""
    sizes, states = _sizes_of(cell, params, has_biases, num_layers, 2 if bidirectional else 1), _states(cell, hx)
    grad = torch.is_grad_enabled()
    if x.dim() != 3 or sizes is None or not context.is_plain():
        return None
    if not (grad or (train and dropout) or context.is_profiled()):
        done = _engine.forward(sizes.layer, params, x, last_of(states), torch.get_num_threads(), batch_first)
        if done is not None:
            return results_of(done)
    T, N = x.shape[1 if batch_first else 0], x.shape[0 if batch_first else 1]
    if T == 0 or not _fits(sizes, x.shape[2], N, states):
        return None
    batch = Dense(T, N, (sizes.chains, N), batch_first)
    rows = x.transpose(0, 1) if batch_first else x
    results = native.run_plain(sizes, batch, rows, states, list(params), dropout if train else 0.0)
    return None if results is None else (batch.place(results[0]), *results[1:])


def data_on_engine(
    cell: Cell,
    data: Tensor,
    batch_sizes: Tensor,
    hx: Any,
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> Any:
    """What `aten::lstm.data` returns, or another cell's; None: the engine can't take the call."""
    sizes, states = _sizes_of(cell, params, has_biases, num_layers, 2 if bidirectional else 1), _states(cell, hx)
    if data.dim() != 2 or batch_sizes.dim() != 1 or not batch_sizes.is_cpu or batch_sizes.dtype not in INTEGERS:
        return None
    if sizes is None or not context.is_plain():
        return None
    steps: list[int] = batch_sizes.tolist()
    falling = all(a >= b for a, b in zip(steps, [*steps[1:], 1], strict=True))
    if not (steps and falling and sum(steps) == data.shape[0] and _fits(sizes, data.shape[1], steps[0], states)):
        return None
    batch = Packed(len(steps), steps[0], (sizes.chains, steps[0]), batch_sizes)
    return native.run_plain(sizes, batch, data, states, list(params), dropout if train else 0.0)


def step_on_engine(
    cell: Cell, x: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Any:
    """What `aten::lstm_cell` returns, or another cell's; None: the engine can't take the call."""
    states = _states(cell, hx)
    if x.dim() != 2 or len(states) != len(cell.states) or (b_ih is None) != (b_hh is None):
        return None
    params = [t for t in (w_ih, w_hh, b_ih, b_hh) if t is not None]
    sizes, N, grad = _sizes_of(cell, params, b_ih is not None, 1, 1, is_cell=True), x.shape[0], torch.is_grad_enabled()
    if sizes is None or not context.is_plain():
        return None
    if not grad and not context.is_profiled():
        done = _engine.forward(sizes.layer, params, x, last_of(states), torch.get_num_threads())
        if done is not None:
            return done[1]
    if N == 0 or x.shape[1] != sizes.I or any(t.shape != (N, sizes.H) for t in states):
        return None
    results = native.run_plain(sizes, Dense(1, N, (N,)), x, states, params, 0.0)
    return None if results is None else last_of(results[1:])


def _operators() -> Iterator[tuple[Any, Callable[..., Any], Cell]]:
    for cell in CELLS:
        name = cell.name.lower()
        yield getattr(torch.ops.aten, name).input, input_on_engine, cell
        yield getattr(torch.ops.aten, name).data, data_on_engine, cell
        yield getattr(torch.ops.aten, f"{name}_cell").default, step_on_engine, cell
