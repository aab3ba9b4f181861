"""The detector: states reachable on data made for them, gaps, failed fits, no look-ahead, proper probabilities."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from bar_frames import FIRST, detector_settings, history_of, market_of_bars, walk
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import ConfigError
from majors_alts_pipeline.regime import trend_chop
from majors_alts_pipeline.regime.bars import WARM_UP, indicators
from majors_alts_pipeline.regime.interface import Labelled
from majors_alts_pipeline.regime.transitions import fit_transition
from majors_alts_pipeline.regime.trend_chop import METHOD, STATES, Detector
from majors_alts_pipeline.tables import REGIME_MODEL

PAST = 500
NONE = REGIME_MODEL.empty()


def labelled(market: pl.DataFrame, settings=None, window: Window | None = None) -> tuple[pl.DataFrame, Labelled]:
    settings = settings or detector_settings()
    history = history_of(market)
    models = METHOD.fit(history, METHOD.refit_dates(history.window, settings), NONE, settings)
    return models, METHOD.label(history, models, window or history.window, {}, settings)


def extended(tail: np.ndarray, seed: int = 0, **kwargs: np.ndarray) -> pl.DataFrame:
    """A random walk of `PAST` days and then `tail`, (days, 3) logs from 0."""
    past = walk(PAST, np.random.default_rng(seed))
    return market_of_bars(np.vstack([past, past[-1, 2] + tail]), **kwargs)


def shares(market: pl.DataFrame, last: int) -> dict[str, float]:
    states = labelled(market)[1].regime["native_state"].tail(last).to_list()
    return {state: states.count(state) / last for state in STATES}


def choppy_bars(days: int) -> np.ndarray:
    """Bars that each cover the same range and close at alternating ends."""
    ends = np.where(np.arange(days) % 2 == 0, 0.03, -0.03)
    return np.column_stack([np.full(days, 0.03), np.full(days, -0.03), ends])


def test_a_steady_climb_and_a_steady_fall_are_trends_of_their_direction() -> None:
    up = shares(extended(walk(60, np.random.default_rng(1), drift=0.02, vol=0.02)), 20)
    down = shares(extended(walk(60, np.random.default_rng(1), drift=-0.02, vol=0.02)), 20)
    assert up["TRENDING_UP"] > 0.9
    assert up["TRENDING_DOWN"] == down["TRENDING_UP"] == 0.0
    assert down["TRENDING_DOWN"] > 0.9


def test_overlapping_bars_are_choppy_and_a_random_walk_mostly_ranges() -> None:
    assert shares(extended(choppy_bars(40)), 20)["CHOPPY"] == 1.0
    quiet = [shares(extended(walk(100, np.random.default_rng(s)), s), 100) for s in range(6)]
    assert np.mean([share["RANGING"] for share in quiet]) > 0.6


def test_a_crash_is_a_crisis_and_as_violent_a_rally_is_not() -> None:
    crash = shares(extended(walk(12, np.random.default_rng(2), drift=-0.06, vol=0.08)), 6)
    rally = shares(extended(walk(12, np.random.default_rng(2), drift=0.06, vol=0.08)), 6)
    assert crash["CRISIS"] == 1.0
    assert rally["CRISIS"] == 0.0


def test_a_jump_of_the_correlation_in_a_falling_market_is_a_crisis() -> None:
    tail = walk(20, np.random.default_rng(3), drift=-0.01, vol=0.01)
    rng = np.random.default_rng(4)
    calm = 0.4 + 0.01 * rng.standard_normal(PAST + 20)
    jump = calm + 0.4 * (np.arange(PAST + 20) >= PAST + 15)
    last = shares(extended(tail, correlation=jump), 3)
    assert last["CRISIS"] == 1.0
    assert shares(extended(tail, correlation=calm), 3)["CRISIS"] < 1.0
    unknown = np.where(np.arange(PAST + 20) >= PAST, np.nan, calm)
    assert shares(extended(tail, correlation=unknown), 3)["CRISIS"] < 1.0


def test_states_say_what_the_map_says_of_the_labels() -> None:
    down = labelled(extended(walk(60, np.random.default_rng(1), drift=-0.02, vol=0.02)))[1].regime
    up = labelled(extended(walk(60, np.random.default_rng(1), drift=0.02, vol=0.02)))[1].regime
    assert down["label"][-1] == "RISK_ON_MAJORS"
    assert up["label"][-1] == "RISK_ON_ALTS"
    assert down["score"][-1] > 0.3 > -0.3 > up["score"][-1]


@pytest.fixture(scope="module")
def plain() -> tuple[pl.DataFrame, pl.DataFrame, Labelled]:
    rng = np.random.default_rng(5)
    vol = 0.02 * np.exp(np.repeat(0.6 * rng.standard_normal(14), 50))
    market = market_of_bars(walk(700, rng, vol=vol), 0.4 + 0.05 * np.cumsum(rng.standard_normal(700)) / 25)
    return market, *labelled(market)


def test_nothing_is_said_before_the_first_fit_and_proper_probabilities_after(plain) -> None:
    _, models, said = plain
    first = models.filter(pl.col("in_force") == "walk_forward")["date"].min()
    n_obs = models.filter(pl.col("date") == first)["n_obs"].item()
    assert n_obs >= 2 * WARM_UP
    assert (models.filter(pl.col("date") < first)["n_obs"] < 2 * WARM_UP).all()
    before, after = said.regime.filter(pl.col("date") < first), said.regime.filter(pl.col("date") >= first)
    assert set(before["label"]) == {"BALANCED"}
    assert (before["p_balanced"] == 1.0).all()
    assert before["score"].null_count() == before["native_state"].null_count() == before.height
    assert after["native_state"].null_count() == after["score"].null_count() == 0
    total = said.probabilities.group_by("date", "horizon_days").agg(pl.col("probability").sum(), pl.len())
    np.testing.assert_allclose(total["probability"], 1.0, atol=1e-12)
    assert set(total["len"]) == {len(STATES)}
    assert set(total["horizon_days"]) == {0, 1, 5}
    assert total["date"].min() == first
    ahead = said.probabilities.filter(pl.col("horizon_days") > 0)["probability"]
    assert ((ahead > 0) & (ahead < 1)).all()
    now = said.probabilities.filter((pl.col("horizon_days") == 0) & (pl.col("probability") == 1.0)).sort("date")
    assert now["state"].to_list() == after["native_state"].to_list()
    three = after.select("p_risk_on_majors", "p_balanced", "p_risk_on_alts").sum_horizontal()
    np.testing.assert_allclose(three, 1.0, atol=1e-12)


@pytest.mark.parametrize("back", [0, 3, 40, 61, 62, 153, 300])
def test_a_day_alone_from_a_cut_history_equals_the_range(plain, back: int) -> None:
    market, models, said = plain
    settings = detector_settings()
    day = market["date"].max() - timedelta(days=back)
    history = history_of(market.filter(pl.col("date") <= day))
    dates = [d for d in METHOD.refit_dates(history.window, settings) if d == day]
    if dates:
        row = METHOD.fit(history, dates, models.filter(pl.col("date") < day), settings)
        assert_frame_equal(row, models.filter(pl.col("date") == day), check_exact=True)
    window = Window(day, day)
    alone = METHOD.label(history, models.filter(pl.col("date") <= day), window, {}, settings)
    assert_frame_equal(alone.regime, window.keep(said.regime), check_exact=True)
    assert_frame_equal(alone.probabilities, window.keep(said.probabilities), check_exact=True)


def test_a_refit_date_is_among_the_days_tested(plain) -> None:
    market, models, _ = plain
    tested = {market["date"].max() - timedelta(days=back) for back in (0, 3, 40, 61, 62, 153, 300)}
    assert tested & set(models["date"])


def test_a_fit_sees_nothing_of_its_own_day(plain) -> None:
    market, models, _ = plain
    settings = detector_settings()
    refit = models["date"].max()
    shaken = market.with_columns(
        pl.when(pl.col("date") >= refit).then(3.0 * pl.col(name)).otherwise(name).alias(name)
        for name in ("open", "high", "low", "close")
    )
    again = METHOD.fit(history_of(shaken), [refit], models.filter(pl.col("date") < refit), settings)
    assert_frame_equal(again, models.filter(pl.col("date") == refit), check_exact=True)
    eve = shaken.with_columns(date=pl.col("date") - timedelta(days=1)).filter(pl.col("date") >= FIRST)
    assert METHOD.fit(history_of(eve), [refit], NONE, settings)["params"][0] != again["params"][0]


def test_days_without_a_bar_are_silent_and_the_indicators_run_over_the_others(plain) -> None:
    market, _, said = plain
    gone = [FIRST + timedelta(days=k) for k in (100, 640, 641)]
    holed = market.with_columns(
        pl.when(pl.col("date").is_in(gone)).then(None).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    )
    models, other = labelled(holed)
    silent = other.regime.filter(pl.col("date").is_in(gone[1:]))
    assert silent["native_state"].null_count() == silent["score"].null_count() == 2
    assert set(silent["label"]) <= set(said.regime["label"])
    assert (silent["p_balanced"] == 1.0).all()
    assert not other.probabilities["date"].is_in(gone).any()
    assert other.regime.filter(pl.col("date") > gone[-1])["native_state"].null_count() == 0
    series = trend_chop.Series.of(history_of(holed))
    bars = holed.drop_nulls("close").select("high", "low", "close")
    np.testing.assert_array_equal(series.known["adx"][series.row[WARM_UP:]], indicators(bars)["adx"][WARM_UP:])
    assert models["n_obs"].max() < plain[1]["n_obs"].max()
    ratio = holed["close"][642] / holed["close"][639] - 1.0
    assert series.ret[642] == pytest.approx(ratio, rel=1e-12)


def test_a_failed_garch_keeps_the_last_good_detector_and_says_so(plain, monkeypatch: pytest.MonkeyPatch) -> None:
    market, models, _ = plain
    settings = detector_settings()
    history = history_of(market)
    dates = METHOD.refit_dates(history.window, settings)
    good = models.filter(pl.col("in_force") == "walk_forward")["date"].to_list()
    real = trend_chop.fit_garch

    def fails_on(bad: set[date]):
        monkeypatch.setattr(
            trend_chop, "fit_garch", lambda ret, refit: replace(real(ret, refit), converged=refit not in bad)
        )
        return METHOD.fit(history, dates, NONE, settings)

    late = fails_on({good[1]})
    kept = late.filter(pl.col("date") == good[1]).row(0, named=True)
    assert kept["in_force"] == "kept"
    assert not kept["converged"]
    assert "did not converge" in kept["note"]
    assert kept["params"] == late.filter(pl.col("date") == good[0])["params"].item()
    assert kept["chosen"]
    assert_frame_equal(late.filter(pl.col("date") != good[1]), models.filter(pl.col("date") != good[1]))
    said = METHOD.label(history, late, history.window, {}, settings).regime
    quarter = said.filter(pl.col("date").is_between(good[1], good[2] - timedelta(days=1)))
    assert set(quarter["model_asof"]) == {good[0]}
    assert set(quarter["in_force"]) == {"kept"}
    early = fails_on({good[0]}).filter(pl.col("date") == good[0]).row(0, named=True)
    assert (early["in_force"], early["converged"], early["params"]) == ("default", False, "{}")


def test_returns_that_never_vary_are_a_failed_fit_not_a_crash() -> None:
    flat = market_of_bars(np.zeros((400, 3)))
    models, said = labelled(flat)
    assert not models.filter(pl.col("n_obs") >= 2 * WARM_UP)["converged"].any()
    assert set(said.regime["label"]) == {"BALANCED"}


def test_params_survive_the_round_trip(plain) -> None:
    text = plain[1]["params"][-1]
    assert Detector.from_json(text).to_json() == text


def test_transition_probabilities_are_calibrated_on_a_simulated_chain() -> None:
    """A crisis comes the likelier the higher the volatility; fitted on one half, judged on the other."""
    rng = np.random.default_rng(8)
    days, n = 12_000, 3
    unease = np.zeros(days)
    state = np.zeros(days, dtype=np.int64)
    for t in range(1, days):
        unease[t] = 0.95 * unease[t - 1] + 0.3 * rng.standard_normal()
        crisis = 1 / (1 + np.exp(2.5 - 1.5 * unease[t - 1] - 2.0 * (state[t - 1] == 2)))
        stay = 0.9 if state[t - 1] < 2 else 0.5
        other = state[t - 1] if state[t - 1] < 2 and rng.random() < stay else rng.integers(2)
        state[t] = 2 if rng.random() < crisis else other
    half = days // 2
    for horizon in (1, 5):
        model = fit_transition(state[:half], unease[:half], horizon, n, 10.0)
        chance = model.probabilities(state[half:-horizon], unease[half:-horizon])
        came = state[half + horizon :]
        np.testing.assert_allclose(chance.sum(axis=1), 1.0, atol=1e-12)
        for k in range(n):
            bins = np.array_split(np.argsort(chance[:, k], kind="stable"), 5)
            for rows in bins:
                p, seen = chance[rows, k].mean(), (came[rows] == k).mean()
                # Overlap makes outcomes of h days worth 1 / h each; 0.02 for the error of the fit itself.
                assert abs(seen - p) < 3 * np.sqrt(p * (1 - p) * horizon / len(rows)) + 0.02, (horizon, k)
        ours = -np.log(chance[np.arange(len(came)), came]).mean()
        base = np.bincount(state[:half], minlength=n) / half
        assert ours < -np.log(base[came]).mean() - 0.1


def test_without_a_crisis_in_the_past_its_chance_is_small_and_not_zero() -> None:
    state = np.array([0, 1] * 100)
    chance = fit_transition(state, np.zeros(200), 1, 5, 10.0).probabilities(np.arange(5), np.zeros(5))
    np.testing.assert_allclose(chance[:, -1], 0.5 / 200, rtol=1e-9)
    assert (chance > 0).all()
    assert chance[0, 1] > 0.9 > chance[2, 1]


def test_unknown_days_are_no_transitions() -> None:
    state = np.array([0, -1, 1, 0, 1, -1, 0, 1])
    got = fit_transition(state, np.zeros(8), 1, 3, 1e-9)
    np.testing.assert_allclose(got.others[0], [0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(got.others[1], [1.0, 0.0], atol=1e-6)


def test_a_map_that_is_not_a_distribution_is_refused() -> None:
    wrong = {"RISK_ON_MAJORS": 0.5, "BALANCED": 0.2, "RISK_ON_ALTS": 0.1}
    with pytest.raises(ConfigError, match=r"label_map\.CRISIS"):
        detector_settings(label_map={"CRISIS": wrong})
    with pytest.raises(ConfigError, match="needs exactly"):
        detector_settings(label_map={"BOOM": wrong})


@pytest.mark.parametrize("bars", [0, 1, 20, 140])
def test_a_market_with_hardly_any_bars_is_silent(bars: int) -> None:
    market = market_of_bars(walk(200, np.random.default_rng(0)))
    some = pl.int_range(pl.len()) < bars
    poor = market.with_columns(
        pl.when(some).then(pl.col(name)).alias(name) for name in ("open", "high", "low", "close")
    )
    models, said = labelled(poor)
    assert set(models["in_force"]) == {"default"}
    assert said.regime["native_state"].null_count() == 200
    assert said.probabilities.is_empty()


def test_planted_trends_are_found_better_than_by_chance_and_never_upside_down() -> None:
    drift = np.tile(np.repeat([0.015, 0.0, -0.015], 100), 3)
    market = extended(walk(len(drift), np.random.default_rng(6), drift=drift, vol=0.02))
    said = labelled(market)[1].regime["native_state"].tail(len(drift)).to_numpy()
    # ADX is an average of averages over 14 bars: it needs some forty to forget the trend before.
    late = np.tile(np.arange(100) >= 50, 9)
    up, down = said == "TRENDING_UP", said == "TRENDING_DOWN"
    assert up[late & (drift > 0)].mean() > 0.5 > 2 * up[late & (drift == 0)].mean()
    assert (down | (said == "CRISIS"))[late & (drift < 0)].mean() > 0.5
    assert not down[late & (drift > 0)].any()
    assert not up[late & (drift < 0)].any()
