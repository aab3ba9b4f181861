"""Filtered and smoothed probabilities against hmmlearn, jumpmodels, statsmodels and Hamilton's published model."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.tsa.regime_switching.markov_autoregression import MarkovAutoregression
from statsmodels.tsa.regime_switching.tests import test_markov_autoregression as published

from majors_alts_pipeline.regime.filtering import (
    FilteredProbabilities,
    SmoothedProbabilities,
    forward,
    forward_costs,
    log_density,
    smooth,
    smooth_costs,
)
from majors_alts_pipeline.regime.jump import descend
from majors_alts_pipeline.regime.states import StateModel, by_label, half_distances, stationary

STAY = np.array([[0.97, 0.03], [0.03, 0.97]])
LEVEL = np.array([[-0.48], [0.48]])
NOISE = np.ones((2, 1))


def simulated(days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states of `STAY`, and (days, 1) observations around `LEVEL`."""
    rng = np.random.default_rng(seed)
    jumps = rng.random(days) < STAY[0, 1]
    state = np.cumsum(jumps) % 2
    return state, LEVEL[state] + rng.standard_normal((days, 1))


def filtered(x: np.ndarray) -> FilteredProbabilities:
    return forward(*log_density(x, LEVEL, NOISE), STAY, stationary(STAY))


def hmmlearn_model():
    from hmmlearn.hmm import GaussianHMM

    model = GaussianHMM(2, "diag")
    model.startprob_, model.transmat_, model.means_, model.covars_ = stationary(STAY), STAY, LEVEL, NOISE
    model.n_features = 1
    return model


def test_the_filter_is_hmmlearns_normalised_forward_pass() -> None:
    from hmmlearn import _hmmc

    _, x = simulated(1500, 1)
    model = hmmlearn_model()
    log_likelihood, lattice = _hmmc.forward_log(model.startprob_, model.transmat_, model._compute_log_likelihood(x))
    theirs = np.exp(lattice - np.logaddexp.reduce(lattice, axis=1, keepdims=True))
    ours = filtered(x)
    np.testing.assert_allclose(ours.values, theirs, atol=1e-12)
    assert ours.log_likelihood.sum() == pytest.approx(log_likelihood, abs=1e-8)


def test_truncation_changes_no_bit_of_the_filter_but_predict_proba_looks_ahead() -> None:
    _, x = simulated(1500, 1)
    ours, model = filtered(x), hmmlearn_model()
    assert (filtered(x[:1000]).values == ours.values[:1000]).all()
    assert np.abs(model.predict_proba(x[:1000]) - model.predict_proba(x)[:1000]).max() > 0.05
    smoothed = smooth(ours, STAY).values
    np.testing.assert_allclose(smoothed, model.predict_proba(x), atol=1e-9)
    np.testing.assert_allclose(smoothed[-1], ours.values[-1], atol=1e-9)


def test_hindsight_is_more_accurate_and_inflates_the_sharpe_ratio() -> None:
    """Filtered .848, smoothed .915: what looking ahead is worth, and why it is a type of its own."""
    state, x = simulated(20_000, 2)
    ours = filtered(x)
    known, hindsight = ours.values.argmax(axis=1), smooth(ours, STAY).values.argmax(axis=1)
    assert (known == state).mean() == pytest.approx(0.848, abs=0.015)
    assert (hindsight == state).mean() == pytest.approx(0.915, abs=0.015)

    def sharpe(signal: np.ndarray) -> float:
        earned = (2 * signal[:-1] - 1) * x[1:, 0]
        return float(earned.mean() / earned.std())

    assert sharpe(hindsight) > 1.1 * sharpe(known)


def test_an_unknown_coordinate_is_integrated_out_and_an_unknown_day_is_a_prediction() -> None:
    rng = np.random.default_rng(3)
    mean, variance = rng.standard_normal((2, 3)), rng.uniform(0.5, 2.0, (2, 3))
    x = rng.standard_normal((5, 3))
    x[2, 1] = x[3] = np.nan
    density, known = log_density(x, mean, variance)
    assert known.tolist() == [3, 3, 2, 0, 3]
    for state in range(2):
        kept = norm.logpdf(x[2, [0, 2]], mean[state, [0, 2]], np.sqrt(variance[state, [0, 2]])).sum()
        assert density[2, state] == pytest.approx(kept, abs=1e-12)
    p = forward(density, known, STAY, stationary(STAY)).values
    np.testing.assert_allclose(p[3], p[2] @ STAY, atol=1e-15)
    mixture = forward(density, known, STAY, np.array([0.3, 0.7]), memoryless=True).values
    joint = np.array([0.3, 0.7]) * np.exp(density[4])
    np.testing.assert_allclose(mixture[4], joint / joint.sum(), atol=1e-12)
    np.testing.assert_allclose(mixture[3], mixture[2] @ STAY, atol=1e-15)


def test_a_day_far_from_every_state_does_not_underflow() -> None:
    x = np.array([[0.0], [1e3], [-1e3]])
    p = filtered(x).values
    assert np.isfinite(p).all()
    assert p[1, 1] == pytest.approx(1.0)
    assert p[2, 0] == pytest.approx(1.0)


def test_hamiltons_model_of_gnp_and_the_published_filtered_probabilities() -> None:
    """llf and parameters of Hamilton (1989); our filter over the 32 states of (s_t, ..., s_{t-4}) against EViews."""
    model = MarkovAutoregression(published.rgnp, k_regimes=2, order=4, switching_ar=False)
    result = model.fit(search_reps=3, rng=0, cov_type="none")
    assert result.llf == pytest.approx(-181.26339, abs=1e-4)
    params = dict(zip(model.param_names, result.params, strict=True))
    level = np.array([params["const[0]"], params["const[1]"]])
    stay = np.array([[params["p[0->0]"], 1 - params["p[0->0]"]], [params["p[1->0]"], 1 - params["p[1->0]"]]])
    ar = np.array([params[f"ar.L{lag}"] for lag in range(1, 5)])
    order = np.argsort(level)  # the optimiser may name the states either way round
    level, stay = level[order], stay[np.ix_(order, order)]
    np.testing.assert_allclose(level, [-0.358811, 1.163516], atol=1e-3)
    np.testing.assert_allclose(stay[:, 0], [0.754673, 0.095915], atol=1e-3)
    np.testing.assert_allclose(ar, [0.013486, -0.057521, -0.246983, -0.212923], atol=1e-3)
    assert params["sigma2"] == pytest.approx(0.591368, abs=1e-3)

    y = np.asarray(published.rgnp, dtype=float)
    tuples = list(product(range(2), repeat=5))
    transition = np.zeros((32, 32))
    for (row, now), (column, then) in product(enumerate(tuples), repeat=2):
        if then[1:] == now[:4]:
            transition[row, column] = stay[now[0], then[0]]
    past = np.column_stack([y[4 - lag : len(y) - lag] for lag in range(1, 5)])
    density = np.column_stack(
        [
            norm.logpdf(y[4:] - level[s[0]] - (past - level[list(s[1:])]) @ ar, 0, params["sigma2"] ** 0.5)
            for s in tuples
        ]
    )
    p = forward(density, np.ones(len(density), dtype=np.int32), transition, stationary(transition))
    assert p.log_likelihood.sum() == pytest.approx(result.llf, abs=1e-6)
    ours = p.values[:, [s[0] == 1 for s in tuples]].sum(axis=1)
    assert np.abs(ours - published.hamilton_ar4_filtered).max() < 1e-4
    smoothed = smooth(p, transition).values[:, [s[0] == 1 for s in tuples]].sum(axis=1)
    assert np.abs(smoothed - ours).max() == pytest.approx(0.656, abs=0.002)


def test_the_random_search_of_statsmodels_obeys_its_generator() -> None:
    model = MarkovAutoregression(published.rgnp, k_regimes=2, order=4, switching_ar=False)
    found = [model._start_params_search(2, em_iter=2, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


def jump_problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    state = np.repeat(rng.permutation(np.arange(30) % 3), 15)
    return state, (state[:, None] - 1.0) * 0.8 + rng.standard_normal((450, 3))


def test_online_jump_inference_is_that_of_jumpmodels_and_hindsight_is_its_best_path() -> None:
    from jumpmodels.jump import JumpModel

    _, x = jump_problem()
    model = JumpModel(3, jump_penalty=5.0, random_state=0, n_init=3).fit(x)
    cost = half_distances(x, model.centers_)
    online = forward_costs(cost, 5.0, 1.0).values
    assert (online.argmax(axis=1) == np.asarray(model.predict_online(x))).all()
    assert (forward_costs(cost[:200], 5.0, 1.0).values == online[:200]).all()
    whole = smooth_costs(cost, 5.0, 1.0).values
    assert (whole.argmax(axis=1) == np.asarray(model.predict(x))).all()
    assert (whole.argmax(axis=1) != online.argmax(axis=1)).any()
    np.testing.assert_allclose(whole[-1], online[-1], atol=1e-9)
    np.testing.assert_allclose(online.sum(axis=1), 1.0, atol=1e-12)


def test_the_compiled_descent_is_that_of_jumpmodels() -> None:
    """A state that jumpmodels loses on the way stays lost there; here its centre may win days again."""
    from jumpmodels.jump import JumpModel

    _, x = jump_problem()
    alive = 0
    for seed in range(12):
        start = x[np.random.default_rng(seed).choice(len(x), 3, replace=False)]

        class FromStart(JumpModel):
            def init_centers(self, X, start=start):
                return start[None]

        theirs = FromStart(3, jump_penalty=2.0).fit(x)
        centres, loss = descend(x, start, 2.0)
        assert loss <= theirs.val_ + 1e-8
        if np.isfinite(theirs.centers_).all():
            alive += 1
            assert loss == pytest.approx(theirs.val_, abs=1e-8)
            np.testing.assert_allclose(np.sort(centres, axis=0), np.sort(theirs.centers_, axis=0), atol=1e-8)
    assert alive >= 3


def two_state_model() -> StateModel:
    return StateModel(
        asof="2024-01-01", features=["vol_spread"], left_out=[], loc=[0.0], scale=[1.0], mean=LEVEL.tolist(),
        variance=NOISE.tolist(), weight=[0.5, 0.5], transition=STAY.tolist(), labels=[-1, 1], penalty=0.0,
    )  # fmt: skip


def test_only_the_forward_recursion_makes_filtered_probabilities_and_only_they_become_labels() -> None:
    _, x = simulated(50, 4)
    ours = filtered(x)
    with pytest.raises(TypeError, match="forward recursion only"):
        FilteredProbabilities(ours.values, ours.log_likelihood, object())
    with pytest.raises(ValueError, match="read-only"):
        ours.values[0, 0] = 1.0
    for hindsight in (smooth(ours, STAY), SmoothedProbabilities(ours.values), ours.values):
        with pytest.raises(TypeError, match="filtered probabilities only"):
            by_label(hindsight, two_state_model())
    three = by_label(ours, two_state_model())
    np.testing.assert_array_equal(three, np.column_stack([np.zeros(50), ours.values[:, 1], ours.values[:, 0]]))


@pytest.mark.slow
def test_the_type_checker_refuses_hindsight(tmp_path: Path) -> None:
    from mypy import api

    code = """
from majors_alts_pipeline.regime.filtering import FilteredProbabilities, SmoothedProbabilities
from majors_alts_pipeline.regime.states import StateModel, by_label

def trade(known: FilteredProbabilities, hindsight: SmoothedProbabilities, model: StateModel) -> None:
    by_label(known, model)
    by_label(hindsight, model)
"""
    path = tmp_path / "trade.py"
    path.write_text(code)
    said, _, status = api.run([str(path), "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")])
    assert status == 1
    assert said.count("error:") == 1
    assert 'trade.py:7: error: Argument 1 to "by_label" has incompatible type "SmoothedProbabilities"' in said
