"""All stages over the whole history, stored, without Dagster: what the growth figures measure."""

from __future__ import annotations

import sys
from pathlib import Path

from majors_alts_pipeline.config.paths import Paths


def run(lake: str, artifacts: str) -> None:
    """Compute and store every stage of `lake` under `artifacts`, as the Dagster assets do."""
    from majors_alts_pipeline.chain import Runner
    from majors_alts_pipeline.orchestration.study import Study
    from majors_alts_pipeline.stages import STAGES

    paths = Paths(lake=lake, config=None, artifacts=Path(artifacts), cache=Path(artifacts) / "cache")
    study = Study.open(paths, lambda message: print(message, file=sys.stderr))
    runner = Runner(study.lake, study.settings, reader=study, announce=study.say)
    for stage in STAGES:
        for chunk, frames in runner.stream(stage, study.history):
            for table, frame in frames.items():
                study.write(table, chunk, frame)
