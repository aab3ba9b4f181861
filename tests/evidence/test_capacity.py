"""Capacity: equal to full runs, square-root impact, and never better for being larger."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation.contracts import CAPACITY
from majors_alts_pipeline.evidence.capacity import ACCOUNTS, at_capital, capacity, with_capital
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.proofs.markets import market_settings

LADDER = (1e4, 4e4, 1.6e5, 6.4e5, 1e8)


@pytest.fixture(scope="module")
def capped() -> Settings:
    return market_settings({"basket": {"adv_share_max": 0.01}})


@pytest.fixture(scope="module")
def tables(small_lake: LakeSource, small_settings: Settings) -> dict[str, pl.DataFrame]:
    return Runner(small_lake, small_settings).run_all(through="backtest")


@pytest.fixture(scope="module")
def capped_tables(small_lake: LakeSource, capped: Settings) -> dict[str, pl.DataFrame]:
    return Runner(small_lake, capped).run_all(through="backtest")


@pytest.fixture(scope="module")
def curve(tables: dict[str, pl.DataFrame], small_settings: Settings) -> pl.DataFrame:
    return capacity(tables, small_settings, LADDER)


def whole(tables: dict[str, pl.DataFrame]) -> Window:
    days = tables["panel"]["date"]
    return Window(days.min(), days.max())


def test_the_table_is_the_contract(curve: pl.DataFrame) -> None:
    assert curve.schema == CAPACITY.schema
    assert curve.select("account", "capital_usd").rows() == [(a, c) for a in ACCOUNTS for c in LADDER]


@pytest.mark.parametrize("capital", [3e4, 3e8])
def test_it_is_a_full_run_with_that_capital(
    small_lake: LakeSource, capped: Settings, capped_tables: dict[str, pl.DataFrame], capital: float
) -> None:
    """At 3e8 the liquidity caps bind: the basket, the regime's training and its labels are others too."""
    settings = with_capital(capped, capital)
    full = Runner(small_lake, settings).run_all()
    got = at_capital(capped_tables, settings, whole(capped_tables))
    for name, frame in got.items():
        assert_frame_equal(frame, full[name], check_exact=True)
    (row,) = capacity(capped_tables, capped, [capital]).filter(account="regime").to_dicts()
    last = full["kpis"].filter(date=whole(capped_tables).end, account="regime")
    assert last.select("sharpe", "cagr", "cost_annual").row(0) == (row["sharpe"], row["cagr"], row["cost_annual"])


def test_caps_bind_and_what_depends_on_the_basket_follows(
    capped: Settings, capped_tables: dict[str, pl.DataFrame]
) -> None:
    window = whole(capped_tables)
    large = at_capital(capped_tables, with_capital(capped, 3e8), window)
    changed = {name for name in large if not large[name].equals(capped_tables[name])}
    assert {"basket", "regime_model", "backtest", "positions"} <= changed
    assert not changed & {"panel", "universe", "features", "betas", "trackers", "tracker_betas"}
    same = at_capital(capped_tables, capped, window)
    assert all(same[name] is frame or same[name].equals(frame) for name, frame in capped_tables.items())


def test_impact_grows_with_the_square_root_of_capital(curve: pl.DataFrame) -> None:
    """Without binding caps the trades are the same share of NAV: four times the capital, twice the impact."""
    for account in ACCOUNTS:
        rows = curve.filter(account=account).sort("capital_usd").head(4)
        impact = rows["impact_annual"].to_numpy()
        assert impact[0] > 0
        np.testing.assert_allclose(impact[1:] / impact[:-1], 2.0, rtol=0.02)
        np.testing.assert_allclose(
            rows["participation_p95"].to_numpy()[1:] / rows["participation_p95"][0], [4, 16, 64], rtol=0.1
        )
        other = rows["cost_annual"].to_numpy() - impact
        np.testing.assert_allclose(other, other[0], rtol=0.02)


def test_more_capital_is_never_better(curve: pl.DataFrame) -> None:
    for account in ACCOUNTS:
        rows = curve.filter(account=account).sort("capital_usd")
        assert (np.diff(rows["sharpe"].to_numpy()) < 0).all()
        assert (np.diff(rows["cagr"].to_numpy()) < 0).all()


def test_the_participation_is_that_of_the_trades(tables: dict[str, pl.DataFrame], small_settings: Settings) -> None:
    (row,) = (
        capacity(tables, small_settings, [small_settings.backtest.capital_usd]).filter(account="always_on").to_dicts()
    )
    volume = {
        (day, asset): adv for day, asset, adv in tables["universe"].select("date", "asset_id", "adv_usd").iter_rows()
    }
    shares = [
        abs(traded) / volume[day, asset]
        for day, asset, traded in tables["positions"]
        .filter((pl.col("account") == "always_on") & (pl.col("traded_usd") != 0))
        .select("date", "asset_id", "traded_usd")
        .iter_rows()
        if volume[day, asset]
    ]
    assert row["participation_p95"] == pytest.approx(np.quantile(shares, 0.95), rel=1e-12)


def test_a_lake_without_volumes_has_no_participation(tables: dict[str, pl.DataFrame], small_settings: Settings) -> None:
    blind = tables | {"universe": tables["universe"].with_columns(adv_usd=pl.lit(None, pl.Float64))}
    rows = capacity(blind, market_settings({"basket": {"rank_by": "marketcap"}}), [1e6])
    assert rows["participation_p95"].null_count() == 2
