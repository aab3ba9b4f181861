"""Inference against published numbers, other libraries and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, kstest, ttest_ind

from majors_alts_pipeline.evaluation.inference import (
    bootstrap_interval,
    circular_shifts,
    hac_regression,
    regime_edge_test,
    sharpe_ratio,
    sharpe_ratios,
    sharpe_standard_error,
)


@pytest.mark.parametrize(
    ("n", "sharpe", "published"),
    [(12, 0.5, 0.306), (12, 1, 0.354), (12, 3, 0.677), (60, 1, 0.158), (500, 3, 0.105)],
)
def test_lo_2002_table_1(n, sharpe, published):
    per_year = np.sqrt(365)
    assert sharpe_standard_error(sharpe * per_year, n) / per_year == pytest.approx(published, abs=6e-4)


def test_sharpe_ratio_of_a_known_series_and_of_nothing():
    assert sharpe_ratio(np.array([0.01, 0.03])) == pytest.approx(0.02 / (0.02 / 2**0.5) * 365**0.5)
    assert np.isnan(sharpe_ratio(np.full(9, 0.001)))
    assert np.isnan(sharpe_ratio(np.zeros(9)))
    assert np.isnan(sharpe_ratio(np.array([0.1])))


def test_hac_regression_equals_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(400), rng.normal(size=(400, 2))])
    noise = np.convolve(rng.normal(size=403), np.ones(4), "valid")
    y = x @ [0.1, 0.5, -0.2] + noise
    ours = hac_regression(y, x)
    theirs = sm.OLS(y, x).fit(cov_type="HAC", cov_kwds={"maxlags": int(4 * 4 ** (2 / 9))})
    np.testing.assert_allclose(ours.coefficients, theirs.params, rtol=1e-10)
    np.testing.assert_allclose(ours.standard_errors, theirs.bse, rtol=1e-10)


def test_collinear_regressors_are_refused():
    with pytest.raises(ValueError, match="rank 1"):
        hac_regression(np.arange(10.0), np.ones((10, 2)))


def test_bootstrap_interval_is_that_of_arch():
    from arch.bootstrap import StationaryBootstrap, optimal_block_length

    returns = np.random.default_rng(4).standard_t(4, 300) * 0.01
    block = max(float(optimal_block_length(returns)["stationary"].iloc[0]), 1.0)
    sampler = StationaryBootstrap(block, returns, seed=np.random.default_rng(7))
    expected = sampler.conf_int(sharpe_ratio, 600, "percentile", size=0.95)
    low, high = bootstrap_interval(returns, sharpe_ratios, 600, 0.95, 7)
    assert [low, high] == pytest.approx([float(expected[0, 0]), float(expected[1, 0])], rel=1e-12)


def test_bootstrap_interval_is_about_two_standard_errors_wide_for_iid_returns():
    returns = np.random.default_rng(0).normal(0.001, 0.02, 1000)
    low, high = bootstrap_interval(returns, sharpe_ratios, 1000, 0.95, 1)
    assert (high - low) / (2 * 1.96) == pytest.approx(sharpe_standard_error(sharpe_ratio(returns), 1000), rel=0.15)
    assert bootstrap_interval(returns, sharpe_ratios, 1000, 0.95, 1) == (low, high)
    assert np.isnan(bootstrap_interval(returns[:59], sharpe_ratios, 1000, 0.95, 1)).all()
    assert np.isnan(bootstrap_interval(np.zeros(100), sharpe_ratios, 1000, 0.95, 1)).all()


def market(rng, days, edge):
    """Persistent labels beside fat-tailed returns with clustered volatility; `edge` in daily volatilities."""
    stay = rng.random(days) < 0.93
    on = np.zeros(days, dtype=bool)
    for t in range(1, days):
        on[t] = on[t - 1] if stay[t] else rng.random() < 0.5
    volatility = 0.01 * np.exp(0.5 * np.convolve(rng.normal(size=days + 19), np.ones(20), "valid") / 20**0.5)
    returns = volatility * rng.standard_t(5, days) / (5 / 3) ** 0.5
    return on, returns + edge * 0.01 * on


def p_values(edge, n, seed, days=600):
    rng = np.random.default_rng(seed)
    return np.array([regime_edge_test(*market(rng, days, edge), seed=0).p_value for _ in range(n)])


def test_p_values_are_uniform_under_the_null():
    p = p_values(0.0, 500, seed=11)
    for level in (0.01, 0.05, 0.2, 0.5):
        low, high = binom.ppf([0.005, 0.995], 500, level)
        assert low <= (p <= level).sum() <= high, level
    assert kstest(p, "uniform").pvalue > 0.01


def test_power_rises_with_the_effect():
    power = [(p_values(edge, 100, seed=5) < 0.05).mean() for edge in (0.1, 0.3, 0.6)]
    assert power == sorted(power)
    assert power[-1] > 0.9


def test_the_fft_equals_shifting_by_hand():
    on, returns = market(np.random.default_rng(2), 120, 0.2)
    test = regime_edge_test(on, returns, seed=0)
    moved = [np.roll(on, k) for k in range(120)]
    t = np.array([ttest_ind(returns[flags], returns[~flags], equal_var=False).statistic for flags in moved])
    gap = np.array([returns[flags].mean() - returns[~flags].mean() for flags in moved])
    assert test.p_value == pytest.approx((1 + (abs(t[1:]) >= abs(t[0])).sum()) / 120, rel=1e-12)
    assert test.p_greater == pytest.approx((1 + (t[1:] >= t[0]).sum()) / 120)
    assert test.p_less == pytest.approx((1 + (t[1:] <= t[0]).sum()) / 120)
    assert test.n_shifts == 119
    assert test.difference == pytest.approx(gap[0], rel=1e-12)
    assert test.minimum_detectable_effect == pytest.approx(2.8 * gap[1:].std(ddof=1), rel=1e-9)
    mirrored = regime_edge_test(on, -returns, seed=0)
    assert (mirrored.p_less, mirrored.p_greater) == pytest.approx((test.p_greater, test.p_less))


def test_exposures_are_compared_by_their_sum():
    on, returns = market(np.random.default_rng(2), 120, 0.2)
    path = np.where(on, 0.7, 0.2)
    found = circular_shifts(path, returns, seed=0)
    by_hand = [np.roll(path, k) @ (returns - returns.mean()) for k in range(120)]
    assert [found.observed, *found.shifted] == pytest.approx(by_hand, abs=1e-14)


@pytest.mark.parametrize(("share", "ratio"), [(0.1, 2.5), (0.2, 2.5), (0.5, 2.5), (0.8, 2.5), (0.3, 0.5)])
def test_a_label_that_marks_volatile_days_is_no_edge(share, ratio):
    rng = np.random.default_rng(3)
    p = []
    for _ in range(300):
        change, switch = rng.random((2, 600))
        on = np.zeros(600, dtype=bool)
        for t in range(1, 600):
            on[t] = switch[t] < share if change[t] < 0.1 else on[t - 1]
        returns = 0.01 * rng.standard_t(5, 600) * np.where(on, ratio, 1.0)
        p.append(regime_edge_test(on, returns, seed=0).p_value)
    low, high = binom.ppf([0.001, 0.999], 300, [0.03, 0.08])
    assert low <= np.sum(np.array(p) <= 0.05) <= high


def test_groups_that_do_not_vary_give_a_finite_statistic():
    returns = np.repeat([0.0, 0.01], 50)
    test = regime_edge_test(np.arange(100) >= 50, returns, seed=0)
    # Shifted by half, the flags mark exactly the other group.
    assert test.p_value == pytest.approx(0.02)
    assert test.p_greater == pytest.approx(0.01)
    alone = regime_edge_test(np.arange(100) == 7, np.random.default_rng(0).normal(size=100), seed=0)
    assert 0.0 < alone.p_value <= 1.0


def test_the_minimum_detectable_effect_is_found_four_times_in_five():
    rng = np.random.default_rng(8)
    null = [regime_edge_test(*market(rng, 600, 0.0), seed=0) for _ in range(200)]
    effect = float(np.mean([test.minimum_detectable_effect for test in null])) / 0.01
    assert (p_values(effect, 200, seed=9) < 0.05).mean() == pytest.approx(0.8, abs=0.1)


def test_labels_as_text_or_flags_and_either_sign():
    on, returns = market(np.random.default_rng(4), 400, 0.5)
    text = np.where(on, "RISK_ON_MAJORS", "BALANCED").astype(object)
    flags = regime_edge_test(on, returns, 0)
    assert regime_edge_test(text, returns, 0) == flags
    assert regime_edge_test(on, -returns, 0).p_value == pytest.approx(flags.p_value)
    assert np.sign(flags.hac_t) == np.sign(flags.difference)


def test_nothing_to_compare_gives_no_p_value():
    returns = np.random.default_rng(0).normal(size=100)
    assert np.isnan(regime_edge_test(np.ones(100, dtype=bool), returns, 0).p_value)
    assert np.isnan(regime_edge_test(np.arange(19) % 2 == 0, returns[:19], 0).p_value)
    with pytest.raises(ValueError, match=r"returns\[3\] is not finite"):
        regime_edge_test(np.arange(100) % 2 == 0, np.where(np.arange(100) == 3, np.nan, returns), 0)
    with pytest.raises(ValueError, match="99 labels beside 100 returns"):
        regime_edge_test(np.ones(99, dtype=bool), returns, 0)


def test_many_shifts_are_sampled_by_seed():
    on, returns = market(np.random.default_rng(4), 400, 0.0)
    few = [regime_edge_test(on, returns, seed, max_shifts=50) for seed in (1, 1, 2, 3)]
    assert few[0] == few[1]
    assert few[0].n_shifts == 50
    assert len({test.p_value for test in few}) > 1
