"""The sweep beside separate runs of the chain, and its accounts beside vectorbt's."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from majors_alts_pipeline.backtest.ledger import Market, Plan, run
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.evidence.sweep import Held, Prepared, SweepResult, prepare, sweep
from majors_alts_pipeline.lake.reader import open_lake
from majors_alts_pipeline.stages import STAGE_OF_TABLE

STORED = ("panel", "universe", "features", "market", "betas")
SEPARATE_RUNS = 8
"""Separate runs measured; the other variants' time is theirs scaled."""

PEER_VARIANTS = 54
"""Accounts given to vectorbt at once: all of them would need tens of gigabytes."""


def real_lake() -> str | None:
    """Path of ``$MAJORS_ALTS_SHARED/lake`` (default ``../shared``), None when there is none."""
    path = Path(os.environ.get("MAJORS_ALTS_SHARED", Path(__file__).parents[2] / "shared")) / "lake"
    return str(path) if path.exists() else None


def measure(location: str, runs: int) -> dict[str, float]:
    """Seconds, counts and differences of both comparisons."""
    settings = load_settings(overrides={"regime": {"method": "composite", "methods": ["composite"]}})
    lake = open_lake(location, settings.lake)
    runner = Runner(lake, settings)
    held = Held({name: runner.table(name, runner.history) for name in STORED}, runner.history)

    def ours() -> SweepResult:
        return sweep(Runner(lake, settings, reader=held))

    result = ours()
    walls = [_seconds(ours) for _ in range(runs)]
    picked = np.linspace(0, len(result.variants) - 1, SEPARATE_RUNS).astype(int)
    separate, differences = [], []
    for column in picked.tolist():
        chain = Runner(lake, result.variants[column].settings, reader=held)
        began = time.perf_counter()
        rows = chain.run(STAGE_OF_TABLE["backtest"], chain.history)["backtest"]
        separate.append(time.perf_counter() - began)
        own = rows.filter(pl.col("account") == "regime", pl.col("date") >= result.days[0]).sort("date")["ret_net"]
        differences.append(float(np.max(np.abs(own.to_numpy() - result.returns[:, column]))))
    return {
        "variants": len(result.variants),
        "sweep": statistics.median(walls),
        "separate": statistics.median(separate) * len(result.variants),
        "difference": max(differences),
        **beside_vectorbt(prepare(Runner(lake, settings, reader=held)), runs),
    }


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def beside_vectorbt(prepared: Prepared, runs: int) -> dict[str, float]:
    """The same portfolios without costs in both: prices without gaps, calendar and regime decisions, lag kept."""
    import pandas as pd
    import vectorbt as vbt

    picked = np.linspace(0, len(prepared.variants) - 1, PEER_VARIANTS).astype(int)
    filled = pl.DataFrame(prepared.orders[0][0].price).fill_nan(None)
    filled = filled.with_columns(pl.all().fill_null(strategy="forward").fill_null(strategy="backward"))
    price = np.ascontiguousarray(filled.to_numpy())
    market = Market(price, np.ones(price.shape, dtype=np.bool_), np.zeros(price.shape[1], dtype=np.bool_))
    plans = [replace(prepared.orders[k][1], band=0.0) for k in picked.tolist()]
    sizes = np.concatenate([_orders(plan) for plan in plans], axis=1)
    close = pd.DataFrame(np.tile(price, len(plans)))
    groups = np.repeat(np.arange(len(plans)), price.shape[1])

    def ours() -> np.ndarray:
        return np.stack([run(market, plan, 1e6, 0, prepared.assets).flow("nav") for plan in plans], axis=1)

    def peer() -> np.ndarray:
        portfolio = vbt.Portfolio.from_orders(
            close, pd.DataFrame(sizes), size_type="targetpercent", direction="both", group_by=groups, cash_sharing=True,
            call_seq="auto", init_cash=1e6, fees=0.0, freq="1D",
        )  # fmt: skip
        return portfolio.value().to_numpy()

    gap = float(np.max(np.abs(ours() / peer() - 1)))
    pairs = [(_seconds(ours), _seconds(peer)) for _ in range(runs)]
    return {
        "accounts": statistics.median(a for a, _ in pairs),
        "vectorbt": statistics.median(b for _, b in pairs),
        "gap": gap,
    }


def _orders(plan: Plan) -> np.ndarray:
    """(days, assets) target shares on the days the plan trades, NaN on the others."""
    changed = np.concatenate([[False], plan.exposure[1:] != plan.exposure[:-1]])
    decided = np.nonzero(plan.decidable & (plan.rebalance | changed))[0]
    decided = decided[decided + plan.lag < len(plan.exposure)]
    out = np.full(plan.weights.shape, np.nan)
    out[decided + plan.lag] = plan.weights[decided] * plan.exposure[decided, None]
    return out
