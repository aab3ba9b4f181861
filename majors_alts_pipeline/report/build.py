"""The report: one HTML file that works with the network off, its tables beside as CSV, Parquet, JSON."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.report import figures, html, tables
from majors_alts_pipeline.report.fields import FIELDS, chosen, kpi_columns, with_interval
from majors_alts_pipeline.report.figures import COMPONENT_NAMES, account_name, label_name
from majors_alts_pipeline.report.html import NARROW_SPACE, Field, Part, escape, percent
from majors_alts_pipeline.report.statistics import Statistics, statistics_of

Load = Callable[[str], pl.LazyFrame | pl.DataFrame]


class ReportError(ValueError):
    """The report cannot be built or written; the message says why and what to do."""


@dataclass(frozen=True)
class ReportContext:
    """What the report says about the study besides its tables.

    Attributes:
        lake_location: directory, file or URL of the lake.
        simulated: the lake is simulated; stamped on everything.
        fingerprint: of the lake.
        study_id: configuration + lake + code.
        code_version: of this package.
        settings: resolved configuration.
        absent: sentences on tables the lake lacks and what was lost.
        findings: (check, severity, table, asset_id, date, value, message) of the quality rules.
        survivorship: known bias of this lake beyond what its own data show; empty when nothing is known.
        mixed: warnings, such as days stored by another study.
    """

    lake_location: str
    simulated: bool
    fingerprint: str
    study_id: str
    code_version: str
    settings: Settings
    absent: list[str]
    findings: pl.DataFrame
    survivorship: str = ""
    mixed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReportPaths:
    """What was written.

    Attributes:
        html: the page.
        tables: directory of the tables.
        kpis: one row per account.
        verdict: the page's one-sentence answer.
    """

    html: Path
    tables: Path
    kpis: pl.DataFrame
    verdict: str


def build_report(load: Load, context: ReportContext, out: Path, lag_table: pl.DataFrame | None = None) -> ReportPaths:
    """Build the report of the loaded days and put it at `out`, whole or not at all.

    The bytes depend only on the arguments. `out` belongs to the report: it is replaced as a whole.

    Args:
        load: table name to its rows; panel, universe and betas may be large and are only scanned.
        context: what the study is.
        out: directory of the report: ``report.html`` and ``tables/``.
        lag_table: KPIs of the same book under other execution lags: (execution_lag_days, account, and any KPI
            columns).

    Raises:
        ReportError: there is no day to report on, an account is missing, or `out` cannot be written.
    """
    book = _gather(load, context, lag_table)
    page = html.render_page(
        title="Long BTC/ETH against a short alt basket",
        simulated=context.simulated,
        verdict=book.verdict,
        lead=_lead(book),
        parts=_parts(book),
        footer=_footer(context),
    )
    try:
        _write(book, page, out)
    except OSError as error:
        raise ReportError(
            f"report: cannot write {out}: {error.strerror or error}; free the disk or choose another "
            "directory "
            "with --out. The earlier report is untouched."
        ) from error
    return ReportPaths(out / "report.html", out / "tables", book.statistics.overall, book.verdict)


@dataclass(frozen=True)
class _Book:
    """Everything the page shows, computed once."""

    context: ReportContext
    statistics: Statistics
    verdict: str
    first: date
    last: date
    survivorship: list[str]
    frames: Mapping[str, pl.DataFrame]

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.frames[name]


def _collected(frame: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    return frame.collect() if isinstance(frame, pl.LazyFrame) else frame


def _gather(load: Load, context: ReportContext, lag_table: pl.DataFrame | None) -> _Book:
    settings = context.settings
    backtest = _collected(load("backtest"))
    if not backtest.height:
        raise ReportError("report: table backtest holds no day; materialise the chain first (`majors-alts run`)")
    missing = [name for name in tables.ACCOUNTS if name not in set(backtest["account"].unique())]
    if missing:
        raise ReportError(f"report: table backtest lacks account(s) {', '.join(missing)}; materialise it again")
    regime = _collected(load("regime")).filter(method=settings.regime.method)
    if not regime.height:
        raise ReportError(f"report: table regime holds no row of method {settings.regime.method!r}; materialise it")
    panel, universe = load("panel").lazy(), load("universe").lazy()
    positions, basket = _collected(load("positions")), _collected(load("basket"))
    features, regime_model = _collected(load("features")), _collected(load("regime_model"))
    majors = panel.filter(pl.col("asset_id").is_in(settings.lake.majors)).select("date", "asset_id", "ret").collect()
    evaluated = _evaluated(backtest, basket)
    held_funding = tables.held_funding(positions, panel, evaluated)
    statistics = statistics_of(backtest, positions, regime, majors, held_funding, settings)
    backtest = evaluated
    daily = tables.daily_accounts(backtest)
    book_daily = tables.basket_daily(basket)
    ended = tables.ended_assets(panel, universe, settings.lake.price_carry_days)
    unfunded = tables.unfunded_alts(universe, panel, settings.basket.n_alts)
    n_assets = panel.select(pl.col("asset_id").n_unique()).collect().item()
    first, last = _span(backtest)
    frames = {
        **statistics.frames(),
        "accounts": daily,
        "drawdowns": tables.drawdown_table(daily),
        "monthly_returns": tables.monthly_returns(backtest),
        "attribution": tables.attribution(backtest),
        "attribution_by_leg": tables.attribution_by_leg(positions),
        "attribution_by_asset": tables.attribution_by_asset(positions),
        "funding_by_leg": tables.funding_by_leg(positions, backtest),
        "funding_coverage": tables.funding_coverage(panel, universe),
        "funding_of_positions": held_funding,
        "rolling_betas": tables.rolling_betas(
            backtest, _side_by_side(majors, settings), settings.evaluation.rolling_window_days
        ),
        "regime": regime.sort("date"),
        "regime_episodes": tables.regime_episodes(regime),
        "decided_by": tables.decided_by(regime, *_span(evaluated), settings.backtest.execution_lag_days),
        "regime_summary": tables.regime_summary(regime),
        "regime_transitions": tables.regime_transitions(regime),
        "returns_by_label": tables.return_quartiles(backtest),
        "refits": tables.refits(regime_model.filter(method=settings.regime.method)),
        "features": features.sort("feature", "date"),
        "feature_summary": tables.feature_summary(features),
        "basket": basket.sort("date", "asset_id"),
        "basket_daily": book_daily,
        "basket_status": tables.basket_status(book_daily),
        "basket_members": tables.basket_members(basket),
        "beta_quality": tables.beta_quality(load("betas").lazy()),
        "universe_daily": tables.universe_daily(universe),
        "universe_reasons": tables.universe_reasons(universe),
        "unfunded_alts": unfunded,
        "unfunded_names": tables.unfunded_names(unfunded),
        "ended_assets": ended,
        "dead_exits": tables.dead_exits(positions),
        "execution": tables.execution(backtest, held_funding),
        "findings": context.findings,
        "kpis_daily": _collected(load("kpis")).filter(pl.col("date") >= first).sort(tables.account_order(), "date"),
    }
    if lag_table is not None:
        frames["lags"] = lag_table
    survivorship = [tables.survivorship_statement(ended, n_assets, last)]
    survivorship += [context.survivorship] if context.survivorship else []
    return _Book(
        context=context,
        statistics=statistics,
        verdict=statistics.verdict(first, last),
        first=first,
        last=last,
        survivorship=survivorship,
        frames=frames,
    )


def _evaluated(backtest: pl.DataFrame, basket: pl.DataFrame) -> pl.DataFrame:
    """Days on which the accounts are judged: from the first trade of any of them."""
    from majors_alts_pipeline.evaluation.stage import evaluation_start

    start = evaluation_start(backtest)
    if start is None:
        first, last = _span(backtest)
        why = basket.filter(pl.col("reason") != "").group_by("reason").len().sort("len", "reason", descending=True)
        reason = f"the book was flat: {why['reason'][0]}" if why.height else "table basket holds no row"
        raise ReportError(
            f"report: no account traded on any day from {first} to {last} ({reason}); look at table universe "
            "for the rule "
            "that keeps assets out, or give a longer lake"
        )
    return backtest.filter(pl.col("date") >= start)


def _side_by_side(majors: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """(date, btc, eth): daily returns of the two majors, days without both left out."""
    btc, eth = settings.lake.majors
    return (
        majors.pivot("asset_id", index="date", values="ret").select("date", btc=btc, eth=eth).drop_nulls().sort("date")
    )


def _span(frame: pl.DataFrame) -> tuple[date, date]:
    first, last = frame.select(first=pl.col("date").min(), last=pl.col("date").max()).row(0)
    return first, last


def _lead(book: _Book) -> list[str]:
    """Headline numbers, then what a reader must know before believing them."""
    tiles = []
    for account in ("regime", "always_on"):
        kpi = book.statistics.account(account)
        sharpe = "–" if kpi["sharpe"] is None else html.number(kpi["sharpe"])
        tiles.append(html.tile(f"{account_name(account)}: net Sharpe", sharpe, _interval_words(kpi, "sharpe", book)))
        growth = "–" if kpi["cagr"] is None else percent(kpi["cagr"])
        falls = f"max drawdown {percent(kpi['max_drawdown'])}"
        tiles.append(html.tile(f"{account_name(account)}: net CAGR", growth, falls))
    costs = _component(book["attribution"], "regime", tables.COSTS)
    funding = _component(book["attribution"], "regime", ("pnl_funding",))
    detail = f"funding {percent(funding, 2)} of NAV a year"
    tiles.append(html.tile("Regime-timed book: costs", f"{percent(costs, 2)}", f"of NAV a year; {detail}"))
    tiles += _assumed_tiles(book.statistics)
    tiles.append(_edge_tile(book.statistics))
    rows = ' class="tiles four"' if len(tiles) == 8 else ' class="tiles"'
    blocks = [f"<div{rows}>{''.join(tiles)}</div>"]
    warnings = _warnings(book)
    return [*blocks, *([html.bullet_list(warnings, "warnings")] if warnings else []), _header_facts(book)]


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
            f"of NAV a year, {charge}; net Sharpe with it {_number_or_dash(row['sharpe'])}, "
            f"without it {_number_or_dash(row['sharpe_without'])}",
        )
        for row in statistics.assumed_funding.iter_rows(named=True)
    ]


def _number_or_dash(value: float | None) -> str:
    return "–" if value is None else html.number(value)


def _interval_words(kpi: Mapping[str, Any], name: str, book: _Book) -> str:
    low, high = kpi[f"{name}_low"], kpi[f"{name}_high"]
    if low is None or high is None:
        return "too few days for an interval"
    return f"{percent(book.statistics.confidence, 0)} interval {html.number(low)} to {html.number(high)}"


def _component(attribution: pl.DataFrame, account: str, names: tuple[str, ...]) -> float:
    return float(attribution.filter(pl.col("component").is_in(names), account=account)["per_year"].sum())


def _warnings(book: _Book) -> list[str]:
    context = book.context
    bound = context.settings.evaluation.red_flag_sharpe
    found = list(context.mixed)
    for row in book.statistics.overall.iter_rows(named=True):
        if row["sharpe"] is not None and abs(row["sharpe"]) > bound:
            found.append(
                f"{account_name(row['account'])} shows a Sharpe ratio of {html.number(row['sharpe'])}, "
                "beyond the "
                f"plausible {html.number(bound, 1)}: look for a mistake before believing it."
            )
    errors = context.findings.filter(pl.col("severity") == "ERROR").height
    if errors:
        found.append(f"{errors:,} data-quality findings of severity ERROR; see Data quality.")
    if book.statistics.partly_assumed():
        found.append(book.statistics.assumed_words())
    if not book["ended_assets"].height:
        found.append("No series ends inside this lake: survivors only; see Universe and survivorship.")
    found += [f"Absent from the lake: {sentence}" for sentence in context.absent]
    return found


def _parts(book: _Book) -> list[Part]:
    return [
        Part("performance", "Performance", _performance(book)),
        Part("regimes", "Regimes", _regimes(book)),
        Part("neutrality", "Neutrality and exposure", _neutrality(book)),
        Part("costs", "Costs and funding", _costs(book)),
        Part("basket", "The basket", _basket(book)),
        Part("universe", "Universe and survivorship", _universe(book)),
        Part("data-quality", "Data quality", _quality(book)),
        Part("study", "The study", _study(book)),
        Part("files", "Files", _files(book)),
    ]


def _performance(book: _Book) -> list[str]:
    confidence = book.statistics.confidence
    rows = [
        {
            "account": row["account"],
            "sharpe": row["sharpe"],
            "low": row["sharpe_low"],
            "high": row["sharpe_high"],
        }
        for row in book.statistics.overall.sort(tables.account_order()).iter_rows(named=True)
    ]
    timed, always = book.statistics.account("regime"), book.statistics.account("always_on")
    words = (
        f"Regime-timed {_or_dash(timed['total_return'])}, always-on {_or_dash(always['total_return'])} over "
        "the whole "
        f"window, BTC {_or_dash(book.statistics.account('btc')['total_return'])}."
    )
    return [
        html.render_chart(figures.equity(book["accounts"], book["regime_episodes"], words)),
        html.render_chart(figures.underwater(book["accounts"])),
        _kpi_matrix(book),
        _walk_forward_only(book),
        html.render_chart(figures.sharpe_intervals(rows, confidence)),
        html.render_chart(figures.sharpe_to_date(book["kpis_daily"], confidence)),
        html.render_month_grid(
            book["monthly_returns"].filter(account="regime"), "Monthly net return, regime-timed book."
        ),
        html.render_month_grid(
            book["monthly_returns"].filter(account="always_on"), "Monthly net return, always-on book."
        ),
        _kpi_slices(book, "by_year", "year", "KPIs by calendar year."),
        html.render_table(
            book["drawdowns"].filter(pl.col("account").is_in(["regime", "always_on"])),
            chosen(["account", "depth", "peak", "trough", "recovery", "days_down", "days_total"]),
            "Ten worst drawdowns of each book; a dash under Recovered: not yet.",
            name="drawdowns",
        ),
        *_lags(book),
    ]


def _or_dash(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _lags(book: _Book) -> list[str]:
    heading = "<h3>Execution lags side by side</h3>"
    if "lags" not in book.frames:
        return [heading, html.paragraph("Other execution lags were not computed for this report.", "soft")]
    lags = book["lags"].filter(pl.col("account").is_in(["regime", "always_on"]))
    lags = lags.sort(tables.account_order(), "execution_lag_days")
    columns = ["account", "execution_lag_days", *(name for name in _LAG_COLUMNS if name in lags.columns)]
    in_force = book.context.settings.backtest.execution_lag_days
    caption = f"The same decisions executed at the close of D + lag; this study uses lag {in_force}."
    return [heading, html.render_table(lags, chosen(columns), caption, name="lags")]


def _kpi_matrix(book: _Book) -> str:
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
        cells = "".join(f'<td class="num">{_cell_with_range(row, name, item)}</td>' for row in rows)
        body.append(f'<tr><th scope="row" title="{escape(item.note)}">{escape(item.label)}{unit}</th>{cells}</tr>')
    caption = (
        "KPIs after costs and funding, 365 days a year; in brackets the "
        f"{percent(book.statistics.confidence, 0)} "
        "interval (stationary bootstrap; for betas see Methods)."
    )
    paths = book.context.settings.backtest.random_paths
    note = "" if paths == 1 else html.paragraph(
        f"– of {account_name('random_regimes').lower()}: that column is the mean of {paths} accounts, which is "
        "smoother than any of them, so volatility, Sharpe ratio, drawdown, hit rate and time invested would not be "
        "those of an account; days invested are those of any of them. Where the timed account stands among accounts "
        "timed at other moments is the timing placebo, under Regimes.",
        "note",
    )  # fmt: skip
    return "<h3>KPIs</h3>" + html.wrap_table(head, body, caption, "kpis") + note


def _cell_with_range(row: Mapping[str, Any], name: str, item: Field) -> str:
    value = html.render_cell(row[name], item.show)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if low is None or high is None or row[name] is None:
        return value
    return f'{value}<span class="range">[{escape(item.show(low))}, {escape(item.show(high))}]</span>'


def _walk_forward_only(book: _Book) -> str:
    """KPIs of the days that a walk-forward model decided, and how many others there were."""
    decided = dict(book["decided_by"].iter_rows())
    n_days = sum(decided.values())
    frame = book.statistics.walk_forward.sort(tables.account_order())
    over = {"sharpe": Field("Sharpe, net", f"per year, {percent(book.statistics.confidence, 0)} interval")}
    caption = (
        f"Out of sample: only the days whose decision a walk-forward model took ({decided['walk_forward']:,} of "
        f"{n_days:,}). Default weights decided {decided['default']:,} days, and on {decided['no_score']:,} days "
        "there was no score yet, so nothing was timed."
    )
    shown = _interval_in_words(frame, "sharpe")
    return html.render_table(shown, chosen(["account", *_OUT_COLUMNS], **over), caption, name="kpis_walk_forward")


def _kpi_slices(book: _Book, attribute: str, key: str, caption: str) -> str:
    """KPIs of the two books in slices (regime, year, fold): one row per account and slice."""
    both = getattr(book.statistics, attribute).filter(pl.col("account").is_in(["regime", "always_on"]))
    frame = both.sort(tables.account_order(), key)
    left_out = "exposure_time" if key == "label" else "n_episodes"
    columns = [name for name in _SLICE_COLUMNS if name != left_out]
    over = {"sharpe": Field("Sharpe, net", f"per year, {percent(book.statistics.confidence, 0)} interval")}
    shown = _interval_in_words(frame, "sharpe")
    return html.render_table(shown, chosen(["account", key, *columns], **over), caption, name=f"kpis_{attribute}")


def _interval_in_words(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Column `name` as text with its interval."""
    return frame.with_columns(
        pl.Series(name, [with_interval(row, name) for row in frame.iter_rows(named=True)], dtype=pl.String)
    )


_OUT_COLUMNS = (
    "n_days", "n_invested_days", "total_return", "volatility", "sharpe", "max_drawdown", "turnover_annual",
    "cost_annual", "funding_annual",
)  # fmt: skip
_LAG_COLUMNS = (
    "n_days",
    "n_invested_days",
    "total_return",
    "cagr",
    "volatility",
    "sharpe",
    "sharpe_se",
    "max_drawdown",
    "turnover_annual",
    "cost_annual",
    "funding_annual",
)
_SLICE_COLUMNS = (
    "n_days",
    "n_episodes",
    "n_invested_days",
    "total_return",
    "volatility",
    "sharpe",
    "max_drawdown",
    "hit_rate",
    "exposure_time",
    "turnover_annual",
    "cost_annual",
    "funding_annual",
)


def _regimes(book: _Book) -> list[str]:
    regime = book.context.settings.regime
    tried = book["refits"]
    enter = [regime.enter, *regime.grid.enter]
    return [
        html.paragraph(book.statistics.edge_words()),
        html.paragraph(book.statistics.placebo_words()),
        html.render_chart(figures.regime_timeline(book["regime"], book["regime_episodes"], enter)),
        _kpi_slices(
            book,
            "by_regime",
            "label",
            "KPIs by the label known when the position was decided. Trading at a change of label "
            "is booked to the label with the larger exposure, so a label pays its own entries and exits.",
        ),
        html.render_chart(figures.returns_by_label(book["returns_by_label"])),
        html.render_table(
            book["regime_summary"],
            chosen(["label", "n_days", "share", "n_episodes", "mean_days", "longest_days"], n_days=Field("Days")),
            "How long each label held.",
            name="regime_summary",
        ),
        html.render_table(
            book["regime_transitions"],
            chosen(["label", *(name for name in tables.LABELS)], label=Field("Label today", "", label_name)),
            "Label of the next day, in % of the days with the label of the row.",
            name="regime_transitions",
        ),
        html.render_chart(figures.feature_heat_map(book["features"])),
        html.details(
            "Features: coverage and last values",
            html.render_table(
                book["feature_summary"],
                chosen(["feature", "days_with_z", "share", "coverage", "first_z", "last_raw", "last_z"]),
                "Features of the regime score.",
                name="feature_summary",
            ),
        ),
        html.details(
            f"KPIs of {book.statistics.by_fold['fold'].n_unique()} walk-forward folds",
            _kpi_slices(
                book,
                "by_fold",
                "fold",
                "Each fold trades the model of its refit date; one continuous account.",
            ),
        ),
        html.details(
            f"Walk-forward refits: {tried.height} dates, {int(tried['n_candidates'].sum()):,} candidates tried",
            html.render_table(
                tried,
                chosen(
                    [
                        "date",
                        "candidate",
                        "in_force",
                        "objective",
                        "n_obs",
                        "train_end",
                        "n_candidates",
                        "params",
                    ]
                ),
                "Model in force from each refit date, chosen only from days before it.",
                name="refits",
            ),
        ),
    ]


def _neutrality(book: _Book) -> list[str]:
    settings = book.context.settings.evaluation
    return [
        html.render_chart(
            figures.rolling_betas_chart(book["rolling_betas"], settings.rolling_window_days, settings.confidence)
        ),
        _neutrality_table(book),
        html.render_chart(figures.exposures(book["accounts"], _limits_words(book))),
        _largest_table(book),
        html.render_chart(figures.beta_quality_chart(book["beta_quality"])),
    ]


def _neutrality_table(book: _Book) -> str:
    """Ex-ante and ex-post neutrality of the two books side by side."""
    frame = book.statistics.neutrality.filter(pl.col("account").is_in(["regime", "always_on"]))
    over = {"ex_post": Field("Ex post", f"beta, {percent(book.statistics.confidence, 0)} interval")}
    shown = _interval_in_words(frame.sort(tables.account_order(), "factor"), "ex_post")
    columns = [
        "account", "factor", "n_days", "ex_ante_mean", "ex_ante_abs", "ex_ante_p95", "ex_ante_max",
        "ex_ante_max_date", "ex_post", "error",
    ]  # fmt: skip
    always = frame.filter(account="always_on").sort("factor").rows(named=True)
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


def _limits_words(book: _Book) -> str:
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


def _largest_table(book: _Book) -> str:
    frame = (
        book.statistics.largest.filter(pl.col("account").is_in(["regime", "always_on"]))
        .join(book.statistics.overall.select("account", "volatility"), on="account")
        .sort(tables.account_order())
    )
    target = book.context.settings.backtest.vol_target
    caption = "Largest exposures at any close, multiplier and drift included, and realised volatility" + (
        "." if target is None else f" beside the target of {percent(target)}."
    )
    columns = ["account", "gross_exposure", "gross_date", "alt_weight", "alt_asset_id", "alt_date", "volatility"]
    return html.render_table(frame, chosen(columns), caption, name="largest_exposures")


def _costs(book: _Book) -> list[str]:
    settings = book.context.settings
    legs = [
        "account",
        "leg",
        "pnl_price",
        "pnl_funding",
        "cost_fees",
        "cost_slippage",
        "cost_impact",
        "cost_exit_haircut",
    ]
    held = book["funding_of_positions"]
    return [
        html.render_chart(figures.attribution_bars(book["attribution"])),
        _attribution_matrix(book),
        html.render_chart(figures.attribution_over_time(book["accounts"], "regime")),
        html.render_chart(figures.attribution_over_time(book["accounts"], "always_on")),
        html.render_table(
            book["attribution_by_leg"],
            chosen([*legs, "net"]),
            "Profit, funding and costs by leg.",
            name="attribution_by_leg",
        ),
        html.render_chart(figures.funding_legs(book["funding_by_leg"], settings.backtest.capital_usd)),
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
        html.render_chart(figures.turnover(book["accounts"])),
        html.details("Assets that gave and took most", _assets_table(book)),
    ]


def _print_words(held: pl.DataFrame) -> str:
    """Say how much funding rests on one print, and which way that errs."""
    shares = [
        f"{percent(tables.share_of_kind(held, account, 'print_scaled'))} of the {account_name(account).lower()}'s"
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


def _attribution_matrix(book: _Book) -> str:
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


def _assets_table(book: _Book) -> str:
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


def _basket(book: _Book) -> list[str]:
    return [
        html.render_chart(figures.basket_size(book["basket_daily"])),
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
        html.render_chart(figures.membership(book["basket"])),
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


def _universe(book: _Book) -> list[str]:
    exits = book["dead_exits"]
    return [
        *(html.paragraph(sentence) for sentence in book.survivorship),
        html.render_chart(figures.universe_size(book["universe_daily"])),
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


def _unfunded(book: _Book) -> list[str]:
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
        html.render_chart(chart),
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
    out, kept = figures.as_float(both["ret_next"].mean()), figures.as_float(both["ret_next_kept"].mean())
    way = "flatters" if out > kept else "understates"
    return (
        f"{unknown}; the assets left out returned {html.signed_basis_points(out)} on the day after, the kept ones "
        f"{html.signed_basis_points(kept)}, so leaving them out {way} the price P&L of the short leg here, before "
        "funding (a difference of means without a test)."
    )


def _quality(book: _Book) -> list[str]:
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
        *_execution(book),
        "<h3>What the lake could not tell</h3>",
        lost,
        html.render_chart(figures.funding_kinds(book["funding_coverage"])),
    ]


def _execution(book: _Book) -> list[str]:
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
    return ["<h3>Execution</h3>", html.render_table(frame, chosen(columns), caption, name="execution")]


def _header_facts(book: _Book) -> str:
    """Lines that identify this page: what was run on what."""
    context = book.context
    facts = {
        "Window": f"{book.first} to {book.last} ({(book.last - book.first).days + 1:,} days)",
        "Lake": context.lake_location + (" (SIMULATED)" if context.simulated else ""),
        "Lake fingerprint": context.fingerprint,
        "Study": context.study_id,
        "Configuration": f"{context.settings.digest()} (whole under The study)",
        "Code version": context.code_version,
        "Universe": _universe_words(book["universe_daily"]),
        "Trials": _trials_words(book["refits"]),
        "Survivorship": " ".join(book.survivorship),
    }
    return html.fact_list(facts, wide=("Survivorship",))


def _universe_words(daily: pl.DataFrame) -> str:
    size = daily.filter(pl.col("n_eligible_alts").cum_sum() > 0)["n_eligible_alts"]
    if not size.len():
        return "no alt was ever eligible"
    low, middle, high = size.min(), html.number(figures.as_float(size.median()), 0), size.max()
    return f"{low!s} to {high!s} eligible alts a day (median {middle}), since the first eligible day"


def _trials_words(refits: pl.DataFrame) -> str:
    if not refits.height:
        return "no refit date lies inside the window"
    tried = refits["n_candidates"]
    return f"{tried.max()!s} candidates at each of {refits.height} refit dates ({tried.sum():,} evaluations on record)"


def _study(book: _Book) -> list[str]:
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


def _files(book: _Book) -> list[str]:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Table", "Rows", "Columns", "Files"))
    rows = [
        f'<tr><th scope="row">{name}</th><td class="num">{frame.height:,}</td><td class="wrap">'
        f"{escape(', '.join(frame.columns))}</td><td>{html.file_links(name)}</td></tr>"
        for name, frame in sorted(book.frames.items())
    ]
    return [html.wrap_table(head, rows, "Every table of this page, whole, in the folder tables/ beside it.")]


def _footer(context: ReportContext) -> str:
    stamp = "SIMULATED. " if context.simulated else ""
    return (
        f"{stamp}Study {context.study_id} · lake {context.fingerprint} · configuration "
        f"{context.settings.digest()} · "
        f"code {context.code_version}. Past and simulated returns are not a promise."
    )


def _write(book: _Book, page: str, out: Path) -> None:
    """Write everything into a directory beside `out`, then exchange the two."""
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        building.chmod(0o755)
        folder = building / "tables"
        folder.mkdir()
        for name, frame in book.frames.items():
            frame.write_csv(folder / f"{name}.csv")
            frame.write_parquet(folder / f"{name}.parquet", compression="zstd")
            frame.write_json(folder / f"{name}.json")
        (building / "report.html").write_text(page, encoding="utf-8")
        _put_in_place(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _put_in_place(new: Path, out: Path) -> None:
    """Make `new` the directory `out`, atomically where the system can; the old one ends up at `new`."""
    if not out.exists():
        new.rename(out)
        return
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is not None:
        done = exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(out), _RENAME_EXCHANGE)
        if done == 0:
            return
        code = ctypes.get_errno()
        if code not in {errno.ENOSYS, errno.EINVAL}:
            raise OSError(code, os.strerror(code), str(out))
    # The system cannot exchange two directories: for an instant there is no report, never half a one.
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)) / "old"
    out.rename(aside)
    new.rename(out)
    shutil.rmtree(aside.parent)
