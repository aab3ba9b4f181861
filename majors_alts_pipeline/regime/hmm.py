"""Method `hmm`: Gaussian hidden Markov model of the features (hmmlearn), filtered.

Emissions are diagonal, so that a missing z-score is integrated out exactly and the parameters stay few: three
states of five features have 36, full covariances would have 66. Fitted by EM from several starts: each runs a
few iterations, the best is carried to convergence (Biernacki, Celeux & Govaert 2003). hmmlearn's own
`predict_proba` looks ahead and is not used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from majors_alts_pipeline.regime.filtering import forward, log_density, smooth
from majors_alts_pipeline.regime.states import (
    MIN_SHARE,
    Fit,
    FitFailedError,
    Problem,
    StatesMethod,
    complaints,
    counted_transitions,
    nearest,
    seeded_centres,
    signed_features,
    stationary,
)

Start = tuple[np.ndarray, np.ndarray, np.ndarray]

SHORT_RUN, LONG_RUN = 10, 500
TOLERANCE = 1e-3


def fit(problem: Problem) -> Fit:
    """Fit by EM; see `StatesMethod`.

    Raises:
        FitFailedError: EM did not converge or failed numerically.
    """
    mean, variance, transition = search(problem, _starts(problem))
    return chained(problem.x, mean, variance, transition)


def search(problem: Problem, starts: list[Start]) -> Start:
    """Best of several starts: (states, d) means and variances, (states, states) transitions.

    The best short run is carried on; when it ends with a state of a handful of days, the next best is.

    Raises:
        FitFailedError: a run failed numerically, or the one carried on did not converge.
    """
    with complaints("hmmlearn.base") as said:
        try:
            runs = sorted((_run(problem, start, SHORT_RUN) for start in starts), key=_score, reverse=True)
            for short in runs:
                model = _run(problem, _parameters(short), LONG_RUN)
                if chained(problem.x, *_parameters(model)).share.min() >= MIN_SHARE:
                    break
        except (ValueError, np.linalg.LinAlgError) as error:
            raise FitFailedError(f"hmmlearn: {error}") from error
    if model.monitor_.iter >= LONG_RUN:
        raise FitFailedError(f"hmmlearn: no convergence in {LONG_RUN} iterations {'; '.join(said)}".strip())
    return _parameters(model)


def chained(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, transition: np.ndarray) -> Fit:
    """Markov chain of Gaussian states with its likelihood and the share of the days of each state."""
    weight = stationary(transition)
    density, known = log_density(x, mean, variance)
    filtered = forward(density, known, transition, weight)
    share = smooth(filtered, transition).values.mean(axis=0)
    return Fit(mean, variance, weight, transition, share, float(filtered.log_likelihood.mean()))


def _starts(problem: Problem) -> list[Start]:
    starts = []
    for centres in seeded_centres(problem):
        path = nearest(problem.x, centres)
        within = ((problem.x - centres[path]) ** 2).mean(axis=0)
        variance = np.tile(np.maximum(within, 1e-2), (problem.n_states, 1))
        starts.append((centres, variance, counted_transitions(path, problem.n_states)))
    if problem.warm is not None:
        starts.append((problem.warm.mean, problem.warm.variance, problem.warm.transition))
    return starts


def _run(problem: Problem, start: Start, iterations: int) -> Any:
    from hmmlearn.hmm import GaussianHMM

    model = GaussianHMM(
        problem.n_states, "diag", n_iter=iterations, tol=TOLERANCE, init_params="", implementation="scaling"
    )
    model.n_features = problem.x.shape[1]
    model.startprob_ = stationary(start[2])
    model.means_, model.covars_, model.transmat_ = start
    return model.fit(problem.x)


def _score(model: Any) -> float:
    return float(model.monitor_.history[-1])


def _parameters(model: Any) -> Start:
    # `covars_` shows diagonal covariances as matrices.
    return model.means_, np.array([np.diag(matrix) for matrix in model.covars_]), model.transmat_


METHOD = StatesMethod("hmm", "markov", signed_features, fit)
