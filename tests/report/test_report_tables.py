"""Counts and sums of the report against identities, slow references and another library."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_world import make_world

from majors_alts_pipeline.report import tables
from majors_alts_pipeline.report.fields import kind_name
from majors_alts_pipeline.report.figures import style
from majors_alts_pipeline.report.html import basis_points, number, p_value, percent, signed_basis_points, usd
from majors_alts_pipeline.report.tables import accounts, book, market, regimes, sweep


def _majors(world):
    wide = world.frames["panel"].filter(pl.col("asset_id").is_in(["BTC", "ETH"]))
    return wide.pivot("asset_id", index="date", values="ret").select("date", btc="BTC", eth="ETH").sort("date")


def _account(returns):
    days = [date(2024, 1, 1) + timedelta(days=k) for k in range(len(returns))]
    frame = pl.DataFrame({"date": days, "account": "regime", "ret_net": returns, "ret_gross": returns})
    return frame.with_columns(pl.col("ret_net", "ret_gross").cast(pl.Float64))


def test_attribution_adds_up_to_the_change_of_nav(world):
    backtest = world.frames["backtest"]
    totals = accounts.attribution(backtest)
    net = totals.filter(component="net")
    parts = totals.filter(pl.col("component").is_in(tables.COMPONENTS)).group_by("account").agg(pl.col("usd").sum())
    last = backtest.filter(pl.col("date") == pl.col("date").max())
    for account in tables.ACCOUNTS:
        change = last.filter(account=account)["nav"].item() - 1e6
        assert net.filter(account=account)["usd"].item() == pytest.approx(change, abs=1e-4)
        assert parts.filter(account=account)["usd"].item() == pytest.approx(change, abs=1e-4)
        share = backtest.filter(account=account)["ret_net"].sum()
        assert net.filter(account=account)["of_capital"].item() == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("table", [accounts.attribution_by_leg, accounts.attribution_by_asset])
def test_finer_attribution_adds_up_to_the_account(world, table):
    finer = table(world.frames["positions"]).group_by("account").agg(pl.col("net").sum())
    whole = accounts.attribution(world.frames["backtest"]).filter(component="net")
    for account in ("regime", "always_on"):
        expected = whole.filter(account=account)["usd"].item()
        assert finer.filter(account=account)["net"].item() == pytest.approx(expected, abs=1e-4)


def test_funding_by_leg_ends_at_the_funding_of_the_account(world):
    legs = accounts.funding_by_leg(world.frames["positions"], world.frames["backtest"])
    assert legs.filter(account="regime", leg="alt")["date"].to_list() == world.frames["market"]["date"].to_list()
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
    daily = accounts.daily_accounts(_account(returns))
    got = accounts.drawdown_table(daily, worst=100)
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
    months = accounts.monthly_returns(backtest)
    assert months["n_days"].sum() == backtest.height
    whole = months.group_by("account").agg(growth=(1 + pl.col("ret_net")).product())
    daily = accounts.daily_accounts(backtest).filter(pl.col("date") == pl.col("date").max())
    joined = whole.join(daily.select("account", expected="growth"), on="account")
    assert np.allclose(joined["growth"], joined["expected"], rtol=1e-12)


def test_episodes_cover_every_day_once(world):
    regime = world.frames["regime"].filter(method="composite")
    episodes = regimes.regime_episodes(regime)
    assert episodes["n_days"].sum() == regime.height
    assert (episodes["label"] != episodes["label"].shift(1)).fill_null(True).all()
    spans = (episodes["end"] - episodes["start"]).dt.total_days() + 1
    assert spans.to_list() == episodes["n_days"].to_list()
    summary = regimes.regime_summary(regime)
    assert summary["share"].sum() == pytest.approx(1)
    assert summary["n_episodes"].sum() == episodes.height
    moves = regimes.regime_transitions(regime)
    assert np.allclose(moves.select(tables.LABELS).to_numpy().sum(axis=1), 1)
    assert moves["n_days"].sum() == regime.height - 1


def test_an_ended_asset_is_found_and_its_exits_counted(world):
    panel, universe = world.frames["panel"].lazy(), world.frames["universe"].lazy()
    ended = market.ended_assets(panel, universe, world.settings.lake.price_carry_days)
    assert ended["asset_id"].to_list() == ["ALT00"]
    own = world.frames["panel"].filter(pl.col("asset_id") == "ALT00", pl.col("price_age_days") == 0)
    assert ended["last_date"].item() == own["date"].max()
    assert ended["last_price"].item() == own.sort("date")["close"][-1]
    exits = accounts.dead_exits(world.frames["positions"])
    assert exits.height == world.frames["backtest"]["n_dead_exits"].filter(
        world.frames["backtest"]["account"].is_in(["regime", "always_on"])
    ).sum()  # fmt: skip
    text = market.survivorship_statement(ended, 32, date(2025, 10, 4))
    assert "1 of 32 assets stop trading inside this lake" in text
    assert "ALT00" in text


def test_a_lake_of_survivors_says_so():
    world = make_world(n_days=120, dies=False)
    ended = market.ended_assets(world.frames["panel"].lazy(), world.frames["universe"].lazy(), 3)
    assert ended.height == 0
    text = market.survivorship_statement(ended, 32, date(2023, 8, 16))
    assert text.startswith("No series ends inside this lake: all 32 assets")
    assert "the sign of the net bias is open" in text


def test_funding_coverage_counts_what_is_missing(world):
    panel, universe = world.frames["panel"], world.frames["universe"]
    coverage = market.funding_coverage(panel.lazy(), universe.lazy())
    eligible = universe.filter("eligible")
    assert coverage["n_asset_days"].sum() == eligible.height
    assert np.allclose(coverage.select("sum", "print_scaled", "missing").to_numpy().sum(axis=1), 1)
    missing = (coverage["missing"] * coverage["n_asset_days"]).sum()
    assert missing == pytest.approx((eligible["asset_id"] == "ALT03").sum())


def test_funding_of_positions_counts_the_days_held_over(world):
    positions, backtest = world.frames["positions"], world.frames["backtest"]
    held = accounts.held_funding(positions, world.frames["panel"].lazy(), backtest)
    last = backtest["date"].max()
    for account in ("regime", "always_on"):
        over = positions.filter(pl.col("units") != 0, pl.col("date") < last, account=account)
        one = held.filter(account=account)
        assert one["position_days"].sum() == over.height
        assert one["share"].sum() == pytest.approx(1)
        without = one.filter(kind="assumed", leg="alt")["position_days"].item()
        assert without >= (over["asset_id"] == "ALT03").sum() > 0
        assert accounts.share_of_kind(held, account, "assumed") == pytest.approx(without / over.height)
        moved = over.with_columns(pl.col("date").dt.offset_by("1d")).select("date", "asset_id", "value_usd")
        paid = positions.filter(account=account).join(moved, on=["date", "asset_id"], suffix="_eve")
        assert one["usd"].sum() == pytest.approx(paid["pnl_funding"].sum())
        rates = one["usd"] / one["per_year"] * 365
        assert rates.sum() == pytest.approx(paid["value_usd_eve"].abs().sum())


def test_a_rescaled_print_is_a_print():
    held = pl.DataFrame(
        {"account": "regime", "kind": ["print_scaled", "print_scaled_rescaled", "sum"], "share": [0.2, 0.3, 0.5]}
    )
    assert accounts.share_of_kind(held, "regime", "print_scaled") == pytest.approx(0.5)
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
    got = market.unfunded_alts(universe.lazy(), panel.lazy(), n_alts=3)
    assert got["asset_id"].to_list() == ["B", "B"]
    assert got["ret_next"].to_list() == [0.05, None]
    assert got["ret_next_kept"].to_list() == [pytest.approx(0.02), None]
    names = market.unfunded_names(got)
    assert names.select("asset_id", "n_days").rows() == [("B", 2)]


def test_every_day_is_decided_by_one_thing():
    days = pl.date_range(date(2024, 1, 1), date(2024, 1, 10), eager=True)
    regime = pl.DataFrame(
        {"date": days, "score": [None] * 3 + [0.1] * 7, "in_force": ["default"] * 6 + ["walk_forward"] * 4}
    )
    got = dict(regimes.decided_by(regime, date(2024, 1, 1), date(2024, 1, 10), lag=1).iter_rows())
    assert got == {"walk_forward": 2, "default": 3, "no_score": 5}


def test_execution_counts_what_was_not_done_as_decided(world):
    backtest = world.frames["backtest"]
    held = accounts.held_funding(world.frames["positions"], world.frames["panel"].lazy(), backtest)
    got = accounts.execution(backtest, held)
    assert got["account"].to_list() == list(tables.ACCOUNTS)
    index = got.row(by_predicate=pl.col("account") == "alt_index", named=True)
    assert (index["days_waiting"], index["orders_waiting"]) == (9, 18)
    assert index["assumed_share"] is None
    assert got.filter(account="regime")["assumed_share"].item() > 0
    assert got["n_dead_exits"].sum() == backtest["n_dead_exits"].sum()
    yearly = accounts.attribution(backtest).filter(component="pnl_funding_assumed")
    assert np.allclose(got["assumed_annual"], yearly["per_year"])


def test_universe_counts_agree(world):
    universe = world.frames["universe"]
    daily = market.universe_daily(universe.lazy())
    assert daily["n_priced"].sum() == universe.height
    alts = universe.filter(pl.col("eligible") & (pl.col("role") == "alt"))
    assert daily["n_eligible_alts"].sum() == alts.height
    reasons = market.universe_reasons(universe.lazy())
    excluded = universe.filter(~pl.col("eligible")).height
    assert reasons["mean_assets"].sum() * daily.height == pytest.approx(excluded)


def test_basket_counts_agree(world):
    basket = world.frames["basket"]
    daily = book.basket_daily(basket)
    members = book.basket_members(basket)
    assert daily["n_alts"].sum() == members.filter(leg="alt")["n_days"].sum()
    assert daily["short_weight"].sum() == pytest.approx(basket.filter(pl.col("weight") < 0)["weight"].sum())
    assert book.basket_status(daily)["n_days"].sum() == daily.height


def test_quartiles_use_the_label_known_before_the_return(world):
    backtest = world.frames["backtest"]
    got = regimes.return_quartiles(backtest).filter(account="always_on", label="RISK_ON_ALTS")
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


def _days_drawn(trace):
    if "meta" in trace:
        moved = np.cumsum(trace["meta"]["steps"])
    else:
        moved = np.arange(len(trace["y"])) * (trace["dx"] // 86_400_000)
    return [date.fromisoformat(trace["x0"]) + timedelta(days=int(step)) for step in moved]


@pytest.mark.parametrize("n_days", [2, 2500, 2501, 5200])
def test_long_series_are_thinned_and_keep_their_ends_and_extremes(n_days):
    rng = np.random.default_rng(n_days)
    daily = accounts.daily_accounts(_account(rng.normal(0, 0.02, n_days)))
    trace = style.daily_line(daily, "growth", "x", {}, 6)
    assert len(trace["y"]) <= style.MAX_POINTS
    growth = dict(daily.select("date", "growth").iter_rows())
    days = _days_drawn(trace)
    assert [days[0], days[-1]] == [daily["date"].min(), daily["date"].max()]
    assert trace["y"] == pytest.approx([growth[day] for day in days], abs=1e-5)
    assert max(trace["y"]) == pytest.approx(daily["growth"].max(), abs=1e-5)
    assert min(trace["y"]) == pytest.approx(daily["growth"].min(), abs=1e-5)
    assert ("extremes" in style.thinned(daily)) == (n_days > style.MAX_POINTS)


def test_a_thinned_series_keeps_its_gaps():
    days = pl.date_range(date(2015, 1, 1), date(2015, 1, 1) + timedelta(days=4999), eager=True)
    values = np.sin(np.arange(5000) / 30)
    frame = pl.DataFrame({"date": days, "v": values}).with_columns(
        v=pl.when(pl.int_range(5000).is_between(2000, 2010)).then(None).otherwise("v")
    )
    trace = style.daily_line(frame, "v", "x", {}, 4)
    empty = [day for day, value in zip(_days_drawn(trace), trace["y"], strict=True) if value is None]
    assert empty
    assert all(days[2000] <= day <= days[2010] for day in empty)


def test_traces_of_a_stack_share_their_days():
    days = pl.date_range(date(2015, 1, 1), date(2015, 1, 1) + timedelta(days=3999), eager=True)
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"date": days, "p": rng.uniform(size=4000)}).with_columns(q=1 - pl.col("p"))
    one, other = (style.daily_line(frame, name, name, {}, 9, by="p") for name in ("p", "q"))
    assert _days_drawn(one) == _days_drawn(other)
    assert np.allclose(np.array(one["y"]) + np.array(other["y"]), 1, atol=1e-6)


def test_contributions_add_up_to_the_score_of_the_composite():
    """Against the method's own score, at one day of smoothing, across a change of model and with missing z-scores."""
    from majors_alts_pipeline.calendar import Window
    from majors_alts_pipeline.regime.composite import Candidate, ZScores

    rng = np.random.default_rng(4)
    window = Window(date(2024, 1, 1), date(2024, 3, 31))
    z = rng.normal(0, 3, (window.n_days, 3))
    z[rng.uniform(size=z.shape) < 0.2] = np.nan
    features = pl.DataFrame(
        {"date": np.repeat(np.array(window.days(), dtype="datetime64[D]"), 3),
         "feature": ["a", "b", "c"] * window.n_days,
         "z": z.ravel()}
    ).with_columns(pl.col("z").fill_nan(None))  # fmt: skip
    early = Candidate("one", (("a", 1.0), ("b", -0.5), ("c", 2.0)), 4.0, 1, 0.2, 0.4, 3)
    late = Candidate("two", (("a", -1.0), ("c", 0.5)), 2.0, 1, 0.2, 0.4, 3)
    change = date(2024, 2, 15)
    models = pl.DataFrame({"date": [window.start, change], "params": [early.to_json(), late.to_json()]})
    got = regimes.contributions(features, models).group_by("date").agg(pl.col("contribution").sum())
    scores = ZScores(features, window)
    late_day = np.array([day >= change for day in window.days()])
    expected = np.where(late_day, scores.score(late), scores.score(early))
    found = pl.DataFrame({"date": window.days()}).join(got, on="date", how="left").sort("date")["contribution"]
    assert np.allclose(found.to_numpy(), expected, atol=1e-12, equal_nan=True)
    assert regimes.contributions(features, models.clear()).height == 0


def test_methods_agree_with_themselves_and_are_counted_against_each_other():
    days = [date(2024, 1, 1) + timedelta(days=k) for k in range(4)]
    frame = pl.DataFrame({
        "date": days * 2, "method": ["a"] * 4 + ["b"] * 4, "label": ["x", "x", "y", "y", "x", "y", "y", "y"],
    })  # fmt: skip
    got = regimes.agreement(frame)
    assert got.select("a", "b").rows() == [(1.0, 0.75), (0.75, 1.0)]


def test_tracker_exposure_is_the_weighted_sum_of_what_is_known(world):
    got = book.tracker_exposure(world.frames["basket"], world.frames["tracker_betas"].lazy())
    day = world.frames["basket"].filter(pl.col("asset_id") == "ALT05", pl.col("weight") != 0)["date"][0]
    held = {row["asset_id"]: row["weight"] for row in world.frames["basket"].filter(date=day).iter_rows(named=True)}
    row = got.row(by_predicate=(pl.col("date") == day) & (pl.col("tracker") == "alt_index"), named=True)
    slope = {"BTC": 0.6, "ETH": 0.9, "ALT05": 0.0}
    assert row["beta"] == pytest.approx(sum(weight * slope.get(name, 1.0) for name, weight in held.items()))
    assert row["known"] == pytest.approx(1 - abs(held["ALT05"]) / sum(abs(weight) for weight in held.values()))
    assert got["date"].min() == world.frames["basket"].filter(pl.col("weight") != 0)["date"].min()


def test_persistence_follows_the_likeliest_state():
    day = date(2024, 1, 1)
    rows = [(day, 0, "up", 0.6), (day, 0, "down", 0.4), (day, 1, "up", 0.55), (day, 1, "down", 0.45),
            (day, 5, "up", 0.3), (day, 5, "down", 0.7)]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["date", "horizon_days", "state", "probability"], orient="row")
    assert regimes.persistence(frame).row(0) == (day, "up", 0.6, 0.55, 0.3)
    outlook = regimes.outlook(frame.with_columns(method=pl.lit("m")))
    assert outlook.rows() == [("m", "down", 0.4, 0.45, 0.7), ("m", "up", 0.6, 0.55, 0.3)]


SETTINGS = {"a": {"x": 2, "y": 20}, "z": True}


def _variants(sharpe_of):
    grid = [(x, y, z) for x in (1, 2, 3, 10) for y in (10, 20, 30) for z in (True, False)]
    grid.sort(key=lambda values: values != (2, 20, True))
    return pl.DataFrame({
        "variant": range(len(grid)),
        "sharpe": [sharpe_of(x, y) + (0.001 if z else 0.0) for x, y, z in grid],
        "overrides": ["{}" if k == 0 else f'{{"a.x": {x}, "a.y": {y}, "z": {str(z).lower()}}}'
                      for k, (x, y, z) in enumerate(grid)],
    })  # fmt: skip


def test_surface_finds_the_two_parameters_that_move_most_and_the_configured_cell():
    found = sweep.surface(_variants(lambda x, y: x + 0.01 * y), SETTINGS)
    assert (found.x, found.y, found.configured) == ("a.x", "a.y", ("2", "20"))
    assert found.cells["x"].unique(maintain_order=True).to_list() == ["1", "2", "3", "10"], "numbers sort as numbers"
    assert found.cells["n_variants"].to_list() == [2] * 12
    cell = found.cells.filter(x="2", y="20")["sharpe"].item()
    assert cell == pytest.approx(2.2005)
    order = sweep.influence(sweep.parameter_values(_variants(lambda x, y: x + 0.01 * y), SETTINGS))
    assert order["parameter"].to_list() == ["a.x", "a.y", "z"]
    assert order["spread"].to_list() == pytest.approx([9.0, 0.2, 0.001])


def test_a_plateau_is_told_from_a_peak():
    peak = sweep.surface(_variants(lambda x, y: 1.0 if (x, y) == (2, 20) else 0.1 + 0.001 * x), SETTINGS)
    assert peak.plateau is False
    plateau = sweep.surface(_variants(lambda x, y: 1.0 if x <= 2 else -2.0), SETTINGS)
    assert plateau.plateau is True
    named = {f'"{name}"': k for k, name in enumerate(("low", "best", "other"))}
    rows = [(x, y, 1.0 - 0.1 * abs(y - 20) / 10 if x == '"best"' else -2.0) for x in named for y in (10, 20, 30)]
    rows.sort(key=lambda row: row[:2] != ('"best"', 20))
    names = pl.DataFrame({
        "variant": range(9), "sharpe": [sharpe for _, _, sharpe in rows],
        "overrides": ["{}" if k == 0 else f'{{"a.x": {x}, "a.y": {y}}}' for k, (x, y, _) in enumerate(rows)],
    })  # fmt: skip
    found = sweep.surface(names, {"a": {"x": "best", "y": 20}})
    assert found.plateau is True, "names have no order, so other names are no neighbours"
    flat = sweep.surface(_variants(lambda x, y: 1.0).with_columns(sharpe=pl.lit(1.0)), SETTINGS)
    assert flat.plateau is None


def test_a_sweep_of_one_parameter_has_no_surface():
    one = pl.DataFrame({"variant": [0, 1], "sharpe": [0.1, 0.2], "overrides": ["{}", '{"a.x": 5}']})
    assert sweep.surface(one, SETTINGS) is None
