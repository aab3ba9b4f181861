"""The toy chain in a process of its own: ``python toy_run.py START END``; paths from the environment."""

from __future__ import annotations

import sys
from datetime import date

import dagster as dg
import toy_stages

from majors_alts_pipeline import chain
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.definitions import build_definitions
from majors_alts_pipeline.orchestration.schedules import window_tags
from majors_alts_pipeline.tables import TABLES


def main() -> None:
    stages = toy_stages.toys()
    for stage in stages:
        chain.STAGE_OF_TABLE.update(dict.fromkeys(stage.tables, stage))
    repository = build_definitions(Paths.from_env(), stages).get_repository_def()
    keys = [dg.AssetKey(table) for table in TABLES]
    job = repository.get_implicit_job_def_for_assets(keys)
    assert job is not None
    window = Window(date.fromisoformat(sys.argv[1]), date.fromisoformat(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance, asset_selection=keys, tags=window_tags(window))
    sys.exit(0 if result.success else 1)


if __name__ == "__main__":
    main()
