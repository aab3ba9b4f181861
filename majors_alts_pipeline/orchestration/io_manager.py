"""Storage of daily tables: one day or a range of days in one call, and what the UI shows of them.

Belongs here: the bridge from Dagster's partitions to `TableStore`. Does not belong here: how files are
written. https://docs.dagster.io/guides/build/io-managers/defining-a-custom-io-manager
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.orchestration.compatibility import is_tested_dagster
from majors_alts_pipeline.orchestration.partitions import window_of
from majors_alts_pipeline.orchestration.previews import HISTORY_DAYS, headline, preview
from majors_alts_pipeline.orchestration.resources import StudyResource, StudyRun


class DailyTableIOManager(dg.ConfigurableIOManager):
    """Stores frames as one file per day, each replaced atomically and stamped with its study."""

    study: dg.ResourceDependency[StudyResource]

    def handle_output(self, context: dg.OutputContext, obj: Iterable[tuple[Window, pl.DataFrame]]) -> None:
        """Replace the days of the run's partitions with the rows of `obj`, (days, rows) pieces in order.

        Raises:
            StorageError: the disk refuses the write, or a row lies outside the partitions.
            ContractError: the rows break the table's contract.
        """
        run = self.study.of_run(context.run_id)
        table = context.asset_key.path[-1]
        window = window_of(context.asset_partition_key_range)
        sizes = {day: rows for days, frame in obj for day, rows in run.write(table, days, frame).items()}
        context.log.info(f"{table}: {sum(sizes.values())} rows stored for {window.start} to {window.end}")
        # In a range this is repeated on the event of every day: only tiny values here, the rest on the last
        # day.
        context.add_output_metadata({"study": run.study.study_id, "SIMULATED": run.study.lake.simulated})
        per_day: dict[str, dict[str, object]] = {
            day.isoformat(): {"dagster/partition_row_count": rows} for day, rows in sizes.items()
        }
        per_day[window.end.isoformat()] |= {
            **_shown(run, table, window),
            "path": dg.MetadataValue.path(str(run.study.store.folder(table))),
        }
        _add_metadata_per_day(context, per_day)

    def load_input(self, context: dg.InputContext) -> pl.DataFrame:
        """Read the upstream days the partition mapping names, for assets that take a table as argument.

        Raises:
            StorageError: a file cannot be read, or the days belong to another study.
        """
        run = self.study.of_run(context.step_context.run_id)
        table = context.asset_key.path[-1]
        window = window_of(context.asset_partition_key_range)
        for warning in run.study.store.check_consistent(table, window, run.study.stamps(table, window)):
            context.log.warning(warning)
        return run.study.store.read(table, window)


def _shown(run: StudyRun, table: str, window: Window) -> dict[str, object]:
    newest = Window(window.end, window.end)
    history = run.study.store.read(table, newest.back(HISTORY_DAYS - 1))
    return {"today": headline(table, history), "preview": dg.MetadataValue.md(preview(table, history))}


def _add_metadata_per_day(context: dg.OutputContext, per_day: dict[str, dict[str, object]]) -> None:
    step = context.step_context
    if not is_tested_dagster():
        for day, values in per_day.items():
            step.add_asset_metadata(values, context.asset_key, day)
        return
    # The public method copies everything added so far and lists all partitions on each call, O(days^2):
    # minutes for ten years. The same accumulator is filled here in one step.
    from dagster._core.execution.context.metadata_logging import (
        AssetMetadataHandle,
        OutputMetadataAccumulator,
    )

    added: dict[Any, Any] = {
        AssetMetadataHandle(asset_key=context.asset_key, partition_key=day): values for day, values in per_day.items()
    }
    step._metadata_accumulator = OutputMetadataAccumulator(
        per_output_metadata={**step._metadata_accumulator.per_output_metadata, **added}
    )
