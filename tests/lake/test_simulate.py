"""The market simulator: a fair game when null, a known edge when planted, and each fault where it says."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from majors_alts_pipeline.lake.simulate import (
    MARKER,
    GlitchError,
    Glitches,
    LakeExistsError,
    SimulatedLake,
    SimulationSpec,
    simulate,
    write_lake,
)
from majors_alts_pipeline.lake.simulate import lake as lake_module

SHARED = Path(os.environ.get("MAJORS_ALTS_SHARED", Path(__file__).parents[2].parent / "shared"))
TABLES = {
    "fact_price",
    "fact_ohlc",
    "fact_volume",
    "fact_marketcap",
    "fact_funding",
    "fact_funding_daily_sum",
    "fact_open_interest",
    "dim_asset",
    "dim_instrument",
}


def clean_ids(lake: SimulatedLake, table: str) -> pl.DataFrame:
    known = lake.truth.assets.select(pl.col("lake_id").alias("asset_id"), pl.col("asset_id").alias("clean"), "kind")
    return lake.tables[table].join(known, on="asset_id", how="left", maintain_order="left")


def price_returns(lake: SimulatedLake) -> pl.DataFrame:
    prices = clean_ids(lake, "fact_price").sort("clean", "date")
    return prices.with_columns(ret=pl.col("close") / pl.col("close").shift(1).over("clean") - 1).drop_nulls("ret")


def majors_minus_alts(lake: SimulatedLake) -> pl.DataFrame:
    """(date, regime, edge): equal-weight majors minus equal-weight alts."""
    mean = [pl.col("ret").filter(pl.col("kind") == kind).mean().alias(kind) for kind in ("major", "alt")]
    daily = price_returns(lake).group_by("date").agg(mean).drop_nulls().join(lake.truth.regimes, on="date")
    return daily.with_columns(edge=pl.col("major") - pl.col("alt"))


def wide_returns(lake: SimulatedLake) -> tuple[list[str], np.ndarray]:
    wide = price_returns(lake).pivot("clean", index="date", values="ret").sort("date").drop("date")
    return wide.columns, wide.to_numpy()


def t_statistic(values: np.ndarray) -> float:
    return float(values.mean() / (values.std(ddof=1) / np.sqrt(len(values))))


def digest(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def default_lake() -> SimulatedLake:
    return simulate(SimulationSpec(n_alts=80, n_days=900))


# --- the fair game and the planted edge -------------------------------------------------------------------


def pooled_edges(effect: float, seeds: range, **spec: float) -> pl.DataFrame:
    lakes = (simulate(SimulationSpec(n_alts=30, n_days=400, seed=seed, regime_effect=effect, **spec)) for seed in seeds)
    return pl.concat(majors_minus_alts(lake) for lake in lakes)


def test_null_market_pays_nobody_in_any_hidden_state() -> None:
    edges = pooled_edges(0.0, range(60), death_rate=0.5)
    assert abs(t_statistic(edges["edge"].to_numpy())) < 3
    for (_,), rows in edges.group_by("regime"):
        assert rows.height > 3000
        assert abs(t_statistic(rows["edge"].to_numpy())) < 3


def test_every_kind_of_asset_is_a_fair_game_also_while_it_collapses() -> None:
    kinds: dict[str, list[float]] = {}
    for seed in range(40):
        lake = simulate(SimulationSpec(n_alts=40, n_days=400, seed=seed, death_rate=3.0, collapse_share=1.0))
        rows = price_returns(lake).join(
            lake.truth.assets.select(clean="asset_id", died="died_on"), on="clean", how="left"
        )
        dying = (pl.col("date") > pl.col("died") - pl.duration(days=6)).fill_null(False)
        by_kind = rows.with_columns(kind=pl.when(dying).then(pl.lit("dying")).otherwise("kind"))
        for kind, mean in by_kind.group_by("kind").agg(pl.col("ret").mean()).iter_rows():
            kinds.setdefault(kind, []).append(mean)
    assert set(kinds) == {"major", "alt", "dying", "stable", "wrapped", "gold"}
    assert {kind: abs(t_statistic(np.array(means))) < 3.5 for kind, means in kinds.items()} == dict.fromkeys(
        kinds, True
    )


def test_past_returns_do_not_predict_returns_traded_a_day_later() -> None:
    slopes = []
    for seed in range(25):
        rows = price_returns(simulate(SimulationSpec(n_alts=30, n_days=400, seed=seed)))
        rows = rows.filter(pl.col("kind") == "alt").with_columns(later=pl.col("ret").shift(-2).over("clean"))
        rows = rows.drop_nulls("later")
        week = np.sign(rows["ret"].to_numpy())
        slopes.append(float(np.mean(week * rows["later"].to_numpy())))
    assert abs(t_statistic(np.array(slopes))) < 3


@pytest.mark.parametrize("effect", [0.004, -0.003])
def test_planted_effect_is_recovered_with_its_sign_in_each_state(effect: float) -> None:
    edges = pooled_edges(effect, range(30))
    for regime, sign in (("risk_on_majors", 1), ("balanced", 0), ("risk_on_alts", -1)):
        values = edges.filter(pl.col("regime") == regime)["edge"].to_numpy()
        assert abs(t_statistic(values - sign * effect)) < 3
        assert sign == 0 or abs(t_statistic(values)) > 4


def test_hidden_states_persist_and_occur_equally_often() -> None:
    regimes = pl.concat(
        simulate(SimulationSpec(n_alts=0, n_days=5000, seed=seed)).truth.regimes["regime"] for seed in range(6)
    )
    stays = regimes.rle().struct.field("len").to_numpy()
    assert stays.mean() == pytest.approx(30, rel=0.15)
    shares = regimes.value_counts(normalize=True)["proportion"]
    assert shares.len() == 3
    assert shares.min() > 0.25  # type: ignore[operator]


def test_signal_shows_the_state_in_funding_and_volume_and_strength_zero_hides_it() -> None:
    def gaps(strength: float) -> np.ndarray:
        found = []
        for seed in range(12):
            lake = simulate(SimulationSpec(n_alts=30, n_days=900, seed=seed, signal_strength=strength))
            row = []
            for table, column in (("fact_funding", "funding_rate"), ("fact_volume", "volume")):
                rows = clean_ids(lake, table).filter(pl.col("kind") == "alt")
                daily = rows.group_by("date").agg(pl.col(column).median()).join(lake.truth.regimes, on="date")
                mean = dict(daily.group_by("regime").agg(pl.col(column).mean()).iter_rows())
                row.append((mean["risk_on_majors"] - mean["risk_on_alts"]) / daily[column].mean())
            found.append(row)
        return np.array(found)

    seen, hidden = gaps(2.0), gaps(0.0)
    assert t_statistic(seen[:, 0]) > 5
    assert t_statistic(seen[:, 1]) < -3
    assert abs(t_statistic(hidden[:, 0])) < 3
    assert abs(t_statistic(hidden[:, 1])) < 3


# --- betas, tails and clustering ---------------------------------------------------------------------------


def test_betas_are_the_population_regression_coefficients() -> None:
    errors = []
    for seed in range(12):
        lake = simulate(
            SimulationSpec(n_alts=60, n_days=1500, seed=seed, listed_at_start=1, death_rate=0, spread_median=0)
        )
        names, matrix = wide_returns(lake)
        truth = {row[0]: row[1:3] for row in lake.truth.betas.iter_rows()}
        factors = np.column_stack([np.ones(len(matrix)), matrix[:, names.index("BTC")], matrix[:, names.index("ETH")]])
        solution, *_ = np.linalg.lstsq(factors, matrix, rcond=None)
        alts = [k for k, name in enumerate(names) if name.startswith("ALT")]
        expected = np.array([truth[names[k]] for k in alts]).T
        error = solution[1:, alts] - expected
        assert np.abs(error).mean() < 0.1
        assert np.corrcoef(solution[1, alts], expected[0])[0, 1] > 0.85
        errors.append(error.mean(axis=1))
    bias = np.array(errors)
    assert abs(t_statistic(bias[:, 0])) < 3
    assert abs(t_statistic(bias[:, 1])) < 3


def test_calibration_is_that_of_the_real_market() -> None:
    lake = simulate(SimulationSpec(n_alts=150, n_days=3000, listed_at_start=1, death_rate=0))
    names, matrix = wide_returns(lake)
    btc, eth = matrix[:, names.index("BTC")], matrix[:, names.index("ETH")]
    assert btc.std() == pytest.approx(0.025, rel=0.15)
    assert eth.std() == pytest.approx(0.033, rel=0.15)
    assert np.corrcoef(btc, eth)[0, 1] == pytest.approx(0.8, abs=0.05)
    alts = matrix[:, [k for k, name in enumerate(names) if name.startswith("ALT")]]
    vol = alts.std(axis=0)
    assert 0.04 < np.median(vol) < 0.06
    assert np.quantile(vol, 0.95) > 1.4 * np.quantile(vol, 0.05)
    betas = lake.truth.betas.filter(pl.col("asset_id").str.starts_with("ALT"))
    assert (betas["beta_btc"] + betas["beta_eth"]).mean() == pytest.approx(1.1, abs=0.1)
    prices = lake.tables["fact_price"]["close"]
    assert prices.min() > 0  # type: ignore[operator]
    assert prices.is_finite().all()


def test_tails_are_fat_and_volatility_clusters() -> None:
    kurtosis, clustering, memory = [], [], []
    for seed in range(6):
        names, matrix = wide_returns(
            simulate(SimulationSpec(n_alts=20, n_days=1500, seed=seed, listed_at_start=1, death_rate=0))
        )
        chosen = [k for k, name in enumerate(names) if name in {"BTC", "ETH"} or name.startswith("ALT")]
        x = matrix[:, chosen] - matrix[:, chosen].mean(axis=0)
        kurtosis.append((x**4).mean(axis=0) / (x**2).mean(axis=0) ** 2)
        size = np.abs(x) - np.abs(x).mean(axis=0)
        clustering.append((size[1:] * size[:-1]).mean(axis=0) / (size**2).mean(axis=0))
        memory.append((x[1:] * x[:-1]).mean(axis=0) / (x**2).mean(axis=0))
    assert np.median(kurtosis) > 3.5
    assert np.min(kurtosis) > 3.0
    assert np.median(clustering) > 0.08
    assert abs(np.mean(memory)) < 0.02


# --- one spec, one lake ------------------------------------------------------------------------------------


def test_same_spec_same_frames_another_seed_another_lake() -> None:
    spec = SimulationSpec(n_alts=25, n_days=200, glitches=Glitches(spike_and_reverts=2))
    first, second, other = simulate(spec), simulate(spec), simulate(replace(spec, seed=8))
    assert set(first.tables) == TABLES
    for name in first.tables:
        assert_frame_equal(first.tables[name], second.tables[name], check_exact=True)
    for name in ("regimes", "betas", "assets", "glitches"):
        assert_frame_equal(getattr(first.truth, name), getattr(second.truth, name), check_exact=True)
    assert not first.tables["fact_price"].equals(other.tables["fact_price"])


def test_more_alts_change_nothing_for_the_assets_already_there() -> None:
    small = simulate(SimulationSpec(n_alts=20, n_days=200))
    large = simulate(SimulationSpec(n_alts=35, n_days=200))
    ids = small.truth.assets["lake_id"].to_list()
    for name in ("fact_price", "fact_ohlc", "fact_volume", "fact_funding"):
        assert_frame_equal(
            small.tables[name], large.tables[name].filter(pl.col("asset_id").is_in(ids)), check_exact=True
        )
    assert_frame_equal(small.truth.regimes, large.truth.regimes)


def test_order_in_which_tables_are_asked_for_does_not_matter() -> None:
    spec = SimulationSpec(n_alts=12, n_days=120)
    forward, backward = simulate(spec), simulate(spec)
    ahead = {name: forward.tables[name] for name in TABLES}
    behind = {name: backward.tables[name] for name in sorted(TABLES, reverse=True)}
    for name in TABLES:
        assert_frame_equal(ahead[name], behind[name], check_exact=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_alts": 5001}, "n_alts"),
        ({"n_days": 1}, "n_days"),
        ({"t_dof": 3.0}, "t_dof"),
        ({"garch_alpha": 0.2}, "below 1"),
        ({"regime_effect": float("nan")}, "regime_effect"),
        ({"seed": -1}, "seed"),
    ],
)
def test_spec_out_of_bounds_is_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SimulationSpec(**change)  # type: ignore[arg-type]


def test_glitches_out_of_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="duplicate_rows"):
        Glitches(duplicate_rows=-1)
    with pytest.raises(ValueError, match="shifted_clock_table"):
        Glitches(shifted_clock_table="dim_asset")
    with pytest.raises(GlitchError, match="stale_run"):
        simulate(SimulationSpec(n_alts=3, n_days=300, glitches=Glitches(stale_runs=9)))


@pytest.mark.parametrize(("n_alts", "n_days"), [(0, 2), (0, 40), (1, 3), (11, 30)])
def test_smallest_markets_build_every_table(n_alts: int, n_days: int) -> None:
    lake = simulate(SimulationSpec(n_alts=n_alts, n_days=n_days))
    assert {name: lake.tables[name].height > 0 for name in TABLES} == dict.fromkeys(TABLES, True)


# --- the tables --------------------------------------------------------------------------------------------


@pytest.mark.real_lake
@pytest.mark.skipif(not (SHARED / "lake").is_dir(), reason="no real lake; MAJORS_ALTS_SHARED names its folder")
@pytest.mark.parametrize("table", sorted(TABLES))
def test_columns_and_types_are_those_of_the_real_lake(table: str, default_lake: SimulatedLake) -> None:
    real = pl.read_parquet_schema(SHARED / "lake" / f"{table}.parquet")
    assert dict(default_lake.tables[table].schema) == dict(real)


def test_facts_are_unique_finite_and_inside_each_life(default_lake: SimulatedLake) -> None:
    lives = default_lake.truth.assets.select(pl.col("lake_id").alias("asset_id"), "listed_on", "died_on")
    for name in TABLES - {"dim_asset", "dim_instrument"}:
        table = default_lake.tables[name]
        assert not table.select("asset_id", "date").is_duplicated().any()
        assert table.select(pl.selectors.float().is_finite().all()).row(0) == (True,) * len(
            table.select(pl.selectors.float()).columns
        )
        rows = table.join(lives, on="asset_id", how="left")
        assert rows["listed_on"].null_count() == 0
        outside = (pl.col("date") < pl.col("listed_on")) | (pl.col("date") > pl.col("died_on"))
        assert rows.filter(outside).height == 0
    price = default_lake.tables["fact_price"]
    spans = price.group_by("asset_id").agg(pl.len(), span=(pl.col("date").max() - pl.col("date").min()).dt.total_days())
    assert (spans["len"] == spans["span"] + 1).all()


def test_listings_are_staggered_and_deaths_come_in_both_kinds() -> None:
    lake = simulate(SimulationSpec(n_alts=400, n_days=1100))
    alts = lake.truth.assets.filter(pl.col("kind") == "alt")
    start = SimulationSpec().start
    assert (alts["listed_on"] == start).mean() == pytest.approx(0.5, abs=0.08)
    assert alts.filter(pl.col("listed_on") > start)["listed_on"].n_unique() > 100
    assert set(alts["death"].drop_nulls()) == {"collapse", "delisted"}
    end = start + timedelta(days=1099)
    last = lake.tables["fact_price"].group_by("asset_id").agg(last=pl.col("date").max())
    checked = alts.join(last, left_on="lake_id", right_on="asset_id")
    assert (checked["last"] == checked["died_on"].fill_null(end)).all()
    collapsed = alts.filter(pl.col("death") == "collapse")
    prices = lake.tables["fact_price"].join(collapsed.select(asset_id="lake_id", died="died_on"), on="asset_id")
    week = prices.filter(pl.col("date") >= pl.col("died") - pl.duration(days=6)).sort("asset_id", "date")
    left = week.group_by("asset_id").agg(left=pl.col("close").last() / pl.col("close").first())["left"]
    assert left.len() > 8
    assert left.median() < 0.05  # type: ignore[operator]
    quiet = alts.filter(pl.col("death") == "delisted").select(asset_id="lake_id", died="died_on")
    week = lake.tables["fact_price"].join(quiet, on="asset_id")
    week = week.filter(pl.col("date") >= pl.col("died") - pl.duration(days=6)).sort("asset_id", "date")
    kept = week.group_by("asset_id").agg(left=pl.col("close").last() / pl.col("close").first())["left"]
    assert kept.median() > 0.7  # type: ignore[operator]


def test_bars_are_consistent_and_close_is_the_price(default_lake: SimulatedLake) -> None:
    bars = default_lake.tables["fact_ohlc"]
    body = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    assert bars.filter((pl.col("low") > body[0]) | (pl.col("high") < body[1])).height == 0
    assert (bars["low"] > 0).all()
    assert (bars["high"] > bars["low"]).all()
    assert_frame_equal(
        bars.select("asset_id", "date", "close"),
        default_lake.tables["fact_price"].select("asset_id", "date", "close"),
        check_exact=True,
    )
    alts = clean_ids(default_lake, "fact_ohlc").filter(pl.col("kind") == "alt")
    ranges = alts.select((pl.col("high") / pl.col("low")).log()).to_series()
    moves = alts.select((pl.col("close") / pl.col("open")).log().abs()).to_series()
    assert np.corrcoef(ranges, moves)[0, 1] > 0.5


def test_edge_estimator_finds_the_spread_of_the_truth() -> None:
    from bidask import edge

    lake = simulate(
        SimulationSpec(n_alts=8, n_days=3000, listed_at_start=1, death_rate=0, spread_median=0.03, spread_dispersion=0)
    )
    bars = lake.tables["fact_ohlc"]
    spread = dict(lake.truth.assets.select("lake_id", "spread").iter_rows())
    found = {
        name: edge(
            *(bars.filter(pl.col("asset_id") == name)[column].to_numpy() for column in ("open", "high", "low", "close"))
        )
        for name in spread
        if name.startswith("ALT")
    }
    assert np.mean([found[name] / spread[name] for name in found]) == pytest.approx(1, abs=0.15)


def test_volume_follows_size_and_moves(default_lake: SimulatedLake) -> None:
    rows = price_returns(default_lake).join(default_lake.tables["fact_volume"], on=["asset_id", "date"])
    alts = rows.filter(pl.col("kind") == "alt").with_columns(
        log=pl.col("volume").log() - pl.col("volume").log().mean().over("clean"), size=pl.col("ret").abs()
    )
    assert np.corrcoef(alts["log"], alts["size"])[0, 1] > 0.15
    caps = clean_ids(default_lake, "fact_marketcap").group_by("clean").agg(pl.col("marketcap").median())
    sizes = rows.group_by("clean", "kind").agg(pl.col("volume").median()).join(caps, on="clean")
    sizes = sizes.filter(pl.col("kind") == "alt")
    assert np.corrcoef(sizes["volume"].log(), sizes["marketcap"].log())[0, 1] > 0.6


def test_market_caps_are_monthly_ranked_and_of_smooth_supply() -> None:
    lake = simulate(SimulationSpec(n_alts=60, n_days=400, marketcap_top_n=25))
    caps = lake.tables["fact_marketcap"]
    assert (caps["date"].dt.day() == 1).all()
    assert (caps.group_by("date").len()["len"] == 25).all()
    full = simulate(SimulationSpec(n_alts=60, n_days=400, marketcap_top_n=100)).tables["fact_marketcap"]
    best = full.filter(pl.col("marketcap").rank(descending=True).over("date") <= 25)
    assert_frame_equal(caps, best, check_exact=True)
    supply = full.join(lake.tables["fact_price"], on=["asset_id", "date"]).sort("asset_id", "date")
    supply = supply.with_columns(coins=pl.col("marketcap") / pl.col("close"))
    growth = supply.with_columns(g=pl.col("coins") / pl.col("coins").shift(1).over("asset_id"))["g"].drop_nulls()
    assert growth.is_between(0.99, 1.03).all()


def test_daily_funding_sum_follows_from_the_prints() -> None:
    spec = SimulationSpec(n_alts=60, n_days=600, interval_switch_share=0.8)
    lake = simulate(spec)
    sums = lake.tables["fact_funding_daily_sum"]
    assert set(sums["n_prints"].unique()) == {3, 6, 24}
    assert sums["date"].min() == spec.start + timedelta(days=400)
    assert (
        sums.sort("asset_id", "date").select(pl.col("n_prints").diff().over("asset_id")).to_series().drop_nulls() >= 0
    ).all()
    both = lake.tables["fact_funding"].join(sums, on=["asset_id", "date"], suffix="_sum").sort("asset_id", "date")
    n = pl.col("n_prints")
    # Independent of the simulator's closed form: add up the n prints of a straight line between two day ends.
    both = both.with_columns(end=pl.col("funding_rate") * n / 3)
    both = both.with_columns(start=pl.col("end").shift(1).over("asset_id")).drop_nulls("start")
    steps = pl.concat(both.with_columns(k=pl.lit(k)).filter(pl.col("k") <= n) for k in range(1, 25)).with_columns(
        one=3 / n * (pl.col("start") + pl.col("k") / n * (pl.col("end") - pl.col("start")))
    )
    added = steps.group_by("asset_id", "date").agg(pl.col("one").sum(), pl.col("funding_rate_sum").first())
    assert np.allclose(added["one"], added["funding_rate_sum"], rtol=0, atol=1e-15)


def test_funding_has_a_level_leans_on_momentum_and_is_capped(default_lake: SimulatedLake) -> None:
    funding = clean_ids(default_lake, "fact_funding")
    assert funding["funding_rate"].median() == pytest.approx(1e-4, rel=0.5)
    prices = clean_ids(default_lake, "fact_price").with_columns(
        momentum=pl.col("close") / pl.col("close").shift(7).over("clean") - 1
    )
    sums = clean_ids(default_lake, "fact_funding_daily_sum").join(prices, on=["clean", "date"]).drop_nulls("momentum")
    assert np.corrcoef(sums["funding_rate"], sums["momentum"])[0, 1] > 0.3
    capped = simulate(SimulationSpec(n_alts=30, n_days=200, funding_cap=1.5e-4)).tables["fact_funding"]
    assert capped["funding_rate"].abs().max() == 1.5e-4


def test_contracts_carry_multipliers_onboard_dates_and_venue_symbols(default_lake: SimulatedLake) -> None:
    contracts = default_lake.tables["dim_instrument"]
    thousand = contracts.filter(pl.col("multiplier") == 1000)
    assert set(thousand["instrument_symbol"]) == {"1000SATSUSDT", "1000ALT0001USDT"}
    assert set(thousand["asset_id"]).isdisjoint(default_lake.tables["fact_funding"]["asset_id"])
    assert set(thousand["asset_id"]) <= set(default_lake.tables["fact_funding_daily_sum"]["asset_id"])
    assert {"BTC", "ETH"} <= set(contracts["asset_id"])
    onboard = contracts.select(
        "asset_id",
        onboard=pl.col("metadata_json").map_elements(
            lambda text: date.fromisoformat(json.loads(text)["onboard_date"]), return_dtype=pl.Date
        ),
    )
    lives = onboard.join(default_lake.truth.assets, on="asset_id")
    late = lives.filter(pl.col("listed_on") > SimulationSpec().start)
    assert (late["onboard"] == late["listed_on"]).all()
    assert (lives["onboard"] <= lives["listed_on"]).all()


def test_some_identifiers_carry_a_venue_suffix_unless_switched_off(default_lake: SimulatedLake) -> None:
    ids = set(default_lake.tables["fact_price"]["asset_id"])
    assert {"ALT0010-USDT", "ALT0011USDT", "alt0012", "PERP", "1ALT"} <= ids
    assert {"ALT0010", "ALT0011", "ALT0012"} <= set(default_lake.tables["dim_asset"]["asset_id"])
    plain = simulate(SimulationSpec(n_alts=15, n_days=60, suffixed_assets=0))
    assert (plain.truth.assets["asset_id"] == plain.truth.assets["lake_id"]).all()


def test_vendor_flags_are_wrong_in_both_directions_and_tokens_track(default_lake: SimulatedLake) -> None:
    flags = default_lake.tables["dim_asset"].join(default_lake.truth.assets, on="asset_id")
    assert flags.filter((pl.col("kind") == "alt") & pl.col("is_stable")).height == 1
    assert flags.filter((pl.col("kind") == "stable") & ~pl.col("is_stable")).height == 1
    assert flags.filter((pl.col("kind") == "wrapped") & ~pl.col("is_wrapped_stable")).height == 2
    wide = clean_ids(default_lake, "fact_price").pivot("clean", index="date", values="close")
    assert (wide["USDX"] - 1).abs().max() < 0.005  # type: ignore[operator]
    for token, target in (("WBTC", "BTC"), ("XBTC", "BTC"), ("STETH", "ETH")):
        own, other = (wide[name].pct_change().drop_nulls().to_numpy() for name in (token, target))
        assert np.polyfit(other, own, 1)[0] == pytest.approx(1.0, abs=0.02)


# --- glitches ----------------------------------------------------------------------------------------------

ALL_GLITCHES = Glitches(
    duplicate_rows=2, calendar_gaps=2, stale_runs=2, spike_and_reverts=2, percent_funding_rows=2,
    non_positive_prices=2, redenominations=2, cap_breaks=2,
)  # fmt: skip
KEY = ["asset_id", "date"]


@pytest.fixture(scope="module")
def clean_and_faulty() -> tuple[SimulatedLake, SimulatedLake]:
    spec = SimulationSpec(n_alts=60, n_days=500)
    return simulate(spec), simulate(replace(spec, glitches=ALL_GLITCHES))


def planted(lake: SimulatedLake, kind: str, table: str) -> pl.DataFrame:
    ids = lake.truth.assets.select("asset_id", "lake_id")
    rows = lake.truth.glitches.filter((pl.col("kind") == kind) & (pl.col("table") == table)).join(ids, on="asset_id")
    return rows.select(asset_id="lake_id", date="date")


def test_default_lake_has_no_glitch(default_lake: SimulatedLake) -> None:
    assert default_lake.truth.glitches.height == 0


def ratios(clean: SimulatedLake, faulty: SimulatedLake, table: str, column: str) -> pl.DataFrame:
    both = faulty.tables[table].unique(KEY).join(clean.tables[table], on=KEY, suffix="_true")
    return both.select(*KEY, ratio=pl.col(column) / pl.col(f"{column}_true"))


@pytest.mark.parametrize(
    ("kind", "table", "column", "ratio"),
    [
        ("spike_and_revert", "fact_price", "close", 4.0),
        ("spike_and_revert", "fact_ohlc", "high", 4.0),
        ("non_positive_price", "fact_price", "close", 0.0),
        ("percent_funding", "fact_funding", "funding_rate", 100.0),
        ("cap_break", "fact_marketcap", "marketcap", 10.0),
    ],
)
def test_faulty_values_are_where_the_truth_says_and_nowhere_else(
    clean_and_faulty: tuple[SimulatedLake, SimulatedLake], kind: str, table: str, column: str, ratio: float
) -> None:
    clean, faulty = clean_and_faulty
    where = planted(faulty, kind, table)
    assert where.height == 2
    found = ratios(clean, faulty, table, column).filter((pl.col("ratio") - ratio).abs() < 1e-9 * max(ratio, 1))
    assert_frame_equal(found.select(KEY).sort(KEY), where.sort(KEY))


def test_each_price_row_is_true_or_on_record(clean_and_faulty: tuple[SimulatedLake, SimulatedLake]) -> None:
    clean, faulty = clean_and_faulty
    kinds = ("spike_and_revert", "non_positive_price", "stale_run")
    on_record = pl.concat([planted(faulty, kind, "fact_price") for kind in kinds])
    moved = ratios(clean, faulty, "fact_price", "close").filter(pl.col("ratio") != 1.0)
    unit = planted(faulty, "redenomination", "fact_price").rename({"date": "since"})
    renamed = moved.join(unit, on="asset_id").filter(pl.col("date") >= pl.col("since"))
    assert (renamed["ratio"] - 1000).abs().max() < 1e-9  # type: ignore[operator]
    assert renamed["asset_id"].n_unique() == 2
    rest = moved.join(renamed, on=KEY, how="anti").select(KEY).sort(KEY)
    assert rest.height > 0
    assert rest.join(on_record, on=KEY, how="anti").height == 0


def test_gaps_duplicates_and_stale_runs(clean_and_faulty: tuple[SimulatedLake, SimulatedLake]) -> None:
    clean, faulty = clean_and_faulty
    for table in ("fact_price", "fact_ohlc", "fact_volume"):
        missing = clean.tables[table].join(faulty.tables[table], on=KEY, how="anti").select(KEY)
        assert_frame_equal(missing.sort(KEY), planted(faulty, "calendar_gap", table).sort(KEY))
        assert missing.height == 6
    price = faulty.tables["fact_price"]
    twice = price.filter(pl.struct(KEY).is_duplicated()).select(KEY)
    assert twice.height == 4
    assert_frame_equal(twice.unique().sort(KEY), planted(faulty, "duplicate_row", "fact_price").sort(KEY))
    stale = price.join(planted(faulty, "stale_run", "fact_price"), on=KEY)
    assert stale.height == 16
    assert stale.group_by("asset_id").agg(pl.col("close").n_unique())["close"].to_list() == [1, 1]


def test_one_fault_an_asset_and_quiet_days_around_it(
    clean_and_faulty: tuple[SimulatedLake, SimulatedLake],
) -> None:
    truth = clean_and_faulty[1].truth
    assert truth.glitches.group_by("asset_id").agg(pl.col("kind").n_unique())["kind"].max() == 1
    lives = truth.glitches.join(truth.assets.select("asset_id", "listed_on", "kind"), on="asset_id", suffix="_asset")
    assert (lives["kind_asset"] == "alt").all()


def test_shifted_clock_stamps_one_table_a_day_early() -> None:
    spec = SimulationSpec(n_alts=12, n_days=100)
    clean, early = (
        simulate(spec),
        simulate(replace(spec, glitches=Glitches(shifted_clock_table="fact_volume"))),
    )
    back = early.tables["fact_volume"].with_columns(pl.col("date").dt.offset_by("1d"))
    assert_frame_equal(back, clean.tables["fact_volume"])
    assert_frame_equal(early.tables["fact_price"], clean.tables["fact_price"])
    assert early.truth.glitches.select("table", "kind").row(0) == ("fact_volume", "shifted_clock")


# --- on disk -----------------------------------------------------------------------------------------------

SMALL = SimulationSpec(n_alts=12, n_days=120)


def test_written_lake_is_byte_identical_and_readable(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "lake", tmp_path / "b"
    lake = simulate(SMALL)
    write_lake(lake, first)
    write_lake(simulate(SMALL), second)
    assert digest(first) == digest(second)
    assert {path.stem for path in first.glob("*.parquet")} == TABLES
    for name in TABLES:
        assert_frame_equal(pl.read_parquet(first / f"{name}.parquet"), lake.tables[name], check_exact=True)
    for name in ("regimes", "betas", "assets", "glitches"):
        assert_frame_equal(pl.read_parquet(first / "truth" / f"{name}.parquet"), getattr(lake.truth, name))
    marker = json.loads((first / MARKER).read_text())
    assert marker["seed"] == SMALL.seed
    assert marker["start"] == "2022-01-01"
    assert marker["glitches"]["stale_runs"] == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_simulated_lake_is_replaced_and_anything_else_refused(tmp_path: Path) -> None:
    target = tmp_path / "lake"
    target.mkdir()
    write_lake(simulate(SMALL), target)
    before = digest(target)
    write_lake(simulate(replace(SMALL, seed=9)), target)
    assert digest(target) != before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "fact_price.parquet").write_text("precious")
    with pytest.raises(LakeExistsError, match="not a simulated lake"):
        write_lake(simulate(SMALL), mine)
    assert (mine / "fact_price.parquet").read_text() == "precious"
    (tmp_path / "file").write_text("precious")
    with pytest.raises(LakeExistsError, match="not a simulated lake"):
        write_lake(simulate(SMALL), tmp_path / "file")


def test_a_failure_half_way_leaves_the_old_lake_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_lake(simulate(SMALL), old)
    before = digest(old)
    written = lake_module._write
    calls = iter(range(100))

    def disk_full(frame: pl.DataFrame, path: Path) -> None:
        if next(calls) % 4 == 3:
            raise OSError(28, "No space left on device", str(path))
        written(frame, path)

    monkeypatch.setattr(lake_module, "_write", disk_full)
    for target in (old, new):
        with pytest.raises(OSError, match="No space left"):
            write_lake(simulate(replace(SMALL, seed=9)), target)
    assert digest(old) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_a_failing_last_rename_puts_the_old_lake_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "lake"
    write_lake(simulate(SMALL), target)
    before = digest(target)
    rename = os.rename

    def denied(source: Path, destination: Path) -> None:
        if Path(source).name == "lake" and Path(source).parent != tmp_path:
            raise PermissionError(13, "Permission denied", str(destination))
        rename(source, destination)

    monkeypatch.setattr(lake_module.os, "rename", denied)
    with pytest.raises(PermissionError):
        write_lake(simulate(replace(SMALL, seed=9)), target)
    assert digest(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]
