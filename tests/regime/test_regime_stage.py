"""Walk-forward choice and labels: no look-ahead, purge, candidates, renormalisation, partition = range."""

from __future__ import annotations

import json
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from regime_frames import (
    ASSETS,
    START,
    WEIGHTS,
    basket_of,
    features_of,
    inputs_of,
    panel_of,
    random_inputs,
    settings_of,
    signed,
    window_of,
)

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import ConfigError, load_settings
from majors_alts_pipeline.regime.composite import ZScores, candidates, expanding_change_sd
from majors_alts_pipeline.regime.interface import LABELS, load_method
from majors_alts_pipeline.regime.stage import compute, compute_model, compute_outcome
from majors_alts_pipeline.regime.targets import forward_returns
from majors_alts_pipeline.regime.walkforward import calendar_refits, last_training_day, paper_accounts, train

DAYS = 260
NAN = float("nan")
Inputs = dict[str, pl.DataFrame]


def both(inputs: Inputs, window: Window, settings=None) -> tuple[pl.DataFrame, pl.DataFrame]:
    settings = settings or settings_of()
    model = compute_model(inputs, window, settings)
    return model["regime_model"], compute({**inputs, **model}, window, settings)["regime"]


@pytest.fixture(scope="module")
def made() -> tuple[Inputs, pl.DataFrame, pl.DataFrame]:
    inputs = random_inputs(DAYS, 3)
    return inputs, *both(inputs, window_of(DAYS))


def known_by(inputs: Inputs, day: date) -> Inputs:
    return {name: frame.filter(pl.col("date") <= day) for name, frame in inputs.items()}


@pytest.mark.parametrize("back", [0, 1, 25, 58, 59, 104, 110, 200, DAYS - 1])
def test_a_day_alone_from_a_cut_lake_equals_the_range(made, back: int) -> None:
    inputs, models, labels = made
    day = START + timedelta(days=DAYS - 1 - back)
    cut = {name: frame.sample(fraction=1.0, shuffle=True, seed=back) for name, frame in known_by(inputs, day).items()}
    window = Window(day, day)
    before = models.filter(pl.col("date") < day)
    model = compute_model({**cut, "regime_model": before}, window, settings_of())["regime_model"]
    assert_frame_equal(model, window.keep(models), check_exact=True)
    stored = models.filter(pl.col("date") <= day)
    label = compute({**cut, "regime_model": stored}, window, settings_of())["regime"]
    assert_frame_equal(label, window.keep(labels), check_exact=True)


def test_a_refit_date_alone_is_among_the_days_tested(made) -> None:
    tested = {START + timedelta(days=DAYS - 1 - back) for back in (0, 1, 25, 58, 59, 104, 110, 200, DAYS - 1)}
    assert len(tested & set(made[1]["date"])) >= 2


def test_every_candidate_is_recorded_and_one_is_chosen_per_refit_date(made) -> None:
    _, models, labels = made
    settings = settings_of()
    assert sorted(set(models["date"])) == calendar_refits(window_of(DAYS), "month")
    assert calendar_refits(window_of(DAYS), "month")[:2] == [START, date(2023, 2, 1)]
    assert calendar_refits(window_of(DAYS), "quarter")[:2] == [START, date(2023, 4, 1)]
    tried = candidates(settings)
    assert len(tried) == 1 + 3 * 2 * 2
    assert tried[0].enter == settings.regime.enter
    for (_,), rows in models.partition_by("date", as_dict=True).items():
        assert rows["candidate"].to_list() == list(range(len(tried)))
        assert rows["chosen"].sum() == 1
        if rows["in_force"][0] == "default":
            assert rows["chosen"][0]
            assert rows["objective"].null_count() == rows["nested_objective"].null_count() == len(rows)
            assert (rows["n_obs"] < settings.regime.min_train_days).all()
        else:
            best = int(np.argmax(rows["objective"].to_numpy()))
            assert rows["candidate"].filter(rows["chosen"]).item() in {0, best}
            assert rows["nested_objective"].n_unique() == 1
            assert f"candidate {best}, t " in rows["note"][0]
    assert set(models["in_force"]) == {"default", "walk_forward"}
    in_force = models.filter("chosen").select("date", "candidate")
    joined = labels.join(in_force, left_on="model_asof", right_on="date", suffix="_model")
    assert (joined["candidate"] == joined["candidate_model"]).all()
    assert (labels["model_asof"] <= labels["date"]).all()


def test_a_grid_twin_of_the_defaults_is_not_tried_twice() -> None:
    tried = candidates(load_settings())
    assert len(tried) == 3 * 3 * 3 * 2 * 2
    assert len({c.to_json() for c in tried}) == len(tried)
    assert all(type(c).from_json(c.to_json()) == c for c in tried)


def _shock(inputs: Inputs, day: date, size: float) -> Inputs:
    """A jump of BTC between the close of the eve and of `day`: the return of `day` changes, no other."""
    factor = pl.when((pl.col("asset_id") == "BTC") & (pl.col("date") >= day)).then(1.0 + size).otherwise(1.0)
    shocked = {**inputs, "panel": inputs["panel"].with_columns(pl.col("close") * factor)}
    return {**shocked, **compute_outcome(shocked, window_of(DAYS), settings_of())}


def test_returns_in_the_purged_days_do_not_reach_the_model_and_the_last_known_one_does(made) -> None:
    inputs, models, _ = made
    refit = date(2023, 8, 1)
    before = models.filter(pl.col("date") == refit)
    inputs = {**inputs, "regime_model": models.filter(pl.col("date") < refit)}
    assert before["in_force"][0] == "walk_forward"
    window = Window(refit, refit)
    settings = settings_of()
    train_end = last_training_day(refit, settings)
    assert train_end == before["train_end"][0]
    lag, horizon = settings.backtest.execution_lag_days, settings.regime.label_horizon_days
    assert train_end + timedelta(days=lag + horizon) == refit - timedelta(days=1)

    same = compute_model(_shock(inputs, refit, 5.0), window, settings)["regime_model"]
    assert_frame_equal(same, before, check_exact=True)
    last_known = compute_model(_shock(inputs, refit - timedelta(days=1), 5.0), window, settings)["regime_model"]
    assert (last_known["objective"] != before["objective"]).any()


def test_decisions_after_the_training_end_do_not_reach_the_model(made) -> None:
    inputs, models, _ = made
    refit = date(2023, 8, 1)
    before = models.filter(pl.col("date") == refit)
    inputs = {**inputs, "regime_model": models.filter(pl.col("date") < refit)}
    train_end = before["train_end"][0]

    def with_scores_flipped_from(day: date) -> pl.DataFrame:
        flipped = pl.when(pl.col("date") >= day).then(-3 * pl.col("z")).otherwise("z").alias("z")
        changed = {**inputs, "features": inputs["features"].with_columns(flipped)}
        return compute_model(changed, Window(refit, refit), settings_of())["regime_model"]

    after = with_scores_flipped_from(train_end + timedelta(days=1))
    assert_frame_equal(after, before, check_exact=True)
    inside = with_scores_flipped_from(train_end - timedelta(days=20))
    assert (inside["objective"] != before["objective"]).any()


def test_the_objective_is_the_t_statistic_of_the_paper_account() -> None:
    rng = np.random.default_rng(4)
    window, settings = window_of(200), settings_of(label_horizon_days=5, switch_cost=0.002)
    exposure = (rng.random((200, 3)) < 0.5).astype(float)
    exposure[:, 2] = 0.0
    forward = 0.01 * rng.standard_normal(200)
    informed = np.arange(200) >= 30
    refit = date(2023, 7, 1)
    result = train(paper_accounts(exposure, forward, informed, 0.002), window, [refit], settings)[0]
    stop = (last_training_day(refit, settings) - window.start).days + 1
    for c in range(2):
        moved = np.abs(np.diff(np.concatenate([[0.0], exposure[:, c]])))
        pnl = (exposure[:, c] * forward - 0.002 * moved)[30:stop]
        t = pnl.mean() / (pnl.std(ddof=1) / np.sqrt(len(pnl) / 5))
        assert result.objective[c] == pytest.approx(t, rel=1e-10)
    assert result.objective[2] == 0.0
    assert result.n_obs == stop - 30
    assert result.best == int(np.argmax(result.objective))


def test_forward_returns_add_the_days_after_execution_and_a_dead_asset_earns_nothing() -> None:
    window, settings = window_of(12), settings_of(label_horizon_days=2)
    returns = np.zeros((12, len(ASSETS)))
    returns[5] = [0.1, 0.2, 0.3, 0.4]
    returns[6:, 1] = NAN
    returns[7, 0] = 0.5
    got = forward_returns(basket_of(window), panel_of(window, returns), window, settings)
    expected = np.zeros(12)
    expected[2] = expected[3] = np.dot(WEIGHTS, returns[5]) / 2
    expected[4] = expected[5] = WEIGHTS[0] * 0.5 / 2
    np.testing.assert_allclose(got[:9], expected[:9], atol=1e-15)
    assert np.isnan(got[9:]).all()


def test_weights_are_renormalised_over_the_features_that_exist() -> None:
    window = window_of(4)
    features = features_of(window, {
        "breadth_up": signed("breadth_up", np.array([1.0, NAN, NAN, 9.0])),
        "momentum_7": signed("momentum_7", np.array([0.4, 0.4, NAN, 0.0])),
    })  # fmt: skip
    settings = settings_of(
        default_scheme="mixed", weight_schemes={"mixed": {"breadth_up": 3.0, "momentum_7": 1.0}},
        smoothing_days=1, grid={**_grid(), "weight_schemes": ["mixed"]},
    )  # fmt: skip
    score = ZScores(features, window).score(candidates(settings)[0])
    np.testing.assert_allclose(score, [(3 * 1.0 + 0.4) / 4, 0.4, NAN, 3 * 4.0 / 4], atol=1e-15)


def test_smoothing_takes_the_days_that_have_a_score() -> None:
    window = window_of(5)
    raw = np.array([1.0, 2.0, NAN, 4.0, 3.0])
    features = features_of(window, {"breadth_up": signed("breadth_up", raw)})
    settings = settings_of(default_scheme="breadth", smoothing_days=3, weight_schemes={
        "breadth": {"breadth_up": 2.0}}, grid={**_grid(), "weight_schemes": ["breadth"]})  # fmt: skip
    score = ZScores(features, window).score(candidates(settings)[0])
    np.testing.assert_allclose(score, [1.0, 1.5, NAN, 3.0, 3.5], atol=1e-15)


def _grid() -> dict:
    return settings_of().regime.grid.model_dump()


def test_without_any_feature_the_label_is_balanced_and_certain(made) -> None:
    _, _, labels = made
    blank = labels.filter(pl.col("score").is_null())
    assert blank["date"].is_in([START + timedelta(days=150)]).any()
    assert set(blank["label"]) == {"BALANCED"}
    assert (blank["p_balanced"] == 1.0).all()
    assert labels.filter(pl.col("score").is_not_null())["n_features"].min() >= 1


def test_probabilities_sum_to_one_and_mostly_agree_with_the_label(made) -> None:
    labels = made[2].filter(pl.col("score").is_not_null())
    total = labels["p_risk_on_majors"] + labels["p_balanced"] + labels["p_risk_on_alts"]
    np.testing.assert_allclose(total, 1.0, atol=1e-12)
    columns = ["p_risk_on_majors", "p_balanced", "p_risk_on_alts"]
    likeliest = [list(LABELS.values())[k] for k in labels.select(columns).to_numpy().argmax(axis=1)]
    assert (labels["label"] == pl.Series(likeliest)).mean() > 0.8


def test_days_in_regime_count_the_run(made) -> None:
    labels = made[2]
    run = 0
    previous = None
    for label, days in labels.select("label", "days_in_regime").rows():
        run = run + 1 if label == previous else 1
        assert days == run
        previous = label


def test_a_constant_score_gives_one_label() -> None:
    window = window_of(150)
    z = {name: signed(name, np.full(150, 1.5)) for name in ("breadth_up", "momentum_7")}
    inputs = inputs_of(window, z, 0.01 * np.random.default_rng(0).standard_normal((150, len(ASSETS))))
    _, labels = both(inputs, window)
    assert set(labels["label"][settings_of().regime.min_dwell_days :]) == {"RISK_ON_MAJORS"}
    assert labels["p_risk_on_majors"][-1] == 1.0


def test_a_planted_predictive_feature_is_chosen_over_noise() -> None:
    days, hits = 300, 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        window = window_of(days)
        state = np.repeat(rng.choice([-1.0, 1.0], 30), 10)
        noise = np.repeat(rng.choice([-1.0, 1.0], 30), 10)
        returns = 0.01 * rng.standard_normal((days, len(ASSETS)))
        returns[1:, 2] += 0.02 * state[:-1]
        z = {"breadth_up": signed("breadth_up", state), "momentum_7": signed("momentum_7", noise)}
        models, _ = both(inputs_of(window, z, returns), window)
        last = models.filter(pl.col("chosen") & (pl.col("date") == models["date"].max()))
        hits += json.loads(last["params"].item())["scheme"] == "breadth"
    assert hits >= 7


def test_expanding_change_sd_is_numpys() -> None:
    score = np.array([NAN, 1.0, 1.5, NAN, 2.0, 1.0, 3.0])
    got = expanding_change_sd(score)
    assert np.isnan(got[:5]).all()
    assert got[5] == pytest.approx(np.std([0.5, -1.0], ddof=1), abs=1e-15)
    assert got[6] == pytest.approx(np.std([0.5, -1.0, 2.0], ddof=1), abs=1e-15)


def test_missing_days_are_named(made) -> None:
    inputs, models, _ = made
    window = window_of(DAYS)
    hole = date(2023, 5, 5)
    with pytest.raises(ValueError, match="basket: no rows on 2023-05-05"):
        compute_outcome({**inputs, "basket": inputs["basket"].filter(pl.col("date") != hole)}, window, settings_of())
    for table in ("features", "market", "book_outcome"):
        cut = {**inputs, table: inputs[table].filter(pl.col("date") != hole)}
        with pytest.raises(ValueError, match=f"{table}: no rows on 2023-05-05"):
            compute_model(cut, window, settings_of())
    lost = models.filter(pl.col("date") != date(2023, 6, 1))
    with pytest.raises(ValueError, match="regime_model: no model of method composite chosen on refit date 2023-06-01"):
        compute({**inputs, "regime_model": lost}, window, settings_of())


def test_days_that_are_no_refit_date_have_no_model_rows(made) -> None:
    day = date(2023, 5, 5)
    assert compute_model(made[0], Window(day, day), settings_of())["regime_model"].is_empty()


def test_rules_that_cannot_fire_are_configuration_errors() -> None:
    with pytest.raises(ConfigError, match="never fires"):
        settings_of(enter=5.0)
    with pytest.raises(ConfigError, match=r"grid\.enter"):
        settings_of(grid={**_grid(), "enter": [9.0]})
    with pytest.raises(ConfigError, match="smoothing_days"):
        settings_of(grid={**_grid(), "smoothing_days": [0]})


def test_the_method_is_found_by_its_name() -> None:
    assert load_method("composite").name == "composite"
