"""Where the return came from, what trading and funding took, and how much capital the book can carry."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report import html, tables
from majors_alts_pipeline.report.book import Book
from majors_alts_pipeline.report.charts import render_chart
from majors_alts_pipeline.report.fields import chosen
from majors_alts_pipeline.report.figures import costs as figures
from majors_alts_pipeline.report.figures import stress
from majors_alts_pipeline.report.figures.costs import COMPONENT_NAMES
from majors_alts_pipeline.report.figures.style import account_name
from majors_alts_pipeline.report.html import Field, escape, percent
from majors_alts_pipeline.report.pages.blocks import BOOKS, missing
from majors_alts_pipeline.report.site import Page, Part
from majors_alts_pipeline.report.tables import accounts


def page(book: Book) -> Page:
    """Build the page."""
    lead = (
        "Prices, signed funding, fees, half the spread, square-root impact and exit haircuts: day by day they add up "
        "to the change of NAV. Below, how much of each there was, and how much more of it the book could bear."
    )
    return Page(
        "costs",
        "Costs",
        [html.paragraph(lead, "lead")],
        [
            Part("attribution-section", "Attribution", _attribution(book)),
            Part("funding", "Funding", _funding(book)),
            Part("trading", "Trading", _trading(book)),
            Part("capacity-section", "Capacity", _capacity(book)),
        ],
    )


def _attribution(book: Book) -> list[str]:
    legs = [
        "account", "leg", "pnl_price", "pnl_funding", "cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut",
        "net",
    ]  # fmt: skip
    return [
        render_chart(figures.attribution_bars(book["attribution"])),
        _attribution_matrix(book),
        *(render_chart(figures.attribution_over_time(book["accounts"], account)) for account in BOOKS),
        html.render_table(
            book["attribution_by_leg"], chosen(legs), "Profit, funding and costs by leg.", name="attribution_by_leg"
        ),
        html.details("Assets that gave and took most", _assets_table(book)),
    ]


def _funding(book: Book) -> list[str]:
    settings, held = book.context.settings, book["funding_of_positions"]
    return [
        render_chart(figures.funding_legs(book["funding_by_leg"], settings.backtest.capital_usd)),
        html.render_table(
            held,
            chosen(
                ["account", "leg", "kind", "position_days", "share", "usd", "per_year"],
                share=Field("Share", "% of position-days", percent),
                usd=Field("Received (+) or paid (−)", "USD", html.usd),
                per_year=Field("A year", "% of the position", percent),
            ),
            "Origin of the funding of held positions: the true sum of the day's settlements, one print × prints per "
            "day, or assumed: no rate in the lake, the stand-in of "
            f"{percent(settings.costs.missing_funding_annual, 0)} a year.",
            name="funding_of_positions",
        ),
        html.paragraph(_print_words(held)),
    ]


def _trading(book: Book) -> list[str]:
    blocks = [render_chart(figures.turnover(book["accounts"])), *_execution(book), missing(book, "robustness")]
    stresses = book.evidence("robustness")
    if stresses is not None and stresses.filter(test="cost_bp")["sharpe"].count():
        swept = stresses.filter(test="cost_bp").sort("level", "account")
        behind = html.render_table(
            swept,
            chosen(["case", "account", "sharpe", "cagr", "max_drawdown", "cost_annual"]),
            "A flat cost in the place of the cost model.",
            name="robustness",
        )
        blocks.append(render_chart(stress.cost_sweep(stresses, behind)))
    return blocks


def _capacity(book: Book) -> list[str]:
    curve = book.evidence("capacity")
    if curve is None or not curve.height:
        return [missing(book, "capacity")]
    behind = html.render_table(
        curve,
        chosen(
            [
                "account",
                "capital_usd",
                "sharpe",
                "cagr",
                "cost_annual",
                "impact_annual",
                "participation_p95",
                "beyond_liquidity",
            ]
        ),
        "The same books at other capital.",
        name="capacity",
    )
    return [render_chart(stress.capacity_curve(curve, behind))]


def _print_words(held: pl.DataFrame) -> str:
    """Say how much funding rests on one print, and which way that errs."""
    shares = [
        f"{percent(accounts.share_of_kind(held, account, 'print_scaled'))} of the {account_name(account).lower()}'s"
        for account in ("regime", "always_on")
    ]
    if not held.filter(pl.col("kind").str.starts_with("print_scaled")).height:
        return "No held position's funding rests on a single print."
    return (
        f"One print × prints per day stands in for the day's sum on {shares[0]} and {shares[1]} position-days. "
        "In a squeeze a venue settles more often, up to hourly, at rates that shorts pay, and one print with the usual "
        "count misses most of it: the stand-in overstates what shorts receive, so it flatters the short leg. By how "
        "much cannot be computed from the study's own tables, which keep one rate a day (docs/methods.md, Panel, "
        "has a measurement on a lake that holds both)."
    )


def _attribution_matrix(book: Book) -> str:
    """Components in rows; per account the USD and the yearly share of NAV."""
    accounts = ("regime", "always_on", "random_regimes")
    head = '<th scope="col">Component</th>' + "".join(
        f'<th scope="col" class="num">{escape(account_name(account))}<span class="unit">{unit}</span></th>'
        for account in accounts
        for unit in ("USD", "% of NAV a year")
    )
    rows = []
    for component in (*tables.COMPONENTS, "net", "pnl_funding_assumed"):
        found = {row["account"]: row for row in book["attribution"].filter(component=component).iter_rows(named=True)}
        cells = "".join(
            f'<td class="num">{html.usd(found[account]["usd"])}</td>'
            f'<td class="num">{percent(found[account]["per_year"], 2)}</td>'
            for account in accounts
        )
        rows.append(f'<tr><th scope="row">{escape(COMPONENT_NAMES[component])}</th>{cells}</tr>')
    caption = (
        "Attribution: the components add to the net; costs are negative. The last row is the part of funding "
        "that is a "
        "stand-in for missing prints, already contained in funding. Yearly shares are means of daily amount "
        "/ NAV."
    )
    return html.wrap_table(head, rows, caption, "attribution")


def _assets_table(book: Book) -> str:
    frame = book["attribution_by_asset"]
    ends = pl.concat(
        [one for account in ("regime", "always_on") for one in _both_ends(frame.filter(account=account), 8)]
    )
    columns = [
        "account",
        "asset_id",
        "leg",
        "days_held",
        "mean_weight",
        "pnl_price",
        "pnl_funding",
        "costs",
        "net",
    ]
    caption = "The eight assets that gave most and the eight that took most, per book."
    return html.render_table(ends, chosen(columns), caption, name="attribution_by_asset")


def _both_ends(frame: pl.DataFrame, n: int) -> list[pl.DataFrame]:
    return [frame] if frame.height <= 2 * n else [frame.head(n), frame.tail(n)]


def _execution(book: Book) -> list[str]:
    """What could not be traded or priced as decided."""
    frame = book["execution"]
    waiting = frame.filter(pl.col("days_waiting") > 0)
    words = [f"{account_name(row['account'])} {row['days_waiting']:,} days" for row in waiting.iter_rows(named=True)]
    caption = (
        "Execution against the decision: days on which an order found no price of its own and waited "
        f"({'; '.join(words) or 'none'}), positions closed for want of a price, positions stopped, and the share of "
        "position-days (of the books whose positions are kept) and the yearly charge of assumed funding. Counts of "
        "random regimes are means of its paths, each day rounded up."
    )
    columns = [
        "account",
        "days_waiting",
        "orders_waiting",
        "n_dead_exits",
        "n_stopped",
        "assumed_share",
        "assumed_annual",
    ]
    return [html.heading("Execution"), html.render_table(frame, chosen(columns), caption, name="execution")]
