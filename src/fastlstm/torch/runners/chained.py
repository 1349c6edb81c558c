"""The engine, chain by chain: in operations that have derivatives of any order and batched ones (`graph/chain/`), for what
torch.func transforms, forward mode, and gradients of gradients.
"""

from typing import Any

import torch
from torch import Tensor

from fastlstm.torch import context
from fastlstm.torch.batch import Batch, Results, States
from fastlstm.torch.context import Context
from fastlstm.torch.graph import chain
from fastlstm.torch.runners import composite
from fastlstm.torch.runners.fallback import fall_back
from fastlstm.weights import Sizes

NAME = "native"


def why_not(sizes: Sizes, device: torch.device, dtype: torch.dtype, context: Context) -> str | None:
    if device.type != "cpu":
        return f"there is no engine for the device {device.type!r}"
    if dtype not in (torch.float32, torch.float64):
        return f"derivatives of any order need plain tensor operations in {str(dtype).removeprefix('torch.')}"
    if not sizes.I or not sizes.H:
        return "without features or units there is nothing for an engine"
    if context.recorded:
        return "what records torch.func transforms needs plain tensor operations"
    return None


def why(device: torch.device, dtype: torch.dtype) -> str:
    return "the CPU engine computes chain by chain, in operations that have derivatives of any order"


def run(sizes: Sizes, batch: Batch, x: Tensor, hx: States, weights: list[Tensor], masks: list[Tensor]) -> Results:
    """The arguments and results of `runners.run`, with masks drawn."""
    results: Results = composite.run(sizes, batch, x, hx, weights, masks, chain=chain.run)
    return results


def chain_for(sizes: Sizes, x: Tensor) -> Any:
    """`composite.chain`, or the engine's in its place, of a call on such x. RuntimeError, in strict mode: the former."""
    reason = why_not(sizes, x.device, x.dtype, context.here())
    if reason is None:
        return chain.run
    if sizes.I and sizes.H:  # else nothing is slow
        fall_back(reason)
    return composite.chain
