"""Months of a daily table copied into one file each: a reader of ten years opens 120 files instead of 3,650.

    <cache>/months/<table>/YYYY-MM-01.parquet

Belongs here: a memory of what the day files hold, which may be deleted at any time. The day files alone are the
result: a month counts only while size, time stamp and inode of each of its day files are those it was copied
from. No Dagster here.
"""

from __future__ import annotations

import calendar
import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from itertools import groupby
from pathlib import Path

import polars as pl

FileState = tuple[int, int, int]
"""Size in bytes, modification time in ns, inode: changes whenever a file is replaced."""

_KEY = "majors_alts_days"
_log = logging.getLogger(__name__)
_serial = itertools.count()


def file_state(path: Path) -> FileState:
    """State of a file as it is now."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass(frozen=True)
class DayFile:
    """One day as a month remembers it.

    Attributes:
        state: of the day's file.
        stamp: the stamp in its footer, as text.
    """

    state: FileState
    stamp: str


def complete_months(days: Mapping[date, FileState]) -> Iterator[list[date]]:
    """Yield the days of each calendar month all of whose days are given."""
    for (year, month), group in groupby(sorted(days), key=lambda day: (day.year, day.month)):
        found = list(group)
        if len(found) == calendar.monthrange(year, month)[1]:
            yield found


class Months:
    """Month files under one folder, of one directory of results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[FileState, dict[date, DayFile]]] = {}

    def path(self, table: str, day: date) -> Path:
        """File of the month of `day`."""
        return self._folder / table / f"{day.replace(day=1).isoformat()}.parquet"

    def held(self, table: str, states: Mapping[date, FileState]) -> dict[date, DayFile]:
        """Days whose month is wholly among `states`, is held, and still agrees with every day file."""
        found: dict[date, DayFile] = {}
        for days in complete_months(states):
            known = self._read(self.path(table, days[0]))
            if all(day in known and known[day].state == states[day] for day in days):
                found |= known
        return found

    def keep(self, table: str, days: Mapping[date, DayFile], rows: pl.DataFrame) -> None:
        """Copy one complete month; a disk that refuses costs time later, never a result."""
        path = self.path(table, min(days))
        footer = {day.isoformat(): [*kept.state, kept.stamp] for day, kept in days.items()}
        buffer = BytesIO()
        rows.write_parquet(buffer, compression="lz4", metadata={_KEY: json.dumps(footer)})
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.{next(_serial)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(buffer.getbuffer())
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):  # Where nothing can be written there may be nothing to remove either.
                temporary.unlink()
            _log.warning("cannot keep the month of %s %s under %s: %s", table, min(days), self._folder, error)

    def _read(self, path: Path) -> dict[date, DayFile]:
        try:
            state = file_state(path)
        except OSError:
            return {}
        if path not in self._known or self._known[path][0] != state:
            self._known[path] = state, _days_of(path)
        return self._known[path][1]


def _days_of(path: Path) -> dict[date, DayFile]:
    try:
        footer = json.loads(pl.read_parquet_metadata(path)[_KEY])
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError) as error:
        _log.warning("%s cannot be used (%s); the day files are read instead", path, error)
        return {}
    return {
        date.fromisoformat(day): DayFile((size, time, inode), stamp)
        for day, (size, time, inode, stamp) in footer.items()
    }
