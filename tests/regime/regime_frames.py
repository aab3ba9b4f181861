"""Generated features, basket and panel frames that satisfy the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.features.definitions import DEFINITIONS
from majors_alts_pipeline.regime.stage import compute_outcome
from majors_alts_pipeline.tables import BASKET, FEATURES, MARKET, PANEL, REGIME_MODEL

START = date(2023, 1, 10)
ASSETS = ("A", "B", "BTC", "ETH")
WEIGHTS = (-0.25, -0.25, 0.3, 0.2)

SMALL = {
    "regime": {
        "methods": ["composite"],
        "weight_schemes": {
            "balanced": {"breadth_up": 1.0, "momentum_7": 1.0},
            "breadth": {"breadth_up": 1.0},
            "momentum": {"momentum_7": 1.0},
        },
        "min_train_days": 60,
        "grid": {
            "weight_schemes": ["balanced", "breadth", "momentum"],
            "smoothing_days": [1, 3],
            "enter": [0.3, 0.6],
            "exit_ratio": [0.5],
            "min_dwell_days": [2],
        },
    }
}


def settings_of(**regime: object) -> Settings:
    return load_settings(overrides={"regime": {**SMALL["regime"], **regime}})


def window_of(days: int) -> Window:
    return Window(START, START + timedelta(days=days - 1))


def features_of(window: Window, z: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """`z`: feature name to (days,) z-scores, NaN for missing."""
    parts = [
        pl.DataFrame({"date": window.days(), "feature": name, "z": values}).with_columns(
            pl.col("z").fill_nan(None), pl.col("z").alias("raw").fill_nan(None), pl.lit(1.0).alias("coverage")
        )
        for name, values in z.items()
    ]
    return FEATURES.conform(pl.concat(parts))


def signed(name: str, values: np.ndarray) -> np.ndarray:
    """z-scores whose contribution to the score is +values."""
    return DEFINITIONS[name].sign * values


def panel_of(window: Window, returns: np.ndarray, assets: tuple[str, ...] = ASSETS) -> pl.DataFrame:
    """`returns`: (days, assets), row 0 unused; NaN = no row that day."""
    close = 100 * np.cumprod(1 + np.nan_to_num(returns), axis=0)
    frame = pl.DataFrame({
        "date": np.repeat(np.array(window.days(), dtype="datetime64[D]"), len(assets)),
        "asset_id": list(assets) * window.n_days,
        "close": close.ravel(),
        "keep": ~np.isnan(returns).ravel(),
        "listed_on": START,
        "price_age_days": 0,
    }).filter("keep").cast({"price_age_days": pl.Int32})  # fmt: skip
    return PANEL.conform(
        frame.drop("keep").with_columns(
            pl.lit(None, PANEL.schema[name]).alias(name) for name in PANEL.columns if name not in frame.columns
        )
    )


def basket_of(window: Window) -> pl.DataFrame:
    """The same book every day."""
    days = pl.DataFrame({"date": window.days()})
    book = pl.DataFrame({"asset_id": ASSETS, "weight": WEIGHTS, "leg": ["alt", "alt", "major", "major"]})
    zero = [
        pl.lit(0.0).alias(name) for name in ("beta_btc", "beta_eth", "idio_vol", "neutrality_btc", "neutrality_eth")
    ]
    text = [
        pl.lit(value).alias(name)
        for name, value in (("mode", "dual_beta"), ("status", "optimal"), ("relaxed", ""), ("reason", ""))
    ]
    return BASKET.conform(days.join(book, how="cross").with_columns(*zero, *text))


def market_of(window: Window, returns: np.ndarray) -> pl.DataFrame:
    """`returns`: (days, assets) as for `panel_of`, BTC third and ETH last."""
    known = np.nan_to_num(returns)
    close = 100 * np.cumprod(1 + known[:, 2])
    frame = pl.DataFrame({
        "date": window.days(),
        "open": close / (1 + 0.5 * known[:, 2]),
        "high": close * 1.01,
        "low": close * 0.99,
        "close": close,
        "majors_minus_alts": known[:, 2:].mean(axis=1) - np.median(known[:, :2], axis=1),
        "average_correlation": 0.3,
        "n_correlated": 12,
    }).cast({"n_correlated": pl.Int32})  # fmt: skip
    return MARKET.conform(frame)


def inputs_of(window: Window, z: Mapping[str, np.ndarray], returns: np.ndarray) -> dict[str, pl.DataFrame]:
    book = {"basket": basket_of(window), "panel": panel_of(window, returns)}
    return {
        **book,
        **compute_outcome(book, window, settings_of()),
        "features": features_of(window, z),
        "market": market_of(window, returns),
        "regime_model": REGIME_MODEL.empty(),
    }


def random_inputs(days: int, seed: int) -> dict[str, pl.DataFrame]:
    """Autocorrelated scores, independent returns, burn-in of 20 days and scattered gaps."""
    rng = np.random.default_rng(seed)
    window = window_of(days)
    z = {}
    for name in ("breadth_up", "momentum_7", "funding_skew"):
        noise = rng.standard_normal(days)
        values = np.array([noise[max(0, t - 9) : t + 1].sum() / 3 for t in range(days)])
        values[:20] = np.nan
        values[rng.random(days) < 0.03] = np.nan
        z[name] = values
    z["momentum_7"][150:156] = z["breadth_up"][150:156] = np.nan
    return inputs_of(window, z, 0.03 * rng.standard_normal((days, len(ASSETS))))
