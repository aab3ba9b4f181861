"""Lakes that hold little: the chain runs on what there is and loses only what it says."""

from __future__ import annotations

import polars as pl
import pytest

from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.lake.reader import MemoryLake, absent_tables
from majors_alts_pipeline.lake.simulate import SimulatedLake
from majors_alts_pipeline.proofs.markets import market_settings


def tables_of(market: SimulatedLake, kept: set[str]) -> dict[str, pl.DataFrame]:
    return {name: market.tables[name] for name in market.tables if name in kept}


@pytest.mark.parametrize(
    ("kept", "overrides"),
    [
        ({"fact_price", "fact_marketcap"}, {"basket": {"rank_by": "marketcap", "adv_share_max": 1000.0}}),
        ({"fact_price", "fact_volume"}, {}),
    ],
)
def test_a_book_is_built_from_prices_and_one_way_to_rank(
    small_market: SimulatedLake, kept: set[str], overrides: dict[str, dict[str, object]]
) -> None:
    settings = market_settings(overrides)
    lake = MemoryLake(tables_of(small_market, kept), settings.lake)
    tables = Runner(lake, settings).run_all()
    built = tables["basket"].filter(pl.col("status") != "flat")
    assert built["date"].n_unique() > 200
    assert tables["backtest"].filter(pl.col("account") == "always_on")["gross_exposure"].max() > 0.5
    assert len(absent_tables(lake)) == 8 - (len(kept) - 1)


def test_without_any_way_to_rank_the_book_is_flat_and_says_why(small_market: SimulatedLake) -> None:
    settings = market_settings()
    lake = MemoryLake(tables_of(small_market, {"fact_price"}), settings.lake)
    basket = Runner(lake, settings).run_all(through="basket")["basket"]
    assert set(basket["status"]) == {"flat"}
    last = basket.filter(pl.col("date") == basket["date"].max())
    assert "adv_usd" in last["reason"][0]
