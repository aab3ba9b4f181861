"""What every regime method must offer, and what it is given.

To add a method: one file `majors_alts_pipeline/regime/<name>.py` that ends with ``METHOD = ...``, an object
with the members of `RegimeMethod`; and one line: its name among the choices of settings `regime.method`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from importlib import import_module
from typing import Protocol

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings

LABELS = {1: "RISK_ON_MAJORS", 0: "BALANCED", -1: "RISK_ON_ALTS"}
"""State to label; BALANCED is also the label of a day on which nothing is known."""


@dataclass(frozen=True)
class History:
    """Everything known about a range of days that starts at inception.

    Attributes:
        window: first day of the features to the last day loaded.
        features: rows of `features` in the window.
        forward_return: (days,) mean daily return of the book decided on the day over the label horizon,
            decimal per day; NaN where the horizon is not wholly loaded.
    """

    window: Window
    features: pl.DataFrame
    forward_return: np.ndarray


class RegimeMethod(Protocol):
    """A way to label days."""

    name: str

    def fit(self, history: History, refit_dates: list[date], settings: Settings) -> pl.DataFrame:
        """Rows of `regime_model`: every candidate at every refit date, one chosen per date.

        A row of refit date R may depend only on what was known before R; see `walkforward.last_training_day`.
        """
        ...

    def label(self, features: pl.DataFrame, models: pl.DataFrame, window: Window, settings: Settings) -> pl.DataFrame:
        """Rows of `regime` for the days of `window`.

        Args:
            features: rows of `features` from inception to the end of the window.
            models: chosen rows of `regime_model` from inception to the end of the window, one per refit date.
            window: days wanted.
            settings: all settings; what was fitted comes from `models` alone.
        """
        ...


def load_method(name: str) -> RegimeMethod:
    """Return the method of that name, importing its file only now."""
    return import_module(f"majors_alts_pipeline.regime.{name}").METHOD
