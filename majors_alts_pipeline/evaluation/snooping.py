"""Is the best of many variants better than the benchmark: Hansen's SPA, White's reality check and StepM.

Hansen (2005), White (2000), Romano & Wolf (2005), by `arch`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from majors_alts_pipeline.evaluation.inference import MIN_BOOTSTRAP_DAYS, block_length


@dataclass(frozen=True)
class Snooping:
    """Result of `superior_ability`.

    Attributes:
        lower: p-value of SPA that drops every variant worse than the benchmark; liberal.
        consistent: Hansen's p-value.
        upper: p-value with all variants recentred, White's reality check; conservative.
        superior: columns StepM finds better than the benchmark, with the family-wise error asked for.
        block: mean block length used, days.
    """

    lower: float
    consistent: float
    upper: float
    superior: tuple[int, ...]
    block: int


def superior_ability(returns: np.ndarray, benchmark: np.ndarray, reps: int, size: float, seed: int) -> Snooping | None:
    """Test that no variant has a higher mean return than the benchmark.

    The statistic is Hansen's studentised one: the excess returns of each variant are divided by their long-run
    standard deviation, because `arch` compares raw means whatever its `studentize` says, and the most volatile variant
    would decide. Stationary bootstrap of whole days, mean block the median over the variants of the optimal length of
    their excess returns: the default of sqrt(T) rejects too often. p-values are (1 + reps x p) / (1 + reps), never 0.

    Args:
        returns: (days, variants) decimal, finite.
        benchmark: (days,) decimal returns to beat; zeros for cash.
        reps: replications.
        size: family-wise error of StepM, e.g. 0.05.
        seed: same seed, same numbers.

    Returns:
        p-values; None with fewer than `MIN_BOOTSTRAP_DAYS` days or when no variant ever differs from the benchmark by
        more than a constant.

    Raises:
        ValueError: lengths differ or a return is not finite.
    """
    if len(returns) != len(benchmark):
        raise ValueError(f"{len(returns)} days of variants beside {len(benchmark)} of the benchmark")
    excess = returns - benchmark[:, None]
    if not np.isfinite(excess).all():
        raise ValueError("superior_ability needs finite returns")
    varies = np.std(excess, axis=0) > 1e-14 * np.max(np.abs(excess), axis=0, initial=0.0)
    columns = np.flatnonzero(varies)
    if len(excess) < MIN_BOOTSTRAP_DAYS or not len(columns):
        return None
    from arch.bootstrap import SPA

    excess = excess[:, columns]
    block = max(round(float(np.median([block_length(series) for series in excess.T]))), 1)
    scaled = excess / _long_run_deviation(excess, block)
    # arch takes losses: a variant's is minus its return.
    spa = SPA(np.zeros(len(scaled)), -scaled, block_size=block, reps=reps, seed=np.random.default_rng(seed))
    spa.compute()
    lower, consistent, upper = ((1.0 + reps * float(p)) / (1.0 + reps) for p in spa.pvalues)
    superior = np.zeros(len(columns), dtype=bool)
    # arch's StepM simulates anew and fails when every variant is superior.
    while not superior.all():
        spa.subset(~superior)
        spa.compute()
        better = spa.better_models(size)
        if not len(better):
            break
        superior[better] = True
    return Snooping(lower, consistent, upper, tuple(int(k) for k in columns[superior]), block)


def _long_run_deviation(excess: np.ndarray, block: int) -> np.ndarray:
    """(variants,) sqrt of T x the variance of the mean of each column under the stationary bootstrap.

    Politis & Romano (1994), lemma 1, with circular autocovariances by the periodogram: O(T log T) a variant.
    """
    days = len(excess)
    centred = excess - excess.mean(axis=0)
    spectrum = np.fft.rfft(centred, axis=0)
    covariances = np.fft.irfft(np.abs(spectrum) ** 2, n=days, axis=0) / days
    lag = np.arange(1, days)
    weights = np.concatenate([[1.0], 2.0 * (1.0 - lag / days) * (1.0 - 1.0 / block) ** lag])
    return np.sqrt(weights @ covariances)
