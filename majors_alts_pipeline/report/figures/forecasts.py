"""How good the probabilities and the features were as forecasts."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    CYCLE,
    GREY,
    LEGEND_ON_TOP,
    OPAQUE_DIVERGING,
    as_float,
    chart,
    error_bars,
    layout,
    method_name,
    rounded,
    rounded_or_none,
)
from majors_alts_pipeline.report.html import number

BOOK_UP = "book_up"
"""Event of the forecasts that matter: the book's forward return is positive."""


def reliability_curves(rows: pl.DataFrame, event: str, configured: str, data: str) -> Chart:
    """Probability forecast against frequency observed, one line per method, intervals of the configured one.

    Args:
        rows: contract `reliability`, one event and horizon.
        event: the event.
        configured: method that is traded.
        data: HTML of the table behind it.
    """
    import plotly.graph_objects as go

    horizon = int(rows["horizon_days"][0])
    figure = go.Figure(layout=layout("Observed frequency", dated=False))
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash", "width": 1.2}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    off = []
    methods = sorted(rows["method"].unique(), key=lambda name: (name != configured, name))
    for k, method in enumerate(methods):
        one = rows.filter(method=method).sort("bin")
        colour, dash, symbol = CYCLE[k % len(CYCLE)]
        ends = error_bars(one["observed"].to_list(), one["low"].to_list(), one["high"].to_list())
        figure.add_scatter(
            x=[rounded(v, 3) for v in one["forecast"]], y=[rounded(v, 3) for v in one["observed"]],
            error_y=ends if method == configured else None, mode="lines+markers", name=method_name(method),
            line={"color": colour, "dash": dash, "width": 2.2 if method == configured else 1.1},
            marker={"symbol": symbol, "size": 8, "color": colour},
        )  # fmt: skip
        outside = one.filter((pl.col("forecast") < pl.col("low")) | (pl.col("forecast") > pl.col("high"))).height
        off.append(f"{method_name(method)} {outside} of {one.height}")
    figure.update_xaxes(title_text="Forecast probability", range=_around(rows, ["forecast"]), zeroline=False)
    figure.update_yaxes(range=_around(rows, ["observed", "low", "high"]), zeroline=False)
    figure.update_layout(**LEGEND_ON_TOP, hovermode="closest")
    caption = (
        f"Forecasts of {event_name(event)}, {horizon} day{'s' * (horizon != 1)} ahead. Bins whose interval misses the "
        f"forecast: {'; '.join(off)}. On the dashed line forecasts come true as often as they say; intervals treat "
        "forecasts as independent and are too short where they overlap."
    )
    title = f"Are the probabilities reliable: {event_name(event)}, {horizon} d"
    name = f"reliability-{event.lower().replace('_', '-')}-{horizon}"
    return chart(name, title, figure, caption, ["reliability"], 420, data)


def _around(rows: pl.DataFrame, columns: Sequence[str]) -> list[float]:
    """Range of an axis of probabilities that holds all values with some room."""
    low = min(as_float(rows[name].min()) for name in columns)
    high = max(as_float(rows[name].max()) for name in columns)
    room = 0.05 * (high - low) + 0.01
    return [round(max(low - room, -0.02), 3), round(min(high + room, 1.02), 3)]


def event_name(event: str) -> str:
    """Forecast event as a reader calls it."""
    return "a positive return of the book" if event == BOOK_UP else event.replace("_", " ").lower()


def feature_ic(ic: pl.DataFrame, data: str) -> Chart:
    """Information coefficient of each feature by horizon."""
    import plotly.graph_objects as go

    rows = ic.drop_nulls("ic")
    size = rows.group_by("feature").agg(pl.col("ic").sort_by("horizon_days").mean()).sort("ic", "feature")
    names, horizons = size["feature"].to_list(), rows["horizon_days"].unique().sort().to_list()
    found = {(f, h): (v, t) for f, h, v, t in rows.select("feature", "horizon_days", "ic", "hac_t").iter_rows()}
    z = [[rounded_or_none(found.get((name, h), (None, None))[0], 4) for h in horizons] for name in names]
    sure = [[_star(found.get((name, h), (None, None))) for h in horizons] for name in names]
    bound = max(as_float(rows["ic"].abs().max()), 1e-9)
    figure = go.Figure(layout=layout("", dated=False, legend=False))
    figure.add_heatmap(
        x=[str(h) for h in horizons], y=names, z=z, text=sure, texttemplate="%{text}", colorscale=OPAQUE_DIVERGING,
        zmin=-bound, zmax=bound, colorbar={"title": {"text": "IC"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate="%{y}, %{x} days: %{z:.3f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(type="category", title_text="Horizon (days)", showgrid=False)
    figure.update_yaxes(showgrid=False, zeroline=False, tickfont={"size": 10})
    figure.update_layout(**LEGEND_ON_TOP, hovermode="closest")
    clear = rows.filter(pl.col("hac_t").abs() > _CLEAR)
    best = rows.sort(pl.col("ic").abs(), "feature", descending=[True, False]).row(0, named=True)
    caption = (
        f"{clear.height} of {rows.height} coefficients have |t| > {_CLEAR:g} (marked *); about "
        f"{number(0.05 * rows.height, 0)} would by chance. Largest: {best['feature']} at {best['horizon_days']} days, "
        f"{number(best['ic'], 3)}. Blue: the feature's hypothesis held; orange: the opposite."
    )
    return chart(
        "feature-ic",
        "Decay of the information coefficient",
        figure,
        caption,
        ["feature_ic"],
        110 + 24 * max(len(names), 4),
        data,
    )


_CLEAR = 1.96


def _star(value: tuple[float | None, float | None]) -> str:
    ic, t = value
    if ic is None:
        return ""
    return f"{number(ic)}{'*' if t is not None and abs(t) > _CLEAR else ''}"
