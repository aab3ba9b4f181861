"""TableStore: whole days or nothing, the same bytes again, and mixtures named."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
import toy_stages
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.orchestration import storage
from majors_alts_pipeline.orchestration.storage import (
    MixedStudyError,
    Stamp,
    StorageError,
    TableStore,
    contract_digest,
)
from majors_alts_pipeline.tables import TABLES, ContractError

START = date(2024, 1, 1)
STAMP = Stamp("study", "settings", "lake", "code", False, contract_digest(TABLES["kpis"]))


def window(first: int, last: int) -> Window:
    return Window(START + timedelta(days=first), START + timedelta(days=last))


def stamps(days: Window, stamp: Stamp = STAMP, **change: object) -> dict[date, Stamp]:
    changed = Stamp(**{**vars(stamp), **change})  # type: ignore[arg-type]
    return dict.fromkeys(days.days(), changed)


def write(store: TableStore, days: Window, **change: object) -> dict[date, int]:
    return store.write("kpis", days, toy_stages.rows("kpis", days), stamps(days, **change))


@given(first=st.integers(0, 30), length=st.integers(1, 40), table=st.sampled_from(sorted(TABLES)))
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, first: int, length: int, table: str) -> None:
    store = TableStore(tmp_path_factory.mktemp("store"))
    days = window(first, first + length - 1)
    rows = toy_stages.rows(table, days)
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=first)
    sizes = store.write(table, days, shuffled, stamps(days))
    assert list(sizes) == days.days() == store.days(table)
    assert sum(sizes.values()) == rows.height
    assert_frame_equal(store.read(table, days), rows, check_exact=True)
    middle = Window(days.start, days.days()[length // 2])
    assert_frame_equal(store.read(table, middle), middle.keep(rows), check_exact=True)


def test_range_and_days_write_the_same_bytes(tmp_path: Path) -> None:
    whole, single = TableStore(tmp_path / "a"), TableStore(tmp_path / "b")
    days = window(0, 20)
    write(whole, days)
    for day in days.days():
        write(single, Window(day, day))
    for day in days.days():
        assert whole.path("kpis", day).read_bytes() == single.path("kpis", day).read_bytes()


def test_empty_day_is_an_empty_file_with_the_schema(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    sizes = write(store, window(0, 13))
    empty = next(day for day, rows in sizes.items() if rows == 0)
    frame = pl.read_parquet(store.path("kpis", empty))
    assert frame.height == 0
    assert frame.schema == TABLES["kpis"].schema


def test_any_parquet_tool_reads_it(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    sizes = write(store, window(0, 9))
    pattern = str(store.folder("kpis") / "*.parquet")
    with duckdb.connect(":memory:") as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM read_parquet('{pattern}')").fetchone()  # type: ignore[misc]
    assert count == sum(sizes.values())


def test_rows_outside_the_window_are_refused(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    with pytest.raises(StorageError, match=r"kpis: .* outside the window 2024-01-01 to 2024-01-05 .*2024-01-06"):
        store.write("kpis", window(0, 4), toy_stages.rows("kpis", window(0, 8)), stamps(window(0, 8)))
    assert store.days("kpis") == []


def test_rows_that_break_the_contract_are_refused(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    rows = toy_stages.rows("kpis", window(0, 4))
    with pytest.raises(ContractError, match=r"kpis: duplicate key"):
        store.write("kpis", window(0, 4), pl.concat([rows, rows]), stamps(window(0, 4)))
    assert store.days("kpis") == []


def test_missing_days(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    write(store, window(2, 4))
    assert store.missing("kpis", window(1, 5)) == [START + timedelta(days=1), START + timedelta(days=5)]
    assert store.read("kpis", window(8, 9)).schema == TABLES["kpis"].schema


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": "other"}, "another configuration"),
        ({"lake": "other"}, "lake facts that have since been revised"),
        ({"simulated": True}, "simulated against real"),
        ({"contract": "other"}, "older table contract"),
    ],
)
def test_a_mixture_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    store = TableStore(tmp_path)
    write(store, window(0, 9))
    write(store, window(3, 5), **change)
    with pytest.raises(MixedStudyError) as caught:
        store.check_consistent("kpis", window(0, 9), stamps(window(0, 9)))
    message = str(caught.value)
    for expected in (
        "kpis",
        "3 days (2024-01-04, 2024-01-05, 2024-01-06)",
        words,
        "rematerialise",
        "MAJORS_ALTS_OUT",
    ):
        assert expected in message
    assert store.check_consistent("kpis", window(6, 9), stamps(window(6, 9))) == []


def test_another_code_version_only_warns(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    write(store, window(0, 9))
    write(store, window(3, 5), code="newer", study="newer")
    (warning,) = store.check_consistent("kpis", window(0, 9), stamps(window(0, 9)))
    assert "another code version" in warning
    assert "3 days" in warning


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "foreign", "pages"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, damage: str) -> None:
    store = TableStore(tmp_path)
    write(store, window(0, 5))
    day = START + timedelta(days=2)
    path = store.path("kpis", day)
    content = path.read_bytes()
    if damage == "foreign":
        pl.DataFrame({"x": [1]}).write_parquet(path)
    else:
        damaged = {
            "truncate": content[: len(content) // 2],
            "garbage": b"no parquet here",
            "empty": b"",
            "pages": b"PAR1" + b"\xff" * 400 + content[404:],
        }[damage]
        path.write_bytes(damaged)
    looks = store.read if damage == "pages" else store.stamps
    with pytest.raises(StorageError, match=r"2024-01-03\.parquet.*rematerialise.*--partition 2024-01-03"):
        looks("kpis", window(0, 5))
    if damage != "pages":
        with pytest.raises(StorageError, match="kpis"):
            store.read("kpis", window(0, 5))
    write(store, Window(day, day))
    assert path.read_bytes() == content


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TableStore(tmp_path)
    write(store, window(0, 4))
    before = {path.name: path.read_bytes() for path in store.folder("kpis").iterdir()}
    written = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        written(path, bytes(data)[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"kpis 2024-01-01: .*the disk is full.*intact"):
        write(store, window(0, 8), settings="new")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in store.folder("kpis").iterdir()} == before


def test_a_really_full_disk(tmp_path: Path) -> None:
    """On a real file system of 256 kB, where mounting is allowed."""
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        store = TableStore(mount)
        with pytest.raises(StorageError, match="the disk is full"):
            write(store, window(0, 300))
        days = store.days("kpis")
        assert days == window(0, len(days) - 1).days()
        assert_frame_equal(
            store.read("kpis", window(0, len(days) - 1)), toy_stages.rows("kpis", window(0, len(days) - 1))
        )
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"kpis .*part of the path is a file.*MAJORS_ALTS_OUT"):
        write(TableStore(tmp_path / "file"), window(0, 4))


def test_stale_temporaries_are_removed_and_living_ones_left(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    write(store, window(0, 1))
    folder = store.folder("kpis")
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead, old, living = (
        folder / f".2024-01-01.{pid}.{serial}.tmp"
        for pid, serial in ((finished.pid, 0), (os.getpid(), 1), (os.getpid(), 2))
    )
    for path in (dead, old, living):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - storage.STALE_SECONDS - 1))
    write(store, window(5, 5))
    assert not dead.exists()
    assert not old.exists()
    assert living.exists()
    assert store.days("kpis") == [START, START + timedelta(days=1), START + timedelta(days=5)]


def test_footers_of_many_days_are_read_fast(tmp_path: Path) -> None:
    store = TableStore(tmp_path)
    days = window(0, 1499)
    write(store, days)
    started = time.perf_counter()
    assert len(store.stamps("kpis", days)) == 1500
    # 0.1 s alone; the bound leaves room for a busy machine.
    assert time.perf_counter() - started < 2.0


WRITER = """
import sys
from datetime import date, timedelta
from pathlib import Path
sys.path.insert(0, {tests!r})
import toy_stages
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.orchestration.storage import Stamp, TableStore, contract_digest
from majors_alts_pipeline.tables import TABLES

start = date(2024, 1, 1)
days = Window(start + timedelta(days=int(sys.argv[2])), start + timedelta(days=int(sys.argv[3])))
store = TableStore(Path(sys.argv[1]))
rows = toy_stages.rows("kpis", days)
print("ready", flush=True)
for line in sys.stdin:
    stamp = Stamp("study", line.strip(), "lake", "code", False, contract_digest(TABLES["kpis"]))
    store.write("kpis", days, rows, dict.fromkeys(days.days(), stamp))
    print("done", flush=True)
"""


def _writer(root: Path, first: int, last: int) -> subprocess.Popen[str]:
    code = WRITER.format(tests=str(Path(__file__).parent))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root), str(first), str(last)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


# Forks one writer per line: Polars is not used before the fork, so its threads start in the child.
ZYGOTE = """
import os, sys
sys.path.insert(0, {tests!r})
import toy_stages
from datetime import date, timedelta
from pathlib import Path
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.orchestration.storage import Stamp, TableStore, contract_digest
from majors_alts_pipeline.tables import TABLES

days = Window(date(2024, 1, 1), date(2024, 1, 1) + timedelta(days=int(sys.argv[2])))
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        store, rows = TableStore(Path(sys.argv[1])), toy_stages.rows("kpis", days)
        stamp = Stamp("study", line.strip(), "lake", "code", False, contract_digest(TABLES["kpis"]))
        print("writing", os.getpid(), flush=True)
        store.write("kpis", days, rows, dict.fromkeys(days.days(), stamp))
        os._exit(0)
    os.waitpid(child, 0)
    print("gone", child, flush=True)
"""
KILLS = 100


@pytest.mark.slow
def test_a_hundred_kills_leave_whole_days(tmp_path: Path) -> None:
    """kill -9 at random moments of a write: every file is whole, old or new, and the next write heals all."""
    store, days, luck = TableStore(tmp_path), window(0, 149), random.Random(7)
    rows = toy_stages.rows("kpis", days)
    write(store, days, settings="old")
    zygote = subprocess.Popen(
        [sys.executable, "-c", ZYGOTE.format(tests=str(Path(__file__).parent)), str(tmp_path), "149"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    mixtures, duration = 0, 0.0
    for number in range(KILLS + 1):
        zygote.stdin.write(f"new{number}\n")
        zygote.stdin.flush()
        word, pid = zygote.stdout.readline().split()
        assert word == "writing"
        began = time.perf_counter()
        if number:
            time.sleep(luck.uniform(0.0, duration))
            with contextlib.suppress(ProcessLookupError):  # It may have finished first.
                os.kill(int(pid), signal.SIGKILL)
        assert zygote.stdout.readline().split() == ["gone", pid]
        # The first write is left to finish: kills are spread over the time one takes here and now.
        duration = duration or time.perf_counter() - began
        assert store.missing("kpis", days) == []
        assert_frame_equal(store.read("kpis", days), rows, check_exact=True)
        origins = {stamp.settings for stamp in store.stamps("kpis", days).values()}
        mixtures += len(origins) > 1
        if number and origins == {f"new{number}"}:
            duration *= 0.8  # Killed too late: a write takes less time than the first one did.
    zygote.stdin.close()
    assert zygote.wait(timeout=30) == 0
    # Many kills fell into the middle of a write, else the test would prove little.
    assert mixtures > KILLS // 4
    write(store, days)
    assert store.check_consistent("kpis", days, stamps(days)) == []
    assert [path.name for path in store.folder("kpis").iterdir() if path.suffix == ".tmp"] == []


def test_four_writers_on_overlapping_ranges(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, first, first + 99) for first in (0, 25, 50, 75)]
    for number, writer in enumerate(writers):
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "ready\n"
        writer.stdin.write(f"writer{number}\n" * 5)
        writer.stdin.close()
    for writer in writers:
        assert writer.wait(timeout=60) == 0
    store, days = TableStore(tmp_path), window(0, 174)
    assert_frame_equal(store.read("kpis", days), toy_stages.rows("kpis", days), check_exact=True)
    assert len(store.stamps("kpis", days)) == days.n_days
    assert [path.name for path in store.folder("kpis").iterdir() if path.suffix == ".tmp"] == []
