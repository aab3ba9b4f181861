"""How good probability forecasts are: Brier and log scores against the base rate known at the time, and reliability."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.evaluation.contracts import PROBABILITY_SCORES, RELIABILITY
from majors_alts_pipeline.evaluation.inference import MIN_BOOTSTRAP_DAYS, hac_regression, newey_west_lag

FLOOR = 1e-4
"""Least probability a forecast is taken to have given to what happened: a log score beyond 9.2 nats is cut there."""

BINS = 10

_KEYS = ["method", "event", "horizon_days"]
_COLUMNS = [*_KEYS, "date", "probability", "outcome"]


def log_scores(probability: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """-ln of the probability given to what happened, nats, with probabilities cut at `FLOOR` and 1 - `FLOOR`.

    Args:
        probability: of the event, [0, 1].
        outcome: bool, the event happened.
    """
    cut = np.clip(probability, FLOOR, 1.0 - FLOOR)
    return -np.log(np.where(outcome, cut, 1.0 - cut))


def base_rates(dates: np.ndarray, outcome: np.ndarray, horizon: int, delay: int) -> np.ndarray:
    """Climatological probability known at each forecast: share of the outcomes known by then.

    The outcome of a forecast of day s over h days is known at the close of s + h + delay, so the base rate of day t
    counts forecasts of days <= t - h - delay. (k + 1/2) / (n + 1) (Krichevsky & Trofimov 1981): 1/2 before any, never
    0 or 1.

    Args:
        dates: (forecasts,) datetime64[D], ascending.
        outcome: (forecasts,) bool.
        horizon: h, days.
        delay: days after the horizon until the outcome is known, e.g. the execution lag of a return.

    Returns:
        (forecasts,) probabilities.
    """
    counted = np.searchsorted(dates, dates - np.timedelta64(horizon + delay, "D"), side="right")
    happened = np.concatenate([[0.0], np.cumsum(outcome, dtype=float)])[counted]
    return (happened + 0.5) / (counted + 1.0)


def diebold_mariano(difference: np.ndarray, horizon: int) -> float:
    """t-statistic of a mean loss difference; Diebold & Mariano (1995) with Newey-West errors.

    Lags max(2 x horizon, the usual one) for horizons above 1: outcomes of daily forecasts overlap over the horizon and
    Bartlett weights with horizon - 1 lags would miss a third of the variance.

    Args:
        difference: (forecasts,) loss of the benchmark - loss of the forecast, in order of time.
        horizon: days.

    Returns:
        NaN with fewer than 60 forecasts or three horizons, or a constant difference.
    """
    n = len(difference)
    if n < max(MIN_BOOTSTRAP_DAYS, 3 * horizon) or np.ptp(difference) == 0.0:
        return float("nan")
    lags = max(newey_west_lag(n), 2 * horizon if horizon > 1 else 0)
    fit = hac_regression(difference, np.ones((n, 1)), lags)
    error = float(fit.standard_errors[0])
    return float(fit.coefficients[0]) / error if error > 0.0 else float("nan")


def probability_scores(forecasts: pl.DataFrame, *, delay: int) -> pl.DataFrame:
    """Scores of every method, event and horizon against the base rate known at the time.

    Args:
        forecasts: columns method, event, horizon_days, date, probability of the event and outcome (bool). Rows without
            an outcome (not known yet) are left out; those without a probability (no forecast) count for the base
            rate only.
        delay: days after date + horizon until an outcome is known (`base_rates`).

    Returns:
        `PROBABILITY_SCORES`; a method without any judged forecast has no row. `dm_t` compares log scores.

    Raises:
        ValueError: a probability outside [0, 1] or two forecasts for one key and day.
    """
    rows: list[dict[str, Any]] = []
    for key, group in _groups(forecasts):
        horizon = int(key["horizon_days"])
        base = base_rates(group["date"].to_numpy(), group["outcome"].to_numpy(), horizon, delay)
        judged = group.with_columns(base=base).drop_nulls("probability")
        if judged.is_empty():
            continue
        probability, outcome, base = (judged[name].to_numpy() for name in ("probability", "outcome", "base"))
        ours, theirs = log_scores(probability, outcome), log_scores(base, outcome)
        t = diebold_mariano(theirs - ours, horizon)
        rows.append(key | {
            "n": len(outcome),
            "base_rate": float(outcome.mean()),
            "brier": float(np.mean((probability - outcome) ** 2)),
            "brier_base": float(np.mean((base - outcome) ** 2)),
            "log_score": float(ours.mean()),
            "log_score_base": float(theirs.mean()),
            "dm_t": None if np.isnan(t) else t,
        })  # fmt: skip
    return PROBABILITY_SCORES.conform(pl.DataFrame(rows, schema=PROBABILITY_SCORES.schema))


def reliability(forecasts: pl.DataFrame, *, confidence: float, bins: int = BINS) -> pl.DataFrame:
    """Observed frequency by forecast, in bins of equal counts (equal forecasts share one, so there may be fewer).

    Intervals are Wilson's (1927), as if forecasts were independent; daily forecasts of overlapping outcomes are not,
    and theirs are too narrow.

    Args:
        forecasts: as in `probability_scores`.
        confidence: of the intervals.
        bins: at most.

    Returns:
        `RELIABILITY`.

    Raises:
        ValueError: as `probability_scores`.
    """
    from scipy.stats import binomtest

    rows: list[dict[str, Any]] = []
    for key, group in _groups(forecasts.drop_nulls("probability")):
        probability, outcome = group["probability"].to_numpy(), group["outcome"].to_numpy()
        edges = np.quantile(probability, np.linspace(0.0, 1.0, bins + 1)[1:-1])
        place = np.searchsorted(edges, probability)
        for number, value in enumerate(np.unique(place)):
            inside = place == value
            n, hits = int(inside.sum()), int(outcome[inside].sum())
            wilson = binomtest(hits, n).proportion_ci(confidence, method="wilson")
            rows.append(key | {
                "bin": number,
                "forecast": float(probability[inside].mean()),
                "observed": hits / n,
                "low": float(wilson.low),
                "high": float(wilson.high),
                "n": n,
            })  # fmt: skip
    return RELIABILITY.conform(pl.DataFrame(rows, schema=RELIABILITY.schema))


def _groups(forecasts: pl.DataFrame) -> Iterable[tuple[dict[str, Any], pl.DataFrame]]:
    judged = forecasts.select(_COLUMNS).drop_nulls("outcome").sort(*_KEYS, "date")
    wrong = judged.filter(~pl.col("probability").is_between(0.0, 1.0))
    if wrong.height:
        raise ValueError(f"not a probability: {wrong.row(0, named=True)}")
    twice = judged.filter(pl.struct(*_KEYS, "date").is_duplicated())
    if twice.height:
        raise ValueError(f"two forecasts for one day: {twice.row(0, named=True)}")
    for values, group in judged.group_by(_KEYS, maintain_order=True):
        yield dict(zip(_KEYS, values, strict=True)), group
