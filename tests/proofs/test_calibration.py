"""The calibration measures what it says, finds a leak, and its table fails when the instrument is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from majors_alts_pipeline.cli import app
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.proofs import calibration, suite
from majors_alts_pipeline.proofs.calibration import (
    ALWAYS_ON,
    FAVOURED,
    LEAK,
    METHODS,
    SCHEMA,
    SWEEP,
    VOLATILE,
    Plan,
    measure_market,
    run_calibration,
    stored_measurements,
    study_key,
)
from majors_alts_pipeline.proofs.calibration_page import (
    BEGIN,
    END,
    PageError,
    figure,
    page_tables,
    write_page,
)
from majors_alts_pipeline.proofs.calibration_table import (
    BELOW,
    CONTROL,
    FOUND,
    NO,
    WITHIN,
    calibration_table,
    failures,
)
from majors_alts_pipeline.proofs.markets import market_settings
from majors_alts_pipeline.proofs.suite import Calibration, calibrate_markets

PLAN = Plan(n_null=20, n_planted=4, effects=(0.01,), n_alts=20, n_days=420)
METHODS_OF_TEST = ("composite", "kmeans")


@pytest.fixture(scope="module")
def instrument() -> Settings:
    small = {"bootstrap_reps": 200}
    return market_settings({"regime": {"methods": list(METHODS_OF_TEST), "method": "composite"}, "evaluation": small})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibration")


@pytest.fixture(scope="module")
def measured(instrument: Settings, folder: Path) -> pl.DataFrame:
    return run_calibration(PLAN, instrument, folder)


@pytest.fixture(scope="module")
def table(measured: pl.DataFrame) -> pl.DataFrame:
    return calibration_table(measured, PLAN, METHODS_OF_TEST, "test")


def row(table: pl.DataFrame, claim: str, subject: str, effect_bp: float = 0.0) -> dict[str, object]:
    same = (pl.col("claim") == claim) & (pl.col("subject") == subject) & (pl.col("effect_bp") == effect_bp)
    return table.filter(same & (pl.col("horizon_days") == 0)).row(0, named=True)


@pytest.mark.slow
def test_a_small_calibration_of_the_real_chain_holds(table: pl.DataFrame) -> None:
    assert failures(table) == 0, table.filter(pl.col("verdict") == NO)
    assert {"size", "control", "selection", "coverage", "power", "recovery"} <= set(table["group"])
    assert table["simulated"].all()
    assert table.filter(pl.col("effect_bp") == 0)["seeds"].unique().to_list() == ["0-19"]


@pytest.mark.slow
def test_labels_that_know_the_future_are_found_out(table: pl.DataFrame, measured: pl.DataFrame) -> None:
    assert row(table, table.filter(pl.col("group") == CONTROL)["claim"][0], LEAK)["verdict"] == WITHIN
    assert row(table, BELOW.claim, VOLATILE)["verdict"] == WITHIN
    # Were the leak in a method, the claim about that method would fall.
    smuggled = measured.filter(pl.col("subject") != "composite").with_columns(
        subject=pl.when(pl.col("subject") == LEAK).then(pl.lit("composite")).otherwise(pl.col("subject"))
    )
    poisoned = calibration_table(smuggled, PLAN, METHODS_OF_TEST, "test")
    assert row(poisoned, BELOW.claim, "composite")["verdict"] == NO
    assert failures(poisoned) > 0


@pytest.mark.slow
def test_a_planted_effect_is_found_more_often_than_nothing(table: pl.DataFrame) -> None:
    with_effect, without = (row(table, FOUND, "composite", effect)["observed"] for effect in (100.0, 0.0))
    assert float(str(with_effect)) > float(str(without))


@pytest.mark.slow
def test_an_interrupted_calibration_goes_on_where_it_stopped(
    measured: pl.DataFrame, instrument: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a stored market was measured again")

    monkeypatch.setattr(calibration, "_pool", refuse)
    assert run_calibration(PLAN, instrument, folder).equals(measured)
    more = Plan(**{**vars(PLAN), "n_null": PLAN.n_null + 1})
    with pytest.raises(AssertionError, match="measured again"):
        run_calibration(more, instrument, folder)
    assert stored_measurements(folder, more).equals(measured)


@pytest.mark.slow
def test_the_same_market_measures_the_same_here_and_in_a_worker(measured: pl.DataFrame, instrument: Settings) -> None:
    again = measure_market(3, 0.0, PLAN.n_alts, PLAN.n_days, instrument).filter(pl.col("measure") != "seconds")
    keys = ["measure", "subject", "horizon_days"]
    stored = measured.filter((pl.col("seed") == 3) & (pl.col("effect") == 0.0) & (pl.col("measure") != "seconds"))
    # Threads of the linear algebra differ between here and a worker, and with them the last digits of some statistics.
    assert_frame_equal(again.sort(keys), stored.sort(keys), rel_tol=1e-6, abs_tol=1e-9)


def test_the_traded_methods_edge_is_the_one_the_report_prints(instrument: Settings) -> None:
    from majors_alts_pipeline.chain import Runner
    from majors_alts_pipeline.evaluation.kpis import regime_edge
    from majors_alts_pipeline.lake.reader import MemoryLake
    from majors_alts_pipeline.lake.simulate import SimulationSpec, simulate

    market = simulate(SimulationSpec(n_alts=PLAN.n_alts, n_days=PLAN.n_days, seed=3))
    tables = Runner(MemoryLake(market.tables, instrument.lake), instrument).run_all(through="backtest")
    printed = regime_edge(tables["backtest"], instrument)
    found = measure_market(3, 0.0, PLAN.n_alts, PLAN.n_days, instrument)
    own = {
        measure: value
        for measure, value in found.filter(pl.col("subject") == "composite").select("measure", "value").rows()
    }
    assert own["edge_p"] == printed["p_value"][0]
    assert own["edge_difference"] == printed["difference"][0]


def test_the_expected_return_is_that_of_the_positions_held(instrument: Settings) -> None:
    first = date(2022, 1, 1)
    days = [first + timedelta(days=k) for k in range(3)]
    tables = {
        "backtest": pl.DataFrame({
            "date": days, "account": [ALWAYS_ON] * 3, "nav": [100.0, 100.0, 101.0], "n_positions": [2, 2, 2],
            "pnl_price": [0.0, 0.0, 1.0],
        }),
        "positions": pl.DataFrame({
            "date": [days[0], days[0], days[1]], "account": [ALWAYS_ON] * 3, "asset_id": ["BTC", "A", "A"],
            "value_usd": [50.0, -40.0, -20.0],
        }),
    }  # fmt: skip
    regimes = pl.DataFrame({"date": days, "regime": ["balanced", "risk_on_majors", "risk_on_alts"]})
    loadings = pl.DataFrame({"asset_id": ["BTC", "A"], "alt_loading": [0.0, 1.5]})
    book = calibration.book_of(tables, regimes, loadings, 0.01, instrument)
    assert book is not None
    # A short of 40 in an asset that loses 1.5 x 1 % is expected to gain 0.6 on a NAV of 100.
    np.testing.assert_allclose(book.expected, [0.0, 0.006, -0.003])
    np.testing.assert_allclose(book.returns, [0.0, 0.0, 0.01])


def fake(n: int, p_values: np.ndarray, coverage: float) -> pl.DataFrame:
    random = np.random.default_rng(1)
    rows = []
    for seed in range(n):
        truth = 0.0 if random.uniform() < coverage else 9.0
        rows += [
            (seed, 0.0, "edge_p", "composite", 0, float(p_values[seed])),
            (seed, 0.0, "edge_p", LEAK, 0, 0.001),
            (seed, 0.0, "sharpe_low", "composite", 0, -1.0),
            (seed, 0.0, "sharpe_truth", "composite", 0, truth),
            (seed, 0.0, "sharpe_high", "composite", 0, 1.0),
        ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def verdicts(p_values: np.ndarray, coverage: float = 0.95) -> dict[str, str]:
    plan = Plan(n_null=len(p_values), n_planted=0, effects=())
    table = calibration_table(fake(len(p_values), p_values, coverage), plan, ["composite"], "test")
    return dict(table.select("group", "verdict").rows())


def test_the_table_holds_for_a_sound_instrument_and_fails_for_an_unsound_one() -> None:
    uniform = np.random.default_rng(0).uniform(size=200)
    assert verdicts(uniform) == {"size": WITHIN, "control": WITHIN, "coverage": WITHIN, "power": ""}
    assert verdicts(uniform**2)["size"] == NO
    assert verdicts(np.full(200, 0.5))["size"] == NO
    assert verdicts(uniform, coverage=0.8)["coverage"] == NO


def test_a_calibration_that_does_not_find_the_leak_fails() -> None:
    uniform = np.random.default_rng(0).uniform(size=100)
    blind = fake(100, uniform, 0.95).with_columns(
        value=pl.when(pl.col("subject") == LEAK).then(pl.lit(0.4)).otherwise(pl.col("value"))
    )
    table = calibration_table(blind, Plan(n_null=100, n_planted=0, effects=()), ["composite"], "test")
    assert table.filter(pl.col("group") == CONTROL)["verdict"].to_list() == [NO]
    assert failures(table) == 1


def test_the_key_of_the_stored_markets_follows_settings_sizes_and_code(instrument: Settings) -> None:
    keys = {
        study_key(PLAN, instrument, "a"),
        study_key(PLAN, instrument, "b"),
        study_key(Plan(**{**vars(PLAN), "n_days": 421}), instrument, "a"),
        study_key(PLAN, market_settings(), "a"),
    }
    assert len(keys) == 4
    # More markets are more of the same: what is stored is used.
    assert study_key(Plan(**{**vars(PLAN), "n_null": 99}), instrument, "a") in keys


def test_a_failed_market_is_named(instrument: Settings, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="seed 0 and effect 0 failed"):
        run_calibration(Plan(n_null=1, n_planted=0, n_alts=20, n_days=1), instrument, tmp_path, workers=1)


@pytest.mark.slow
def test_table_plot_and_page_are_written_together(
    table: pl.DataFrame, measured: pl.DataFrame, instrument: Settings, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "out" / "markets" / study_key(PLAN, instrument, "test"))
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "calibration.md").write_text(f"{BEGIN}\n{END}\n")
    said: list[str] = []
    result = calibrate_markets(PLAN, instrument, tmp_path / "out", "test", said.append, docs)
    assert result.table.equals(table)
    assert result.failures == 0
    assert "stored already" in said[0]
    assert pl.read_parquet(result.directory / "calibration.parquet").equals(table)
    assert pl.read_csv(result.directory / "calibration.csv").height == table.height
    assert pl.read_parquet(result.directory / "measurements.parquet").equals(measured)
    pictures = [(place / "calibration.png").read_bytes() for place in (result.directory, docs / "images")]
    assert pictures[0] == pictures[1]
    assert "### Power" in (docs / "calibration.md").read_text()


def test_the_command_ends_with_status_1_when_a_claim_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Plan, Path | None]] = []

    def calibrated(p_values: np.ndarray) -> Callable[..., Calibration]:
        def run(plan: Plan, _: Settings, directory: Path, *rest: object) -> Calibration:
            asked.append((plan, rest[-1]))  # type: ignore[arg-type]
            found = fake(len(p_values), p_values, 0.95)
            table = calibration_table(found, Plan(len(p_values), 0, ()), ["composite"], "test")
            return Calibration(table, directory, failures(table))

        return run

    uniform = np.random.default_rng(0).uniform(size=200)
    command = ["prove", "--calibrate", "--markets", "30", "--planted", "0", "--out", str(tmp_path / "table.csv")]
    for p_values, status in ((uniform, 0), (uniform**2, 1)):
        monkeypatch.setattr(suite, "calibrate_markets", calibrated(p_values))
        result = CliRunner().invoke(app, command)
        assert result.exit_code == status, result.output
        assert "SIMULATED" in result.output
    assert asked == [(Plan(30, 0), None)] * 2
    assert pl.read_csv(tmp_path / "table.csv")["verdict"].to_list()[0] == NO


@pytest.mark.slow
def test_page_and_picture(table: pl.DataFrame, measured: pl.DataFrame, tmp_path: Path) -> None:
    picture, page = tmp_path / "images" / "calibration.png", tmp_path / "calibration.md"
    figure(measured, table, METHODS_OF_TEST, picture)
    first = picture.read_bytes()
    figure(measured, table, METHODS_OF_TEST, picture)
    assert picture.read_bytes() == first
    assert 20_000 < len(first) < 1_000_000
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    words = page_tables(table, METHODS_OF_TEST)
    for _ in range(2):
        write_page(page, words)
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "\nold\n" not in text
    assert "SIMULATED" in words
    for subject in (*METHODS_OF_TEST, METHODS, SWEEP, FAVOURED, ALWAYS_ON):
        assert subject in words
    page.write_text("no markers")
    with pytest.raises(PageError, match="calibration:begin"):
        write_page(page, words)
