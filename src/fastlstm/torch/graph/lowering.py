"""The recorded operator as torch's own, for exporters that take whatever torch's table knows: torch.onnx.export finds it there.

torch.export and torch.compile do not look there: in their programs the operator stays whole.
"""

import torch
from torch import Tensor

from fastlstm.torch import context
from fastlstm.torch.graph import operator
from fastlstm.torch.runners import composite, torch_kernel


def _asks_for_shapes() -> bool:
    """Tensors without numbers ask this table before the operator's own rule. torch.onnx.export brings rules of its own for
    torch's operators, which keep the length open; else those would make it a constant.
    """
    from torch.fx.experimental.proxy_tensor import get_proxy_mode  # loaded by whoever records

    return get_proxy_mode() is None and not torch.onnx.is_in_onnx_export()


@context.register_decomposition(context.overload(operator.lstm))
def _lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    masks: list[Tensor] | None,
    batch_first: bool,
    lengths: Tensor | None,
    reset: Tensor | None,
    batch_sizes: Tensor | None,
    offsets: Tensor | None,
    sizes: list[int],
    per_row: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if _asks_for_shapes():
        found: tuple[Tensor, Tensor, Tensor, Tensor] = operator.shapes(x, h_0, c_0, sizes, per_row)
        return found
    if lengths is not None or reset is not None or offsets is not None:
        raise NotImplementedError(
            "a call with lengths, reset or a nested tensor can't be lowered to torch's own operators: export the model without "
            "them, or, for torch.onnx.export, with the whole batch of one length"
        )
    known = operator.sizes_of(sizes)
    if masks:
        steps = None if batch_sizes is None else batch_sizes.tolist()
        results = composite.lstm(known, x, h_0, c_0, weights, masks, steps)
    else:
        if known.P and torch.onnx.is_in_onnx_export():
            raise NotImplementedError(
                "torch.onnx.export knows no LSTM with a projection (proj_size > 0), neither torch's nor this one"
            )
        results = torch_kernel.call(known, x, h_0, c_0, weights, 0.0, batch_sizes)
    rows = x.numel() // x.shape[-1]
    return *results, operator.room(x, per_row * rows)
