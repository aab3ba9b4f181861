"""Superior predictive ability: agreement with arch, size on noise, power, and what the studentised statistic buys."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from majors_alts_pipeline.evaluation.inference import block_length
from majors_alts_pipeline.evaluation.snooping import superior_ability


def noise(rng, days=250, variants=10):
    return 0.01 * rng.standard_normal((days, variants))


def test_politis_white_block_length_of_arch():
    rng = np.random.RandomState(0)
    series = rng.standard_normal(10_100)
    for t in range(1, len(series)):
        series[t] += 0.3 * series[t - 1]
    from arch.bootstrap import optimal_block_length

    assert block_length(series[100:]) == pytest.approx(13.635665, abs=5e-7)
    assert optimal_block_length(series[100:])["circular"].iloc[0] == pytest.approx(15.60894, abs=5e-6)


def test_p_values_are_ordered_seeded_and_never_zero():
    rng = np.random.default_rng(0)
    for shift in (-0.001, 0.0, 0.01):
        returns = noise(rng) + shift
        test = superior_ability(returns, np.zeros(250), 200, 0.05, 1)
        assert 0.0 < test.lower <= test.consistent <= test.upper <= 1.0
        assert test == superior_ability(returns, np.zeros(250), 200, 0.05, 1)
    assert test.upper == pytest.approx(1 / 201)
    assert test.superior == tuple(range(10))


def test_equals_arch_on_studentised_losses():
    from arch.bootstrap import SPA, StepM

    rng = np.random.default_rng(3)
    returns = noise(rng, 400, 12) * np.linspace(1.0, 2.0, 12)
    returns[:, [2, 5]] += 0.004
    ours = superior_ability(returns, np.zeros(400), 300, 0.05, 9)
    # The long-run deviation for which arch's own studentisation uses block_size.
    probe = SPA(np.zeros(400), -returns, block_size=ours.block, reps=2, seed=1)
    probe.compute()
    scaled = -returns / np.sqrt(probe._loss_diff_var)
    spa = SPA(np.zeros(400), scaled, block_size=ours.block, reps=300, seed=np.random.default_rng(9))
    spa.compute()
    expected = (1 + 300 * spa.pvalues) / 301
    np.testing.assert_allclose([ours.lower, ours.consistent, ours.upper], expected, rtol=1e-12)
    step = StepM(np.zeros(400), scaled, size=0.05, block_size=ours.block, reps=300, seed=np.random.default_rng(9))
    step.compute()
    assert list(ours.superior) == step.superior_models
    assert {2, 5} <= set(ours.superior)


def test_size_on_noise():
    rng = np.random.default_rng(5)
    tests = [superior_ability(noise(rng), np.zeros(250), 199, 0.05, seed) for seed in range(200)]
    for level in (0.05, 0.2):
        low, high = binom.ppf([0.005, 0.995], 200, level)
        assert low <= sum(test.consistent <= level for test in tests) <= high
    assert sum(bool(test.superior) for test in tests) <= binom.ppf(0.995, 200, 0.05)


def test_a_volatile_loser_does_not_hide_a_steady_winner():
    rng = np.random.default_rng(6)
    returns = noise(rng, 500, 20)
    returns[:, 0] = 0.001 + 0.005 * rng.standard_normal(500)
    returns[:, 1:] *= 10.0
    test = superior_ability(returns, np.zeros(500), 300, 0.05, 0)
    assert test.consistent < 0.05
    assert test.superior == (0,)


def test_scaling_a_variant_changes_nothing():
    rng = np.random.default_rng(7)
    returns = noise(rng, 300, 5) + 0.0005
    factors = np.array([0.1, 1.0, 5.0, 2.0, 0.5])
    one, other = (superior_ability(x, np.zeros(300), 200, 0.05, 0) for x in (returns, returns * factors))
    assert one.consistent == pytest.approx(other.consistent, abs=0.01)


def test_idle_variants_and_the_benchmark_itself_are_left_out():
    rng = np.random.default_rng(8)
    returns = noise(rng, 300, 4)
    returns[:, 1] = 0.0
    returns[:, 3] += 0.005
    assert superior_ability(returns, np.zeros(300), 200, 0.05, 0).superior == (3,)
    assert superior_ability(np.repeat(returns[:, :1], 2, axis=1), returns[:, 0], 200, 0.05, 0) is None
    assert superior_ability(returns[:59], np.zeros(59), 200, 0.05, 0) is None
    with pytest.raises(ValueError, match="299 of the benchmark"):
        superior_ability(returns, np.zeros(299), 200, 0.05, 0)
    returns[4, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        superior_ability(returns, np.zeros(300), 200, 0.05, 0)
