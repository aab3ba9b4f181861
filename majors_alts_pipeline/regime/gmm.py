"""Method `gmm`: mixture of diagonal Gaussians (scikit-learn), each day by itself.

The hidden Markov model without memory: what the two disagree on is worth the persistence of states. Transitions,
for the forecast only, are counted along the most probable states of the training days.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from majors_alts_pipeline.regime.states import (
    MIN_SHARE,
    Fit,
    FitFailedError,
    Problem,
    StatesMethod,
    complaints,
    counted_transitions,
    seeded_centres,
    signed_features,
)

SHORT_RUN, LONG_RUN = 10, 1000
TOLERANCE = 1e-4


def fit(problem: Problem) -> Fit:
    """EM from several starts, the best short run whose states stay sound carried on; see `StatesMethod`.

    Raises:
        FitFailedError: the best run did not converge, or a covariance is singular.
    """
    from sklearn.mixture import GaussianMixture

    def run(means: np.ndarray, precisions: np.ndarray, weights: np.ndarray, iterations: int) -> Any:
        model = GaussianMixture(
            problem.n_states, covariance_type="diag", max_iter=iterations, tol=TOLERANCE, weights_init=weights,
            means_init=means, precisions_init=precisions, init_params="random_from_data", random_state=0,
        )  # fmt: skip
        return model.fit(problem.x)

    flat = np.full(problem.n_states, 1.0 / problem.n_states)
    with complaints():
        try:
            runs = [run(centres, np.ones(centres.shape), flat, SHORT_RUN) for centres in seeded_centres(problem)]
            runs.sort(key=lambda model: float(model.lower_bound_), reverse=True)
            ended = [run(start.means_, start.precisions_, start.weights_, LONG_RUN) for start in runs[:1]]
            while ended[-1].weights_.min() < MIN_SHARE and len(ended) < len(runs):
                start = runs[len(ended)]
                ended.append(run(start.means_, start.precisions_, start.weights_, LONG_RUN))
        except (ValueError, np.linalg.LinAlgError) as error:
            raise FitFailedError(f"scikit-learn: {error}") from error
    best = ended[-1]
    if not best.converged_:
        raise FitFailedError(f"scikit-learn: no convergence in {LONG_RUN} iterations")
    path = best.predict(problem.x)
    transition = counted_transitions(path, problem.n_states)
    return Fit(best.means_, best.covariances_, best.weights_, transition, best.weights_, float(best.lower_bound_))


METHOD = StatesMethod("gmm", "memoryless", signed_features, fit)
