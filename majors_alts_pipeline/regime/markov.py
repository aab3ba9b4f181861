"""Method `markov`: Markov switching of the majors-minus-alts return (Hamilton 1989; statsmodels), filtered.

Mean and variance switch. Daily returns say far more about variance than about mean, so states tend to be
calm and wild days, and their order by mean can rest on little: see docs/methods.md for what that costs.
"""

from __future__ import annotations

import numpy as np

from majors_alts_pipeline.regime.hmm import Start, chained, search
from majors_alts_pipeline.regime.states import Fit, FitFailedError, Problem, StatesMethod, complaints, signed_return

STEPS = 2
"""Quasi-Newton steps after EM has converged: they take up what its slow last mile leaves."""
STAY = 0.95
STARTS = 3
"""Starts per `regime.states.starts`: one dimension makes them cheap, and the likelihood has many local maxima."""


def fit(problem: Problem) -> Fit:
    """EM from seeded starts (hmmlearn), then quasi-Newton steps from the best (statsmodels); see `StatesMethod`.

    statsmodels' own random search would need seconds for as many starts. Whether the fit converged is EM's to
    say.

    Raises:
        FitFailedError: EM did not converge, or a step failed numerically.
    """
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    states = problem.n_states
    start = _parameters(*search(problem, _starts(problem)))
    with complaints():
        try:
            model = MarkovRegression(problem.x[:, 0], states, switching_variance=True)
            params = model.fit(
                start_params=start, em_iter=0, method="lbfgs", approx_grad=True, maxiter=STEPS, return_params=True
            )
        except (ValueError, np.linalg.LinAlgError) as error:
            raise FitFailedError(f"statsmodels: {error}") from error
    transition = model.regime_transition_matrix(params)[:, :, 0].T
    mean, variance = params[-2 * states : -states, None], params[-states:, None]
    return chained(problem.x, mean, variance, transition)


def _starts(problem: Problem) -> list[Start]:
    """Seeded means and variances, every state lasting 1 / (1 - STAY) days, and the model before."""
    states = problem.n_states
    rng = np.random.default_rng(problem.seed)
    transition = np.full((states, states), (1.0 - STAY) / (states - 1))
    np.fill_diagonal(transition, STAY)
    starts = [
        (rng.normal(0.0, 0.5, (states, 1)), np.exp(rng.normal(0.0, 1.0, (states, 1))), transition)
        for _ in range(STARTS * problem.settings.regime.states.starts)
    ]
    if problem.warm is not None:
        starts.append((problem.warm.mean, problem.warm.variance, problem.warm.transition))
    return starts


def _parameters(mean: np.ndarray, variance: np.ndarray, transition: np.ndarray) -> np.ndarray:
    """Parameters in the order of statsmodels: transitions by target state, means, variances."""
    # On the edge of the simplex the transformed parameters are infinite.
    inside = np.clip(transition, 1e-4, 1.0 - 1e-4)
    inside /= inside.sum(axis=1, keepdims=True)
    return np.concatenate([inside[:, :-1].T.ravel(), mean[:, 0], variance[:, 0]])


METHOD = StatesMethod("markov", "markov", signed_return, fit)
