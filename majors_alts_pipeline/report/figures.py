"""Plotly figures of the report: frames in, `Chart` out. The page's theme colours text and grid.

Series are Okabe-Ito colours *and* dash patterns, at most `MAX_POINTS` points per trace (every k-th day
counted back from the last one, k named in the caption), rounded to what a screen can show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from majors_alts_pipeline.report.html import Chart, basis_points, number, percent
from majors_alts_pipeline.report.tables import ACCOUNTS, LABELS, added

MAX_POINTS = 2500
_DAY_MS = 86_400_000
_MIN_SHARPE_DAYS = 120

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#8A8F98"

ACCOUNT_NAMES = {
    "regime": "Regime-timed book",
    "always_on": "Always-on book",
    "btc": "BTC",
    "eth": "ETH",
    "btc_eth": "BTC/ETH 50:50",
    "alt_index": "Alt index",
    "random_regimes": "Random regimes",
}
ACCOUNT_LINES: dict[str, dict[str, Any]] = {
    "regime": {"color": BLUE, "width": 2.4, "dash": "solid"},
    "always_on": {"color": VERMILLION, "width": 2, "dash": "dash"},
    "btc": {"color": ORANGE, "width": 1.3, "dash": "dot"},
    "eth": {"color": PURPLE, "width": 1.3, "dash": "dashdot"},
    "btc_eth": {"color": GREEN, "width": 1.3, "dash": "longdash"},
    "alt_index": {"color": SKY, "width": 1.3, "dash": "longdashdot"},
    "random_regimes": {"color": GREY, "width": 1.3, "dash": "dot"},
}
LABEL_NAMES = {
    "RISK_ON_MAJORS": "Risk-on majors",
    "BALANCED": "Balanced",
    "RISK_ON_ALTS": "Risk-on alts",
    "NONE": "No label yet",
}
LABEL_COLOURS = {"RISK_ON_MAJORS": BLUE, "BALANCED": GREY, "RISK_ON_ALTS": ORANGE}
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
_DIVERGING = [[0, VERMILLION], [0.5, "rgba(128,128,128,0)"], [1, BLUE]]
_TRANSPARENT_BLUE = [[0, "rgba(0,114,178,0)"], [0.15, "rgba(86,180,233,0.55)"], [1, BLUE]]
_TRANSPARENT_ORANGE = [[0, "rgba(213,94,0,0)"], [0.15, "rgba(230,159,0,0.55)"], [1, VERMILLION]]


def account_name(account: str) -> str:
    """Account as a reader calls it."""
    return ACCOUNT_NAMES.get(account, account)


def label_name(label: str) -> str:
    """Regime label as a reader calls it."""
    return LABEL_NAMES.get(label, label)


def equity(daily: pl.DataFrame, episodes: pl.DataFrame, verdict: str) -> Chart:
    """Growth of one dollar, net, all accounts, log axis, shaded by the label known on the day."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout("Growth of $1 (log scale)", shaded=True))
    figure.add_traces(_regime_shading(episodes))
    for account in _present(daily):
        one = daily.filter(account=account)
        figure.add_scatter(**_line(one, "growth", account_name(account), ACCOUNT_LINES[account], 4))
    for account in ("regime", "always_on"):
        one = daily.filter(account=account)
        line = {**ACCOUNT_LINES[account], "width": 1, "dash": "dot"}
        name = f"{account_name(account)}, before costs"
        figure.add_scatter(**_line(one, "growth_gross", name, line, 4), visible="legendonly")
    figure.update_xaxes(range=[daily["date"].min().isoformat(), daily["date"].max().isoformat()])  # type: ignore[union-attr]
    figure.update_yaxes(type="log", tickformat=".3~g", selector={"anchor": "x"})
    caption = f"Growth of $1 after costs and funding. {verdict} Shading: the label known at each close."
    return _chart(
        "equity", "Equity of the book and its baselines", figure, caption + _thinned(daily), ["accounts"], 470
    )


def underwater(daily: pl.DataFrame) -> Chart:
    """Distance from the running peak of the books and of BTC."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout("Below the running peak (%)"))
    worst = []
    for account in ("regime", "always_on", "btc"):
        one = daily.filter(account=account)
        line = ACCOUNT_LINES[account]
        trace = _line(one.with_columns(pl.col("drawdown") * 100), "drawdown", account_name(account), line, 2)
        filled = {"fill": "tozeroy", "fillcolor": _faint(BLUE)} if account == "regime" else {}
        figure.add_scatter(**trace, **filled)
        worst.append(f"{account_name(account)} {percent(_lowest(one['drawdown']))}")
    figure.update_yaxes(ticksuffix=" %")
    caption = f"Deepest fall from a peak, after costs: {'; '.join(worst)}."
    return _chart("underwater", "Underwater", figure, caption + _thinned(daily), ["accounts", "drawdowns"], 320)


def sharpe_intervals(rows: Sequence[Mapping[str, Any]], confidence: float) -> Chart:
    """Net Sharpe ratio of every account with its bootstrap interval.

    Args:
        rows: mappings with account, sharpe, low, high (null where they do not exist).
        confidence: of the interval.
    """
    import plotly.graph_objects as go

    known = [row for row in rows if row["sharpe"] is not None][::-1]
    figure = go.Figure(layout=_layout("", dated=False, legend=False))
    for row in known:
        colour = ACCOUNT_LINES[row["account"]]["color"]
        low = row["low"] if row["low"] is not None else row["sharpe"]
        high = row["high"] if row["high"] is not None else row["sharpe"]
        figure.add_scatter(
            x=[_rounded(row["sharpe"], 3)],
            y=[account_name(row["account"])],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [_rounded(high - row["sharpe"], 3)],
                "arrayminus": [_rounded(row["sharpe"] - low, 3)],
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
    return _chart("sharpe", "Sharpe ratios with intervals", figure, caption, ["kpis"], 80 + 40 * max(len(known), 3))


def sharpe_to_date(kpis: pl.DataFrame, confidence: float) -> Chart:
    """Net Sharpe ratio from the start to each day, as it was known that day, with its normal band."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout("Net Sharpe ratio to date (per year)"))
    z = _normal_quantile(confidence)
    last = []
    for account in ("regime", "always_on"):
        # The first months say nothing and would set the scale.
        one = kpis.filter(pl.col("n_days") >= _MIN_SHARPE_DAYS, account=account).drop_nulls(["sharpe", "sharpe_se"])
        colour = ACCOUNT_LINES[account]["color"]
        for sign, fill in ((1, None), (-1, "tonexty")):
            edge = one.with_columns(edge=pl.col("sharpe") + sign * z * pl.col("sharpe_se"))
            trace = _line(edge, "edge", "band", {"color": colour, "width": 0, "dash": "solid"}, 2)
            hidden = {"legendgroup": account, "showlegend": False, "hoverinfo": "skip"}
            figure.add_scatter(**{**trace, **hidden}, fill=fill, fillcolor=_faint(colour, 0.12))
        trace = _line(one, "sharpe", account_name(account), ACCOUNT_LINES[account], 2)
        figure.add_scatter(**trace, legendgroup=account)
        for row in one.tail(1).iter_rows(named=True):
            last.append(f"{account_name(account)} {number(row['sharpe'])} ± {number(z * row['sharpe_se'])}")
    words = "; ".join(last) or "too few days"
    caption = (
        f"Sharpe ratio from the start to each day, drawn from day {_MIN_SHARPE_DAYS} on, with a "
        f"{percent(confidence, 0)} band "
        f"from its standard error (Lo 2002). At the end: {words}."
    )
    return _chart("sharpe-to-date", "Sharpe ratio as it was known each day", figure, caption, ["kpis_daily"], 320)


def rolling_betas_chart(rolling: pl.DataFrame, window: int, confidence: float) -> Chart:
    """Realised betas in a trailing window with their band, and the ex-ante beta beside them."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    figure.update_layout(_layout("", rows=2))
    z = _normal_quantile(confidence)
    for row, factor in enumerate(("btc", "eth"), start=1):
        for account in ("regime", "always_on"):
            one = rolling.filter(account=account, factor=factor).drop_nulls("beta")
            shown = {} if account == "regime" else {"visible": "legendonly"}
            group = {"legendgroup": account, "showlegend": row == 1}
            band = {"color": ACCOUNT_LINES[account]["color"], "width": 0, "dash": "solid"}
            spread = z * one["se"].fill_null(0.0)
            low, high = one["beta"] - spread, one["beta"] + spread
            for edge, fill in ((high, None), (low, "tonexty")):
                trace = _line(one.with_columns(edge.alias("edge")), "edge", "band", band, 3)
                hidden = {
                    "legendgroup": account,
                    "showlegend": False,
                    "hoverinfo": "skip",
                    "hovertemplate": None,
                }
                colour = _faint(ACCOUNT_LINES[account]["color"])
                figure.add_scatter(**{**trace, **hidden, **shown}, fill=fill, fillcolor=colour, row=row, col=1)
            line = _line(one, "beta", f"{account_name(account)}, realised", ACCOUNT_LINES[account], 3)
            figure.add_scatter(**{**line, **group, **shown}, row=row, col=1)
            thin = {"color": GREEN if account == "regime" else PURPLE, "width": 1.2, "dash": "dot"}
            ante = _line(one, "ex_ante", f"{account_name(account)}, ex ante", thin, 3)
            figure.add_scatter(**{**ante, **group, **shown}, row=row, col=1)
        figure.update_yaxes(title_text=f"Beta to {factor.upper()}", row=row, col=1)
    regime = rolling.filter(account="regime").drop_nulls("se")
    outside = regime.select((pl.col("beta").abs() > z * pl.col("se")).mean()).item()
    outside = "not yet known" if outside is None else percent(outside)
    caption = (
        f"Realised beta of the regime-timed book over the trailing {window} days, band "
        f"{percent(confidence, 0)}, beside the "
        f"ex-ante beta of the drifted book. Days on which the band excludes zero: {outside} of those "
        "invested "
        f"(about {percent(1 - confidence, 0)} expected of a neutral book). The always-on book can be "
        "switched on in the legend."
    )
    return _chart("rolling-betas", "Rolling betas", figure, caption + _thinned(rolling), ["rolling_betas"], 520)


def exposures(daily: pl.DataFrame, limits: str) -> Chart:
    """Long, short, gross and net exposure of the regime account, and gross of the always-on account.

    Args:
        daily: accounts.
        limits: sentence on the caps and how far the book went, for the caption.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout("% of NAV"))
    one = daily.filter(account="regime").with_columns(
        gross=pl.col("gross_exposure") * 100,
        net=pl.col("net_exposure") * 100,
        long=pl.col("long_usd") / pl.col("nav") * 100,
        short=pl.col("short_usd") / pl.col("nav") * 100,
    )
    lines = {
        "long": {"color": BLUE, "width": 1.6, "dash": "solid"},
        "short": {"color": VERMILLION, "width": 1.6, "dash": "dash"},
        "net": {"color": GREEN, "width": 1.6, "dash": "dashdot"},
        "gross": {"color": GREY, "width": 1.2, "dash": "dot"},
    }
    for column, line in lines.items():
        figure.add_scatter(**_line(one, column, column.capitalize(), line, 1))
    always = daily.filter(account="always_on").with_columns(gross=pl.col("gross_exposure") * 100)
    name = f"Gross, {account_name('always_on').lower()}"
    line = ACCOUNT_LINES["always_on"]
    figure.add_scatter(**_line(always, "gross", name, {**line, "width": 1}, 1), visible="legendonly")
    figure.update_yaxes(ticksuffix=" %")
    invested = one.filter(pl.col("gross_exposure") > 0)
    gross, net = invested["gross_exposure"].mean(), invested["net_exposure"].mean()
    mean = (
        f"mean gross {percent(as_float(gross))}, mean net {percent(as_float(net))} of NAV"
        if invested.height
        else "never"
    )
    caption = f"Exposure of the regime-timed book at each close; when invested: {mean}. {limits}"
    return _chart("exposures", "Exposures", figure, caption + _thinned(daily), ["accounts"], 340)


def attribution_bars(totals: pl.DataFrame) -> Chart:
    """Earned and paid per year, by component, of the two books."""
    import plotly.graph_objects as go

    names = [name for name in COMPONENT_NAMES if name != "pnl_funding_assumed"]
    figure = go.Figure(layout=_layout("% of NAV per year", dated=False))
    words = []
    for account in ("regime", "always_on", "random_regimes"):
        one = {row["component"]: row["per_year"] for row in totals.filter(account=account).iter_rows(named=True)}
        if not one:
            continue
        figure.add_bar(
            x=[COMPONENT_NAMES[name] for name in names],
            y=[_rounded(100 * one[name], 3) for name in names],
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
    figure.update_layout(barmode="group")
    caption = f"Yearly mean of daily profit and cost over NAV (not compounded). {'; '.join(words)}."
    return _chart("attribution", "Where the return came from and where it went", figure, caption, ["attribution"], 360)


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
    figure = go.Figure(layout=_layout("Sum of daily % of NAV"))
    for name, line in COMPONENT_LINES.items():
        figure.add_scatter(**_line(one, name, COMPONENT_NAMES[name], line, 3))
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
    return _chart(f"attribution-{account}", title, figure, caption + _thinned(one), ["accounts"], 360)


def funding_legs(legs: pl.DataFrame, capital: float) -> Chart:
    """Funding received and paid by each leg since the start."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout("% of initial capital"))
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
        figure.add_scatter(**_line(one, "cumulative", f"{account_name(account)}, {side}", line, 3))
        words.append(f"{account_name(account).lower()} {side} {percent(one['cumulative'][-1] / 100)}")
    figure.update_yaxes(ticksuffix=" %")
    caption = f"Funding received (+) or paid (−) since the start, in % of initial capital: {'; '.join(words)}."
    return _chart("funding-legs", "Funding by leg", figure, caption + _thinned(legs), ["funding_by_leg"], 330)


def turnover(backtest: pl.DataFrame) -> Chart:
    """Monthly turnover of each leg of the regime account."""
    import plotly.graph_objects as go

    monthly = (
        backtest.filter(account="regime")
        .group_by(month=pl.col("date").dt.truncate("1mo"))
        .agg(pl.col("turnover_major", "turnover_alt").sort_by("date").sum())
        .sort("month")
    )
    figure = go.Figure(layout=_layout("Traded notional / NAV, per month"))
    for column, name, colour, pattern in (
        ("turnover_major", "Majors", BLUE, ""),
        ("turnover_alt", "Alts", ORANGE, "/"),
    ):
        figure.add_bar(
            x=[f"{value:%Y-%m}" for value in monthly["month"]],
            y=[_rounded(value, 3) for value in monthly[column]],
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
    return _chart("turnover", "Turnover", figure, caption, ["accounts"], 300)


def regime_timeline(regime: pl.DataFrame, episodes: pl.DataFrame, enter: Sequence[float]) -> Chart:
    """Composite score, label and probabilities over time.

    Args:
        regime: one method's rows of the contract.
        episodes: runs of one label.
        enter: entry thresholds in use (default and grid), for the caption.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.45, 0.15, 0.4])
    figure.update_layout(_layout("", rows=3))
    line = {"color": BLUE, "width": 1.5, "dash": "solid"}
    figure.add_scatter(**_line(regime, "score", "Score", line, 3), row=1, col=1)
    for label, height in zip(LABELS, (2, 1, 0), strict=True):
        rows = episodes.filter(label=label)
        xs, ys = _blocks(rows, height - 0.4, height + 0.4)
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="lines",
            fill="toself",
            line={"width": 0.5, "color": LABEL_COLOURS[label]},
            fillcolor=LABEL_COLOURS[label],
            name=label_name(label),
            hoverinfo="skip",
            showlegend=False,
            row=2,
            col=1,
        )
    figure.update_yaxes(
        tickvals=[2, 1, 0],
        ticktext=["Majors", "Balanced", "Alts"],
        range=[-0.6, 2.6],
        showgrid=False,
        row=2,
        col=1,
    )
    patterns = {"RISK_ON_MAJORS": "", "BALANCED": ".", "RISK_ON_ALTS": "/"}
    for label in LABELS:
        column = f"p_{label.lower()}"
        style = {"color": LABEL_COLOURS[label], "width": 0.5, "dash": "solid"}
        trace = _line(regime, column, f"P({label_name(label).lower()})", style, 3)
        figure.add_scatter(
            **trace,
            stackgroup="p",
            fillcolor=_faint(LABEL_COLOURS[label], 0.6),
            fillpattern={"shape": patterns[label], "fgcolor": LABEL_COLOURS[label], "size": 6},
            row=3,
            col=1,
        )
    figure.update_yaxes(title_text="Score (sd)", row=1, col=1)
    figure.update_yaxes(title_text="Probability", range=[0, 1], row=3, col=1)
    switches = max(episodes.height - 1, 0)
    last = regime.row(-1, named=True)
    caption = (
        "Composite score (positive favours majors), the label it gave and the probability of each label. "
        f"{switches} "
        f"switches; on the last day {label_name(last['label']).lower()} for {last['days_in_regime']} days. "
        "Entry thresholds "
        f"tried: {', '.join(f'±{value:g}' for value in sorted(set(enter)))}."
    )
    return _chart(
        "regime-timeline",
        "Regime timeline",
        figure,
        caption + _thinned(regime),
        ["regime", "regime_episodes"],
        560,
    )


def returns_by_label(quartiles: pl.DataFrame) -> Chart:
    """Daily net return of the two books by the label the position carries out."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout("Daily net return (bp)", dated=False))
    words = []
    for account, pattern in (("always_on", VERMILLION), ("regime", BLUE)):
        one = quartiles.filter(account=account)
        values = {
            name: [_rounded(1e4 * v, 2) for v in one[name]] for name in ("p05", "p25", "median", "p75", "p95", "mean")
        }
        figure.add_box(
            x=[label_name(label) for label in one["label"]],
            lowerfence=values["p05"],
            q1=values["p25"],
            median=values["median"],
            q3=values["p75"],
            upperfence=values["p95"],
            mean=values["mean"],
            boxmean=True,
            name=account_name(account),
            marker={"color": pattern},
            line={"color": pattern, "width": 1.5},
            fillcolor=_faint(pattern, 0.25 if account == "always_on" else 0.05),
        )
        if account == "always_on":
            words = [
                f"{label_name(r['label']).lower()} {basis_points(r['mean'])} a day over {r['n_days']} days"
                for r in one.iter_rows(named=True)
            ]
    figure.update_layout(boxmode="group")
    caption = (
        "Distribution of daily net returns by the label whose decision was held (known before the return): "
        "box quartiles, "
        f"whiskers 5 to 95 %, dashed line mean. Always-on book: {'; '.join(words)}."
    )
    return _chart("returns-by-label", "Returns by regime", figure, caption, ["returns_by_label"], 360)


def feature_heat_map(features: pl.DataFrame) -> Chart:
    """Weekly mean z-score of each feature, blue high and orange low."""
    weekly = _weekly(features.drop_nulls("z"), "feature", "z")
    names = sorted(features["feature"].unique())
    missing = [name for name in names if name not in weekly.columns]
    figure = _heat_map(weekly, [name for name in names if name not in missing][::-1], 2, _DIVERGING, 3.0, "z")
    without = f" Without a z-score anywhere: {', '.join(missing)}." if missing else ""
    scale = "from −3 (orange) to +3 (blue); empty where unknown"
    caption = f"Weekly mean z-score of each regime feature, {scale}.{without}"
    return _chart("features", "Regime features", figure, caption, ["features"], 80 + 22 * max(len(names), 4))


def membership(basket: pl.DataFrame, n_names: int = 40) -> Chart:
    """Weekly mean target weight of the alts the book held longest."""
    alts = basket.filter((pl.col("leg") == "alt") & (pl.col("weight") != 0))
    ranked = alts.group_by("asset_id").agg(n=pl.len()).sort("n", "asset_id", descending=[True, False])
    names = ranked["asset_id"].head(n_names).to_list()
    short = alts.filter(pl.col("asset_id").is_in(names)).with_columns(weight=-100 * pl.col("weight"))
    weekly = _weekly(short, "asset_id", "weight")
    largest = as_float(short["weight"].max())
    figure = _heat_map(weekly, names[::-1], 2, _TRANSPARENT_ORANGE, max(largest, 1e-9), "% of NAV", zero=0.0)
    caption = (
        "Short weight of each alt (weekly mean, % of NAV, darker is larger; empty when not in the book): "
        "the "
        f"{len(names)} longest held of {ranked.height} alts."
    )
    return _chart(
        "membership",
        "Basket membership",
        figure,
        caption,
        ["basket_members", "basket"],
        90 + 15 * max(len(names), 6),
    )


def basket_size(daily: pl.DataFrame) -> Chart:
    """Names in the target book, and its long and short weight."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    figure.update_layout(_layout("", rows=2))
    frame = daily.with_columns(pl.col("long_weight", "short_weight") * 100)
    figure.add_scatter(
        **_line(frame, "n_alts", "Alts in the book", {"color": BLUE, "width": 1.6, "dash": "solid"}, 0),
        row=1,
        col=1,
    )
    figure.add_scatter(
        **_line(frame, "long_weight", "Long weight", {"color": GREEN, "width": 1.6, "dash": "solid"}, 2),
        row=2,
        col=1,
    )
    figure.add_scatter(
        **_line(frame, "short_weight", "Short weight", {"color": VERMILLION, "width": 1.6, "dash": "dash"}, 2),
        row=2,
        col=1,
    )
    figure.update_yaxes(title_text="Names", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="% of NAV", ticksuffix=" %", row=2, col=1)
    flat = percent(as_float((daily["status"] == "flat").mean()))
    relaxed = percent(as_float((daily["status"] == "relaxed").mean()))
    caption = (
        f"Target book before timing and volatility targeting. Flat on {flat} of days, "
        f"with relaxed constraints on {relaxed}."
    )
    return _chart("basket-size", "Size of the target book", figure, caption + _thinned(daily), ["basket_daily"], 380)


def universe_size(daily: pl.DataFrame) -> Chart:
    """Assets with a price and eligible alts per day."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout("Assets"))
    for column, name, line in (
        ("n_priced", "With a price", {"color": GREY, "width": 1.4, "dash": "solid"}),
        ("n_eligible_alts", "Eligible alts", {"color": BLUE, "width": 2, "dash": "solid"}),
        (
            "n_shortable",
            "Eligible alts known to be shortable",
            {"color": ORANGE, "width": 1.5, "dash": "dash"},
        ),
    ):
        figure.add_scatter(**_line(daily, column, name, line, 0))
    figure.update_yaxes(rangemode="tozero")
    last = daily.row(-1, named=True)
    caption = (
        "Assets with a price and alts that could be held, per day. On the last day "
        f"{last['n_eligible_alts']} of "
        f"{last['n_priced']} assets were eligible alts; at most {daily['n_eligible_alts'].max()!s}."
    )
    return _chart("universe-size", "Universe size", figure, caption + _thinned(daily), ["universe_daily"], 320)


def unfunded_per_day(universe: pl.DataFrame, unfunded: pl.DataFrame, n_alts: int) -> Chart:
    """Alts among the most traded that only the funding rule keeps out, per day since an alt was eligible."""
    import plotly.graph_objects as go

    counts = unfunded.group_by("date").agg(n=pl.len())
    daily = (
        universe.filter(pl.col("n_eligible_alts") > 0)
        .select("date")
        .join(counts, on="date", how="full", coalesce=True)
        .with_columns(pl.col("n").fill_null(0))
        .sort("date")
    )
    figure = go.Figure(layout=_layout("Alts", legend=False))
    line = {"color": VERMILLION, "width": 1.5, "dash": "solid"}
    figure.add_scatter(**_line(daily, "n", "Kept out for want of funding", line, 0))
    figure.update_yaxes(rangemode="tozero")
    caption = (
        f"Alts that would rank among the {n_alts} most traded and fail only the funding rule: "
        f"{number(as_float(daily['n'].mean()), 1)} a day on average, {daily['n'][-1]} on the last day."
    )
    tables_of = ["unfunded_alts", "unfunded_names"]
    return _chart("unfunded", "Eligible but for funding", figure, caption + _thinned(daily), tables_of, 260)


def funding_kinds(coverage: pl.DataFrame) -> Chart:
    """Where the funding of eligible assets comes from, by quarter."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout("% of eligible asset-days", dated=False))
    styles = {
        "sum": ("True daily sum", GREEN, ""),
        "print_scaled": ("One print, scaled", ORANGE, "/"),
        "missing": ("Missing", GREY, "x"),
    }
    quarters = [f"{value.year} Q{(value.month + 2) // 3}" for value in coverage["quarter"]]
    for column, (name, colour, pattern) in styles.items():
        figure.add_bar(
            x=quarters,
            y=[_rounded(100 * value, 2) for value in coverage[column]],
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern}},
            hovertemplate="%{x}: %{y:.1f} %<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(ticksuffix=" %", range=[0, 100])
    days = int(coverage["n_asset_days"].sum())
    missing = as_float((coverage["missing"] * coverage["n_asset_days"]).sum()) / max(days, 1)
    caption = f"Origin of the funding rate of eligible assets. Missing on {percent(missing)} of {days:,} asset-days."
    return _chart("funding-kinds", "Funding known, scaled and missing", figure, caption, ["funding_coverage"], 300)


def beta_quality_chart(quality: pl.DataFrame) -> Chart:
    """Uncertainty of the estimated betas and the collinearity of the two factors."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    figure.update_layout(_layout("", rows=2))
    figure.add_scatter(
        **_line(quality, "se_btc", "Median s.e., BTC", {"color": BLUE, "width": 1.6, "dash": "solid"}, 3),
        row=1,
        col=1,
    )
    figure.add_scatter(
        **_line(quality, "se_eth", "Median s.e., ETH", {"color": ORANGE, "width": 1.6, "dash": "dash"}, 3),
        row=1,
        col=1,
    )
    figure.add_scatter(
        **_line(quality, "vif", "Variance inflation", {"color": PURPLE, "width": 1.6, "dash": "solid"}, 2),
        row=2,
        col=1,
    )
    figure.update_yaxes(title_text="Standard error", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="VIF (ratio)", rangemode="tozero", row=2, col=1)
    vif = quality["vif"]
    caption = (
        "Median standard error of one asset's beta, and the variance inflation 1 / (1 − corr²) of BTC and "
        "ETH: median "
        f"{number(as_float(vif.median()), 1)}, at most {number(as_float(vif.max()), 1)}. When it is high the "
        "two betas are not told apart well."
    )
    return _chart(
        "beta-quality", "How well betas are known", figure, caption + _thinned(quality), ["beta_quality"], 380
    )


def _present(frame: pl.DataFrame) -> list[str]:
    there = set(frame["account"].unique())
    return [account for account in ACCOUNTS if account in there]


def _layout(
    y_title: str, *, dated: bool = True, legend: bool = True, rows: int = 1, shaded: bool = False
) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "template": "none",
        "margin": {"l": 62, "r": 16, "t": 8, "b": 36},
        "font": {
            "family": "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif",
            "size": 12,
        },
        "showlegend": legend,
        "legend": {"orientation": "h", "y": -0.1 if rows == 1 else -0.07, "yanchor": "top", "x": 0},
        "hovermode": "x unified" if dated and rows == 1 else "closest",
        "colorway": [BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY],
    }
    for k in range(1, rows + 1):
        suffix = "" if k == 1 else str(k)
        layout[f"xaxis{suffix}"] = {"type": "date" if dated else "-", "showgrid": False, "automargin": True}
        layout[f"yaxis{suffix}"] = {"automargin": True, "zeroline": True, "title": {"text": y_title}}
    if shaded:
        layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
        layout["yaxis"]["anchor"] = "x"
    return layout


def _chart(name: str, title: str, figure: Any, caption: str, tables: Sequence[str], height: int) -> Chart:
    return Chart(name, title, json.loads(figure.to_json(engine="json")), caption, tables, height)


def _step(height: int) -> int:
    return max(1, math.ceil(height / MAX_POINTS))


def _days(frame: pl.DataFrame) -> int:
    return frame["date"].n_unique()


def _thinned(frame: pl.DataFrame) -> str:
    step = _step(_days(frame))
    return f" Every {step}th day is drawn; the files hold all." if step > 1 else ""


def _line(frame: pl.DataFrame, column: str, name: str, line: Mapping[str, Any], digits: int) -> dict[str, Any]:
    """Scatter arguments of one daily series; contiguous days are sent as a start and a step."""
    frame = frame.select("date", column).sort("date")
    step = _step(frame.height)
    offset = (frame.height - 1) % step if frame.height else 0
    kept = frame.gather_every(step, offset)
    values = [None if value is None else _rounded(value, digits) for value in kept[column]]
    regular = kept.height > 1 and (kept["date"].diff().drop_nulls().dt.total_days() == step).all()
    when: dict[str, Any] = (
        {"x0": kept["date"][0].isoformat(), "dx": step * _DAY_MS}
        if regular
        else {"x": [d.isoformat() for d in kept["date"]]}
    )
    return {**when, "y": values, "mode": "lines", "name": name, "line": dict(line), "connectgaps": False}


def _regime_shading(episodes: pl.DataFrame) -> list[Any]:
    import plotly.graph_objects as go

    traces = []
    for label, pattern in (("RISK_ON_MAJORS", ""), ("RISK_ON_ALTS", "/")):
        xs, ys = _blocks(episodes.filter(label=label), 0.0, 1.0)
        traces.append(
            go.Scatter(
                x=xs,
                y=ys,
                yaxis="y2",
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=_faint(LABEL_COLOURS[label], 0.14),
                fillpattern={
                    "shape": pattern,
                    "fgcolor": _faint(LABEL_COLOURS[label], 0.5),
                    "size": 7,
                    "solidity": 0.15,
                },
                name=label_name(label),
                hoverinfo="skip",
                legendrank=2000,
            )
        )
    return traces


def _blocks(episodes: pl.DataFrame, low: float, high: float) -> tuple[list[Any], list[Any]]:
    """Outline of one rectangle per episode, each a day wider than its last close, separated by gaps."""
    xs: list[Any] = []
    ys: list[Any] = []
    ends = episodes.with_columns(pl.col("end").dt.offset_by("1d"))
    for start, end in ends.select("start", "end").iter_rows():
        first, last = start.isoformat(), end.isoformat()
        xs += [first, first, last, last, None]
        ys += [low, high, high, low, None]
    return xs, ys


def _weekly(frame: pl.DataFrame, name: str, value: str) -> pl.DataFrame:
    """Weekly means, one column per name, weeks without a row kept as nulls."""
    if not frame.height:
        return pl.DataFrame({"week": []}, schema={"week": pl.Date()})
    means = (
        frame.group_by(name, week=pl.col("date").dt.truncate("1w"))
        .agg(pl.col(value).sort_by("date").mean())
        .pivot(name, index="week", values=value)
    )
    weeks = means.select(pl.date_range(pl.col("week").min(), pl.col("week").max(), "1w"))
    return weeks.join(means, on="week", how="left").sort("week")


def _heat_map(
    weekly: pl.DataFrame,
    names: Sequence[str],
    digits: int,
    scale: list[Any],
    bound: float,
    unit: str,
    zero: float | None = None,
) -> Any:
    import plotly.graph_objects as go

    z = [[None if v is None else _rounded(v, digits) for v in weekly[name]] for name in names]
    figure = go.Figure(layout=_layout("", legend=False))
    figure.add_heatmap(
        x=[d.isoformat() for d in weekly["week"]],
        y=list(names),
        z=z,
        colorscale=scale,
        zmin=-bound if zero is None else zero,
        zmax=bound,
        hoverongaps=False,
        colorbar={"title": {"text": unit}, "thickness": 12, "outlinewidth": 0},
        hovertemplate="%{y}, week of %{x|%Y-%m-%d}: %{z}<extra></extra>",
    )
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(dtick=1, showgrid=False, zeroline=False, tickfont={"size": 10})
    return figure


def _rounded(value: float, digits: int) -> float:
    """Round, keeping three significant digits where `digits` decimals would leave fewer."""
    if value == 0:
        return 0.0
    extra = max(digits, 2 - math.floor(math.log10(abs(value))) if abs(value) < 1 else digits)
    return round(value, min(extra, digits + 3))


def _faint(colour: str, alpha: float = 0.18) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _normal_quantile(confidence: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + confidence / 2)


def as_float(value: Any) -> float:
    """Aggregate of a Polars series as a float; 0 when it is null, as of an empty series."""
    return float(value) if value is not None else 0.0


def _lowest(series: pl.Series) -> float:
    return as_float(series.min())
