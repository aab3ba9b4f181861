# ruff: noqa: E501 (tables of cases read better unbroken)
from __future__ import annotations

import hashlib
import os
import shutil
from datetime import date, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_cases import REAL_LAKES, SETTINGS, SHARED, at, changed, day, settings_with, small_tables, write
from polars.testing import assert_frame_equal

from majors_alts_pipeline.lake.contracts import LAKE_TABLES, LakeError
from majors_alts_pipeline.lake.identifiers import Specs, strip_suffix, valid_multiplier
from majors_alts_pipeline.lake.reader import MemoryLake, absent_tables, cut, open_lake

TABLES = small_tables()
KEY = ["asset_id", "date"]


def memory(tables=TABLES, settings=SETTINGS):
    return MemoryLake(tables, settings.lake)


def message(function, *arguments) -> str:
    with pytest.raises(LakeError) as caught:
        function(*arguments)
    return str(caught.value)


def hive(tables, folder):
    for name, frame in tables.items():
        for number, (value, part) in enumerate(frame.group_by("date") if "date" in frame.columns else [(None, frame)]):
            place = folder / name / (f"date={value[0]}" if value else "")
            place.mkdir(parents=True, exist_ok=True)
            part.drop("date", strict=False).write_parquet(place / f"part-{number}.parquet")
    return folder


def plain_parts(tables, folder):
    for name, frame in tables.items():
        (folder / name).mkdir(parents=True)
        half = frame.height // 2
        frame[:half].write_parquet(folder / name / "a.parquet")
        frame[half:].write_parquet(folder / name / "b.parquet")
        (folder / name / "_SUCCESS").write_text("")
    return folder


def database(tables, folder):
    folder.mkdir(parents=True)
    write(tables, folder / "staging")
    with duckdb.connect(str(folder / "lake.duckdb")) as connection:
        for name in tables:
            connection.execute(f"CREATE TABLE {name} AS FROM '{folder}/staging/{name}.parquet'")
    shutil.rmtree(folder / "staging")
    return folder / "lake.duckdb"


@pytest.mark.parametrize("layout", [write, hive, plain_parts, database])
def test_every_layout_reads_the_same(layout, tmp_path):
    lake = open_lake(layout(TABLES, tmp_path / "lake"), SETTINGS.lake)
    expected = memory()
    before = lake.identity()
    assert lake.tables == expected.tables == set(LAKE_TABLES)
    for name in TABLES:
        by = [*LAKE_TABLES[name].key]
        assert_frame_equal(lake.frame(name).sort(by), expected.frame(name).sort(by), check_exact=True)
    window = lake.frame("fact_price", day(3), day(5))
    assert set(window["date"]) == {day(3), day(4), day(5)}
    assert lake.fingerprint() == expected.fingerprint()
    assert (lake.first_day(), lake.last_day(), lake.last_complete_day()) == (day(0), day(39), day(39))
    assert lake.identity() == before


def test_urls_go_through_fsspec(tmp_path):
    import fsspec

    folder = write(TABLES, tmp_path / "lake")
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(folder), "/some/lake", recursive=True)
    try:
        lake = open_lake("memory://some/lake", SETTINGS.lake)
        assert (
            lake.fingerprint() == open_lake(f"file://{folder}", SETTINGS.lake).fingerprint() == memory().fingerprint()
        )
        assert len(lake.identity()) == len(TABLES)
    finally:
        filesystem.rm("/some", recursive=True)
    assert "no file system for nosuch://" in message(open_lake, "nosuch://bucket/lake", SETTINGS.lake)


def test_simulated_marker(tmp_path):
    folder = write(TABLES, tmp_path / "lake")
    assert not open_lake(folder, SETTINGS.lake).simulated
    (folder / "_SIMULATED.json").write_text("{}")
    assert open_lake(folder, SETTINGS.lake).simulated


def test_names_can_be_mapped(tmp_path):
    tables = {**TABLES, "prices": TABLES["fact_price"].rename({"close": "px"})}
    del tables["fact_price"]
    settings = settings_with(lake={"tables": {"fact_price": "prices"}, "columns": {"fact_price": {"close": "px"}}}).lake
    lake = open_lake(write(tables, tmp_path / "lake"), settings)
    assert lake.fingerprint() == memory().fingerprint()
    wrong = settings_with(lake={"columns": {"fact_price": {"price": "px"}}}).lake
    assert "fact_price" in message(MemoryLake, TABLES, wrong)
    assert "'price'" in message(MemoryLake, TABLES, wrong)
    absent = settings_with(lake={"tables": {"fact_volume": "turnover"}}).lake
    assert "'turnover'" in message(
        open_lake,
        tmp_path / "lake",
        settings_with(
            lake={
                "tables": {"fact_price": "prices", "fact_volume": "turnover"},
                "columns": {"fact_price": {"close": "px"}},
            }
        ).lake,
    )
    assert absent.tables


BAD_TABLES = {
    "missing table": ({"fact_price": None}, ["fact_price", "not found", "lake.tables"]),
    "missing column": ({"fact_price": lambda f: f.drop("close")}, ["fact_price", "'close'", "lake.columns"]),
    "empty table": ({"fact_price": lambda f: f.clear()}, ["fact_price", "empty"]),
    "strings in numbers": (
        {
            "fact_volume": lambda f: f.with_columns(
                pl.when(at("SOL", 3)).then(pl.lit("n/a")).otherwise(pl.col("volume").cast(pl.String)).alias("volume")
            )
        },
        ["fact_volume.volume", "number", "'n/a'", "SOL", "2025-01-04"],
    ),
    "dates as text": (
        {"fact_price": lambda f: f.with_columns(pl.col("date").cast(pl.String))},
        ["fact_price.date", "2025-01-01"],
    ),
    "timestamps": (
        {"fact_price": lambda f: f.with_columns(pl.col("date").cast(pl.Datetime("us")))},
        ["fact_price.date", "UTC day"],
    ),
    "time zones": (
        {"fact_funding": lambda f: f.with_columns(pl.col("date").cast(pl.Datetime("us", "Asia/Tokyo")))},
        ["fact_funding.date", "time zone", "UTC day", "2025-01-01"],
    ),
    "numbers as ids": (
        {"fact_price": lambda f: f.with_columns(pl.col("asset_id").hash())},
        ["fact_price.asset_id", "text"],
    ),
    "flags as text": (
        {"dim_asset": lambda f: f.with_columns(is_stable=pl.lit("no"))},
        ["dim_asset.is_stable", "bool", "'no'"],
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES, ids=str)
@pytest.mark.parametrize("stored", [True, False], ids=["parquet", "memory"])
def test_bad_tables_are_named(case, stored, tmp_path):
    edits, words = BAD_TABLES[case]
    tables = {
        name: edits[name](frame) if edits.get(name) else frame for name, frame in TABLES.items() if edits.get(name, 1)
    }
    text = (
        message(open_lake, write(tables, tmp_path), SETTINGS.lake)
        if stored
        else message(MemoryLake, tables, SETTINGS.lake)
    )
    for word in words:
        assert word in text


def test_truncated_parquet_is_named(tmp_path):
    folder = write(TABLES, tmp_path / "lake")
    path = folder / "fact_volume.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    text = message(open_lake, folder, SETTINGS.lake)
    assert "fact_volume" in text
    assert str(path) in text
    assert "truncated" in text


def test_corrupt_page_is_named(tmp_path):
    folder = plain_parts(TABLES, tmp_path / "lake")
    path = folder / "fact_volume" / "b.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(bytes(content))
    lake = open_lake(folder, SETTINGS.lake)
    text = message(lake.frame, "fact_volume")
    assert str(path) in text


def test_null_keys_are_refused():
    tables = changed(TABLES, "fact_volume", at("SOL", 3), asset_id=None)
    text = message(memory(tables).frame, "fact_volume")
    assert "fact_volume.asset_id" in text
    assert "2025-01-04" in text


def test_no_lake_there(tmp_path):
    assert "no such file" in message(open_lake, tmp_path / "nothing", SETTINGS.lake)
    (tmp_path / "lake.duckdb").write_text("not a database")
    assert "lake.duckdb" in message(open_lake, tmp_path / "lake.duckdb", SETTINGS.lake)
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt" in message(open_lake, tmp_path / "notes.txt", SETTINGS.lake)


def test_a_major_without_any_price_is_named():
    tables = {**TABLES, "fact_price": TABLES["fact_price"].filter(pl.col("asset_id") != "ETH")}
    assert "ETH" in message(memory(tables).first_day)


def test_absent_tables_are_said():
    lake = memory({"fact_price": TABLES["fact_price"]})
    assert lake.frame("fact_funding") is None
    said = absent_tables(lake)
    assert len(said) == len(LAKE_TABLES) - 1
    assert any(line.startswith("fact_funding absent: ") for line in said)
    assert absent_tables(memory()) == []


def test_last_complete_day():
    price = TABLES["fact_price"]

    def without(*cells):
        return {**TABLES, "fact_price": price.filter(~pl.any_horizontal(at(*cell) for cell in cells))}

    assert memory(without(("ETH", 39))).last_complete_day() == day(38)
    thin = without(*((asset, 39) for asset in ("SOL", "DOGE", "XRP", "ADA")))
    assert memory(thin).last_complete_day() == day(38)
    awaited = {**TABLES, "fact_volume": TABLES["fact_volume"].filter(pl.col("date") < day(39))}
    assert memory(awaited).last_complete_day() == day(38)
    stopped = {**TABLES, "fact_volume": TABLES["fact_volume"].filter(pl.col("date") < day(30))}
    assert memory(stopped).last_complete_day() == day(39)


# identifiers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "coin"),
    [
        ("BTC", "BTC"), ("BTCUSDT", "BTC"), ("BTC-USDT", "BTC"), ("BTC_PERP", "BTC"), ("BTC-PERP", "BTC"),
        ("BTC/USDT:USDT", "BTC"), ("BTC_USDT", "BTC"), ("BTC-USDT-SWAP", "BTC"), ("BTCUSDT_PERP", "BTC"),
        ("PERP", "PERP"), ("PERPUSDT", "PERP"), ("PERP-PERP", "PERP"), ("USDT", "USDT"), ("USDC", "USDC"),
        ("PYUSD", "PYUSD"), ("ETHBTC", "ETHBTC"), ("1INCH", "1INCH"), ("0G", "0G"), ("BTCPERP", "BTC"),
    ],
)  # fmt: skip
def test_suffixes(written, coin):
    assert (
        strip_suffix(
            written,
            frozenset({"BTC", "PERP", "PY", "USDC", "1INCH"} - ({"PY"} if written == "PYUSD" else set())),
        )
        == coin
    )


def test_a_listed_coin_survives_any_suffix():
    assert strip_suffix("AUSDT", frozenset({"AUSDT", "A"})) == "AUSDT"


@pytest.mark.parametrize(
    ("multiplier", "base", "valid"),
    [(1000.0, "1000SATS", True), (1e6, "1000000MOG", True), (10.0, "10X", True), (0.0, "0G", False), (2.0, "2Z", False),
     (4.0, "4", False), (42.0, "42", False), (1.0, "1INCH", False), (1000.0, "SATS", False), (1000.0, "1000", False),
     (None, "1000SATS", False), (1000.5, "1000X", False), (float("nan"), "1X", False), (float("inf"), "1X", False)],
)  # fmt: skip
def test_valid_multipliers(multiplier, base, valid):
    assert valid_multiplier(multiplier, base) is valid


def contract_lake(raw: str, multiplier: float | None, coin: str = "SATS", onboard: str = "2024-06-01"):
    """SOL renamed to a contract of `coin`; not listed as a coin."""
    renamed = {
        name: frame.with_columns(pl.col("asset_id").replace("SOL", raw))
        for name, frame in TABLES.items()
        if name.startswith("fact")
    }
    row = {"instrument_id": [f"x_{raw}USDT"], "instrument_symbol": [f"{raw}USDT"], "quote": ["USDT"], "asset_id": [None],
           "multiplier": [multiplier], "metadata_json": [f'{{"onboard_date": "{onboard}"}}']}  # fmt: skip
    dim = pl.concat([TABLES["dim_instrument"], pl.DataFrame(row, schema=TABLES["dim_instrument"].schema)])
    assets = pl.DataFrame({"asset_id": ["BTC", "ETH", coin, "DOGE", "XRP", "ADA"]})
    return {**renamed, "dim_asset": assets, "dim_instrument": dim}


@pytest.mark.parametrize("written", ["1000SATS", "1000SATSUSDT", "1000sats-usdt", "1000SATS/USDT:USDT"])
def test_contracts_become_coins(written):
    tables = contract_lake("1000SATS", 1000.0)
    tables["fact_price"] = tables["fact_price"].with_columns(pl.col("asset_id").replace("1000SATS", written))
    found = memory(tables).frame("fact_price").filter(pl.col("asset_id") == "SATS").sort("date")
    own = TABLES["fact_price"].filter(pl.col("asset_id") == "SOL").sort("date")
    assert_frame_equal(
        found.select("close"),
        own.select(pl.Series("close", own["close"].to_numpy() / 1000)),
        check_exact=True,
    )
    volume = memory(tables).frame("fact_volume").filter(pl.col("asset_id") == "SATS")["volume"].sum()
    assert volume == TABLES["fact_volume"].filter(pl.col("asset_id") == "SOL")["volume"].sum()


def test_clean_ids_are_never_rescaled():
    tables = contract_lake("1000SATS", 1000.0)
    tables["fact_price"] = tables["fact_price"].with_columns(pl.col("asset_id").replace("1000SATS", "SATS"))
    found = memory(tables).frame("fact_price").filter(pl.col("asset_id") == "SATS")["close"].sum()
    assert found == TABLES["fact_price"].filter(pl.col("asset_id") == "SOL")["close"].sum()


def test_wrong_vendor_multipliers_are_not_followed():
    lake = memory(contract_lake("0G", 0.0, coin="G"))
    assert "0G" in lake.frame("fact_price")["asset_id"]
    assert "G" not in lake.frame("fact_price")["asset_id"]
    assert [item.problem is not None for item in lake.specs.contracts if item.symbol == "0GUSDT"] == [True]


def test_a_contract_counts_from_its_onboard_date():
    lake = memory(contract_lake("1000SATS", 1000.0, onboard="2025-01-11"))
    ids = lake.frame("fact_price").group_by("asset_id").agg(pl.col("date").min(), pl.len().alias("n"))
    spans = {asset: (first, n) for asset, first, n in ids.iter_rows()}
    assert spans["1000SATS"] == (day(0), 10)
    assert spans["SATS"] == (day(10), 30)
    seen = dict(lake.first_seen().iter_rows())
    assert (seen["1000SATS"], seen["SATS"]) == (day(0), day(10))


def test_bad_metadata_is_named():
    tables = changed(TABLES, "dim_instrument", pl.col("asset_id") == "SOL", metadata_json='{"onboard_date": "soon"}')
    text = message(memory(tables).first_day)
    assert "dim_instrument.metadata_json" in text
    assert "x_SOLUSDT" in text


def test_specs_without_dimensions():
    specs = Specs.of(None, None)
    assert specs.onboard_dates().is_empty()
    assert memory({"fact_price": TABLES["fact_price"]}).frame("fact_price").height == TABLES["fact_price"].height


# fingerprints --------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_fingerprint_ignores_row_order(seed):
    shuffled = {name: frame.sample(fraction=1.0, shuffle=True, seed=seed) for name, frame in TABLES.items()}
    assert_frame_equal(memory(shuffled).day_fingerprints(), memory().day_fingerprints())


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 38))
def test_appending_days_leaves_old_fingerprints(number):
    part = {
        name: frame.filter(pl.col("date") <= day(number)) if "date" in frame.columns else frame
        for name, frame in TABLES.items()
    }
    head = memory(part).day_fingerprints()
    assert_frame_equal(head, memory().day_fingerprints().head(number + 1))
    assert_frame_equal(cut(memory(), day(number)).day_fingerprints(), head)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(
        [
            ("fact_price", "close"),
            ("fact_volume", "volume"),
            ("fact_funding", "funding_rate"),
            ("fact_ohlc", "low"),
        ]
    ),
    st.integers(0, 39),
)
def test_a_revised_past_changes_every_later_fingerprint(place, number):
    table, column = place
    revised = (
        changed(TABLES, table, at("SOL", number), **{column: 1.25e-3})
        if column != "close"
        else changed(TABLES, table, at("SOL", number), close=1.0)
    )
    before, after = (
        memory().day_fingerprints()["fingerprint"],
        memory(revised).day_fingerprints()["fingerprint"],
    )
    assert (before != after).to_list() == [k >= number for k in range(40)]


def test_null_zero_and_removed_rows_differ():
    variants = [
        TABLES,
        changed(TABLES, "fact_volume", at("SOL", 5), volume=0.0),
        changed(TABLES, "fact_volume", at("SOL", 5), volume=None),
        {**TABLES, "fact_volume": TABLES["fact_volume"].filter(~at("SOL", 5))},
        {
            **TABLES,
            "fact_volume": pl.concat([TABLES["fact_volume"], TABLES["fact_volume"].filter(at("SOL", 5))]),
        },
    ]
    assert len({memory(tables).fingerprint() for tables in variants}) == len(variants)


def test_dimension_rows_count_from_the_day_they_matter():
    extra = pl.DataFrame({"asset_id": ["NEVER"], "is_stable": [True]})
    longer = {**TABLES, "dim_asset": pl.concat([TABLES["dim_asset"], extra])}
    assert memory(longer).fingerprint() == memory().fingerprint()
    flagged = changed(TABLES, "dim_asset", pl.col("asset_id") == "SOL", is_stable=True)
    assert memory(flagged).day_fingerprints()["fingerprint"][0] != memory().day_fingerprints()["fingerprint"][0]
    onboard = changed(
        TABLES, "dim_instrument", pl.col("asset_id") == "SOL", metadata_json='{"onboard_date": "2025-01-11"}'
    )
    later = changed(
        TABLES, "dim_instrument", pl.col("asset_id") == "SOL", metadata_json='{"onboard_date": "2025-01-21"}'
    )
    same = memory(onboard).day_fingerprints()["fingerprint"] == memory(later).day_fingerprints()["fingerprint"]
    assert same.to_list() == [k < 10 for k in range(40)]


def test_fingerprint_cache_is_used_and_rebuilt(tmp_path):
    folder, cache = write(TABLES, tmp_path / "lake"), tmp_path / "cache"
    truth = open_lake(folder, SETTINGS.lake).day_fingerprints(cache)
    (held,) = (cache / "lake_fingerprints").iterdir()
    truth.with_columns(fingerprint=pl.lit("cached")).write_parquet(held)
    assert open_lake(folder, SETTINGS.lake).fingerprint(cache) == "cached"
    held.write_bytes(b"broken")
    assert_frame_equal(open_lake(folder, SETTINGS.lake).day_fingerprints(cache), truth)
    assert_frame_equal(pl.read_parquet(held), truth)
    os.utime(folder / "fact_price.parquet", ns=(1, 1))
    open_lake(folder, SETTINGS.lake).day_fingerprints(cache)
    assert len(list((cache / "lake_fingerprints").iterdir())) == 2


def test_identity_sees_a_lake_that_changes(tmp_path):
    folder = write(TABLES, tmp_path / "lake")
    lake = open_lake(folder, SETTINGS.lake)
    before = lake.identity()
    assert lake.identity() == before
    TABLES["fact_price"].head(100).write_parquet(folder / "fact_price.parquet")
    assert lake.identity() != before


def test_cut_knows_only_its_past():
    lake = cut(memory(), day(20))
    assert lake.last_day() == day(20)
    assert lake.frame("fact_price", day(15), day(30))["date"].max() == day(20)
    assert cut(lake, day(10)).last_day() == day(10)
    assert "no price" in message(cut, memory(), day(-1))
    late = changed(
        TABLES, "dim_instrument", pl.col("asset_id") == "SOL", metadata_json='{"onboard_date": "2025-01-31"}'
    )
    assert cut(memory(late), day(20)).frame("dim_instrument").height == TABLES["dim_instrument"].height - 1


# the real lakes ------------------------------------------------------------------------------------------------


@pytest.mark.real_lake
@pytest.mark.parametrize("name", REAL_LAKES)
def test_real_lake_is_untouched(name, tmp_path):
    source = SHARED / name
    if not source.exists():
        pytest.skip(f"{source} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    copy = tmp_path / name
    shutil.copytree(source, copy)

    def state():
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(copy.iterdir())}

    before = state()
    for path in [*copy.iterdir(), copy]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    lake = open_lake(copy, SETTINGS.lake)
    last = lake.last_complete_day()
    prints = lake.day_fingerprints(tmp_path / "cache")
    assert prints.height == (lake.last_day() - lake.first_day()).days + 1
    part = cut(lake, last - timedelta(days=100))
    assert_frame_equal(part.day_fingerprints(), prints.head(prints.height - 100))
    assert state() == before


@pytest.mark.real_lake
def test_real_lake_is_not_rescaled():
    if not (SHARED / "lake").exists():
        pytest.skip(f"{SHARED / 'lake'} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    lake = open_lake(SHARED / "lake", SETTINGS.lake)
    stored = pl.read_parquet(SHARED / "lake" / "fact_price.parquet").sort("asset_id", "date")
    assert_frame_equal(
        lake.frame("fact_price").sort("asset_id", "date").select(stored.columns), stored, check_exact=True
    )
    onboard = dict(lake.specs.onboard_dates().iter_rows())
    assert onboard["0G"] == date(2025, 9, 17)
    assert onboard["G"] == date(2024, 8, 15)
    assert onboard["1INCH"] == date(2020, 12, 25)
    assert onboard["SATS"] < date(2024, 1, 10)
