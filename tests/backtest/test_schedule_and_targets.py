"""Rebalance calendar, volatility target, trailing volatility and random regimes."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from generated_market import settings

from majors_alts_pipeline.backtest import costs as cost_model
from majors_alts_pipeline.backtest.accounts import alt_index_targets, random_exposure
from majors_alts_pipeline.backtest.schedule import rebalance_days
from majors_alts_pipeline.backtest.voltarget import forecast, multiplier, paper_returns
from majors_alts_pipeline.calendar import EPOCH, day_number

START = date(2023, 11, 17)


@pytest.mark.parametrize(
    ("rule", "is_one"),
    [("daily", lambda d: True), ("week", lambda d: d.weekday() == 0), ("month", lambda d: d.day == 1)],
)
def test_calendar(rule, is_one):
    flags = rebalance_days(day_number(START), 200, rule)
    assert flags.tolist() == [is_one(START + timedelta(days=k)) for k in range(200)]


def test_paper_returns_skip_flat_days_and_names_without_a_price():
    weights = np.array([[0.0, 0.0], [0.5, -0.5], [0.5, -0.5], [0.0, 0.0]])
    price = np.array([[1.0, 1.0], [1.0, 1.0], [1.1, np.nan], [1.1, np.nan]])
    np.testing.assert_allclose(paper_returns(weights, price), [np.nan, np.nan, 0.05, 0.0])


def test_multiplier_is_target_over_trailing_volatility():
    rng = np.random.default_rng(0)
    rules = settings(
        vol_forecast="trailing", vol_target=0.15, vol_window_days=20, vol_min_obs=10, multiplier_max=1.5
    ).backtest
    returns = rng.normal(0, 0.01, 100)
    returns[40:45] = np.nan
    out = multiplier(forecast(returns, rules, 12_345), rules)
    for t in (9, 25, 42, 60, 99):
        seen = returns[max(t - 19, 0) : t + 1]
        sigma = np.nanstd(seen, ddof=1) * np.sqrt(365)
        assert out[t] == pytest.approx(min(1.5, 0.15 / sigma), rel=1e-9)
    assert (out[:9] == 1.0).all()
    off = rules.model_copy(update={"vol_target": None})
    assert (multiplier(forecast(returns, off, 0), off) == 1.0).all()


def test_impact_takes_the_days_dispersion_where_an_asset_has_no_past():
    rules = settings(costs={"impact_vol_window_days": 5, "impact_coefficient": 2.0}).costs
    returns = np.array([[np.nan], [0.01], [-0.01], [0.03]])
    unit = cost_model.impact_unit(returns, np.full(4, 0.04), rules, 77)
    np.testing.assert_allclose(
        unit[:, 0],
        [0.08, 0.08, 2 * np.std([0.01, -0.01], ddof=1), 2 * np.std([0.01, -0.01, 0.03], ddof=1)],
        rtol=1e-9,
    )


def test_fee_mix_and_half_spread():
    rules = settings(costs={"maker_share": 0.25, "maker_fee": 0.0001, "taker_fee": 0.0005}).costs
    assert cost_model.fee_rate(rules) == pytest.approx(0.0004)
    assert cost_model.half_spread(np.array([[0.008]]), rules)[0, 0] == pytest.approx(0.003)


def test_alt_index_takes_the_largest_eligible_alts():
    day = EPOCH + timedelta(days=20_000)
    universe = pl.DataFrame(
        {
            "date": [day] * 6,
            "asset_id": ["D", "C", "B", "A", "BTC", "E"],
            "role": ["alt"] * 4 + ["major", "alt"],
            "eligible": [True, True, False, True, True, True],
            "adv_usd": [5.0, 5.0, 99.0, None, 100.0, 9.0],
        }
    )
    chosen = alt_index_targets(universe, pl.Series([day]), 3)
    assert chosen.sort("asset_id").rows() == [(day, "C", 1 / 3), (day, "D", 1 / 3), (day, "E", 1 / 3)]


def switching_path(rng, days, off_rate, on_rate):
    state, path = False, []
    for u in rng.random(days):
        state = u >= off_rate if state else u < on_rate
        path.append(float(state))
    return np.array(path)


def test_random_regimes_do_not_see_the_future():
    actual = switching_path(np.random.default_rng(0), 400, 0.05, 0.1)
    full = random_exposure(actual, 2, 9, 19_000, 30)
    for last in (30, 31, 100, 399):
        np.testing.assert_array_equal(random_exposure(actual[: last + 1], 2, 9, 19_000, 30), full[: last + 1])
    assert (full[:30] == 0).all()


def test_random_regimes_switch_as_often_and_stay_on_as_long_as_the_actual_ones():
    actual = switching_path(np.random.default_rng(1), 4000, 0.05, 0.1)
    paths = np.array([random_exposure(actual, k, 9, 19_000, 0) for k in range(60)]) > 0
    burnt = paths[:, 500:]
    assert burnt.mean() == pytest.approx((actual[500:] > 0).mean(), abs=0.05)
    assert np.abs(np.diff(burnt.astype(int))).mean() == pytest.approx(np.abs(np.diff(actual[500:])).mean(), rel=0.1)
    correlations = [np.corrcoef(path, actual[500:])[0, 1] for path in burnt]
    assert abs(np.mean(correlations)) < 0.05
    assert len({path.tobytes() for path in paths}) == 60


def test_random_regimes_keep_to_a_share_that_has_changed():
    rng = np.random.default_rng(5)
    actual = np.r_[switching_path(rng, 500, 0.2, 0.02), switching_path(rng, 1500, 0.05, 0.1)]
    late = np.array([random_exposure(actual, k, 9, 19_000, 0) for k in range(60)])[:, 900:] > 0
    assert late.mean() == pytest.approx((actual[900:] > 0).mean(), abs=0.05)
    assert (actual[:500] > 0).mean() < 0.5 * late.mean(), "what happened over a year ago would drag it down"


def test_days_before_the_label_is_a_choice_are_not_counted():
    rng = np.random.default_rng(6)
    chosen = switching_path(rng, 300, 0.1, 0.1)
    burnt_in = np.r_[np.zeros(200), chosen]
    for path in range(8):
        late = random_exposure(burnt_in, path, 9, 19_000, 200)
        np.testing.assert_array_equal(late[200:], random_exposure(chosen, path, 9, 19_200, 0))
        assert (late[:200] == 0).all()


def test_the_uniform_of_a_day_belongs_to_the_day():
    slow = switching_path(np.random.default_rng(3), 900, 0.2, 0.2)
    first = random_exposure(slow, 0, 1, 19_000, 0)
    assert (random_exposure(slow, 0, 1, 19_000, 0) == first).all()
    assert (random_exposure(slow, 0, 1, 19_100, 0) != first).any()
    assert (random_exposure(slow, 0, 2, 19_000, 0) != first).any()
