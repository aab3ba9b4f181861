"""Method `jump`: statistical jump model (jumpmodels; Shu, Yu & Mulvey 2024), online inference.

States are centres, and a path pays `jump_penalty` for every change of state, which is what keeps it from
flickering. Fitted by coordinate descent on the training days, where the path is the best whole one; labels come
from the online recursion, `predict_online`, which knows the days up to its own only
(`filtering.forward_costs`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from majors_alts_pipeline.regime.kmeans import clustered
from majors_alts_pipeline.regime.states import Fit, FitFailedError, Problem, StatesMethod, complaints, signed_features

ITERATIONS = 1000


def fit(problem: Problem) -> Fit:
    """Coordinate descent from k-means++ starts and the model before; see `StatesMethod`.

    Raises:
        FitFailedError: a state is never visited.
    """
    from jumpmodels.jump import JumpModel

    states = problem.settings.regime.states
    model = JumpModel(
        problem.n_states, jump_penalty=states.jump_penalty, n_init=states.starts, random_state=problem.seed,
        max_iter=ITERATIONS,
    )  # fmt: skip
    if problem.warm is not None:
        # jumpmodels takes the centres a model has when `fit` begins as one more start.
        model.centers_ = problem.warm.mean
    with complaints():
        model.fit(problem.x)
    path = np.asarray(model.labels_).astype(np.int64)
    if np.isnan(model.centers_).any() or len(np.unique(path)) < problem.n_states:
        raise FitFailedError("jumpmodels: a state is never visited; a lower jump_penalty or fewer states would help")
    return replace(clustered(problem.x, model.centers_, path), objective=-float(model.val_) / len(path))


METHOD = StatesMethod("jump", "jump", signed_features, fit)
