"""Stage functions with the real contracts and trivial contents: storage and Dagster tested alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl

from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.stages import STAGES, Stage
from majors_alts_pipeline.tables import TABLES

KEYS = {
    "asset_id": ["BTC", "ETH", "SOL"],
    "feature": ["breadth_up", "vol_spread"],
    "account": ["always_on", "regime"],
    "method": ["composite"],
    "tracker": ["alt_index", "btc_dominance"],
    "candidate": [0],
    "horizon_days": [0, 1],
    "state": ["BALANCED", "RISK_ON_MAJORS"],
}
TEXT = {
    "role": "alt",
    "leg": "alt",
    "label": "BALANCED",
    "regime": "BALANCED",
    "in_force": "default",
    "params": "{}",
}
CALLS: list[tuple[str, Window, dict[str, tuple[date | None, date | None]]]] = []


def rows(table: str, window: Window) -> pl.DataFrame:
    """Deterministic rows of `window` that depend on the day only; no rows on days divisible by 7."""
    contract = TABLES[table]
    frame = pl.DataFrame({"date": [day for day in window.days() if day_number(day) % 7]}, schema={"date": pl.Date})
    for key in contract.key[1:]:
        frame = frame.join(pl.DataFrame({key: KEYS[key]}), how="cross")
    number = pl.col("date").to_physical()
    columns = []
    for name, column in contract.columns.items():
        if name == "date":
            continue
        if name in frame.columns:
            columns.append(pl.col(name).cast(column.dtype))
        elif name == "identity_error":
            columns.append(pl.lit(0.0).alias(name))
        elif name in ("configured", "converged"):
            columns.append(pl.lit(True).alias(name))
        elif column.dtype == pl.Float64:
            columns.append((number.cast(pl.Float64) * 1e-3).sin().alias(name))
        elif column.dtype == pl.Date:
            columns.append(pl.col("date").alias(name))
        elif column.dtype == pl.String:
            columns.append(pl.lit(TEXT.get(name, "")).alias(name))
        else:
            columns.append((number % 2).cast(column.dtype).alias(name))
    return frame.select("date", *columns).select(list(contract.columns))


def _note(name: str, window: Window, inputs: Mapping[str, Any]) -> None:
    seen = {
        table: (frame["date"].min(), frame["date"].max())
        for table, frame in inputs.items()
        if isinstance(frame, pl.DataFrame)
    }
    CALLS.append((name, window, seen))


def _stage(name: str, *tables: str) -> Any:
    def compute(inputs: Mapping[str, Any], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
        _note(name, window, inputs)
        return {table: rows(table, window) for table in tables or (name,)}

    return compute


panel = _stage("panel")
universe = _stage("universe")
features = _stage("features", "features", "market")
betas = _stage("betas")
trackers = _stage("trackers")
tracker_betas = _stage("tracker_betas")
basket = _stage("basket")
book_outcome = _stage("book_outcome")
regime_model = _stage("regime_model")
regime = _stage("regime", "regime", "regime_probability", "regime_weights")
backtest = _stage("backtest", "backtest", "positions")
kpis = _stage("kpis")


def toys() -> list[Stage]:
    """The stages of the pipeline with toy functions."""
    return [replace(stage, function=f"toy_stages:{stage.name}") for stage in STAGES]
