"""Stage 3: regime features of each day, raw and as trailing z-scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.features.definitions import DEFINITIONS, FeatureDefinition
from majors_alts_pipeline.features.market import DailySeries, Market, z_score
from majors_alts_pipeline.features.series import market_rows
from majors_alts_pipeline.tables import FEATURES, MARKET


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Every enabled feature, and the market series, of every day of `window` that has a universe.

    `z` is (raw - mean) / standard deviation with ddof 1 over the `features.z_window_days` days that end on
    the day itself, all of which are known at its close; it is null until `features.z_min_obs` of them have a
    value, when the day has none, and when they do not vary. What is missing makes the features that need it
    null, never 0, and leaves the others alone; `coverage` is the share of their inputs that existed. A value that
    rests on less than `features.min_coverage` of its inputs describes a few assets rather than the market: it is
    null, and no z-score sees it.

    Args:
        inputs: ``panel`` and ``universe`` from `window.start` less the stage's look-back.
        window: days wanted.
        settings: reads `lake.majors` and `features`.

    Returns:
        ``{"features": frame, "market": frame}``; `market` is `series.market_rows`.

    Raises:
        ValueError: a feature is enabled that is not defined, or a major has no row at all.
    """
    definitions = enabled_definitions(settings)
    universe = inputs["universe"]
    days = window.keep(universe)["date"].unique().sort()
    if days.is_empty():
        return {"features": FEATURES.empty(), "market": MARKET.empty()}
    loaded = window.back(raw_lookback(settings) + settings.features.z_window_days - 1)
    market = Market.of(inputs["panel"], universe, loaded, settings.lake.majors, min_assets=settings.features.min_assets)
    frames = [
        _rows(definition, definition.recipe(market), loaded, settings).filter(pl.col("date").is_in(days.implode()))
        for definition in definitions
    ]
    series = market_rows(market).filter(pl.col("date").is_in(days.implode()))
    return {"features": FEATURES.conform(pl.concat(frames)), "market": MARKET.conform(series)}


def enabled_definitions(settings: Settings) -> list[FeatureDefinition]:
    """Definitions of `features.enabled`, in that order.

    Raises:
        ValueError: a name is not defined.
    """
    unknown = [name for name in settings.features.enabled if name not in DEFINITIONS]
    if unknown:
        raise ValueError(f"features.enabled: {unknown} are not defined; defined: {', '.join(DEFINITIONS)}")
    return [DEFINITIONS[name] for name in settings.features.enabled]


def raw_lookback(settings: Settings) -> int:
    """Days before D that the raw values of D read."""
    return max(definition.lookback_days for definition in enabled_definitions(settings))


def _rows(definition: FeatureDefinition, series: DailySeries, loaded: Window, settings: Settings) -> pl.DataFrame:
    raw = np.where(series.coverage >= settings.features.min_coverage, series.raw, np.nan)
    z = z_score(raw, settings.features.z_window_days, settings.features.z_min_obs)
    return pl.DataFrame(
        {
            "date": pl.date_range(loaded.start, loaded.end, eager=True),
            "feature": np.full(loaded.n_days, definition.name),
            "raw": pl.Series(raw).fill_nan(None),
            "z": pl.Series(z).fill_nan(None),
            "coverage": series.coverage,
        }
    )
