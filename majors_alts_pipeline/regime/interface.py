"""What every regime method must offer, and what it is given.

To add a method: one file `majors_alts_pipeline/regime/<name>.py` that ends with ``METHOD = ...``, an object
with the members of `RegimeMethod`; and one line: its name in `config.settings.MethodName`. Then list it in
`regime.methods` to have it labelled every day, and name it in `regime.method` to trade it.
"""

from __future__ import annotations

from collections.abc import Mapping
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

LABELS_STAY = "labels stay with their states"
"""End of the note of a refit whose states rank otherwise than their labels, which are never exchanged."""


@dataclass(frozen=True)
class History:
    """Everything known about a range of days that starts at inception.

    Attributes:
        window: first day of the features to the last day loaded.
        features: rows of `features` in the window: date, feature, raw, z.
        market: rows of `market` in the window, one per day.
        forward_return: (days,) mean daily return of the book decided on the day over the label horizon,
            decimal per day; NaN where the horizon is not wholly known by the end of the window.
    """

    window: Window
    features: pl.DataFrame
    market: pl.DataFrame
    forward_return: np.ndarray


@dataclass(frozen=True)
class Labelled:
    """What a method says about some days.

    Attributes:
        regime: rows of `regime` but for `configured`, which the stage adds.
        probabilities: (date, horizon_days, state, probability): `regime_probability` but for the method.
        weights: rows of `regime_weights`, of a method that weighs the others; None for all else.
    """

    regime: pl.DataFrame
    probabilities: pl.DataFrame
    weights: pl.DataFrame | None = None


class RegimeMethod(Protocol):
    """A way to label days."""

    name: str
    needs_others: bool
    """Whether `label` reads what the other methods said since inception; such a method may come last only."""

    def refit_dates(self, window: Window, settings: Settings) -> list[date]:
        """Return the calendar refit dates in a window that starts at inception; the first day is one of them."""
        ...

    def fit(
        self, history: History, refit_dates: list[date], previous: pl.DataFrame, settings: Settings
    ) -> pl.DataFrame:
        """Rows of `regime_model`: every candidate at every refit date, one chosen per date.

        A row of refit date R may depend only on what was known before R (`walkforward.last_training_day` for
        what uses forward returns) and on the rows of earlier refits.

        Args:
            history: what is known; `history.window.end` is the last of `refit_dates`.
            refit_dates: dates wanted, ascending.
            previous: chosen rows of this method at the refit dates before the first wanted one, ascending.
            settings: all settings.
        """
        ...

    def label(
        self, history: History, models: pl.DataFrame, window: Window, others: Mapping[str, Labelled], settings: Settings
    ) -> Labelled:
        """Label the days of `window`.

        Args:
            history: from inception to the end of the window.
            models: chosen rows of `regime_model` of this method from inception to the end of the window.
            window: days wanted.
            others: what the methods before this one in `regime.methods` say, from inception; empty unless
                `needs_others`.
            settings: all settings; what was fitted comes from `models` alone.
        """
        ...


def load_method(name: str) -> RegimeMethod:
    """Return the method of that name, importing its file only now."""
    return import_module(f"majors_alts_pipeline.regime.{name}").METHOD
