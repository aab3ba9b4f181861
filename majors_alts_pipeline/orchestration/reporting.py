"""Report and signals of what is stored, for Dagster's assets and for the commands alike. No Dagster here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.orchestration.storage import StorageError
from majors_alts_pipeline.orchestration.study import Say, Study, code_version
from majors_alts_pipeline.report.signals import build_signals
from majors_alts_pipeline.stages import STAGE_OF_TABLE
from majors_alts_pipeline.tables import TABLES

if TYPE_CHECKING:
    from majors_alts_pipeline.evidence.assemble import Manifest
    from majors_alts_pipeline.evidence.registry import Origin
    from majors_alts_pipeline.report.build import ReportPaths

OTHER_LAGS = (0, 2)
"""Execution lags always reported beside the configured one, in days."""


def report_of(study: Study) -> ReportPaths:
    """Build the report of all stored days under ``artifacts/report``.

    Raises:
        StorageError: nothing is stored, a day is missing, or days belong to another study.
        ReportError: the report cannot be built or written.
    """
    from majors_alts_pipeline.lake.reader import absent_tables
    from majors_alts_pipeline.report.build import ReportContext, build_report

    window = stored_window(study)
    mixed = [
        sentence
        for table in TABLES
        for sentence in study.store.check_consistent(table, window, study.stamps(table, window))
    ]
    context = ReportContext(
        lake_location=study.lake.location,
        simulated=study.lake.simulated,
        fingerprint=study.lake_fingerprint,
        study_id=study.study_id,
        code_version=code_version(),
        settings=study.settings,
        absent=absent_tables(study.lake),
        findings=study.findings(),
        mixed=mixed,
    )
    manifest, evidence = _own_evidence(study)
    lost = 0 if manifest is None else len(manifest.lost)
    verdict, change = _verdict(study, window, evidence, lost) or (None, "")
    return build_report(
        lambda table: study.store.scan(table, window),
        context,
        study.store.root / "report",
        lag_table(study, window),
        evidence=evidence,
        verdict=verdict,
        what_would_change=change,
    )


def _verdict(
    study: Study, window: Window, evidence: Mapping[str, pl.DataFrame], lost_batches: int
) -> tuple[str, str] | None:
    """Verdict of the evidence and what would change it; None when there is none."""
    from majors_alts_pipeline.evidence.verdict import caveats_of, headline

    if not evidence:
        return None
    panel = study.store.read("panel", window, ("date", "asset_id", "close", "price_age_days"))
    backtest = study.store.read("backtest", window, ("account", "pnl_funding", "pnl_funding_assumed"))
    caveats = caveats_of(panel, backtest, study.settings, study.lake.simulated, lost_batches)
    return headline(evidence, study.settings, caveats)


EVIDENCE = "evidence"
"""Folder of the evidence under the results."""

REGISTRY = "registry"
"""Folder of the study registry under the results."""


def evidence_of(study: Study, now: datetime, say: Say | None = None) -> tuple[Manifest, dict[str, pl.DataFrame]]:
    """Register the study's trials, compute its evidence and replace what is stored under ``artifacts/evidence``.

    Args:
        study: the study.
        now: time the trials are registered under, aware.
        say: receives one line per part; the study's own by default.

    Raises:
        StorageError: nothing is stored, a day is missing, or days belong to another study.
        RegistryError: the registry cannot be read or written.
        EvidenceError: the evidence cannot be written.
    """
    from majors_alts_pipeline.evidence import assemble
    from majors_alts_pipeline.evidence.registry import Registry
    from majors_alts_pipeline.evidence.verdict import lost_words

    # From the lake's first day, also where fewer days are stored: a stage computed anew needs its whole look-back.
    window = Window(study.history.start, stored_window(study).end)
    runner = Runner(study.lake, study.settings, study, study.say)
    tables = {table: runner.table(table, window) for table in assemble.NEEDED}
    subject = assemble.Subject(tables, study.lake, window, study.settings, origin_of(study, now))
    registry = Registry(study.store.root / REGISTRY)
    frames = assemble.gather(subject, registry, say or study.say)
    folder = study.store.root / EVIDENCE
    try:
        before, held = assemble.stored(folder) or (None, {})
    except assemble.EvidenceError as error:
        study.say(f"{error}; it is replaced now")
        before, held = None, {}
    if before is not None and (words := assemble.shorter(frames, subject, before, held)):
        study.say(f"evidence: {words}")
    tally = assemble.Tally.of(registry.read(returns=False), subject.origin.lineage, before)
    if tally.lost:
        study.say(
            f"{lost_words(len(tally.lost))} that earlier evidence counted ({tally.lost[0]}.parquet, ...): the number "
            f"of trials, {tally.n_trials}, is too low and every selection-adjusted number too optimistic; restore "
            f"what is missing under {registry.root}"
        )
    return assemble.write(frames, folder, subject, tally), frames


def origin_of(study: Study, now: datetime) -> Origin:
    """What every trial of this study shares in the registry."""
    from majors_alts_pipeline.evidence.registry import Origin, lineage_of

    return Origin(
        time=now,
        study=study.study_id,
        code=code_version(),
        lake=study.lake_fingerprint,
        lineage=lineage_of(study.lake, study.cache),
        simulated=study.lake.simulated,
    )


def stored_evidence(study: Study) -> dict[str, pl.DataFrame]:
    """The evidence tables of this study; none, and a sentence, when what is stored is of another or nothing is.

    Raises:
        EvidenceError: a stored file is damaged.
    """
    return _own_evidence(study)[1]


def _own_evidence(study: Study) -> tuple[Manifest | None, dict[str, pl.DataFrame]]:
    from majors_alts_pipeline.evidence.assemble import stored

    found = stored(study.store.root / EVIDENCE)
    if found is None:
        study.say("evidence: none is stored; materialise the asset `evidence` for it")
        return None, {}
    manifest, frames = found
    if manifest.study != study.study_id:
        study.say(
            f"evidence: what is stored is of study {manifest.study} up to {manifest.last_day}, not of "
            f"{study.study_id}: left out; materialise the asset `evidence`"
        )
        return None, {}
    return manifest, frames


def signals_of(study: Study, today: date) -> dict[str, Any]:
    """Take the decision of the newest stored day, from the rows the backtest stored.

    Args:
        study: the study.
        today: UTC day on which it is asked, for the age of the data.

    Raises:
        StorageError: nothing is stored, or the day belongs to another study.
        SignalsError: a table has no row of that day.
    """
    newest = stored_window(study).end
    day = Window(newest, newest)
    rows = {}
    for table in ("positions", "backtest", "regime"):
        study.store.check_consistent(table, day, study.stamps(table, day))
        rows[table] = study.store.read(table, day)
    return build_signals(
        **rows,
        execution_lag_days=study.settings.backtest.execution_lag_days,
        today=today,
        study={
            "simulated": study.lake.simulated,
            "study_id": study.study_id,
            "lake": study.lake.location,
            "lake_fingerprint": study.lake_fingerprint,
            "configuration": study.settings.digest(),
            "code_version": code_version(),
        },
    )


def stored_window(study: Study) -> Window:
    """First to last stored day of the backtest.

    Raises:
        StorageError: nothing is stored, a table lacks a day in between, or days are another lake's.
    """
    days = study.store.days("backtest")
    if not days:
        raise StorageError(
            f"backtest: nothing stored under {study.store.root}; run `majors-alts run` or "
            "`dagster asset materialize --select '*' --partition-range FIRST...LAST` first"
        )
    study.require_own_days()
    window = Window(days[0], days[-1])
    for table in TABLES:
        missing = study.store.missing(table, window)
        if missing:
            raise StorageError(
                f"{table}: {len(missing)} days between {window.start} and {window.end} are not stored, the "
                "first "
                f"{missing[0]}; materialise --partition-range {missing[0]}...{missing[-1]} of '*' first"
            )
    return window


def lag_table(study: Study, window: Window) -> pl.DataFrame:
    """Measure the same book traded later or sooner, at the end of `window`: (execution_lag_days, KPIs)."""
    inputs = Runner(study.lake, study.settings, study, study.say).inputs(STAGE_OF_TABLE["backtest"], window)
    last = Window(window.end, window.end)
    own = study.settings.backtest.execution_lag_days
    tables = [study.store.read("kpis", last).select(pl.lit(own, pl.Int32).alias("execution_lag_days"), pl.all())]
    for lag in sorted(set(OTHER_LAGS) - {own}):
        settings = _with_lag(study.settings, lag)
        account = STAGE_OF_TABLE["backtest"].compute(inputs, window, settings)
        kpis = STAGE_OF_TABLE["kpis"].compute({"backtest": account["backtest"]}, last, settings)["kpis"]
        tables.append(kpis.select(pl.lit(lag, pl.Int32).alias("execution_lag_days"), *TABLES["kpis"].columns))
    return pl.concat(tables).sort("account", "execution_lag_days")


def _with_lag(settings: Settings, lag: int) -> Settings:
    backtest = settings.backtest.model_copy(update={"execution_lag_days": lag})
    return settings.model_copy(update={"backtest": backtest})
