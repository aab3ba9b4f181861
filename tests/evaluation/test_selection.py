"""Selection-aware Sharpe statistics against the numbers of their papers, skfolio and ffn, and simulated searches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from majors_alts_pipeline.evaluation.selection import (
    Moments,
    annualisation_factor,
    daily_sharpes,
    deflated_sharpe,
    effective_trials,
    expected_max_sharpe,
    min_backtest_length,
    min_track_record,
    moments,
    probabilistic_sharpe,
    trials_deviation,
)


def test_bailey_lopez_de_prado_2012_psr():
    assert probabilistic_sharpe(Moments(0.458, -2.448, 10.164, 24)) == pytest.approx(0.913, abs=5e-4)
    assert probabilistic_sharpe(Moments(0.458, 0.0, 3.0, 24)) == pytest.approx(0.982, abs=5e-4)


@pytest.mark.parametrize(
    ("per_year", "skew", "kurtosis", "years"),
    [(250, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_bailey_lopez_de_prado_2012_track_record(per_year, skew, kurtosis, years):
    of = Moments(2 / per_year**0.5, skew, kurtosis, 1000)
    assert min_track_record(of, 1 / per_year**0.5, 0.95) / per_year == pytest.approx(years, abs=5e-3)


def test_the_track_record_is_where_psr_reaches_the_confidence():
    of = Moments(0.1, -0.5, 6.0, 100)
    n = min_track_record(of, 0.02, 0.9)
    at = [probabilistic_sharpe(Moments(0.1, -0.5, 6.0, k), 0.02) for k in (int(n), int(n) + 1)]
    assert at[0] < 0.9 <= at[1]
    assert min_track_record(of, 0.1, 0.9) == np.inf


def test_expected_maximum():
    assert expected_max_sharpe(10, 1.0) == pytest.approx(1.57, abs=5e-3)
    assert expected_max_sharpe(1, 1.0) == 0.0
    assert expected_max_sharpe(1.1, 1.0) == 0.0
    drawn = np.random.default_rng(0).standard_normal((20_000, 50)).max(axis=1).mean()
    assert expected_max_sharpe(50, 1.0) == pytest.approx(drawn, rel=0.02)
    for n, sd in ((0.5, 1.0), (10, -1.0), (10, np.nan)):
        with pytest.raises(ValueError, match="n_trials >= 1"):
            expected_max_sharpe(n, sd)


def test_expected_maximum_equals_ffn_and_skfolio():
    ffn = pytest.importorskip("ffn")
    from skfolio.measures import expected_max_sharpe_ratio

    for n in (2, 46, 1000):
        assert expected_max_sharpe(n, 0.3) == pytest.approx(ffn.core.calc_expected_max_sharpe(n, 0.3), rel=1e-12)
        assert expected_max_sharpe(n + 0.5, 0.3) == pytest.approx(expected_max_sharpe_ratio(n + 0.5, 0.3), rel=1e-12)


def test_bailey_lopez_de_prado_2014_deflated():
    sd = (0.5 / 250) ** 0.5
    of, normal = Moments(2.5 / 250**0.5, -3.0, 10.0, 1250), Moments(2.5 / 250**0.5, 0.0, 3.0, 1250)
    assert expected_max_sharpe(100, sd) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(of, 100, sd) == pytest.approx(0.9004, abs=5e-5)
    assert deflated_sharpe(of, 46, sd) == pytest.approx(0.9505, abs=5e-5)
    assert deflated_sharpe(normal, 88, sd) == pytest.approx(0.9505, abs=5e-5)


def test_bailey_et_al_2014_backtest_length():
    assert min_backtest_length(45, 1.0) == pytest.approx(4.998, abs=5e-4)
    assert min_backtest_length(46, 1.0) > 5.0
    assert min_backtest_length(45, 2.0) == pytest.approx(4.998 / 4, abs=5e-4)
    for n in (2, 45, 500):
        assert min_backtest_length(n, 1.0) < 2 * np.log(n)
    assert 2 * np.log(45) == pytest.approx(7.61, abs=5e-3)


def test_lo_2002_annualisation():
    for rho, published in ((0.0, 3.464), (0.2, 2.879), (-0.2, 4.171), (0.9, 1.207)):
        assert annualisation_factor(12, rho) == pytest.approx(published, abs=5e-4)
    assert annualisation_factor(365, 0.1) == pytest.approx(17.286, abs=5e-4)
    assert 365**0.5 / annualisation_factor(365, 0.1) == pytest.approx(1.105, abs=5e-4)
    with pytest.raises(ValueError, match="rho"):
        annualisation_factor(12, 1.0)


def test_psr_and_dsr_of_returns_equal_skfolio_and_ffn():
    ffn = pytest.importorskip("ffn")
    from skfolio.measures import deflated_sharpe_ratio, probabilistic_sharpe_ratio

    rng = np.random.default_rng(3)
    returns = 0.01 * rng.standard_t(4, (900, 40)) + 0.0005
    best = returns[:, np.argmax(daily_sharpes(returns))]
    of, sharpes = moments(best), daily_sharpes(returns)
    assert of.n == 900
    assert probabilistic_sharpe(of, 0.03) == pytest.approx(probabilistic_sharpe_ratio(best, 0.03), rel=1e-3)
    ours = deflated_sharpe(of, 40, np.std(sharpes, ddof=1))
    # skfolio and ffn correct the moments for bias, the paper does not.
    assert ours == pytest.approx(deflated_sharpe_ratio(best, sharpes), rel=1e-3)
    series = pd.Series(best, index=pd.date_range("2020-01-01", periods=900))
    theirs = ffn.core.calc_deflated_sharpe_ratio(series, sharpes, nperiods=365, annualized_trials=False)
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_moments_of_too_little_are_none():
    assert moments(np.array([0.1, 0.2])) is None
    assert moments(np.full(100, 0.001)) is None
    assert moments(np.zeros(100)) is None
    with pytest.raises(ValueError, match=r"returns\[1\]"):
        moments(np.array([0.1, np.nan, 0.2]))
    normal = moments(np.random.default_rng(0).standard_normal(200_000))
    assert normal.kurtosis == pytest.approx(3.0, abs=0.05)
    assert normal.skew == pytest.approx(0.0, abs=0.02)


def groups(rng, days, sizes, correlation):
    """Trials without skill, correlated within groups."""
    own, shared = (1 - correlation) ** 0.5, correlation**0.5
    return 0.01 * np.hstack([
        shared * rng.standard_normal((days, 1)) + own * rng.standard_normal((days, k)) for k in sizes
    ])  # fmt: skip


def test_effective_trials_of_known_structures():
    rng = np.random.default_rng(0)
    independent = groups(rng, 1000, [1] * 40, 0.0)
    assert effective_trials(independent) == pytest.approx(40, rel=0.01)
    one = independent[:, :1]
    assert effective_trials(np.repeat(one, 50, axis=1) * np.linspace(0.5, 2.0, 50)) == pytest.approx(1.0)
    uneven = np.hstack([np.repeat(one, 80, axis=1), independent[:, 1:21]])
    assert effective_trials(uneven) == pytest.approx(21, abs=1.5)
    # Fractions of large eigenvalues add up to one per group: careful, never lenient.
    assert 8 <= effective_trials(np.repeat(independent[:, :8], 12, axis=1)) < 16
    assert effective_trials(one) == 1.0


def test_idle_trials_count_together_as_one():
    rng = np.random.default_rng(1)
    trials = groups(rng, 500, [1] * 5, 0.0)
    assert effective_trials(np.hstack([trials, np.zeros((500, 7))])) == pytest.approx(effective_trials(trials) + 1)
    assert effective_trials(np.zeros((500, 7))) == 1.0
    for empty in (np.empty((500, 0)), np.zeros((2, 3)), np.full((9, 2), np.nan)):
        with pytest.raises(ValueError, match="effective_trials"):
            effective_trials(empty)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(3, 60), st.floats(0.0, 0.99), st.integers(0, 99))
def test_effective_trials_lie_between_one_and_all_in_any_order(trials, days, correlation, seed):
    rng = np.random.default_rng(seed)
    returns = groups(rng, days, [trials], correlation)
    count = effective_trials(returns)
    assert 1.0 <= count <= trials
    assert effective_trials(returns[:, rng.permutation(trials)] * 3.0) == pytest.approx(count, rel=1e-6)


@pytest.mark.parametrize(
    ("sizes", "correlation", "below"),
    [([1] * 60, 0.0, 1.05), ([10] * 6, 0.95, 1.25), ([40] + [1] * 20, 0.99, 1.2), ([60], 0.9, 2.2), ([60], 0.3, 1.25)],
)
def test_the_hurdle_is_about_the_best_of_trials_without_skill(sizes, correlation, below):
    rng = np.random.default_rng(7)
    best, hurdle = [], []
    for _ in range(150):
        trials = groups(rng, 300, sizes, correlation)
        best.append(daily_sharpes(trials).max())
        hurdle.append(expected_max_sharpe(effective_trials(trials), trials_deviation(trials)))
    assert 0.93 < np.mean(hurdle) / np.mean(best) < below


def test_a_crowd_of_copies_does_not_lower_the_hurdle():
    rng = np.random.default_rng(2)
    copies = groups(rng, 400, [100], 0.9999)
    assert np.std(daily_sharpes(copies), ddof=1) < 0.002
    assert trials_deviation(copies) == 1 / 400**0.5
    skilled = copies + np.linspace(-0.01, 0.01, 100)
    assert trials_deviation(skilled) > 0.3
    with pytest.raises(ValueError, match="two days"):
        trials_deviation(copies[:1])
