"""The recorded operator as torch's own, for exporters that take whatever torch's table knows: torch.onnx.export finds it there.

torch.export and torch.compile do not look there: in their programs the operator stays whole.
"""

from typing import Any

import torch
from torch import Tensor

from fastlstm.cells import CELLS, Cell
from fastlstm.torch import context
from fastlstm.torch.graph import exported, operator
from fastlstm.torch.runners import composite, torch_kernel


def _asks_for_shapes() -> bool:
    """Tensors without numbers ask this table before the operator's own rule. torch.onnx.export brings rules of its own for
    torch's operators, which keep the length open; else those would make it a constant.
    """
    from torch.fx.experimental.proxy_tensor import get_proxy_mode  # loaded by whoever records

    return get_proxy_mode() is None and not torch.onnx.is_in_onnx_export()


def _lower(cell: Cell, *arguments: Any) -> tuple[Tensor, ...]:
    if _asks_for_shapes():
        return operator.shapes(cell, *arguments)
    call, (per_row,) = operator.Call.read(cell, arguments)
    sizes, _, lengths, reset, batch_sizes, offsets = call.sizes, *call.rows
    exports, ragged = torch.onnx.is_in_onnx_export(), lengths is not None or reset is not None
    if offsets is not None or (ragged and not exports):
        raise NotImplementedError(
            "a call with lengths, reset, reset_to or a nested tensor can't be lowered to torch's own operators: export the model "
            "without them; torch.onnx.export takes lengths and reset of a padded batch"
        )
    if exports and batch_sizes is not None:
        raise NotImplementedError("torch.onnx.export takes no packed batch: give the layer the padded one, and lengths")
    if exports and call.masks and (ragged or sizes.P):
        raise NotImplementedError(
            "torch.onnx.export takes lengths, reset and projections without dropout: model.eval()"
        )
    if exports and (ragged or sizes.P):
        results = exported.run(call)
    elif call.masks:
        steps = None if batch_sizes is None else batch_sizes.tolist()
        results = composite.layer(sizes, call.x, call.states, call.weights, call.masks, steps)
    else:
        results = torch_kernel.call(sizes, call.x, call.states, call.weights, None, batch_sizes)
    rows = call.x.numel() // call.x.shape[-1]
    return *results, operator.room(call.x, per_row * rows)


def _register(cell: Cell) -> None:
    @context.register_decomposition(operator.OPERATORS[cell.name].forward)
    def _(*arguments: Any) -> Any:
        return _lower(cell, *arguments)


for _cell in CELLS:
    _register(_cell)
