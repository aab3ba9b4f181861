"""Method `jump`: statistical jump model (jumpmodels; Shu, Yu & Mulvey 2024), online inference.

States are centres, and a path pays `jump_penalty` for every change of state, which is what keeps it from
flickering. Fitted by coordinate descent on the training days, where the path is the best whole one; labels come
from the online recursion, `predict_online`, which knows the days up to its own only
(`filtering.forward_costs`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit

from majors_alts_pipeline.regime.kmeans import clustered
from majors_alts_pipeline.regime.states import Fit, FitFailedError, Problem, StatesMethod, complaints, signed_features

ITERATIONS = 1000
STARTS = 5
"""Starts per `regime.states.starts`: the loss has many local minima."""


def fit(problem: Problem) -> Fit:
    """Coordinate descent from k-means++ starts and the model before; see `StatesMethod`.

    The starts are descended by a compiled twin of the algorithm, and jumpmodels takes the best one over: it
    would need seconds for as many.

    Raises:
        FitFailedError: a state is never visited.
    """
    from jumpmodels.jump import JumpModel
    from sklearn.cluster import kmeans_plusplus

    class FromBest(JumpModel):
        def init_centers(self, X: np.ndarray) -> np.ndarray:
            return best[None]

    penalty = problem.settings.regime.states.jump_penalty
    seeds = np.random.default_rng(problem.seed).integers(2**31, size=STARTS * problem.settings.regime.states.starts)
    starts = [kmeans_plusplus(problem.x, problem.n_states, random_state=int(seed))[0] for seed in seeds]
    if problem.warm is not None:
        starts.append(problem.warm.mean)
    descended = [descend(problem.x, start, penalty) for start in starts]
    best = min(descended, key=lambda run: run[1])[0]
    with complaints():
        model = FromBest(problem.n_states, jump_penalty=penalty, max_iter=ITERATIONS).fit(problem.x)
    path = np.asarray(model.labels_).astype(np.int64)
    if np.isnan(model.centers_).any() or len(np.unique(path)) < problem.n_states:
        raise FitFailedError("jumpmodels: a state is never visited; a lower jump_penalty or fewer states would help")
    return replace(clustered(problem.x, model.centers_, path), objective=-float(model.val_) / len(path))


@njit(cache=True)
def descend(x: np.ndarray, centres: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Alternate best path and centres until the path stays.

    Args:
        x: (n, d) complete.
        centres: (states, d) to start from.
        penalty: cost of a jump.

    Returns:
        (states, d) centres, that of a state never visited unchanged; loss of their best path.
    """
    n, d = x.shape
    states = centres.shape[0]
    centres = centres.copy()
    value = np.empty((n, states))
    came_from = np.empty((n, states), dtype=np.int64)
    path = np.full(n, -1)
    loss = np.inf
    for _ in range(ITERATIONS):
        for t in range(n):
            for s in range(states):
                cost = 0.0
                for c in range(d):
                    cost += 0.5 * (x[t, c] - centres[s, c]) ** 2
                before, origin = 0.0, s
                if t > 0:
                    before = value[t - 1, s]
                    for r in range(states):
                        if value[t - 1, r] + penalty < before:
                            before, origin = value[t - 1, r] + penalty, r
                value[t, s] = before + cost
                came_from[t, s] = origin
        state = np.argmin(value[n - 1])
        loss = value[n - 1, state]
        changed = False
        for t in range(n - 1, -1, -1):
            changed |= path[t] != state
            path[t] = state
            state = came_from[t, state]
        if not changed:
            break
        for s in range(states):
            count = (path == s).sum()
            for c in range(d):
                if count > 0:
                    centres[s, c] = x[:, c][path == s].mean()
    return centres, loss


METHOD = StatesMethod("jump", "jump", signed_features, fit)
