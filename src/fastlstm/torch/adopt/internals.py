"""What torch keeps to itself, and enable() and convert() change: its dispatcher's kernels, and nn.LSTM's own list of weights.

Each was seen in the torch versions from 2.8 to 2.15. What a call asks torch stands in `context.py`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._builtins import _register_builtin

register_builtin = _register_builtin
"""What TorchScript compiles a call of a function to."""

VF: Any = torch._VF
"""By which torch.nn calls torch's operators."""

# Where kernels of ours stand: all but inference_mode reaches the first. There the second stands above the CPU's own, where no
# kernel may be: what records a call asks for one there to know whether torch would have taken the operator apart.
AUTOGRAD, BELOW = torch._C.DispatchKey.AutogradCPU, torch._C.DispatchKey.BackendSelect


def own_kernel(op: torch._ops.OpOverload, *arguments: Any) -> Any:
    """The operator as torch itself registers it: the rest are its decompositions."""
    return op._op_dk(torch._C.DispatchKey.CompositeImplicitAutograd, *arguments)


def hide_kernels(op: torch._ops.OpOverload) -> None:
    """What records tensors without numbers (torch.compile, export, make_fx) resolves operators in Python, where torch has
    decompositions that take symbolic sizes, and where exporters put their own. It comes to them only where it sees no kernel.
    """
    has_kernel = op.has_kernel_for_dispatch_key

    def has_visible_kernel(key: torch._C.DispatchKey) -> bool:
        return key in op.py_kernels if key == AUTOGRAD else has_kernel(key)

    def below(x: Tensor, *arguments: Any, **options: Any) -> Any:
        """What Python would have come to next: the kernel of the device."""
        key = torch._C._parse_dispatch_key(torch._C._dispatch_key_for_device(x.device.type))
        assert key is not None
        found = op._dispatch_cache.get(key) or op._get_dispatch(key)
        if isinstance(found, torch._C.DispatchKey):
            return op._op_dk(found, x, *arguments, **options)
        return found(x, *arguments, **options)

    op.has_kernel_for_dispatch_key = has_visible_kernel  # type: ignore[method-assign, assignment]
    op.py_impl(BELOW)(below)


FLAT = ("_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights")
"""What nn.LSTM has beside its arguments: its own list of the weights, which it makes anew."""


def flat_weights(lstm: nn.LSTM) -> list[Any]:
    """What nn.LSTM computes with: its parameters, unless somebody meddles."""
    weights: list[Any] = lstm._flat_weights
    return weights


def names_by_chain(lstm: Any) -> list[list[str]]:
    """The names of the weights, a list for each layer and direction."""
    names: list[list[str]] = lstm._all_weights
    return names


def restore_flat_weights(lstm: Any, names: list[list[str]]) -> None:
    """Makes what `FLAT` names, of a module that has lost it."""
    vars(lstm).update(_all_weights=names, _flat_weights_names=[name for chain in names for name in chain])
    lstm._init_flat_weights()
