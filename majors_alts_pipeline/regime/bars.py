"""Trend, choppiness and volatility of daily bars, and what they would show of a market without trends.

The null is a random walk with the market's own bars (filtered historical simulation after Barone-Adesi, Giannopoulos
& Vosper 1999): bars are drawn with replacement from the past, each in units of the volatility a GARCH(1,1) expected
of its day, mirrored with probability 1/2 and scaled by a simulated GARCH volatility. It has the market's gaps, tails,
intraday shapes and volatility clusters, but no direction that persists and no extreme of volatility beyond those
clusters. An indicator above its upper quantile under this null is above it by chance on a stated share of days, which
no fixed number offers: ADX > 25 holds on 37 to 48 % of the days of a random walk, depending on its bars.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from majors_alts_pipeline.numerics.garch import PERCENT, GarchFit

PERIOD = 14
"""Bars of ADX, ATR and choppiness."""

MEDIAN_BARS = 60
"""Trailing bars whose median ATR the newest ATR is compared with."""

WARM_UP = 150
"""Bars before an indicator is used: Wilder's recursions forget their start to 0.003 points of ADX by then."""

USED_BARS = 300
"""Bars of each simulated path after the warm-up."""

INDICATORS = ("adx", "direction", "choppiness", "spike")


def choppiness(period: int = PERIOD) -> pl.Expr:
    """100 log10(sum of true ranges / (highest high - lowest low)) / log10(period) of columns high, low and close.

    0 for a straight line; about 47 on a random walk of daily bars; 100 when every bar covers the whole range.
    """
    import polars_talib as ta

    high, low = pl.col("high"), pl.col("low")
    travelled = ta.trange(high, low, pl.col("close")).fill_nan(None).rolling_sum(period)
    return 100.0 * (travelled / (high.rolling_max(period) - low.rolling_min(period))).log10() / np.log10(period)


def indicators(bars: pl.DataFrame, by: str | None = None) -> pl.DataFrame:
    """Indicators of bars in order of time.

    Args:
        bars: columns high, low, close without nulls.
        by: column of the path a bar belongs to; None when there is one.

    Returns:
        One row per bar: adx, 0 to 100 (Wilder 1978); direction, +DI - -DI; choppiness; spike, ATR / its own trailing
        median. Null where too few bars are behind, or a range is 0.
    """
    import polars_talib as ta

    ohlc = (pl.col("high"), pl.col("low"), pl.col("close"))
    atr = ta.atr(*ohlc, timeperiod=PERIOD).fill_nan(None)
    expressions = {
        "adx": ta.adx(*ohlc, timeperiod=PERIOD),
        "direction": ta.plus_di(*ohlc, timeperiod=PERIOD) - ta.minus_di(*ohlc, timeperiod=PERIOD),
        "choppiness": choppiness(),
        "spike": atr / atr.rolling_median(MEDIAN_BARS),
    }
    values = bars.select(**{name: value if by is None else value.over(by) for name, value in expressions.items()})
    # Apart, or each window expression would be computed twice.
    return values.select(pl.when(pl.all().is_finite()).then(pl.all()))


def shapes(bars: pl.DataFrame) -> np.ndarray:
    """(n - 1, 3) ln of high, low and close over the close of the bar before."""
    before = bars["close"].to_numpy()[:-1]
    return np.log(np.column_stack([bars[name].to_numpy()[1:] / before for name in ("high", "low", "close")]))


def random_walks(
    standard: np.ndarray, volatility: np.ndarray, fit: GarchFit, paths: int, seed: list[int]
) -> pl.DataFrame:
    """Bars of the null.

    Args:
        standard: (n, 3) `shapes` of the past, each divided by the volatility expected of its day.
        volatility: (n,) those volatilities, decimal per day; each path starts at one of them.
        fit: what moves the volatility.
        paths: number of paths.
        seed: of the draws.

    Returns:
        path, high, low, close: WARM_UP + USED_BARS bars of each path.
    """
    rng = np.random.default_rng(seed)
    length = WARM_UP + USED_BARS
    drawn = standard[rng.integers(len(standard), size=(length, paths))]
    upright = rng.random((length, paths)) < 0.5
    variance = (PERCENT * volatility[rng.integers(len(volatility), size=paths)]) ** 2
    logs = np.empty((3, length, paths))
    last = np.zeros(paths)
    for t in range(length):
        high, low, close = drawn[t].T * (np.sqrt(variance) / PERCENT)
        high, low = np.where(upright[t], high, -low), np.where(upright[t], low, -high)
        close = np.where(upright[t], close, -close)
        logs[:, t] = last + high, last + low, last + close
        last = logs[2, t]
        variance = fit.omega + fit.alpha * (PERCENT * close) ** 2 + fit.beta * variance
    high, low, close = np.exp(logs.transpose(0, 2, 1)).reshape(3, -1)
    return pl.DataFrame({"path": np.repeat(np.arange(paths), length), "high": high, "low": low, "close": close})


def null_quantiles(walks: pl.DataFrame, level: float) -> dict[str, float]:
    """Quantile `level` of adx, choppiness and spike over the bars of `random_walks` after their warm-up."""
    number = pl.int_range(pl.len()).over("path")
    used = indicators(walks, by="path").filter(walks.select(number >= WARM_UP).to_series())
    return {
        name: float(np.quantile(used[name].drop_nulls().to_numpy(), level)) for name in ("adx", "choppiness", "spike")
    }
