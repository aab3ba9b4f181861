"""Generated universe and betas frames that satisfy the contracts."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.tables import BETAS, UNIVERSE

MAJORS = ("BTC", "ETH")


def make_days(window: Window, n_alts: int, seed: int, adv_low: float = 5e7) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Universe and betas of `n_alts` alts and the majors; persistent betas with a daily wiggle."""
    rng = np.random.default_rng(seed)
    days, T = window.days(), window.n_days
    names = [f"A{k:03d}" for k in range(n_alts)]
    level = rng.uniform([0.1, 0.3], [0.8, 1.1], size=(n_alts, 2))
    betas = level + 0.05 * rng.standard_normal((T, n_alts, 2)).cumsum(axis=0) / np.sqrt(T)
    vol = rng.uniform(0.01, 0.08, n_alts) * np.exp(0.1 * rng.standard_normal((T, n_alts)))
    adv = adv_low * np.exp(rng.uniform(0, 3, n_alts) + 0.3 * rng.standard_normal((T, n_alts)))
    eligible = rng.random((T, n_alts)) < 0.95
    index = pl.DataFrame({"date": np.repeat(np.array(days, dtype="datetime64[D]"), n_alts), "asset_id": names * T})
    beta_frame = index.with_columns(
        pl.Series("beta_btc", betas[..., 0].ravel()),
        pl.Series("beta_eth", betas[..., 1].ravel()),
        pl.Series("beta_btc_raw", betas[..., 0].ravel()),
        pl.Series("beta_eth_raw", betas[..., 1].ravel()),
        pl.lit(0.1).alias("se_btc"),
        pl.lit(0.1).alias("se_eth"),
        pl.lit(0.5).alias("r2"),
        pl.Series("idio_vol", vol.ravel()),
        pl.lit(60, pl.Int32).alias("n_obs"),
        pl.lit(3.0).alias("vif"),
    )
    alts = index.with_columns(
        pl.lit("alt").alias("role"),
        pl.Series("eligible", eligible.ravel()),
        pl.Series("adv_usd", adv.ravel()),
        pl.Series("marketcap", 20 * adv.ravel()[::-1]),
    )
    majors = pl.DataFrame({
        "date": np.repeat(np.array(days, dtype="datetime64[D]"), 2), "asset_id": list(MAJORS) * T,
    }).with_columns(
        pl.lit("major").alias("role"), pl.lit(True).alias("eligible"), pl.lit(1e10).alias("adv_usd"),
        pl.lit(5e11).alias("marketcap"),
    )  # fmt: skip
    universe = pl.concat([alts, majors]).with_columns(
        pl.when("eligible").then(pl.lit("ok")).otherwise(pl.lit("adv")).alias("reason"),
        pl.lit(400, pl.Int32).alias("age_days"),
        pl.lit("observed").alias("marketcap_kind"),
        pl.lit(0, pl.Int32).alias("marketcap_age_days"),
        pl.lit(True).alias("shortable"),
        pl.lit(0, pl.Int32).alias("price_age_days"),
        pl.lit(None, pl.String).alias("detector"),
    )
    return UNIVERSE.conform(universe), BETAS.conform(beta_frame)


START = date(2024, 1, 1)
