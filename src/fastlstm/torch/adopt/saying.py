"""`fastlstm.engine`: what runs a call of a module of ours, or of torch's, which `enable()` or keep_type may have taken."""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastlstm.cells import CELLS, Cell
from fastlstm.torch import context, runners
from fastlstm.torch.adopt.enabling import is_on
from fastlstm.torch.adopt.keeping import MARK
from fastlstm.torch.attributes import layer_sizes, step_sizes
from fastlstm.torch.parameters import Recurrent
from fastlstm.torch.runners import Engine, native
from fastlstm.weights import named_shapes

_THEIRS = {getattr(nn, f"{cell.name}{end}"): (cell, bool(end)) for cell in CELLS for end in ("", "Cell")}


def engine(lstm: nn.Module, x: Tensor | PackedSequence, *arguments: Any, **named: Any) -> Engine:
    """Which engine `lstm(x, ...)` would run on, 'native', 'cudnn', 'composite' or 'torch', and why. It takes what the call
    takes.

    lstm: a layer or a cell of fastlstm, or one of torch.nn: 'native' where `enable()`, `enabled()` or keep_type puts the call
    on the engine, 'torch' where torch's own kernels run it. Raises TypeError for anything else.
    """
    data = x.data if isinstance(x, PackedSequence) else x
    if isinstance(lstm, Recurrent):
        return runners.engine(lstm._known(), data.device, data.dtype, context.here())
    found = next((known for kind, known in _THEIRS.items() if isinstance(lstm, kind)), None)
    if found is None:
        raise TypeError(
            "expected a fastlstm.GRU, fastlstm.GRUCell, fastlstm.LSTM or fastlstm.LSTMCell, or one of torch.nn, "
            f"got {type(lstm).__module__}.{type(lstm).__qualname__}"
        )
    why_not = _why_not(lstm, *found, data, named.get("hx", arguments[0] if arguments else None))
    return Engine("torch", why_not) if why_not else Engine(native.NAME, native.why(data.device, data.dtype))


def _why_not(lstm: Any, cell: Cell, is_cell: bool, x: Tensor, hx: Any) -> str:
    """Why a call of torch's module stays torch's; nothing: it doesn't."""
    marked = MARK in vars(lstm) and "forward" not in vars(lstm)
    if not (marked or is_on()):
        return "neither enable() nor convert() has put it on the engine"
    if not context.is_plain() or not (is_on() or context.only_devices()):
        return "autocast, a transform, a mode or a recording is around the call"
    sizes = step_sizes(lstm, cell) if is_cell else layer_sizes(lstm, cell)
    against = native.why_not(sizes, x.device, x.dtype, context.here())
    if against is not None:
        return against
    states = hx if isinstance(hx, (tuple, list)) else (hx,)
    weights = [getattr(lstm, name) for name in named_shapes(sizes)]
    if x.is_meta or native.wants_graph(sizes, x, tuple(states), weights) is None:
        return "its tensors are not all plain ones on the CPU, of one dtype"
    return "" if x.numel() else "there is no step"
