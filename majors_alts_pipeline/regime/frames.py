"""From three-label probabilities to the rows of `regime`: one rule of hysteresis and dwell for every such method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.regime.hysteresis import SIDES, label_path
from majors_alts_pipeline.regime.interface import LABELS
from majors_alts_pipeline.tables import REGIME

COLUMNS = {side: f"p_{LABELS[side].lower()}" for side in SIDES}
"""Side to its probability column of `regime`, in the order of `SIDES`."""


@dataclass(frozen=True)
class Origin:
    """Which model spoke on each day; every attribute has one element per day.

    Attributes:
        asof: refit date of the model in force, None where there is none.
        in_force: walk_forward, default or kept.
        candidate: of `regime_model`.
    """

    asof: list
    in_force: list[str]
    candidate: list[int]

    @classmethod
    def of(cls, models: pl.DataFrame, window: Window) -> Origin:
        """Origin of every day of `window` from chosen rows of `regime_model`; the first is of its first day."""
        starts = [(day - window.start).days for day in models["date"]]
        spans = [later - first for first, later in zip(starts, [*starts[1:], window.n_days], strict=True)]
        spread = {
            name: [value for value, days in zip(models[name].to_list(), spans, strict=True) for _ in range(days)]
            for name in ("date", "in_force", "candidate")
        }
        return cls(spread["date"], spread["in_force"], spread["candidate"])


def regime_rows(
    name: str,
    window: Window,
    three: np.ndarray,
    known: np.ndarray,
    origin: Origin,
    n_features: np.ndarray,
    settings: Settings,
    *,
    native_state: list[str | None] | None = None,
    disagreement: np.ndarray | None = None,
) -> pl.DataFrame:
    """Rows of `regime` but for `configured`.

    The label held gives way to the most probable one when that leads it by `regime.states.label_margin` and the label
    has lasted `regime.min_dwell_days`.

    Args:
        name: of the method.
        window: days of the rows, from inception.
        three: (days, 3) probabilities in the order of `SIDES`.
        known: (days,) bool; on other days nothing is known, BALANCED is certain and there is no score.
        origin: which model spoke.
        n_features: (days,) inputs that existed.
        settings: reads regime.states.label_margin and regime.min_dwell_days.
        native_state: states in the method's own words.
        disagreement: (days,) fraction, NaN where there is none.
    """
    said = np.where(known[:, None], three, np.eye(len(SIDES))[0])
    state, days = label_path(said, settings.regime.states.label_margin, settings.regime.min_dwell_days)
    score = np.where(known, said[:, SIDES.index(1)] - said[:, SIDES.index(-1)], np.nan)
    blank = np.full(window.n_days, np.nan)
    return pl.DataFrame({
        "date": window.days(),
        "method": name,
        "label": [LABELS[side] for side in state],
        "native_state": pl.Series(native_state or [None] * window.n_days, dtype=pl.String),
        "score": pl.Series(score).fill_nan(None),
        **{column: said[:, place] for place, column in enumerate(COLUMNS.values())},
        "model_asof": pl.Series(origin.asof, dtype=pl.Date),
        "disagreement": pl.Series(blank if disagreement is None else disagreement, dtype=pl.Float64).fill_nan(None),
        "in_force": origin.in_force,
        "candidate": pl.Series(origin.candidate, dtype=REGIME.schema["candidate"]),
        "days_in_regime": pl.Series(days, dtype=REGIME.schema["days_in_regime"]),
        "n_features": pl.Series(n_features, dtype=REGIME.schema["n_features"]),
    })  # fmt: skip
