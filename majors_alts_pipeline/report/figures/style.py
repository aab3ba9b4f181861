"""What all figures share: names, colours, dash patterns, axes, and how long series become few points.

Series are Okabe-Ito colours *and* dash patterns. A trace has at most `MAX_POINTS` points: of a longer series the lowest
and highest day of each short stretch are kept, so that no extreme is lost, and the caption says so. Colours of text
and grid are left to the page's theme.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.tables import ACCOUNTS

MAX_POINTS = 2500
DAY_MS = 86_400_000

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#8A8F98"
CYCLE: tuple[tuple[str, str, str], ...] = (
    (BLUE, "solid", "circle"),
    (VERMILLION, "dash", "square"),
    (GREEN, "dashdot", "diamond"),
    (ORANGE, "longdash", "triangle-up"),
    (PURPLE, "dot", "cross"),
    (SKY, "longdashdot", "x"),
    (GREY, "solid", "star"),
    (VERMILLION, "dot", "triangle-down"),
)
"""Colour, dash and marker of the k-th series of what has no colour of its own."""

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
    "ALL": "Every day",
}
LABEL_COLOURS = {"RISK_ON_MAJORS": BLUE, "BALANCED": GREY, "RISK_ON_ALTS": ORANGE}
DIVERGING = [[0, VERMILLION], [0.5, "rgba(128,128,128,0)"], [1, BLUE]]
OPAQUE_DIVERGING = [[0, VERMILLION], [0.5, "#eef0f2"], [1, BLUE]]
"""For cells with text in them: Plotly picks its colour against the cell, whatever the page's theme."""
TRANSPARENT_BLUE = [[0, "rgba(0,114,178,0)"], [0.15, "rgba(86,180,233,0.55)"], [1, BLUE]]
TRANSPARENT_ORANGE = [[0, "rgba(213,94,0,0)"], [0.15, "rgba(230,159,0,0.55)"], [1, VERMILLION]]


LEGEND_ON_TOP: dict[str, Any] = {
    "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
    "margin": {"t": 34, "b": 48},
}
"""Layout of a figure whose horizontal axis has a title, where a legend below would collide with it."""


def account_name(account: str) -> str:
    """Account as a reader calls it."""
    return ACCOUNT_NAMES.get(account, account)


def label_name(label: str) -> str:
    """Regime label as a reader calls it."""
    return LABEL_NAMES.get(label, label)


def method_name(method: str) -> str:
    """Regime method as a reader calls it."""
    return METHOD_NAMES.get(method, method.replace("_", " "))


METHOD_NAMES = {"hmm": "HMM", "gmm": "Gaussian mixture", "kmeans": "k-means", "jump": "jump model"}


def present(frame: pl.DataFrame) -> list[str]:
    """Accounts of the frame in the order a reader wants them."""
    there = set(frame["account"].unique())
    return [account for account in ACCOUNTS if account in there]


def layout(
    y_title: str, *, dated: bool = True, legend: bool = True, rows: int = 1, shaded: bool = False
) -> dict[str, Any]:
    """Layout of a figure of `rows` panels; `shaded` adds a hidden axis from 0 to 1 for bands over the whole height."""
    found: dict[str, Any] = {
        "template": "none",
        "margin": {"l": 62, "r": 16, "t": 30, "b": 36},
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
        found[f"xaxis{suffix}"] = {"type": "date" if dated else "-", "showgrid": False, "automargin": True}
        found[f"yaxis{suffix}"] = {"automargin": True, "zeroline": True, "title": {"text": y_title}}
    if shaded:
        found["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
        found["yaxis"]["anchor"] = "x"
    return found


def panels(titles: Sequence[str], heights: Sequence[float] | None = None) -> Any:
    """Figure of dated panels under each other that share the days, each with the title of its value axis."""
    from plotly.subplots import make_subplots

    rows = len(titles)
    figure = make_subplots(
        rows=rows, cols=1, shared_xaxes=True, vertical_spacing=min(0.07, 0.25 / rows), row_heights=heights
    )
    figure.update_layout(layout("", rows=rows))
    for row, title in enumerate(titles, start=1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    return figure


def chart(
    name: str, title: str, figure: Any, caption: str, tables: Sequence[str], height: int, data: str = ""
) -> Chart:
    """Chart of a Plotly figure; `data` is the HTML table behind it when its traces do not make a readable one."""
    return Chart(name, title, json.loads(figure.to_json(engine="json")), caption, tables, height, data)


def kept_rows(values: pl.Series) -> np.ndarray:
    """Rows of a series that are drawn: all of them up to `MAX_POINTS`.

    Of a longer series the first and the last row, and of each of (MAX_POINTS - 2) / 3 stretches the lowest, the
    highest and the first missing value.
    """
    n = len(values)
    if n <= MAX_POINTS:
        return np.arange(n)
    array = values.cast(pl.Float64).to_numpy()
    edges = np.linspace(0, n, (MAX_POINTS - 2) // 3 + 1).astype(int)
    rows = {0, n - 1}
    for start, end in pairwise(edges):
        stretch = array[start:end]
        missing = np.isnan(stretch)
        if missing.any():
            rows.add(int(start + np.argmax(missing)))
        if not missing.all():
            rows.update((int(start + np.nanargmin(stretch)), int(start + np.nanargmax(stretch))))
    return np.array(sorted(rows))


def thinned(frame: pl.DataFrame) -> str:
    """Sentence for the caption of a figure whose days are too many to draw; empty when all are drawn."""
    days = frame["date"].n_unique()
    if days <= MAX_POINTS:
        return ""
    return f" {days:,} days are drawn by their extremes, at most {MAX_POINTS:,} points a line; the files hold all."


def daily_line(
    frame: pl.DataFrame, column: str, name: str, style: Mapping[str, Any], digits: int, by: str | None = None
) -> dict[str, Any]:
    """Scatter arguments of one daily series.

    Days are sent as a first day and a step or, when they are not evenly spaced, as the steps between them in
    ``meta``, which the page turns into days.

    Args:
        frame: (date, column, ...).
        column: values.
        name: of the trace.
        style: Plotly line.
        digits: decimals kept.
        by: column whose extremes decide which days are kept, for traces that must share their days; `column` itself
            otherwise.
    """
    frame = frame.select(pl.col("date"), values=pl.col(column), by=pl.col(by or column)).sort("date")
    rows = kept_rows(frame["by"])
    kept = frame[rows]
    values = [None if value is None else rounded(value, digits) for value in kept["values"]]
    return {
        **days_of(kept["date"]),
        "y": values,
        "mode": "lines",
        "name": name,
        "line": dict(style),
        "connectgaps": False,
    }


def days_of(dates: pl.Series) -> dict[str, Any]:
    """Ascending days as Plotly arguments, see `line`."""
    if not len(dates):
        return {"x": []}
    steps = dates.diff().dt.total_days().drop_nulls()
    first = dates[0].isoformat()
    if len(steps) and (steps == steps[0]).all():
        return {"x0": first, "dx": int(steps[0]) * DAY_MS}
    return {"x0": first, "meta": {"steps": [0, *steps.to_list()]}}


def band(
    frame: pl.DataFrame, low: str, high: str, colour: str, digits: int, group: str, alpha: float = 0.15
) -> list[dict[str, Any]]:
    """Two scatter arguments: the edges of a band, filled between, without legend or hover."""
    style = {"color": colour, "width": 0, "dash": "solid"}
    hidden = {"legendgroup": group, "showlegend": False, "hoverinfo": "skip"}
    upper = daily_line(frame, high, "upper end", style, digits, by=high)
    lower = daily_line(frame, low, "lower end", style, digits, by=high)
    return [{**upper, **hidden}, {**lower, **hidden, "fill": "tonexty", "fillcolor": faint(colour, alpha)}]


def regime_shading(episodes: pl.DataFrame) -> list[Any]:
    """Traces that shade the days of the two labels a book acts on, colour and pattern."""
    import plotly.graph_objects as go

    traces = []
    for label, pattern in (("RISK_ON_MAJORS", ""), ("RISK_ON_ALTS", "/")):
        xs, ys = blocks(episodes.filter(label=label), 0.0, 1.0)
        traces.append(
            go.Scatter(
                x=xs,
                y=ys,
                yaxis="y2",
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=faint(LABEL_COLOURS[label], 0.14),
                fillpattern={
                    "shape": pattern,
                    "fgcolor": faint(LABEL_COLOURS[label], 0.5),
                    "size": 7,
                    "solidity": 0.15,
                },
                name=label_name(label),
                hoverinfo="skip",
                legendrank=2000,
            )
        )
    return traces


def blocks(episodes: pl.DataFrame, low: float, high: float) -> tuple[list[Any], list[Any]]:
    """Outline of one rectangle per episode, each a day wider than its last close, separated by gaps."""
    xs: list[Any] = []
    ys: list[Any] = []
    ends = episodes.with_columns(pl.col("end").dt.offset_by("1d"))
    for start, end in ends.select("start", "end").iter_rows():
        first, last = start.isoformat(), end.isoformat()
        xs += [first, first, last, last, None]
        ys += [low, high, high, low, None]
    return xs, ys


def weekly(frame: pl.DataFrame, name: str, value: str) -> pl.DataFrame:
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


def heat_map(
    weeks: pl.DataFrame,
    names: Sequence[str],
    digits: int,
    scale: list[Any],
    bound: float,
    unit: str,
    zero: float | None = None,
) -> Any:
    """Heat map of weekly means: one row per name, from -bound (or `zero`) to bound."""
    import plotly.graph_objects as go

    z = [[None if v is None else rounded(v, digits) for v in weeks[name]] for name in names]
    figure = go.Figure(layout=layout("", legend=False))
    figure.add_heatmap(
        x=[d.isoformat() for d in weeks["week"]],
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


def rounded(value: float, digits: int) -> float:
    """Round, keeping three significant digits where `digits` decimals would leave fewer."""
    if value == 0:
        return 0.0
    extra = max(digits, 2 - math.floor(math.log10(abs(value))) if abs(value) < 1 else digits)
    return round(value, min(extra, digits + 3))


def rounded_or_none(value: float | None, digits: int) -> float | None:
    """`rounded`, a null staying null."""
    return None if value is None else rounded(value, digits)


def error_bars(values: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None]) -> dict[str, Any]:
    """Plotly error bars from a value to the ends of its interval; none where an end is null."""
    triples = list(zip(values, lows, highs, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if high is None else rounded(high - value, 4) for value, _, high in triples],
        "arrayminus": [0.0 if low is None else rounded(value - low, 4) for value, low, _ in triples],
        "thickness": 1.8,
        "width": 5,
    }


def faint(colour: str, alpha: float = 0.18) -> str:
    """Colour as rgba."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def normal_quantile(confidence: float) -> float:
    """Standard errors on either side of an interval of that confidence."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + confidence / 2)


def as_float(value: Any) -> float:
    """Aggregate of a Polars series as a float; 0 when it is null, as of an empty series."""
    return float(value) if value is not None else 0.0


def lowest(series: pl.Series) -> float:
    """Minimum, 0 when there is none."""
    return as_float(series.min())
