"""Table `market`: what the regime models read of the market as a whole besides the features."""

from __future__ import annotations

import numpy as np
import polars as pl
from numba import njit

from majors_alts_pipeline.features.market import Market

CORRELATION_DAYS = 30
"""Trailing window of the average correlation."""


def market_rows(market: Market) -> pl.DataFrame:
    """Rows of `market` for every day of the loaded window, the look-back included."""
    first = market.majors[0]
    correlation, n_assets = average_correlation(
        market.ret, market.tradable.day, market.tradable.col, CORRELATION_DAYS, market.min_assets
    )
    values = {
        **{name: market.facts.floats(name)[:, first] for name in ("open", "high", "low", "close")},
        "majors_minus_alts": -market.alt_minus_major(market.ret).raw,
        "average_correlation": correlation,
    }
    return pl.DataFrame(
        {
            "date": pl.date_range(market.window.start, market.window.end, eager=True),
            **{name: pl.Series(column).fill_nan(None) for name, column in values.items()},
            "n_correlated": n_assets,
        }
    )


def average_correlation(
    returns: np.ndarray, day: np.ndarray, col: np.ndarray, window: int, min_assets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean pairwise Pearson correlation of each day's members over the trailing window.

    With returns standardised so that each asset's squares sum to 1, all correlations of n assets sum to
    sum_t (sum_i z_it)^2, hence O(window x n) and not O(window x n^2): (that - n) / (n (n - 1)).

    Args:
        returns: (days, assets) decimal per day, NaN where unknown.
        day: (m,) rows of the members, ascending.
        col: (m,) columns of the members, ascending within a day.
        window: days, the day itself included. A member takes part with all its returns known and varying.
        min_assets: members without which there is no value.

    Returns:
        (days,) correlation in [-1 / (n - 1), 1], NaN where too few take part; (days,) int32 of how many did.
    """
    offsets = np.searchsorted(day, np.arange(len(returns) + 1))
    return _average_correlation(np.ascontiguousarray(returns), offsets, col, window, max(min_assets, 2))


@njit(cache=True)
def _average_correlation(
    returns: np.ndarray, offsets: np.ndarray, col: np.ndarray, window: int, min_assets: int
) -> tuple[np.ndarray, np.ndarray]:
    days = returns.shape[0]
    out = np.full(days, np.nan)
    counts = np.zeros(days, dtype=np.int32)
    total = np.empty(window)
    for t in range(window - 1, days):
        total[:] = 0.0
        n = 0
        for k in range(offsets[t], offsets[t + 1]):
            c = col[k]
            mean = 0.0
            for s in range(t - window + 1, t + 1):
                mean += returns[s, c]
            mean /= window
            squares = 0.0
            for s in range(t - window + 1, t + 1):
                squares += (returns[s, c] - mean) ** 2
            # A NaN anywhere in the window makes `squares` NaN, which is not above the bound.
            if not squares > 1e-24 * window:
                continue
            n += 1
            scale = 1.0 / np.sqrt(squares)
            for s in range(window):
                total[s] += (returns[t - window + 1 + s, c] - mean) * scale
        counts[t] = n
        if n >= min_assets:
            whole = 0.0
            for s in range(window):
                whole += total[s] * total[s]
            out[t] = (whole - n) / (n * (n - 1.0))
    return out, counts
