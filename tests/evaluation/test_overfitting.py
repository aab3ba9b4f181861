"""CSCV against ffn, the R package's vignette and simulated searches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from majors_alts_pipeline.evaluation.contracts import CSCV
from majors_alts_pipeline.evaluation.overfitting import cscv, cscv_table, pbo_interval


def noise(seed, days=240, variants=20):
    return 0.01 * np.random.default_rng(seed).standard_normal((days, variants))


@pytest.mark.parametrize("days", [240, 243])
def test_equals_ffn(days):
    ffn = pytest.importorskip("ffn")
    returns = noise(1, days) + 0.002
    returns[:, 7] = returns[:, 3]
    theirs = ffn.core.calc_prob_backtest_overfitting(pd.DataFrame(returns), n_blocks=8, full_output=True)
    ours = cscv(returns, 8)
    np.testing.assert_allclose(ours.logit, theirs["logits"], rtol=1e-12, atol=1e-12)
    assert ours.pbo == pytest.approx(theirs["pbo"], abs=1e-12)


def test_every_split_by_hand():
    from itertools import combinations

    returns = noise(2, 40, 5)
    result = cscv(returns, 4)
    blocks = returns.reshape(4, 10, 5)
    for split, chosen in enumerate(combinations(range(4), 2)):
        inside = np.vstack([blocks[k] for k in chosen])
        outside = np.vstack([blocks[k] for k in range(4) if k not in chosen])
        sharpe = [half.mean(axis=0) / half.std(axis=0, ddof=1) * 365**0.5 for half in (inside, outside)]
        winner = int(np.argmax(sharpe[0]))
        assert result.winner[split] == winner
        assert result.is_sharpe[split] == pytest.approx(sharpe[0][winner], rel=1e-10)
        assert result.oos_sharpe[split] == pytest.approx(sharpe[1][winner], rel=1e-10)
    assert len(result.logit) == 6
    assert result.p_loss == np.mean(result.oos_sharpe < 0)


def test_vignette_of_the_r_package():
    """All trials re-centred to one mean: what wins in one half must lose in the other."""
    returns = np.random.default_rng(765).standard_normal((2400, 100)) * 0.01
    returns += 0.03 / 252 - returns.mean(axis=0) - 0.03 / 252
    result = cscv(returns, 8)
    assert result.pbo == 1.0
    assert result.p_loss == 1.0


def test_sixteen_blocks_and_one_good_trial():
    returns = np.random.default_rng(0).standard_normal((1000, 100))
    returns[:, 42] += 0.25
    result = cscv(returns, 16)
    assert len(result.logit) == 12_870
    assert result.pbo == 0.0
    assert set(result.winner) == {42}
    assert result.p_loss < 0.01


def test_noise_scatters_around_one_half():
    pbo = [cscv(noise(seed, 500, 50), 8).pbo for seed in range(40)]
    assert np.mean(pbo) == pytest.approx(0.5, abs=0.1)
    assert np.std(pbo) > 0.1


def test_scale_and_order_of_variants_change_nothing():
    returns = noise(4)
    order = np.random.default_rng(0).permutation(20)
    scaled = (returns * np.linspace(0.5, 3.0, 20))[:, order]
    a, b = cscv(returns, 8), cscv(scaled, 8)
    np.testing.assert_allclose(a.logit, b.logit, atol=1e-12)
    np.testing.assert_array_equal(a.winner, order[b.winner])


def test_a_variant_that_holds_nothing_has_sharpe_zero():
    returns = noise(5) - 0.01
    returns[:, 6] = 0.0
    result = cscv(returns, 8)
    assert set(result.winner) == {6}
    assert (result.oos_sharpe == 0.0).all()
    returns[:, 6] = 0.001
    with pytest.raises(ValueError, match="variant 6 is constant but not 0"):
        cscv(returns, 8)


@pytest.mark.parametrize(("days", "variants", "blocks"), [(240, 20, 7), (240, 1, 8), (15, 20, 8), (240, 20, 0)])
def test_what_cannot_be_split_is_refused(days, variants, blocks):
    with pytest.raises(ValueError, match="even number of blocks"):
        cscv(noise(0, days, variants), blocks)


def test_missing_returns_are_refused():
    returns = noise(0)
    returns[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"returns\[3, 4\]"):
        cscv(returns, 8)


def test_table_conforms():
    names = [f"v{k}" for k in range(20)]
    result = cscv(noise(6), 8)
    table = cscv_table(result, names)
    assert table.schema == CSCV.schema
    assert table.height == 70
    assert table["winner"].to_list() == [names[k] for k in result.winner]


def test_interval_covers_the_mean_of_noise_and_knows_a_good_variant():
    # By symmetry the logit of noise is symmetric, its PBO one half.
    covered = []
    for seed in range(40):
        low, high = pbo_interval(noise(seed, 400, 40), 8, reps=80, confidence=0.95, seed=seed)
        assert 0.0 <= low <= high <= 1.0
        covered.append(low <= 0.5 <= high)
    assert np.mean(covered) >= 0.8
    good = noise(0, 400, 40)
    good[:, 3] += 0.003
    low, high = pbo_interval(good, 8, reps=80, confidence=0.95, seed=0)
    assert low == 0.0
    assert high < 0.5


def test_interval_is_seeded_and_bears_idle_variants():
    returns = noise(9)
    returns[:, 2] = 0.0
    returns[:130, 3] = 0.0
    one = pbo_interval(returns, 8, 50, 0.9, 1, splits=20)
    assert one == pbo_interval(returns, 8, 50, 0.9, 1, splits=20)
    assert one != pbo_interval(returns, 8, 50, 0.9, 2, splits=20)
