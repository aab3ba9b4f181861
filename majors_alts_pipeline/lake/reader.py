"""Read-only access to a lake: Parquet files, partitioned Parquet or a DuckDB file; local or through fsspec.

DuckDB reads, Polars normalises. Nothing here opens a file of the lake for writing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from majors_alts_pipeline.lake import identifiers
from majors_alts_pipeline.lake.contracts import (
    DTYPES,
    LAKE_TABLES,
    LOST,
    LakeColumn,
    LakeError,
    LakeTable,
    validate_mapping,
)

if TYPE_CHECKING:
    import duckdb

    from majors_alts_pipeline.config.settings import LakeSettings

SIMULATED_MARKER = "_SIMULATED.json"
_DATABASES = (".duckdb", ".ddb", ".db")
_COMPLETENESS_DAYS = 30


class LakeSource(Protocol):
    """What the panel, the quality rules and the orchestration need of a lake."""

    tables: frozenset[str]
    simulated: bool
    location: str

    def frame(self, table: str, start: date | None = None, end: date | None = None) -> pl.DataFrame | None:
        """Contract columns and types, identifiers normalised, rows unordered; None for an absent table."""

    def rows(self, table: str, start: date | None = None, end: date | None = None) -> pl.DataFrame | None:
        """As `frame`, with the id as written in `raw_id` (facts and dim_asset)."""

    @property
    def specs(self) -> identifiers.Specs:
        """Coins and contracts of the lake."""

    def first_seen(self) -> pl.DataFrame:
        """(asset_id, first_seen): first day with a price."""

    def first_day(self) -> date:
        """First day by which every major has had a price."""

    def last_day(self) -> date:
        """Newest day of fact_price."""

    def last_complete_day(self) -> date:
        """Newest day that can be decided on; see `BaseLake.last_complete_day`."""

    def day_fingerprints(self, cache_dir: Path | None = None) -> pl.DataFrame:
        """(date, fingerprint): see `BaseLake.day_fingerprints`."""

    def fingerprint(self, cache_dir: Path | None = None) -> str:
        """Fingerprint of the last day, 12 hex digits."""

    def is_empty(self, table: str) -> bool:
        """Whether a table that is there holds no value at all."""

    def identity(self) -> dict[str, tuple[Any, ...]]:
        """Cheap state of the lake's files, to notice a lake that changes under a run."""


class BaseLake(ABC):
    """Everything that follows from reading raw rows; shared by files, memory and cuts."""

    tables: frozenset[str]
    simulated: bool
    location: str
    settings: LakeSettings

    @abstractmethod
    def raw(
        self, table: str, start: date | None, end: date | None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Contract columns and types of a present table, values as the lake wrote them."""

    @abstractmethod
    def identity(self) -> dict[str, tuple[Any, ...]]:
        """Name of each file (or table in memory) to a tuple that changes when it does."""

    @abstractmethod
    def spans(self, table: str) -> pl.DataFrame:
        """(asset_id, first, last): first and last day of each raw id of a daily table."""

    def is_empty(self, table: str) -> bool:
        """Whether a table that is there has no row, or no row with a value."""
        contract = LAKE_TABLES[table]
        values = sorted({*contract.positive, *contract.non_negative, *contract.finite}) or [contract.key[0]]
        held = self.raw(table, None, None, values)
        return held.is_empty() or all(held[name].null_count() == held.height for name in values)

    def frame(self, table: str, start: date | None = None, end: date | None = None) -> pl.DataFrame | None:
        """Rows of `table` with start <= date <= end, identifiers and per-coin units normalised.

        Returns:
            Contract columns and types in no particular order; None when the (optional) table is absent.

        Raises:
            LakeError: the table is unknown or its files cannot be read.
        """
        return self._normalised(table, start, end, keep_raw=False)

    def rows(self, table: str, start: date | None = None, end: date | None = None) -> pl.DataFrame | None:
        """As `frame`, with the id as the lake wrote it in the column `raw_id` (not for dim_instrument)."""
        return self._normalised(table, start, end, keep_raw=True)

    def _normalised(self, table: str, start: date | None, end: date | None, keep_raw: bool) -> pl.DataFrame | None:
        if table not in LAKE_TABLES:
            raise LakeError(f"lake {self.location}: no contract table {table!r}; tables: {', '.join(LAKE_TABLES)}")
        if table not in self.tables:
            return None
        raw = self.raw(table, start, end)
        _refuse_null_keys(table, raw, self.location)
        return identifiers.normalise(LAKE_TABLES[table], raw, self.specs, keep_raw)

    @cached_property
    def specs(self) -> identifiers.Specs:
        """Coins and contracts, from dim_asset and dim_instrument."""
        wanted = ("dim_asset", "dim_instrument")
        asset, instrument = (self.raw(name, None, None) if name in self.tables else None for name in wanted)
        return identifiers.Specs.of(asset, instrument)

    @cached_property
    def _first_seen(self) -> pl.DataFrame:
        spans = self.spans("fact_price").select("asset_id", pl.col("first").alias("date"))
        if identifiers.changes_within(spans, self.specs):
            spans = self.raw("fact_price", None, None, ("asset_id", "date"))
        keyed = LakeTable("fact_price", "", ("date", "asset_id"), LAKE_TABLES["fact_price"].columns)
        named = identifiers.normalise(keyed, spans, self.specs)
        return named.group_by("asset_id").agg(first_seen=pl.col("date").min()).sort("asset_id")

    def first_seen(self) -> pl.DataFrame:
        """(asset_id, first_seen), sorted: first day each asset has a row in fact_price."""
        return self._first_seen

    def first_day(self) -> date:
        """First day by which every configured major has had a price; earlier days cannot be decided on.

        Raises:
            LakeError: a major has no price at all.
        """
        firsts = dict(self.first_seen().iter_rows())
        absent = [major for major in self.settings.majors if major not in firsts]
        if absent:
            raise LakeError(
                f"fact_price: no row of {', '.join(absent)} in {self.location}; the majors must have prices. "
                "Add them to the lake or set lake.majors to the ids it uses"
            )
        return max(firsts[major] for major in self.settings.majors)

    @cached_property
    def _last_day(self) -> date:
        last = self.spans("fact_price")["last"].max()
        assert isinstance(last, date)
        return last

    def last_day(self) -> date:
        """Newest day of fact_price."""
        return self._last_day

    @cached_property
    def _last_complete_day(self) -> date:
        day = self._last_arrived_day()
        first = self.first_day()
        while day >= first:
            counted = self._price_counts(day - timedelta(days=2 * _COMPLETENESS_DAYS), day)
            found = _newest_complete(
                counted, self.settings.complete_day_share, day - timedelta(days=_COMPLETENESS_DAYS)
            )
            if found is not None:
                return found
            # A stray date far in the future must not be walked back from month by month.
            earlier = self._newest_price_until(day - timedelta(days=_COMPLETENESS_DAYS))
            day = first - timedelta(days=1) if earlier is None else earlier
        raise LakeError(
            f"fact_price: no day in {self.location} has prices of "
            f"{' and '.join(self.settings.majors)} and of at least "
            f"{self.settings.complete_day_share:.0%} of the usual number of assets; complete the lake"
        )

    def _last_arrived_day(self) -> date:
        """Newest day every daily table that is still being delivered has reached."""
        newest = self.last_day()
        ends = [self._newest(name) for name in ("fact_ohlc", "fact_volume", "fact_funding") if name in self.tables]
        grace = timedelta(days=self.settings.late_table_days)
        return min([newest, *(end for end in ends if end is not None and newest - grace <= end <= newest)])

    def _newest_price_until(self, day: date) -> date | None:
        """Newest day of fact_price that is not after `day`."""
        last = self.raw("fact_price", None, day, ("date",))["date"].max()
        return last if isinstance(last, date) else None

    def _newest(self, table: str) -> date | None:
        last = self.spans(table)["last"].max()
        return last if isinstance(last, date) else None

    def _price_counts(self, start: date, end: date) -> pl.DataFrame:
        """(date, assets, majors) of the days that have prices."""
        raw = self.raw("fact_price", start, end)
        named = identifiers.normalise(LAKE_TABLES["fact_price"], raw, self.specs)
        priced = named.filter(pl.col("close").is_finite())
        return (
            priced.group_by("date")
            .agg(
                assets=pl.col("asset_id").n_unique(),
                majors=pl.col("asset_id").filter(pl.col("asset_id").is_in(self.settings.majors)).n_unique(),
            )
            .sort("date")
        )

    def last_complete_day(self) -> date:
        """Newest day with prices of both majors and of the usual cross-section, no table still awaited.

        The usual cross-section is `lake.complete_day_share` of the median number of priced assets over the 30
        days before. A daily table (bars, volume, funding) whose newest day is at most `lake.late_table_days`
        behind the newest price is awaited; one that stopped earlier is not (the frozen-feed rule reports it).

        Raises:
            LakeError: no such day.
        """
        return self._last_complete_day

    @cached_property
    def _fingerprints(self) -> pl.DataFrame:
        return _chain(self._day_digests(), self.first_day(), self.last_day())

    def _day_digests(self) -> pl.DataFrame:
        """(date, table, a, b, n): order-independent sums of the row hashes by the day they were known."""
        parts = []
        for name in sorted(self.tables):
            frame = self.frame(name)
            if frame is None or frame.is_empty():
                continue
            days = self._effective_days(name, frame)
            hashed = _row_hashes(frame).with_columns(days.alias("date"))
            parts.append(
                hashed.filter(pl.col("date").is_not_null())
                .group_by("date")
                .agg(pl.col("a").sum(), pl.col("b").sum(), pl.len().cast(pl.Int64).alias("n"))
                .with_columns(pl.lit(name).alias("table"))
            )
        return pl.concat(parts).sort("date", "table")

    def _effective_days(self, name: str, frame: pl.DataFrame) -> pl.Series:
        """Day from which each row is known; null for dimension rows nothing refers to."""
        if "known_at" in frame.columns:
            return frame.select(pl.max_horizontal("date", "known_at"))["date"]
        if LAKE_TABLES[name].daily:
            return frame["date"]
        if name == "dim_asset":
            return frame.join(self.first_seen(), on="asset_id", how="left", maintain_order="left")["first_seen"]
        onboard = {item.instrument_id: item.onboard for item in self.specs.contracts}
        dated = pl.DataFrame(
            list(onboard.items()), schema={"instrument_id": pl.String, "onboard": pl.Date}, orient="row"
        )
        joined = frame.select("instrument_id").join(dated, on="instrument_id", how="left", maintain_order="left")
        return joined["onboard"].fill_null(self.first_day())

    def day_fingerprints(self, cache_dir: Path | None = None) -> pl.DataFrame:
        """(date, fingerprint) of every day from first_day to last_day: a hash chain over what was known.

        The fingerprint of D identifies every fact known by the close of D: facts by their date (or known_at),
        dim_instrument rows by their onboard date (from the start without one), dim_asset rows by the first
        price of their asset (never, when it has none: such a row changes no result except through the
        identifiers, and those are hashed with the facts). New days leave old fingerprints alone, a revised
        past changes all after it. It depends on normalised values only: not on row order, files or versions
        of libraries.

        Args:
            cache_dir: keep the table here, keyed by location, settings and `identity()`; a broken or foreign
                cache file is rebuilt.
        """
        if cache_dir is None:
            return self._fingerprints
        key = json.dumps([self.location, self.settings.model_dump(mode="json"), sorted(self.identity().items())])
        path = Path(cache_dir) / "lake_fingerprints" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.parquet"
        held = _read_cache(path)
        if held is None:
            held = self._fingerprints
            _write_atomically(held, path)
        return held

    def fingerprint(self, cache_dir: Path | None = None) -> str:
        """Fingerprint of the last day, 12 hex digits."""
        return str(self.day_fingerprints(cache_dir)["fingerprint"][-1])


def _newest_complete(counted: pl.DataFrame, share: float, after: date) -> date | None:
    days = {day: (assets, majors) for day, assets, majors in counted.iter_rows()}
    for day in sorted((day for day in days if day > after), reverse=True):
        before = [days[past][0] for past in days if 0 < (day - past).days <= _COMPLETENESS_DAYS]
        usual = float(np.median(before)) if before else 0.0
        if days[day][1] == 2 and days[day][0] >= share * usual:
            return day
    return None


def _refuse_null_keys(table: str, frame: pl.DataFrame, location: str) -> None:
    for column in LAKE_TABLES[table].key:
        if frame[column].null_count():
            row = frame.filter(pl.col(column).is_null()).row(0, named=True)
            shown = {name: str(value) for name, value in row.items() if value is not None}
            raise LakeError(
                f"{table}.{column}: {frame[column].null_count()} rows without {column} in {location}, "
                f"first {shown}; "
                "fill or remove them in the lake"
            )


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(value: np.ndarray) -> np.ndarray:
    """splitmix64 finaliser (Steele, Lea & Flood 2014): a bijection of uint64 with good avalanche."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _row_hashes(frame: pl.DataFrame) -> pl.DataFrame:
    """Hash each row over its columns into two uint64, a and b; nulls are told from zeros."""
    total = np.zeros(frame.height, dtype=np.uint64)
    steps = np.arange(1, frame.width + 1, dtype=np.uint64) * _GOLDEN
    for number, name in enumerate(frame.columns):
        salt = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        column = _mix(_bits(frame[name]) + salt)
        total = _mix(total + column + steps[number])
    return pl.DataFrame({"a": total, "b": _mix(total ^ _GOLDEN)})


def _bits(series: pl.Series) -> np.ndarray:
    """uint64 of each value; equal values give equal bits, a null its own."""
    null = np.uint64(0xDEADBEEFCAFEF00D)
    if series.dtype == pl.String:
        unique = series.unique().drop_nulls()
        digests = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") for text in unique]
        # Codes of an enumeration are positions in `unique`; a null takes the place behind the last.
        codes = series.cast(pl.Enum(unique)).to_physical().cast(pl.Int64).fill_null(len(unique)).to_numpy()
        return np.array([*digests, int(null)], dtype=np.uint64)[codes]
    bits: np.ndarray
    if series.dtype == pl.Float64:
        values = series.fill_null(0.0).to_numpy() + 0.0
        bits = np.where(np.isnan(values), np.uint64(0x7FF8000000000000), values.view(np.uint64))
    else:
        bits = series.to_physical().cast(pl.Int64).fill_null(0).to_numpy().view(np.uint64)
    return np.where(series.is_null().to_numpy(), null, bits) if series.null_count() else bits


def _chain(digests: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    by_day: dict[date, list[str]] = {}
    for day, table, a, b, n in digests.select("date", "table", "a", "b", "n").iter_rows():
        by_day.setdefault(max(day, first), []).append(f"{day}:{table}:{a:016x}{b:016x}:{n}")
    state, days, prints = b"", [], []
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        if day in by_day:
            state = hashlib.sha256(state + "|".join(by_day[day]).encode()).digest()
        days.append(day)
        prints.append(state.hex()[:12])
    return pl.DataFrame({"date": days, "fingerprint": prints}, schema={"date": pl.Date, "fingerprint": pl.String})


def _read_cache(path: Path) -> pl.DataFrame | None:
    """Read the cached table; None when it is absent, unreadable or not of this shape."""
    if not path.is_file():
        return None
    try:
        held = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError):
        return None
    return held if held.schema == {"date": pl.Date, "fingerprint": pl.String} and held.height else None


def _write_atomically(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=".parquet")
    os.close(handle)
    try:
        frame.write_parquet(temporary)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _dates_only(first: Any, column: str, table: str, stored: str) -> LakeError:
    zone = " with a time zone" if "ZONE" in stored.upper() or "time_zone='" in stored else ""
    return LakeError(
        f"{table}.{column}: type {stored} (timestamps{zone}), first {first}; `{column}` must "
        "be a plain UTC day. "
        f"Convert to UTC and cast to DATE in the lake"
    )


def _wrong_type(table: str, name: str, column: LakeColumn, stored: str, first: Any) -> LakeError:
    if column.kind == "date" and "TIME" in stored.upper():
        return _dates_only(first, name, table, stored)
    return LakeError(
        f"{table}.{name}: type {stored}, the contract wants a {column.kind}; first value {first}. "
        "Fix the type in the lake or map another column in lake.columns"
    )


def _kind_of_polars(dtype: pl.DataType) -> str:
    if dtype == pl.Date:
        return "date"
    if dtype.is_numeric() or dtype.is_decimal():
        return "number"
    if dtype in {pl.String, pl.Categorical, pl.Enum}:
        return "text"
    return "bool" if dtype == pl.Boolean else "null" if dtype == pl.Null else "other"


def _kind_of_duckdb(stored: str) -> str:
    base = stored.upper().split("(")[0]
    if base == "DATE":
        return "date"
    if base in {"DOUBLE", "FLOAT", "REAL", "DECIMAL"} or base.removeprefix("U").endswith("INT") or "INTEGER" in base:
        return "number"
    if base in {"VARCHAR", "ENUM"}:
        return "text"
    return "bool" if base == "BOOLEAN" else "null" if base == '"NULL"' else "other"


class MemoryLake(BaseLake):
    """A lake held in frames, with the same names, checks and normalisation as one on disk.

    Args:
        tables: name in the lake to frame.
        settings: the lake section of the settings.
        simulated: True when no row of it was ever observed on a market.
        location: how messages call it.

    Raises:
        LakeError: a required table is absent or empty, a column is absent or has the wrong type.
    """

    def __init__(
        self,
        tables: Mapping[str, pl.DataFrame],
        settings: LakeSettings,
        simulated: bool = True,
        location: str = "memory",
    ) -> None:
        validate_mapping(settings.tables, settings.columns)
        self.settings, self.simulated, self.location = settings, simulated, location
        found = {name: tables.get(settings.tables.get(name, name)) for name in LAKE_TABLES}
        self._frames = {name: self._checked(name, frame) for name, frame in found.items() if frame is not None}
        self.tables = frozenset(self._frames)
        _require(self.tables, {name: frame.height for name, frame in self._frames.items()}, location)

    def _checked(self, name: str, frame: pl.DataFrame) -> pl.DataFrame:
        mapping = self.settings.columns.get(name, {})
        selected = []
        for column, contract in LAKE_TABLES[name].columns.items():
            stored = mapping.get(column, column)
            if stored not in frame.columns:
                if contract.required or column in mapping:
                    raise _no_column(name, column, stored, frame.columns, self.location)
                selected.append(pl.lit(None, DTYPES[contract.kind]).alias(column))
                continue
            kind = _kind_of_polars(frame.schema[stored])
            if kind not in {contract.kind, "null"} and not (contract.kind == "text" and not contract.required):
                first = _first_bad_in_memory(frame, mapping, stored, contract)
                raise _wrong_type(name, stored, contract, str(frame.schema[stored]), first)
            selected.append(pl.col(stored).cast(DTYPES[contract.kind]).alias(column))
        return frame.select(selected)

    def raw(
        self, table: str, start: date | None, end: date | None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """See `BaseLake.raw`."""
        frame = self._frames[table]
        if LAKE_TABLES[table].daily:
            if start is not None:
                frame = frame.filter(pl.col("date") >= start)
            if end is not None:
                frame = frame.filter(pl.col("date") <= end)
        return frame if columns is None else frame.select(columns)

    def spans(self, table: str) -> pl.DataFrame:
        """See `BaseLake.spans`."""
        return _spans_of(self._frames[table])

    def identity(self) -> dict[str, tuple[Any, ...]]:
        """Table to (rows, columns): frames are immutable."""
        return {name: (frame.height, frame.width) for name, frame in sorted(self._frames.items())}


def _spans_of(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("asset_id").agg(first=pl.col("date").min(), last=pl.col("date").max())


def _first_bad_in_memory(frame: pl.DataFrame, mapping: Mapping[str, str], stored: str, contract: LakeColumn) -> str:
    held = frame.filter(pl.col(stored).is_not_null())
    if contract.kind == "number" and held.schema[stored] == pl.String:
        unparsable = held.filter(pl.col(stored).cast(pl.Float64, strict=False).is_null())
        held = unparsable if unparsable.height else held
    if held.is_empty():
        return "none (all null)"
    row = held.row(0, named=True)
    keys = [mapping.get(key, key) for key in ("asset_id", "date")]
    return _first_value(row[stored], [row[key] for key in keys if key in row and key != stored])


def _first_value(value: Any, where: list[Any]) -> str:
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown + (f" ({', '.join(str(part) for part in where)})" if where else "")


def _no_column(table: str, column: str, stored: str, found: Sequence[str], location: str) -> LakeError:
    return LakeError(
        f"{table}: no column {stored!r} in {location}; found {', '.join(found)}. Add it to the "
        "lake or map it with "
        f"lake.columns: {{{table}: {{{column}: <its name there>}}}}"
    )


def _require(tables: frozenset[str], heights: Mapping[str, int], location: str) -> None:
    for name, contract in LAKE_TABLES.items():
        if contract.required and name not in tables:
            raise LakeError(
                f"{name}: required table not found in {location}; found "
                f"{', '.join(sorted(tables)) or 'no contract table'}. "
                f"Add it or map it with lake.tables: {{{name}: <its name there>}}"
            )
        if contract.required and not heights[name]:
            raise LakeError(f"{name}: the table in {location} is empty; it must hold at least the majors' prices")


class FileLake(BaseLake):
    """A lake on disk or behind a URL; opened by `open_lake`."""

    def __init__(self, location: str | Path, settings: LakeSettings) -> None:
        validate_mapping(settings.tables, settings.columns)
        self.settings = settings
        self._store = _store(str(location))
        self.location = self._store.location
        self.simulated = self._store.simulated()
        wanted = {name: settings.tables.get(name, name) for name in LAKE_TABLES}
        self._relations: dict[str, str] = {}
        self._selected: dict[str, dict[str, str]] = {}
        heights: dict[str, int] = {}
        with self._store.connect() as connection:
            for name, stored in wanted.items():
                relation = self._store.relation(name, stored)
                if relation is None:
                    if name in settings.tables:
                        raise LakeError(
                            f"{name}: lake.tables maps it to {stored!r}, absent from {self.location}; found "
                            ""
                            f"{', '.join(self._store.names()) or 'nothing'}"
                        )
                    continue
                self._relations[name] = relation
                self._selected[name] = self._check(connection, name, relation)
                if LAKE_TABLES[name].required:
                    counted = self._fetch(connection, f"SELECT count(*) AS n FROM {relation}", name)
                    heights[name] = int(counted["n"][0])
        self.tables = frozenset(self._relations)
        _require(self.tables, heights, self.location)

    def _fetch(self, connection: duckdb.DuckDBPyConnection, query: str, table: str) -> pl.DataFrame:
        import duckdb

        try:
            return pl.DataFrame(connection.sql(query))
        # Results stream: an error in a late page surfaces in Polars, which consumes them.
        except (duckdb.Error, pl.exceptions.PolarsError) as error:
            culprit = self._store.culprit(table) or self.location
            detail = str(error).strip().splitlines()[0]
            raise LakeError(
                f"{table}: cannot be read from {culprit}: {detail}. The file is truncated, corrupt or "
                "changed while it "
                "was read; restore or regenerate it"
            ) from error

    def _check(self, connection: duckdb.DuckDBPyConnection, name: str, relation: str) -> dict[str, str]:
        """Contract column to SQL expression, after checking presence and type."""
        described = self._fetch(connection, f"SELECT * FROM (DESCRIBE SELECT * FROM {relation})", name)
        found = dict(zip(described["column_name"], described["column_type"], strict=True))
        mapping = self.settings.columns.get(name, {})
        selected: dict[str, str] = {}
        for column, contract in LAKE_TABLES[name].columns.items():
            stored = mapping.get(column, column)
            target = {"date": "DATE", "number": "DOUBLE", "text": "VARCHAR", "bool": "BOOLEAN"}[contract.kind]
            if stored not in found:
                if contract.required or column in mapping:
                    raise _no_column(name, column, stored, list(found), self.location)
                selected[column] = f"NULL::{target}"
                continue
            kind = _kind_of_duckdb(found[stored])
            fits = kind in {contract.kind, "null"} or (contract.kind == "text" and not contract.required)
            if not fits and not self._all_null(connection, name, relation, stored, contract):
                first = self._first_bad(connection, name, relation, stored, found, contract)
                raise _wrong_type(name, stored, contract, found[stored], first)
            selected[column] = f"{_quoted(stored)}::{target}"
        return selected

    def _all_null(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        relation: str,
        stored: str,
        contract: LakeColumn,
    ) -> bool:
        if contract.required:
            return False
        return not self._fetch(connection, f"SELECT count({_quoted(stored)}) AS n FROM {relation}", name)["n"][0]

    def _first_bad(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        relation: str,
        stored: str,
        found: Mapping[str, str],
        contract: LakeColumn,
    ) -> str:
        mapping = self.settings.columns.get(name, {})
        keys = [mapping.get(key, key) for key in ("asset_id", "date")]
        keys = [key for key in keys if key in found and key != stored]
        parses = f"TRY_CAST({_quoted(stored)} AS DOUBLE) IS NOT NULL" if contract.kind == "number" else "TRUE"
        columns = ", ".join(f"{_quoted(key)}::VARCHAR AS k{number}" for number, key in enumerate(keys))
        order = ", ".join(["parses", *(f"k{number}" for number in range(len(keys)))])
        query = (
            f"SELECT {_quoted(stored)}::VARCHAR AS value, {parses} AS "
            f"parses{', ' + columns if columns else ''} "
            f"FROM {relation} WHERE {_quoted(stored)} IS NOT NULL ORDER BY {order} LIMIT 1"
        )
        rows = self._fetch(connection, query, name)
        if rows.is_empty():
            return "none (all null)"
        row = rows.row(0, named=True)
        return _first_value(row["value"], [row[f"k{number}"] for number in range(len(keys))])

    def raw(
        self, table: str, start: date | None, end: date | None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """See `BaseLake.raw`."""
        selected = self._selected[table]
        names = list(columns) if columns is not None else list(selected)
        fields = ", ".join(f"{selected[name]} AS {_quoted(name)}" for name in names)
        query = f"SELECT {fields} FROM {self._relations[table]}"
        if LAKE_TABLES[table].daily:
            bounds = [f"{selected['date']} {sign} DATE '{day}'" for sign, day in ((">=", start), ("<=", end)) if day]
            query += f" WHERE {' AND '.join(bounds)}" if bounds else ""
        with self._store.connect() as connection:
            read = self._fetch(connection, query, table)
        schema = LAKE_TABLES[table].schema
        return read.cast({name: schema[name] for name in names if read.schema[name] != schema[name]})

    def spans(self, table: str) -> pl.DataFrame:
        """See `BaseLake.spans`."""
        selected = self._selected[table]
        asset, day = selected["asset_id"], selected["date"]
        query = (
            f"SELECT {asset} AS asset_id, min({day}) AS first, max({day}) AS last FROM "
            f"{self._relations[table]} "
            f"WHERE {asset} IS NOT NULL GROUP BY 1"
        )
        if table not in self._spans:
            with self._store.connect() as connection:
                self._spans[table] = self._fetch(connection, query, table)
        return self._spans[table]

    @cached_property
    def _spans(self) -> dict[str, pl.DataFrame]:
        return {}

    def identity(self) -> dict[str, tuple[Any, ...]]:
        """Each file of the lake to (size, mtime_ns), or to (size, time stamp or tag) behind a URL."""
        return self._store.identity()


class CutLake(BaseLake):
    """A lake as it was known at the close of `last`."""

    def __init__(self, inner: BaseLake, last: date) -> None:
        self._inner, self._last = inner, last
        self.tables, self.simulated, self.settings = inner.tables, inner.simulated, inner.settings
        self.location = f"{inner.location} cut after {last}"
        if inner.spans("fact_price")["first"].min() > last:  # type: ignore[operator]
            raise LakeError(f"fact_price: {inner.location} has no price on or before {last}; cut it later")

    def raw(
        self, table: str, start: date | None, end: date | None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """See `BaseLake.raw`."""
        bound = self._last if end is None else min(end, self._last)
        frame = self._inner.raw(table, start, bound)
        if "known_at" in frame.columns:
            frame = frame.filter(pl.col("known_at").is_null() | (pl.col("known_at") <= self._last))
        if table == "dim_instrument":
            later = [
                item.instrument_id for item in self._inner.specs.contracts if item.onboard and item.onboard > self._last
            ]
            frame = frame.filter(~pl.col("instrument_id").is_in(later))
        return frame if columns is None else frame.select(columns)

    def spans(self, table: str) -> pl.DataFrame:
        """See `BaseLake.spans`."""
        return _spans_of(self.raw(table, None, None, ("asset_id", "date")))

    def identity(self) -> dict[str, tuple[Any, ...]]:
        """Identity of the lake that was cut."""
        return self._inner.identity()


def open_lake(location: str | Path, settings: LakeSettings) -> LakeSource:
    """Open a lake read-only and check its tables, columns and types.

    Args:
        location: directory of ``table.parquet`` files or of ``table/`` folders (hive or plain parts), a
        DuckDB
            file, or a URL of such a directory (``s3://``, ``file://``, ``memory://``: any fsspec scheme).
        settings: the lake section of the settings.

    Raises:
        LakeError: nothing there, unreadable files, missing tables or columns, wrong types, an empty price
        table.
    """
    return FileLake(location, settings)


def cut(lake: LakeSource, last: date) -> LakeSource:
    """Return the lake as it was known at the close of `last`, without later facts and contracts.

    Raises:
        LakeError: no price is left.
        TypeError: not a lake of this module.
    """
    if not isinstance(lake, BaseLake):
        raise TypeError(f"cut needs a lake opened here, got {type(lake).__name__}")
    return CutLake(lake, last)


def absent_tables(lake: LakeSource) -> list[str]:
    """One sentence for each optional table the lake lacks or holds empty, saying what is lost."""
    words = {name: "absent" if name not in lake.tables else "empty" if lake.is_empty(name) else "" for name in LOST}
    return [f"{name} {words[name]}: {loss}" for name, loss in LOST.items() if words[name]]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class _Store(Protocol):
    location: str

    def connect(self) -> Any: ...

    def names(self) -> list[str]: ...

    def relation(self, name: str, stored: str) -> str | None: ...

    def culprit(self, table: str) -> str | None: ...

    def simulated(self) -> bool: ...

    def identity(self) -> dict[str, tuple[Any, ...]]: ...


def _store(location: str) -> _Store:
    scheme, _, rest = location.partition("://")
    if rest and scheme == "file":
        location = rest
    elif rest:
        return _ParquetStore(location, _remote_filesystem(scheme, location))
    path = Path(location).expanduser()
    if not path.exists():
        raise LakeError(
            f"lake {location}: no such file or directory; give a directory of Parquet tables or a DuckDB file"
        )
    if path.is_dir():
        return _ParquetStore(str(path.resolve()), None)
    if path.suffix in _DATABASES:
        return _DuckDBStore(path.resolve())
    raise LakeError(
        f"lake {location}: a file that is not a DuckDB database ({', '.join(_DATABASES)}); give the directory"
    )


def _remote_filesystem(scheme: str, location: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(scheme)
    except (ImportError, ValueError) as error:
        extra = "; install the extra: pip install 'majors-alts-pipeline[s3]'" if scheme == "s3" else ""
        raise LakeError(f"lake {location}: no file system for {scheme}:// ({error}){extra}") from error


def _connect_memory() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(
        ":memory:", config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )


class _DuckDBStore:
    """A DuckDB file, opened read-only for each query so that a writer is never locked out for long."""

    def __init__(self, path: Path) -> None:
        self._path, self.location = path, str(path)
        import duckdb

        with self.connect() as connection:
            try:
                query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"
                listed = pl.DataFrame(connection.sql(query))
            except duckdb.Error as error:
                raise LakeError(f"lake {path}: cannot list the tables of the DuckDB file: {error}") from error
        self._names = sorted(listed["table_name"].to_list())

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        try:
            connection = duckdb.connect(str(self._path), read_only=True)
        except duckdb.Error as error:
            raise LakeError(
                f"lake {self._path}: DuckDB cannot open the file read-only "
                f"({str(error).splitlines()[0]}); close its "
                "writer, or restore the file"
            ) from error
        try:
            yield connection
        finally:
            connection.close()

    def names(self) -> list[str]:
        return self._names

    def relation(self, name: str, stored: str) -> str | None:
        return _quoted(stored) if stored in self._names else None

    def culprit(self, table: str) -> str | None:
        return f"{self._path} (table {table})"

    def simulated(self) -> bool:
        beside = self._path.with_name(self._path.name + SIMULATED_MARKER)
        return beside.exists() or (self._path.parent / SIMULATED_MARKER).exists()

    def identity(self) -> dict[str, tuple[Any, ...]]:
        state = self._path.stat()
        return {self._path.name: (state.st_size, state.st_mtime_ns)}


class _ParquetStore:
    """A directory (or URL) of Parquet: one file, or one folder of parts, per table."""

    def __init__(self, root: str, filesystem: Any | None) -> None:
        self.location, self._fs = root, filesystem
        self._root = root if filesystem is None else filesystem._strip_protocol(root)
        self._files = self._list()
        self._parts: dict[str, list[str]] = {}
        self._connection: duckdb.DuckDBPyConnection | None = None

    def _list(self) -> dict[str, tuple[Any, ...]]:
        """Path relative to the root to (size, modification mark) of every visible Parquet file."""
        try:
            listed = self._walk_local() if self._fs is None else self._walk_remote()
        except LakeError:
            raise
        except Exception as error:
            raise LakeError(f"lake {self.location}: cannot list it ({type(error).__name__}: {error})") from error
        return dict(sorted(listed))

    def _walk_local(self) -> list[tuple[str, tuple[Any, ...]]]:
        found = []
        for folder, folders, files in os.walk(self._root, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith((".", "_"))]
            for name in files:
                if name.endswith(".parquet") and not name.startswith((".", "_")):
                    path = Path(folder) / name
                    state = path.stat()
                    found.append((path.relative_to(self._root).as_posix(), (state.st_size, state.st_mtime_ns)))
        return found

    def _walk_remote(self) -> list[tuple[str, tuple[Any, ...]]]:
        assert self._fs is not None
        found = []
        for path, info in self._fs.find(self._root, detail=True).items():
            relative = path.removeprefix(self._root).lstrip("/")
            hidden = any(part.startswith((".", "_")) for part in relative.split("/"))
            if path.endswith(".parquet") and not hidden:
                mark = next(
                    (str(info[key]) for key in ("mtime", "LastModified", "ETag", "created") if key in info),
                    "",
                )
                found.append((relative, (info.get("size"), mark)))
        return found

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if self._connection is None:
            self._connection = _connect_memory()
            if self._fs is not None:
                self._connection.register_filesystem(self._fs)
        cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def names(self) -> list[str]:
        return sorted({path.split("/")[0].removesuffix(".parquet") for path in self._files})

    def _address(self, relative: str) -> str:
        path = f"{self._root.rstrip('/')}/{relative}"
        return path if self._fs is None else str(self._fs.unstrip_protocol(path))

    def relation(self, name: str, stored: str) -> str | None:
        parts = [path for path in self._files if path == f"{stored}.parquet" or path.startswith(f"{stored}/")]
        if not parts:
            return None
        if f"{stored}.parquet" in parts and len(parts) > 1:
            raise LakeError(f"{name}: {self.location} holds both {stored}.parquet and {stored}/; keep one of them")
        self._parts[name] = parts
        return _read_parquet([self._address(part) for part in parts], _hive_keys(name, parts))

    def culprit(self, table: str) -> str | None:
        """Name the first part that cannot be read through."""
        import duckdb

        for part in self._parts.get(table, []):
            address = self._address(part)
            with self.connect() as connection:
                try:
                    connection.execute(
                        f"SELECT sum(hash(COLUMNS(*))) FROM read_parquet({_literal(address)})"
                    ).fetchall()
                except duckdb.Error:
                    return address
        return None

    def simulated(self) -> bool:
        if self._fs is None:
            return (Path(self._root) / SIMULATED_MARKER).exists()
        return bool(self._fs.exists(f"{self._root.rstrip('/')}/{SIMULATED_MARKER}"))

    def identity(self) -> dict[str, tuple[Any, ...]]:
        return self._list()


def _hive_keys(name: str, parts: Sequence[str]) -> dict[str, str]:
    """Hive key to SQL type, for keys in the folder names of the parts."""
    keys = {piece.split("=")[0] for part in parts for piece in part.split("/")[:-1] if "=" in piece}
    columns = LAKE_TABLES[name].columns
    return {key: "DATE" if key in columns and columns[key].kind == "date" else "VARCHAR" for key in sorted(keys)}


def _read_parquet(addresses: Sequence[str], hive: Mapping[str, str]) -> str:
    listed = ", ".join(_literal(address) for address in addresses)
    union = ", union_by_name=true" if len(addresses) > 1 else ""
    types = ", ".join(f"{_literal(key)}: {kind}" for key, kind in hive.items())
    partitioning = f", hive_partitioning=true, hive_types={{{types}}}" if hive else ", hive_partitioning=false"
    return f"read_parquet([{listed}]{union}{partitioning})"
