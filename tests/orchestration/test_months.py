"""Months copied into one file each change how fast a table is read, never what is read."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.orchestration.storage import Stamp, StorageError, TableStore
from majors_alts_pipeline.tables import Column, TableContract

CONTRACTS = {
    "toy": TableContract(
        "toy",
        "A table.",
        ("date", "asset_id"),
        {
            "date": Column(pl.Date, "", "day"),
            "asset_id": Column(pl.String, "", "asset"),
            "value": Column(pl.Float64, "USD", "value"),
        },
    )
}
WINDOW = Window(date(2024, 1, 20), date(2024, 4, 10))


def rows(window: Window, scale: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame(
        [(day, asset, scale * day.toordinal()) for day in window.days() for asset in ("A", "B")],
        schema=CONTRACTS["toy"].schema,
        orient="row",
    )


def stamps(window: Window, study: str = "s") -> dict[date, Stamp]:
    return {day: Stamp(study, "c", str(day), "v", True, "k") for day in window.days()}


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    held = TableStore(tmp_path / "out", CONTRACTS, tmp_path / "cache")
    held.write("toy", WINDOW, rows(WINDOW), stamps(WINDOW))
    return held


def plain(store: TableStore) -> TableStore:
    return TableStore(store.root, CONTRACTS)


def month_files(store: TableStore) -> list[Path]:
    return sorted((store.root.parent / "cache").rglob("*.parquet"))


def test_only_complete_months_are_copied(store: TableStore) -> None:
    assert [path.stem for path in month_files(store)] == ["2024-02-01", "2024-03-01"]


def test_reading_and_stamps_are_those_of_the_day_files(store: TableStore) -> None:
    for window in (WINDOW, Window(date(2024, 2, 1), date(2024, 2, 29)), Window(date(2024, 2, 3), date(2024, 4, 1))):
        assert_frame_equal(store.read("toy", window), plain(store).read("toy", window), check_exact=True)
        assert store.stamps("toy", window) == plain(store).stamps("toy", window) == stamps(window)
    assert store.read("toy", WINDOW, ["value"]).columns == ["value"]


def test_a_replaced_day_is_seen_and_the_month_copied_again(store: TableStore) -> None:
    day = Window(date(2024, 3, 7), date(2024, 3, 7))
    plain(store).write("toy", day, rows(day, 2.0), stamps(day, "later"))
    fresh = store.read("toy", WINDOW)
    assert_frame_equal(fresh, plain(store).read("toy", WINDOW), check_exact=True)
    assert day.keep(fresh)["value"][0] == 2.0 * day.start.toordinal()
    assert store.stamps("toy", WINDOW)[day.start].study == "later"


def test_a_deleted_day_is_gone(store: TableStore) -> None:
    store.path("toy", date(2024, 2, 5)).unlink()
    assert date(2024, 2, 5) not in store.read("toy", WINDOW)["date"].to_list()
    assert date(2024, 2, 5) not in store.stamps("toy", WINDOW)


def test_a_broken_day_is_named_although_its_month_is_held(store: TableStore) -> None:
    path = store.path("toy", date(2024, 2, 5))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StorageError, match="2024-02-05"):
        store.read("toy", WINDOW)


def test_a_broken_month_is_passed_over(store: TableStore) -> None:
    for path in month_files(store):
        path.write_bytes(b"nothing")
    assert_frame_equal(store.read("toy", WINDOW), plain(store).read("toy", WINDOW), check_exact=True)


def test_a_month_completed_day_by_day_is_copied_when_read(store: TableStore) -> None:
    last = Window(date(2024, 4, 11), date(2024, 4, 30))
    for day in last.days():
        alone = Window(day, day)
        store.write("toy", alone, rows(alone), stamps(alone))
    whole = Window(WINDOW.start, last.end)
    assert_frame_equal(store.read("toy", whole), rows(whole), check_exact=True)
    assert "2024-04-01" in [path.stem for path in month_files(store)]


def test_a_cache_that_refuses_costs_no_result(tmp_path: Path) -> None:
    in_the_way = tmp_path / "cache"
    in_the_way.write_text("a file where the directory should be")
    store = TableStore(tmp_path / "out", CONTRACTS, in_the_way)
    store.write("toy", WINDOW, rows(WINDOW), stamps(WINDOW))
    assert_frame_equal(store.read("toy", WINDOW), rows(WINDOW), check_exact=True)
