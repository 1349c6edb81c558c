"""Trains a layer that filter.c runs: the sound of a soft clipper behind a low pass, one sample in, one out.

`python train.py layer.safetensors [steps]`; a minute with the usual 300 steps.
"""

import sys

import torch
from torch import Tensor

import fastlstm


def clipper(x: Tensor) -> Tensor:
    """x (L, N, 1) -> what the layer is to learn: tanh(4 x), smoothed by a pole at 0.9."""
    y, state = [], torch.zeros_like(x[0])
    for sample in torch.tanh(4 * x):
        state = 0.9 * state + 0.1 * sample
        y.append(state)
    return torch.stack(y)


def main() -> None:
    path, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300
    torch.manual_seed(0)
    layer = fastlstm.LSTM(1, 24, proj_size=1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=5e-3)
    for step in range(steps):
        x = torch.randn(512, 16, 1).cumsum(0).sin() * torch.rand(1, 16, 1)
        loss = torch.nn.functional.mse_loss(layer(x)[0], clipper(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step + 1 == steps:
            print(f"step {step}: mean squared error {loss.item():.5f}")
    fastlstm.save(layer, path)


if __name__ == "__main__":
    main()
