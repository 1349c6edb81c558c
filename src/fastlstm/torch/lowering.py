"""The recorded operator as torch's own, for exporters that take whatever torch's table knows: torch.onnx.export finds it there.

torch.export and torch.compile do not look there: in their programs the operator stays whole.
"""

from typing import Any

import torch
from torch import Tensor
from torch._decomp import register_decomposition

from fastlstm.torch import composite, recorded, recorded_segments, route


def _asks_for_shapes() -> bool:
    """Tensors without numbers ask this table before the operator's own rule. torch.onnx.export brings rules of its own for
    torch's operators, which keep the length open; else those would make it a constant.
    """
    from torch.fx.experimental.proxy_tensor import get_proxy_mode  # loaded by whoever records

    return get_proxy_mode() is None and not torch.onnx.is_in_onnx_export()


@register_decomposition(recorded.lstm._opoverload)
def _lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: list[Tensor],
    masks: list[Tensor] | None,
    batch_sizes: Tensor | None,
    sizes: list[int],
    per_row: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if _asks_for_shapes():
        found: tuple[Tensor, Tensor, Tensor, Tensor] = recorded.shapes(
            x, h_0, c_0, weights, masks, batch_sizes, sizes, per_row
        )
        return found
    call = recorded.call_of(sizes, x, h_0, batch_sizes)
    if masks:
        made = composite.lstm(call.sizes, x, h_0, c_0, weights, masks, batch_sizes)
    else:
        if call.sizes.P and torch.onnx.is_in_onnx_export():
            raise NotImplementedError(
                "torch.onnx.export knows no LSTM with a projection (proj_size > 0), neither torch's nor this one"
            )
        made = route.torch_kernel(call.sizes, x, h_0, c_0, weights, 0.0, batch_sizes)
    rows = x.numel() // x.shape[-1]
    return *made, recorded.room(x, per_row * rows)


@register_decomposition(recorded_segments.lstm._opoverload)
def _segments(*arguments: Any) -> Any:
    if _asks_for_shapes():
        return recorded_segments.shapes(*arguments)
    raise NotImplementedError(
        "a call with lengths, reset or a nested tensor can't be lowered to torch's own operators: export the model without them, "
        "or, for torch.onnx.export, with the whole batch of one length"
    )
