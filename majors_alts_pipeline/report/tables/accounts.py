"""What the accounts earned, paid, held and could not trade."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report.tables import ASSUMED, COMPONENTS, COSTS, YEAR_DAYS, account_order, added, in_order


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
