"""Whole models: what a faster layer gives where torch's own operators and threads are at work around it.

Linear, the layer, Linear, mean squared error, Adam. Inference is the forward pass; training is one step of all of it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import fastlstm
from fastlstm.bench import in_torch
from fastlstm.bench.contender import OURS, Contender, Inputs, Results
from fastlstm.bench.measure import Measured
from fastlstm.bench.points import ITEMSIZE, Point, Work
from fastlstm.bench.points import work as layer_work

ALONE = " alone"


class Model(nn.Module):
    """(T, N, I) -> Linear -> (T, N, I) -> the layer -> (T, N, H) -> Linear -> (T, N, I)."""

    def __init__(self, layer: nn.Module, point: Point) -> None:
        super().__init__()
        generator = torch.manual_seed(3)
        self.before = nn.Linear(point.I, point.I)
        self.layer = layer
        self.after = nn.Linear(point.H, point.I)
        self.target = torch.randn(point.T, point.N, point.I, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The prediction."""
        prediction: torch.Tensor = self.after(self.layer(self.before(x))[0])
        return prediction


def work(point: Point, train: bool) -> Work:
    """The layer's and that of the two Linears, their parameters the only bytes in addition."""
    weights = point.I * point.I + point.H * point.I
    flops, moved = 2 * point.rows * weights, (weights + 2 * point.I) * ITEMSIZE[point.dtype]
    layer = layer_work(point, train)
    return Work(layer.flops + flops * (3 if train else 1), layer.bytes + moved * (2 if train else 1))


def contenders(inputs: Inputs, train: bool, theirs: str) -> dict[str, Contender]:
    """The model with torch's layer, whose label is `theirs`, and with ours, then each layer alone at the size that it has
    in the model.
    """
    return {
        theirs: _whole(nn, inputs, train),
        OURS: _whole(fastlstm, inputs, train),
        theirs + ALONE: in_torch.contender(inputs, train),
        OURS + ALONE: in_torch.ours(inputs, train),
    }


def _whole(home: Any, inputs: Inputs, train: bool) -> Contender:
    model = Model(in_torch.layer_from(home, inputs), inputs.point).train(train)
    x = inputs.x.detach()  # type: ignore[union-attr]  # a tensor: only dense points come here
    run = _training_step(model, x) if train else in_torch.inference(model, x)

    def results(returned: Any) -> Results:
        values = {"prediction": returned}
        if train:
            values |= {f"{name}.grad": parameter.grad for name, parameter in model.named_parameters()}
        return {name: value.detach() for name, value in values.items()}

    return Contender(run, results, work(inputs.point, train))


def _training_step(model: Model, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    optimizer = torch.optim.Adam(model.parameters())

    def run() -> torch.Tensor:
        optimizer.zero_grad()
        prediction: torch.Tensor = model(x)
        nn.functional.mse_loss(prediction, model.target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return prediction

    return run


def predicted_gain(measured: Measured) -> float:
    """How much faster the model is if nothing but its layer's time changes (Amdahl)."""
    (theirs,) = measured.peers
    whole = measured.microseconds(theirs)
    return whole / (whole - measured.microseconds(theirs + ALONE) + measured.microseconds(OURS + ALONE))


def gain_over_prediction(measured: Measured) -> float:
    """How much faster the model is, as a share of that."""
    (theirs,) = measured.peers
    return measured.ratio(theirs) / predicted_gain(measured)
