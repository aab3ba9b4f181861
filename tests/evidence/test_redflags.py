"""Every red flag fires on the error it guards against, and is silent without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.evaluation.contracts import EVIDENCE, RED_FLAGS
from majors_alts_pipeline.evidence.redflags import RULES, Facts, red_flags

DAYS = 200
FIRST = date(2024, 1, 1)
COSTS = ("cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut")


def account(name: str, returns: np.ndarray, invested: np.ndarray) -> pl.DataFrame:
    """Rows of `backtest` of one account, in its columns that the rules read."""
    nav = 1e6 * np.cumprod(1.0 + returns)
    before = np.concatenate([[1e6], nav[:-1]])
    gross = np.where(invested, 1.0, 0.0)
    labels = np.where(invested, "RISK_ON_MAJORS", "RISK_ON_ALTS") if name == "regime" else ["BALANCED"] * DAYS
    return pl.DataFrame({
        "date": [FIRST + timedelta(days=k) for k in range(DAYS)], "account": name, "nav": nav, "ret_net": returns,
        "ret_gross": returns, "pnl_price": returns * before, "pnl_funding": 0.0, **dict.fromkeys(COSTS, 0.0),
        "gross_exposure": gross, "n_positions": np.where(invested, 10, 0), "turnover": 0.1, "regime_traded": labels,
    })  # fmt: skip


def evidence(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of an evidence table, what is not named null, 0 or empty."""
    contract = EVIDENCE[name]
    empty = {key: None if column.nullable else "" if column.dtype == pl.String else 0
             for key, column in contract.columns.items()}  # fmt: skip
    dates = {key: FIRST for key, column in contract.columns.items() if column.dtype == pl.Date}
    return contract.conform(pl.DataFrame([{**empty, **dates, **row} for row in rows], schema=contract.schema))


def robustness(test: str, sharpes: dict[float | None, float]) -> list[dict[str, Any]]:
    return [
        {"test": test, "case": str(level), "account": name, "level": level, "sharpe": value, "n_days": DAYS,
         "cost_annual": level or 0.0}
        for name in ("regime", "always_on") for level, value in sharpes.items()
    ]  # fmt: skip


def healthy() -> Facts:
    rng = np.random.default_rng(3)
    book = rng.normal(0.0, 0.01, DAYS)
    on = np.arange(DAYS) % 40 < 20
    # The position of a day earns the next day's return.
    held = np.concatenate([[False], on[:-1]])
    backtest = pl.concat([account("regime", np.where(held, book, 0.0), on), account("always_on", book, on | True)])
    positions = pl.concat([
        pl.DataFrame({"date": backtest["date"][:DAYS], "account": "always_on", "asset_id": name,
                      "pnl_price": rng.normal(0.0, 1.0, DAYS)})
        for name in ("ETH", "SOL", "XRP")
    ])  # fmt: skip
    tables = {
        "robustness": evidence("robustness", [
            *robustness("cost_bp", {None: 0.5, 0.0: 0.9, 10.0: 0.5, 50.0: -1.0}),
            *robustness("execution_lag", {None: 1.5, 0.0: 1.7, 1.0: 1.5, 2.0: 1.2}),
            *robustness("price_noise", {None: 1.5, 0.001: 1.4}),
        ]),
        "edge_by_horizon": evidence("edge_by_horizon", [
            {"method": "composite", "label": f"L{k}", "horizon_days": 1, "p_value": 0.05 + 0.1 * k} for k in range(9)
        ]),
        "folds": evidence("folds", [
            {"scheme": "walk_forward", "fold": k, "is_sharpe": 1.0, "oos_sharpe": 0.4, "n_train": 400, "n_test": 90}
            for k in range(4)
        ]),
        "selection": evidence("selection", [{"account": "regime", "measure": "n_effective_trials", "value": 20.0}]),
        "sweep": evidence("sweep", [
            {"variant": k, "trial": str(k), "overrides": "{}", "sharpe": 0.1 * k, "n_days": DAYS} for k in range(5)
        ]),
    }  # fmt: skip
    return Facts(backtest, positions, tables, load_settings())


def changed(facts: Facts, name: str, frame: pl.DataFrame) -> Facts:
    return replace(facts, evidence={**facts.evidence, name: frame})


def earning(facts: Facts, name: str, **columns: pl.Expr) -> Facts:
    """The same accounts with other columns of one of them."""
    of = pl.col("account") == name
    return replace(
        facts,
        backtest=facts.backtest.with_columns(
            pl.when(of).then(value).otherwise(pl.col(key)).alias(key) for key, value in columns.items()
        ),
    )


def without_variation(facts: Facts, test: str, **columns: float) -> Facts:
    flat = facts.evidence["robustness"].with_columns(
        pl.when(pl.col("test") == test).then(pl.lit(value)).otherwise(pl.col(key)).alias(key)
        for key, value in columns.items()
    )
    return changed(facts, "robustness", flat)


def with_case(facts: Facts, test: str, level: float, sharpe: float) -> Facts:
    here = (pl.col("test") == test) & (pl.col("level") == level)
    frame = facts.evidence["robustness"].with_columns(sharpe=pl.when(here).then(pl.lit(sharpe)).otherwise("sharpe"))
    return changed(facts, "robustness", frame)


def dominated(facts: Facts) -> Facts:
    big = pl.when(pl.col("asset_id") == "ETH").then(100.0 * pl.col("pnl_price")).otherwise("pnl_price")
    return replace(facts, positions=facts.positions.with_columns(pnl_price=big))


def same_accounts(facts: Facts) -> Facts:
    book = facts.backtest.filter(pl.col("account") == "always_on")["ret_net"]
    labels = facts.backtest.filter(pl.col("account") == "regime")
    return replace(facts, backtest=pl.concat([labels.with_columns(ret_net=book),
                                              facts.backtest.filter(pl.col("account") == "always_on")]))  # fmt: skip


PLANTED: dict[str, Callable[[Facts], Facts]] = {
    "implausible_sharpe": lambda f: earning(f, "always_on", ret_net=pl.col("ret_net") + 0.01),
    "flat_day_pnl": lambda f: earning(f, "regime", pnl_price=pl.lit(5.0)),
    "concentration": dominated,
    "costs_ignored": lambda f: without_variation(f, "cost_bp", sharpe=0.5),
    "lag_ignored": lambda f: without_variation(f, "execution_lag", sharpe=0.5),
    "same_day_edge": lambda f: with_case(f, "execution_lag", 0.0, 9.0),
    "noise_sensitive": lambda f: with_case(f, "price_noise", 0.001, -0.3),
    "drawdown_against_gross": lambda f: earning(f, "always_on", ret_gross=pl.col("ret_gross") - 3.0),
    "constant_p_values": lambda f: changed(
        f, "edge_by_horizon", f.evidence["edge_by_horizon"].with_columns(p_value=pl.lit(0.5))
    ),
    "timing_ignored": same_accounts,
    "in_sample_only": lambda f: changed(f, "folds", f.evidence["folds"].with_columns(is_sharpe=pl.lit(12.0))),
    "variants_identical": lambda f: changed(f, "sweep", f.evidence["sweep"].with_columns(sharpe=pl.lit(0.2))),
}


def test_every_rule_has_an_error_planted_for_it() -> None:
    assert set(PLANTED) == set(RULES)


def test_a_healthy_study_fires_nothing_but_is_looked_at_by_every_rule() -> None:
    flags = red_flags(healthy())
    RED_FLAGS.conform(flags)
    assert flags.filter("fired")["message"].to_list() == []
    assert set(flags["flag"]) == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_the_planted_error_fires_its_rule(name: str) -> None:
    flags = red_flags(PLANTED[name](healthy()))
    fired = flags.filter("fired")
    assert name in set(fired["flag"])
    assert all(len(words) > 30 for words in fired["message"])


def test_a_drawdown_that_cannot_be_fires() -> None:
    rising = earning(healthy(), "always_on", nav=pl.lit(1e6) + pl.int_range(pl.len()).cast(pl.Float64))
    fired = red_flags(rising).filter("fired")
    assert ("drawdown_against_gross", "always_on") in fired.select("flag", "subject").rows()


def test_nothing_stored_gives_no_row_of_what_needs_it() -> None:
    bare = replace(healthy(), evidence={})
    assert not set(red_flags(bare)["flag"]) & {"costs_ignored", "constant_p_values", "in_sample_only", "lag_ignored"}
