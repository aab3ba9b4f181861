"""Prefix test, replay test, partition = range, double run: equality of rows, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.lake.reader import LakeSource, cut
from majors_alts_pipeline.proofs.proof import Proof
from majors_alts_pipeline.stages import STAGES
from majors_alts_pipeline.tables import TABLES

Progress = Callable[[str], None]


class TableReader:
    """Finished tables held in memory, with some days of some tables withheld."""

    def __init__(self, tables: Mapping[str, pl.DataFrame], held: Window, withheld: Mapping[str, Window]) -> None:
        self._tables, self._held, self._withheld = tables, held, withheld

    def stored(self, table: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """Rows of the window, or None when a withheld or unheld day is among them."""
        gone = self._withheld.get(table)
        overlaps = gone is not None and gone.start <= window.end and window.start <= gone.end
        if table not in self._tables or overlaps or window.start < self._held.start or window.end > self._held.end:
            return None
        frame = window.keep(self._tables[table])
        return frame if columns is None else frame.select(columns)


def differing_rows(left: pl.DataFrame, right: pl.DataFrame) -> int:
    """Rows that are not equal to the last bit (nulls equal nulls), plus rows only one side has."""
    if left.height != right.height:
        return abs(left.height - right.height) + min(left.height, right.height)
    if left.height == 0:
        return 0
    unequal = pl.any_horizontal(left[name].ne_missing(right[name]).alias(name) for name in left.columns)
    return int(pl.select(unequal.sum()).item())


def _compare(machine: str, claim: str, pairs: Iterable[tuple[str, str, pl.DataFrame, pl.DataFrame]]) -> Proof:
    rows = differing = 0
    where: list[str] = []
    for label, table, left, right in pairs:
        rows += right.height
        count = differing_rows(left, right)
        differing += count
        if count:
            where.append(f"{table} at {label}")
    measured = f"{differing} of {rows:,} rows differ" + (f" ({', '.join(where[:4])})" if where else "")
    return Proof(machine, claim, measured, "0 rows, compared bit for bit", differing == 0 and rows > 0)


def prefix(
    lake: LakeSource,
    settings: Settings,
    full: Mapping[str, pl.DataFrame],
    cuts: Sequence[date],
    progress: Progress,
) -> Proof:
    """Cut the lake after each day of `cuts`: no row on or before it changes in any table."""

    def pairs() -> Iterable[tuple[str, str, pl.DataFrame, pl.DataFrame]]:
        for last in cuts:
            progress(f"prefix test: lake cut after {last}")
            shorter = cut(lake, last)
            window = Window(lake.first_day(), last)
            for table, frame in Runner(shorter, settings).run_all(window).items():
                yield str(last), table, frame, window.keep(full[table])

    return _compare("prefix", "facts after a day never change it or any day before", pairs())


def single_days(
    lake: LakeSource,
    settings: Settings,
    full: Mapping[str, pl.DataFrame],
    days: Sequence[date],
    progress: Progress,
) -> Proof:
    """Each stage computed for one day alone, its inputs being the stored rows: equal to the backfill's rows."""
    held = Window(lake.first_day(), lake.last_complete_day())

    def pairs() -> Iterable[tuple[str, str, pl.DataFrame, pl.DataFrame]]:
        for day in days:
            progress(f"partition = range: {day} alone")
            alone = Window(day, day)
            for stage in STAGES:
                withheld = {table: Window(day, held.end) for table in stage.tables}
                runner = Runner(lake, settings, TableReader(full, held, withheld))
                for table, frame in runner.run(stage, alone).items():
                    yield str(day), table, frame, alone.keep(full[table])

    return _compare("partition = range", "a day materialised alone equals the same day of the backfill", pairs())


def replay(
    lake: LakeSource,
    settings: Settings,
    full: Mapping[str, pl.DataFrame],
    days: Sequence[date],
    progress: Progress,
) -> Proof:
    """The live decision of a day, made by a system that has only seen the lake up to it, equals the backtest's."""
    from majors_alts_pipeline.report.signals import build_signals

    def signal(tables: Mapping[str, pl.DataFrame], day: date) -> pl.DataFrame:
        document = build_signals(
            **{name: tables[name].filter(pl.col("date") == day) for name in ("positions", "backtest", "regime")},
            execution_lag_days=settings.backtest.execution_lag_days,
            today=day + timedelta(days=1),
            study={},
        )
        rows = document.pop("decisions") or [{}]
        header = pl.DataFrame({"header": [json.dumps(document, sort_keys=True, default=str)]})
        return header.join(pl.DataFrame(rows, infer_schema_length=None), how="cross")

    def pairs() -> Iterable[tuple[str, str, pl.DataFrame, pl.DataFrame]]:
        for day in days:
            progress(f"replay test: the decision of {day}")
            live = Runner(cut(lake, day), settings).run_all(Window(lake.first_day(), day))
            yield str(day), "signals", signal(live, day), signal(full, day)

    return _compare("replay", "the live signal of a day equals the backtest's row of that day", pairs())


def double_run(lake: LakeSource, settings: Settings, full: Mapping[str, pl.DataFrame]) -> Proof:
    """A second run of the whole chain gives the same bytes in every cell."""
    window = Window(lake.first_day(), lake.last_complete_day())
    again = Runner(lake, settings).run_all(window)
    pairs = ((str(window.end), name, again[name], full[name]) for name in TABLES)
    return _compare("double run", "the same lake, settings and code give the same rows", pairs)
