"""First page: the verdict, the headline figures, what was run on what, and the performance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from majors_alts_pipeline.report import html, tables
from majors_alts_pipeline.report.book import Book
from majors_alts_pipeline.report.charts import render_chart
from majors_alts_pipeline.report.fields import FIELDS, chosen, kpi_columns
from majors_alts_pipeline.report.figures import performance
from majors_alts_pipeline.report.figures.style import account_name, as_float
from majors_alts_pipeline.report.html import NARROW_SPACE, escape, percent
from majors_alts_pipeline.report.pages.blocks import (
    BOOKS,
    cell_with_range,
    interval_in_words,
    kpi_slices,
    number_or_dash,
    of_books,
    sharpe_field,
)
from majors_alts_pipeline.report.site import Page, Part
from majors_alts_pipeline.report.statistics import Statistics
from majors_alts_pipeline.report.stills import STILLS


def page(book: Book) -> Page:
    """Build the page."""
    return Page(
        "index",
        "Overview",
        _lead(book),
        [
            Part("performance", "Performance", _performance(book)),
            Part("risk", "Risk over time", _risk(book)),
            Part("calendar", "By month and year", _calendar(book)),
        ],
    )


def _lead(book: Book) -> list[str]:
    """Verdict and headline numbers, then what a reader must know before believing them."""
    tiles = []
    for account in BOOKS:
        kpi = book.statistics.account(account)
        name = account_name(account)
        tiles.append(
            html.tile(f"{name}: net Sharpe", number_or_dash(kpi["sharpe"]), _interval_words(kpi, "sharpe", book))
        )
        falls = f"max drawdown {percent(kpi['max_drawdown'])}"
        tiles.append(html.tile(f"{name}: net CAGR", number_or_dash(kpi["cagr"], percent), falls))
    costs = _component(book["attribution"], "regime", tables.COSTS)
    funding = _component(book["attribution"], "regime", ("pnl_funding",))
    detail = f"funding {percent(funding, 2)} of NAV a year"
    tiles.append(html.tile("Regime-timed book: costs", f"{percent(costs, 2)}", f"of NAV a year; {detail}"))
    tiles += _assumed_tiles(book.statistics)
    tiles.append(_edge_tile(book.statistics))
    tiles += _selection_tiles(book)
    rows = ' class="tiles four"' if len(tiles) % 4 == 0 else ' class="tiles"'
    change = (
        f'<p class="change"><strong>What would change it:</strong> {escape(book.what_would_change)}</p>'
        if book.what_would_change
        else ""
    )
    warnings = _warnings(book)
    return [
        f'<p class="verdict">{escape(book.verdict)}</p>{change}',
        f"<div{rows}>{''.join(tiles)}</div>",
        *([html.bullet_list(warnings, "warnings")] if warnings else []),
        _header_facts(book),
    ]


def _edge_tile(statistics: Statistics) -> str:
    """Difference of the book's price P&L by label, with its sign."""
    test = statistics.edge.row(0, named=True)
    if test["p_value"] is None:
        return html.tile("Price P&L by label", "–", "one label only, or too few days")
    needed = test["minimum_detectable_effect"]
    seen = "" if needed is None else f"; 80{NARROW_SPACE}% power needs {html.basis_points(needed, 0)}"
    return html.tile(
        "Price P&L, risk-on majors − other",
        f"{html.signed_basis_points(test['difference'])} a day",
        f"always-on, before costs; two-sided {html.p_words(test['p_value'])}{seen}",
    )


def _assumed_tiles(statistics: Statistics) -> list[str]:
    """One tile per book when most of its funding is a stand-in."""
    if not statistics.mostly_assumed():
        return []
    whom = "shorts" if statistics.charged_to_shorts else "positions without a rate"
    charge = f"stand-in of {percent(statistics.stand_in_annual, 0)} a year charged to {whom}"
    return [
        html.tile(
            f"{account_name(row['account'])}: funding unknown",
            percent(row["per_year"], 2),
            f"of NAV a year, {charge}; net Sharpe with it {number_or_dash(row['sharpe'])}, "
            f"without it {number_or_dash(row['sharpe_without'])}",
        )
        for row in statistics.assumed_funding.iter_rows(named=True)
    ]


def _selection_tiles(book: Book) -> list[str]:
    """Sharpe ratio of the timed book after everything that was tried, and the odds that the choice was luck."""
    found = selection_of(book, "regime")
    deflated, overfitting, tried = (found.get(name) for name in ("dsr", "pbo", "n_trials"))
    tiles = []
    if deflated is not None:
        after = "" if tried is None else f" after {tried:,.0f} trials"
        words = f"chance that its Sharpe ratio beats luck{after}"
        tiles.append(html.tile("Deflated Sharpe, regime-timed", percent(deflated), words))
    if overfitting is not None:
        words = "chance that the in-sample winner is below the median later"
        tiles.append(html.tile("Backtest overfitting", percent(overfitting, 0), words))
    return tiles


def selection_of(book: Book, account: str) -> dict[str, float | None]:
    """Measure to value of table `selection` for one account; empty without it."""
    frame = book.evidence("selection")
    if frame is None:
        return {}
    return dict(frame.filter(account=account).select("measure", "value").iter_rows())


def _interval_words(kpi: Mapping[str, Any], name: str, book: Book) -> str:
    low, high = kpi[f"{name}_low"], kpi[f"{name}_high"]
    if low is None or high is None:
        return "too few days for an interval"
    return f"{percent(book.statistics.confidence, 0)} interval {html.number(low)} to {html.number(high)}"


def _component(attribution: pl.DataFrame, account: str, names: tuple[str, ...]) -> float:
    return float(attribution.filter(pl.col("component").is_in(names), account=account)["per_year"].sum())


def _warnings(book: Book) -> list[str]:
    context = book.context
    bound = context.settings.evaluation.red_flag_sharpe
    found = list(context.mixed)
    flags = book.evidence("red_flags")
    if flags is not None:
        found += [
            f"{subject}: {message}"
            for subject, message in flags.filter("fired").select("subject", "message").iter_rows()
        ]
    for row in book.statistics.overall.iter_rows(named=True):
        if row["sharpe"] is not None and abs(row["sharpe"]) > bound:
            found.append(
                f"{account_name(row['account'])} shows a Sharpe ratio of {html.number(row['sharpe'])}, beyond the "
                f"plausible {html.number(bound, 1)}: look for a mistake before believing it."
            )
    errors = context.findings.filter(pl.col("severity") == "ERROR").height
    if errors:
        found.append(f"{errors:,} data-quality findings of severity ERROR; see Data, Quality of the lake.")
    if book.statistics.partly_assumed():
        found.append(book.statistics.assumed_words())
    if not book["ended_assets"].height:
        found.append("No series ends inside this lake: survivors only; see Data, Universe and survivorship.")
    failed = book["refits"].filter(~pl.col("converged"))
    if failed.height:
        named = failed.group_by("method").len().sort("method")
        words = ", ".join(f"{method} {count}" for method, count in named.iter_rows())
        found.append(f"Refits that did not converge, the earlier model stays in force: {words}; see Regimes, Refits.")
    found += [f"Absent from the lake: {sentence}" for sentence in context.absent]
    return found


def _header_facts(book: Book) -> str:
    """Lines that identify this page: what was run on what."""
    context, costs = book.context, book.context.settings.costs
    ended = book["ended_assets"].height
    seeds = f"random regimes {context.settings.backtest.seed}, bootstrap {context.settings.evaluation.seed}"
    facts = {
        "Window": f"{book.first} to {book.last} ({(book.last - book.first).days + 1:,} days)",
        "Universe": _universe_words(book["universe_daily"]),
        "Lake": context.lake_location + (" (SIMULATED)" if context.simulated else ""),
        "Lake fingerprint": context.fingerprint,
        "Study": context.study_id,
        "Code version": context.code_version,
        "Configuration": f"{context.settings.digest()} (whole under Data, The study)",
        "Seeds": seeds,
        "Trials": _trials_words(book),
        "Delisted": f"{ended} of {book.n_assets} assets ({percent(ended / max(book.n_assets, 1))}) end inside the lake",
        "Costs": f"taker {html.basis_points(costs.taker_fee)}, half spread, square-root impact",
        "Funding": f"signed; without a rate {percent(costs.missing_funding_annual, 0)} a year is charged",
        "Survivorship": " ".join(book.survivorship),
    }
    return html.fact_list(facts, wide=("Survivorship",))


def _universe_words(daily: pl.DataFrame) -> str:
    size = daily.filter(pl.col("n_eligible_alts").cum_sum() > 0)["n_eligible_alts"]
    if not size.len():
        return "no alt was ever eligible"
    low, middle, high = size.min(), html.number(as_float(size.median()), 0), size.max()
    return f"{low!s} to {high!s} eligible alts a day (median {middle}), since the first eligible day"


def _trials_words(book: Book) -> str:
    """Number of configurations ever evaluated on this lake, else of candidates the refits tried."""
    found = selection_of(book, "regime").get("n_trials")
    if found is not None:
        return f"{found:,.0f} configurations evaluated on this lake, as the study registry counts them"
    refits = book["refits"].filter(method=book.context.settings.regime.method)
    if not refits.height:
        return "no refit date lies inside the window"
    tried = refits["n_candidates"]
    return f"{tried.max()!s} candidates at each of {refits.height} refit dates ({tried.sum():,} evaluations on record)"


def _performance(book: Book) -> list[str]:
    statistics = book.statistics
    timed, always, btc = (statistics.account(name)["total_return"] for name in (*BOOKS, "btc"))
    words = (
        f"Regime-timed {number_or_dash(timed, percent)}, always-on {number_or_dash(always, percent)} over the whole "
        f"window, BTC {number_or_dash(btc, percent)}."
    )
    rows = [
        {"account": row["account"], "sharpe": row["sharpe"], "low": row["sharpe_low"], "high": row["sharpe_high"]}
        for row in statistics.overall.sort(tables.account_order()).iter_rows(named=True)
    ]
    return [
        render_chart(performance.equity(book["accounts"], book["regime_episodes"], words)),
        render_chart(performance.underwater(book["accounts"])),
        _stills(),
        _kpi_matrix(book),
        kpi_slices(
            book,
            "by_regime",
            "label",
            "KPIs by the label known when the position was decided. Trading at a change of label "
            "is booked to the label with the larger exposure, so a label pays its own entries and exits.",
        ),
        _walk_forward_only(book),
        render_chart(performance.sharpe_intervals(rows, statistics.confidence)),
    ]


def _stills() -> str:
    links = ", ".join(f'<a href="figures/{name}.png">{escape(title)}</a>' for name, title in STILLS.items())
    return f'<p class="note">As still pictures (PNG): {links}.</p>'


def _risk(book: Book) -> list[str]:
    settings, confidence = book.context.settings, book.statistics.confidence
    window = settings.evaluation.rolling_window_days
    return [
        render_chart(performance.sharpe_to_date(book["kpis_daily"], confidence)),
        render_chart(
            performance.rolling_risk_chart(book["rolling_risk"], window, confidence, settings.backtest.vol_target)
        ),
        html.render_table(
            of_books(book["drawdowns"]),
            chosen(["account", "depth", "peak", "trough", "recovery", "days_down", "days_total"]),
            "Ten worst drawdowns of each book; a dash under Recovered: not yet.",
            name="drawdowns",
        ),
    ]


def _calendar(book: Book) -> list[str]:
    return [
        *(
            html.render_month_grid(
                book["monthly_returns"].filter(account=account), f"Monthly net return, {account_name(account).lower()}."
            )
            for account in BOOKS
        ),
        kpi_slices(book, "by_year", "year", "KPIs by calendar year."),
    ]


def _kpi_matrix(book: Book) -> str:
    """KPIs in rows, accounts in columns, intervals beneath the values."""
    frame = book.statistics.overall.sort(tables.account_order())
    rows = frame.rows(named=True)
    head = '<th scope="col">KPI</th>' + "".join(
        f'<th scope="col" class="num">{escape(account_name(row["account"]))}</th>' for row in rows
    )
    body = []
    for name in kpi_columns(frame):
        item = FIELDS[name]
        unit = f'<span class="unit">{escape(item.unit)}</span>' if item.unit else ""
        cells = "".join(f'<td class="num">{cell_with_range(row, name, item)}</td>' for row in rows)
        body.append(f'<tr><th scope="row" title="{escape(item.note)}">{escape(item.label)}{unit}</th>{cells}</tr>')
    caption = (
        f"KPIs after costs and funding, 365 days a year; in brackets the {percent(book.statistics.confidence, 0)} "
        "interval (stationary bootstrap; for betas see Data, Methods)."
    )
    paths = book.context.settings.backtest.random_paths
    note = "" if paths == 1 else html.paragraph(
        f"– of {account_name('random_regimes').lower()}: that column is the mean of {paths} accounts, which is "
        "smoother than any of them, so volatility, Sharpe ratio, drawdown, hit rate and time invested would not be "
        "those of an account; days invested are those of any of them. Where the timed account stands among accounts "
        "timed at other moments is the timing placebo, under Regimes.",
        "note",
    )  # fmt: skip
    return html.heading("KPIs") + html.wrap_table(head, body, caption, "kpis") + note


def _walk_forward_only(book: Book) -> str:
    """KPIs of the days that a walk-forward model decided, and how many others there were."""
    decided = dict(book["decided_by"].iter_rows())
    n_days = sum(decided.values())
    frame = book.statistics.walk_forward.sort(tables.account_order())
    caption = (
        f"Out of sample: only the days whose decision a walk-forward model took ({decided['walk_forward']:,} of "
        f"{n_days:,}). Default weights decided {decided['default']:,} days, and on {decided['no_score']:,} days "
        "there was no score yet, so nothing was timed."
    )
    shown = interval_in_words(frame, "sharpe")
    fields = chosen(["account", *_OUT_COLUMNS], sharpe=sharpe_field(book))
    return html.render_table(shown, fields, caption, name="kpis_walk_forward")


_OUT_COLUMNS = (
    "n_days", "n_invested_days", "total_return", "volatility", "sharpe", "max_drawdown", "turnover_annual",
    "cost_annual", "funding_annual",
)  # fmt: skip
