"""NeuralHydrology: a river's discharge from a year of weather, one layer of 128, random weights."""

from copy import deepcopy

import torch
from neuralhydrology.modelzoo import get_model
from neuralhydrology.utils.config import Config
from torch import nn

import fastlstm
from tests.ecosystem.three_ways import Results, gradients, hold
from tests.tolerances import OF_NN_LSTMS_ERROR

WEATHER = ["rain", "radiation", "coldest", "warmest", "vapour"]
ROWS = 64


def river(**more: object) -> nn.Module:
    asked = {
        "model": "cudalstm",  # on any device
        "head": "regression",
        "hidden_size": 128,
        "dynamic_inputs": WEATHER,
        "static_attributes": [f"attribute_{i}" for i in range(22)],
        "target_variables": ["discharge"],
    }
    return get_model(Config({**asked, **more}))


def step(model: nn.Module, dtype: torch.dtype = torch.float32) -> Results:
    generator = torch.Generator().manual_seed(0)
    days = {name: torch.randn(ROWS, 365, 1, generator=generator).to(dtype) for name in WEATHER}
    attributes = torch.randn(ROWS, 22, generator=generator).to(dtype)
    discharge = torch.randn(ROWS, generator=generator).to(dtype)
    predicted = model({"x_d": days, "x_s": attributes})["y_hat"][:, -1, 0]
    return {"predicted": predicted.detach(), **gradients((predicted - discharge).square().mean(), model)}


def test_a_step_of_training():
    model = river()
    hold("neuralhydrology", "forward and backward, 64 years of days", model, lambda: step(model))


def test_a_step_with_the_usual_forget_bias():
    """A year then makes of any rounding 10 to 100 times as much, torch's and ours: both are held against float64."""
    model = river(initial_forget_bias=3)
    exact = step(deepcopy(model).double(), torch.float64)

    def errors() -> dict[str, float]:
        return {name: ((t - exact[name]).norm() / exact[name].norm()).item() for name, t in step(model).items()}

    theirs = errors()
    with fastlstm.enabled():
        ours = errors()
    assert max(ours.values()) <= OF_NN_LSTMS_ERROR * max(theirs.values()), f"torch {theirs}\nours {ours}"
