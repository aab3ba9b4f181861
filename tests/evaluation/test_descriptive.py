"""Rolling risk, rolling betas and means by label, against statsmodels and against identities."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from majors_alts_pipeline.evaluation import descriptive
from majors_alts_pipeline.evaluation.inference import sharpe_ratio, sharpe_standard_error

N_DAYS = 300


@pytest.fixture(scope="module")
def majors():
    rng = np.random.default_rng(8)
    days = [date(2024, 1, 1) + timedelta(days=k) for k in range(N_DAYS)]
    btc = 0.03 * rng.standard_normal(N_DAYS)
    return pl.DataFrame({"date": days, "btc": btc, "eth": 0.8 * btc + 0.02 * rng.standard_normal(N_DAYS)})


@pytest.fixture(scope="module")
def backtest(majors):
    """Two books; the timed one is idle until day 130."""
    rng = np.random.default_rng(9)
    labels = np.array(["RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS"])[np.arange(N_DAYS) // 12 % 3]
    frames = []
    for account, idle in (("always_on", 0), ("regime", 130)):
        ret = 0.001 + 0.2 * majors["btc"].to_numpy() + 0.01 * rng.standard_normal(N_DAYS)
        ret[:idle] = 0.0
        frames.append(majors.select("date").with_columns(
            pl.Series("ret_gross", ret), pl.Series("ret_net", ret), account=pl.lit(account), beta_btc=pl.lit(0.01),
            beta_eth=pl.lit(0.02), regime_traded=pl.Series(labels),
        ))  # fmt: skip
    return pl.concat(frames)


def test_rolling_betas_equal_statsmodels(backtest, majors):
    from statsmodels.regression.rolling import RollingOLS
    from statsmodels.tools import add_constant

    window = 60
    got = descriptive.rolling_betas(backtest, majors, window).filter(account="always_on")
    y = backtest.filter(account="always_on").sort("date")["ret_gross"].to_numpy()
    fit = RollingOLS(y, add_constant(majors.select("btc", "eth").to_numpy()), window=window).fit()
    known = slice(window - 1, None)
    for k, factor in enumerate(("btc", "eth"), start=1):
        one = got.filter(factor=factor)
        assert np.allclose(one["beta"].to_numpy()[known], fit.params[known, k], rtol=1e-7, atol=1e-10)
        assert np.allclose(one["se"].to_numpy()[known], fit.bse[known, k], rtol=1e-7)
    assert got["beta"].null_count() == 2 * (window - 1)


def test_rolling_betas_of_an_idle_book_are_zero_and_of_btc_one(backtest, majors):
    idle = pl.when(pl.col("account") == "regime").then(0.0)
    btc = backtest.select("date", "account").join(majors, on="date", how="left")["btc"]
    twisted = backtest.with_columns(ret_gross=idle.otherwise(btc))
    got = descriptive.rolling_betas(twisted, majors, 60).drop_nulls("beta")
    assert (got.filter(account="regime")["beta"] == 0).all()
    assert got.filter(account="regime")["se"].null_count() == got.filter(account="regime").height
    assert np.allclose(got.filter(account="always_on", factor="btc")["beta"], 1.0, atol=1e-9)
    assert np.allclose(got.filter(account="always_on", factor="eth")["beta"], 0.0, atol=1e-9)
    assert descriptive.rolling_betas(backtest.filter(pl.col("date") < date(2024, 1, 11)), majors, 60).height == 0


def test_rolling_risk_is_that_of_each_window_alone(backtest):
    window = 60
    got = descriptive.rolling_risk(backtest, window).filter(account="always_on").sort("date")
    returns = backtest.filter(account="always_on").sort("date")["ret_net"].to_numpy()
    assert got["sharpe"].null_count() == window - 1
    for end in (window, 111, N_DAYS):
        alone = returns[end - window : end]
        row = got.row(end - 1, named=True)
        assert row["sharpe"] == pytest.approx(sharpe_ratio(alone), rel=1e-9)
        assert row["sharpe_se"] == pytest.approx(sharpe_standard_error(sharpe_ratio(alone), window), rel=1e-9)
        assert row["volatility"] == pytest.approx(alone.std(ddof=1) * 365**0.5, rel=1e-9)
        assert row["volatility_se"] == pytest.approx(row["volatility"] / (2 * (window - 1)) ** 0.5)


def test_an_idle_window_has_no_sharpe_ratio_and_no_volatility(backtest):
    got = descriptive.rolling_risk(backtest, 60).filter(account="regime").sort("date").head(130).tail(60)
    assert got["sharpe"].null_count() == 60
    assert (got["volatility"] == 0).all()
    assert descriptive.rolling_risk(backtest.head(20), 60).height == 0


def test_means_by_label_equal_statsmodels_dummies(backtest):
    from statsmodels.api import OLS

    labels = ("RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS")
    got = descriptive.label_means(backtest, labels, 0.95).filter(account="always_on")
    one = backtest.filter(account="always_on").sort("date")
    dummies = np.column_stack([(one["regime_traded"] == label).to_numpy() for label in labels]).astype(float)
    lags = int(4 * (N_DAYS / 100) ** (2 / 9))
    fit = OLS(one["ret_net"].to_numpy(), dummies).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    assert np.allclose(got["mean"], fit.params, rtol=1e-9)
    assert np.allclose(got.select("low", "high").to_numpy(), fit.conf_int(0.05), rtol=1e-6)
    assert got["n_days"].to_list() == [108, 96, 96]


def test_a_label_without_a_day_is_left_out(backtest):
    labels = ("RISK_ON_MAJORS", "NEVER")
    got = descriptive.label_means(backtest, labels, 0.95)
    assert got["label"].unique().to_list() == ["RISK_ON_MAJORS"]
    assert descriptive.label_means(backtest, ("NEVER",), 0.95).height == 0
    few = descriptive.label_means(backtest.filter(pl.col("date") < date(2024, 1, 3)), labels, 0.95)
    assert few["low"].null_count() == few.height == 2
