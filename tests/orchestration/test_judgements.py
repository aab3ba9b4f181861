"""Red flags, previews, signals, schedule and sensor: each on rows where the right answer is known."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import toy_stages
from conftest import FIRST, LAST

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.config.paths import REPOSITORY, Paths
from majors_alts_pipeline.orchestration import executors, previews, schedules, sensors, verdicts
from majors_alts_pipeline.orchestration.resources import StudyResource
from majors_alts_pipeline.orchestration.storage import TableStore
from majors_alts_pipeline.report.signals import SignalsError, build_signals, write_signals
from majors_alts_pipeline.stages import STAGES
from majors_alts_pipeline.tables import TABLES

SETTINGS = load_settings()
DAYS = Window(date(2024, 1, 1), date(2024, 6, 30))
ONE = Window(date(2024, 1, 2), date(2024, 1, 2))


def rows(table: str, window: Window = ONE, **values: Any) -> pl.DataFrame:
    frame = toy_stages.rows(table, window)
    schema = TABLES[table].schema
    zero = [pl.lit(0.0).alias(name) for name, dtype in schema.items() if dtype == pl.Float64]
    exprs = [v if isinstance(v, pl.Expr) else pl.lit(v) for v in values.values()]
    named = [e.cast(schema[n]).alias(n) for n, e in zip(values, exprs, strict=True)]
    return frame.with_columns(zero).with_columns(named)


@pytest.mark.parametrize(
    ("rule", "table", "good", "bad", "words"),
    [
        (
            verdicts.ledger_identity,
            "backtest",
            {"identity_error": 1e-12},
            {"identity_error": 1e-8},
            "misses its identity",
        ),
        (
            verdicts.garch_in_force,
            "backtest",
            {"vol_model": "garch"},
            {"vol_model": "garch_stale"},
            "an older one sized the book",
        ),
        (
            verdicts.neutrality,
            "basket",
            {"status": "optimal"},
            {"status": "optimal", "neutrality_eth": 0.2},
            "ETH 0.2000",
        ),
        (
            verdicts.plausible_sharpe,
            "kpis",
            {"n_days": 400, "sharpe": 1.2},
            {"n_days": 400, "sharpe": -9.0},
            "-9.00",
        ),
        (
            verdicts.drawdown_exists,
            "kpis",
            {"n_invested_days": 400, "volatility": 0.2, "max_drawdown": -0.1},
            {"n_invested_days": 400, "volatility": 0.2, "max_drawdown": 0.0},
            "one of them is wrong",
        ),
    ],
)
def test_rules_of_one_day(
    rule: Callable[..., verdicts.Verdict], table: str, good: dict[str, Any], bad: dict[str, Any], words: str
) -> None:
    assert rule({table: rows(table, **good)}, SETTINGS).passed
    verdict = rule({table: rows(table, **bad)}, SETTINGS)
    assert not verdict.passed
    assert words in verdict.words
    assert "2024-01-02" in verdict.words or table == "kpis"
    assert verdict.evidence is not None
    assert verdict.evidence.height


def test_relaxed_days_may_miss_neutrality() -> None:
    verdict = verdicts.neutrality({"basket": rows("basket", status="relaxed", neutrality_btc=0.3)}, SETTINGS)
    assert verdict.passed
    assert "1 of them with relaxed" in verdict.words


def test_a_flat_book_that_earns() -> None:
    window = Window(date(2024, 1, 2), date(2024, 1, 3))
    assert verdicts.flat_book({"backtest": rows("backtest", window)}, SETTINGS).passed
    earning = rows("backtest", window, pnl_funding=1.0)
    assert "flat on 2024-01-03" in verdicts.flat_book({"backtest": earning}, SETTINGS).words
    invested = rows("backtest", window, pnl_funding=1.0, gross_exposure=1.0)
    assert verdicts.flat_book({"backtest": invested}, SETTINGS).passed


def test_a_return_beyond_the_exposure() -> None:
    calm = rows("backtest", gross_exposure=1.5, ret_gross=-0.9)
    assert verdicts.return_within_gross({"backtest": calm}, SETTINGS).passed
    wild = rows("backtest", gross_exposure=0.5, ret_gross=-0.9)
    assert "-90.0%" in verdicts.return_within_gross({"backtest": wild}, SETTINGS).words


def test_timing_that_changes_nothing() -> None:
    label = pl.when(pl.col("date").dt.month() > 3).then(pl.lit("BALANCED")).otherwise(pl.lit("RISK_ON_MAJORS"))
    same = rows("backtest", DAYS, nav=1.0, regime_traded=label)
    assert not verdicts.timing_matters({"backtest": same}, SETTINGS).passed
    nav = pl.when(pl.col("account") == "regime").then(1.0).otherwise(2.0)
    assert verdicts.timing_matters({"backtest": same.with_columns(nav.alias("nav"))}, SETTINGS).passed
    constant = rows("backtest", DAYS, nav=1.0, regime_traded="BALANCED")
    assert verdicts.timing_matters({"backtest": constant}, SETTINGS).passed


def test_one_asset_that_carries_everything() -> None:
    pnl = pl.when(pl.col("asset_id") == "SOL").then(100.0).otherwise(1.0)
    assert (
        "SOL carries 100%"
        in verdicts.concentration({"positions": rows("positions", DAYS, pnl_price=pnl)}, SETTINGS).words
    )
    assert verdicts.concentration({"positions": rows("positions", DAYS, pnl_price=1.0)}, SETTINGS).passed


def test_every_rule_is_about_a_table() -> None:
    assert {rule.table for rule in verdicts.RULES} <= set(TABLES)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_previews_are_small_and_say_the_day(table: str) -> None:
    text = previews.preview(table, toy_stages.rows(table, DAYS))
    assert len(text.encode()) < previews.MAX_BYTES
    assert "2024-06-30" in text
    assert "data:image/svg+xml;base64," in text
    assert previews.preview(table, TABLES[table].empty()) == "no rows"


def test_previews_of_large_days_are_bounded() -> None:
    wide = toy_stages.rows("features", ONE)
    many = pl.concat([wide.head(1)] * 5000)
    assert len(previews.preview("features", many).encode()) < previews.MAX_BYTES


STUDY = {"study_id": "abc", "simulated": True}


def _signals(**change: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "positions": rows("positions", target_weight=0.25),
        "backtest": rows("backtest", nav=5.0),
        "regime": rows("regime", label="BALANCED"),
        "execution_lag_days": 1,
        "today": date(2024, 1, 5),
        "study": STUDY,
    }
    return build_signals(**{**arguments, **change})


def test_signals_are_the_stored_rows(tmp_path: Path) -> None:
    document = _signals()
    assert (document["date"], document["execute_on"], document["data_age_days"]) == (
        "2024-01-02",
        "2024-01-03",
        2,
    )
    assert document["decided_at"] == "2024-01-03T00:00:00Z"
    assert (document["regime"], document["simulated"], document["study_id"]) == ("BALANCED", True, "abc")
    assert {row["asset_id"]: row["target_weight"] for row in document["decisions"]} == {
        "BTC": 0.25, "ETH": 0.25, "SOL": 0.25,
    }  # fmt: skip
    write_signals(document, tmp_path / "out" / "signals.json")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["signals.json"]


def test_signals_need_every_table() -> None:
    with pytest.raises(SignalsError, match="regime: 0 rows on 2024-01-02"):
        _signals(regime=TABLES["regime"].empty())
    with pytest.raises(SignalsError, match="no decision"):
        _signals(positions=TABLES["positions"].empty(), backtest=TABLES["backtest"].empty())


def test_paths_from_the_environment(tmp_path: Path) -> None:
    paths = Paths.from_env({"MAJORS_ALTS_LAKE": "", "MAJORS_ALTS_OUT": str(tmp_path)})
    assert paths == Paths(None, None, tmp_path, REPOSITORY / "cache")
    assert paths.lake_location == str(REPOSITORY / "cache" / "simulated_lake")
    assert Paths.from_env({"MAJORS_ALTS_LAKE": "s3://bucket/lake"}).lake == "s3://bucket/lake"
    assert Paths.from_env({"MAJORS_ALTS_LAKE": "lake"}).lake == str(Path("lake").absolute())


def test_schedule_asks_for_all_missing_days(paths: Paths) -> None:
    moment = datetime(2026, 1, 2, 0, 30, tzinfo=UTC)
    study = StudyResource.from_paths(paths)

    def tick() -> Any:
        context = dg.build_schedule_context(scheduled_execution_time=moment, resources={"study": study})
        return schedules.newest_complete_day(context)

    request = tick()
    assert request.tags["dagster/asset_partition_range_start"] == FIRST.isoformat()
    assert request.tags["dagster/asset_partition_range_end"] == LAST.isoformat()
    assert request.tags["majors_alts/expected_day"] == "2026-01-01"
    assert request.run_key.startswith(LAST.isoformat())
    held, store = study.open(print), TableStore(paths.artifacts)
    for table in TABLES:
        held.write(table, Window(FIRST, LAST), toy_stages.rows(table, Window(FIRST, LAST)))
    store.path("regime", LAST - timedelta(days=2)).unlink()
    request = tick()
    assert request.tags["dagster/asset_partition_range_start"] == (LAST - timedelta(days=2)).isoformat()
    held.write(
        "regime",
        Window(LAST - timedelta(days=2), LAST),
        toy_stages.rows("regime", Window(LAST - timedelta(days=2), LAST)),
    )
    assert isinstance(tick(), dg.SkipReason)


def test_schedule_and_sensor_are_on_by_default() -> None:
    assert schedules.newest_complete_day.default_status == dg.DefaultScheduleStatus.RUNNING
    assert sensors.run_failure.default_status == dg.DefaultSensorStatus.RUNNING


HEARD: list[str] = []


def test_run_failure_says_what_failed_and_calls_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.op
    def breaks() -> None:
        raise ValueError("no such lake")

    @dg.job
    def daily() -> None:
        breaks()

    instance = dg.DagsterInstance.ephemeral()
    result = daily.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/partition": "2024-01-02"})
    event = next(event for event in result.all_events if event.is_failure and not event.is_step_event)
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=event,
    ).for_run_failure()
    monkeypatch.setenv(sensors.ALERT_VARIABLE, "test_judgements:HEARD.append")
    with pytest.raises(ValueError, match="module:function"):
        sensors.run_failure(context)
    monkeypatch.setenv(sensors.ALERT_VARIABLE, "test_judgements:hear")
    sensors.run_failure(context)
    (message,) = HEARD
    assert "daily failed on 2024-01-02" in message
    monkeypatch.delenv(sensors.ALERT_VARIABLE)
    sensors.run_failure(context)
    assert len(HEARD) == 1


def hear(message: str) -> None:
    import test_judgements

    test_judgements.HEARD.append(message)


def test_executor_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(executors.EXECUTOR_VARIABLE, raising=False)
    assert executors.executor() is dg.in_process_executor
    monkeypatch.setenv(executors.EXECUTOR_VARIABLE, "dagster:multiprocess_executor")
    assert executors.executor() is dg.multiprocess_executor
    with pytest.raises(ValueError, match="expected in_process, multiprocess or module:attribute"):
        executors.executor("rocket")
    with pytest.raises(ValueError, match="not an executor"):
        executors.executor("dagster:Definitions")


def test_definitions_load_and_show_what_a_person_needs(paths: Paths) -> None:
    from majors_alts_pipeline.definitions import build_definitions

    definitions = build_definitions(paths)
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.get_repository_def().asset_graph
    daily = [table for stage in STAGES for table in stage.tables]
    partitions = {graph.get(dg.AssetKey(table)).partitions_def for table in daily}
    assert len(partitions) == 1
    for table in daily:
        node = graph.get(dg.AssetKey(table))
        assert node.description
        assert node.group_name == "core"
        assert node.owners == ["team:research"]
        assert {"polars", "parquet"} <= node.kinds
        assert node.code_version
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        schema = node.metadata["dagster/column_schema"]
        assert [column.name for column in schema.columns] == list(TABLES[table].columns)
    units = {
        column.name: column.tags for column in graph.get(dg.AssetKey("panel")).metadata["dagster/column_schema"].columns
    }
    assert units["close"] == {"unit": "USD"}
    for stage in STAGES:
        for item in stage.inputs:
            assert dg.AssetKey(item.table) in graph.get(dg.AssetKey(stage.name)).parent_keys
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert {"panel", "basket", "backtest", "positions", "kpis"} <= checked
