"""What a decision is judged by: the forward price return of the book that was decided."""

from __future__ import annotations

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.numerics.dense import Dense


def forward_returns(basket: pl.DataFrame, panel: pl.DataFrame, window: Window, settings: Settings) -> np.ndarray:
    """Mean daily return of each day's book over days t + lag + 1 ... t + lag + horizon, weights unchanged.

    Price return only: funding and costs are the ledger's business. Returns are ratios of panel closes, so a
    carried price earns 0 and the first price after a gap catches up; an asset that has no price any more
    earns nothing from there, its position closed at the last price. A flat book earns exactly 0.

    Returns:
        (window.n_days,) decimal per day; NaN where the horizon ends after the window.

    Raises:
        ValueError: the basket has no rows on a day of the window.
    """
    lag, horizon = settings.backtest.execution_lag_days, settings.regime.label_horizon_days
    book = window.keep(basket).sort("date", "asset_id")
    _require_every_day(book, window)
    view = Dense.of(panel, window, sorted(book["asset_id"].unique().to_list()))
    daily = _daily_returns(view.floats("close"))
    days, assets = view.shape
    out = np.full(days, np.nan)
    known = days - lag - horizon
    if known <= 0:
        return out
    total = np.zeros((known, assets))
    for ahead in range(lag + 1, lag + horizon + 1):
        total += daily[ahead : ahead + known]
    held = Dense.of(book, window, view.assets)
    inside = held.rows < known
    rows, cols = held.rows[inside], held.cols[inside]
    weight = held.frame["weight"].to_numpy()[inside]
    # bincount adds row after row, so a day's sum does not depend on what else is loaded.
    out[:known] = np.bincount(rows, weights=weight * (total[rows, cols] / horizon), minlength=known)
    return out


def _daily_returns(close: np.ndarray) -> np.ndarray:
    """(days, assets) simple returns, 0 where either close is unknown and on the first day."""
    out = np.zeros_like(close)
    ratio = close[1:] / close[:-1] - 1.0
    out[1:] = np.where(np.isnan(ratio), 0.0, ratio)
    return out


def _require_every_day(book: pl.DataFrame, window: Window) -> None:
    present = set(book["date"].unique().to_list())
    for day in window.days():
        if day not in present:
            raise ValueError(
                f"basket: no rows on {day}, the regime model cannot judge its decision; "
                f"materialise basket from {window.start} to {window.end} first"
            )
