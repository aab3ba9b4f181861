"""What a lake may hold: tables, columns, types and units. `docs/data_contract.md` shows the same.

`fact_price` is required; every other table is optional and `LOST` says what is lost without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

Kind = Literal["date", "number", "text", "bool"]

DTYPES: Mapping[Kind, pl.DataType] = {
    "date": pl.Date(),
    "number": pl.Float64(),
    "text": pl.String(),
    "bool": pl.Boolean(),
}


class LakeError(ValueError):
    """The lake cannot be used as it is; the message names table, column or asset, day, value and remedy."""


@dataclass(frozen=True)
class LakeColumn:
    """One column of a lake table; an optional column that is absent is read as null."""

    kind: Kind
    unit: str
    description: str
    required: bool = True


@dataclass(frozen=True)
class LakeTable:
    """One table of the lake, unique by `key`.

    Attributes:
        positive: columns that must be finite and > 0.
        non_negative: columns that must be finite and >= 0.
        finite: columns that must be finite.
        per_coin: prices, divided by the contract multiplier when the row is quoted per contract.
    """

    name: str
    description: str
    key: tuple[str, ...]
    columns: Mapping[str, LakeColumn] = field(hash=False)
    required: bool = False
    positive: tuple[str, ...] = ()
    non_negative: tuple[str, ...] = ()
    finite: tuple[str, ...] = ()
    per_coin: tuple[str, ...] = ()

    @property
    def schema(self) -> pl.Schema:
        """Polars schema of what the reader returns."""
        return pl.Schema({name: DTYPES[column.kind] for name, column in self.columns.items()})

    @property
    def daily(self) -> bool:
        """True for facts, which carry a `date`; False for dimensions."""
        return "date" in self.columns


_ASSET = LakeColumn("text", "", "asset identifier or venue symbol")
_DATE = LakeColumn("date", "UTC day", "day whose close the row describes")
_SOURCE = LakeColumn("text", "", "provenance", False)
_EXCHANGE = LakeColumn("text", "", "venue", False)
_INSTRUMENT = LakeColumn("text", "", "instrument of dim_instrument", False)
_KNOWN_AT = LakeColumn("date", "UTC day", "first day at whose close the fact was known, when later than date", False)
_FACT = ("date", "asset_id")


def _usd(description: str, unit: str = "USD") -> LakeColumn:
    return LakeColumn("number", unit, description)


LAKE_TABLES: Mapping[str, LakeTable] = {
    table.name: table
    for table in (
        LakeTable(
            "fact_price",
            "Daily closes.",
            _FACT,
            {"asset_id": _ASSET, "date": _DATE, "close": _usd("close"), "source": _SOURCE},
            required=True,
            positive=("close",),
            per_coin=("close",),
        ),
        LakeTable(
            "fact_ohlc",
            "Daily bars.",
            _FACT,
            {
                "asset_id": _ASSET,
                "date": _DATE,
                "open": _usd("open"),
                "high": _usd("high"),
                "low": _usd("low"),
                "close": _usd("close"),
                "source": _SOURCE,
            },
            positive=("open", "high", "low", "close"),
            per_coin=("open", "high", "low", "close"),
        ),
        LakeTable(
            "fact_volume",
            "Traded notional.",
            _FACT,
            {
                "asset_id": _ASSET,
                "date": _DATE,
                "volume": _usd("traded notional", "USD per day"),
                "source": _SOURCE,
                "known_at": _KNOWN_AT,
            },
            non_negative=("volume",),
        ),
        LakeTable(
            "fact_marketcap",
            "Market capitalisation, may be sparse.",
            _FACT,
            {
                "asset_id": _ASSET,
                "date": _DATE,
                "marketcap": _usd("market capitalisation"),
                "source": _SOURCE,
                "known_at": _KNOWN_AT,
            },
            positive=("marketcap",),
        ),
        LakeTable(
            "fact_funding",
            "One funding settlement of the day.",
            _FACT,
            {
                "asset_id": _ASSET,
                "date": _DATE,
                "funding_rate": LakeColumn("number", "decimal per print", "rate a long pays at one settlement"),
                "instrument_id": _INSTRUMENT,
                "exchange": _EXCHANGE,
                "source": _SOURCE,
                "known_at": _KNOWN_AT,
            },
            finite=("funding_rate",),
        ),
        LakeTable(
            "fact_funding_daily_sum",
            "All funding settlements of the day, summed.",
            _FACT,
            {
                "asset_id": _ASSET,
                "date": _DATE,
                "funding_rate": LakeColumn("number", "decimal per day", "sum of the day's settlements"),
                "n_prints": LakeColumn("number", "prints per day", "settlements in the sum", False),
                "instrument_id": _INSTRUMENT,
                "exchange": _EXCHANGE,
                "source": _SOURCE,
                "known_at": _KNOWN_AT,
            },
            finite=("funding_rate",),
        ),
        LakeTable(
            "fact_open_interest",
            "Open interest.",
            _FACT,
            {
                "asset_id": _ASSET,
                "date": _DATE,
                "open_interest_usd": _usd("open interest"),
                "source": _SOURCE,
                "known_at": _KNOWN_AT,
            },
            non_negative=("open_interest_usd",),
        ),
        LakeTable(
            "dim_asset",
            "Assets and the vendor's flags.",
            ("asset_id",),
            {
                "asset_id": LakeColumn("text", "", "asset identifier"),
                "symbol": LakeColumn("text", "", "ticker", False),
                "name": LakeColumn("text", "", "name", False),
                "coingecko_id": LakeColumn("text", "", "CoinGecko identifier", False),
                "is_stable": LakeColumn("bool", "", "vendor says: a stablecoin", False),
                "is_wrapped_stable": LakeColumn("bool", "", "vendor says: a wrapped stablecoin", False),
            },
        ),
        LakeTable(
            "dim_instrument",
            "Contract specifications.",
            ("instrument_id",),
            {
                "instrument_id": LakeColumn("text", "", "instrument identifier"),
                "instrument_symbol": LakeColumn("text", "", "symbol on the venue"),
                "venue": LakeColumn("text", "", "venue", False),
                "instrument_type": LakeColumn("text", "", "perpetual, spot ...", False),
                "quote": LakeColumn("text", "", "quote currency", False),
                "base_asset_symbol": LakeColumn("text", "", "vendor's reading of the base asset", False),
                "asset_id": LakeColumn("text", "", "vendor's mapping to dim_asset", False),
                "multiplier": LakeColumn("number", "coins per contract", "vendor's contract multiplier", False),
                "metadata_json": LakeColumn("text", "JSON", "holds onboard_date", False),
            },
        ),
    )
}

LOST: Mapping[str, str] = {
    "fact_ohlc": "no open, high, low; spreads use the configured default instead of an estimate from bars",
    "fact_volume": "no liquidity rule or volume feature, impact at fixed participation; set basket.rank_by: marketcap",
    "fact_marketcap": "market caps are null; dominance, alt index and size rules have nothing to work on",
    "fact_funding": "no funding print; days without a daily sum have no funding",
    "fact_funding_daily_sum": "the true daily funding is unknown; a print x prints per day stands in if there is one",
    "fact_open_interest": "open interest is null; the open-interest feature does not exist",
    "dim_asset": "no vendor flags; stablecoins are found by the configured lists and the detector only",
    "dim_instrument": "no onboard dates, no contract multipliers; age counts from the first day seen",
}
"""What a run loses when an optional table is absent."""


def validate_mapping(tables: Mapping[str, str], columns: Mapping[str, Mapping[str, str]]) -> None:
    """Check that a configured name mapping speaks of tables and columns the contract knows.

    Raises:
        LakeError: an unknown table or column.
    """
    for name in (*tables, *columns):
        if name not in LAKE_TABLES:
            raise LakeError(
                f"lake mapping: no contract table {name!r}; tables: {', '.join(LAKE_TABLES)}. Fix "
                "lake.tables or lake.columns"
            )
    for name, mapped in columns.items():
        for column in set(mapped) - set(LAKE_TABLES[name].columns):
            raise LakeError(
                f"lake.columns.{name}: no contract column {column!r}; columns: {', '.join(LAKE_TABLES[name].columns)}"
            )
