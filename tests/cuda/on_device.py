"""Layers and calls on the GPU, and their results back on the CPU."""

from typing import Any

import torch
from torch import nn

from tests.conftest import Call, Evaluation, assert_close, evaluate, twin

DEVICE = torch.device("cuda")


def found_on(layer: nn.Module, call: Call, **arguments: object) -> Evaluation:
    """The evaluation of a call on the device, on the CPU."""
    found = evaluate(layer.to(DEVICE), call.to(DEVICE), **arguments)
    assert {t.device.type for t in found.values() if t is not None} == {DEVICE.type}
    return {name: None if t is None else t.cpu() for name, t in found.items()}


def their_own(layer: nn.Module) -> Any:
    """torch's layer, with the same weights, on the device."""
    return twin(layer.cpu()).to(DEVICE)


def hold_to_theirs(layer: nn.Module, call: Call, hint: object = "") -> None:
    """To torch's layer on the device, and in float64 to torch's layer on the CPU."""
    theirs, dtype = their_own(layer), next(layer.parameters()).dtype
    found = found_on(layer, call)
    assert_close(found, found_on(theirs, call), dtype, hint)
    if dtype is torch.float64:
        assert_close(found, evaluate(twin(layer.cpu()), call), dtype, hint)
