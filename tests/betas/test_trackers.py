"""Trackers against definitions written out day by day, and their betas against statsmodels."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from majors_alts_pipeline.betas.trackers import BASE, compute, compute_betas, rolling_beta
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.tables import TRACKERS

START = date(2023, 11, 20)
DAYS = 130
WHOLE = Window(START, START + timedelta(days=DAYS - 1))
ALTS = [f"A{k:02d}" for k in range(14)]
SETTINGS = load_settings(overrides={"trackers": {"min_members": 5}, "betas": {"window_days": 20, "min_obs": 10}})


@pytest.fixture(scope="module")
def world() -> dict[str, pl.DataFrame]:
    """Prices with gaps, a carried spell, a death and late listings; caps that come and go; a stable and a wrapped."""
    rng = np.random.default_rng(0)
    rows, previous = [], {}
    price = {name: 100.0 for name in ["BTC", "ETH", "USDT", "WBTC", *ALTS]}
    for k in range(DAYS):
        day = START + timedelta(days=k)
        market = rng.normal(0, 0.02)
        for name in list(price):
            if name != "USDT":
                price[name] *= float(np.exp(market + rng.normal(0, 0.03)))
            if (name == "A03" and k >= 60) or (name == "A04" and k < 35):
                continue
            carried = name == "A05" and k in (41, 42, 55)
            close = previous[name][0] if carried else price[name]
            alone = carried or name not in previous or previous[name][1]
            supply = 1e6 * (1 + len(name) + int(name[-2:]) if name in ALTS else 40)
            known = not (name == "A06" or (name == "A07" and k < 70) or (name == "A08" and day.day > 20))
            rows.append({
                "date": day, "asset_id": name, "close": close, "price_age_days": int(carried),
                "ret": None if alone else close / previous[name][0] - 1,
                "marketcap": supply * close if known else None,
                "role": "major" if name in ("BTC", "ETH") else "alt" if name in ALTS else "excluded",
                "eligible": name not in ("USDT", "WBTC") and not (name == "A09" and day.day > 25) and not carried,
                "reason": {"USDT": "excluded_stable", "WBTC": "detected_tracks:BTC"}.get(name, "ok"),
            })  # fmt: skip
            previous[name] = (close, carried)
    facts = pl.DataFrame(rows, schema_overrides={"price_age_days": pl.Int32}, infer_schema_length=None)
    return {"panel": facts, "universe": facts, "trackers": TRACKERS.empty()}


@pytest.fixture(scope="module")
def trackers(world: dict[str, pl.DataFrame]) -> pl.DataFrame:
    return compute(world, WHOLE, SETTINGS)["trackers"]


def of(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    return frame.filter(tracker=name).sort("date")


def slow_index(facts: pl.DataFrame, min_members: int, haircut: float) -> list[dict[str, object]]:
    """The definition, by hand: coins bought with 1 USD at the close of each first, and cash from members that died."""
    by_day = {day: {row["asset_id"]: row for row in rows} for day, rows in (
        (day, facts.filter(date=day).to_dicts()) for day in WHOLE.days()
    )}  # fmt: skip
    coins: dict[str, float] = {}
    last: dict[str, float] = {}
    cash, before, out = 0.0, None, []
    for day in WHOLE.days():
        now, value = by_day[day], None
        if coins or cash:
            for name in list(coins):
                if name in now:
                    last[name] = now[name]["close"]
                else:
                    cash += coins.pop(name) * last[name] * (1 - haircut)
            value = cash + sum(n * last[name] for name, n in coins.items())
        worth = {name: n * last[name] for name, n in coins.items()}
        top = max(worth, key=worth.__getitem__) if worth else None
        out.append({
            "ret": None if value is None else value / before - 1,
            "n_members": len(coins),
            "top_asset": top,
            "top_weight": worth[top] / value if top else None,
        })  # fmt: skip
        before = value
        eve = day - timedelta(days=1)
        if day.day == 1 and eve in by_day:
            caps = {
                name: row["marketcap"]
                for name, row in by_day[eve].items()
                if row["role"] == "alt" and row["eligible"] and row["marketcap"] is not None
                and name in now and now[name]["price_age_days"] == 0
            }  # fmt: skip
            coins, cash, before = {}, 0.0, 1.0
            if len(caps) >= min_members:
                last = {name: now[name]["close"] for name in caps}
                coins = {name: cap / sum(caps.values()) / last[name] for name, cap in caps.items()}
    return out


@pytest.mark.parametrize("min_members", [5, 10])
def test_the_alt_index_is_its_definition(world: dict[str, pl.DataFrame], min_members: int) -> None:
    """Ten members exist from February on only: before, there is no index rather than one of what there is."""
    settings = SETTINGS.model_copy(
        update={"trackers": SETTINGS.trackers.model_copy(update={"min_members": min_members})}
    )
    got = of(compute(world, WHOLE, settings)["trackers"], "alt_index")
    want = slow_index(world["panel"], min_members, settings.costs.exit_haircut)
    assert got["n_members"].to_list() == [row["n_members"] for row in want]
    assert got["top_asset"].to_list() == [row["top_asset"] for row in want]
    for name in ("ret", "top_weight"):
        mine, theirs = got[name].to_list(), [row[name] for row in want]
        assert [value is None for value in mine] == [value is None for value in theirs]
        np.testing.assert_allclose(*([v for v in values if v is not None] for values in (mine, theirs)), rtol=1e-11)
    known = got["ret"].is_not_null().sum()
    assert 30 < known < DAYS - 5
    assert (known > 100) == (min_members == 5)


def test_who_takes_part_is_decided_on_the_eve(trackers: pl.DataFrame, world: dict[str, pl.DataFrame]) -> None:
    index = of(trackers, "alt_index").filter(pl.col("ret").is_not_null())
    first = world["panel"].filter(pl.col("asset_id").is_in(ALTS)).filter(date=date(2023, 11, 30))
    chosen = first.filter(pl.col("eligible") & pl.col("marketcap").is_not_null())
    assert "A09" not in chosen["asset_id"], "not eligible after the 25th, though it is on the first"
    assert "A08" not in chosen["asset_id"], "its cap is not known on the eve, though it is on the first"
    assert index["date"][0] == date(2023, 12, 2)
    assert index["n_members"][0] == chosen.height
    assert index["coverage"][0] == pytest.approx(chosen.height / first.filter("eligible").height)


def test_what_becomes_known_on_the_first_changes_nothing(
    world: dict[str, pl.DataFrame], trackers: pl.DataFrame
) -> None:
    on_firsts = pl.col("date").dt.day() == 1
    twisted = world["universe"].with_columns(
        eligible=pl.when(on_firsts).then(~pl.col("eligible")).otherwise("eligible"),
        marketcap=pl.when(on_firsts & pl.col("asset_id").is_in(ALTS)).then(1.0).otherwise("marketcap"),
    )
    other = compute(world | {"universe": twisted}, WHOLE, SETTINGS)["trackers"]
    assert other.drop("dominance").equals(trackers.drop("dominance"))


def test_the_level_chains_the_returns_and_the_pair_is_btc_less_alts(
    trackers: pl.DataFrame, world: dict[str, pl.DataFrame]
) -> None:
    btc = world["panel"].filter(asset_id="BTC").sort("date")["ret"]
    index, pair = of(trackers, "alt_index"), of(trackers, "btc_dominance")
    np.testing.assert_allclose(pair["ret"].drop_nulls(), (btc - index["ret"]).drop_nulls(), rtol=1e-12)
    for rows in (index, pair):
        known = rows.drop_nulls("ret")
        np.testing.assert_allclose(known["level"], BASE * np.cumprod(1 + known["ret"].to_numpy()), rtol=1e-12)
        assert rows["level"].null_count() == (known["date"][0] - START).days


def test_dominance_is_btc_among_what_is_not_stable_or_wrapped(
    trackers: pl.DataFrame, world: dict[str, pl.DataFrame]
) -> None:
    counted = world["universe"].filter(
        ~pl.col("asset_id").is_in(["USDT", "WBTC"])
        & (pl.col("price_age_days") == 0)
        & pl.col("marketcap").is_not_null()
    )
    share = counted.group_by("date").agg(
        (pl.col("marketcap").filter(pl.col("asset_id") == "BTC").sum() / pl.col("marketcap").sum()).alias("share")
    )
    got = of(trackers, "btc_dominance")
    np.testing.assert_allclose(got["dominance"], share.sort("date")["share"], rtol=1e-12)
    assert of(trackers, "alt_index")["dominance"].null_count() == DAYS


def test_a_death_costs_the_haircut_once(world: dict[str, pl.DataFrame]) -> None:
    """A03 dies on day 60: with another haircut only the return of that day differs."""

    def returns(haircut: float) -> np.ndarray:
        settings = SETTINGS.model_copy(update={"costs": SETTINGS.costs.model_copy(update={"exit_haircut": haircut})})
        return of(compute(world, WHOLE, settings)["trackers"], "alt_index")["ret"].fill_null(np.nan).to_numpy()

    none, half = returns(0.0), returns(0.5)
    month = slice(60, (date(2024, 2, 1) - START).days + 1)
    assert half[60] < none[60] - 0.01
    np.testing.assert_array_equal(np.delete(none, np.r_[month]), np.delete(half, np.r_[month]))
    # The cash it leaves behind damps the rest of the month by as much as there is less of it.
    assert np.abs(half[61 : month.stop] - none[61 : month.stop]).max() < 0.01


def test_a_lake_without_caps_has_no_index_and_says_so(world: dict[str, pl.DataFrame]) -> None:
    bare = world | {"universe": world["universe"].with_columns(marketcap=pl.lit(None, pl.Float64))}
    rows = compute(bare, WHOLE, SETTINGS)["trackers"]
    assert rows.height == 2 * DAYS
    assert rows.select(pl.col("level", "ret", "top_weight", "coverage", "dominance").null_count().sum()).row(0) == (
        (2 * DAYS,) * 5
    )
    betas = compute_betas(world | {"trackers": rows}, WHOLE, SETTINGS)["tracker_betas"]
    assert betas.is_empty()


@pytest.mark.parametrize("first", [10, 12, 41, 42, 43, 60, 73, 74, 104])
def test_a_day_alone_is_the_day_of_the_range(
    world: dict[str, pl.DataFrame], trackers: pl.DataFrame, first: int
) -> None:
    """Day 42 is the first of January, 73 of February, 102 of March."""
    day = START + timedelta(days=first)
    window = Window(day, day)
    seen = {name: window.back(32).keep(world[name]) for name in ("panel", "universe")}
    eve = trackers.filter(date=day - timedelta(days=1))
    assert compute(seen | {"trackers": eve}, window, SETTINGS)["trackers"].equals(trackers.filter(date=day))


def test_betas_to_a_tracker_are_least_squares(world: dict[str, pl.DataFrame], trackers: pl.DataFrame) -> None:
    from statsmodels.regression.rolling import RollingOLS
    from statsmodels.tools import add_constant

    betas = compute_betas(world | {"trackers": trackers}, WHOLE, SETTINGS)["tracker_betas"]
    for name in ("alt_index", "btc_dominance"):
        factor = of(trackers, name)["ret"].fill_null(np.nan).to_numpy()
        for asset in ("ETH", "A00", "A05"):
            facts = world["panel"].filter(asset_id=asset).sort("date")
            own = facts.select(pl.when(pl.col("price_age_days") == 0).then("ret")).to_series()
            y = own.fill_null(np.nan).to_numpy()
            rolled = RollingOLS(y, add_constant(factor), window=20, min_nobs=10, missing="drop", expanding=True).fit()
            got = betas.filter(tracker=name, asset_id=asset).sort("date")
            rows = np.array([(day - START).days for day in got["date"]])
            assert len(rows) > 80
            inside = rows >= 19
            np.testing.assert_allclose(got["beta"].to_numpy()[inside], rolled.params[rows[inside], 1], rtol=1e-9)
            np.testing.assert_allclose(got["se"].to_numpy()[inside], rolled.bse[rows[inside], 1], rtol=1e-9)
            np.testing.assert_allclose(got["r2"].to_numpy()[inside], rolled.rsquared[rows[inside]], rtol=1e-9)
            counted = np.convolve(np.isfinite(y) & np.isfinite(factor), np.ones(20))[:DAYS]
            np.testing.assert_array_equal(got["n_obs"], counted[rows])


def test_only_what_may_be_held_has_a_beta(world: dict[str, pl.DataFrame], trackers: pl.DataFrame) -> None:
    betas = compute_betas(world | {"trackers": trackers}, WHOLE, SETTINGS)["tracker_betas"]
    held = world["universe"].filter("eligible")
    assert betas.join(held, on=["date", "asset_id"], how="anti").is_empty()
    assert not betas["asset_id"].is_in(["USDT", "WBTC"]).any()
    assert betas["n_obs"].min() >= 10


def test_a_tracker_has_a_beta_of_one_to_itself_and_a_standing_one_none() -> None:
    rng = np.random.default_rng(1)
    factor = rng.normal(0, 0.02, 200)
    fit = rolling_beta(np.column_stack([factor, 2 * factor, rng.normal(0, 0.02, 200)]), factor, 60, 30, 19_000)
    np.testing.assert_allclose(fit["beta"][59:, :2], [[1.0, 2.0]] * 141, rtol=1e-12)
    assert np.abs(fit["beta"][59:, 2] / fit["se"][59:, 2]).mean() < 1.5
    still = rolling_beta(factor[:, None], np.zeros(200), 60, 30, 19_000)
    assert np.isnan(still["beta"]).all()
