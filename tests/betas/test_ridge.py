"""The ridge kernel against a slow, obvious reference, against statsmodels, and by its invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from majors_alts_pipeline.betas.ridge import FIELDS, rolling_ridge
from majors_alts_pipeline.betas.vasicek import vasicek

CHOSEN = {"window": 30, "min_obs": 15, "ridge": 0.05, "winsor_probability": 0.9, "first_day": 19_000}


def market(days, assets, seed=0, correlation=0.8, idio=0.03):
    """Returns (days, assets), factors (days, 2), true betas (assets, 2): fat tails, correlated factors."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(5, size=(days, 2)) / np.sqrt(5 / 3)
    x = np.empty((days, 2))
    x[:, 0] = 0.025 * shocks[:, 0]
    x[:, 1] = 0.033 * (correlation * shocks[:, 0] + np.sqrt(1 - correlation**2) * shocks[:, 1])
    betas = rng.normal([0.35, 0.75], 0.3, size=(assets, 2))
    noise = rng.standard_t(4, size=(days, assets)) / np.sqrt(2) * idio
    return x @ betas.T + noise, x, betas


def with_gaps(values, share, seed):
    values = values.copy()
    values[np.random.default_rng(seed).random(values.shape) < share] = np.nan
    return values


def reference(y, x, window, min_obs, ridge, winsor_probability, first_day):
    """One asset, one window at a time, in NumPy, straight from the docstring's definition."""
    rows = np.column_stack([y, x])
    known = np.isfinite(rows).all(1)
    tame = rows.copy()
    limit = chi2.ppf(winsor_probability, 3)
    for t in range(window, len(rows)):
        before = rows[t - window : t][known[t - window : t]]
        if known[t] and len(before) >= min_obs:
            centre = before.mean(0)
            away = rows[t] - centre
            distance = away @ np.linalg.solve(np.cov(before.T), away)
            tame[t] = centre + min(1.0, np.sqrt(limit / distance)) * away
    out = np.full((len(rows), len(FIELDS)), np.nan)
    for t in range(window - 1, len(rows)):
        here = slice(t - window + 1, t + 1)
        z, raw = tame[here][known[here]], rows[here][known[here]]
        n = len(z)
        out[t, 6] = n
        if n < min_obs:
            continue
        zc = z - z.mean(0)
        S, s, syy = zc[:, 1:].T @ zc[:, 1:] / n, zc[:, 1:].T @ zc[:, 0] / n, zc[:, 0] @ zc[:, 0] / n
        k = ridge * np.trace(S) / 2
        first = np.linalg.solve(S + k * np.eye(2), s)
        k *= ((zc[:, 0] - zc[:, 1:] @ first) ** 2).mean() / syy
        inverse = np.linalg.inv(S + k * np.eye(2))
        beta = inverse @ s
        rss = ((zc[:, 0] - zc[:, 1:] @ beta) ** 2).sum()
        freedom = n - 1 - np.trace(inverse @ S)
        covariance = rss / freedom / n * inverse @ S @ inverse
        errors = np.sqrt(np.diag(covariance))
        rc = raw - raw.mean(0)
        idio = np.sqrt(((rc[:, 0] - rc[:, 1:] @ beta) ** 2).sum() / freedom)
        vif = 1 / (1 - np.corrcoef(z[:, 1], z[:, 2])[0, 1] ** 2)
        out[t] = [*beta, *errors, 1 - rss / n / syy, idio, n, vif, covariance[0, 1]]
    return out


@pytest.mark.parametrize("ridge", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("winsor_probability", [0.8, 0.99, 1.0])
def test_equals_the_slow_reference(ridge, winsor_probability):
    y, x, _ = market(130, 3, seed=1)
    y, x = with_gaps(y, 0.2, 2), with_gaps(x, 0.05, 3)
    chosen = CHOSEN | {"ridge": ridge, "winsor_probability": winsor_probability}
    got = rolling_ridge(y, x, **chosen)
    for j in range(3):
        want = reference(y[:, j], x, **chosen)
        for k, name in enumerate(FIELDS):
            np.testing.assert_allclose(got[name][:, j], want[:, k], rtol=1e-10, atol=1e-10, err_msg=name)
    if winsor_probability < 1.0:
        untamed = rolling_ridge(y, x, **(chosen | {"winsor_probability": 1.0}))
        assert np.nanmax(np.abs(got["beta_btc"] - untamed["beta_btc"])) > 1e-4


def test_without_penalty_and_winsorisation_it_is_least_squares():
    from statsmodels.api import OLS, add_constant
    from statsmodels.regression.rolling import RollingOLS

    y, x, _ = market(150, 4, seed=5)
    got = rolling_ridge(y, x, **(CHOSEN | {"ridge": 0.0, "winsor_probability": 1.0, "window": 60}))
    design = add_constant(x)
    for j in range(4):
        theirs = RollingOLS(y[:, j], design, window=60).fit()
        for k, factor in enumerate(("btc", "eth"), start=1):
            np.testing.assert_allclose(got[f"beta_{factor}"][59:, j], theirs.params[59:, k], rtol=0, atol=1e-9)
            np.testing.assert_allclose(got[f"se_{factor}"][59:, j], theirs.bse[59:, k], rtol=0, atol=1e-9)
        np.testing.assert_allclose(got["r2"][59:, j], theirs.rsquared[59:], rtol=0, atol=1e-9)
    last = OLS(y[-60:, 0], design[-60:]).fit()
    assert got["idio_vol"][-1, 0] == pytest.approx(np.sqrt(last.scale), abs=1e-12)


@given(start=st.integers(0, 60), length=st.integers(1, 40), seed=st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_any_range_gives_the_same_bits(start, length, seed):
    y, x, _ = market(170, 3, seed=seed)
    y = with_gaps(y, 0.15, seed)
    lookback = 2 * CHOSEN["window"] - 1
    whole = rolling_ridge(y, x, **CHOSEN)
    stop = start + lookback + length
    part = rolling_ridge(y[start:stop, ::-1], x[start:stop], **(CHOSEN | {"first_day": 19_000 + start}))
    for name in FIELDS:
        np.testing.assert_array_equal(part[name][lookback:, ::-1], whole[name][start + lookback : stop])


def test_one_day_less_of_lookback_is_too_little():
    y, x, _ = market(170, 40, seed=3)
    whole = rolling_ridge(y, x, **CHOSEN)
    start = 100
    part = rolling_ridge(y[start:], x[start:], **(CHOSEN | {"first_day": 19_000 + start}))
    row = 2 * CHOSEN["window"] - 2
    assert (part["beta_btc"][row] != whole["beta_btc"][start + row]).any()


def test_threads_change_nothing():
    y, x, _ = market(700, 600, seed=4)
    whole = rolling_ridge(y, x, **CHOSEN)
    for j in (0, 299, 300, 599):
        alone = rolling_ridge(y[:, [j]], x, **CHOSEN)
        np.testing.assert_array_equal(alone["beta_eth"][:, 0], whole["beta_eth"][:, j])


@pytest.mark.parametrize("unit", [100.0, 1e-4])
def test_the_unit_of_returns_does_not_matter(unit):
    y, x, _ = market(120, 5, seed=6)
    got, scaled = rolling_ridge(y, x, **CHOSEN), rolling_ridge(unit * y, unit * x, **CHOSEN)
    for name in FIELDS:
        factor = unit if name == "idio_vol" else 1.0
        np.testing.assert_allclose(scaled[name], factor * got[name], rtol=1e-9, err_msg=name)


def test_winsorisation_is_affine_equivariant():
    y, x, _ = market(120, 5, seed=7)
    chosen = CHOSEN | {"ridge": 0.0, "winsor_probability": 0.8}
    plain = rolling_ridge(y, x, **chosen)
    moved = rolling_ridge(0.01 + 3.0 * y + x @ np.array([[2.0], [-1.0]]), x + 0.02, **chosen)
    np.testing.assert_allclose(moved["beta_btc"], 3.0 * plain["beta_btc"] + 2.0, atol=1e-9)
    np.testing.assert_allclose(moved["beta_eth"], 3.0 * plain["beta_eth"] - 1.0, atol=1e-9)


def test_winsorisation_tames_a_glitch_without_attenuating():
    y, x, betas = market(400, 400, seed=8)
    chosen = CHOSEN | {"window": 60, "min_obs": 30, "winsor_probability": 0.95, "ridge": 0.0}
    clean = rolling_ridge(y, x, **chosen)
    slope = [(clean["beta_btc"][119:] - betas[:, 0]).mean(), (clean["beta_eth"][119:] - betas[:, 1]).mean()]
    assert np.abs(slope).max() < 0.02
    glitched = y.copy()
    glitched[390] += 1.0
    off = {p: rolling_ridge(glitched, x, **(chosen | {"winsor_probability": p})) for p in (0.95, 1.0)}
    miss = {p: np.abs(off[p]["beta_btc"][-1] - clean["beta_btc"][-1]).mean() for p in off}
    assert miss[0.95] < 0.2 * miss[1.0]
    assert (off[0.95]["idio_vol"][-1] > 0.1).all()


@pytest.mark.parametrize("correlation", [0.8, 0.9])
def test_wrapped_bitcoin_is_one_and_staked_ether_is_ether(correlation):
    rng = np.random.default_rng(9)
    _, x, _ = market(400, 1, seed=10, correlation=correlation)
    tokens = x + rng.normal(0, 0.0003, x.shape)
    got = rolling_ridge(tokens, x, **(CHOSEN | {"window": 60, "min_obs": 30, "winsor_probability": 0.99}))
    for column, truth in enumerate(((1.0, 0.0), (0.0, 1.0))):
        assert np.abs(got["beta_btc"][119:, column] - truth[0]).max() < 0.02
        assert np.abs(got["beta_eth"][119:, column] - truth[1]).max() < 0.02


def test_betas_are_unbiased_and_errors_are_honest():
    mean_error, z, spread = [], [], {0.0: [], 0.05: []}
    for seed in range(25):
        y, x, betas = market(180, 200, seed=seed)
        for ridge, squares in spread.items():
            got = rolling_ridge(y, x, window=60, min_obs=30, ridge=ridge, winsor_probability=0.99, first_day=0)
            error = np.stack([got["beta_btc"][-1] - betas[:, 0], got["beta_eth"][-1] - betas[:, 1]])
            squares.append((error**2).mean())
        mean_error.append(error.mean(1))
        z.append(error / np.stack([got["se_btc"][-1], got["se_eth"][-1]]))
    assert np.abs(np.mean(mean_error, axis=0)).max() < 0.02
    assert 0.9 < np.std(z) < 1.15
    assert np.mean(spread[0.05]) < np.mean(spread[0.0])


def test_the_same_factor_twice_is_not_split_at_random():
    y, x, _ = market(60, 1, seed=11)
    twins = np.column_stack([x[:, 0], x[:, 0]])
    plain = rolling_ridge(y, twins, **(CHOSEN | {"ridge": 0.0}))
    assert not np.isfinite(plain["beta_btc"]).any()
    assert (plain["vif"][29:] > 1e8).all()
    shared = rolling_ridge(y, twins, **CHOSEN)
    np.testing.assert_allclose(shared["beta_btc"][29:], shared["beta_eth"][29:], rtol=1e-6)


def test_a_constant_price_has_no_beta_and_no_error():
    _, x, _ = market(80, 1, seed=12)
    got = rolling_ridge(np.zeros((80, 1)), x, **CHOSEN)
    for name in ("beta_btc", "beta_eth", "se_btc", "r2", "idio_vol"):
        assert (got[name][29:] == 0.0).all(), name


def test_too_few_observations_is_refused():
    y, x, _ = market(40, 1)
    with pytest.raises(ValueError, match="min_obs 3"):
        rolling_ridge(y, x, **(CHOSEN | {"min_obs": 3}))


def errors_of(fits):
    return np.stack([fits["se_btc"] ** 2, fits["cov_error"], fits["se_eth"] ** 2])


def test_the_covariance_of_errors_is_that_of_least_squares():
    from statsmodels.api import OLS, add_constant

    y, x, _ = market(60, 1, seed=15)
    got = rolling_ridge(y, x, **(CHOSEN | {"ridge": 0.0, "winsor_probability": 1.0, "window": 60}))
    theirs = OLS(y[:, 0], add_constant(x)).fit().cov_params()
    assert got["cov_error"][-1, 0] == pytest.approx(theirs[1, 2], rel=1e-9)
    assert theirs[1, 2] < 0


@pytest.mark.parametrize("dispersion", [0.5, 0.2, 0.0])
def test_vasicek_formula(dispersion):
    rng = np.random.default_rng(13)
    betas = rng.normal(1.0, dispersion, (2, 4, 40))
    roots = rng.normal(0, 0.2, (4, 40, 2, 2))
    covariance = roots @ roots.swapaxes(-1, -2)
    errors = np.stack([covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]])
    betas += np.moveaxis(np.einsum("taij,taj->tai", roots, rng.normal(size=(4, 40, 2))), -1, 0)
    pool = rng.random((4, 40)) < 0.8
    pool[3, 5:] = False
    got = vasicek(betas, errors, pool, 10)
    for t in range(3):
        b, v = betas[:, t, pool[t]], covariance[t, pool[t]]
        values, vectors = np.linalg.eigh(np.cov(b) - v.mean(0))
        prior = vectors @ np.diag(np.maximum(values, 0.0)) @ vectors.T
        mean = b.mean(1)
        want = [mean + prior @ np.linalg.solve(prior + v[k], b[:, k] - mean) for k in range(len(v))]
        np.testing.assert_allclose(got[:, t, pool[t]].T, want, rtol=1e-9)
    np.testing.assert_array_equal(got[:, ~pool], betas[:, ~pool])
    np.testing.assert_array_equal(got[:, 3], betas[:, 3])


def test_vasicek_lowers_the_error_of_each_beta_and_of_their_sum():
    y, x, betas = market(60, 300, seed=14)
    got = rolling_ridge(y, x, window=60, min_obs=30, ridge=0.05, winsor_probability=0.99, first_day=0)
    raw = np.stack([got["beta_btc"], got["beta_eth"]])
    shrunk = vasicek(raw, errors_of(got), np.isfinite(raw[0]), 10)
    for weights, gain in (((1, 0), 0.9), ((0, 1), 0.9), ((1, 1), 1.0)):
        before, after = ((np.array(weights) @ (b[:, -1] - betas.T)).std() for b in (raw, shrunk))
        assert after < gain * before


def test_vasicek_keeps_a_well_determined_sum():
    """Betas that differ in their sum only, seen with errors along BTC - ETH only: the sums must survive."""
    rng = np.random.default_rng(16)
    total, noise = rng.normal(1.0, 0.3, 200), rng.normal(0.0, 0.5, 200)
    betas = np.stack([total / 2 + noise, total / 2 - noise])[:, None]
    errors = np.full((3, 1, 200), 0.25)
    errors[1] = -0.25
    shrunk = vasicek(betas, errors, np.ones((1, 200), dtype=bool), 10)
    np.testing.assert_allclose(shrunk.sum(0)[0], total, atol=0.05)
    assert (shrunk[0] - shrunk[1]).std() < 0.4 * (2 * noise).std()


def test_vasicek_with_no_dispersion_is_the_mean_and_with_no_error_the_estimate():
    betas = np.array([[[1.0, 1.1, 0.9, 1.0]], [[0.0, 0.2, 0.1, 0.1]]])
    pool = np.ones((1, 4), dtype=bool)
    wide = np.stack([np.ones((1, 4)), np.zeros((1, 4)), np.ones((1, 4))])
    np.testing.assert_allclose(vasicek(betas, wide, pool, 2), [[[1.0] * 4], [[0.1] * 4]], rtol=1e-12)
    np.testing.assert_allclose(vasicek(betas, 0.0 * wide, pool, 2), betas, rtol=1e-12)
