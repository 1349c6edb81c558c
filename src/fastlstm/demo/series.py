"""The weekly CO2 series that ships with the package, as windows to forecast a year from, and the forecasts to beat.

The concentration rises by more in the record than any season moves it, so a window is taken relative to its own level,
the mean of its last 52 weeks, which holds no season; the year ahead is forecast relative to that level too. Season and
growth are left for the model to learn. Nothing of the held-out years is seen in training: every training window ends,
targets included, before they begin, and the one number that scales all windows comes from the training years.
"""

import csv
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

YEAR = 52  # weeks
WINDOW = 2 * YEAR  # weeks of history a forecast is made from
HELD_OUT_FROM = np.datetime64("1994-01-01")

Floats = NDArray[np.float64]
Weeks = NDArray[np.int64]


class Series(NamedTuple):
    """One value a week; a gap is filled on a straight line, and `measured` is False there."""

    dates: NDArray[np.datetime64]
    co2: Floats
    measured: NDArray[np.bool_]

    @property
    def held_out(self) -> int:
        """The index of the first week that training must not see."""
        return int(np.searchsorted(self.dates, HELD_OUT_FROM))

    @property
    def level(self) -> Floats:
        """The mean of the 52 weeks up to and with each week; not a number before there are so many."""
        means = np.convolve(self.co2, np.full(YEAR, 1 / YEAR), mode="valid")
        return np.concatenate([np.full(YEAR - 1, np.nan), means])


def load() -> Series:
    """The series of `fastlstm/data`, whose README names its source and terms."""
    with (files("fastlstm") / "data" / "co2_mauna_loa_weekly.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = np.array([float(row["co2_ppm"] or "nan") for row in rows])
    weeks, measured = np.arange(len(rows)), ~np.isnan(values)
    dates = np.array([row["date"] for row in rows], dtype="datetime64[D]")
    return Series(dates, np.interp(weeks, weeks[measured], values[measured]), measured)


def scale_of(series: Series) -> float:
    """The deviation (ppm) of what is to be forecast, over the training windows alone."""
    origins = training_origins(series)
    return float((series.co2[_weeks(origins, 1, YEAR + 1)] - series.level[origins]).std())


def inputs(series: Series, scale: float, origins: Weeks) -> NDArray[np.float32]:
    """The WINDOW weeks up to and with each origin, (WINDOW, N, 3): co2 above the level, scaled, and the season."""
    weeks = _weeks(origins, 1 - WINDOW, 1)
    day = (series.dates - series.dates.astype("datetime64[Y]")).astype(np.int64)
    angle = 2 * np.pi * day[weeks] / 365.25
    co2 = (series.co2[weeks] - series.level[origins]) / scale
    return np.stack([co2, np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


def targets(series: Series, scale: float, origins: Weeks) -> NDArray[np.float32]:
    """The YEAR weeks after each origin, (N, YEAR): co2 above the level, scaled."""
    above = series.co2[_weeks(origins, 1, YEAR + 1)] - series.level[origins]
    return np.ascontiguousarray(above.T / scale, dtype=np.float32)


def in_ppm(series: Series, scale: float, origins: Weeks, forecast: NDArray[np.float32]) -> Floats:
    """A forecast (N, YEAR) of what `targets` gives, as a concentration."""
    return series.level[origins, None] + scale * forecast.astype(np.float64)


def _weeks(origins: Weeks, start: int, stop: int) -> Weeks:
    """The weeks from `start` to `stop` (not included) after each origin, (stop - start, N)."""
    return np.arange(start, stop)[:, None] + origins[None, :]


def training_origins(series: Series) -> Weeks:
    """Every week with a full window behind it and a full year before the held-out ones ahead."""
    return np.arange(WINDOW - 1, series.held_out - YEAR)


def held_out_origins(series: Series) -> Weeks:
    """Every measured week from the last one before the held-out years that has a full year ahead.

    Where the origin is measured, no filled gap before it has looked past it.
    """
    origins = np.arange(series.held_out - 1, len(series.co2) - YEAR)
    return origins[series.measured[origins]]


def truth(series: Series, origins: Weeks) -> Floats:
    """What came, (N, YEAR); not a number in weeks that nobody measured."""
    weeks = _weeks(origins, 1, YEAR + 1).T
    return np.where(series.measured[weeks], series.co2[weeks], np.nan)


def seasonal_naive(series: Series, origins: Weeks) -> Floats:
    """The value 52 weeks before, (N, YEAR)."""
    return series.co2[_weeks(origins, 1 - YEAR, 1).T]


def seasonal_naive_with_drift(series: Series, origins: Weeks) -> Floats:
    """The value 52 weeks before plus the mean yearly change from the series' start to the origin, (N, YEAR)."""
    change = series.co2[YEAR:] - series.co2[:-YEAR]
    drift: Floats = np.array([change[: origin - YEAR + 1].mean() for origin in origins])
    return seasonal_naive(series, origins) + drift[:, None]
