"""Simulated daily bars: random walks from intraday steps, and the `market` table made of them."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.regime.interface import History
from majors_alts_pipeline.tables import MARKET

FIRST = date(2021, 1, 1)
STEPS = 24


def walk(days: int, rng: np.random.Generator, drift: float | np.ndarray = 0.0, vol: float | np.ndarray = 0.03):
    """(days, 3) logs of high, low and close of a random walk of `STEPS` steps a day; drift and vol are daily."""
    drift, vol = (np.broadcast_to(value, days) for value in (drift, vol))
    steps = drift[:, None] / STEPS + vol[:, None] / STEPS**0.5 * rng.standard_normal((days, STEPS))
    path = np.cumsum(steps.ravel()).reshape(days, STEPS)
    begin = np.concatenate([[0.0], path[:-1, -1]])
    whole = np.column_stack([begin, path])
    return np.column_stack([whole.max(axis=1), whole.min(axis=1), path[:, -1]])


def bars_of(logs: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(dict(zip(("high", "low", "close"), 100.0 * np.exp(logs.T), strict=True)))


def market_of_bars(logs: np.ndarray, correlation: np.ndarray | None = None) -> pl.DataFrame:
    days = len(logs)
    values = np.full(days, 0.4) if correlation is None else correlation
    frame = bars_of(logs).with_columns(
        pl.Series("date", [FIRST + timedelta(days=k) for k in range(days)]),
        pl.col("close").shift(1).fill_null(100.0).alias("open"),
        pl.lit(0.0).alias("majors_minus_alts"),
        pl.Series("average_correlation", values),
        pl.lit(20, pl.Int32).alias("n_correlated"),
    )
    return MARKET.conform(frame.with_columns(pl.col("average_correlation").fill_nan(None)))


def history_of(market: pl.DataFrame) -> History:
    window = Window(market["date"].min(), market["date"].max())
    features = pl.DataFrame(schema={"date": pl.Date, "feature": pl.String, "raw": pl.Float64, "z": pl.Float64})
    return History(window, features, market, np.full(window.n_days, np.nan))


def detector_settings(**trend_chop: object) -> Settings:
    """Little training, one method."""
    overrides = {"regime": {"methods": ["trend_chop"], "method": "trend_chop", "min_train_days": 200}}
    overrides["regime"]["trend_chop"] = trend_chop
    return load_settings(overrides=overrides)
