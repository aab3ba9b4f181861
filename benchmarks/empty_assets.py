"""Eight chained daily assets that do nothing: what Dagster itself costs for a range of days."""

import os
from datetime import date

import dagster as dg

PARTITIONS = dg.DailyPartitionsDefinition(start_date=os.environ.get("BENCH_FIRST_DAY", date(2022, 1, 1).isoformat()))


def _empty(name: str, upstream: str | None) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        deps=[upstream] if upstream else [],
        partitions_def=PARTITIONS,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def nothing(context: dg.AssetExecutionContext) -> None:
        del context

    return nothing


NAMES = [f"empty_{k}" for k in range(8)]
defs = dg.Definitions(
    assets=[_empty(name, NAMES[k - 1] if k else None) for k, name in enumerate(NAMES)],
    executor=dg.in_process_executor,
)
