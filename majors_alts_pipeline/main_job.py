"""The main job from a command: the whole chain over a lake's history through Dagster, with progress.

Belongs here: starting runs in this process and saying how they go. Does not belong here: what a run does.
"""

import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config.paths import REPOSITORY, Paths
from majors_alts_pipeline.orchestration.study import PartitionError, Study
from majors_alts_pipeline.report.build import ReportPaths

Say = Callable[[str], None]
_LISTED = 10
_INTERRUPTED = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}
_OURS = "majors_alts_pipeline."
_SLOW = {"evidence": "computing the evidence", "report": "building the report"}
HEADLINE = (
    "account", "total_return", "cagr", "volatility", "sharpe", "sharpe_low", "sharpe_high", "max_drawdown",
    "exposure_time", "turnover_annual", "cost_annual", "funding_annual",
)  # fmt: skip


class RunFailedError(ValueError):
    """A step of the run failed; the message is the step's own."""


class LakeRefusedError(ValueError):
    """The quality rules found errors in the lake; nothing was computed."""


@dataclass(frozen=True)
class HistoryRun:
    """What a person wants to see of a finished run.

    Attributes:
        window: days materialised.
        simulated: whether the lake is a simulated one.
        fingerprint: of the lake.
        study_id: configuration, lake and code together.
        first_trade: day from which the KPIs count.
        headline: KPIs per account.
        trial: identifier of the configuration in the study registry.
        verdict: one sentence.
        index: first page of the report.
        report: all its pages in one file.
    """

    window: Window
    simulated: bool
    fingerprint: str
    study_id: str
    first_trade: date
    headline: pl.DataFrame
    trial: str
    verdict: str
    index: Path
    report: Path


class _Progress(logging.Handler):
    """Turns Dagster's step events into one line per step."""

    def __init__(self, say: Say, steps: int) -> None:
        super().__init__(logging.DEBUG)
        self._say, self._steps, self._done, self._began = say, steps, 0, 0.0
        self._refused: list[str] = []
        self.failure = ""

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "dagster_event", None)
        if event is None:
            words = record.getMessage().rsplit(" - ", maxsplit=1)[-1]
            # One step failed: that fourteen others therefore did not run would bury why.
            if record.levelno >= logging.WARNING and not words.startswith("Dependencies for step"):
                self._say(f"  warning: {words}")
            elif record.levelno == logging.INFO and getattr(record, "dagster_meta", {}).get("step_key") == "evidence":
                self._say(f"    {words}")
            return
        name = event.event_type_value
        if name == "STEP_START":
            self._began = time.perf_counter()
            if event.step_key in _SLOW:
                self._say(f"  {_SLOW[event.step_key]} ...")
        elif name == "STEP_SUCCESS":
            self._done += 1
            step = str(event.step_key).removesuffix("_stage")
            self._say(f"  [{self._done}/{self._steps}] {step}: {time.perf_counter() - self._began:.1f} s")
        elif name == "ASSET_CHECK_EVALUATION" and not event.event_specific_data.passed:
            found = event.event_specific_data
            line = f"{found.asset_key.to_user_string()}, {found.severity.value} {found.check_name}: {found.description}"
            self._say(f"  {line}")
            if found.blocking and found.severity is dg.AssetCheckSeverity.ERROR:
                self._refused.append(line)
        elif name == "STEP_FAILURE" and not self.failure:
            error = event.step_failure_data.error
            step = str(event.step_key).removesuffix("_stage")
            # An error of ours says more than what caused it, and its class nothing that its message does not.
            while error.cause is not None and not error.message.startswith(_OURS):
                error = error.cause
            if error.cls_name in _INTERRUPTED:
                self.failure = f"interrupted during {step}; finished stages are stored, run the same command again"
                return
            words = re.sub(rf"^{_OURS}[\w.]+: ", "", error.message.strip())
            refused = "; ".join(self._refused)
            self.failure = f"{refused}. Nothing downstream was computed" if refused else f"{step}: {words}"


def run_history(paths: Paths, start: date | None, end: date | None, say: Say) -> HistoryRun:
    """Materialise every asset from `start` to `end` (default: the lake's whole history) in one Dagster run.

    Raises:
        PartitionError: the days are not in the lake.
        MixedStudyError: part of the history is asked for and the results hold other days of another lake or
            configuration; nothing was written.
        LakeRefusedError: a quality rule of severity ERROR found something; nothing was computed.
        RunFailedError: a step failed; results of earlier steps are stored.
    """
    from majors_alts_pipeline.evidence.registry import trial_id
    from majors_alts_pipeline.lake.reader import absent_tables

    # The lake first: its clear error must not be buried in Dagster's.
    study = Study.open(paths, say)
    window = study.require(_window(study, start, end))
    say(
        f"lake {study.lake.location}{' (SIMULATED)' if study.lake.simulated else ''}, fingerprint "
        f"{study.lake_fingerprint}, {window.start} to {window.end} ({window.n_days:,} days), study {study.study_id}"
    )
    for sentence in absent_tables(study.lake):
        say(f"LOST: {sentence}")
    # Before anything is written: a refused lake must leave every earlier result as it was.
    _require_usable(study)
    if start is None and end is None:
        study.drop_foreign_days()
    else:
        study.require_own_days()
        study.require_consistent_outside(window)
    _require_home()
    from majors_alts_pipeline.definitions import build_definitions
    from majors_alts_pipeline.orchestration.schedules import window_tags

    definitions = build_definitions(paths)
    progress = _Progress(say, len(definitions.resolve_implicit_global_asset_job_def().nodes))

    @dg.logger
    def lines(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("majors_alts.run", logging.DEBUG)
        logger.addHandler(progress)
        return logger

    announced = dg.Definitions.merge(definitions, dg.Definitions(loggers={"lines": lines}))
    job = announced.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(
            instance=instance,
            run_config={"loggers": {"lines": {}}},
            tags=window_tags(window),
            raise_on_error=False,
        )
    if not result.success:
        words = progress.failure or f"run {result.run_id} failed; see it in the Dagster UI"
        _register_failure(study, window, words, say)
        raise RunFailedError(words)
    verdict = next(
        str(event.materialization.metadata["verdict"].value)
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey("report")
    )
    kpis = pl.read_parquet(paths.artifacts / "report" / "tables" / "kpis.parquet")
    return HistoryRun(
        window=window,
        simulated=study.lake.simulated,
        fingerprint=study.lake_fingerprint,
        study_id=study.study_id,
        first_trade=window.end - timedelta(days=int(kpis.select(pl.col("n_days").max()).item()) - 1),
        headline=kpis.select(HEADLINE),
        trial=trial_id(study.settings),
        verdict=verdict,
        index=paths.artifacts / "report" / "index.html",
        report=paths.artifacts / "report" / "report.html",
    )


def _register_failure(study: Study, window: Window, words: str, say: Say) -> None:
    """Record a run that failed; one that succeeds is recorded by the asset `evidence`."""
    from majors_alts_pipeline.evidence.registry import RUN, Registry, RegistryError, Trial, trial_id
    from majors_alts_pipeline.orchestration.reporting import REGISTRY, origin_of

    failed = Trial(
        trial=trial_id(study.settings), kind=RUN, label="as configured",
        settings=study.settings.model_dump(mode="json"), seed=study.settings.backtest.seed, first_day=window.start,
        last_day=window.end, error=words,
    )  # fmt: skip
    try:
        Registry(study.store.root / REGISTRY).append([failed], origin_of(study, datetime.now(UTC)))
    except RegistryError as error:
        # What stopped the run (a full disk, say) may stop this too, and is what must be said.
        say(f"  warning: the failed run is not registered: {error}")


def rebuild_report(paths: Paths, say: Say) -> ReportPaths:
    """Build the report of what is stored."""
    from majors_alts_pipeline.orchestration.reporting import report_of

    return report_of(Study.open(paths, say))


def prune_runs(keep: int) -> int:
    """Delete the event logs of all but the newest `keep` runs; returns how many were deleted."""
    from majors_alts_pipeline.orchestration.event_log import prune

    _require_home()
    with dg.DagsterInstance.get() as instance:
        return prune(instance, keep)


def _require_usable(study: Study) -> None:
    found = study.findings().filter(pl.col("severity") == "ERROR")
    if found.is_empty():
        return
    listed = [f"  {check}: {message}" for check, message in found.select("check", "message").head(_LISTED).iter_rows()]
    more = [f"  and {found.height - _LISTED:,} more"] if found.height > _LISTED else []
    raise LakeRefusedError(
        "\n".join(
            [
                f"the lake at {study.lake.location} is not usable: {found.height:,} finding(s) of severity ERROR; "
                "nothing was computed, earlier results are as they were",
                *listed,
                *more,
                "Fix the lake, or lower the check in quality.severity; `majors-alts check-lake` lists all of them",
            ]
        )
    )


def _window(study: Study, start: date | None, end: date | None) -> Window:
    first, last = start or study.history.start, end or study.history.end
    if last < first:
        raise PartitionError(f"--to {last} lies before --from {first}")
    return Window(first, last)


def _require_home() -> None:
    os.environ.setdefault("DAGSTER_HOME", str(REPOSITORY / "dagster_home"))
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
