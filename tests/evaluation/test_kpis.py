"""Daily and full KPIs against formulas written out here."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from generated_accounts import CAPITAL, START, accounts, settings
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.evaluation import kpis, stage
from majors_alts_pipeline.tables import KPIS

FIRST = 10


@pytest.fixture(scope="module")
def data():
    return accounts(first_trade=FIRST)


@pytest.fixture(scope="module")
def overall(data):
    return kpis.overall(*data, settings())


def window(backtest):
    return Window(backtest["date"].min(), backtest["date"].max())


def reference(backtest, account):
    """KPIs from the first trade on, in plain NumPy."""
    rows = backtest.filter(pl.col("account") == account).sort("date").slice(FIRST)
    r, n = rows["ret_net"].to_numpy(), rows.height
    invested = np.r_[0, rows["n_positions"].to_numpy()[:-1]] > 0
    growth = np.cumprod(1 + r)
    drawdown = growth / np.maximum.accumulate(np.r_[1.0, growth])[1:] - 1
    runs = "".join("1" if d < 0 else "0" for d in drawdown).split("0")
    return {
        "n_days": n, "n_invested_days": invested.sum(), "total_return": growth[-1] - 1,
        "cagr": growth[-1] ** (365 / n) - 1, "volatility": r.std(ddof=1) * 365**0.5,
        "sharpe": r.mean() / r.std(ddof=1) * 365**0.5,
        "sharpe_se": ((1 + (r.mean() / r.std(ddof=1)) ** 2 / 2) / n) ** 0.5 * 365**0.5,
        "sortino": r.mean() / (np.minimum(r, 0) ** 2).mean() ** 0.5 * 365**0.5,
        "max_drawdown": drawdown.min(),
        "exposure_time": invested.mean(), "hit_rate": (r[invested] > 0).mean(),
        "turnover_annual": rows["turnover"].mean() * 365,
        "cost_annual": 0.001 * rows["turnover"].mean() * 365,
        "funding_annual": 0.0001 * invested.mean() * 365,
    }, {"calmar": -(growth[-1] ** (365 / n) - 1) / drawdown.min(), "max_drawdown_days": max(map(len, runs)),
        "turnover_major_annual": 0.4 * rows["turnover"].mean() * 365}  # fmt: skip


@pytest.mark.parametrize("account", ["always_on", "regime"])
def test_daily_kpis_of_the_last_day_are_the_formulas(data, account):
    table = KPIS.conform(stage.compute({"backtest": data[0]}, window(data[0]), settings())["kpis"])
    last = table.filter(pl.col("account") == account).row(-1, named=True)
    for name, value in reference(data[0], account)[0].items():
        assert last[name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("account", ["always_on", "regime"])
def test_overall_kpis_are_the_formulas(data, overall, account):
    row = overall.row(by_predicate=pl.col("account") == account, named=True)
    daily, more = reference(data[0], account)
    for name, value in (daily | more).items():
        assert row[name] == pytest.approx(value, rel=1e-9), name
    assert row["sharpe_low"] < row["sharpe"] < row["sharpe_high"]
    assert row["sharpe_gross"] > row["sharpe"]


def test_daily_kpis_alone_in_a_range_and_from_a_cut_agree_to_the_last_bit(data):
    backtest = data[0]
    full = stage.compute({"backtest": backtest}, window(backtest), settings())["kpis"]
    for k in (0, 9, 10, 11, 40, 499):
        day = START + timedelta(days=k)
        alone = stage.compute({"backtest": backtest.filter(pl.col("date") <= day)}, Window(day, day), settings())
        assert_frame_equal(alone["kpis"], full.filter(pl.col("date") == day), check_exact=True)


def test_nothing_is_measured_before_the_first_trade_or_from_too_few_days(data):
    table = stage.compute({"backtest": data[0]}, window(data[0]), settings())["kpis"]
    early = table.filter(pl.col("date") < START + timedelta(days=FIRST))
    assert (early["n_days"] == 0).all()
    assert early.select(pl.col("cagr", "sharpe", "volatility", "hit_rate").is_null().all()).row(0) == (True,) * 4
    cagr = table.filter(pl.col("account") == "always_on").sort("date")["cagr"]
    assert cagr.is_null().to_list().index(False) == FIRST + 29


def test_an_account_that_never_trades_has_no_sharpe_and_no_nan():
    backtest, _ = accounts(60)
    flat = backtest.with_columns(
        nav=pl.lit(CAPITAL), n_positions=pl.lit(0, dtype=pl.Int32),
        **{name: pl.lit(0.0) for name in ("ret_net", "ret_gross", "turnover", *stage.COSTS, "pnl_funding")},
    )  # fmt: skip
    table = KPIS.conform(stage.compute({"backtest": flat}, window(flat), settings())["kpis"])
    assert table["sharpe"].is_null().all()
    assert (table["total_return"] == 0).all()
    assert (table["turnover_annual"] == 0).all()


def test_realised_betas_find_the_truth(overall):
    for row in overall.iter_rows(named=True):
        for name, truth in (("beta_btc", 0.3), ("beta_eth", -0.1)):
            standard_error = (row[f"{name}_high"] - row[f"{name}_low"]) / (2 * 1.96)
            assert 0.0 < standard_error < 0.03
            assert abs(row[name] - truth) < 3.5 * standard_error
        assert row["neutrality_ex_ante_btc"] == pytest.approx(0.01)


def test_neutrality_compares_what_was_meant_with_what_came(data):
    table = kpis.neutrality(*data, settings())
    row = table.row(by_predicate=(pl.col("account") == "regime") & (pl.col("factor") == "eth"), named=True)
    assert row["ex_ante_mean"] == pytest.approx(-0.02)
    assert row["ex_ante_abs"] == pytest.approx(0.02)
    assert row["error"] == pytest.approx(row["ex_post"] + 0.02)


@pytest.mark.parametrize("table", ["by_regime", "by_year", "by_fold"])
def test_slices_lose_no_day_and_compound_to_the_whole(data, overall, table):
    backtest, panel = data
    dates = sorted(backtest["date"].unique())
    regime = pl.DataFrame({"date": [dates[0] - timedelta(days=k) for k in (2, 1)] + dates, "method": "composite"})
    regime = regime.with_columns(model_asof=pl.col("date").dt.truncate("1mo"))
    extra = (regime,) if table == "by_fold" else ()
    slices = getattr(kpis, table)(backtest, panel, *extra, settings(bootstrap_reps=100))
    whole = dict(overall.select("account", "total_return").rows())
    days = dict(overall.select("account", "n_days").rows())
    for (account,), rows in slices.group_by("account"):
        assert rows["n_days"].sum() == days[account]
        assert np.prod(1 + rows["total_return"].to_numpy()) - 1 == pytest.approx(whole[account], rel=1e-9)
    assert slices.height > 2


def test_episodes_count_runs_of_consecutive_days(data):
    table = kpis.by_regime(*data, settings(bootstrap_reps=100))
    labels = data[0].filter(pl.col("account") == "regime").sort("date")["regime_traded"].to_list()[FIRST:]
    runs = 1 + sum(a != b for a, b in pairwise(labels))
    assert table.filter(pl.col("account") == "regime")["n_episodes"].sum() == runs


def test_same_seed_same_interval_other_seed_another(data, overall):
    assert_frame_equal(kpis.overall(*data, settings()), overall, check_exact=True)
    other = kpis.overall(*data, settings(seed=8))
    assert (other["sharpe_low"] != overall["sharpe_low"]).all()
    assert other["sharpe_low"].to_list() == pytest.approx(overall["sharpe_low"].to_list(), abs=0.6)


def test_a_wider_confidence_is_a_wider_interval(data, overall):
    wider = kpis.overall(*data, settings(confidence=0.99))
    for name in ("sharpe", "beta_btc"):
        assert (wider[f"{name}_low"] < overall[f"{name}_low"]).all()
        assert (wider[f"{name}_high"] > overall[f"{name}_high"]).all()


def test_regime_edge_is_one_row_of_the_always_on_book(data):
    edge = kpis.regime_edge(data[0], settings())
    assert edge.height == 1
    assert 0 < edge["p_value"][0] <= 1
    assert edge["n_on"][0] + edge["n_off"][0] == 500 - FIRST - 1
