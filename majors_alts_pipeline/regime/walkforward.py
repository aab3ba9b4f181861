"""Refit calendar, purged expanding training windows, and nested selection, for any method with candidates.

The best of many candidates looks good in the sample it was chosen in even when all are worthless. So the *act of
choosing* is judged: the training window is cut into contiguous folds, the choice is made on the other folds and
scored on the one held out (nested cross-validation: Stone 1974; Varma & Simon 2006), and the best of the grid
replaces the defaults only when that estimate beats theirs by more than its standard error (the one-standard-error
rule of Breiman et al. 1984: the simpler model unless the other is better by more than noise).

Everything is a left-to-right cumulative sum from inception read at the borders of the folds, so a refit date gives
the same bits whatever was loaded after it, and costs O(folds x candidates) beyond the sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings

ROUNDING = 1e-12
"""Variance below this share of the mean square is rounding: the objective stays finite for constant P&L."""


@dataclass(frozen=True)
class Nested:
    """What choosing by grid was worth on folds the choice did not see.

    Attributes:
        objective: t-statistic of the paper P&L put together from the held-out folds, each under the candidate
            that was best on the others.
        error: standard error of its difference to the defaults' t-statistic, sqrt(2 (1 - correlation of the two
            daily P&L)): two t-statistics have a variance of 1 each (leading term of Memmel 2003).
        winners: (folds,) candidate chosen for each fold.
    """

    objective: float
    error: float
    winners: np.ndarray


@dataclass(frozen=True)
class Training:
    """The training sample of one refit date.

    Attributes:
        refit: the refit date.
        last_row: row of the last training decision, -1 when there is none.
        n_obs: training decisions with information.
        objective: (candidates,) t-statistics, None when n_obs is below `regime.min_train_days`.
        nested: the choice by grid, out of fold; None with `objective`.
        margin: `regime.selection_margin`.
    """

    refit: date
    last_row: int
    n_obs: int
    objective: np.ndarray | None
    nested: Nested | None
    margin: float

    @property
    def best(self) -> int:
        """Candidate with the best objective in sample, lowest number on ties."""
        return 0 if self.objective is None else int(np.argmax(self.objective))

    @property
    def chosen(self) -> int:
        """Candidate in force.

        The best of the grid if the out-of-fold objective of choosing by grid exceeds the defaults' objective by
        more than `margin` standard errors of the difference; else the defaults, candidate 0. Nothing is chosen for
        the defaults, so that their objective is out of sample on every fold.
        """
        if self.objective is None or self.nested is None:
            return 0
        ahead = self.nested.objective - float(self.objective[0])
        return self.best if ahead > self.margin * self.nested.error else 0

    @property
    def in_force(self) -> str:
        """Say whether the choice was learned, be it for the defaults."""
        return "default" if self.objective is None else "walk_forward"

    @property
    def note(self) -> str:
        """The decision in words."""
        if self.objective is None or self.nested is None:
            return ""
        verdict = f"candidate {self.best} replaces the defaults" if self.chosen else "the defaults stay"
        return (
            f"best of the grid in sample: candidate {self.best}, t {self.objective[self.best]:.2f}; choosing by grid "
            f"out of fold: t {self.nested.objective:.2f}; defaults: t {self.objective[0]:.2f}; standard error of the "
            f"difference {self.nested.error:.2f}: {verdict}"
        )


def calendar_refits(window: Window, refit: str) -> list[date]:
    """First day of the window and the first day of each month or quarter inside it."""
    months = (1, 4, 7, 10) if refit == "quarter" else tuple(range(1, 13))
    return [day for day in window.days() if day == window.start or (day.day == 1 and day.month in months)]


def last_training_day(refit: date, settings: Settings) -> date:
    """Last decision whose forward return is known by the close before `refit` (the purge)."""
    return refit - timedelta(days=1 + settings.backtest.execution_lag_days + settings.regime.label_horizon_days)


@dataclass(frozen=True)
class Paper:
    """Paper accounts of candidates: their daily P&L and its sums from inception.

    Attributes:
        pnl: (days, candidates) exposure x forward return - switch_cost x |exposure change|, decimal of NAV; 0 on
            days that do not count.
        count: (days + 1,) days that count before each row.
        total: (days + 1, candidates) P&L before each row.
        squares: as `total`, of the squared P&L.
    """

    pnl: np.ndarray
    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    def of(self, candidates: np.ndarray) -> Paper:
        """Keep some candidates only, in the order of their column numbers given."""
        return Paper(self.pnl[:, candidates], self.count, self.total[:, candidates], self.squares[:, candidates])


def paper_accounts(exposure: np.ndarray, forward_return: np.ndarray, informed: np.ndarray, switch_cost: float) -> Paper:
    """Paper accounts of every candidate.

    Args:
        exposure: (days, candidates) share of the book each candidate holds from the day's decision.
        forward_return: (days,) see `History`.
        informed: (days,) bool, days on which there is something to decide by; others do not count.
        switch_cost: of turning the whole book on or off, decimal of NAV.
    """
    switched = np.abs(np.diff(exposure, axis=0, prepend=0.0))
    usable = informed & ~np.isnan(forward_return)
    earned = exposure * np.where(usable, forward_return, 0.0)[:, None]
    pnl = np.where(usable[:, None], earned - switch_cost * switched, 0.0)
    return Paper(pnl, _before(usable), _before(pnl), _before(pnl * pnl))


def _before(values: np.ndarray) -> np.ndarray:
    """Sum of the rows before each row, added from inception; one row more than `values`."""
    return np.concatenate(
        [np.zeros_like(values[:1], dtype=np.result_type(values, np.int64)), np.cumsum(values, axis=0)]
    )


def train(paper: Paper, window: Window, dates: list[date], settings: Settings) -> list[Training]:
    """Objective of every candidate, and of choosing among them, at every refit date.

    The objective is the t-statistic of the paper P&L, mean / (sd / sqrt(n / h)): decisions overlap for
    h = label_horizon_days days, so n of them hold n / h independent ones (exact for constant exposure and
    independent daily returns).

    Args:
        paper: accounts of the candidates, candidate 0 being the defaults; a row of a decision whose outcome is not
            known counts for nothing.
        window: days of the rows, from inception.
        dates: refit dates.
        settings: sections regime and backtest.
    """
    horizon, margin = settings.regime.label_horizon_days, settings.regime.selection_margin
    trainings = []
    for refit in dates:
        row = (last_training_day(refit, settings) - window.start).days
        end = max(row + 1, 0)
        n = int(paper.count[end])
        if n < settings.regime.min_train_days:
            trainings.append(Training(refit, max(row, -1), n, None, None, margin))
            continue
        objective = _t_statistic(paper.total[end], paper.squares[end], n, horizon)
        nested = _nested(paper, end, settings)
        trainings.append(Training(refit, row, n, objective, nested, margin))
    return trainings


def _nested(paper: Paper, end: int, settings: Settings) -> Nested:
    """Choose by grid on all folds but one, less the purge, and keep the P&L of the fold held out.

    Folds are contiguous and hold equal numbers of the decisions that count before row `end`. Purged are the
    execution_lag_days + label_horizon_days decisions on both sides of the fold: the outcome of an earlier one
    reaches into it, and its own outcomes reach into a later one.
    """
    folds, horizon = settings.regime.inner_folds, settings.regime.label_horizon_days
    purge = settings.backtest.execution_lag_days + horizon
    n = int(paper.count[end])
    counted = np.searchsorted(paper.count[1 : end + 1], np.arange(folds + 1) * n // folds + 1)
    first, after = counted[:-1], np.append(counted[1:-1], end)
    low, high = np.maximum(first - purge, 0), np.minimum(after + purge, end)

    def outside(sums: np.ndarray) -> np.ndarray:
        return sums[low] + (sums[end] - sums[high])

    objective = _t_statistic(outside(paper.total), outside(paper.squares), outside(paper.count)[:, None], horizon)
    winners = np.argmax(objective, axis=1)
    total = float(np.cumsum(paper.total[after, winners] - paper.total[first, winners])[-1])
    squares = float(np.cumsum(paper.squares[after, winners] - paper.squares[first, winners])[-1])
    chosen = np.repeat(winners, np.diff(np.append(first, end)))
    rows = np.arange(first[0], end)
    products = float(np.cumsum(paper.pnl[rows, chosen] * paper.pnl[rows, 0])[-1])
    correlation = _correlation(n, total, squares, float(paper.total[end, 0]), float(paper.squares[end, 0]), products)
    found = float(_t_statistic(np.array(total), np.array(squares), n, horizon))
    return Nested(found, float(np.sqrt(max(2.0 * (1.0 - correlation), 0.0))), winners)


def _correlation(n: int, x: float, xx: float, y: float, yy: float, xy: float) -> float:
    """Correlation of two series from their sums; 0 when one does not vary."""
    spread = max(xx - x * x / n, 0.0) * max(yy - y * y / n, 0.0)
    return (xy - x * y / n) / spread**0.5 if spread > 0 else 0.0


def _t_statistic(total: np.ndarray, squares: np.ndarray, n: np.ndarray | int, horizon: int) -> np.ndarray:
    """t-statistics of P&L from its sums over n days, see `train`; 0 for a candidate that never traded."""
    mean = total / n
    variance = np.maximum((squares - n * mean * mean) / (n - 1), ROUNDING * squares / n)
    error = np.sqrt(variance * horizon / n)
    return np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
