"""Information coefficients: rank correlation of another library, size on persistent noise, power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from majors_alts_pipeline.evaluation.contracts import FEATURE_IC
from majors_alts_pipeline.evaluation.feature_ic import feature_ic
from majors_alts_pipeline.evaluation.horizons import forward_returns


def persistent(rng, days, rho=0.97):
    z = rng.standard_normal(days)
    for t in range(1, days):
        z[t] = rho * z[t - 1] + (1 - rho**2) ** 0.5 * z[t]
    return z


def one(z, returns, horizon, sign=1):
    return feature_ic({"f": z}, {"f": sign}, returns, execution_lag=1, horizons=(horizon,)).row(0, named=True)


@pytest.mark.parametrize("horizon", [1, 20])
def test_equals_scipy_with_gaps(horizon):
    rng = np.random.default_rng(0)
    z, returns = persistent(rng, 400), 0.01 * rng.standard_normal(400)
    z[:90] = z[200:210] = np.nan
    row = one(z, returns, horizon, sign=-1)
    forward = forward_returns(returns, horizon, 1)
    known = np.isfinite(z[: len(forward)])
    assert row["ic"] == pytest.approx(spearmanr(-z[: len(forward)][known], forward[known]).statistic, rel=1e-10)
    assert row["n_days"] == known.sum()
    mirrored = one(z, returns, horizon)
    assert (mirrored["ic"], mirrored["hac_t"]) == pytest.approx((-row["ic"], -row["hac_t"]), rel=1e-9)


@pytest.mark.parametrize("horizon", [1, 20, 60])
def test_size_with_a_persistent_score(horizon):
    rng = np.random.default_rng(1)
    t = [one(persistent(rng, 800), 0.01 * rng.standard_t(5, 800), horizon)["hac_t"] for _ in range(300)]
    # Seven in a hundred at a nominal five: the lags of the rule are few beside the score's own memory.
    assert (np.abs(t) > 1.96).sum() <= binom.ppf(0.995, 300, 0.07)


def test_a_score_that_forecasts_is_found():
    rng = np.random.default_rng(2)
    z = persistent(rng, 1000)
    returns = 0.01 * rng.standard_normal(1000)
    returns[2:] += 0.003 * z[:-2]
    for horizon in (1, 5, 20):
        row = one(z, returns, horizon)
        assert row["ic"] > 0.1
        assert row["hac_t"] > 3


def test_every_feature_and_horizon_has_a_row():
    rng = np.random.default_rng(3)
    scores = {"b": persistent(rng, 300), "a": np.full(300, np.nan), "c": np.full(300, 2.0)}
    table = feature_ic(scores, {"a": 1, "b": 1, "c": -1}, 0.01 * rng.standard_normal(300), execution_lag=1)
    assert table.schema == FEATURE_IC.schema
    assert table.height == 18
    by = {(row["feature"], row["horizon_days"]): row for row in table.iter_rows(named=True)}
    assert (by["a", 1]["ic"], by["a", 1]["hac_t"], by["a", 1]["n_days"]) == (None, None, 0)
    assert (by["c", 1]["ic"], by["c", 1]["n_days"]) == (None, 298)
    assert by["b", 60]["ic"] is not None
    short = feature_ic({"b": scores["b"][:61]}, {"b": 1}, np.zeros(61), execution_lag=1, horizons=(1, 60, 90))
    assert short["ic"].null_count() == 3


def test_what_does_not_fit_is_refused():
    for scores, signs in (({"a": np.zeros(4)}, {"a": 1}), ({"a": np.zeros(5)}, {})):
        with pytest.raises(ValueError, match=r"a: . scores beside 5 returns"):
            feature_ic(scores, signs, np.zeros(5), execution_lag=1)
