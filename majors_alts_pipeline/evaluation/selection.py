"""What a Sharpe ratio is worth after selection: probabilistic and deflated Sharpe, track-record and backtest length.

Sharpe ratios here are per period (mean / sd, ddof 1) unless a name says annual; kurtosis is not excess (3 for a
normal). Annualised ratios or excess kurtosis in these formulas give wrong probabilities without an error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR, sharpe_ratios

_YEAR = float(np.sqrt(DAYS_PER_YEAR))
MIN_DAYS = 3
"""Fewer returns have no skewness worth the name."""


@dataclass(frozen=True)
class Moments:
    """What the Sharpe formulas need of a series of returns.

    Attributes:
        sharpe: mean / sd per period.
        skew: third standardised moment, biased estimator.
        kurtosis: fourth standardised moment, biased estimator, 3 for a normal.
        n: observations.
    """

    sharpe: float
    skew: float
    kurtosis: float
    n: int


def moments(returns: np.ndarray) -> Moments | None:
    """`Moments` of (periods,) decimal returns; None for fewer than `MIN_DAYS` or constant ones.

    Raises:
        ValueError: a return is not finite.
    """
    if not np.isfinite(returns).all():
        raise ValueError(f"returns[{int(np.argmin(np.isfinite(returns)))}] is not finite")
    if len(returns) < MIN_DAYS:
        return None
    sharpe = float(daily_sharpes(returns[:, None])[0])
    if np.isnan(sharpe):
        return None
    centred = returns - returns.mean()
    second = float(np.mean(centred**2))
    return Moments(
        sharpe=sharpe,
        skew=float(np.mean(centred**3)) / second**1.5,
        kurtosis=float(np.mean(centred**4)) / second**2,
        n=len(returns),
    )


def daily_sharpes(returns: np.ndarray) -> np.ndarray:
    """(trials,) mean / sd of each column of (days, trials); NaN for a constant column."""
    return sharpe_ratios(np.ascontiguousarray(returns.T)) / _YEAR


def probabilistic_sharpe(of: Moments, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio exceeds `benchmark` (per period); Bailey & Lopez de Prado (2012).

    PSR = Phi[(SR - SR*) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)]. Returns are taken as independent.

    Returns:
        In [0, 1]; NaN where the variance in the denominator is not positive.
    """
    from scipy.stats import norm

    variance = _sharpe_variance(of)
    if variance <= 0.0:
        return float("nan")
    return float(norm.cdf((of.sharpe - benchmark) * np.sqrt(of.n - 1) / np.sqrt(variance)))


def _sharpe_variance(of: Moments) -> float:
    """Variance of the estimated Sharpe ratio x number of observations (Mertens 2002)."""
    return 1.0 - of.skew * of.sharpe + (of.kurtosis - 1.0) / 4.0 * of.sharpe**2


def expected_max_sharpe(n_trials: float, sd: float) -> float:
    """Sharpe ratio expected of the best of `n_trials` independent trials without skill.

    Bailey & Lopez de Prado (2014): sd x [(1 - g) Z(1 - 1/N) + g Z(1 - 1/(N e))], g Euler's constant; 0 for one trial,
    and never below it (the approximation turns negative for N < 1.4).

    Args:
        n_trials: independent trials, >= 1, possibly fractional (`effective_trials`).
        sd: standard deviation of the trials' Sharpe ratios; the result has its unit.

    Raises:
        ValueError: fewer than one trial or a negative or missing deviation.
    """
    from scipy.stats import norm

    if not n_trials >= 1.0 or not sd >= 0.0:
        raise ValueError(f"expected_max_sharpe needs n_trials >= 1 and sd >= 0, got {n_trials} and {sd}")
    if n_trials == 1.0:
        return 0.0
    first, second = norm.ppf(1.0 - 1.0 / n_trials), norm.ppf(1.0 - 1.0 / (n_trials * np.e))
    return max(float(sd * ((1.0 - np.euler_gamma) * first + np.euler_gamma * second)), 0.0)


def deflated_sharpe(of: Moments, n_trials: float, trials_sd: float) -> float:
    """Probability that the Sharpe ratio of the best of `n_trials` is above what luck would give.

    Bailey & Lopez de Prado (2014): `probabilistic_sharpe` against `expected_max_sharpe`.

    Args:
        of: the selected trial.
        n_trials: independent trials behind the selection, failures included.
        trials_sd: standard deviation of the trials' Sharpe ratios, per period.
    """
    return probabilistic_sharpe(of, expected_max_sharpe(n_trials, trials_sd))


def min_track_record(of: Moments, benchmark: float, confidence: float) -> float:
    """Periods until a Sharpe ratio like this is above `benchmark` with `confidence`; Bailey & Lopez de Prado (2012).

    MinTRL = 1 + (1 - g3 SR + (g4 - 1) / 4 SR^2) (Z / (SR - SR*))^2.

    Returns:
        Periods; infinite where the ratio is not above the benchmark.
    """
    from scipy.stats import norm

    if of.sharpe <= benchmark:
        return float("inf")
    return 1.0 + _sharpe_variance(of) * (float(norm.ppf(confidence)) / (of.sharpe - benchmark)) ** 2


def min_backtest_length(n_trials: float, target_annual: float) -> float:
    """Years a backtest must have so that the best of `n_trials` without skill is expected below `target_annual`.

    Bailey, Borwein, Lopez de Prado & Zhu (2014): (E[max] / target)^2 < 2 ln N / target^2, where the annual Sharpe
    ratio of one year without skill has standard deviation 1.
    """
    return (expected_max_sharpe(n_trials, 1.0) / target_annual) ** 2


def effective_trials(returns: np.ndarray) -> float:
    """Independent trials among correlated ones, from the eigenvalues of the correlation of their returns.

    Li & Ji (2005): the sum over eigenvalues of [l >= 1] + (l - floor l). Identical trials count once,
    nearly identical ones up to twice, uncorrelated ones each, whatever the sizes of the groups. An eigenvalue ratio
    (sum l)^2 / sum l^2 would let one large group hide a hundred others; the average correlation (Bailey & Lopez de
    Prado 2014) sees no groups; silhouettes (Lopez de Prado 2018) have nothing to find among uncorrelated trials.
    O(N^3).

    Limits: it counts a trial and its mirror image as one, and cannot exceed about 1.5 x days.

    Args:
        returns: (days, trials) decimal, finite. Constant columns (never traded) count together as one trial.

    Returns:
        In [1, trials].

    Raises:
        ValueError: no trial, fewer than `MIN_DAYS` days, or a return is not finite.
    """
    days, trials = returns.shape
    if trials == 0 or days < MIN_DAYS or not np.isfinite(returns).all():
        raise ValueError(f"effective_trials needs finite returns of a trial on {MIN_DAYS} days, got {returns.shape}")
    varies = np.isfinite(daily_sharpes(returns))
    idle = float(not varies.all())
    if not varies.any():
        return 1.0
    centred = returns[:, varies] - returns[:, varies].mean(axis=0)
    scaled = centred / np.sqrt(np.sum(centred**2, axis=0))
    # Rounding must not make 0.999... of an eigenvalue that is a whole number.
    eigenvalues = np.round(np.maximum(np.linalg.eigvalsh(scaled.T @ scaled), 0.0), 9)
    count = float(np.sum((eigenvalues >= 1.0) + eigenvalues - np.floor(eigenvalues)))
    return min(max(count, 1.0) + idle, float(trials))


def trials_deviation(returns: np.ndarray) -> float:
    """Standard deviation of the trials' daily Sharpe ratios, at least that of one trial without skill, 1 / sqrt(T).

    A crowd of near copies differs by next to nothing while the luck it shares is whole: its own dispersion would put
    the hurdle of `expected_max_sharpe` far too low (0.062 for 0.100 with 80 copies beside 20 others). Real
    differences of skill raise it.

    Args:
        returns: (days, trials) decimal, finite; constant columns have no Sharpe ratio and are left out.

    Raises:
        ValueError: fewer than two days.
    """
    if len(returns) < 2:
        raise ValueError(f"trials_deviation needs two days, got {len(returns)}")
    sharpes = daily_sharpes(returns)
    sharpes = sharpes[np.isfinite(sharpes)]
    dispersion = float(np.std(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0
    return max(dispersion, 1.0 / float(np.sqrt(len(returns))))


def annualisation_factor(periods: int, autocorrelation: float) -> float:
    """What a per-period Sharpe ratio is multiplied by over `periods` AR(1) returns; Lo (2002), eq. 20.

    eta(q) = q / sqrt(q + 2 sum_{k<q} (q - k) rho^k); sqrt(q) without autocorrelation.

    Raises:
        ValueError: `periods` < 1 or |autocorrelation| >= 1.
    """
    if periods < 1 or abs(autocorrelation) >= 1.0:
        raise ValueError(f"annualisation_factor needs periods >= 1 and |rho| < 1, got {periods}, {autocorrelation}")
    k = np.arange(1, periods)
    return float(periods / np.sqrt(periods + 2.0 * np.sum((periods - k) * autocorrelation**k)))
