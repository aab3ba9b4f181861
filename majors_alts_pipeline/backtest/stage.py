"""The backtest stage: one continuous ledger per account, from the first day of the panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from majors_alts_pipeline.backtest import costs as cost_model
from majors_alts_pipeline.backtest import voltarget
from majors_alts_pipeline.backtest.accounts import (
    ACCOUNTS,
    DETAILED,
    alt_index_targets,
    mean_ledger,
    random_exposure,
)
from majors_alts_pipeline.backtest.ledger import REASONS, Ledger, LedgerError, Market, Plan, run
from majors_alts_pipeline.backtest.schedule import rebalance_days
from majors_alts_pipeline.backtest.spread import spreads
from majors_alts_pipeline.backtest.voltarget import NO_FORECAST, Forecast
from majors_alts_pipeline.calendar import Window, date_array, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.config.settings import StopSettings
from majors_alts_pipeline.numerics.dense import Dense, long
from majors_alts_pipeline.tables import BACKTEST, POSITIONS

NO_LABEL = "NONE"
"""Regime of a day before the first label; nothing is held on it."""

_NO_STOPS = StopSettings(fixed=None, trailing=None, time_days=None)
_BASELINE_RULE: Literal["week"] = "week"


@dataclass(frozen=True)
class Targets:
    """The majors-alts book at full exposure, rows being every day since the first of the panel.

    Attributes:
        basket: (days, assets) weights times the volatility-target multiplier.
        multiplier: (days,) the multiplier.
        expected: forecast volatility behind it.
        decidable: (days,) bool, the basket exists, from `first` on.
        first: row of the first basket that is not flat, or None when there is none.
    """

    basket: np.ndarray
    multiplier: np.ndarray
    expected: Forecast
    decidable: np.ndarray
    first: int | None


@dataclass(frozen=True)
class Books(Targets):
    """Target weights and decisions shared by the accounts.

    Attributes:
        alt_index: (days, assets) equal-weight alts, filled on baseline decision days.
        labels: (days,) regime known at the close.
        exposure: (days,) share of the book held under that label.
        timed: row from which the label is a choice (the book exists and the regime has a score), or None.
    """

    alt_index: np.ndarray
    labels: np.ndarray
    exposure: np.ndarray
    timed: int | None


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Daily accounts and positions of the rows of `window`.

    Args:
        inputs: panel, universe, betas, basket and regime from the first day of the lake to `window.end`.
        window: days wanted.
        settings: reads lake.majors, costs, backtest and regime.exposure.

    Returns:
        ``{"backtest": ..., "positions": ...}``, see the contracts in `tables`.

    Raises:
        LedgerError: the ledger's identity fails, or an input it cannot do without is missing; names
            account or table, asset and day.
    """
    panel = inputs["panel"].filter(pl.col("date") <= window.end)
    if panel.is_empty():
        return {"backtest": BACKTEST.empty(), "positions": POSITIONS.empty()}
    history = Window(panel["date"].min(), window.end)  # type: ignore[arg-type]
    index = _alt_index(inputs["universe"], inputs["basket"], history, settings)
    assets = _assets_ever_targeted(inputs["basket"], index, history, settings)
    market, age = market_of(panel, inputs["universe"], inputs["betas"], history, assets, settings)
    books = _books(inputs["basket"], inputs["regime"], index, market.price, history, assets, settings)
    ledgers = _run_accounts(market, books, history, assets, settings)
    rows = _Rows(history, window, assets, settings)
    backtest = pl.concat([rows.account(name, ledgers[name], books) for name in ACCOUNTS])
    positions = pl.concat([rows.positions(name, ledgers[name], market, age) for name in DETAILED])
    return {
        "backtest": backtest.sort("date", "account").select(list(BACKTEST.columns)).cast(BACKTEST.schema),
        "positions": positions.sort("date", "account", "asset_id")
        .select(list(POSITIONS.columns))
        .cast(POSITIONS.schema),
    }


def _first_basket_day(basket: pl.DataFrame, history: Window) -> int | None:
    """Day number of the first book that is not flat: accounts and baselines start together, there."""
    days = history.keep(basket).filter(pl.col("weight") != 0.0)["date"]
    return None if days.is_empty() else day_number(days.min())  # type: ignore[arg-type]


def _alt_index(universe: pl.DataFrame, basket: pl.DataFrame, history: Window, settings: Settings) -> pl.DataFrame:
    """Targets of the alt index on its decision days, from the first basket day on."""
    first = _first_basket_day(basket, history)
    if first is None:
        return pl.DataFrame(schema={"date": pl.Date, "asset_id": pl.String, "weight": pl.Float64})
    mondays = rebalance_days(day_number(history.start), history.n_days, _BASELINE_RULE)
    days = np.arange(history.n_days) + day_number(history.start)
    decides = (mondays & (days >= first)) | (days == first)
    decision_days = pl.Series(date_array(history)[decides]).cast(pl.Date)
    return alt_index_targets(universe, decision_days, settings.backtest.alt_index_n)


def _assets_ever_targeted(basket: pl.DataFrame, index: pl.DataFrame, history: Window, settings: Settings) -> list[str]:
    """Sorted union of the majors and of every asset with a target; a later name only adds an empty column."""
    targeted = history.keep(basket).filter(pl.col("weight") != 0.0)["asset_id"]
    return sorted({*settings.lake.majors, *targeted.unique().to_list(), *index["asset_id"].unique().to_list()})


def market_of(
    panel: pl.DataFrame, universe: pl.DataFrame, betas: pl.DataFrame, history: Window, assets: list[str],
    settings: Settings,
) -> tuple[Market, np.ndarray]:  # fmt: skip
    """Market of the named assets, and the (days, assets) age of each price, NaN where there is none."""
    costs = settings.costs
    first_day = day_number(history.start)
    facts = Dense.of(panel, history, assets)
    price, age = facts.floats("close"), facts.floats("price_age_days")
    spread = spreads(facts.floats("open"), facts.floats("high"), facts.floats("low"), price, costs, first_day).spread
    day_facts = panel.group_by("date").agg(
        pl.col("ret").abs().median().alias("move"), pl.col("funding_rate").is_not_null().any().alias("funded")
    )
    by_day = _per_day(day_facts, history)
    beta_btc, beta_eth = _betas(betas, history, assets, settings)
    with_impact = costs.impact_coefficient > 0.0
    market = Market(
        price=price,
        tradable=age == 0.0,
        major=np.isin(assets, settings.lake.majors),
        funding=facts.floats("funding_rate"),
        any_funding=by_day["funded"].fill_null(False).to_numpy(),
        missing_funding=cost_model.missing_funding_rate(costs),
        half_spread=cost_model.half_spread(spread, costs),
        impact_unit=cost_model.impact_unit(
            facts.floats("ret"),
            cost_model.cross_sectional_volatility(by_day["move"].cast(pl.Float64).fill_null(np.nan).to_numpy()),
            costs,
            first_day,
        )
        if with_impact
        else np.empty((0, 0)),
        adv=Dense.of(universe, history, assets).floats("adv_usd"),
        missing_participation=costs.adv_missing_participation,
        fee=cost_model.fee_rate(costs),
        exit_haircut=costs.exit_haircut,
        beta_btc=beta_btc,
        beta_eth=beta_eth,
    )
    return market, age


def _per_day(frame: pl.DataFrame, history: Window) -> pl.DataFrame:
    """One row per day of `history`, null where `frame` has none."""
    days = pl.DataFrame({"date": pl.Series(date_array(history)).cast(pl.Date)})
    return days.join(frame, on="date", how="left", maintain_order="left")


def _betas(
    betas: pl.DataFrame, history: Window, assets: list[str], settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """(days, assets) betas: a major is itself; an alt has its last known beta, else the day's median."""
    dense = Dense.of(betas, history, assets)
    medians = _per_day(betas.group_by("date").agg(pl.col("beta_btc", "beta_eth").median()), history)
    out = []
    for major, column in zip(settings.lake.majors, ("beta_btc", "beta_eth"), strict=True):
        middle = _carry(medians[column].cast(pl.Float64).fill_null(np.nan).to_numpy()[:, None])
        known = _carry(dense.floats(column))
        known = np.where(np.isnan(known), middle, known)
        for name in settings.lake.majors:
            known[:, assets.index(name)] = float(name == major)
        out.append(np.ascontiguousarray(known))
    return out[0], out[1]


def _carry(values: np.ndarray) -> np.ndarray:
    """Last known value down each column; NaN before the first."""
    rows = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    last = np.maximum.accumulate(rows, axis=0)
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=0), np.nan)


def _books(
    basket: pl.DataFrame, regime: pl.DataFrame, index: pl.DataFrame, price: np.ndarray, history: Window,
    assets: list[str], settings: Settings,
) -> Books:  # fmt: skip
    weights = book_weights(basket, history, assets)
    targets = targets_of(basket, weights, expected_volatility(weights, price, history, settings), history, settings)
    labels = _labels(regime, history, targets.first, settings)
    return Books(
        **vars(targets),
        alt_index=np.nan_to_num(Dense.of(index, history, assets).floats("weight")),
        labels=labels,
        exposure=np.array([{**settings.regime.exposure, NO_LABEL: 0.0}[label] for label in labels]),
        timed=_first_timed(regime, history, targets.first, settings),
    )


def book_weights(basket: pl.DataFrame, history: Window, assets: list[str]) -> np.ndarray:
    """(days, assets) weights of table `basket`, 0 where it has none."""
    return np.nan_to_num(Dense.of(history.keep(basket), history, assets).floats("weight"))


def expected_volatility(weights: np.ndarray, price: np.ndarray, history: Window, settings: Settings) -> Forecast:
    """Forecast volatility of the book with these (days, assets) weights at these prices; see `voltarget`."""
    returns = voltarget.paper_returns(weights, price)
    return voltarget.forecast(returns, settings.backtest, day_number(history.start))


def targets_of(
    basket: pl.DataFrame, weights: np.ndarray, expected: Forecast, history: Window, settings: Settings
) -> Targets:
    """Scale the book to its volatility target, and say from when on it can be decided.

    Args:
        basket: table `basket`, for its days.
        weights: see `book_weights`.
        expected: see `expected_volatility`.
        history: days of the rows.
        settings: section backtest.
    """
    first_day = day_number(history.start)
    basket = history.keep(basket)
    multiplier = voltarget.multiplier(expected, settings.backtest)
    start = _first_basket_day(basket, history)
    first = None if start is None else start - first_day
    decidable = np.zeros(history.n_days, dtype=np.bool_)
    decidable[basket["date"].to_physical().to_numpy() - first_day] = True
    decidable[:first] = False
    return Targets(np.ascontiguousarray(weights * multiplier[:, None]), multiplier, expected, decidable, first)


def _first_timed(regime: pl.DataFrame, history: Window, first: int | None, settings: Settings) -> int | None:
    of_method = history.keep(regime).filter(pl.col("method") == settings.regime.method)
    scored = of_method.drop_nulls("score")["date"]
    if first is None or scored.is_empty():
        return None
    return max(first, day_number(scored.min()) - day_number(history.start))  # type: ignore[arg-type]


def _labels(regime: pl.DataFrame, history: Window, first: int | None, settings: Settings) -> np.ndarray:
    """(days,) label of the traded method; `NO_LABEL` before its first row.

    Raises:
        LedgerError: the regime has no row on a day after its first, or has none from the first basket day on.
    """
    rows = history.keep(regime).filter(pl.col("method") == settings.regime.method).select("date", "label")
    labels = _per_day(rows, history)["label"]
    known = labels.is_not_null().to_numpy()
    begin = int(np.argmax(known)) if known.any() else history.n_days
    if first is not None:
        begin = min(begin, first)
    gaps = np.nonzero(~known[begin:])[0]
    if len(gaps):
        day = history.days()[begin + int(gaps[0])]
        raise LedgerError(
            f"regime: no row of method {settings.regime.method!r} on {day}, so the timed account cannot "
            "decide; materialise the regime of that day"
        )
    return labels.fill_null(NO_LABEL).to_numpy()


def book_plan(name: str, targets: Targets, exposure: np.ndarray, history: Window, settings: Settings) -> Plan:
    """What the account of a book wants: its targets times `exposure` (days,), under the rules of `backtest`."""
    rules = settings.backtest
    calendar = rebalance_days(day_number(history.start), history.n_days, rules.rebalance)
    decides = calendar | _start(targets, history.n_days)
    return Plan(
        name, targets.basket, exposure, decides, targets.decidable, rules.execution_lag_days, rules.band, rules.stops
    )


def _start(targets: Targets, n_days: int) -> np.ndarray:
    """(days,) bool, True on the first day of the book."""
    start = np.zeros(n_days, dtype=np.bool_)
    if targets.first is not None:
        start[targets.first] = True
    return start


def _run_accounts(
    market: Market, books: Books, history: Window, assets: list[str], settings: Settings
) -> dict[str, Ledger]:
    """Every account's ledger; random regimes are the mean of their paths."""
    rules = settings.backtest
    first_day = day_number(history.start)
    n_days = history.n_days
    always = np.ones(n_days)
    start = _start(books, n_days)
    weekly = rebalance_days(first_day, n_days, _BASELINE_RULE) | start
    after_start = np.logical_or.accumulate(start)

    def book(name: str, exposure: np.ndarray) -> Ledger:
        plan = book_plan(name, books, exposure, history, settings)
        return run(market, plan, rules.capital_usd, first_day, assets, details=name in DETAILED)

    def baseline(name: str, weights: np.ndarray) -> Ledger:
        plan = Plan(name, weights, always, weekly, after_start, rules.execution_lag_days, 0.0, _NO_STOPS)
        return run(market, plan, rules.capital_usd, first_day, assets)

    def constant(share: dict[str, float]) -> np.ndarray:
        return np.tile([share.get(asset, 0.0) for asset in assets], (n_days, 1))

    def random_book(path: int) -> Ledger:
        if books.timed is None:
            return book(f"random_regimes[{path}]", np.zeros(n_days))
        return book(
            f"random_regimes[{path}]",
            random_exposure(books.exposure, path, rules.seed, first_day, books.timed),
        )

    btc, eth = settings.lake.majors
    return {
        "regime": book("regime", books.exposure),
        "always_on": book("always_on", always),
        "btc": baseline("btc", constant({btc: 1.0})),
        "eth": baseline("eth", constant({eth: 1.0})),
        "btc_eth": baseline("btc_eth", constant({btc: 0.5, eth: 0.5})),
        "alt_index": baseline("alt_index", books.alt_index),
        "random_regimes": mean_ledger([random_book(path) for path in range(rules.random_paths)]),
    }


@dataclass(frozen=True)
class _Rows:
    """Frames of the window's rows."""

    history: Window
    window: Window
    assets: list[str]
    settings: Settings

    @property
    def first(self) -> int:
        return max((self.window.start - self.history.start).days, 0)

    @property
    def shown(self) -> Window:
        return Window(max(self.window.start, self.history.start), self.window.end)

    def account(self, name: str, ledger: Ledger, books: Books) -> pl.DataFrame:
        capital, lag = self.settings.backtest.capital_usd, self.settings.backtest.execution_lag_days
        nav = ledger.flow("nav")
        before = np.concatenate([[capital], nav[:-1]])
        traded_label = np.concatenate([np.full(lag + 1, NO_LABEL, dtype=object), books.labels])[: len(nav)]
        earned = ledger.flow("pnl_price") + ledger.flow("pnl_funding")
        gross = ledger.flow("long_usd") - ledger.flow("short_usd")
        net = ledger.flow("long_usd") + ledger.flow("short_usd")
        major, alt = ledger.flow("traded_major") / before, ledger.flow("traded_alt") / before
        targeted = name in {"regime", "always_on", "random_regimes"}
        none = Forecast(np.full(len(nav), np.nan), np.full(len(nav), NO_FORECAST, dtype=object))
        expected = books.expected if targeted else none
        dollars = (
            "nav", "cash", "pnl_price", "pnl_funding", "pnl_funding_assumed", "cost_fees", "cost_slippage",
            "cost_impact", "cost_exit_haircut", "long_usd", "short_usd", "identity_error",
        )  # fmt: skip
        counts = ("n_positions", "n_stopped", "n_dead_exits", "n_waiting")
        columns = {
            **{column: ledger.flow(column) for column in dollars},
            **{column: ledger.flow(column).astype(np.int32) for column in counts},
            "ret_gross": earned / before,
            "ret_net": (nav - before) / before,
            "turnover": major + alt,
            "turnover_major": major,
            "turnover_alt": alt,
            "gross_exposure": gross / nav,
            "net_exposure": net / nav,
            "beta_btc": ledger.flow("beta_btc_usd") / nav,
            "beta_eth": ledger.flow("beta_eth_usd") / nav,
            "regime": books.labels,
            "regime_traded": traded_label,
            "exposure_multiplier": books.multiplier if targeted else np.ones(len(nav)),
            "vol_forecast": expected.annual,
            "vol_model": expected.model,
        }
        return pl.DataFrame(
            {
                "date": pl.Series(date_array(self.shown)).cast(pl.Date),
                "account": pl.Series([name] * self.shown.n_days, dtype=pl.String),
                **{key: _series(values[self.first :])
                   for key, values in columns.items()},
            }
        )  # fmt: skip

    def positions(self, name: str, ledger: Ledger, market: Market, age: np.ndarray) -> pl.DataFrame:
        rows = slice(self.first, None)
        price, price_age = _last_price(market.price, age)
        units = ledger.detail("units")[rows]
        price, price_age = price[rows], price_age[rows]
        value = np.where(units != 0.0, units * price, 0.0)
        nav = ledger.flow("nav")[rows, None]
        targets, traded = ledger.detail("target_weight")[rows], ledger.detail("traded_usd")[rows]
        earned = ledger.detail("pnl_price")[rows], ledger.detail("pnl_funding")[rows]
        mask = (units != 0.0) | (np.nan_to_num(targets) != 0.0) | (traded != 0.0)
        mask |= (earned[0] != 0.0) | (earned[1] != 0.0)
        costs = ("cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut")
        frame = long(
            mask,
            self.shown,
            self.assets,
            {
                "price": price,
                "price_age_days": np.where(np.isnan(price_age), -1.0, price_age).astype(np.int32),
                "units": units,
                "value_usd": value,
                "weight": value / nav,
                "target_weight": targets,
                "order_usd": ledger.detail("order_usd")[rows],
                "traded_usd": traded,
                "reason": ledger.detail("reason")[rows].astype(np.int32),
                "pnl_price": earned[0],
                "pnl_funding": earned[1],
                **{cost: ledger.detail(cost)[rows] for cost in costs},
            },
        )
        reasons = pl.Series("trade_reason", REASONS, dtype=pl.String)
        return frame.with_columns(
            account=pl.lit(name),
            leg=pl.when(pl.col("asset_id").is_in(self.settings.lake.majors))
            .then(pl.lit("major"))
            .otherwise(pl.lit("alt")),
            trade_reason=reasons.gather(frame["reason"]),
        )


def _series(values: np.ndarray) -> pl.Series:
    if values.dtype == object:
        return pl.Series(values.tolist(), dtype=pl.String)
    return pl.Series(values).fill_nan(None) if values.dtype.kind == "f" else pl.Series(values)


def _last_price(price: np.ndarray, age: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Price a position was last marked at and its age, also on the day it is closed for want of one."""
    rows = np.arange(len(price))[:, None]
    last = np.maximum.accumulate(np.where(np.isfinite(price), rows, 0), axis=0)
    return np.take_along_axis(price, last, axis=0), np.take_along_axis(age, last, axis=0) + (rows - last)
