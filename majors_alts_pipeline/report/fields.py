"""How each column of the report's tables is shown: heading, unit, format and meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from majors_alts_pipeline.report.figures.costs import COMPONENT_NAMES
from majors_alts_pipeline.report.figures.forecasts import event_name
from majors_alts_pipeline.report.figures.stress import TEST_NAMES
from majors_alts_pipeline.report.figures.style import account_name, label_name, method_name
from majors_alts_pipeline.report.html import (
    Field,
    Format,
    basis_points,
    number,
    p_value,
    percent,
    percent_below,
    price_usd,
    usd,
)

_pct1, _pct2 = partial(percent, digits=1), partial(percent, digits=2)
_num0, _num1 = partial(number, digits=0), partial(number, digits=1)
_num2, _num3 = partial(number, digits=2), partial(number, digits=3)


def component_name(name: str) -> str:
    """Attribution component as a reader calls it."""
    return COMPONENT_NAMES.get(name, name)


def significant(value: float) -> str:
    """Three significant digits, whatever the size."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def test_name(name: str) -> str:
    """Test of table `robustness` as a reader calls it."""
    return TEST_NAMES.get(name, name)


def reason_name(name: str) -> str:
    """Rule or reason without underscores."""
    return name.replace("_", " ")


def kind_name(kind: str) -> str:
    """Origin of a funding rate as a reader calls it."""
    name, _, _ = kind.partition("_rescaled")
    return FUNDING_KINDS.get(name, name) + (", was percent" if kind.endswith("_rescaled") else "")


FUNDING_KINDS = {"sum": "True daily sum", "print_scaled": "One print, scaled", "assumed": "Assumed"}

EVIDENCE_FIELDS: dict[str, Field] = {
    "horizon_days": Field("Ahead", "days"),
    "hac_t": Field("t", "Newey-West", _num2),
    "n_effective": Field("Effective", "independent days", _num0),
    "warning": Field("Warning", wrap=True),
    "event": Field("Forecast of", "", event_name),
    "n": Field("Forecasts"),
    "base_rate": Field("Base rate", "%", _pct1),
    "brier": Field("Brier", "score", _num3),
    "brier_base": Field("Brier of the base rate", "score", _num3),
    "log_score": Field("Log score", "nats", _num3),
    "log_score_base": Field("Log score of the base rate", "nats", _num3),
    "dm_t": Field("t, better if > 0", "HAC", _num2),
    "bin": Field("Bin"),
    "ic": Field("IC", "correlation", _num3),
    "winner": Field("Winner"),
    "is_sharpe": Field("Sharpe in sample", "per year", _num2),
    "oos_sharpe": Field("Sharpe out of sample", "per year", _num2),
    "start": Field("From", "UTC day"),
    "end": Field("To", "UTC day"),
    "chosen": Field("Chosen", wrap=True),
    "n_train": Field("Training", "days"),
    "n_test": Field("Test", "days"),
    "test": Field("Changed", "", test_name),
    "case": Field("Case"),
    "capital_usd": Field("Capital", "USD", usd),
    "impact_annual": Field("Impact paid", "% of NAV per year", _pct2),
    "beyond_liquidity": Field(
        "Beyond liquidity limit", "% of days", percent, "days on which no book within basket.adv_share_max existed"
    ),
    "participation_p95": Field("Share of daily volume", "95th percentile", _pct2),
    "variant": Field("Variant", "", str),
    "overrides": Field("Differs in", "JSON", wrap=True),
    "parameter": Field("Parameter"),
    "n_values": Field("Values"),
    "spread": Field("Range of mean Sharpe", "per year", _num2),
    "level": Field("Level", "", _pct1),
    "n_exceptions": Field("Exceptions", "days"),
    "expected": Field("Expected", "days", _num1),
    "kupiec_lr": Field("Kupiec", "LR", _num2),
    "kupiec_p": Field("p, count", "", p_value),
    "independence_lr": Field("Christoffersen", "LR", _num2),
    "coverage_p": Field("p, count and clustering", "", p_value),
    "es": Field("Mean on exceptions", "% per day", _pct2),
    "flag": Field("Rule", "", reason_name),
    "subject": Field("Subject"),
    "fired": Field("Fired"),
    "value": Field("Measured", "", significant),
    "bound": Field("Bound", "", significant),
    "message": Field("What it means", wrap=True),
}

SELECTION_FORMATS: dict[str, tuple[str, Format]] = {
    "n_trials": ("Configurations tried", _num0),
    "n_effective_trials": ("Effectively independent of them", _num1),
    "sharpe": ("Sharpe ratio, net", _num2),
    "expected_max_sharpe": ("Sharpe ratio the best of them would show by luck", _num2),
    "psr": ("Probabilistic Sharpe ratio", _pct1),
    "dsr": ("Deflated Sharpe ratio", _pct1),
    "min_trl_years": ("Minimum track record (years)", _num1),
    "min_btl_years": ("Minimum backtest length (years)", _num1),
    "pbo": ("Probability of backtest overfitting", _pct1),
    "spa_lower": ("SPA p-value, lower", p_value),
    "spa_consistent": ("SPA p-value, consistent", p_value),
    "spa_upper": ("SPA p-value, upper", p_value),
    "stepm_superior": ("Variants StepM finds superior", _num0),
}
"""Measure of table `selection` to its title and format, in the order shown."""

KPI_FIELDS: dict[str, Field] = {
    "n_days": Field("Days"),
    "n_invested_days": Field("Days invested"),
    "total_return": Field("Total return, net", "% of start", _pct1),
    "total_return_gross": Field("Total return, gross", "% of start", _pct1, "before fees, spread, impact and haircuts"),
    "cagr": Field("CAGR", "per year", _pct1, "compound annual growth, 365 days a year"),
    "volatility": Field("Volatility", "per year", _pct1, "sd of daily net returns x sqrt(365)"),
    "sharpe": Field("Sharpe, net", "per year", _num2, "mean / sd of daily net returns x sqrt(365), no risk-free rate"),
    "sharpe_se": Field("Sharpe s.e.", "per year", _num2, "Lo (2002)"),
    "sharpe_gross": Field("Sharpe, gross", "per year", _num2, "before costs"),
    "sortino": Field("Sortino", "per year", _num2, "mean / downside deviation about 0 x sqrt(365)"),
    "max_drawdown": Field("Max drawdown", "% of peak", _pct1),
    "max_drawdown_days": Field("Longest time under water", "days"),
    "drawdown": Field("Drawdown today", "% of peak", _pct1),
    "calmar": Field("Calmar", "ratio", _num2, "CAGR / |max drawdown|"),
    "hit_rate": Field("Hit rate", "% of invested days", _pct1, "invested days with a positive net return"),
    "exposure_time": Field("Time invested", "% of days", _pct1),
    "turnover_annual": Field("Turnover", "× NAV per year", _num1),
    "turnover_major_annual": Field("Turnover, majors", "× NAV per year", _num1),
    "turnover_alt_annual": Field("Turnover, alts", "× NAV per year", _num1),
    "cost_annual": Field("Costs paid", "% of NAV per year", _pct2, "fees, spread, impact and exit haircuts"),
    "funding_annual": Field("Funding received", "% of NAV per year", _pct2, "positive = received"),
    "beta_btc": Field("Realised beta to BTC", "invested days", _num3, "one regression of gross returns on BTC and ETH"),
    "beta_eth": Field("Realised beta to ETH", "invested days", _num3, "one regression of gross returns on BTC and ETH"),
    "neutrality_ex_ante_btc": Field("Ex-ante |beta| to BTC", "mean, invested days", _num3),
    "neutrality_ex_ante_eth": Field("Ex-ante |beta| to ETH", "mean, invested days", _num3),
}

FIELDS: dict[str, Field] = {
    **KPI_FIELDS,
    "account": Field("Account", "", account_name),
    "label": Field("Label", "", label_name),
    "year": Field("Year", "", str),
    "fold": Field("Fold", "", str),
    "month": Field("Month", ""),
    "date": Field("Day", "UTC"),
    "asset_id": Field("Asset"),
    "leg": Field("Leg"),
    "depth": Field("Depth", "% of peak", _pct1),
    "peak": Field("Peak", "UTC day"),
    "trough": Field("Trough", "UTC day"),
    "recovery": Field("Recovered", "UTC day"),
    "days_down": Field("To the trough", "days"),
    "days_total": Field("Under water", "days"),
    "component": Field("Component", "", component_name),
    "usd": Field("Amount", "USD", usd),
    "of_capital": Field("Sum of daily share", "% of NAV", _pct2),
    "per_year": Field("A year", "% of NAV", _pct2),
    "pnl_price": Field("Price", "USD", usd),
    "pnl_funding": Field("Funding", "USD", usd),
    "cost_fees": Field("Fees", "USD", usd),
    "cost_slippage": Field("Spread", "USD", usd),
    "cost_impact": Field("Impact", "USD", usd),
    "cost_exit_haircut": Field("Exit haircuts", "USD", usd),
    "costs": Field("Costs", "USD", usd),
    "net": Field("Net", "USD", usd),
    "days_held": Field("Held", "days"),
    "mean_weight": Field("Mean weight", "% of NAV", _pct2),
    "largest_weight": Field("Largest weight", "% of NAV", _pct2),
    "n_episodes": Field("Episodes"),
    "share": Field("Share", "% of days", _pct1),
    "mean_days": Field("Mean length", "days", _num1),
    "longest_days": Field("Longest", "days"),
    "RISK_ON_MAJORS": Field("Risk-on majors next", "% of days", _pct1),
    "BALANCED": Field("Balanced next", "% of days", _pct1),
    "RISK_ON_ALTS": Field("Risk-on alts next", "% of days", _pct1),
    "mean": Field("Mean", "bp per day", basis_points),
    "candidate": Field("Candidate", "number"),
    "in_force": Field("In force", "", reason_name),
    "objective": Field("Objective", "t-statistic", _num2),
    "n_obs": Field("Training", "days"),
    "train_end": Field("Last training decision", "UTC day"),
    "n_candidates": Field("Tried", "candidates"),
    "params": Field("Parameters", "JSON", wrap=True),
    "status": Field("Outcome", "", reason_name),
    "relaxed": Field("Constraints given up"),
    "reason": Field("First failing rule", "", reason_name),
    "first": Field("First", "UTC day"),
    "last": Field("Last", "UTC day"),
    "mean_assets": Field("Mean", "assets per day", _num1),
    "last_day": Field("On the last day", "assets"),
    "n_assets": Field("Ever kept out", "assets"),
    "last_date": Field("Last own price", "UTC day"),
    "last_price": Field("Price", "USD", price_usd),
    "price_vs_peak": Field("Below its highest close", "%", percent_below),
    "days_eligible": Field("Eligible", "days"),
    "price": Field("Price", "USD", price_usd),
    "price_age_days": Field("Price age", "days"),
    "traded_usd": Field("Closed", "USD", usd),
    "kind": Field("Funding", "", kind_name),
    "position_days": Field("Positions × days", "days"),
    "feature": Field("Feature"),
    "days_with_z": Field("With a z-score", "days"),
    "coverage": Field("Mean coverage", "% of inputs", _pct1),
    "first_z": Field("First z-score", "UTC day"),
    "last_raw": Field("Last raw value", "see feature", _num3),
    "last_z": Field("Last z-score", "sd", _num2),
    "days_waiting": Field("Orders waited", "days"),
    "orders_waiting": Field("Orders waiting", "orders × days"),
    "n_dead_exits": Field("Dead exits", "positions"),
    "n_stopped": Field("Stopped", "positions"),
    "assumed_share": Field("Funding assumed", "% of position-days", _pct1),
    "assumed_annual": Field("Assumed funding", "% of NAV per year", _pct2),
    "adv_usd": Field("Median volume", "USD per day", usd),
    "check": Field("Check", "", reason_name),
    "severity": Field("Severity"),
    "table": Field("Table"),
    "rows": Field("Findings"),
    "example": Field("First finding", wrap=True),
    "execution_lag_days": Field("Execution lag", "days"),
    "factor": Field("Factor", "", str.upper),
    "ex_ante_mean": Field("Ex ante, mean", "beta", _num3, "mean beta of the drifted book at the close before"),
    "ex_ante_abs": Field("Ex ante, mean absolute", "beta", _num3),
    "ex_ante_p95": Field("Ex ante, 95th percentile", "|beta|", _num3),
    "ex_ante_max": Field("Ex ante, worst", "|beta|", _num3),
    "ex_ante_max_date": Field("Worst day", "UTC close"),
    "gross_exposure": Field("Largest gross", "% of NAV", _pct1),
    "gross_date": Field("On", "UTC day"),
    "alt_weight": Field("Largest alt", "% of NAV", _pct1),
    "alt_asset_id": Field("Asset"),
    "alt_date": Field("On", "UTC day"),
    "ex_post": Field("Ex post", "beta", _num3),
    "error": Field("Ex post − ex ante", "beta", _num3),
    "p_value": Field("p-value", "", p_value),
    **{
        name: Field(title, "bp per day", basis_points)
        for name, title in {"p05": "5 %", "p25": "25 %", "median": "Median", "p75": "75 %", "p95": "95 %"}.items()
    },
    "method": Field("Method", "", method_name),
    "state": Field("State", "", reason_name),
    "native_state": Field("Its own word", "", reason_name),
    "days_in_regime": Field("For", "days"),
    "converged": Field("Converged"),
    "note": Field("Note", wrap=True),
    **EVIDENCE_FIELDS,
}


def chosen(columns: Sequence[str], **over: Field) -> dict[str, Field]:
    """Fields of `columns` in that order, some replaced."""
    return {name: over.get(name) or FIELDS[name] for name in columns}


def with_interval(row: Mapping[str, Any], name: str) -> str | None:
    """Value of column `name` with the interval `name_low`, `name_high` in brackets; None when it is null."""
    show, value, low, high = FIELDS[name].show, row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value is None:
        return None
    return show(value) if low is None or high is None else f"{show(value)} [{show(low)}, {show(high)}]"


def kpi_columns(frame: pl.DataFrame) -> list[str]:
    """KPI columns of a frame in the order they are shown."""
    return [name for name in KPI_FIELDS if name in frame.columns]
