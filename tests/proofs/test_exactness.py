"""Partition = range = truncation for every registered stage, and that the machines notice a stage that cheats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from majors_alts_pipeline import chain, stages
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.orchestration.storage import Stamp, TableStore
from majors_alts_pipeline.proofs import exactness
from majors_alts_pipeline.proofs.exactness import differing_rows
from majors_alts_pipeline.proofs.suite import sample_days
from majors_alts_pipeline.stages import STAGES
from majors_alts_pipeline.tables import TABLES


def quiet(_: str) -> None:
    return None


def history(lake: LakeSource) -> Window:
    return Window(lake.first_day(), lake.last_complete_day())


@pytest.fixture(scope="module")
def small_full(small_lake: LakeSource, small_settings: Settings) -> dict[str, pl.DataFrame]:
    return Runner(small_lake, small_settings).run_all()


def test_every_table_has_rows_to_compare(small_full: Mapping[str, pl.DataFrame]) -> None:
    assert set(small_full) == set(TABLES)
    assert all(frame.height > 0 for frame in small_full.values())


def test_a_cut_lake_changes_nothing_before_the_cut(
    small_lake: LakeSource, small_settings: Settings, small_full: Mapping[str, pl.DataFrame]
) -> None:
    cuts = sample_days(history(small_lake), 5)[:-1]
    proof = exactness.prefix(small_lake, small_settings, small_full, cuts, quiet)
    assert proof.holds, proof.measured


def test_a_day_alone_equals_the_backfill(
    small_lake: LakeSource, small_settings: Settings, small_full: Mapping[str, pl.DataFrame]
) -> None:
    first_of_month = date(2022, 12, 1)
    days = [*sample_days(history(small_lake), 6), history(small_lake).start, first_of_month]
    proof = exactness.single_days(small_lake, small_settings, small_full, days, quiet)
    assert proof.holds, proof.measured


def test_pieces_of_a_tiny_row_budget_are_the_backfill_byte_for_byte(
    small_lake: LakeSource, small_settings: Settings, small_full: Mapping[str, pl.DataFrame], tmp_path: Path
) -> None:
    window = history(small_lake)
    whole = TableStore(tmp_path / "whole")
    parts = TableStore(tmp_path / "parts")
    stamps = {day: Stamp("s", "c", "l", "v", True, "k") for day in window.days()}
    cut = set()
    for stage in STAGES:
        reader = exactness.TableReader(small_full, window, dict.fromkeys(stage.tables, window))
        runner = Runner(small_lake, small_settings, reader, row_budget=1)
        for days, frames in runner.stream(stage, window):
            cut |= {stage.name} if days != window else set()
            for table, frame in frames.items():
                parts.write(table, days, frame, stamps)
        for table in stage.tables:
            whole.write(table, window, small_full[table], stamps)
            for day in window.days():
                assert parts.path(table, day).read_bytes() == whole.path(table, day).read_bytes(), (table, day)
    assert {"panel", "universe", "betas", "basket"} <= cut


@pytest.mark.parametrize(("start", "length"), [(5, 40), (170, 33), (300, 120)])
def test_any_range_equals_the_backfill(
    small_lake: LakeSource, small_settings: Settings, small_full: Mapping[str, pl.DataFrame], start: int, length: int
) -> None:
    whole = history(small_lake)
    first = whole.start + timedelta(days=start)
    window = Window(first, first + timedelta(days=length - 1))
    for stage in STAGES:
        withheld = {table: Window(first, whole.end) for table in stage.tables}
        reader = exactness.TableReader(small_full, whole, withheld)
        for table, frame in Runner(small_lake, small_settings, reader).run(stage, window).items():
            assert differing_rows(frame, window.keep(small_full[table])) == 0, table


def test_nothing_stored_gives_the_same_day_computed_on_the_way(
    small_lake: LakeSource, small_settings: Settings, small_full: Mapping[str, pl.DataFrame]
) -> None:
    day = sample_days(history(small_lake), 3)[1]
    said: list[str] = []
    reader = exactness.TableReader({}, history(small_lake), {})
    runner = Runner(small_lake, small_settings, reader, said.append)
    alone = Window(day, day)
    frame = runner.run(stages.STAGE_OF_TABLE["regime"], alone)["regime"]
    assert differing_rows(frame, alone.keep(small_full["regime"])) == 0
    assert any("not wholly stored" in sentence for sentence in said)


def test_the_live_decision_equals_the_backtests(
    small_lake: LakeSource, small_settings: Settings, small_full: Mapping[str, pl.DataFrame]
) -> None:
    proof = exactness.replay(small_lake, small_settings, small_full, sample_days(history(small_lake), 4), quiet)
    assert proof.holds, proof.measured


def test_a_second_run_is_identical(
    small_lake: LakeSource, small_settings: Settings, small_full: Mapping[str, pl.DataFrame]
) -> None:
    proof = exactness.double_run(small_lake, small_settings, small_full)
    assert proof.holds, proof.measured


def _cheat(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """The real KPIs, shifted by the mean drawdown of all days that happen to be loaded."""
    from majors_alts_pipeline.evaluation.stage import compute

    rows = compute(inputs, window, settings)["kpis"]
    return {"kpis": rows.with_columns(pl.col("drawdown") + 1e-12 * pl.col("drawdown").mean())}


def test_the_machines_catch_a_stage_that_looks_at_its_range(
    monkeypatch: pytest.MonkeyPatch, small_lake: LakeSource, small_settings: Settings
) -> None:
    honest = stages.STAGE_OF_TABLE["kpis"]
    cheating = replace(honest, function=f"{__name__}:_cheat")
    monkeypatch.setattr(chain, "STAGES", tuple(cheating if stage is honest else stage for stage in STAGES))
    monkeypatch.setattr(exactness, "STAGES", chain.STAGES)
    monkeypatch.setitem(stages.STAGE_OF_TABLE, "kpis", cheating)
    full = Runner(small_lake, small_settings).run_all()
    days = sample_days(history(small_lake), 3)
    assert not exactness.single_days(small_lake, small_settings, full, days[:1], quiet).holds
    assert not exactness.prefix(small_lake, small_settings, full, days[:1], quiet).holds


@pytest.mark.real_lake
@pytest.mark.slow
def test_real_lakes_are_exact(open_real_lake: LakeSource) -> None:
    settings = load_settings()
    full = Runner(open_real_lake, settings).run_all()
    days = sample_days(history(open_real_lake), 5)
    for proof in (
        exactness.prefix(open_real_lake, settings, full, days[1:3], quiet),
        exactness.single_days(open_real_lake, settings, full, days, quiet),
    ):
        assert proof.holds, proof.measured
