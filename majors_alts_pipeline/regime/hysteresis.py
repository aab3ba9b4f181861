"""From a score or from probabilities to a label: hysteresis, minimum dwell, and the odds of tomorrow's label."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SQRT2 = math.sqrt(2.0)

SIDES = (0, 1, -1)
"""Order of the columns of three-label probabilities; BALANCED first, so that exact ties go to it."""


def step(
    state: np.ndarray,
    days: np.ndarray,
    score: np.ndarray,
    enter: np.ndarray,
    leave: np.ndarray,
    min_dwell: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Advance state machines by one day; every argument has one element per machine.

    A side is entered when the score reaches +enter (state 1) or -enter (state -1), directly from the other
    side too, and left for the middle (state 0) when the score falls back through `leave` on the same side. A
    state must have lasted `min_dwell` days before it may change. A day without a score (NaN) is state 0 at
    once, whatever the dwell: nothing is known.

    Args:
        state: 1, 0 or -1 of the day before.
        days: days that state had lasted.
        score: the day's score, NaN when there is none.
        enter: entry thresholds, > 0.
        leave: exit thresholds, in [0, enter).
        min_dwell: days.

    Returns:
        state of the day, and days it has lasted, this one included.
    """
    unknown = np.isnan(score)
    stay = ((state == 1) & (score >= leave)) | ((state == -1) & (score <= -leave))
    target = np.where(score >= enter, 1, np.where(score <= -enter, -1, np.where(stay, state, 0)))
    target = np.where((days >= min_dwell) | unknown, target, state)
    return target, np.where(target == state, days + 1, 1)


def walk(
    score: np.ndarray, enter: np.ndarray, leave: np.ndarray, min_dwell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States of several machines from inception, and how long each has lasted.

    Args:
        score: (days, machines), NaN where there is none.
        enter: (machines,), or (days, machines) where a machine's thresholds change from day to day.
        leave: as `enter`.
        min_dwell: as `enter`.

    Returns:
        (days, machines) int8 of 1, 0, -1, and (days, machines) days the state has lasted, the day included. Cost
        O(days) vector operations of the machines' width.
    """
    states = np.zeros(score.shape, dtype=np.int8)
    lasted = np.zeros(score.shape, dtype=np.int64)
    enter, leave, min_dwell = (np.broadcast_to(values, score.shape) for values in (enter, leave, min_dwell))
    state, days = start(score.shape[1])
    for row in range(score.shape[0]):
        state, days = step(state, days, score[row], enter[row], leave[row], min_dwell[row])
        states[row], lasted[row] = state, days
    return states, lasted


def paths(score: np.ndarray, enter: np.ndarray, leave: np.ndarray, min_dwell: np.ndarray) -> np.ndarray:
    """(days, machines) states alone; see `walk`."""
    return walk(score, enter, leave, min_dwell)[0]


def start(machines: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the state before the first day: the middle, which must still last its dwell."""
    return np.zeros(machines, dtype=np.int64), np.zeros(machines, dtype=np.int64)


def odds(score: float, sd: float, state: int, enter: float, leave: float) -> tuple[float, float, float]:
    """Odds that a score drawn from N(score, sd^2) asks for state 1, 0, -1, given the state it meets.

    The dwell is left out. With sd = 0 all the weight is where the score itself points.

    Returns:
        (p_1, p_0, p_-1), summing to 1.
    """
    up = leave if state == 1 else enter
    down = -leave if state == -1 else -enter
    high = _share_above(up, score, sd)
    low = _share_above(-down, -score, sd)
    middle = max(0.0, 1.0 - high - low)
    return high, middle, low


def _share_above(threshold: float, mean: float, sd: float) -> float:
    if sd == 0.0:
        return float(mean >= threshold)
    return 0.5 * math.erfc((threshold - mean) / (sd * SQRT2))


@njit(cache=True)
def label_path(probability: np.ndarray, margin: float, min_dwell: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the three-label probabilities from inception, with hysteresis and dwell.

    The label in force gives way to the most probable one when that leads it by `margin` and the label has
    lasted `min_dwell` days.

    Args:
        probability: (days, 3) in the order of `SIDES`.
        margin: probability.
        min_dwell: days.

    Returns:
        (days,) int8 of 1, 0, -1; (days,) int32 days the label has lasted, the day included.
    """
    days = probability.shape[0]
    label = np.zeros(days, dtype=np.int8)
    lasted = np.zeros(days, dtype=np.int32)
    held, age = 0, 0
    for t in range(days):
        best = int(np.argmax(probability[t]))
        if best != held and age >= min_dwell and probability[t, best] - probability[t, held] >= margin:
            held, age = best, 0
        age += 1
        label[t] = held if held < 2 else -1
        lasted[t] = age
    return label, lasted
