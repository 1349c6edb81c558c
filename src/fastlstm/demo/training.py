"""Train the same forecaster on nn.LSTM and on fastlstm.LSTM, epoch by epoch in turn, from the same seed."""

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import fastlstm
from fastlstm.demo.series import YEAR


class Settings(NamedTuple):
    """Chosen on 1988-1993 with training before 1988, where the held-out years had no say.

    A gentle learning rate also keeps two correct engines together: rounding alone separated the losses of nn.LSTM in
    float32 and in float64 by 3e-7 of their value at 2e-3, by 8e-5 at 1e-2 (the largest over all steps).

    One thread: where something else keeps a core busy, nn.LSTM's two wait for each other at every step, and an epoch
    takes it 10 s in place of 1.
    """

    hidden_size: int = 64
    num_layers: int = 2
    epochs: int = 16
    batch: int = 64
    learning_rate: float = 2e-3
    seed: int = 0
    threads: int = 1


class Contestant:
    """A forecaster with its optimizer, and its record: the loss of every step and the seconds of every epoch."""

    def __init__(self, kind: Callable[..., nn.Module], settings: Settings, features: int, steps: int) -> None:
        torch.manual_seed(settings.seed)
        self.lstm = kind(features, settings.hidden_size, settings.num_layers)
        self.head = nn.Linear(settings.hidden_size, YEAR)
        self.parameters = [*self.lstm.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)
        self.losses: list[list[float]] = []
        self.seconds: list[float] = []

    def forecast(self, x: torch.Tensor) -> torch.Tensor:
        """From windows (T, N, I) to the scaled change in the weeks ahead, (N, YEAR)."""
        output, _ = self.lstm(x)
        forecast: torch.Tensor = self.head(output[-1])
        return forecast

    def epoch(self, x: torch.Tensor, y: torch.Tensor, batches: Sequence[torch.Tensor]) -> None:
        """One pass over the windows in the given order."""
        losses = []
        start = time.perf_counter()
        for batch in batches:
            loss = nn.functional.mse_loss(self.forecast(x[:, batch]), y[batch])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss.item())
        self.seconds.append(time.perf_counter() - start)
        self.losses.append(losses)

    @property
    def epoch_losses(self) -> NDArray[np.float64]:
        """The mean loss of every epoch."""
        means: NDArray[np.float64] = np.mean(self.losses, axis=1)
        return means


# How far apart the two losses may be, relative to nn.LSTM's: at each step of the first epoch, and in each epoch's mean.
FIRST_EPOCH, EVERY_EPOCH = 1e-4, 1e-2


class Pair(NamedTuple):
    """The two that are compared."""

    nn: Contestant
    ours: Contestant

    def first_epoch_difference(self) -> float:
        """The largest relative difference of the losses over the steps of the first epoch."""
        return _relative_difference(np.array(self.ours.losses[0]), np.array(self.nn.losses[0]))

    def epoch_difference(self) -> float:
        """The largest relative difference of the mean losses over all epochs."""
        return _relative_difference(self.ours.epoch_losses, self.nn.epoch_losses)

    def ratio(self) -> float:
        """How many times as long as ours nn.LSTM took for an epoch: medians, as another program may disturb some."""
        return median(self.nn.seconds) / median(self.ours.seconds)


def _relative_difference(ours: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    return float(np.max(np.abs(ours - reference) / reference))


def train(
    x: NDArray[np.float32], y: NDArray[np.float32], settings: Settings, advance: Callable[[str], None]
) -> Iterator[Pair]:
    """Train both on windows x (T, N, I) and targets y (N, YEAR); yields the pair after every epoch.

    Both see the same batches in the same order. Who goes first alternates; `advance` is told who finished an epoch.
    """
    windows, wanted = torch.from_numpy(x), torch.from_numpy(y)
    count = windows.shape[1]
    steps = settings.epochs * -(-count // settings.batch)
    kinds = {"nn": nn.LSTM, "ours": fastlstm.LSTM}
    for kind in kinds.values():  # threads start and memory is mapped before the clock runs
        first = [torch.arange(min(settings.batch, count))]
        Contestant(kind, settings, windows.shape[2], steps).epoch(windows, wanted, first)
    contestants = {name: Contestant(kind, settings, windows.shape[2], steps) for name, kind in kinds.items()}
    order = torch.Generator().manual_seed(settings.seed)
    for epoch in range(settings.epochs):
        batches = torch.randperm(count, generator=order).split(settings.batch)  # type: ignore[no-untyped-call]
        for name in list(contestants) if epoch % 2 == 0 else reversed(contestants):
            contestants[name].epoch(windows, wanted, batches)
            advance(name)
        yield Pair(**contestants)
