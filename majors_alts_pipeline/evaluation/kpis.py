"""The full KPI set of every account: overall, by regime, by year and by fold, with intervals.

All accounts are judged over the same days, from the first day any of them traded. A slice (a regime, a
year, a fold) is the days it names, joined in order: its return compounds them, its drawdown runs along them.
The account `random_regimes` is a mean of accounts: what describes one account's path is null (`PATH_KPIS`) unless
`backtest.random_paths` is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation.inference import (
    DAYS_PER_YEAR,
    bootstrap_interval,
    circular_shifts,
    hac_regression,
    regime_edge_test,
    sharpe_ratio,
    sharpe_ratios,
    sharpe_standard_error,
)
from majors_alts_pipeline.evaluation.stage import COSTS, MIN_CAGR_DAYS, evaluation_start, without_path_kpis

FACTORS = ("btc", "eth")
_MIN_BETA_DAYS = 30
_ACCOUNT_OF_EDGE = "always_on"
_TIMED = "regime"
_TRADING_COSTS = ("cost_fees", "cost_slippage", "cost_impact")
_TURNOVER = ("turnover", "turnover_major", "turnover_alt")


def overall(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row per account: every KPI over the whole evaluated window (see `_row` for columns and units)."""
    return _table(_days(backtest, panel, settings), [], settings)


def by_regime(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row per account and label known when the position was decided (`regime_traded`).

    Trading at a close where the label changes is booked to the label with the larger exposure, the new one if
    equal: a label pays its own entries and exits, a label under which nothing is held pays neither. An entry is
    paid on the label's first day, one day after its close; labels still sum and compound to the account.
    """
    days = _entries_with_their_label(_days(backtest, panel, settings), settings)
    days = days.with_columns(label=pl.col("regime_traded"))
    return _table(days, ["label"], settings)


def _entries_with_their_label(days: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Move the trading of closes that lead to a label of no smaller exposure to the next day, its first."""
    share = pl.col("regime_traded").replace_strict(settings.regime.exposure, default=0.0, return_dtype=pl.Float64)
    label = pl.col("regime_traded")
    changes = label.shift(-1).over("account") != label
    untraded = pl.col("ret_gross") - pl.col("cost_exit_haircut") / pl.col("before")
    marked = days.sort("account", "date").with_columns(
        _share=share, _untraded=untraded, _rate=pl.sum_horizontal(_TRADING_COSTS) / pl.col("before")
    )
    marked = marked.with_columns(
        _moves=(changes & (pl.col("_share").shift(-1).over("account") >= pl.col("_share"))).fill_null(False),
        # What trading left of the day's growth; times the growth without trading it is the day's.
        _left=(1.0 + pl.col("ret_net")) / (1.0 + pl.col("_untraded")),
    )
    came = pl.col("_moves").shift(1).over("account").fill_null(False)

    def booked(name: str, own: str) -> pl.Expr:
        """Column `own` of the day where it stays, and of the eve where the eve's trading comes here."""
        stays, comes = pl.when(~pl.col("_moves")).then(own), pl.when(came).then(pl.col(own).shift(1).over("account"))
        return (stays.otherwise(0.0) + comes.otherwise(0.0)).alias(name)

    growth = 1.0 + pl.when("_moves").then("_untraded").otherwise("ret_net")
    left_by_eve = pl.col("_left").shift(1).over("account")
    return marked.with_columns(
        pl.when(came).then(growth * left_by_eve - 1.0).when("_moves").then("_untraded").otherwise("ret_net")
        .alias("ret_net"),
        *(booked(name, name) for name in _TURNOVER),
        booked("_booked", "_rate"),
    ).with_columns(
        # Costs are summed in USD of their own day; what came is restated at this day's NAV of the eve.
        cost_fees=pl.col("_booked") * pl.col("before"), cost_slippage=pl.lit(0.0), cost_impact=pl.lit(0.0),
    ).select(days.columns)  # fmt: skip


def walk_forward_only(
    backtest: pl.DataFrame, regime: pl.DataFrame, panel: pl.DataFrame, settings: Settings
) -> pl.DataFrame:
    """One row each for `regime` and `always_on`: KPIs of the days decided by a walk-forward model.

    These are the days whose position carries out a decision of a day with `in_force` walk_forward; before them
    the default parameters decided.
    """
    lag = settings.backtest.execution_lag_days + 1
    decided = regime.filter(
        (pl.col("method") == settings.regime.method) & (pl.col("in_force") == "walk_forward")
    ).select(pl.col("date").dt.offset_by(f"{lag}d"))
    accounts = backtest.filter(pl.col("account").is_in([_TIMED, _ACCOUNT_OF_EDGE]))
    return _table(_days(accounts, panel, settings).join(decided, on="date", how="semi"), [], settings)


def by_year(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row per account and calendar year."""
    days = _days(backtest, panel, settings).with_columns(year=pl.col("date").dt.year())
    return _table(days, ["year"], settings)


def by_fold(backtest: pl.DataFrame, panel: pl.DataFrame, regime: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row per account and fold: the refit date of the model whose decision was carried out."""
    lag = settings.backtest.execution_lag_days + 1
    folds = regime.filter((pl.col("method") == settings.regime.method) & pl.col("model_asof").is_not_null()).select(
        pl.col("date").dt.offset_by(f"{lag}d"), fold="model_asof"
    )
    return _table(_days(backtest, panel, settings).join(folds, on="date", how="inner"), ["fold"], settings)


def neutrality(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """How neutral each account was to each factor, over its invested days.

    Returns:
        account, factor (btc, eth); `ex_ante_mean` and `ex_ante_abs` = mean and mean absolute beta of the
        drifted book at the close before; `ex_post` = realised beta from one regression on both factors with
        its Newey-West interval `ex_post_low`, `ex_post_high`; `error` = ex_post - ex_ante_mean; `n_days`;
        `ex_ante_p95`, `ex_ante_max` = 95 % quantile and maximum of |ex-ante beta|, and `ex_ante_max_date` = the
        close of the maximum (the first, if several).
    """
    rows = []
    for account, days in _groups(_days(backtest, panel, settings).filter("invested"), ["account"]):
        betas = _realised_betas(days, settings.evaluation.confidence)
        for factor in FACTORS:
            ex_ante = days[f"ante_{factor}"].to_numpy()
            ex_post = betas[f"beta_{factor}"]
            mean, size = float(np.mean(ex_ante)), np.abs(ex_ante)
            worst = int(np.argmax(size))
            rows.append({
                **account,
                "factor": factor,
                "ex_ante_mean": mean,
                "ex_ante_abs": float(np.mean(size)),
                "ex_post": ex_post,
                "ex_post_low": betas[f"beta_{factor}_low"],
                "ex_post_high": betas[f"beta_{factor}_high"],
                "error": None if ex_post is None else ex_post - mean,
                "n_days": days.height,
                "ex_ante_p95": float(np.quantile(size, 0.95)),
                "ex_ante_max": float(size[worst]),
                "ex_ante_max_date": days["eve"][worst],
            })  # fmt: skip
    return pl.DataFrame(rows, schema=_NEUTRALITY_SCHEMA)


def largest_exposures(backtest: pl.DataFrame, positions: pl.DataFrame) -> pl.DataFrame:
    """How far each account went, drift and volatility target included: the basket's caps bind before both.

    Args:
        backtest: contract `backtest`.
        positions: contract `positions`; accounts it does not hold have no largest weight.

    Returns:
        account; `gross_exposure` (fraction of NAV) and its `gross_date`; `alt_weight` (absolute, fraction of
        NAV), its `alt_asset_id` and `alt_date`. The first day, then name, where several are largest.
    """
    gross = (
        backtest.sort(["gross_exposure", "date"], descending=[True, False])
        .group_by("account", maintain_order=True)
        .agg(pl.col("gross_exposure", "date").first())
        .rename({"date": "gross_date"})
    )
    alts = positions.filter(pl.col("leg") == "alt").with_columns(alt_weight=pl.col("weight").abs())
    weights = (
        alts.sort(["alt_weight", "date", "asset_id"], descending=[True, False, False])
        .group_by("account", maintain_order=True)
        .agg(pl.col("alt_weight").first(), alt_asset_id=pl.col("asset_id").first(), alt_date=pl.col("date").first())
    )
    return gross.join(weights, on="account", how="left").sort("account")


def timing_placebo(backtest: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row: the timed account's price P&L against the same exposure path shifted in time.

    The path is the exposure of the label each position was decided under (`regime.exposure`), on the days the
    always-on book was held. `timed` = mean of path x the always-on book's price return; the placebos are the same
    with the path shifted circularly, every shift, so they hold the book as much, and switch as often, at other
    times. Costs are not in it.

    Returns:
        `account_mean` (mean daily price return of the account regime itself, which differs from `timed` by drift and
        rebalancing), `timed`, `placebo_mean`, `placebo_sd`, `placebo_p05`, `placebo_p95` (decimal per day);
        `percentile` of `timed` among the placebos, ties half; one-sided `p_greater` and `p_less`, by the t of
        `circular_shifts` where the exposure takes two values, else by the sums the placebos are made of;
        `exposure_mean`; `n_days`; `n_shifts`. Null where the path never varies or there are too few days.
    """
    held = _with_previous(backtest, settings).with_columns(earned=pl.col("pnl_price") / pl.col("before"))
    book = held.filter((pl.col("account") == _ACCOUNT_OF_EDGE) & pl.col("invested"))
    timed = held.filter(pl.col("account") == _TIMED).join(book, on="date", how="semi")
    label = pl.col("regime_traded")
    path = book.select(label.replace_strict(settings.regime.exposure, default=0.0, return_dtype=pl.Float64))
    exposure, returns = path.to_series().to_numpy(), book["earned"].to_numpy()
    row: dict[str, Any] = {"account_mean": timed["earned"].mean(), "n_days": book.height, "n_shifts": 0}
    if book.height:
        row |= {"timed": float(np.mean(exposure * returns)), "exposure_mean": float(np.mean(exposure))}
        shifts = circular_shifts(exposure, returns, settings.evaluation.seed)
        if shifts is not None:
            # Shifting leaves the path's mean alone, so demeaned returns only took a constant away.
            placebos = shifts.shifted / book.height + float(np.mean(exposure) * np.mean(returns))
            n, greater, less = len(placebos), shifts.p_greater(), shifts.p_less()
            levels = np.unique(exposure)
            flags = circular_shifts(exposure == levels[-1], returns, settings.evaluation.seed)
            judged = flags if flags is not None and len(levels) == 2 else shifts
            row |= {
                "placebo_mean": float(np.mean(placebos)), "placebo_sd": float(np.std(placebos, ddof=1)),
                "placebo_p05": float(np.quantile(placebos, 0.05)), "placebo_p95": float(np.quantile(placebos, 0.95)),
                "percentile": 0.5 + 0.5 * (n + 1) * (less - greater) / n,
                "p_greater": judged.p_greater(), "p_less": judged.p_less(), "n_shifts": n,
            }  # fmt: skip
    return pl.DataFrame([row], schema=_PLACEBO_SCHEMA)


def regime_edge(backtest: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """One row: whether the always-on book's price P&L differs by the label its position was decided under.

    Returns:
        p_value (two-sided, circular shifts; null when it cannot be tested), difference, mean_on, mean_off
        (decimal per day), hac_t, n_on, n_off, n_shifts, p_greater and p_less (one-sided),
        minimum_detectable_effect (decimal per day; 80 % power, 5 % two-sided).
    """
    book = _with_previous(backtest, settings).filter((pl.col("account") == _ACCOUNT_OF_EDGE) & pl.col("invested"))
    returns = (book["pnl_price"] / book["before"]).to_numpy()
    test = regime_edge_test(book["regime_traded"].to_numpy(), returns, settings.evaluation.seed)
    return pl.DataFrame([vars(test)]).with_columns(pl.col(pl.Float64).fill_nan(None))


_NEUTRALITY_SCHEMA = {
    "account": pl.String, "factor": pl.String, "ex_ante_mean": pl.Float64, "ex_ante_abs": pl.Float64,
    "ex_post": pl.Float64, "ex_post_low": pl.Float64, "ex_post_high": pl.Float64, "error": pl.Float64,
    "n_days": pl.Int64, "ex_ante_p95": pl.Float64, "ex_ante_max": pl.Float64, "ex_ante_max_date": pl.Date,
}  # fmt: skip

_PLACEBO_SCHEMA = {
    **dict.fromkeys((
        "account_mean", "timed", "placebo_mean", "placebo_sd", "placebo_p05", "placebo_p95", "percentile", "p_greater",
        "p_less", "exposure_mean",
    ), pl.Float64),
    "n_days": pl.Int64, "n_shifts": pl.Int64,
}  # fmt: skip


def _with_previous(backtest: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Add to backtest the previous NAV, whether a position was held over the day, and its ex-ante betas."""
    return backtest.sort("account", "date").with_columns(
        before=pl.col("nav").shift(1).over("account").fill_null(settings.backtest.capital_usd),
        invested=(pl.col("n_positions").shift(1).over("account") > 0).fill_null(False),
        eve=pl.col("date").shift(1).over("account"),
        ante_btc=pl.col("beta_btc").shift(1).over("account"),
        ante_eth=pl.col("beta_eth").shift(1).over("account"),
    )


def _days(backtest: pl.DataFrame, panel: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Keep the evaluated days of every account, with the majors' returns (null where a major has none)."""
    start = evaluation_start(backtest)
    days = _with_previous(backtest, settings).filter(pl.col("date") >= start if start else pl.lit(False))
    for factor, asset in zip(FACTORS, settings.lake.majors, strict=True):
        returns = panel.filter(pl.col("asset_id") == asset).select("date", pl.col("ret").alias(f"ret_{factor}"))
        days = days.join(returns, on="date", how="left", maintain_order="left")
    return days.sort("account", "date")


def _groups(days: pl.DataFrame, keys: list[str]) -> Iterable[tuple[dict[str, Any], pl.DataFrame]]:
    for values, rows in days.sort(*keys, "date").group_by(keys, maintain_order=True):
        yield dict(zip(keys, values, strict=True)), rows


def _table(days: pl.DataFrame, keys: list[str], settings: Settings) -> pl.DataFrame:
    key_schema = {name: days.schema[name] for name in ["account", *keys]}
    rows = [{**key, **_row(group, settings)} for key, group in _groups(days, ["account", *keys])]
    return without_path_kpis(pl.DataFrame(rows, schema=key_schema | _ROW_SCHEMA), settings)


_ROW_SCHEMA: dict[str, Any] = {
    "n_days": pl.Int64, "n_episodes": pl.Int64, "n_invested_days": pl.Int64,
    **dict.fromkeys((
        "total_return", "total_return_gross", "cagr", "volatility", "sharpe", "sharpe_low", "sharpe_high",
        "sharpe_se", "sharpe_gross", "sortino", "max_drawdown",
    ), pl.Float64),
    "max_drawdown_days": pl.Int64,
    **dict.fromkeys((
        "calmar", "hit_rate", "exposure_time", "turnover_annual", "turnover_major_annual",
        "turnover_alt_annual", "cost_annual", "funding_annual", "beta_btc", "beta_btc_low", "beta_btc_high",
        "beta_eth", "beta_eth_low", "beta_eth_high", "neutrality_ex_ante_btc", "neutrality_ex_ante_eth",
    ), pl.Float64),
}  # fmt: skip


RISK_ADJUSTED = ("sharpe", "sharpe_low", "sharpe_high", "sharpe_se", "sharpe_gross", "sortino", "calmar")
"""Null where no day was invested."""


def _row(days: pl.DataFrame, settings: Settings) -> dict[str, Any]:
    """KPIs of one account over some days, nulls where there is nothing to measure.

    Units: returns, drawdowns, rates decimal; cagr, volatility, sharpe, sortino, *_annual per 365 days;
    turnover in NAV per year; `max_drawdown_days` the longest time below a peak; `n_episodes` runs of
    consecutive days; `neutrality_ex_ante_*` mean |book beta| at the close before, over invested days.
    Betas: `_realised_betas`.
    """
    rules = settings.evaluation
    returns, gross = days["ret_net"].to_numpy(), days["ret_gross"].to_numpy()
    invested, before = days["invested"].to_numpy(), days["before"].to_numpy()
    n = len(returns)
    growth = np.cumprod(1.0 + returns)
    peak = np.maximum(np.maximum.accumulate(growth), 1.0)
    drawdown = growth / peak - 1.0
    cagr = max(growth[-1], 0.0) ** (DAYS_PER_YEAR / n) - 1.0 if n >= MIN_CAGR_DAYS else None
    deepest = min(float(drawdown.min()), 0.0)
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))
    sharpe = sharpe_ratio(returns)
    low, high = bootstrap_interval(returns, sharpe_ratios, rules.bootstrap_reps, rules.confidence, rules.seed)
    costs = np.sum([days[name].to_numpy() for name in COSTS], axis=0)
    held = days.filter("invested")

    def annual(values: np.ndarray) -> float:
        return float(np.mean(values)) * DAYS_PER_YEAR

    row = {
        "n_days": n,
        "n_episodes": 1 + int((days["date"].diff().drop_nulls().dt.total_days() > 1).sum()),
        "n_invested_days": int(invested.sum()),
        "total_return": growth[-1] - 1.0,
        "total_return_gross": float(np.prod(1.0 + gross)) - 1.0,
        "cagr": cagr,
        "volatility": float(np.std(returns, ddof=1)) * np.sqrt(DAYS_PER_YEAR) if n >= 2 else None,
        "sharpe": sharpe,
        "sharpe_low": low,
        "sharpe_high": high,
        "sharpe_se": sharpe_standard_error(sharpe, n),
        "sharpe_gross": sharpe_ratio(gross),
        "sortino": float(np.mean(returns)) / downside * np.sqrt(DAYS_PER_YEAR) if downside > 0.0 else None,
        "max_drawdown": deepest,
        "max_drawdown_days": _longest_run(drawdown < 0.0),
        "calmar": cagr / -deepest if cagr is not None and deepest < 0.0 else None,
        "hit_rate": float(np.mean(returns[invested] > 0.0)) if invested.any() else None,
        "exposure_time": float(np.mean(invested)),
        "turnover_annual": annual(days["turnover"].to_numpy()),
        "turnover_major_annual": annual(days["turnover_major"].to_numpy()),
        "turnover_alt_annual": annual(days["turnover_alt"].to_numpy()),
        "cost_annual": annual(costs / before),
        "funding_annual": annual(days["pnl_funding"].to_numpy() / before),
        **_realised_betas(held, rules.confidence),
        "neutrality_ex_ante_btc": held["ante_btc"].abs().mean(),
        "neutrality_ex_ante_eth": held["ante_eth"].abs().mean(),
    }
    # Leftover costs of leaving a book are not a return to be judged by its risk.
    return _without_nan(row if invested.any() else {**row, **dict.fromkeys(RISK_ADJUSTED)})


def _without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}


def _longest_run(flags: np.ndarray) -> int:
    ends = np.cumsum(flags)
    return int(np.max(ends - np.maximum.accumulate(np.where(flags, 0, ends)), initial=0))


def _realised_betas(days: pl.DataFrame, confidence: float) -> dict[str, float | None]:
    """Betas of the gross return over the given (invested) days to BTC and ETH together, with HAC intervals.

    Null with fewer than thirty days or collinear factors.
    """
    from scipy.stats import norm

    known = days.drop_nulls(["ret_btc", "ret_eth"])
    names = [f"beta_{factor}{suffix}" for factor in FACTORS for suffix in ("", "_low", "_high")]
    if known.height < _MIN_BETA_DAYS:
        return dict.fromkeys(names)
    design = np.column_stack([np.ones(known.height), known["ret_btc"].to_numpy(), known["ret_eth"].to_numpy()])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return dict.fromkeys(names)
    fit = hac_regression(known["ret_gross"].to_numpy(), design)
    reach = float(norm.ppf(0.5 + confidence / 2.0))
    out: dict[str, float | None] = {}
    for k, factor in enumerate(FACTORS, start=1):
        beta, error = float(fit.coefficients[k]), float(fit.standard_errors[k])
        out |= {f"beta_{factor}": beta, f"beta_{factor}_low": beta - reach * error,
                f"beta_{factor}_high": beta + reach * error}  # fmt: skip
    return out
