"""Stages `regime_model` (what is chosen at each refit date) and `regime` (the label of each day)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.regime.interface import History, load_method
from majors_alts_pipeline.regime.targets import forward_returns
from majors_alts_pipeline.regime.walkforward import refit_dates
from majors_alts_pipeline.tables import REGIME_MODEL


def compute_model(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Candidates, objectives and choice at the refit dates inside the window; no rows on other days.

    Args:
        inputs: `features`, `basket` and `panel` from inception to the end of the window.
        window: days wanted.
        settings: sections lake, regime, backtest (execution_lag_days).

    Returns:
        `regime_model`, conforming to its contract.

    Raises:
        ValueError: `features` or `basket` have no rows on a day since inception.
    """
    span = _span(inputs["features"], window)
    dates = _refits_inside(span, window, settings)
    if not dates:
        return {"regime_model": REGIME_MODEL.empty()}
    known = Window(span.start, max(dates))
    history = History(
        known,
        known.keep(inputs["features"]),
        forward_returns(inputs["basket"], inputs["panel"], known, settings),
    )
    return {"regime_model": load_method(settings.regime.method).fit(history, dates, settings)}


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Label the window's days under the model in force on each.

    Args:
        inputs: `features` and `regime_model` from inception to the end of the window.
        window: days wanted.
        settings: sections lake, regime.

    Returns:
        `regime`, conforming to its contract.

    Raises:
        ValueError: `features` has no rows on a day since inception, or a refit date has no chosen model.
    """
    span = _span(inputs["features"], window)
    method = load_method(settings.regime.method)
    chosen = span.keep(inputs["regime_model"]).filter(pl.col("chosen") & (pl.col("method") == method.name)).sort("date")
    missing = set(refit_dates(span, settings.regime.refit)) - set(chosen["date"].to_list())
    if missing:
        raise ValueError(
            f"regime_model: no model of method {method.name} chosen on refit date {min(missing)}; "
            f"materialise regime_model from {span.start} to {window.end} first"
        )
    return {"regime": method.label(span.keep(inputs["features"]), chosen, window, settings)}


def _span(features: pl.DataFrame, window: Window) -> Window:
    """Inception (first day of the features) to the end of the window, every day of it present."""
    present = features.filter(pl.col("date") <= window.end)["date"].unique().sort()
    if present.is_empty() or present.item(0) > window.start:
        raise ValueError(f"features: no rows on {window.start}; materialise features up to {window.end} first")
    span = Window(present.item(0), window.end)
    if len(present) < span.n_days:
        gap = min(set(span.days()) - set(present.to_list()))
        raise ValueError(f"features: no rows on {gap}; materialise features from {span.start} to {span.end} first")
    return span


def _refits_inside(span: Window, window: Window, settings: Settings) -> list[date]:
    return [day for day in refit_dates(span, settings.regime.refit) if day >= window.start]
