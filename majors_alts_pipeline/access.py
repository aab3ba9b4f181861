"""Reading results: any stage's rows as a Polars LazyFrame, wherever they are stored."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.orchestration.storage import TableStore
from majors_alts_pipeline.tables import TABLES


class DaysError(ValueError):
    """The days asked for are no range: the last lies before the first."""


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
        table: name of a table; `table_columns()` lists them.
        start: first day (date or ISO text); default: the first stored day.
        end: last day; default: the last stored day.
        artifacts: directory of the results; default: ``MAJORS_ALTS_OUT`` or ``artifacts/``.

    Raises:
        KeyError: no such table.
        DaysError: `end` is before `start`.
        FileNotFoundError: nothing is stored, or a day of the asked range is missing.
    """
    if table not in TABLES:
        raise KeyError(f"no table {table!r}; tables: {', '.join(TABLES)}")
    root = Path(artifacts) if artifacts is not None else Paths.from_env().artifacts
    store = TableStore(root)
    days = store.days(table)
    if not days:
        raise FileNotFoundError(f"{table}: nothing stored under {root}; run `majors-alts run --out {root}` first")
    first, last = _day(start), _day(end)
    if first is not None and last is not None and last < first:
        raise DaysError(f"{table}: the last day asked for, {last}, is before the first, {first}; exchange them")
    for day, outside, side in (
        (first, first is not None and first > days[-1], "after"),
        (last, last is not None and last < days[0], "before"),
    ):
        if outside:
            raise FileNotFoundError(f"{table} is stored from {days[0]} to {days[-1]} under {root}; {day} is {side} it")
    window = Window(first or days[0], last or days[-1])
    missing = store.missing(table, window)
    if missing:
        raise FileNotFoundError(
            f"{table}: {len(missing)} of the {window.n_days} days asked for are not stored under {root} "
            f"(first {missing[0]}, last {missing[-1]}; stored: {days[0]} to {days[-1]})"
        )
    return store.scan(table, window)


def table_columns() -> pl.DataFrame:
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
