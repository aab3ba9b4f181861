"""Choosing by grid is judged on folds it did not see: unbiased on noise, purged, and convinced by a planted point."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from regime_frames import START, settings_of, window_of

from majors_alts_pipeline.config import ConfigError, Settings
from majors_alts_pipeline.regime.walkforward import Paper, Training, last_training_day, paper_accounts, train

DAYS, CANDIDATES = 420, 30


def settings_with(folds: int = 5, horizon: int = 5, margin: float = 1.0) -> Settings:
    return settings_of(inner_folds=folds, label_horizon_days=horizon, selection_margin=margin, switch_cost=0.0)


def noise(seed: int, days: int = DAYS, candidates: int = CANDIDATES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random on/off exposures of some persistence, iid forward returns, and days without information."""
    rng = np.random.default_rng(seed)
    exposure = np.repeat(rng.random((days // 7 + 1, candidates)) < 0.5, 7, axis=0)[:days].astype(float)
    informed = (np.arange(days) >= 20) & (rng.random(days) > 0.05)
    return exposure, 0.01 * rng.standard_normal(days), informed


def trained(paper: Paper, settings: Settings, refit: date | None = None) -> Training:
    window = window_of(len(paper.pnl))
    return train(paper, window, [refit or window.end], settings)[0]


def t_statistic(pnl: np.ndarray, horizon: int) -> float:
    return float(pnl.mean() / (pnl.std(ddof=1) / np.sqrt(len(pnl) / horizon))) if pnl.any() else 0.0


@given(seed=st.integers(0, 10_000), folds=st.integers(2, 7), horizon=st.integers(1, 8))
def test_it_is_the_slow_obvious_nested_cross_validation(seed: int, folds: int, horizon: int) -> None:
    settings = settings_with(folds, horizon)
    exposure, forward, informed = noise(seed, 160, 6)
    paper = paper_accounts(exposure, forward, informed, 0.001)
    result = trained(paper, settings)
    assert result.objective is not None
    assert result.nested is not None

    known = np.nonzero(informed[: result.last_row + 1])[0]
    purge = settings.backtest.execution_lag_days + horizon
    held_out, winners = [], []
    borders = [known[k * len(known) // folds] for k in range(folds)] + [result.last_row + 1]
    for first, after in pairwise(borders):
        fold = known[(known >= first) & (known < after)]
        others = known[(known < first - purge) | (known >= after + purge)]
        scores = [t_statistic(paper.pnl[others, c], horizon) for c in range(6)]
        winners.append(int(np.argmax(scores)))
        held_out.append(paper.pnl[fold, winners[-1]])
    joined, default = np.concatenate(held_out), paper.pnl[known, 0]
    assert result.nested.winners.tolist() == winners
    assert result.nested.objective == pytest.approx(t_statistic(joined, horizon), rel=1e-8, abs=1e-10)
    correlation = np.corrcoef(joined, default)[0, 1]
    assert result.nested.error == pytest.approx(np.sqrt(max(2 * (1 - correlation), 0.0)), abs=1e-6)
    ahead = result.nested.objective - result.objective[0]
    assert result.chosen == (result.best if ahead > result.nested.error else 0)


def test_on_noise_the_nested_estimate_is_centred_at_zero_and_the_in_sample_one_is_not() -> None:
    settings = settings_with(horizon=1)
    results = [trained(paper_accounts(*noise(seed), 0.0), settings) for seed in range(200)]
    in_sample = np.array([result.objective[result.best] for result in results])
    nested = np.array([result.nested.objective for result in results])
    error = nested.std(ddof=1) / np.sqrt(len(nested))
    assert abs(nested.mean()) < 3 * error
    assert nested.std(ddof=1) == pytest.approx(1.0, abs=0.2)
    assert in_sample.mean() > 1.2
    # One standard error ahead: one time in six, if the difference is normal and the error right.
    replaced = np.mean([result.chosen != 0 for result in results])
    assert 0.04 < replaced < 0.30


def test_a_planted_point_of_the_grid_is_chosen() -> None:
    hits = 0
    for seed in range(20):
        exposure, forward, informed = noise(seed)
        forward += 0.008 * (exposure[:, 17] - 0.5)
        hits += trained(paper_accounts(exposure, forward, informed, 0.0), settings_with(horizon=1)).chosen == 17
    assert hits >= 18


def test_a_grid_that_equals_the_defaults_changes_nothing() -> None:
    exposure, forward, informed = noise(1)
    same = np.repeat(exposure[:, :1], CANDIDATES, axis=1)
    result = trained(paper_accounts(same, forward, informed, 0.0), settings_with(margin=0.0))
    assert result.nested.objective == pytest.approx(result.objective[0], rel=1e-12)
    assert result.nested.error == pytest.approx(0.0, abs=1e-6)
    assert result.chosen == 0


def test_a_larger_margin_never_replaces_more_often() -> None:
    chosen = []
    for margin in (0.0, 1.0, 3.0):
        papers = [paper_accounts(*noise(seed), 0.0) for seed in range(40)]
        chosen.append(
            {seed for seed, paper in enumerate(papers) if trained(paper, settings_with(margin=margin)).chosen}
        )
    assert chosen[2] < chosen[1] < chosen[0]


def test_decisions_in_the_purge_choose_no_candidate() -> None:
    settings = settings_with()
    exposure, forward, informed = noise(2)
    informed[:] = True
    paper = paper_accounts(exposure, forward, informed, 0.0)
    base = trained(paper, settings)
    n, purge = base.n_obs, settings.backtest.execution_lag_days + settings.regime.label_horizon_days
    borders = np.arange(6) * n // 5

    def winners_after(rows: slice) -> list[int]:
        """Make candidate 9 a great success on some days."""
        pnl = paper.pnl.copy()
        pnl[rows, 9] += 0.5
        sums = [np.concatenate([np.zeros((1, CANDIDATES)), np.cumsum(x, axis=0)]) for x in (pnl, pnl * pnl)]
        return trained(Paper(pnl, paper.count, *sums), settings).nested.winners.tolist()

    fold = 2
    before, after = borders[fold], borders[fold + 1]
    for rows in (slice(before - purge, before), slice(before, after), slice(after, after + purge)):
        assert winners_after(rows)[fold] == base.nested.winners[fold]
    assert winners_after(slice(before - purge - 40, before - purge))[fold] == 9
    assert winners_after(slice(after + purge, after + purge + 40))[fold] == 9


@pytest.mark.parametrize("refit", [START + timedelta(days=200), START + timedelta(days=301)])
def test_a_refit_date_gives_the_same_bits_whatever_was_loaded_after_it(refit: date) -> None:
    exposure, forward, informed = noise(3)
    whole = trained(paper_accounts(exposure, forward, informed, 0.001), settings_with(), refit)
    stop = (refit - START).days + 1
    unknown = np.where(np.arange(stop) > whole.last_row, np.nan, forward[:stop])
    cut = trained(paper_accounts(exposure[:stop], unknown, informed[:stop], 0.001), settings_with(), refit)
    assert last_training_day(refit, settings_with()) == START + timedelta(days=whole.last_row)
    assert cut.objective.tobytes() == whole.objective.tobytes()
    assert (cut.nested.objective, cut.nested.error) == (whole.nested.objective, whole.nested.error)
    assert cut.note == whole.note


def test_some_of_the_candidates_are_judged_as_if_they_were_all() -> None:
    exposure, forward, informed = noise(4)
    few = np.array([5, 3, 8, 21])
    alone = trained(paper_accounts(np.ascontiguousarray(exposure[:, few]), forward, informed, 0.001), settings_with())
    among = trained(paper_accounts(exposure, forward, informed, 0.001).of(few), settings_with())
    assert alone.objective.tobytes() == among.objective.tobytes()
    assert alone.note == among.note


def test_folds_that_the_purge_would_empty_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="min_train_days 60: too few for 2 inner_folds purged of 31 days"):
        settings_with(folds=2, horizon=30)
