"""The fitted methods: exactness, identity of states, failures, missing features, planted and null regimes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from regime_frames import ASSETS, START, inputs_of, random_inputs, settings_of, signed, window_of

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import ConfigError, Settings, load_settings
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.regime import hmm, jump, stage
from majors_alts_pipeline.regime.hysteresis import label_path
from majors_alts_pipeline.regime.interface import History, load_method
from majors_alts_pipeline.regime.states import (
    Fit,
    FitFailedError,
    Problem,
    StateModel,
    StatesMethod,
    counted_transitions,
    labels_at_birth,
    stationary,
    wasserstein_squared,
)

METHODS = ("hmm", "kmeans", "gmm", "jump", "markov")
FEATURES = ("breadth_up", "momentum_7", "funding_skew")
NAN = float("nan")
DAYS = 420


@cache
def settings_for(*methods: str, n_states: int = 3, min_train_days: int = 90, **more: object) -> Settings:
    states = {"features": list(FEATURES), "n_states": n_states, "starts": 2, "jump_penalty": 5.0, **more}
    return settings_of(method=methods[0], methods=list(methods), min_train_days=min_train_days, states=states)


@cache
def gappy() -> dict[str, pl.DataFrame]:
    """Planted regimes with a burn-in, scattered gaps and days on which nothing is known."""
    inputs = planted(DAYS, 3)[1]
    rng = np.random.default_rng(9)
    lost = rng.random(inputs["features"].height) < 0.03
    burn_in = pl.col("date") < START + timedelta(days=20)
    dark = pl.col("date").is_between(START + timedelta(days=200), START + timedelta(days=204))
    gone = burn_in | dark
    return {
        **inputs,
        "features": inputs["features"].with_columns(
            pl.when(gone | pl.Series(lost)).then(None).otherwise("z").alias("z")
        ),
        "market": inputs["market"].with_columns(
            pl.when(gone).then(None).otherwise("majors_minus_alts").alias("majors_minus_alts")
        ),
    }


def history_of(inputs: dict[str, pl.DataFrame], settings: Settings, days: int = DAYS) -> History:
    return stage.known_history(inputs, window_of(days), settings)


def fitted(method: StatesMethod, inputs: dict[str, pl.DataFrame], settings: Settings, days: int = DAYS) -> pl.DataFrame:
    window = window_of(days)
    return method.fit(
        history_of(inputs, settings, days), method.refit_dates(window, settings), inputs["regime_model"], settings
    )


def labelled(
    method: StatesMethod, inputs: dict[str, pl.DataFrame], models: pl.DataFrame, settings: Settings, days=DAYS
):
    return method.label(history_of(inputs, settings, days), models, window_of(days), {}, settings)


@cache
def whole() -> dict[str, pl.DataFrame]:
    """Every method over the whole of `gappy` by the stage functions."""
    settings = settings_for(*METHODS)
    models = stage.compute_model(gappy(), window_of(DAYS), settings)
    return {**models, **stage.compute({**gappy(), **models}, window_of(DAYS), settings)}


def test_refits_are_learned_from_the_days_before_and_said_to_be() -> None:
    models = whole()["regime_model"]
    assert set(models["method"]) == set(METHODS)
    assert set(models["in_force"]) == {"default", "walk_forward"}
    assert models["converged"].all()
    assert models["chosen"].all()
    learned = models.filter(pl.col("in_force") == "walk_forward")
    assert (learned["n_obs"] >= 90).all()
    assert (learned["train_end"] < learned["date"]).all()
    assert learned["objective"].null_count() == 0
    early = models.filter(pl.col("in_force") == "default")
    assert (early["n_obs"] < 90).all()
    assert set(early["params"]) == {"{}"}


@pytest.mark.parametrize("back", [0, 37, 63, 155, 217, DAYS - 1])
def test_a_day_alone_from_a_cut_lake_equals_the_range(back: int) -> None:
    full, settings = whole(), settings_for(*METHODS)
    day = START + timedelta(days=DAYS - 1 - back)
    window = Window(day, day)
    cut = {
        name: frame.filter(pl.col("date") <= day).sample(fraction=1.0, shuffle=True, seed=back)
        for name, frame in {**gappy(), "regime_model": full["regime_model"].filter(pl.col("date") < day)}.items()
    }
    models = stage.compute_model(cut, window, settings)["regime_model"]
    assert_frame_equal(models, window.keep(full["regime_model"]), check_exact=True)
    stored = full["regime_model"].filter(pl.col("date") <= day)
    for table, frame in stage.compute({**cut, "regime_model": stored}, window, settings).items():
        if frame.height or table in {"regime", "regime_probability"}:
            assert_frame_equal(frame, window.keep(full[table]), check_exact=True, check_row_order=False)


def test_a_learned_refit_date_is_among_the_days_tested() -> None:
    models = whole()["regime_model"]
    tested = {START + timedelta(days=DAYS - 1 - back) for back in (0, 37, 63, 155, 217)}
    assert tested & set(models.filter(pl.col("in_force") == "walk_forward")["date"])


def test_days_after_a_refit_do_not_reach_it() -> None:
    settings = settings_for(*METHODS)
    refit = date(2024, 1, 1)
    full = whole()["regime_model"]
    changed = {
        **gappy(),
        "features": gappy()["features"].with_columns(
            pl.when(pl.col("date") >= refit).then(-3 * pl.col("z")).otherwise("z").alias("z")
        ),
        "market": gappy()["market"].with_columns(
            pl.when(pl.col("date") >= refit).then(0.5).otherwise("majors_minus_alts").alias("majors_minus_alts")
        ),
    }
    again = stage.compute_model(changed, window_of(DAYS), settings)["regime_model"]
    before = pl.col("date") <= refit
    assert_frame_equal(again.filter(before), full.filter(before), check_exact=True)
    assert (again.filter(~before)["params"] != full.filter(~before)["params"]).all()


def test_a_second_fit_is_identical() -> None:
    again = stage.compute_model(gappy(), window_of(DAYS), settings_for(*METHODS))["regime_model"]
    assert_frame_equal(again, whole()["regime_model"], check_exact=True)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_the_order_in_which_a_fit_names_its_states_changes_nothing(name: str, order: list[int]) -> None:
    method = load_method(name)
    assert isinstance(method, StatesMethod)
    refits = iter(range(100))

    def permuted(problem: Problem) -> Fit:
        turn = np.roll(order, next(refits))
        return method.fitter(problem).reordered(turn)

    settings = settings_for(*METHODS)
    models = fitted(replace(method, fitter=permuted), gappy(), settings)
    assert_frame_equal(models, whole()["regime_model"].filter(pl.col("method") == name), check_exact=True)


@pytest.mark.parametrize("name", METHODS)
def test_parameters_survive_their_round_trip_and_are_all_a_label_needs(name: str) -> None:
    rows = whole()["regime_model"].filter((pl.col("method") == name) & (pl.col("in_force") == "walk_forward"))
    for text in rows["params"]:
        model = StateModel.from_json(text)
        assert model.to_json() == text
        np.testing.assert_allclose(model.array("transition").sum(axis=1), 1.0, atol=1e-9)
    models = whole()["regime_model"].filter(pl.col("method") == name)
    other = settings_for(*METHODS, jump_penalty=50.0, seed=5)
    assert_frame_equal(
        labelled(load_method(name), gappy(), models, other).regime,
        labelled(load_method(name), gappy(), models, settings_for(*METHODS)).regime,
        check_exact=True,
    )


@pytest.mark.parametrize("name", METHODS)
def test_rows_and_probabilities_are_coherent(name: str) -> None:
    regime = whole()["regime"].filter(pl.col("method") == name).sort("date")
    p = regime.select("p_risk_on_majors", "p_balanced", "p_risk_on_alts").to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-9)
    scored = regime["score"].is_not_null().to_numpy()
    assert (regime["in_force"].is_in(["walk_forward", "kept"]).to_numpy() == scored).all()
    np.testing.assert_allclose(regime["score"].to_numpy()[scored], (p[:, 0] - p[:, 2])[scored], atol=1e-15)
    before = regime.filter(pl.col("score").is_null())
    assert set(before["label"]) == {"BALANCED"}
    assert (before["p_balanced"] == 1.0).all()
    ahead = whole()["regime_probability"].filter(pl.col("method") == name)
    sums = ahead.group_by("date", "horizon_days").agg(pl.col("probability").sum(), pl.len())
    np.testing.assert_allclose(sums["probability"].to_numpy(), 1.0, atol=1e-9)
    assert sums.height == DAYS * 3
    assert set(ahead["horizon_days"]) == {0, 1, 5}


@pytest.mark.parametrize("name", ["hmm", "kmeans", "jump"])
def test_forecasts_are_powers_of_the_transition_matrix(name: str) -> None:
    model_row = whole()["regime_model"].filter((pl.col("method") == name) & (pl.col("in_force") != "default")).tail(1)
    model = StateModel.from_json(model_row["params"].item())
    day = START + timedelta(days=DAYS - 1)
    rows = whole()["regime_probability"].filter((pl.col("method") == name) & (pl.col("date") == day))

    def at(horizon: int) -> np.ndarray:
        chance = dict(rows.filter(pl.col("horizon_days") == horizon).select("state", "probability").iter_rows())
        return np.array([chance["RISK_ON_ALTS"], chance["BALANCED"], chance["RISK_ON_MAJORS"]])

    assert model.labels == [-1, 0, 1]
    for horizon in (1, 5):
        expected = at(0) @ np.linalg.matrix_power(model.array("transition"), horizon)
        np.testing.assert_allclose(at(horizon), expected, atol=1e-12)


def hidden_states(days: int, seed: int) -> np.ndarray:
    """(days,) of -1, 0, 1; a state lasts 25 days on average."""
    rng = np.random.default_rng(seed)
    state = np.zeros(days, dtype=int)
    for t in range(1, days):
        state[t] = rng.integers(-1, 2) if rng.random() < 0.06 else state[t - 1]
    return state


@cache
def planted(days: int, seed: int) -> tuple[np.ndarray, dict[str, pl.DataFrame]]:
    """Hidden states seen through noisy z-scores and through the majors-minus-alts return."""
    rng = np.random.default_rng(seed + 1)
    state = hidden_states(days, seed)
    z = {name: signed(name, 1.3 * state + rng.standard_normal(days)) for name in FEATURES}
    returns = 0.002 * rng.standard_normal((days, len(ASSETS)))
    returns[:, 2:] += np.where(state == 0, 0.002, 0.012)[:, None] * rng.standard_normal((days, 1))
    returns[:, 2:] += 0.02 * state[:, None]
    return state, inputs_of(window_of(days), z, returns)


def recovered(name: str, state: np.ndarray, inputs: dict[str, pl.DataFrame]) -> tuple[float, float]:
    """Share of scored days with the right label, and the share that the same labels in random order get."""
    days = len(state)
    settings = settings_for(*METHODS, min_train_days=250)
    method = load_method(name)
    rows = labelled(method, inputs, fitted(method, inputs, settings, days), settings, days).regime
    scored = rows["score"].is_not_null().to_numpy()
    label = rows["label"].replace_strict({"RISK_ON_MAJORS": 1, "BALANCED": 0, "RISK_ON_ALTS": -1}).to_numpy()[scored]
    truth = state[scored]
    assert scored.sum() > days / 2
    return float((label == truth).mean()), float(sum((label == s).mean() * (truth == s).mean() for s in (-1, 0, 1)))


@pytest.mark.parametrize("name", METHODS)
def test_planted_regimes_are_recovered_far_better_than_by_chance(name: str) -> None:
    right, chance = recovered(name, *planted(1000, 7))
    assert right > chance + 0.2


@pytest.mark.parametrize("name", METHODS)
def test_regimes_that_are_not_in_the_data_are_not_recovered(name: str) -> None:
    """Labels of one market against the hidden states of others: the excess over chance has mean zero."""
    _, inputs = planted(700, 7)
    excess = [
        right - chance for right, chance in (recovered(name, hidden_states(700, s), inputs) for s in (21, 22, 23))
    ]
    assert abs(float(np.mean(excess))) < 0.12


def fails_at(fit: Callable[[Problem], Fit], calls: set[int]) -> Callable[[Problem], Fit]:
    count = iter(range(100))

    def sometimes(problem: Problem) -> Fit:
        if next(count) in calls:
            raise FitFailedError("the likelihood is flat")
        return fit(problem)

    return sometimes


def test_a_failed_refit_says_so_and_the_last_good_model_stays() -> None:
    settings = settings_for(*METHODS)
    method = load_method("hmm")
    assert isinstance(method, StatesMethod)
    broken = replace(method, fitter=fails_at(method.fitter, {0, 2}))
    models = fitted(broken, gappy(), settings)
    tried = models.filter(pl.col("n_obs") >= 90)
    assert tried["converged"].to_list()[:3] == [False, True, False]
    assert tried["in_force"].to_list()[:3] == ["default", "walk_forward", "kept"]
    assert tried["note"].to_list()[:3] == ["the likelihood is flat", "", "the likelihood is flat"]
    assert tried["params"][0] == "{}"
    assert tried["params"][2] == tried["params"][1]
    assert tried["objective"].to_list()[2] is None
    rows = labelled(broken, gappy(), models, settings).regime.filter(pl.col("in_force") == "kept")
    assert rows["score"].null_count() == 0
    assert set(rows["model_asof"]) == {tried["date"][1]}

    last = tried["date"][2]
    alone = replace(method, fitter=fails_at(method.fitter, {0})).fit(
        history_of(gappy(), settings), [last], models.filter(pl.col("date") < last), settings
    )
    assert_frame_equal(alone, models.filter(pl.col("date") == last), check_exact=True)


def test_real_failures_are_reported_and_not_raised() -> None:
    states, inputs = planted(700, 7)
    never = fitted(load_method("jump"), inputs, settings_for(*METHODS, jump_penalty=1e6), len(states))
    tried = never.filter(pl.col("n_obs") >= 90)
    assert not tried["converged"].any()
    assert tried["note"].str.contains("a state is never visited").all()
    flat = inputs["features"].with_columns(
        pl.when(pl.col("feature") == "breadth_up").then(0.5).otherwise("z").alias("z")
    )
    rows = fitted(load_method("gmm"), {**inputs, "features": flat}, settings_for(*METHODS), len(states))
    assert rows.filter(~pl.col("converged"))["note"].str.contains("breadth_up is constant in training").all()
    assert (~rows.filter(pl.col("n_obs") >= 90)["converged"]).all()


def test_a_start_that_ends_in_outliers_gives_way_to_the_next_best() -> None:
    """A few far days win the likelihood a state of their own, unless that is refused."""
    _, inputs = planted(700, 7)
    rng = np.random.default_rng(4)
    far = rng.choice(700, 4, replace=False)
    x = np.column_stack([inputs["features"].filter(pl.col("feature") == f)["z"].to_numpy() for f in FEATURES])
    x[far] = 4.0 + 0.01 * rng.standard_normal((4, 3))
    mixture = load_method("gmm").fitter(Problem(x, 3, None, 3, settings_for(*METHODS, starts=30)))
    assert mixture.share.min() > 0.02
    heavy = np.random.default_rng(0).standard_t(3, (400, 1))
    problem = Problem((heavy - heavy.mean()) / heavy.std(), 3, None, 3, settings_for(*METHODS, starts=4))
    assert load_method("markov").fitter(problem).share.min() > 0.02


def test_em_that_runs_out_of_iterations_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmm, "LONG_RUN", 2)
    rows = fitted(load_method("hmm"), planted(700, 7)[1], settings_for(*METHODS), 700)
    assert rows.filter(~pl.col("converged"))["note"].str.contains("no convergence in 2 iterations").any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"share": np.array([0.5, 0.495, 0.005])}, "a state holds 0.5% of the training days"),
        ({"variance": np.array([[1.0], [1.0], [1e-9]])}, "collapsed onto a point"),
        ({"mean": np.array([[1.0], [NAN], [0.0]])}, "not finite"),
    ],
)
def test_degenerate_fits_are_refused(changes: dict[str, np.ndarray], words: str) -> None:
    third = np.full(3, 1 / 3)
    sound = Fit(np.array([[-1.0], [0.0], [1.0]]), np.ones((3, 1)), third, np.full((3, 3), 1 / 3), third, 0.0)
    method = replace(load_method("markov"), fitter=lambda _: replace(sound, **changes))
    rows = fitted(method, gappy(), settings_for(*METHODS))
    tried = rows.filter(pl.col("n_obs") >= 90)
    assert not tried["converged"].any()
    assert tried["note"].str.contains(words).all()


def test_libraries_complain_to_the_note_and_not_to_the_console(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in METHODS:
            fitted(load_method(name), planted(700, 7)[1], settings_for(*METHODS), 700)
    assert not caplog.records


def test_a_feature_without_history_is_left_out_and_recorded() -> None:
    inputs = gappy()
    young = pl.when((pl.col("feature") == "funding_skew") & (pl.col("date") < date(2023, 12, 1)))
    changed = {**inputs, "features": inputs["features"].with_columns(young.then(None).otherwise("z").alias("z"))}
    for name in ("hmm", "kmeans", "gmm", "jump"):
        rows = fitted(load_method(name), changed, settings_for(*METHODS)).filter(pl.col("in_force") == "walk_forward")
        model = StateModel.from_json(rows["params"][0])
        assert model.features == ["breadth_up", "momentum_7"]
        assert model.left_out == ["funding_skew"]
        labels = labelled(load_method(name), changed, rows.pipe(with_start), settings_for(*METHODS)).regime
        assert labels["n_features"].max() <= 2


def with_start(rows: pl.DataFrame) -> pl.DataFrame:
    """A default row at inception before the model."""
    default = rows.head(1).with_columns(
        pl.lit(START).alias("date"), pl.lit("default").alias("in_force"), pl.lit("{}").alias("params")
    )
    return pl.concat([default, rows.head(1)])


@pytest.mark.parametrize("name", METHODS)
def test_a_missing_day_is_a_prediction_and_a_missing_feature_is_not_zero(name: str) -> None:
    settings = settings_for(*METHODS)
    models = whole()["regime_model"].filter(pl.col("method") == name)
    day = START + timedelta(days=DAYS - 1)
    today = pl.col("date") == day

    def changed(value: float | None, feature: pl.Expr) -> dict[str, pl.DataFrame]:
        z = pl.when(today & feature).then(value).otherwise("z").alias("z")
        spread = pl.when(today).then(value).otherwise("majors_minus_alts").alias("majors_minus_alts")
        market = gappy()["market"].with_columns(spread) if name == "markov" else gappy()["market"]
        return {**gappy(), "features": gappy()["features"].with_columns(z), "market": market}

    def last(inputs: dict[str, pl.DataFrame], horizon: int, on: date) -> np.ndarray:
        rows = labelled(load_method(name), inputs, models, settings).probabilities
        chosen = rows.filter((pl.col("date") == on) & (pl.col("horizon_days") == horizon)).sort("state")
        return chosen["probability"].to_numpy()

    nothing = last(changed(None, pl.lit(value=True)), 0, day)
    if name == "jump":  # costs stand still: no evidence, no jump
        assert nothing.argmax() == last(gappy(), 0, day - timedelta(days=1)).argmax()
    else:
        np.testing.assert_allclose(nothing, last(gappy(), 1, day - timedelta(days=1)), atol=1e-12)
    if name != "markov":
        one = pl.col("feature") == "breadth_up"
        assert np.abs(last(changed(None, one), 0, day) - last(changed(0.0, one), 0, day)).max() > 1e-6


@pytest.mark.parametrize("n_states", [2, 4])
@pytest.mark.parametrize("name", METHODS)
def test_other_numbers_of_states(name: str, n_states: int) -> None:
    state, inputs = planted(700, 7)
    settings = settings_for(*METHODS, n_states=n_states)
    method = load_method(name)
    models = fitted(method, inputs, settings, len(state))
    good = models.filter(pl.col("in_force") == "walk_forward")
    assert good.height > 0
    model = StateModel.from_json(good["params"][-1])
    assert model.labels == labels_at_birth(n_states)
    rows = labelled(method, inputs, models, settings, len(state)).regime.filter(pl.col("score").is_not_null())
    total = rows["p_risk_on_majors"] + rows["p_balanced"] + rows["p_risk_on_alts"]
    np.testing.assert_allclose(total.to_numpy(), 1.0, atol=1e-9)
    assert (rows["p_balanced"].max() == 0.0) == (n_states == 2)
    assert {"RISK_ON_MAJORS", "RISK_ON_ALTS"} <= set(rows["label"])


def test_hindsight_knows_more_and_is_drawn_from_the_newest_model() -> None:
    state, inputs = planted(700, 7)
    settings = settings_for(*METHODS)
    for name in METHODS:
        method = load_method(name)
        assert isinstance(method, StatesMethod)
        models = fitted(method, inputs, settings, len(state))
        drawn = method.hindsight(history_of(inputs, settings, len(state)), models, settings)
        sums = drawn.group_by("date").agg(pl.col("probability").sum())
        np.testing.assert_allclose(sums["probability"].to_numpy(), 1.0, atol=1e-9)
        assert sums.height == len(state)
        assert method.hindsight(history_of(inputs, settings, len(state)), models.head(1), settings).is_empty()
        known = labelled(method, inputs, models, settings, len(state)).regime.sort("date")
        majors = drawn.filter(pl.col("label") == "RISK_ON_MAJORS").sort("date")["probability"].to_numpy()
        assert majors[-1] == pytest.approx(known["p_risk_on_majors"][-1], abs=1e-9)
        if method.dynamics != "memoryless":
            assert np.abs(majors - known["p_risk_on_majors"].to_numpy())[-100:-1].max() > 0.05


def test_the_label_gives_way_to_a_clear_lead_after_its_dwell() -> None:
    def path(lead: list[float], margin: float, dwell: int) -> list[int]:
        p = np.array([[0.0, 0.5 + x / 2, 0.5 - x / 2] for x in lead])
        return label_path(p, margin, dwell)[0].tolist()

    assert path([0.2, -0.05, -0.2, 0.05, 0.2], 0.1, 1) == [0, -1, -1, -1, 1]
    assert path([0.2, 0.2, 0.2, 0.2, -0.9, -0.9, -0.9, -0.9], 0.0, 3) == [0, 0, 0, 1, 1, 1, -1, -1]
    assert label_path(np.tile([1 / 3] * 3, (4, 1)), 0.0, 1)[0].tolist() == [0, 0, 0, 0]
    assert label_path(np.array([[0.0, 1.0, 0.0]] * 4), 0.0, 2)[1].tolist() == [1, 2, 1, 2]


def test_states_keep_their_labels_when_their_order_turns_and_the_note_says_so() -> None:
    """Two states swap places from one refit to the next, in small steps: each keeps its name."""
    settings = settings_for(*METHODS, n_states=2)
    steps = iter(np.linspace(-1.0, 1.0, 9))

    def moving(problem: Problem) -> Fit:
        where = next(steps)
        mean = np.array([[where], [-where]]) if where else np.array([[0.0], [0.0]])
        return Fit(mean, np.array([[0.2], [3.0]]), np.full(2, 0.5), np.full((2, 2), 0.5), np.full(2, 0.5), 0.0)

    method = replace(load_method("markov"), fitter=moving)
    inputs = random_inputs(900, 5)
    rows = fitted(method, inputs, settings, 900).filter(pl.col("in_force") == "walk_forward").head(9)
    models = [StateModel.from_json(text) for text in rows["params"]]
    calm = {model.labels[int(np.argmin(model.array("variance")[:, 0]))] for model in models}
    assert calm == {-1}
    assert rows["note"][0] == ""
    assert "labels stay with their states" in rows["note"][-1]


def test_the_note_compares_all_three_labels() -> None:
    settings = settings_for(*METHODS, n_states=3)
    lowest = iter([-1.0, -0.6, -0.2, 0.2])

    def moving(problem: Problem) -> Fit:
        mean = np.array([[next(lowest, 0.2)], [0.0], [2.0]])
        return Fit(
            mean, np.array([[0.1], [1.0], [4.0]]), np.full(3, 1 / 3), np.full((3, 3), 1 / 3), np.full(3, 1 / 3), 0
        )

    method = replace(load_method("markov"), fitter=moving)
    rows = fitted(method, random_inputs(900, 5), settings, 900).filter(pl.col("in_force") == "walk_forward").head(4)
    assert rows["note"].head(3).to_list() == ["", "", ""]
    assert "BALANCED has a signed mean of" in rows["note"][3]
    assert "RISK_ON_ALTS one of" in rows["note"][3]
    assert "RISK_ON_MAJORS" not in rows["note"][3]


def test_small_parts() -> None:
    chain = np.array([[0.9, 0.1], [0.3, 0.7]])
    np.testing.assert_allclose(stationary(chain), [0.75, 0.25], atol=1e-12)
    np.testing.assert_allclose(counted_transitions(np.array([0, 0, 1, 0]), 2), [[2 / 4, 2 / 4], [2 / 3, 1 / 3]])
    apart = wasserstein_squared(
        np.array([[0.0, 0.0]]), np.array([[1.0, 1.0]]), np.array([[3.0, 0.0]]), np.array([[1.0, 5.0]])
    )
    assert apart.item() == 25.0
    assert [labels_at_birth(k) for k in (2, 3, 4)] == [[-1, 1], [-1, 0, 1], [-1, 0, 0, 1]]


def test_a_feature_that_is_not_enabled_cannot_be_a_coordinate() -> None:
    with pytest.raises(ConfigError, match=r"regime\.states\.features: 'nonsense'"):
        load_settings(overrides={"regime": {"states": {"features": ["nonsense"]}}})


def test_the_jump_model_is_fitted_no_worse_than_by_jumpmodels_alone() -> None:
    from jumpmodels.jump import JumpModel

    state, _ = planted(700, 7)
    rng = np.random.default_rng(1)
    x = 0.9 * state[:, None] + rng.standard_normal((700, 3))
    ours = jump.fit(Problem(x, 3, None, 1, settings_for(*METHODS, starts=8)))
    theirs = JumpModel(3, jump_penalty=5.0, n_init=5, random_state=0).fit(x)
    assert -ours.objective * 700 <= theirs.val_ + 1e-6


def test_markov_reaches_the_likelihood_of_statsmodels_own_fit() -> None:
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    from majors_alts_pipeline.regime import markov

    rng = np.random.default_rng(2)
    state = (hidden_states(600, 4) > 0).astype(int)
    y = rng.standard_normal(600) * np.array([0.6, 1.5])[state] + np.array([0.3, -0.5])[state]
    x = ((y - y.mean()) / y.std())[:, None]
    ours = markov.fit(Problem(x, 2, None, 1, settings_for(*METHODS)))
    theirs = MarkovRegression(x[:, 0], 2, switching_variance=True).fit(search_reps=5, rng=0, cov_type="none")
    assert ours.objective * 600 == pytest.approx(theirs.llf, abs=0.05)


@pytest.mark.real_lake
@pytest.mark.slow
def test_every_method_speaks_on_the_real_lakes(open_real_lake: LakeSource) -> None:
    settings = load_settings(overrides={"regime": {"method": "hmm", "methods": list(METHODS)}})
    tables = Runner(open_real_lake, settings).run_all(through="regime")
    models = tables["regime_model"]
    assert (models["converged"] | (models["note"] != "")).all()
    for name in METHODS:
        rows = tables["regime"].filter((pl.col("method") == name) & pl.col("score").is_not_null())
        assert rows.height > 60
        total = rows["p_risk_on_majors"] + rows["p_balanced"] + rows["p_risk_on_alts"]
        np.testing.assert_allclose(total.to_numpy(), 1.0, atol=1e-9)
