"""The one file that knows every asset, check, job, schedule, sensor and resource.

https://docs.dagster.io/guides/build/projects
"""

import warnings
from collections.abc import Sequence

import dagster as dg

# Single-run backfills and look-backs before the first partition are still marked beta in Dagster 1.13.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from majors_alts_pipeline.config import load_settings  # noqa: E402
from majors_alts_pipeline.config.paths import Paths  # noqa: E402
from majors_alts_pipeline.orchestration.assets import (  # noqa: E402
    IO_MANAGER,
    build_assets,
    build_products,
    lake_spec,
)
from majors_alts_pipeline.orchestration.checks import build_checks  # noqa: E402
from majors_alts_pipeline.orchestration.executors import executor  # noqa: E402
from majors_alts_pipeline.orchestration.io_manager import DailyTableIOManager  # noqa: E402
from majors_alts_pipeline.orchestration.partitions import daily_partitions  # noqa: E402
from majors_alts_pipeline.orchestration.resources import StudyResource  # noqa: E402
from majors_alts_pipeline.orchestration.schedules import daily_job, newest_complete_day  # noqa: E402
from majors_alts_pipeline.orchestration.sensors import run_failure  # noqa: E402
from majors_alts_pipeline.stages import STAGES, Stage  # noqa: E402


def build_definitions(paths: Paths, stages: Sequence[Stage] = STAGES) -> dg.Definitions:
    """Build the definitions of the study at `paths`: a pure factory, so that tests bring their own paths."""
    settings = load_settings(paths.config)
    study = StudyResource.from_paths(paths)
    return dg.Definitions(
        assets=[
            lake_spec(),
            *build_assets(settings, daily_partitions(paths, settings), stages),
            *build_products(stages),
        ],
        asset_checks=build_checks(settings),
        jobs=[daily_job],
        schedules=[newest_complete_day],
        sensors=[run_failure],
        resources={"study": study, IO_MANAGER: DailyTableIOManager(study=study)},
        executor=executor(),
    )


defs = build_definitions(Paths.from_env())
