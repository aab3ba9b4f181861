"""The target book, its exposures and its neutrality."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report.charts import Chart
from majors_alts_pipeline.report.figures.style import (
    ACCOUNT_LINES,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    TRANSPARENT_ORANGE,
    VERMILLION,
    account_name,
    as_float,
    band,
    chart,
    daily_line,
    heat_map,
    layout,
    normal_quantile,
    panels,
    thinned,
    weekly,
)
from majors_alts_pipeline.report.html import number, percent


def membership(basket: pl.DataFrame, n_names: int = 40) -> Chart:
    """Weekly mean target weight of the alts the book held longest."""
    alts = basket.filter((pl.col("leg") == "alt") & (pl.col("weight") != 0))
    ranked = alts.group_by("asset_id").agg(n=pl.len()).sort("n", "asset_id", descending=[True, False])
    names = ranked["asset_id"].head(n_names).to_list()
    short = alts.filter(pl.col("asset_id").is_in(names)).with_columns(weight=-100 * pl.col("weight"))
    weeks = weekly(short, "asset_id", "weight")
    largest = as_float(short["weight"].max())
    figure = heat_map(weeks, names[::-1], 2, TRANSPARENT_ORANGE, max(largest, 1e-9), "% of NAV", zero=0.0)
    caption = (
        "Short weight of each alt (weekly mean, % of NAV, darker is larger; empty when not in the book): "
        "the "
        f"{len(names)} longest held of {ranked.height} alts."
    )
    return chart(
        "membership",
        "Basket membership",
        figure,
        caption,
        ["basket_members", "basket"],
        90 + 15 * max(len(names), 6),
    )


def basket_size(daily: pl.DataFrame) -> Chart:
    """Names in the target book, and its long and short weight."""
    figure = panels(["Names", "% of NAV"])
    frame = daily.with_columns(pl.col("long_weight", "short_weight") * 100)
    figure.add_scatter(
        **daily_line(frame, "n_alts", "Alts in the book", {"color": BLUE, "width": 1.6, "dash": "solid"}, 0),
        row=1,
        col=1,
    )
    figure.add_scatter(
        **daily_line(frame, "long_weight", "Long weight", {"color": GREEN, "width": 1.6, "dash": "solid"}, 2),
        row=2,
        col=1,
    )
    figure.add_scatter(
        **daily_line(frame, "short_weight", "Short weight", {"color": VERMILLION, "width": 1.6, "dash": "dash"}, 2),
        row=2,
        col=1,
    )
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    figure.update_yaxes(ticksuffix=" %", row=2, col=1)
    flat = percent(as_float((daily["status"] == "flat").mean()))
    relaxed = percent(as_float((daily["status"] == "relaxed").mean()))
    caption = (
        f"Target book before timing and volatility targeting. Flat on {flat} of days, "
        f"with relaxed constraints on {relaxed}."
    )
    return chart("basket-size", "Size of the target book", figure, caption + thinned(daily), ["basket_daily"], 380)


def rolling_betas_chart(rolling: pl.DataFrame, window: int, confidence: float) -> Chart:
    """Realised betas in a trailing window with their band, and the ex-ante beta beside them."""
    figure = panels(["Beta to BTC", "Beta to ETH"])
    z = normal_quantile(confidence)
    for row, factor in enumerate(("btc", "eth"), start=1):
        for account in ("regime", "always_on"):
            one = rolling.filter(account=account, factor=factor).drop_nulls("beta")
            shown = {} if account == "regime" else {"visible": "legendonly"}
            group = {"legendgroup": account, "showlegend": row == 1}
            spread = z * pl.col("se").fill_null(0.0)
            edges = one.with_columns(low=pl.col("beta") - spread, high=pl.col("beta") + spread)
            for trace in band(edges, "low", "high", ACCOUNT_LINES[account]["color"], 3, account, 0.18):
                figure.add_scatter(**{**trace, **shown}, row=row, col=1)
            line = daily_line(one, "beta", f"{account_name(account)}, realised", ACCOUNT_LINES[account], 3)
            figure.add_scatter(**{**line, **group, **shown}, row=row, col=1)
            thin = {"color": GREEN if account == "regime" else PURPLE, "width": 1.2, "dash": "dot"}
            ante = daily_line(one, "ex_ante", f"{account_name(account)}, ex ante", thin, 3)
            figure.add_scatter(**{**ante, **group, **shown}, row=row, col=1)
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
    return chart("rolling-betas", "Rolling betas", figure, caption + thinned(rolling), ["rolling_betas"], 520)


def exposures(daily: pl.DataFrame, limits: str) -> Chart:
    """Long, short, gross and net exposure of the regime account, and gross of the always-on account.

    Args:
        daily: accounts.
        limits: sentence on the caps and how far the book went, for the caption.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=layout("% of NAV"))
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
        figure.add_scatter(**daily_line(one, column, column.capitalize(), line, 1))
    always = daily.filter(account="always_on").with_columns(gross=pl.col("gross_exposure") * 100)
    name = f"Gross, {account_name('always_on').lower()}"
    line = ACCOUNT_LINES["always_on"]
    figure.add_scatter(**daily_line(always, "gross", name, {**line, "width": 1}, 1), visible="legendonly")
    figure.update_yaxes(ticksuffix=" %")
    invested = one.filter(pl.col("gross_exposure") > 0)
    gross, net = invested["gross_exposure"].mean(), invested["net_exposure"].mean()
    mean = (
        f"mean gross {percent(as_float(gross))}, mean net {percent(as_float(net))} of NAV"
        if invested.height
        else "never"
    )
    caption = f"Exposure of the regime-timed book at each close; when invested: {mean}. {limits}"
    return chart("exposures", "Exposures", figure, caption + thinned(daily), ["accounts"], 340)


def beta_quality_chart(quality: pl.DataFrame) -> Chart:
    """Uncertainty of the estimated betas and the collinearity of the two factors."""
    figure = panels(["Standard error", "VIF (ratio)"])
    figure.add_scatter(
        **daily_line(quality, "se_btc", "Median s.e., BTC", {"color": BLUE, "width": 1.6, "dash": "solid"}, 3),
        row=1,
        col=1,
    )
    figure.add_scatter(
        **daily_line(quality, "se_eth", "Median s.e., ETH", {"color": ORANGE, "width": 1.6, "dash": "dash"}, 3),
        row=1,
        col=1,
    )
    figure.add_scatter(
        **daily_line(quality, "vif", "Variance inflation", {"color": PURPLE, "width": 1.6, "dash": "solid"}, 2),
        row=2,
        col=1,
    )
    figure.update_yaxes(rangemode="tozero")
    vif = quality["vif"]
    caption = (
        "Median standard error of one asset's beta, and the variance inflation 1 / (1 − corr²) of BTC and "
        "ETH: median "
        f"{number(as_float(vif.median()), 1)}, at most {number(as_float(vif.max()), 1)}. When it is high the "
        "two betas are not told apart well."
    )
    return chart("beta-quality", "How well betas are known", figure, caption + thinned(quality), ["beta_quality"], 380)


def volatility_target(daily: pl.DataFrame, target: float) -> Chart:
    """Volatility forecast of the always-on book and the multiplier that brings it to the target.

    Args:
        daily: accounts.
        target: volatility target, decimal per year.
    """
    figure = panels(["Forecast (% a year)", "Multiplier"])
    one = daily.filter(account="always_on").with_columns(pl.col("vol_forecast") * 100, target=pl.lit(100 * target))
    forecast = {"color": VERMILLION, "width": 1.5, "dash": "solid"}
    wanted = {"color": GREY, "width": 1.3, "dash": "dot"}
    factor = {"color": BLUE, "width": 1.5, "dash": "solid"}
    figure.add_scatter(**daily_line(one, "vol_forecast", "Forecast at multiplier 1", forecast, 1), row=1, col=1)
    figure.add_scatter(**daily_line(one, "target", "Target", wanted, 1), row=1, col=1)
    figure.add_scatter(**daily_line(one, "exposure_multiplier", "Multiplier", factor, 2), row=2, col=1)
    figure.update_yaxes(rangemode="tozero")
    values = one["exposure_multiplier"]
    middle, low, high = as_float(values.median()), as_float(values.min()), as_float(values.max())
    models = ", ".join(one.filter(pl.col("vol_model") != "none")["vol_model"].unique().sort())
    caption = (
        f"The volatility target of {percent(target, 0)} a year multiplies the always-on book with {number(middle)} in "
        f"the median, from {number(low)} to {number(high)}, on the last day {number(values[-1])}. Forecast by "
        f"{models or 'nothing yet'}."
    )
    return chart("volatility-target", "Volatility target", figure, caption + thinned(one), ["accounts"], 380)


def tracker_betas(exposure: pl.DataFrame, trackers: pl.DataFrame) -> Chart:
    """Ex-ante beta of the target book to what one could trade against the alts as a whole, and its value.

    Args:
        exposure: `tables.book.tracker_exposure`.
        trackers: contract `trackers`.
    """
    figure = panels(["Book's beta", "Level"])
    names = {"alt_index": "Alt index", "btc_dominance": "Long BTC, short alt index"}
    words = []
    for tracker, colour, dash in (("alt_index", BLUE, "solid"), ("btc_dominance", ORANGE, "dash")):
        one, level = exposure.filter(tracker=tracker), trackers.filter(tracker=tracker).drop_nulls("level")
        style, name = {"color": colour, "width": 1.5, "dash": dash}, names[tracker]
        for row, frame, column, digits in ((1, one, "beta", 3), (2, level, "level", 1)):
            trace = daily_line(frame, column, name, style, digits)
            figure.add_scatter(**trace, legendgroup=tracker, showlegend=row == 1, row=row, col=1)
        if one.height:
            middle = as_float(one["beta"].median())
            words.append(f"to the {name[0].lower()}{name[1:]} {number(middle, 2)} (last {number(one['beta'][-1], 2)})")
    caption = (
        f"Median ex-ante beta of the target book {' and '.join(words) or 'not yet known'}: neutral to BTC and ETH is "
        "not neutral to the alts as a whole, which is the bet. Below, the trackers, before costs and funding."
    )
    tables = ["tracker_exposure", "trackers"]
    return chart("trackers", "Betas to tradable trackers", figure, caption + thinned(trackers), tables, 420)
