"""What a trade and a held position cost: fees, half spread, square-root impact, funding, exit haircuts.

A trade of |n| USD pays  |n| x (fee + half spread + Y sigma sqrt(|n| / ADV)),  sigma being the daily
volatility and ADV the median daily volume: the square-root law (Almgren, Thum, Hauptmann & Li 2005; Toth et
al. 2011). A resting (maker) order does not cross the spread, so only the taker share of the notional pays
the half spread.
"""

from __future__ import annotations

import numpy as np

from majors_alts_pipeline.config.settings import CostSettings
from majors_alts_pipeline.numerics.windows import window_mean_std

DAYS_PER_YEAR = 365
_NORMAL_MAD = 1.4826


def fee_rate(costs: CostSettings) -> float:
    """Fee in decimal of traded notional: the maker/taker mix."""
    return costs.maker_share * costs.maker_fee + (1.0 - costs.maker_share) * costs.taker_fee


def half_spread(full_spread: np.ndarray, costs: CostSettings) -> np.ndarray:
    """(days, assets) half spread crossed per unit of notional by the taker share of an order."""
    return np.ascontiguousarray(full_spread * (0.5 * (1.0 - costs.maker_share)))


def impact_unit(returns: np.ndarray, day_dispersion: np.ndarray, costs: CostSettings, first_day: int) -> np.ndarray:
    """(days, assets) Y x daily volatility, the impact of trading one day's volume.

    Args:
        returns: (days, assets) simple daily returns from the first day of the lake, NaN where there is none.
        day_dispersion: (days,) volatility standing in for an asset with fewer than two returns in the window:
            the robust cross-sectional one of the day (`cross_sectional_volatility`); NaN before
            the first return.
        costs: reads impact_coefficient and impact_vol_window_days.
        first_day: day number of row 0.
    """
    volatility = trailing_std(returns, costs.impact_vol_window_days, 2, first_day)
    return costs.impact_coefficient * np.where(np.isnan(volatility), day_dispersion[:, None], volatility)


def trailing_std(values: np.ndarray, window: int, min_obs: int, first_day: int) -> np.ndarray:
    """Trailing standard deviation of a series that begins at row 0, so that no window is cut short there."""
    before = np.full((window - 1, *values.shape[1:]), np.nan)
    _, std, _ = window_mean_std(np.concatenate([before, values]), window, first_day - (window - 1), min_obs)
    return std[window - 1 :]


def cross_sectional_volatility(median_absolute_return: np.ndarray) -> np.ndarray:
    """(days,) robust volatility of one day across assets: 1.4826 x median |return| (the normal MAD)."""
    return _NORMAL_MAD * median_absolute_return


def missing_funding_rate(costs: CostSettings) -> float:
    """Stand-in charge for missing funding, decimal per day."""
    return costs.missing_funding_annual / DAYS_PER_YEAR
