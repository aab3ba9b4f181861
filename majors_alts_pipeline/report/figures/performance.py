"""Equity, drawdowns, and Sharpe ratios with their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    ACCOUNT_LINES,
    BLUE,
    GREY,
    account_name,
    band,
    chart,
    daily_line,
    faint,
    layout,
    lowest,
    normal_quantile,
    panels,
    present,
    regime_shading,
    rounded,
    thinned,
)
from majors_alts_pipeline.report.html import Field, number, percent, render_table

MIN_SHARPE_DAYS = 120
"""Days before a Sharpe ratio to date is drawn: the first months say nothing and would set the scale."""


def equity(daily: pl.DataFrame, episodes: pl.DataFrame, verdict: str) -> Chart:
    """Growth of one dollar, net, all accounts, log axis, shaded by the label known on the day."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("Growth of $1 (log scale)", shaded=True))
    figure.add_traces(regime_shading(episodes))
    for account in present(daily):
        one = daily.filter(account=account)
        figure.add_scatter(**daily_line(one, "growth", account_name(account), ACCOUNT_LINES[account], 4))
    for account in ("regime", "always_on"):
        one = daily.filter(account=account)
        line = {**ACCOUNT_LINES[account], "width": 1, "dash": "dot"}
        name = f"{account_name(account)}, before costs"
        figure.add_scatter(**daily_line(one, "growth_gross", name, line, 4), visible="legendonly")
    figure.update_xaxes(range=[daily["date"].min().isoformat(), daily["date"].max().isoformat()])  # type: ignore[union-attr]
    figure.update_yaxes(type="log", tickformat=".3~g", selector={"anchor": "x"})
    caption = f"Growth of $1 after costs and funding. {verdict} Shading: the label known at each close."
    return chart("equity", "Equity of the book and its baselines", figure, caption + thinned(daily), ["accounts"], 470)


def underwater(daily: pl.DataFrame) -> Chart:
    """Distance from the running peak of the books and of BTC."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("Below the running peak (%)"))
    worst = []
    for account in ("regime", "always_on", "btc"):
        one = daily.filter(account=account)
        line = ACCOUNT_LINES[account]
        trace = daily_line(one.with_columns(pl.col("drawdown") * 100), "drawdown", account_name(account), line, 2)
        filled = {"fill": "tozeroy", "fillcolor": faint(BLUE)} if account == "regime" else {}
        figure.add_scatter(**trace, **filled)
        worst.append(f"{account_name(account)} {percent(lowest(one['drawdown']))}")
    figure.update_yaxes(ticksuffix=" %")
    caption = f"Deepest fall from a peak, after costs: {'; '.join(worst)}."
    return chart("underwater", "Underwater", figure, caption + thinned(daily), ["accounts", "drawdowns"], 320)


def sharpe_intervals(rows: Sequence[Mapping[str, Any]], confidence: float) -> Chart:
    """Net Sharpe ratio of every account with its bootstrap interval.

    Args:
        rows: mappings with account, sharpe, low, high (null where they do not exist).
        confidence: of the interval.
    """
    import plotly.graph_objects as go

    known = [row for row in rows if row["sharpe"] is not None][::-1]
    figure = go.Figure(layout=layout("", dated=False, legend=False))
    for row in known:
        colour = ACCOUNT_LINES[row["account"]]["color"]
        low = row["low"] if row["low"] is not None else row["sharpe"]
        high = row["high"] if row["high"] is not None else row["sharpe"]
        figure.add_scatter(
            x=[rounded(row["sharpe"], 3)],
            y=[account_name(row["account"])],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [rounded(high - row["sharpe"], 3)],
                "arrayminus": [rounded(row["sharpe"] - low, 3)],
                "thickness": 2,
                "width": 6,
            },
            mode="markers",
            marker={"color": colour, "size": 10, "symbol": "diamond"},
            name=account_name(row["account"]),
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    figure.update_xaxes(title_text="Net Sharpe ratio (per year)", zeroline=True, zerolinewidth=2)
    figure.update_layout(margin={"l": 130, "b": 48})
    clear = [account_name(r["account"]) for r in known[::-1] if r["low"] is not None and r["low"] * r["high"] > 0]
    found = f"Intervals that exclude zero: {', '.join(clear)}." if clear else "Every interval contains zero."
    caption = f"Net Sharpe ratio with its {percent(confidence, 0)} stationary-bootstrap interval. {found}"
    table = render_table(
        pl.DataFrame(list(rows), schema={"account": pl.String, "sharpe": _F, "low": _F, "high": _F}),
        {
            "account": Field("Account", "", account_name),
            **{name: Field(label, "per year", number) for name, label in _INTERVAL.items()},
        },
        "Net Sharpe ratios.",
    )
    height = 80 + 40 * max(len(known), 3)
    return chart("sharpe", "Sharpe ratios with intervals", figure, caption, ["kpis"], height, table)


_F = pl.Float64()
_INTERVAL = {"sharpe": "Sharpe, net", "low": "From", "high": "To"}


def sharpe_to_date(kpis: pl.DataFrame, confidence: float) -> Chart:
    """Net Sharpe ratio from the start to each day, as it was known that day, with its normal band."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("Net Sharpe ratio to date (per year)"))
    z = normal_quantile(confidence)
    last = []
    for account in ("regime", "always_on"):
        one = kpis.filter(pl.col("n_days") >= MIN_SHARPE_DAYS, account=account).drop_nulls(["sharpe", "sharpe_se"])
        colour = ACCOUNT_LINES[account]["color"]
        edges = one.with_columns(
            low=pl.col("sharpe") - z * pl.col("sharpe_se"), high=pl.col("sharpe") + z * pl.col("sharpe_se")
        )
        figure.add_traces([go.Scatter(**trace) for trace in band(edges, "low", "high", colour, 2, account, 0.12)])
        trace = daily_line(one, "sharpe", account_name(account), ACCOUNT_LINES[account], 2)
        figure.add_scatter(**trace, legendgroup=account)
        for row in one.tail(1).iter_rows(named=True):
            last.append(f"{account_name(account)} {number(row['sharpe'])} ± {number(z * row['sharpe_se'])}")
    words = "; ".join(last) or "too few days"
    caption = (
        f"Sharpe ratio from the start to each day, drawn from day {MIN_SHARPE_DAYS} on, with a "
        f"{percent(confidence, 0)} band "
        f"from its standard error (Lo 2002). At the end: {words}."
    )
    return chart("sharpe-to-date", "Sharpe ratio as it was known each day", figure, caption, ["kpis_daily"], 320)


def rolling_risk_chart(rolling: pl.DataFrame, window: int, confidence: float, target: float | None) -> Chart:
    """Sharpe ratio and volatility of the books in a trailing window, with their bands.

    Args:
        rolling: `evaluation.descriptive.rolling_risk`.
        window: days.
        confidence: of the bands.
        target: volatility target, decimal per year; None when there is none.
    """
    figure = panels(["Sharpe, net (per year)", "Volatility (% per year)"])
    z = normal_quantile(confidence)
    percents = rolling.with_columns(pl.col("volatility", "volatility_se") * 100)
    for account in ("regime", "always_on"):
        one = percents.filter(account=account)
        style = ACCOUNT_LINES[account]
        for row, (value, digits) in enumerate((("sharpe", 2), ("volatility", 1)), start=1):
            spread = z * pl.col(f"{value}_se")
            edges = one.with_columns(low=pl.col(value) - spread, high=pl.col(value) + spread)
            for trace in band(edges, "low", "high", style["color"], digits, account, 0.1):
                figure.add_scatter(**trace, row=row, col=1)
            trace = daily_line(one, value, account_name(account), style, digits)
            figure.add_scatter(**trace, legendgroup=account, showlegend=row == 1, row=row, col=1)
    if target is not None and rolling.height:
        wanted = rolling.select("date").unique().with_columns(target=pl.lit(100 * target))
        style = {"color": GREY, "width": 1.4, "dash": "dot"}
        figure.add_scatter(**daily_line(wanted, "target", "Volatility target", style, 1), row=2, col=1)
    known = rolling.drop_nulls(["sharpe", "sharpe_se"]).filter(account="always_on")
    apart = known.select((pl.col("sharpe").abs() > z * pl.col("sharpe_se")).mean()).item()
    found = "not yet known" if apart is None else percent(apart)
    caption = (
        f"Trailing {window} days, bands {percent(confidence, 0)} as of independent days. The Sharpe ratio of the "
        f"always-on book is distinguishable from zero on {found} of days: a window this short says little about "
        "skill, more about risk."
    )
    return chart(
        "rolling-risk", "Rolling Sharpe ratio and volatility", figure, caption + thinned(rolling), ["rolling_risk"], 460
    )
