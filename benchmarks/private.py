"""A step of training with differential privacy: `python benchmarks/private.py [threads] [LSTM|GRU]`.

The layer of `fastlstm.opacus` beside Opacus' own, and beside the plain layer without privacy, at (T, N, I, H) =
(100, 32, 64, 128), float32: forward, backward with the gradients of each sample, clipping, noise, SGD. Each number is the
median of 41 steps, taken in turn.
"""

import argparse
import warnings
from collections.abc import Callable

import opacus.layers
import torch
from derivatives import H, I, N, T, in_turn
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

import fastlstm
import fastlstm.opacus
from fastlstm.cells import BY_NAME, LSTM


def private(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    watched = GradSampleModule(layer)
    plain = torch.optim.SGD(watched.parameters(), 0.01)
    return step(watched, DPOptimizer(plain, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=N), x)


def step(layer: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> Callable[[], object]:
    def run() -> None:
        optimizer.zero_grad()
        layer(x)[0].square().mean().backward()
        optimizer.step()

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A step of training with differential privacy.")
    parser.add_argument("threads", nargs="?", type=int, default=2)
    parser.add_argument("cell", nargs="?", choices=list(BY_NAME), default=LSTM.name)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    x, name = torch.randn(N, T, I), arguments.cell
    layer = getattr(fastlstm, name)(I, H, batch_first=True)
    times = in_turn(
        {
            f"fastlstm.opacus.DP{name}": private(getattr(fastlstm.opacus, f"DP{name}")(I, H, batch_first=True), x),
            f"opacus.layers.DP{name}": private(getattr(opacus.layers, f"DP{name}")(I, H, batch_first=True), x),
            f"fastlstm.{name}, without privacy": step(layer, torch.optim.SGD(layer.parameters(), 0.01), x),
        }
    )
    ours = next(iter(times.values()))
    for said, each in times.items():
        print(f"{said}: {each:.1f} ms, {each / ours:.2f} of ours")
