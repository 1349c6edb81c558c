"""`enable()`: every nn.LSTM and nn.LSTMCell of the process runs on the engine, without a change to anybody's code.

All of them end in three operators of torch, from Python and from TorchScript alike. Kernels of ours stand in for them on the
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
from fastlstm.torch import route
from fastlstm.torch.call import Call
from fastlstm.torch.functional import direct, lstm, plain
from fastlstm.weights import Sizes, cell_shapes, count_arrays, named_shapes

_INPUT, _DATA = torch.ops.aten.lstm.input, torch.ops.aten.lstm.data
_CELL = torch.ops.aten.lstm_cell.default
_OWN = torch._C.DispatchKey.CompositeImplicitAutograd  # what torch itself registers: the rest are its decompositions
# Where kernels of ours stand: all but inference_mode reaches the first. There the second stands above the CPU's own, where no
# kernel may be: what records a call asks for one there to know whether torch would have taken the operator apart.
_AUTOGRAD, _BELOW = torch._C.DispatchKey.AutogradCPU, torch._C.DispatchKey.BackendSelect


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
            for op, run in ((_INPUT, input_on_engine), (_DATA, data_on_engine), (_CELL, cell_on_engine)):
                kernel = partial(_kernel, op, run)
                library.impl(op, kernel, _AUTOGRAD.name)  # type: ignore[no-untyped-call]
                library.impl(op, kernel, _BELOW.name)  # type: ignore[no-untyped-call]
                _hide_kernels(op)
            self.library = library
        self.active = route.torch_traces = self.scopes[-1][0]


_state = _State()


def _in_a_child() -> None:
    """A forked child has its parent's state, but not the thread that may have held the lock."""
    _state.lock = threading.Lock()


os.register_at_fork(after_in_child=_in_a_child)


def enable() -> None:
    """From now on nn.LSTM and nn.LSTMCell run on the engine, whoever made them and whenever; again: nothing changes.

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


def _hide_kernels(op: torch._ops.OpOverload) -> None:
    """What records tensors without numbers (torch.compile, export, make_fx) resolves operators in Python, where torch has
    decompositions that take symbolic sizes, and where exporters put their own. It comes to them only where it sees no kernel.
    """
    has_kernel = op.has_kernel_for_dispatch_key

    def has_visible_kernel(key: torch._C.DispatchKey) -> bool:
        return key in op.py_kernels if key == _AUTOGRAD else has_kernel(key)

    def below(x: Tensor, *arguments: Any, **options: Any) -> Any:
        """What Python would have come to next: the kernel of the device."""
        key = torch._C._parse_dispatch_key(torch._C._dispatch_key_for_device(x.device.type))
        assert key is not None
        found = op._dispatch_cache.get(key) or op._get_dispatch(key)
        if isinstance(found, torch._C.DispatchKey):
            return op._op_dk(found, x, *arguments, **options)
        return found(x, *arguments, **options)

    op.has_kernel_for_dispatch_key = has_visible_kernel  # type: ignore[method-assign, assignment]
    op.py_impl(_BELOW)(below)


def _kernel(op: torch._ops.OpOverload, run: Callable[..., Any], *arguments: Any) -> Any:
    made = run(*arguments) if _state.active else None
    return op._op_dk(_OWN, *arguments) if made is None else made


# What a call looks up, made once: 20 us each. No lru_cache: Dynamo, which meets the kernels as frames, warns about those.
_known: dict[tuple[int, int, int, int, int, bool], Sizes] = {}
_names: dict[tuple[Sizes, bool], tuple[str, ...]] = {}


def _named(sizes: Sizes, params: Sequence[Tensor], cell: bool = False) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The names of the parameters, and the parameters by name: how `_engine.infer` wants them."""
    key = (sizes, cell)
    if key not in _names:
        _names[key] = tuple(cell_shapes(sizes) if cell else named_shapes(sizes))
    names = _names[key]
    return names, dict(zip(names, params, strict=True))


def _sizes_of(params: Sequence[Tensor], bias: bool, layers: int, D: int) -> Sizes | None:
    """None: these are not the parameters of such a layer."""
    cells = layers * D
    for projected in (False, True):
        if len(params) == cells * count_arrays(int(projected), bias) and params[0].dim() == params[1].dim() == 2:
            rows, I = params[0].shape
            key = (I, rows // 4, params[1].shape[1] if projected else 0, layers, D, bias)
            if key not in _known:
                _known[key] = Sizes(*key)
            return _known[key]
    return None


def _fits(sizes: Sizes, features: int, N: int, hx: Sequence[Tensor]) -> bool:
    cells = sizes.cells
    return (
        features == sizes.I
        and N > 0
        and len(hx) == 2
        and hx[0].shape == (cells, N, sizes.out)
        and hx[1].shape == (cells, N, sizes.H)
    )


def input_on_engine(
    x: Tensor,
    hx: list[Tensor],
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """What `aten::lstm.input` returns; None: the engine can't take the call."""
    if x.dim() == 3:
        sizes = _sizes_of(params, has_biases, num_layers, 2 if bidirectional else 1)
        if sizes is not None and plain() and not (torch.is_grad_enabled() or (train and dropout)):
            named, threads = _named(sizes, params), torch.get_num_threads()
            made = _engine.infer(sizes.numbers, *named, x, tuple(hx), batch_first, threads)
            if made is not None:
                return made[0], *made[1]
        T, N = x.shape[1 if batch_first else 0], x.shape[0 if batch_first else 1]
        if (
            sizes is not None
            and T > 0
            and _fits(sizes, x.shape[2], N, hx)
            and direct(sizes, x, hx[0], hx[1], params) is not None
        ):
            call = Call(sizes, T, N, (sizes.cells, N))
            rows = x.transpose(0, 1) if batch_first else x
            output, h_n, c_n = lstm(call, rows, hx[0], hx[1], list(params), dropout if train else 0.0)
            return output.transpose(0, 1) if batch_first else output, h_n, c_n
    return None


def data_on_engine(
    data: Tensor,
    batch_sizes: Tensor,
    hx: list[Tensor],
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> Any:
    """What `aten::lstm.data` returns; None: the engine can't take the call."""
    if data.dim() == 2 and batch_sizes.dim() == 1 and batch_sizes.is_cpu and len(hx) == 2:
        sizes = _sizes_of(params, has_biases, num_layers, 2 if bidirectional else 1)
        if sizes is not None and direct(sizes, data, hx[0], hx[1], params) is not None:
            steps: list[int] = batch_sizes.tolist()
            falling = all(a >= b for a, b in zip(steps, [*steps[1:], 1], strict=True))
            if steps and falling and sum(steps) == data.shape[0] and _fits(sizes, data.shape[1], steps[0], hx):
                call = Call(sizes, len(steps), steps[0], (sizes.cells, steps[0]), batch_sizes)
                return lstm(call, data, hx[0], hx[1], list(params), dropout if train else 0.0)
    return None


def cell_on_engine(
    x: Tensor, hx: list[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Any:
    """What `aten::lstm_cell` returns; None: the engine can't take the call."""
    if x.dim() == 2 and len(hx) == 2 and (b_ih is None) == (b_hh is None):
        params = [t for t in (w_ih, w_hh, b_ih, b_hh) if t is not None]
        sizes, N = _sizes_of(params, b_ih is not None, 1, 1), x.shape[0]
        if sizes is not None and plain() and not torch.is_grad_enabled():
            named, threads = _named(sizes, params, cell=True), torch.get_num_threads()
            made = _engine.infer_cell(sizes.numbers, *named, x, tuple(hx), threads)
            if made is not None:
                return made
        if (
            sizes is not None
            and N > 0
            and sizes.H > 0
            and x.shape[1] == sizes.I
            and hx[0].shape == hx[1].shape == (N, sizes.H)
            and direct(sizes, x, hx[0], hx[1], params) is not None
        ):
            call = Call(sizes, 1, N, (N,), cell=True)
            _, h_n, c_n = lstm(call, x, hx[0], hx[1], params, 0.0)
            return h_n, c_n
    return None
