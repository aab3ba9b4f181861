"""State probabilities: what was known on the day (filtered), and with hindsight (smoothed), as two types.

`FilteredProbabilities` comes out of the forward recursions here and of nothing else, and only it becomes labels
(`states.label_path`); `SmoothedProbabilities` is for drawing. A row of the forward recursions depends on the
rows before it and on nothing after it, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numba import njit

LOG_2PI = float(np.log(2.0 * np.pi))
_FORWARD = object()


@final
class FilteredProbabilities:
    """P(state of day t | data up to day t); made by `forward` and `forward_costs` only.

    Attributes:
        values: (days, states), rows summing to 1, read-only.
        log_likelihood: (days,) log predictive density of each day's data, 0 on a day without data; all NaN
            where the recursion is over costs, which have no likelihood.

    Raises:
        TypeError: somebody else tries to make one.
    """

    __slots__ = ("log_likelihood", "values")

    def __init__(self, values: np.ndarray, log_likelihood: np.ndarray, made_by: object) -> None:
        if made_by is not _FORWARD:
            raise TypeError("filtered probabilities are made by the forward recursion only")
        values.setflags(write=False)
        self.values = values
        self.log_likelihood = log_likelihood


@final
@dataclass(frozen=True)
class SmoothedProbabilities:
    """P(state of day t | all data): hindsight, for figures that say so. No label accepts it.

    Attributes:
        values: (days, states), rows summing to 1.
    """

    values: np.ndarray


@njit(cache=True)
def log_density(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density of each day under each state's diagonal Gaussian; an unknown coordinate is integrated out.

    Args:
        x: (days, d), NaN where unknown.
        mean: (states, d).
        variance: (states, d).

    Returns:
        (days, states), 0 on days with nothing known; (days,) int32 coordinates known.
    """
    days, d = x.shape
    states = mean.shape[0]
    out = np.zeros((days, states))
    known = np.zeros(days, dtype=np.int32)
    for t in range(days):
        for c in range(d):
            if np.isnan(x[t, c]):
                continue
            known[t] += 1
            for s in range(states):
                gap = x[t, c] - mean[s, c]
                out[t, s] -= 0.5 * (LOG_2PI + np.log(variance[s, c]) + gap * gap / variance[s, c])
    return out, known


def forward(
    density: np.ndarray, known: np.ndarray, transition: np.ndarray, first: np.ndarray, memoryless: bool = False
) -> FilteredProbabilities:
    """Hamilton (1989) filter in logs.

    Args:
        density: (days, states) log densities of the day's data given the state.
        known: (days,) data known on the day; with 0 the day is a prediction step.
        transition: (states, states), rows sum to 1.
        first: (states,) distribution of the first day before its data.
        memoryless: a mixture: each day with data starts from `first` again; `transition` serves days without.
    """
    values, increments = _forward(np.ascontiguousarray(density), known, transition, first, memoryless)
    return FilteredProbabilities(values, increments, _FORWARD)


@njit(cache=True)
def _forward(
    density: np.ndarray, known: np.ndarray, transition: np.ndarray, first: np.ndarray, memoryless: bool
) -> tuple[np.ndarray, np.ndarray]:
    days, states = density.shape
    out = np.empty((days, states))
    increments = np.zeros(days)
    predicted = np.empty(states)
    for t in range(days):
        for s in range(states):
            if t == 0 or (memoryless and known[t] > 0):
                predicted[s] = first[s]
            else:
                predicted[s] = 0.0
                for r in range(states):
                    predicted[s] += out[t - 1, r] * transition[r, s]
        if known[t] == 0:
            out[t] = predicted
            continue
        highest = -np.inf
        for s in range(states):
            if predicted[s] > 0.0:
                highest = max(highest, np.log(predicted[s]) + density[t, s])
        total = 0.0
        for s in range(states):
            out[t, s] = np.exp(np.log(predicted[s]) + density[t, s] - highest) if predicted[s] > 0.0 else 0.0
            total += out[t, s]
        for s in range(states):
            out[t, s] /= total
        increments[t] = highest + np.log(total)
    return out, increments


def forward_costs(cost: np.ndarray, penalty: float, temperature: float) -> FilteredProbabilities:
    """Online inference of a jump model (Shu, Yu & Mulvey 2024): value recursion, then a Gibbs distribution.

    V_t(s) = cost_t(s) + min_r (V_{t-1}(r) + penalty 1[r != s]); p_t(s) is proportional to
    exp(-V_t(s) / temperature). The most probable state is the one with the lowest V, `predict_online` of
    jumpmodels. V is the cost of the best path into s, so p is a max-marginal, not a sum over paths.

    Args:
        cost: (days, states), 0 on days with nothing known.
        penalty: cost of a jump.
        temperature: variance of a coordinate around its state's centre, which turns half squared distances
            into Gaussian log densities.
    """
    values = _forward_costs(np.ascontiguousarray(cost), penalty)
    return FilteredProbabilities(_gibbs(values, temperature), np.full(len(cost), np.nan), _FORWARD)


@njit(cache=True)
def _forward_costs(cost: np.ndarray, penalty: float) -> np.ndarray:
    days, states = cost.shape
    out = np.empty((days, states))
    for t in range(days):
        lowest = out[t - 1].min() if t > 0 else 0.0
        for s in range(states):
            # Only differences matter: taking the minimum off every day keeps them exact over years.
            before = min(out[t - 1, s] - lowest, penalty) if t > 0 else 0.0
            out[t, s] = before + cost[t, s]
    return out


@njit(cache=True)
def _gibbs(values: np.ndarray, temperature: float) -> np.ndarray:
    days, states = values.shape
    out = np.empty((days, states))
    for t in range(days):
        lowest = values[t].min()
        total = 0.0
        for s in range(states):
            out[t, s] = np.exp(-(values[t, s] - lowest) / temperature)
            total += out[t, s]
        for s in range(states):
            out[t, s] /= total
    return out


def smooth(filtered: FilteredProbabilities, transition: np.ndarray) -> SmoothedProbabilities:
    """Kim (1994) smoother of a Markov chain: looks ahead, hence hindsight.

    Args:
        filtered: of `forward` with the same transition.
        transition: (states, states).
    """
    return SmoothedProbabilities(_smooth(filtered.values, transition))


@njit(cache=True)
def _smooth(filtered: np.ndarray, transition: np.ndarray) -> np.ndarray:
    days, states = filtered.shape
    out = filtered.copy()
    ratio = np.empty(states)
    for t in range(days - 2, -1, -1):
        for s in range(states):
            predicted = 0.0
            for r in range(states):
                predicted += filtered[t, r] * transition[r, s]
            ratio[s] = out[t + 1, s] / predicted if predicted > 0.0 else 0.0
        for r in range(states):
            ahead = 0.0
            for s in range(states):
                ahead += transition[r, s] * ratio[s]
            out[t, r] = filtered[t, r] * ahead
    return out


def smooth_costs(cost: np.ndarray, penalty: float, temperature: float) -> SmoothedProbabilities:
    """Jump model with hindsight: the cost of the best whole path through each state; see `forward_costs`."""
    ahead = _forward_costs(np.ascontiguousarray(cost[::-1]), penalty)[::-1]
    whole = _forward_costs(np.ascontiguousarray(cost), penalty) + ahead - cost
    return SmoothedProbabilities(_gibbs(whole, temperature))


def as_hindsight(filtered: FilteredProbabilities) -> SmoothedProbabilities:
    """Probabilities of a mixture under a model fitted later: later data cannot sharpen the day, the model saw it."""
    return SmoothedProbabilities(filtered.values)
