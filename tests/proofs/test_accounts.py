"""The ledger machine accepts the chain's accounts and refuses tampered ones."""

from __future__ import annotations

import polars as pl
import pytest

from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.proofs.accounts import ledger


@pytest.fixture(scope="module")
def tables(small_lake: LakeSource, small_settings: Settings) -> dict[str, pl.DataFrame]:
    return Runner(small_lake, small_settings).run_all()


def test_every_identity_holds(tables: dict[str, pl.DataFrame]) -> None:
    proofs = ledger(tables)
    assert [proof.claim for proof in proofs if not proof.holds] == []


@pytest.mark.parametrize(
    ("table", "column", "claim"),
    [
        ("backtest", "pnl_funding", "NAV change"),
        ("backtest", "identity_error", "NAV = cash"),
        ("positions", "cost_fees", "P&L per asset"),
    ],
)
def test_a_tampered_account_is_noticed(tables: dict[str, pl.DataFrame], table: str, column: str, claim: str) -> None:
    tampered = dict(tables)
    tampered[table] = tables[table].with_columns(pl.col(column) + 1.0)
    failed = [proof.claim for proof in ledger(tampered) if not proof.holds]
    assert any(text.startswith(claim) for text in failed)


def test_profit_on_a_flat_day_is_noticed(tables: dict[str, pl.DataFrame]) -> None:
    flat = (
        tables["backtest"].sort("account", "date").with_columns(n_positions=pl.lit(0, pl.Int32), turnover=pl.lit(0.0))
    )
    failed = [proof.claim for proof in ledger({**tables, "backtest": flat}) if not proof.holds]
    assert "a flat book earns exactly zero" in failed
