"""Stage 2: one row per day and asset with a known price: could it be held that day and, if not, why."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.numerics.dense import Dense
from majors_alts_pipeline.tables import UNIVERSE
from majors_alts_pipeline.universe.detectors import tracked_asset, usd_peg
from majors_alts_pipeline.universe.medians import trailing_median
from majors_alts_pipeline.universe.rules import OK, PEG_USD, TRACKS, first_failing, listed_kind


class MissingMajorError(ValueError):
    """A major has no price of its own on a day on which other assets have one."""


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Universe of each day of `window` (contract `tables.UNIVERSE`).

    A row says what was known at the close of its day. Shortable is true where the asset has funding that day,
    false where it has none although some asset has, and null on a day without any funding in the lake: then
    the lake cannot tell and the rule is skipped. Prices carried from an earlier day take no part in the
    detectors or the median volume.

    Args:
        inputs: ``panel`` from `window.start` less the stage's look-back.
        window: days wanted.
        settings: reads `lake.majors` and `universe`.

    Returns:
        ``{"universe": frame}``.

    Raises:
        MissingMajorError: a major has no price of its own on a day on which another asset has one.
    """
    panel = inputs["panel"]
    today = window.keep(panel)
    _require_majors(today, settings)
    if today.is_empty():
        return {"universe": UNIVERSE.empty()}
    assets = sorted(today["asset_id"].unique().to_list())
    detector, adv = _from_data(panel, assets, window, settings)
    dense = Dense.of(today, window, assets)
    kinds = listed_kind(settings)
    kind = pl.Series(assets, dtype=pl.String).replace_strict(kinds, default=None, return_dtype=pl.String)
    shortable = pl.col("funding_rate").is_not_null()
    rows = (
        dense.frame.with_columns(
            pl.Series("adv_usd", adv[dense.rows, dense.cols]).fill_nan(None),
            pl.Series("detector", _detector_names(assets).gather(detector[dense.rows, dense.cols])),
            pl.Series("kind", kind.gather(dense.cols)),
            (pl.col("date") - pl.col("listed_on")).dt.total_days().cast(pl.Int32).alias("age_days"),
            pl.when(shortable.any().over("date")).then(shortable).alias("shortable"),
            _volume_known(panel, window, settings).gather(dense.rows).alias("volume_known"),
        )
        .with_columns(first_failing(settings).alias("reason"))
        .with_columns(pl.col("reason").is_in([OK, "major"]).alias("eligible"), _role(settings).alias("role"))
    )
    return {"universe": UNIVERSE.conform(rows.select(list(UNIVERSE.columns)))}


def _volume_known(panel: pl.DataFrame, window: Window, settings: Settings) -> pl.Series:
    """(days of `window`,) whether any asset's volume is known in the trailing ADV window."""
    loaded = window.back(settings.universe.adv_window_days - 1)
    days = panel.filter(pl.col("volume_usd").is_not_null())["date"].unique()
    known = pl.Series(loaded.days(), dtype=pl.Date).is_in(days.implode()).to_numpy()
    trailing = np.lib.stride_tricks.sliding_window_view(known, settings.universe.adv_window_days)
    return pl.Series("volume_known", trailing.any(axis=1))


def _role(settings: Settings) -> pl.Expr:
    is_major = pl.col("asset_id").is_in(list(settings.lake.majors))
    is_alt = pl.col("reason") == OK
    return pl.when(is_major).then(pl.lit("major")).when(is_alt).then(pl.lit("alt")).otherwise(pl.lit("excluded"))


def _require_majors(today: pl.DataFrame, settings: Settings) -> None:
    """Stop where only a major lacks a price; a day without any fresh price is a gap of the lake instead."""
    fresh = today.filter(pl.col("price_age_days") == 0)
    for major in settings.lake.majors:
        days = fresh.group_by("date").agg((pl.col("asset_id") == major).any().alias("has"))
        missing = days.filter(~pl.col("has"))
        if missing.height:
            raise MissingMajorError(
                f"panel: major {major} has no price of its own on {missing['date'].min()!s} "
                f"({missing.height} such days in this window) although other assets have one; "
                "fix fact_price, start the run later, or change lake.majors"
            )


def _detector_names(assets: list[str]) -> pl.Series:
    """Names of the detector codes: column number -> tracks that asset, then peg, then nothing."""
    return pl.Series([*(f"{TRACKS}{asset}" for asset in assets), PEG_USD, None], dtype=pl.String)


def _from_data(
    panel: pl.DataFrame, assets: list[str], window: Window, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Detector codes (see `_detector_names`) and median traded notional, (days of `window`, assets) each."""
    rules = settings.universe
    span = max(rules.detector_window_days, rules.adv_window_days)
    fresh = panel.filter(pl.col("price_age_days") == 0)
    dense = Dense.of(fresh, window.back(span - 1), assets)
    volume = dense.floats("volume_usd")[span - rules.adv_window_days :]
    adv = trailing_median(volume, rules.adv_window_days, rules.adv_min_obs)
    fresh_today = Dense.of(window.keep(fresh), window, assets)
    present = np.zeros(fresh_today.shape, dtype=bool)
    present[fresh_today.rows, fresh_today.cols] = True
    ret, close = (dense.floats(name)[span - rules.detector_window_days :] for name in ("ret", "close"))
    first_day = day_number(window.start) - rules.detector_window_days + 1
    position = {asset: column for column, asset in enumerate(assets)}
    tracks = tracked_asset(
        ret,
        adv,
        present,
        majors=[position[asset] for asset in settings.lake.majors if asset in position],
        listed=[position[asset] for asset in listed_kind(settings) if asset in position],
        n_references=rules.tracks_references,
        window=rules.detector_window_days,
        min_obs=rules.detector_min_obs,
        max_error=rules.tracks_max_error,
        beta_band=rules.tracks_beta_band,
        first_day=first_day,
    )
    peg = usd_peg(
        ret,
        close,
        window=rules.detector_window_days,
        min_obs=rules.detector_min_obs,
        max_daily_vol=rules.peg_max_daily_vol,
        band=rules.peg_band,
        first_day=first_day,
    )
    nothing = len(assets) + 1
    return np.where(peg, len(assets), np.where(tracks < 0, nothing, tracks)), adv
