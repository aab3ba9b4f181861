"""Size and power of the whole chain on simulated markets, and that the machines fail where they must."""

from __future__ import annotations

import numpy as np
import pytest

from majors_alts_pipeline.proofs.markets import MarketResult, binomial_band, null_proofs, planted_proofs, run_markets


@pytest.mark.slow
def test_two_hundred_null_markets_show_no_edge() -> None:
    results = run_markets(range(200), [0.0], n_alts=24, n_days=420)
    proofs = list(null_proofs(results))
    assert len(results) == 200
    assert all(proof.holds for proof in proofs), "\n".join(f"{p.claim}: {p.measured}" for p in proofs if not p.holds)


@pytest.mark.slow
def test_a_planted_edge_is_found() -> None:
    results = run_markets(range(1000, 1024), [0.0, 0.01], n_alts=24, n_days=800)
    proofs = list(planted_proofs(results))
    assert all(proof.holds for proof in proofs), "\n".join(f"{p.claim}: {p.measured}" for p in proofs if not p.holds)


def fake(seed: int, sharpe: float, p_value: float) -> MarketResult:
    return MarketResult(seed, 0.0, sharpe, sharpe, p_value, 0.0, 0.0, 0.4, 0.33)


def test_a_biased_book_fails_the_null_machine() -> None:
    random = np.random.default_rng(0)
    biased = [fake(k, 0.5 + random.normal(), random.uniform()) for k in range(200)]
    held = {proof.claim: proof.holds for proof in null_proofs(biased)}
    assert all(type(holds) is bool for holds in held.values())
    assert not held["always-on book: Sharpe of the price P&L is 0"]


def test_p_values_of_one_half_fail_the_null_machine() -> None:
    random = np.random.default_rng(0)
    stuck = [fake(k, random.normal(), 0.5) for k in range(200)]
    held = {proof.claim: proof.holds for proof in null_proofs(stuck)}
    assert not held["regime-edge p-values are uniform"]
    assert not held["share of regime-edge p-values below 0.05 is 0.05"]


def test_binomial_band_covers_what_it_says() -> None:
    low, high = binomial_band(200, 0.05)
    draws = np.random.default_rng(1).binomial(200, 0.05, 100_000)
    assert np.mean((draws >= low) & (draws <= high)) >= 0.99
    assert np.mean((draws > low) & (draws < high)) < 0.99
