"""The robustness tests: a case that changes nothing changes no bit, and each change does what its note says."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.evaluation.contracts import ROBUSTNESS
from majors_alts_pipeline.evidence.robustness import (
    ACCOUNTS,
    AS_CONFIGURED,
    COST_BP,
    OUTCOMES,
    Case,
    Suite,
    noisy_panel,
    plan_clones,
    series_ends,
    vendor_difference,
    with_clones,
    with_last_return,
)
from majors_alts_pipeline.lake.reader import MemoryLake
from majors_alts_pipeline.tables import PANEL

if TYPE_CHECKING:
    from conftest import SmallStudy

FIRST = date(2024, 1, 1)
NUMBERS = ("sharpe", "cagr", "max_drawdown", "cost_annual")


@pytest.fixture(scope="module")
def suite(small_study: SmallStudy) -> Suite:
    return Suite(small_study.tables, small_study.lake, small_study.window, small_study.settings, lambda _: None)


@pytest.fixture(scope="module")
def robustness(suite: Suite) -> pl.DataFrame:
    return suite.frame()


def rows_of(robustness: pl.DataFrame, test: str, account: str) -> pl.DataFrame:
    return robustness.filter(pl.col("test") == test, pl.col("account") == account).sort("rank")


def toy_panel(prices: dict[str, list[float]], carried: int = 0) -> pl.DataFrame:
    """Panel of own prices from FIRST on, each followed by `carried` days of its last price."""
    rows = []
    for asset, values in prices.items():
        for k, value in enumerate([*values, *[values[-1]] * carried]):
            age = max(k - len(values) + 1, 0)
            ret = None if k == 0 or age else value / values[k - 1] - 1.0
            rows.append({"date": FIRST + timedelta(days=k), "asset_id": asset, "close": value, "ret": ret,
                         "open": value, "high": value, "low": value, "price_age_days": age})  # fmt: skip
    frame = pl.DataFrame(rows, schema_overrides={"price_age_days": pl.Int32})
    missing = [name for name in PANEL.columns if name not in frame.columns]
    return frame.with_columns(pl.lit(None, PANEL.schema[name]).alias(name) for name in missing).select(
        list(PANEL.columns)
    )


def test_every_test_is_there_and_begins_with_the_study_itself(robustness: pl.DataFrame) -> None:
    ROBUSTNESS.conform(robustness)
    tests = set(robustness["test"])
    assert tests == {
        "cost_bp", "execution_lag", "start_date", "leave_one_asset_out", "leave_one_year_out", "basket_size",
        "neutrality_mode", "vol_forecast", "price_noise", "survivorship",
    }  # fmt: skip
    for test in tests:
        for account in ACCOUNTS:
            assert rows_of(robustness, test, account)["case"][0] == AS_CONFIGURED


@pytest.mark.parametrize("test", ["execution_lag", "basket_size", "neutrality_mode", "vol_forecast"])
@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_configured_value_gives_the_study_to_the_last_bit(
    robustness: pl.DataFrame, small_study: SmallStudy, test: str, account: str
) -> None:
    settings = small_study.settings
    own = {
        "execution_lag": f"{settings.backtest.execution_lag_days} days",
        "basket_size": f"{settings.basket.n_alts} alts",
        "neutrality_mode": settings.basket.mode, "vol_forecast": settings.backtest.vol_forecast,
    }[test]  # fmt: skip
    rows = rows_of(robustness, test, account)
    again, study = (rows.filter(pl.col("case") == case).select(NUMBERS) for case in (own, AS_CONFIGURED))
    assert again.height == 1
    assert_frame_equal(again, study, check_exact=True)


def test_the_whole_chain_after_the_panel_gives_the_study_again(suite: Suite, small_study: SmallStudy) -> None:
    settings = small_study.settings
    _, backtest = suite._accounts(settings, Case("x", "x", redo="universe", refit=True))
    columns = ["date", "account", "nav", "ret_net", "turnover", "regime"]
    kept = [frame.filter(pl.col("account").is_in(ACCOUNTS)).select(columns).sort("date", "account")
            for frame in (backtest, small_study.tables["backtest"])]  # fmt: skip
    assert_frame_equal(kept[0], kept[1], check_exact=True)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_costs_cost(robustness: pl.DataFrame, account: str) -> None:
    rows = rows_of(robustness, "cost_bp", account).filter(pl.col("level").is_not_null()).sort("level")
    assert rows["level"].to_list() == list(map(float, COST_BP))
    assert np.all(np.diff(rows["sharpe"].to_numpy()) < 0.0)
    assert rows["cost_annual"][0] == 0.0
    per_bp = rows["cost_annual"].to_numpy()[1:] / rows["level"].to_numpy()[1:]
    # Targets are set before costs, so turnover hardly depends on them.
    np.testing.assert_allclose(per_bp, per_bp[0], rtol=0.03)


def test_an_asset_left_out_is_never_held(suite: Suite, small_study: SmallStudy) -> None:
    held = small_study.tables["positions"].filter(pl.col("leg") == "alt")
    asset = held.group_by("asset_id").agg(pl.col("pnl_price").abs().sum()).sort("pnl_price")["asset_id"][-1]
    universe = suite._without(asset)()["universe"]
    assert not universe.filter(pl.col("asset_id") == asset)["eligible"].any()
    others = pl.col("asset_id") != asset
    assert_frame_equal(universe.filter(others), small_study.tables["universe"].filter(others))


def test_majors_cannot_be_left_out_and_that_is_said(robustness: pl.DataFrame, small_study: SmallStudy) -> None:
    rows = robustness.filter(
        (pl.col("test") == "leave_one_asset_out") & pl.col("case").is_in(small_study.settings.lake.majors)
    )
    assert rows.height == 2 * len(ACCOUNTS)
    assert set(rows["n_days"]) == {0}
    assert rows["sharpe"].null_count() == rows.height
    assert rows["note"].str.starts_with("impossible").all()


def test_a_year_left_out_leaves_the_others(robustness: pl.DataFrame, small_study: SmallStudy) -> None:
    rows = rows_of(robustness, "leave_one_year_out", "regime")
    total = rows["n_days"][0]
    left = rows.filter(pl.col("level").is_not_null())
    assert (total - left["n_days"]).sum() == total


def test_the_cases_one_might_have_chosen_count_as_trials(suite: Suite, robustness: pl.DataFrame) -> None:
    labels = {trial.label for trial in suite.trials}
    assert {"basket_size: 8 alts", "neutrality_mode: dollar"} <= labels
    assert not [label for label in labels if label.startswith(("cost_bp", "price_noise", "survivorship"))]
    assert len({trial.trial for trial in suite.trials}) * len(ACCOUNTS) == len(suite.trials)


def test_an_impossible_case_is_said(suite: Suite, small_study: SmallStudy) -> None:
    rows = suite._run(Case("basket_size", "0 alts", 0.0, "", {"basket.n_alts": 0}))
    assert all(row["note"].startswith("impossible: ") for row in rows)
    assert all(row["sharpe"] is None for row in rows)


# ---- changed data -------------------------------------------------------------------------------------------


def test_noise_of_no_size_changes_nothing(small_study: SmallStudy) -> None:
    panel = small_study.tables["panel"]
    same = noisy_panel(panel, 0.0, 1)
    exact = [name for name in panel.columns if name != "ret"]
    assert_frame_equal(same.select(exact), panel.sort("date", "asset_id").select(exact), check_exact=True)
    assert_frame_equal(same.select("ret"), panel.sort("date", "asset_id").select("ret"), abs_tol=1e-15)


def test_noisy_returns_are_those_of_noisy_prices(small_study: SmallStudy) -> None:
    panel = small_study.tables["panel"]
    noisy = noisy_panel(panel, 0.01, 1).sort("asset_id", "date")
    own = noisy.filter(pl.col("price_age_days") == 0).with_columns(
        before=pl.col("close").shift(1).over("asset_id"), gap=pl.col("date").diff().over("asset_id").dt.total_days()
    )
    pairs = own.filter(pl.col("ret").is_not_null(), pl.col("gap") == 1)
    assert pairs.height > 1_000
    np.testing.assert_allclose(pairs["ret"], pairs["close"] / pairs["before"] - 1.0, atol=1e-9)
    moved = (own["close"] / panel.sort("asset_id", "date").filter(pl.col("price_age_days") == 0)["close"]).log()
    assert 0.0095 < moved.std() < 0.0105  # type: ignore[operator]
    assert (own["high"] >= own["low"]).all()
    carried = noisy_panel(toy_panel({"A": [1.0, 2.0]}, carried=2), 0.1, 3)
    assert carried["close"][1:].n_unique() == 1


def test_a_dead_asset_gets_one_more_close() -> None:
    panel = toy_panel({"BTC": [1.0] * 12, "ETH": [1.0] * 12, "DEAD": [1.0, 2.0, 4.0]}, carried=3)
    ends = series_ends(panel, ("BTC", "ETH"), FIRST + timedelta(days=11), 3)
    assert ends.rows() == [("DEAD", FIRST + timedelta(days=2), 4.0)]
    after = with_last_return(panel, ends, -0.5).filter(pl.col("asset_id") == "DEAD")
    assert after["close"].to_list() == [1.0, 2.0, 4.0, 2.0, 2.0, 2.0]
    assert after["ret"].to_list() == [None, 1.0, 1.0, -0.5, None, None]
    assert after["price_age_days"].to_list() == [0, 0, 0, 0, 1, 2]
    bare = with_last_return(toy_panel({"DEAD": [1.0, 2.0, 4.0]}), ends, -0.5)
    assert bare["close"].to_list() == [1.0, 2.0, 4.0, 2.0]
    PANEL.conform(bare.with_columns(pl.col("listed_on").fill_null(FIRST)))


def test_clones_live_like_their_originals_and_die(small_study: SmallStudy) -> None:
    settings = with_overrides(small_study.settings, {"evaluation.death_rate": 0.5})
    panel, universe = small_study.tables["panel"], small_study.tables["universe"]
    clones = plan_clones(panel, universe, small_study.window, settings)
    alive = universe.filter((pl.col("role") == "alt") & pl.col("eligible"))
    days = alive["date"].n_unique()
    expected = 0.5 * alive.height / days * days / 365
    assert 0.3 * expected < clones.height <= round(expected)
    assert clones["clone"].n_unique() == clones.height
    for outcome in OUTCOMES:
        more = with_clones(panel, clones, outcome, settings.evaluation.seed)
        added = more.filter(pl.col("asset_id").is_in(clones["clone"].implode())).sort("asset_id", "date")
        last = added.group_by("asset_id").agg(pl.col("date", "ret").last())
        assert dict(last.select("asset_id", "date").iter_rows()) == dict(clones.select("clone", "date").iter_rows())
        np.testing.assert_allclose(last["ret"], outcome, atol=1e-9)
        assert more.height == panel.height + added.height
        assert not more.select(pl.struct("date", "asset_id").is_duplicated().any()).item()
    tracking = added.filter(pl.col("ret").is_not_null())["ret"].std()
    assert tracking > 0.03  # type: ignore[operator]


def test_two_sources_are_measured(small_study: SmallStudy) -> None:
    rng = np.random.default_rng(0)
    days = [FIRST + timedelta(days=k) for k in range(1_500)]

    def prices(source: str) -> pl.DataFrame:
        close = 100.0 * np.exp(rng.normal(0.0, 0.002, len(days)))
        rows = {"date": days, "close": close, "source": [source] * len(days)}
        both = pl.DataFrame(rows).join(pl.DataFrame({"asset_id": ["BTC", "ETH"]}), how="cross")
        return both.with_columns(open=pl.col("close"), high=pl.col("close"), low=pl.col("close"))

    first, second = prices("one"), prices("two")
    window = small_study.window.__class__(days[0], days[-1])
    lake = MemoryLake({"fact_price": first, "fact_ohlc": second}, small_study.settings.lake)
    measured = vendor_difference(lake, window)
    assert measured is not None
    assert 0.0018 < measured[0] < 0.0022
    assert "one and two" in measured[1]
    alone = MemoryLake({"fact_price": first, "fact_ohlc": first}, small_study.settings.lake)
    assert vendor_difference(alone, window) is None
