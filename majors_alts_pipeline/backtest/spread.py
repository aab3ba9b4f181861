"""Bid-ask spreads from daily bars: rolling EDGE, shrunk towards the configured spread by its own error.

EDGE (Ardia, Guidotti & Kroencke 2024, JFE 161:103916) finds the squared spread in the bounce of opens and
closes about the mid-range. With log prices, m = (high + low) / 2 and ' the day before,

    r1 = m - o,  r2 = o - m',  r3 = m - c',  r4 = c' - m',  r5 = o - c',

the two moment conditions are linear in seven daily products g = (r1 r2, tau r2, r3 r4, tau r4, r1 r5, tau
r5, r4 r5), with coefficients that depend on the window only. So x1 = a'g and x2 = b'g, and their means,
variances and covariance follow from the window sums of g and of its 28 products: one pass, O(days x
assets).

On daily bars this is a noisy instrument: over 60 days one perpetual's s^2 has a standard error of (1 to 5
bp)^2 for BTC but (5 to 50 bp)^2 for alts, against true spreads of 1 to 10 bp, and the errors share the
market's moves and a few jumps, so the cross-sectional mean is no better (it swings between -(88 bp)^2 and
(31 bp)^2 from quarter to quarter). Rooting |s^2|, as is common, would turn that noise into cost, and
flooring negatives would turn it into thrift. So each s^2 is shrunk by its own standard error towards the
square of `costs.spread_default`, the prior:

    s*^2 = (v s^2 + se^2 d^2) / (v + se^2),      d = costs.spread_default,  v = d^4,

the posterior mean when the squared spread is believed to lie about d^2 with standard deviation d^2. What
the bars determine (majors, wide markets) is taken from them; where they cannot tell, the default stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from majors_alts_pipeline.config.settings import CostSettings
from majors_alts_pipeline.numerics.columns import over_columns, window_sum_column

OPEN_SHARE_MIN = 0.25
"""Least share of days whose open differs from the previous close. Where a venue copies the close into the
next open, the bounce between them, which carries nearly all the information in a market that never shuts,
is not in the data."""

_BASIS = 7
_SQUARES = _BASIS * (_BASIS + 1) // 2
_R1, _R3, _R5, _TAU, _OPEN, _CLOSE, _N, _MOVED = range(_BASIS + _SQUARES, _BASIS + _SQUARES + 8)
_MOMENTS = _BASIS + _SQUARES + 8


@dataclass(frozen=True)
class Edge:
    """Rolling EDGE, unshrunk.

    Attributes:
        s2: (days, assets) signed squared spread; NaN where it cannot be computed.
        se: (days, assets) its standard error, that of the mean of independent days.
        n_obs: (days, assets) pairs of consecutive complete bars; NaN where the window is not wholly loaded.
        moved_share: (days, assets) share of them whose open differs from the previous close.
    """

    s2: np.ndarray
    se: np.ndarray
    n_obs: np.ndarray
    moved_share: np.ndarray

    @property
    def signed(self) -> np.ndarray:
        """(days, assets) sign(s2) sqrt(|s2|), the estimator as published."""
        return np.sign(self.s2) * np.sqrt(np.abs(self.s2))


@dataclass(frozen=True)
class Spreads:
    """Full proportional spreads to trade at.

    Attributes:
        spread: (days, assets) decimal of price, between `costs.spread_min` and `costs.spread_max`, never NaN.
        estimated: (days, assets) bool, True where it comes from EDGE, else it is `costs.spread_default`.
    """

    spread: np.ndarray
    estimated: np.ndarray

    @property
    def kind(self) -> np.ndarray:
        """(days, assets) text, ``edge`` or ``default``."""
        return np.where(self.estimated, "edge", "default")


@njit(cache=True, nogil=True)
def _day(bar: np.ndarray, before: np.ndarray, g: np.ndarray, row: np.ndarray) -> None:
    o, h, low, c1 = bar[0], bar[1], bar[2], before[3]
    m, m1 = (h + low) / 2.0, (before[1] + before[2]) / 2.0
    tau = 1.0 if h != low or low != c1 else 0.0
    r1, r2, r3, r4, r5 = m - o, o - m1, m - c1, c1 - m1, o - c1
    g[0], g[1], g[2], g[3] = r1 * r2, tau * r2, r3 * r4, tau * r4
    g[4], g[5], g[6] = r1 * r5, tau * r5, r4 * r5
    row[:_BASIS] = g
    place = _BASIS
    for i in range(_BASIS):
        for j in range(i, _BASIS):
            row[place] = g[i] * g[j]
            place += 1
    row[_R1], row[_R3], row[_R5], row[_TAU] = r1, r3, r5, tau
    row[_OPEN] = tau * (int(o != h) + int(o != low))
    row[_CLOSE] = tau * (int(c1 != before[1]) + int(c1 != before[2]))
    row[_N] = 1.0
    row[_MOVED] = int(o != c1)


@njit(cache=True, nogil=True)
def _bilinear(a: np.ndarray, squares: np.ndarray, b: np.ndarray) -> float:
    total, place = 0.0, 0
    for i in range(_BASIS):
        total += a[i] * b[i] * squares[place]
        place += 1
        for j in range(i + 1, _BASIS):
            total += (a[i] * b[j] + a[j] * b[i]) * squares[place]
            place += 1
    return total


@njit(cache=True, nogil=True)
def _estimate(sums: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    n = sums[_N]
    mean = sums / n
    if sums[_TAU] < 2.0 or mean[_OPEN] == 0.0 or mean[_CLOSE] == 0.0:
        return np.nan, np.nan
    at_open, at_close = -4.0 / mean[_OPEN], -4.0 / mean[_CLOSE]
    d1, d3, d5 = mean[_R1] / mean[_TAU], mean[_R3] / mean[_TAU], mean[_R5] / mean[_TAU]
    a[:] = 0.0
    b[:] = 0.0
    a[0], a[1], a[2], a[3] = at_open, -at_open * d1, at_close, -at_close * d3
    b[4], b[5], b[6], b[3] = at_open, -at_open * d1, at_close, -at_close * d5
    e1 = e2 = 0.0
    for i in range(_BASIS):
        e1 += a[i] * mean[i]
        e2 += b[i] * mean[i]
    squares = mean[_BASIS : _BASIS + _SQUARES]
    v1 = _bilinear(a, squares, a) - e1 * e1
    v2 = _bilinear(b, squares, b) - e2 * e2
    together = _bilinear(a, squares, b) - e1 * e2
    w1 = v2 / (v1 + v2) if v1 + v2 > 0.0 else 0.5
    w2 = 1.0 - w1
    variance = w1 * w1 * v1 + w2 * w2 * v2 + 2.0 * w1 * w2 * together
    return w1 * e1 + w2 * e2, np.sqrt(max(variance, 0.0) / n)


@njit(cache=True, nogil=True)
def _columns(bars: np.ndarray, pairs: int, min_pairs: int, first_day: int, out: np.ndarray) -> None:
    assets, days, _ = bars.shape
    rows, sums = np.zeros((days, _MOMENTS)), np.empty((days, _MOMENTS))
    tail, g = np.empty((pairs, _MOMENTS)), np.empty(_BASIS)
    a, b = np.empty(_BASIS), np.empty(_BASIS)
    for j in range(assets):
        complete = False
        for t in range(days):
            before = complete
            complete = True
            for k in range(4):
                complete = complete and np.isfinite(bars[j, t, k])
            if complete and before:
                _day(bars[j, t], bars[j, t - 1], g, rows[t])
            else:
                rows[t] = 0.0
        window_sum_column(rows, pairs, first_day, sums, tail)
        for t in range(days):
            n = sums[t, _N]
            out[j, t, 0] = out[j, t, 1] = out[j, t, 3] = np.nan
            out[j, t, 2] = n
            # Row 0 has no loaded day before it, so a window that begins there is not wholly loaded either.
            if t < pairs:
                out[j, t, 2] = np.nan
            elif n >= min_pairs:
                out[j, t, 0], out[j, t, 1] = _estimate(sums[t], a, b)
                out[j, t, 3] = sums[t, _MOVED] / n


def rolling_edge(
    open_: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    window: int,
    min_obs: int,
    first_day: int,
) -> Edge:
    """EDGE over the trailing `window` bars of every asset; a bar counts with that of the day before.

    Args:
        open_: (days, assets) first price of the day, any currency unit, NaN where there is no bar.
        high: (days, assets) highest.
        low: (days, assets) lowest.
        close: (days, assets) last.
        window: trailing bars, as in `bidask.edge_rolling`: window - 1 pairs; >= 3. Look-back window - 1 days.
        min_obs: bars needed, gaps counted out; >= 3.
        first_day: day number of row 0.

    Raises:
        ValueError: window or min_obs below 3, the least EDGE is defined for.
    """
    if window < 3 or min_obs < 3:
        raise ValueError(f"EDGE needs 3 bars or more, got window {window}, min_obs {min_obs}")
    with np.errstate(divide="ignore", invalid="ignore"):
        bars = np.log(np.stack([open_.T, high.T, low.T, close.T], axis=-1))
    days, assets = close.shape
    out = np.empty((assets, days, 4))

    def work(first: int, last: int) -> None:
        _columns(bars[first:last], window - 1, min_obs - 1, first_day, out[first:last])

    over_columns(work, assets, days)
    return Edge(*(np.ascontiguousarray(out[:, :, k].T) for k in range(4)))


def spreads(
    open_: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    costs: CostSettings,
    first_day: int,
) -> Spreads:
    """Spread of every asset on every day, from EDGE where the bars allow, else `costs.spread_default`.

    Rows must begin `costs.spread_window_days` before the first wanted day (as NaN, before the lake begins).

    Args:
        open_: (days, assets) first price of the day, any currency unit, NaN where there is no bar.
        high: (days, assets) highest.
        low: (days, assets) lowest.
        close: (days, assets) last.
        costs: reads spread_window_days, spread_min_obs, spread_default, spread_min and spread_max.
        first_day: day number of row 0.
    """
    edge = rolling_edge(open_, high, low, close, costs.spread_window_days, costs.spread_min_obs, first_day)
    estimated = np.isfinite(edge.s2) & (edge.moved_share >= OPEN_SHARE_MIN)
    prior = costs.spread_default**2
    precise = prior**2 / np.maximum(prior**2 + edge.se**2, np.finfo(float).tiny)
    shrunk = np.maximum(precise * edge.s2 + (1.0 - precise) * prior, 0.0)
    bounded = np.clip(np.sqrt(shrunk), costs.spread_min, costs.spread_max)
    return Spreads(np.where(estimated, bounded, costs.spread_default), estimated)
