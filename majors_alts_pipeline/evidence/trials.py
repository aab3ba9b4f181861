"""The trials of one study: the run itself, every walk-forward candidate, every regime method.

A candidate's account holds the same book under that one candidate from the first day to the last, as if it had been
chosen before the start: what a person would have seen who had tried it by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from majors_alts_pipeline.backtest.ledger import Ledger, Market, run
from majors_alts_pipeline.backtest.stage import (
    Targets,
    book_plan,
    book_weights,
    expected_volatility,
    market_of,
    targets_of,
)
from majors_alts_pipeline.calendar import Window, date_array, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR
from majors_alts_pipeline.evaluation.stage import COSTS, MIN_CAGR_DAYS, evaluation_start
from majors_alts_pipeline.evidence.registry import CANDIDATE, METHOD, RUN, Trial, trial_id
from majors_alts_pipeline.regime.composite import ZScores, candidate_states, candidates, exposures

ACCOUNTS = ("regime", "always_on")
AS_CONFIGURED = "as configured"


@dataclass(frozen=True)
class _Book:
    """The study's book, on which every way to time it trades."""

    market: Market
    targets: Targets
    assets: list[str]
    history: Window
    settings: Settings

    def ledger(self, exposure: np.ndarray) -> Ledger:
        plan = book_plan("regime", self.targets, exposure, self.history, self.settings)
        capital = self.settings.backtest.capital_usd
        return run(self.market, plan, capital, day_number(self.history.start), self.assets)


def study_trials(
    tables: Mapping[str, pl.DataFrame], window: Window, settings: Settings, label: str = AS_CONFIGURED
) -> list[Trial]:
    """Every trial that a finished run of `settings` made.

    Args:
        tables: the study's stored tables over `window`: panel, universe, betas, basket, features, regime, backtest.
        window: all stored days.
        settings: resolved settings.
        label: of the run, in words.

    Returns:
        The run (accounts regime and always_on), then its candidates and the other methods (account regime).
    """
    start = evaluation_start(tables["backtest"])
    trials = run_trials(tables["backtest"], window, settings, label)
    if start is None:
        return trials
    book = _book(tables, window, settings)
    for number, exposure in enumerate(_candidate_exposures(tables, window, settings).T):
        part = f"composite/{candidates(settings)[number].to_json()}"
        overrides = {"regime.candidate": part}
        trials.append(
            _timed(
                book, exposure, start, trial_id(settings, part), CANDIDATE, f"composite candidate {number}", overrides
            )
        )
    for method in settings.regime.methods:
        if method != settings.regime.method:
            other = settings.model_copy(update={"regime": settings.regime.model_copy(update={"method": method})})
            exposure = _exposure_of(tables["regime"], method, window, settings)
            overrides = {"regime.method": method}
            trials.append(_timed(book, exposure, start, trial_id(other), METHOD, f"regime method {method}", overrides))
    return trials


def run_trials(backtest: pl.DataFrame, window: Window, settings: Settings, label: str) -> list[Trial]:
    """The run itself: one trial, two accounts."""
    start = evaluation_start(backtest)
    out = []
    for account in ACCOUNTS:
        rows = backtest.filter(pl.col("account") == account).sort("date")
        before = rows["nav"].shift(1, fill_value=settings.backtest.capital_usd).to_numpy()
        cost = rows.select(pl.sum_horizontal(COSTS)).to_series().to_numpy() / before
        invested = np.concatenate([[False], rows["n_positions"].to_numpy()[:-1] > 0])
        first = len(rows) if start is None else (start - rows["date"][0]).days
        out.append(
            Trial(
                trial=trial_id(settings), kind=RUN, label=label, settings=settings.model_dump(mode="json"),
                seed=settings.backtest.seed, account=account, first_day=window.start, last_day=window.end,
                n_days=rows.height - first, returns_from=start,
                returns=None if start is None else rows["ret_net"].to_numpy()[first:],
                metrics=metrics(rows["ret_net"].to_numpy()[first:], rows["turnover"].to_numpy()[first:], cost[first:],
                                invested[first:]),
            )
        )  # fmt: skip
    return out


def metrics(returns: np.ndarray, turnover: np.ndarray, cost: np.ndarray, invested: np.ndarray) -> dict[str, float]:
    """Metrics the registry keeps, of the days judged; NaN where there is none.

    Args:
        returns: (days,) net, decimal.
        turnover: (days,) fraction of NAV.
        cost: (days,) fraction of the NAV of the eve.
        invested: (days,) bool, a position was held over the day.
    """
    n = len(returns)
    if n < 2:
        return {}
    growth = np.cumprod(1.0 + returns)
    deviation = float(np.std(returns, ddof=1))
    year = float(np.sqrt(DAYS_PER_YEAR))
    return {
        "sharpe": float(np.mean(returns)) / deviation * year if deviation > 0.0 else float("nan"),
        "cagr": max(float(growth[-1]), 0.0) ** (DAYS_PER_YEAR / n) - 1.0 if n >= MIN_CAGR_DAYS else float("nan"),
        "volatility": deviation * year,
        "max_drawdown": min(float((growth / np.maximum(np.maximum.accumulate(growth), 1.0)).min()) - 1.0, 0.0),
        "turnover_annual": float(np.mean(turnover)) * DAYS_PER_YEAR,
        "cost_annual": float(np.mean(cost)) * DAYS_PER_YEAR,
        "exposure_time": float(np.mean(invested)),
    }


def _book(tables: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> _Book:
    basket = tables["basket"]
    targeted = basket.filter(pl.col("weight") != 0.0)["asset_id"].unique().to_list()
    assets = sorted({*settings.lake.majors, *targeted})
    market, _ = market_of(tables["panel"], tables["universe"], tables["betas"], window, assets, settings)
    weights = book_weights(basket, window, assets)
    expected = expected_volatility(weights, market.price, window, settings)
    return _Book(market, targets_of(basket, weights, expected, window, settings), assets, window, settings)


def _timed(
    book: _Book, exposure: np.ndarray, start: date, trial: str, kind: str, label: str, overrides: Mapping[str, str]
) -> Trial:
    ledger, settings = book.ledger(exposure), book.settings
    nav = ledger.flow("nav")
    before = np.concatenate([[settings.backtest.capital_usd], nav[:-1]])
    first = (start - book.history.start).days
    cost = sum(ledger.flow(name) for name in COSTS) / before
    turnover = (ledger.flow("traded_major") + ledger.flow("traded_alt")) / before
    invested = np.concatenate([[False], ledger.flow("n_positions")[:-1] > 0])
    returns = (nav / before - 1.0)[first:]
    return Trial(
        trial=trial, kind=kind, label=label, settings=overrides, seed=settings.backtest.seed,
        parent=trial_id(settings), base=settings.digest(), first_day=book.history.start, last_day=book.history.end,
        n_days=len(returns), returns_from=start, returns=returns,
        metrics=metrics(returns, turnover[first:], cost[first:], invested[first:]),
    )  # fmt: skip


def _candidate_exposures(tables: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> np.ndarray:
    """(days, candidates) exposure of each candidate of the composite score; no column when it is not computed."""
    if "composite" not in settings.regime.methods:
        return np.empty((window.n_days, 0))
    z = ZScores(tables["features"], window)
    return exposures(candidate_states(z, candidates(settings)), settings)


def _exposure_of(regime: pl.DataFrame, method: str, window: Window, settings: Settings) -> np.ndarray:
    """(days,) exposure of the labels of a method; 0 before its first."""
    days = pl.DataFrame({"date": pl.Series(date_array(window)).cast(pl.Date)})
    labels = days.join(
        regime.filter(pl.col("method") == method).select("date", "label"), on="date", how="left", maintain_order="left"
    )["label"]
    return labels.replace_strict(settings.regime.exposure, default=0.0, return_dtype=pl.Float64).to_numpy()
