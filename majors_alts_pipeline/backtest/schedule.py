"""Rebalance calendar."""

from __future__ import annotations

from typing import Literal

import numpy as np

_FIRST_MONDAY = 4  # 1970-01-05


def rebalance_days(first_day: int, n_days: int, rule: Literal["daily", "week", "month"]) -> np.ndarray:
    """(n_days,) bool: every day, Mondays, or firsts of the month, from day number `first_day` on."""
    days = np.arange(first_day, first_day + n_days)
    if rule == "daily":
        return np.ones(n_days, dtype=np.bool_)
    if rule == "week":
        return (days - _FIRST_MONDAY) % 7 == 0
    dates = days.astype("datetime64[D]")
    return dates == dates.astype("datetime64[M]").astype("datetime64[D]")
