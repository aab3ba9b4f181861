"""What the return is made of: prices, funding, costs."""

from __future__ import annotations

from typing import Any

import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    ACCOUNT_LINES,
    BLUE,
    GREEN,
    GREY,
    LEGEND_ON_TOP,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    account_name,
    as_float,
    chart,
    daily_line,
    layout,
    rounded,
    thinned,
)
from majors_alts_pipeline.report.html import number, percent
from majors_alts_pipeline.report.tables import added

COMPONENT_NAMES = {
    "pnl_price": "Price",
    "pnl_funding": "Funding",
    "cost_fees": "Fees",
    "cost_slippage": "Spread",
    "cost_impact": "Impact",
    "cost_exit_haircut": "Exit haircuts",
    "net": "Net",
    "pnl_funding_assumed": "of funding: assumed",
}
COMPONENT_LINES: dict[str, dict[str, Any]] = {
    "net": {"color": GREY, "width": 2.6, "dash": "solid"},
    "pnl_price": {"color": BLUE, "width": 1.7, "dash": "solid"},
    "pnl_funding": {"color": GREEN, "width": 1.7, "dash": "dash"},
    "cost_fees": {"color": VERMILLION, "width": 1.5, "dash": "dot"},
    "cost_slippage": {"color": ORANGE, "width": 1.5, "dash": "dashdot"},
    "cost_impact": {"color": PURPLE, "width": 1.5, "dash": "longdash"},
    "cost_exit_haircut": {"color": SKY, "width": 1.5, "dash": "longdashdot"},
}


def attribution_bars(totals: pl.DataFrame) -> Chart:
    """Earned and paid per year, by component, of the two books."""
    import plotly.graph_objects as go

    names = [name for name in COMPONENT_NAMES if name != "pnl_funding_assumed"]
    figure = go.Figure(layout=layout("% of NAV per year", dated=False))
    words = []
    for account in ("regime", "always_on", "random_regimes"):
        one = {row["component"]: row["per_year"] for row in totals.filter(account=account).iter_rows(named=True)}
        if not one:
            continue
        figure.add_bar(
            x=[COMPONENT_NAMES[name] for name in names],
            y=[rounded(100 * one[name], 3) for name in names],
            name=account_name(account),
            marker={
                "color": ACCOUNT_LINES[account]["color"],
                "pattern": {"shape": {"regime": "", "always_on": "/"}.get(account, "x")},
            },
            hovertemplate="%{x}: %{y:.2f} %<extra>" + account_name(account) + "</extra>",
        )
        costs = sum(one[name] for name in names if name.startswith("cost"))
        words.append(
            f"{account_name(account)}: price {percent(one['pnl_price'])}, funding "
            f"{percent(one['pnl_funding'])}, "
            f"costs {percent(costs)}, net {percent(one['net'])}"
        )
    figure.update_yaxes(ticksuffix=" %")
    figure.update_layout(**LEGEND_ON_TOP, barmode="group")
    caption = f"Yearly mean of daily profit and cost over NAV (not compounded). {'; '.join(words)}."
    return chart("attribution", "Where the return came from and where it went", figure, caption, ["attribution"], 360)


def attribution_over_time(backtest: pl.DataFrame, account: str) -> Chart:
    """Components of one account since the start, each the running sum of daily component / previous NAV."""
    import plotly.graph_objects as go

    previous = pl.col("nav") / (1 + pl.col("ret_net"))
    names = [name for name in COMPONENT_LINES if name != "net"]
    signed = [(pl.col(n) if n.startswith("pnl") else -pl.col(n)) / previous * 100 for n in names]
    one = (
        backtest.filter(account=account)
        .sort("date")
        .select("date", *signed)
        .with_columns(net=added(names))
        .with_columns(pl.col("net", *names).cum_sum())
    )
    figure = go.Figure(layout=layout("Sum of daily % of NAV"))
    for name, line in COMPONENT_LINES.items():
        figure.add_scatter(**daily_line(one, name, COMPONENT_NAMES[name], line, 3))
    figure.update_yaxes(ticksuffix=" %")
    last = one.row(-1, named=True)
    paid = sum(last[n] for n in names if n.startswith("cost")) / 100
    caption = (
        f"{account_name(account)}: running sum of what prices, funding and each cost gave or took. By the "
        "end: price "
        f"{percent(last['pnl_price'] / 100)}, funding {percent(last['pnl_funding'] / 100)}, costs "
        f"{percent(paid)}, "
        f"net {percent(last['net'] / 100)}."
    )
    title = f"Costs and funding over time: {account_name(account).lower()}"
    return chart(f"attribution-{account}", title, figure, caption + thinned(one), ["accounts"], 360)


def funding_legs(legs: pl.DataFrame, capital: float) -> Chart:
    """Funding received and paid by each leg since the start."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("% of initial capital"))
    styles = {
        ("regime", "major"): {"color": BLUE, "width": 2, "dash": "solid"},
        ("regime", "alt"): {"color": SKY, "width": 2, "dash": "dash"},
        ("always_on", "major"): {"color": VERMILLION, "width": 1.4, "dash": "dot"},
        ("always_on", "alt"): {"color": ORANGE, "width": 1.4, "dash": "dashdot"},
    }
    words = []
    for (account, leg), line in styles.items():
        one = legs.filter(account=account, leg=leg).with_columns(pl.col("cumulative") / capital * 100)
        if not one.height:
            continue
        side = "long majors" if leg == "major" else "short alts"
        figure.add_scatter(**daily_line(one, "cumulative", f"{account_name(account)}, {side}", line, 3))
        words.append(f"{account_name(account).lower()} {side} {percent(one['cumulative'][-1] / 100)}")
    figure.update_yaxes(ticksuffix=" %")
    caption = f"Funding received (+) or paid (−) since the start, in % of initial capital: {'; '.join(words)}."
    return chart("funding-legs", "Funding by leg", figure, caption + thinned(legs), ["funding_by_leg"], 330)


def turnover(backtest: pl.DataFrame) -> Chart:
    """Monthly turnover of each leg of the regime account."""
    import plotly.graph_objects as go

    monthly = (
        backtest.filter(account="regime")
        .group_by(month=pl.col("date").dt.truncate("1mo"))
        .agg(pl.col("turnover_major", "turnover_alt").sort_by("date").sum())
        .sort("month")
    )
    figure = go.Figure(layout=layout("Traded notional / NAV, per month"))
    for column, name, colour, pattern in (
        ("turnover_major", "Majors", BLUE, ""),
        ("turnover_alt", "Alts", ORANGE, "/"),
    ):
        figure.add_bar(
            x=[f"{value:%Y-%m}" for value in monthly["month"]],
            y=[rounded(value, 3) for value in monthly[column]],
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern}},
            hovertemplate="%{x}: %{y:.2f} × NAV<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="stack")
    means = [as_float(backtest.filter(account=a)["turnover"].mean()) * 365 for a in ("regime", "always_on")]
    caption = (
        f"Turnover of the regime-timed book: {number(means[0], 1)} × NAV a year, against "
        f"{number(means[1], 1)} × "
        "for the always-on book."
    )
    return chart("turnover", "Turnover", figure, caption, ["accounts"], 300)
