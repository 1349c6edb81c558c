"""The engines that are measured: each turns a point of the grid into a call to time.

To add one: write a function with the signature of `Prepare`, and name it in PEERS. The first peer is the one that
results are compared with, the last is ours.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import fastlstm
from fastlstm.bench.grid import Point

Results = dict[str, torch.Tensor]  # name -> value, to compare before anything is timed
Call = Callable[[], Results]
Prepare = Callable[[Point, bool], Call]


def _torch_call(module: nn.Module, point: Point, train: bool) -> Call:
    """Inference under `torch.inference_mode`; training is forward and backward, to the input and to every parameter."""
    x = torch.randn(point.T, point.N, point.I, generator=torch.Generator().manual_seed(1))
    cotangent = torch.randn(point.T, point.N, point.H, generator=torch.Generator().manual_seed(2))

    def infer() -> Results:
        with torch.inference_mode():
            output, (h_n, c_n) = module(x)
        return {"output": output, "h_n": h_n, "c_n": c_n}

    def forward_backward() -> Results:
        x.grad = None
        module.zero_grad()
        output, (h_n, c_n) = module(x)
        output.backward(cotangent)
        gradients: dict[str, Any] = {f"{name}.grad": p.grad for name, p in module.named_parameters()}
        return {"output": output, "h_n": h_n, "c_n": c_n, "input.grad": x.grad, **gradients}

    x.requires_grad_(train)
    return forward_backward if train else infer


def nn_lstm(point: Point, train: bool) -> Call:
    """torch.nn.LSTM, in eval mode for inference."""
    torch.manual_seed(0)
    return _torch_call(nn.LSTM(point.I, point.H).train(train), point, train)


def fastlstm_lstm(point: Point, train: bool) -> Call:
    """fastlstm.LSTM with the same initial parameters (the same seed draws the same bits)."""
    torch.manual_seed(0)
    return _torch_call(fastlstm.LSTM(point.I, point.H).train(train), point, train)


PEERS: dict[str, Prepare] = {"nn.LSTM": nn_lstm, "fastlstm": fastlstm_lstm}
