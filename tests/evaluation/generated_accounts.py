"""Generated accounts for the evaluation tests."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings, load_settings

START = date(2023, 6, 1)
CAPITAL = 1e6


def settings(**evaluation) -> Settings:
    return load_settings(overrides={"evaluation": {"bootstrap_reps": 300} | evaluation})


def accounts(n_days: int = 500, seed: int = 0, first_trade: int = 10) -> tuple[pl.DataFrame, pl.DataFrame]:
    """backtest rows of two accounts (`always_on`, and `regime` in and out) and the panel of the majors."""
    rng = np.random.default_rng(seed)
    dates = [START + timedelta(days=k) for k in range(n_days)]
    btc, eth = rng.normal(0, 0.03, n_days), rng.normal(0, 0.04, n_days)
    labels = np.repeat(rng.choice(["RISK_ON_MAJORS", "BALANCED"], n_days), 9)[:n_days]
    frames = []
    for name in ("always_on", "regime"):
        on = np.arange(n_days) >= first_trade
        if name == "regime":
            on &= np.repeat(rng.random(n_days) < 0.6, 9)[:n_days]
        over_day = np.r_[False, on[:-1]]
        gross = np.where(over_day, 0.001 + 0.3 * btc - 0.1 * eth + rng.normal(0, 0.01, n_days), 0.0)
        turnover = np.where(on != over_day, 1.0, np.where(on, 0.02, 0.0))
        net = gross - 0.001 * turnover
        nav = CAPITAL * np.cumprod(1 + net)
        before = np.r_[CAPITAL, nav[:-1]]
        zero = np.zeros(n_days)
        frames.append(pl.DataFrame({
            "date": dates, "account": name, "nav": nav, "ret_gross": gross, "ret_net": net,
            "pnl_price": before * (gross - 0.0001 * over_day), "pnl_funding": before * 0.0001 * over_day,
            "cost_fees": before * 0.0006 * turnover, "cost_slippage": before * 0.0004 * turnover,
            "cost_impact": zero, "cost_exit_haircut": zero,
            "turnover": turnover, "turnover_major": 0.4 * turnover,
            "turnover_alt": 0.6 * turnover, "n_positions": np.where(on, 5, 0).astype(np.int32),
            "beta_btc": np.where(on, 0.01, 0.0), "beta_eth": np.where(on, -0.02, 0.0),
            "regime_traded": labels,
        }))  # fmt: skip
    panel = pl.DataFrame({"date": dates * 2, "asset_id": ["BTC"] * n_days + ["ETH"] * n_days, "ret": np.r_[btc, eth]})
    return pl.concat(frames), panel
