"""One-day value at risk from past returns alone, and the tests of how often it was exceeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.evaluation.contracts import VAR_EXCEPTIONS

LEVELS = (0.01, 0.05)
DECAY = 0.94
"""RiskMetrics (1996) decay of the daily variance."""

_MIN_PAST = 100


def value_at_risk(returns: np.ndarray, level: float, window: int) -> np.ndarray:
    """(days,) return that the next day falls below with probability `level`; filtered historical simulation.

    Hull & White (1998), Barone-Adesi, Giannopoulos & Vosper (1999): quantile of the last `window` returns, each divided
    by the volatility expected for its day, times the volatility expected for the day. Volatility is an
    exponentially weighted one (decay 0.94) of the days before, started by the first day's square. The quantile is the
    (n + 1) x level-th smallest, interpolated: a further draw falls below it with probability `level`, below the usual
    (n - 1) x level + 1-th of 250 with 1.4 % for 1 %.

    Args:
        returns: (days,) decimal, finite.
        level: probability, in (0, 0.5).
        window: past days, >= 100.

    Returns:
        Element t uses returns before t only; NaN until 100 of them are known, and where the quantile of so few days
        is not one (1 / level days are needed).

    Raises:
        ValueError: a level or window outside its bounds, or a return is not finite.
    """
    if not 0.0 < level < 0.5 or window < _MIN_PAST or not np.isfinite(returns).all():
        raise ValueError(f"value_at_risk needs finite returns, 0 < level < 0.5 and window >= {_MIN_PAST}, "
                         f"got {level} and {window}")  # fmt: skip
    days = len(returns)
    forecast = np.full(days, np.nan)
    variance = np.full(days, np.nan)
    running = 0.0
    for t in range(1, days):
        running = returns[t - 1] ** 2 if t == 1 else DECAY * running + (1.0 - DECAY) * returns[t - 1] ** 2
        variance[t] = running
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(variance > 0.0, returns / np.sqrt(variance), np.nan)
    for t in range(max(_MIN_PAST, int(np.ceil(1.0 / level))) + 1, days):
        past = scaled[max(1, t - window) : t]
        past = past[np.isfinite(past)]
        if len(past) >= max(_MIN_PAST, 1.0 / level):
            forecast[t] = np.sqrt(variance[t]) * np.quantile(past, level, method="weibull")
    return forecast


def kupiec(n_days: int, n_exceptions: int, level: float) -> float:
    """Likelihood ratio of unconditional coverage, chi-squared(1); Kupiec (1995)."""
    share = n_exceptions / n_days
    return 2.0 * (_likelihood(n_exceptions, n_days, share) - _likelihood(n_exceptions, n_days, level))


@dataclass(frozen=True)
class Transitions:
    """Days by whether the day before and the day itself were exceptions (1) or not (0)."""

    n00: int
    n01: int
    n10: int
    n11: int


def christoffersen(moves: Transitions) -> float:
    """Likelihood ratio of independence against a first-order Markov chain, chi-squared(1); Christoffersen (1998).

    Returns:
        NaN where no exception (or nothing but exceptions) has a day after it: there is nothing to compare.
    """
    after_calm, after_exception = moves.n00 + moves.n01, moves.n10 + moves.n11
    if not after_calm or not after_exception:
        return float("nan")
    exceptions, days = moves.n01 + moves.n11, after_calm + after_exception
    chain = _likelihood(moves.n01, after_calm, moves.n01 / after_calm) + _likelihood(
        moves.n11, after_exception, moves.n11 / after_exception
    )
    return max(2.0 * (chain - _likelihood(exceptions, days, exceptions / days)), 0.0)


def _likelihood(hits: int, days: int, probability: float) -> float:
    """Bernoulli log-likelihood; 0 ln 0 = 0."""
    from scipy.special import xlog1py, xlogy

    return float(xlogy(hits, probability) + xlog1py(days - hits, -probability))


def var_exceptions(
    returns: np.ndarray, invested: np.ndarray, account: str, *, window: int, levels: Sequence[float] = LEVELS
) -> pl.DataFrame:
    """Value at risk of an account's invested days against what happened.

    Days without a position are no risk taken: they are left out of the past, the forecasts and the counts, and two
    invested days with idle ones between them are no transition.

    Args:
        returns: (days,) decimal net returns.
        invested: (days,) bool: a position was held over the day.
        account: name, for the frame.
        window: invested days of the trailing sample.
        levels: probabilities of an exception.

    Returns:
        `VAR_EXCEPTIONS`, one row a level. Likelihood ratios are null without a forecast; those of independence and
        conditional coverage also without an exception that has a day after it; `es` without an exception.

    Raises:
        ValueError: lengths differ, or as `value_at_risk`.
    """
    from scipy.stats import chi2

    if len(returns) != len(invested):
        raise ValueError(f"{len(returns)} returns beside {len(invested)} flags")
    day = np.flatnonzero(invested)
    held = returns[day]
    rows: list[dict[str, Any]] = []
    for level in levels:
        forecast = value_at_risk(held, level, window)
        known = np.isfinite(forecast)
        hit = held < np.where(known, forecast, -np.inf)
        n, hits = int(known.sum()), int(hit.sum())
        row: dict[str, Any] = {
            "account": account, "level": level, "n_days": n, "n_exceptions": hits, "expected": level * n,
            "kupiec_lr": None, "kupiec_p": None, "independence_lr": None, "coverage_p": None,
            "es": float(held[hit].mean()) if hits else None,
        }  # fmt: skip
        rows.append(row)
        if not n:
            continue
        ratio = kupiec(n, hits, level)
        row |= {"kupiec_lr": ratio, "kupiec_p": float(chi2.sf(ratio, 1))}
        independence = christoffersen(_transitions(hit, known, day))
        if not np.isnan(independence):
            row |= {"independence_lr": independence, "coverage_p": float(chi2.sf(ratio + independence, 2))}
    return VAR_EXCEPTIONS.conform(pl.DataFrame(rows, schema=VAR_EXCEPTIONS.schema))


def _transitions(hit: np.ndarray, known: np.ndarray, day: np.ndarray) -> Transitions:
    follows = known[1:] & known[:-1] & (np.diff(day) == 1)
    before, after = hit[:-1][follows], hit[1:][follows]
    return Transitions(
        n00=int(np.sum(~before & ~after)), n01=int(np.sum(~before & after)),
        n10=int(np.sum(before & ~after)), n11=int(np.sum(before & after)),
    )  # fmt: skip
