"""The daily book: partition = range, flat days, selection, and the rows' own account of neutrality."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from basket_frames import START, make_days
from polars.testing import assert_frame_equal

from majors_alts_pipeline.basket.stage import compute, select_alts
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.tables import BASKET

WINDOW = Window(START, START + timedelta(days=59))


def run(
    universe: pl.DataFrame,
    betas: pl.DataFrame,
    window: Window = WINDOW,
    settings: Settings | None = None,
    stored: pl.DataFrame | None = None,
) -> pl.DataFrame:
    inputs = {
        "universe": window.keep(universe),
        "betas": window.keep(betas),
        "basket": BASKET.empty() if stored is None else stored,
    }
    return compute(inputs, window, settings or load_settings())["basket"]


@pytest.fixture(scope="module")
def days() -> tuple[pl.DataFrame, pl.DataFrame]:
    universe, betas = make_days(WINDOW, 40, 5, adv_low=2e7)
    gone = (pl.col("date") == START + timedelta(days=30)) & (pl.col("asset_id") > "A005") & (pl.col("role") == "alt")
    return universe.with_columns(pl.col("eligible") & ~gone), betas


@pytest.mark.parametrize("mode", ["dual_beta", "btc_beta", "dollar"])
def test_each_day_alone_equals_the_range(days: tuple[pl.DataFrame, pl.DataFrame], mode: str) -> None:
    settings = load_settings(overrides={"basket": {"mode": mode}})
    whole = run(*days, settings=settings)
    assert set(whole["status"]) >= {"optimal", "flat"}
    for day in WINDOW.days()[1:]:
        eve = whole.filter(pl.col("date") == day - timedelta(days=1)).sample(fraction=1.0, shuffle=True, seed=1)
        alone = run(*days, window=Window(day, day), settings=settings, stored=eve)
        assert_frame_equal(alone, whole.filter(pl.col("date") == day), check_exact=True)


def test_rows_do_not_depend_on_row_order_or_on_what_comes_later(
    days: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    whole = run(*days)
    cut = Window(START, START + timedelta(days=40))
    shuffled = [frame.sample(fraction=1.0, shuffle=True, seed=2) for frame in days]
    assert_frame_equal(run(*shuffled, window=cut), cut.keep(whole), check_exact=True)


def test_optimal_books_keep_every_limit(days: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    settings = load_settings()
    basket, eps = settings.basket, 1e-7
    book = run(*days).join(days[0].select("date", "asset_id", "adv_usd"), on=["date", "asset_id"], how="left")
    optimal = book.filter(pl.col("status") == "optimal")
    assert optimal["date"].n_unique() > 30
    assert optimal["neutrality_btc"].abs().max() <= basket.beta_tolerance + eps
    assert optimal["neutrality_eth"].abs().max() <= basket.beta_tolerance + eps
    allowed = pl.col("adv_usd") * (basket.adv_share_max / settings.backtest.capital_usd)
    assert optimal.filter(pl.col("weight").abs() > allowed + eps).is_empty()
    assert optimal.filter((pl.col("leg") == "alt") & ~pl.col("weight").is_between(-0.0625, 0)).is_empty()
    daily = optimal.group_by("date").agg(
        pl.col("weight").abs().sum().alias("gross"),
        pl.col("weight").sum().alias("net"),
        (pl.col("weight") * pl.col("beta_btc")).sum().alias("btc"),
        pl.col("neutrality_btc").first(),
        pl.col("weight").filter(pl.col("leg") == "alt").sum().alias("short"),
    )
    assert daily["gross"].max() <= basket.gross_max + eps
    assert daily["net"].is_between(basket.net_min - eps, basket.net_max + eps).all()
    np.testing.assert_allclose(daily["btc"], daily["neutrality_btc"], atol=1e-14)
    np.testing.assert_allclose(daily["short"], -basket.short_gross, atol=eps)


def test_turnover_of_optimal_books_counts_names_that_left(days: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    book = run(*days)
    status = dict(book.select("date", "status").rows())
    wide = book.pivot("asset_id", index="date", values="weight").sort("date").fill_null(0.0)
    change = np.abs(np.diff(wide.drop("date").to_numpy(), axis=0)).sum(axis=1)
    checked = [
        turned
        for day, turned in zip(wide["date"][1:], change, strict=True)
        if status[day] == "optimal" and status[day - timedelta(days=1)] != "flat"
    ]
    assert len(checked) > 30
    assert max(checked) <= load_settings().basket.turnover_max + 1e-7


def test_too_few_alts_is_a_flat_day_that_keeps_the_majors(days: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    flat = run(*days).filter(pl.col("date") == START + timedelta(days=30))
    assert flat["asset_id"].to_list() == ["BTC", "ETH"]
    assert flat["weight"].to_list() == [0.0, 0.0]
    assert flat["status"].to_list() == ["flat", "flat"]
    assert "basket.min_alts is 8" in flat["reason"][0]


def test_an_ineligible_major_is_a_flat_day_with_the_reason(days: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    bad = (pl.col("asset_id") == "ETH") & (pl.col("date") == START)
    universe = days[0].with_columns(
        pl.col("eligible") & ~bad,
        pl.when(bad).then(pl.lit("stale price")).otherwise("reason").alias("reason"),
    )
    first = run(universe, days[1]).filter(pl.col("date") == START)
    assert first["status"].to_list() == ["flat", "flat"]
    assert first["reason"][0] == "ETH not eligible: stale price"


def test_a_missing_major_is_an_error(days: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    day = START + timedelta(days=7)
    universe = days[0].filter((pl.col("asset_id") != "BTC") | (pl.col("date") != day))
    with pytest.raises(ValueError, match=f"universe: no row for BTC on {day}"):
        run(universe, days[1])


def test_btc_only_holds_no_eth_and_dollar_neutral_sums_to_zero(
    days: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    btc = run(*days, settings=load_settings(overrides={"basket": {"mode": "btc_beta"}}))
    assert (btc.filter(pl.col("asset_id") == "ETH")["weight"] == 0).all()
    held = btc.filter(pl.col("status") != "flat")
    assert held["neutrality_btc"].abs().max() <= 0.01 + 1e-7
    assert held["neutrality_eth"].abs().max() > 0.1
    dollar = run(*days, settings=load_settings(overrides={"basket": {"mode": "dollar"}}))
    assert dollar.group_by("date").agg(pl.col("weight").sum().abs())["weight"].max() < 1e-7


def test_unknown_volume_is_said_in_the_row(days: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    settings = load_settings(overrides={"basket": {"rank_by": "marketcap"}})
    unknown = days[0].with_columns(pl.lit(None, pl.Float64).alias("adv_usd"))
    book = run(unknown, days[1], settings=settings).filter(pl.col("status") != "flat")
    assert (book["relaxed"].str.contains("liquidity_unknown") & (book["status"] == "relaxed")).all()
    by_volume = run(unknown, days[1])
    assert (by_volume["status"] == "flat").all()
    assert "adv_usd" in by_volume["reason"][0]


def test_the_largest_alts_are_chosen_and_ties_go_to_the_first_name(
    days: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    basket = load_settings().basket.model_copy(update={"n_alts": 3})
    flat = days[0].with_columns(
        pl.when(pl.col("asset_id") == "A030").then(9e9).otherwise(1e8).alias("adv_usd"),
        pl.lit(True).alias("eligible"),
    )
    chosen = select_alts(flat, days[1], basket)
    assert chosen.filter(pl.col("date") == START)["asset_id"].to_list() == ["A000", "A001", "A030"]
    no_beta = days[1].filter(pl.col("asset_id") != "A000")
    chosen = select_alts(flat, no_beta, basket)
    assert chosen.filter(pl.col("date") == START)["asset_id"].to_list() == ["A001", "A002", "A030"]
