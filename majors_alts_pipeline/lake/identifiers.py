"""Identifiers and contract multipliers: one asset id per coin, prices per coin.

Order of the rules: an id that `dim_asset` lists is a coin and stays; a contract of `dim_instrument` maps to
its coin and multiplier from its onboard date on; otherwise one venue suffix is taken off. Multipliers come
from the table of contract specifications only: the digits of 1INCH or 0G mean nothing by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from majors_alts_pipeline.lake.contracts import LakeError, LakeTable

_QUOTES = ("USDT", "USDC", "BUSD", "USD")
_MARKED_SUFFIXES = tuple(
    sorted(
        {f"/{quote}:{quote}" for quote in _QUOTES}
        | {
            f"{mark}{quote}{tail}"
            for mark in ("-", "_", "/")
            for quote in _QUOTES
            for tail in ("", "-PERP", "_PERP", "-SWAP")
        }
        | {f"{quote}{tail}" for quote in _QUOTES for tail in ("-PERP", "_PERP", "-SWAP")}
        | {"-PERP", "_PERP", "-SWAP", "_SWAP"},
        key=lambda suffix: (-len(suffix), suffix),
    )
)
_BARE_WHEN_KNOWN = ("USDC", "BUSD", "USD", "PERP")


@dataclass(frozen=True)
class Contract:
    """An instrument as the identifier rules use it.

    Attributes:
        instrument_id: id in `dim_instrument`.
        coin: asset id of one coin.
        multiplier: coins per contract, 1.0 unless a valid power of ten.
        onboard: first trading day when the metadata give it.
        problem: what is wrong with the vendor's mapping, or None.
    """

    instrument_id: str
    symbol: str
    coin: str
    multiplier: float
    onboard: date | None
    problem: str | None


@dataclass(frozen=True)
class Specs:
    """Coins the lake lists and the contracts by every name they go by."""

    coins: frozenset[str]
    contracts: tuple[Contract, ...]
    by_name: Mapping[str, Contract]

    @classmethod
    def of(cls, dim_asset: pl.DataFrame | None, dim_instrument: pl.DataFrame | None) -> Specs:
        """Read the two dimension tables (contract columns; None when absent)."""
        listed = [] if dim_asset is None else dim_asset["asset_id"].drop_nulls().to_list()
        coins = frozenset(name.strip().upper() for name in listed)
        rows = [] if dim_instrument is None else dim_instrument.sort("instrument_id").iter_rows(named=True)
        contracts = tuple(_contract(row, coins) for row in rows)
        by_name: dict[str, Contract] = {}
        for item in contracts:
            bare = strip_suffix(item.symbol, coins)
            for name in (item.symbol, item.instrument_id.upper(), *([bare] if item.multiplier > 1 else [])):
                by_name.setdefault(name, item)
        return cls(coins, contracts, by_name)

    def onboard_dates(self) -> pl.DataFrame:
        """(asset_id, onboard): earliest onboard date of each coin that has one."""
        schema = {"asset_id": pl.String, "onboard": pl.Date}
        rows = [(item.coin, item.onboard) for item in self.contracts if item.onboard is not None]
        return pl.DataFrame(rows, schema=schema, orient="row").group_by("asset_id").agg(pl.col("onboard").min())


def strip_suffix(name: str, coins: frozenset[str]) -> str:
    """Take one venue suffix off an upper-case `name`; a listed coin, and a bare suffix, stay as they are."""
    if name in coins:
        return name
    for suffix in _MARKED_SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix):
            return name.removesuffix(suffix)
    if name.endswith("USDT") and len(name) > len("USDT"):
        return name.removesuffix("USDT")
    for suffix in _BARE_WHEN_KNOWN:
        if name.endswith(suffix) and name.removesuffix(suffix) in coins:
            return name.removesuffix(suffix)
    return name


def valid_multiplier(multiplier: float | None, base: str) -> bool:
    """Tell whether `base` names a power of ten (>= 10) of a coin: it must start with that very number."""
    if multiplier is None or not 10 <= multiplier < 1e15 or multiplier != int(multiplier):
        return False
    digits = str(int(multiplier))
    return digits.rstrip("0") == "1" and base.startswith(digits) and len(base) > len(digits)


def _contract(row: Mapping[str, object], coins: frozenset[str]) -> Contract:
    symbol = str(row["instrument_symbol"] or "").strip().upper()
    quote = str(row["quote"] or "").strip().upper()
    base = strip_suffix(symbol, coins)
    if base == symbol and quote in _QUOTES and symbol not in coins:
        base = symbol.removesuffix(quote) or symbol
    stated = row["multiplier"]
    multiplier = float(stated) if isinstance(stated, (int, float)) else None
    vendor_base = row["base_asset_symbol"]
    vendor_asset = row["asset_id"]
    onboard = _onboard_date(row)
    instrument = str(row["instrument_id"])
    if valid_multiplier(multiplier, base):
        assert multiplier is not None
        coin = str(vendor_asset).strip().upper() if vendor_asset else base.removeprefix(str(int(multiplier)))
        return Contract(instrument, symbol, coin, multiplier, onboard, None)
    wrong_base = vendor_base is not None and multiplier is not None and str(vendor_base).upper() != base
    if multiplier is not None and (multiplier != 1.0 or wrong_base):
        problem = (
            f"multiplier {multiplier:g} with base {vendor_base!r} and asset {vendor_asset!r} "
            f"is not a power of ten >= 10 that the symbol starts with; read as coin {base}, multiplier 1"
        )
        return Contract(instrument, symbol, base, 1.0, onboard, problem)
    coin = str(vendor_asset).strip().upper() if vendor_asset else base
    return Contract(instrument, symbol, coin, 1.0, onboard, None)


def _onboard_date(row: Mapping[str, object]) -> date | None:
    text = row["metadata_json"]
    if text is None or not str(text).strip():
        return None
    try:
        stated = json.loads(str(text)).get("onboard_date")
        return None if stated is None else date.fromisoformat(str(stated)[:10])
    except (ValueError, AttributeError) as error:
        raise LakeError(
            f"dim_instrument.metadata_json of {row['instrument_id']}: {str(text)[:80]!r} is not a "
            "JSON object with an "
            f"ISO onboard_date ({error}); fix the row in the lake"
        ) from error


def normalise(table: LakeTable, raw: pl.DataFrame, specs: Specs, keep_raw: bool = False) -> pl.DataFrame:
    """Map `asset_id` to coins and prices to per-coin units; row order and row count are kept.

    Args:
        table: contract of `raw`.
        raw: contract columns as the lake wrote them.
        specs: coins and contracts of the lake.
        keep_raw: add the column `raw_id` with the id as written.
    """
    if table.name == "dim_instrument":
        return _normalise_instruments(raw, specs)
    mapped = _mapping(raw["asset_id"].unique().drop_nulls(), specs)
    out = raw.with_columns(pl.col("asset_id").alias("raw_id")) if keep_raw else raw
    if mapped.filter(pl.col("raw") != pl.col("asset")).is_empty():
        return out
    own = raw.select(pl.col("asset_id").alias("raw")).join(mapped, on="raw", how="left", maintain_order="left")
    if not table.daily:
        return out.with_columns(own["asset"].alias("asset_id"))
    out = out.with_columns(own["asset"], own["before"], own["multiplier"], own["since"])
    in_force = pl.col("since").is_null() | (pl.col("date") >= pl.col("since"))
    coins_per_unit = pl.when(in_force).then(pl.col("multiplier")).otherwise(1.0)
    return out.with_columns(
        pl.when(in_force).then(pl.col("asset")).otherwise(pl.col("before")).alias("asset_id"),
        *(pl.col(name) / coins_per_unit for name in table.per_coin),
    ).drop("asset", "before", "multiplier", "since")


def changes_within(spans: pl.DataFrame, specs: Specs) -> bool:
    """Tell whether some raw id (asset_id, date = its first day) traded before its contract began."""
    mapped = _mapping(spans["asset_id"], specs).filter(pl.col("asset") != pl.col("before"))
    return spans.join(mapped, left_on="asset_id", right_on="raw").filter(pl.col("date") < pl.col("since")).height > 0


def _mapping(raw_ids: pl.Series, specs: Specs) -> pl.DataFrame:
    """(raw, asset, before, multiplier, since): `before` is the id in force earlier than `since`."""
    rows: list[tuple[str, str, str, float, date | None]] = []
    for raw in raw_ids.to_list():
        name = raw.strip().upper()
        stripped = strip_suffix(name, specs.coins)
        found = None if name in specs.coins else specs.by_name.get(name) or specs.by_name.get(stripped)
        if found is None:
            rows.append((raw, stripped, stripped, 1.0, None))
        else:
            rows.append((raw, found.coin, stripped, found.multiplier, found.onboard))
    schema = {
        "raw": pl.String,
        "asset": pl.String,
        "before": pl.String,
        "multiplier": pl.Float64,
        "since": pl.Date,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _normalise_instruments(raw: pl.DataFrame, specs: Specs) -> pl.DataFrame:
    """Vendor mapping replaced by the checked one."""
    checked = pl.DataFrame(
        [(item.instrument_id, item.coin, item.multiplier) for item in specs.contracts],
        schema={"instrument_id": pl.String, "asset_id": pl.String, "multiplier": pl.Float64},
        orient="row",
    ).unique("instrument_id", maintain_order=True)
    plain = raw.drop("asset_id", "multiplier")
    return plain.join(checked, on="instrument_id", how="left", maintain_order="left").select(raw.columns)
