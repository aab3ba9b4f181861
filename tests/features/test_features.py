from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hyp
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.features.definitions import DEFINITIONS
from majors_alts_pipeline.features.market import z_score
from majors_alts_pipeline.features.stage import compute, raw_lookback
from majors_alts_pipeline.stages import STAGE_OF_TABLE
from majors_alts_pipeline.universe.stage import compute as compute_universe

sys.path.insert(0, str(Path(__file__).parents[1] / "universe"))
from panel_frames import START, panel_from_arrays, random_market

RULES = {
    "min_age_days": 1, "adv_window_days": 7, "adv_min_obs": 4, "detector_window_days": 12,
    "detector_min_obs": 6, "min_adv_usd": 1e7, "min_marketcap_usd": 1e8, "tracks_references": 3,
}  # fmt: skip
SHORT = load_settings(overrides={"universe": RULES, "features": {"z_window_days": 20, "z_min_obs": 8, "min_assets": 3}})
LOOKBACK = STAGE_OF_TABLE["features"].inputs[0]
DAYS = 120


def whole(panel: pl.DataFrame) -> Window:
    return Window(panel["date"].min(), panel["date"].max())


def universe_of(panel: pl.DataFrame, config: Settings = SHORT) -> pl.DataFrame:
    return compute_universe({"panel": panel}, whole(panel), config)["universe"]


def run(panel: pl.DataFrame, universe: pl.DataFrame, window: Window, config: Settings = SHORT) -> pl.DataFrame:
    loaded = window.back(LOOKBACK.days(config))
    inputs = {"panel": loaded.keep(panel), "universe": loaded.keep(universe)}
    return compute(inputs, window, config)["features"]


@pytest.fixture(scope="module")
def market() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    panel, _ = random_market(5, DAYS, 18, missing=0.04)
    universe = universe_of(panel)
    return panel, universe, run(panel, universe, whole(panel))


@hyp(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), days=st.integers(2, 90), first=st.integers(0, 89), length=st.integers(1, 30))
def test_partition_equals_range_equals_cut_lake(seed, days, first, length):
    panel, _ = random_market(seed, days, 10, missing=0.15)
    universe = universe_of(panel)
    full = run(panel, universe, whole(panel))
    start = START + timedelta(days=min(first, days - 1))
    part = Window(start, min(start + timedelta(days=length - 1), whole(panel).end))
    for window in (part, Window(part.end, part.end)):
        mixed = (frame.sample(fraction=1.0, shuffle=True, seed=seed) for frame in (panel, universe))
        assert_frame_equal(run(*mixed, window), window.keep(full), check_exact=True)


def test_assets_that_appear_later_change_nothing_before(market):
    panel, _, full = market
    cut = START + timedelta(days=50)
    late = panel.filter((pl.col("date") > cut) & (pl.col("asset_id") != "BTC"))
    more = pl.concat([panel, *(late.with_columns(asset_id=pl.lit(p) + pl.col("asset_id")) for p in ("0", "B", "ZZ"))])
    grown = run(more, universe_of(more), whole(panel))
    assert_frame_equal(grown.filter(pl.col("date") <= cut), full.filter(pl.col("date") <= cut), check_exact=True)


class Slow:
    """The definitions, read off day by day from dictionaries."""

    def __init__(self, panel: pl.DataFrame, universe: pl.DataFrame) -> None:
        fresh = panel.filter(pl.col("price_age_days") == 0)
        self.fact = {(r["date"], r["asset_id"]): r for r in fresh.to_dicts()}
        self.alts, self.capital = {}, {}
        for r in universe.to_dicts():
            if r["role"] == "alt":
                self.alts.setdefault(r["date"], []).append(r["asset_id"])
            if r["price_age_days"] == 0 and not r["reason"].startswith(("excluded_", "detected_")):
                self.capital.setdefault(r["date"], []).append(r["asset_id"])

    def get(self, day: date, asset: str, column: str) -> float:
        value = self.fact.get((day, asset), {}).get(column)
        return np.nan if value is None else value

    def of_alts(self, day: date, column: str) -> np.ndarray:
        values = np.array([self.get(day, asset, column) for asset in self.alts.get(day, [])])
        return values[np.isfinite(values)]

    def median(self, day: date, column: str) -> float:
        values = self.of_alts(day, column)
        return float(np.median(values)) if len(values) >= 3 else np.nan

    def majors(self, day: date, column: str) -> float:
        return (self.get(day, "BTC", column) + self.get(day, "ETH", column)) / 2

    def grown(self, day: date, asset: str, days: int) -> float:
        return self.get(day, asset, "close") / self.get(back(day, days), asset, "close") - 1

    def breadth_up(self, day: date) -> float:
        values = self.of_alts(day, "ret")
        return np.mean(values > 0) if len(values) >= 3 else np.nan

    def median_return(self, day: date) -> float:
        return self.median(day, "ret")

    def dispersion_iqr(self, day: date) -> float:
        values = self.of_alts(day, "ret")
        return np.subtract(*np.percentile(values, [75, 25])) if len(values) >= 3 else np.nan

    def slope(self, day: date, days: int) -> float:
        y = np.array([self.breadth_up(back(day, k)) for k in range(days - 1, -1, -1)])
        known = np.isfinite(y)
        return np.polyfit(np.arange(days)[known], y[known], 1)[0] if known.sum() >= 0.8 * days else np.nan

    def breadth_slope_5(self, day: date) -> float:
        return self.slope(day, 5)

    def breadth_slope_20(self, day: date) -> float:
        return self.slope(day, 20)

    def btc_dominance(self, day: date) -> float:
        caps = np.array([self.get(day, asset, "marketcap") for asset in self.capital[day]])
        known = np.isfinite(caps)
        return self.get(day, "BTC", "marketcap") / caps[known].sum() if known.sum() >= 3 else np.nan

    def dominance_change(self, day: date, days: int) -> float:
        now, then = {}, {}
        for asset in self.capital[day]:
            cap = self.get(day, asset, "marketcap")
            old = cap / (1 + self.grown(day, asset, days))
            if np.isfinite(old):
                now[asset], then[asset] = cap, old
        if len(now) < 3 or "BTC" not in now:
            return np.nan
        return now["BTC"] / sum(now.values()) - then["BTC"] / sum(then.values())

    def btc_dominance_change_1(self, day: date) -> float:
        return self.dominance_change(day, 1)

    def btc_dominance_change_5(self, day: date) -> float:
        return self.dominance_change(day, 5)

    def funding_skew(self, day: date) -> float:
        return self.median(day, "funding_rate") - self.majors(day, "funding_rate")

    def funding_heating(self, day: date) -> float:
        return self.mean("funding_rate", day, 10) - self.mean("funding_rate", day, 20)

    def mean(self, column: str, day: date, days: int, transform=lambda x: x) -> float:
        values = np.array([transform(self.median(back(day, k), column)) for k in range(days)])
        known = np.isfinite(values)
        return values[known].mean() if known.sum() >= 0.8 * days else np.nan

    def alt_volume(self, day: date) -> float:
        return self.mean("volume_usd", day, 7, np.log)

    def z_of_volume(self, day: date) -> float:
        values = np.array([self.alt_volume(back(day, k)) for k in range(30)])
        known = np.isfinite(values)
        if known.sum() < 24:
            return np.nan
        return (values[0] - values[known].mean()) / values[known].std(ddof=1)

    def alt_volume_z_delta(self, day: date) -> float:
        return self.z_of_volume(day) - self.z_of_volume(back(day, 7))

    def volume_highs(self, day: date) -> float:
        high = []
        for asset in self.alts.get(day, []):
            values = np.array([self.get(back(day, k), asset, "volume_usd") for k in range(30)])
            if np.isfinite(values[0]) and np.isfinite(values).sum() >= 24:
                high.append(values[0] >= np.nanmax(values))
        return np.mean(high) if len(high) >= 3 else np.nan

    def index_return(self, day: date) -> float:
        values = np.array([self.get(day, asset, "ret") for asset in self.alts.get(back(day, 1), [])])
        values = values[np.isfinite(values)]
        return values.mean() if len(values) >= 3 else np.nan

    def vol_spread(self, day: date) -> float:
        index = np.array([self.index_return(back(day, k)) for k in range(7)])
        btc = np.array([self.get(back(day, k), "BTC", "ret") for k in range(7)])
        if min(np.isfinite(index).sum(), np.isfinite(btc).sum()) < 6:
            return np.nan
        return np.nanstd(index, ddof=1) - np.nanstd(btc, ddof=1)

    def momentum(self, day: date, days: int) -> float:
        values = np.array([self.grown(day, asset, days) for asset in self.alts.get(day, [])])
        values = values[np.isfinite(values)]
        major = (self.grown(day, "BTC", days) + self.grown(day, "ETH", days)) / 2
        return np.median(values) - major if len(values) >= 3 else np.nan

    def momentum_3(self, day: date) -> float:
        return self.momentum(day, 3)

    def momentum_7(self, day: date) -> float:
        return self.momentum(day, 7)

    def oi_risk(self, day: date) -> float:
        before = after = 0.0
        for asset in [*self.alts.get(day, []), "BTC", "ETH"]:
            old = self.get(back(day, 7), asset, "open_interest_usd")
            new = self.get(day, asset, "open_interest_usd") / (1 + self.grown(day, asset, 7))
            if np.isfinite(old + new):
                before, after = before + old, after + new
        return np.log(after / before) if before else np.nan


def back(day: date, days: int) -> date:
    return day - timedelta(days=days)


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_raw_equals_the_slow_definition(market, name):
    panel, universe, full = market
    slow = getattr(Slow(panel, universe), name, None)
    assert slow, f"{name} has no twin to be compared with: write Slow.{name}"
    rows = full.filter(pl.col("feature") == name)
    with np.errstate(all="ignore"):
        expected = np.array([slow(day) for day in rows["date"]])
    assert np.isfinite(expected).sum() > 5
    np.testing.assert_allclose(rows["raw"].to_numpy(), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
def test_raw_reads_no_further_back_than_declared(market, name):
    panel, universe, full = market
    only = SHORT.model_copy(
        update={"features": SHORT.features.model_copy(update={"enabled": (name,), "z_window_days": 8})}
    )
    end = whole(panel).end
    loaded = Window(end, end).back(DEFINITIONS[name].lookback_days)
    got = compute({"panel": loaded.keep(panel), "universe": loaded.keep(universe)}, Window(end, end), only)
    expected = full.filter((pl.col("feature") == name) & (pl.col("date") == end))
    assert_frame_equal(got["features"].drop("z"), expected.drop("z"), check_exact=True)


def test_declared_lookback_of_the_stage_is_enough():
    config = load_settings()
    for item in STAGE_OF_TABLE["features"].inputs:
        assert item.days(config) >= config.features.z_window_days - 1 + raw_lookback(config)


def test_z_is_trailing_with_ddof_1_and_waits_for_the_burn_in(market):
    _, _, full = market
    for (name,), rows in full.group_by("feature"):
        raw, z = rows.sort("date")["raw"].to_numpy(), rows.sort("date")["z"].to_numpy()
        for day in range(DAYS):
            window = raw[max(0, day - 19) : day + 1]
            seen = window[np.isfinite(window)]
            exists = len(seen) >= 8 and np.isfinite(raw[day]) and seen.std() > 0
            expected = (raw[day] - seen.mean()) / seen.std(ddof=1) if exists else np.nan
            np.testing.assert_allclose(z[day], expected, rtol=1e-9, atol=1e-12, err_msg=f"{name} {day}")


def test_a_constant_has_no_z_score():
    assert np.isnan(z_score(np.full(50, 0.1), 20, 5)).all()
    assert np.isfinite(z_score(0.1 + 1e-6 * np.arange(50.0), 20, 5)[5:]).all()


GROUPS = {
    "volume_usd": {"alt_volume", "alt_volume_z_delta", "volume_highs"},
    "marketcap": {"btc_dominance", "btc_dominance_change_1", "btc_dominance_change_5"},
    "funding_rate": {"funding_skew", "funding_heating"},
    "open_interest_usd": {"oi_risk"},
}


@pytest.mark.parametrize("column", sorted(GROUPS))
def test_a_missing_group_degrades_only_its_features(market, column):
    panel, universe, full = market
    lacking = panel.with_columns(pl.lit(None, pl.Float64).alias(column))
    got = run(lacking, universe, whole(panel))
    lost = pl.col("feature").is_in(list(GROUPS[column]))
    assert got.filter(lost)["raw"].null_count() == len(GROUPS[column]) * DAYS
    assert got.filter(lost)["z"].null_count() == len(GROUPS[column]) * DAYS
    assert got.filter(lost)["coverage"].max() == 0.0
    assert_frame_equal(got.filter(~lost), full.filter(~lost), check_exact=True)


def with_open_interest_of(panel: pl.DataFrame, asset: str, last: date) -> pl.DataFrame:
    """The panel, but up to `last` only one asset has open interest."""
    kept = (pl.col("asset_id") == asset) | (pl.col("date") > last)
    return panel.with_columns(pl.when(kept).then("open_interest_usd").alias("open_interest_usd"))


def test_a_feature_of_too_few_inputs_is_null_and_no_z_score_sees_it(market):
    panel, universe, _ = market
    last = START + timedelta(days=79)
    thin = with_open_interest_of(panel, "BTC", last)
    got = run(thin, universe, whole(panel)).filter(pl.col("feature") == "oi_risk")
    anything = SHORT.model_copy(update={"features": SHORT.features.model_copy(update={"min_coverage": 0.0})})
    let_pass = run(thin, universe, whole(panel), anything).filter(pl.col("feature") == "oi_risk")
    thin_days = let_pass.filter(pl.col("raw").is_not_null() & (pl.col("coverage") < 0.25))
    assert thin_days.height > 50
    same = got.filter(pl.col("date").is_in(thin_days["date"].implode()))
    assert same["raw"].null_count() == same["z"].null_count() == same.height
    assert_frame_equal(got.select("coverage"), let_pass.select("coverage"), check_exact=True)
    # Seven days after the others appear the ratio has both ends; only from there do z-scores count their 8 days.
    whole_days = got.filter(pl.col("raw").is_not_null() & (pl.col("date") > last))
    assert got.filter(pl.col("z").is_not_null())["date"].min() >= whole_days["date"][7]
    assert let_pass.filter(pl.col("z").is_not_null())["date"].min() < last


def test_coverage_at_the_bound_is_enough(market):
    panel, universe, full = market
    day = full.filter((pl.col("feature") == "oi_risk") & pl.col("coverage").is_between(0.3, 0.99)).row(-1, named=True)
    for bound, known in ((day["coverage"], True), (np.nextafter(day["coverage"], 1.0), False)):
        config = SHORT.model_copy(update={"features": SHORT.features.model_copy(update={"min_coverage": bound})})
        row = run(panel, universe, Window(day["date"], day["date"]), config).filter(pl.col("feature") == "oi_risk")
        assert (row["raw"][0] is not None) is known
        assert row["coverage"][0] == day["coverage"]


def test_every_enabled_feature_has_a_row_every_day(market):
    _, _, full = market
    assert full.height == DAYS * len(DEFINITIONS)
    assert set(load_settings().features.enabled) == set(DEFINITIONS)
    assert full["coverage"].is_between(0, 1).all()


def test_too_few_alts_means_null_not_zero(market):
    panel, universe, _ = market
    nobody = universe.with_columns(pl.lit("excluded").alias("role"), pl.lit(False).alias("eligible"))
    names = ["breadth_up", "volume_highs", "vol_spread", "momentum_3", "funding_skew"]
    got = run(panel, nobody, whole(panel)).filter(pl.col("feature").is_in(names))
    assert got["raw"].null_count() == got.height


def test_one_missing_cap_does_not_move_the_dominance_change():
    days = 12
    close = np.full((days, 6), 10.0)
    cap = np.full((days, 6), 1e9)
    cap[6:, 5] = 5e9
    cap[:6, 5] = np.nan
    cap[8:, 4] = 3e9
    panel = panel_from_arrays(close, ["BTC", "ETH", "A", "B", "C", "D"], marketcap=cap)
    rows = run(panel, universe_of(panel), whole(panel)).filter(pl.col("feature") == "btc_dominance_change_1")
    assert rows["raw"].drop_nulls().abs().max() == 0.0
    assert rows["raw"].null_count() == 1


def test_definitions_state_a_signed_hypothesis():
    for definition in DEFINITIONS.values():
        assert definition.sign in {-1, 1}
        assert f"favours {'majors' if definition.sign > 0 else 'alts'}" in definition.hypothesis
        assert definition.hypothesis.endswith(".")


def test_a_falling_alt_market_has_the_expected_signs():
    days = 40
    rng = np.random.default_rng(0)
    ret = np.full((days, 8), -0.02) + 0.001 * rng.standard_normal((days, 8))
    ret[:, :2] = 0.01
    panel = panel_from_arrays(100 * np.cumprod(1 + ret, axis=0), ["BTC", "ETH", *"ABCDEF"])
    rows = run(panel, universe_of(panel), whole(panel)).filter(pl.col("date") == whole(panel).end)
    raw = dict(zip(rows["feature"], rows["raw"], strict=True))
    assert raw["breadth_up"] == 0.0
    assert raw["median_return"] == pytest.approx(-0.02, abs=1e-3)
    assert raw["momentum_7"] == pytest.approx(0.98**7 - 1.01**7, abs=1e-2)
    assert raw["vol_spread"] > 0
    assert raw["btc_dominance_change_5"] > 0


def test_an_undefined_feature_is_an_error(market):
    panel, universe, _ = market
    features = SHORT.features.model_copy(update={"enabled": ("breadth",)})
    with pytest.raises(ValueError, match=r"\['breadth'\] are not defined"):
        run(panel, universe, whole(panel), SHORT.model_copy(update={"features": features}))


def test_no_days_give_an_empty_table(market):
    panel, universe, _ = market
    assert run(panel, universe, Window(date(2031, 1, 1), date(2031, 1, 1))).height == 0
