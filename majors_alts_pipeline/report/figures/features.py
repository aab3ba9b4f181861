"""The features behind the regime: their z-scores, what each adds to the score, and the market they describe."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    BLUE,
    CYCLE,
    DIVERGING,
    as_float,
    chart,
    daily_line,
    heat_map,
    panels,
    thinned,
    weekly,
)
from majors_alts_pipeline.report.html import NARROW_SPACE, number, percent


def feature_heat_map(features: pl.DataFrame) -> Chart:
    """Weekly mean z-score of each feature, blue high and orange low."""
    weeks = weekly(features.drop_nulls("z"), "feature", "z")
    names = sorted(features["feature"].unique())
    missing = [name for name in names if name not in weeks.columns]
    figure = heat_map(weeks, [name for name in names if name not in missing][::-1], 2, DIVERGING, 3.0, "z")
    without = f" Without a z-score anywhere: {', '.join(missing)}." if missing else ""
    newest = weeks.row(-1, named=True) if weeks.height else {}
    furthest = max(
        (name for name in newest if name != "week" and newest[name] is not None),
        key=lambda n: abs(newest[n]),
        default="",
    )
    now = (
        f" Furthest from its own past in the last week: {furthest} ({number(newest[furthest], 1)} sd)."
        if furthest
        else ""
    )
    caption = (
        f"Weekly mean z-score of each regime feature, from −3 (orange) to +3 (blue); empty where unknown.{now}{without}"
    )
    return chart("features", "Regime features", figure, caption, ["features"], 80 + 22 * max(len(names), 4))


def contribution_map(contributions: pl.DataFrame) -> Chart:
    """Weekly mean contribution of each feature to the composite score.

    Args:
        contributions: `tables.regimes.contributions`.
    """
    weeks = weekly(contributions, "feature", "contribution")
    size = (
        contributions.group_by("feature")
        .agg(pl.col("contribution").sort_by("date").abs().mean())
        .sort("contribution", "feature")
    )
    names = size["feature"].to_list()
    bound = as_float(contributions["contribution"].abs().quantile(0.98))
    figure = heat_map(weeks, names, 3, DIVERGING, max(bound, 1e-9), "score")
    top = size.tail(3)["feature"].to_list()[::-1]
    share = as_float(size.tail(3)["contribution"].sum()) / max(as_float(size["contribution"].sum()), 1e-12)
    caption = (
        "What each feature adds to the composite score before smoothing (weekly mean; blue favours majors, orange "
        f"alts): sign × weight × clipped z over the weights of the features known that day. {', '.join(top)} carry "
        f"{percent(share, 0)} of the absolute contributions."
    )
    return chart(
        "contributions", "Contribution to the composite score", figure, caption, ["score_contributions"],
        80 + 22 * max(len(names), 4),
    )  # fmt: skip


def market_state(features: pl.DataFrame, market: pl.DataFrame) -> Chart | None:
    """Breadth, dispersion, dominance and average correlation; None when the study has none of them.

    Args:
        features: contract `features`.
        market: contract `market`.
    """
    shown = [
        (name, title, features.filter(feature=name).select("date", value=scale * pl.col("raw")).drop_nulls())
        for name, title, scale in _STATE
    ]
    shown.append(
        ("average_correlation", "Correlation", market.select("date", value="average_correlation").drop_nulls())
    )
    shown = [one for one in shown if one[2].height]
    if not shown:
        return None
    figure = panels([title for _, title, _ in shown])
    words = []
    for row, (_, title, frame) in enumerate(shown, start=1):
        style = {"color": CYCLE[row - 1][0] if row > 1 else BLUE, "width": 1.4, "dash": "solid"}
        figure.add_scatter(**daily_line(frame, "value", title, style, 2), showlegend=False, row=row, col=1)
        rank = as_float((frame["value"] < frame["value"][-1]).mean())
        unit = f"{NARROW_SPACE}%" if "%" in title else ""
        words.append(
            f"{title.split(' (')[0].lower()} {number(frame['value'][-1], 1 if unit else 2)}{unit} "
            f"(above {percent(rank, 0)} of days)"
        )
    caption = (
        "Breadth is the share of alts that rose, dispersion the interquartile range of their returns, dominance BTC's "
        "share of the known market cap, correlation the mean over pairs of majors and alts in 30 days. "
        f"On the last day: {'; '.join(words)}."
    )
    return chart(
        "market-state", "Breadth, dispersion, dominance, correlation", figure, caption + thinned(shown[0][2]),
        ["features", "market"], 90 + 120 * len(shown),
    )  # fmt: skip


_STATE = (
    ("breadth_up", "Breadth (%)", 100),
    ("dispersion_iqr", "Dispersion (%)", 100),
    ("btc_dominance", "Dominance (%)", 100),
)
