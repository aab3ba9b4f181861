"""Two trials beside each other: the paired interval covers, tells apart what differs, and says when it cannot."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_registry import FIRST, origin, trial

from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.evidence.compare import compare, find, lineages, listing, sharpe_difference
from majors_alts_pipeline.evidence.registry import CANDIDATE, Registry, RegistryError, Trial

RULES: dict[str, Any] = {"reps": 200, "confidence": 0.95, "seed": 1}


def test_pairing_makes_the_interval_narrow_where_returns_agree() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0.0, 0.01, 500)
    a, b = common + rng.normal(0.001, 0.001, 500), common
    near = sharpe_difference(a, b, **RULES)
    far = sharpe_difference(a, rng.permutation(b), **RULES)
    assert 0.0 < near.low < near.value < near.high
    assert near.high - near.low < (far.high - far.low) / 3
    turned = sharpe_difference(b, a, **RULES)
    assert (turned.low, turned.high) == pytest.approx((-near.high, -near.low))


def test_the_interval_covers_the_truth() -> None:
    """Equal true Sharpe ratios: a nominal 95 % interval misses 0 in few of 100 samples (binomial 99.9 % bound: 13)."""
    rng = np.random.default_rng(5)
    missed = 0
    for seed in range(100):
        common = rng.normal(0.0, 0.01, 300)
        a, b = (common + rng.normal(0.0, 0.01, 300) for _ in range(2))
        gap = sharpe_difference(a, b, reps=200, confidence=0.95, seed=seed)
        missed += not gap.low <= 0.0 <= gap.high
    assert missed <= 13


def test_equal_or_constant_returns_give_no_interval_and_say_why() -> None:
    varying = np.random.default_rng(0).normal(0.0, 0.01, 200)
    for a, b, words in (
        (varying, varying, "the same on every one of these days"),
        (varying, np.zeros(200), "never vary"),
        (varying[:5], varying[5:10], "days in common"),
    ):
        gap = sharpe_difference(a, b, **RULES)
        assert np.isnan([gap.low, gap.high]).all()
        assert words in gap.no_interval
    assert sharpe_difference(varying, varying[::-1], **RULES).no_interval == ""


@pytest.mark.parametrize("days", [0, 1, 30])
def test_too_few_days_give_no_interval(days: int) -> None:
    gap = sharpe_difference(np.linspace(0.0, 0.1, days), np.zeros(days), **RULES)
    assert np.isnan(gap.low)
    assert gap.n_days == days


def registered(root: Path, *trials: Trial, lineage: str = "lake-a") -> Registry:
    registry = Registry(root)
    registry.append(list(trials), origin(lineage))
    return registry


def test_shared_days_and_differing_settings(tmp_path: Path) -> None:
    late = FIRST + timedelta(days=20)
    b = trial("bbb", n_days=100, start=late, seed=2)
    b = Trial(**{**vars(b), "settings": {"basket": {"n_alts": 12, "mode": "dollar"}}})
    a = Trial(**{**vars(trial("aaa", n_days=100, seed=1)), "settings": {"basket": {"n_alts": 20, "mode": "dollar"}}})
    records = registered(tmp_path, a, b).read()
    found = compare(records, "a", "bb", "regime", **RULES)
    assert found.settings.rows() == [("basket.n_alts", "20", "12")]
    assert found.sharpe is not None
    assert found.sharpe.n_days == 80
    assert found.metrics.filter(metric="sharpe").row(0) == ("sharpe", 0.5, 0.5, 0.0)
    assert found.metrics.filter(metric="cagr").row(0)[1:] == (None, None, None)


def test_what_cannot_be_paired_is_said(tmp_path: Path) -> None:
    registry = registered(tmp_path, trial("aaa"), Trial(**{**vars(trial("ccc")), "returns": None}))
    registry.append([trial("bbb")], origin("lake-b", hours=1))
    assert compare(registry.read(), "aaa", "bbb", "regime", **RULES).words == "they were evaluated on different lakes"
    assert "not kept" in compare(registry.read(), "aaa", "ccc", "regime", **RULES).words


def test_names_are_found_by_how_they_begin(tmp_path: Path) -> None:
    records = registered(tmp_path, trial("abc"), trial("abd"), trial("f", error="broken")).read()
    assert find(records, "abc")["trial"].to_list() == ["abc"]
    for name, words in (("ab", "ambiguous"), ("x", "no trial"), ("", "no trial")):
        with pytest.raises(RegistryError, match=words):
            find(records, name)
    with pytest.raises(RegistryError, match="no successful record"):
        compare(records, "f", "abc", "regime", **RULES)


def test_a_run_is_found_by_its_study_and_its_configuration(tmp_path: Path) -> None:
    settings = load_settings()
    run = Trial(**{**vars(trial("abc")), "settings": settings.model_dump(mode="json")})
    registry = registered(tmp_path, run, trial("candidate", CANDIDATE))
    registry.append([trial("fff")], replace(origin(hours=1), study="0study"))
    registry.append([trial("ggg")], replace(origin(hours=2), study="0stump"))
    records = registry.read()
    assert find(records, settings.digest())["trial"].to_list() == ["abc"]
    assert find(records, settings.digest()[:7])["trial"].to_list() == ["abc"]
    assert find(records, "0stud")["trial"].to_list() == ["fff"]
    with pytest.raises(RegistryError, match="ambiguous: fff, ggg"):
        find(records, "0stu")


def test_the_list_shows_runs_and_failures_and_every_lake(tmp_path: Path) -> None:
    registry = registered(tmp_path, trial("run"), trial("candidate", CANDIDATE), trial("failed", CANDIDATE, error="x"))
    registry.append([trial("run")], origin("lake-b", hours=1))
    records = registry.read()
    assert listing(records, every=False)["trial"].to_list() == ["failed", "run", "run"]
    assert listing(records, every=True).height == 4
    held = lineages(records)
    assert held["lineage"].to_list() == ["lake-a", "lake-b"]
    assert held["distinct trials"].to_list() == [2, 1]
    assert held["failures"].to_list() == [1, 0]
