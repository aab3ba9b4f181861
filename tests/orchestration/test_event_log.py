"""The batched event log: what Dagster shows is what stock storage shows, in far fewer transactions."""

import sqlite3
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import QUIET, batched_instance

from majors_alts_pipeline.orchestration import compatibility, event_log
from majors_alts_pipeline.orchestration.event_log import BatchedSqliteEventLogStorage, prune

FIRST = date(2024, 1, 1)
DAYS = dg.DailyPartitionsDefinition("2024-01-01")
POLICY = dg.BackfillPolicy.single_run()


@dg.asset(partitions_def=DAYS, backfill_policy=POLICY, code_version="1")
def upper(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 3}, tags={"colour": "blue"})


@dg.asset(partitions_def=DAYS, backfill_policy=POLICY, deps=[upper], code_version="1")
def lower() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 4})


@dg.asset_check(asset=upper)
def fine() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def run(instance: dg.DagsterInstance, first: int, last: int) -> str:
    job = dg.Definitions(assets=[upper, lower], asset_checks=[fine]).resolve_implicit_global_asset_job_def()
    tags = {
        "dagster/asset_partition_range_start": (FIRST + timedelta(days=first)).isoformat(),
        "dagster/asset_partition_range_end": (FIRST + timedelta(days=last)).isoformat(),
    }
    result = job.execute_in_process(instance=instance, tags=tags)
    assert result.success
    return result.run_id


def seen(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What the UI would show, without ids, times and hashes of runs."""
    shown: dict[str, Any] = {}
    for asset in ("upper", "lower"):
        key = dg.AssetKey(asset)
        records = instance.fetch_materializations(key, limit=1000, ascending=True).records
        shown[asset] = [
            (
                r.partition_key,
                sorted(r.asset_materialization.metadata),
                sorted(r.asset_materialization.tags or {}),
            )
            for r in records
            if r.asset_materialization is not None
        ]
        shown[f"{asset}.partitions"] = sorted(instance.get_materialized_partitions(key))
        latest = instance.get_latest_materialization_event(key)
        assert latest is not None
        assert latest.asset_materialization is not None
        shown[f"{asset}.latest"] = latest.asset_materialization.partition
        shown[f"{asset}.event_tags"] = [
            sorted(tags) for tags in instance.event_log_storage.get_event_tags_for_asset(key)
        ]
        (record,) = instance.get_asset_records([key])
        entry = record.asset_entry.last_materialization
        assert entry is not None
        assert entry.asset_materialization is not None
        shown[f"{asset}.record"] = entry.asset_materialization.partition
        shown[f"{asset}.planned"] = instance.get_latest_planned_materialization_info(key) is not None
    return shown


def kinds_of_run(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str | None, str | None]]:
    return [
        (entry.dagster_event.event_type_value if entry.dagster_event else None, entry.step_key)
        for entry in instance.all_logs(run_id)
        if entry.dagster_event and entry.dagster_event.event_type_value != "ENGINE_EVENT"
    ]


@pytest.fixture
def stock(tmp_path: Path) -> dg.DagsterInstance:
    (tmp_path / "stock").mkdir()
    return dg.DagsterInstance.local_temp(str(tmp_path / "stock"), overrides=QUIET)


@pytest.fixture
def batched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    return batched_instance(tmp_path / "batched", monkeypatch)


def test_same_content_as_stock(stock: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not isinstance(stock.event_log_storage, BatchedSqliteEventLogStorage)
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    stock_runs = [run(stock, 0, 9), run(stock, 5, 12), run(stock, 3, 3)]
    batched = batched_instance(tmp_path / "batched", monkeypatch)
    batched_runs = [run(batched, 0, 9), run(batched, 5, 12), run(batched, 3, 3)]
    assert seen(batched) == seen(stock)
    for ours, theirs in zip(batched_runs, stock_runs, strict=True):
        assert kinds_of_run(batched, ours) == kinds_of_run(stock, theirs)


def test_stock_reads_what_the_batch_wrote(batched: dg.DagsterInstance, tmp_path: Path) -> None:
    run(batched, 0, 9)
    stock = dg.DagsterInstance.local_temp(str(tmp_path / "batched"), overrides=QUIET)
    assert not isinstance(stock.event_log_storage, BatchedSqliteEventLogStorage)
    assert seen(stock) == seen(batched)


def test_it_really_batches(batched: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    store = BatchedSqliteEventLogStorage.store_event_batch

    def counted(self: BatchedSqliteEventLogStorage, events: list[Any]) -> None:
        calls.append(len(events))
        store(self, events)

    monkeypatch.setattr(BatchedSqliteEventLogStorage, "store_event_batch", counted)
    run(batched, 0, 99)
    # One batch of planned events and one per asset.
    assert len(calls) == 3
    assert max(calls) >= 200


def test_a_failing_batch_falls_back_to_single_events(
    batched: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("Dagster moved this")

    monkeypatch.setattr(BatchedSqliteEventLogStorage, "_store_asset_events", broken)
    run(batched, 0, 4)
    assert len(batched.get_materialized_partitions(dg.AssetKey("lower"))) == 5
    assert "Dagster moved this" in capsys.readouterr().err


def test_an_unknown_version_keeps_to_stock_behaviour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compatibility, "TESTED_VERSIONS", frozenset({"0.0.1"}))
    instance = batched_instance(tmp_path / "other", monkeypatch)
    storage = instance.event_log_storage
    assert isinstance(storage, BatchedSqliteEventLogStorage)
    assert not storage.batches
    assert "not one of the tested versions" in caplog.text
    run(instance, 0, 4)
    assert len(instance.get_materialized_partitions(dg.AssetKey("upper"))) == 5


def test_base_dir_needs_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(dg.DagsterInvariantViolationError, match="DAGSTER_HOME"):
        BatchedSqliteEventLogStorage.from_config_value(None, {"base_dir": event_log.DEFAULT_BASE_DIR})
    with pytest.raises(dg.DagsterInvariantViolationError, match="DAGSTER_HOME"):
        event_log.BatchedSqliteStorage.from_config_value(None, {"base_dir": "."})


def _index(instance: dg.DagsterInstance) -> sqlite3.Connection:
    storage = instance.event_log_storage
    assert isinstance(storage, BatchedSqliteEventLogStorage)
    return sqlite3.connect(storage.path_for_shard("index"))


def test_a_check_of_a_range_is_one_row(batched: dg.DagsterInstance) -> None:
    run(batched, 0, 99)
    with _index(batched) as index:
        rows = index.execute("SELECT partition, execution_status FROM asset_check_executions").fetchall()
    assert rows == [(None, "SUCCEEDED")]


def test_the_log_of_a_range_is_bounded(batched: dg.DagsterInstance) -> None:
    run(batched, 0, 199)
    with _index(batched) as index:
        (size, rows) = index.execute("SELECT sum(length(event)), count(*) FROM event_logs").fetchone()
    assert rows <= 2 * 2 * 200 + 20
    assert size / (2 * 200) < 4_000


def test_prune_forgets_runs_but_not_days(batched: dg.DagsterInstance) -> None:
    old = [run(batched, 0, 9) for _ in range(4)]
    kept = run(batched, 5, 12)
    before = seen(batched)
    assert prune(batched, keep_runs=1) == 4
    after = seen(batched)
    for asset in ("upper", "lower"):
        assert after[f"{asset}.partitions"] == before[f"{asset}.partitions"]
        assert after[f"{asset}.latest"] == before[f"{asset}.latest"]
        assert len(after[asset]) == 13
    assert [run.run_id for run in batched.get_runs()] == [kept]
    storage = batched.event_log_storage
    assert isinstance(storage, BatchedSqliteEventLogStorage)
    assert not [run_id for run_id in old if Path(storage.path_for_shard(run_id)).exists()]
    with _index(batched) as index:
        (rows,) = index.execute("SELECT count(*) FROM event_logs").fetchone()
        (orphans,) = index.execute(
            "SELECT count(*) FROM asset_event_tags WHERE event_id NOT IN (SELECT id FROM event_logs)"
        ).fetchone()
    assert rows <= 2 * 13 + 2 * 8 + 10
    assert orphans == 0
    assert prune(batched, keep_runs=1) == 0
    run(batched, 11, 14)
    assert len(batched.get_materialized_partitions(dg.AssetKey("lower"))) == 15


def test_prune_refuses_what_it_cannot_do(batched: dg.DagsterInstance) -> None:
    with pytest.raises(ValueError, match="keep_runs -1"):
        prune(batched, keep_runs=-1)
    with pytest.raises(dg.DagsterInvariantViolationError, match="SQLite"):
        prune(dg.DagsterInstance.ephemeral(), keep_runs=1)
