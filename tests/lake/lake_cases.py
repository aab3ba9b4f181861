"""Small lakes for the tests of the lake room."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from majors_alts_pipeline.config import load_settings

START = date(2025, 1, 1)
SETTINGS = load_settings()
SHARED = Path(os.environ.get("MAJORS_ALTS_SHARED", Path(__file__).parents[2].parent / "shared"))
REAL_LAKES = ("lake", "lake_stress")


def day(number: int) -> date:
    return START + timedelta(days=number)


def settings_with(**sections):
    return load_settings(overrides=sections)


def small_tables(days: int = 40, assets: tuple[str, ...] = ("BTC", "ETH", "SOL", "DOGE", "XRP", "ADA"), seed: int = 1):
    """A clean lake with every table; market caps every tenth day, daily sums from day 20 on."""
    rng = np.random.default_rng(seed)
    cells = [(asset, day(k)) for asset in assets for k in range(days)]
    ids = pl.Series([cell[0] for cell in cells])
    dates = pl.Series([cell[1] for cell in cells], dtype=pl.Date)
    common = 0.02 * rng.standard_normal(days)
    moves = common[None, :] + 0.01 * rng.standard_normal((len(assets), days))
    close = 100 * np.exp(np.cumsum(moves, axis=1)).ravel()
    key = {"asset_id": ids, "date": dates}
    prints = 0.0001 * (1 + 0.1 * rng.standard_normal(len(cells)))
    price = pl.DataFrame({**key, "close": close, "source": "test"})
    number = pl.Series([(cell[1] - START).days for cell in cells])
    return {
        "fact_price": price,
        "fact_ohlc": pl.DataFrame(
            {
                **key,
                "open": close * 0.99,
                "high": close * 1.02,
                "low": close * 0.98,
                "close": close,
                "source": "test",
            }
        ),
        "fact_volume": pl.DataFrame({**key, "volume": 1e7 * rng.uniform(0.5, 2, len(cells)), "source": "test"}),
        "fact_marketcap": pl.DataFrame({**key, "marketcap": close * 1e6, "source": "test"}).filter(number % 10 == 0),
        "fact_funding": pl.DataFrame({**key, "funding_rate": prints, "exchange": "X"}),
        "fact_funding_daily_sum": pl.DataFrame(
            {
                **key,
                "funding_rate": 6 * prints,
                "exchange": "X",
                "n_prints": pl.Series([6] * len(cells), dtype=pl.Int32),
            }
        ).filter(number >= 20),
        "fact_open_interest": pl.DataFrame({**key, "open_interest_usd": 1e9}).filter(ids == "BTC"),
        "dim_asset": pl.DataFrame({"asset_id": list(assets), "is_stable": [False] * len(assets)}),
        "dim_instrument": pl.DataFrame(
            {
                "instrument_id": [f"x_{asset}USDT" for asset in assets],
                "instrument_symbol": [f"{asset}USDT" for asset in assets],
                "quote": "USDT",
                "asset_id": list(assets),
                "multiplier": pl.Series([None] * len(assets), dtype=pl.Float64),
                "metadata_json": ['{"onboard_date": "2024-06-01"}'] * len(assets),
            }
        ),
    }


def write(tables, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return folder


def changed(tables, name: str, where: pl.Expr, **values):
    """`tables` with columns of the rows `where` of one table replaced."""
    edits = [
        pl.when(where).then(pl.lit(value)).otherwise(pl.col(column)).alias(column) for column, value in values.items()
    ]
    return {**tables, name: tables[name].with_columns(edits)}


def at(asset: str, number: int) -> pl.Expr:
    return (pl.col("asset_id") == asset) & (pl.col("date") == day(number))
