"""GARCH(1,1) of daily returns: fitted on the past by arch, filtered forward with fixed parameters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from math import isfinite

import numpy as np

PERCENT = 100.0
DIGITS = 6
"""Decimals kept of a fitted parameter, in percent units."""


IDENTIFIED = 1e-4
"""Weight of a shock below which a fit is at its bound: omega and beta are not identified there, and the variance
follows a path of its own, often down to nothing, whatever the returns do."""


@dataclass(frozen=True)
class GarchFit:
    """GARCH(1,1) with a constant mean, of returns in percent per day (Bollerslev 1986).

    r_t = mu + e_t,  Var(e_t | past) = s2_t = omega + alpha e_{t-1}^2 + beta s2_{t-1}.

    Attributes:
        refit: day from which the fit is in force, if it is usable; its returns end on the day before.
        n_obs: returns it was fitted to.
        mu: percent per day; this and the next three to `DIGITS` decimals.
        omega: percent squared.
        alpha: weight of the last squared shock.
        beta: weight of the last variance.
        start: variance before the first return, percent squared.
        log_likelihood: Gaussian.
        converged: the optimiser said so and every parameter is finite.
    """

    refit: date
    n_obs: int
    mu: float
    omega: float
    alpha: float
    beta: float
    start: float
    log_likelihood: float
    converged: bool

    @property
    def usable(self) -> bool:
        """Whether it converged, and to a variance that reacts to shocks."""
        return self.converged and self.alpha > IDENTIFIED


def fit_garch(returns: np.ndarray, refit: date) -> GarchFit:
    """Maximum-likelihood GARCH(1,1) of the returns that are not NaN (library arch).

    Args:
        returns: (days,) decimal per day.
        refit: day the fit is made on.
    """
    from arch.univariate import GARCH, ConstantMean

    percent = PERCENT * returns[np.isfinite(returns)]
    model = ConstantMean(percent, volatility=GARCH(1, 0, 1), rescale=False)
    result = model.fit(disp="off", show_warning=False)
    # The optimiser's last digits change with the process it runs in; far below the standard errors, they are cut off,
    # so that the same days give the same model everywhere.
    mu, omega, alpha, beta = (round(float(value), DIGITS) for value in result.params)
    start = float(model.volatility.backcast(percent - percent.mean()))
    likelihood = round(float(result.loglikelihood), DIGITS)
    sound = result.convergence_flag == 0 and bool(np.isfinite([mu, omega, alpha, beta, start, likelihood]).all())
    return GarchFit(refit, len(percent), mu, omega, alpha, beta, start, likelihood, sound)


def garch_volatility(returns: np.ndarray, fit: GarchFit) -> np.ndarray:
    """(days,) volatility of the day after each row, decimal per day, filtered from the first return on.

    A day without a return leaves the variance to its expectation, omega + (alpha + beta) s2; before the first return
    it stays where it starts.
    """
    shocks = PERCENT * returns - fit.mu
    variance = fit.start
    begun = False
    out = []
    for shock in shocks.tolist():
        if not begun and isfinite(shock):
            # The variance of the first return itself, both of its predecessors being the starting value.
            variance, begun = fit.omega + (fit.alpha + fit.beta) * fit.start, True
        if begun:
            squared = shock * shock if isfinite(shock) else variance
            variance = fit.omega + fit.alpha * squared + fit.beta * variance
        out.append(variance)
    return np.sqrt(np.array(out)) / PERCENT
