"""Panel frames for tests, from arrays."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import day_number
from majors_alts_pipeline.tables import PANEL

START = date(2024, 3, 5)


def panel_from_arrays(
    close: np.ndarray,
    assets: list[str],
    start: date = START,
    listed_on: date | None = None,
    **columns: np.ndarray,
) -> pl.DataFrame:
    """Rows where `close` (days, assets) is finite; other columns are (days, assets) arrays, NaN = null."""
    previous = np.vstack([np.full((1, close.shape[1]), np.nan), close[:-1]])
    arrays = {
        "close": close,
        "ret": close / previous - 1.0,
        "volume_usd": np.full(close.shape, 1e8),
        "marketcap": np.full(close.shape, 1e9),
        "funding_rate": np.full(close.shape, 1e-4),
        "open_interest_usd": np.full(close.shape, np.nan),
        "price_age_days": np.zeros(close.shape),
    } | columns
    rows, cols = np.nonzero(np.isfinite(close))
    frame = pl.DataFrame(
        {
            "date": pl.Series((rows + day_number(start)).astype(np.int32)).cast(pl.Date),
            "asset_id": pl.Series(assets).gather(cols),
            **{name: pl.Series(value[rows, cols]).fill_nan(None) for name, value in arrays.items()},
        }
    )
    null = pl.lit(None)
    cap, rate = pl.col("marketcap").is_not_null(), pl.col("funding_rate").is_not_null()
    frame = frame.with_columns(
        *(null.cast(pl.Float64).alias(name) for name in ("open", "high", "low")),
        pl.col("price_age_days").cast(pl.Int32),
        pl.when(cap).then(pl.lit("observed")).alias("marketcap_kind"),
        pl.when(cap).then(pl.lit(0, pl.Int32)).alias("marketcap_age_days"),
        pl.when(rate).then(pl.lit("sum")).alias("funding_kind"),
        pl.lit(listed_on or start - timedelta(days=400)).alias("listed_on"),
        pl.lit("test").alias("source"),
    )
    return PANEL.conform(frame.select(list(PANEL.columns)))


def random_market(
    seed: int, days: int, n_alts: int, missing: float = 0.05, start: date = START
) -> tuple[pl.DataFrame, list[str]]:
    """A market with one factor, gaps, late listings, carried rows, missing caps, funding and volume."""
    rng = np.random.default_rng(seed)
    assets = ["BTC", "ETH", *(f"A{k:03d}" for k in range(n_alts))]
    shape = (days, len(assets))
    market = 0.02 * rng.standard_t(4, days)
    ret = 1.1 * market[:, None] + 0.03 * rng.standard_normal(shape)
    ret[:, :2] = market[:, None] + 0.01 * rng.standard_normal((days, 2))
    close = np.exp(np.cumsum(np.clip(ret, -0.5, 0.5), axis=0)) * rng.uniform(0.1, 100, shape[1])
    gaps = rng.random(shape) < missing
    gaps[:, :2] = False
    late = rng.integers(0, days, shape[1])
    late[: shape[1] // 2 + 1] = 0
    gaps |= np.arange(days)[:, None] < late
    carried = np.zeros(shape)
    carried[:, 2:] = (rng.random((days, shape[1] - 2)) < missing / 2) * 1.0
    columns = {
        "volume_usd": np.exp(16.5 + rng.standard_normal(shape)),
        "marketcap": np.exp(19 + rng.standard_normal(shape)),
        "funding_rate": 1e-4 * rng.standard_normal(shape),
        "open_interest_usd": np.exp(17 + rng.standard_normal(shape)),
    }
    for values in columns.values():
        values[rng.random(shape) < missing] = np.nan
    columns["funding_rate"][rng.random(days) < missing] = np.nan
    panel = panel_from_arrays(np.where(gaps, np.nan, close), assets, start, **columns, price_age_days=carried)
    return panel, assets
