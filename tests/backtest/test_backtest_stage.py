"""The backtest stage on generated frames: contracts, truncation, attribution, accounts and seams."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from generated_market import day, market_frames, settings, whole
from polars.testing import assert_frame_equal

from majors_alts_pipeline.backtest.ledger import LedgerError
from majors_alts_pipeline.backtest.stage import compute
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.tables import BACKTEST, POSITIONS

PARTS = ["pnl_price", "pnl_funding", "cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut"]
STOPS = {"fixed": 0.15, "trailing": 0.2, "time_days": 20}


@pytest.fixture(scope="module")
def frames():
    return market_frames()


@pytest.fixture(scope="module")
def result(frames):
    return compute(frames, whole(frames), settings())


def account(result, name):
    return result["backtest"].filter(pl.col("account") == name).sort("date")


def cut(frames, last):
    return {name: frame.filter(pl.col("date") <= last) for name, frame in frames.items()}


def label_all(frames, label):
    return frames | {"regime": frames["regime"].with_columns(label=pl.lit(label))}


def test_both_tables_satisfy_their_contracts(frames, result):
    assert_frame_equal(BACKTEST.conform(result["backtest"]), result["backtest"])
    assert_frame_equal(POSITIONS.conform(result["positions"]), result["positions"])
    assert result["backtest"].height == 7 * whole(frames).n_days
    assert result["backtest"]["identity_error"].max() <= 1e-12


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"stops": STOPS, "execution_lag_days": 2, "band": 0.05},
        {"execution_lag_days": 0, "rebalance": "daily"},
    ],
)
@pytest.mark.parametrize("last", [0, 20, 29, 50, 79, 80, 100])
def test_a_day_alone_a_range_and_a_cut_lake_agree_to_the_last_bit(frames, config, last):
    rules = settings(**config)
    full = compute(frames, whole(frames), rules)
    alone = compute(cut(frames, day(last)), Window(day(last), day(last)), rules)
    ranged = compute(frames, Window(day(max(last - 5, 0)), day(last)), rules)
    for name in ("backtest", "positions"):
        assert_frame_equal(alone[name], full[name].filter(pl.col("date") == day(last)), check_exact=True)
        between = pl.col("date").is_between(day(max(last - 5, 0)), day(last))
        assert_frame_equal(ranged[name], full[name].filter(between), check_exact=True)


def test_row_order_does_not_matter(frames, result):
    shuffled = {name: frame.sample(fraction=1.0, shuffle=True, seed=3) for name, frame in frames.items()}
    again = compute(shuffled, whole(frames), settings())
    for name in ("backtest", "positions"):
        assert_frame_equal(again[name], result[name], check_exact=True)


@pytest.mark.parametrize("config", [{}, {"stops": STOPS}])
def test_attribution_per_asset_sums_to_the_account(frames, config):
    result = compute(frames, whole(frames), settings(**config))
    sums = result["positions"].group_by("date", "account").agg(pl.col(PARTS).sum(), pl.col("value_usd").sum())
    both = result["backtest"].filter(pl.col("account").is_in(["regime", "always_on"]))
    joined = both.join(sums, on=["date", "account"], how="left", suffix="_sum").fill_null(0.0)
    for part in PARTS:
        gap = joined.select(((pl.col(part) - pl.col(f"{part}_sum")).abs() / pl.col("nav")).max()).item()
        assert gap <= 1e-10, part
    gap = joined.select(((pl.col("cash") + pl.col("value_usd") - pl.col("nav")).abs() / pl.col("nav")).max()).item()
    assert gap <= 1e-10
    assert joined["cost_exit_haircut"].sum() > 0, "the generated death must be paid for"


def test_nav_chains_through_net_returns(result):
    for name in result["backtest"]["account"].unique():
        rows = account(result, name)
        np.testing.assert_allclose(1e6 * np.cumprod(1 + rows["ret_net"].to_numpy()), rows["nav"].to_numpy(), rtol=1e-12)


def test_a_constant_regime_holds_its_book_between_rebalances(frames):
    frames = label_all(market_frames(with_accidents=False), "RISK_ON_MAJORS")
    result = compute(frames, whole(frames), settings(band=0.0))
    rows = account(result, "regime")
    traded = rows.filter(pl.col("turnover") > 0)["date"]
    # First decision on the first basket day, then every Monday; each traded one close later.
    assert traded.to_list() == [day(21), *(day(k) for k in range(22, 120, 7))]
    same = account(result, "always_on").drop("account")
    assert_frame_equal(rows.drop("account"), same, check_exact=True)


def test_a_regime_that_never_favours_the_book_earns_exactly_zero(frames):
    frames = label_all(frames, "BALANCED")
    rows = account(compute(frames, whole(frames), settings()), "regime")
    assert (rows["nav"] == 1e6).all()
    assert rows.select(pl.col(*PARTS, "turnover", "ret_net").abs().sum()).row(0) == (0.0,) * 8


def test_the_last_decision_is_what_the_next_day_trades(frames):
    rules = settings(band=0.0, vol_target=None)
    result = compute(frames, whole(frames), rules)
    positions = result["positions"].filter(pl.col("account") == "always_on")
    decided = positions.filter(pl.col("date") == day(42), pl.col("asset_id") == "BTC").row(0, named=True)
    traded = positions.filter(pl.col("date") == day(43), pl.col("asset_id") == "BTC").row(0, named=True)
    nav = account(result, "always_on").filter(pl.col("date") == day(43)).row(0, named=True)
    before_costs = nav["nav"] + nav["cost_fees"] + nav["cost_slippage"] + nav["cost_impact"]
    assert decided["target_weight"] == pytest.approx(0.35)
    assert traded["value_usd"] == pytest.approx(decided["target_weight"] * before_costs, rel=1e-12)
    assert traded["trade_reason"] == "rebalance"
    assert traded["target_weight"] is None


def test_a_short_major_receives_positive_funding(frames):
    flipped = frames | {
        "basket": frames["basket"].with_columns(weight=-pl.col("weight")),
        "panel": frames["panel"].with_columns(funding_rate=pl.lit(0.001)),
    }
    positions = compute(flipped, whole(frames), settings())["positions"]
    majors = positions.filter((pl.col("leg") == "major") & (pl.col("pnl_funding") != 0))
    assert majors.height > 50
    assert (majors["pnl_funding"] > 0).all()


def test_without_any_funding_longs_are_owned_and_shorts_pay_the_stand_in():
    frames = market_frames(funding=False)
    result = compute(frames, whole(frames), settings())
    assert (account(result, "btc")["pnl_funding"] == 0).all()
    rows = account(result, "always_on")
    held = rows.with_columns(pl.col("short_usd").shift(1)).slice(1)
    expected = held["short_usd"].to_numpy() * 0.1 / 365
    np.testing.assert_allclose(held["pnl_funding"].to_numpy(), expected, rtol=1e-9, atol=1e-9)
    assert_frame_equal(rows.select(pnl="pnl_funding"), rows.select(pnl="pnl_funding_assumed"))


def test_labels_known_and_labels_traded(frames, result):
    rows = account(result, "always_on")
    assert rows["regime"].to_list() == frames["regime"]["label"].to_list()
    assert rows["regime_traded"].to_list() == ["NONE", "NONE", *frames["regime"]["label"].to_list()[:-2]]


def test_positions_follow_the_label_decided_two_closes_ago():
    calm = market_frames(with_accidents=False)
    result = compute(calm, whole(calm), settings())
    rows = account(result, "regime").with_columns(held=pl.col("n_positions").shift(1) > 0).slice(23)
    assert (rows["held"] == (rows["regime_traded"] == "RISK_ON_MAJORS")).all()


def test_baselines_hold_what_they_say(result):
    last = {name: account(result, name).row(-1, named=True) for name in ("btc", "eth", "btc_eth", "alt_index")}
    assert last["btc"]["beta_btc"] == pytest.approx(1.0, abs=0.01)
    assert last["eth"]["beta_eth"] == pytest.approx(1.0, abs=0.01)
    assert last["btc_eth"]["n_positions"] == 2
    assert last["alt_index"]["n_positions"] == 7, "eight alts, one of them dead"
    assert last["alt_index"]["turnover_major"] == 0
    calm = market_frames(with_accidents=False)
    index = account(compute(calm, whole(calm), settings()), "alt_index")
    assert index["net_exposure"].max() == pytest.approx(1.0, abs=0.01)


def test_exposures_are_those_of_the_accounts(result):
    rows = account(result, "always_on").filter(pl.col("n_positions") > 0)
    np.testing.assert_allclose(rows["gross_exposure"] * rows["nav"], rows["long_usd"] - rows["short_usd"], rtol=1e-12)
    np.testing.assert_allclose(rows["turnover"], rows["turnover_major"] + rows["turnover_alt"], rtol=1e-12)
    assert rows["exposure_multiplier"].n_unique() > 10


def test_orders_that_wait_for_a_price_are_counted(frames, result):
    """A03 (day 50, 51 and 70 carried): trades on Mondays' next close, so an order of day 50 waits two days."""
    calm = account(compute(market_frames(with_accidents=False), whole(frames), settings()), "always_on")
    assert (calm["n_waiting"] == 0).all()
    daily = account(compute(frames, whole(frames), settings(rebalance="daily")), "always_on")
    waiting = dict(daily.select("date", "n_waiting").iter_rows())
    assert {k for k in range(120) if waiting[day(k)]} == {50, 51, 70, 77, 78, 79}


def test_random_regimes_wait_for_the_first_score(frames):
    unscored = pl.when(pl.col("date") >= day(60)).then("score")
    late = frames | {"regime": frames["regime"].with_columns(score=unscored)}
    rows = account(compute(late, whole(frames), settings()), "random_regimes")
    assert rows.filter(pl.col("turnover") > 0)["date"].min() >= day(61)
    never = frames | {"regime": frames["regime"].with_columns(score=pl.lit(None, pl.Float64))}
    assert (account(compute(never, whole(frames), settings()), "random_regimes")["nav"] == 1e6).all()


def test_a_day_without_a_label_is_an_error_that_names_it(frames):
    holed = frames | {"regime": frames["regime"].filter(pl.col("date") != day(60))}
    with pytest.raises(LedgerError, match=r"regime: no row of method 'composite' on 2024-03-01"):
        compute(holed, whole(frames), settings())


def test_no_basket_no_trade(frames):
    empty = frames | {"basket": frames["basket"].clear()}
    rows = compute(empty, whole(frames), settings())
    assert (rows["backtest"]["nav"] == 1e6).all()
    assert rows["positions"].is_empty()


def test_lag_is_read_from_the_settings(frames):
    first = [
        account(compute(frames, whole(frames), settings(execution_lag_days=lag)), "btc")
        .filter(pl.col("turnover") > 0)["date"][0]
        for lag in (0, 1, 2)
    ]  # fmt: skip
    assert first == [day(20), day(21), day(22)]


def test_two_adjoining_folds_lose_no_day_and_pay_the_seam():
    calm = market_frames(with_accidents=False)
    seam = day(60)
    label = pl.when(pl.col("date") < seam).then(pl.lit("RISK_ON_MAJORS")).otherwise(pl.lit("BALANCED"))
    folds = calm | {"regime": calm["regime"].with_columns(label=label)}
    result = compute(folds, whole(folds), settings())
    timed, always = account(result, "regime"), account(result, "always_on")
    days = timed["date"].to_list()
    assert days == [day(k) for k in range(120)]
    # The old fold's book earns through the day the new fold's first decision is executed ...
    last = days.index(day(61))
    held = ["pnl_price", "pnl_funding", "long_usd"]
    assert_frame_equal(timed.slice(0, last).select(held), always.slice(0, last).select(held), check_exact=True)
    assert timed["pnl_price"][last] == always["pnl_price"][last] != 0
    # ... and is sold there at full cost; nothing is earned or paid for free afterwards.
    sold = timed.row(last, named=True)
    assert sold["turnover"] > 0.5 * always["gross_exposure"][last - 1]
    assert min(sold["cost_fees"], sold["cost_slippage"], sold["cost_impact"]) > 0
    assert timed["nav"].slice(last).n_unique() == 1
