"""The consensus finds the best expert, knows nothing early, and does not care about order; its forecasts are proper."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from regime_frames import START, random_inputs, settings_of, window_of
from scipy.spatial.distance import jensenshannon
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import Ridge

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import ConfigError
from majors_alts_pipeline.evaluation.scoring import log_scores, probability_scores
from majors_alts_pipeline.regime.consensus import METHOD, disagreement, discounted, skills, weights
from majors_alts_pipeline.regime.forecasts import (
    BOOK_UP,
    base_rate,
    book_up,
    book_up_forecasts,
    known_so_far,
    state_forecasts,
    went_up,
)
from majors_alts_pipeline.regime.hysteresis import SIDES
from majors_alts_pipeline.regime.interface import LABELS, History, Labelled
from majors_alts_pipeline.regime.stage import compute, compute_model
from majors_alts_pipeline.tables import REGIME_MODEL

ALWAYS = {"half_life_days": 1_000_000, "learning_rate": 1.0, "prior_strength": 10.0}
METHODS = ("composite", "kmeans", "markov", "consensus")


def expert(window: Window, three: np.ndarray, spoke: np.ndarray | None = None) -> Labelled:
    """A method that says `three`, (days, 3) in the order of `SIDES`."""
    spoke = np.ones(len(three), dtype=bool) if spoke is None else spoke
    named = {f"p_{LABELS[side].lower()}": three[:, k] for k, side in enumerate(SIDES)}
    score = pl.Series(np.where(spoke, three[:, 1] - three[:, 2], np.nan)).fill_nan(None)
    return Labelled(pl.DataFrame({"date": window.days(), "score": score, **named}), pl.DataFrame())


def opinion(lean: np.ndarray) -> np.ndarray:
    """(days, 3) with P(majors) - P(alts) = lean in [-1, 1] and a fifth of the rest on BALANCED."""
    rest = 1 - np.abs(lean)
    return np.column_stack([0.2 * rest, 0.4 * rest + np.maximum(lean, 0), 0.4 * rest + np.maximum(-lean, 0)])


def settings(**consensus: float):
    return settings_of(label_horizon_days=1, consensus={**ALWAYS, **consensus})


def weighed(returns: np.ndarray, experts: dict[str, Labelled], config) -> Labelled:
    window = window_of(len(returns))
    history = History(window, pl.DataFrame(), pl.DataFrame(), returns)
    models = METHOD.fit(history, METHOD.refit_dates(window, config), REGIME_MODEL.empty(), config)
    return METHOD.label(history, models, window, experts, config)


def simulated(days: int, seed: int, strength: float = 0.7) -> tuple[np.ndarray, dict[str, Labelled]]:
    """Returns whose sign one expert knows something of, a mirror of that expert, and two that know nothing."""
    rng = np.random.default_rng(seed)
    lean = np.tanh(rng.standard_normal(days))
    returns = np.where(rng.random(days) < 0.5 + 0.5 * strength * lean, 0.01, -0.01)
    noise = [np.tanh(rng.standard_normal(days)) for _ in range(2)]
    window = window_of(days)
    leans = {"best": lean, "mirror": -lean, "noise_a": noise[0], "noise_b": noise[1]}
    return returns, {name: expert(window, opinion(x)) for name, x in leans.items()}


def of(table: pl.DataFrame, method: str, column: str) -> np.ndarray:
    return table.filter(pl.col("method") == method).sort("date")[column].to_numpy()


def test_the_weight_goes_to_the_expert_that_knows_and_none_to_its_mirror() -> None:
    returns, experts = simulated(800, 1)
    table = weighed(returns, experts, settings()).weights
    last = table.filter(pl.col("date") == table["date"].max()).sort("weight")
    assert last["method"][-1] == "best"
    assert last["weight"][-1] > 0.99
    skill = dict(zip(last["method"], last["skill"], strict=True))
    assert skill["best"] > 0.03
    assert skill["mirror"] < 0.005
    total = table.group_by("date").agg(pl.col("weight").sum())["weight"]
    np.testing.assert_allclose(total, 1.0, atol=1e-12)


def test_the_mixture_is_no_worse_than_the_best_by_more_than_the_price_of_finding_it() -> None:
    """With rate 1 and no forgetting the mixture's total log loss exceeds the best's by at most ln(experts)."""
    for seed in range(5):
        returns, experts = simulated(600, seed, strength=0.4)
        table = weighed(returns, experts, settings()).weights
        up, ahead = returns > 0, 2
        losses = {name: log_scores(of(table, name, "p_book_up"), up) for name in experts}
        mixed = sum(of(table, name, "weight") * of(table, name, "p_book_up") for name in experts)
        excess = log_scores(mixed, up).sum() - min(loss.sum() for loss in losses.values())
        # Scores arrive `ahead` days late, so that each weight misses the newest ones.
        assert excess < np.log(len(experts)) + 0.05 * ahead * np.sqrt(len(up)), seed
        noise = np.mean([losses["noise_a"].mean(), losses["noise_b"].mean()])
        assert log_scores(mixed, up).mean() < noise


def test_weights_stay_near_equal_when_nobody_knows_and_equal_when_all_say_the_same() -> None:
    far = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        returns = 0.01 * rng.standard_normal(600)
        window = window_of(600)
        experts = {str(k): expert(window, opinion(np.tanh(rng.standard_normal(600)))) for k in range(3)}
        last = weighed(returns, experts, settings()).weights.tail(3 * 600)
        far.append(last.filter(pl.col("date") == last["date"].max())["weight"].max())
    assert np.median(far) < 0.6
    same = {name: experts["0"] for name in ("a", "b", "c")}
    np.testing.assert_allclose(weighed(returns, same, settings()).weights["weight"], 1 / 3, atol=1e-15)


def test_before_any_outcome_is_known_weights_are_equal_and_it_says_so() -> None:
    returns, experts = simulated(100, 3)
    said = weighed(returns, experts, settings())
    early = said.weights.filter(pl.col("date") < START + timedelta(days=2))
    assert set(early["weight"]) == {0.25}
    assert said.regime["in_force"].to_list() == ["default"] * 2 + ["walk_forward"] * 98
    assert said.weights.filter(pl.col("date") == START + timedelta(days=99))["weight"].n_unique() > 1


def test_a_forgetful_consensus_follows_a_change_of_expert() -> None:
    returns, experts = simulated(1200, 4)
    window = window_of(1200)
    swapped = {}
    for name, other in (("best", "noise_a"), ("noise_a", "best")):
        frame = pl.concat([experts[name].regime.head(600), experts[other].regime.tail(600)])
        swapped[name] = Labelled(frame, pl.DataFrame())
    quick = weighed(returns, swapped, settings(half_life_days=60)).weights
    assert of(quick, "best", "weight")[590] > 0.9
    assert of(quick, "noise_a", "weight")[-1] > 0.9
    assert quick["date"].max() == window.end


def test_a_silent_expert_has_no_weight_and_loses_no_credit() -> None:
    returns, experts = simulated(400, 5)
    window = window_of(400)
    spoke = np.ones(400, dtype=bool)
    spoke[200:250] = False
    experts["best"] = expert(window, experts["best"].regime.select(_columns()).to_numpy(), spoke)
    said = weighed(returns, experts, settings())
    own = of(said.weights, "best", "weight")
    assert (own[200:250] == 0.0).all()
    assert own[250] > 0.9
    assert (of(said.weights, "best", "p_book_up")[200:250] == base_rate(went_up(returns), 2)[200:250]).all()
    silent = {"a": expert(window, experts["mirror"].regime.select(_columns()).to_numpy(), np.zeros(400, dtype=bool))}
    nothing = weighed(returns, silent, settings())
    assert nothing.regime["score"].null_count() == nothing.regime["disagreement"].null_count() == 400
    assert set(nothing.regime["label"]) == {"BALANCED"}
    assert nothing.probabilities.is_empty()
    assert set(nothing.weights["weight"]) == {0.0}


def _columns() -> list[str]:
    return [f"p_{LABELS[side].lower()}" for side in SIDES]


def test_an_outcome_counts_from_the_day_it_is_known_and_not_before() -> None:
    returns, experts = simulated(300, 6)
    config, ahead, day = settings_of(label_horizon_days=3, consensus=ALWAYS), 4, 250
    before = weighed(returns, experts, config).weights
    changed = returns.copy()
    changed[day - ahead + 1 :] *= -1.0
    after = weighed(changed, experts, config).weights
    then = pl.col("date") <= START + timedelta(days=day)
    assert_frame_equal(before.filter(then), after.filter(then), check_exact=True)
    changed[day - ahead] *= -1.0
    newest = weighed(changed, experts, config).weights
    on_day = pl.col("date") == START + timedelta(days=day)
    assert (newest.filter(on_day)["skill"] != before.filter(on_day)["skill"]).any()
    eve = pl.col("date") < START + timedelta(days=day)
    assert_frame_equal(before.filter(eve), newest.filter(eve), check_exact=True)


def test_disagreement_is_the_jensen_shannon_divergence_from_0_to_1() -> None:
    one = np.eye(3)
    third = [np.array([1 / 3])] * 3
    assert disagreement([one[[k]] for k in range(3)], third) == pytest.approx([1.0], abs=1e-12)
    assert disagreement([one[[1]]] * 3, third) == pytest.approx([0.0], abs=1e-12)
    rng = np.random.default_rng(0)
    a, b = rng.dirichlet(np.ones(3), 50), rng.dirichlet(np.ones(3), 50)
    half = [np.full(50, 0.5)] * 2
    expected = jensenshannon(a, b, axis=1) ** 2 / np.log(3)
    np.testing.assert_allclose(disagreement([a, b], half), expected, atol=1e-12)


@given(
    skill=st.lists(st.floats(-800, 800), min_size=1, max_size=5),
    quiet=st.lists(st.booleans(), min_size=5, max_size=5),
    rate=st.floats(0, 3),
)
def test_weights_are_a_distribution_over_those_that_speak(skill: list[float], quiet: list[bool], rate: float) -> None:
    spoke = [np.array([not q]) for q in quiet[: len(skill)]]
    got = np.array(weights([np.array([s]) for s in skill], spoke, rate))[:, 0]
    assert (got >= 0).all()
    assert got.sum() == pytest.approx(1.0 if any(s[0] for s in spoke) else 0.0, abs=1e-12)
    assert all(w == 0.0 for w, s in zip(got, spoke, strict=True) if not s[0])


@pytest.fixture(scope="module")
def made():
    inputs = random_inputs(260, 3)
    config = settings_of(
        methods=list(METHODS), method="consensus",
        states={"features": ["breadth_up", "momentum_7", "funding_skew"], "refit": "month"},
    )  # fmt: skip
    models = compute_model(inputs, window_of(260), config)["regime_model"]
    return inputs, config, models, compute({**inputs, "regime_model": models}, window_of(260), config)


@pytest.mark.parametrize("back", [0, 1, 30, 58, 59, 120, 255])
def test_a_day_alone_from_a_cut_lake_equals_the_range(made, back: int) -> None:
    inputs, config, models, full = made
    day = START + timedelta(days=259 - back)
    cut = {name: frame.filter(pl.col("date") <= day) for name, frame in {**inputs, "regime_model": models}.items()}
    window = Window(day, day)
    for table, frame in compute(cut, window, config).items():
        assert_frame_equal(frame, window.keep(full[table]), check_exact=True)


def test_the_consensus_trades_and_shows_its_weights(made) -> None:
    *_, full = made
    regime = full["regime"]
    assert regime.filter("configured")["method"].unique().to_list() == ["consensus"]
    said = regime.filter(pl.col("method") == "consensus", pl.col("score").is_not_null())
    assert said["disagreement"].is_between(0.0, 1.0).all()
    assert said["disagreement"].max() > 0.05
    assert said["n_features"].max() == 3
    assert set(full["regime_weights"]["method"]) == set(METHODS[:-1])


def test_the_order_of_the_methods_changes_nothing(made) -> None:
    inputs, config, models, full = made
    orders = list(permutations(METHODS[:-1]))[1:4]
    for order in orders:
        other = config.model_copy(
            update={"regime": config.regime.model_copy(update={"methods": (*order, "consensus")})}
        )
        got = compute({**inputs, "regime_model": models}, window_of(260), other)
        for table, frame in got.items():
            assert_frame_equal(frame, full[table], check_exact=True)


def test_without_a_consensus_nothing_is_weighed(made) -> None:
    inputs, _, models, full = made
    alone = compute({**inputs, "regime_model": models}, window_of(260), settings_of())
    assert alone["regime_weights"].is_empty()
    composite = full["regime"].filter(pl.col("method") == "composite").drop("configured")
    assert_frame_equal(alone["regime"].drop("configured"), composite, check_exact=True)


def test_a_consensus_comes_last_and_not_alone() -> None:
    for methods in (["consensus"], ["consensus", "composite"]):
        with pytest.raises(ConfigError, match="comes last"):
            settings_of(methods=methods, method="consensus")


def test_sums_of_known_outcomes_by_hand() -> None:
    assert known_so_far(np.array([1.0, 2.0, 4.0, 8.0]), 2).tolist() == [0.0, 0.0, 1.0, 3.0]
    assert known_so_far(np.array([1.0, 2.0]), 5).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(discounted(np.array([1.0, 0.0, 4.0, 9.0]), 1, 1.0), [0.0, 1.0, 0.5, 4.25])
    up = np.array([1.0, 0.0, np.nan, 1.0])
    np.testing.assert_allclose(base_rate(up, 1), [0.5, 1.5 / 2, 1.5 / 3, 1.5 / 3])
    np.testing.assert_array_equal(went_up(np.array([0.1, -0.1, 0.0, np.nan])), [1.0, 0.0, np.nan, np.nan])


def test_skill_is_the_gain_in_log_score_over_the_base_rate() -> None:
    got = skills(np.array([0.8, 0.8, 0.8]), np.array([0.5, 0.5, 0.5]), np.array([1.0, 0.0, np.nan]))
    np.testing.assert_allclose(got, [np.log(1.6), np.log(0.4), 0.0], atol=1e-15)


def test_the_book_forecast_is_its_formula() -> None:
    rng = np.random.default_rng(2)
    days, horizon, ahead, prior = 200, 5, 6, 7.0
    three = rng.dirichlet([1.0, 2.0, 1.0], days)
    three[:100] = np.eye(3)[rng.integers(3, size=100)]
    up = (rng.random(days) < 0.4 + 0.3 * three[:, 1]).astype(float)
    up[rng.random(days) < 0.1] = np.nan
    spoke = rng.random(days) < 0.9
    got = book_up(three, spoke, up, horizon=horizon, ahead=ahead, prior_strength=prior)
    base = base_rate(up, ahead)
    for t in (0, 5, 6, 60, 102, 199):
        past = [s for s in range(t - ahead + 1) if spoke[s] and not np.isnan(up[s])]
        x, y = three[past][:, [2, 0, 1]], up[past]
        if t < 103:
            frequency = (x.T @ y / horizon + prior * base[t]) / (x.sum(axis=0) / horizon + prior)
        else:
            ridge = Ridge(alpha=prior * horizon, fit_intercept=False, tol=1e-12).fit(x, y - x.sum(axis=1) * base[t])
            frequency = base[t] + ridge.coef_
        weight = x.sum(axis=0) / horizon + prior
        rising = IsotonicRegression().fit_transform([0, 1, 2], frequency, sample_weight=weight)
        expected = np.dot(rising, three[t, [2, 0, 1]]) if spoke[t] else base[t]
        assert got[t] == pytest.approx(expected, abs=1e-10)


def test_the_book_forecast_is_calibrated_on_an_informed_method() -> None:
    returns, experts = simulated(6000, 9)
    three = experts["best"].regime.select(_columns()).to_numpy()
    up = went_up(returns)
    chance = book_up(three, np.ones(6000, dtype=bool), up, horizon=1, ahead=2, prior_strength=10.0)[1000:]
    for rows in np.array_split(np.argsort(chance, kind="stable"), 3):
        assert abs(up[1000:][rows].mean() - chance[rows].mean()) < 0.05
    assert np.ptp(chance) > 0.4


def test_forecasts_carry_what_came_and_can_be_scored(made) -> None:
    inputs, config, _, full = made
    book = book_up_forecasts(full["regime"], inputs["book_outcome"], config)
    assert set(book["event"]) == {BOOK_UP}
    assert set(book["method"]) == set(METHODS)
    ret = dict(zip(inputs["book_outcome"]["decision_date"], inputs["book_outcome"]["ret"], strict=True))
    for day, outcome in book.select("date", "outcome").rows():
        assert outcome == (ret[day] > 0 if day in ret else None)
    silent = full["regime"].filter(pl.col("score").is_null()).select("date", "method")
    assert silent.height > 0
    without = book.filter(pl.col("probability").is_null()).select("date", "method")
    assert_frame_equal(without.sort("date", "method"), silent.sort("date", "method"))
    weighed_in = full["regime_weights"].join(book.drop_nulls("probability"), on=["date", "method"])
    np.testing.assert_allclose(weighed_in["p_book_up"], weighed_in["probability"], atol=1e-15)
    states = state_forecasts(full["regime"], full["regime_probability"])
    assert set(states["horizon_days"]) == {1, 5}
    scores = [probability_scores(frame, delay=delay) for frame, delay in ((book, 1), (states, 0))]
    assert all(frame.height > 0 for frame in scores)
    one = states.filter(pl.col("outcome").is_not_null()).group_by("method", "date", "horizon_days")
    came = one.agg(pl.col("outcome").sum(), pl.col("probability").sum())
    assert set(came["outcome"]) == {1}
    np.testing.assert_allclose(came["probability"], 1.0, atol=1e-12)


def test_the_state_that_came_is_the_likeliest_of_its_own_day() -> None:
    days = [date(2024, 1, 1) + timedelta(days=k) for k in range(3)]
    regime = pl.DataFrame(
        {"date": days, "method": "m", "label": ["BALANCED"] * 3, "score": [0.1, None, 0.3]},
        schema_overrides={"score": pl.Float64},
    )
    tidy = [(days[0], 0, 0.9, 0.1), (days[0], 1, 0.7, 0.3), (days[0], 2, 0.6, 0.4), (days[2], 0, 0.2, 0.8)]
    rows = [(d, "m", h, s, p) for d, h, *ps in tidy for s, p in zip("AB", ps, strict=True)]
    columns = {"date": pl.Date, "method": pl.String, "horizon_days": pl.Int32, "state": pl.String}
    got = state_forecasts(regime, pl.DataFrame(rows, schema={**columns, "probability": pl.Float64}, orient="row"))
    assert got.select("event", "horizon_days", "probability", "outcome").rows() == [
        ("A", 1, 0.7, None), ("A", 2, 0.6, False), ("B", 1, 0.3, None), ("B", 2, 0.4, True),
    ]  # fmt: skip
