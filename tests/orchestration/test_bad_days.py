"""Bad days through Dagster: killed runs, runs at once, a changing lake, mixtures, days that do not exist."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import toy_stages
from conftest import FEW_CHECKS, FIRST, LAST, write_lake
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.paths import REPOSITORY, Paths
from majors_alts_pipeline.orchestration.resources import StudyResource
from majors_alts_pipeline.orchestration.storage import MixedStudyError, StorageError, TableStore
from majors_alts_pipeline.orchestration.study import LakeChangedError, PartitionError, Study
from majors_alts_pipeline.tables import TABLES

Materialise = Callable[..., dg.ExecuteInProcessResult]
ALL = " or ".join(f"key:{table}" for table in TABLES)
HISTORY = Window(FIRST, LAST)


def test_a_day_beyond_the_lake(materialise: Materialise, paths: Paths) -> None:
    beyond = LAST + timedelta(days=1)
    with pytest.raises(PartitionError, match=rf"{beyond}.*complete days from {FIRST} to {LAST}.*MAJORS_ALTS_LAKE"):
        materialise("panel", beyond)
    assert TableStore(paths.artifacts).days("panel") == []


def test_a_lake_that_changes_under_a_run(
    materialise: Materialise, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    materialise("panel", FIRST)
    universe = toy_stages.universe

    def rewrite(*arguments: object) -> dict[str, pl.DataFrame]:
        write_lake(Path(paths.lake or ""), scale=2.0)
        return universe(*arguments)

    monkeypatch.setattr(toy_stages, "universe", rewrite)
    with pytest.raises(LakeChangedError, match=r"changed while universe was computed.*run the same days again"):
        materialise("key:panel or key:universe", FIRST, LAST)
    assert TableStore(paths.artifacts).days("universe") == []
    monkeypatch.undo()


def test_revised_facts_are_a_mixture(materialise: Materialise, paths: Paths) -> None:
    materialise(ALL, FIRST, LAST)
    write_lake(Path(paths.lake or ""), scale=2.0)
    with pytest.raises(MixedStudyError, match=r"lake facts that have since been revised.*rematerialise"):
        materialise("kpis", LAST)
    materialise(ALL, FIRST, LAST)
    materialise("kpis", LAST)


def test_results_of_another_lake_are_named_and_kept(materialise: Materialise, paths: Paths) -> None:
    from majors_alts_pipeline.main_job import run_history
    from majors_alts_pipeline.orchestration.reporting import stored_window

    materialise(ALL, FIRST, LAST)
    before = TableStore(paths.artifacts).stamps("panel", HISTORY)
    write_lake(Path(paths.lake or ""), n_days=20)
    study = Study.open(paths, print)
    for command in (lambda: run_history(paths, FIRST, None, print), lambda: stored_window(study)):
        with pytest.raises(MixedStudyError, match=rf"{LAST}, are not days of the lake.*another lake.*OUT="):
            command()
    assert TableStore(paths.artifacts).stamps("panel", HISTORY) == before


def test_a_whole_history_replaces_the_results_of_another_lake(materialise: Materialise, paths: Paths) -> None:
    materialise(ALL, FIRST, LAST)
    write_lake(Path(paths.lake or ""), n_days=20)
    said: list[str] = []
    study = Study.open(paths, said.append)
    study.drop_foreign_days()
    study.require_own_days()
    assert {tuple(study.store.days(table)) for table in TABLES} == {tuple(Window(FIRST, study.lake.last_day()).days())}
    assert len(said) == 1
    assert str(LAST) in said[0]
    study.drop_foreign_days()
    assert len(said) == 1


def test_a_longer_lake_is_no_mixture(materialise: Materialise, paths: Paths) -> None:
    write_lake(Path(paths.lake or ""), n_days=30)
    materialise(ALL, FIRST, FIRST + timedelta(days=29))
    write_lake(Path(paths.lake or ""), n_days=31)
    assert materialise(ALL, FIRST + timedelta(days=30)).success
    assert TableStore(paths.artifacts).missing("kpis", Window(FIRST, FIRST + timedelta(days=30))) == []


def test_another_configuration_is_a_mixture(materialise: Materialise, paths: Paths, tmp_path: Path) -> None:
    materialise(ALL, FIRST, LAST)
    config = tmp_path / "other.yaml"
    config.write_text(FEW_CHECKS + "betas: {ridge: 0.07}\n")
    other = Study.open(Paths(paths.lake, config, paths.artifacts, paths.cache), print)
    assert other.stored("panel", HISTORY) is not None
    with pytest.raises(MixedStudyError, match=r"betas.*40 days.*another configuration"):
        other.stored("betas", HISTORY)


def test_read_only_output_fails_the_run_and_leaves_the_rest(
    materialise: Materialise, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    materialise("panel", FIRST, LAST)
    before = {path: path.read_bytes() for path in paths.artifacts.rglob("*.parquet")}
    (paths.artifacts / "tables" / "universe").write_text("in the way")
    with pytest.raises(StorageError, match=r"universe .*part of the path is a file"):
        materialise("universe", FIRST, LAST)
    assert {path: path.read_bytes() for path in paths.artifacts.rglob("*.parquet")} == before


def test_the_simulated_lake_is_written_when_none_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from majors_alts_pipeline.lake import simulate
    from majors_alts_pipeline.orchestration import study

    spec = simulate.SimulationSpec
    monkeypatch.setattr(simulate, "SimulationSpec", lambda: spec(n_alts=20, n_days=120))
    paths = Paths(lake=None, config=None, artifacts=tmp_path / "artifacts", cache=tmp_path / "cache")
    said: list[str] = []
    opened = StudyResource.from_paths(paths).open(said.append)
    assert opened.lake.simulated
    assert "SIMULATED" in said[0]
    before = {path: path.stat().st_mtime_ns for path in paths.simulated_lake.rglob("*")}
    study.write_simulated_lake(paths.simulated_lake)
    assert {path: path.stat().st_mtime_ns for path in paths.simulated_lake.rglob("*")} == before
    assert [path.name for path in paths.cache.iterdir() if path.name.startswith(".")] == []


def _process(paths: Paths, home: Path, window: Window) -> subprocess.Popen[str]:
    home.mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", home)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "MAJORS_ALTS_LAKE": str(paths.lake),
        "MAJORS_ALTS_OUT": str(paths.artifacts),
        "MAJORS_ALTS_CACHE": str(paths.cache),
        "MAJORS_ALTS_CONFIG": str(paths.config),
        "POLARS_MAX_THREADS": "1",
    }
    script = Path(__file__).with_name("toy_run.py")
    log = (home / f"{window.start}.{len(list(home.iterdir()))}.log").open("w")
    return subprocess.Popen(
        [sys.executable, str(script), str(window.start), str(window.end)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
    )  # fmt: skip


def _start(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def _check_whole(paths: Paths, window: Window) -> None:
    store = TableStore(paths.artifacts)
    for table in TABLES:
        assert store.missing(table, window) == []
        assert_frame_equal(store.read(table, window), toy_stages.rows(table, window), check_exact=True)


def _days(first: int, last: int) -> Window:
    return Window(FIRST + timedelta(days=first), FIRST + timedelta(days=last))


@pytest.mark.slow
def test_four_dagster_runs_at_once(paths: Paths, tmp_path: Path) -> None:
    processes = [_process(paths, tmp_path / "home", _days(first, first + 24)) for first in (0, 5, 10, 15)]
    for process in processes:
        _start(process)
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0, 0]
    _check_whole(paths, _days(0, 39))


@pytest.mark.slow
def test_killed_dagster_runs_heal(paths: Paths, tmp_path: Path) -> None:
    luck = random.Random(11)
    processes = [_process(paths, tmp_path / "home", HISTORY) for _ in range(3)]
    for process in processes:
        _start(process)
        time.sleep(luck.uniform(0.3, 2.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = TableStore(paths.artifacts)
        for table in TABLES:
            assert set(store.stamps(table, HISTORY)) == set(store.days(table))
    healer = _process(paths, tmp_path / "home", HISTORY)
    _start(healer)
    assert healer.wait(timeout=120) == 0
    _check_whole(paths, HISTORY)


def test_today_is_not_needed(paths: Paths) -> None:
    """Definitions load whatever the lake is like: a broken one is said by the run, not by the UI's start."""
    from majors_alts_pipeline.orchestration import partitions

    broken = Paths(str(paths.cache / "nowhere"), None, paths.artifacts, paths.cache)
    settings = Study.open(paths, print).settings
    assert partitions.lake_days(broken, settings) == (partitions.DEFAULT_FIRST_DAY, None)
    assert partitions.lake_days(paths, settings) == (FIRST, None)
    assert isinstance(partitions.lake_days(paths, settings)[0], date)
