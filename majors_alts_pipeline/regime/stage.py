"""Stages `book_outcome`, `regime_model` (what is in force from each refit date) and `regime` (each day's label)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.regime.interface import History, Labelled, RegimeMethod, load_method
from majors_alts_pipeline.regime.targets import forward_returns
from majors_alts_pipeline.tables import BOOK_OUTCOME, REGIME, REGIME_MODEL, REGIME_PROBABILITY, REGIME_WEIGHTS


def compute_outcome(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Return of the books whose label horizon ends on the days of the window; see `targets.forward_returns`.

    Args:
        inputs: `basket` and `panel` from `window.start` less execution lag and label horizon.
        window: days wanted; the first execution lag + label horizon days of the lake have no row.
        settings: reads backtest.execution_lag_days and regime.label_horizon_days.

    Returns:
        `book_outcome`, conforming to its contract.

    Raises:
        ValueError: the basket has no rows on a day of an earlier decision.
    """
    ahead = _ahead(settings)
    basket = inputs["basket"]
    first = basket.select(pl.col("date").min()).item()
    if first is None:
        return {"book_outcome": BOOK_OUTCOME.empty()}
    span = Window(max(window.start - ahead, first), window.end)
    known = span.n_days - ahead.days
    if known <= 0:
        return {"book_outcome": BOOK_OUTCOME.empty()}
    decisions = pl.Series("decision_date", span.days()[:known])
    returns = forward_returns(basket, inputs["panel"], span, settings)[:known]
    frame = pl.DataFrame({"date": decisions + ahead, "decision_date": decisions, "ret": returns})
    return {"book_outcome": BOOK_OUTCOME.conform(window.keep(frame))}


def compute_model(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Candidates, fits and choice of every method at its refit dates inside the window; no rows on other days.

    Args:
        inputs: `features`, `market` and `book_outcome` from inception to the end of the window, `regime_model`
            from inception to the eve of the window.
        window: days wanted.
        settings: sections lake, regime, backtest (execution_lag_days).

    Returns:
        `regime_model`, conforming to its contract.

    Raises:
        ValueError: `features` or `market` have no rows on a day since inception, or an earlier refit is missing.
    """
    methods = {name: load_method(name) for name in settings.regime.methods}
    first = inputs["features"].select(pl.col("date").min()).item()
    if first is None or first > window.start:
        raise ValueError(f"features: no rows on {window.start}; materialise features up to {window.end} first")
    span = Window(first, window.end)
    dates = {
        name: [day for day in method.refit_dates(span, settings) if day >= window.start]
        for name, method in methods.items()
    }
    if not any(dates.values()):
        return {"regime_model": REGIME_MODEL.empty()}
    past = inputs["regime_model"].filter("chosen").sort("date")
    rows = [
        method.fit(
            known_history(inputs, Window(span.start, max(dates[name])), settings),
            dates[name],
            _all_refits(past, method, Window(span.start, window.start - timedelta(days=1)), settings)
            if span.start < window.start
            else past.clear(),
            settings,
        )
        for name, method in methods.items()
        if dates[name]
    ]
    return {"regime_model": REGIME_MODEL.conform(pl.concat(rows))}


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Label the window's days by every method, each under its model in force on the day.

    Args:
        inputs: `features`, `market`, `book_outcome` and `regime_model` from inception to the end of the window.
        window: days wanted.
        settings: sections lake, regime, backtest.

    Returns:
        `regime`, `regime_probability` and `regime_weights` (empty without a consensus), conforming to their contracts.

    Raises:
        ValueError: `features` or `market` have no rows on a day since inception, or a refit date has no chosen
            model.
    """
    first = inputs["features"].select(pl.col("date").min()).item()
    if first is None or first > window.start:
        raise ValueError(f"features: no rows on {window.start}; materialise features up to {window.end} first")
    span = Window(first, window.end)
    history = known_history(inputs, span, settings)
    chosen = span.keep(inputs["regime_model"]).filter("chosen").sort("date")
    methods = [load_method(name) for name in settings.regime.methods]
    everything = any(method.needs_others for method in methods)
    said: dict[str, Labelled] = {}
    for method in methods:
        models = _all_refits(chosen, method, span, settings)
        wanted = span if everything and not method.needs_others else window
        said[method.name] = method.label(history, models, wanted, said if method.needs_others else {}, settings)
    configured = (pl.col("method") == settings.regime.method).alias("configured")
    regime = pl.concat(
        [
            window.keep(labelled.regime).with_columns(configured).select(list(REGIME.columns))
            for labelled in said.values()
        ]
    )
    probabilities = pl.concat(
        [
            window.keep(labelled.probabilities)
            .with_columns(pl.lit(name).alias("method"))
            .select(list(REGIME_PROBABILITY.columns))
            for name, labelled in said.items()
        ]
    )
    weights = [labelled.weights for labelled in said.values() if labelled.weights is not None]
    return {
        "regime": REGIME.conform(regime),
        "regime_probability": REGIME_PROBABILITY.conform(probabilities),
        "regime_weights": REGIME_WEIGHTS.conform(pl.concat([REGIME_WEIGHTS.empty(), *weights])),
    }


def _all_refits(models: pl.DataFrame, method: RegimeMethod, span: Window, settings: Settings) -> pl.DataFrame:
    """Chosen models of the method in `span`, one per refit date.

    Raises:
        ValueError: a refit date has none.
    """
    own = span.keep(models).filter(pl.col("method") == method.name)
    missing = set(method.refit_dates(span, settings)) - set(own["date"].to_list())
    if missing:
        raise ValueError(
            f"regime_model: no model of method {method.name} chosen on refit date {min(missing)}; "
            f"materialise regime_model from {span.start} to {span.end} first"
        )
    return own


def known_history(inputs: Mapping[str, pl.DataFrame], span: Window, settings: Settings) -> History:
    """Everything known at the close of the last day of `span`, which starts at inception.

    Raises:
        ValueError: a table has no rows on a day it must have.
    """
    features, market, outcome = (span.keep(inputs[table]) for table in ("features", "market", "book_outcome"))
    for table, frame, first in (
        ("features", features, span.start),
        ("market", market, span.start),
        ("book_outcome", outcome, span.start + _ahead(settings)),
    ):
        missing = (
            set(Window(first, span.end).days()) - set(frame["date"].unique().to_list()) if first <= span.end else ()
        )
        if missing:
            raise ValueError(
                f"{table}: no rows on {min(missing)}; materialise {table} from {span.start} to {span.end} first"
            )
    return History(span, features, market.sort("date"), returns_by_decision(outcome, span))


def returns_by_decision(outcome: pl.DataFrame, span: Window) -> np.ndarray:
    """(days,) what became of each day's decision, from the rows of `book_outcome`; NaN where it is not known."""
    forward = np.full(span.n_days, np.nan)
    decided = outcome["decision_date"].to_physical().to_numpy() - day_number(span.start)
    forward[decided] = outcome["ret"].to_numpy()
    return forward


def _ahead(settings: Settings) -> timedelta:
    """Days from a decision to the close at which its outcome is known."""
    return timedelta(days=settings.backtest.execution_lag_days + settings.regime.label_horizon_days)
