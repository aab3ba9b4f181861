"""Forecast volatility: published and library numbers, recovery on simulated series, flat days, truncation."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from generated_market import day, market_frames, settings, whole
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from majors_alts_pipeline.backtest import voltarget
from majors_alts_pipeline.backtest.stage import compute
from majors_alts_pipeline.backtest.voltarget import (
    STALE,
    ewma_volatility,
    forecast,
    garch_fits,
    multiplier,
)
from majors_alts_pipeline.calendar import EPOCH, day_number
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.lake.reader import MemoryLake
from majors_alts_pipeline.lake.simulate import SimulationSpec, simulate
from majors_alts_pipeline.numerics.garch import fit_garch, garch_volatility
from majors_alts_pipeline.proofs.markets import market_settings
from majors_alts_pipeline.stages import STAGE_OF_TABLE

FIRST = day_number(date(2020, 1, 15))
FORECASTS = ("trailing", "ewma", "garch")


def garch_series(seed: int, n: int, omega: float, alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns (decimal) and their true volatility; omega in percent squared."""
    rng = np.random.default_rng(seed)
    shocks, variance = rng.standard_normal(n), omega / (1 - alpha - beta)
    returns, truth = np.empty(n), np.empty(n)
    for t in range(n):
        truth[t] = np.sqrt(variance) / 100
        returns[t] = truth[t] * shocks[t]
        variance = omega + (alpha * shocks[t] ** 2 + beta) * variance
    return returns, truth


def with_flat_spells(returns: np.ndarray) -> np.ndarray:
    out = returns.copy()
    out[:40], out[200:260], out[700:705] = np.nan, np.nan, np.nan
    return out


def rules(kind: str, **changes):
    return settings(vol_forecast=kind, garch_min_obs=250, **changes).backtest


# --- published numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decay", "days"), [(0.94, 74), (0.97, 151)])
def test_effective_days_of_riskmetrics(decay, days):
    """RiskMetrics Technical Document, table 5.7: the weight left to older returns falls to 1 % there."""
    shocks = np.r_[1.0, np.zeros(400)]
    response = ewma_volatility(np.r_[np.zeros(2000), shocks], decay, 1)[2000:] ** 2
    left_to_older = response / response[0]
    assert int(np.argmin(np.abs(left_to_older - 0.01))) == days
    assert response[0] == pytest.approx(1 - decay)


def test_half_life_of_riskmetrics():
    response = ewma_volatility(np.r_[np.zeros(2000), 1.0, np.zeros(30)], 0.94, 1)[2000:] ** 2
    half_life = np.interp(np.log(2), -np.log(response / response[0]), np.arange(31))
    assert half_life == pytest.approx(11.2, abs=0.05)


def test_garch_of_the_sp500_is_the_published_one():
    """The example of the library arch: 100 x daily returns of its bundled S&P 500."""
    from arch.data import sp500

    closes = sp500.load()["Adj Close"]
    fit = fit_garch(closes.pct_change().to_numpy(), date(2019, 1, 1))
    assert fit.converged
    assert [fit.mu, fit.omega, fit.alpha, fit.beta] == pytest.approx([0.0564, 0.0175, 0.1022, 0.8852], abs=1e-4)
    assert fit.log_likelihood == pytest.approx(-6936.72, abs=0.01)


def test_the_filter_is_archs_own():
    from arch import arch_model

    returns, _ = garch_series(1, 900, 0.05, 0.08, 0.88)
    fit = fit_garch(returns, date(2022, 1, 1))
    model = arch_model(100 * returns, rescale=False)
    best = model.fit(disp="off").params
    np.testing.assert_allclose([fit.mu, fit.omega, fit.alpha, fit.beta], best, atol=1e-6)
    theirs = model.fix([fit.mu, fit.omega, fit.alpha, fit.beta])
    ours = 100 * garch_volatility(returns, fit)
    np.testing.assert_allclose(ours[:-1], theirs.conditional_volatility[1:], rtol=1e-12)
    ahead = theirs.forecast(horizon=1).variance.to_numpy()[-1, 0]
    assert ours[-1] ** 2 == pytest.approx(ahead, rel=1e-12)


def test_exponential_weights_are_those_of_pandas():
    returns = with_flat_spells(np.random.default_rng(2).normal(0, 0.01, 900))
    theirs = pd.Series(returns**2).ewm(alpha=0.06, adjust=True, ignore_na=True).mean()
    known = np.cumsum(np.isfinite(returns)) >= 30
    ours = ewma_volatility(returns, 0.94, 30)
    np.testing.assert_allclose(ours[known], np.sqrt(theirs.to_numpy()[known]), rtol=1e-12)
    assert np.isnan(ours[~known]).all()


def test_garch_recovers_what_was_simulated():
    fits = [fit_garch(garch_series(seed, 3000, 0.05, 0.08, 0.88)[0], date(2022, 1, 1)) for seed in range(12)]
    for name, truth in (("alpha", 0.08), ("beta", 0.88)):
        values = np.array([getattr(fit, name) for fit in fits])
        assert np.mean(values) == pytest.approx(truth, abs=3 * np.std(values, ddof=1) / np.sqrt(12) + 0.005)
        assert np.std(values) < 0.05
    assert all(fit.converged for fit in fits)


# --- what a forecast is for --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORECASTS)
@pytest.mark.parametrize("seed", [3, 4])
def test_the_targeted_book_has_the_target_volatility(kind, seed):
    """A book whose volatility moves by more than a factor of four is brought to the target and is steadier."""
    returns, truth = garch_series(seed, 4000, 0.03, 0.10, 0.88)
    chosen = rules(kind, vol_target=0.15, multiplier_max=50.0)
    held = multiplier(forecast(returns, chosen, FIRST), chosen)[400:-1]
    realised = held * returns[401:]
    assert np.std(realised) * np.sqrt(365) == pytest.approx(0.15, rel=0.06)
    expected = held * truth[401:]
    left = 0.8 if kind == "trailing" else 0.6
    assert truth.max() > 4 * truth.min()
    assert np.std(expected) / np.mean(expected) < left * np.std(truth) / np.mean(truth)


def test_reacting_forecasts_are_nearer_to_the_truth_than_equal_weights():
    """In the world they are made for; quasi-likelihood loss (Patton 2011) against the true variance."""
    loss = dict.fromkeys(FORECASTS, 0.0)
    for seed in range(4):
        returns, truth = garch_series(10 + seed, 2500, 0.03, 0.10, 0.88)
        for kind in FORECASTS:
            ratio = (truth[1:] / forecast(returns, rules(kind), FIRST).volatility[:-1])[500:] ** 2
            loss[kind] += float(np.mean(ratio - np.log(ratio) - 1))
    assert loss["garch"] < loss["ewma"] < loss["trailing"]


@pytest.fixture(scope="module")
def chain_tables():
    market = simulate(SimulationSpec(n_alts=40, n_days=500, seed=2))
    chosen = market_settings()
    return Runner(MemoryLake(market.tables, chosen.lake), chosen).run_all(through="regime")


@pytest.mark.parametrize("kind", FORECASTS)
def test_the_account_of_a_simulated_market_has_the_target_volatility(chain_tables, kind):
    """Through basket, weekly rebalancing and execution lag; neither the cap nor the burn-in is at work."""
    chosen = market_settings({"backtest": {"vol_forecast": kind, "garch_min_obs": 150, "multiplier_max": 4.0}})
    stage = STAGE_OF_TABLE["backtest"]
    inputs = {item.table: chain_tables[item.table] for item in stage.inputs}
    backtest = stage.compute(inputs, whole(chain_tables), chosen)["backtest"]
    held = backtest.filter(account="always_on").drop_nulls("vol_forecast")
    assert held["exposure_multiplier"].max() < chosen.backtest.multiplier_max
    assert held["ret_gross"].std() * np.sqrt(365) == pytest.approx(chosen.backtest.vol_target, rel=0.15)


# --- flat days ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORECASTS)
def test_a_flat_spell_is_not_calm(kind):
    """Zeros in place of flat days would let the forecast sink; absent, the volatility before them is kept in mind."""
    returns, _ = garch_series(5, 1000, 0.03, 0.10, 0.88)
    flat, zeros = returns.copy(), returns.copy()
    flat[500:530], zeros[500:530] = np.nan, 0.0
    honest, fooled = (forecast(series, rules(kind), FIRST).volatility[529] for series in (flat, zeros))
    assert honest == pytest.approx(np.std(returns[:500]), rel=0.3)
    assert fooled < 0.8 * honest


@pytest.mark.parametrize("kind", ["ewma", "garch"])
def test_what_stands_on_a_flat_day_is_no_information(kind):
    returns = with_flat_spells(np.random.default_rng(6).normal(0, 0.01, 900))
    expected = forecast(returns, rules(kind), FIRST).volatility
    observed = np.isfinite(returns)
    if kind == "ewma":
        assert (expected[200:260] == expected[199]).all()
        np.testing.assert_array_equal(forecast(returns[observed], rules(kind), FIRST).volatility, expected[observed])
    else:
        fit = garch_fits(returns, rules(kind), FIRST)[-1]
        seen = returns[: (fit.refit - EPOCH).days - FIRST]
        assert fit.n_obs == np.isfinite(seen).sum()
        assert fit == fit_garch(seen[np.isfinite(seen)], fit.refit)


def test_over_a_flat_spell_the_garch_variance_goes_home():
    returns, _ = garch_series(7, 1500, 0.05, 0.10, 0.85)
    fit = fit_garch(returns, date(2022, 1, 1))
    gap = np.r_[returns[:1000], np.full(400, np.nan)]
    home = np.sqrt(fit.omega / (1 - fit.alpha - fit.beta)) / 100
    path = garch_volatility(gap, fit)
    assert path[-1] == pytest.approx(home, rel=1e-6)
    late = np.abs(path[1000:] - home)
    assert (np.diff(late) <= 1e-15).all()


# --- the past only -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORECASTS)
def test_a_later_return_changes_no_earlier_forecast(kind):
    returns = with_flat_spells(garch_series(8, 1000, 0.05, 0.10, 0.85)[0])
    full = forecast(returns, rules(kind), FIRST)
    for n in (1, 39, 41, 300, 505, 506, 507, 699, 704, 999):
        part = forecast(returns[:n], rules(kind), FIRST)
        np.testing.assert_array_equal(part.volatility, full.volatility[:n])
        assert part.model.tolist() == full.model[:n].tolist()


def test_parameters_change_on_quarter_starts_only():
    returns = garch_series(9, 1000, 0.05, 0.10, 0.85)[0]
    fits = garch_fits(returns, rules("garch"), FIRST)
    days = [EPOCH + timedelta(days=FIRST + k) for k in range(250, 1000)]
    assert [fit.refit for fit in fits] == [d for d in days if d.day == 1 and d.month in (1, 4, 7, 10)]
    assert [fit.n_obs for fit in fits] == [(fit.refit - EPOCH).days - FIRST for fit in fits]


@given(seed=st.integers(0, 1000), cap=st.floats(0.5, 5.0), target=st.floats(0.01, 1.0))
@hypothesis_settings(max_examples=30, deadline=None)
def test_the_multiplier_is_bounded_and_exact(seed, cap, target):
    returns = np.random.default_rng(seed).normal(0, 0.01, 200)
    chosen = rules("ewma", vol_target=target, multiplier_max=cap)
    expected = forecast(returns, chosen, FIRST)
    out = multiplier(expected, chosen)
    assert ((out > 0) & (out <= cap)).all()
    inside = out < cap
    known = ~np.isnan(expected.volatility)
    np.testing.assert_allclose((out * expected.annual)[inside & known], target, rtol=1e-12)
    assert (out[~known] == min(1.0, cap)).all()


# --- fits that fail ----------------------------------------------------------------------------------------


def test_a_fit_that_does_not_converge_keeps_the_last_good_one_and_says_so(monkeypatch):
    returns = garch_series(10, 1000, 0.05, 0.10, 0.85)[0]
    honest = garch_fits(returns, rules("garch"), FIRST)
    bad = {honest[0].refit, honest[3].refit}

    def sometimes(values, refit):
        fit = fit_garch(values, refit)
        return replace(fit, converged=False, alpha=0.9) if refit in bad else fit

    monkeypatch.setattr(voltarget, "fit_garch", sometimes)
    fits = garch_fits(returns, rules("garch"), FIRST)
    assert [fit.converged for fit in fits] == [fit.refit not in bad for fit in honest]
    got = forecast(returns, rules("garch"), FIRST)
    rows = [(fit.refit - EPOCH).days - FIRST for fit in honest]
    before = forecast(returns, rules("ewma"), FIRST).volatility
    np.testing.assert_array_equal(got.volatility[: rows[1]], before[: rows[1]])
    assert set(got.model[rows[0] : rows[1]]) == {"ewma"}
    stale = slice(rows[3], rows[4])
    assert set(got.model[stale]) == {STALE}
    np.testing.assert_array_equal(got.volatility[stale], garch_volatility(returns[: rows[4]], honest[2])[stale])
    assert set(got.model[rows[4] :]) == {"garch"}


def test_archs_own_complaint_is_heard(monkeypatch):
    """Two steps of the optimiser are too few; the library's flag must reach the fit."""
    from arch.univariate import ConstantMean

    whole_fit = ConstantMean.fit
    monkeypatch.setattr(ConstantMean, "fit", lambda self, **kw: whole_fit(self, **kw, options={"maxiter": 2}))
    assert not fit_garch(garch_series(11, 500, 0.05, 0.10, 0.85)[0], date(2022, 1, 1)).converged


def test_a_fit_without_an_effect_of_shocks_is_not_used():
    """It converges, but no return would ever move its variance again."""
    returns = np.random.default_rng(0).normal(0, 0.01, 300)
    (fit,) = garch_fits(returns, rules("garch"), FIRST)
    assert fit.converged
    assert not fit.usable
    loud = garch_volatility(np.r_[returns, np.full(50, 0.1)], fit)
    np.testing.assert_allclose(garch_volatility(np.r_[returns, np.zeros(50)], fit), loud, rtol=1e-9)
    got, instead = (forecast(returns, rules(kind), FIRST) for kind in ("garch", "ewma"))
    np.testing.assert_array_equal(got.volatility, instead.volatility)
    assert set(got.model) == {"none", "ewma"}


# --- in the accounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORECASTS)
def test_the_accounts_show_the_forecast_that_sized_them(kind):
    frames = market_frames(seed=5, n_days=300)
    chosen = settings(vol_forecast=kind, garch_min_obs=100, vol_target=0.1)
    backtest = compute(frames, whole(frames), chosen)["backtest"]
    book = backtest.filter(account="always_on").sort("date")
    known = book.drop_nulls("vol_forecast")
    np.testing.assert_allclose(
        known["exposure_multiplier"], np.minimum(2.0, 0.1 / known["vol_forecast"].to_numpy()), rtol=1e-12
    )
    assert set(book.filter(book["vol_forecast"].is_null())["vol_model"]) <= {"none"}
    assert kind in set(known["vol_model"])
    others = backtest.filter(account="btc")
    assert others["vol_forecast"].null_count() == others.height


def test_a_day_alone_uses_the_model_of_the_backfill():
    frames = market_frames(seed=5, n_days=300)
    chosen = settings(vol_forecast="garch", garch_min_obs=100)
    full = compute(frames, whole(frames), chosen)["backtest"]
    last = day(281)
    window = replace(whole(frames), start=last, end=last)
    alone = compute({name: frame.filter(frame["date"] <= last) for name, frame in frames.items()}, window, chosen)
    assert alone["backtest"].equals(full.filter(date=last).sort("date", "account"))
