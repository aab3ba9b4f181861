"""The full KPI set of every account: overall, by regime, by year and by fold, with intervals.

All accounts are judged over the same days, from the first day any of them traded. A slice (a regime, a
year, a fold) is the days it names, joined in order: its return compounds them, its drawdown runs along them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation.inference import (
    DAYS_PER_YEAR,
    bootstrap_interval,
    hac_regression,
    regime_edge_test,
    sharpe_ratio,
    sharpe_standard_error,
)
from majors_alts_pipeline.evaluation.stage import COSTS, MIN_CAGR_DAYS, evaluation_start

FACTORS = ("btc", "eth")
_MIN_BETA_DAYS = 30
_ACCOUNT_OF_EDGE = "always_on"


def overall(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row per account: every KPI over the whole evaluated window (see `_row` for columns and units)."""
    return _table(_days(backtest, panel, settings), [], settings)


def by_regime(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row per account and label known when the position was decided (`regime_traded`)."""
    days = _days(backtest, panel, settings).with_columns(label=pl.col("regime_traded"))
    return _table(days, ["label"], settings)


def by_year(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row per account and calendar year."""
    days = _days(backtest, panel, settings).with_columns(year=pl.col("date").dt.year())
    return _table(days, ["year"], settings)


def by_fold(backtest: pl.DataFrame, panel: pl.DataFrame, regime: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row per account and fold: the refit date of the model whose decision was carried out."""
    lag = settings.backtest.execution_lag_days + 1
    folds = regime.filter((pl.col("method") == settings.regime.method) & pl.col("model_asof").is_not_null()).select(
        pl.col("date").dt.offset_by(f"{lag}d"), fold="model_asof"
    )
    return _table(_days(backtest, panel, settings).join(folds, on="date", how="inner"), ["fold"], settings)


def neutrality(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """How neutral each account was to each factor, over its invested days.

    Returns:
        account, factor (btc, eth); `ex_ante_mean` and `ex_ante_abs` = mean and mean absolute beta of the
        drifted book at the close before; `ex_post` = realised beta from one regression on both factors with
        its Newey-West interval `ex_post_low`, `ex_post_high`; `error` = ex_post - ex_ante_mean; `n_days`.
    """
    rows = []
    for account, days in _groups(_days(backtest, panel, settings).filter("invested"), ["account"]):
        betas = _realised_betas(days, settings.evaluation.confidence)
        for factor in FACTORS:
            ex_ante = days[f"ante_{factor}"].to_numpy()
            ex_post = betas[f"beta_{factor}"]
            mean = float(np.mean(ex_ante))
            rows.append({
                **account,
                "factor": factor,
                "ex_ante_mean": mean,
                "ex_ante_abs": float(np.mean(np.abs(ex_ante))),
                "ex_post": ex_post,
                "ex_post_low": betas[f"beta_{factor}_low"],
                "ex_post_high": betas[f"beta_{factor}_high"],
                "error": None if ex_post is None else ex_post - mean,
                "n_days": days.height,
            })  # fmt: skip
    return pl.DataFrame(rows, schema=_NEUTRALITY_SCHEMA)


def regime_edge(backtest: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row: whether the always-on book's price P&L differs by the label its position was decided under.

    Returns:
        p_value (two-sided, circular shifts; null when it cannot be tested), difference, mean_on, mean_off
        (decimal per day), hac_t, n_on, n_off, n_shifts.
    """
    book = _with_previous(backtest, settings).filter((pl.col("account") == _ACCOUNT_OF_EDGE) & pl.col("invested"))
    returns = (book["pnl_price"] / book["before"]).to_numpy()
    test = regime_edge_test(book["regime_traded"].to_numpy(), returns, settings.evaluation.seed)
    return pl.DataFrame([vars(test)]).with_columns(pl.col(pl.Float64).fill_nan(None))


_NEUTRALITY_SCHEMA = {
    "account": pl.String, "factor": pl.String, "ex_ante_mean": pl.Float64, "ex_ante_abs": pl.Float64,
    "ex_post": pl.Float64, "ex_post_low": pl.Float64, "ex_post_high": pl.Float64, "error": pl.Float64,
    "n_days": pl.Int64,
}  # fmt: skip


def _with_previous(backtest: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Add to backtest the previous NAV, whether a position was held over the day, and its ex-ante betas."""
    return backtest.sort("account", "date").with_columns(
        before=pl.col("nav").shift(1).over("account").fill_null(settings.backtest.capital_usd),
        invested=(pl.col("n_positions").shift(1).over("account") > 0).fill_null(False),
        ante_btc=pl.col("beta_btc").shift(1).over("account"),
        ante_eth=pl.col("beta_eth").shift(1).over("account"),
    )


def _days(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Keep the evaluated days of every account, with the majors' returns (null where a major has none)."""
    start = evaluation_start(backtest)
    days = _with_previous(backtest, settings).filter(pl.col("date") >= start if start else pl.lit(False))
    for factor, asset in zip(FACTORS, settings.lake.majors, strict=True):
        returns = panel.filter(pl.col("asset_id") == asset).select("date", pl.col("ret").alias(f"ret_{factor}"))
        days = days.join(returns, on="date", how="left", maintain_order="left")
    return days.sort("account", "date")


def _groups(days: pl.DataFrame, keys: list[str]) -> Iterable[tuple[dict[str, Any], pl.DataFrame]]:
    for values, rows in days.sort(*keys, "date").group_by(keys, maintain_order=True):
        yield dict(zip(keys, values, strict=True)), rows


def _table(days: pl.DataFrame, keys: list[str], settings: Settings) -> pl.DataFrame:
    key_schema = {name: days.schema[name] for name in ["account", *keys]}
    rows = [{**key, **_row(group, settings)} for key, group in _groups(days, ["account", *keys])]
    return pl.DataFrame(rows, schema=key_schema | _ROW_SCHEMA)


_ROW_SCHEMA: dict[str, Any] = {
    "n_days": pl.Int64, "n_episodes": pl.Int64, "n_invested_days": pl.Int64,
    **dict.fromkeys((
        "total_return", "total_return_gross", "cagr", "volatility", "sharpe", "sharpe_low", "sharpe_high",
        "sharpe_se", "sharpe_gross", "sortino", "max_drawdown",
    ), pl.Float64),
    "max_drawdown_days": pl.Int64,
    **dict.fromkeys((
        "calmar", "hit_rate", "exposure_time", "turnover_annual", "turnover_major_annual",
        "turnover_alt_annual", "cost_annual", "funding_annual", "beta_btc", "beta_btc_low", "beta_btc_high",
        "beta_eth", "beta_eth_low", "beta_eth_high", "neutrality_ex_ante_btc", "neutrality_ex_ante_eth",
    ), pl.Float64),
}  # fmt: skip


RISK_ADJUSTED = ("sharpe", "sharpe_low", "sharpe_high", "sharpe_se", "sharpe_gross", "sortino", "calmar")
"""Null where no day was invested."""


def _row(days: pl.DataFrame, settings: Settings) -> dict[str, Any]:
    """KPIs of one account over some days, nulls where there is nothing to measure.

    Units: returns, drawdowns, rates decimal; cagr, volatility, sharpe, sortino, *_annual per 365 days;
    turnover in NAV per year; `max_drawdown_days` the longest time below a peak; `n_episodes` runs of
    consecutive days; `neutrality_ex_ante_*` mean |book beta| at the close before, over invested days.
    Betas: `_realised_betas`.
    """
    rules = settings.evaluation
    returns, gross = days["ret_net"].to_numpy(), days["ret_gross"].to_numpy()
    invested, before = days["invested"].to_numpy(), days["before"].to_numpy()
    n = len(returns)
    growth = np.cumprod(1.0 + returns)
    peak = np.maximum(np.maximum.accumulate(growth), 1.0)
    drawdown = growth / peak - 1.0
    cagr = max(growth[-1], 0.0) ** (DAYS_PER_YEAR / n) - 1.0 if n >= MIN_CAGR_DAYS else None
    deepest = min(float(drawdown.min()), 0.0)
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    sharpe = sharpe_ratio(returns)
    low, high = bootstrap_interval(returns, sharpe_ratio, rules.bootstrap_reps, rules.confidence, rules.seed)
    costs = np.sum([days[name].to_numpy() for name in COSTS], axis=0)
    held = days.filter("invested")

    def annual(values: np.ndarray) -> float:
        return float(np.mean(values)) * DAYS_PER_YEAR

    row = {
        "n_days": n,
        "n_episodes": 1 + int((days["date"].diff().drop_nulls().dt.total_days() > 1).sum()),
        "n_invested_days": int(invested.sum()),
        "total_return": growth[-1] - 1.0,
        "total_return_gross": float(np.prod(1.0 + gross)) - 1.0,
        "cagr": cagr,
        "volatility": float(np.std(returns, ddof=1)) * np.sqrt(DAYS_PER_YEAR) if n >= 2 else None,
        "sharpe": sharpe,
        "sharpe_low": low,
        "sharpe_high": high,
        "sharpe_se": sharpe_standard_error(sharpe, n),
        "sharpe_gross": sharpe_ratio(gross),
        "sortino": float(np.mean(returns)) / downside * np.sqrt(DAYS_PER_YEAR) if downside > 0.0 else None,
        "max_drawdown": deepest,
        "max_drawdown_days": _longest_run(drawdown < 0.0),
        "calmar": cagr / -deepest if cagr is not None and deepest < 0.0 else None,
        "hit_rate": float(np.mean(returns[invested] > 0.0)) if invested.any() else None,
        "exposure_time": float(np.mean(invested)),
        "turnover_annual": annual(days["turnover"].to_numpy()),
        "turnover_major_annual": annual(days["turnover_major"].to_numpy()),
        "turnover_alt_annual": annual(days["turnover_alt"].to_numpy()),
        "cost_annual": annual(costs / before),
        "funding_annual": annual(days["pnl_funding"].to_numpy() / before),
        **_realised_betas(held, rules.confidence),
        "neutrality_ex_ante_btc": held["ante_btc"].abs().mean(),
        "neutrality_ex_ante_eth": held["ante_eth"].abs().mean(),
    }
    # Leftover costs of leaving a book are not a return to be judged by its risk.
    return _without_nan(row if invested.any() else {**row, **dict.fromkeys(RISK_ADJUSTED)})


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}


def _longest_run(flags: np.ndarray) -> int:
    ends = np.cumsum(flags)
    return int(np.max(ends - np.maximum.accumulate(np.where(flags, 0, ends)), initial=0))


def _realised_betas(days: pl.DataFrame, confidence: float) -> dict[str, float | None]:
    """Betas of the gross return over the given (invested) days to BTC and ETH together, with HAC intervals.

    Null with fewer than thirty days or collinear factors.
    """
    from scipy.stats import norm

    known = days.drop_nulls(["ret_btc", "ret_eth"])
    names = [f"beta_{factor}{suffix}" for factor in FACTORS for suffix in ("", "_low", "_high")]
    if known.height < _MIN_BETA_DAYS:
        return dict.fromkeys(names)
    design = np.column_stack([np.ones(known.height), known["ret_btc"].to_numpy(), known["ret_eth"].to_numpy()])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return dict.fromkeys(names)
    fit = hac_regression(known["ret_gross"].to_numpy(), design)
    reach = float(norm.ppf(0.5 + confidence / 2.0))
    out: dict[str, float | None] = {}
    for k, factor in enumerate(FACTORS, start=1):
        beta, error = float(fit.coefficients[k]), float(fit.standard_errors[k])
        out |= {f"beta_{factor}": beta, f"beta_{factor}_low": beta - reach * error,
                f"beta_{factor}_high": beta + reach * error}  # fmt: skip
    return out
