"""`enable()`: every nn.LSTM and nn.LSTMCell of the process runs on the engine, without a change to anybody's code.

All of them end in three operators of torch, from Python and from TorchScript alike. Kernels of ours stand in for them on the
CPU, under the tensors' autograd; what the engine can't take, and everything while it is off, goes on to torch's own.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fastlstm.torch.call import Call
from fastlstm.torch.functional import direct, lstm
from fastlstm.weights import Sizes, count_arrays

_INPUT, _DATA = torch.ops.aten.lstm.input, torch.ops.aten.lstm.data
_CELL = torch.ops.aten.lstm_cell.default
_OWN = torch._C.DispatchKey.CompositeImplicitAutograd  # what torch itself registers: the rest are its decompositions
_KEYS = ("CPU", "AutogradCPU")  # inference_mode reaches the first, everything else the second


class _State:
    """on: said by enable(); inside: how many `enabled()` blocks are open. era: of disable(), which ends them all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.library: torch.library.Library | None = None
        self.on = False
        self.inside = 0
        self.era = 0
        self.active = False  # read at every call


_state = _State()


def _change(on: bool | None = None, inside: int = 0) -> None:
    """With the lock held."""
    state = _state
    state.on = state.on if on is None else on
    state.inside += inside
    state.active = state.on or state.inside > 0
    if state.active and state.library is None:
        # For good: to take a kernel away while another thread is in it would free it under that thread's feet.
        state.library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        for key in _KEYS:
            for name, kernel in (("lstm.input", _lstm_input), ("lstm.data", _lstm_data), ("lstm_cell", _lstm_cell)):
                state.library.impl(name, kernel, key)  # type: ignore[no-untyped-call]


def enable() -> None:
    """From now on nn.LSTM and nn.LSTMCell run on the engine, whoever made them and whenever; again: nothing changes."""
    with _state.lock:
        _change(on=True)


def disable() -> None:
    """From now on they run on torch's own kernels, to the bit; inside `enabled()` too."""
    with _state.lock:
        _state.era += 1
        _change(on=False, inside=-_state.inside)


@contextmanager
def enabled() -> Iterator[None]:
    """Within this block, in every thread, they run on the engine; after it, as before. Blocks may nest and overlap."""
    with _state.lock:
        era = _state.era
        _change(inside=1)
    try:
        yield
    finally:
        with _state.lock:
            if era == _state.era:
                _change(inside=-1)


_known: dict[tuple[int, int, int, int, int, bool], Sizes] = {}
"""To make a Sizes takes 20 us. No lru_cache: Dynamo, which meets the kernels as frames, warns about those."""


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


def _lstm_input(
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
    if _state.active and x.dim() == 3:
        sizes = _sizes_of(params, has_biases, num_layers, 2 if bidirectional else 1)
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
    return _INPUT._op_dk(_OWN, x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


def _lstm_data(
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
    if _state.active and data.dim() == 2 and batch_sizes.dim() == 1 and batch_sizes.is_cpu and len(hx) == 2:
        sizes = _sizes_of(params, has_biases, num_layers, 2 if bidirectional else 1)
        if sizes is not None and direct(sizes, data, hx[0], hx[1], params) is not None:
            steps: list[int] = batch_sizes.tolist()
            falling = all(a >= b for a, b in zip(steps, [*steps[1:], 1], strict=True))
            if steps and falling and sum(steps) == data.shape[0] and _fits(sizes, data.shape[1], steps[0], hx):
                call = Call(sizes, len(steps), steps[0], (sizes.cells, steps[0]), batch_sizes)
                return lstm(call, data, hx[0], hx[1], list(params), dropout if train else 0.0)
    return _DATA._op_dk(_OWN, data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional)


def _lstm_cell(
    x: Tensor, hx: list[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Any:
    if _state.active and x.dim() == 2 and len(hx) == 2 and (b_ih is None) == (b_hh is None):
        params = [t for t in (w_ih, w_hh, b_ih, b_hh) if t is not None]
        sizes, N = _sizes_of(params, b_ih is not None, 1, 1), x.shape[0]
        if (
            sizes is not None
            and N > 0
            and x.shape[1] == sizes.I
            and hx[0].shape == hx[1].shape == (N, sizes.H)
            and direct(sizes, x, hx[0], hx[1], params) is not None
        ):
            call = Call(sizes, 1, N, (N,), cell=True)
            _, h_n, c_n = lstm(call, x, hx[0], hx[1], params, 0.0)
            return h_n, c_n
    return _CELL._op_dk(_OWN, x, hx, w_ih, w_hh, b_ih, b_hh)
