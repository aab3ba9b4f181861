"""The red flags of the evidence as Dagster checks: they fail when one fired, and say so in the flag's words."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from majors_alts_pipeline.config.paths import Paths
from majors_alts_pipeline.definitions import build_definitions
from majors_alts_pipeline.evaluation.contracts import RED_FLAGS as CONTRACT
from majors_alts_pipeline.evidence.redflags import RULES
from majors_alts_pipeline.orchestration import checks, reporting
from majors_alts_pipeline.orchestration.verdicts import RED_FLAGS, red_flag

WORDS = "regime: a net Sharpe ratio of 9.00 over 400 days is beyond 4"


def flags(fired: bool) -> pl.DataFrame:
    rows = [
        {"subject": "regime", "fired": fired, "value": 9.0, "message": WORDS},
        {"subject": "always_on", "fired": False, "value": 1.0, "message": "ok"},
    ]
    rows = [{"flag": "implausible_sharpe", "bound": 4.0, **row} for row in rows]
    return CONTRACT.conform(pl.DataFrame(rows, schema=CONTRACT.schema))


def test_a_fired_flag_is_a_failed_verdict_with_its_rows() -> None:
    failed = red_flag(flags(True), "implausible_sharpe")
    assert (failed.passed, failed.words) == (False, WORDS)
    assert failed.evidence is not None
    assert failed.evidence["subject"].to_list() == ["regime"]
    assert red_flag(flags(False), "implausible_sharpe").words == "2 looked at, none fired"
    nothing = red_flag(flags(True), "concentration")
    assert (nothing.passed, nothing.words) == (True, "nothing to look at")


@pytest.mark.parametrize("fired", [True, False])
def test_the_checks_fail_when_a_flag_fired(monkeypatch: pytest.MonkeyPatch, fired: bool) -> None:
    monkeypatch.setattr(reporting, "stored_evidence", lambda study: {"red_flags": flags(fired)})
    found = {result.check_name: result for result in _results()}
    assert set(found) == set(RED_FLAGS) == set(RULES)
    assert found["implausible_sharpe"].passed is not fired
    assert found["implausible_sharpe"].severity is dg.AssetCheckSeverity.ERROR
    assert all(result.passed for name, result in found.items() if name != "implausible_sharpe")


def test_without_evidence_there_is_nothing_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "stored_evidence", lambda study: {})
    with pytest.raises(dg.Failure, match="materialise the asset evidence first"):
        list(_results())


def test_the_evidence_comes_before_the_report_and_every_flag_is_a_check(paths: Paths) -> None:
    graph = build_definitions(paths).resolve_asset_graph()
    evidence, report = dg.AssetKey("evidence"), dg.AssetKey("report")
    assert evidence in graph.get(report).parent_keys
    assert dg.AssetKey("positions") in graph.get(evidence).parent_keys
    assert {key.name for key in graph.asset_check_keys if key.asset_key == evidence} == set(RED_FLAGS)


def _results() -> Iterator[dg.AssetCheckResult]:
    run: Any = SimpleNamespace(study=None)
    study: Any = SimpleNamespace(of_run=lambda run_id: run)
    context: Any = SimpleNamespace(run=SimpleNamespace(run_id="run"))
    compute: Any = checks._evidence_checks().op.compute_fn
    yield from compute.decorated_fn(context, study)
