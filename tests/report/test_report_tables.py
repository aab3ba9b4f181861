"""Counts and sums of the report against identities, slow references and another library."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_world import make_world

from majors_alts_pipeline.report import figures, tables
from majors_alts_pipeline.report.fields import kind_name
from majors_alts_pipeline.report.html import basis_points, number, p_value, percent, signed_basis_points, usd


def _majors(world):
    wide = world.frames["panel"].filter(pl.col("asset_id").is_in(["BTC", "ETH"]))
    return wide.pivot("asset_id", index="date", values="ret").select("date", btc="BTC", eth="ETH").sort("date")


def _account(returns):
    days = [date(2024, 1, 1) + timedelta(days=k) for k in range(len(returns))]
    frame = pl.DataFrame({"date": days, "account": "regime", "ret_net": returns, "ret_gross": returns})
    return frame.with_columns(pl.col("ret_net", "ret_gross").cast(pl.Float64))


def test_attribution_adds_up_to_the_change_of_nav(world):
    backtest = world.frames["backtest"]
    totals = tables.attribution(backtest)
    net = totals.filter(component="net")
    parts = totals.filter(pl.col("component").is_in(tables.COMPONENTS)).group_by("account").agg(pl.col("usd").sum())
    last = backtest.filter(pl.col("date") == pl.col("date").max())
    for account in tables.ACCOUNTS:
        change = last.filter(account=account)["nav"].item() - 1e6
        assert net.filter(account=account)["usd"].item() == pytest.approx(change, abs=1e-4)
        assert parts.filter(account=account)["usd"].item() == pytest.approx(change, abs=1e-4)
        share = backtest.filter(account=account)["ret_net"].sum()
        assert net.filter(account=account)["of_capital"].item() == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("table", [tables.attribution_by_leg, tables.attribution_by_asset])
def test_finer_attribution_adds_up_to_the_account(world, table):
    finer = table(world.frames["positions"]).group_by("account").agg(pl.col("net").sum())
    whole = tables.attribution(world.frames["backtest"]).filter(component="net")
    for account in ("regime", "always_on"):
        expected = whole.filter(account=account)["usd"].item()
        assert finer.filter(account=account)["net"].item() == pytest.approx(expected, abs=1e-4)


def test_funding_by_leg_ends_at_the_funding_of_the_account(world):
    legs = tables.funding_by_leg(world.frames["positions"], world.frames["backtest"])
    assert legs.filter(account="regime", leg="alt")["date"].to_list() == world.frames["regime"]["date"].to_list()
    ends = legs.filter(pl.col("date") == pl.col("date").max()).group_by("account").agg(pl.col("cumulative").sum())
    for account in ("regime", "always_on"):
        paid = world.frames["backtest"].filter(account=account)["pnl_funding"].sum()
        assert ends.filter(account=account)["cumulative"].item() == pytest.approx(paid, abs=1e-4)


def _slow_drawdowns(returns):
    """(depth, peak row, trough row, recovery row or None), by walking along the path."""
    path = np.r_[np.cumprod(1 + np.asarray(returns))]
    peak, peak_row, found, current = 1.0, None, [], None
    for row, value in enumerate(path):
        if value >= peak:
            if current is not None:
                found.append((*current, row))
                current = None
            peak, peak_row = value, row
            continue
        depth = value / peak - 1
        if current is None:
            current = (depth, peak_row if peak_row is not None else row, row)
        elif depth < current[0]:
            current = (depth, current[1], row)
    if current is not None:
        found.append((*current, None))
    return sorted(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-0.3, -0.1, -0.013, 0.0, 0.017, 0.11, 0.4]), min_size=1, max_size=40))
def test_drawdowns_are_those_of_a_walk_along_the_path(returns):
    daily = tables.daily_accounts(_account(returns))
    got = tables.drawdown_table(daily, worst=100)
    first = date(2024, 1, 1)

    def row(day):
        return None if day is None else (day - first).days

    found = [(r["depth"], row(r["peak"]), row(r["trough"]), row(r["recovery"])) for r in got.iter_rows(named=True)]
    expected = _slow_drawdowns(returns)
    assert [f[0] for f in found] == pytest.approx([e[0] for e in expected], rel=1e-12)
    assert sorted(f[1:] for f in found if f[3]) == sorted(e[1:] for e in expected if e[3])
    assert all(r["days_total"] >= r["days_down"] >= 0 for r in got.iter_rows(named=True))


def test_months_compound_to_the_whole(world):
    backtest = world.frames["backtest"]
    months = tables.monthly_returns(backtest)
    assert months["n_days"].sum() == backtest.height
    whole = months.group_by("account").agg(growth=(1 + pl.col("ret_net")).product())
    daily = tables.daily_accounts(backtest).filter(pl.col("date") == pl.col("date").max())
    joined = whole.join(daily.select("account", expected="growth"), on="account")
    assert np.allclose(joined["growth"], joined["expected"], rtol=1e-12)


def test_rolling_betas_equal_statsmodels(world):
    statsmodels = pytest.importorskip("statsmodels.regression.rolling")
    from statsmodels.tools import add_constant

    window = 60
    backtest, majors = world.frames["backtest"], _majors(world)
    got = tables.rolling_betas(backtest, majors, window).filter(account="always_on")
    y = backtest.filter(account="always_on").sort("date")["ret_gross"].to_numpy()
    x = add_constant(majors.select("btc", "eth").to_numpy())
    fit = statsmodels.RollingOLS(y, x, window=window).fit()
    invested = slice(130, None)
    for k, factor in enumerate(("btc", "eth"), start=1):
        one = got.filter(factor=factor)
        assert np.allclose(one["beta"].to_numpy()[invested], fit.params[invested, k], rtol=1e-7, atol=1e-10)
        assert np.allclose(one["se"].to_numpy()[invested], fit.bse[invested, k], rtol=1e-7)
    assert got["beta"].null_count() == 2 * (window - 1)


def test_rolling_betas_of_an_idle_book_are_zero_and_of_btc_one(world):
    backtest, majors = world.frames["backtest"], _majors(world)
    idle = pl.when(pl.col("account") == "regime").then(0.0)
    btc = backtest.select("date", "account").join(majors, on="date", how="left")["btc"]
    twisted = backtest.with_columns(ret_gross=idle.when(pl.col("account") == "always_on").then(btc).otherwise(0.0))
    got = tables.rolling_betas(twisted, majors, 60).drop_nulls("beta")
    assert (got.filter(account="regime")["beta"] == 0).all()
    assert got.filter(account="regime")["se"].null_count() == got.filter(account="regime").height
    assert np.allclose(got.filter(account="always_on", factor="btc")["beta"], 1.0, atol=1e-9)
    assert np.allclose(got.filter(account="always_on", factor="eth")["beta"], 0.0, atol=1e-9)
    assert tables.rolling_betas(backtest.head(10), majors, 60).height == 0


def test_episodes_cover_every_day_once(world):
    regime = world.frames["regime"]
    episodes = tables.regime_episodes(regime)
    assert episodes["n_days"].sum() == regime.height
    assert (episodes["label"] != episodes["label"].shift(1)).fill_null(True).all()
    spans = (episodes["end"] - episodes["start"]).dt.total_days() + 1
    assert spans.to_list() == episodes["n_days"].to_list()
    summary = tables.regime_summary(regime)
    assert summary["share"].sum() == pytest.approx(1)
    assert summary["n_episodes"].sum() == episodes.height
    moves = tables.regime_transitions(regime)
    assert np.allclose(moves.select(tables.LABELS).to_numpy().sum(axis=1), 1)
    assert moves["n_days"].sum() == regime.height - 1


def test_an_ended_asset_is_found_and_its_exits_counted(world):
    panel, universe = world.frames["panel"].lazy(), world.frames["universe"].lazy()
    ended = tables.ended_assets(panel, universe, world.settings.lake.price_carry_days)
    assert ended["asset_id"].to_list() == ["ALT00"]
    own = world.frames["panel"].filter(pl.col("asset_id") == "ALT00", pl.col("price_age_days") == 0)
    assert ended["last_date"].item() == own["date"].max()
    assert ended["last_price"].item() == own.sort("date")["close"][-1]
    exits = tables.dead_exits(world.frames["positions"])
    assert exits.height == world.frames["backtest"]["n_dead_exits"].filter(
        world.frames["backtest"]["account"].is_in(["regime", "always_on"])
    ).sum()  # fmt: skip
    text = tables.survivorship_statement(ended, 32, date(2025, 10, 4))
    assert "1 of 32 assets stop trading inside this lake" in text
    assert "ALT00" in text


def test_a_lake_of_survivors_says_so():
    world = make_world(n_days=120, dies=False)
    ended = tables.ended_assets(world.frames["panel"].lazy(), world.frames["universe"].lazy(), 3)
    assert ended.height == 0
    text = tables.survivorship_statement(ended, 32, date(2023, 8, 16))
    assert text.startswith("No series ends inside this lake: all 32 assets")
    assert "the sign of the net bias is open" in text


def test_funding_coverage_counts_what_is_missing(world):
    panel, universe = world.frames["panel"], world.frames["universe"]
    coverage = tables.funding_coverage(panel.lazy(), universe.lazy())
    eligible = universe.filter("eligible")
    assert coverage["n_asset_days"].sum() == eligible.height
    assert np.allclose(coverage.select("sum", "print_scaled", "missing").to_numpy().sum(axis=1), 1)
    missing = (coverage["missing"] * coverage["n_asset_days"]).sum()
    assert missing == pytest.approx((eligible["asset_id"] == "ALT03").sum())


def test_funding_of_positions_counts_the_days_held_over(world):
    positions, backtest = world.frames["positions"], world.frames["backtest"]
    held = tables.held_funding(positions, world.frames["panel"].lazy(), backtest)
    last = backtest["date"].max()
    for account in ("regime", "always_on"):
        over = positions.filter(pl.col("units") != 0, pl.col("date") < last, account=account)
        one = held.filter(account=account)
        assert one["position_days"].sum() == over.height
        assert one["share"].sum() == pytest.approx(1)
        without = one.filter(kind="assumed", leg="alt")["position_days"].item()
        assert without >= (over["asset_id"] == "ALT03").sum() > 0
        assert tables.share_of_kind(held, account, "assumed") == pytest.approx(without / over.height)
        moved = over.with_columns(pl.col("date").dt.offset_by("1d")).select("date", "asset_id", "value_usd")
        paid = positions.filter(account=account).join(moved, on=["date", "asset_id"], suffix="_eve")
        assert one["usd"].sum() == pytest.approx(paid["pnl_funding"].sum())
        rates = one["usd"] / one["per_year"] * 365
        assert rates.sum() == pytest.approx(paid["value_usd_eve"].abs().sum())


def test_a_rescaled_print_is_a_print():
    held = pl.DataFrame(
        {"account": "regime", "kind": ["print_scaled", "print_scaled_rescaled", "sum"], "share": [0.2, 0.3, 0.5]}
    )
    assert tables.share_of_kind(held, "regime", "print_scaled") == pytest.approx(0.5)
    assert kind_name("print_scaled_rescaled") == "One print, scaled, was percent"


def test_alts_without_funding_are_ranked_among_the_most_traded():
    days = [date(2024, 1, 1), date(2024, 1, 2)]
    rows = [
        ("A", "ok", 9.0),
        ("B", "no_funding", 8.0),
        ("C", "ok", 7.0),
        ("D", "no_funding", 1.0),
        ("E", "illiquid", 99.0),
    ]
    universe = pl.DataFrame(
        {
            "date": [day for day in days for _ in rows],
            "asset_id": [row[0] for row in rows] * 2,
            "role": ["alt" if row[1] == "ok" else "excluded" for row in rows] * 2,
            "eligible": [row[1] == "ok" for row in rows] * 2,
            "reason": [row[1] for row in rows] * 2,
            "adv_usd": [row[2] for row in rows] * 2,
        }
    )
    returns = {"A": 0.01, "B": 0.05, "C": 0.03, "D": 0.2, "E": 0.9}
    panel = pl.DataFrame({"date": days[1], "asset_id": list(returns), "ret": list(returns.values())})
    got = tables.unfunded_alts(universe.lazy(), panel.lazy(), n_alts=3)
    assert got["asset_id"].to_list() == ["B", "B"]
    assert got["ret_next"].to_list() == [0.05, None]
    assert got["ret_next_kept"].to_list() == [pytest.approx(0.02), None]
    names = tables.unfunded_names(got)
    assert names.select("asset_id", "n_days").rows() == [("B", 2)]


def test_every_day_is_decided_by_one_thing():
    days = pl.date_range(date(2024, 1, 1), date(2024, 1, 10), eager=True)
    regime = pl.DataFrame(
        {"date": days, "score": [None] * 3 + [0.1] * 7, "in_force": ["default"] * 6 + ["walk_forward"] * 4}
    )
    got = dict(tables.decided_by(regime, date(2024, 1, 1), date(2024, 1, 10), lag=1).iter_rows())
    assert got == {"walk_forward": 2, "default": 3, "no_score": 5}


def test_execution_counts_what_was_not_done_as_decided(world):
    backtest = world.frames["backtest"]
    held = tables.held_funding(world.frames["positions"], world.frames["panel"].lazy(), backtest)
    got = tables.execution(backtest, held)
    assert got["account"].to_list() == list(tables.ACCOUNTS)
    index = got.row(by_predicate=pl.col("account") == "alt_index", named=True)
    assert (index["days_waiting"], index["orders_waiting"]) == (9, 18)
    assert index["assumed_share"] is None
    assert got.filter(account="regime")["assumed_share"].item() > 0
    assert got["n_dead_exits"].sum() == backtest["n_dead_exits"].sum()
    yearly = tables.attribution(backtest).filter(component="pnl_funding_assumed")
    assert np.allclose(got["assumed_annual"], yearly["per_year"])


def test_universe_counts_agree(world):
    universe = world.frames["universe"]
    daily = tables.universe_daily(universe.lazy())
    assert daily["n_priced"].sum() == universe.height
    alts = universe.filter(pl.col("eligible") & (pl.col("role") == "alt"))
    assert daily["n_eligible_alts"].sum() == alts.height
    reasons = tables.universe_reasons(universe.lazy())
    excluded = universe.filter(~pl.col("eligible")).height
    assert reasons["mean_assets"].sum() * daily.height == pytest.approx(excluded)


def test_basket_counts_agree(world):
    basket = world.frames["basket"]
    daily = tables.basket_daily(basket)
    members = tables.basket_members(basket)
    assert daily["n_alts"].sum() == members.filter(leg="alt")["n_days"].sum()
    assert daily["short_weight"].sum() == pytest.approx(basket.filter(pl.col("weight") < 0)["weight"].sum())
    assert tables.basket_status(daily)["n_days"].sum() == daily.height


def test_quartiles_use_the_label_known_before_the_return(world):
    backtest = world.frames["backtest"]
    got = tables.return_quartiles(backtest).filter(account="always_on", label="RISK_ON_ALTS")
    rows = backtest.filter(account="always_on", regime_traded="RISK_ON_ALTS")["ret_net"].to_numpy()
    assert got["n_days"].item() == rows.size
    assert got["mean"].item() == pytest.approx(rows.mean())
    assert got["p05"].item() == pytest.approx(np.quantile(rows, 0.05))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.1234), "12.3\u202f%"),
        (percent(-0.0004), "0.0\u202f%"),
        (number(-1234.5, 1), "\N{MINUS SIGN}1,234.5"),
        (basis_points(0.0005), "5.0\u202fbp"),
        (signed_basis_points(0.0005), "+5.0\u202fbp"),
        (signed_basis_points(-0.0005), "\N{MINUS SIGN}5.0\u202fbp"),
        (signed_basis_points(0.000001), "0.0\u202fbp"),
        (usd(-1234567.8), "\N{MINUS SIGN}$1,234,568"),
        (usd(0.00012), "$0.0001"),
        (p_value(0.00001), "< 0.001"),
        (p_value(0.0425), "0.043"),
    ],
)
def test_numbers_are_shown_with_units(shown, expected):
    assert shown == expected


@pytest.mark.parametrize("n_days", [2, 2500, 2501, 5200])
def test_long_series_are_thinned_and_keep_the_last_day(n_days):
    daily = tables.daily_accounts(_account(np.linspace(-0.001, 0.001, n_days)))
    trace = figures._line(daily, "growth", "x", {}, 4)
    assert len(trace["y"]) <= figures.MAX_POINTS
    assert trace["y"][-1] == pytest.approx(daily["growth"][-1], abs=1e-4)
    step = trace["dx"] // 86_400_000
    last = date.fromisoformat(trace["x0"]) + timedelta(days=step * (len(trace["y"]) - 1))
    assert last == daily["date"].max()
    assert ("Every" in figures._thinned(daily)) == (step > 1)
