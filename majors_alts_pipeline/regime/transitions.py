"""Where a named state goes: counted transitions, tilted towards CRISIS by the volatility forecast.

For each horizon h its own model of the state h days ahead, so that no Markov property is claimed:

    P(s_{t+h} = CRISIS | s_t = i, v_t) = logistic(a + b_i + c v_t)                  ridge logistic regression
    P(s_{t+h} = j | s_t = i, not CRISIS) = (n_ij + k p_j) / (n_i + k)               counts, shrunk to climatology

v_t is the log of the forecast volatility over its median in training; p_j is the share of j among the days that are
not CRISIS, one added to each count (Laplace). Every row of probabilities is positive and sums to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from majors_alts_pipeline.regime.states import FitFailedError, complaints

_MAX_ITERATIONS = 200


@dataclass(frozen=True)
class Transition:
    """One horizon's fitted model; `special` is the last state.

    Attributes:
        intercept: a.
        state: b, one per state.
        volatility: c.
        others: [i][j] chances of j given i and that the last state does not come.
    """

    intercept: float
    state: list[float]
    volatility: float
    others: list[list[float]]

    def probabilities(self, state: np.ndarray, volatility: np.ndarray) -> np.ndarray:
        """(n, states) from (n,) states of today and (n,) log relative volatilities."""
        log_odds = self.intercept + np.array(self.state)[state] + self.volatility * volatility
        special = 1.0 / (1.0 + np.exp(-log_odds))
        return np.column_stack([(1.0 - special)[:, None] * np.array(self.others)[state], special])


def fit_transition(
    state: np.ndarray, volatility: np.ndarray, horizon: int, n_states: int, prior_strength: float
) -> Transition:
    """Fit one horizon on a past path.

    Args:
        state: (days,) 0 to n_states - 1, the last one being CRISIS; -1 where unknown. A pair counts when both of its
            days are known.
        volatility: (days,) v, finite where the state is known.
        horizon: h, days.
        n_states: number of states.
        prior_strength: k, days.

    Raises:
        FitFailedError: the logistic regression did not converge.
    """
    now, then = state[:-horizon], state[horizon:]
    both = (now >= 0) & (then >= 0)
    now, then, volatility = now[both], then[both], volatility[:-horizon][both]
    special = then == n_states - 1
    counts = np.zeros((n_states, n_states - 1))
    np.add.at(counts, (now[~special], then[~special]), 1.0)
    climatology = counts.sum(axis=0) + 1.0
    climatology = climatology / climatology.sum()
    others = (counts + prior_strength * climatology) / (counts.sum(axis=1, keepdims=True) + prior_strength)
    return Transition(*_logistic(now, volatility, special, n_states), others.tolist())


def _logistic(
    now: np.ndarray, volatility: np.ndarray, special: np.ndarray, n_states: int
) -> tuple[float, list[float], float]:
    """a, b and c. Where the outcome never varied, b and c are 0 and a is (k + 1/2) / (n + 1) in log odds."""
    if not 0 < special.sum() < len(special):
        rate = (special.sum() + 0.5) / (len(special) + 1.0)
        return float(np.log(rate / (1.0 - rate))), [0.0] * n_states, 0.0
    from sklearn.linear_model import LogisticRegression

    x = np.column_stack([np.eye(n_states)[now], volatility])
    with complaints() as said:
        model = LogisticRegression(solver="newton-cholesky", max_iter=_MAX_ITERATIONS, tol=1e-10).fit(x, special)
    if said:
        raise FitFailedError(f"logistic regression: {said[0]}")
    *by_state, by_volatility = (float(value) for value in model.coef_[0])
    return float(model.intercept_[0]), by_state, by_volatility
