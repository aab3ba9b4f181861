"""`majors-alts study sweep` as typed: what it prints, what it registers, and that results stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from majors_alts_pipeline.cli import app
from majors_alts_pipeline.evaluation.contracts import SWEEP
from majors_alts_pipeline.evidence.registry import Registry
from majors_alts_pipeline.lake.simulate import SimulatedLake, write_lake


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_market: SimulatedLake) -> Path:
    folder = tmp_path_factory.mktemp("study_sweep")
    write_lake(small_market, folder / "lake")
    (folder / "config.yaml").write_text(
        "universe: {min_adv_usd: 0.0, min_marketcap_usd: 0.0, require_shortable: false}\n"
        "features: {z_window_days: 90, z_min_obs: 45}\n"
        "basket: {adv_share_max: 1000.0}\n"
        "evaluation: {sweep_grid: {regime.enter: [0.1, 0.4]}}\n"
    )
    return folder


def typed(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str, status: int = 0) -> str:
    for name, path in (("LAKE", "lake"), ("CONFIG", "config.yaml"), ("OUT", "out"), ("CACHE", "cache")):
        monkeypatch.setenv(f"MAJORS_ALTS_{name}", str(folder / path))
    done = CliRunner().invoke(app, ["study", "sweep", *words])
    assert done.exit_code == status, done.output
    return done.output


def test_the_configured_grid_is_swept_and_registered(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    said = typed(monkeypatch, folder, "--save", str(folder / "sweep.parquet"))
    frame = SWEEP.conform(pl.read_parquet(folder / "sweep.parquet"))
    enters = [json.loads(text) for text in frame["overrides"]]
    assert sorted(enters, key=str) == [{"regime.enter": 0.1}, {"regime.enter": 0.4}, {}]
    assert "SIMULATED data" in said
    assert "as configured" in said
    assert "3 trials registered, 0 of them failures" in said
    records = Registry(folder / "out" / "registry").read()
    assert set(records["trial"]) == set(frame["trial"])
    assert set(records["kind"]) == {"sweep"}
    assert [path.name for path in (folder / "out").iterdir()] == ["registry"]


def test_keys_may_be_typed_and_failures_are_registered(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    said = typed(
        monkeypatch, folder, "--vary", "basket.n_alts=[10, 12]", "--vary", "basket.alt_weight_max=[0.01]"
    )  # fmt: skip
    assert 'failed: {"basket.n_alts": 10, "basket.alt_weight_max": 0.01}' in said
    assert "6 trials registered, 3 of them failures" in said
    records = Registry(folder / "out" / "registry").read()
    assert (records["status"] == "failed").sum() == 3
    assert "never be filled" in records.filter(pl.col("status") == "failed")["error"][0]


def test_another_method_than_the_swept_one_is_said(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    text = (folder / "config.yaml").read_text() + "regime: {method: kmeans, methods: [kmeans]}\n"
    (tmp_path / "config.yaml").write_text(text)
    out = ("--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out"))
    said = typed(monkeypatch, folder, *out, "--save", str(tmp_path / "sweep.parquet"))
    assert "as configured" not in said
    assert "composite with these settings" in said
    frame = pl.read_parquet(tmp_path / "sweep.parquet")
    assert json.loads(frame["overrides"][0]) == {"regime.method": "composite"}


@pytest.mark.parametrize("vary", ["basket.n_alts", "basket.n_alts=12", "basket.n_alts=[]"])
def test_a_key_without_a_list_is_refused(monkeypatch: pytest.MonkeyPatch, folder: Path, vary: str) -> None:
    assert "--vary" in typed(monkeypatch, folder, "--vary", vary, status=2)
