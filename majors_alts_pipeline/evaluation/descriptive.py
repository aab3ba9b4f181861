"""Descriptions of daily accounts with their errors: rolling risk, rolling betas, mean return by label."""

from __future__ import annotations

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import day_number
from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR, hac_regression
from majors_alts_pipeline.numerics.windows import window_sum

_BOOKS = ("regime", "always_on")
_F = pl.Float64()


def rolling_betas(backtest: pl.DataFrame, majors: pl.DataFrame, window: int) -> pl.DataFrame:
    """Realised betas of the regime and always_on accounts to BTC and ETH in a trailing window.

    Ordinary least squares of the account's daily gross return on a constant and the two daily returns;
    textbook (homoscedastic) standard errors. Gross returns, so that costs paid on days when the book turns do
    not enter a beta.

    Args:
        backtest: contract `backtest`.
        majors: (date, btc, eth) daily returns.
        window: days.

    Returns:
        (date, account, factor, beta, se, ex_ante): null until `window` days exist; `se` is null and `beta` 0
        where the account held nothing in the whole window. `ex_ante` is the book's beta at the close.
    """
    books = backtest.filter(pl.col("account").is_in(_BOOKS)).pivot("account", index="date", values="ret_gross")
    wide = books.join(majors, on="date").sort("date")
    if wide.height < window:
        return pl.DataFrame(schema=_ROLLING_BETAS)
    first = day_number(wide["date"][0])
    x1, x2 = wide["btc"].to_numpy(), wide["eth"].to_numpy()
    parts = [_two_factor(wide["date"], wide[name].to_numpy(), x1, x2, window, first, name) for name in _BOOKS]
    ex_ante = backtest.select("date", "account", "beta_btc", "beta_eth").unpivot(
        ["beta_btc", "beta_eth"], index=["date", "account"], variable_name="factor", value_name="ex_ante"
    )
    ex_ante = ex_ante.with_columns(pl.col("factor").str.strip_prefix("beta_"))
    return (
        pl.concat(parts)
        .join(ex_ante, on=["date", "account", "factor"], how="left")
        .select(list(_ROLLING_BETAS))
        .sort("account", "factor", "date", descending=[True, False, False])
    )


_ROLLING_BETAS = {"date": pl.Date(), "account": pl.String(), "factor": pl.String(), "beta": _F, "se": _F, "ex_ante": _F}


def _two_factor(
    days: pl.Series, y: np.ndarray, x1: np.ndarray, x2: np.ndarray, window: int, first: int, account: str
) -> pl.DataFrame:
    columns = np.column_stack([x1, x2, y, x1 * x1, x2 * x2, x1 * x2, x1 * y, x2 * y, y * y])
    sums = window_sum(columns, window, first)
    m1, m2, my = (sums[:, k] / window for k in range(3))
    s11 = sums[:, 3] - window * m1 * m1
    s22 = sums[:, 4] - window * m2 * m2
    s12 = sums[:, 5] - window * m1 * m2
    s1y = sums[:, 6] - window * m1 * my
    s2y = sums[:, 7] - window * m2 * my
    syy = sums[:, 8] - window * my * my
    with np.errstate(invalid="ignore", divide="ignore"):
        determinant = s11 * s22 - s12 * s12
        b1 = (s22 * s1y - s12 * s2y) / determinant
        b2 = (s11 * s2y - s12 * s1y) / determinant
        residual = np.maximum(syy - b1 * s1y - b2 * s2y, 0.0) / (window - 3)
        se1, se2 = np.sqrt(residual * s22 / determinant), np.sqrt(residual * s11 / determinant)
    idle = window_sum((y != 0).astype(np.float64), window, first) == 0
    frames = []
    for factor, beta, se in (("btc", b1, se1), ("eth", b2, se2)):
        frame = pl.DataFrame({"date": days, "beta": np.where(idle, 0.0, beta), "se": np.where(idle, np.nan, se)})
        frames.append(
            frame.with_columns(pl.col("beta", "se").fill_nan(None), account=pl.lit(account), factor=pl.lit(factor))
        )
    return pl.concat(frames).select("date", "account", "factor", "beta", "se")


def rolling_risk(backtest: pl.DataFrame, window: int) -> pl.DataFrame:
    """Sharpe ratio and volatility of the regime and always_on accounts in a trailing window.

    Args:
        backtest: contract `backtest`.
        window: days.

    Returns:
        (date, account, sharpe, sharpe_se, volatility, volatility_se), all annualised with 365 days: `sharpe_se` is
        Lo (2002), `volatility_se` = volatility / sqrt(2 (window - 1)), both as of iid (normal) returns; all null
        until `window` days exist, and `sharpe` where the window's returns do not vary.
    """
    year = np.sqrt(DAYS_PER_YEAR)
    frames = []
    for account in _BOOKS:
        one = backtest.filter(account=account).sort("date").select("date", "account", "ret_net")
        if one.height < window:
            continue
        returns = one["ret_net"].to_numpy()
        first = day_number(one["date"][0])
        mean = window_sum(returns, window, first) / window
        squares = window_sum(returns * returns, window, first)
        variance = np.maximum(squares - window * mean * mean, 0.0) / (window - 1)
        # What the two sums leave of a constant series is rounding, not variation.
        constant = variance <= 1e-12 * np.where(np.isnan(squares), 0.0, squares)
        sd = np.where(constant, 0.0, np.sqrt(variance))
        with np.errstate(invalid="ignore", divide="ignore"):
            daily = np.where(constant, np.nan, mean / np.where(constant, 1.0, sd))
        frames.append(
            one.select("date", "account").with_columns(
                pl.Series("sharpe", daily * year),
                pl.Series("sharpe_se", np.sqrt((1.0 + 0.5 * daily * daily) / window) * year),
                pl.Series("volatility", sd * year),
                pl.Series("volatility_se", sd * year / np.sqrt(2.0 * (window - 1))),
            )
        )
    if not frames:
        return pl.DataFrame(schema=_ROLLING_RISK)
    return pl.concat(frames).with_columns(pl.col(pl.Float64).fill_nan(None))


_ROLLING_RISK = {
    "date": pl.Date(), "account": pl.String(), "sharpe": _F, "sharpe_se": _F, "volatility": _F, "volatility_se": _F,
}  # fmt: skip


def label_means(backtest: pl.DataFrame, labels: tuple[str, ...], confidence: float) -> pl.DataFrame:
    """Mean daily net return of the regime and always_on accounts by the label carried out, with HAC intervals.

    One regression of the return on a dummy per label over all days with one of `labels`, Newey-West errors, so that
    the days of a label count with the gaps between them.

    Args:
        backtest: contract `backtest`.
        labels: labels, in the order of the rows.
        confidence: of the interval, normal quantiles.

    Returns:
        (account, label, n_days, mean, low, high), decimal per day; labels without a day are left out, and the
        interval is null with fewer than two days more than labels.
    """
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rows = []
    for account in _BOOKS:
        one = backtest.filter(pl.col("regime_traded").is_in(labels), account=account).sort("date")
        present = [label for label in labels if (one["regime_traded"] == label).any()]
        if not present:
            continue
        traded, returns = one["regime_traded"].to_numpy(), one["ret_net"].to_numpy()
        dummies = np.column_stack([traded == label for label in present]).astype(np.float64)
        enough = one.height > len(present) + 1
        half = z * hac_regression(returns, dummies).standard_errors if enough else np.full(len(present), np.nan)
        for k, label in enumerate(present):
            mean = float(returns[dummies[:, k] > 0].mean())
            rows.append((account, label, int(dummies[:, k].sum()), mean, mean - float(half[k]), mean + float(half[k])))
    return pl.DataFrame(rows, schema=_LABEL_MEANS, orient="row").with_columns(pl.col("low", "high").fill_nan(None))


_LABEL_MEANS = {"account": pl.String(), "label": pl.String(), "n_days": pl.Int64(), "mean": _F, "low": _F, "high": _F}
