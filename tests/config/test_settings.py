"""Settings: defaults load, impossible ones are refused in words, and every key is read by code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import majors_alts_pipeline
from majors_alts_pipeline.config import ConfigError, Settings, load_settings

PACKAGE = Path(majors_alts_pipeline.__file__).parent


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("basket: {n_altz: 3}", "basket.n_altz"),
        ("n_alts: 3", "n_alts"),
        ("basket: {betas: {window_days: 60}}", "basket.betas"),
        ("betas: {min_obs: 90}", "no beta could ever exist"),
        ("regime: {enter: 9.0}", "never fires"),
        ("regime: {exposure: {RISK_ON_MAJORS: 1.0}}", "RISK_ON_ALTS"),
        ("regime: {exposure: {RISK_ON_MAJORS: 1.5, BALANCED: 0.0, RISK_ON_ALTS: 0.0}}", "less than or equal to 1"),
        ("regime: {grid: {exit_ratio: [1.5]}}", "exit_ratio"),
        ("features: {enabled: [breadth_up]}", "features.enabled in a file of yours replace the default whole"),
        ("regime: {weight_schemes: {mine: {breadth_up: 1.0}}}", "regime.weight_schemes in a file of yours replace"),
        ("costs: {taker_fee: .nan}", "costs.taker_fee"),
        ("backtest: {capital_usd: -1}", "backtest.capital_usd"),
        ("basket: {alt_weight_max: 0.01}", "could never be filled"),
        ("evaluation: {sweep_grid: {basket.n_altz: [3]}}", "setting 'basket.n_altz' does not exist"),
        ("evaluation: {sweep_grid: {basket.n_alts: []}}", "basket.n_alts has no value"),
        ("evaluation: {sweep_grid: {evaluation.seed: [1]}}", "evaluation.seed cannot be varied, section"),
        ("[1, 2]", "expected blocks"),
        ("basket: {n_alts: [", "configuration"),
    ],
)
def test_impossible_settings_name_the_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_settings(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    with pytest.raises(ConfigError, match="No such file") as caught:
        load_settings(path)
    assert str(caught.value).count(str(path)) == 1


def test_a_partial_file_changes_only_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"costs": {"taker_fee": 0.002}}))
    default, mine = load_settings().model_dump(), load_settings(path).model_dump()
    assert mine["costs"].pop("taker_fee") == 0.002
    default["costs"].pop("taker_fee")
    assert mine == default


def test_the_digest_sees_every_section() -> None:
    base = load_settings()
    changed = load_settings(overrides={"costs": {"taker_fee": 0.001}})
    assert base.digest() != changed.digest()
    assert base.digest(("betas",)) == changed.digest(("betas",))


def leaf_keys(model: type[BaseModel]) -> list[str]:
    keys: list[str] = []
    for name, info in model.model_fields.items():
        annotation: Any = info.annotation
        keys += leaf_keys(annotation) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else [name]
    return keys


def test_every_key_is_read_by_code() -> None:
    sources = "\n".join(
        path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "settings.py" or path.parent.name != "config"
    )
    unread = [key for key in leaf_keys(Settings) if not re.search(rf"\.{key}\b", sources)]
    assert unread == []
