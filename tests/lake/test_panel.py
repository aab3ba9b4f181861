# ruff: noqa: E501 (tables of cases read better unbroken)
from __future__ import annotations

import random
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_cases import REAL_LAKES, SETTINGS, SHARED, START, at, changed, day, settings_with, small_tables
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.lake.contracts import LakeError
from majors_alts_pipeline.lake.panel import compute
from majors_alts_pipeline.lake.reader import MemoryLake, absent_tables, cut, open_lake
from majors_alts_pipeline.tables import PANEL

TABLES = small_tables()
ALL = Window(day(0), day(39))


def panel(tables=TABLES, window=ALL, config=SETTINGS):
    return compute({"lake": MemoryLake(tables, config.lake)}, window, config)["panel"]


def cell(frame, asset, number):
    found = frame.filter(at(asset, number))
    assert found.height <= 1
    return found.row(0, named=True) if found.height else None


def refused(tables=TABLES, window=ALL, config=SETTINGS) -> str:
    with pytest.raises(LakeError) as caught:
        panel(tables, window, config)
    return str(caught.value)


def without(tables, name, where):
    return {**tables, name: tables[name].filter(~where)}


def test_contract_and_plain_values():
    got = panel()
    assert_frame_equal(PANEL.conform(got), got)
    assert got.height == 6 * 40
    own = TABLES["fact_price"].filter(pl.col("asset_id") == "SOL").sort("date")["close"].to_numpy()
    rows = got.filter(pl.col("asset_id") == "SOL")
    np.testing.assert_array_equal(rows["ret"].to_numpy()[1:], own[1:] / own[:-1] - 1)
    assert rows["ret"][0] is None
    assert rows["listed_on"].unique().to_list() == [date(2024, 6, 1)]
    assert got.filter(pl.col("asset_id") != "BTC")["open_interest_usd"].null_count() == 5 * 40


def test_prices_are_carried_and_never_invent_returns():
    tables = without(TABLES, "fact_price", (pl.col("asset_id") == "SOL") & pl.col("date").is_between(day(10), day(15)))
    got = panel(tables)
    last = cell(got, "SOL", 9)["close"]
    ages = [cell(got, "SOL", k) for k in range(9, 17)]
    assert [row and row["price_age_days"] for row in ages] == [0, 1, 2, 3, None, None, None, 0]
    assert [row["close"] for row in ages[:4]] == [last] * 4
    assert [row["ret"] for row in ages[1:4]] == [None] * 3
    assert ages[-1]["ret"] is None
    assert cell(got, "SOL", 17)["ret"] is not None
    none = settings_with(lake={"price_carry_days": 0})
    assert cell(panel(tables, config=none), "SOL", 10) is None


def test_dead_assets_end_after_the_allowed_age():
    got = panel(without(TABLES, "fact_price", (pl.col("asset_id") == "SOL") & (pl.col("date") > day(20))))
    assert got.filter(pl.col("asset_id") == "SOL")["date"].max() == day(23)


def test_marketcap_is_carried_at_constant_supply():
    got = panel()
    row = cell(got, "SOL", 17)
    assert row["marketcap_kind"] == "scaled"
    assert row["marketcap_age_days"] == 7
    assert row["marketcap"] == pytest.approx(row["close"] * 1e6, rel=1e-12)
    assert cell(got, "SOL", 20)["marketcap_kind"] == "observed"
    young = settings_with(lake={"marketcap_max_age_days": 5})
    aged = panel(config=young)
    assert cell(aged, "SOL", 15)["marketcap_age_days"] == 5
    assert cell(aged, "SOL", 16)["marketcap"] is None


def test_marketcap_without_a_close_on_its_day_is_passed_over():
    tables = without(TABLES, "fact_price", at("SOL", 10))
    row = cell(panel(tables), "SOL", 15)
    assert row["marketcap_age_days"] == 15
    assert row["marketcap"] == pytest.approx(row["close"] * 1e6, rel=1e-12)
    first = without(TABLES, "fact_price", (pl.col("asset_id") == "SOL") & (pl.col("date") <= day(30)))
    assert cell(panel(first), "SOL", 31)["marketcap"] is None


def test_a_fact_is_used_from_the_day_it_was_known():
    caps = TABLES["fact_marketcap"].with_columns(known_at=pl.col("date") + pl.duration(days=2))
    volume = TABLES["fact_volume"].with_columns(known_at=pl.when(at("SOL", 12)).then(day(13)))
    got = panel({**TABLES, "fact_marketcap": caps, "fact_volume": volume})
    assert cell(got, "SOL", 1)["marketcap"] is None
    assert [cell(got, "SOL", k)["marketcap_age_days"] for k in (10, 11, 12, 13)] == [10, 11, 2, 3]
    assert cell(got, "SOL", 12)["volume_usd"] is None
    assert cell(got, "SOL", 13)["volume_usd"] is not None


def test_funding_prefers_the_sum_and_says_so():
    got = panel()
    prints = {
        row["date"]: row["funding_rate"]
        for row in TABLES["fact_funding"].filter(pl.col("asset_id") == "SOL").iter_rows(named=True)
    }
    before, after = cell(got, "SOL", 5), cell(got, "SOL", 25)
    assert (before["funding_kind"], after["funding_kind"]) == ("print_scaled", "sum")
    assert before["funding_rate"] == 3 * prints[day(5)]
    assert after["funding_rate"] == 6 * prints[day(25)]
    late = without(TABLES, "fact_funding_daily_sum", at("SOL", 25))
    row = cell(panel(late), "SOL", 25)
    assert row["funding_kind"] == "print_scaled"
    assert row["funding_rate"] == 6 * prints[day(25)], "the print count last seen, not the default"


def test_percent_rows_are_refused_or_rescaled():
    rate = TABLES["fact_funding"].filter(at("SOL", 8))["funding_rate"][0]
    one = changed(TABLES, "fact_funding", at("SOL", 8), funding_rate=0.176)
    text = refused(one)
    for word in (
        "fact_funding",
        "SOL",
        "2025-01-09",
        "percent",
        "0.176",
        "1 rows",
        "lake.funding_on_unit_break",
    ):
        assert word in text
    overnight = {**TABLES, "fact_funding": TABLES["fact_funding"].with_columns(
        pl.when(pl.col("date") >= day(8)).then(pl.col("funding_rate") * 100).otherwise(pl.col("funding_rate")))}  # fmt: skip
    text = refused(overnight, Window(day(8), day(8)))
    assert "6 rows" in text
    assert panel(overnight, Window(day(0), day(7))).height
    rescale = settings_with(lake={"funding_on_unit_break": "rescale"})
    got = panel(overnight, config=rescale)
    assert cell(got, "SOL", 8)["funding_rate"] == pytest.approx(3 * rate, rel=1e-12)
    assert cell(got, "SOL", 8)["funding_kind"] == "print_scaled_rescaled"
    assert cell(got, "SOL", 7)["funding_kind"] == "print_scaled"


def test_a_real_extreme_is_not_a_unit_break():
    extreme = changed(TABLES, "fact_funding", at("SOL", 8), funding_rate=-0.03)
    assert cell(panel(extreme), "SOL", 8)["funding_rate"] == pytest.approx(-0.09)


def test_all_optional_tables_absent():
    lake = MemoryLake({"fact_price": TABLES["fact_price"]}, SETTINGS.lake)
    got = compute({"lake": lake}, ALL, SETTINGS)["panel"]
    PANEL.conform(got)
    assert got["funding_rate"].null_count() == got["marketcap"].null_count() == got.height
    assert got["listed_on"].unique().to_list() == [START]
    assert len(absent_tables(lake)) == 8


def test_onboard_date_later_than_the_first_price_is_not_the_listing():
    tables = changed(
        TABLES, "dim_instrument", pl.col("asset_id") == "SOL", metadata_json='{"onboard_date": "2025-01-20"}'
    )
    assert panel(tables).filter(pl.col("asset_id") == "SOL")["listed_on"].unique().to_list() == [START]


@pytest.mark.parametrize("major", ["BTC", "ETH"])
def test_a_missing_major_stops_its_day(major):
    tables = without(TABLES, "fact_price", at(major, 12))
    text = refused(tables)
    for word in ("fact_price", major, "2025-01-13"):
        assert word in text
    assert major in refused(tables, Window(day(12), day(12)))
    assert panel(tables, Window(day(0), day(11))).height
    assert "2025-02-10" in refused(TABLES, Window(day(40), day(40)))


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("fact_price", "close", 0.0), ("fact_price", "close", -1.0), ("fact_price", "close", float("inf")),
     ("fact_price", "close", float("nan")), ("fact_volume", "volume", float("inf")), ("fact_volume", "volume", -5.0),
     ("fact_marketcap", "marketcap", 0.0), ("fact_funding", "funding_rate", float("nan")), ("fact_ohlc", "low", 0.0),
     ("fact_open_interest", "open_interest_usd", float("-inf"))],
)  # fmt: skip
def test_impossible_values_are_named(table, column, value):
    asset = "BTC" if table == "fact_open_interest" else "SOL"
    tables = changed(TABLES, table, at(asset, 10), **{column: value})
    text = refused(tables)
    for word in (f"{table}.{column}", asset, "2025-01-11", str(value)):
        assert word in text
    if table == "fact_price":
        warned = panel(tables, config=settings_with(quality={"severity": {"bad_values": "WARN"}}))
        assert cell(warned, "SOL", 10)["price_age_days"] == 1


@pytest.mark.parametrize("written", ["SOL", "sol", "SOL-PERP", "SOLUSDT"])
def test_duplicate_keys_are_named(written):
    again = TABLES["fact_price"].filter(at("SOL", 10)).with_columns(asset_id=pl.lit(written))
    text = refused({**TABLES, "fact_price": pl.concat([TABLES["fact_price"], again])})
    for word in ("fact_price", "SOL", "2025-01-11", written):
        assert word in text


def ragged(seed: int, days: int = 60):
    """A lake with gaps, deaths, late listings, missing funding and late market caps."""
    rng = np.random.default_rng(seed)
    tables = small_tables(days, ("BTC", "ETH", "A", "B", "C", "D", "E"), seed)
    alts = ~pl.col("asset_id").is_in(["BTC", "ETH"])
    for name in ("fact_price", "fact_volume", "fact_funding", "fact_funding_daily_sum", "fact_marketcap"):
        frame = tables[name]
        tables[name] = frame.filter(~(alts & pl.Series(rng.random(frame.height) < 0.15)))
    price = tables["fact_price"]
    born, dead = int(rng.integers(1, 30)), int(rng.integers(30, 60))
    tables["fact_price"] = price.filter(~((pl.col("asset_id") == "A") & (pl.col("date") < day(born)))).filter(
        ~((pl.col("asset_id") == "B") & (pl.col("date") > day(dead)))
    )
    caps = tables["fact_marketcap"]
    delay = pl.Series(rng.integers(0, 12, caps.height))
    tables["fact_marketcap"] = caps.with_columns(known_at=pl.col("date") + pl.duration(days=delay))
    funding = tables["fact_funding"]
    scale = np.where(rng.random(funding.height) < 0.05, 300.0, 1.0)
    tables["fact_funding"] = funding.with_columns(pl.col("funding_rate") * pl.Series(scale))
    return tables


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 10))
def test_partition_is_range_is_truncation(seed, number, length):
    config = settings_with(lake={"funding_on_unit_break": "rescale", "marketcap_max_age_days": 15})
    tables = ragged(seed)
    lake = MemoryLake(tables, config.lake)
    whole = compute({"lake": lake}, Window(day(0), day(59)), config)["panel"]
    window = Window(day(number), day(min(number + length, 59)))
    part = compute({"lake": lake}, window, config)["panel"]
    assert_frame_equal(part, window.keep(whole), check_exact=True)
    shuffled = MemoryLake(
        {name: frame.sample(fraction=1, shuffle=True, seed=seed) for name, frame in tables.items()},
        config.lake,
    )
    truncated = compute({"lake": cut(shuffled, window.end)}, window, config)["panel"]
    assert_frame_equal(truncated, part, check_exact=True)


@pytest.mark.real_lake
@pytest.mark.parametrize("name", REAL_LAKES)
def test_real_lake_partition_is_range_is_truncation(name):
    if not (SHARED / name).exists():
        pytest.skip(f"{SHARED / name} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    lake = open_lake(SHARED / name, SETTINGS.lake)
    history = Window(lake.first_day(), lake.last_complete_day())
    whole = PANEL.conform(compute({"lake": lake}, history, SETTINGS)["panel"])
    rng = random.Random(7)
    for number in [0, history.n_days - 1, *(rng.randrange(history.n_days) for _ in range(4))]:
        start = history.start + timedelta(days=number)
        window = Window(start, min(start + timedelta(days=rng.randrange(3)), history.end))
        part = compute({"lake": cut(lake, window.end)}, window, SETTINGS)["panel"]
        assert_frame_equal(part, window.keep(whole), check_exact=True)
    assert whole.filter(pl.col("price_age_days") == 0)["ret"].min() > -1


@pytest.mark.real_lake
def test_real_lakes_say_what_is_known():
    if not (SHARED / "lake").exists():
        pytest.skip(f"{SHARED / 'lake'} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    stress = open_lake(SHARED / "lake_stress", SETTINGS.lake)
    got = compute({"lake": stress}, Window(date(2022, 5, 10), date(2022, 5, 20)), SETTINGS)["panel"]
    luna = got.filter(pl.col("asset_id") == "LUNA")
    assert luna["date"].max() == date(2022, 5, 16)
    assert luna.filter(pl.col("date") == date(2022, 5, 12))["ret"][0] == pytest.approx(-0.9997, abs=1e-4)
    lake = open_lake(SHARED / "lake", SETTINGS.lake)
    last = compute({"lake": lake}, Window(lake.last_day(), lake.last_day()), SETTINGS)["panel"]
    listed = dict(last.select("asset_id", "listed_on").iter_rows())
    assert listed["BTC"] < date(2020, 1, 1)
    assert listed["PAXG"] == date(2023, 4, 19), "known to the lake before the onboard date of its contract"
