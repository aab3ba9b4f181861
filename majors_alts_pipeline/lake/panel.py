"""The panel: one row per (date, asset) with a known price, everything as it was known at that close."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.settings import LakeSettings, Settings
from majors_alts_pipeline.lake import funding
from majors_alts_pipeline.lake.contracts import LAKE_TABLES, LakeError
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.tables import PANEL

_KEY = ["date", "asset_id"]
_MAX_ASSETS = 2**24
_PLAIN = (
    ("fact_ohlc", ("open", "high", "low")),
    ("fact_volume", ("volume",)),
    ("fact_open_interest", ("open_interest_usd",)),
)


def compute(inputs: Mapping[str, Any], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Panel rows of `window`.

    Args:
        inputs: ``{"lake": LakeSource}``.
        window: days wanted.
        settings: sections lake and quality.

    Returns:
        ``{"panel": frame}`` under the contract `tables.PANEL`, sorted by date and asset.

    Raises:
        LakeError: a major has no price of its own on a day of the window, two rows share a key, a value
        cannot
            be (non-positive price, infinity) or funding looks like percent and the settings do not rescale
            it.
    """
    lake: LakeSource = inputs["lake"]
    look_back = window.back(max(settings.lake.price_carry_days, settings.lake.marketcap_max_age_days, 1))
    prices = _read(lake, "fact_price", look_back, settings)
    assert prices is not None
    prices = prices.filter(pl.col("close").is_not_null())
    assets = pl.Enum(prices["asset_id"].unique().sort())
    prices = _keyed(prices, assets)
    _require_majors(prices, window, settings.lake, lake.location)
    panel = _keyed(_with_returns(prices, window, settings.lake.price_carry_days), assets).sort("key")
    for table, columns in _PLAIN:
        panel = _joined(panel, _read(lake, table, window, settings), table, columns, assets)
    caps = _read(lake, "fact_marketcap", look_back, settings)
    panel = _with_marketcap(
        panel, None if caps is None else _keyed(caps, assets), prices, settings.lake.marketcap_max_age_days
    )
    panel = panel.join(_funding(lake, window, settings, assets), on="key", how="left", maintain_order="left")
    panel = _with_listing(panel, lake)
    return {"panel": panel.rename({"volume": "volume_usd"}).select(PANEL.schema.names())}


def _keyed(frame: pl.DataFrame, assets: pl.Enum) -> pl.DataFrame:
    """Add `code` (rank of the asset) and `key` (day and code in one integer); other assets are dropped.

    Joins and sorts on one integer take a fraction of those on a date and a text.
    """
    code = pl.col("asset_id").cast(assets, strict=False).to_physical().cast(pl.Int64)
    coded = frame.with_columns(code=code).filter(pl.col("code").is_not_null())
    return coded.with_columns(key=pl.col("date").to_physical().cast(pl.Int64) * _MAX_ASSETS + pl.col("code"))


def _read(lake: LakeSource, table: str, window: Window, settings: Settings) -> pl.DataFrame | None:
    """Read rows known on their own day, unique, with values the contract allows (others refused or null)."""
    frame = lake.frame(table, window.start, window.end)
    if frame is None:
        return None
    if table != "fact_marketcap" and "known_at" in frame.columns:
        frame = frame.filter(pl.col("known_at").is_null() | (pl.col("known_at") <= pl.col("date")))
    _refuse_duplicates(lake, table, frame, window)
    return _without_bad_values(frame, table, settings)


def _refuse_duplicates(lake: LakeSource, table: str, frame: pl.DataFrame, window: Window) -> None:
    if frame.is_empty() or _keyed(frame, pl.Enum(frame["asset_id"].unique()))["key"].n_unique() == frame.height:
        return
    rows = lake.rows(table, window.start, window.end)
    assert rows is not None
    doubled = rows.filter(pl.struct(_KEY).is_duplicated()).sort(*_KEY, "raw_id")
    day, asset = doubled.select(_KEY).row(0)
    same = doubled.filter((pl.col("date") == day) & (pl.col("asset_id") == asset))
    names = ", ".join(dict.fromkeys(same["raw_id"].to_list()))
    raise LakeError(
        f"{table}: {same.height} rows for asset {asset} on {day} (written as {names}); "
        f"{doubled.height} rows share a key in {window.start}..{window.end}. Keep one row per asset and day"
    )


def _bad(column: str, table: str) -> pl.Expr:
    contract = LAKE_TABLES[table]
    value = pl.col(column)
    bad = ~value.is_finite()
    if column in contract.positive:
        bad = bad | (value <= 0)
    if column in contract.non_negative:
        bad = bad | (value < 0)
    return bad.fill_null(False)


def _without_bad_values(frame: pl.DataFrame, table: str, settings: Settings) -> pl.DataFrame:
    """Refuse impossible values when quality.severity.bad_values is ERROR, else treat them as missing."""
    contract = LAKE_TABLES[table]
    checked = sorted({*contract.positive, *contract.non_negative, *contract.finite})
    flags = frame.select(_bad(name, table).any().alias(name) for name in checked).row(0, named=True)
    spoilt = [name for name, found in flags.items() if found]
    if not spoilt:
        return frame
    if settings.quality.severity["bad_values"] == "ERROR":
        name = spoilt[0]
        rows = frame.filter(_bad(name, table)).sort(_KEY)
        day, asset, value = rows.select(*_KEY, name).row(0)
        raise LakeError(
            f"{table}.{name}: {value} for asset {asset} on {day} ({rows.height} such rows); a "
            "value there must be finite"
            f"{' and positive' if name in contract.positive else ''}. Fix the lake, or set "
            "quality.severity.bad_values to "
            "WARN to treat such values as missing"
        )
    return frame.with_columns(pl.when(~_bad(name, table)).then(pl.col(name)).alias(name) for name in spoilt)


def _require_majors(prices: pl.DataFrame, window: Window, settings: LakeSettings, location: str) -> None:
    for major in settings.majors:
        held = window.keep(prices.filter(pl.col("asset_id") == major))["date"]
        if held.n_unique() == window.n_days:
            continue
        days = set(held.to_list())
        absent = [day for day in window.days() if day not in days]
        raise LakeError(
            f"fact_price: no close of the major {major} on {absent[0]} ({len(absent)} of "
            f"{window.n_days} days of "
            f"{window.start}..{window.end}) in {location}; add it to the lake or ask for other days"
        )


def _with_returns(prices: pl.DataFrame, window: Window, carry_days: int) -> pl.DataFrame:
    """Own and carried closes of the window: close, ret, price_age_days, source."""
    one_day = timedelta(days=1)
    recent = prices.filter(pl.col("date") >= window.start - timedelta(days=max(carry_days, 1))).sort("asset_id", "date")
    same = pl.col("code") == pl.col("code").shift(1)
    adjacent = same & (pl.col("date") - pl.col("date").shift(1) == one_day)
    next_day = pl.when(pl.col("code") == pl.col("code").shift(-1)).then(pl.col("date").shift(-1))
    own = recent.with_columns(
        ret=pl.when(adjacent).then(pl.col("close") / pl.col("close").shift(1) - 1.0),
        gap=(next_day - pl.col("date")).dt.total_days() - 1,
        price_age_days=pl.lit(0, pl.Int32),
    )
    gap = pl.col("gap").fill_null(carry_days).clip(0, carry_days)
    carried = (
        own.with_columns(price_age_days=pl.int_ranges(1, gap + 1, dtype=pl.Int32))
        .filter(gap > 0)
        .explode("price_age_days")
        .with_columns(pl.col("date") + pl.duration(days="price_age_days"), ret=pl.lit(None, pl.Float64))
    )
    return window.keep(pl.concat([own, carried.select(own.columns)])).drop("gap")


def _joined(
    panel: pl.DataFrame, facts: pl.DataFrame | None, table: str, columns: tuple[str, ...], assets: pl.Enum
) -> pl.DataFrame:
    if facts is None:
        return panel.with_columns(pl.lit(None, LAKE_TABLES[table].schema[name]).alias(name) for name in columns)
    held = _keyed(facts, assets).select("key", *columns)
    return panel.join(held, on="key", how="left", maintain_order="left")


def _with_marketcap(
    panel: pl.DataFrame, caps: pl.DataFrame | None, prices: pl.DataFrame, max_age_days: int
) -> pl.DataFrame:
    """Last observation known by the day and young enough, at constant supply.

    An observation of the day itself stands as it is; an older one is multiplied by close / close of its own
    day. One whose day has no close cannot be scaled and is passed over.
    """
    if caps is None:
        return panel.with_columns(
            marketcap=pl.lit(None, pl.Float64),
            marketcap_kind=pl.lit(None, pl.String),
            marketcap_age_days=pl.lit(None, pl.Int32),
        )
    observed = caps.filter(pl.col("marketcap").is_not_null()).with_columns(known=pl.max_horizontal("date", "known_at"))
    own = observed.filter(pl.col("known") == pl.col("date")).select("key", own="marketcap")
    scalable = (
        observed.join(prices.select("key", "close"), on="key", how="inner")
        .select("code", "known", seen="date", supply=pl.col("marketcap") / pl.col("close"))
        .sort("known", "seen")
        .unique(["code", "known"], keep="last", maintain_order=True)
        .with_columns(pl.col("seen").cum_max().over("code").alias("newest"))
        .filter(pl.col("seen") == pl.col("newest"))
    )
    joined = panel.join_asof(
        scalable.drop("newest"),
        left_on="date",
        right_on="known",
        by="code",
        strategy="backward",
        check_sortedness=False,
    ).join(own, on="key", how="left", maintain_order="left")
    age = (pl.col("date") - pl.col("seen")).dt.total_days().cast(pl.Int32)
    fresh = age <= max_age_days
    is_own = pl.col("own").is_not_null()
    return joined.with_columns(
        marketcap=pl.when(is_own).then(pl.col("own")).when(fresh).then(pl.col("supply") * pl.col("close")),
        marketcap_kind=pl.when(is_own).then(pl.lit("observed")).when(fresh).then(pl.lit("scaled")),
        marketcap_age_days=pl.when(is_own).then(pl.lit(0, pl.Int32)).when(fresh).then(age),
    )


def _funding(lake: LakeSource, window: Window, settings: Settings, assets: pl.Enum) -> pl.DataFrame:
    prints = _in_decimal(lake, "fact_funding", window, settings, funding.FundingUnit.of_print(settings.quality))
    sums = _in_decimal(lake, "fact_funding_daily_sum", window, settings, funding.FundingUnit.of_day(settings.quality))
    prints, sums = (None if frame is None else _keyed(frame, assets) for frame in (prints, sums))
    return funding.daily(prints, sums, window, settings.lake.funding_prints_per_day)


def _in_decimal(
    lake: LakeSource, table: str, window: Window, settings: Settings, unit: funding.FundingUnit
) -> pl.DataFrame | None:
    """Read funding in decimal; of a table with print counts, `funding.MEMORY_DAYS` before the window too."""
    loaded = window.back(funding.MEMORY_DAYS)
    frame = _read(lake, table, loaded, settings)
    if frame is None:
        return None
    marked = funding.mark(frame, window, unit, settings.quality.funding_percent_ratio)
    percent = marked.filter("percent").sort(_KEY)
    if percent.height and settings.lake.funding_on_unit_break == "error":
        day, asset, value = percent.select(*_KEY, "funding_rate").row(0)
        raise LakeError(
            f"{table}: {percent.height} rows of {window.start}..{window.end} look like percent, "
            "not decimal, first asset "
            f"{asset} on {day} (|rate| {abs(value):g}; cap {unit.cap:g}, ratio "
            f"{settings.quality.funding_percent_ratio:g} "
            'to its own median); set lake.funding_on_unit_break to "rescale" or fix the lake'
        )
    marked = funding.rescaled(marked)
    if "n_prints" not in frame.columns:
        return marked
    before = frame.filter(pl.col("date") < window.start)
    return pl.concat([before.with_columns(percent=pl.lit(False), over_cap=pl.lit(False)), marked])


def _with_listing(panel: pl.DataFrame, lake: LakeSource) -> pl.DataFrame:
    """Onboard date when it is not after the first price, else the first price.

    An onboard date later than the first price is a second venue's (or a remapped contract's); an earlier one
    was known on every day of the series.
    """
    listed = (
        lake.first_seen()
        .join(lake.specs.onboard_dates(), on="asset_id", how="left")
        .select("asset_id", listed_on=pl.min_horizontal("first_seen", "onboard"))
    )
    return panel.join(listed, on="asset_id", how="left", maintain_order="left")
