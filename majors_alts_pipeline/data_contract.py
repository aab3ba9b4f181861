"""`docs/data_contract.md` from the contracts the code enforces: ``python -m majors_alts_pipeline.data_contract``.

Belongs here: how contracts and settings are shown. Does not belong here: any column, unit or value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.config.paths import REPOSITORY
from majors_alts_pipeline.evaluation.contracts import EVIDENCE
from majors_alts_pipeline.evidence.registry import REGISTRY
from majors_alts_pipeline.lake.contracts import LAKE_TABLES, LOST, LakeTable
from majors_alts_pipeline.stages import INCEPTION, STAGE_OF_TABLE, Input
from majors_alts_pipeline.tables import TABLES, TableContract

COMMAND = "python -m majors_alts_pipeline.data_contract"
FILE = REPOSITORY / "docs" / "data_contract.md"

_KINDS = {"date": "Date", "number": "any number", "text": "text", "bool": "Boolean"}

_HEAD = f"""# Data contract

Written by `{COMMAND}` from the contracts the code enforces
(`lake/contracts.py`, `tables.py`, `config/`); do not edit. A test fails when this page is out of date. Definitions
and formulas: [methods.md](methods.md).

- [Input: the lake](#input-the-lake)
- [Output: the tables](#output-the-tables)
- [Evidence and registry](#evidence-and-registry)
- [Settings](#settings)
"""

_INPUT = """## Input: the lake

A lake is a directory with one `<table>.parquet` per table, or one folder `<table>/` of Parquet parts per table (Hive
keys such as `date=2025-01-31` or plain parts); or a DuckDB file (`.duckdb`, `.ddb`, `.db`) with one table each in
schema `main`; or a URL of such a directory (`file://`, `memory://`, `s3://`, ...). It is opened read-only. Other names
are mapped in `lake.tables` and `lake.columns`.

- `date` is a plain `Date`: the UTC day whose **close** the row describes, known at 00:00 UTC of the next day.
  Timestamps, with or without a time zone, are refused: the reader does not guess which day is meant.
- Columns that are not named below are ignored. An optional column that is absent is read as null.
- Keys are unique and not null, after identifiers have been normalised: upper case, one venue suffix taken off
  (`SOL-USDT-SWAP` is `SOL`), contracts mapped to their coin by `dim_instrument`.
- A row with a `known_at` later than its `date` is not used for that day. Market caps are carried, so a late one is
  used from its `known_at` on; late volume, funding or open interest is not used at all.
- Numbers may be of any numeric type; they are read as 64-bit floats.
"""

_OUTPUT = """## Output: the tables

One Parquet file per table and UTC day, `<results>/tables/<table>/YYYY-MM-DD.parquet`, sorted by the key, zstd; a day
without rows is an empty file with the schema. Any Parquet tool opens them. From this package:
`majors-alts read <table>` and `majors_alts_pipeline.read("<table>", start, end)`.

No table holds infinities or NaN: what is not known is null, and only where the column says so. The look-back is the
number of days before a day that the day's rows read, at the default settings; "inception" is the lake's first day.
"""

_EVIDENCE = """## Evidence and registry

`<results>/evidence/<table>.parquet`, one file each of all stored days together, sorted by the key, replaced as a whole;
`manifest.json` beside them says which study, lake and days they belong to. `<results>/registry/*.parquet` holds the
rows of `registry`, one file per batch, never rewritten. Meaning: [methods.md](methods.md#evidence-and-registry).
"""

_SETTINGS = """## Settings

A YAML given with `--config` or `MAJORS_ALTS_CONFIG` holds only the keys it changes. `lake.tables`, `lake.columns`,
`regime.weight_schemes` and `regime.exposure` are replaced whole, lists too, other blocks are merged. An unknown key, a
key in the wrong block, a value out of bounds or a rule that could never fire is an error that names the key.
"""


def markdown() -> str:
    """Return the whole page: lake tables, output tables, evidence and settings."""
    parts = [_HEAD, _INPUT, *map(_lake_table, LAKE_TABLES.values()), _OUTPUT, *map(_table, TABLES.values())]
    evidence = [_EVIDENCE, *map(_undated, (*EVIDENCE.values(), REGISTRY))]
    return "\n".join([*parts, *evidence, _SETTINGS, *_settings_blocks()])


def _rows(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _lake_table(table: LakeTable) -> str:
    absent = "Required." if table.required else f"Optional; without it: {LOST[table.name]}."
    rules = [
        f"{words}: {_names(columns)}."
        for words, columns in (
            ("Finite and above 0", table.positive),
            ("Finite and not negative", table.non_negative),
            ("Finite", table.finite),
            ("Divided by the contract multiplier when quoted per contract", table.per_coin),
        )
        if columns
    ]
    columns = (
        (f"`{name}`", _KINDS[column.kind], column.unit, "" if column.required else "optional", column.description)
        for name, column in table.columns.items()
    )
    return (
        f"### {table.name}\n\n{table.description} {absent} Key: {_names(table.key)}. {' '.join(rules)}".rstrip()
        + "\n\n"
        + _rows(("column", "type", "unit", "presence", "meaning"), columns)
    )


def _table(contract: TableContract) -> str:
    stage = STAGE_OF_TABLE[contract.name]
    settings = load_settings()
    reads = ", ".join(f"`{item.table}` ({_lookback(item, settings)})" for item in stage.inputs) or "the lake"
    return _contract(contract, f" Stage: `{stage.name}`. Reads: {reads}.")


def _undated(contract: TableContract) -> str:
    return _contract(contract, "")


def _contract(contract: TableContract, origin: str) -> str:
    columns = (
        (f"`{name}`", str(column.dtype), column.unit, "null" if column.nullable else "", column.description)
        for name, column in contract.columns.items()
    )
    return f"### {contract.name}\n\n{contract.description}\n\nKey: {_names(contract.key)}.{origin}\n\n" + _rows(
        ("column", "type", "unit", "may be", "meaning"), columns
    )


def _lookback(item: Input, settings: Settings) -> str:
    if item.lag:
        return "its own day before"
    days = item.days(settings)
    return "since inception" if days == INCEPTION else f"{days} days back" if days else "the day"


def _settings_blocks() -> Iterator[str]:
    dumped = load_settings().model_dump(mode="json")
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        words = (model.__doc__ or "").strip().split("\n")[0]
        yield f"### {section}\n\n{words}\n\n" + _rows(
            ("setting", "default", "meaning"), _leaves(section, model, dumped[section])
        )


def _leaves(path: str, model: type[BaseModel], values: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _leaves(f"{path}.{name}", inner, values[name])
        else:
            yield f"`{path}.{name}`", f"`{_shown(values[name])}`", field.description or ""


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def main(path: Path = FILE) -> None:
    """Write the page."""
    path.write_text(markdown())
    print(path)


if __name__ == "__main__":
    main()
