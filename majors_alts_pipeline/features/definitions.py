"""The regime features: what each is, in which unit, and which side it is expected to favour.

`sign` is the hypothesis in one figure: +1 when a high value should favour majors over alts in the days after,
-1 when it should favour alts. The hypotheses are stated before looking at the data and are not refitted; the
regime stage multiplies each z-score by its sign. Alts are the eligible alts of the day itself (for the alt
index: of the eve), so nobody enters because of what happened later.

Where a lake changes its venue, every volume jumps at once. The volume features and their z-scores see that as
a jump in trading; nothing corrects it, since the lake does not say what was venue and what was market. It
leaves the raw values after 43 days and the z-scores `features.z_window_days` later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np

from majors_alts_pipeline.features.market import (
    MIN_SHARE,
    DailySeries,
    Market,
    lagged,
    share,
    trailing_count,
    trailing_coverage,
    trailing_max,
    trailing_mean,
    trailing_slope,
    trailing_std,
    z_score,
)

_FAST, _SLOW = 10, 20
_WEEK, _MONTH = 7, 30


@dataclass(frozen=True)
class FeatureDefinition:
    """One feature.

    Attributes:
        name: as in `features.enabled` and in the table.
        unit: unit of the raw value.
        sign: +1 when a high value favours majors, -1 when it favours alts.
        hypothesis: why.
        lookback_days: days before D that the raw value of D reads.
        recipe: market to raw value and coverage of each day.
    """

    name: str
    unit: str
    sign: int
    hypothesis: str
    lookback_days: int
    recipe: Callable[[Market], DailySeries]


def _breadth_up(market: Market) -> DailySeries:
    known = market.alts.known(market.alt_returns)
    rising = market.alts.total((market.alt_returns > 0).astype(np.float64))
    return DailySeries(market.enough(share(rising, known), known), share(known, market.wanted_alts))


def _median_return(market: Market) -> DailySeries:
    return market.alt_median(market.alt_returns)


def _dispersion_iqr(market: Market) -> DailySeries:
    known = market.alts.known(market.alt_returns)
    lower, upper = market.alts.quantiles(market.alt_returns, [0.25, 0.75])
    return DailySeries(market.enough(upper - lower, known), share(known, market.wanted_alts))


def _breadth_slope(market: Market, days: int) -> DailySeries:
    breadth = _breadth_up(market)
    return DailySeries(trailing_slope(breadth.raw, days), trailing_coverage(breadth.coverage, days))


def _dominance(market: Market) -> DailySeries:
    members, btc = market.capital, market.majors[0]
    caps = market.marketcap[members.day, members.col]
    known = members.known(caps)
    level = market.marketcap[:, btc] / np.where(known > 0, members.total(caps), np.nan)
    return DailySeries(market.enough(level, known), share(known, members.count))


def _dominance_change(market: Market, days: int) -> DailySeries:
    members, btc = market.capital, market.majors[0]
    then = market.marketcap * (lagged(market.close, days) / market.close)
    caps_now = market.marketcap[members.day, members.col]
    caps_then = then[members.day, members.col]
    caps_now = np.where(np.isfinite(caps_then), caps_now, np.nan)
    known = members.known(caps_then)
    total_now, total_then = (np.where(known > 0, members.total(caps), np.nan) for caps in (caps_now, caps_then))
    change = market.marketcap[:, btc] / total_now - then[:, btc] / total_then
    return DailySeries(market.enough(change, known), share(known, members.count))


def _funding_skew(market: Market) -> DailySeries:
    return market.alt_minus_major(market.funding)


def _funding_heating(market: Market) -> DailySeries:
    median = market.alt_median(market.funding[market.alts.day, market.alts.col])
    heating = trailing_mean(median.raw, _FAST) - trailing_mean(median.raw, _SLOW)
    return DailySeries(heating, trailing_coverage(median.coverage, _SLOW))


def _alt_volume(market: Market) -> DailySeries:
    median = market.alt_median(market.volume[market.alts.day, market.alts.col])
    return DailySeries(trailing_mean(np.log(median.raw), _WEEK), trailing_coverage(median.coverage, _WEEK))


def _alt_volume_z_delta(market: Market) -> DailySeries:
    volume = _alt_volume(market)
    z = z_score(volume.raw, _MONTH, ceil(MIN_SHARE * _MONTH))
    return DailySeries(z - lagged(z, _WEEK), trailing_coverage(volume.coverage, _MONTH + _WEEK))


def _volume_highs(market: Market) -> DailySeries:
    members, volume = market.alts, market.volume
    highest = trailing_max(volume, _MONTH)[members.day, members.col]
    days = trailing_count(np.isfinite(volume), _MONTH)[members.day, members.col]
    today = volume[members.day, members.col]
    judged = np.isfinite(today) & (days >= ceil(MIN_SHARE * _MONTH))
    known = members.known(np.where(judged, today, np.nan))
    at_high = members.total((judged & (today >= highest)).astype(np.float64))
    return DailySeries(market.enough(share(at_high, known), known), share(known, market.wanted_alts))


def _vol_spread(market: Market) -> DailySeries:
    index, btc = market.alt_index_return, market.ret[:, market.majors[0]]
    coverage = (index.coverage + np.isfinite(btc)) / 2.0
    raw = trailing_std(index.raw, _WEEK) - trailing_std(btc, _WEEK)
    return DailySeries(raw, trailing_coverage(coverage, _WEEK))


def _momentum(market: Market, days: int) -> DailySeries:
    return market.alt_minus_major(market.period_return(days))


def _oi_risk(market: Market) -> DailySeries:
    members, interest, close = market.tradable, market.open_interest, market.close
    then = lagged(interest, _WEEK)[members.day, members.col]
    at_old_price = (interest * (lagged(close, _WEEK) / close))[members.day, members.col]
    both = np.isfinite(then) & np.isfinite(at_old_price)
    known = members.known(np.where(both, then, np.nan))
    exists = known > 0
    before = np.where(exists, members.total(np.where(both, then, np.nan)), np.nan)
    after = np.where(exists, members.total(np.where(both, at_old_price, np.nan)), np.nan)
    return DailySeries(np.log(after / before), share(known, members.count))


_ALL = (
    FeatureDefinition(
        "breadth_up",
        "fraction of eligible alts with a positive return",
        -1,
        "A broad alt advance shows risk appetite that persists for days, which favours alts.",
        0,
        _breadth_up,
    ),
    FeatureDefinition(
        "median_return",
        "decimal per day",
        -1,
        "The typical alt's return persists over days, which favours alts when it is high.",
        0,
        _median_return,
    ),
    FeatureDefinition(
        "dispersion_iqr",
        "decimal per day, interquartile range of alt returns",
        1,
        "Wide dispersion means idiosyncratic alt stress and narrow leadership, which favours majors.",
        0,
        _dispersion_iqr,
    ),
    FeatureDefinition(
        "breadth_slope_5",
        "fraction per day, least-squares slope of breadth_up over 5 days",
        -1,
        "Widening participation over a week feeds on itself, which favours alts.",
        4,
        partial(_breadth_slope, days=5),
    ),
    FeatureDefinition(
        "breadth_slope_20",
        "fraction per day, least-squares slope of breadth_up over 20 days",
        -1,
        "Participation that widens over a month marks an alt season, which favours alts.",
        19,
        partial(_breadth_slope, days=20),
    ),
    FeatureDefinition(
        "btc_dominance",
        "fraction of the summed cap of assets that are not stable, wrapped, pegged or gold",
        1,
        "High dominance marks a market that shelters in BTC; the trait is slow and favours majors.",
        0,
        _dominance,
    ),
    FeatureDefinition(
        "btc_dominance_change_1",
        "fraction per day, same assets and the supply known on the day at both ends",
        1,
        "Capital that rotates into BTC keeps rotating for days, which favours majors.",
        1,
        partial(_dominance_change, days=1),
    ),
    FeatureDefinition(
        "btc_dominance_change_5",
        "fraction per 5 days, same assets and the supply known on the day at both ends",
        1,
        "A week of rotation into BTC is a trend rather than noise, which favours majors.",
        5,
        partial(_dominance_change, days=5),
    ),
    FeatureDefinition(
        "funding_skew",
        "decimal per day, alt median less mean of majors",
        1,
        "Alt longs that pay more than majors' are crowded and carry against alts, which favours majors.",
        0,
        _funding_skew,
    ),
    FeatureDefinition(
        "funding_heating",
        "decimal per day, 10-day less 20-day mean of the alt median",
        1,
        "Alt funding that heats up shows leverage being built; its unwinding favours majors.",
        19,
        _funding_heating,
    ),
    FeatureDefinition(
        "alt_volume",
        "ln USD per day, 7-day mean of the log of the median alt volume",
        -1,
        "Money that trades alts is money that flows to alts, which favours alts.",
        6,
        _alt_volume,
    ),
    FeatureDefinition(
        "alt_volume_z_delta",
        "standard deviations per 7 days, change of the 30-day z-score of alt_volume",
        -1,
        "Rising alt activity against its own month is an inflow, which favours alts.",
        42,
        _alt_volume_z_delta,
    ),
    FeatureDefinition(
        "volume_highs",
        "fraction of eligible alts whose volume is the highest of 30 days",
        1,
        "Volume records across alts mark a climax, by euphoria or liquidation, which favours majors.",
        29,
        _volume_highs,
    ),
    FeatureDefinition(
        "vol_spread",
        "decimal per day, 7-day realised volatility of the equal-weight alt index less BTC's",
        1,
        "Alts more turbulent than BTC are under stress and deleverage first, which favours majors.",
        7,
        _vol_spread,
    ),
    FeatureDefinition(
        "momentum_3",
        "decimal per 3 days, alt median less mean of majors",
        -1,
        "Relative strength of alts persists over days, which favours alts.",
        3,
        partial(_momentum, days=3),
    ),
    FeatureDefinition(
        "momentum_7",
        "decimal per 7 days, alt median less mean of majors",
        -1,
        "Relative strength of alts over a week persists, which favours alts.",
        7,
        partial(_momentum, days=7),
    ),
    FeatureDefinition(
        "oi_risk",
        "ln ratio per 7 days, open interest at constant prices of majors and eligible alts",
        1,
        "Contracts that grow faster than prices explain are new leverage, whose unwinding favours majors.",
        7,
        _oi_risk,
    ),
)

DEFINITIONS: dict[str, FeatureDefinition] = {definition.name: definition for definition in _ALL}
