"""Information coefficients: does a feature's z-score, signed by its hypothesis, line up with later book returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.evaluation.contracts import FEATURE_IC
from majors_alts_pipeline.evaluation.horizons import HORIZONS, cover, forward_returns, sum_error
from majors_alts_pipeline.evaluation.inference import MIN_BOOTSTRAP_DAYS

_MIN_WHOLE_HORIZONS = 3


def feature_ic(
    scores: Mapping[str, np.ndarray],
    signs: Mapping[str, int],
    book_returns: np.ndarray,
    *,
    execution_lag: int,
    horizons: Sequence[int] = HORIZONS,
) -> pl.DataFrame:
    """Spearman correlation of sign x z with the book's forward return, by feature and horizon.

    The t-statistic is that of the forward return on the feature's rank, with the errors of daily terms (Hodrick 1992):
    overlapping returns and a persistent score make ordinary and Newey-West errors too small. It can differ in sign
    from the coefficient, which ranks both sides.

    Args:
        scores: (days,) z-score by feature, known at the close of the day; NaN where there is none.
        signs: +1 or -1 by feature: its hypothesis.
        book_returns: (days,) consecutive days, decimal price return of the always-on book; 0 while it holds nothing.
        execution_lag: days between decision and execution.
        horizons: days.

    Returns:
        `FEATURE_IC`; `ic` and `hac_t` null with fewer than 60 days or three whole horizons, or a constant score.

    Raises:
        ValueError: a score has another length, a sign is missing, or a return is not finite.
    """
    rows: list[dict[str, Any]] = []
    for feature, z in scores.items():
        if len(z) != len(book_returns) or feature not in signs:
            raise ValueError(
                f"{feature}: {len(z)} scores beside {len(book_returns)} returns, sign {signs.get(feature)}"
            )
        for horizon in horizons:
            forward = forward_returns(book_returns, horizon, execution_lag)
            signed = signs[feature] * z[: len(forward)]
            known = np.isfinite(signed)
            row = {"feature": feature, "horizon_days": horizon, "ic": None, "hac_t": None, "n_days": int(known.sum())}
            rows.append(row)
            if known.sum() < max(MIN_BOOTSTRAP_DAYS, _MIN_WHOLE_HORIZONS * horizon):
                continue
            if np.ptp(signed[known]) > 0.0 and np.ptp(forward[known]) > 0.0:
                row |= _correlation(signed, known, forward, book_returns, horizon, execution_lag)
    return FEATURE_IC.conform(pl.DataFrame(rows, schema=FEATURE_IC.schema))


def _correlation(
    signed: np.ndarray, known: np.ndarray, forward: np.ndarray, returns: np.ndarray, horizon: int, lag: int
) -> dict[str, float | None]:
    from scipy.stats import rankdata

    rank = rankdata(signed[known])
    rank -= rank.mean()
    decisions = np.zeros(len(signed))
    decisions[known] = rank
    terms = cover(decisions, len(returns), horizon, lag) * (returns - forward[known].mean() / horizon)
    error = sum_error(terms)
    return {
        "ic": float(np.corrcoef(rank, rankdata(forward[known]))[0, 1]),
        "hac_t": float(rank @ forward[known]) / error if error > 0.0 else None,
    }
