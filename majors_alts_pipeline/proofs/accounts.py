"""Ledger identities of a run, and the placebo of permuted regimes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from majors_alts_pipeline.proofs.proof import Proof

IDENTITY_TOLERANCE = 1e-10


def ledger(tables: Mapping[str, pl.DataFrame]) -> list[Proof]:
    """NAV identities of every account and day, attribution per asset, and flat days earning nothing."""
    backtest = tables["backtest"]
    worst = float(backtest.select(pl.col("identity_error").max()).item() or 0.0)
    components = (
        pl.col("pnl_price")
        + pl.col("pnl_funding")
        - pl.col("cost_fees")
        - pl.col("cost_slippage")
        - pl.col("cost_impact")
        - pl.col("cost_exit_haircut")
    )
    change = backtest.sort("account", "date").with_columns(
        previous=pl.col("nav").shift(1).over("account"), positions=pl.col("n_positions").shift(1).over("account")
    )
    steps = change.filter(pl.col("previous").is_not_null())
    rebuilt = float(
        steps.select(((pl.col("nav") - pl.col("previous") - components).abs() / pl.col("previous")).max()).item() or 0.0
    )
    flat = steps.filter((pl.col("positions") == 0) & (pl.col("turnover") == 0))
    earned = float(flat.select((pl.col("nav") - pl.col("previous")).abs().max()).item() or 0.0)
    parts = ["pnl_price", "pnl_funding", "cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut"]
    by_asset = tables["positions"].group_by("date", "account").agg(pl.col(parts).sum())
    joined = by_asset.join(backtest, on=["date", "account"], suffix="_account")
    gaps = [((pl.col(part) - pl.col(f"{part}_account")).abs() / pl.col("nav")).max() for part in parts]
    attribution = max((float(value or 0.0) for value in joined.select(gaps).row(0)), default=0.0)
    bound = f"<= {IDENTITY_TOLERANCE:g} of NAV"
    return [
        Proof(
            "ledger",
            "NAV = cash + positions, every account and day",
            f"{worst:.1e} of NAV at worst",
            bound,
            worst <= IDENTITY_TOLERANCE,
        ),
        Proof(
            "ledger",
            "NAV change = price P&L + funding - costs",
            f"{rebuilt:.1e} of NAV at worst",
            bound,
            rebuilt <= IDENTITY_TOLERANCE,
        ),
        Proof(
            "ledger",
            "P&L per asset sums to the account",
            f"{attribution:.1e} of NAV at worst",
            bound,
            attribution <= IDENTITY_TOLERANCE,
        ),
        Proof(
            "ledger",
            "a flat book earns exactly zero",
            f"{earned:.1e} USD on {flat.height:,} flat days",
            "0 USD",
            earned == 0.0,
        ),
    ]


def timed_edge(tables: Mapping[str, pl.DataFrame], seed: int) -> tuple[float, int]:
    """Circular-shift permutation p-value of the always-on book's price P&L by regime label, and its days.

    The label is the one whose decision the position carries out, so nothing of the day itself is in it.
    """
    from majors_alts_pipeline.evaluation.inference import regime_edge_test

    book = (
        tables["backtest"]
        .filter(pl.col("account") == "always_on")
        .sort("date")
        .with_columns(previous=pl.col("nav").shift(1))
        .filter(pl.col("previous").is_not_null() & (pl.col("gross_exposure").shift(1) > 0))
    )
    on = (book["regime_traded"] == "RISK_ON_MAJORS").to_numpy()
    returns = (book["pnl_price"] / book["previous"]).to_numpy()
    if on.all() or not on.any():
        return float("nan"), len(on)
    return float(regime_edge_test(on, returns, seed).p_value), len(on)


def placebo(tables: Mapping[str, pl.DataFrame], seed: int) -> Proof:
    """How unusual the regime edge is among circular shifts of the same labels."""
    p_value, days = timed_edge(tables, seed)
    if np.isnan(p_value):
        return Proof(
            "placebo", "regime labels against shifted labels", f"one label only in {days} days", "two labels", False
        )
    return Proof(
        "placebo",
        "regime labels against the same labels shifted in time (edge of timing)",
        f"p = {p_value:.3f} over {days:,} days",
        "information, no bound",
        True,
    )
