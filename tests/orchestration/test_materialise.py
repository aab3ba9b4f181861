"""Assets, partitions and storage together, on the toy chain."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import dagster as dg
import toy_stages
from conftest import FIRST, LAST

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.orchestration.storage import TableStore
from majors_alts_pipeline.tables import TABLES

Materialise = Callable[..., dg.ExecuteInProcessResult]
DAY = FIRST + timedelta(days=30)
ALL = " or ".join(f"key:{table}" for table in TABLES)


def _bytes(paths: Paths, day: date) -> dict[str, bytes]:
    store = TableStore(paths.artifacts)
    return {table: store.path(table, day).read_bytes() for table in TABLES}


def test_whole_chain_range(materialise: Materialise, paths: Paths) -> None:
    assert materialise(ALL, FIRST, LAST).success
    store = TableStore(paths.artifacts)
    for table in TABLES:
        assert store.missing(table, Window(FIRST, LAST)) == []


def test_day_equals_range(materialise: Materialise, paths: Paths) -> None:
    materialise(ALL, FIRST, LAST)
    from_range = _bytes(paths, DAY)
    materialise(ALL, DAY)
    assert _bytes(paths, DAY) == from_range


def test_one_table_of_a_stage(materialise: Materialise, paths: Paths) -> None:
    assert materialise("backtest", DAY).success
    store = TableStore(paths.artifacts)
    assert store.days("backtest") == [DAY]
    assert store.days("positions") == []


def test_regime_first_on_a_fresh_clone(materialise: Materialise, paths: Paths) -> None:
    assert materialise("regime", DAY).success
    assert TableStore(paths.artifacts).days("regime") == [DAY]
    assert TableStore(paths.artifacts).days("panel") == []
    name, window, seen = toy_stages.CALLS[-1]
    assert (name, window) == ("regime", Window(DAY, DAY))
    assert seen["features"] == (FIRST, DAY)
