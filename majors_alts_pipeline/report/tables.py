"""Tables of the report that are counted or summed from the daily tables; no performance statistics.

Performance statistics (Sharpe, intervals, realised betas over the sample, tests) come from
`majors_alts_pipeline.evaluation`; nothing here computes them a second time. Every function takes frames that
satisfy the contracts of `majors_alts_pipeline.tables` and returns a small, sorted frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import reduce
from operator import add

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import day_number
from majors_alts_pipeline.numerics.windows import window_sum

ACCOUNTS = ("regime", "always_on", "btc", "eth", "btc_eth", "alt_index", "random_regimes")
LABELS = ("RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS")
COMPONENTS = ("pnl_price", "pnl_funding", "cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut")
COSTS = COMPONENTS[2:]
YEAR_DAYS = 365
ASSUMED = "assumed"
"""Kind of funding of a position whose rate the lake does not have: the ledger's stand-in."""
NO_FUNDING = "no_funding"
"""Reason of the universe: the lake has no funding of the asset that day, though of others."""


def account_order(column: str = "account") -> pl.Expr:
    """Sort key that lists the accounts in the order a reader wants them, unknown ones last."""
    return pl.col(column).replace_strict({name: k for k, name in enumerate(ACCOUNTS)}, default=len(ACCOUNTS))


def in_order(values: pl.Expr) -> pl.Expr:
    """Sum added row by row, so that its last bit does not depend on the number of threads."""
    return values.cum_sum().last().fill_null(0)


def added(names: Sequence[str]) -> pl.Expr:
    """Sum of columns from left to right; `pl.sum_horizontal` may add in another order on another machine."""
    return reduce(add, (pl.col(name) for name in names))


def daily_accounts(backtest: pl.DataFrame) -> pl.DataFrame:
    """Growth of one unit and drawdown of every account beside its ledger columns.

    Returns:
        backtest's columns plus `growth` and `growth_gross` (multiples of the initial NAV; gross compounds
        ret_gross, so costs neither reduce it nor its base) and `drawdown` (decimal, running peak at least 1).
    """
    return (
        backtest.sort(account_order(), "date")
        .with_columns(
            growth=(1 + pl.col("ret_net")).cum_prod().over("account"),
            growth_gross=(1 + pl.col("ret_gross")).cum_prod().over("account"),
        )
        .with_columns(
            drawdown=pl.col("growth") / pl.max_horizontal(pl.col("growth").cum_max().over("account"), pl.lit(1.0)) - 1
        )
    )


def drawdown_table(daily: pl.DataFrame, worst: int = 10) -> pl.DataFrame:
    """Worst drawdowns of each account, deepest first.

    An episode runs from the last day at the running peak to the first day back at it; `recovery` is null
    while the peak has not been regained. A loss from the initial NAV has no peak day inside the window: its
    `peak` is the first day.
    """
    under = pl.col("drawdown") < 0
    episodes = (
        daily.with_columns(episode=(~under).cum_sum().over("account"))
        .with_columns(peak=pl.col("date").first().over("account", "episode"))
        .filter(under)
        .group_by("account", "episode")
        .agg(
            pl.col("peak").first(),
            trough=pl.col("date").sort_by("drawdown", "date").first(),
            last=pl.col("date").max(),
            depth=pl.col("drawdown").min(),
        )
    )
    ends = daily.group_by("account").agg(lake_end=pl.col("date").max())
    return (
        episodes.join(ends, on="account")
        .with_columns(recovery=pl.when(pl.col("last") < pl.col("lake_end")).then(pl.col("last").dt.offset_by("1d")))
        .with_columns(
            days_down=(pl.col("trough") - pl.col("peak")).dt.total_days(),
            days_total=(pl.coalesce("recovery", "lake_end") - pl.col("peak")).dt.total_days(),
        )
        .sort(account_order(), "depth", "peak")
        .group_by("account", maintain_order=True)
        .head(worst)
        .select("account", "depth", "peak", "trough", "recovery", "days_down", "days_total")
    )


def monthly_returns(backtest: pl.DataFrame) -> pl.DataFrame:
    """Compounded net return of every account and calendar month, with the number of days it rests on."""
    return (
        backtest.sort("date")
        .group_by("account", year=pl.col("date").dt.year(), month=pl.col("date").dt.month())
        .agg(ret_net=(1 + pl.col("ret_net")).cum_prod().last() - 1, n_days=pl.len())
        .sort(account_order(), "year", "month")
    )


def attribution(backtest: pl.DataFrame) -> pl.DataFrame:
    """Earnings and payments of each account by component; the components sum to the change of NAV.

    Returns:
        (account, component, usd, of_capital, per_year): `of_capital` is the sum of daily component / previous
        NAV (so that it does not favour the days when NAV is large), `per_year` its annual mean. Costs are
        negative. Component `net` is the sum of the others; `pnl_funding_assumed` is the part of pnl_funding
        that is a stand-in for missing prints and is not added again.
    """
    previous = pl.col("nav") / (1 + pl.col("ret_net"))
    signed = [pl.col(name) if name.startswith("pnl") else -pl.col(name) for name in COMPONENTS]
    frame = backtest.sort("date").with_columns(signed).with_columns(previous=previous, net=added(COMPONENTS))
    names = [*COMPONENTS, "net", "pnl_funding_assumed"]
    return (
        frame.unpivot(names, index=["date", "account", "previous"], variable_name="component", value_name="usd")
        .group_by("account", "component")
        .agg(
            in_order(pl.col("usd")),
            of_capital=in_order(pl.col("usd") / pl.col("previous")),
            n_days=pl.len(),
        )
        .with_columns(per_year=pl.col("of_capital") / pl.col("n_days") * YEAR_DAYS)
        .sort(account_order(), pl.col("component").replace_strict({name: k for k, name in enumerate(names)}))
        .select("account", "component", "usd", "of_capital", "per_year")
    )


def attribution_by_leg(positions: pl.DataFrame) -> pl.DataFrame:
    """Profit, funding and costs of each leg in USD, as long as the accounts that keep positions."""
    signed = [pl.col(name) if name.startswith("pnl") else -pl.col(name) for name in COMPONENTS]
    return (
        positions.sort("date", "asset_id")
        .with_columns(signed)
        .group_by("account", "leg")
        .agg([in_order(pl.col(name)) for name in COMPONENTS])
        .with_columns(net=added(COMPONENTS))
        .sort(account_order(), pl.col("leg"), descending=[False, True])
    )


def attribution_by_asset(positions: pl.DataFrame) -> pl.DataFrame:
    """Profit, funding and costs of each asset in USD with the days it was held, largest net first."""
    costs = added(COSTS)
    return (
        positions.sort("date")
        .group_by("account", "asset_id", "leg")
        .agg(
            days_held=(pl.col("units") != 0).sum(),
            mean_weight=in_order(pl.when(pl.col("units") != 0).then("weight").otherwise(0))
            / (pl.col("units") != 0).sum(),
            pnl_price=in_order(pl.col("pnl_price")),
            pnl_funding=in_order(pl.col("pnl_funding")),
            costs=-in_order(costs),
        )
        .with_columns(net=added(["pnl_price", "pnl_funding", "costs"]))
        .sort(account_order(), -pl.col("net"), "asset_id")
    )


def funding_by_leg(positions: pl.DataFrame, backtest: pl.DataFrame) -> pl.DataFrame:
    """Daily funding of each leg in USD, and since the start; 0 on days without a position."""
    daily = positions.sort("asset_id").group_by("account", "leg", "date").agg(in_order(pl.col("pnl_funding")))
    legs = daily.select("account", "leg").unique()
    days = backtest.select("account", "date").join(legs, on="account")
    return (
        days.join(daily, on=["account", "leg", "date"], how="left")
        .with_columns(pl.col("pnl_funding").fill_null(0.0))
        .sort(account_order(), "leg", "date")
        .with_columns(cumulative=pl.col("pnl_funding").cum_sum().over("account", "leg"))
    )


def regime_episodes(regime: pl.DataFrame) -> pl.DataFrame:
    """Unbroken runs of one label: (label, start, end, n_days), in time order."""
    changed = (pl.col("label") != pl.col("label").shift(1)).fill_null(True)
    return (
        regime.sort("date")
        .with_columns(run=changed.cum_sum())
        .group_by("run")
        .agg(pl.col("label").first(), start=pl.col("date").min(), end=pl.col("date").max(), n_days=pl.len())
        .sort("run")
        .drop("run")
    )


def regime_summary(regime: pl.DataFrame) -> pl.DataFrame:
    """Per label: days, share of days, episodes and their mean and longest length."""
    return (
        regime_episodes(regime)
        .group_by("label")
        .agg(
            n_days=pl.col("n_days").sum(),
            n_episodes=pl.len(),
            mean_days=pl.col("n_days").mean(),
            longest_days=pl.col("n_days").max(),
        )
        .with_columns(share=pl.col("n_days") / pl.col("n_days").sum())
        .sort(pl.col("label").replace_strict({name: k for k, name in enumerate(LABELS)}))
        .select("label", "n_days", "share", "n_episodes", "mean_days", "longest_days")
    )


def decided_by(regime: pl.DataFrame, first: date, last: date, lag: int) -> pl.DataFrame:
    """Days from `first` to `last` by what decided the position held over them.

    Args:
        regime: one method's rows of the contract.
        first: first day.
        last: last day.
        lag: execution lag in days: a decision on D earns from D + lag + 1 on.

    Returns:
        (decided_by, n_days) in the order walk_forward, default, no_score: a walk-forward model, the default
        weights, or nothing, since no feature had a z-score yet.
    """
    decided = regime.select(
        date=pl.col("date").dt.offset_by(f"{lag + 1}d"),
        decided_by=pl.when(pl.col("score").is_null()).then(pl.lit("no_score")).otherwise("in_force"),
    )
    kinds = ("walk_forward", "default", "no_score")
    days = pl.DataFrame({"date": pl.date_range(first, last, eager=True)})
    found = days.join(decided, on="date", how="left").select(pl.col("decided_by").fill_null("no_score"))
    return pl.DataFrame({"decided_by": kinds, "n_days": [int((found["decided_by"] == kind).sum()) for kind in kinds]})


def regime_transitions(regime: pl.DataFrame) -> pl.DataFrame:
    """Share of days on which a label is followed by each label: one row per label of today."""
    frame = regime.sort("date").select(label="label", tomorrow=pl.col("label").shift(-1)).drop_nulls()
    counts = frame.group_by("label").agg(
        n_days=pl.len(), **{name: (pl.col("tomorrow") == name).mean() for name in LABELS}
    )
    return counts.sort(pl.col("label").replace_strict({name: k for k, name in enumerate(LABELS)}))


def return_quartiles(backtest: pl.DataFrame) -> pl.DataFrame:
    """Distribution of daily net returns by the label the held position carries out (known before the return).

    Returns:
        (account, label, n_days, mean, p05, p25, median, p75, p95) of the regime and always_on accounts.
    """
    ret = pl.col("ret_net")
    return (
        backtest.sort("date")
        .filter(pl.col("account").is_in(["regime", "always_on"]) & pl.col("regime_traded").is_in(LABELS))
        .group_by("account", label="regime_traded")
        .agg(
            n_days=pl.len(),
            mean=in_order(ret) / pl.len(),
            p05=ret.quantile(0.05, "linear"),
            p25=ret.quantile(0.25, "linear"),
            median=ret.median(),
            p75=ret.quantile(0.75, "linear"),
            p95=ret.quantile(0.95, "linear"),
        )
        .sort(account_order(), pl.col("label").replace_strict({name: k for k, name in enumerate(LABELS)}))
    )


def refits(regime_model: pl.DataFrame) -> pl.DataFrame:
    """Model in force after each refit date and how many candidates were tried for it."""
    tried = regime_model.group_by("date", "method").agg(n_candidates=pl.len())
    return (
        regime_model.filter("chosen")
        .join(tried, on=["date", "method"])
        .sort("date", "method")
        .select(
            "date",
            "method",
            "candidate",
            "in_force",
            "objective",
            "n_obs",
            "train_end",
            "n_candidates",
            "params",
        )
    )


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
    held = ["regime", "always_on"]
    books = backtest.filter(pl.col("account").is_in(held)).pivot("account", index="date", values="ret_gross")
    wide = books.join(majors, on="date").sort("date")
    if wide.height < window:
        return pl.DataFrame(schema=_ROLLING_SCHEMA)
    first = day_number(wide["date"][0])
    x1, x2 = wide["btc"].to_numpy(), wide["eth"].to_numpy()
    parts = [_rolling_two_factor(wide["date"], wide[name].to_numpy(), x1, x2, window, first, name) for name in held]
    ex_ante = backtest.select("date", "account", "beta_btc", "beta_eth").unpivot(
        ["beta_btc", "beta_eth"], index=["date", "account"], variable_name="factor", value_name="ex_ante"
    )
    ex_ante = ex_ante.with_columns(pl.col("factor").str.strip_prefix("beta_"))
    return (
        pl.concat(parts)
        .join(ex_ante, on=["date", "account", "factor"], how="left")
        .sort(account_order(), "factor", "date")
        .select(list(_ROLLING_SCHEMA))
    )


_ROLLING_SCHEMA = {
    "date": pl.Date(),
    "account": pl.String(),
    "factor": pl.String(),
    "beta": pl.Float64(),
    "se": pl.Float64(),
    "ex_ante": pl.Float64(),
}


def _rolling_two_factor(
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


def basket_daily(basket: pl.DataFrame) -> pl.DataFrame:
    """Per day: alts in the book, long and short weight, ex-ante neutrality, status and what was relaxed."""
    weight = pl.col("weight")
    return (
        basket.sort("date", "asset_id")
        .group_by("date", maintain_order=True)
        .agg(
            n_alts=((pl.col("leg") == "alt") & (weight != 0)).sum(),
            long_weight=in_order(pl.when(weight > 0).then(weight).otherwise(0)),
            short_weight=in_order(pl.when(weight < 0).then(weight).otherwise(0)),
            largest_alt=weight.filter(pl.col("leg") == "alt").abs().max(),
            neutrality_btc=pl.col("neutrality_btc").first(),
            neutrality_eth=pl.col("neutrality_eth").first(),
            mode=pl.col("mode").first(),
            status=pl.col("status").first(),
            relaxed=pl.col("relaxed").first(),
            reason=pl.col("reason").first(),
        )
    )


def basket_status(daily: pl.DataFrame) -> pl.DataFrame:
    """Days by outcome of the optimiser, with the constraints given up or the reason for being flat."""
    return (
        daily.group_by("status", "relaxed", "reason")
        .agg(n_days=pl.len(), first=pl.col("date").min(), last=pl.col("date").max())
        .with_columns(share=pl.col("n_days") / pl.col("n_days").sum())
        .sort("n_days", "status", "relaxed", "reason", descending=[True, False, False, False])
    )


def basket_members(basket: pl.DataFrame) -> pl.DataFrame:
    """Every asset the book ever held: days, share of days, mean and largest weight, first and last day."""
    held = basket.filter(pl.col("weight") != 0)
    n_days = held["date"].n_unique()
    return (
        held.sort("date")
        .group_by("asset_id", "leg")
        .agg(
            n_days=pl.len(),
            mean_weight=in_order(pl.col("weight")) / pl.len(),
            largest_weight=pl.col("weight").get(pl.col("weight").abs().arg_max()),
            first=pl.col("date").min(),
            last=pl.col("date").max(),
        )
        .with_columns(share=pl.col("n_days") / max(n_days, 1))
        .sort("leg", "n_days", "asset_id", descending=[True, True, False])
        .select("asset_id", "leg", "n_days", "share", "mean_weight", "largest_weight", "first", "last")
    )


def universe_daily(universe: pl.LazyFrame) -> pl.DataFrame:
    """Per day: assets with a price, with the day's own price, eligible alts, and the shortable of them."""
    alt = pl.col("eligible") & (pl.col("role") == "alt")
    return (
        universe.group_by("date")
        .agg(
            n_priced=pl.len(),
            n_own_price=(pl.col("price_age_days") == 0).sum(),
            n_eligible_alts=alt.sum(),
            n_shortable=(alt & pl.col("shortable").fill_null(False)).sum(),
            n_unknown_shortable=(alt & pl.col("shortable").is_null()).sum(),
        )
        .sort("date")
        .collect()
    )


def universe_reasons(universe: pl.LazyFrame) -> pl.DataFrame:
    """First failing rule: mean assets per day, assets on the last day, and assets it ever kept out."""
    excluded = universe.filter(~pl.col("eligible"))
    span = universe.select(n=pl.col("date").n_unique(), last=pl.col("date").max()).collect().row(0)
    return (
        excluded.group_by("reason")
        .agg(
            mean_assets=pl.len() / span[0],
            last_day=(pl.col("date") == span[1]).sum(),
            n_assets=pl.col("asset_id").n_unique(),
        )
        .sort("mean_assets", "reason", descending=[True, False])
        .collect()
    )


def ended_assets(panel: pl.LazyFrame, universe: pl.LazyFrame, carry_days: int) -> pl.DataFrame:
    """Assets whose own prices stop more than `carry_days` before the lake ends.

    Returns:
        (asset_id, last_date, last_price, price_vs_peak, days_eligible): day and USD of the last own close,
        its ratio to the highest close minus one, and days the asset was eligible.
    """
    own = panel.filter(pl.col("price_age_days") == 0)
    last = own.group_by("asset_id").agg(
        last_date=pl.col("date").max(),
        last_price=pl.col("close").sort_by("date").last(),
        peak=pl.col("close").max(),
    )
    end = own.select(pl.col("date").max()).collect().item()
    eligible = universe.filter("eligible").group_by("asset_id").agg(days_eligible=pl.len())
    if end is None:
        end = date.min
    return (
        last.filter(pl.col("last_date") < pl.lit(end).dt.offset_by(f"-{carry_days}d"))
        .join(eligible, on="asset_id", how="left")
        .with_columns(pl.col("days_eligible").fill_null(0), price_vs_peak=pl.col("last_price") / pl.col("peak") - 1)
        .sort("last_date", "asset_id")
        .select("asset_id", "last_date", "last_price", "price_vs_peak", "days_eligible")
        .collect()
    )


def dead_exits(positions: pl.DataFrame) -> pl.DataFrame:
    """Positions closed for want of a price: what they were worth and what the haircut cost."""
    return (
        positions.filter((pl.col("trade_reason") == "dead") | (pl.col("cost_exit_haircut") > 0))
        .select("date", "account", "asset_id", "leg", "price", "price_age_days", "traded_usd", "cost_exit_haircut")
        .sort("date", account_order(), "asset_id")
    )


def execution(backtest: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Per account: what was not traded or priced as decided.

    Args:
        backtest: contract `backtest`.
        held: `held_funding`.

    Returns:
        (account, days_waiting, orders_waiting, n_dead_exits, n_stopped, assumed_share, assumed_annual): days with
        orders that found no price, such orders summed over days, positions, share of position-days with assumed
        funding (null where positions are not kept), its mean charge over NAV x 365 (negative = paid).
    """
    shares = held.filter(kind=ASSUMED).group_by("account").agg(assumed_share=pl.col("share").sum())
    kept = held.select("account").unique().with_columns(kept=True)
    previous = pl.col("nav") / (1 + pl.col("ret_net"))
    return (
        backtest.sort("date")
        .group_by("account")
        .agg(
            days_waiting=(pl.col("n_waiting") > 0).sum(),
            orders_waiting=pl.col("n_waiting").sum(),
            n_dead_exits=pl.col("n_dead_exits").sum(),
            n_stopped=pl.col("n_stopped").sum(),
            assumed_annual=in_order(pl.col("pnl_funding_assumed") / previous) / pl.len() * YEAR_DAYS,
        )
        .join(shares, on="account", how="left")
        .join(kept, on="account", how="left")
        .with_columns(assumed_share=pl.when("kept").then(pl.col("assumed_share").fill_null(0.0)))
        .sort(account_order())
        .drop("kept")
    )


def funding_coverage(panel: pl.LazyFrame, universe: pl.LazyFrame) -> pl.DataFrame:
    """Share of eligible asset-days whose funding is a true sum, one scaled print, or missing, by quarter."""
    kind = pl.col("funding_kind").fill_null("missing")
    eligible = universe.filter("eligible").select("date", "asset_id")
    return (
        eligible.join(panel.select("date", "asset_id", "funding_kind"), on=["date", "asset_id"], how="left")
        .group_by(quarter=pl.col("date").dt.truncate("1q"))
        .agg(
            n_asset_days=pl.len(),
            **{name: (kind == name).mean() for name in ("sum", "print_scaled", "missing")},
        )
        .sort("quarter")
        .collect()
    )


def held_funding(positions: pl.DataFrame, panel: pl.LazyFrame, backtest: pl.DataFrame) -> pl.DataFrame:
    """How much of the funding of held positions was observed, scaled from one print, or assumed.

    A position earns or pays the funding of D when it was held over D, that is at the close of D - 1.

    Returns:
        (account, leg, kind, position_days, share, usd, per_year): `share` of the account's position-days, `usd`
        received (+) or paid (-), `per_year` the annual rate that makes of the position's value at the close
        before. Kind `assumed` has no rate in the lake; its usd is the stand-in charge of the ledger.
    """
    held = (
        positions.lazy()
        .filter(pl.col("units") != 0)
        .select("account", "asset_id", "leg", "value_usd", date=pl.col("date").dt.offset_by("1d"))
        .filter(pl.col("date") <= pl.lit(backtest["date"].max()))
    )
    funding = positions.lazy().select("date", "account", "asset_id", "pnl_funding")
    kinds = (
        held.join(panel.select("date", "asset_id", "funding_kind"), on=["date", "asset_id"], how="left")
        .join(funding, on=["date", "account", "asset_id"], how="left")
        .with_columns(kind=pl.col("funding_kind").fill_null(ASSUMED))
        .sort("date", "asset_id")
        .group_by("account", "leg", "kind")
        .agg(
            position_days=pl.len(),
            usd=in_order(pl.col("pnl_funding")),
            held_usd=in_order(pl.col("value_usd").abs()),
        )
        .collect()
    )
    return (
        kinds.with_columns(
            share=pl.col("position_days") / pl.col("position_days").sum().over("account"),
            per_year=pl.col("usd") / pl.col("held_usd") * YEAR_DAYS,
        )
        .sort(account_order(), pl.col("leg"), pl.col("kind"), descending=[False, True, False])
        .select("account", "leg", "kind", "position_days", "share", "usd", "per_year")
    )


def share_of_kind(held: pl.DataFrame, account: str, kind: str) -> float:
    """Share of an account's position-days whose funding is of a kind (`print_scaled` also when rescaled)."""
    found = held.filter(pl.col("kind").str.starts_with(kind), account=account)
    return float(found["share"].sum())


def unfunded_alts(universe: pl.LazyFrame, panel: pl.LazyFrame, n_alts: int) -> pl.DataFrame:
    """Alts that only the funding rule keeps out although they would rank among the `n_alts` most traded.

    The rule is the last of the universe, so such an asset passes every other one.

    Returns:
        (date, asset_id, adv_usd, ret_next, ret_next_kept): `ret_next` is the asset's price return of the day
        after, null where unknown; `ret_next_kept` the mean of the eligible alts of the same rank range that day.
    """
    out = pl.col("reason") == NO_FUNDING
    ranked = (
        universe.filter(out | ((pl.col("role") == "alt") & pl.col("eligible")))
        .select("date", "asset_id", "adv_usd", out=out)
        .sort("date", "adv_usd", "asset_id", descending=[False, True, False], nulls_last=True)
        .filter(pl.int_range(pl.len()).over("date") < n_alts)
    )
    after = panel.select("asset_id", date=pl.col("date").dt.offset_by("-1d"), ret_next="ret")
    kept = pl.col("ret_next").filter(~pl.col("out")).mean()
    return (
        ranked.join(after, on=["date", "asset_id"], how="left")
        .with_columns(ret_next_kept=kept.over("date", order_by="asset_id"))
        .filter("out")
        .sort("date", "asset_id")
        .select("date", "asset_id", "adv_usd", "ret_next", "ret_next_kept")
        .collect()
    )


def unfunded_names(unfunded: pl.DataFrame) -> pl.DataFrame:
    """Assets of `unfunded_alts`, most frequent first: days, first and last of them, median dollar volume."""
    return (
        unfunded.group_by("asset_id")
        .agg(
            n_days=pl.len(),
            first=pl.col("date").min(),
            last=pl.col("date").max(),
            adv_usd=pl.col("adv_usd").median(),
        )
        .sort("n_days", "asset_id", descending=[True, False])
    )


def feature_summary(features: pl.DataFrame) -> pl.DataFrame:
    """Per feature: days with a z-score, share of days, mean coverage, last raw value and z-score."""
    return (
        features.sort("feature", "date")
        .group_by("feature", maintain_order=True)
        .agg(
            days_with_z=pl.col("z").count(),
            share=pl.col("z").count() / pl.len(),
            coverage=in_order(pl.col("coverage")) / pl.len(),
            first_z=pl.col("date").filter(pl.col("z").is_not_null()).min(),
            last_raw=pl.col("raw").last(),
            last_z=pl.col("z").last(),
        )
    )


def beta_quality(betas: pl.LazyFrame) -> pl.DataFrame:
    """Per day: assets with a beta, medians of standard errors and R2, and the factors' variance inflation."""
    return (
        betas.group_by("date")
        .agg(
            n_assets=pl.len(),
            se_btc=pl.col("se_btc").median(),
            se_eth=pl.col("se_eth").median(),
            r2=pl.col("r2").median(),
            vif=pl.col("vif").median(),
        )
        .sort("date")
        .collect()
    )


def survivorship_statement(ended: pl.DataFrame, n_assets: int, lake_end: date) -> str:
    """Say what the lake's own data tell about survivorship, and which way that can bias the result."""
    if ended.height:
        names = ", ".join(ended["asset_id"].head(8))
        more = f" and {ended.height - 8} more" if ended.height > 8 else ""
        held = int((ended["days_eligible"] > 0).sum())
        return (
            f"{ended.height} of {n_assets} assets stop trading inside this lake, before {lake_end} "
            f"({names}{more}); "
            f"{held} of them were eligible at some time. Assets that died before they entered the source, or "
            "that "
            "the source never listed, are still unseen."
        )
    return (
        f"No series ends inside this lake: all {n_assets} assets still trade at its end ({lake_end}), so "
        "only "
        "survivors are present. Coins that failed and left are missing from the short leg, which understates "
        "what "
        "shorting them would have earned; the losses of a short that is squeezed, or cannot be closed when a "
        "market "
        "shuts, are missing as well, which overstates it. Neither size is known from this lake: the sign of "
        "the net "
        "bias is open."
    )
