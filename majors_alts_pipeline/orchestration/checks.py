"""Asset checks: the lake's quality rules on `panel`, and the judgements of `verdicts` on other tables.

Belongs here: how a finding or a verdict becomes a check result. Does not belong here: any rule.
A failing ERROR of a blocking check stops everything downstream; the rest is shown and stops nothing.
https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby

import dagster as dg
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.orchestration.previews import markdown
from majors_alts_pipeline.orchestration.resources import StudyResource
from majors_alts_pipeline.orchestration.verdicts import RED_FLAGS, RULES, Rule, Verdict, red_flag

EXPECTED_DAY_TAG = "majors_alts/expected_day"
"""Run tag of scheduled runs: the newest day a living lake should hold; a frozen feed is judged against it."""

_PARTITION = "dagster/partition"
_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_MAX_ROWS = 20


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """All checks; one step per checked table, so that checks cost little beside the work."""
    by_table = groupby(RULES, key=lambda rule: rule.table)
    return [
        _lake_checks(settings),
        *(_table_checks(table, list(rules), settings) for table, rules in by_table),
        _evidence_checks(),
    ]


def _lake_checks(settings: Settings) -> dg.AssetChecksDefinition:
    severities = {name: severity for name, severity in settings.quality.severity.items() if severity != "OFF"}
    specs = [
        dg.AssetCheckSpec(
            name, asset="panel", description=f"Lake quality: {name.replace('_', ' ')} ({severity})",
            blocking=severity == "ERROR",
        )
        for name, severity in severities.items()
    ]  # fmt: skip

    @dg.multi_asset_check(name="lake_quality", specs=specs)
    def lake_quality(context: dg.AssetCheckExecutionContext, study: StudyResource) -> Iterator[dg.AssetCheckResult]:
        expected = context.run.tags.get(EXPECTED_DAY_TAG)
        run = study.of_run(context.run.run_id)
        findings = run.study.findings(date.fromisoformat(expected) if expected else None)
        for name, severity in severities.items():
            rows = findings.filter(pl.col("check") == name)
            more = f" (and {rows.height - 1:,} more such findings)" if rows.height > 1 else ""
            words = rows["message"][0] + more if rows.height else "nothing found"
            yield _result(
                "panel",
                name,
                Verdict(rows.is_empty(), words, rows.select("table", "asset_id", "date", "value", "message")),
                rows["severity"][0] if rows.height else severity,
            )

    return lake_quality


def _table_checks(table: str, rules: Sequence[Rule], settings: Settings) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(rule.name, asset=table, description=rule.description, blocking=rule.blocks) for rule in rules
    ]

    @dg.multi_asset_check(name=f"{table}_checks", specs=specs)
    def checks(context: dg.AssetCheckExecutionContext, study: StudyResource) -> Iterator[dg.AssetCheckResult]:
        held = study.of_run(context.run.run_id).study
        window = _window(context.run.tags, held.store.days(table))
        for rule in rules:
            rows = held.store.read(table, window.back(rule.lookback))
            yield _result(table, rule.name, rule.judge({table: rows}, held.settings), rule.severity)

    return checks


def _evidence_checks() -> dg.AssetChecksDefinition:
    """One check per rule of `evidence.redflags`, judged when the evidence was computed."""
    specs = [
        dg.AssetCheckSpec(name, asset="evidence", description=f"Red flag: {words}") for name, words in RED_FLAGS.items()
    ]

    @dg.multi_asset_check(name="evidence_checks", specs=specs)
    def checks(context: dg.AssetCheckExecutionContext, study: StudyResource) -> Iterator[dg.AssetCheckResult]:
        from majors_alts_pipeline.orchestration.reporting import stored_evidence

        flags = stored_evidence(study.of_run(context.run.run_id).study).get("red_flags")
        if flags is None:
            raise dg.Failure("no evidence of this study is stored to check; materialise the asset evidence first")
        for name in RED_FLAGS:
            yield _result("evidence", name, red_flag(flags, name), "ERROR")

    return checks


def _window(tags: Mapping[str, str], stored: Sequence[date]) -> Window:
    """Days of the run; a check launched by itself looks at the newest stored day."""
    if _PARTITION in tags:
        day = date.fromisoformat(tags[_PARTITION])
        return Window(day, day)
    if _RANGE[0] in tags:
        return Window(date.fromisoformat(tags[_RANGE[0]]), date.fromisoformat(tags[_RANGE[1]]))
    if not stored:
        raise dg.Failure("nothing is stored to check; materialise the asset first")
    return Window(stored[-1], stored[-1])


def _result(table: str, name: str, verdict: Verdict, severity: str) -> dg.AssetCheckResult:
    metadata: dict[str, dg.MetadataValue] = {}
    if not verdict.passed and verdict.evidence is not None:
        metadata["evidence"] = dg.MetadataValue.md(markdown(verdict.evidence.head(_MAX_ROWS)))
        metadata["rows"] = dg.MetadataValue.int(verdict.evidence.height)
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=table,
        check_name=name,
        severity=dg.AssetCheckSeverity.ERROR if severity == "ERROR" else dg.AssetCheckSeverity.WARN,
        description=verdict.words,
        metadata=metadata,
    )
