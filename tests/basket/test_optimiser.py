"""The quadratic programme against an independent solver, and every constraint that may be given up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from majors_alts_pipeline.basket.optimiser import (
    FACTORS,
    RELAXATION_ORDER,
    Problem,
    inverse_vol_prior,
    solve,
)
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.config.settings import BasketSettings

MODES = ("dual_beta", "btc_beta", "dollar")


def limits(**changes: object) -> BasketSettings:
    return load_settings(overrides={"basket": {"alt_weight_max": 0.15, "min_alts": 4, **changes}}).basket


def problem_of(seed: int, n: int, basket: BasketSettings, previous: bool = False) -> Problem:
    rng = np.random.default_rng(seed)
    m = 1 if basket.mode == "btc_beta" else 2
    vol = rng.uniform(0.02, 0.08, n)
    alt_prior = -inverse_vol_prior(vol, basket.short_gross, basket.alt_weight_max)
    betas = np.concatenate([rng.uniform([[0.1], [0.2]], [[0.9], [1.2]], (2, n)), np.eye(2)[:, :m]], axis=1)
    hedge = -(betas[:, :n] * alt_prior).sum(axis=1)
    old = None
    if previous:
        random = np.concatenate([-rng.dirichlet(np.ones(n)) * basket.short_gross, rng.uniform(0.1, 0.4, m)])
        old = 0.5 * (random + np.concatenate([alt_prior, hedge[:m]]))
    return Problem(
        prior=np.concatenate([alt_prior, 0.8 * hedge[:m]]),
        scale=np.concatenate([(vol / np.median(vol)) ** 2, np.ones(m)]),
        betas=betas,
        liquidity=np.concatenate([rng.uniform(0.05, 0.4, n), np.full(m, 5.0)]),
        previous=old,
        exits=0.02 if previous else 0.0,
        n_majors=m,
    )


def reference(problem: Problem, basket: BasketSettings) -> np.ndarray:
    """The programme as its docstring states it, by SLSQP; |w - w_prev| by a split into buys and sells."""
    k, n = len(problem.prior), len(problem.prior) - problem.n_majors
    old, split = problem.previous, problem.previous is not None
    width = 3 * k if split else k
    pull = basket.turnover_penalty if split else 0.0
    is_alt, is_major, every = (np.arange(k) < n) * 1.0, (np.arange(k) >= n) * 1.0, np.ones(k)

    def row(weights: np.ndarray) -> np.ndarray:
        return np.concatenate([weights, np.zeros(width - k)])

    equal = [(row(is_alt), -basket.short_gross)]
    if basket.mode == "dollar":
        equal.append((row(every), 0.0))
    below = [
        (row(every), basket.net_max),
        (row(-every), -basket.net_min),
        (row(is_major - is_alt), basket.gross_max),
    ]
    for factor in FACTORS[basket.mode]:
        below += [(row(sign * problem.betas[factor]), basket.beta_tolerance) for sign in (1, -1)]
    bounds = [(-min(limit, basket.alt_weight_max), 0.0) for limit in problem.liquidity[:n]]
    bounds += [(0.0, limit) for limit in problem.liquidity[n:]]
    start = np.clip(problem.prior, [b[0] for b in bounds], [b[1] for b in bounds])
    if split:
        eye = np.eye(k)
        equal += [(np.concatenate([eye[i], -eye[i], eye[i]]), old[i]) for i in range(k)]
        below.append((np.concatenate([0 * every, every, every]), basket.turnover_max - problem.exits))
        bounds += [(0.0, 5.0)] * (2 * k)
        start = np.concatenate([start, np.maximum(start - old, 0), np.maximum(old - start, 0)])
    target = problem.prior + (pull * old if split else 0.0)

    def cost(x: np.ndarray) -> float:
        return 1e3 * float((problem.scale * ((1 + pull) * x[:k] ** 2 - 2 * target * x[:k])).sum())

    def slope(x: np.ndarray) -> np.ndarray:
        return 2e3 * row(problem.scale * ((1 + pull) * x[:k] - target))

    def linear(rows: list[tuple[np.ndarray, float]], kind: str) -> dict:
        A, b = np.array([a for a, _ in rows]), np.array([v for _, v in rows])
        return {"type": kind, "fun": lambda x: b - A @ x, "jac": lambda _: -A}

    found = minimize(
        cost, start, jac=slope, method="SLSQP", bounds=bounds,
        constraints=[linear(equal, "eq"), linear(below, "ineq")], options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    # Status 8 is "no further descent within rounding": the comparison with our optimum judges it.
    assert found.status in {0, 8}, found.message
    assert max(abs(v - a @ found.x) for a, v in equal) < 1e-8
    assert max(a @ found.x - v for a, v in below) < 1e-8
    return found.x[:k]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_equals_an_independent_solver(mode: str, previous: bool, seed: int) -> None:
    basket = limits(mode=mode, turnover_max=0.55, beta_tolerance=0.02)
    problem = problem_of(seed, 6, basket, previous)
    ours = solve(problem, basket)
    assert ours.relaxed == ()
    assert ours.trouble == ()
    np.testing.assert_allclose(ours.weights, reference(problem, basket), atol=1e-5)


def test_a_binding_turnover_limit_equals_an_independent_solver() -> None:
    problem = problem_of(3, 6, limits(), previous=True)
    loose = solve(problem, limits(turnover_max=9.0, turnover_penalty=0.0))
    limit = 0.9 * (np.abs(loose.weights - problem.previous).sum() + problem.exits)
    basket = limits(turnover_max=limit, turnover_penalty=0.0)
    ours = solve(problem, basket)
    assert ours.relaxed == ()
    assert np.abs(ours.weights - problem.previous).sum() + problem.exits == pytest.approx(limit, abs=1e-7)
    np.testing.assert_allclose(ours.weights, reference(problem, basket), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(4, 25), mode=st.sampled_from(MODES), previous=st.booleans())
def test_constraints_not_given_up_hold(seed: int, n: int, mode: str, previous: bool) -> None:
    basket = limits(mode=mode)
    problem = problem_of(seed, n, basket, previous)
    solution = solve(problem, basket)
    assert solution.trouble == ()
    if solution.weights is None:
        return
    w, eps = solution.weights, 1e-7
    alts, majors = w[:n], w[n:]
    assert abs(alts.sum() + basket.short_gross) < eps
    assert (alts <= 0).all()
    assert (majors >= 0).all()
    held = set(RELAXATION_ORDER) - set(solution.relaxed)
    if "alt_weight_max" in held:
        assert (-alts <= basket.alt_weight_max).all()
    if "liquidity" in held:
        assert (np.abs(w) <= problem.liquidity).all()
    if "net" in held:
        assert basket.net_min - eps <= w.sum() <= basket.net_max + eps
    if "gross" in held:
        assert np.abs(w).sum() <= basket.gross_max + eps
    if "turnover" in held and previous:
        assert np.abs(w - problem.previous).sum() + problem.exits <= basket.turnover_max + eps
    width = basket.beta_tolerance * (1.0 if "beta_tolerance" in held else 5.0)
    for factor in FACTORS[mode]:
        assert abs(w @ problem.betas[factor]) <= width + eps
    if mode == "dollar":
        assert abs(w.sum()) < eps


def simple(n: int = 4, beta: tuple[float, float] = (0.5, 0.5), **changes: object) -> Problem:
    """n equal alts whose exact hedge is the prior."""
    fields = {
        "prior": np.array([-0.5 / n] * n + [0.5 * beta[0], 0.5 * beta[1]]),
        "scale": np.ones(n + 2),
        "betas": np.concatenate([np.tile(np.array(beta)[:, None], n), np.eye(2)], axis=1),
        "liquidity": np.full(n + 2, 9.0),
        "previous": None,
        "exits": 0.0,
        "n_majors": 2,
    }
    return Problem(**{**fields, **changes})


def test_a_feasible_prior_is_the_solution() -> None:
    problem = simple()
    np.testing.assert_allclose(solve(problem, limits()).weights, problem.prior, atol=1e-7)


def test_a_box_without_interior_is_solved() -> None:
    problem = simple(n=8)
    solution = solve(problem, limits(alt_weight_max=0.0625, min_alts=8))
    assert solution.relaxed == ()
    np.testing.assert_allclose(solution.weights[:8], -0.0625, atol=1e-8)


def given_up(problem: Problem, basket: BasketSettings) -> tuple[str, ...]:
    solution = solve(problem, basket)
    assert solution.weights is not None
    return solution.relaxed


def test_each_constraint_is_given_up_alone_when_it_alone_is_in_the_way() -> None:
    far = simple(previous=np.array([0.0, 0.0, 0.0, -0.5, 0.9, 0.0]), exits=0.4)
    assert given_up(far, limits()) == ("turnover",)
    assert given_up(simple(liquidity=np.array([0.05] * 4 + [9.0, 9.0])), limits()) == ("liquidity",)
    one_name = simple(betas=np.concatenate([[[-1.0] * 3 + [1.0], [0.2] * 4], np.eye(2)], axis=1))
    assert given_up(one_name, limits()) == ("alt_weight_max",)
    assert given_up(simple(beta=(0.1, 0.1)), limits(net_min=-0.3)) == ("net",)
    assert given_up(simple(beta=(1.5, 0.8)), limits(net_max=2.0)) == ("gross",)
    assert given_up(simple(beta=(-0.05, 0.5)), limits()) == ("beta_tolerance",)


def test_relaxations_join_and_the_last_resort_can_fail() -> None:
    thin = np.array([0.05] * 4 + [9.0, 9.0])
    both = simple(liquidity=thin, beta=(-0.05, 0.5))
    assert given_up(both, limits()) == ("liquidity", "beta_tolerance")
    nothing = solve(simple(beta=(-1.0, 0.5)), limits())
    assert nothing.weights is None
    assert nothing.relaxed == RELAXATION_ORDER


def test_water_filling_respects_the_cap_and_the_inverse_vol_order() -> None:
    vol = np.array([0.01, 0.02, 0.04, 0.05, 0.08])
    weights = inverse_vol_prior(vol, 0.5, 0.15)
    assert weights.sum() == pytest.approx(0.5, abs=1e-15)
    np.testing.assert_array_equal(weights[:1], 0.15)
    free = weights[weights < 0.15]
    np.testing.assert_allclose(free * vol[weights < 0.15], (free * vol[weights < 0.15])[0])
    np.testing.assert_allclose(inverse_vol_prior(vol, 0.5, 0.1), 0.1)


def test_impossible_limits_are_configuration_errors() -> None:
    with pytest.raises(ValueError, match="long leg"):
        limits(net_min=0.6)
    with pytest.raises(ValueError, match="mode dollar"):
        limits(mode="dollar", net_min=0.1)
    with pytest.raises(ValueError, match="never be filled"):
        limits(alt_weight_max=0.01)
