"""torch.fx records a module that it does not look into, as it doesn't into torch.nn's."""

from typing import Any

import torch
from torch import nn


def leaf(module: nn.Module, input: torch.fx.Proxy, **options: Any) -> Any:
    """The node of such a call. options: those that are None are not written down."""
    tracer: Any = input.tracer
    written = {name: value for name, value in options.items() if value is not None}
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input,), written)
