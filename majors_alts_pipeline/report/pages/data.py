"""What the study rests on: the universe, the quality of the lake, the settings, and every file."""

from __future__ import annotations

import polars as pl
import yaml

from majors_alts_pipeline.report import html
from majors_alts_pipeline.report.book import Book
from majors_alts_pipeline.report.charts import render_chart
from majors_alts_pipeline.report.fields import chosen
from majors_alts_pipeline.report.figures import market as figures
from majors_alts_pipeline.report.figures.style import as_float
from majors_alts_pipeline.report.html import Field, escape, percent
from majors_alts_pipeline.report.site import Page, Part


def page(book: Book) -> Page:
    """Build the page."""
    lead = (
        f"{book.n_assets:,} assets of {book.context.lake_location}; what it cannot tell is said here, and nothing was "
        "repaired silently."
    )
    return Page(
        "data",
        "Data",
        [html.paragraph(lead, "lead")],
        [
            Part("universe", "Universe and survivorship", _universe(book)),
            Part("data-quality", "Quality of the lake", _quality(book)),
            Part("study", "The study", _study(book)),
            Part("files", "Files", _files(book)),
        ],
    )


def _universe(book: Book) -> list[str]:
    exits = book["dead_exits"]
    return [
        *(html.paragraph(sentence) for sentence in book.survivorship),
        render_chart(figures.universe_size(book["universe_daily"])),
        html.render_table(
            book["universe_reasons"],
            chosen(["reason", "mean_assets", "last_day", "n_assets"]),
            "Why assets were not eligible: the first rule that failed.",
            name="universe_reasons",
        ),
        *_unfunded(book),
        html.render_table(
            book["ended_assets"],
            chosen(["asset_id", "last_date", "last_price", "price_vs_peak", "days_eligible"]),
            f"Assets that stop trading inside the lake: {book['ended_assets'].height}.",
            first=25,
            name="ended_assets",
        ),
        html.render_table(
            exits,
            chosen(
                [
                    "date",
                    "account",
                    "asset_id",
                    "leg",
                    "price",
                    "price_age_days",
                    "traded_usd",
                    "cost_exit_haircut",
                ]
            ),
            f"Positions closed for want of a price: {exits.height}, at the last price with a haircut of "
            f"{percent(book.context.settings.costs.exit_haircut, 0)}.",
            first=25,
            name="dead_exits",
        ),
    ]


def _unfunded(book: Book) -> list[str]:
    """Liquid alts the book could not short only because the lake lacks their funding."""
    n_alts = book.context.settings.basket.n_alts
    days, names = book["unfunded_alts"], book["unfunded_names"]
    heading = "<h3>Eligible but for funding</h3>"
    if not book.context.settings.universe.require_shortable:
        return [heading, html.paragraph("The funding rule is off: no asset is kept out for want of funding.", "soft")]
    if not days.height:
        return [
            heading,
            html.paragraph(f"None of the {n_alts} most traded alts of any day fails only this rule.", "soft"),
        ]
    n_days = book["universe_daily"].filter(pl.col("n_eligible_alts") > 0).height
    per_day = days.group_by("date").len()
    examples = ", ".join(
        f"{name} ({count:,} days)" for name, count in names.head(5).select("asset_id", "n_days").rows()
    )
    chart = figures.unfunded_per_day(book["universe_daily"], days, n_alts)
    return [
        render_chart(chart),
        html.paragraph(
            f"On {per_day.height:,} of {n_days:,} days with eligible alts, at least one alt that ranks among the "
            f"{n_alts} most traded is kept out only because the lake has no funding of it that day: "
            f"{html.number(days.height / max(n_days, 1), 1)} a day on average, at most {per_day['len'].max()!s}. "
            f"{names.height} assets in all, the most frequent {examples}. {_unfunded_bias(days)}"
        ),
        html.details(
            "All of them",
            html.render_table(
                names,
                chosen(["asset_id", "n_days", "first", "last", "adv_usd"], n_days=Field("Kept out", "days")),
                f"Alts among the {n_alts} most traded that fail only the funding rule.",
                first=40,
                name="unfunded_names",
            ),
        ),
    ]


def _unfunded_bias(days: pl.DataFrame) -> str:
    """Say which way leaving these assets out of the short leg erred on this lake."""
    unknown = "Bias: the short leg is chosen from what the lake knows, not from what could be shorted"
    both = days.drop_nulls(["ret_next", "ret_next_kept"])
    if not both.height:
        return f"{unknown}; which way that errs cannot be told."
    out, kept = as_float(both["ret_next"].mean()), as_float(both["ret_next_kept"].mean())
    way = "flatters" if out > kept else "understates"
    return (
        f"{unknown}; the assets left out returned {html.signed_basis_points(out)} on the day after, the kept ones "
        f"{html.signed_basis_points(kept)}, so leaving them out {way} the price P&L of the short leg here, before "
        "funding (a difference of means without a test)."
    )


def _quality(book: Book) -> list[str]:
    findings = book["findings"]
    summary = (
        findings.group_by("check", "severity", "table")
        .agg(
            rows=pl.len(),
            n_assets=pl.col("asset_id").n_unique(),
            first=pl.col("date").min(),
            last=pl.col("date").max(),
            example=pl.col("message").sort().first(),
        )
        .sort("severity", "rows", "check", "table", descending=[False, True, False, False])
    )
    absent = book.context.absent
    lost = (
        html.bullet_list(absent) if absent else html.paragraph("Every table the pipeline can use is present.", "soft")
    )
    return [
        html.render_table(
            summary,
            chosen(
                ["check", "severity", "table", "rows", "n_assets", "first", "last", "example"],
                n_assets=Field("Assets"),
            ),
            f"Findings of the quality rules on the lake: {findings.height:,}. Nothing was repaired silently.",
            name="findings",
        ),
        "<h3>What the lake could not tell</h3>",
        lost,
        render_chart(figures.funding_kinds(book["funding_coverage"])),
    ]


def _study(book: Book) -> list[str]:
    settings = book.context.settings
    costs, trading = settings.costs, settings.backtest
    spread = [html.basis_points(value) for value in (costs.spread_default, costs.spread_min, costs.spread_max)]
    facts = {
        "Fees": f"taker {html.basis_points(costs.taker_fee)}, maker {html.basis_points(costs.maker_fee)}, "
        f"maker share {percent(costs.maker_share, 0)}",
        "Spread": f"EDGE over {costs.spread_window_days} days, else {spread[0]}, within {spread[1]} and "
        f"{spread[2]}; half is paid per trade",
        "Impact": f"{costs.impact_coefficient:g} × daily volatility × √(traded / daily volume)",
        "Missing funding": f"charged {percent(costs.missing_funding_annual, 0)} a year of the position",
        "Missing price": f"carried {settings.lake.price_carry_days} days, then closed at the last price "
        f"with a haircut of {percent(costs.exit_haircut, 0)}",
        "Execution": f"at the close of D + {trading.execution_lag_days}; rebalancing: {trading.rebalance}, "
        f"or beyond a drift of {percent(trading.band, 0)} of target gross",
        "Volatility target": "off" if trading.vol_target is None else f"{percent(trading.vol_target, 0)} a year",
        "Capital": html.usd(trading.capital_usd),
        "Seeds": f"random regimes {trading.seed}, bootstrap {settings.evaluation.seed}",
    }
    dump = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)
    return [
        html.fact_list(facts),
        html.details("Whole configuration", f"<pre>{escape(dump)}</pre>"),
        "<h3>Methods in short</h3>",
        html.bullet_list(_METHODS),
    ]


_METHODS = (
    "A decision on day D uses facts known at its close and is executed at the close of D + lag; a label "
    "shown beside a "
    "return is the one that was known before it.",
    "Returns are simple, daily, net of fees, half-spread, square-root impact, signed funding and exit "
    "haircuts; "
    "statistics are annualised by 365 days and use no risk-free rate.",
    "Sharpe standard error: Lo (2002). Intervals: stationary bootstrap of Politis and Romano (1994), block "
    "length of "
    "Politis and White (2004, corrected 2009).",
    "Rolling betas: least squares on the daily returns of BTC and ETH together, textbook standard errors; "
    "the band is "
    "pointwise, so some days lie outside it by chance.",
    "Folds of the walk-forward are one continuous account: holdings pass from one to the next and pay for the change.",
)


def _files(book: Book) -> list[str]:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Table", "Rows", "Columns", "Files"))
    rows = [
        f'<tr><th scope="row">{name}</th><td class="num">{frame.height:,}</td><td class="wrap">'
        f"{escape(', '.join(frame.columns))}</td>"
        f"<td>{html.file_links(name, json=frame.height <= html.JSON_ROWS)}</td></tr>"
        for name, frame in sorted(book.frames.items())
    ]
    return [html.wrap_table(head, rows, "Every table of this page, whole, in the folder tables/ beside it.")]
