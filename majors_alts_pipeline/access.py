"""Reading results: any stage's rows as a Polars LazyFrame, wherever they are stored."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.orchestration.storage import TableStore
from majors_alts_pipeline.tables import TABLES


def _day(value: date | str | None) -> date | None:
    return date.fromisoformat(value) if isinstance(value, str) else value


def read(
    table: str,
    start: date | str | None = None,
    end: date | str | None = None,
    *,
    artifacts: Path | str | None = None,
) -> pl.LazyFrame:
    """Rows of `table` between two UTC days, both included.

    Args:
        table: name of a table; `tables()` lists them.
        start: first day (date or ISO text); default: the first stored day.
        end: last day; default: the last stored day.
        artifacts: directory of the results; default: ``MAJORS_ALTS_OUT`` or ``artifacts/``.

    Raises:
        KeyError: no such table.
        FileNotFoundError: nothing is stored, or a day of the asked range is missing.
    """
    if table not in TABLES:
        raise KeyError(f"no table {table!r}; tables: {', '.join(TABLES)}")
    root = Path(artifacts) if artifacts is not None else Paths.from_env().artifacts
    store = TableStore(root)
    days = store.days(table)
    if not days:
        raise FileNotFoundError(f"{table}: nothing stored under {root}; run `majors-alts run --out {root}` first")
    window = Window(_day(start) or days[0], _day(end) or days[-1])
    missing = store.missing(table, window)
    if missing:
        raise FileNotFoundError(
            f"{table}: {len(missing)} of the {window.n_days} days asked for are not stored under {root} "
            f"(first {missing[0]}, last {missing[-1]}; stored: {days[0]} to {days[-1]})"
        )
    return store.scan(table, window)


def tables() -> pl.DataFrame:
    """Every table's columns with type, unit and meaning: (table, column, type, unit, key, description)."""
    return pl.DataFrame(
        [
            {
                "table": contract.name,
                "column": name,
                "type": str(column.dtype),
                "unit": column.unit,
                "key": name in contract.key,
                "description": column.description,
            }
            for contract in TABLES.values()
            for name, column in contract.columns.items()
        ]
    )
