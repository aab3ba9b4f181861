"""Labels and probabilities of the regime methods, and what the book returned under each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    ACCOUNT_LINES,
    BLUE,
    CYCLE,
    GREY,
    LABEL_COLOURS,
    LEGEND_ON_TOP,
    MAX_POINTS,
    account_name,
    as_float,
    blocks,
    chart,
    daily_line,
    error_bars,
    faint,
    label_name,
    layout,
    method_name,
    panels,
    rounded,
    thinned,
)
from majors_alts_pipeline.report.html import basis_points, percent
from majors_alts_pipeline.report.tables import LABELS

_PATTERNS = {"RISK_ON_MAJORS": "", "BALANCED": ".", "RISK_ON_ALTS": "/"}


def regime_timeline(regime: pl.DataFrame, episodes: pl.DataFrame, enter: Sequence[float]) -> Chart:
    """Score, label and filtered probabilities of the configured method over time, with its switches.

    Args:
        regime: the configured method's rows of the contract.
        episodes: runs of one label.
        enter: entry thresholds in use (default and grid) of the composite, for the caption; empty for other methods.
    """
    figure = panels(["Score", "", "Probability"], [0.4, 0.2, 0.4])
    style = {"color": BLUE, "width": 1.5, "dash": "solid"}
    figure.add_scatter(**daily_line(regime, "score", "Score", style, 3), row=1, col=1, showlegend=False)
    for label, height in zip(LABELS, (2, 1, 0), strict=True):
        xs, ys = blocks(episodes.filter(label=label), height - 0.4, height + 0.4)
        figure.add_scatter(
            x=xs, y=ys, mode="lines", fill="toself", line={"width": 0.5, "color": LABEL_COLOURS[label]},
            fillcolor=LABEL_COLOURS[label], name=label_name(label), hoverinfo="skip", showlegend=False, row=2, col=1,
        )  # fmt: skip
    switched = episodes.slice(1)
    figure.add_scatter(
        x=[day.isoformat() for day in switched["start"]],
        y=[2.75] * switched.height,
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 8, "color": GREY},
        name="Switch",
        text=[label_name(label) for label in switched["label"]],
        hovertemplate="%{x|%Y-%m-%d}: to %{text}<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_yaxes(
        tickvals=[2, 1, 0], ticktext=["Majors", "Balanced", "Alts"], range=[-0.6, 3.1], showgrid=False, row=2, col=1
    )
    for label in LABELS:
        style = {"color": LABEL_COLOURS[label], "width": 0.5, "dash": "solid"}
        name = f"P({label_name(label).lower()})"
        # A stack needs the same days in each of its traces.
        trace = daily_line(regime, f"p_{label.lower()}", name, style, 3, by="p_risk_on_majors")
        figure.add_scatter(
            **trace,
            stackgroup="p",
            fillcolor=faint(LABEL_COLOURS[label], 0.6),
            fillpattern={"shape": _PATTERNS[label], "fgcolor": LABEL_COLOURS[label], "size": 6},
            row=3,
            col=1,
        )
    figure.update_yaxes(range=[0, 1], row=3, col=1)
    figure.update_xaxes(range=[regime["date"][0].isoformat(), regime["date"][-1].isoformat()])
    switches = switched.height
    last = regime.row(-1, named=True)
    tried = f" Entry thresholds tried: {', '.join(f'±{value:g}' for value in sorted(set(enter)))}." if enter else ""
    caption = (
        f"{method_name(last['method']).capitalize()}: {switches} switches in {regime.height:,} days; on the last day "
        f"{label_name(last['label']).lower()} for {last['days_in_regime']} days, P(risk-on majors) "
        f"{percent(last['p_risk_on_majors'], 0)}. From top to bottom the score (positive favours majors), the label, "
        f"and the probability of each label as known at each close (filtered, never revised).{tried}"
    )
    tables = ["regime", "regime_episodes"]
    return chart("regime-timeline", "Regime timeline", figure, caption + thinned(regime), tables, 560)


def method_probabilities(regimes: pl.DataFrame, configured: str) -> Chart:
    """P(risk-on majors) of every method, one small panel each, the configured one first.

    Args:
        regimes: contract `regime`, all methods.
        configured: method that is traded.
    """
    methods = sorted(regimes["method"].unique(), key=lambda name: (name != configured, name))
    figure = panels([""] * len(methods))
    for row, method in enumerate(methods, start=1):
        one = regimes.filter(method=method)
        colour, dash, _ = CYCLE[(row - 1) % len(CYCLE)]
        style = {"color": colour, "width": 1.2, "dash": "solid" if method == configured else dash}
        trace = daily_line(one, "p_risk_on_majors", method_name(method), {**style, "dash": "solid"}, 3)
        figure.add_scatter(**trace, fill="tozeroy", fillcolor=faint(colour, 0.25), showlegend=False, row=row, col=1)
        title = method_name(method) + (" (traded)" if method == configured else "")
        axis = "" if row == 1 else str(row)
        figure.add_annotation(
            text=title, xref=f"x{axis} domain", yref=f"y{axis} domain",
            x=0.005, y=1.0, xanchor="left", yanchor="top", showarrow=False, font={"size": 11},
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1], tickvals=[0, 0.5, 1], showgrid=True, title_text="")
    last = regimes.filter(pl.col("date") == pl.col("date").max())
    share = regimes.group_by("method").agg(on=(pl.col("label") == "RISK_ON_MAJORS").mean())
    means = share.sort("on", "method", descending=[True, False])
    most, least = means.row(0, named=True), means.row(-1, named=True)
    now = int((last["label"] == "RISK_ON_MAJORS").sum())
    caption = (
        f"P(risk-on majors) as each of {len(methods)} methods knew it at each close. Risk-on majors is the label of "
        f"the last day for {now} of them. Most often {method_name(most['method'])} ({percent(most['on'], 0)} of days), "
        f"least often {method_name(least['method'])} ({percent(least['on'], 0)})."
    )
    height = 70 + 78 * len(methods)
    return chart(
        "methods", "Every method's probability", figure, caption + thinned(regimes), ["regime_methods"], height
    )


def hindsight(regimes: pl.DataFrame, smoothed: pl.DataFrame) -> Chart:
    """P(risk-on majors) of the fitted methods as known on the day, beside what hindsight says of the same day.

    Args:
        regimes: contract `regime`, all methods.
        smoothed: contract `hindsight`.
    """
    methods = sorted(smoothed["method"].unique())
    late = smoothed.filter(label="RISK_ON_MAJORS")
    both = regimes.join(late.select("date", "method", "probability"), on=["date", "method"]).sort("method", "date")
    figure = panels([""] * len(methods))
    for row, method in enumerate(methods, start=1):
        one = both.filter(method=method)
        known, later = {"color": CYCLE[0][0], "width": 1.4}, {"color": CYCLE[1][0], "width": 1.1, "dash": "dot"}
        for column, name, style in (
            ("p_risk_on_majors", "known on the day", known),
            ("probability", "HINDSIGHT", later),
        ):
            trace = daily_line(one, column, name, style, 3)
            figure.add_scatter(**trace, legendgroup=name, showlegend=row == 1, row=row, col=1)
        axis = "" if row == 1 else str(row)
        figure.add_annotation(
            text=method_name(method), xref=f"x{axis} domain", yref=f"y{axis} domain",
            x=0.005, y=1.0, xanchor="left", yanchor="top", showarrow=False, font={"size": 11},
        )  # fmt: skip
    figure.update_yaxes(range=[0, 1], tickvals=[0, 0.5, 1], showgrid=True, title_text="")
    figure.update_layout(LEGEND_ON_TOP)
    gap = both.filter(pl.col("score").is_not_null()).group_by("method").agg(
        off=(pl.col("p_risk_on_majors") - pl.col("probability")).abs().mean()
    ).drop_nulls().sort("off", "method", descending=[True, False])  # fmt: skip
    widest = (
        f" They differ most for {method_name(gap['method'][0])}: by {percent(gap['off'][0], 0)} on the mean day."
        if gap.height
        else ""
    )
    caption = (
        "HINDSIGHT, never traded: the dotted line is what the newest model says of each day knowing every later one; "
        f"the solid line is what was known at that day's close and is all the account may use.{widest}"
    )
    return chart(
        "hindsight", "Known on the day, and with hindsight", figure, caption + thinned(regimes), ["hindsight"],
        110 + 90 * len(methods),
    )  # fmt: skip


def consensus_weights(weights: pl.DataFrame) -> Chart:
    """Weight of each method in the consensus over time.

    Args:
        weights: contract `regime_weights`.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("Weight (%)"))
    percents = weights.with_columns(pl.col("weight") * 100)
    for k, method in enumerate(percents["method"].unique(maintain_order=True)):
        colour, dash, _ = CYCLE[k % len(CYCLE)]
        style = {"color": colour, "width": 1.5, "dash": dash}
        figure.add_scatter(**daily_line(percents.filter(method=method), "weight", method_name(method), style, 1))
    figure.update_yaxes(rangemode="tozero", ticksuffix=" %")
    last = weights.filter(pl.col("date") == pl.col("date").max()).sort("weight", "method", descending=[True, False])
    best = last.row(0, named=True)
    able = last.filter(pl.col("skill") > 0).height
    caption = (
        f"How the consensus weighs the methods by the log score of their past forecasts of the book. On the last day "
        f"{method_name(best['method'])} weighs most ({percent(best['weight'], 0)}); {able} of {last.height} methods "
        "have forecast better than the base rate so far."
    )
    title = "Weights of the consensus"
    return chart("weights", title, figure, caption + thinned(weights), ["regime_weights"], 320)


def disagreement(regime: pl.DataFrame) -> Chart:
    """Disagreement of the methods behind a consensus.

    Args:
        regime: rows of one method with its `disagreement`.
    """
    import plotly.graph_objects as go

    known = regime.drop_nulls("disagreement")
    figure = go.Figure(layout=layout("Divergence / ln 3", legend=False))
    style = {"color": BLUE, "width": 1.4, "dash": "solid"}
    figure.add_scatter(
        **daily_line(known, "disagreement", "Disagreement", style, 3), fill="tozeroy", fillcolor=faint(BLUE)
    )
    figure.update_yaxes(rangemode="tozero")
    mean, last = as_float(known["disagreement"].mean()), known["disagreement"][-1]
    caption = (
        "Jensen-Shannon divergence of the methods' probabilities over ln 3: 0 when they agree, 1 when each is sure of "
        f"another label. Mean {mean:.2f}, on the last day {last:.2f}, {'above' if last > mean else 'at or below'} it."
    )
    return chart("disagreement", "Disagreement of the methods", figure, caption + thinned(known), ["regime"], 260)


def persistence(frame: pl.DataFrame, method: str) -> Chart:
    """Filtered probability of the likeliest state, and the chance that it still holds later.

    Args:
        frame: `tables.regimes.persistence` of one method.
        method: its name.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("Probability"))
    ahead = [name for name in frame.columns if name.startswith("days_")]
    for k, column in enumerate(["now", *ahead]):
        colour, dash, _ = CYCLE[k]
        days = column.removeprefix("days_")
        name = "Likeliest state today" if column == "now" else f"It still holds in {days} day{'s' * (days != '1')}"
        figure.add_scatter(**daily_line(frame, column, name, {"color": colour, "width": 1.5, "dash": dash}, 3))
    figure.update_yaxes(range=[0, 1.02])
    last = frame.row(-1, named=True)
    later = "; ".join(
        f"{percent(last[name], 0)} that it holds at horizon {name.removeprefix('days_')} d"
        for name in ahead
        if last[name] is not None
    )
    caption = (
        f"{method_name(method).capitalize()}, under its own transitions. On the last day the likeliest state is "
        f"{last['state'].replace('_', ' ').lower()} with {percent(last['now'], 0)}{f'; {later}' if later else ''}."
    )
    title = "How long the regime is expected to last"
    return chart("persistence", title, figure, caption + thinned(frame), ["regime_probability"], 300)


def returns_by_label(returns: pl.DataFrame, means: pl.DataFrame, confidence: float, data: str) -> Chart:
    """Daily net return of the always-on book by the label the position carries out: means with intervals, densities.

    Args:
        returns: (label, ret_net) of the always-on book.
        means: `evaluation.descriptive.label_means`.
        confidence: of the intervals.
        data: HTML of the table behind it.
    """
    figure = panels(["Mean (bp a day)", "Daily return (bp)"], [0.42, 0.58])
    shown = [label for label in LABELS if label in set(means["label"])]
    words = []
    for account, shift, symbol in (("always_on", -0.08, "diamond"), ("regime", 0.08, "circle")):
        one = means.filter(account=account)
        centre = [1e4 * value for value in one["mean"]]
        ends = [[None if value is None else 1e4 * value for value in one[name]] for name in ("low", "high")]
        figure.add_scatter(
            x=[shown.index(label) + shift for label in one["label"]],
            y=[rounded(value, 2) for value in centre],
            error_y=error_bars(centre, *ends),
            mode="markers",
            marker={"symbol": symbol, "size": 10, "color": ACCOUNT_LINES[account]["color"]},
            name=account_name(account),
            row=1,
            col=1,
        )
        if account == "always_on":
            words = [_mean_words(row) for row in one.iter_rows(named=True)]
    for place, label in enumerate(shown):
        values = _quantiles(returns.filter(label=label)["ret_net"].sort())
        figure.add_violin(
            x=[place] * len(values),
            y=[rounded(1e4 * value, 1) for value in values],
            name=label_name(label),
            line={"color": LABEL_COLOURS[label], "width": 1.2},
            fillcolor=faint(LABEL_COLOURS[label], 0.3),
            points=False,
            spanmode="hard",
            box={"visible": True, "width": 0.08},
            showlegend=False,
            hoverinfo="skip",
            row=2,
            col=1,
        )
    # Days are what the panels of `style.panels` share; here they share labels.
    figure.update_xaxes(
        type="linear", range=[-0.5, len(shown) - 0.5], tickvals=list(range(len(shown))), showgrid=False, zeroline=False,
        ticktext=[label_name(label) for label in shown],
    )  # fmt: skip
    spread = returns["ret_net"].abs().quantile(0.99) if returns.height else None
    if spread:
        figure.update_yaxes(range=[-1.35e4 * spread, 1.35e4 * spread], row=2, col=1)
    caption = (
        f"Mean daily net return of the always-on book, {percent(confidence, 0)} Newey-West interval: "
        f"{'; '.join(words)}. Above, means and intervals of both books; below, all daily returns of the "
        "always-on book with quartiles, by the label whose decision was held, known before the return (the axis "
        "ends near the 99th percentile)."
    )
    tables = ["returns_by_label", "label_means"]
    return chart("returns-by-label", "Returns by regime", figure, caption, tables, 480, data)


def _mean_words(row: dict[str, Any]) -> str:
    value = f"{label_name(row['label']).lower()} {basis_points(row['mean'])}"
    if row["low"] is not None:
        value += f" ({basis_points(row['low'])} to {basis_points(row['high'])})"
    return f"{value} over {row['n_days']:,} days"


def _quantiles(values: pl.Series) -> list[float]:
    """All sorted values, or as many evenly spaced quantiles of them as a trace may hold."""
    if len(values) <= MAX_POINTS:
        return values.to_list()
    rows = [round(k * (len(values) - 1) / (MAX_POINTS - 1)) for k in range(MAX_POINTS)]
    return values.gather(rows).to_list()
