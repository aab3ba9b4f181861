"""Method `kmeans`: nearest centre (scikit-learn), each day by itself.

k-means is the hard limit of a mixture of spherical Gaussians of one variance and equal weights. The pooled
variance around the centres makes probabilities of distances: the most probable state is always the nearest
centre, and a day between two centres says so. Transitions are counted along the training days.
"""

from __future__ import annotations

import numpy as np

from majors_alts_pipeline.regime.states import (
    Fit,
    FitFailedError,
    Problem,
    StatesMethod,
    complaints,
    counted_transitions,
    nearest,
    seeded_centres,
    signed_features,
)

ITERATIONS = 300


def fit(problem: Problem) -> Fit:
    """Lloyd's algorithm from every start, the lowest inertia kept; see `StatesMethod`.

    Raises:
        FitFailedError: it did not converge, or there are fewer distinct days than states.
    """
    from sklearn.cluster import KMeans

    with complaints() as said:
        runs = [
            KMeans(problem.n_states, init=centres, n_init=1, max_iter=ITERATIONS).fit(problem.x)
            for centres in seeded_centres(problem)
        ]
    best = min(runs, key=lambda run: float(run.inertia_))
    if best.n_iter_ >= ITERATIONS or any("distinct clusters" in text for text in said):
        raise FitFailedError(f"scikit-learn: no convergence in {ITERATIONS} iterations {'; '.join(said)}".strip())
    return clustered(problem.x, best.cluster_centers_)


def clustered(x: np.ndarray, centres: np.ndarray, path: np.ndarray | None = None) -> Fit:
    """Spherical Gaussians of one variance around the centres, transitions counted along the path."""
    states = len(centres)
    path = nearest(x, centres) if path is None else path
    variance = float(((x - centres[path]) ** 2).mean())
    share = np.bincount(path, minlength=states) / len(path)
    weight = np.full(states, 1.0 / states)
    return Fit(
        centres, np.full(centres.shape, variance), weight, counted_transitions(path, states), share,
        -0.5 * variance * x.shape[1],
    )  # fmt: skip


METHOD = StatesMethod("kmeans", "memoryless", signed_features, fit)
