"""The one daily partitions definition, and how the look-back of a stage becomes a partition mapping.

Belongs here: days and how assets depend across them. Does not belong here: what is computed.
https://docs.dagster.io/guides/build/partitions-and-backfills
"""

import json
import logging
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.stages import INCEPTION, Input

DEFAULT_FIRST_DAY = date(2022, 1, 1)
"""First partition while there is no lake yet; the simulated lake starts here."""

_log = logging.getLogger(__name__)

# Longer than any lake: Dagster cuts it at the first partition.
_ALL_DAYS = 20_000


def daily_partitions(paths: Paths, settings: Settings) -> dg.DailyPartitionsDefinition:
    """UTC days from the lake's first day on, without an end: a new day needs no reload.

    A simulated lake has an end, perhaps beyond today, and so have its partitions.
    """
    first, last = lake_days(paths, settings)
    if last is None:
        return dg.DailyPartitionsDefinition(start_date=first.isoformat())
    beyond = (last - datetime.now(UTC).date()).days + 1
    return dg.DailyPartitionsDefinition(
        start_date=first.isoformat(),
        end_date=(last + timedelta(days=1)).isoformat(),
        end_offset=max(beyond, 0),
    )


def mapping(item: Input, settings: Settings) -> dg.TimeWindowPartitionMapping:
    """Map to the upstream days that `item` declares."""
    days = item.days(settings)
    return dg.TimeWindowPartitionMapping(
        start_offset=-_ALL_DAYS if days == INCEPTION else -days,
        end_offset=-item.lag,
        allow_nonexistent_upstream_partitions=True,
    )


def window_of(keys: dg.PartitionKeyRange) -> Window:
    """Days of a partition key range, both ends included."""
    return Window(date.fromisoformat(keys.start), date.fromisoformat(keys.end))


def lake_days(paths: Paths, settings: Settings) -> tuple[date, date | None]:
    """First day of the lake in use and, of a simulated one, its last; remembered under ``cache/``.

    Definitions are loaded often, hence the memory. A lake that cannot be read must not keep the UI from
    starting: a warning and `DEFAULT_FIRST_DAY`; the first run says what is wrong with it.
    """
    if paths.lake is None and not paths.simulated_lake.exists():
        return DEFAULT_FIRST_DAY, None
    files = _files(paths.lake_location)
    key = json.dumps([paths.lake_location, settings.digest(("lake",)), files])
    memory = paths.cache / "lake_days.json"
    known = _remembered(memory)
    if not files or known.get("key") != key:
        from majors_alts_pipeline.lake.contracts import LakeError

        try:
            known = _read_days(paths, settings, key)
        except LakeError as error:
            _log.warning("partitions start on %s because the lake cannot be read: %s", DEFAULT_FIRST_DAY, error)
            return DEFAULT_FIRST_DAY, None
        _remember(memory, known)
    return date.fromisoformat(known["first"]), date.fromisoformat(known["last"]) if known["last"] else None


def _read_days(paths: Paths, settings: Settings, key: str) -> dict[str, str]:
    from majors_alts_pipeline.lake.reader import open_lake

    lake = open_lake(paths.lake_location, settings.lake)
    last = lake.last_day().isoformat() if lake.simulated else ""
    return {"key": key, "first": lake.first_day().isoformat(), "last": last}


def _files(location: str) -> list[tuple[str, int, int]]:
    path = Path(location)
    found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in found]


def _remembered(memory: Path) -> dict[str, str]:
    try:
        return json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}


def _remember(memory: Path, days: dict[str, str]) -> None:
    scratch = memory.with_name(f".{memory.name}.{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(days))
        os.replace(scratch, memory)
    except OSError as error:
        _log.warning("cannot remember the lake's days in %s: %s", memory, error)
