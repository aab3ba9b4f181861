"""The quadratic programme of one day, solved by clarabel (Goulart & Chen 2024) called directly.

Variables are the weights of n alts (all <= 0, sorted by asset id) followed by m majors (all >= 0)::

    minimise    sum_i s_i (w_i - w0_i)^2 + turnover_penalty sum_i s_i (w_i - w_prev_i)^2
    subject to  sum_alt w = -short_gross
                -min(alt_weight_max, liquidity_i) <= w_i <= 0          alts
                0 <= w_j <= liquidity_j                                majors
                net_min <= sum w <= net_max,  sum |w| <= gross_max
                |sum w beta_f| <= beta_tolerance                       f in the mode's factors
                sum |w - w_prev| <= turnover_max                       names that left included
                sum w = 0                                              mode "dollar" only

With s_i = (idio_vol_i / median idio_vol)^2 for alts the first term is the idiosyncratic variance of the
distance to the prior; as the prior is proportional to 1 / idio_vol it is the squared relative distance too.

When nothing satisfies all constraints they are given up in the order of `RELAXATION_ORDER`, one more at a
time, until the programme can be solved; then those given up in vain are taken back, the most precious first.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from majors_alts_pipeline.config.settings import BasketSettings

RELAXATION_ORDER = ("turnover", "liquidity", "alt_weight_max", "net", "gross", "beta_tolerance")
"""Constraints from the first to be given up to the last; the beta tolerance is widened, not dropped."""

BETA_RELAXATION = 5.0
"""Factor on `beta_tolerance` in the last resort."""

FACTORS = {"dual_beta": (0, 1), "btc_beta": (0,), "dollar": ()}
"""Mode to the factors (0 = BTC, 1 = ETH) whose book beta is constrained."""

FEASIBILITY = 1e-7
"""Largest violation of a constraint, in fractions of NAV, that a solution may show."""

ZERO = 1e-9
"""Weights below it are rounding of the interior point and set to exactly 0."""

UNBOUNDED = 1e30

PERCENT = 1e4
"""The objective is in squared percent of NAV, so that the solver's absolute gap of 1e-10 is 1e-7 of NAV."""


@dataclass(frozen=True)
class Problem:
    """One day's data; k = n + m names, alts first.

    Attributes:
        prior: (k,) wished weights.
        scale: (k,) positive weights of the squared distances.
        betas: (2, k) betas to BTC and ETH.
        liquidity: (k,) largest |weight| the traded volume allows, inf where the volume is unknown.
        previous: (k,) yesterday's weights, None when there was no book.
        exits: sum of |yesterday's weights| of names that are not among the k.
        n_majors: m.
    """

    prior: np.ndarray
    scale: np.ndarray
    betas: np.ndarray
    liquidity: np.ndarray
    previous: np.ndarray | None
    exits: float
    n_majors: int


@dataclass(frozen=True)
class Solution:
    """Outcome of one day.

    Attributes:
        weights: (k,), or None when even the last resort fails.
        relaxed: constraints given up, in the order of `RELAXATION_ORDER`.
        trouble: statuses of the solver other than solved and infeasible; each counted as infeasible.
    """

    weights: np.ndarray | None
    relaxed: tuple[str, ...]
    trouble: tuple[str, ...]


@dataclass(frozen=True)
class _Skeleton:
    """Sparsity of P and A for one shape of problem, and where the betas go in A's data."""

    P: Any
    A: Any
    cones: list[Any]
    beta_slots: np.ndarray

    def filled(self, curvature: np.ndarray, betas: np.ndarray) -> tuple[Any, Any]:
        """Return P and A of one day; the skeleton itself is shared between threads and stays as it is."""
        P, A = copy(self.P), copy(self.A)
        P.data, A.data = curvature, self.A.data.copy()
        A.data[self.beta_slots] = betas
        return P, A


def inverse_vol_prior(idio_vol: np.ndarray, total: float, cap: float) -> np.ndarray:
    """Weights proportional to 1 / idio_vol, none above `cap`, summing to `total` (water-filling).

    Args:
        idio_vol: (n,) positive.
        total: sum of the weights.
        cap: largest weight; n x cap >= total.

    Returns:
        (n,) positive weights; what capped names give up goes to the others in proportion to 1 / idio_vol.
    """
    inverse = 1.0 / idio_vol
    capped = np.zeros(len(inverse), dtype=bool)
    for _ in range(len(inverse)):
        free = total - cap * capped.sum()
        weights = np.where(capped, cap, inverse * (max(free, 0.0) / max(inverse[~capped].sum(), 1e-300)))
        over = ~capped & (weights > cap)
        if not over.any():
            return weights
        capped |= over
    return np.full(len(inverse), cap)


def solve(problem: Problem, settings: BasketSettings) -> Solution:
    """Best weights of the day, with as few constraints given up as the relaxation order allows."""
    given_up: list[str] = []
    trouble: list[str] = []
    weights = _attempt(problem, settings, given_up, trouble)
    for name in RELAXATION_ORDER:
        if weights is not None:
            break
        given_up.append(name)
        weights = _attempt(problem, settings, given_up, trouble)
    if weights is None:
        return Solution(None, tuple(given_up), tuple(trouble))
    for name in reversed(given_up[:-1]):
        kept = [other for other in given_up if other != name]
        stricter = _attempt(problem, settings, kept, trouble)
        if stricter is not None:
            given_up, weights = kept, stricter
    return Solution(weights, tuple(given_up), tuple(trouble))


def _attempt(problem: Problem, settings: BasketSettings, given_up: list[str], trouble: list[str]) -> np.ndarray | None:
    """Optimal weights under the constraints that are left, None when there are none.

    The turnover constraint doubles the variables, so the programme is first solved without it: a solution
    that respects it is the solution of the full programme too.
    """
    free = _optimum(problem, settings, given_up, None, trouble)
    if free is None or problem.previous is None or "turnover" in given_up:
        return free
    budget = settings.turnover_max - problem.exits
    if np.abs(free - problem.previous).sum() <= budget:
        return free
    return None if budget < 0 else _optimum(problem, settings, given_up, budget, trouble)


def _optimum(
    problem: Problem, settings: BasketSettings, given_up: list[str], budget: float | None, trouble: list[str]
) -> np.ndarray | None:
    k, m = len(problem.prior), problem.n_majors
    n = k - m
    liquidity = np.full(k, np.inf) if "liquidity" in given_up else problem.liquidity
    name_cap = settings.short_gross if "alt_weight_max" in given_up else settings.alt_weight_max
    upper = np.concatenate([np.minimum(liquidity[:n], name_cap), liquidity[n:]])
    if upper[:n].sum() < settings.short_gross * (1 - 1e-12):
        return None
    long_min, long_max = _long_range(settings, given_up)
    if long_min > long_max:
        return None
    tolerance = settings.beta_tolerance * (BETA_RELAXATION if "beta_tolerance" in given_up else 1.0)

    pull = 0.0 if problem.previous is None else settings.turnover_penalty
    curvature = 2.0 * PERCENT * problem.scale * (1.0 + pull)
    towards = problem.prior if problem.previous is None else problem.prior + pull * problem.previous
    q = -2.0 * PERCENT * problem.scale * towards

    factors = FACTORS[settings.mode]
    dollar = settings.mode == "dollar"
    skeleton = _skeleton(n, m, factors, budget is not None, dollar)
    betas = problem.betas[list(factors)]
    P, A = skeleton.filled(curvature, np.stack([betas, -betas]))
    equalities = [-settings.short_gross, settings.short_gross] if dollar else [-settings.short_gross]
    b = np.concatenate([
        equalities,
        np.zeros(n), upper[:n],
        np.zeros(m), np.minimum(upper[n:], UNBOUNDED),
        [long_max, -long_min],
        np.full(2 * len(factors), tolerance),
    ])  # fmt: skip
    if budget is not None:
        assert problem.previous is not None
        q = np.concatenate([q, np.zeros(k)])
        b = np.concatenate([b, problem.previous, -problem.previous, [budget]])

    import clarabel

    solution = clarabel.DefaultSolver(P, q, A, b, skeleton.cones, _solver_settings()).solve()
    status = str(solution.status)
    if status in {"PrimalInfeasible", "AlmostPrimalInfeasible"}:
        return None
    raw = np.asarray(solution.x)
    if status not in {"Solved", "AlmostSolved"} or _violation(A, raw, b, len(equalities)) > FEASIBILITY:
        trouble.append(f"solver_{status}")
        return None
    weights = raw[:k]
    weights[np.abs(weights) < ZERO] = 0.0
    weights[:n] = np.clip(weights[:n], -upper[:n], 0.0)
    weights[n:] = np.clip(weights[n:], 0.0, upper[n:])
    return weights + 0.0


def _long_range(settings: BasketSettings, given_up: list[str]) -> tuple[float, float]:
    """Bounds of the majors' sum: net and gross limits, given that the alts sum to -short_gross."""
    short = settings.short_gross
    low = 0.0 if "net" in given_up else max(0.0, settings.net_min + short)
    high = UNBOUNDED if "net" in given_up else settings.net_max + short
    return low, high if "gross" in given_up else min(high, settings.gross_max - short)


def _violation(A: Any, x: np.ndarray, b: np.ndarray, n_equalities: int) -> float:
    slack = b - A @ x
    return float(max(np.abs(slack[:n_equalities]).max(), -slack[n_equalities:].min()))


@lru_cache(maxsize=1)
def _solver_settings() -> Any:
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.direct_solve_method = "qdldl"
    settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = 1e-10
    return settings


@lru_cache(maxsize=256)
def _skeleton(n: int, m: int, factors: tuple[int, ...], turnover: bool, dollar: bool) -> _Skeleton:
    """Rows in the order `_optimum` fills b: equalities, boxes, long sum, betas, turnover."""
    import clarabel
    from scipy.sparse import csc_matrix

    k = n + m
    eye, alts, majors = np.eye(k), np.arange(k) < n, np.arange(k) >= n
    equalities = [alts, majors] if dollar else [alts]
    blocks = [np.array(equalities, dtype=float), eye[:n], -eye[:n], -eye[n:], eye[n:],
              np.array([majors, -1.0 * majors], dtype=float)]  # fmt: skip
    first_beta = sum(len(block) for block in blocks)
    blocks.append(np.ones((2 * len(factors), k)))
    rows = np.concatenate(blocks)
    if turnover:
        rows = np.block([
            [rows, np.zeros((len(rows), k))],
            [eye, -eye],
            [-eye, -eye],
            [np.zeros((1, k)), np.ones((1, k))],
        ])  # fmt: skip
    filled = rows != 0
    columns, indices = np.nonzero(filled.T)
    starts = np.concatenate([[0], np.cumsum(filled.sum(axis=0))])
    A = csc_matrix((rows[indices, columns], indices, starts), shape=rows.shape)
    slot = np.full(rows.shape, -1)
    slot[indices, columns] = np.arange(len(indices))
    beta_slots = slot[first_beta : first_beta + 2 * len(factors), :k].reshape(2, len(factors), k)
    width = rows.shape[1]
    P = csc_matrix((np.ones(k), np.arange(k), np.minimum(np.arange(width + 1), k)), shape=(width, width))
    cones = [
        clarabel.ZeroConeT(len(equalities)),
        clarabel.NonnegativeConeT(len(rows) - len(equalities)),
    ]
    return _Skeleton(P, A, cones, beta_slots)
