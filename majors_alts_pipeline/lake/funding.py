"""Funding per day and the unit it is quoted in.

A vendor that switches from decimal to percent multiplies everything by 100. A single row cannot always be
told from a real extreme, so a row counts as percent when it stands `funding_percent_ratio` times above what
its asset usually pays and, besides, either no venue would allow it (the cap) or most rows of that day and
venue do the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.settings import QualitySettings

MEMORY_DAYS = 30
"""Days of an asset's own funding that say what it usually pays, and for which its last print count holds."""

_MIN_GROUP = 5
_PERCENT = 100.0


@dataclass(frozen=True)
class FundingUnit:
    """What a table's rows may look like: cap and usual magnitude of one row, decimal."""

    cap: float
    usual: float

    @classmethod
    def of_print(cls, quality: QualitySettings) -> FundingUnit:
        """Return the unit of one settlement."""
        return cls(quality.funding_cap_per_print, quality.funding_usual_per_print)

    @classmethod
    def of_day(cls, quality: QualitySettings) -> FundingUnit:
        """Return the unit of a day's total: the usual three settlements."""
        return cls(quality.funding_cap_per_day, 3 * quality.funding_usual_per_print)


def mark(frame: pl.DataFrame, window: Window, unit: FundingUnit, ratio: float) -> pl.DataFrame:
    """Rows of `window` with the columns `percent` and `over_cap`.

    Args:
        frame: date, asset_id, funding_rate, exchange; `MEMORY_DAYS` earlier than the window where they exist.
        window: days wanted.
        unit: cap and usual magnitude of a row.
        ratio: multiple of the asset's own usual magnitude beyond which a row is suspect.

    Returns:
        The rows of the window with `percent` (looks like percent) and `over_cap` (beyond the cap and not
        percent). What an asset usually pays is its median |rate| over the `MEMORY_DAYS` before, at least half
        the market's usual rate; for the rule on whole days it is at most the market's usual rate as well, so
        that a switch that lasts cannot become its own reference.
    """
    rows = window.keep(frame)
    size, group = pl.col("funding_rate").abs(), ["date", "exchange"]
    candidates = rows.with_row_index("row").filter(size > ratio * unit.usual / 2)
    usual = _usual(candidates, frame).fill_null(unit.usual).clip(lower_bound=unit.usual / 2)
    judged = candidates.with_columns(usual=usual).with_columns(
        high=size > ratio * pl.col("usual").clip(upper_bound=unit.usual),
        impossible=(size > unit.cap) & (size > ratio * pl.col("usual")),
    )
    counts = rows.group_by(group).agg(n=pl.len())
    counted = judged.join(counts, on=group, how="left", nulls_equal=True, maintain_order="left")
    most = (pl.col("n") >= _MIN_GROUP) & (2 * pl.col("high").sum().over(group) >= pl.col("n"))
    percent = np.zeros(rows.height, dtype=bool)
    percent[counted.filter(pl.col("impossible") | (pl.col("high") & most))["row"].to_numpy()] = True
    return rows.with_columns(percent=pl.Series(percent, dtype=pl.Boolean)).with_columns(
        over_cap=(size > unit.cap).fill_null(False) & ~pl.col("percent")
    )


def _usual(candidates: pl.DataFrame, frame: pl.DataFrame) -> pl.Series:
    """Median |rate| of each candidate's asset over the `MEMORY_DAYS` before its day; null without any."""
    finite = frame.filter(pl.col("funding_rate").is_finite())
    past = finite.select("asset_id", "date", size=pl.col("funding_rate").abs())
    wanted = candidates.select("row", "asset_id", day="date")
    since = pl.col("day") - timedelta(days=MEMORY_DAYS)
    own = (
        wanted.join(past, on="asset_id")
        .filter((pl.col("date") < pl.col("day")) & (pl.col("date") >= since))
        .group_by("row")
        .agg(usual=pl.col("size").median())
    )
    return wanted.join(own, on="row", how="left", maintain_order="left")["usual"]


def rescaled(marked: pl.DataFrame) -> pl.DataFrame:
    """Rows that look like percent divided by 100, the others as they are."""
    rate = pl.col("funding_rate")
    return marked.with_columns(pl.when(pl.col("percent")).then(rate / _PERCENT).otherwise(rate).alias("funding_rate"))


def daily(prints: pl.DataFrame | None, sums: pl.DataFrame | None, window: Window, per_day: int) -> pl.DataFrame:
    """Funding per day: the sum of the day's prints where known, else one print x prints per day.

    Args:
        prints: date, key, code, funding_rate (per print), percent.
        sums: date, key, code, funding_rate (per day), n_prints, percent; `MEMORY_DAYS` before the window too.
        window: days wanted.
        per_day: prints per day for an asset whose print count was not seen in the last `MEMORY_DAYS`.

    Returns:
        (key, funding_rate, funding_kind); `_rescaled` is added to the kind of rows that looked like percent
        and were divided by 100.
    """
    schema = {"key": pl.Int64, "funding_rate": pl.Float64, "funding_kind": pl.String}
    parts = []
    if sums is not None:
        known = window.keep(sums).filter(pl.col("funding_rate").is_finite())
        parts.append(known.select("key", "funding_rate", _kind("sum")))
    if prints is not None:
        rows = window.keep(prints).filter(pl.col("funding_rate").is_finite())
        if parts:
            rows = rows.join(parts[0], on="key", how="anti")
        scaled = _prints_per_day(rows, sums, per_day).with_columns(pl.col("funding_rate") * pl.col("n"))
        parts.append(scaled.select("key", "funding_rate", _kind("print_scaled")))
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def _kind(name: str) -> pl.Expr:
    return pl.when("percent").then(pl.lit(f"{name}_rescaled")).otherwise(pl.lit(name)).alias("funding_kind")


def _prints_per_day(rows: pl.DataFrame, sums: pl.DataFrame | None, per_day: int) -> pl.DataFrame:
    """`rows` with n: the asset's print count last seen before that day, else `per_day`."""
    if sums is None:
        return rows.with_columns(n=pl.lit(float(per_day)))
    counted = sums.filter(pl.col("n_prints") >= 1).select("code", "date", n="n_prints").sort("date")
    joined = rows.sort("date").join_asof(
        counted,
        on="date",
        by="code",
        strategy="backward",
        tolerance=f"{MEMORY_DAYS}d",
        check_sortedness=False,
    )
    return joined.with_columns(pl.col("n").fill_null(float(per_day)))
