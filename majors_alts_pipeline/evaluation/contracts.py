"""Contracts of the evidence: tables made of all stored days together, one file each, no partitions.

Daily tables are declared in `majors_alts_pipeline.tables`. `evidence/` fills these, `report/` shows them.
Sharpe ratios are annualised with 365 days; every interval has the confidence of `evaluation.confidence`.
"""

from __future__ import annotations

from majors_alts_pipeline.tables import B, Column, D, F, N, S, TableContract

_ACCOUNT = Column(S, "", "account of table backtest")
_METHOD = Column(S, "", "regime method")
_LOW = Column(F, "as value", "lower end of the interval; null when there are too few days", True)
_HIGH = Column(F, "as value", "upper end of the interval; null when there are too few days", True)

EDGE_BY_HORIZON = TableContract(
    "edge_by_horizon",
    "Cumulative price return of the always-on book after the day a label was known, by method, label and horizon.",
    ("method", "label", "horizon_days"),
    {
        "method": _METHOD,
        "label": Column(S, "", "label known at the decision; ALL for every day"),
        "horizon_days": Column(N, "days", "days over which the return is cumulated, after the execution lag"),
        "mean": Column(F, "decimal per horizon", "mean forward cumulative return; null without a day", True),
        "low": _LOW,
        "high": _HIGH,
        "difference": Column(F, "decimal per horizon", "mean - mean of all days without the label", True),
        "hac_t": Column(F, "t-statistic", "of the difference; Newey-West on daily terms (Hodrick 1992)", True),
        "p_value": Column(
            F, "probability", "two-sided circular-shift p of the difference, studentised; null for ALL", True
        ),
        "n_days": Column(N, "days", "decisions with the label and a whole horizon"),
        "n_episodes": Column(N, "episodes", "unbroken runs of the label among them"),
        "n_effective": Column(F, "days", "independent decisions: n_days shrunk by overlap and autocorrelation", True),
        "warning": Column(S, "", "plain words when the sample is too small to believe; empty otherwise"),
    },
)

SELECTION = TableContract(
    "selection",
    "Sharpe ratios of the book after everything that was tried: one row per account and measure.",
    ("account", "measure"),
    {
        "account": _ACCOUNT,
        "measure": Column(
            S, "", "n_trials, n_effective_trials, sharpe, expected_max_sharpe, psr, dsr, min_trl_years, "
            "min_btl_years, pbo, spa_lower, spa_consistent, spa_upper, stepm_superior",
        ),
        "value": Column(F, "see measure", "value; null when it cannot be computed", True),
        "low": _LOW,
        "high": _HIGH,
        "note": Column(S, "", "what it means here, or why it is null"),
    },
)  # fmt: skip

CSCV = TableContract(
    "cscv",
    "Combinatorially symmetric cross-validation of the variants: the in-sample winner, out of sample.",
    ("split",),
    {
        "split": Column(N, "", "number of the split"),
        "winner": Column(S, "", "variant with the best in-sample Sharpe"),
        "is_sharpe": Column(F, "annualised", "its Sharpe in sample"),
        "oos_sharpe": Column(F, "annualised", "its Sharpe out of sample"),
        "logit": Column(F, "log odds", "ln(w / (1 - w)), w = its rank out of sample / (variants + 1)"),
    },
)

FOLDS = TableContract(
    "folds",
    "In sample against out of sample: walk-forward folds and paths of combinatorial purged cross-validation.",
    ("scheme", "fold"),
    {
        "scheme": Column(S, "", "walk_forward or cpcv"),
        "fold": Column(N, "", "number of the fold or path"),
        "start": Column(D, "UTC day", "first test day"),
        "end": Column(D, "UTC day", "last test day"),
        "chosen": Column(S, "", "variant chosen in sample; several joined by ', ' for a path"),
        "is_sharpe": Column(F, "annualised", "Sharpe of the choice in sample (mean over a path's splits)", True),
        "oos_sharpe": Column(F, "annualised", "Sharpe of the choice out of sample", True),
        "n_train": Column(N, "days", "training days after purge and embargo"),
        "n_test": Column(N, "days", "test days"),
    },
)

ROBUSTNESS = TableContract(
    "robustness",
    "The same accounts under other assumptions, one at a time.",
    ("test", "case", "account"),
    {
        "test": Column(
            S, "", "cost_bp, execution_lag, start_date, leave_one_asset_out, leave_one_year_out, basket_size, "
            "neutrality_mode, vol_forecast, price_noise or survivorship",
        ),
        "case": Column(S, "", "what was changed, in words or figures; 'as configured' is the study itself"),
        "account": _ACCOUNT,
        "rank": Column(N, "", "order in which the cases of a test are shown"),
        "level": Column(F, "see test", "the case as a number, for an axis; null where it is a name", True),
        "sharpe": Column(F, "annualised", "net Sharpe; null for < 2 days or no variation", True),
        "cagr": Column(F, "decimal per year", "net growth; null below 30 days", True),
        "max_drawdown": Column(F, "fraction", "largest fall from a peak, <= 0"),
        "cost_annual": Column(F, "fraction of NAV per year", "fees, slippage, impact and haircuts"),
        "n_days": Column(N, "days", "days judged"),
        "note": Column(S, "", "what a reader must know about the case; empty when nothing"),
    },
)  # fmt: skip

CAPACITY = TableContract(
    "capacity",
    "The same books at other capital: square-root impact grows, liquidity caps bind.",
    ("account", "capital_usd"),
    {
        "account": _ACCOUNT,
        "capital_usd": Column(F, "USD", "NAV at the start"),
        "sharpe": Column(F, "annualised", "net Sharpe", True),
        "cagr": Column(F, "decimal per year", "net growth", True),
        "cost_annual": Column(F, "fraction of NAV per year", "all costs"),
        "impact_annual": Column(F, "fraction of NAV per year", "market impact alone"),
        "participation_p95": Column(F, "fraction", "95th percentile of traded notional / daily volume", True),
        "beyond_liquidity": Column(
            F, "fraction", "share of the days with a book on which it exceeds basket.adv_share_max: there was no other"
        ),
    },
)

SWEEP = TableContract(
    "sweep",
    "Variants of the configuration evaluated on the same days in one pass.",
    ("variant",),
    {
        "variant": Column(N, "", "number of the variant; 0 = as configured, but for `overrides`"),
        "trial": Column(S, "", "identifier in the study registry"),
        "overrides": Column(S, "JSON", "settings that differ from the study's, dotted key to value"),
        "sharpe": Column(F, "annualised", "net Sharpe of the timed book", True),
        "cagr": Column(F, "decimal per year", "net growth", True),
        "volatility": Column(F, "decimal per year", "of net returns", True),
        "max_drawdown": Column(F, "fraction", "largest fall from a peak, <= 0"),
        "turnover_annual": Column(F, "fraction of NAV per year", "traded notional"),
        "cost_annual": Column(F, "fraction of NAV per year", "all costs"),
        "exposure_time": Column(F, "fraction", "share of days with a position"),
        "n_days": Column(N, "days", "days judged"),
    },
)

PROBABILITY_SCORES = TableContract(
    "probability_scores",
    "How good the regime probabilities were as forecasts, against the base rate known at the time.",
    ("method", "event", "horizon_days"),
    {
        "method": _METHOD,
        "event": Column(S, "", "what was forecast: a state of the method, or book_up = the book's forward return > 0"),
        "horizon_days": Column(N, "days", "days ahead"),
        "n": Column(N, "forecasts", "forecasts with an outcome"),
        "base_rate": Column(F, "fraction", "share of outcomes"),
        "brier": Column(F, "probability squared", "mean squared error of the forecast"),
        "brier_base": Column(F, "probability squared", "of the climatological base rate known at the time"),
        "log_score": Column(F, "nats", "mean -ln(probability given to what happened); small is good"),
        "log_score_base": Column(F, "nats", "of the base rate"),
        "dm_t": Column(F, "t-statistic", "HAC t of log_score_base - log_score: > 0 the forecast is better", True),
    },
)

RELIABILITY = TableContract(
    "reliability",
    "Reliability curves: probability forecast against frequency observed.",
    ("method", "event", "horizon_days", "bin"),
    {
        "method": _METHOD,
        "event": Column(S, "", "as in probability_scores"),
        "horizon_days": Column(N, "days", "days ahead"),
        "bin": Column(N, "", "number of the bin of forecasts, equal counts"),
        "forecast": Column(F, "probability", "mean forecast of the bin"),
        "observed": Column(F, "fraction", "share of outcomes in the bin"),
        "low": Column(F, "fraction", "Wilson interval of observed, as if forecasts were independent"),
        "high": Column(F, "fraction", "Wilson interval of observed"),
        "n": Column(N, "forecasts", "forecasts in the bin"),
    },
)

HINDSIGHT = TableContract(
    "hindsight",
    "What the newest model of each fitted method says of the past knowing all of it: to be drawn, never traded.",
    ("date", "method", "label"),
    {
        "date": Column(D, "UTC day", "day"),
        "method": _METHOD,
        "label": Column(S, "", "RISK_ON_MAJORS, BALANCED or RISK_ON_ALTS"),
        "probability": Column(F, "probability", "smoothed: given every day of the study, later ones included"),
    },
)

FEATURE_IC = TableContract(
    "feature_ic",
    "Information coefficient of each feature's z-score with the book's forward return, by horizon.",
    ("feature", "horizon_days"),
    {
        "feature": Column(S, "", "feature"),
        "horizon_days": Column(N, "days", "days over which the return is cumulated"),
        "ic": Column(F, "correlation", "Spearman correlation of sign x z with the forward return", True),
        "hac_t": Column(F, "t-statistic", "of the return on the rank; Newey-West on daily terms (Hodrick 1992)", True),
        "n_days": Column(N, "days", "days with both"),
    },
)

VAR_EXCEPTIONS = TableContract(
    "var_exceptions",
    "One-day value at risk from the trailing returns of the account, and how often it was exceeded.",
    ("account", "level"),
    {
        "account": _ACCOUNT,
        "level": Column(F, "probability", "probability of an exception"),
        "n_days": Column(N, "days", "days with a forecast and an open position"),
        "n_exceptions": Column(N, "days", "days on which the loss was larger"),
        "expected": Column(F, "days", "level x n_days"),
        "kupiec_lr": Column(F, "chi-squared(1)", "unconditional coverage", True),
        "kupiec_p": Column(F, "probability", "its p-value", True),
        "independence_lr": Column(F, "chi-squared(1)", "Christoffersen (1998) independence", True),
        "coverage_p": Column(F, "probability", "p-value of conditional coverage, chi-squared(2)", True),
        "es": Column(F, "decimal per day", "mean return on exceptions", True),
    },
)

RED_FLAGS = TableContract(
    "red_flags",
    "Signs that a number is wrong rather than good.",
    ("flag", "subject"),
    {
        "flag": Column(S, "", "name of the rule"),
        "subject": Column(S, "", "account, method or setting it looked at"),
        "fired": Column(B, "", "the rule found something"),
        "value": Column(F, "see message", "what was measured", True),
        "bound": Column(F, "see message", "beyond which it fires", True),
        "message": Column(S, "", "what was found, what it means, what to do"),
    },
)

EVIDENCE: dict[str, TableContract] = {
    contract.name: contract
    for contract in (
        EDGE_BY_HORIZON, SELECTION, CSCV, FOLDS, ROBUSTNESS, CAPACITY, SWEEP, PROBABILITY_SCORES, RELIABILITY,
        HINDSIGHT, FEATURE_IC, VAR_EXCEPTIONS, RED_FLAGS,
    )
}  # fmt: skip
"""Every evidence table by name."""
