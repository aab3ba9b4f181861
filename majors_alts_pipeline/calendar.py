"""UTC days: the window a stage is asked for, and conversions between dates and day numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import polars as pl

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Window:
    """Closed interval of UTC days [start, end] for which rows are wanted.

    Raises:
        ValueError: end is before start.
    """

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"window ends {self.end} before it starts {self.start}")

    @property
    def n_days(self) -> int:
        """Number of days, both ends included."""
        return (self.end - self.start).days + 1

    def days(self) -> list[date]:
        """All days of the window in order."""
        return list(_days(self.start.toordinal(), self.end.toordinal()))

    def back(self, days: int) -> Window:
        """Same end, start moved `days` earlier."""
        return Window(self.start - timedelta(days=days), self.end)

    def keep(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of `frame` whose `date` lies in the window."""
        return frame.filter(pl.col("date").is_between(self.start, self.end))


@lru_cache(maxsize=64)
def _days(first: int, last: int) -> tuple[date, ...]:
    """Days by proleptic ordinal; stages ask for the same window again and again."""
    return tuple(map(date.fromordinal, range(first, last + 1)))


def day_number(day: date) -> int:
    """Days since 1970-01-01; the anchor of every blocked computation."""
    return (day - EPOCH).days


def date_array(window: Window) -> np.ndarray:
    """(n_days,) datetime64[D] of the window."""
    return np.arange(np.datetime64(window.start, "D"), np.datetime64(window.end, "D") + 1)
