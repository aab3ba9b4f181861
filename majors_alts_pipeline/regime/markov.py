"""Method `markov`: Markov switching of the majors-minus-alts return (Hamilton 1989; statsmodels), filtered.

Mean and variance switch. Daily returns say far more about variance than about mean, so states tend to be
calm and wild days, and their order by mean can rest on little: see docs/methods.md for what that costs.
"""

from __future__ import annotations

import numpy as np

from majors_alts_pipeline.regime.hmm import Start, chained, search
from majors_alts_pipeline.regime.states import Fit, FitFailedError, Problem, StatesMethod, complaints, signed_return

ITERATIONS = 200
GRADIENT = 1e-4
"""Largest slope of the mean log-likelihood at which the optimiser may stop."""
STAY = 0.95


def fit(problem: Problem) -> Fit:
    """EM from several starts (hmmlearn), then maximum likelihood from there (statsmodels); see `StatesMethod`.

    statsmodels' own random search takes seconds where EM takes milliseconds, and reaches no higher likelihood.

    Raises:
        FitFailedError: the optimiser did not converge or failed numerically.
    """
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    start = _parameters(*search(problem, _starts(problem)))
    with complaints() as said:
        try:
            model = MarkovRegression(problem.x[:, 0], problem.n_states, switching_variance=True)
            result = model.fit(start_params=start, em_iter=0, maxiter=ITERATIONS, gtol=GRADIENT, cov_type="none")
        except (ValueError, np.linalg.LinAlgError) as error:
            raise FitFailedError(f"statsmodels: {error}") from error
    if not result.mle_retvals["converged"]:
        raise FitFailedError(f"statsmodels: {'; '.join(said) or f'no convergence in {ITERATIONS} iterations'}")
    values = dict(zip(model.param_names, result.params, strict=True))
    states = range(problem.n_states)
    mean = np.array([[values[f"const[{s}]"]] for s in states])
    variance = np.array([[values[f"sigma2[{s}]"]] for s in states])
    return chained(problem.x, mean, variance, result.regime_transition[:, :, 0].T)


def _starts(problem: Problem) -> list[Start]:
    """Seeded means and variances, every state lasting 1 / (1 - STAY) days, and the model before."""
    states = problem.n_states
    rng = np.random.default_rng(problem.seed)
    transition = np.full((states, states), (1.0 - STAY) / (states - 1))
    np.fill_diagonal(transition, STAY)
    starts = [
        (rng.normal(0.0, 0.5, (states, 1)), np.exp(rng.normal(0.0, 1.0, (states, 1))), transition)
        for _ in range(problem.settings.regime.states.starts)
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
