"""Toy chain on a tiny lake: real contracts, real storage, real Dagster, trivial stage functions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import toy_stages

from majors_alts_pipeline import chain
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.orchestration import study as study_module
from majors_alts_pipeline.stages import Stage

FIRST = date(2024, 1, 1)
N_DAYS = 40
# The lake's own rules are tested in tests/lake; one of them is enough here and keeps the runs short.
FEW_CHECKS = (
    "quality: {severity: {"
    + ", ".join(f"{name}: 'OFF'" for name in load_settings().quality.severity if name != "duplicate_keys")
    + "}}\n"
)
QUIET = {"telemetry": {"enabled": False}}
LAST = FIRST + timedelta(days=N_DAYS - 1)


def write_lake(folder: Path, n_days: int = N_DAYS, scale: float = 1.0) -> Path:
    """Lake of BTC, ETH and two alts with prices only."""
    days = [FIRST + timedelta(days=k) for k in range(n_days)]
    frame = pl.DataFrame({"date": days}).join(pl.DataFrame({"asset_id": ["BTC", "ETH", "SOL", "XRP"]}), how="cross")
    close = 100.0 * scale + pl.col("date").to_physical() % 13
    folder.mkdir(parents=True, exist_ok=True)
    frame.with_columns(close.cast(pl.Float64).alias("close"), pl.lit("toy").alias("source")).write_parquet(
        folder / "fact_price.parquet"
    )
    return folder


def batched_instance(home: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    storage = {
        "custom": {
            "module": "majors_alts_pipeline.orchestration.event_log",
            "class": "BatchedSqliteStorage",
            "config": {},
        }
    }
    return dg.DagsterInstance.local_temp(str(home), overrides={"storage": storage, **QUIET})


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    lake = write_lake(tmp_path / "lake")
    config = tmp_path / "quiet.yaml"
    config.write_text(FEW_CHECKS)
    return Paths(lake=str(lake), config=config, artifacts=tmp_path / "artifacts", cache=tmp_path / "cache")


@pytest.fixture
def toy_chain(monkeypatch: pytest.MonkeyPatch) -> list[Stage]:
    """The stages with toy functions, in force everywhere stages are looked up."""
    stages = toy_stages.toys()
    for stage in stages:
        for table in stage.tables:
            monkeypatch.setitem(chain.STAGE_OF_TABLE, table, stage)
    toy_stages.CALLS.clear()
    return stages


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """SQLite instance with the batched event log, as in dagster_home/dagster.yaml."""
    return batched_instance(tmp_path / "dagster", monkeypatch)


@pytest.fixture
def materialise(
    paths: Paths, toy_chain: list[Stage], instance: dg.DagsterInstance
) -> Callable[..., dg.ExecuteInProcessResult]:
    """materialise(select, start, end): run the toy chain through Dagster over days start..end."""
    from majors_alts_pipeline.definitions import build_definitions

    definitions = build_definitions(paths, stages=toy_chain)
    study_module.code_version()

    def run(
        select: str, start: date, end: date | None = None, raise_on_error: bool = True
    ) -> dg.ExecuteInProcessResult:
        repository = definitions.get_repository_def()
        keys = dg.AssetSelection.from_string(select).resolve(repository.asset_graph)
        job = repository.get_implicit_job_def_for_assets(keys)
        assert job is not None
        span = {
            "dagster/asset_partition_range_start": start.isoformat(),
            "dagster/asset_partition_range_end": (end or start).isoformat(),
        }
        return job.execute_in_process(
            instance=instance,
            asset_selection=list(keys),
            partition_key=None if end else start.isoformat(),
            tags=span if end else None,
            raise_on_error=raise_on_error,
        )

    return run
