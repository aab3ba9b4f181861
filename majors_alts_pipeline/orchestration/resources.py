"""The one resource: the study a run works on.

Belongs here: how a run finds its lake, configuration and results. Does not belong here: reading or writing
them. https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.orchestration.study import LakeChangedError, Say, Study
from majors_alts_pipeline.stages import Stage


class StoredRunner(Runner):
    """A Runner beside a store: a long run over many assets must not hold every table it has written."""

    def forget(self, table: str, window: Window) -> None:
        """Drop the remembered rows of `table` if all of them lie in `window`, which is stored now."""
        held = self._memory.get(table)
        if held is not None and window.start <= held[0].start and held[0].end <= window.end:
            del self._memory[table]


@dataclass(frozen=True)
class StudyRun:
    """A study during one Dagster run: its stages share one Runner, and the lake must stand still.

    Attributes:
        study: the study.
        identity: identity of the lake's files when the run began.
        runner: computes stages; remembers upstream days it had to compute because they were not stored.
    """

    study: Study
    identity: Mapping[str, tuple[Any, ...]]
    runner: StoredRunner

    def stream(self, stage: Stage, window: Window) -> Iterator[tuple[Window, Mapping[str, pl.DataFrame]]]:
        """Yield the rows of the stage's tables in consecutive pieces of `window`; see `Runner.stream`.

        Raises:
            PartitionError: the lake does not have these days.
            LakeChangedError: the lake's files changed since the run began.
        """
        self.require_same_lake(f"before {stage.name}")
        self.study.require(window)
        for piece, frames in self.runner.stream(stage, window):
            self.require_same_lake(f"while {stage.name} was computed")
            yield piece, frames

    def write(self, table: str, window: Window, frame: pl.DataFrame) -> dict[date, int]:
        """Store rows; what is stored need not be remembered."""
        sizes = self.study.write(table, window, frame)
        self.runner.forget(table, window)
        return sizes

    def require_same_lake(self, when: str) -> None:
        """Compare the lake's files with those at the start of the run."""
        if self.study.lake.identity() != self.identity:
            raise LakeChangedError(
                f"the lake at {self.study.lake.location} changed {when}; the step stopped, and any day it had stored "
                "is stamped with the lake as it was and will not be mixed with the new one. Wait until the lake is "
                "complete, then run the same days again"
            )


class StudyResource(dg.ConfigurableResource):
    """Where the lake, the configuration and the results are; defaults come from the environment.

    An empty string means unset, as in `Paths.from_env`.
    """

    lake: str
    config: str
    artifacts: str
    cache: str

    @classmethod
    def from_paths(cls, paths: Paths) -> "StudyResource":
        """Resource for the given paths."""
        return cls(
            lake=paths.lake or "",
            config=str(paths.config or ""),
            artifacts=str(paths.artifacts),
            cache=str(paths.cache),
        )

    @property
    def paths(self) -> Paths:
        """The paths as the pure code knows them."""
        return Paths(
            lake=self.lake or None,
            config=Path(self.config) if self.config else None,
            artifacts=Path(self.artifacts),
            cache=Path(self.cache),
        )

    def open(self, say: Say) -> Study:
        """Open the study as it is now, outside any run."""
        return Study.open(self.paths, say)

    def of_run(self, run_id: str) -> StudyRun:
        """Open the study as this run sees it: once, so that every step of the run sees one lake."""
        return _open(self.paths, run_id)


@lru_cache(maxsize=1)
def _open(paths: Paths, run_id: str) -> StudyRun:
    log = dg.get_dagster_logger("study")
    study = Study.open(paths, log.warning)
    return StudyRun(study, study.lake.identity(), StoredRunner(study.lake, study.settings, study, log.warning))
