"""Stage betas: contract, partition = range = truncation, definitions, errors, and the real lake."""

import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from majors_alts_pipeline.betas.stage import MissingMajorError, compute, lookback_days
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.stages import STAGE_OF_TABLE
from majors_alts_pipeline.tables import BETAS

FIRST = date(2024, 1, 1)
DAYS = 150
SETTINGS = load_settings(overrides={"betas": {"window_days": 30, "min_obs": 15}})
SHARED = Path(os.environ.get("MAJORS_ALTS_SHARED", Path(__file__).parents[2].parent / "shared"))


def day(k):
    return FIRST + timedelta(days=k)


def make_inputs(seed=0, n_alts=14, betas=None):
    """Panel and universe with late listings, a death, carried prices, a wrapped coin, and known betas."""
    rng = np.random.default_rng(seed)
    assets = ["BTC", "ETH", "WBTC", *(f"ALT{k:02d}" for k in range(n_alts))]
    shocks = rng.standard_t(5, size=(DAYS, 2)) / np.sqrt(5 / 3)
    x = np.column_stack([0.025 * shocks[:, 0], 0.033 * (0.8 * shocks[:, 0] + 0.6 * shocks[:, 1])])
    betas = rng.normal([0.35, 0.75], 0.3, size=(n_alts, 2)) if betas is None else betas
    alts = x @ betas.T + rng.standard_t(4, size=(DAYS, n_alts)) * 0.02
    wrapped = x[:, [0]] + rng.normal(0, 3e-4, (DAYS, 1))
    ret = np.column_stack([x, wrapped, alts])
    age = np.zeros(ret.shape, dtype=np.int32)
    age[60:62, 4] = [1, 2]
    present = np.ones(ret.shape, dtype=bool)
    present[:70, 5] = False
    present[100:, 6] = False
    rows, cols = np.nonzero(present)
    values = ret[rows, cols].tolist()
    panel = pl.DataFrame(
        {
            "date": [day(int(r)) for r in rows],
            "asset_id": [assets[c] for c in cols],
            "ret": values,
            "price_age_days": age[rows, cols],
        }
    )
    role = pl.col("asset_id").replace_strict({"BTC": "major", "ETH": "major", "WBTC": "excluded"}, default="alt")
    return {"panel": panel, "universe": panel.select("date", "asset_id", role.alias("role"))}


INPUTS = make_inputs()


def betas(inputs, start, end, settings=SETTINGS):
    return compute(inputs, Window(day(start), day(end)), settings)["betas"]


def loaded_for(inputs, start, end, lookback):
    """What storage hands over: the panel from the look-back on, the universe of the window only."""
    return {
        "panel": Window(day(start - lookback), day(end)).keep(inputs["panel"]),
        "universe": Window(day(start), day(end)).keep(inputs["universe"]),
    }


WHOLE = betas(INPUTS, 0, DAYS - 1)


def test_satisfies_its_contract_in_order():
    assert_frame_equal(BETAS.conform(WHOLE), WHOLE, check_exact=True)


def test_the_declared_lookback_is_enough():
    betas_stage = STAGE_OF_TABLE["betas"]
    declared = next(item.days(SETTINGS) for item in betas_stage.inputs if item.table == "panel")
    assert declared >= lookback_days(SETTINGS.betas.window_days)


@given(
    start=st.integers(0, DAYS - 1),
    length=st.integers(1, 40),
    shuffle=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_any_partition_equals_the_backfill_to_the_last_bit(start, length, shuffle):
    end = min(start + length, DAYS) - 1
    inputs = loaded_for(INPUTS, start, end, lookback_days(SETTINGS.betas.window_days))
    inputs = {name: frame.sample(fraction=1.0, shuffle=True, seed=shuffle) for name, frame in inputs.items()}
    got = betas(inputs, start, end)
    assert_frame_equal(got, Window(day(start), day(end)).keep(WHOLE), check_exact=True)


def test_assets_that_come_later_change_nothing():
    newcomer = pl.col("asset_id").str.replace("ALT", "AAA")
    late = {
        name: pl.concat([frame, frame.filter(pl.col("date") > day(120)).with_columns(newcomer)]).unique(
            ["date", "asset_id"], maintain_order=True
        )
        for name, frame in INPUTS.items()
    }
    assert late["panel"].height > INPUTS["panel"].height
    got = betas(late, 0, DAYS - 1)
    before = pl.col("date") <= day(120)
    assert_frame_equal(got.filter(before), WHOLE.filter(before), check_exact=True)


def test_majors_are_exact_by_definition():
    for major, truth in (("BTC", (1.0, 0.0)), ("ETH", (0.0, 1.0))):
        rows = WHOLE.filter(pl.col("asset_id") == major)
        assert rows.height == DAYS - SETTINGS.betas.min_obs + 1
        for suffix in ("", "_raw"):
            assert (rows[f"beta_btc{suffix}"] == truth[0]).all()
            assert (rows[f"beta_eth{suffix}"] == truth[1]).all()
        assert (rows["se_btc"] == 0.0).all()
        assert (rows["idio_vol"] == 0.0).all()


def test_wrapped_bitcoin_is_one_and_not_shrunk():
    rows = WHOLE.filter(pl.col("asset_id") == "WBTC")
    assert (rows["beta_btc"] - 1.0).abs().max() < 0.02
    assert rows["beta_eth"].abs().max() < 0.02
    assert (rows["beta_btc"] == rows["beta_btc_raw"]).all()


def test_alts_are_shrunk_and_only_they():
    moved = WHOLE.filter(pl.col("beta_btc") != pl.col("beta_btc_raw"))
    assert moved["asset_id"].str.starts_with("ALT").all()
    alts = WHOLE.filter(pl.col("asset_id").str.starts_with("ALT"))
    spread = alts.group_by("date").agg(pl.col("beta_eth", "beta_eth_raw").std(), pl.len())
    pooled = spread.filter(pl.col("len") >= SETTINGS.betas.vasicek_min_assets)
    assert pooled.height > 100
    assert (pooled["beta_eth"] < pooled["beta_eth_raw"]).mean() > 0.95
    off = load_settings(overrides={"betas": {"window_days": 30, "min_obs": 15, "vasicek": False}})
    raw = betas(INPUTS, 100, 100, off)
    assert_frame_equal(
        raw.drop("beta_btc", "beta_eth"),
        WHOLE.filter(pl.col("date") == day(100)).drop("beta_btc", "beta_eth"),
        check_exact=True,
    )
    assert (raw["beta_btc"] == raw["beta_btc_raw"]).all()


def test_rows_only_with_enough_observations_and_a_panel_row():
    counts = WHOLE.group_by("asset_id").agg(pl.col("date").min().alias("first"), pl.col("date").max().alias("last"))
    found = {asset: (first, last) for asset, first, last in counts.iter_rows()}
    assert found["ALT02"] == (day(70 + 14), day(DAYS - 1))
    assert found["ALT03"][1] == day(99)
    assert WHOLE["n_obs"].min() == 15


def test_a_carried_price_is_no_observation():
    rows = WHOLE.filter(pl.col("asset_id") == "ALT01", pl.col("date") == day(65))
    assert rows["n_obs"].item() == 28


@pytest.mark.parametrize("major", ["BTC", "ETH"])
def test_a_missing_major_stops_the_day(major):
    gone = (pl.col("asset_id") == major) & (pl.col("date") == day(120))
    inputs = {name: frame.filter(~gone) for name, frame in INPUTS.items()}
    with pytest.raises(MissingMajorError, match=rf"panel.*{major}.*{day(120)}"):
        betas(inputs, 110, 125)
    assert betas(inputs, 121, 125).height


def test_a_missing_role_is_named():
    inputs = INPUTS | {"universe": INPUTS["universe"].filter(pl.col("asset_id") != "ALT04")}
    with pytest.raises(ValueError, match="universe has no row for ALT04"):
        betas(inputs, 120, 121)


def test_one_factor_twice_is_an_error():
    btc = INPUTS["panel"].filter(pl.col("asset_id") == "BTC")
    others = INPUTS["panel"].filter(pl.col("asset_id") != "ETH")
    inputs = INPUTS | {"panel": pl.concat([others, btc.with_columns(asset_id=pl.lit("ETH"))])}
    with pytest.raises(ValueError, match=r"BTC and ETH.*variance inflation"):
        betas(inputs, 100, 100)


def test_no_rows_in_no_rows_out():
    empty = {name: frame.clear() for name, frame in INPUTS.items()}
    assert_frame_equal(betas(empty, 0, 5), BETAS.empty())


def test_known_betas_come_back():
    truth = np.random.default_rng(1).normal([0.35, 0.75], 0.3, size=(150, 2))
    chosen = load_settings()
    got = betas(make_inputs(2, 150, truth), DAYS - 1, DAYS - 1, chosen)
    alts = got.filter(pl.col("asset_id").str.starts_with("ALT"))
    index = alts["asset_id"].str.slice(3).cast(pl.Int64).to_numpy()
    error = np.column_stack([alts["beta_btc"], alts["beta_eth"]]) - truth[index]
    assert np.abs(error.mean(0)).max() < 0.05
    assert np.sqrt((error**2).mean()) < 0.25
    assert np.corrcoef((error + truth[index])[:, 0], truth[index][:, 0])[0, 1] > 0.5


@pytest.mark.real_lake
def test_real_lake_days_alone_equal_the_range():
    prices = SHARED / "lake" / "fact_price.parquet"
    if not prices.exists():
        pytest.skip(f"{prices} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    close = pl.read_parquet(prices).with_columns(pl.col("date").cast(pl.Date)).sort("asset_id", "date")
    gap = (pl.col("date") - pl.col("date").shift(1)).dt.total_days() != 1
    change = pl.col("close") / pl.col("close").shift(1) - 1
    panel = close.select(
        "date",
        "asset_id",
        pl.when(~gap.over("asset_id")).then(change.over("asset_id")).alias("ret"),
        pl.lit(0, pl.Int32).alias("price_age_days"),
    ).sort("date", "asset_id")
    is_major = pl.col("asset_id").is_in(["BTC", "ETH"])
    role = pl.when(is_major).then(pl.lit("major")).otherwise(pl.lit("alt"))
    inputs = {"panel": panel, "universe": panel.select("date", "asset_id", role.alias("role"))}
    chosen = load_settings()
    whole = compute(inputs, Window(date(2025, 1, 1), date(2025, 9, 30)), chosen)["betas"]
    BETAS.conform(whole)
    for one in (date(2025, 2, 28), date(2025, 9, 30)):
        window = Window(one, one)
        cut = {
            "panel": window.back(lookback_days(chosen.betas.window_days)).keep(panel),
            "universe": window.keep(inputs["universe"]),
        }
        assert_frame_equal(compute(cut, window, chosen)["betas"], window.keep(whole), check_exact=True)
    sums = whole.filter(~is_major).select((pl.col("beta_btc") + pl.col("beta_eth")).median()).item()
    assert 0.7 < sums < 1.6
    assert 1.5 < whole["vif"].median() < 10
