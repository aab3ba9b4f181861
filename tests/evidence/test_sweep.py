"""Each variant of a sweep equals its own full run, bit for bit; shared work is done once; failures are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from majors_alts_pipeline.basket import stage as basket_stage
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Reader, Runner
from majors_alts_pipeline.config import ConfigError, Settings, load_settings
from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.evaluation.contracts import SWEEP
from majors_alts_pipeline.evidence import sweep as module
from majors_alts_pipeline.evidence.registry import (
    Origin,
    Registry,
    count_trials,
    lineage_of,
    trial_id,
    trial_returns,
)
from majors_alts_pipeline.evidence.sweep import (
    Held,
    SweepResult,
    Variant,
    expand,
    of_study,
    resolve,
    sweep,
    sweep_trials,
    sweepable,
)
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.proofs.markets import market_settings
from majors_alts_pipeline.stages import STAGE_OF_TABLE, all_sections

GRID: dict[str, list[Any]] = {
    "regime.enter": [0.1, 0.4],
    "basket.n_alts": [10, 20],
    "backtest.rebalance": ["month", "week"],
}


@pytest.fixture(scope="module")
def configured() -> Settings:
    return market_settings({"regime": {"min_train_days": 150, "method": "composite", "methods": ["composite"]}})


@pytest.fixture(scope="module")
def runner(small_lake: LakeSource, configured: Settings) -> Runner:
    return Runner(small_lake, configured)


@pytest.fixture(scope="module")
def result(runner: Runner) -> SweepResult:
    return sweep(runner, GRID)


def assert_equals_own_run(lake: LakeSource, result: SweepResult, column: int, reader: Reader | None = None) -> None:
    variant = result.variants[column]
    chain = Runner(lake, variant.settings, reader)
    own = chain.run(STAGE_OF_TABLE["backtest"], chain.history)["backtest"].filter(account="regime").sort("date")
    own = own.filter(pl.col("date") >= result.days[0])
    assert own["date"].to_list() == result.days
    returns = own["ret_net"].to_numpy()
    assert returns.tobytes() == result.returns[:, column].tobytes(), variant.overrides
    row = result.frame.row(column, named=True)
    assert row["turnover_annual"] == pytest.approx(own["turnover"].mean() * 365, rel=1e-12, abs=1e-15)
    if returns.any():
        assert row["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 365**0.5, rel=1e-10)
        assert row["volatility"] == pytest.approx(returns.std(ddof=1) * 365**0.5, rel=1e-10)
    nav = np.concatenate([[1.0], np.cumprod(1 + returns)])
    assert row["max_drawdown"] == pytest.approx((nav / np.maximum.accumulate(nav) - 1).min(), abs=1e-12)
    assert row["cagr"] == pytest.approx(nav[-1] ** (365 / len(returns)) - 1, rel=1e-9, abs=1e-12)


def test_every_variant_equals_its_own_full_run(small_lake: LakeSource, result: SweepResult) -> None:
    assert result.returns.any(axis=0).sum() > len(result.variants) // 2
    for column in (0, 3, 7, len(result.variants) - 1):
        assert_equals_own_run(small_lake, result, column)


def test_the_configuration_is_variant_0_and_twins_are_left_out(result: SweepResult, configured: Settings) -> None:
    assert SWEEP.conform(result.frame).equals(result.frame)
    assert result.frame["variant"].to_list() == list(range(3 * 2 * 2))
    assert result.frame["overrides"][0] == "{}"
    assert result.ids == [trial_id(variant.settings) for variant in result.variants]
    assert result.ids[0] == trial_id(configured)
    assert len(set(result.ids)) == len(result.ids)
    assert all(json.loads(text) for text in result.frame["overrides"][1:])
    assert result.returns.shape == (len(result.days), len(result.variants))
    assert not result.failures


def test_the_statistics_of_the_configuration_are_those_of_the_kpis(
    small_lake: LakeSource, configured: Settings, runner: Runner
) -> None:
    alone = sweep(runner, [])
    last = Runner(small_lake, configured).run_all()["kpis"].filter(account="regime").sort("date").row(-1, named=True)
    row = alone.frame.row(0, named=True)
    for name in SWEEP.columns:
        if name in last:
            assert row[name] == pytest.approx(last[name], rel=1e-9), name


OVERRIDES: dict[str, list[Any]] = {
    "regime.enter": [0.12, 0.7],
    "regime.exit_ratio": [0.0, 0.9],
    "regime.z_cap": [2.0, 3.0],
    "regime.smoothing_days": [1, 9],
    "regime.min_dwell_days": [1, 10],
    "regime.default_scheme": ["trend", "crowding"],
    "regime.weight_schemes": [
        {"balanced": {"breadth_up": 1.0}, "trend": {"momentum_7": 1.0}, "crowding": {"vol_spread": 1.0}}
    ],
    "regime.exposure": [{"RISK_ON_MAJORS": 1.0, "BALANCED": 0.5, "RISK_ON_ALTS": 0.0}],
    "regime.grid.enter": [[0.2, 0.5]],
    "regime.refit": ["quarter"],
    "regime.label_horizon_days": [1, 9],
    "regime.switch_cost": [0.0, 0.01],
    "regime.inner_folds": [2, 6],
    "regime.selection_margin": [0.0],
    "regime.min_train_days": [100],
    "basket.mode": ["btc_beta", "dollar"],
    "basket.alt_weight_max": [0.08, 0.2],
    "basket.short_gross": [0.3],
    "basket.turnover_penalty": [2.0],
    "backtest.capital_usd": [1e5, 3e9],
    "backtest.execution_lag_days": [0, 3],
    "backtest.rebalance": ["daily", "month"],
    "backtest.band": [0.0, 0.1],
    "backtest.vol_target": [None, 0.3],
    "backtest.vol_forecast": ["trailing"],
    "backtest.vol_min_obs": [50],
    "backtest.ewma_lambda": [0.9],
    "backtest.multiplier_max": [0.5, 3.0],
    "backtest.stops": [{"fixed": 0.05, "trailing": None, "time_days": 30}],
    "costs.taker_fee": [0.0, 0.003],
    "costs.impact_coefficient": [0.0],
    "costs.spread_window_days": [90],
    "universe.min_age_days": [30, 90],
    "features.z_window_days": [120],
    "betas.window_days": [45],
    "betas.vasicek": [False],
}
INDEPENDENT = sorted(set(OVERRIDES) - {"backtest.vol_min_obs"})


@given(
    chosen=st.lists(
        st.lists(st.sampled_from(INDEPENDENT), min_size=1, max_size=4, unique=True).flatmap(
            lambda keys: st.fixed_dictionaries({key: st.sampled_from(OVERRIDES[key]) for key in keys})
        ),
        min_size=4,
        max_size=6,
    ),
    one=st.integers(0, 5),
)
@hypothesis_settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_settings_may_be_varied_together(
    small_lake: LakeSource, runner: Runner, chosen: list[Mapping[str, Any]], one: int
) -> None:
    together = sweep(runner, chosen)
    assert not together.failures
    assert_equals_own_run(small_lake, together, one % len(together.variants))


@dataclass(frozen=True)
class Stored:
    """Days of the configuration that a variant shares with it, as a store hands them out."""

    base: Runner
    settings: Settings

    def stored(self, table: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        sections = all_sections(STAGE_OF_TABLE[table])
        same = self.settings.digest(sections) == self.base.settings.digest(sections)
        return self.base.table(table, window, columns) if same else None


@pytest.mark.parametrize("key", sorted(OVERRIDES))
def test_a_variant_that_differs_in_one_key_is_not_the_shadow_of_the_configuration(
    small_lake: LakeSource, runner: Runner, key: str
) -> None:
    """Work is shared by what it depends on; a dependence that was forgotten would give the configuration's account."""
    together = sweep(runner, [{key: value} for value in OVERRIDES[key]])
    assert len(together.variants) == 1 + len(OVERRIDES[key])
    reader = Stored(runner, together.variants[1].settings)
    assert_equals_own_run(small_lake, together, 1, reader)


def test_a_study_in_memory_and_a_shorter_history_give_what_the_chain_gives(
    small_lake: LakeSource, configured: Settings, runner: Runner
) -> None:
    """Stored by another regime method, and up to an earlier day than the lake's last."""
    window = Window(runner.history.start, runner.history.end - timedelta(days=30))
    other = with_overrides(configured, {"regime.method": "kmeans", "regime.methods": ["kmeans"]})
    tables = {
        table: Runner(small_lake, other).table(table, window)
        for table in ("panel", "universe", "features", "betas", "basket")
    }
    settings = sweepable(other)
    assert settings.regime.method == "composite"
    assert sweepable(configured) is configured
    with pytest.raises(ConfigError, match=r"regime\.method is 'kmeans'"):
        sweep(Runner(small_lake, other), GRID)
    found = sweep(Runner(small_lake, settings, Held(tables, window)), GRID, history=window)
    assert found.days[-1] == window.end
    expected = sweep(runner, GRID)
    told = of_study(found, other).frame["overrides"]
    assert json.loads(told[0]) == {"regime.method": "composite"}, "variant 0 is not the study"
    assert json.loads(told[1]) == {"regime.method": "composite", **found.variants[1].overrides}
    trials = sweep_trials(found, window, other)
    assert trials[0].label == "composite with these settings"
    assert all(item.label.startswith("composite with these settings, ") for item in trials[1:])
    assert {item.base for item in trials} == {settings.digest()}
    assert of_study(expected, configured).frame.equals(expected.frame)
    assert found.days == expected.days[: len(found.days)]
    assert found.returns.tobytes() == expected.returns[: len(found.days)].tobytes()


def test_shared_work_is_done_once(
    monkeypatch: pytest.MonkeyPatch, small_lake: LakeSource, configured: Settings
) -> None:
    counted = {"basket": 0, "market": 0}
    basket, market = basket_stage.compute, module.market_of

    def one_basket(*args: Any) -> Any:
        counted["basket"] += 1
        return basket(*args)

    def one_market(*args: Any) -> Any:
        counted["market"] += 1
        return market(*args)

    monkeypatch.setattr(basket_stage, "compute", one_basket)
    monkeypatch.setattr(module, "market_of", one_market)
    sweep(Runner(small_lake, configured), {**GRID, "costs.taker_fee": [0.0, 0.001]})
    assert counted == {"basket": 2, "market": 3}


def test_variants_that_fail_are_kept_with_their_reason(runner: Runner) -> None:
    tried = sweep(
        runner,
        [
            {"basket.alt_weight_max": 0.01},
            {"basket.min_alts": 9, "basket.n_alts": 9},
            {"universe.min_adv_usd": 1e15},
            {"regime.method": "hmm", "regime.methods": ["hmm"]},
            {"basket.n_alts": "many"},
        ],
    )
    assert tried.frame["variant"].to_list() == [0, 2]
    reasons = {failure.number: failure.error for failure in tried.failures}
    assert "could never be filled" in reasons[1]
    assert "flat on every day" in reasons[3]
    assert "regime.method is 'hmm'" in reasons[4]
    assert "basket.n_alts" in reasons[5]
    assert [failure.settings is None for failure in tried.failures] == [True, False, True, True]


def test_every_variant_is_a_trial_failures_included(
    small_lake: LakeSource, configured: Settings, runner: Runner, tmp_path: Path
) -> None:
    tried = sweep(runner, [{"basket.n_alts": 10}, {"basket.alt_weight_max": 0.01}, {"universe.min_adv_usd": 1e15}])
    trials = sweep_trials(tried, runner.history, configured)
    assert [trial.label for trial in trials] == [
        "as configured", "basket.n_alts=10", "basket.alt_weight_max=0.01", "universe.min_adv_usd=1000000000000000.0",
    ]  # fmt: skip
    assert trials[1].trial == trial_id(with_overrides(configured, {"basket.n_alts": 10}))
    assert len({trial.trial for trial in trials}) == 4
    registry = Registry(tmp_path)
    origin = Origin(datetime(2026, 1, 1, tzinfo=UTC), "study", "code", "lake", lineage_of(small_lake), True)
    registry.append(trials, origin)
    records = registry.read()
    assert count_trials(records, origin.lineage) == 2
    assert sorted(records["status"].to_list()) == ["failed", "failed", "ok", "ok"]
    held = trial_returns(records, origin.lineage, "regime")
    np.testing.assert_allclose(held[tried.ids[1]].to_numpy(), tried.returns[:, 1], rtol=1e-6, atol=1e-12)
    assert held["date"].to_list() == tried.days


def test_an_unknown_key_or_another_method_stops_the_sweep(small_lake: LakeSource, runner: Runner) -> None:
    with pytest.raises(ConfigError, match=r"basket\.n_altz"):
        sweep(runner, {"basket.n_altz": [3]})
    with pytest.raises(ConfigError, match=r"lake\.price_carry_days cannot be varied in a sweep: section lake says how"):
        sweep(runner, [{"lake.price_carry_days": 1}])
    other = with_overrides(runner.settings, {"regime.method": "hmm", "regime.methods": ["hmm"]})
    with pytest.raises(ConfigError, match="sweep evaluates variants of 'composite'"):
        sweep(Runner(small_lake, other), [])


def test_the_configured_value_is_among_those_of_a_grid(configured: Settings) -> None:
    tried = expand(configured, {"basket.n_alts": [5, 6], "regime.enter": [configured.regime.enter]})
    assert {overrides["basket.n_alts"] for overrides in tried} == {5, 6, configured.basket.n_alts}
    assert len(tried) == 3


def test_the_default_grid_has_about_500_variants_and_its_keys_every_configured_value() -> None:
    settings = load_settings(overrides={"regime": {"method": "composite", "methods": ["composite"]}})
    variants, failures = resolve(settings, settings.evaluation.sweep_grid)
    assert len(variants) == 540
    assert not failures
    for key, values in settings.evaluation.sweep_grid.items():
        assert settings.value_of(key) in values


@pytest.mark.real_lake
@pytest.mark.slow
def test_variants_on_the_real_lakes_equal_their_own_runs(open_real_lake: LakeSource) -> None:
    settings = load_settings(overrides={"regime": {"method": "composite", "methods": ["composite"]}})
    stored = Runner(open_real_lake, settings)
    for table in ("panel", "universe", "features", "betas"):
        stored.table(table, stored.history)
    found = sweep(stored, [
        {"regime.enter": 0.4, "backtest.rebalance": "daily"},
        {"basket.n_alts": 12, "regime.default_scheme": "trend"},
        {"backtest.execution_lag_days": 2, "costs.taker_fee": 0.001},
        {"backtest.vol_target": None, "regime.exposure.BALANCED": 0.5},
    ])  # fmt: skip
    for column, variant in enumerate(found.variants):
        assert_equals_own_run(open_real_lake, found, column, Stored(stored, variant.settings))


def test_a_variant_says_only_what_differs(configured: Settings) -> None:
    variants, _ = resolve(configured, {"basket.n_alts": [configured.basket.n_alts, 9], "backtest.rebalance": ["week"]})
    assert [variant.overrides for variant in variants] == [{}, {"basket.n_alts": 9}]
    assert isinstance(variants[1], Variant)
