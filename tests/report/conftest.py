"""Fixtures of the report's tests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_evidence import make_evidence
from report_world import LAGS, World, make_world, report_context

from majors_alts_pipeline.report.build import ReportPaths, build_report


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def quick(world) -> World:
    """The world with a short bootstrap: the words and files do not depend on its length."""
    evaluation = world.settings.evaluation.model_copy(update={"bootstrap_reps": 100})
    return replace(world, settings=world.settings.model_copy(update={"evaluation": evaluation}))


@pytest.fixture(scope="session")
def built(quick, tmp_path_factory) -> ReportPaths:
    return build_report(quick.load, report_context(quick), tmp_path_factory.mktemp("out") / "report", LAGS)


@pytest.fixture(scope="session")
def proven(quick, tmp_path_factory) -> ReportPaths:
    """The report with every evidence table supplied."""
    return build_report(
        quick.load,
        report_context(quick),
        tmp_path_factory.mktemp("proven") / "report",
        LAGS,
        evidence=make_evidence(),
        verdict="The book earned nothing that luck does not explain.",
        what_would_change="four more years like these, or a difference of 20 bp a day",
    )
