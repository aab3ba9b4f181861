"""The universe and what the lake knows of it."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    LEGEND_ON_TOP,
    ORANGE,
    VERMILLION,
    as_float,
    chart,
    daily_line,
    layout,
    rounded,
    thinned,
)
from majors_alts_pipeline.report.html import number, percent


def universe_size(daily: pl.DataFrame) -> Chart:
    """Assets with a price and eligible alts per day."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("Assets"))
    for column, name, line in (
        ("n_priced", "With a price", {"color": GREY, "width": 1.4, "dash": "solid"}),
        ("n_eligible_alts", "Eligible alts", {"color": BLUE, "width": 2, "dash": "solid"}),
        (
            "n_shortable",
            "Eligible alts known to be shortable",
            {"color": ORANGE, "width": 1.5, "dash": "dash"},
        ),
    ):
        figure.add_scatter(**daily_line(daily, column, name, line, 0))
    figure.update_yaxes(rangemode="tozero")
    last = daily.row(-1, named=True)
    caption = (
        "Assets with a price and alts that could be held, per day. On the last day "
        f"{last['n_eligible_alts']} of "
        f"{last['n_priced']} assets were eligible alts; at most {daily['n_eligible_alts'].max()!s}."
    )
    return chart("universe-size", "Universe size", figure, caption + thinned(daily), ["universe_daily"], 320)


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
    figure = go.Figure(layout=layout("Alts", legend=False))
    line = {"color": VERMILLION, "width": 1.5, "dash": "solid"}
    figure.add_scatter(**daily_line(daily, "n", "Kept out for want of funding", line, 0))
    figure.update_yaxes(rangemode="tozero")
    caption = (
        f"Alts that would rank among the {n_alts} most traded and fail only the funding rule: "
        f"{number(as_float(daily['n'].mean()), 1)} a day on average, {daily['n'][-1]} on the last day."
    )
    tables_of = ["unfunded_alts", "unfunded_names"]
    return chart("unfunded", "Eligible but for funding", figure, caption + thinned(daily), tables_of, 260)


def funding_kinds(coverage: pl.DataFrame) -> Chart:
    """Where the funding of eligible assets comes from, by quarter."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("% of eligible asset-days", dated=False))
    styles = {
        "sum": ("True daily sum", GREEN, ""),
        "print_scaled": ("One print, scaled", ORANGE, "/"),
        "missing": ("Missing", GREY, "x"),
    }
    quarters = [f"{value.year} Q{(value.month + 2) // 3}" for value in coverage["quarter"]]
    for column, (name, colour, pattern) in styles.items():
        figure.add_bar(
            x=quarters,
            y=[rounded(100 * value, 2) for value in coverage[column]],
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern}},
            hovertemplate="%{x}: %{y:.1f} %<extra>" + name + "</extra>",
        )
    figure.update_layout(**LEGEND_ON_TOP, barmode="stack")
    figure.update_yaxes(ticksuffix=" %", range=[0, 100])
    days = int(coverage["n_asset_days"].sum())
    missing = as_float((coverage["missing"] * coverage["n_asset_days"]).sum()) / max(days, 1)
    caption = f"Origin of the funding rate of eligible assets. Missing on {percent(missing)} of {days:,} asset-days."
    return chart("funding-kinds", "Funding known, scaled and missing", figure, caption, ["funding_coverage"], 300)
