from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.features.definitions import DEFINITIONS
from majors_alts_pipeline.features.stage import compute as compute_features
from majors_alts_pipeline.lake.panel import compute as compute_panel
from majors_alts_pipeline.lake.reader import open_lake
from majors_alts_pipeline.stages import STAGE_OF_TABLE
from majors_alts_pipeline.universe.stage import compute as compute_universe

SHARED = Path(os.environ.get("MAJORS_ALTS_SHARED", Path(__file__).parents[2].parent / "shared"))
SETTINGS = load_settings()

pytestmark = pytest.mark.real_lake


def chain(name: str) -> tuple[Window, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    lake = open_lake(SHARED / name, SETTINGS.lake)
    window = Window(lake.first_day(), lake.last_complete_day())
    panel = compute_panel({"lake": lake}, window, SETTINGS)["panel"]
    universe = compute_universe({"panel": panel}, window, SETTINGS)["universe"]
    features = compute_features({"panel": panel, "universe": universe}, window, SETTINGS)["features"]
    return window, panel, universe, features


@pytest.fixture(scope="module")
def lake():
    return chain("lake")


@pytest.fixture(scope="module")
def stress():
    return chain("lake_stress")


def reasons(universe: pl.DataFrame, asset: str) -> set[str]:
    return set(universe.filter(pl.col("asset_id") == asset)["reason"])


@pytest.mark.parametrize("name", ["lake", "stress"])
@pytest.mark.parametrize("before_end", [0, 100, 400])
def test_a_day_alone_equals_the_backfill(name, before_end, request):
    window, panel, universe, features = request.getfixturevalue(name)
    day = window.end - timedelta(days=before_end)
    one = Window(day, day)
    loaded = one.back(STAGE_OF_TABLE["universe"].inputs[0].days(SETTINGS)).keep(panel)
    alone = compute_universe({"panel": loaded}, one, SETTINGS)["universe"]
    assert_frame_equal(alone, one.keep(universe), check_exact=True)
    look_back = one.back(STAGE_OF_TABLE["features"].inputs[0].days(SETTINGS))
    inputs = {"panel": look_back.keep(panel), "universe": look_back.keep(universe)}
    assert_frame_equal(compute_features(inputs, one, SETTINGS)["features"], one.keep(features), check_exact=True)


def test_lake_universe_is_sane(lake):
    window, _, universe, _ = lake
    assert reasons(universe, "BTC") == reasons(universe, "ETH") == {"major"}
    assert reasons(universe, "USDC") == {"excluded_stable"}
    assert reasons(universe, "PAXG") == {"excluded_gold"}
    assert reasons(universe, "ETHBTC") == {"excluded_not_usd_or_index"}
    assert "ok" in reasons(universe, "BNB")
    detected = universe.filter(pl.col("detector").is_not_null())
    assert {"USDC", "USDE"} <= set(detected.filter(pl.col("detector") == "peg_usd")["asset_id"])
    assert set(detected["asset_id"]).isdisjoint({"BNB", "PAXG", "FRAX", "STBL", "USUAL", "SOL", "XRP"})
    alts = universe.filter(pl.col("role") == "alt").group_by("date").len()
    grown = alts.filter(pl.col("date") > window.start + timedelta(days=90))["len"]
    # The lake's first venue turns over little: 38 to 89 alts pass five million USD a day before 2024.
    assert grown.min() >= 30
    assert grown.max() <= 350
    assert alts.filter(pl.col("date") >= date(2024, 1, 10))["len"].min() >= 60
    assert universe["age_days"].min() >= 0


def test_stress_lake_cannot_tell_who_is_shortable_and_runs(stress):
    window, _, universe, features = stress
    assert universe["shortable"].null_count() == universe.height
    assert "no_funding" not in set(universe["reason"])
    alts = universe.filter(pl.col("role") == "alt").group_by("date").len()
    assert alts.filter(pl.col("date") > window.start + timedelta(days=90))["len"].min() >= 20
    luna = universe.filter(pl.col("asset_id") == "LUNA")
    assert "price_stale" in set(luna.tail(SETTINGS.lake.price_carry_days)["reason"])
    lost = features.group_by("feature").agg(pl.col("raw").is_null().all().alias("lost")).filter("lost")
    assert set(lost["feature"]) == {"funding_skew", "funding_heating", "oi_risk"}


@pytest.mark.parametrize("name", ["lake", "stress"])
def test_the_least_coverage_takes_nothing_but_open_interest(name, request):
    window, panel, universe, features = request.getfixturevalue(name)
    any_coverage = load_settings(overrides={"features": {"min_coverage": 0.0}})
    let_pass = compute_features({"panel": panel, "universe": universe}, window, any_coverage)["features"]
    others = pl.col("feature") != "oi_risk"
    assert_frame_equal(let_pass.filter(others), features.filter(others), check_exact=True)
    # Elsewhere inputs are there for about half of the assets or more, or not at all: the bound lies far from both.
    assert features.filter(pl.col("raw").is_not_null())["coverage"].min() > 0.4


def test_lake_features_exist_after_the_burn_in(lake):
    window, _, _, features = lake
    late = features.filter(pl.col("date") > window.start + timedelta(days=200))
    counts = late.group_by("feature").agg(pl.col("z").is_not_null().mean().alias("share"))
    share = dict(counts.iter_rows())
    assert set(share) == set(DEFINITIONS)
    assert all(value == 1.0 for name, value in share.items() if name != "oi_risk"), share
    # The lake has open interest of BTC alone: no aggregate of the market.
    assert share["oi_risk"] == 0.0
    assert 0 < features.filter(pl.col("feature") == "oi_risk")["coverage"].max() < SETTINGS.features.min_coverage
    dominance = late.filter(pl.col("feature") == "btc_dominance")["raw"]
    assert dominance.is_between(0.4, 0.8).all()
