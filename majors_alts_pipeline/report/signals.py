"""The live decision of the last day: the backtest's own last rows, written for people and for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

ACCOUNT = "regime"
COLUMNS = (
    "asset_id", "leg", "target_weight", "weight", "order_usd", "value_usd", "units", "price",
    "price_age_days", "trade_reason",
)  # fmt: skip


class SignalsError(ValueError):
    """There is no decision to report."""


def build_signals(
    positions: pl.DataFrame,
    backtest: pl.DataFrame,
    regime: pl.DataFrame,
    *,
    execution_lag_days: int,
    today: date,
    study: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe the last decision of the regime account.

    Args:
        positions: rows of the ``positions`` table; its last day is the decision day.
        backtest: rows of the ``backtest`` table, including that day.
        regime: rows of the ``regime`` table, including that day.
        execution_lag_days: days between a decision's close and the close it is traded at.
        today: UTC day on which this is asked, for the age of the data.
        study: what made the rows: at least ``study_id`` and ``simulated``; copied into the document.

    Returns:
        JSON-ready mapping: ``decisions`` holds one row per asset of the account, weights in fractions of NAV
        and money in USD; ``date`` is the day whose close was decided on.

    Raises:
        SignalsError: a table has no row of the decision day.
    """
    if positions.is_empty() and backtest.is_empty():
        raise SignalsError("positions: no rows, hence no decision; materialise backtest and positions first")
    day: date = backtest["date"].max()  # type: ignore[assignment]
    account = _row(backtest, "backtest", day, pl.col("account") == ACCOUNT)
    label = _row(regime, "regime", day, pl.col("configured"))
    held = positions.filter(pl.col("date") == day, pl.col("account") == ACCOUNT)
    return {
        **study,
        "account": ACCOUNT,
        "date": day.isoformat(),
        "decided_at": _close(day),
        "execute_on": (day + timedelta(days=execution_lag_days)).isoformat(),
        "data_age_days": (today - timedelta(days=1) - day).days,
        "regime": label.pop("label"),
        "regime_detail": {key: value for key, value in label.items() if key not in ("date", "configured")},
        "nav_usd": account["nav"],
        "exposure_multiplier": account["exposure_multiplier"],
        "trades": bool(held["order_usd"].is_not_null().any()),
        "decisions": held.select(COLUMNS).sort("leg", "asset_id", descending=[True, False]).to_dicts(),
    }


def write_signals(signals: dict[str, Any], path: Path) -> None:
    """Write the decision as JSON, atomically.

    Raises:
        SignalsError: the file cannot be written; an earlier one is intact.
    """
    text = json.dumps(signals, indent=2, default=str, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise SignalsError(
            f"signals: cannot write {path}: {error.strerror}; free the disk or choose another directory with --out"
        ) from error


def _row(frame: pl.DataFrame, table: str, day: date, keep: pl.Expr) -> dict[str, Any]:
    found = frame.filter(pl.col("date") == day).filter(keep)
    if found.height != 1:
        raise SignalsError(f"{table}: {found.height} rows on {day}, expected one; rematerialise that day")
    return found.row(0, named=True)


def _close(day: date) -> str:
    return datetime.combine(day + timedelta(days=1), datetime.min.time()).isoformat() + "Z"
