"""The state machine by hand, and the odds of tomorrow's label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from majors_alts_pipeline.regime.hysteresis import odds, paths

NAN = float("nan")


def run(score: list[float], enter: float = 1.0, leave: float = 0.4, dwell: int = 1) -> list[int]:
    return paths(np.array(score)[:, None], np.array([enter]), np.array([leave]), np.array([dwell]))[:, 0].tolist()


def test_a_side_is_entered_at_enter_and_left_below_leave() -> None:
    assert run([0, 0.9, 1.0, 0.5, 0.4, 0.39, 0.9]) == [0, 0, 1, 1, 1, 0, 0]
    assert run([0, -0.9, -1.0, -0.5, -0.4, -0.39, -0.9]) == [0, 0, -1, -1, -1, 0, 0]


def test_a_direct_flip_is_allowed_and_a_score_of_the_other_sign_leaves() -> None:
    assert run([0, 1.2, -1.2, 1.2]) == [0, 1, -1, 1]
    assert run([0, 1.2, -0.5]) == [0, 1, 0]
    assert run([0, 1.2, 0.0, -0.1], leave=0.0) == [0, 1, 1, 0]


def test_dwell_holds_a_state_and_counts_from_inception() -> None:
    assert run([2, 2, 2, -2, -2, -2, 0, 0, 0], dwell=3) == [0, 0, 0, -1, -1, -1, 0, 0, 0]
    assert run([0, 0, 0, 2, -2, -2, -2], dwell=3) == [0, 0, 0, 1, 1, 1, -1]


def test_without_a_score_the_state_is_the_middle_at_once() -> None:
    assert run([0, 0, 0, 2, NAN, 2, 2, 2], dwell=3) == [0, 0, 0, 1, 0, 0, 0, 1]
    assert run([NAN] * 4) == [0, 0, 0, 0]


def test_a_constant_score_gives_one_label() -> None:
    assert set(run([1.5] * 50)[1:]) == {1}
    assert set(run([0.5] * 50)) == {0}


@given(
    scores=st.lists(st.floats(-3, 3) | st.just(NAN), min_size=1, max_size=60),
    dwell=st.integers(1, 6),
    ratio=st.floats(0, 0.95),
)
def test_runs_last_the_dwell_and_machines_do_not_disturb_each_other(
    scores: list[float], dwell: int, ratio: float
) -> None:
    alone = run(scores, 0.5, 0.5 * ratio, dwell)
    both = paths(np.column_stack([scores, scores[::-1]]), np.full(2, 0.5), np.full(2, 0.5 * ratio), np.full(2, dwell))
    assert both[:, 0].tolist() == alone
    lasted = 0
    for t, state in enumerate(alone):
        if t and state != alone[t - 1]:
            assert lasted >= dwell or np.isnan(scores[t])
            lasted = 0
        lasted += 1


def test_odds_are_those_of_a_normal_around_the_score() -> None:
    high, middle, low = odds(0.2, 0.3, 0, 0.5, 0.1)
    assert high == pytest.approx(norm.sf(0.5, 0.2, 0.3), abs=1e-14)
    assert low == pytest.approx(norm.cdf(-0.5, 0.2, 0.3), abs=1e-14)
    assert odds(0.2, 0.3, 1, 0.5, 0.1)[0] == pytest.approx(norm.sf(0.1, 0.2, 0.3), abs=1e-14)
    assert odds(-0.2, 0.3, -1, 0.5, 0.1)[2] == pytest.approx(norm.cdf(-0.1, -0.2, 0.3), abs=1e-14)
    assert odds(0.6, 0.0, 0, 0.5, 0.1) == (1.0, 0.0, 0.0)
    assert high + middle + low == pytest.approx(1.0, abs=1e-15)


@given(
    score=st.floats(-3, 3), sd=st.floats(0, 2), state=st.sampled_from([1, 0, -1]),
    enter=st.floats(0.05, 2), ratio=st.floats(0, 0.95),
)  # fmt: skip
def test_odds_sum_to_one(score: float, sd: float, state: int, enter: float, ratio: float) -> None:
    chances = odds(score, sd, state, enter, enter * ratio)
    assert all(0 <= p <= 1 for p in chances)
    assert sum(chances) == pytest.approx(1.0, abs=1e-12)
