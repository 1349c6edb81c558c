"""A small layer, a task to train it on, and the comparison of a layer with a reference, for the tests of the machinery."""

import torch
from conftest import assert_close
from torch import nn

from fastlstm import LSTM

X = torch.randn(6, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.randn(6, 4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def build() -> LSTM:
    return LSTM(5, 9, 2, dtype=torch.float64)


def train(model: nn.Module, steps: int = 5) -> list[float]:
    """The losses of some steps of gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(X)[0] - TARGET).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_same_layer(ours: nn.Module, reference: nn.Module) -> None:
    """The reference has the parameters of ours: one call of each gives the same results."""
    output, (h_n, c_n) = ours(X)
    expected, (expected_h, expected_c) = reference(X)
    assert_close({"output": output, "h_n": h_n, "c_n": c_n}, {"output": expected, "h_n": expected_h, "c_n": expected_c})
