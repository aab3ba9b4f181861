"""Refit calendar, purged expanding training windows and their objective, for any method with candidates.

Everything is a left-to-right cumulative sum from inception read at the last training day of each refit date,
so a refit date gives the same bits whatever was loaded after it.
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
class Training:
    """The training sample of one refit date.

    Attributes:
        refit: the refit date.
        last_row: row of the last training decision, -1 when there is none.
        n_obs: training decisions with information.
        objective: (candidates,) t-statistics, None when n_obs is below `regime.min_train_days`.
    """

    refit: date
    last_row: int
    n_obs: int
    objective: np.ndarray | None

    @property
    def chosen(self) -> int:
        """Candidate in force: best objective, lowest number on ties; 0 while the history is too short."""
        return 0 if self.objective is None else int(np.argmax(self.objective))

    @property
    def in_force(self) -> str:
        """Say whether the choice was learned."""
        return "default" if self.objective is None else "walk_forward"


def refit_dates(window: Window, refit: str) -> list[date]:
    """First day of the window and the first day of each month or quarter inside it."""
    months = (1, 4, 7, 10) if refit == "quarter" else tuple(range(1, 13))
    return [day for day in window.days() if day == window.start or (day.day == 1 and day.month in months)]


def last_training_day(refit: date, settings: Settings) -> date:
    """Last decision whose forward return is known by the close before `refit` (the purge)."""
    return refit - timedelta(days=1 + settings.backtest.execution_lag_days + settings.regime.label_horizon_days)


def train(
    exposure: np.ndarray,
    forward_return: np.ndarray,
    informed: np.ndarray,
    window: Window,
    dates: list[date],
    settings: Settings,
) -> list[Training]:
    """Objective of every candidate at every refit date.

    The paper P&L of a decision is exposure x forward return - switch_cost x |exposure change|. Its
    t-statistic is mean / (sd / sqrt(n / h)): decisions overlap for h = label_horizon_days days, so n of them
    hold n / h independent ones (exact for constant exposure and independent daily returns).

    Args:
        exposure: (days, candidates) share of the book each candidate holds from the day's decision.
        forward_return: (days,) see `History`.
        informed: (days,) bool, days on which there is something to decide by; others do not count.
        window: days of the rows, from inception.
        dates: refit dates.
        settings: regime and backtest.
    """
    switched = np.abs(np.diff(exposure, axis=0, prepend=0.0))
    usable = informed & ~np.isnan(forward_return)
    earned = exposure * np.where(usable, forward_return, 0.0)[:, None]
    pnl = np.where(usable[:, None], earned - settings.regime.switch_cost * switched, 0.0)
    count, total, squares = np.cumsum(usable), np.cumsum(pnl, axis=0), np.cumsum(pnl * pnl, axis=0)
    trainings = []
    for refit in dates:
        row = (last_training_day(refit, settings) - window.start).days
        n = int(count[row]) if row >= 0 else 0
        enough = n >= max(settings.regime.min_train_days, 2)
        objective = _t_statistic(total[row], squares[row], n, settings) if enough else None
        trainings.append(Training(refit, max(row, -1), n, objective))
    return trainings


def _t_statistic(total: np.ndarray, squares: np.ndarray, n: int, settings: Settings) -> np.ndarray:
    """(candidates,) t-statistics; 0 for a candidate that never traded."""
    mean = total / n
    variance = np.maximum((squares - n * mean * mean) / (n - 1), ROUNDING * squares / n)
    error = np.sqrt(variance * settings.regime.label_horizon_days / n)
    return np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
