from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hyp
from hypothesis import strategies as st
from panel_frames import START, panel_from_arrays, random_market
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.stages import STAGE_OF_TABLE
from majors_alts_pipeline.universe.detectors import tracked_asset, usd_peg
from majors_alts_pipeline.universe.medians import trailing_median
from majors_alts_pipeline.universe.stage import MissingMajorError, compute

SETTINGS = load_settings()
SHORT = load_settings(
    overrides={
        "universe": {
            "min_age_days": 1, "adv_window_days": 7, "adv_min_obs": 4, "detector_window_days": 12,
            "detector_min_obs": 6, "min_adv_usd": 1e7, "min_marketcap_usd": 1e8, "tracks_references": 3,
        }
    }
)  # fmt: skip
LOOKBACK = STAGE_OF_TABLE["universe"].inputs[0]


def run(panel: pl.DataFrame, window: Window, config: Settings) -> pl.DataFrame:
    loaded = window.back(LOOKBACK.days(config)).keep(panel)
    return compute({"panel": loaded}, window, config)["universe"]


def whole(panel: pl.DataFrame) -> Window:
    return Window(panel["date"].min(), panel["date"].max())


def market(days: int = 90) -> tuple[np.ndarray, list[str]]:
    """Closes of BTC, ETH and five more that pass every rule of the default settings."""
    rng = np.random.default_rng(3)
    common = 0.02 * rng.standard_normal((days, 1))
    ret = common + 0.03 * rng.standard_normal((days, 7))
    ret[:, 0] = common[:, 0]
    return 20 * np.exp(np.cumsum(ret, axis=0)), ["BTC", "ETH", "BNB", "SOL", "ADA", "DOT", "XRP"]


def last(panel: pl.DataFrame, config: Settings = SETTINGS) -> dict[str, dict]:
    end = panel["date"].max()
    return {row["asset_id"]: row for row in run(panel, Window(end, end), config).to_dicts()}


@hyp(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), days=st.integers(3, 45), first=st.integers(0, 40), length=st.integers(1, 20))
def test_partition_equals_range_equals_cut_lake(seed, days, first, length):
    panel, _ = random_market(seed, days, 8, missing=0.15)
    full = run(panel, whole(panel), SHORT)
    start = START + timedelta(days=min(first, days - 1))
    part = Window(start, min(start + timedelta(days=length - 1), panel["date"].max()))
    shuffled = part.back(1000).keep(panel).sample(fraction=1.0, shuffle=True, seed=seed)
    assert_frame_equal(run(shuffled, part, SHORT), part.keep(full), check_exact=True)
    one = Window(part.end, part.end)
    assert_frame_equal(run(panel, one, SHORT), one.keep(full), check_exact=True)


def test_copies_and_references_that_die_leave_earlier_and_later_days_alone():
    rng = np.random.default_rng(11)
    close, assets = market(60)
    dead = close[:, [2]] * np.exp(0.0005 * rng.standard_normal((60, 1)))
    dead[40:] = np.nan
    panel = panel_from_arrays(np.hstack([close, dead]), [*assets, "COPY"])
    full = run(panel, whole(panel), SHORT)
    for day in (30, 39, 40, 41, 45, 59):
        one = Window(START + timedelta(days=day), START + timedelta(days=day))
        assert_frame_equal(run(panel, one, SHORT), one.keep(full), check_exact=True)
    assert full.filter(pl.col("detector").is_not_null()).height


@hyp(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), window=st.integers(1, 12), min_obs=st.integers(1, 12))
def test_trailing_median_is_nanmedian(seed, window, min_obs):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((window + 9, 70))
    values[rng.random(values.shape) < 0.4] = np.nan
    got = trailing_median(values, window, min_obs)
    for row in range(len(got)):
        for col in (0, 31, 63, 64, 69):
            seen = values[row : row + window, col]
            seen = seen[~np.isnan(seen)]
            expected = np.median(seen) if len(seen) >= min_obs else np.nan
            np.testing.assert_equal(got[row, col], expected)


def test_trailing_median_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="window"):
        trailing_median(np.zeros((3, 2)), 4, 1)


def test_everyone_passes_in_a_healthy_market():
    rows = last(panel_from_arrays(*market()))
    assert {asset: row["reason"] for asset, row in rows.items()} == {
        "BTC": "major", "ETH": "major", **dict.fromkeys(["BNB", "SOL", "ADA", "DOT", "XRP"], "ok"),
    }  # fmt: skip
    assert {row["role"] for row in rows.values()} == {"major", "alt"}
    assert all(row["eligible"] and row["shortable"] and row["detector"] is None for row in rows.values())
    assert rows["SOL"]["age_days"] == 489
    assert rows["SOL"]["adv_usd"] == 1e8


def spoil(column: str, value: float, rows: slice = slice(-1, None)) -> dict[str, dict]:
    close, assets = market()
    filled = {"volume_usd": 1e8, "marketcap": 1e9, "funding_rate": 1e-4, "price_age_days": 0.0}
    array = np.full(close.shape, filled[column])
    array[rows, 4] = value
    return last(panel_from_arrays(close, assets, **{column: array}))


@pytest.mark.parametrize(
    ("column", "value", "rows", "reason"),
    [
        ("price_age_days", 1.0, slice(-1, None), "price_stale"),
        ("volume_usd", 4.9e6, slice(-16, None), "illiquid"),
        ("volume_usd", 4.9e6, slice(-14, None), "ok"),
        ("volume_usd", np.nan, slice(-11, None), "no_adv"),
        ("volume_usd", np.nan, slice(-10, None), "ok"),
        ("marketcap", 4.9e7, slice(-1, None), "small_cap"),
        ("marketcap", 5.0e7, slice(-1, None), "ok"),
        ("marketcap", np.nan, slice(-1, None), "ok"),
        ("funding_rate", np.nan, slice(-1, None), "no_funding"),
        ("funding_rate", np.nan, slice(-9, -1), "ok"),
        ("funding_rate", 0.0, slice(-1, None), "ok"),
    ],
)
def test_each_rule_fires_and_does_not_fire(column, value, rows, reason):
    got = spoil(column, value, rows)
    assert got["ADA"]["reason"] == reason
    assert got["ADA"]["eligible"] == (reason == "ok")
    assert got["ADA"]["role"] == ("alt" if reason == "ok" else "excluded")
    assert got["DOT"]["reason"] == "ok"


def test_marketcap_can_be_required():
    close, assets = market()
    cap = np.full(close.shape, 1e9)
    cap[-1, 4] = np.nan
    config = load_settings(overrides={"universe": {"require_marketcap": True}})
    rows = last(panel_from_arrays(close, assets, marketcap=cap), config)
    assert rows["ADA"]["reason"] == "no_marketcap"
    assert rows["SOL"]["reason"] == "ok"


@pytest.mark.parametrize(("age", "reason"), [(59, "too_young"), (60, "ok")])
def test_age_counts_from_listing(age, reason):
    close, assets = market()
    listed = START + timedelta(days=len(close) - 1 - age)
    row = last(panel_from_arrays(close, assets, listed_on=listed))["SOL"]
    assert (row["age_days"], row["reason"]) == (age, reason)


def test_no_funding_anywhere_means_the_lake_cannot_tell():
    close, assets = market()
    funding = np.full(close.shape, 1e-4)
    funding[-1] = np.nan
    rows = last(panel_from_arrays(close, assets, funding_rate=funding))
    assert {row["shortable"] for row in rows.values()} == {None}
    assert rows["SOL"]["reason"] == "ok"


def test_first_failing_rule_wins():
    close, assets = market()
    volume, cap = np.full(close.shape, 1e8), np.full(close.shape, 1e9)
    volume[:, 4] = cap[:, 4] = 1.0
    assert last(panel_from_arrays(close, assets, volume_usd=volume, marketcap=cap))["ADA"]["reason"] == "illiquid"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("USDC", "excluded_stable"), ("WBTC", "excluded_wrapped"), ("PAXG", "excluded_gold"),
     ("ETHBTC", "excluded_not_usd_or_index"), ("USDCX", "ok")],
)  # fmt: skip
def test_lists_exclude_by_exact_name(name, reason):
    close, assets = market()
    assert last(panel_from_arrays(close, [*assets[:-1], name]))[name]["reason"] == reason


def with_token(token: np.ndarray, volume: float = 1e6) -> dict[str, dict]:
    close, assets = market()
    volumes = np.full((len(close), 8), 1e8)
    volumes[:, 7] = volume
    return last(panel_from_arrays(np.hstack([close, token[:, None]]), [*assets, "NEW"], volume_usd=volumes))


def noise(scale: float) -> np.ndarray:
    return np.exp(scale * np.random.default_rng(8).standard_normal(90))


def test_detector_finds_pegs():
    assert with_token(noise(0.001))["NEW"]["reason"] == "detected_peg_usd"
    assert with_token(noise(0.02))["NEW"]["detector"] is None
    assert with_token(2.0 * noise(0.001))["NEW"]["detector"] is None


@pytest.mark.parametrize(("column", "name"), [(0, "BTC"), (1, "ETH"), (3, "SOL")])
def test_detector_finds_wrapped_and_staked_tokens(column, name):
    close, _ = market()
    staked = close[:, column] * noise(0.001) * np.exp(0.0001 * np.arange(90))
    assert with_token(staked)["NEW"]["reason"] == f"detected_tracks:{name}"


def test_detector_leaves_correlated_and_leveraged_assets_alone():
    close, _ = market()
    rng = np.random.default_rng(5)
    correlated = np.cumprod(1 + np.diff(np.log(close[:, 0]), prepend=0.0) + 0.015 * rng.standard_normal(90))
    assert with_token(correlated)["NEW"]["detector"] is None
    assert with_token(close[:, 0] ** 2)["NEW"]["detector"] is None


def test_only_the_smaller_of_two_equals_is_a_copy():
    close, _ = market()
    rows = with_token(close[:, 3] * noise(0.001), volume=2e8)
    assert rows["NEW"]["detector"] is None
    assert rows["SOL"]["detector"] == "tracks:NEW"


def test_quiet_assets_do_not_track_a_stablecoin():
    close, assets = market()
    gold = 2000 * np.exp(np.cumsum(0.004 * np.random.default_rng(1).standard_normal(90)))
    both = np.hstack([close, noise(0.0002)[:, None], gold[:, None]])
    rows = last(panel_from_arrays(both, [*assets, "USDC", "GOLD"]))
    assert rows["GOLD"]["detector"] is None


def test_vendor_flags_are_not_an_input():
    reads = {item.table for item in STAGE_OF_TABLE["universe"].inputs}
    assert reads == {"panel"}


def slow_tracks(ret, size, present, majors, listed, n, window, min_obs, max_error, band):
    days, assets = size.shape
    out = np.full(size.shape, -1)
    for day in range(days):
        order = [a for a in np.argsort(-size[day], kind="stable") if present[day, a] and np.isfinite(size[day, a])]
        for asset in set(range(assets)) - set(majors):
            best = np.inf
            for ref in sorted({*order[:n], *(a for a in [*majors, *listed] if present[day, a])} - {asset}):
                x, y = ret[day : day + window, ref], ret[day : day + window, asset]
                both = np.isfinite(x) & np.isfinite(y)
                x, y = x[both], y[both]
                if len(x) < min_obs or x.std() == 0:
                    continue
                error = np.sqrt(np.mean((x - y) ** 2))
                slope = np.cov(x, y, ddof=0)[0, 1] / x.var()
                fixed = ref in majors or ref in listed
                if error >= max_error or error >= 0.5 * x.std() or abs(slope - 1) >= band:
                    continue
                if not fixed and (size[day, asset], ref) > (size[day, ref], asset):
                    continue
                rank = error + (0 if ref in majors else max_error)
                if rank < best:
                    best, out[day, asset] = rank, ref
    return out


@pytest.mark.parametrize(("window", "min_obs"), [(20, 10), (13, 12), (16, 2), (5, 1)])
def test_tracking_equals_the_slow_definition(window, min_obs):
    rng = np.random.default_rng(window)
    days, assets = window + 24, 14
    ret = 0.03 * rng.standard_normal((days, assets))
    for copy, origin in ((5, 0), (6, 0), (7, 6), (8, 3), (9, 8), (10, 4), (11, 10)):
        ret[:, copy] = ret[:, origin] + 0.005 * rng.uniform(0.2, 1.3) * rng.standard_normal(days)
    ret[rng.random(ret.shape) < 0.1] = np.nan
    ret[: days // 2, 9] = np.nan
    size = np.exp(rng.standard_normal((days - window + 1, assets)))
    size[rng.random(size.shape) < 0.05] = np.nan
    present = rng.random(size.shape) > 0.05
    arguments = dict(majors=[0, 1], listed=[4], window=window, min_obs=min_obs, max_error=0.006)
    got = tracked_asset(ret, size, present, n_references=5, beta_band=0.05, first_day=19_321, **arguments)
    want = slow_tracks(ret, size, present, n=5, band=0.05, **arguments)
    np.testing.assert_array_equal(got, want)
    assert (want >= 0).any()


def test_peg_equals_the_slow_definition():
    rng = np.random.default_rng(4)
    price = np.exp(rng.uniform(0.0005, 0.02, 12) * rng.standard_normal((50, 12)) + rng.uniform(-0.08, 0.08, 12))
    price[rng.random(price.shape) < 0.2] = np.nan
    ret = np.vstack([np.full((1, 12), np.nan), price[1:] / price[:-1] - 1])
    got = usd_peg(ret, price, 20, 8, 0.006, 0.05, 19_000)
    for day in range(31):
        for asset in range(12):
            r, p = ret[day : day + 20, asset], price[day : day + 20, asset]
            enough = np.isfinite(r).sum() >= 8 and np.isfinite(p).sum() >= 8
            peg = enough and np.nanstd(r, ddof=1) < 0.006 and np.nanmedian(np.abs(p - 1)) < 0.05
            assert got[day, asset] == peg
    assert got.any()
    assert not got.all()


def test_a_missing_major_stops_the_day_and_only_that_day():
    close, assets = market()
    close[60, 1] = np.nan
    panel = panel_from_arrays(close, assets)
    missing = START + timedelta(days=60)
    with pytest.raises(MissingMajorError, match=f"ETH has no price of its own on {missing}"):
        run(panel, whole(panel), SETTINGS)
    after = Window(missing + timedelta(days=1), missing + timedelta(days=5))
    assert run(panel, after, SETTINGS).height == 5 * 7


def test_a_carried_major_is_missing_unless_the_whole_lake_has_a_gap():
    close, assets = market()
    carried = np.zeros(close.shape)
    carried[70, 1] = 1
    with pytest.raises(MissingMajorError, match="ETH"):
        run(panel := panel_from_arrays(close, assets, price_age_days=carried), whole(panel), SETTINGS)
    carried[70] = 1
    panel = panel_from_arrays(close, assets, price_age_days=carried)
    gap = run(panel, whole(panel), SETTINGS).filter(pl.col("date") == START + timedelta(days=70))
    assert set(gap["reason"]) == {"price_stale"}
    assert not gap["eligible"].any()
    assert set(gap.filter(pl.col("asset_id").is_in(["BTC", "ETH"]))["role"]) == {"major"}


def test_a_day_without_rows_is_an_empty_table():
    panel = panel_from_arrays(*market())
    nowhere = Window(date(2030, 1, 1), date(2030, 1, 2))
    assert run(panel, nowhere, SETTINGS).height == 0
