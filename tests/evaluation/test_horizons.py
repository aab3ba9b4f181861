"""Forward returns by label: arithmetic by hand, size and coverage on markets without edge, power with one."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, kstest

from majors_alts_pipeline.evaluation.contracts import EDGE_BY_HORIZON
from majors_alts_pipeline.evaluation.horizons import ALL, HORIZONS, cover, edge_by_horizon, forward_returns

LAG = 1


def market(rng, days, edge=0.0, stay=0.95):
    """Persistent labels beside fat-tailed returns with clustered volatility; `edge` per day in daily volatilities."""
    keep = rng.random(days) < stay
    on = np.zeros(days, dtype=bool)
    for t in range(1, days):
        on[t] = on[t - 1] if keep[t] else rng.random() < 0.5
    volatility = 0.01 * np.exp(0.5 * np.convolve(rng.normal(size=days + 19), np.ones(20), "valid") / 20**0.5)
    returns = volatility * rng.standard_t(5, days) / (5 / 3) ** 0.5
    returns[LAG + 1 :] += edge * 0.01 * on[: -LAG - 1]
    return returns, np.where(on, "ON", "OFF").astype(object)


def table(returns, labels, horizons=HORIZONS, reps=100, seed=0):
    return edge_by_horizon(
        returns, labels, "m", execution_lag=LAG, reps=reps, confidence=0.95, seed=seed, horizons=horizons
    )


def test_forward_returns_by_hand():
    returns = np.array([9.0, 9.0, 0.1, 0.2, -0.5, 0.0])
    np.testing.assert_allclose(forward_returns(returns, 2, 1), [1.1 * 1.2 - 1, 1.2 * 0.5 - 1, 0.5 - 1])
    np.testing.assert_allclose(forward_returns(returns, 1, 0), returns[1:])
    assert forward_returns(returns, 5, 1).size == 0
    for horizon, lag in ((0, 1), (1, -1)):
        with pytest.raises(ValueError, match="horizon >= 1"):
            forward_returns(returns, horizon, lag)
    with pytest.raises(ValueError, match=r"returns\[1\]"):
        forward_returns(np.array([0.0, np.inf]), 1, 0)


@pytest.mark.parametrize(("horizon", "lag"), [(1, 0), (1, 2), (7, 1), (30, 1)])
def test_cover_adds_up_what_forward_returns_add_up(horizon, lag):
    rng = np.random.default_rng(0)
    returns, decisions = 1e-9 * rng.standard_normal(60), rng.standard_normal(60 - horizon - lag)
    by_day = cover(decisions, 60, horizon, lag) @ returns
    assert by_day == pytest.approx(decisions @ forward_returns(returns, horizon, lag), rel=1e-6)


def test_rows_by_hand():
    returns, labels = market(np.random.default_rng(1), 300)
    result = table(returns, labels, (1, 20))
    assert result.schema == EDGE_BY_HORIZON.schema
    assert result.height == 6
    forward = forward_returns(returns, 20, LAG)
    on = labels[: len(forward)] == "ON"
    row = result.row(by_predicate=(pl.col("label") == "ON") & (pl.col("horizon_days") == 20), named=True)
    assert row["mean"] == pytest.approx(forward[on].mean())
    assert row["difference"] == pytest.approx(forward[on].mean() - forward[~on].mean())
    assert row["n_days"] == on.sum()
    assert row["n_episodes"] == (np.diff(on.astype(int)) == 1).sum() + on[0]
    assert row["low"] < row["mean"] < row["high"]
    off = result.row(by_predicate=(pl.col("label") == "OFF") & (pl.col("horizon_days") == 20), named=True)
    for name in ("difference", "hac_t"):
        assert off[name] == pytest.approx(-row[name])
    assert off["p_value"] == pytest.approx(row["p_value"])
    every = result.row(by_predicate=(pl.col("label") == ALL) & (pl.col("horizon_days") == 20), named=True)
    assert every["mean"] == pytest.approx(forward.mean())
    assert every["n_days"] == len(forward)
    assert (every["difference"], every["hac_t"], every["p_value"]) == (None, None, None)


def test_at_one_day_the_t_is_that_of_the_newey_west_regression():
    sm = pytest.importorskip("statsmodels.api")
    returns, labels = market(np.random.default_rng(2), 700)
    row = table(returns, labels, (1,)).row(by_predicate=pl.col("label") == "ON", named=True)
    on = (labels[: 700 - LAG - 1] == "ON").astype(float)
    y = returns[LAG + 1 :]
    fit = sm.OLS(y, sm.add_constant(on)).fit(cov_type="HAC", cov_kwds={"maxlags": int(4 * 7 ** (2 / 9))})
    assert row["hac_t"] == pytest.approx(fit.tvalues[1], rel=2e-3)


def test_days_before_the_first_label_do_not_count():
    returns, labels = market(np.random.default_rng(3), 400)
    late = labels.copy()
    late[:50] = None
    assert table(returns, late).equals(table(returns[50:], labels[50:]))
    late[200] = None
    with pytest.raises(ValueError, match=r"labels\[200\] is missing"):
        table(returns, late)
    with pytest.raises(ValueError, match="399 labels"):
        table(returns, labels[1:])
    assert table(returns, np.full(400, None)).filter(pl.col("label") != ALL).is_empty()


def test_overlap_leaves_fewer_decisions():
    returns, labels = market(np.random.default_rng(4), 1500)
    own = table(returns, labels, (1, 5, 20, 60)).filter(pl.col("label") == ALL)
    effective = own["n_effective"].to_list()
    assert effective == sorted(effective, reverse=True)
    assert effective[0] > 1000
    assert effective[3] == pytest.approx(1440 / 60, rel=0.6)


def test_small_samples_say_so():
    returns, _ = market(np.random.default_rng(5), 400)
    labels = np.full(400, "OFF", dtype=object)
    labels[100:120] = labels[300:310] = "RARE"
    labels[398:] = "LAST"
    result = table(returns, labels, (1, 20))
    by = {(row["label"], row["horizon_days"]): row for row in result.iter_rows(named=True)}
    rare = by["RARE", 1]
    assert "only 2 separate times" in rare["warning"]
    assert rare["mean"] is not None
    assert (rare["low"], rare["hac_t"], rare["n_effective"]) == (None, None, None)
    assert 0 < rare["p_value"] <= 1
    last = by["LAST", 20]
    assert (last["mean"], last["p_value"], last["n_days"]) == (None, None, 0)
    assert last["warning"] == "no decision with a whole horizon of 20 days"
    plenty = table(*market(np.random.default_rng(6), 2000, stay=0.9), (1,))
    assert set(plenty["warning"]) == {""}


def test_nothing_to_measure_is_null():
    labels = np.array(["A", "B"] * 100, dtype=object)
    flat = table(np.zeros(200), labels, (1, 20))
    assert set(flat["mean"]) == {0.0}
    for name in ("low", "high", "hac_t", "p_value", "n_effective"):
        assert flat[name].null_count() == flat.height
    tiny = table(np.array([0.1, 0.2, 0.3]), labels[:3], (1, 60))
    assert tiny["low"].null_count() == tiny["p_value"].null_count() == tiny.height
    assert table(np.empty(0), np.empty(0, dtype=object)).height == len(HORIZONS)


def many(n, seed, horizons, edge=0.0, days=600, stay=0.95):
    rng = np.random.default_rng(seed)
    results = [table(*market(rng, days, edge, stay), horizons, 150, k).filter(label="ON") for k in range(n)]
    return pl.concat(results)


@pytest.fixture(scope="module")
def null_markets():
    return many(200, 7, (1, 20))


@pytest.mark.parametrize("horizon", [1, 20])
def test_p_values_are_uniform_without_an_edge(null_markets, horizon):
    p = null_markets.filter(horizon_days=horizon)["p_value"].to_numpy()
    for level in (0.05, 0.2, 0.5):
        low, high = binom.ppf([0.005, 0.995], len(p), level)
        assert low <= (p <= level).sum() <= high, level
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("horizon", [1, 20])
def test_intervals_cover_and_t_does_not_exceed_its_size(null_markets, horizon):
    own = null_markets.filter(horizon_days=horizon).drop_nulls("low")
    assert own.height > 180
    covered = ((own["low"] <= 0) & (own["high"] >= 0)).mean()
    # A percentile interval of a few dozen independent decisions covers somewhat less than its name.
    assert 0.87 <= covered <= 0.99
    assert (own["hac_t"].abs() > 1.96).mean() <= binom.ppf(0.995, own.height, 0.07) / own.height


def test_a_planted_edge_is_found_and_covered():
    planted = many(40, 9, (1, 20), edge=0.6)
    for horizon in (1, 20):
        own = planted.filter(horizon_days=horizon)
        assert (own["p_value"] < 0.05).mean() > 0.6
        assert (own["difference"] > 0).mean() > 0.95
    one = planted.filter(horizon_days=1)
    assert ((one["low"] <= 0.006) & (one["high"] >= 0.006)).mean() > 0.8


def test_scrambled_labels_lose_the_edge():
    rng = np.random.default_rng(11)
    returns, labels = market(rng, 1500, edge=0.5)
    found = table(returns, labels, (5,)).row(by_predicate=pl.col("label") == "ON", named=True)
    lost = table(returns, np.roll(labels, 700), (5,)).row(by_predicate=pl.col("label") == "ON", named=True)
    assert found["p_value"] < 0.01
    assert found["hac_t"] > 3
    assert lost["p_value"] > 0.05
