"""How likely the result is luck: edges with intervals, cross-validation, folds, and the surface of the variants."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    BLUE,
    GREY,
    LABEL_COLOURS,
    LEGEND_ON_TOP,
    MAX_POINTS,
    OPAQUE_DIVERGING,
    VERMILLION,
    as_float,
    chart,
    error_bars,
    faint,
    label_name,
    layout,
    method_name,
    rounded,
    rounded_or_none,
)
from majors_alts_pipeline.report.html import basis_points, number, p_words, percent, signed_basis_points
from majors_alts_pipeline.report.tables import LABELS
from majors_alts_pipeline.report.tables.sweep import Surface

OTHER_METHOD = "composite with these settings"
"""What variant 0 of a sweep is when the study's own method cannot be swept."""

_SYMBOLS = {"RISK_ON_MAJORS": "circle", "BALANCED": "square", "RISK_ON_ALTS": "diamond", "ALL": "line-ew-open"}
_DASHES = {"RISK_ON_MAJORS": "solid", "BALANCED": "dash", "RISK_ON_ALTS": "dot", "ALL": "longdash"}


def edge_by_horizon(edge: pl.DataFrame, method: str, confidence: float, data: str) -> Chart:
    """Mean forward return of the book by label and horizon, with intervals.

    Args:
        edge: contract `edge_by_horizon`.
        method: the method drawn.
        confidence: of the intervals.
        data: HTML of the table behind it.
    """
    import plotly.graph_objects as go

    one = edge.filter(method=method).sort("horizon_days")
    horizons = one["horizon_days"].unique().sort().to_list()
    figure = go.Figure(layout=layout("Mean return over the horizon (bp)", dated=False))
    labels = [label for label in (*LABELS, "ALL") if label in set(one["label"])]
    for k, label in enumerate(labels):
        rows = one.filter(pl.col("mean").is_not_null(), label=label)
        centre = [1e4 * value for value in rows["mean"]]
        ends = [[None if value is None else 1e4 * value for value in rows[name]] for name in ("low", "high")]
        shift = (k - (len(labels) - 1) / 2) * 0.13
        colour = LABEL_COLOURS.get(label, "#5b6570")
        figure.add_scatter(
            x=[horizons.index(h) + shift for h in rows["horizon_days"]],
            y=[rounded(value, 1) for value in centre],
            error_y=error_bars(centre, *ends),
            mode="lines+markers",
            line={"color": colour, "width": 1.2, "dash": _DASHES[label]},
            marker={"symbol": _SYMBOLS[label], "size": 9, "color": colour},
            name=label_name(label),
        )
    figure.update_xaxes(
        tickvals=list(range(len(horizons))), ticktext=[str(h) for h in horizons], title_text="Horizon (days)",
        showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_layout(**LEGEND_ON_TOP, hovermode="closest")
    favoured = one.filter(pl.col("p_value").is_not_null(), label="RISK_ON_MAJORS")
    if favoured.height:
        best = favoured.sort("p_value", "horizon_days").row(0, named=True)
        found = (
            f"The clearest difference under risk-on majors is {signed_basis_points(best['difference'], 0)} over "
            f"{best['horizon_days']} days ({p_words(best['p_value'])}, before allowing for {favoured.height} horizons "
            f"looked at; {best['n_episodes']} episodes)."
        )
    else:
        found = "No difference can be tested: one label only, or too few days."
    caption = (
        f"{found} Price return of the always-on book after a decision under each label of {method_name(method)}, mean "
        f"with {percent(confidence, 0)} interval; overlapping horizons share their days."
    )
    title = "Forward return by label and horizon"
    return chart("edge", title, figure, caption, ["edge_by_horizon"], 420, data)


def cscv_logits(cscv: pl.DataFrame, pbo: tuple[float, float | None, float | None] | None) -> Chart:
    """Histogram of the logits of cross-validation: how the in-sample winner ranks out of sample.

    Args:
        cscv: contract `cscv`.
        pbo: probability of backtest overfitting with the ends of its interval; None when it was not computed.
    """
    import plotly.graph_objects as go

    logits = cscv["logit"].to_numpy()
    # Whole steps from zero: no bar may hold splits of both sides of the median.
    step = max(float(np.ptp(logits)) / min(30, max(8, int(len(logits) ** 0.5))), 1e-9)
    edges = step * np.arange(np.floor(logits.min() / step), np.floor(logits.max() / step) + 2)
    counts, _ = np.histogram(logits, edges)
    centres = (edges[:-1] + edges[1:]) / 2
    figure = go.Figure(layout=layout("Splits", dated=False, legend=False))
    below = centres < 0
    figure.add_bar(
        x=[round(float(value), 3) for value in centres],
        y=[int(value) for value in counts],
        name="Splits",
        width=float(edges[1] - edges[0]) * 0.94,
        marker={
            "color": [VERMILLION if low else BLUE for low in below],
            "pattern": {"shape": ["/" if low else "" for low in below]},
        },
        hovertemplate="logit %{x:.2f}: %{y} splits<extra></extra>",
    )
    figure.update_xaxes(
        title_text="Logit of the rank out of sample",
        zeroline=True,
        zerolinewidth=2,
    )
    figure.update_layout(margin={"b": 48})
    share = float((logits <= 0).mean())
    shown = f"PBO {percent(share, 0)}"
    if pbo is not None:
        value, low, high = pbo
        interval = "" if low is None or high is None else f" (interval {percent(low, 0)} to {percent(high, 0)})"
        shown = f"Probability of backtest overfitting {percent(value, 0)}{interval}"
    caption = (
        f"{shown}: in {percent(share, 0)} of {len(logits):,} splits the variant that won in sample was below the "
        "median out of sample (striped). Without skill it would be half."
    )
    return chart("cscv-logits", "Where the in-sample winner ends", figure, caption, ["cscv"], 320)


def cscv_scatter(cscv: pl.DataFrame, data: str) -> Chart:
    """In-sample against out-of-sample Sharpe ratio of the winner of each split."""
    import plotly.graph_objects as go

    rows = cscv.sort("split")
    shown = rows if rows.height <= MAX_POINTS else rows[np.linspace(0, rows.height - 1, MAX_POINTS).round().astype(int)]
    figure = go.Figure(layout=layout("Sharpe out of sample", dated=False, legend=False))
    figure.add_scatter(
        x=[rounded(value, 3) for value in shown["is_sharpe"]],
        y=[rounded(value, 3) for value in shown["oos_sharpe"]],
        mode="markers",
        marker={"size": 5, "color": faint(BLUE, 0.45)},
        name="Split",
        hovertemplate="in sample %{x:.2f}, out of sample %{y:.2f}<extra></extra>",
    )
    ends = [as_float(rows["is_sharpe"].min()), as_float(rows["is_sharpe"].max())]
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": GREY, "dash": "dash", "width": 1.4},
        name="Equal",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_xaxes(title_text="Sharpe in sample", zeroline=True)
    figure.update_layout(margin={"b": 48})
    inside, outside = as_float(rows["is_sharpe"].mean()), as_float(rows["oos_sharpe"].mean())
    caption = (
        f"Mean Sharpe ratio of the winner {number(inside)} in sample, {number(outside)} out of sample: what choosing "
        f"costs is {number(inside - outside)}. {percent(as_float((rows['oos_sharpe'] < 0).mean()), 0)} of winners lose "
        "money out of sample; on the dashed line both would be equal."
    )
    return chart("cscv-scatter", "In sample against out of sample", figure, caption, ["cscv"], 380, data)


def fold_strip(folds: pl.DataFrame, data: str) -> Chart:
    """Walk-forward folds as strips over their test days, at the Sharpe ratio out of and in sample."""
    import plotly.graph_objects as go

    rows = folds.filter(scheme="walk_forward").sort("start", "fold")
    figure = go.Figure(layout=layout("Sharpe (per year)"))
    for column, name, style in (
        ("is_sharpe", "In sample", {"color": GREY, "width": 2, "dash": "dot"}),
        ("oos_sharpe", "Out of sample", {"color": BLUE, "width": 5, "dash": "solid"}),
    ):
        xs: list[str | None] = []
        ys: list[float | None] = []
        for start, end, value in rows.select("start", pl.col("end").dt.offset_by("1d"), column).iter_rows():
            xs += [start.isoformat(), end.isoformat(), None]
            ys += [rounded_or_none(value, 2)] * 2 + [None]
        figure.add_scatter(x=xs, y=ys, mode="lines", line=style, name=name, connectgaps=False)
    figure.update_layout(hovermode="closest")
    both = rows.drop_nulls(["is_sharpe", "oos_sharpe"])
    idle, up = rows["oos_sharpe"].null_count(), int((rows["oos_sharpe"] > 0).sum())
    held = f" and {idle} held no position" if idle else ""
    counted = f"Out of sample {up} of {rows.height} folds earned money, {rows.height - up - idle} did not{held}."
    if both.height:
        found = (
            f"{counted} Mean Sharpe ratio {number(as_float(both['is_sharpe'].mean()))} in sample, "
            f"{number(as_float(both['oos_sharpe'].mean()))} out of it"
            + (f" (of the {both.height} that have both)." if both.height < rows.height else ".")
        )
    else:
        found = f"{counted} None has both a Sharpe ratio in sample and one out of it."
    caption = (
        f"{found} Each strip is a fold's test days, thick out of sample, dotted what the same choice earned in "
        "training."
    )
    return chart("folds", "Walk-forward folds", figure, caption, ["folds"], 320, data)


def cpcv_paths(folds: pl.DataFrame, data: str) -> Chart:
    """Sharpe ratio in and out of sample of each path of combinatorial purged cross-validation."""
    import plotly.graph_objects as go

    rows = folds.filter(scheme="cpcv").drop_nulls("oos_sharpe").sort("fold")
    order = [f"path {path_number(fold)}" for fold in rows["fold"]]
    figure = go.Figure(layout=layout("", dated=False))
    for column, name, colour, symbol in (
        ("is_sharpe", "In sample", GREY, "line-ns-open"),
        ("oos_sharpe", "Out of sample", BLUE, "circle"),
    ):
        figure.add_scatter(
            x=[rounded_or_none(value, 3) for value in rows[column]], y=order, mode="markers", name=name,
            marker={"size": 10, "color": colour, "symbol": symbol},
        )  # fmt: skip
    figure.update_xaxes(title_text="Sharpe (per year)", zeroline=True, zerolinewidth=2)
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(LEGEND_ON_TOP)
    low, middle, high = (as_float(rows["oos_sharpe"].quantile(q)) for q in (0.05, 0.5, 0.95))
    caption = (
        f"{rows.height} paths through the same days, training days purged and embargoed: median Sharpe ratio out of "
        f"sample {number(middle)}, 5 to 95 % of paths {number(low)} to {number(high)}; "
        f"{percent(as_float((rows['oos_sharpe'] < 0).mean()), 0)} of paths lose money."
    )
    height = 110 + 16 * max(rows.height, 5)
    return chart("cpcv", "Combinatorial purged cross-validation", figure, caption, ["folds"], height, data)


def path_number(fold: int) -> str:
    """Paths as a reader counts them: from 1."""
    return str(fold + 1)


def sweep_surface(surface: Surface, n_variants: int) -> Chart:
    """Mean Sharpe ratio over the two most influential parameters, the configured cell marked."""
    import plotly.graph_objects as go

    cells = surface.cells
    xs = cells.sort("x_rank")["x"].unique(maintain_order=True).to_list()
    ys = cells.sort("y_rank")["y"].unique(maintain_order=True).to_list()
    found = {(x, y): (sharpe, n) for x, y, sharpe, n in cells.select("x", "y", "sharpe", "n_variants").iter_rows()}
    z = [[rounded_or_none(found.get((x, y), (None, 0))[0], 3) for x in xs] for y in ys]
    bound = max(as_float(cells["sharpe"].abs().max()), 1e-9)
    shown_x, shown_y = [_plain(x) for x in xs], [_plain(y) for y in ys]
    figure = go.Figure(layout=layout("", dated=False, legend=False))
    figure.add_heatmap(
        x=shown_x,
        y=shown_y,
        z=z,
        text=[["" if v is None else number(v) for v in row] for row in z],
        texttemplate="%{text}",
        colorscale=OPAQUE_DIVERGING,
        zmin=-bound,
        zmax=bound,
        colorbar={"title": {"text": "Sharpe"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate=f"{surface.x} %{{x}}, {surface.y} %{{y}}: %{{z:.2f}}<extra></extra>",
    )
    x, y = surface.configured
    if x in xs and y in ys:
        i, j = xs.index(x), ys.index(y)
        figure.add_shape(
            type="rect", x0=i - 0.48, x1=i + 0.48, y0=j - 0.46, y1=j + 0.46, line={"color": "#000000", "width": 3}
        )
    figure.update_xaxes(type="category", title_text=surface.x, showgrid=False)
    figure.update_yaxes(type="category", title_text=surface.y, showgrid=False, zeroline=False)
    figure.update_layout(margin={"b": 52}, hovermode="closest")
    best = cells.sort("sharpe", "x_rank", "y_rank", descending=[True, False, False]).row(0, named=True)
    shape = {
        True: "it lies on a plateau: its neighbours keep at least half of its lead over the median cell",
        False: "it is a peak: its neighbours lose more than half of its lead over the median cell, so little of it "
        "would be left under slightly other values",
        None: "neither plateau nor peak can be told: it has no neighbour or no lead",
    }[surface.plateau]
    marked = "this study's own values" if surface.of_study else OTHER_METHOD
    caption = (
        f"Mean net Sharpe ratio of {n_variants:,} variants over the two parameters that move it most, the others "
        f"averaged out. Best at {surface.x} {_plain(best['x'])}, {surface.y} {_plain(best['y'])} "
        f"({number(best['sharpe'])}); {shape}. The frame marks {marked}."
    )
    return chart(
        "sweep", "Surface of the variants", figure, caption, ["sweep", "sweep_influence"], 130 + 46 * max(len(ys), 4)
    )


def _plain(text: str) -> str:
    value = json.loads(text)
    return value if isinstance(value, str) else text


def difference_words(edge: pl.DataFrame, horizon: int) -> Sequence[str]:
    """One sentence per method: difference under risk-on majors at one horizon, with its p-value."""
    rows = (
        edge.filter(label="RISK_ON_MAJORS", horizon_days=horizon)
        .drop_nulls(["difference", "p_value"])
        .sort("p_value", "method")
    )
    return [
        f"{method_name(row['method'])}: {signed_basis_points(row['difference'], 0)} ({p_words(row['p_value'])}, mean "
        f"{basis_points(row['mean'], 0)}, {row['n_episodes']} episodes)"
        for row in rows.iter_rows(named=True)
    ]
