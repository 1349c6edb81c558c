"""The contenders that are torch modules: nn.LSTM, and ours."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

import fastlstm
from fastlstm.bench.contender import Contender, Inputs, Results
from fastlstm.bench.points import work


def contender(inputs: Inputs, train: bool) -> Contender:
    """torch.nn.LSTM, in eval mode for inference."""
    return _contender(nn.LSTM, inputs, train)


def ours(inputs: Inputs, train: bool) -> Contender:
    """fastlstm.LSTM."""
    return _contender(fastlstm.LSTM, inputs, train)


def of_kind(kind: Callable[..., nn.Module], lstm: nn.LSTM) -> nn.Module:
    """A layer of `kind` with the sizes and a copy of the parameters of `lstm`."""
    options = {"num_layers": lstm.num_layers, "bidirectional": lstm.bidirectional, "proj_size": lstm.proj_size}
    layer = kind(lstm.input_size, lstm.hidden_size, **options, dtype=lstm.weight_ih_l0.dtype)
    layer.load_state_dict(lstm.state_dict())
    return layer


def _contender(kind: Callable[..., nn.Module], inputs: Inputs, train: bool) -> Contender:
    layer = of_kind(kind, inputs.lstm).train(train)
    run = forward_backward(layer, inputs) if train else inference(layer, inputs.x)

    def results(returned: Any) -> Results:
        output, (h_n, c_n) = returned
        values = {"output": _data(output), "h_n": h_n, "c_n": c_n}
        if train:
            values["input.grad"] = _data(inputs.x).grad
            values |= {f"{name}.grad": parameter.grad for name, parameter in layer.named_parameters()}
        return {name: value.detach().clone() for name, value in values.items()}  # x.grad is shared by all contenders

    return Contender(run, results, work(inputs.point, train))


def inference(layer: nn.Module, x: torch.Tensor | PackedSequence) -> Callable[[], Any]:
    """A call under `torch.inference_mode`, which is torch at its best."""

    def run() -> Any:
        with torch.inference_mode():
            return layer(x)

    return run


def forward_backward(layer: nn.Module, inputs: Inputs) -> Callable[[], Any]:
    """Forward and backward, to the input and to every parameter; no optimizer."""
    data = _data(inputs.x).requires_grad_()

    def run() -> Any:
        data.grad = None
        layer.zero_grad()
        returned = layer(inputs.x)
        _data(returned[0]).backward(inputs.cotangent)  # type: ignore[no-untyped-call]
        return returned

    return run


def _data(sequence: torch.Tensor | PackedSequence) -> torch.Tensor:
    return sequence.data if isinstance(sequence, PackedSequence) else sequence
