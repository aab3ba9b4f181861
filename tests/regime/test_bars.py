"""Indicators against textbook recursions, their warm-up, and false alarms on random walks."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from bar_frames import FIRST, bars_of, detector_settings, history_of, market_of_bars, walk

from majors_alts_pipeline.regime.bars import PERIOD, WARM_UP, choppiness, indicators
from majors_alts_pipeline.regime.trend_chop import CHOPPY, CRISIS, DOWN, RANGING, UNKNOWN, UP, Series, fit_detector


def wilder(high: np.ndarray, low: np.ndarray, close: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """ADX, +DI and -DI by TA-Lib's rules: sums over n - 1 bars start the recursion, the mean of n DX the ADX."""
    up, down = np.diff(high), -np.diff(low)
    plus = np.where((up > down) & (up > 0), up, 0.0)
    minus = np.where((down > up) & (down > 0), down, 0.0)
    tr = np.maximum.reduce([high[1:], close[:-1]]) - np.minimum.reduce([low[1:], close[:-1]])
    adx, plus_di, minus_di = (np.full(len(high), np.nan) for _ in range(3))
    sums = [x[: n - 1].sum() for x in (plus, minus, tr)]
    dx = []
    for t in range(n - 1, len(tr)):
        sums = [s - s / n + x[t] for s, x in zip(sums, (plus, minus, tr), strict=True)]
        plus_di[t + 1], minus_di[t + 1] = 100 * sums[0] / sums[2], 100 * sums[1] / sums[2]
        dx.append(100 * abs(sums[0] - sums[1]) / (sums[0] + sums[1]))
        if len(dx) == n:
            adx[t + 1] = np.mean(dx)
        elif len(dx) > n:
            adx[t + 1] = (adx[t] * (n - 1) + dx[-1]) / n
    return adx, plus_di, minus_di


def test_adx_and_direction_are_wilders_and_first_exist_at_bar_27() -> None:
    bars = bars_of(walk(400, np.random.default_rng(1)))
    got = indicators(bars)
    adx, plus, minus = wilder(*(bars[name].to_numpy() for name in ("high", "low", "close")), PERIOD)
    assert got["adx"].is_null().sum() == 27
    assert got["adx"][27] is not None
    np.testing.assert_allclose(got["adx"].to_numpy()[27:], adx[27:], rtol=1e-10)
    np.testing.assert_allclose(got["direction"].to_numpy()[PERIOD:], (plus - minus)[PERIOD:], rtol=1e-10)


def test_adx_forgets_its_start_by_the_end_of_the_warm_up() -> None:
    bars = bars_of(walk(1500, np.random.default_rng(2)))
    whole = indicators(bars)["adx"].to_numpy()
    error = {
        n: np.mean([abs(indicators(bars[end - n : end])["adx"][-1] - whole[end - 1]) for end in range(300, 1500, 20)])
        for n in (28, 60, 100, WARM_UP)
    }
    assert error[28] > error[60] > error[100] > error[WARM_UP]
    assert 5.0 < error[28] < 14.0
    assert 0.5 < error[60] < 2.5
    assert 0.03 < error[100] < 0.3
    assert error[WARM_UP] < 0.01


def test_choppiness_is_its_formula_and_knows_lines_from_walks() -> None:
    bars = bars_of(walk(3000, np.random.default_rng(3)))
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    tr = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    view = np.lib.stride_tricks.sliding_window_view
    spread = view(high, PERIOD).max(axis=1) - view(low, PERIOD).min(axis=1)
    expected = 100 * np.log10(view(tr, PERIOD).sum(axis=1) / spread[1:]) / np.log10(PERIOD)
    got = bars.select(choppiness()).to_series().to_numpy()[PERIOD:]
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert got.mean() == pytest.approx(46.7, abs=1.5)
    steps = np.arange(1.0, 61.0)
    line = pl.DataFrame({"high": steps, "low": steps - 1.0, "close": steps})
    assert line.select(choppiness()).to_series().to_numpy()[PERIOD:] == pytest.approx(0.0, abs=1e-10)


def test_a_market_that_never_moves_has_no_indicators() -> None:
    flat = pl.DataFrame({"high": [5.0] * 200, "low": [5.0] * 200, "close": [5.0] * 200})
    last = indicators(flat).row(-1, named=True)
    assert last["choppiness"] is None
    assert last["spike"] is None


def test_false_alarms_on_random_walks_keep_the_stated_rate() -> None:
    """Thresholds from one past, judged on independent walks of which only the last day counts."""
    alarm, pasts, fresh = 0.1, 12, 70
    settings = detector_settings(false_alarm=alarm)
    refit = FIRST + timedelta(days=500)
    exceeded = {name: [] for name in ("adx", "choppiness", "spike")}
    fixed, states = [], []
    for seed in range(pasts):
        rng = np.random.default_rng([seed, 7])
        series = Series.of(history_of(market_of_bars(walk(500, rng))))
        detector, _ = fit_detector(series, refit, settings)
        for _ in range(fresh):
            now = Series.of(history_of(market_of_bars(walk(WARM_UP + 60, rng))))
            for name, hits in exceeded.items():
                hits.append(now.known[name][-1] > getattr(detector, name))
            fixed.append(now.known["adx"][-1] > 25.0)
            states.append(detector.states(now)[-1])
    n = pasts * fresh
    # Twelve thresholds are themselves estimates; 0.015 is their error in rate.
    band = 2.58 * np.sqrt(alarm * (1 - alarm) / n) + 0.015
    for name, hits in exceeded.items():
        assert abs(np.mean(hits) - alarm) < band, name
    assert np.mean(fixed) > 3 * alarm
    share = {state: np.mean(np.array(states) == state) for state in (UNKNOWN, UP, DOWN, RANGING, CHOPPY, CRISIS)}
    assert share[UNKNOWN] == 0.0
    assert share[UP] + share[DOWN] < alarm + band
    assert share[CHOPPY] < alarm + band
    assert share[CRISIS] < alarm + band
    assert share[RANGING] > 1 - 3 * alarm
    assert abs(share[UP] - share[DOWN]) < band
