"""The daily job and its schedule: the lake's newest complete day and all missing ones before it.

Belongs here: when the chain runs and over which days. Does not belong here: what it computes.
The job must not be backfilled from its Partitions tab, which ignores the single-run policy and starts one
run per day; backfill from the asset page or with ``dagster asset materialize --partition-range``.
https://docs.dagster.io/guides/automate/schedules
"""

from collections.abc import Iterable
from datetime import UTC, timedelta

import dagster as dg

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.orchestration.checks import EXPECTED_DAY_TAG
from majors_alts_pipeline.orchestration.resources import StudyResource
from majors_alts_pipeline.orchestration.storage import TableStore
from majors_alts_pipeline.tables import TABLES

# Half an hour after the close: late prints and the vendor's own job have had time to land.
CRON = "30 0 * * *"

daily_job = dg.define_asset_job(
    "daily",
    selection=dg.AssetSelection.all(),
    description="The whole chain, its checks, the report and the signals.",
)


@dg.schedule(
    job=daily_job,
    cron_schedule=CRON,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Materialises the lake's newest complete day, and any day missed before it, in one run.",
)
def newest_complete_day(context: dg.ScheduleEvaluationContext, study: StudyResource) -> dg.RunRequest | dg.SkipReason:
    """One run over the days from the first missing one to the newest complete one."""
    held = study.open(context.log.warning)
    window = missing_window(held.store, tuple(TABLES), held.history)
    if window is None:
        return dg.SkipReason(f"{held.history.end}, the newest complete day of {held.lake.location}, is stored")
    asked = context.scheduled_execution_time.astimezone(UTC).date()
    return dg.RunRequest(
        # The same days of the same lake are asked for once. Stored days that the lake has since revised are not
        # recomputed here: reading them names the mixture.
        run_key=f"{window.end}/{held.lake_fingerprint}",
        tags={**window_tags(window), EXPECTED_DAY_TAG: (asked - timedelta(days=1)).isoformat()},
    )


def missing_window(store: TableStore, tables: Iterable[str], history: Window) -> Window | None:
    """From the first day that any table lacks to the end of `history`; None when nothing is missing."""
    firsts = [missing[0] for table in tables if (missing := store.missing(table, history))]
    return Window(min(firsts), history.end) if firsts else None


def window_tags(window: Window) -> dict[str, str]:
    """Run tags that make one run cover all days of `window`."""
    return {
        "dagster/asset_partition_range_start": window.start.isoformat(),
        "dagster/asset_partition_range_end": window.end.isoformat(),
    }
