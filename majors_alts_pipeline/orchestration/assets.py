"""Dagster assets built from `STAGES`: one per table, thin; the logic is in the stages' own rooms.

Belongs here: how a stage becomes an asset. Does not belong here: anything a stage computes, or where rows go.
A stage with several tables becomes one multi-asset, each of whose tables can be selected alone.
https://docs.dagster.io/guides/build/assets
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import dagster as dg
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.orchestration.partitions import mapping, window_of
from majors_alts_pipeline.orchestration.previews import markdown
from majors_alts_pipeline.orchestration.resources import StudyResource
from majors_alts_pipeline.orchestration.study import code_version
from majors_alts_pipeline.stages import STAGES, Stage
from majors_alts_pipeline.tables import TABLES, TableContract

OWNERS = ["team:research"]
TABLE_KINDS = {"polars", "parquet"}
IO_MANAGER = "tables"
SINGLE_RUN = dg.BackfillPolicy.single_run()
LAKE = "lake"
_HEADLINE = ("account", "sharpe", "sharpe_low", "sharpe_high", "cagr", "volatility", "max_drawdown", "cost_annual")

Piece = tuple[Window, Mapping[str, pl.DataFrame]]


def build_assets(
    settings: Settings, partitions: dg.DailyPartitionsDefinition, stages: Sequence[Stage] = STAGES
) -> list[dg.AssetsDefinition]:
    """Build the assets of all stages, in chain order.

    Args:
        settings: resolved configuration; look-backs depend on it.
        partitions: the one daily partitions definition.
        stages: the stages, those of the pipeline by default.
    """
    return [_stage_asset(stage, settings, partitions) for stage in stages]


def lake_spec() -> dg.AssetSpec:
    """Declare the read-only lake, so that the lineage starts where the data does."""
    return dg.AssetSpec(
        LAKE,
        description="Daily tables of a vendor or the market simulator; read, never written.",
        group_name="lake",
        kinds={"duckdb"},
        owners=OWNERS,
    )


def _stage_asset(stage: Stage, settings: Settings, partitions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{stage.name}_stage",
        outs={table: _out(stage, TABLES[table]) for table in stage.tables},
        deps=_deps(stage, settings),
        partitions_def=partitions,
        backfill_policy=SINGLE_RUN,
        group_name=stage.group,
        can_subset=len(stage.tables) > 1,
    )
    def compute(context: dg.AssetExecutionContext, study: StudyResource) -> Iterator[dg.Output[Any]]:
        window = window_of(context.partition_key_range)
        pieces = _begun(study.of_run(context.run.run_id).stream(stage, window))
        if len(stage.tables) > 1:
            pieces = list(pieces)
        for table in stage.tables:
            if table in context.op_execution_context.selected_output_names:
                yield dg.Output(_of_table(pieces, table), output_name=table)

    return compute


def _begun(pieces: Iterator[Piece]) -> Iterable[Piece]:
    """Compute the first piece now, so that what is wrong fails the step itself and not the storing of it."""
    return chain([next(pieces)], pieces)


def _of_table(pieces: Iterable[Piece], table: str) -> Iterator[tuple[Window, pl.DataFrame]]:
    """Rows of one table piece by piece; each is computed when the one before it is stored."""
    return ((days, frames[table]) for days, frames in pieces)


def _deps(stage: Stage, settings: Settings) -> list[dg.AssetDep]:
    if not stage.inputs:
        return [dg.AssetDep(LAKE)]
    return [dg.AssetDep(item.table, partition_mapping=mapping(item, settings)) for item in stage.inputs]


def _out(stage: Stage, contract: TableContract) -> dg.AssetOut:
    return dg.AssetOut(
        key=contract.name,
        description=f"{contract.description}\n\n{stage.title}.",
        io_manager_key=IO_MANAGER,
        is_required=len(stage.tables) == 1,
        code_version=code_version(),
        owners=OWNERS,
        kinds=TABLE_KINDS,
        tags={"stage": stage.name},
        metadata={"dagster/column_schema": column_schema(contract), "key": ", ".join(contract.key)},
    )


def column_schema(contract: TableContract) -> dg.TableSchema:
    """Show the contract as Dagster does: unit and meaning beside each column."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                type=str(column.dtype),
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
                tags={"unit": _tag(column.unit)} if column.unit else {},
            )
            for name, column in contract.columns.items()
        ]
    )


def _tag(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_.-" else "_" for letter in text)[:63]


def build_products(stages: Sequence[Stage] = STAGES) -> list[dg.AssetsDefinition]:
    """Build what is made of all days together: evidence, report and the live decision; not partitioned."""
    common: dict[str, Any] = {
        "group_name": "products",
        "owners": OWNERS,
        "code_version": code_version(),
        # Dagster refuses a partition range when any selected asset lacks the policy, partitioned or not.
        "backfill_policy": SINGLE_RUN,
    }

    @dg.asset(
        deps=[table for stage in stages for table in stage.tables],
        description="How likely the result is luck: every trial registered, then edge by horizon, selection-adjusted "
        "Sharpe ratios, folds, robustness, capacity and red flags of all stored days.",
        kinds=TABLE_KINDS,
        **common,
    )
    def evidence(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
        from majors_alts_pipeline.orchestration.reporting import evidence_of

        held = study.of_run(context.run.run_id).study
        manifest, frames = evidence_of(held, datetime.now(UTC), context.log.info)
        fired = frames["red_flags"].filter("fired")
        return dg.MaterializeResult(
            metadata={
                "trials on this lake": manifest.n_trials,
                "red flags": fired.height,
                "folder": dg.MetadataValue.path(str(held.store.root / "evidence")),
                "preview": dg.MetadataValue.md(markdown(frames["selection"].drop("note"))),
                "SIMULATED": manifest.simulated,
                "study": manifest.study,
            }
        )

    @dg.asset(
        deps=[*(table for stage in stages for table in stage.tables), "evidence"],
        description="Self-contained HTML report of all stored days, with every table of it beside as files.",
        kinds={"html", "plotly"},
        **common,
    )
    def report(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
        from majors_alts_pipeline.orchestration.reporting import report_of

        run = study.of_run(context.run.run_id)
        built = report_of(run.study)
        kpis = built.kpis.filter(built.kpis["account"] == "regime").row(0, named=True)
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.path(str(built.html)),
                "verdict": built.verdict,
                "preview": dg.MetadataValue.md(markdown(built.kpis.select(_HEADLINE))),
                "SIMULATED": run.study.lake.simulated,
                "study": run.study.study_id,
                **{name: kpis[name] for name in ("sharpe", "cagr", "max_drawdown") if kpis.get(name) is not None},
            }
        )

    @dg.asset(
        deps=["positions", "backtest", "regime"],
        description="The regime account's decision of the newest stored day, as the backtest took it.",
        kinds={"json"},
        **common,
    )
    def signals(context: dg.AssetExecutionContext, study: StudyResource) -> dg.MaterializeResult:
        from majors_alts_pipeline.orchestration.reporting import signals_of
        from majors_alts_pipeline.report.signals import write_signals

        held = study.of_run(context.run.run_id).study
        document = signals_of(held, datetime.now(UTC).date())
        decisions = pl.DataFrame(document["decisions"], infer_schema_length=None)
        write_signals(document, study.paths.signals)
        return dg.MaterializeResult(
            metadata={
                "file": dg.MetadataValue.path(str(study.paths.signals)),
                "date": document["date"],
                "regime": document["regime"],
                "data_age_days": document["data_age_days"],
                "trades": document["trades"],
                "preview": dg.MetadataValue.md(
                    markdown(decisions) if decisions.height else "flat: no position is held and none is asked for"
                ),
                "SIMULATED": document["simulated"],
            }
        )

    return [evidence, report, signals]
