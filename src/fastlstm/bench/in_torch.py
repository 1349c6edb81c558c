"""The contenders that are torch modules: nn.LSTM or nn.GRU, and ours."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

import fastlstm
from fastlstm.bench.contender import Contender, Inputs, Results, final_states, make_layer
from fastlstm.bench.points import work


def contender(inputs: Inputs, train: bool) -> Contender:
    """torch's layer, in eval mode for inference."""
    return _contender(nn, inputs, train)


def ours(inputs: Inputs, train: bool) -> Contender:
    """fastlstm's layer."""
    return _contender(fastlstm, inputs, train)


def steps(inputs: Inputs) -> dict[str, Contender]:
    """torch's layer step by step, the state passed by hand; the caller enters inference_mode."""
    point = inputs.point
    layer = layer_from(nn, inputs).eval()
    zeros = torch.zeros(1, 1, point.H)
    state: Any = zeros if len(point.kind.states) == 1 else (zeros, zeros)

    def run() -> Any:
        nonlocal state
        output, state = layer(inputs.x, state)
        return output, state

    return {"": Contender(run, lambda returned: _outcome(inputs, returned), work(point, train=False))}


def layer_from(home: Any, inputs: Inputs) -> nn.Module:
    """The layer from `home` (torch.nn, fastlstm) with a copy of the parameters of `inputs`."""
    layer: nn.Module = make_layer(home, inputs.point)
    layer.load_state_dict(inputs.layer.state_dict())
    return layer


def _contender(home: Any, inputs: Inputs, train: bool) -> Contender:
    layer = layer_from(home, inputs).train(train)
    run = forward_backward(layer, inputs) if train else inference(layer, inputs.x)

    def results(returned: Any) -> Results:
        values: dict[str, Any] = _outcome(inputs, returned)
        if train:
            values["input.grad"] = _data(inputs.x).grad
            values |= {f"{name}.grad": parameter.grad for name, parameter in layer.named_parameters()}
        return {name: value.detach().clone() for name, value in values.items()}  # x.grad is shared by all contenders

    return Contender(run, results, work(inputs.point, train))


def _outcome(inputs: Inputs, returned: Any) -> Results:
    """What a layer returned, by name."""
    output, states = returned
    states = states if isinstance(states, tuple) else (states,)
    return {"output": _data(output), **dict(zip(final_states(inputs.point), states, strict=True))}


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
