"""Null and planted markets: what the whole chain says where the truth is known.

Every market is simulated from its own seed and run through the real chain, panel to accounts. Nothing is tuned
to the simulator: the settings are the defaults but for the sizes named in `market_settings`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.proofs.proof import Proof

SIGNIFICANCE = 0.05
BAND = 0.99
STANDARD_ERRORS = 3.0
CONSENSUS = "consensus"
"""The method that needs the others."""


@dataclass(frozen=True)
class MarketResult:
    """What the chain found in one simulated market.

    Attributes:
        seed: seed of the market.
        effect: planted daily effect, decimal.
        sharpe_always_on: annualised Sharpe of the always-on book's price P&L.
        sharpe_regime: the same of the timed book; NaN when it never held a position.
        p_value: regime-edge p-value of the label in force; NaN when only one label occurred.
        beta_bias: mean of estimated minus true total beta over alts and days.
        recovered: share of labelled days whose label equals the hidden regime.
        by_chance: the share expected from the same label frequencies drawn independently.
    """

    seed: int
    effect: float
    sharpe_always_on: float
    sharpe_regime: float
    p_value: float
    beta_bias_btc: float
    beta_bias_eth: float
    recovered: float
    by_chance: float


def market_settings(overrides: dict[str, Any] | None = None) -> Settings:
    """Default settings sized for small markets: less history before the first refit, fewer names."""
    small: dict[str, Any] = {
        "universe": {"min_adv_usd": 0.0, "min_marketcap_usd": 0.0, "require_shortable": False},
        "features": {"z_window_days": 90, "z_min_obs": 45},
        "basket": {"adv_share_max": 1000.0},
        "regime": {"min_train_days": 150},
    }
    for section, values in (overrides or {}).items():
        small.setdefault(section, {}).update(values)
    return load_settings(overrides=small)


def annual_sharpe(returns: np.ndarray) -> float:
    """Mean / sd x sqrt(365); NaN when there is no variation."""
    sd = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    return float(np.mean(returns)) / sd * 365**0.5 if sd > 0 else float("nan")


def _price_sharpe(backtest: pl.DataFrame, account: str) -> float:
    rows = backtest.filter(pl.col("account") == account).sort("date")
    rows = rows.with_columns(previous=pl.col("nav").shift(1)).filter(pl.col("previous").is_not_null())
    first = rows.with_row_index().filter(pl.col("gross_exposure") > 0)["index"].head(1)
    if first.len() == 0:
        return float("nan")
    return annual_sharpe((rows["pnl_price"] / rows["previous"]).to_numpy()[int(first.item()) + 1 :])


HIDDEN_LABEL = {"risk_on_majors": "RISK_ON_MAJORS", "balanced": "BALANCED", "risk_on_alts": "RISK_ON_ALTS"}


def _traded_alone(settings: Settings) -> Settings:
    """Without the methods that change nothing measured here; `calibration` measures them all."""
    method = settings.regime.method
    return settings if method == CONSENSUS else with_overrides(settings, {"regime.methods": [method]})


def run_market(seed: int, effect: float, n_alts: int, n_days: int, overrides: dict[str, Any] | None) -> MarketResult:
    """Simulate one market and run the chain over it."""
    from majors_alts_pipeline.chain import Runner
    from majors_alts_pipeline.lake.reader import MemoryLake
    from majors_alts_pipeline.lake.simulate import SimulationSpec, simulate
    from majors_alts_pipeline.proofs.accounts import timed_edge

    settings = _traded_alone(market_settings(overrides))
    market = simulate(SimulationSpec(n_alts=n_alts, n_days=n_days, seed=seed, regime_effect=effect))
    tables = Runner(MemoryLake(market.tables, settings.lake), settings).run_all(through="backtest")
    p_value, _ = timed_edge(tables, seed)
    truth = market.truth
    betas = tables["betas"].join(truth.betas.select("asset_id", "beta_btc", "beta_eth"), on="asset_id", suffix="_true")
    alts = betas.join(truth.assets.filter(pl.col("kind") == "alt").select("asset_id"), on="asset_id", how="semi")
    hidden = truth.regimes.with_columns(hidden=pl.col("regime").replace_strict(HIDDEN_LABEL))
    labelled = tables["regime"].filter("configured", pl.col("score").is_not_null()).join(hidden, on="date")
    shares = labelled.select(pl.col("label").value_counts(normalize=True)).unnest("label")
    truth_shares = labelled.select(pl.col("hidden").value_counts(normalize=True)).unnest("hidden")
    chance = shares.join(truth_shares, left_on="label", right_on="hidden", suffix="_true")
    return MarketResult(
        seed=seed,
        effect=effect,
        sharpe_always_on=_price_sharpe(tables["backtest"], "always_on"),
        sharpe_regime=_price_sharpe(tables["backtest"], "regime"),
        p_value=p_value,
        beta_bias_btc=float(alts.select((pl.col("beta_btc") - pl.col("beta_btc_true")).mean()).item()),
        beta_bias_eth=float(alts.select((pl.col("beta_eth") - pl.col("beta_eth_true")).mean()).item()),
        recovered=float(labelled.select((pl.col("label") == pl.col("hidden")).mean()).item()),
        by_chance=float(chance.select((pl.col("proportion") * pl.col("proportion_true")).sum()).item()),
    )


_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started inside use one thread: markets are independent and small, pools would fight over the cores."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_markets(
    seeds: Sequence[int],
    effects: Sequence[float],
    n_alts: int,
    n_days: int,
    overrides: dict[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    workers: int | None = None,
) -> list[MarketResult]:
    """One market per (effect, seed), spread over processes; results sorted by effect and seed."""
    jobs = [(seed, effect) for effect in effects for seed in seeds]
    results: list[MarketResult] = []
    with one_thread_each(), ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_market, seed, effect, n_alts, n_days, overrides) for seed, effect in jobs]
        for done, future in enumerate(as_completed(futures), start=1):
            results.append(future.result())
            progress(f"simulated markets: {done} of {len(jobs)}")
    return sorted(results, key=lambda result: (result.effect, result.seed))


def binomial_band(n: int, probability: float, confidence: float = BAND) -> tuple[int, int]:
    """Counts (low, high) holding at least `confidence` of Binomial(n, probability), equal tails."""
    from scipy.stats import binom

    tail = (1 - confidence) / 2
    return int(binom.ppf(tail, n, probability)), int(binom.ppf(1 - tail, n, probability))


def _mean_within(values: np.ndarray, machine: str, claim: str) -> Proof:
    values = values[np.isfinite(values)]
    mean, error = float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)
    return Proof(
        machine,
        claim,
        f"mean {mean:+.3f} ± {error:.3f} (SE), {len(values)} markets",
        f"|mean| <= {STANDARD_ERRORS:g} SE",
        abs(mean) <= STANDARD_ERRORS * error,
    )


def null_proofs(results: Sequence[MarketResult]) -> Iterator[Proof]:
    """A market with no edge yields no edge."""
    yield _mean_within(
        np.array([r.sharpe_always_on for r in results]), "null market", "always-on book: Sharpe of the price P&L is 0"
    )
    yield _mean_within(
        np.array([r.sharpe_regime for r in results]), "null market", "timed book: Sharpe of the price P&L is 0"
    )
    p_values = np.array([r.p_value for r in results])
    p_values = p_values[np.isfinite(p_values)]
    low, high = binomial_band(len(p_values), SIGNIFICANCE)
    count = int((p_values < SIGNIFICANCE).sum())
    yield Proof(
        "null market",
        f"share of regime-edge p-values below {SIGNIFICANCE:g} is {SIGNIFICANCE:g}",
        f"{count} of {len(p_values)} ({count / len(p_values):.1%})",
        f"{low} to {high} (binomial {BAND:.0%} band)",
        low <= count <= high,
    )
    from scipy.stats import kstest

    uniform = float(kstest(p_values, "uniform").pvalue)
    yield Proof(
        "null market",
        "regime-edge p-values are uniform",
        f"Kolmogorov-Smirnov p = {uniform:.3f}, median {np.median(p_values):.2f}",
        "p > 0.01",
        uniform > 0.01,
    )


def planted_proofs(results: Sequence[MarketResult]) -> Iterator[Proof]:
    """A planted edge is found, more often the larger it is; betas are near the truth; regimes are recovered."""
    effects = sorted({r.effect for r in results})
    power = {}
    for effect in effects:
        p_values = np.array([r.p_value for r in results if r.effect == effect])
        power[effect] = float(np.mean(p_values[np.isfinite(p_values)] < SIGNIFICANCE))
    curve = ", ".join(f"{effect * 1e4:g} bp/day: {share:.0%}" for effect, share in power.items())
    n_largest = sum(r.effect == effects[-1] for r in results)
    error = (SIGNIFICANCE * (1 - SIGNIFICANCE) / n_largest) ** 0.5
    yield Proof(
        "planted edge",
        "power of the regime-edge test rises with the planted effect",
        curve,
        f"largest effect above the test's size by > {STANDARD_ERRORS:g} SE",
        power[effects[-1]] - SIGNIFICANCE > STANDARD_ERRORS * error and power[effects[-1]] > power[effects[0]],
    )
    for factor in ("btc", "eth"):
        bias = np.array([getattr(r, f"beta_bias_{factor}") for r in results])
        yield Proof(
            "planted edge",
            f"betas to {factor.upper()}: mean error over alts and days is small",
            f"mean error {bias.mean():+.4f} ± {bias.std(ddof=1) / len(bias) ** 0.5:.4f} (SE)",
            "|mean error| <= 0.02",
            abs(float(bias.mean())) <= 0.02,
        )
    largest = [r for r in results if r.effect == effects[-1]]
    lift = np.array([r.recovered - r.by_chance for r in largest])
    error = float(lift.std(ddof=1) / len(lift) ** 0.5)
    yield Proof(
        "planted edge",
        "hidden regimes are recovered better than by chance",
        f"{np.mean([r.recovered for r in largest]):.1%} of days against {np.mean([r.by_chance for r in largest]):.1%} "
        f"by chance at {effects[-1] * 1e4:g} bp/day",
        f"lift > {STANDARD_ERRORS:g} SE",
        float(lift.mean()) > STANDARD_ERRORS * error,
    )
    sharpe = {e: float(np.nanmean([r.sharpe_regime for r in results if r.effect == e])) for e in effects}
    yield Proof(
        "planted edge",
        "the timed book earns it: mean Sharpe of its price P&L",
        ", ".join(f"{e * 1e4:g} bp/day: {s:+.2f}" for e, s in sharpe.items()),
        "largest effect above smallest",
        sharpe[effects[-1]] > sharpe[effects[0]],
    )
