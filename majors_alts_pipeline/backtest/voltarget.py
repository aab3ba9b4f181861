"""Volatility targeting on the forecast volatility of the always-on book (after Moreira & Muir 2017).

Every forecast is made of the book's *paper returns*: what the target weights of each day went on to earn, without
cost. Today's weights times past returns would describe the book about to be held more literally, but those weights
are made neutral by betas fitted to the same past: within that sample the book looks calmer than it will be. Measured
as realised / forecast volatility of the next day, on two real lakes and two simulated ones:

==========================  ==============  ==============
exponential, lambda 0.94    paper returns   today's weights
==========================  ==============  ==============
perpetuals 2023-25          0.99            1.05
spot 2021-22                1.00            1.11
simulated                   1.00, 1.00      1.05, 1.06
==========================  ==============  ==============

Paper returns also have the smaller quasi-likelihood loss in all but the second of these. They are one series, so
that a forecast costs O(days), and flat days are absent from them instead of zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import isfinite

import numpy as np

from majors_alts_pipeline.backtest.costs import DAYS_PER_YEAR, trailing_std
from majors_alts_pipeline.calendar import EPOCH
from majors_alts_pipeline.config.settings import BacktestSettings
from majors_alts_pipeline.numerics.garch import GarchFit, fit_garch, garch_volatility

NO_FORECAST = "none"
"""Model of a day on which the multiplier is neutral: the target is off, or too few returns are known."""

STALE = "garch_stale"
"""Model of a day on which the newest GARCH fit could not be used and an older one is in force."""


@dataclass(frozen=True)
class Forecast:
    """Volatility expected of the book decided at each close.

    Attributes:
        volatility: (days,) decimal per day, NaN where there is none.
        model: (days,) text: trailing, ewma, garch, `STALE` or `NO_FORECAST`.
    """

    volatility: np.ndarray
    model: np.ndarray

    @property
    def annual(self) -> np.ndarray:
        """(days,) decimal per year."""
        return self.volatility * np.sqrt(DAYS_PER_YEAR)


def paper_returns(weights: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Daily return of the targets of the day before, held without cost.

    Args:
        weights: (days, assets) target weights, 0 where none.
        price: (days, assets) USD, NaN where there is none: such an asset adds nothing that day.

    Returns:
        (days,) decimal per day; NaN on days after a flat book, which say nothing about its volatility.
    """
    returns = np.full(len(weights), np.nan)
    held = weights[:-1]
    moved = price[1:] / price[:-1] - 1.0
    # A running sum adds assets in order, so a column that is still empty cannot change the rounding.
    earned = np.cumsum(np.where((held != 0.0) & np.isfinite(moved), held * moved, 0.0), axis=1)[:, -1]
    returns[1:] = np.where((held != 0.0).any(axis=1), earned, np.nan)
    return returns


def multiplier(expected: Forecast, settings: BacktestSettings) -> np.ndarray:
    """(days,) multiplier of each close: min(multiplier_max, vol_target / forecast volatility).

    Args:
        expected: see `forecast`.
        settings: reads vol_target (annual) and multiplier_max.

    Returns:
        1 (or `multiplier_max` if lower) where the target is off or there is no forecast.
    """
    neutral = np.full(len(expected.volatility), min(1.0, settings.multiplier_max))
    if settings.vol_target is None:
        return neutral
    with np.errstate(divide="ignore"):
        wanted = settings.vol_target / expected.annual
    return np.where(np.isnan(expected.volatility), neutral, np.minimum(wanted, settings.multiplier_max))


def forecast(returns: np.ndarray, settings: BacktestSettings, first_day: int) -> Forecast:
    """Volatility expected after each close, from the returns up to and including its day.

    Args:
        returns: (days,) paper returns from the first day of the lake; NaN where the book was flat: such a day
            enters no estimate.
        settings: reads vol_target, vol_forecast, vol_min_obs, and what the chosen forecast needs of
            vol_window_days, ewma_lambda and garch_min_obs.
        first_day: day number of row 0.
    """
    if settings.vol_target is None:
        return Forecast(np.full(len(returns), np.nan), np.full(len(returns), NO_FORECAST, dtype=object))
    if settings.vol_forecast == "trailing":
        values = trailing_std(returns[:, None], settings.vol_window_days, settings.vol_min_obs, first_day)[:, 0]
        return _named(values, "trailing")
    smoothed = _named(ewma_volatility(returns, settings.ewma_lambda, settings.vol_min_obs), "ewma")
    if settings.vol_forecast == "ewma":
        return smoothed
    return _garch_forecast(returns, garch_fits(returns, settings, first_day), smoothed, first_day)


def _named(volatility: np.ndarray, model: str) -> Forecast:
    return Forecast(volatility, np.where(np.isnan(volatility), NO_FORECAST, model).astype(object))


def ewma_volatility(returns: np.ndarray, decay: float, min_obs: int) -> np.ndarray:
    """(days,) exponentially weighted volatility about 0, decimal per day (RiskMetrics Technical Document 1996).

    s2_t = sum_k decay^k r_{t-k}^2 / sum_k decay^k over the days with a return. This is the recursion
    s2 = decay s2 + (1 - decay) r^2 without its need for a first value. NaN before `min_obs` returns; on a day without
    a return the last value stands.
    """
    total = weight = 0.0
    known = 0
    out = []
    for value in returns.tolist():
        if isfinite(value):
            total, weight, known = decay * total + value * value, decay * weight + 1.0, known + 1
        out.append(total / weight if known >= max(min_obs, 1) else np.nan)
    return np.sqrt(np.array(out))


def garch_fits(returns: np.ndarray, settings: BacktestSettings, first_day: int) -> list[GarchFit]:
    """Every fit made on the first day of a quarter with at least garch_min_obs returns before it, failures included.

    A fit sees the returns of the days before its own only, so it does not depend on what was loaded after.
    """
    days = np.arange(first_day, first_day + len(returns)).astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    rows = np.nonzero((days == months.astype("datetime64[D]")) & (months.astype(int) % 3 == 0))[0]
    known = np.cumsum(np.isfinite(returns))
    return [
        fit_garch(returns[:row], EPOCH + timedelta(days=first_day + row))
        for row in rows.tolist()
        if row > 0 and known[row - 1] >= settings.garch_min_obs
    ]


def _garch_forecast(returns: np.ndarray, fits: list[GarchFit], before: Forecast, first_day: int) -> Forecast:
    """`before` until the first usable fit, then the newest usable one, filtered over all returns."""
    volatility, model = before.volatility.copy(), before.model.copy()
    good: GarchFit | None = None
    rows = [(fit.refit - EPOCH).days - first_day for fit in fits]
    for fit, row, following in zip(fits, rows, [*rows, len(returns)][1:], strict=True):
        good = fit if fit.usable else good
        if good is not None:
            volatility[row:following] = garch_volatility(returns[:following], good)[row:]
            model[row:following] = "garch" if fit.usable else STALE
    return Forecast(volatility, model)
