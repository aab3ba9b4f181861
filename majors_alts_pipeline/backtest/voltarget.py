"""Volatility targeting from the paper returns of the always-on book (after Moreira & Muir 2017)."""

from __future__ import annotations

import numpy as np

from majors_alts_pipeline.backtest.costs import DAYS_PER_YEAR, trailing_std
from majors_alts_pipeline.config.settings import BacktestSettings


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


def multiplier(returns: np.ndarray, settings: BacktestSettings, first_day: int) -> np.ndarray:
    """(days,) multiplier of each close: min(multiplier_max, vol_target / trailing volatility).

    Args:
        returns: (days,) paper returns from the first day of the lake; NaN where the book was flat.
        settings: reads vol_target (annual), vol_window_days, vol_min_obs and multiplier_max.
        first_day: day number of row 0.

    Returns:
        1 (or `multiplier_max` if lower) where the target is off or fewer than vol_min_obs returns are known.
    """
    neutral = np.full(len(returns), min(1.0, settings.multiplier_max))
    if settings.vol_target is None:
        return neutral
    daily = trailing_std(returns[:, None], settings.vol_window_days, settings.vol_min_obs, first_day)[:, 0]
    with np.errstate(divide="ignore"):
        wanted = settings.vol_target / (daily * np.sqrt(DAYS_PER_YEAR))
    return np.where(np.isnan(daily), neutral, np.minimum(wanted, settings.multiplier_max))
