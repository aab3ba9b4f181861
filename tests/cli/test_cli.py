"""Every command as typed, on a small simulated lake: output, files, exit status, and nothing of the lake touched."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import polars as pl
import pytest
from finished_run import RUN_FIRST, RUN_LAST, FinishedRun, run_command
from polars.testing import assert_frame_equal

import majors_alts_pipeline
from majors_alts_pipeline.tables import TABLES

ONE_DAY = RUN_FIRST + timedelta(days=60)
SHORT = ("--from", RUN_FIRST.isoformat(), "--to", ONE_DAY.isoformat())


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}


def other_home(run: FinishedRun, folder: Path) -> dict[str, str]:
    """The environment of `run` with a Dagster history of its own: other tests look at the first one."""
    home = folder / "home"
    home.mkdir()
    shutil.copy(Path(run.environment["DAGSTER_HOME"]) / "dagster.yaml", home)
    return {**run.environment, "DAGSTER_HOME": str(home)}


def test_run_prints_the_answer_and_stamps_it(finished_run: FinishedRun) -> None:
    assert "SIMULATED data. Net of costs and funding, 2022-02-01 (first trade) to 2022-05-29" in finished_run.stdout
    for account in ("regime", "always_on", "btc_eth", "alt_index"):
        assert account in finished_run.stdout
    report, single = finished_run.stdout.splitlines()[-2:]
    assert report == f"report: {finished_run.out / 'report' / 'index.html'}"
    assert re.search(r"^trial: [0-9a-f]{12} ", finished_run.stdout, re.MULTILINE)
    assert single == f"the same in one file: {finished_run.out / 'report' / 'report.html'}"
    assert "(SIMULATED)" in finished_run.stderr
    steps = re.findall(r"\[(\d+)/(\d+)\] (\w+)", finished_run.stderr)
    assert steps[0][2] == "panel"
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    assert {int(total) for _, total, _ in steps} == {len(steps)}
    for noise in ("nanobind", "SupersessionWarning", "BetaWarning", "Traceback"):
        assert noise not in finished_run.stdout + finished_run.stderr


def test_read_files(finished_run: FinishedRun, tmp_path: Path) -> None:
    days = ("--from", "2022-05-01", "--to", "2022-05-03")
    frames = {}
    for ending, load in (("parquet", pl.read_parquet), ("csv", pl.read_csv), ("json", pl.read_json)):
        file = tmp_path / f"kpis.{ending}"
        done = finished_run.command("majors-alts", "read", "kpis", *days, "--out", str(file))
        assert done.stdout.strip() == str(file)
        frames[ending] = load(file)
    stored = majors_alts_pipeline.read("kpis", "2022-05-01", date(2022, 5, 3), artifacts=finished_run.out).collect()
    assert_frame_equal(frames["parquet"], stored)
    assert stored.schema == TABLES["kpis"].schema
    assert {frame.height for frame in frames.values()} == {3 * 7}
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".csv", ".json", ".parquet"]
    again = finished_run.command(
        "majors-alts", "read", "kpis", "--artifacts", str(finished_run.out), MAJORS_ALTS_OUT=""
    )
    assert "always_on" in again.stdout


def test_read_refuses_in_one_line(finished_run: FinishedRun, tmp_path: Path) -> None:
    def refusal(*words: str) -> str:
        error = finished_run.command("majors-alts", "read", *words, status=1).stderr
        assert "Traceback" not in error
        return error

    assert "of the 178 days asked for are not stored" in refusal("betas", "--from", "2022-01-01", "--to", "2022-06-27")
    after = refusal("betas", "--from", "2031-01-01")
    assert f"betas is stored from {RUN_FIRST} to {RUN_LAST} under" in after
    assert "2031-01-01 is after it" in after
    assert "2021-12-31 is before it" in refusal("betas", "--to", "2021-12-31")
    assert "2022-05-01, is before the first, 2022-05-03" in refusal(
        "betas", "--from", "2022-05-03", "--to", "2022-05-01"
    )
    assert "no table 'beta'; tables: panel, universe" in refusal("beta")
    assert "nothing stored under" in refusal("betas", "--artifacts", str(tmp_path / "none"))
    assert "must be .parquet, .csv or .json" in refusal("betas", "--out", str(tmp_path / "betas.xlsx"))
    assert not list(tmp_path.iterdir())


def test_read_list_shows_columns_and_units(finished_run: FinishedRun) -> None:
    listed = finished_run.command("majors-alts", "read", "--list").stdout
    for words in ("betas", "beta_btc", "return per return", "regime_model", "fraction of NAV"):
        assert words in listed


def test_signals(finished_run: FinishedRun) -> None:
    document = json.loads(finished_run.command("majors-alts", "signals", "--json").stdout)
    assert (document["date"], document["simulated"]) == (RUN_LAST.isoformat(), True)
    stored = majors_alts_pipeline.read("positions", RUN_LAST, RUN_LAST, artifacts=finished_run.out).collect()
    targets = stored.filter(pl.col("account") == "regime", pl.col("target_weight") != 0)
    shown = {row["asset_id"]: row["target_weight"] for row in document["decisions"] if row["target_weight"]}
    assert shown == dict(targets.select("asset_id", "target_weight").iter_rows())
    printed = finished_run.command("majors-alts", "signals").stdout
    assert printed.startswith(f"SIMULATED. Decision at the close of {RUN_LAST} UTC: {document['regime']}")
    assert f"the data are {document['data_age_days']} days old" in printed
    assert "run `majors-alts run` first" in finished_run.command(
        "majors-alts", "signals", "--artifacts", str(finished_run.folder / "none"), status=1
    ).stderr  # fmt: skip


def test_signals_of_a_flat_day(finished_run: FinishedRun, tmp_path: Path) -> None:
    document = json.loads((finished_run.out / "signals.json").read_text()) | {"decisions": [], "simulated": False}
    (tmp_path / "signals.json").write_text(json.dumps(document))
    printed = finished_run.command("majors-alts", "signals", "--artifacts", str(tmp_path)).stdout
    assert printed.startswith("Decision at the close of")
    assert "flat: no position is held" in printed


def test_signals_without_an_order_say_so(finished_run: FinishedRun, tmp_path: Path) -> None:
    held = {"asset_id": "BTC", "leg": "major", "weight": 0.5, "order_usd": None}
    document = json.loads((finished_run.out / "signals.json").read_text())
    document |= {"decisions": [held], "trades": False, "data_age_days": 1}
    (tmp_path / "signals.json").write_text(json.dumps(document))
    printed = finished_run.command("majors-alts", "signals", "--artifacts", str(tmp_path)).stdout
    assert "no orders: the book is left to drift" in printed
    assert "days old" not in printed


def test_report_is_rebuilt_and_stamped(finished_run: FinishedRun) -> None:
    page = finished_run.out / "report" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert str(page) in finished_run.command("majors-alts", "report").stdout
    assert b"SIMULATED" in before
    assert page.read_bytes() == before


def test_last_day(finished_run: FinishedRun) -> None:
    newest = pl.read_parquet(finished_run.lake / "fact_price.parquet")["date"].max()
    assert finished_run.command("majors-alts", "last-day").stdout.strip() == str(newest)


def test_check_lake_says_usable_or_not(finished_run: FinishedRun, tmp_path: Path) -> None:
    before = hashes(finished_run.lake)
    good = finished_run.command("majors-alts", "check-lake", "--out", str(tmp_path / "findings.parquet"))
    assert "(SIMULATED)" in good.stdout
    assert "usable: no ERROR finding" in good.stdout
    assert "message" in pl.read_parquet(tmp_path / "findings.parquet").columns
    bad = tmp_path / "lake"
    shutil.copytree(finished_run.lake, bad)
    prices = pl.read_parquet(bad / "fact_price.parquet")
    pl.concat([prices, prices.tail(1)]).write_parquet(bad / "fact_price.parquet")
    found = finished_run.command("majors-alts", "check-lake", "--lake", str(bad), status=1)
    assert "NOT USABLE: 1 ERROR finding(s)" in found.stdout
    assert "duplicate_keys" in found.stdout
    assert "Traceback" not in found.stderr
    assert hashes(finished_run.lake) == before


def test_two_studies_side_by_side_leave_a_write_protected_lake_alone(finished_run: FinishedRun, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(finished_run.lake, lake)
    # Another lake, so that the two studies differ: every price of one alt doubled.
    prices = pl.read_parquet(lake / "fact_price.parquet")
    last = prices["asset_id"].max()
    doubled = pl.when(pl.col("asset_id") == last).then(pl.col("close") * 2).otherwise("close")
    prices.with_columns(doubled.alias("close")).write_parquet(lake / "fact_price.parquet")
    for path in (*lake.rglob("*"), lake):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before, first = hashes(lake), hashes(finished_run.out)
    words = ("majors-alts", "run", "--lake", str(lake), "--out", str(tmp_path / "out"), *SHORT)
    done = run_command(*words, environment=other_home(finished_run, tmp_path))
    assert hashes(lake) == before
    assert hashes(finished_run.out) == first
    here = majors_alts_pipeline.read("panel", ONE_DAY, ONE_DAY, artifacts=tmp_path / "out").collect()
    there = majors_alts_pipeline.read("panel", ONE_DAY, ONE_DAY, artifacts=finished_run.out).collect()
    assert not here.equals(there)
    assert "SIMULATED" in done.stdout
    mixed = run_command(
        "majors-alts", "report", "--lake", str(lake), "--out", str(finished_run.out),
        environment=finished_run.environment, status=1,
    )  # fmt: skip
    assert "were made from" in mixed.stderr
    assert "Traceback" not in mixed.stderr
    for path in (lake, *lake.rglob("*")):
        path.chmod(0o755)


@pytest.mark.parametrize("kind", ["duckdb", "partitioned"])
def test_other_kinds_of_lake_give_the_same_rows(finished_run: FinishedRun, tmp_path: Path, kind: str) -> None:
    lake = tmp_path / ("lake.duckdb" if kind == "duckdb" else "lake")
    until = pl.col("date") <= ONE_DAY
    tables = sorted(finished_run.lake.glob("*.parquet"))
    if kind == "duckdb":
        with duckdb.connect(str(lake)) as database:
            for table in tables:
                database.execute(f"create table {table.stem} as from '{table}'")
    else:
        for table in tables:
            rows = pl.read_parquet(table)
            if "date" not in rows.columns:
                (lake / table.stem).mkdir(parents=True)
                rows.write_parquet(lake / table.stem / "part-0.parquet")
                continue
            for (year, month), part in rows.group_by(pl.col("date").dt.year(), pl.col("date").dt.month().alias("m")):
                folder = lake / table.stem / f"year={year}" / f"month={month}"
                folder.mkdir(parents=True)
                part.write_parquet(folder / "part-0.parquet")
    before = hashes(tmp_path)
    out = tmp_path / "out"
    words = ("majors-alts", "run", "--lake", str(lake), "--out", str(out), *SHORT)
    done = run_command(*words, environment=other_home(finished_run, tmp_path))
    assert f"report: {out / 'report' / 'index.html'}" in done.stdout
    assert {
        name: digest for name, digest in hashes(tmp_path).items() if not name.startswith(("out/", "home/"))
    } == before
    same = majors_alts_pipeline.read("panel", RUN_FIRST, ONE_DAY, artifacts=finished_run.out).filter(until).collect()
    assert_frame_equal(majors_alts_pipeline.read("panel", artifacts=out).collect(), same, check_exact=True)


def test_prune_keeps_results_and_the_newest_runs(finished_run: FinishedRun, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished_run.environment["DAGSTER_HOME"], home)
    again = ("dagster", "asset", "materialize", "--select", "signals", "-m", "majors_alts_pipeline.definitions")
    finished_run.command(*again, DAGSTER_HOME=str(home))
    results = hashes(finished_run.out)
    prune = ("majors-alts", "prune", "--keep", "1")
    assert finished_run.command(*prune, DAGSTER_HOME=str(home)).stdout.strip() == "deleted the logs of 1 runs"
    assert finished_run.command(*prune, DAGSTER_HOME=str(home)).stdout.strip() == "deleted the logs of 0 runs"
    with sqlite3.connect(next(home.rglob("runs.db"))) as runs:
        assert runs.execute("select count(*) from runs").fetchone() == (1,)
    logs = [path for path in home.rglob("index.db-wal") if path.stat().st_size]
    assert logs == [], "the compacted database must not lie twice on the disk"
    assert hashes(finished_run.out) == results


def test_a_lake_is_not_written_over_something_else(finished_run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    small = ("--alts", "12", "--days", "60")
    said = finished_run.command("majors-alts", "simulate-lake", str(tmp_path), *small, status=1).stderr
    assert "Traceback" not in said
    assert "is not a simulated lake" in said
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_bad_words_end_in_one_line(finished_run: FinishedRun, tmp_path: Path) -> None:
    def error(*words: str, status: int = 1) -> str:
        said = finished_run.command("majors-alts", *words, status=status).stderr
        assert "Traceback" not in said
        return said

    assert "not a day" in error("run", "--from", "yesterday", status=2)
    assert "lies before --from" in error("run", "--from", "2022-03-02", "--to", "2022-03-01")
    assert "holds complete days" in error("run", "--to", "2031-01-01")
    assert str(tmp_path / "nowhere") in error("run", "--lake", str(tmp_path / "nowhere"))
    (tmp_path / "config.yaml").write_text("evaluation: {bootstrap_repetitions: 100}\n")
    assert "bootstrap_repetitions" in error("run", "--config", str(tmp_path / "config.yaml"))
