"""Data-quality rules of a lake, one function each; nothing is repaired.

Rules read whole tables and are vectorised; each returns the offending rows, `check_lake` caps and words them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.settings import QualitySettings, Settings
from majors_alts_pipeline.lake import funding
from majors_alts_pipeline.lake.contracts import LAKE_TABLES, LakeError
from majors_alts_pipeline.lake.reader import LakeSource

MAX_FINDINGS = 1000
"""Findings listed per check; the total is always said."""

_ROW = pl.Schema(
    {"table": pl.String, "asset_id": pl.String, "date": pl.Date, "value": pl.Float64, "message": pl.String}
)
_PRICE = "fact_price"


@dataclass(frozen=True)
class Finding:
    """One thing found wrong.

    Attributes:
        check: name in `CHECKS`.
        severity: ERROR (blocks everything downstream) or WARN.
        table: lake table.
        asset_id: asset, None when the whole table is meant.
        date: day, None when no single day is meant.
        value: offending value in the unit of the table, None where there is none.
        message: one sentence with table, asset, day, value and remedy.
    """

    check: str
    severity: str
    table: str
    asset_id: str | None
    date: date | None
    value: float | None
    message: str


class Context:
    """Tables of one lake, read once for all rules."""

    def __init__(self, lake: LakeSource, settings: Settings, expected_day: date | None) -> None:
        self.lake, self.settings, self.expected_day = lake, settings, expected_day
        self._rows: dict[str, pl.DataFrame | None] = {}

    @property
    def quality(self) -> QualitySettings:
        """Thresholds."""
        return self.settings.quality

    def rows(self, table: str) -> pl.DataFrame | None:
        """Normalised rows with `raw_id`."""
        if table not in self._rows:
            self._rows[table] = self.lake.rows(table)
        return self._rows[table]

    def daily(self) -> list[tuple[str, pl.DataFrame]]:
        """List the fact tables that are present."""
        found = ((name, self.rows(name)) for name, table in LAKE_TABLES.items() if table.daily)
        return [(name, frame) for name, frame in found if frame is not None]

    @cached_property
    def newest_price(self) -> date:
        """Newest day of fact_price."""
        return self.lake.last_day()

    @cached_property
    def whole_days_ahead(self) -> dict[str, list[date]]:
        """Table to days up to `lake.late_table_days` after the newest price with half of the table's usual assets."""
        since, grace = self.newest_price, self.settings.lake.late_table_days
        ahead = {}
        for name, frame in self.daily():
            usual = frame.filter(pl.col("date") == since)["asset_id"].n_unique()
            counted = (
                frame.filter((pl.col("date") - since).dt.total_days().is_between(1, grace))
                .group_by("date")
                .agg(assets=pl.col("asset_id").n_unique())
                .filter((pl.col("assets") > 1) & (2 * pl.col("assets") >= usual))
            )
            if counted.height:
                ahead[name] = sorted(counted["date"])
        return ahead

    @cached_property
    def assets(self) -> pl.Enum:
        """Assets that have prices, sorted."""
        prices = self.rows(_PRICE)
        assert prices is not None
        return pl.Enum(prices["asset_id"].unique().sort())

    @cached_property
    def series(self) -> pl.DataFrame:
        """Usable closes by asset and day: previous, following, gap in days, ret and log_move (gap 1 only)."""
        prices = self.rows(_PRICE)
        assert prices is not None
        usable = prices.filter(pl.col("close").is_finite() & (pl.col("close") > 0)).unique(["asset_id", "date"])
        ordered = _sorted(usable.select("asset_id", "date", "close", "source"), self.assets)
        same_before = pl.col("code") == pl.col("code").shift(1)
        same_after = pl.col("code") == pl.col("code").shift(-1)
        return ordered.with_columns(
            previous=pl.when(same_before).then(pl.col("close").shift(1)),
            following=pl.when(same_after).then(pl.col("close").shift(-1)),
            gap=pl.when(same_before).then((pl.col("date") - pl.col("date").shift(1)).dt.total_days()),
        ).with_columns(
            ret=pl.when(pl.col("gap") == 1).then(pl.col("close") / pl.col("previous") - 1.0),
            log_move=pl.when(pl.col("gap") == 1).then((pl.col("close") / pl.col("previous")).log()),
        )


def _sorted(frame: pl.DataFrame, assets: pl.Enum) -> pl.DataFrame:
    """Rows of `assets`, unique, sorted by asset and day, with `code` (rank of the asset) integer `key`."""
    return _first_by_key(_keyed(frame, assets))


def _keyed(frame: pl.DataFrame, assets: pl.Enum) -> pl.DataFrame:
    code = pl.col("asset_id").cast(assets, strict=False).to_physical().cast(pl.Int64)
    coded = frame.with_columns(code=code).filter(pl.col("code").is_not_null())
    return coded.with_columns(key=pl.col("code") * _KEY_STEP + pl.col("date").to_physical().cast(pl.Int64))


def _first_by_key(keyed: pl.DataFrame) -> pl.DataFrame:
    """Rows sorted by `key`, the first of each; on sorted rows that is a comparison with the row before."""
    ordered = keyed.sort("key", maintain_order=True)
    repeated = ordered["key"] == ordered["key"].shift(1)
    return ordered.filter(~repeated.fill_null(False)) if repeated.any() else ordered


_KEY_STEP = 2**32
Check = Callable[[Context], pl.DataFrame]
CHECKS: dict[str, Check] = {}
"""Check name to function; severities are in quality.severity under the same names."""


def _register(check: Check) -> Check:
    CHECKS[check.__name__] = check
    return check


@dataclass(frozen=True)
class _Text:
    """A sentence with {} for each argument; worded in Python, for the rows that will be listed only."""

    template: str
    arguments: tuple[pl.Expr, ...]

    @classmethod
    def of(cls, template: str, *arguments: pl.Expr | str) -> _Text:
        return cls(template, tuple(pl.col(item) if isinstance(item, str) else item for item in arguments))

    def worded(self, frame: pl.DataFrame) -> pl.Series:
        named = [argument.alias(f"_{number}") for number, argument in enumerate(self.arguments)]
        values = frame.head(MAX_FINDINGS).with_columns(named).select(f"_{number}" for number in range(len(named)))
        words = [self.template.format(*row) for row in values.iter_rows()]
        return pl.Series("message", words, dtype=pl.String).extend_constant(None, frame.height - len(words))


def _found(frame: pl.DataFrame, table: str, value: pl.Expr | str | None, message: _Text) -> pl.DataFrame:
    """Rows in the shape every rule returns, sorted; asset_id and date default to null."""
    order = [name for name in ("date", "asset_id") if name in frame.columns]
    frame = frame.sort(order)
    number = pl.lit(None, pl.Float64) if value is None else (pl.col(value) if isinstance(value, str) else value)
    asset = pl.col("asset_id") if "asset_id" in frame.columns else pl.lit(None, pl.String)
    day = pl.col("date") if "date" in frame.columns else pl.lit(None, pl.Date)
    rows = frame.with_columns(table=pl.lit(table), asset_id=asset, date=day, value=number.cast(pl.Float64))
    return rows.with_columns(message.worded(frame)).select(list(_ROW)).cast(_ROW)


def _all(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts) if parts else pl.DataFrame(schema=_ROW)


def _note(
    table: str, value: float | None, message: str, asset: str | None = None, day: date | None = None
) -> pl.DataFrame:
    return pl.DataFrame([(table, asset, day, value, message)], schema=_ROW, orient="row")


@_register
def duplicate_keys(context: Context) -> pl.DataFrame:
    """Two rows for one key, by repetition or because two ids are one asset."""
    parts = []
    for name, frame in [*context.daily(), ("dim_asset", context.rows("dim_asset"))]:
        if frame is None:
            continue
        key = list(LAKE_TABLES[name].key)
        ids = frame["asset_id"].cast(pl.Categorical).to_physical().cast(pl.Int64)
        days = frame["date"].to_physical().cast(pl.Int64) if "date" in key else 0
        if (days * 2**32 + ids).n_unique() == frame.height:
            continue
        groups = frame.group_by(key).agg(n=pl.len(), names=pl.col("raw_id").unique().sort().str.join(", "))
        day = pl.col("date").cast(pl.String) if "date" in key else pl.lit("any day")
        text = _Text.of(
            "{}: {} rows for asset {} on {} (written as {}); keep one",
            pl.lit(name),
            "n",
            "asset_id",
            day,
            "names",
        )
        parts.append(_found(groups.filter(pl.col("n") > 1), name, "n", text))
    return _all(parts)


@_register
def future_dates(context: Context) -> pl.DataFrame:
    """Facts dated after the newest day there can be: the expected day, or else what the prices allow.

    Prices themselves may run `lake.late_table_days` ahead of the last complete day. Days on which at least half of
    a table's assets have rows right after the newest price are no stray dates: there the prices are late or stamped
    early, which `frozen_feed` and `shifted_clock` say.
    """
    grace = timedelta(days=context.settings.lake.late_table_days)
    newest = context.expected_day or min(context.newest_price, context.lake.last_complete_day() + grace)
    early = {day for days in context.whole_days_ahead.values() for day in days if context.expected_day is None}
    parts = []
    for name, frame in context.daily():
        late = frame.filter((pl.col("date") > newest) & ~pl.col("date").is_in(sorted(early)))
        text = _Text.of(
            "{}: asset {} has a row on {}, after {}; remove it or correct its date",
            pl.lit(name),
            "asset_id",
            "date",
            pl.lit(newest),
        )
        parts.append(_found(late, name, (pl.col("date") - newest).dt.total_days(), text))
    return _all(parts)


@_register
def bad_values(context: Context) -> pl.DataFrame:
    """Values that cannot be: not finite, or not positive where they must be."""
    parts = []
    for name, frame in context.daily():
        table = LAKE_TABLES[name]
        for column in sorted({*table.positive, *table.non_negative, *table.finite}):
            value = pl.col(column)
            low = (
                value <= 0 if column in table.positive else value < 0 if column in table.non_negative else pl.lit(False)
            )
            bad = frame.filter((~value.is_finite() | low).fill_null(False))
            text = _Text.of(
                "{}.{}: {} for asset {} on {}; fix or remove the row",
                pl.lit(name),
                pl.lit(column),
                value,
                "asset_id",
                "date",
            )
            parts.append(_found(bad, name, column, text))
    return _all(parts)


@_register
def calendar_gaps(context: Context) -> pl.DataFrame:
    """Days missing inside an asset's price series."""
    gaps = context.series.filter(pl.col("gap") > 1).with_columns(days=pl.col("gap") - 1)
    text = _Text.of(
        "fact_price: asset {} has no price on the {} days before {}; backfill them, returns over the gap are null",
        "asset_id",
        "days",
        "date",
    )
    return _found(gaps, _PRICE, "days", text)


@_register
def stale_runs(context: Context) -> pl.DataFrame:
    """Find the same close for `stale_run_days` days or more: a feed that stands still (or a peg)."""
    moved = (pl.col("ret").is_null() | (pl.col("ret") != 0)).cum_sum()
    runs = (
        context.series.with_columns(run=moved)
        .group_by("run")
        .agg(pl.col("asset_id", "date", "close").first(), days=pl.len())
    )
    long = runs.filter(pl.col("days") >= context.quality.stale_run_days)
    text = _Text.of(
        "fact_price: asset {} closes at {} for {} days from {}; check the feed, or exclude the asset",
        "asset_id",
        "close",
        "days",
        "date",
    )
    return _found(long, _PRICE, "days", text)


@_register
def spike_and_revert(context: Context) -> pl.DataFrame:
    """Find a jump taken back the next day: usually one bad print."""
    quality = context.quality
    after = (pl.col("following") / pl.col("close")).log()
    back = -after / pl.col("log_move")
    spikes = context.series.filter(
        (pl.col("ret").abs() >= quality.spike_return)
        & (back >= quality.spike_revert_fraction)
        & (pl.col("date") < context.newest_price)
    ).with_columns(back=back)
    text = _Text.of(
        "fact_price: asset {} jumps by {}% to {} on {} and takes {}% of it back at its next "
        "close; compare another venue",
        "asset_id",
        (pl.col("ret") * 100).round(1),
        "close",
        "date",
        (pl.col("back") * 100).round(0),
    )
    return _found(spikes, _PRICE, "ret", text)


@_register
def supply_breaks(context: Context) -> pl.DataFrame:
    """Find price and market cap parting ways between observations: supply, unit or identity changed."""
    caps = context.rows("fact_marketcap")
    if caps is None:
        return _all([])
    quality = context.quality
    usable = caps.filter(pl.col("marketcap").is_finite() & (pl.col("marketcap") > 0)).unique(["asset_id", "date"])
    both = (
        usable.select("asset_id", "date", "marketcap")
        .join(context.series.select("asset_id", "date", "close"), on=["asset_id", "date"])
        .sort("asset_id", "date")
    )
    same = pl.col("asset_id") == pl.col("asset_id").shift(1)
    moved = both.with_columns(
        price=pl.when(same).then((pl.col("close") / pl.col("close").shift(1)).log()),
        cap=pl.when(same).then((pl.col("marketcap") / pl.col("marketcap").shift(1)).log()),
    ).with_columns(supply=pl.col("cap") - pl.col("price"))
    price_alone = (pl.col("price").abs() >= quality.cap_price_jump) & (pl.col("cap").abs() < quality.cap_price_jump / 2)
    broken = moved.filter(price_alone | (pl.col("supply").abs() > quality.supply_jump))
    kind = (
        pl.when(price_alone).then(pl.lit("a price change the cap does not show")).otherwise(pl.lit("a supply change"))
    )
    text = _Text.of(
        "fact_marketcap: asset {} on {} shows {}: since the last observation price x{}, cap "
        "x{}, implied supply x{}; "
        "check units, redenomination and mapping",
        "asset_id",
        "date",
        kind,
        pl.col("price").exp().round(3),
        pl.col("cap").exp().round(3),
        pl.col("supply").exp().round(3),
    )
    return _found(broken, "fact_marketcap", "supply", text)


def _marked_funding(context: Context) -> list[tuple[str, funding.FundingUnit, pl.DataFrame]]:
    units = {
        "fact_funding": funding.FundingUnit.of_print(context.quality),
        "fact_funding_daily_sum": funding.FundingUnit.of_day(context.quality),
    }
    marked = []
    for name, unit in units.items():
        frame = context.rows(name)
        if frame is None or frame.is_empty():
            continue
        window = Window(frame["date"].min(), frame["date"].max())  # type: ignore[arg-type]
        marked.append((name, unit, funding.mark(frame, window, unit, context.quality.funding_percent_ratio)))
    return marked


@_register
def funding_cap(context: Context) -> pl.DataFrame:
    """Funding no venue would charge, in a row that does not look like another unit either."""
    parts = []
    for name, unit, marked in _marked_funding(context):
        text = _Text.of(
            "{}: asset {} on {} has rate {}, beyond the cap {}; check the row against the venue",
            pl.lit(name),
            "asset_id",
            "date",
            "funding_rate",
            pl.lit(unit.cap),
        )
        parts.append(_found(marked.filter("over_cap"), name, "funding_rate", text))
    return _all(parts)


@_register
def funding_units(context: Context) -> pl.DataFrame:
    """Rows that look like percent, not decimal (`lake.funding` says how that is told)."""
    action = (
        "divided by 100 in the panel"
        if context.settings.lake.funding_on_unit_break == "rescale"
        else ('set lake.funding_on_unit_break to "rescale" or fix the lake')
    )
    parts = []
    for name, unit, marked in _marked_funding(context):
        text = _Text.of(
            "{}: asset {} on {} looks like percent, not decimal (rate {}, cap {}); {}",
            pl.lit(name),
            "asset_id",
            "date",
            "funding_rate",
            pl.lit(unit.cap),
            pl.lit(action),
        )
        parts.append(_found(marked.filter("percent"), name, "funding_rate", text))
    return _all(parts)


@_register
def frozen_feed(context: Context) -> pl.DataFrame:
    """Find a table whose newest day with a value is too old beside the expected day, or else the newest price.

    Prices are too old when other tables already hold whole days after them.
    """
    newest = context.expected_day or context.newest_price
    ahead = context.whole_days_ahead
    parts = []
    if ahead:
        reached = max(days[-1] for days in ahead.values())
        text = (
            f"fact_price: newest day {context.newest_price}, but {', '.join(ahead)} reach {reached}: "
            "the prices are late, or stamped a day early; complete or restamp fact_price"
        )
        parts.append(_note(_PRICE, (reached - context.newest_price).days, text, day=context.newest_price))
    for name, frame in context.daily():
        contract = LAKE_TABLES[name]
        values = sorted({*contract.positive, *contract.non_negative, *contract.finite})
        last = frame.filter(pl.any_horizontal(pl.col(values).is_not_null()))["date"].max()
        allowed = (
            context.settings.lake.marketcap_max_age_days
            if name == "fact_marketcap"
            else context.quality.frozen_feed_days
        )
        if not isinstance(last, date):
            parts.append(_note(name, None, f"{name}: the table holds no value; fill it or remove it from the lake"))
        elif (newest - last).days > allowed:
            behind = (newest - last).days
            text = f"{name}: newest day {last} is {behind} days before {newest} (allowed {allowed}); restart its feed"
            parts.append(_note(name, behind, text, day=last))
    return _all(parts)


def _lagged_correlations(left: pl.DataFrame, right: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Correlate x[t] with y[t + lag], pooled per month: columns by, month, c-1, c0, c1, n-1, n0, n1.

    Args:
        left: key, date, x and `by`; adding 1 to a key moves it by a day.
        right: key, y.
        by: columns of `left` to keep apart.
    """
    left = left.with_columns(month=pl.col("date").dt.month_start())
    groups = left.select(*by, "month").unique().sort(*by, "month").with_row_index("group")
    group = left.select(*by, "month").join(groups, on=[*by, "month"], how="left", maintain_order="left")["group"]
    codes, x = group.to_numpy(), left["x"].to_numpy()
    held = right.sort("key")
    keys, y = held["key"].to_numpy(), held["y"].to_numpy()
    wanted = left["key"].to_numpy()
    columns: dict[str, np.ndarray] = {}
    for lag in (-1, 0, 1):
        # The partner of a key lies where the key would be inserted, if it is there at all.
        place = np.searchsorted(keys, wanted + lag)
        found = np.take(keys, place, mode="clip") == wanted + lag if len(keys) else np.zeros(len(wanted), dtype=bool)
        pairs = _grouped_correlation(codes[found], x[found], y[place[found]], groups.height)
        columns[f"c{lag}"], columns[f"n{lag}"] = pairs
    out = groups.drop("group").with_columns(pl.Series(name, values) for name, values in columns.items())
    return out.filter(pl.min_horizontal("n-1", "n0", "n1") > 0)


def _grouped_correlation(
    group: np.ndarray, x: np.ndarray, y: np.ndarray, n_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n_groups,) correlation of x and y within each group, NaN where one does not vary, and the pairs."""
    count = np.bincount(group, minlength=n_groups)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, weights=values, minlength=n_groups)

    with np.errstate(divide="ignore", invalid="ignore"):
        dx, dy = (values - (total(values) / count)[group] for values in (x, y))
        return total(dx * dy) / np.sqrt(total(dx * dx) * total(dy * dy)), count


_MIN_PAIRS = 30
_NOISE_ERRORS = 5.0
# On real lakes |returns| and changes of log volume correlate by 0.14 to 0.5 on one clock, far less than returns do.
_VOLUME_SHARE = 0.3


def _shifted(pooled: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Months in which a lag beats the same day, reaches `threshold` and is beyond chance (5 / sqrt(pairs))."""
    pairs = pl.min_horizontal("n-1", "n0", "n1")
    beside = pl.max_horizontal("c-1", "c1")
    clear = (beside >= threshold) & (beside >= _NOISE_ERRORS / pairs.sqrt())
    return pooled.filter((pairs >= _MIN_PAIRS) & clear & (beside > pl.col("c0"))).with_columns(
        beside=beside, lag=pl.when(pl.col("c-1") > pl.col("c1")).then(-1).otherwise(1)
    )


@_register
def shifted_clock(context: Context) -> pl.DataFrame:
    """Tables (or sources of prices) whose days are stamped by different clocks.

    Returns of fact_price are correlated, month by month and pooled over assets, with those of fact_ohlc and
    fact_marketcap, their size with changes of log volume, and each source's returns with the first major's,
    at lags -1, 0 and 1: on one clock lag 0 wins.
    """
    quality, major = context.quality, context.settings.lake.majors[0]
    own = context.series.filter(pl.col("log_move").is_not_null()).with_columns(x="log_move")
    beside_prices = _shifted_tables(context, own, quality.clock_shift_correlation)
    # Tables that disagree with the prices in the same direction agree with one another.
    lags = [shifted["lag"][0] for _, _, shifted in beside_prices]
    parts = [
        _clock_note(shifted, name, against, blame_prices=lags.count(shifted["lag"][0]) > 1)
        for name, against, shifted in beside_prices
    ]
    days = own.with_columns(pl.col("date").to_physical().cast(pl.Int64).alias("key"))
    reference = days.filter(pl.col("asset_id") == major).select("key", y="x")
    others = days.filter(pl.col("asset_id") != major).select("key", "date", "x", pl.col("source").fill_null("unnamed"))
    by_source = _shifted(_lagged_correlations(others, reference, ["source"]), quality.clock_shift_correlation)
    for (source,), pooled in by_source.group_by("source", maintain_order=True):
        # Here the source is on the left: its lead is the mirror image of the reference's.
        mirrored = pooled.with_columns(lag=-pl.col("lag"))
        parts.append(_clock_note(mirrored, _PRICE, f"the returns of {major}", f" (source {source})"))
    return _all(parts)


def _shifted_tables(context: Context, own: pl.DataFrame, threshold: float) -> list[tuple[str, str, pl.DataFrame]]:
    """(table, what it was held against, months on another clock) of the tables that have such months."""
    held = {
        "fact_ohlc": ("close", own, threshold, "fact_price"),
        "fact_marketcap": ("marketcap", own, threshold, "fact_price"),
        "fact_volume": (
            "volume",
            own.with_columns(pl.col("x").abs()),
            _VOLUME_SHARE * threshold,
            "the size of fact_price's returns",
        ),
    }
    found = []
    for name, (column, moves, least, against) in held.items():
        frame = context.rows(name)
        if frame is not None:
            other = _moves(frame, column, context.assets)
            shifted = _shifted(_lagged_correlations(moves.select("key", "date", "x"), other, []), least)
            found.append((name, against, shifted))
    return [item for item in found if item[2].height]


def _moves(frame: pl.DataFrame, column: str, assets: pl.Enum) -> pl.DataFrame:
    """(key, y): log changes of `column` over one day."""
    usable = frame.filter(pl.col(column).is_finite() & (pl.col(column) > 0))
    ordered = _first_by_key(_keyed(usable.select("asset_id", "date", column), assets).select("key", column))
    # Keys one apart are adjacent days of one asset.
    adjacent = pl.col("key") - pl.col("key").shift(1) == 1
    moved = ordered.with_columns(y=pl.when(adjacent).then((pl.col(column) / pl.col(column).shift(1)).log()))
    return moved.select("key", "y").filter(pl.col("y").is_not_null())


def _clock_note(
    shifted: pl.DataFrame, table: str, against: str, which: str = "", blame_prices: bool = False
) -> pl.DataFrame:
    row = shifted.row(0, named=True)
    early, mirrored = ("a day early", "a day late") if row["lag"] < 0 else ("a day late", "a day early")
    remedy = (
        f"other tables do too, so likelier fact_price is stamped {mirrored}: restamp fact_price"
        if blame_prices
        else "restamp the table"
    )
    text = (
        f"{table}{which}: days look stamped {early} beside {against} in {shifted.height} months, first "
        f"{row['month']:%Y-%m} (correlation {row['beside']:.2f} one day apart, {row['c0']:.2f} on the same day); "
        f"{remedy} to the UTC day whose close it holds"
    )
    return _note(table, row["beside"], text, day=row["month"])


@_register
def redenomination(context: Context) -> pl.DataFrame:
    """One-day price ratios beyond reason: up at all, or down by about a power of ten.

    No asset rises twentyfold in a day; a short book that believes it does is wiped out by a change of unit.
    """
    jumps = _beyond_reason(context).filter((pl.col("log_move") > 0) | _is_near_power_of_ten(_UNIT_BAND))
    text = _Text.of(
        "fact_price: asset {} moves by a factor {} on {}, as if its unit had changed: split the series at that day, "
        "restate the days before it, or exclude the asset; if the move is real set quality.severity.redenomination "
        "to WARN",
        "asset_id",
        pl.col("log_move").exp().round(6),
        "date",
    )
    return _found(jumps, _PRICE, pl.col("log_move").exp(), text)


@_register
def collapse(context: Context) -> pl.DataFrame:
    """One-day falls beyond reason that look like no change of unit: an asset that died."""
    falls = _beyond_reason(context).filter((pl.col("log_move") < 0) & ~_is_near_power_of_ten(_UNIT_BAND))
    text = _Text.of(
        "fact_price: asset {} falls by a factor {} on {}; if it collapsed leave it, if its unit changed split "
        "the series",
        "asset_id",
        pl.col("log_move").exp().round(6),
        "date",
    )
    return _found(falls, _PRICE, pl.col("log_move").exp(), text)


_UNIT_BAND = 0.25


def _beyond_reason(context: Context) -> pl.DataFrame:
    return context.series.filter(pl.col("log_move").abs() >= math.log(context.quality.redenomination_ratio))


def _is_near_power_of_ten(band: float) -> pl.Expr:
    power = pl.col("log_move") / math.log(10)
    return (power - power.round(0)).abs() < math.log10(1 + band)


_RENAME_DAYS = 5
_RENAME_BAND = 0.1


@_register
def renamed(context: Context) -> pl.DataFrame:
    """Series that end where another begins within days and 10 % of the last price, times a power of ten."""
    spans = context.series.group_by("asset_id").agg(
        first=pl.col("date").min(),
        last=pl.col("date").max(),
        opened=pl.col("close").first(),
        ended=pl.col("close").last(),
    )
    ended = spans.filter(pl.col("last") < context.newest_price - timedelta(days=_RENAME_DAYS))
    begun = spans.filter(pl.col("first") > pl.lit(context.series["date"].min())).select(
        new="asset_id", date="first", opened="opened"
    )
    pairs = (
        ended.drop("opened")
        .join(begun, how="cross")
        .filter((pl.col("date") > pl.col("last")) & (pl.col("date") <= pl.col("last") + timedelta(days=_RENAME_DAYS)))
    )
    power = (pl.col("opened") / pl.col("ended")).log10()
    near = pairs.with_columns(power=power).filter(
        (pl.col("power") - pl.col("power").round(0)).abs() < math.log10(1 + _RENAME_BAND)
    )
    text = _Text.of(
        "fact_price: asset {} ends on {} and {} begins on {} at {} times its price; if it is "
        "the same coin renamed or "
        "redenominated, join the series",
        "asset_id",
        "last",
        "new",
        "date",
        (pl.col("opened") / pl.col("ended")).round(4),
    )
    return _found(near, _PRICE, pl.col("opened") / pl.col("ended"), text)


@_register
def flag_contradiction(context: Context) -> pl.DataFrame:
    """Assets the vendor marks stable that move like anything but."""
    assets = context.rows("dim_asset")
    if assets is None:
        return _all([])
    limit = context.settings.universe.flag_contradiction_return
    flagged = assets.filter(pl.any_horizontal(pl.col("is_stable", "is_wrapped_stable").fill_null(False)))
    moves = context.series.filter(
        pl.col("asset_id").is_in(flagged["asset_id"].to_list()) & (pl.col("ret").abs() >= limit)
    )
    wild = (
        moves.sort("asset_id", "date")
        .group_by("asset_id", maintain_order=True)
        .agg(pl.col("date", "ret").first(), days=pl.len())
    )
    text = _Text.of(
        "dim_asset: {} is marked stable but moves {}% on {} and at least {}% on {} days; correct the flag",
        "asset_id",
        (pl.col("ret") * 100).round(1),
        "date",
        pl.lit(limit * 100),
        "days",
    )
    return _found(wild, "dim_asset", "ret", text)


@_register
def contract_multipliers(context: Context) -> pl.DataFrame:
    """Contract specifications that cannot be right and were not followed."""
    parts = [
        _note(
            "dim_instrument",
            None,
            f"dim_instrument: {item.instrument_id}: {item.problem}; correct the row",
            item.coin,
            item.onboard,
        )
        for item in context.lake.specs.contracts
        if item.problem
    ]
    return _all(parts)


def check_lake(lake: LakeSource, settings: Settings, expected_day: date | None = None) -> list[Finding]:
    """Run every rule that is not OFF.

    Args:
        lake: the lake, open.
        settings: sections lake, quality and universe (flag_contradiction_return).
        expected_day: newest day the lake should hold; without it tables are held against the newest price.

    Returns:
        Findings sorted by check, table, day and asset, at most `MAX_FINDINGS` per check plus one that says the
        total when there are more. Rows in percent are a WARN where the settings rescale them.

    Raises:
        LakeError: the lake cannot be read, or quality.severity lacks a check or names one that does not exist.
    """
    severities = settings.quality.severity
    if set(severities) != set(CHECKS):
        wrong = sorted(set(severities) ^ set(CHECKS))
        raise LakeError(f"quality.severity: {', '.join(wrong)} missing or unknown; the checks are {', '.join(CHECKS)}")
    context = Context(lake, settings, expected_day)
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        severity = severities[name]
        if name == "funding_units" and severity == "ERROR" and settings.lake.funding_on_unit_break == "rescale":
            severity = "WARN"
        if severity != "OFF":
            findings.extend(_worded(name, severity, check(context)))
    return findings


def _worded(check: str, severity: str, rows: pl.DataFrame) -> list[Finding]:
    listed = rows.sort("table", "date", "asset_id").head(MAX_FINDINGS)
    findings = [Finding(check, severity, **row) for row in listed.iter_rows(named=True)]
    if rows.height > MAX_FINDINGS:
        table = str(listed["table"][0])
        text = f"{check}: {rows.height} findings in all, the first {MAX_FINDINGS} are listed"
        findings.append(Finding(check, severity, table, None, None, float(rows.height), text))
    return findings


def findings_frame(findings: list[Finding]) -> pl.DataFrame:
    """(check, severity, table, asset_id, date, value, message), one row per finding."""
    schema: Mapping[str, type[pl.DataType]] = {
        "check": pl.String,
        "severity": pl.String,
        "table": pl.String,
        "asset_id": pl.String,
        "date": pl.Date,
        "value": pl.Float64,
        "message": pl.String,
    }
    rows = [tuple(getattr(finding, name) for name in schema) for finding in findings]
    return pl.DataFrame(rows, schema=schema, orient="row")
