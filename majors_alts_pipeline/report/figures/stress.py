"""The same books under other assumptions: robustness, costs, capacity, value at risk."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    ACCOUNT_LINES,
    BLUE,
    LEGEND_ON_TOP,
    ORANGE,
    account_name,
    as_float,
    chart,
    layout,
    panels,
    present,
    rounded,
    rounded_or_none,
)
from majors_alts_pipeline.report.html import number, p_words, percent


def robustness_forest(robustness: pl.DataFrame, data: str) -> Chart:
    """Net Sharpe ratio of both books under each other assumption, one at a time."""
    import plotly.graph_objects as go

    drawn = ~pl.col("test").is_in(LINE_TESTS) & (pl.col("case") != AS_CONFIGURED)
    every = robustness.filter(drawn).drop_nulls("sharpe")
    rows = every.join(_extreme_cases(every), on=["test", "case"], how="semi").sort(_test_order(), "rank", "case")
    cases = rows.select("test", "case", "rank").unique().sort(_test_order(), "rank", "case")
    names = [f"{TEST_NAMES.get(test, test)}: {case}" for test, case in cases.select("test", "case").iter_rows()][::-1]
    figure = go.Figure(layout=layout("", dated=False))
    for account, symbol in (("always_on", "square"), ("regime", "circle")):
        one = rows.filter(account=account)
        figure.add_scatter(
            x=[rounded(value, 3) for value in one["sharpe"]],
            y=[f"{TEST_NAMES.get(test, test)}: {case}" for test, case in one.select("test", "case").iter_rows()],
            mode="markers",
            name=account_name(account),
            marker={"size": 9, "symbol": symbol, "color": ACCOUNT_LINES[account]["color"]},
        )
        own = robustness.filter(pl.col("case") == AS_CONFIGURED, account=account)["sharpe"].drop_nulls()
        if len(own):
            figure.add_vline(x=own[0], line={"color": ACCOUNT_LINES[account]["color"], "dash": "dot", "width": 1.2})
    figure.update_xaxes(title_text="Sharpe (per year)", zeroline=True, zerolinewidth=2)
    figure.update_yaxes(categoryorder="array", categoryarray=names, tickfont={"size": 10}, showgrid=True)
    figure.update_layout(LEGEND_ON_TOP)
    left_out = every.select("test", "case").n_unique() - cases.height
    cut = f" {left_out} cases between the extremes of their test are only in the table." if left_out else ""
    caption = (
        f"{_range_words(every)} Each line changes one assumption and keeps the others; dotted: as configured.{cut}"
    )
    height = 130 + 20 * max(len(names), 5)
    return chart("robustness", "The same books under other assumptions", figure, caption, ["robustness"], height, data)


def _extreme_cases(rows: pl.DataFrame) -> pl.DataFrame:
    """(test, case) to draw: of a test with many cases those that move the Sharpe ratio of a book furthest."""
    own = rows.group_by("account", "test").agg(middle=pl.col("sharpe").median())
    moved = (
        rows.join(own, on=["account", "test"])
        .group_by("test", "case")
        .agg(moved=(pl.col("sharpe") - pl.col("middle")).abs().max(), rank=pl.col("rank").min())
        .sort("test", -pl.col("moved"), "rank", "case")
    )
    return moved.group_by("test", maintain_order=True).head(_MOST_CASES)


_MOST_CASES = 12
AS_CONFIGURED = "as configured"
LINE_TESTS = ("cost_bp", "execution_lag")
TEST_NAMES = {
    "cost_bp": "Cost",
    "execution_lag": "Execution lag",
    "start_date": "Start",
    "leave_one_asset_out": "Without",
    "leave_one_year_out": "Year",
    "basket_size": "Alts",
    "neutrality_mode": "Neutrality",
    "vol_forecast": "Volatility forecast",
    "price_noise": "Price noise",
    "survivorship": "Survivorship",
}


def _test_order() -> pl.Expr:
    return pl.col("test").replace_strict({name: k for k, name in enumerate(TEST_NAMES)}, default=len(TEST_NAMES))


def _range_words(rows: pl.DataFrame) -> str:
    words = []
    for account in ("regime", "always_on"):
        one = rows.filter(account=account).sort("sharpe", "test", "case")
        if one.height:
            low, high = one.row(0, named=True), one.row(-1, named=True)
            words.append(
                f"{account_name(account)}: Sharpe ratio from {number(low['sharpe'])} ({_case(low)}) to "
                f"{number(high['sharpe'])} ({_case(high)})"
            )
    return f"{'. '.join(words)}." if words else "No case has a Sharpe ratio."


def _case(row: dict[str, object]) -> str:
    return f"{TEST_NAMES.get(str(row['test']), str(row['test'])).lower()}: {row['case']}"


def cost_sweep(robustness: pl.DataFrame, data: str) -> Chart:
    """Net Sharpe ratio of both books against a flat cost per trade."""
    import plotly.graph_objects as go

    rows = robustness.filter(test="cost_bp").drop_nulls(["level", "sharpe"]).sort("level")
    figure = go.Figure(layout=layout("Net Sharpe ratio", dated=False))
    words = []
    for account, symbol in (("regime", "circle"), ("always_on", "square")):
        one = rows.filter(account=account)
        figure.add_scatter(
            x=one["level"].to_list(), y=[rounded(value, 3) for value in one["sharpe"]], mode="lines+markers",
            name=account_name(account), line=ACCOUNT_LINES[account], marker={"symbol": symbol, "size": 8},
        )  # fmt: skip
        own = robustness.filter(pl.col("case") == AS_CONFIGURED, account=account)["sharpe"].drop_nulls()
        configured = f", {number(own[0])} as configured" if len(own) else ""
        positive = one.filter(pl.col("sharpe") > 0)["level"]
        even = f"above zero up to {as_float(positive.max()):g} bp" if len(positive) else "never above zero"
        words.append(f"{account_name(account)}: {even}{configured}")
    figure.update_xaxes(title_text="Cost of a trade (bp)", zeroline=False)
    figure.update_layout(**LEGEND_ON_TOP, hovermode="closest")
    caption = (
        "Net Sharpe ratio against a flat cost of traded notional, all included, in the place of the cost model. "
        f"{'. '.join(words)}."
    )
    return chart("cost-sweep", "What costs the books can bear", figure, caption, ["robustness"], 340, data)


def capacity_curve(capacity: pl.DataFrame, data: str) -> Chart:
    """Net Sharpe ratio and cost of the books against capital, with square-root impact."""
    figure = panels(["Net Sharpe ratio", "Cost (% of NAV a year)"])
    words, beyond = [], 0
    for account in present(capacity):
        one = capacity.filter(account=account).sort("capital_usd")
        style = ACCOUNT_LINES[account]
        for row, values in enumerate(
            ([rounded_or_none(v, 3) for v in one["sharpe"]], [rounded(100 * v, 3) for v in one["cost_annual"]]), start=1
        ):
            figure.add_scatter(
                x=one["capital_usd"].to_list(), y=values, mode="lines+markers", name=account_name(account), line=style,
                legendgroup=account, showlegend=row == 1, row=row, col=1,
                marker={"symbol": ["circle-open" if over > BEYOND else "circle" for over in one["beyond_liquidity"]],
                        "size": 9},
            )  # fmt: skip
        beyond += one.filter(pl.col("beyond_liquidity") > BEYOND).height
        known = one.filter(pl.col("beyond_liquidity") <= BEYOND).drop_nulls("sharpe")
        if not known.height:
            words.append(f"{account_name(account)}: beyond its liquidity limit at every capital tried")
        else:
            ends = [
                f"{number(v['sharpe'])} at {_short_usd(v['capital_usd'])}"
                for v in known[sorted({0, known.height - 1})].iter_rows(named=True)
            ]
            half = known.filter(pl.col("impact_annual") * 2 >= pl.col("cost_annual"))["capital_usd"]
            eats = f"; impact is half of all costs from {_short_usd(float(half.min()))}" if len(half) else ""  # type: ignore[arg-type]
            limit = (
                f", the largest capital within its liquidity limit on all but {percent(BEYOND, 0)} of days"
                if known.height < one.height
                else ""
            )
            words.append(f"{account_name(account)}: Sharpe ratio {', '.join(ends)}{limit}{eats}")
    capitals = sorted(set(capacity["capital_usd"].to_list()))
    figure.update_xaxes(type="log", tickvals=capitals, ticktext=[_short_usd(value) for value in capitals])
    figure.update_xaxes(title_text="Capital at the start (USD, log scale)", row=2, col=1)
    figure.update_layout(LEGEND_ON_TOP)
    caption = f"{'. '.join(words)}. Impact grows with the square root of the share of daily volume traded." + (
        f" Open markers: the book exceeded basket.adv_share_max on more than {percent(BEYOND, 0)} of days, so that "
        "capital is not reachable and its Sharpe ratio is hypothetical."
        if beyond
        else ""
    )
    return chart("capacity", "Capacity", figure, caption, ["capacity"], 440, data)


BEYOND = 0.05
"""Share of days beyond the liquidity limit above which a capital is not called reachable, as in the verdict."""


def _short_usd(value: float) -> str:
    for size, unit in ((1e9, " bn"), (1e6, " m"), (1e3, " k")):
        if value >= size:
            return f"${value / size:,.3g}{unit}"
    return f"${value:,.0f}"


def var_exceptions(var: pl.DataFrame, data: str) -> Chart:
    """Exceptions of the one-day value at risk beside the number expected."""
    import plotly.graph_objects as go

    rows = var.sort("account", "level")
    names = [f"{account_name(a)}, {percent(level, 0)}" for a, level in rows.select("account", "level").iter_rows()]
    figure = go.Figure(layout=layout("Days", dated=False))
    for column, name, colour, pattern in (
        ("n_exceptions", "Exceptions", BLUE, ""),
        ("expected", "Expected", ORANGE, "/"),
    ):
        figure.add_bar(
            x=names, y=[rounded(float(v), 1) for v in rows[column]], name=name,
            marker={"color": colour, "pattern": {"shape": pattern}},
        )  # fmt: skip
    figure.update_layout(**LEGEND_ON_TOP, barmode="group", hovermode="closest")
    off = [
        f"{name} ({row['n_exceptions']} against {number(row['expected'], 1)}, {p_words(row['kupiec_p'])})"
        for name, row in zip(names, rows.iter_rows(named=True), strict=True)
        if row["kupiec_p"] is not None and row["kupiec_p"] < _REJECTED
    ]
    found = f"The count is off at 5 % for {'; '.join(off)}" if off else "No count is off at 5 % (Kupiec)"
    caption = f"Days on which the loss exceeded the one-day value at risk of the account's own past. {found}."
    return chart("var", "Value at risk: exceptions", figure, caption, ["var_exceptions"], 320, data)


_REJECTED = 0.05
