"""Capacity: the same rules with other capital. Impact grows with its square root, and liquidity caps bind.

Capital enters twice: the basket holds no position above `basket.adv_share_max` of an asset's daily volume unless no
book exists within it, when the limit is given up (on the perpetuals lake on 31 % of days at 1e8 USD, on all at 1e9),
and a trade of |n| USD pays Y sigma sqrt(|n| / ADV) of itself (docs/methods.md, costs). Everything before the basket is
the same for every capital and is reused; what reads the basket is computed again where the basket came out different.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation.contracts import CAPACITY
from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR
from majors_alts_pipeline.evaluation.stage import evaluation_start
from majors_alts_pipeline.stages import STAGE_OF_TABLE, STAGES
from majors_alts_pipeline.tables import TABLES

LADDER = (1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9)
"""USD, a little over half a decade apart."""

ACCOUNTS = ("always_on", "regime")
READ_CAPITAL = ("basket", "backtest")
"""Stages whose rows depend on `backtest.capital_usd` through more than their inputs."""

PARTICIPATION_QUANTILE = 0.95


def capacity(tables: Mapping[str, pl.DataFrame], settings: Settings, ladder: Sequence[float] = LADDER) -> pl.DataFrame:
    """Net performance, costs and participation of the timed and the always-on book at each capital of the ladder.

    Args:
        tables: every table up to `backtest` over the whole history, computed with `settings`.
        settings: of the study; `backtest.capital_usd` is replaced.
        ladder: USD at the start.

    Returns:
        `evaluation.contracts.CAPACITY`, sorted by account and capital. Participation is |traded| / ADV of a trade,
        ADV being the universe's median daily volume; trades in assets without one are left out.
    """
    days = tables["panel"]["date"]
    window = Window(days.min(), days.max())  # type: ignore[arg-type]
    traded = traded_only(settings)
    rows = [row for capital in ladder for row in _rows(tables, with_capital(traded, capital), window)]
    return CAPACITY.conform(pl.DataFrame(rows, schema=CAPACITY.schema))


def traded_only(settings: Settings) -> Settings:
    """`settings` without the regime methods whose labels no account sees; the consensus sees all of them."""
    regime = settings.regime
    if regime.method == "consensus":
        return settings
    return settings.model_copy(update={"regime": regime.model_copy(update={"methods": (regime.method,)})})


def with_capital(settings: Settings, capital: float) -> Settings:
    """`settings` with another `backtest.capital_usd`."""
    return settings.model_copy(update={"backtest": settings.backtest.model_copy(update={"capital_usd": capital})})


def at_capital(tables: Mapping[str, pl.DataFrame], settings: Settings, window: Window) -> dict[str, pl.DataFrame]:
    """Tables as `settings` make them, from tables of the whole history that differ from them in capital only.

    Args:
        tables: every table up to `backtest`.
        settings: with the capital wanted.
        window: the whole history.
    """
    out = dict(tables)
    changed: set[str] = set()
    for stage in STAGES[: STAGES.index(STAGE_OF_TABLE["backtest"]) + 1]:
        inputs = {item.table for item in stage.inputs}
        if stage.name not in READ_CAPITAL and not inputs & changed:
            continue
        # From the first day on there is no past of the stage's own.
        own = {table: TABLES[table].empty() for table in inputs & set(stage.tables)}
        computed = stage.compute({table: own.get(table, out[table]) for table in inputs}, window, settings)
        for table in stage.tables:
            frame = TABLES[table].conform(computed[table])
            changed |= set() if frame.equals(out[table]) else {table}
            out[table] = frame
    return out


def _rows(tables: Mapping[str, pl.DataFrame], settings: Settings, window: Window) -> list[dict[str, object]]:
    found = at_capital(tables, settings, window)
    last = Window(window.end, window.end)
    kpis = STAGE_OF_TABLE["kpis"].compute({"backtest": found["backtest"]}, last, settings)["kpis"]
    capital = settings.backtest.capital_usd
    return [
        {
            "account": account,
            "capital_usd": capital,
            **kpis.filter(pl.col("account") == account).select("sharpe", "cagr", "cost_annual").row(0, named=True),
            "impact_annual": _impact(found["backtest"], account, capital),
            "participation_p95": _participation(found["positions"], found["universe"], account),
            "beyond_liquidity": _beyond_liquidity(found["basket"]),
        }
        for account in ACCOUNTS
    ]


def _beyond_liquidity(basket: pl.DataFrame) -> float:
    """Share of the days with a book on which the optimiser had to give the liquidity limit up; 0 without a book."""
    daily = basket.filter(pl.col("status") != "flat").unique("date")
    relaxed = daily.select(pl.col("relaxed").str.split("+").list.contains("liquidity"))
    return float(relaxed.to_series().mean() or 0.0)  # type: ignore[arg-type]


def _impact(backtest: pl.DataFrame, account: str, capital: float) -> float:
    """Mean daily impact / NAV of the eve x 365, over the days all accounts are judged on; 0 when nothing was traded."""
    start = evaluation_start(backtest)
    rows = backtest.filter(pl.col("account") == account).sort("date")
    rate = rows.select("date", rate=pl.col("cost_impact") / pl.col("nav").shift(1, fill_value=capital))
    counted = rate.filter(pl.col("date") >= start)["rate"].to_numpy()
    return float(np.mean(counted)) * DAYS_PER_YEAR if len(counted) else 0.0


def _participation(positions: pl.DataFrame, universe: pl.DataFrame, account: str) -> float | None:
    trades = positions.filter((pl.col("account") == account) & (pl.col("traded_usd") != 0.0))
    volumes = universe.select("date", "asset_id", "adv_usd").filter(pl.col("adv_usd") > 0.0)
    shares = trades.join(volumes, on=["date", "asset_id"]).select(pl.col("traded_usd").abs() / pl.col("adv_usd"))
    return shares.to_series().quantile(PARTICIPATION_QUANTILE, "linear")
