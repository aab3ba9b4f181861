"""One study: a lake, a configuration and the code, with the results that belong to them. No Dagster here."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.orchestration.storage import (
    MixedStudyError,
    Stamp,
    StorageError,
    TableStore,
    contract_digest,
)
from majors_alts_pipeline.stages import STAGE_OF_TABLE, all_sections
from majors_alts_pipeline.tables import TABLES

if TYPE_CHECKING:
    from majors_alts_pipeline.lake.reader import LakeSource

Say = Callable[[str], None]


class PartitionError(ValueError):
    """The days asked for are not in the lake."""


class LakeChangedError(ValueError):
    """The lake's files changed while a run was reading them."""


@atexit.register
def _release_duckdb() -> None:
    # DuckDB 2.0 prints pages of "nanobind: leaked" when its modules outlive the interpreter, which Dagster's
    # and Polars' imports make them do. Nothing uses DuckDB after this point.
    for name in [name for name in sys.modules if name.split(".")[0] in {"duckdb", "_duckdb"}]:
        sys.modules.pop(name).__dict__.clear()
    gc.collect()


@cache
def code_version() -> str:
    """12 hex digits identifying the Python sources of the package."""
    package = Path(__file__).resolve().parents[1]
    digest = sha256()
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Study:
    """A lake, a resolved configuration and the code, and the store that holds their results.

    Attributes:
        lake: the lake, open and read-only.
        settings: resolved configuration.
        store: where the results are.
        cache: directory of ephemeral things.
        say: receives one sentence about anything a person should know but that stops nothing.
    """

    lake: LakeSource
    settings: Settings
    store: TableStore
    cache: Path
    say: Say

    @classmethod
    def open(cls, paths: Paths, say: Say) -> Study:
        """Open the study at `paths`; writes the simulated lake first when no lake is configured.

        Raises:
            ConfigError: the configuration cannot be used.
            LakeError: the lake cannot be read.
        """
        settings = load_settings(paths.config)
        store = TableStore(paths.artifacts, cache=paths.cache)
        return cls(configured_lake(paths, settings, say), settings, store, paths.cache, say)

    @cached_property
    def history(self) -> Window:
        """First day of the lake to its last complete day."""
        return Window(self.lake.first_day(), self.lake.last_complete_day())

    @cached_property
    def study_id(self) -> str:
        """12 hex digits of settings, lake and code together."""
        parts = (self.settings.digest(), self.lake_fingerprint, code_version())
        return sha256("/".join(parts).encode()).hexdigest()[:12]

    @cached_property
    def lake_fingerprint(self) -> str:
        """Fingerprint of the lake's facts up to its last complete day."""
        return self._fingerprints[self.history.end]

    @cached_property
    def _fingerprints(self) -> dict[date, str]:
        return dict(self.lake.day_fingerprints(self.cache).select("date", "fingerprint").iter_rows())

    def require(self, window: Window) -> Window:
        """`window`, if the lake has all its days.

        Raises:
            PartitionError: a day lies before the lake's first or after its last complete day.
        """
        held = self.history
        if window.start < held.start or window.end > held.end:
            raise PartitionError(
                f"partitions {window.start} to {window.end}: the lake at {self.lake.location} holds "
                "complete days "
                f"from {held.start} to {held.end}; choose days among them or point MAJORS_ALTS_LAKE to "
                "another lake"
            )
        return window

    def require_own_days(self) -> None:
        """Refuse results that hold days this lake does not know: they were made from another lake.

        Raises:
            MixedStudyError: a table has a stored day before the lake's first price or after its last.
        """
        for table, foreign in self._foreign_days().items():
            raise MixedStudyError(
                f"{table} under {self.store.root}: {len(foreign)} stored days, {foreign[0]} to {foreign[-1]}, are not "
                f"days of the lake at {self.lake.location} ({self.lake.first_day()} to {self.lake.last_day()}): they "
                "were made from another lake. Keep this study apart with MAJORS_ALTS_OUT (--out, make run OUT=...), or "
                f"run the whole history of this lake, which replaces the results under {self.store.root}"
            )

    def require_consistent_outside(self, window: Window) -> None:
        """Refuse to store `window` beside days of another study: nothing may be half replaced.

        Raises:
            MixedStudyError: a stored day outside `window` was made from another configuration, revised facts, a lake
                of the other kind or an older contract.
        """
        held = self.history
        parts = []
        if held.start < window.start:
            parts.append(Window(held.start, window.start - timedelta(days=1)))
        if window.end < held.end:
            parts.append(Window(window.end + timedelta(days=1), held.end))
        for part in parts:
            for table in TABLES:
                self.store.check_consistent(table, part, self.stamps(table, part))

    def drop_foreign_days(self) -> None:
        """Delete, and say so, the days this lake does not know: a run of a whole history replaces what was there.

        Raises:
            StorageError: the directory may not be written.
        """
        foreign = self._foreign_days()
        for table, days in foreign.items():
            self.store.remove(table, days)
        if foreign:
            every = sorted({day for days in foreign.values() for day in days})
            self.say(
                f"replacing the results of another lake under {self.store.root}: {len(every)} days from {every[0]} to "
                f"{every[-1]} were removed; keep two studies with MAJORS_ALTS_OUT (--out, make run OUT=...)"
            )

    def _foreign_days(self) -> dict[str, list[date]]:
        first, last = self.lake.first_day(), self.lake.last_day()
        stored = {table: [day for day in self.store.days(table) if not first <= day <= last] for table in TABLES}
        return {table: days for table, days in stored.items() if days}

    def stamps(self, table: str, window: Window) -> dict[date, Stamp]:
        """Stamp each day of `window` gets when `table` is written for this study."""
        settings = self.settings.digest(all_sections(STAGE_OF_TABLE[table]))
        contract = contract_digest(TABLES[table])
        return {
            day: Stamp(
                study=self.study_id,
                settings=settings,
                lake=self._fingerprints[day],
                code=code_version(),
                simulated=self.lake.simulated,
                contract=contract,
            )
            for day in window.days()
        }

    def findings(self, expected_day: date | None = None) -> pl.DataFrame:
        """Apply the lake's quality rules: (check, severity, table, asset_id, date, value, message).

        Kept under ``cache/`` until the lake, the rules' settings or the code change: a daily increment must
        not judge ten years again.

        Args:
            expected_day: newest day a living lake should hold; None holds tables against the newest price
                only.
        """
        from majors_alts_pipeline.lake.quality import check_lake, findings_frame

        sections = self.settings.digest(("lake", "quality", "universe"))
        identity = sorted(self.lake.identity().items())
        key = repr((self.lake.location, identity, sections, code_version(), expected_day))
        path = self.cache / "findings" / f"{sha256(key.encode()).hexdigest()[:24]}.parquet"
        if path.exists():
            return pl.read_parquet(path)
        found = findings_frame(check_lake(self.lake, self.settings, expected_day))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(f".{os.getpid()}.tmp")
            found.write_parquet(scratch)
            os.replace(scratch, path)
        except OSError as error:
            self.say(f"cannot keep the lake's findings in {path}: {error}; they are found again next time")
        return found

    def stored(self, table: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """Rows of `table` in `window` when every day is stored, else None; the `Reader` of the chain.

        Raises:
            MixedStudyError: stored days belong to another study.
            StorageError: a stored file cannot be read.
        """
        if self.store.missing(table, window):
            return None
        for warning in self.store.check_consistent(table, window, self.stamps(table, window)):
            self.say(warning)
        return self.store.read(table, window, columns)

    def write(self, table: str, window: Window, frame: pl.DataFrame) -> dict[date, int]:
        """Store the rows of `window`, stamped; returns rows per day."""
        return self.store.write(table, window, frame, self.stamps(table, window))


def configured_lake(paths: Paths, settings: Settings, say: Say = print) -> LakeSource:
    """Open the lake in use; writes the simulated one first when none is configured.

    Raises:
        LakeError: the lake cannot be read.
        StorageError: the simulated lake cannot be written.
    """
    from majors_alts_pipeline.lake.reader import open_lake

    if paths.lake is None and not paths.simulated_lake.exists():
        say(f"no lake configured (MAJORS_ALTS_LAKE): writing a SIMULATED one to {paths.simulated_lake}")
        write_simulated_lake(paths.simulated_lake)
    return open_lake(paths.lake_location, settings.lake)


def write_simulated_lake(folder: Path) -> None:
    """Write the simulated lake to `folder` as one step: two runs at once end with one whole lake.

    Raises:
        StorageError: the disk refuses the write.
    """
    from majors_alts_pipeline.lake.simulate import SimulationSpec, simulate, write_lake

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write_lake(simulate(SimulationSpec()), scratch)
            os.rename(scratch, folder)
        except OSError:
            # Another run was quicker: its lake is the same, being made from the same seed.
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot write the simulated lake to {folder}: {error}; free the disk or set MAJORS_ALTS_CACHE"
        ) from error
