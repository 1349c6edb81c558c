"""A plain call in torch.compile, straight to the operator. Each name that Dynamo reads on its way is a guard, some 0.2 us a call,
and the way through `runners/` has 190. So names are few here, and builtins, too.
"""

from typing import Any

from torch import Tensor

from fastlstm.torch.context import is_autocast_enabled, is_transformed
from fastlstm.torch.dtypes import NAMES
from fastlstm.torch.graph.operator import OPERATORS, saved_reals

_INFERENCE = {cell: operators.inference for cell, operators in OPERATORS.items()}
_TRAINING = {cell: operators.forward for cell, operators in OPERATORS.items()}


def attempt(layer: Any, x: Any, hx: Any, grad: bool) -> Any:
    """What a `Layer` returns for a padded batch at which nobody has looked. None: it goes as every call does, to its error if it
    has one.
    """
    if not isinstance(x, Tensor) or x.is_nested or x.dim() != 3 or not x.is_cpu or (layer.dropout and layer.training):
        return None
    if is_transformed() or is_autocast_enabled("cpu"):
        return None
    sizes, first = layer._sizes, layer.batch_first
    if first is not True and first is not False:
        return None
    weights = [layer._parameters.get(name) for name in layer._names]
    shapes, states = [*sizes.shapes], sizes.zeros
    if hx is not None:
        states = (hx,) if sizes.zeros == (None,) else hx
        if not isinstance(states, tuple) or [t for t in states if not isinstance(t, Tensor)]:
            return None
        shapes += [(sizes.chains, x.shape[0 if first else 1], features) for features in sizes.of_states]
    tensors = [*weights, *states] if hx is not None else weights
    if (
        [None if t is None else t.shape for t in tensors] != shapes
        or x.shape[2] != weights[0].shape[1]
        or not x.numel()
    ):
        return None
    if not x.is_floating_point() or [t for t in tensors if t.dtype != x.dtype or not t.is_cpu]:
        return None
    if not grad or not [t for t in [x, *tensors] if t.requires_grad]:
        output, *last = _INFERENCE[layer.mode](x, *states, weights, first, sizes.numbers)
    else:
        steps = x.transpose(0, 1) if first else x
        rows = False, None, None, None, None
        per_row = saved_reals(*sizes.numbers, dtype=NAMES[x.dtype])
        output, *last, _ = _TRAINING[layer.mode](steps, *states, weights, [], *rows, sizes.numbers, per_row)
        output = output.transpose(0, 1) if first else output
    return output, last[0] if sizes.zeros == (None,) else (*last,)
