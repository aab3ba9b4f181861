"""Contracts of every table the pipeline writes: columns, types, units, keys and meaning.

This is the single place where a column is declared. Storage enforces it on write, the Dagster UI and
``majors-alts read --list`` show it, and `docs/data_contract.md` is generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl


class ContractError(ValueError):
    """A frame does not satisfy the contract of the table it claims to be."""


@dataclass(frozen=True)
class Column:
    """One column: Polars type, unit (``""`` when dimensionless text) and meaning."""

    dtype: pl.DataType | type[pl.DataType]
    unit: str
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class TableContract:
    """A daily table: one row per `key`, sorted by `key`, `date` being the UTC day whose close it describes."""

    name: str
    description: str
    key: tuple[str, ...]
    columns: Mapping[str, Column] = field(hash=False)

    @property
    def schema(self) -> pl.Schema:
        """Polars schema in column order."""
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    def empty(self) -> pl.DataFrame:
        """Frame with the contract's schema and no rows."""
        return pl.DataFrame(schema=self.schema)

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return `frame` with exactly the contract's columns, types and order.

        Raises:
            ContractError: a column is missing or extra, has another type, holds a null or a non-finite
                number it must not hold, or the key is not unique. The message names table, column and
                the first offending row.
        """
        missing = [name for name in self.columns if name not in frame.columns]
        extra = [name for name in frame.columns if name not in self.columns]
        if missing or extra:
            raise ContractError(f"{self.name}: missing columns {missing}, undeclared columns {extra}")
        frame = frame.select(list(self.columns))
        for name, column in self.columns.items():
            if frame.schema[name] != column.dtype:
                raise ContractError(f"{self.name}.{name}: type {frame.schema[name]}, contract says {column.dtype}")
        forbidden = [
            pl.col(name).is_null().any().alias(name) for name, column in self.columns.items() if not column.nullable
        ]
        if frame.height and forbidden:
            flags = frame.select(forbidden).row(0, named=True)
            for name in (name for name, bad in flags.items() if bad):
                first = frame.filter(pl.col(name).is_null()).select(self.key).row(0)
                raise ContractError(f"{self.name}.{name}: null at {self.key}={first}; the contract forbids nulls")
        floats = [name for name, column in self.columns.items() if column.dtype == pl.Float64]
        if frame.height and floats:
            not_finite = ~pl.all().is_finite()
            flags = frame.select(pl.col(floats)).select(not_finite.fill_null(False).any()).row(0, named=True)
            for name in (name for name, bad in flags.items() if bad):
                first = frame.filter(~pl.col(name).is_finite()).select(*self.key, name).row(0)
                raise ContractError(f"{self.name}.{name}: non-finite value at {(*self.key, name)}={first}")
        frame = frame.sort(self.key)
        same_as_previous = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in self.key)
        duplicated = frame.filter(same_as_previous)
        if duplicated.height:
            raise ContractError(f"{self.name}: duplicate key {self.key}={duplicated.select(self.key).row(0)}")
        return frame


F, N, S, B, D = pl.Float64(), pl.Int32(), pl.String(), pl.Boolean(), pl.Date()
_DATE = Column(D, "UTC day", "day whose close the row describes")
_ASSET = Column(S, "", "asset identifier: upper case, no venue suffix")

PANEL = TableContract(
    "panel",
    "Normalised, quality-flagged daily facts of the lake: one row per day and asset with a known price.",
    ("date", "asset_id"),
    {
        "date": _DATE,
        "asset_id": _ASSET,
        "close": Column(F, "USD", "last close; carried from an earlier day when price_age_days > 0"),
        "open": Column(F, "USD", "open of the day", True),
        "high": Column(F, "USD", "high of the day", True),
        "low": Column(F, "USD", "low of the day", True),
        "ret": Column(F, "decimal per day", "close / previous day's close - 1; null across a gap", True),
        "price_age_days": Column(N, "days", "0 when the price is the day's own; else days it has been carried"),
        "volume_usd": Column(F, "USD per day", "traded notional", True),
        "marketcap": Column(F, "USD", "market capitalisation known at the close", True),
        "marketcap_kind": Column(S, "", "observed, or scaled = last observation at constant supply", True),
        "marketcap_age_days": Column(N, "days", "days since the market cap was observed", True),
        "funding_rate": Column(F, "decimal per day", "funding a long pays over the day", True),
        "funding_kind": Column(
            S, "", "sum = all prints; print_scaled = one print x prints per day; + _rescaled: was percent", True
        ),
        "open_interest_usd": Column(F, "USD", "open interest", True),
        "listed_on": Column(D, "UTC day", "instrument onboard date when known, else first day seen in the lake"),
        "source": Column(S, "", "provenance of the price", True),
    },
)

UNIVERSE = TableContract(
    "universe",
    "Who could be held that day and, if not, the first rule that failed.",
    ("date", "asset_id"),
    {
        "date": _DATE,
        "asset_id": _ASSET,
        "role": Column(S, "", "major, alt or excluded"),
        "eligible": Column(B, "", "may be held at the close of the day"),
        "reason": Column(S, "", "ok, or the first failing rule"),
        "age_days": Column(N, "days", "days since listing"),
        "adv_usd": Column(F, "USD per day", "median traded notional over the trailing window", True),
        "marketcap": Column(F, "USD", "market cap known that day", True),
        "marketcap_kind": Column(S, "", "observed or scaled", True),
        "marketcap_age_days": Column(N, "days", "days since the market cap was observed", True),
        "shortable": Column(B, "", "a live perpetual with funding that day; null when the lake cannot tell", True),
        "price_age_days": Column(N, "days", "days the price has been carried"),
        "detector": Column(S, "", "peg_usd, tracks:ASSET, or null; from data, not from a list", True),
    },
)

FEATURES = TableContract(
    "features",
    "Market-wide regime features, raw and as trailing z-scores.",
    ("date", "feature"),
    {
        "date": _DATE,
        "feature": Column(S, "", "feature name (features.definitions lists unit and signed hypothesis)"),
        "raw": Column(F, "see feature", "value of the day; null when it cannot be computed", True),
        "z": Column(F, "standard deviations", "trailing z-score, ddof 1; null until the burn-in is over", True),
        "coverage": Column(F, "fraction", "share of the inputs the feature wanted that existed that day"),
    },
)

MARKET = TableContract(
    "market",
    "What the regime models read besides the features: one row per day, of the market as a whole.",
    ("date",),
    {
        "date": _DATE,
        "open": Column(F, "USD", "open of the first major; null when its price is carried or the lake has none", True),
        "high": Column(F, "USD", "high of the first major", True),
        "low": Column(F, "USD", "low of the first major", True),
        "close": Column(F, "USD", "close of the first major; null when its price is carried", True),
        "majors_minus_alts": Column(
            F, "decimal per day", "mean return of the majors less the median return of the eligible alts", True
        ),
        "average_correlation": Column(
            F, "correlation", "mean pairwise correlation of majors and eligible alts over the trailing 30 days", True
        ),
        "n_correlated": Column(N, "assets", "assets behind average_correlation"),
    },
)

BETAS = TableContract(
    "betas",
    "Two-factor (BTC, ETH) rolling ridge betas, shrunk towards the cross-section by their standard errors.",
    ("date", "asset_id"),
    {
        "date": _DATE,
        "asset_id": _ASSET,
        "beta_btc": Column(F, "return per return", "ridge beta to BTC after Vasicek shrinkage"),
        "beta_eth": Column(F, "return per return", "ridge beta to ETH after Vasicek shrinkage"),
        "beta_btc_raw": Column(F, "return per return", "ridge beta to BTC before shrinkage"),
        "beta_eth_raw": Column(F, "return per return", "ridge beta to ETH before shrinkage"),
        "se_btc": Column(F, "return per return", "standard error of beta_btc_raw"),
        "se_eth": Column(F, "return per return", "standard error of beta_eth_raw"),
        "r2": Column(F, "fraction", "share of the winsorised window's return variance explained"),
        "idio_vol": Column(F, "decimal per day", "residual standard deviation, outliers included"),
        "n_obs": Column(N, "days", "observations in the window"),
        "vif": Column(F, "ratio", "variance inflation of the two factors, 1 / (1 - corr(BTC, ETH)^2)"),
    },
)

TRACKERS = TableContract(
    "trackers",
    "What one could trade against the alts as a whole: a cap-weighted index of those that could be held, decided on "
    "the eve of each month, and long BTC against it. Before costs and funding.",
    ("date", "tracker"),
    {
        "date": _DATE,
        "tracker": Column(S, "", "alt_index, or btc_dominance = long 1 BTC, short 1 alt_index, reset daily"),
        "level": Column(F, "100 = before the first return", "value; stands still on days without a return", True),
        "ret": Column(F, "decimal per day", "return of the day; null where there is no index or no price of BTC", True),
        "n_members": Column(N, "assets", "members of the alt index held over the day that have a price"),
        "top_weight": Column(F, "fraction", "largest weight in the alt index at the close", True),
        "top_asset": Column(S, "", "the member that has it", True),
        "coverage": Column(
            F, "fraction", "eligible alts that were bought (cap known on the eve, price of their own on the first)",
            True,
        ),
        "dominance": Column(
            F, "fraction",
            "BTC cap / cap of all assets but stable, wrapped, pegged and gold ones; only in btc_dominance", True,
        ),
    },
)  # fmt: skip

TRACKER_BETAS = TableContract(
    "tracker_betas",
    "Rolling one-factor betas of every asset that may be held to each tracker, by least squares.",
    ("date", "asset_id", "tracker"),
    {
        "date": _DATE,
        "asset_id": _ASSET,
        "tracker": Column(S, "", "alt_index or btc_dominance"),
        "beta": Column(F, "return per return", "least-squares slope over the window of the two-factor betas"),
        "se": Column(F, "return per return", "its standard error, residuals independent and of one variance"),
        "r2": Column(F, "fraction", "share of the return variance explained"),
        "n_obs": Column(N, "days", "days in the window with both returns"),
    },
)

BASKET = TableContract(
    "basket",
    "The majors-alts book: target weights per unit of NAV, and how neutral they are.",
    ("date", "asset_id"),
    {
        "date": _DATE,
        "asset_id": _ASSET,
        "weight": Column(F, "fraction of NAV", "signed target weight; majors are always listed, 0 when flat"),
        "leg": Column(S, "", "major or alt"),
        "beta_btc": Column(F, "return per return", "beta to BTC used by the optimiser"),
        "beta_eth": Column(F, "return per return", "beta to ETH used by the optimiser"),
        "idio_vol": Column(F, "decimal per day", "residual volatility used for the inverse-vol prior"),
        "mode": Column(S, "", "dual_beta, btc_beta or dollar"),
        "status": Column(S, "", "optimal, relaxed or flat"),
        "relaxed": Column(S, "", "constraints given up, in order, joined by '+'; empty when none"),
        "reason": Column(S, "", "why the book is flat; empty otherwise"),
        "neutrality_btc": Column(F, "return per return", "ex-ante book beta to BTC, sum of w x beta"),
        "neutrality_eth": Column(F, "return per return", "ex-ante book beta to ETH, sum of w x beta"),
    },
)

BOOK_OUTCOME = TableContract(
    "book_outcome",
    "What became of an earlier decision: the price return of its book over the label horizon, known this day.",
    ("date",),
    {
        "date": _DATE,
        "decision_date": Column(D, "UTC day", "day of the decision: execution lag + label horizon days earlier"),
        "ret": Column(F, "decimal per day", "mean daily price return of that book, weights unchanged; 0 when flat"),
    },
)

REGIME_MODEL = TableContract(
    "regime_model",
    "Every candidate tried at each refit date, and which one is in force from then on.",
    ("date", "method", "candidate"),
    {
        "date": _DATE,
        "method": Column(S, "", "regime method"),
        "candidate": Column(N, "", "number of the candidate in the grid, 0 = defaults"),
        "params": Column(S, "JSON", "everything the label needs: the candidate's or the fitted model's parameters"),
        "objective": Column(
            F,
            "see method",
            "training objective (composite: t-statistic; fitted models: log-likelihood or loss per "
            "training day); null when the history is too short",
            True,
        ),
        "nested_objective": Column(
            F,
            "see method",
            "objective of choosing by grid on inner folds that the choice did not see, one number per refit date; "
            "null without a grid and when the history is too short",
            True,
        ),
        "n_obs": Column(N, "days", "training days after purging the label horizon"),
        "train_end": Column(D, "UTC day", "last decision day in the training window", True),
        "score_change_sd": Column(F, "score units", "sd of the candidate's daily score change in training", True),
        "chosen": Column(B, "", "in force from this date until the next refit"),
        "in_force": Column(
            S,
            "",
            "walk_forward; default while there is too little history; kept when the refit failed and the last "
            "good model stays",
        ),
        "converged": Column(B, "", "the fit of this date converged; true where nothing is fitted"),
        "note": Column(S, "", "why a fit failed or what was decided; empty otherwise"),
    },
)

REGIME = TableContract(
    "regime",
    "Regime label of the day by every method, with its score and probabilities; one method is traded.",
    ("date", "method"),
    {
        "date": _DATE,
        "method": Column(S, "", "regime method"),
        "configured": Column(B, "", "the method whose label the timed account trades"),
        "label": Column(S, "", "RISK_ON_MAJORS, BALANCED or RISK_ON_ALTS"),
        "native_state": Column(S, "", "state in the method's own words, as TRENDING_UP; null where it has none", True),
        "score": Column(
            F,
            "see method",
            "positive favours majors: composite in standard deviations, others p_risk_on_majors - "
            "p_risk_on_alts; null = nothing known",
            True,
        ),
        "p_risk_on_majors": Column(F, "probability", "probability of RISK_ON_MAJORS"),
        "p_balanced": Column(F, "probability", "probability of BALANCED"),
        "p_risk_on_alts": Column(F, "probability", "probability of RISK_ON_ALTS"),
        "model_asof": Column(D, "UTC day", "refit date of the model in force", True),
        "disagreement": Column(
            F, "fraction", "of the methods behind a consensus: Jensen-Shannon divergence / ln 3, 0 = agreed", True
        ),
        "in_force": Column(S, "", "walk_forward, default or kept"),
        "candidate": Column(N, "", "candidate of regime_model in force"),
        "days_in_regime": Column(N, "days", "consecutive days the label has held, this one included"),
        "n_features": Column(
            N, "inputs", "inputs that existed that day: features with a z-score, indicators, or methods of a consensus"
        ),
    },
)

REGIME_PROBABILITY = TableContract(
    "regime_probability",
    "Probability of each state of each method: now, and tomorrow and in five days under its own transitions.",
    ("date", "method", "horizon_days", "state"),
    {
        "date": _DATE,
        "method": Column(S, "", "regime method"),
        "horizon_days": Column(N, "days", "0 = filtered probability of the day itself; 1 and 5 = days ahead"),
        "state": Column(S, "", "state in the method's own words"),
        "probability": Column(F, "probability", "sums to 1 over the states of a date, method and horizon"),
    },
)

REGIME_WEIGHTS = TableContract(
    "regime_weights",
    "How the consensus weighs the other methods, and why: their forecasts of the book scored so far.",
    ("date", "method"),
    {
        "date": _DATE,
        "method": Column(S, "", "regime method behind the consensus"),
        "weight": Column(F, "fraction", "weight of the day; 0 when the method does not speak; sums to 1 if any does"),
        "skill": Column(
            F, "nats", "discounted mean log score of its known forecasts less the base rate's; > 0 is better"
        ),
        "p_book_up": Column(
            F, "probability", "its probability that the book's forward return is > 0; the base rate when it is silent"
        ),
    },
)

BACKTEST = TableContract(
    "backtest",
    "Daily accounts: NAV identity holds every row (see docs/methods.md, ledger).",
    ("date", "account"),
    {
        "date": _DATE,
        "account": Column(S, "", "regime, always_on, btc, eth, btc_eth, alt_index or random_regimes"),
        "nav": Column(F, "USD", "net asset value at the close"),
        "ret_gross": Column(F, "decimal per day", "(price P&L + funding) / previous NAV"),
        "ret_net": Column(F, "decimal per day", "NAV change / previous NAV"),
        "pnl_price": Column(F, "USD", "price P&L of positions held over the day"),
        "pnl_funding": Column(F, "USD", "funding received (+) or paid (-), stand-ins included"),
        "pnl_funding_assumed": Column(F, "USD", "part of pnl_funding from the stand-in for missing funding"),
        "cost_fees": Column(F, "USD", "exchange fees, >= 0"),
        "cost_slippage": Column(F, "USD", "half spread crossed, >= 0"),
        "cost_impact": Column(F, "USD", "square-root market impact, >= 0"),
        "cost_exit_haircut": Column(F, "USD", "haircut on positions closed for want of a price, >= 0"),
        "cash": Column(F, "USD", "cash; short proceeds are cash, shorts are liabilities"),
        "long_usd": Column(F, "USD", "market value of longs at the close"),
        "short_usd": Column(F, "USD", "market value of shorts at the close, <= 0"),
        "turnover": Column(F, "fraction of NAV", "traded notional / previous NAV"),
        "turnover_major": Column(F, "fraction of NAV", "part of turnover in majors"),
        "turnover_alt": Column(F, "fraction of NAV", "part of turnover in alts"),
        "gross_exposure": Column(F, "fraction of NAV", "sum of |position| / NAV at the close"),
        "net_exposure": Column(F, "fraction of NAV", "sum of position / NAV at the close"),
        "beta_btc": Column(F, "return per return", "ex-ante beta to BTC of the drifted book at the close"),
        "beta_eth": Column(F, "return per return", "ex-ante beta to ETH of the drifted book at the close"),
        "regime": Column(S, "", "label known at the close of the day; NONE before the first"),
        "regime_traded": Column(S, "", "label whose decision the position held over the day carries out"),
        "exposure_multiplier": Column(F, "ratio", "volatility-target multiplier of the decision taken at the close"),
        "vol_forecast": Column(
            F,
            "decimal per year",
            "volatility expected of the book at multiplier 1; null where there is no forecast",
            True,
        ),
        "vol_model": Column(
            S,
            "",
            "what forecast it: trailing, ewma, garch, garch_stale (the newest fit could not be used, an older "
            "one is in force), or none (multiplier 1)",
        ),
        "n_positions": Column(
            N, "positions", "open positions at the close; counts of random_regimes: mean of its paths, rounded up"
        ),
        "n_stopped": Column(N, "positions", "positions closed by a stop this day"),
        "n_dead_exits": Column(N, "positions", "positions closed for want of a price this day"),
        "n_waiting": Column(
            N, "positions", "orders that could not be traded at this close for want of a price of the asset's own"
        ),
        "identity_error": Column(F, "fraction of NAV", "|NAV - (cash + positions)| / NAV, and of the P&L identity"),
    },
)

POSITIONS = TableContract(
    "positions",
    "What the regime and always_on accounts hold, decide, earn and pay per asset.",
    ("date", "account", "asset_id"),
    {
        "date": _DATE,
        "account": Column(S, "", "regime or always_on"),
        "asset_id": _ASSET,
        "leg": Column(S, "", "major or alt"),
        "price": Column(F, "USD", "price the position is marked at"),
        "price_age_days": Column(N, "days", "age of that price"),
        "units": Column(F, "coins", "signed position after the day's trades"),
        "value_usd": Column(F, "USD", "units x price"),
        "weight": Column(F, "fraction of NAV", "value / NAV at the close"),
        "target_weight": Column(
            F, "fraction of NAV", "decision taken at this close; traded at the close execution_lag_days later", True
        ),
        "order_usd": Column(
            F, "USD", "order the decision implies at this close; null when the book is left to drift", True
        ),
        "traded_usd": Column(F, "USD", "signed notional traded at this close"),
        "trade_reason": Column(S, "", "rebalance, regime, band, stop_fixed/trailing/time, dead, ruin, or empty"),
        "pnl_price": Column(F, "USD", "price P&L over the day"),
        "pnl_funding": Column(F, "USD", "funding received (+) or paid (-) over the day"),
        "cost_fees": Column(F, "USD", ">= 0"),
        "cost_slippage": Column(F, "USD", ">= 0"),
        "cost_impact": Column(F, "USD", ">= 0"),
        "cost_exit_haircut": Column(F, "USD", ">= 0"),
    },
)

KPIS = TableContract(
    "kpis",
    "Performance of each account from inception to the day, as it was known that day. random_regimes is the mean of "
    "backtest.random_paths accounts: unless there is one path, what describes the path of a single account (marked *) "
    "is null for it, since a mean of accounts is smoother than any of them.",
    ("date", "account"),
    {
        "date": _DATE,
        "account": Column(S, "", "account"),
        "n_days": Column(N, "days", "days since the first trade of any account"),
        "n_invested_days": Column(N, "days", "days with a position over them, in any path of random_regimes"),
        "total_return": Column(F, "decimal", "NAV / initial NAV - 1"),
        "cagr": Column(F, "decimal per year", "compound annual growth, 365 days; null before 30 days", True),
        "volatility": Column(F, "decimal per year", "* sd of daily net returns x sqrt(365)", True),
        "sharpe": Column(F, "per year", "* mean / sd of daily net returns x sqrt(365), no risk-free rate", True),
        "sharpe_se": Column(F, "per year", "* Lo (2002) standard error under iid returns, annualised", True),
        "sortino": Column(F, "per year", "* mean / downside deviation about 0, x sqrt(365)", True),
        "drawdown": Column(F, "decimal", "* NAV / running peak - 1", True),
        "max_drawdown": Column(F, "decimal", "* lowest drawdown so far", True),
        "exposure_time": Column(F, "fraction", "* share of days with a position", True),
        "hit_rate": Column(F, "fraction", "* share of invested days with a positive net return", True),
        "turnover_annual": Column(F, "NAV per year", "mean daily turnover x 365"),
        "cost_annual": Column(F, "decimal per year", "mean daily cost / NAV x 365"),
        "funding_annual": Column(F, "decimal per year", "mean daily funding / NAV x 365; positive = received"),
    },
)

TABLES: dict[str, TableContract] = {
    contract.name: contract
    for contract in (
        PANEL,
        UNIVERSE,
        FEATURES,
        MARKET,
        BETAS,
        TRACKERS,
        TRACKER_BETAS,
        BASKET,
        BOOK_OUTCOME,
        REGIME_MODEL,
        REGIME,
        REGIME_PROBABILITY,
        REGIME_WEIGHTS,
        BACKTEST,
        POSITIONS,
        KPIS,
    )
}
