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
from majors_alts_pipeline.config import load_settings
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


def entering_and_leaving() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The accounts, with the account `regime` held exactly under RISK_ON_MAJORS and paying 1 % to enter or leave."""
    backtest, panel = accounts()
    label, following = pl.col("regime_traded"), pl.col("regime_traded").shift(-1).over("account")
    held, kept = label == "RISK_ON_MAJORS", (following == "RISK_ON_MAJORS").fill_null(False)
    timed = backtest.with_columns(held=held, kept=kept).filter(pl.col("account") == "regime").with_columns(
        ret_gross=pl.col("held") * 0.01, turnover=(pl.col("held") != pl.col("kept")).cast(pl.Float64),
        n_positions=pl.col("kept").cast(pl.Int32),
    )  # fmt: skip
    timed = timed.with_columns(ret_net=pl.col("ret_gross") - 0.01 * pl.col("turnover"))
    timed = timed.with_columns(nav=CAPITAL * (1.0 + pl.col("ret_net")).cum_prod())
    before = pl.col("nav").shift(1, fill_value=CAPITAL)
    timed = timed.with_columns(
        pnl_price=before * pl.col("ret_gross"), pnl_funding=pl.lit(0.0), cost_fees=before * 0.01 * pl.col("turnover"),
        cost_slippage=pl.lit(0.0),
    )  # fmt: skip
    always = backtest.filter(pl.col("account") == "always_on")
    return pl.concat([always, timed.select(always.columns)]), panel


def test_a_label_pays_its_own_entries_and_exits_and_flat_labels_pay_nothing():
    data = entering_and_leaving()
    quick = settings(bootstrap_reps=100)
    table, whole = kpis.by_regime(*data, quick), kpis.overall(*data, quick)
    for name in ("cost_annual", "turnover_annual", "turnover_alt_annual", "funding_annual"):
        for (account,), rows in table.group_by("account"):
            total = whole.row(by_predicate=pl.col("account") == account, named=True)
            parts = (rows[name] * rows["n_days"]).sum()
            assert parts == pytest.approx(total[name] * total["n_days"], rel=1e-9), (account, name)
    timed = table.filter(pl.col("account") == "regime")
    flat = timed.row(by_predicate=pl.col("label") == "BALANCED", named=True)
    assert flat["total_return"] == flat["cost_annual"] == flat["turnover_annual"] == 0.0
    held = timed.row(by_predicate=pl.col("label") == "RISK_ON_MAJORS", named=True)
    trades = data[0].filter((pl.col("account") == "regime") & (pl.col("date") >= START + timedelta(days=FIRST)))
    assert held["turnover_annual"] * held["n_days"] / 365 == pytest.approx(trades["turnover"].sum())
    daily = trades.filter(regime_traded="BALANCED")
    assert daily["turnover"].sum() > 5, "by plain days the flat label would pay for the entries"


def test_a_mean_of_accounts_has_no_path(data):
    backtest, panel = data
    mean = backtest.filter(pl.col("account") == "regime").with_columns(account=pl.lit("random_regimes"))
    both = pl.concat([backtest, mean])
    quick = settings(bootstrap_reps=100)
    one_path = load_settings(overrides={"evaluation": {"bootstrap_reps": 100}, "backtest": {"random_paths": 1}})
    for config, is_mean in ((quick, True), (one_path, False)):
        daily = KPIS.conform(stage.compute({"backtest": both}, window(both), config)["kpis"])
        for table in (daily, kpis.overall(both, panel, config), kpis.by_year(both, panel, config)):
            rows = table.filter(pl.col("account") == "random_regimes")
            names = [name for name in stage.PATH_KPIS if name in table.columns]
            assert rows.select(pl.col(names).is_null().all()).row(0) == (is_mean,) * len(names)
            assert rows["total_return"].null_count() == rows["cost_annual"].null_count() == 0
            others = table.filter(pl.col("account") == "regime")
            assert others["max_drawdown"].null_count() == 0
    assert len(names) == len(stage.PATH_KPIS) - 1, "only the daily table has a drawdown of the day"


def test_walk_forward_only_takes_the_days_it_decided(data):
    backtest, panel = data
    dates = sorted(backtest["date"].unique())
    switch = dates[200]
    in_force = pl.when(pl.col("date") >= switch).then(pl.lit("walk_forward")).otherwise(pl.lit("default"))
    regime = pl.DataFrame({"date": dates, "method": "composite"}).with_columns(in_force=in_force)
    table = kpis.walk_forward_only(backtest, regime, panel, settings(bootstrap_reps=100))
    assert table["account"].to_list() == ["always_on", "regime"]
    assert (table["n_days"] == 500 - 200 - 2).all()
    later = backtest.filter((pl.col("date") >= dates[202]) & (pl.col("account") == "regime"))
    assert table["total_return"][1] == pytest.approx((1 + later["ret_net"]).product() - 1, rel=1e-12)
    none = kpis.walk_forward_only(backtest, regime.with_columns(in_force=pl.lit("default")), panel, settings())
    assert none.is_empty()


def test_neutrality_shows_the_worst_close(data):
    backtest, panel = data
    bad = START + timedelta(days=40)
    worse = pl.when((pl.col("date") == bad) & (pl.col("account") == "always_on")).then(-0.5).otherwise("beta_btc")
    table = kpis.neutrality(backtest.with_columns(beta_btc=worse), panel, settings())
    row = table.row(by_predicate=(pl.col("account") == "always_on") & (pl.col("factor") == "btc"), named=True)
    assert (row["ex_ante_max"], row["ex_ante_max_date"]) == (0.5, bad)
    assert row["ex_ante_p95"] == pytest.approx(0.01)


def test_largest_exposures():
    day, other = START, START + timedelta(days=1)
    backtest = pl.DataFrame(
        {"date": [day, other] * 2, "account": ["a", "a", "b", "b"], "gross_exposure": [1.0, 2, 3, 3]}
    )
    positions = pl.DataFrame({
        "date": [day, other, other], "account": "a", "asset_id": ["X", "Y", "BTC"], "leg": ["alt", "alt", "major"],
        "weight": [-0.2, 0.1, 0.9],
    })  # fmt: skip
    assert kpis.largest_exposures(backtest, positions).rows() == [
        ("a", 2.0, other, 0.2, "X", day), ("b", 3.0, day, None, None, None)
    ]  # fmt: skip


def test_the_placebo_compares_the_timing_and_nothing_else(data):
    backtest = data[0]
    row = kpis.timing_placebo(backtest, settings()).row(0, named=True)
    edge = kpis.regime_edge(backtest, settings()).row(0, named=True)
    # With an exposure of 0 or 1 the test is the regime edge's.
    assert row["p_greater"] == pytest.approx(edge["p_greater"])
    assert row["p_less"] == pytest.approx(edge["p_less"])
    held = backtest.filter(pl.col("account") == "always_on").sort("date").slice(FIRST + 1)
    before = held["nav"] / (1 + held["ret_net"])
    path = (held["regime_traded"] == "RISK_ON_MAJORS").to_numpy().astype(float)
    returns = (held["pnl_price"] / before).to_numpy()
    assert row["timed"] == pytest.approx((path * returns).mean(), rel=1e-9)
    by_hand = np.array([(np.roll(path, k) * returns).mean() for k in range(1, len(path))])
    assert row["placebo_mean"] == pytest.approx(by_hand.mean(), rel=1e-9)
    assert row["placebo_p05"] == pytest.approx(np.quantile(by_hand, 0.05), rel=1e-9)
    assert row["placebo_sd"] == pytest.approx(by_hand.std(ddof=1), rel=1e-9)
    assert row["percentile"] == pytest.approx((by_hand < row["timed"]).mean(), abs=2 / len(path))
    assert row["n_shifts"] == len(path) - 1


def test_a_placebo_of_one_label_or_of_nothing_is_null(data):
    one = kpis.timing_placebo(data[0].with_columns(regime_traded=pl.lit("BALANCED")), settings()).row(0, named=True)
    assert one["p_greater"] is one["percentile"] is None
    assert one["timed"] == 0.0
    nobody = kpis.timing_placebo(data[0].filter(pl.col("account") == "regime"), settings()).row(0, named=True)
    assert (nobody["n_days"], nobody["timed"]) == (0, None)


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
