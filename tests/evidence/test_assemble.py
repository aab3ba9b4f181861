"""The evidence of a small simulated study: complete, registered first, written as a whole, damage named."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from majors_alts_pipeline.backtest.stage import compute as backtest
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.evaluation.contracts import EVIDENCE
from majors_alts_pipeline.evaluation.stage import evaluation_start
from majors_alts_pipeline.evidence.assemble import (
    MANIFEST,
    EvidenceError,
    Subject,
    Tally,
    gather,
    shorter,
    stored,
    write,
)
from majors_alts_pipeline.evidence.registry import CANDIDATE, METRICS, RUN, Registry, Trial, count_trials, trial_id
from majors_alts_pipeline.evidence.trials import study_trials
from majors_alts_pipeline.regime.composite import candidates

if TYPE_CHECKING:
    from conftest import SmallStudy

SKIPPED = ("robustness", "capacity", "sweep")


@pytest.fixture(scope="module")
def quick(small_study: SmallStudy) -> Subject:
    settings = with_overrides(small_study.settings, {"evaluation.skip": list(SKIPPED)})
    subject = small_study.subject
    return Subject(subject.tables, subject.lake, subject.window, settings, subject.origin)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="module")
def frames(quick: Subject, root: Path) -> dict[str, pl.DataFrame]:
    return gather(quick, Registry(root / "registry"), lambda _: None)


def value(frames: dict[str, pl.DataFrame], account: str, measure: str) -> float:
    rows = frames["selection"].filter(pl.col("account") == account, pl.col("measure") == measure)
    return rows["value"].item()


def test_every_table_is_there_under_its_contract(frames: dict[str, pl.DataFrame]) -> None:
    assert set(frames) == set(EVIDENCE)
    for name, frame in frames.items():
        EVIDENCE[name].conform(frame)
        # The composite score has no hidden states to look back at.
        assert bool(frame.height) == (name not in {*SKIPPED, "hindsight"}), name


def test_the_run_and_its_candidates_count_before_anything_is_judged(
    frames: dict[str, pl.DataFrame], quick: Subject, root: Path
) -> None:
    records = Registry(root / "registry").read()
    expected = 1 + len(candidates(quick.settings))
    assert count_trials(records, quick.origin.lineage) == expected
    assert value(frames, "regime", "n_trials") == expected
    assert 1.0 <= value(frames, "regime", "n_effective_trials") < expected
    assert value(frames, "regime", "dsr") <= value(frames, "regime", "psr")
    own = records.filter(pl.col("kind") == RUN, pl.col("account") == "regime")
    assert own["trial"].to_list() == [trial_id(quick.settings)]


def test_the_same_run_again_is_no_new_trial(frames: dict[str, pl.DataFrame], quick: Subject, root: Path) -> None:
    registry = Registry(root / "registry")
    before = count_trials(registry.read(), quick.origin.lineage)
    again = gather(quick, registry, lambda _: None)
    assert count_trials(registry.read(), quick.origin.lineage) == before
    assert_frame_equal(again["selection"], frames["selection"])


def test_a_trial_of_the_run_has_the_kpis_of_the_run(small_study: SmallStudy) -> None:
    trials = study_trials(small_study.tables, small_study.window, small_study.settings)
    kpis = small_study.tables["kpis"].filter(pl.col("date") == small_study.window.end)
    for item in trials[:2]:
        row = kpis.filter(pl.col("account") == item.account).row(0, named=True)
        for name in METRICS:
            assert item.metrics[name] == pytest.approx(row[name], rel=1e-9, nan_ok=True), name
        assert item.n_days == row["n_days"]


def test_a_candidates_account_is_the_backtest_of_its_labels(small_study: SmallStudy) -> None:
    """The defaults held from the first day on: a chain whose walk-forward choice never begins labels alike."""
    settings = with_overrides(small_study.settings, {"regime.min_train_days": 100_000})
    inputs = {**small_study.tables}
    from majors_alts_pipeline.stages import STAGE_OF_TABLE
    from majors_alts_pipeline.tables import TABLES

    for name in ("regime_model", "regime"):
        stage = STAGE_OF_TABLE[name]
        given = {item.table: TABLES[item.table].empty() if item.lag else inputs[item.table] for item in stage.inputs}
        inputs |= stage.compute(given, small_study.window, settings)
    alone = backtest(inputs, small_study.window, settings)["backtest"].filter(pl.col("account") == "regime")
    start = evaluation_start(small_study.tables["backtest"])
    trials = study_trials(small_study.tables, small_study.window, small_study.settings)
    first = next(item for item in trials if item.kind == CANDIDATE)
    assert first.returns is not None
    np.testing.assert_allclose(first.returns, alone.filter(pl.col("date") >= start).sort("date")["ret_net"], atol=1e-12)


def test_evidence_is_replaced_as_a_whole_and_read_back(
    frames: dict[str, pl.DataFrame], quick: Subject, tmp_path: Path
) -> None:
    assert stored(tmp_path / "evidence") is None
    for trials in (1, 2):
        write(frames, tmp_path / "evidence", quick, Tally(trials, ["a", "b"], ["b"]))
    found = stored(tmp_path / "evidence")
    assert found is not None
    manifest, back = found
    assert (manifest.n_trials, manifest.study, manifest.simulated) == (2, "study", True)
    assert (manifest.batches, manifest.lost) == (["a", "b"], ["b"])
    assert (manifest.first_day, manifest.last_day) == (str(quick.window.start), str(quick.window.end))
    for name, frame in frames.items():
        assert_frame_equal(back[name], frame)
    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]


@pytest.mark.parametrize("damage", ["swap", "cut", "manifest", "gone"])
def test_damage_is_named(frames: dict[str, pl.DataFrame], quick: Subject, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "evidence"
    write(frames, folder, quick, Tally(1, [], []))
    if damage == "swap":
        frames["selection"].head(3).write_parquet(folder / "selection.parquet")
    elif damage == "cut":
        (folder / "folds.parquet").write_bytes(b"PAR1")
    elif damage == "gone":
        (folder / "cscv.parquet").unlink()
    else:
        (folder / MANIFEST).write_text(json.dumps({"study": "x"}))
    with pytest.raises(EvidenceError, match="materialise the asset `evidence` again"):
        stored(folder)


def test_a_lost_file_of_the_registry_is_missed_until_it_is_back(
    frames: dict[str, pl.DataFrame], quick: Subject, tmp_path: Path
) -> None:
    folder, registry = tmp_path / "evidence", Registry(tmp_path / "registry")
    lineage = quick.origin.lineage

    def count(name: str, time: datetime) -> Tally:
        registry.append([Trial(name, RUN, name, {}, seed=1)], replace(quick.origin, time=time))
        found = stored(folder)
        tally = Tally.of(registry.read(), lineage, found[0] if found else None)
        write(frames, folder, quick, tally)
        return tally

    def hours(n: int) -> datetime:
        return quick.origin.time + timedelta(hours=n)

    assert count("a", hours(0)).lost == []
    assert count("b", hours(1)).lost == []
    first = registry.files()[0]
    first.rename(tmp_path / "aside")
    for n in (2, 3):
        # More was tried since: the count alone would not tell.
        assert count(f"c{n}", hours(n)).lost == [first.stem]
    (tmp_path / "aside").rename(first)
    assert count("d", hours(4)).lost == []
    manifest = stored(folder)
    assert manifest is not None
    assert Tally.of(registry.read(), "another lake", manifest[0]).lost == []


def test_evidence_that_is_less_than_what_it_replaces_says_so(
    frames: dict[str, pl.DataFrame], quick: Subject, tmp_path: Path
) -> None:
    before = write(frames, tmp_path / "evidence", quick, Tally(1, [], []))
    assert shorter(frames, quick, before, frames) == ""
    fewer = {**frames, "selection": frames["selection"].clear(), "cscv": frames["cscv"].clear()}
    assert "it has selection, cscv, now empty" in shorter(fewer, quick, before, frames)
    assert shorter(frames, quick, before, fewer) == "", "more than before is no loss"
    short = replace(quick, window=Window(quick.window.start, quick.window.end - timedelta(days=9)))
    assert f"its days end on {quick.window.end}, these on {short.window.end}" in shorter(frames, short, before, frames)
    assert shorter(fewer, quick, replace(before, lineage="another lake"), frames) == ""


def test_a_disk_that_refuses_is_named_and_leaves_the_old_evidence(
    frames: dict[str, pl.DataFrame], quick: Subject, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvidenceError, match="cannot write"):
        write(frames, tmp_path / "file" / "evidence", quick, Tally(1, [], []))


def test_a_lake_on_which_nothing_was_traded_has_empty_evidence(small_study: SmallStudy, tmp_path: Path) -> None:
    tables = dict(small_study.tables)
    tables["backtest"] = tables["backtest"].with_columns(turnover=pl.lit(0.0), ret_net=pl.lit(0.0))
    tables["positions"] = tables["positions"].clear()
    settings = with_overrides(small_study.settings, {"evaluation.skip": list(SKIPPED)})
    subject = Subject(tables, small_study.lake, small_study.window, settings, small_study.subject.origin)
    found = gather(subject, Registry(tmp_path), lambda _: None)
    assert found["edge_by_horizon"].is_empty()
    assert found["selection"].filter(pl.col("measure") == "sharpe")["value"].null_count() == 2
    assert not found["red_flags"]["fired"].any()
