"""Synthetic evidence tables that satisfy their contracts, every one with something in it to draw."""

from __future__ import annotations

import json
from datetime import date, timedelta
from itertools import product

import numpy as np
import polars as pl

from majors_alts_pipeline.evaluation.contracts import EVIDENCE

METHODS = ("composite", "hmm", "consensus")
BOOKS = ("regime", "always_on")
LABELS = ("RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS")
HORIZONS = (1, 5, 10, 20, 40, 60)


def _frame(name: str, rows: list[dict]) -> pl.DataFrame:
    contract = EVIDENCE[name]
    return contract.conform(pl.DataFrame(rows, schema=contract.schema))


def make_evidence(seed: int = 5) -> dict[str, pl.DataFrame]:
    """Every table of `EVIDENCE`, from a fixed seed."""
    rng = np.random.default_rng(seed)
    frames = {
        "edge_by_horizon": _edge(rng),
        "selection": _selection(),
        "cscv": _cscv(rng),
        "folds": _folds(rng),
        "robustness": _robustness(rng),
        "capacity": _capacity(),
        "sweep": _sweep(rng),
        **_calibration(rng),
        "hindsight": _hindsight(),
        "feature_ic": _feature_ic(rng),
        "var_exceptions": _var(),
        "red_flags": _red_flags(),
    }
    assert set(frames) == set(EVIDENCE)
    return frames


def _hindsight() -> pl.DataFrame:
    """Certain of what the HMM could only guess."""
    return _frame("hindsight", [
        {"date": date(2023, 4, 19) + timedelta(days=day), "method": "hmm", "label": label,
         "probability": float(label == LABELS[day // 40 % 3])}
        for day, label in product(range(200), LABELS)
    ])  # fmt: skip


def _edge(rng: np.random.Generator) -> pl.DataFrame:
    rows = []
    for method, label, horizon in product(METHODS, (*LABELS, "ALL"), HORIZONS):
        whole = label == "ALL"
        mean = (0.001 if label == "RISK_ON_MAJORS" else 0.0002) * horizon + 0.001 * rng.standard_normal()
        spread = 0.004 * horizon**0.5
        few = label == "RISK_ON_ALTS"
        rows.append({
            "method": method, "label": label, "horizon_days": horizon, "mean": mean,
            "low": None if few and horizon == 60 else mean - spread,
            "high": None if few and horizon == 60 else mean + spread,
            "difference": None if whole else mean - 0.0003 * horizon, "hac_t": None if whole else mean / spread * 2,
            "p_value": None if whole else float(rng.uniform(0.01, 1)), "n_days": 400, "n_episodes": 12 if few else 60,
            "n_effective": 400 / horizon,
            "warning": "12 episodes only: fewer than 30 say little" if few else "",
        })  # fmt: skip
    return _frame("edge_by_horizon", rows)


def _selection() -> pl.DataFrame:
    measures = {
        "n_trials": (512.0, None, None), "n_effective_trials": (37.4, None, None), "sharpe": (0.4, -0.9, 1.7),
        "expected_max_sharpe": (1.31, None, None), "psr": (0.71, None, None), "dsr": (0.08, None, None),
        "min_trl_years": (17.2, None, None), "min_btl_years": (5.1, None, None), "pbo": (0.62, 0.48, 0.75),
        "spa_lower": (0.41, None, None), "spa_consistent": (0.55, None, None), "spa_upper": (0.63, None, None),
        "stepm_superior": (0.0, None, None),
    }  # fmt: skip
    return _frame("selection", [
        {"account": account, "measure": measure, "value": value, "low": low, "high": high,
         "note": f"what {measure} says"}
        for account in BOOKS for measure, (value, low, high) in measures.items()
    ])  # fmt: skip


def _cscv(rng: np.random.Generator) -> pl.DataFrame:
    inside = rng.normal(1.2, 0.3, 924)
    return _frame("cscv", [
        {"split": k, "winner": f"variant {k % 7}", "is_sharpe": s, "oos_sharpe": 0.1 - 0.3 * s + e, "logit": g}
        for k, (s, e, g) in enumerate(zip(inside, rng.normal(0, 0.5, 924), rng.normal(-0.3, 1.1, 924), strict=True))
    ])  # fmt: skip


def _folds(rng: np.random.Generator) -> pl.DataFrame:
    first = date(2024, 6, 1)
    rows = []
    for scheme, n in (("walk_forward", 14), ("cpcv", 28)):
        for fold in range(n):
            start = first + timedelta(days=30 * fold) if scheme == "walk_forward" else first
            days = 30 if scheme == "walk_forward" else 420
            rows.append({
                "scheme": scheme, "fold": fold, "start": start, "end": start + timedelta(days=days - 1),
                "chosen": "balanced, enter 0.25", "is_sharpe": None if fold == 0 else 1 + 0.3 * rng.standard_normal(),
                "oos_sharpe": float(rng.standard_normal()), "n_train": 365 + 30 * fold, "n_test": days,
            })  # fmt: skip
    return _frame("folds", rows)


def _robustness(rng: np.random.Generator) -> pl.DataFrame:
    cases: list[tuple[str, str, float | None]] = [("cost_bp", f"{bp} bp", float(bp)) for bp in (0, 5, 10, 20, 35, 50)]
    cases += [("execution_lag", f"{lag} days", float(lag)) for lag in (0, 1, 2)]
    cases += [("start_date", f"from {year}-01-01", None) for year in (2024, 2025)]
    cases += [("leave_one_asset_out", f"ALT{k:02d}", None) for k in range(6)]
    cases += [("basket_size", "as configured", 20.0), ("basket_size", "10", 10.0), ("basket_size", "30", 30.0)]
    cases += [("neutrality_mode", mode, None) for mode in ("as configured", "btc_beta", "dollar")]
    cases += [("survivorship", "10 % of them at -100 %", None)]
    rows = []
    for rank, (test, case, level) in enumerate(cases):
        for account in BOOKS:
            sharpe = (0.6 if account == "always_on" else 0.1) - (0.02 * (level or 0) if test == "cost_bp" else 0)
            sharpe += 0.0 if case == "as configured" else 0.2 * rng.standard_normal()
            rows.append({
                "test": test, "case": case, "account": account, "rank": rank, "level": level, "sharpe": sharpe,
                "cagr": 0.05 * sharpe, "max_drawdown": -0.2, "cost_annual": 0.02, "n_days": 800, "note": "",
            })  # fmt: skip
    return _frame("robustness", rows)


def _capacity() -> pl.DataFrame:
    return _frame("capacity", [
        {
            "account": account, "capital_usd": capital, "sharpe": 0.8 - 0.1 * (capital / 1e5) ** 0.35, "cagr": 0.05,
            "cost_annual": 0.01 + 0.002 * (capital / 1e5) ** 0.5, "impact_annual": 0.002 * (capital / 1e5) ** 0.5,
            "participation_p95": min(1.0, 1e-9 * capital),
            "beyond_liquidity": float(capital > 1e7),
        }
        for account in BOOKS for capital in (1e5, 1e6, 1e7, 1e8, 1e9)
    ])  # fmt: skip


def _sweep(rng: np.random.Generator) -> pl.DataFrame:
    """Enter moves most, dwell next, smoothing hardly; variant 0 is as configured (0.25, 3, 3)."""
    grid = list(product((0.15, 0.25, 0.4, 0.6), (3, 7, 14), (1, 3, 7)))
    grid.sort(key=lambda values: values != (0.25, 3, 3))
    rows = []
    for k, (enter, dwell, smoothing) in enumerate(grid):
        overrides = {"regime.enter": enter, "regime.min_dwell_days": dwell, "regime.smoothing_days": smoothing}
        sharpe = 1.0 - 3 * abs(enter - 0.25) - 0.03 * dwell + 0.001 * smoothing + 0.001 * rng.standard_normal()
        rows.append({
            "variant": k, "trial": f"trial{k}", "overrides": json.dumps(overrides if k else {}), "sharpe": sharpe,
            "cagr": 0.05 * sharpe, "volatility": 0.1, "max_drawdown": -0.2, "turnover_annual": 12.0,
            "cost_annual": 0.02, "exposure_time": 0.4, "n_days": 800,
        })  # fmt: skip
    return _frame("sweep", rows)


def _calibration(rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    scores, bins = [], []
    for method, event, horizon in product(METHODS, ("book_up", "RISK_ON_MAJORS"), (1, 5)):
        t = float(rng.normal(0, 2))
        scores.append({
            "method": method, "event": event, "horizon_days": horizon, "n": 500, "base_rate": 0.52, "brier": 0.26,
            "brier_base": 0.25, "log_score": 0.7 - 0.01 * t, "log_score_base": 0.7, "dm_t": t,
        })  # fmt: skip
        for k in range(8):
            forecast = 0.06 + 0.125 * k
            observed = float(np.clip(0.5 + 0.4 * (forecast - 0.5) + 0.05 * rng.standard_normal(), 0.02, 0.98))
            bins.append({
                "method": method, "event": event, "horizon_days": horizon, "bin": k, "forecast": forecast,
                "observed": observed, "low": max(observed - 0.12, 0.0), "high": min(observed + 0.12, 1.0), "n": 60,
            })  # fmt: skip
    return {"probability_scores": _frame("probability_scores", scores), "reliability": _frame("reliability", bins)}


def _feature_ic(rng: np.random.Generator) -> pl.DataFrame:
    names = ("breadth_up", "btc_dominance", "funding_skew", "momentum_7", "oi_risk")
    return _frame("feature_ic", [
        {
            "feature": name, "horizon_days": horizon, "n_days": 0 if name == "oi_risk" else 700,
            "ic": None if name == "oi_risk" else float(0.05 * rng.standard_normal()),
            "hac_t": None if name == "oi_risk" else float(1.5 * rng.standard_normal()),
        }
        for name in names for horizon in HORIZONS
    ])  # fmt: skip


def _var() -> pl.DataFrame:
    return _frame("var_exceptions", [
        {
            "account": account, "level": level, "n_days": 700, "n_exceptions": n, "expected": 700 * level,
            "kupiec_lr": 4.2, "kupiec_p": p, "independence_lr": 1.0, "coverage_p": 0.07, "es": -0.031,
        }
        for account in BOOKS for level, n, p in ((0.01, 14, 0.02), (0.05, 38, 0.6))
    ])  # fmt: skip


def _red_flags() -> pl.DataFrame:
    return _frame("red_flags", [
        {
            "flag": flag, "subject": "regime", "fired": fired, "value": 4.4 if fired else 0.2, "bound": 4.0,
            "message": message,
        }
        for flag, fired, message in (
            ("sharpe_too_good", True, "the Sharpe ratio is beyond what such a book can earn; look for a leak"),
            ("turnover_is_zero", False, "as it should be"),
        )
    ])  # fmt: skip
