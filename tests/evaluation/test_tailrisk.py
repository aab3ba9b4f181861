"""Value at risk: published coverage tests, forecasts that look back only, and simulated returns."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from majors_alts_pipeline.evaluation.contracts import VAR_EXCEPTIONS
from majors_alts_pipeline.evaluation.tailrisk import (
    Transitions,
    christoffersen,
    kupiec,
    value_at_risk,
    var_exceptions,
)


@pytest.mark.parametrize(
    ("level", "days", "above", "below"),
    [(0.01, 255, 0, 7), (0.01, 510, 1, 11), (0.01, 1000, 4, 17), (0.05, 255, 6, 21), (0.05, 510, 16, 36),
     (0.05, 1000, 37, 65)],
)  # fmt: skip
def test_kupiec_1995_regions(level, days, above, below):
    kept = [n for n in range(days) if kupiec(days, n, level) < chi2.ppf(0.95, 1)]
    assert (kept[0], kept[-1]) == (above + 1, below - 1)


def test_no_exception_is_a_finding_too():
    assert kupiec(255, 0, 0.01) == pytest.approx(5.13, abs=5e-3)


def test_jorion_chapter_6():
    assert kupiec(252, 6, 0.01) == pytest.approx(3.498, abs=1e-3)
    assert christoffersen(Transitions(n00=244, n01=2, n10=2, n11=4)) == pytest.approx(25.837, abs=1e-3)
    assert kupiec(252, 6, 0.01) + christoffersen(Transitions(244, 2, 2, 4)) == pytest.approx(29.336, abs=1e-3)


def test_jp_morgan_1998():
    independence = christoffersen(Transitions(n00=218, n01=14, n10=14, n11=6))
    assert kupiec(252, 20, 0.05) == pytest.approx(3.91, abs=5e-3)
    assert independence == pytest.approx(9.53, abs=5e-3)
    assert kupiec(252, 20, 0.05) + independence == pytest.approx(13.44, abs=5e-3)


def test_independence_needs_a_day_after_an_exception():
    assert np.isnan(christoffersen(Transitions(100, 0, 0, 0)))
    assert np.isnan(christoffersen(Transitions(99, 1, 0, 0)))
    assert np.isnan(christoffersen(Transitions(0, 0, 1, 9)))
    # Exceptions exactly as frequent after one as otherwise.
    assert christoffersen(Transitions(80, 20, 8, 2)) == pytest.approx(0.0, abs=1e-12)


def clustered(seed, days):
    """GARCH(1,1) returns with fat tails."""
    rng = np.random.default_rng(seed)
    shocks, returns, variance = rng.standard_t(5, days) / (5 / 3) ** 0.5, np.zeros(days), 1e-4
    for t in range(days):
        returns[t] = variance**0.5 * shocks[t]
        variance = 2e-6 + 0.08 * returns[t] ** 2 + 0.90 * variance
    return returns


def test_forecasts_look_back_only():
    returns = clustered(0, 500)
    whole = value_at_risk(returns, 0.05, 250)
    np.testing.assert_array_equal(value_at_risk(returns[:321], 0.05, 250), whole[:321])
    changed = returns.copy()
    changed[400:] *= 7.0
    np.testing.assert_array_equal(value_at_risk(changed, 0.05, 250)[:401], whole[:401])
    assert np.isnan(whole[:101]).all()
    assert np.isfinite(whole[101:]).all()
    assert (whole[101:] < 0).all()


def test_coverage_on_clustered_returns():
    table = var_exceptions(clustered(1, 4000), np.ones(4000, dtype=bool), "x", window=500)
    assert table.schema == VAR_EXCEPTIONS.schema
    for row in table.iter_rows(named=True):
        assert row["kupiec_p"] > 0.01
        assert row["coverage_p"] > 0.01
        assert row["n_exceptions"] == pytest.approx(row["expected"], rel=0.35)
        assert row["es"] < 0


@pytest.mark.parametrize(("level", "rate"), [(0.01, 0.01), (0.05, 0.05)])
def test_a_short_window_keeps_the_level(level, rate):
    judged = hits = 0
    for seed in range(60):
        returns = 0.01 * np.random.default_rng(seed).standard_normal(1000)
        forecast = value_at_risk(returns, level, 250)
        known = np.isfinite(forecast)
        judged, hits = judged + known.sum(), hits + (returns[known] < forecast[known]).sum()
    assert hits / judged == pytest.approx(rate, rel=0.13)


def test_a_crash_that_outruns_the_forecast_is_found_out():
    returns = np.concatenate([clustered(2, 400), -0.02 * 1.3 ** np.arange(15)])
    row = var_exceptions(returns, np.ones(415, dtype=bool), "x", window=250).row(0, named=True)
    assert row["kupiec_p"] < 0.01
    assert row["independence_lr"] > chi2.ppf(0.99, 1)


def test_idle_days_are_neither_past_nor_judged():
    returns = clustered(3, 600)
    gaps = np.insert(returns, [200, 200, 450], 0.0)
    invested = np.insert(np.ones(600, dtype=bool), [200, 200, 450], False)
    whole = var_exceptions(returns, np.ones(600, dtype=bool), "x", window=250)
    gapped = var_exceptions(gaps, invested, "x", window=250)
    same = ["level", "n_days", "n_exceptions", "kupiec_lr", "es"]
    assert whole.select(same).equals(gapped.select(same))


def test_too_little_is_null():
    for days in (0, 1, 90, 101):
        table = var_exceptions(clustered(4, 300)[:days], np.ones(days, dtype=bool), "x", window=250)
        assert table["n_days"].to_list() == [0, 0]
        assert table["kupiec_lr"].null_count() == table["coverage_p"].null_count() == table["es"].null_count() == 2
    flat = var_exceptions(np.zeros(300), np.ones(300, dtype=bool), "x", window=250)
    assert flat["n_days"].to_list() == [0, 0]
    with pytest.raises(ValueError, match="value_at_risk"):
        value_at_risk(np.array([np.nan]), 0.05, 250)
    with pytest.raises(ValueError, match="2 flags"):
        var_exceptions(np.zeros(3), np.ones(2, dtype=bool), "x", window=250)
