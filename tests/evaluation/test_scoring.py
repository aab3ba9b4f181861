"""Probability forecasts judged: scikit-learn's scores, base rates that know only the past, reliability, size, power."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from majors_alts_pipeline.evaluation.contracts import PROBABILITY_SCORES, RELIABILITY
from majors_alts_pipeline.evaluation.scoring import (
    FLOOR,
    base_rates,
    diebold_mariano,
    log_scores,
    probability_scores,
    reliability,
)

START = date(2023, 1, 1)


def rows(probability, outcome, method="m", horizon=1):
    n = len(probability)
    return pl.DataFrame({
        "method": [method] * n, "event": ["up"] * n, "horizon_days": [horizon] * n,
        "date": [START + timedelta(k) for k in range(n)], "probability": probability, "outcome": outcome,
    }).with_columns(pl.col("probability").cast(pl.Float64), pl.col("outcome").cast(pl.Boolean),
                    pl.col("horizon_days").cast(PROBABILITY_SCORES.schema["horizon_days"]))  # fmt: skip


def days(n):
    return np.datetime64(START) + np.arange(n)


def drawn(seed, n=500, spread=1.0):
    rng = np.random.default_rng(seed)
    probability = 1 / (1 + np.exp(-spread * rng.standard_normal(n)))
    return probability, rng.random(n) < probability


def test_scores_equal_scikit_learn():
    from sklearn.metrics import brier_score_loss, log_loss

    probability, outcome = drawn(0)
    row = probability_scores(rows(probability, outcome), delay=0).row(0, named=True)
    assert row["brier"] == pytest.approx(brier_score_loss(outcome, probability), rel=1e-12)
    assert row["log_score"] == pytest.approx(log_loss(outcome, probability), rel=1e-12)
    assert row["n"] == 500
    assert row["base_rate"] == outcome.mean()


def test_certainty_that_was_wrong_costs_nine_nats_not_infinity():
    scores = log_scores(np.array([0.0, 1.0, 1.0, 0.5]), np.array([True, False, True, True]))
    assert scores == pytest.approx([-np.log(FLOOR), -np.log(FLOOR), -np.log1p(-FLOOR), np.log(2)])


def test_base_rate_by_hand_with_gaps():
    dates = np.datetime64(START) + np.array([0, 1, 2, 5, 9])
    outcome = np.array([True, True, False, True, False])
    rates = base_rates(dates, outcome, horizon=2, delay=1)
    # Known by day 5: forecasts of days <= 2; by day 9: of days <= 6.
    assert rates == pytest.approx([0.5, 0.5, 0.5, 2.5 / 4, 3.5 / 5])


@pytest.mark.parametrize(("horizon", "delay"), [(1, 0), (5, 0), (5, 2)])
def test_base_rate_ignores_outcomes_not_known_yet(horizon, delay):
    _, outcome = drawn(1, 120)
    rates = base_rates(days(120), outcome, horizon, delay)
    for t in (30, 60, 119):
        changed = outcome.copy()
        changed[t - horizon - delay + 1 :] ^= True
        np.testing.assert_array_equal(base_rates(days(120), changed, horizon, delay)[: t + 1], rates[: t + 1])
        changed[t - horizon - delay] ^= True
        assert base_rates(days(120), changed, horizon, delay)[t] != rates[t]


def test_a_good_forecast_beats_the_base_rate_and_noise_does_not():
    probability, outcome = drawn(2)
    good = probability_scores(rows(probability, outcome), delay=1).row(0, named=True)
    assert good["log_score"] < good["log_score_base"]
    assert good["brier"] < good["brier_base"]
    assert good["dm_t"] > 3
    noise = np.random.default_rng(0).permutation(probability)
    bad = probability_scores(rows(noise, outcome), delay=1).row(0, named=True)
    assert bad["dm_t"] < -2


@pytest.mark.parametrize("horizon", [1, 10])
def test_diebold_mariano_size_with_overlapping_losses(horizon):
    rng = np.random.default_rng(3)
    t = [
        diebold_mariano(np.convolve(rng.standard_normal(600 + horizon - 1), np.ones(horizon), "valid"), horizon)
        for _ in range(400)
    ]
    assert (np.abs(t) > 1.96).sum() <= binom.ppf(0.995, 400, 0.08)


def test_diebold_mariano_equals_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    difference = np.random.default_rng(4).standard_normal(300) + 0.1
    fit = sm.OLS(difference, np.ones(300)).fit(cov_type="HAC", cov_kwds={"maxlags": 10})
    assert diebold_mariano(difference, 5) == pytest.approx(fit.tvalues[0], rel=1e-10)
    assert np.isnan(diebold_mariano(difference[:59], 1))
    assert np.isnan(diebold_mariano(difference[:100], 60))
    assert np.isnan(diebold_mariano(np.zeros(300), 1))


def test_a_later_outcome_changes_no_earlier_score():
    probability, outcome = drawn(5, 200)
    known = [*outcome[:150], *[None] * 50]
    cut = probability_scores(rows(probability[:150], outcome[:150]), delay=1)
    assert probability_scores(rows(probability, known), delay=1).equals(cut)


def test_days_without_a_forecast_teach_the_base_rate():
    probability, outcome = drawn(7, 300)
    late = [*[None] * 200, *probability[200:]]
    score = probability_scores(rows(late, outcome), delay=2).row(0, named=True)
    base = base_rates(days(300), outcome, 1, 2)[200:]
    assert score["n"] == 100
    assert score["log_score_base"] == pytest.approx(log_scores(base, outcome[200:]).mean(), rel=1e-12)
    assert score["base_rate"] == pytest.approx(outcome[200:].mean(), rel=1e-12)


def test_tables_have_a_row_for_what_was_judged_only():
    probability, outcome = drawn(6, 100)
    frame = pl.concat([
        rows(probability, outcome, "b"), rows([None] * 5, [True] * 5, "silent"), rows([0.3], [False], "once", 5),
    ])  # fmt: skip
    table = probability_scores(frame, delay=0)
    assert table.schema == PROBABILITY_SCORES.schema
    assert table["method"].to_list() == ["b", "once"]
    assert table["dm_t"].to_list()[1] is None
    assert probability_scores(frame.clear(), delay=0).is_empty()
    assert reliability(frame.clear(), confidence=0.95).is_empty()
    with pytest.raises(ValueError, match="not a probability"):
        probability_scores(rows([1.2], [True]), delay=0)
    with pytest.raises(ValueError, match="two forecasts"):
        probability_scores(pl.concat([rows([0.2], [True])] * 2), delay=0)


def test_reliability_equals_scikit_learn():
    from sklearn.calibration import calibration_curve

    probability, outcome = drawn(7, 1003)
    curve = reliability(rows(probability, outcome), confidence=0.95)
    assert curve.schema == RELIABILITY.schema
    observed, forecast = calibration_curve(outcome, probability, n_bins=10, strategy="quantile")
    np.testing.assert_allclose(curve["observed"], observed, rtol=1e-12)
    np.testing.assert_allclose(curve["forecast"], forecast, rtol=1e-12)
    assert curve["n"].sum() == 1003
    assert curve["n"].max() - curve["n"].min() <= 1


def test_wilson_intervals_equal_statsmodels_and_cover_a_calibrated_forecast():
    proportion_confint = pytest.importorskip("statsmodels.stats.proportion").proportion_confint
    inside, total = 0, 0
    for seed in range(20):
        probability, outcome = drawn(seed, 400)
        curve = reliability(rows(probability, outcome), confidence=0.9)
        for row in curve.iter_rows(named=True):
            low, high = proportion_confint(round(row["observed"] * row["n"]), row["n"], 0.1, method="wilson")
            assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-12)
            inside += row["low"] <= row["forecast"] <= row["high"]
            total += 1
    low, high = binom.ppf([0.001, 0.999], total, 0.9)
    assert low <= inside <= high


def test_equal_forecasts_share_a_bin():
    curve = reliability(rows([0.5] * 90 + [0.9] * 10, [True, False] * 50), confidence=0.95)
    assert curve["n"].to_list() == [90, 10]
    assert curve["bin"].to_list() == [0, 1]
