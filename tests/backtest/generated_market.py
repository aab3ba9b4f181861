"""Generated frames for the backtest tests: a small market with gaps, a death and a late listing."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings, load_settings

START = date(2024, 1, 1)
LABELS = ("RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS")


def settings(**backtest) -> Settings:
    costs = backtest.pop("costs", {})
    return load_settings(overrides={"backtest": backtest, "costs": costs})


def day(k: int) -> date:
    return START + timedelta(days=int(k))


def market_frames(
    seed: int = 0,
    n_days: int = 120,
    n_alts: int = 8,
    first_basket: int = 20,
    funding: bool = True,
    with_accidents: bool = True,
) -> dict[str, pl.DataFrame]:
    """panel, universe, betas, basket and regime of `n_days` days from `START`, alts named A00, A01, ..."""
    rng = np.random.default_rng(seed)
    assets = ["BTC", "ETH", *(f"A{k:02d}" for k in range(n_alts))]
    n = len(assets)
    own = rng.normal(0, 0.03, (n_days, n))
    common = rng.normal(0, 0.02, n_days)
    close = 100.0 * np.exp(np.cumsum(own + common[:, None], axis=0))
    alive = np.ones((n_days, n), dtype=bool)
    age = np.zeros((n_days, n), dtype=int)
    if with_accidents:
        alive[:30, 3] = False
        alive[80:, 4] = False
        for at in (50, 51, 70):
            close[at, 5], age[at, 5] = close[at - 1, 5], age[at - 1, 5] + 1
        for at in (77, 78, 79):
            close[at, 4], age[at, 4] = close[at - 1, 4], age[at - 1, 4] + 1
    ret = np.full((n_days, n), np.nan)
    ret[1:] = np.where((age[1:] == 0) & (age[:-1] == 0) & alive[:-1], close[1:] / close[:-1] - 1, np.nan)
    rate = rng.normal(0.0003, 0.0005, (n_days, n))
    rate[rng.random((n_days, n)) < 0.1] = np.nan
    if not funding:
        rate[:] = np.nan
    rows, cols = np.nonzero(alive)
    noise = 1 + np.abs(rng.normal(0, 0.01, (n_days, n)))

    def long(**columns: np.ndarray) -> pl.DataFrame:
        base = {"date": [day(k) for k in rows], "asset_id": [assets[j] for j in cols]}
        return pl.DataFrame(base | {name: value[rows, cols] for name, value in columns.items()}).with_columns(
            pl.col(name).fill_nan(None) for name, value in columns.items() if value.dtype == float
        )

    panel = long(
        close=close,
        open=close / np.sqrt(noise),
        high=close * noise,
        low=close / noise,
        ret=ret,
        price_age_days=age.astype(np.int32),
        funding_rate=rate,
    )
    adv = np.tile(np.linspace(1e9, 1e8, n), (n_days, 1)) * noise
    adv[:, -1] = np.nan
    role = np.tile(np.array(["major", "major"] + ["alt"] * n_alts), (n_days, 1))
    universe = long(adv_usd=adv, role=role, eligible=(age == 0))
    betas = long(beta_btc=rng.normal(0.7, 0.1, (n_days, n)), beta_eth=rng.normal(0.4, 0.1, (n_days, n)))
    betas = betas.filter(pl.col("date") >= day(first_basket - 2))
    weights = np.zeros((n_days, n))
    alts = rng.uniform(0.5, 1.5, (n_days, n_alts)) * alive[:, 2:] * (age[:, 2:] == 0)
    weights[:, 2:] = -0.5 * alts / alts.sum(axis=1, keepdims=True)
    weights[:, 0], weights[:, 1] = 0.35, 0.25
    basket = long(weight=weights).filter(pl.col("date") >= day(first_basket))
    labels = np.repeat(rng.choice(3, n_days // 7 + 1, p=[0.6, 0.2, 0.2]), 7)[:n_days]
    regime = pl.DataFrame(
        {
            "date": [day(k) for k in range(n_days)],
            "method": "composite",
            "label": [LABELS[k] for k in labels],
            "score": [None if k < 10 else 0.1 for k in range(n_days)],
        }
    )
    return {"panel": panel, "universe": universe, "betas": betas, "basket": basket, "regime": regime}


def whole(frames: dict[str, pl.DataFrame]) -> Window:
    days = frames["panel"]["date"]
    return Window(days.min(), days.max())
