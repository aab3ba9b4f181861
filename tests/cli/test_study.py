"""`majors-alts study`: what was tried is listed, a new configuration is tried without touching what is stored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from majors_alts_pipeline.evaluation.contracts import EVIDENCE
from majors_alts_pipeline.evidence.registry import CANDIDATE, RUN, Registry

if TYPE_CHECKING:
    from finished_run import FinishedRun


def registry(run: FinishedRun) -> pl.DataFrame:
    return Registry(run.out / "registry").read()


def stored(run: FinishedRun) -> dict[str, int]:
    return {
        str(path): path.stat().st_mtime_ns
        for path in run.out.rglob("*")
        if path.is_file() and "registry" not in path.parts
    }


def test_a_run_registers_itself_and_its_candidates(finished_run: FinishedRun) -> None:
    records = registry(finished_run).filter(pl.col("batch") == pl.col("batch").min())
    assert records.filter(pl.col("kind") == RUN)["account"].sort().to_list() == ["always_on", "regime"]
    assert records.filter(pl.col("kind") == CANDIDATE).height > 100
    assert records["simulated"].all()
    assert (records["status"] == "ok").all()


def test_the_evidence_is_stored_and_says_what_it_belongs_to(finished_run: FinishedRun) -> None:
    manifest = json.loads((finished_run.out / "evidence" / "manifest.json").read_text())
    assert manifest["simulated"] is True
    assert manifest["study"] in finished_run.stdout
    assert set(manifest["files"]) == set(EVIDENCE)
    assert manifest["n_trials"] >= 109
    selection = pl.read_parquet(finished_run.out / "evidence" / "selection.parquet")
    counted = selection.filter(pl.col("measure") == "n_trials", pl.col("account") == "regime")["value"].item()
    assert counted == manifest["n_trials"]


def test_try_list_compare_show(finished_run: FinishedRun) -> None:
    before, first = stored(finished_run), registry(finished_run)
    said = finished_run.command("majors-alts", "study", "run", "--set", "basket.n_alts=10").stdout
    assert "SIMULATED data. Trial" in said
    assert stored(finished_run) == before, "nothing stored is replaced"
    records = registry(finished_run)
    assert records.filter(pl.col("batch").is_in(first["batch"].unique().implode())).height == first.height
    found = re.search(r"Trial ([0-9a-f]{12})", said)
    assert found
    new, old = found.group(1), first.filter(pl.col("kind") == RUN)["trial"][0]
    assert new != old

    counted = re.search(r"(\d+) configurations evaluated .*, (\d+) of them new; (\d+) are registered", said)
    assert counted
    evaluated, fresh, every = map(int, counted.groups())
    batch = records.filter(pl.col("batch") == records["batch"].max())
    assert 1 <= fresh <= evaluated
    assert batch["trial"].n_unique() <= evaluated
    assert every == records["trial"].n_unique() == first["trial"].n_unique() + fresh

    listed = finished_run.command("majors-alts", "study", "list").stdout
    assert new in listed
    assert old in listed
    assert "SIMULATED" in listed
    assert "distinct trials" in listed
    for name in ("lake", "lineage"):
        assert listed.count(records[name][-1]) > 1, "whole, in both tables"
    compared = finished_run.command("majors-alts", "study", "compare", old[:8], new[:8]).stdout
    assert re.search(r"basket\.n_alts +20 +10", compared)
    assert "paired stationary bootstrap" in compared
    assert "distinguishable" in compared
    same = finished_run.command("majors-alts", "study", "compare", old, old).stdout
    assert "no interval: both returned the same on every one of these days" in same
    assert "nan" not in same
    assert "distinguishable" not in same
    shown = json.loads(finished_run.command("majors-alts", "study", "show", new).stdout.split("\n}\n")[0] + "\n}")
    assert shown["settings"]["basket"]["n_alts"] == 10
    assert shown["simulated"] is True


def test_bad_words_end_in_one_line_and_register_nothing(finished_run: FinishedRun, tmp_path: Path) -> None:
    before = len(list((finished_run.out / "registry").iterdir()))

    def refusal(*words: str, status: int = 1) -> str:
        error = finished_run.command("majors-alts", "study", *words, status=status).stderr
        assert "Traceback" not in error
        return error

    assert "basket.n_altz" in refusal("run", "--set", "basket.n_altz=3")
    assert "key=value" in refusal("run", "--set", "basket.n_alts", status=2)
    assert "with --config" in refusal("run", "--set", "lake.price_carry_days=1")
    assert "no trial 'zzz'" in refusal("show", "zzz")
    assert "no trial is registered" in refusal("list", "--artifacts", str(tmp_path))
    assert len(list((finished_run.out / "registry").iterdir())) == before


def test_a_damaged_registry_is_named(finished_run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    path = tmp_path / "registry" / "20250101T000000000000Z-0123456789abcdef.parquet"
    path.write_bytes(b"not a batch")
    error = finished_run.command("majors-alts", "study", "list", "--artifacts", str(tmp_path), status=1).stderr
    assert path.name in error
    assert "Traceback" not in error
