"""Daily tables on disk: one Parquet file per table and UTC day, replaced atomically, stamped with its origin.

    <root>/tables/<table>/YYYY-MM-DD.parquet

No Dagster here. A file is a function of its rows and its stamp, so a re-run writes identical bytes, and any
Parquet or DuckDB tool reads it without this code. A killed run leaves whole days, old or new; which of the
two each one is can be told by its stamp.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.orchestration.months import DayFile, FileState, Months, complete_months, file_state
from majors_alts_pipeline.tables import TABLES, TableContract

STAMP_KEY = "majors_alts"
STALE_SECONDS = 3600.0
_TEMPORARY = re.compile(r"^\.(?P<day>\d{4}-\d\d-\d\d)\.(?P<pid>\d+)\.\d+\.tmp$")
_DAY_FILE = re.compile(r"^\d{4}-\d\d-\d\d\.parquet$")
# Footers are small and their reading waits on the disk, so two threads pay even on two cores.
_FOOTER_THREADS = 2
_NAMED_DAYS = 3
_serial = itertools.count()


class StorageError(ValueError):
    """Results cannot be written or read; the message names table, day, cause and remedy."""


class MixedStudyError(StorageError):
    """Stored days were made from another configuration, other lake facts or an older table contract."""


@dataclass(frozen=True)
class Stamp:
    """Where one day of one table comes from.

    Attributes:
        study: id of the study: settings, lake and code together.
        settings: digest of the settings that can change the stage's rows.
        lake: fingerprint of the lake's facts up to the day.
        code: code version.
        simulated: whether the lake is a simulated one.
        contract: digest of the table's columns and types.
    """

    study: str
    settings: str
    lake: str
    code: str
    simulated: bool
    contract: str

    def encode(self) -> str:
        """JSON text kept in the file's key-value metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def decode(cls, text: str) -> Stamp:
        """Inverse of `encode`."""
        return cls(**json.loads(text))


# What makes a stored day unusable for a study, in words. A differing `code` only warns; `study` also changes
# when the lake grows by a day, which changes nothing before it.
_DECISIVE = {
    "settings": "another configuration",
    "lake": "lake facts that have since been revised",
    "simulated": "a lake of the other kind (simulated against real)",
    "contract": "an older table contract",
}


def contract_digest(contract: TableContract) -> str:
    """12 hex digits identifying the columns, types and key of a table."""
    described = [contract.key, [(name, str(column.dtype)) for name, column in contract.columns.items()]]
    return sha256(json.dumps(described).encode()).hexdigest()[:12]


class TableStore:
    """Daily tables under ``root/tables``.

    Args:
        root: directory of the results; created at the first write.
        contracts: tables it may hold; those of the pipeline by default.
        cache: directory for copies by month, which make reading years fast; None for none.
    """

    def __init__(self, root: Path, contracts: Mapping[str, TableContract] = TABLES, cache: Path | None = None) -> None:
        self.root = Path(root)
        self._contracts = contracts
        own = sha256(str(self.root.absolute()).encode()).hexdigest()[:12]
        self._months = None if cache is None else Months(cache / "months" / own)

    def folder(self, table: str) -> Path:
        """Directory of a table's files.

        Raises:
            StorageError: no such table.
        """
        if table not in self._contracts:
            raise StorageError(f"no table {table!r}; tables: {', '.join(self._contracts)}")
        return self.root / "tables" / table

    def path(self, table: str, day: date) -> Path:
        """File of one day."""
        return self.folder(table) / f"{day.isoformat()}.parquet"

    # ---- writing ----------------------------------------------------------------------------------------

    def write(self, table: str, window: Window, frame: pl.DataFrame, stamps: Mapping[date, Stamp]) -> dict[date, int]:
        """Replace every day of `window` with the rows of `frame`; a day without rows gets an empty file.

        Days are written in order, each atomically: whatever stops the write leaves whole files.

        Args:
            table: name of the table.
            window: days replaced.
            frame: rows (n, columns of the contract), all inside `window`.
            stamps: origin of each day of `window`.

        Returns:
            Rows written per day.

        Raises:
            ContractError: the rows break the table's contract.
            StorageError: a row lies outside the window, or the disk refuses the write.
        """
        frame = self._contracts[table].conform(frame)
        sizes = self._rows_per_day(table, window, frame)
        folder = self.folder(table)
        day = window.start
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_stale_temporaries(folder)
            offset = 0
            written: dict[date, DayFile] = {}
            for day, size in sizes.items():
                text = stamps[day].encode()
                written[day] = DayFile(_replace(folder, day, frame.slice(offset, size), text), text)
                offset += size
        except OSError as error:
            raise StorageError(_write_failure(table, day, folder, error)) from error
        self._keep_months(table, written, sizes, frame)
        return sizes

    def _keep_months(
        self, table: str, days: Mapping[date, DayFile], sizes: Mapping[date, int], frame: pl.DataFrame
    ) -> None:
        if self._months is None:
            return
        begins = dict(zip(sizes, itertools.accumulate(sizes.values(), initial=0), strict=False))
        for month in complete_months({day: kept.state for day, kept in days.items()}):
            rows = frame.slice(begins[month[0]], sum(sizes[day] for day in month))
            self._months.keep(table, {day: days[day] for day in month}, rows)

    @staticmethod
    def _rows_per_day(table: str, window: Window, frame: pl.DataFrame) -> dict[date, int]:
        counts = dict(frame.group_by("date").len().rows())
        sizes = {day: counts.pop(day, 0) for day in window.days()}
        if counts:
            raise StorageError(
                f"{table}: {sum(counts.values())} rows lie outside the window {window.start} to {window.end} "
                f"({_list_days(sorted(counts))}); the stage must return the rows of its window only"
            )
        return sizes

    def remove(self, table: str, days: Iterable[date]) -> None:
        """Delete the files of `days`.

        Raises:
            StorageError: the directory may not be written.
        """
        for day in days:
            try:
                self.path(table, day).unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(_write_failure(table, day, self.folder(table), error)) from error

    # ---- reading ----------------------------------------------------------------------------------------

    def days(self, table: str) -> list[date]:
        """List the stored days in order."""
        try:
            names = os.listdir(self.folder(table))
        except FileNotFoundError:
            return []
        return sorted(date.fromisoformat(name[:10]) for name in names if _DAY_FILE.match(name))

    def missing(self, table: str, window: Window) -> list[date]:
        """Days of `window` that are not stored."""
        stored = set(self.days(table))
        return [day for day in window.days() if day not in stored]

    def scan(self, table: str, window: Window) -> pl.LazyFrame:
        """Scan the stored rows of `window`, sorted by the table's key; days not stored are left out."""
        states = self._states(table, window)
        if not states:
            return self._contracts[table].empty().lazy()
        held = self._held(table, states)
        paths = dict.fromkeys(
            self._months.path(table, day) if self._months and day in held else self.path(table, day) for day in states
        )
        return pl.scan_parquet(list(paths), glob=False, hive_partitioning=False)

    def _states(self, table: str, window: Window) -> dict[date, FileState]:
        first, last = f"{window.start}.parquet", f"{window.end}.parquet"
        try:
            with os.scandir(self.folder(table)) as entries:
                found = [entry for entry in entries if first <= entry.name <= last and _DAY_FILE.match(entry.name)]
                states = [(entry.name, entry.stat()) for entry in found]
        except FileNotFoundError:
            return {}
        return {
            date.fromisoformat(name[:10]): (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            for name, stat in sorted(states, key=lambda state: state[0])
        }

    def _held(self, table: str, states: Mapping[date, FileState]) -> dict[date, DayFile]:
        """Days that need not be opened one by one; a complete month met for the first time is copied."""
        if self._months is None:
            return {}
        held = self._months.held(table, states)
        missing = [month for month in complete_months(states) if month[0] not in held]
        for month in missing:
            self._copy_month(table, month, states)
        return held if not missing else self._months.held(table, states)

    def _copy_month(self, table: str, month: Sequence[date], states: Mapping[date, FileState]) -> None:
        assert self._months is not None
        paths = [self.path(table, day) for day in month]
        try:
            rows = pl.scan_parquet(paths, glob=False, hive_partitioning=False).collect()
        except (pl.exceptions.PolarsError, OSError):
            return  # The reader of the day files meets it too, and says which day and what to do.
        if rows.schema != self._contracts[table].schema:
            return
        stamps = {day: self._stamp(table, day).encode() for day in month}
        now = self._states(table, Window(month[0], month[-1]))
        # A day replaced meanwhile: its rows may be the old or the new ones, so nothing is kept.
        if all(now.get(day) == states[day] for day in month):
            self._months.keep(table, {day: DayFile(states[day], stamps[day]) for day in month}, rows)

    def read(self, table: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read the stored rows of `window`, of `columns` (None: all) only.

        Raises:
            StorageError: a file is truncated, corrupt, or was written under another contract.
        """
        contract = self._contracts[table]
        names = list(contract.schema if columns is None else columns)
        try:
            scan = self.scan(table, window)
            frame = (scan if columns is None else scan.select(names)).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise StorageError(self._read_failure(table, window, error)) from error
        if frame.schema != pl.Schema({name: contract.schema[name] for name in names}):
            raise StorageError(f"{table}: stored columns differ from the contract; {_remedy(window)}")
        return frame

    def stamps(self, table: str, window: Window) -> dict[date, Stamp]:
        """Origin of every stored day of `window`, from the files' footers alone.

        Raises:
            StorageError: a file has no readable footer or no stamp.
        """
        states = self._states(table, window)
        held = self._held(table, states)
        days = [day for day in states if day not in held]
        with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
            opened = dict(zip(days, pool.map(lambda day: self._stamp(table, day), days), strict=True))
        decoded = {text: Stamp.decode(text) for text in {held[day].stamp for day in held}}
        return {day: opened[day] if day in opened else decoded[held[day].stamp] for day in states}

    def _stamp(self, table: str, day: date) -> Stamp:
        path = self.path(table, day)
        try:
            return Stamp.decode(pl.read_parquet_metadata(path)[STAMP_KEY])
        except (pl.exceptions.PolarsError, OSError, KeyError, ValueError, TypeError) as error:
            raise StorageError(
                f"{table}: {path} is truncated, corrupt or not of this pipeline ({_one_line(error)}); "
                f"{_remedy(Window(day, day))}"
            ) from error

    def check_consistent(self, table: str, window: Window, expected: Mapping[date, Stamp]) -> list[str]:
        """Compare what is stored in `window` with what the study expects.

        Args:
            table: name of the table.
            window: days compared; those not stored are passed over.
            expected: stamp each day would get if it were written now.

        Returns:
            Sentences a person should see but that stop nothing: days of another code version.

        Raises:
            MixedStudyError: days come from another configuration, revised lake facts, a lake of the other
                kind, or an older contract. The message names table, days, what differs and the remedy.
            StorageError: a file cannot be read.
        """
        stored = self.stamps(table, window)
        complaints = []
        for field, words in _DECISIVE.items():
            days = [day for day, stamp in stored.items() if getattr(stamp, field) != getattr(expected[day], field)]
            if days:
                complaints.append(f"{len(days)} days ({_list_days(days)}) were made from {words}")
        if complaints:
            raise MixedStudyError(
                f"{table} under {self.root}: {'; '.join(complaints)}. {_remedy(window)}, or keep this "
                "study apart with MAJORS_ALTS_OUT (--out)"
            )
        older = [day for day, stamp in stored.items() if stamp.code != expected[day].code]
        if not older:
            return []
        return [f"{table}: {len(older)} days ({_list_days(older)}) were made by another code version"]

    def _read_failure(self, table: str, window: Window, error: Exception) -> str:
        for day in self.days(table):
            if window.start <= day <= window.end:
                path = self.path(table, day)
                try:
                    pl.read_parquet(path, glob=False, hive_partitioning=False)
                except (pl.exceptions.PolarsError, OSError) as bad:
                    remedy = _remedy(Window(day, day))
                    return f"{table}: {path} cannot be read ({_one_line(bad)}); {remedy}"
        return f"{table}: {_one_line(error)}; {_remedy(window)}"


def remove_stale_temporaries(folder: Path) -> list[Path]:
    """Delete temporary files left behind by killed runs: of processes that are gone, or older than an hour.

    Those of living processes stay: another run may be writing right now.
    """
    removed = []
    for name in os.listdir(folder):
        match = _TEMPORARY.match(name)
        if match and _is_stale(folder / name, int(match["pid"])):
            (folder / name).unlink(missing_ok=True)
            removed.append(folder / name)
    return removed


def _is_stale(path: Path, pid: int) -> bool:
    try:
        old = time.time() - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False
    return old or not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _replace(folder: Path, day: date, rows: pl.DataFrame, stamp: str) -> FileState:
    # Encoded in memory first: a full disk then fails in one place, with an errno, whatever Polars does.
    buffer = BytesIO()
    # Level 1: a third less time than the default level, for files of the same size.
    rows.write_parquet(buffer, compression="zstd", compression_level=1, metadata={STAMP_KEY: stamp})
    temporary = folder / f".{day.isoformat()}.{os.getpid()}.{next(_serial)}.tmp"
    try:
        temporary.write_bytes(buffer.getbuffer())
        # Taken before the rename: afterwards the name may already be another run's file.
        state = file_state(temporary)
        os.replace(temporary, folder / f"{day.isoformat()}.parquet")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return state


def _write_failure(table: str, day: date, folder: Path, error: OSError) -> str:
    cause = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EDQUOT: "the disk quota is used up; free some space",
        errno.EROFS: "the file system is read-only; choose another directory with MAJORS_ALTS_OUT (--out)",
        errno.EACCES: "the directory may not be written; choose another with MAJORS_ALTS_OUT (--out)",
        errno.EPERM: "the directory may not be written; choose another with MAJORS_ALTS_OUT (--out)",
        errno.EEXIST: "part of the path is a file; choose another directory with MAJORS_ALTS_OUT (--out)",
        errno.ENOTDIR: "part of the path is a file; choose another directory with MAJORS_ALTS_OUT (--out)",
    }.get(error.errno or 0, "check the directory")
    return (
        f"{table} {day}: cannot write under {folder}: {_one_line(error)}: {cause} and run again "
        "(days already stored are intact)"
    )


def _remedy(window: Window) -> str:
    days = f"--partition {window.start}" if window.n_days == 1 else f"--partition-range {window.start}...{window.end}"
    return (
        "rematerialise every table from this lake and configuration with `majors-alts run` (whole history), or with "
        f"MAJORS_ALTS_LAKE and MAJORS_ALTS_CONFIG set `dagster asset materialize --select '*' {days}`"
    )


def _list_days(days: Sequence[date] | Iterable[date]) -> str:
    days = list(days)
    if len(days) <= _NAMED_DAYS:
        return ", ".join(map(str, days))
    return f"{days[0]}, {days[1]}, ... {days[-1]}"


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
