"""Evaluating a configuration in memory and registering it: nothing that is stored is replaced. No Dagster here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import ConfigError
from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.evidence.registry import RUN, Registry, Trial, count_trials, trial_id
from majors_alts_pipeline.evidence.sweep import (
    OTHER_METHOD,
    SweepResult,
    exchanged,
    of_study,
    sweep,
    sweep_trials,
    sweepable,
)
from majors_alts_pipeline.evidence.trials import AS_CONFIGURED, study_trials
from majors_alts_pipeline.orchestration.reporting import REGISTRY, origin_of
from majors_alts_pipeline.orchestration.storage import MixedStudyError
from majors_alts_pipeline.orchestration.study import Say, Study, code_version
from majors_alts_pipeline.stages import STAGES


@dataclass(frozen=True)
class _OwnDays:
    """Stored days, where they are this study's and this code's; of others' days nothing is read."""

    study: Study

    def stored(self, table: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        if any(stamp.code != code_version() for stamp in self.study.store.stamps(table, window).values()):
            return None
        try:
            return self.study.stored(table, window, columns)
        except MixedStudyError:
            return None


@dataclass(frozen=True)
class Evaluated:
    """A configuration that was tried.

    Attributes:
        trial: its identifier in the registry.
        kpis: of its last day.
        n_evaluated: configurations evaluated: itself, its candidates, its other regime methods.
        n_new: how many of them the registry did not know on this lake.
        n_trials: distinct configurations on this lake, with these.
    """

    trial: str
    kpis: pl.DataFrame
    n_evaluated: int
    n_new: int
    n_trials: int


def registry_of(study: Study) -> Registry:
    """The registry beside the study's results."""
    return Registry(study.store.root / REGISTRY)


def evaluate(study: Study, overrides: Mapping[str, Any], now: datetime, say: Say) -> Evaluated:
    """Run the chain with other settings over the whole history, in memory, and register it and its candidates.

    Args:
        study: lake and configuration.
        overrides: settings changed, dotted key to value.
        now: time of the registration, aware.
        say: receives one line per stage.

    Raises:
        ConfigError: an override is impossible; nothing is registered, since nothing was evaluated.
        RegistryError: the registry cannot be read or written.
        Exception: whatever the chain raised, after it was registered as a failure.
    """
    if any(key.split(".")[0] == "lake" for key in overrides):
        raise ConfigError("settings of the section lake say how the lake is read: change them in a file, with --config")
    changed = replace(study, settings=with_overrides(study.settings, overrides))
    label = ", ".join(f"{key}={value}" for key, value in overrides.items()) or AS_CONFIGURED
    window, origin = changed.history, origin_of(changed, now)
    runner = Runner(changed.lake, changed.settings, _OwnDays(changed))
    tables: dict[str, pl.DataFrame] = {}
    try:
        for stage in STAGES:
            say(stage.title)
            for table in stage.tables:
                tables[table] = runner.table(table, window)
        trials = study_trials(tables, window, changed.settings, label)
    except Exception as error:
        failed = Trial(
            trial=trial_id(changed.settings), kind=RUN, label=label,
            settings=changed.settings.model_dump(mode="json"), seed=changed.settings.backtest.seed,
            first_day=window.start, last_day=window.end, error=f"{type(error).__name__}: {error}",
        )  # fmt: skip
        registry_of(study).append([failed], origin)
        raise
    registry = registry_of(study)
    before = count_trials(registry.read(returns=False), origin.lineage)
    registry.append(trials, origin)
    after = count_trials(registry.read(returns=False), origin.lineage)
    kpis = tables["kpis"].filter(pl.col("date") == window.end).drop("date")
    return Evaluated(trial_id(changed.settings), kpis, len({item.trial for item in trials}), after - before, after)


def sweep_study(study: Study, grid: Mapping[str, Sequence[Any]], now: datetime, say: Say) -> SweepResult:
    """Evaluate the variants of a grid in memory and register every one of them, failures included.

    Args:
        study: lake and configuration; another regime method than composite is exchanged for it, and said.
        grid: dotted key to values.
        now: time of the registration, aware.
        say: receives one line per step.

    Raises:
        ConfigError: a key of the grid is none of the settings or cannot be varied.
        RegistryError: the registry cannot be read or written.
    """
    timed = replace(study, settings=sweepable(study.settings))
    if exchanged(study.settings):
        say(f"sweep: variants of {study.settings.regime.method} cannot be swept; these are of {OTHER_METHOD}")
    result = of_study(sweep(Runner(study.lake, timed.settings, _OwnDays(timed)), grid, say), study.settings)
    trials = sweep_trials(result, study.history, study.settings)
    registry_of(study).append(trials, origin_of(timed, now))
    return result
