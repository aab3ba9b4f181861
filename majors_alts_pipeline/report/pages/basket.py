"""The target book: who is in it, how neutral it is, and how far it went."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report import html
from majors_alts_pipeline.report.book import Book
from majors_alts_pipeline.report.charts import render_chart
from majors_alts_pipeline.report.fields import chosen
from majors_alts_pipeline.report.figures import basket as figures
from majors_alts_pipeline.report.html import Field, percent
from majors_alts_pipeline.report.pages.blocks import interval_in_words, of_books
from majors_alts_pipeline.report.site import Page, Part


def page(book: Book) -> Page:
    """Build the page."""
    lead = (
        "Long BTC and ETH against short alts, weighted so that the book's betas to both cancel. Whether they did is "
        "measured twice: by the betas known at each close, and by what the returns showed afterwards."
    )
    return Page(
        "basket",
        "Basket",
        [html.paragraph(lead, "lead")],
        [
            Part("members", "Who is in the book", _basket(book)),
            Part("neutrality", "Neutrality", _neutrality(book)),
            Part("exposure", "Exposure", _exposure(book)),
        ],
    )


def _neutrality(book: Book) -> list[str]:
    settings = book.context.settings.evaluation
    return [
        render_chart(
            figures.rolling_betas_chart(book["rolling_betas"], settings.rolling_window_days, settings.confidence)
        ),
        _neutrality_table(book),
        *_trackers(book),
        render_chart(figures.beta_quality_chart(book["beta_quality"])),
    ]


def _trackers(book: Book) -> list[str]:
    exposure, trackers = book["tracker_exposure"], book["trackers"]
    if not exposure.height:
        return [html.paragraph("No tracker could be built from this lake: it takes dated market caps.", "soft")]
    return [render_chart(figures.tracker_betas(exposure, trackers))]


def _exposure(book: Book) -> list[str]:
    blocks = [render_chart(figures.exposures(book["accounts"], _limits_words(book))), _largest_table(book)]
    target = book.context.settings.backtest.vol_target
    if target is not None:
        blocks.append(render_chart(figures.volatility_target(book["accounts"], target)))
    return blocks


def _neutrality_table(book: Book) -> str:
    """Ex-ante and ex-post neutrality of the two books side by side."""
    frame = of_books(book.statistics.neutrality, "factor")
    over = {"ex_post": Field("Ex post", f"beta, {percent(book.statistics.confidence, 0)} interval")}
    shown = interval_in_words(frame, "ex_post")
    columns = [
        "account", "factor", "n_days", "ex_ante_mean", "ex_ante_abs", "ex_ante_p95", "ex_ante_max",
        "ex_ante_max_date", "ex_post", "error",
    ]  # fmt: skip
    always = frame.filter(account="always_on").rows(named=True)
    worst = "; ".join(
        f"|beta to {row['factor'].upper()}| 95th percentile {html.number(row['ex_ante_p95'], 3)}, worst "
        f"{html.number(row['ex_ante_max'], 3)} on {row['ex_ante_max_date']}"
        for row in always
    )
    tolerance = book.context.settings.basket.beta_tolerance
    caption = (
        "Neutrality error of the held book over its invested days: what the betas said at the close before each day, "
        "and the beta that one regression of the gross return on BTC and ETH found (Newey-West interval). Always-on "
        f"book, ex ante: {worst or 'never invested'}. The tolerance of {tolerance:g} binds the target book when it is "
        "decided, before the volatility-target multiplier; until the held book next trades it drifts, and its betas "
        "are estimated anew each day."
    )
    return html.render_table(shown, chosen(columns, **over), caption, name="neutrality")


def _limits_words(book: Book) -> str:
    """Say which caps bind what, and how far the always-on book went beyond them."""
    basket, trading = book.context.settings.basket, book.context.settings.backtest
    found = book.statistics.largest.row(by_predicate=pl.col("account") == "always_on", named=True)
    held = "" if found["alt_weight"] is None else (
        f", largest single alt {percent(found['alt_weight'])} ({found['alt_asset_id']}, {found['alt_date']})"
    )  # fmt: skip
    volatility = book.statistics.account("always_on")["volatility"]
    target = "" if trading.vol_target is None or volatility is None else (
        f" Its realised volatility is {percent(volatility)} a year against a target of {percent(trading.vol_target)}."
    )  # fmt: skip
    scaled = "" if trading.vol_target is None else (
        f" before the volatility-target multiplier (at most {trading.multiplier_max:g}) and"
    )  # fmt: skip
    return (
        f"The configured caps (gross {percent(basket.gross_max, 0)}, one alt {percent(basket.alt_weight_max, 2)} of "
        f"NAV) bind the target book{scaled} before drift: largest gross of the always-on book "
        f"{percent(found['gross_exposure'])} on {found['gross_date']}{held}.{target}"
    )


def _largest_table(book: Book) -> str:
    frame = of_books(
        book.statistics.largest.join(book.statistics.overall.select("account", "volatility"), on="account")
    )
    target = book.context.settings.backtest.vol_target
    caption = "Largest exposures at any close, multiplier and drift included, and realised volatility" + (
        "." if target is None else f" beside the target of {percent(target)}."
    )
    columns = ["account", "gross_exposure", "gross_date", "alt_weight", "alt_asset_id", "alt_date", "volatility"]
    return html.render_table(frame, chosen(columns), caption, name="largest_exposures")


def _basket(book: Book) -> list[str]:
    return [
        render_chart(figures.basket_size(book["basket_daily"])),
        html.render_table(
            book["basket_status"],
            chosen(
                ["status", "relaxed", "reason", "n_days", "share", "first", "last"],
                n_days=Field("Days"),
                reason=Field("Reason"),
            ),
            "Outcome of the daily optimisation.",
            first=12,
            name="basket_status",
        ),
        render_chart(figures.membership(book["basket"])),
        html.details(
            "Members of the book",
            html.render_table(
                book["basket_members"],
                chosen(
                    ["asset_id", "leg", "n_days", "share", "mean_weight", "largest_weight", "first", "last"],
                    n_days=Field("In the book", "days"),
                ),
                "Every asset the target book held.",
                first=60,
                name="basket_members",
            ),
        ),
    ]
