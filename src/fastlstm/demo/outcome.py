"""What the demo found: forecasts of the held-out years beside the truth, and the claims that must hold."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastlstm.demo import series as co2
from fastlstm.demo.series import Floats, Series, Weeks
from fastlstm.demo.training import EVERY_EPOCH, FIRST_EPOCH, Contestant, Pair


class Outcome(NamedTuple):
    """The held-out origins, the truth and every forecast after them, each (N, YEAR) in ppm, and the trained pair."""

    series: Series
    scale: float
    pair: Pair
    origins: Weeks
    truth: Floats
    ours: Floats
    nn: Floats
    naive: Floats
    drift: Floats

    def rmse(self, forecast: Floats) -> float:
        """Root mean square error over every held-out week that was measured."""
        return float(np.sqrt(np.nanmean((forecast - self.truth) ** 2)))

    def mae(self, forecast: Floats) -> float:
        """Mean absolute error over every held-out week that was measured."""
        return float(np.nanmean(np.abs(forecast - self.truth)))

    def gain(self, over: Floats) -> float:
        """By what part of its RMSE our forecast beats another."""
        return 1 - self.rmse(self.ours) / self.rmse(over)

    def failures(self) -> list[str]:
        """The claims of the demo that do not hold; empty when all is well."""
        first, every = self.pair.first_epoch_difference(), self.pair.epoch_difference()
        claims = {
            f"the losses of the first epoch differ by {first:.1e}, more than {FIRST_EPOCH:.0e}": first <= FIRST_EPOCH,
            f"the mean losses of an epoch differ by {every:.1e}, more than {EVERY_EPOCH:.0e}": every <= EVERY_EPOCH,
            "the forecast does not beat the seasonal naive one": self.gain(self.naive) > 0,
        }
        return [failure for failure, holds in claims.items() if not holds]


def forecast(contestant: Contestant, series: Series, scale: float, origins: Weeks) -> Floats:
    """A contestant's forecast of the concentration after each origin, (N, YEAR)."""
    with torch.inference_mode():
        scaled: NDArray[np.float32] = contestant.forecast(torch.from_numpy(co2.inputs(series, scale, origins))).numpy()
    return co2.in_ppm(series, scale, origins, scaled)


def evaluate(series: Series, scale: float, pair: Pair) -> Outcome:
    """Forecast the held-out years with both, and with nothing but last year's values."""
    origins = co2.held_out_origins(series)
    return Outcome(
        series,
        scale,
        pair,
        origins,
        truth=co2.truth(series, origins),
        ours=forecast(pair.ours, series, scale, origins),
        nn=forecast(pair.nn, series, scale, origins),
        naive=co2.seasonal_naive(series, origins),
        drift=co2.seasonal_naive_with_drift(series, origins),
    )
