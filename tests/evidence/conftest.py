"""One small simulated study, computed once, for every test of the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pytest

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.evidence.assemble import Subject
from majors_alts_pipeline.evidence.registry import Origin, lineage_of
from majors_alts_pipeline.lake.reader import LakeSource

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class SmallStudy:
    lake: LakeSource
    settings: Settings
    window: Window
    tables: dict[str, pl.DataFrame]

    @property
    def subject(self) -> Subject:
        origin = Origin(NOW, "study", "code", self.lake.fingerprint(), lineage_of(self.lake), True)
        return Subject(self.tables, self.lake, self.window, self.settings, origin)


@pytest.fixture(scope="session")
def small_study(small_lake: LakeSource, small_settings: Settings) -> SmallStudy:
    settings = with_overrides(
        small_settings,
        {"regime.methods": ["composite"], "regime.method": "composite", "evaluation.bootstrap_reps": 100},
    )
    runner = Runner(small_lake, settings)
    return SmallStudy(small_lake, settings, runner.history, runner.run_all())
