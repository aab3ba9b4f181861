"""The kpis stage: performance of each account from its start to the day, as it was known that day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR
from majors_alts_pipeline.tables import KPIS

MIN_CAGR_DAYS = 30
MEAN_ACCOUNT = "random_regimes"
"""Mean of `backtest.random_paths` accounts."""

PATH_KPIS = (
    "volatility", "sharpe", "sharpe_low", "sharpe_high", "sharpe_se", "sharpe_gross", "sortino", "calmar", "drawdown",
    "max_drawdown", "max_drawdown_days", "hit_rate", "exposure_time",
)  # fmt: skip
"""KPIs of one account's path, which a mean of accounts does not have."""

COSTS = ("cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut")


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Compute the expanding KPIs of every account on the days of `window`.

    Every sum runs in order from the first evaluated day, so a day's row does not depend on the window asked
    for.

    Args:
        inputs: backtest from the first day of the lake to `window.end`.
        window: days wanted.
        settings: reads backtest.capital_usd and backtest.random_paths.

    Returns:
        ``{"kpis": ...}``, see the contract in `tables`.
    """
    backtest = inputs["backtest"].filter(pl.col("date") <= window.end).sort("account", "date")
    if backtest.is_empty():
        return {"kpis": KPIS.empty()}
    start = evaluation_start(backtest)
    frames = [
        _account(rows, start, settings.backtest.capital_usd)
        for (_,), rows in backtest.group_by("account", maintain_order=True)
    ]
    kpis = window.keep(pl.concat(frames)).sort("date", "account")
    return {"kpis": without_path_kpis(kpis, settings).select(list(KPIS.columns)).cast(KPIS.schema)}


def without_path_kpis(kpis: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Null what describes one account's path where the row is a mean of several (`random_regimes`).

    A mean of accounts is smoother, falls less and is invested more often than any of them; only its returns,
    turnover, costs and funding are those of the typical account.
    """
    if settings.backtest.random_paths == 1:
        return kpis
    names = [name for name in kpis.columns if name in PATH_KPIS]
    return kpis.with_columns(pl.when(pl.col("account") != MEAN_ACCOUNT).then(pl.col(names)).name.keep())


def evaluation_start(backtest: pl.DataFrame) -> date | None:
    """First day any account traded: all accounts are judged over the same days, from there on."""
    return backtest.filter(pl.col("turnover") > 0)["date"].min()  # type: ignore[return-value]


def _account(rows: pl.DataFrame, start: date | None, capital: float) -> pl.DataFrame:
    nav, returns = rows["nav"].to_numpy(), rows["ret_net"].to_numpy()
    before = np.concatenate([[capital], nav[:-1]])
    counted = np.zeros(len(nav)) if start is None else (rows["date"] >= start).cast(pl.Float64).to_numpy()
    invested = np.concatenate([[False], rows["n_positions"].to_numpy()[:-1] > 0])
    n = np.cumsum(counted)
    n_invested = np.cumsum(invested.astype(float))
    total_return = nav / capital - 1.0
    peak = np.maximum(np.maximum.accumulate(nav), capital)
    drawdown = nav / peak - 1.0
    cost = np.cumsum(rows.select(COSTS).to_numpy(), axis=1)[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.cumsum(counted * returns) / n
        variance = (np.cumsum(counted * returns**2) - n * mean**2) / (n - 1.0)
        deviation = np.sqrt(np.maximum(variance, 0.0))
        downside = np.sqrt(np.cumsum(counted * np.minimum(returns, 0.0) ** 2) / n)
        daily_sharpe = mean / deviation
        growth = np.maximum(1.0 + total_return, 0.0) ** (DAYS_PER_YEAR / n) - 1.0
        hit_rate = np.cumsum(invested & (returns > 0.0)) / n_invested
    year = np.sqrt(DAYS_PER_YEAR)
    known = (n >= 2) & (deviation > 0.0)
    values = {
        "n_days": n.astype(np.int32),
        "n_invested_days": n_invested.astype(np.int32),
        "total_return": total_return,
        "cagr": np.where(n >= MIN_CAGR_DAYS, growth, np.nan),
        "volatility": np.where(n >= 2, deviation * year, np.nan),
        "sharpe": np.where(known, daily_sharpe * year, np.nan),
        "sharpe_se": np.where(known, np.sqrt((1.0 + 0.5 * daily_sharpe**2) / np.maximum(n, 1.0)) * year, np.nan),
        "sortino": np.where(known & (downside > 0.0), mean / np.where(downside > 0.0, downside, 1.0) * year, np.nan),
        "drawdown": drawdown,
        "max_drawdown": np.minimum.accumulate(drawdown),
        "exposure_time": n_invested / np.maximum(n, 1.0),
        "hit_rate": hit_rate,
        "turnover_annual": _mean_so_far(counted * rows["turnover"].to_numpy(), n),
        "cost_annual": _mean_so_far(counted * cost / before, n),
        "funding_annual": _mean_so_far(counted * rows["pnl_funding"].to_numpy() / before, n),
    }
    return rows.select("date", "account").with_columns(
        pl.Series(name, array).fill_nan(None) if array.dtype.kind == "f" else pl.Series(name, array)
        for name, array in values.items()
    )


def _mean_so_far(values: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Annualised mean of the days so far; 0 before the first."""
    return np.cumsum(values) / np.maximum(n, 1.0) * DAYS_PER_YEAR
