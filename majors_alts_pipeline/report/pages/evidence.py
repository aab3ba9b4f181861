"""How likely the result is luck: what every test, variant and stress of the study says."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report import html, tables
from majors_alts_pipeline.report.book import Book
from majors_alts_pipeline.report.charts import render_chart
from majors_alts_pipeline.report.fields import SELECTION_FORMATS, chosen
from majors_alts_pipeline.report.figures import evidence as figures
from majors_alts_pipeline.report.figures import stress
from majors_alts_pipeline.report.figures.style import account_name, label_name, method_name
from majors_alts_pipeline.report.html import Field, escape
from majors_alts_pipeline.report.pages.blocks import missing, of_books
from majors_alts_pipeline.report.site import Page, Part
from majors_alts_pipeline.report.tables.sweep import is_of_study, relative


def page(book: Book) -> Page:
    """Build the page."""
    lead = (
        "Anything can be found by trying often enough. Here is what remains of the result when the trials are counted, "
        "the days are resampled, and the assumptions are changed one by one."
    )
    return Page(
        "evidence",
        "Evidence",
        [html.paragraph(lead, "lead")],
        [
            Part("edge-section", "Edge by regime and horizon", _edge(book)),
            Part("selection-section", "After everything that was tried", _selection(book)),
            Part("cross-validation", "Cross-validation", _cross_validation(book)),
            Part("variants", "The variants", _variants(book)),
            Part("robustness-section", "Robustness", _robustness(book)),
            Part("tails", "Value at risk", _tails(book)),
            Part("red-flags", "Red flags", _red_flags(book)),
        ],
    )


def _shown(book: Book, name: str) -> pl.DataFrame | None:
    """Evidence table of that name when it has rows."""
    frame = book.evidence(name)
    return frame if frame is not None and frame.height else None


def _edge(book: Book) -> list[str]:
    method = book.context.settings.regime.method
    blocks = [html.paragraph(book.statistics.edge_words()), missing(book, "edge_by_horizon")]
    edge = _shown(book, "edge_by_horizon")
    if edge is None:
        return blocks
    own = edge.filter(method=method)
    columns = [
        "label", "horizon_days", "mean", "low", "high", "difference", "hac_t", "p_value", "n_days", "n_episodes",
        "n_effective", "warning",
    ]  # fmt: skip
    over = {"horizon_days": Field("Horizon", "days"), **_OVER_HORIZON}
    if own.height:
        behind = html.render_table(
            own, chosen(columns, **over), f"Method {method_name(method)}.", name="edge_by_horizon"
        )
        blocks.append(render_chart(figures.edge_by_horizon(edge, method, book.statistics.confidence, behind)))
    warned = own.filter(pl.col("warning") != "").sort("horizon_days")
    if warned.height:
        said = [
            f"{label_name(str(label))}: {_warning_words(rows)}"
            for (label,), rows in warned.group_by("label", maintain_order=True)
        ]
        blocks.append(html.bullet_list(said, "warnings"))
    horizon = _main_horizon(edge, book.context.settings.regime.label_horizon_days)
    words = figures.difference_words(edge, horizon)
    if words:
        blocks.append(html.paragraph(f"Risk-on majors against the other days over {horizon} days, by method:"))
        blocks.append(html.bullet_list(words))
    others = edge.filter(pl.col("method") != method)
    if others.height:
        table = html.render_table(
            others, chosen(["method", *columns], **over), "Every other method.", first=120, name="edge_by_horizon"
        )
        blocks.append(html.details("Edge of every other method", table))
    return blocks


def _warning_words(rows: pl.DataFrame) -> str:
    """Warnings of one label at its shortest and longest horizon; those between are named, the table has their words."""
    every = [f"at {h} d {text}" for h, text in rows.select("horizon_days", "warning").iter_rows()]
    between = ", ".join(str(h) for h in rows["horizon_days"][1:-1])
    last = [f"{every[-1]}; likewise between them ({between} d)" if between else every[-1]] if len(every) > 1 else []
    return "; ".join([every[0], *last])


def _main_horizon(edge: pl.DataFrame, wanted: int) -> int:
    """Horizon of the table nearest to the one the labels are made for."""
    return int(edge.sort((pl.col("horizon_days") - wanted).abs(), "horizon_days")["horizon_days"][0])


_OVER_HORIZON = {
    name: Field(title, "bp over the horizon", html.basis_points, note)
    for name, title, note in (
        ("mean", "Mean", ""),
        ("low", "From", "lower end of the interval"),
        ("high", "To", "upper end of the interval"),
        ("difference", "Difference", "mean less the mean of the days without the label"),
    )
}


def _selection(book: Book) -> list[str]:
    frame = _shown(book, "selection")
    if frame is None:
        return [missing(book, "selection")]
    accounts = frame.sort(tables.account_order())["account"].unique(maintain_order=True).to_list()
    rows = []
    for measure, (title, show) in SELECTION_FORMATS.items():
        for one in frame.filter(measure=measure).sort(tables.account_order()).iter_rows(named=True):
            low, high = one["low"], one["high"]
            interval = (
                ""
                if low is None or high is None
                else f'<span class="range">[{escape(show(low))}, {escape(show(high))}]</span>'
            )
            rows.append(
                f'<tr><th scope="row">{escape(title)}</th><td>{escape(account_name(one["account"]))}</td>'
                f'<td class="num">{html.render_cell(one["value"], show)}{interval}</td>'
                f'<td class="wrap">{escape(one["note"])}</td></tr>'
            )
    head = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in _SELECTION_HEAD)
    caption = (
        f"Sharpe ratios after selection, {len(accounts)} accounts: what is left when the number of trials is counted."
    )
    return [html.wrap_table(head, rows, caption, "selection", stacked=True)]


_SELECTION_HEAD = (("Measure", ""), ("Account", ""), ("Value", ' class="num"'), ("What it means here", ""))


def _cross_validation(book: Book) -> list[str]:
    blocks = [missing(book, "cscv", "folds")]
    cscv, folds = _shown(book, "cscv"), _shown(book, "folds")
    if cscv is not None:
        winners = cscv.group_by("winner").agg(
            pl.col("is_sharpe", "oos_sharpe").sort_by("split").mean(), n=pl.len()
        ).sort("n", "winner", descending=[True, False])  # fmt: skip
        behind = html.render_table(
            winners,
            chosen(["winner", "n", "is_sharpe", "oos_sharpe"], n=Field("Splits won")),
            "By winner.",
            first=30,
            name="cscv",
        )
        blocks += [
            render_chart(figures.cscv_logits(cscv, _pbo(book))),
            render_chart(figures.cscv_scatter(cscv, behind)),
        ]
    if folds is not None:
        columns = ["fold", "start", "end", "chosen", "is_sharpe", "oos_sharpe", "n_train", "n_test"]
        path = {"fold": Field("Path", "", figures.path_number)}
        for scheme, draw, over in (("walk_forward", figures.fold_strip, {}), ("cpcv", figures.cpcv_paths, path)):
            rows = folds.filter(scheme=scheme)
            if rows.height:
                behind = html.render_table(
                    rows, chosen(columns, **over), "Choices and what they earned.", first=80, name="folds"
                )
                blocks.append(render_chart(draw(folds, behind)))
    return blocks


def _pbo(book: Book) -> tuple[float, float | None, float | None] | None:
    selection = _shown(book, "selection")
    if selection is None:
        return None
    found = selection.filter(pl.col("value").is_not_null(), measure="pbo").sort(tables.account_order("account"))
    return None if not found.height else found.select("value", "low", "high").row(0)


def _variants(book: Book) -> list[str]:
    sweep = _shown(book, "sweep")
    if sweep is None:
        return [missing(book, "sweep")]
    blocks = []
    if book.surface is None:
        blocks.append(html.paragraph("Fewer than two parameters vary, so there is no surface to draw.", "soft"))
    else:
        blocks.append(render_chart(figures.sweep_surface(book.surface, sweep.height)))
    own = sweep.filter(variant=0)["sharpe"].drop_nulls()
    better = (
        ""
        if not len(own)
        else f" {sweep.filter(pl.col('sharpe') > own[0]).height:,} of them beat "
        f"{'this study as configured' if is_of_study(sweep) else figures.OTHER_METHOD} ({html.number(own[0])})."
    )
    columns = [
        "variant", "overrides", "sharpe", "cagr", "volatility", "max_drawdown", "turnover_annual", "cost_annual",
        "exposure_time",
    ]  # fmt: skip
    best = relative(sweep).sort("sharpe", "variant", descending=[True, False], nulls_last=True)
    caption = f"{sweep.height:,} variants on the same days, best first.{better} The best of many is biased upwards."
    if not is_of_study(sweep):
        method = method_name(book.context.settings.regime.method)
        caption += f" This study trades {method}, which is not swept: all variants are of composite."
    table = html.render_table(best, chosen(columns), caption, first=15, name="sweep")
    moved = html.render_table(
        book["sweep_influence"],
        chosen(["parameter", "n_values", "spread"]),
        "How far each parameter moves the mean Sharpe ratio of the variants.",
        name="sweep_influence",
    )
    return [*blocks, table, moved]


def _robustness(book: Book) -> list[str]:
    blocks = [missing(book, "robustness")]
    stresses = _shown(book, "robustness")
    if stresses is not None:
        columns = ["test", "case", "account", "sharpe", "cagr", "max_drawdown", "cost_annual", "n_days", "note"]
        ordered = stresses.sort("test", "rank", tables.account_order())
        ordered, shared = _shared_notes(ordered)
        caption = "One assumption changed at a time; as configured is the study itself."
        behind = html.render_table(ordered, chosen(columns), caption, first=300, name="robustness")
        behind += html.bullet_list(shared) if shared else ""
        blocks.append(render_chart(stress.robustness_forest(stresses, behind)))
        blocks.append(f'<p class="note">The cost sweep is under {html.link("costs", "trading", "Costs, Trading")}.</p>')
    return [*blocks, *_lags(book)]


def _shared_notes(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Take from the notes what all cases of a test share; return it to be said once, with its tests."""
    tests_of: dict[str, list[str]] = {}
    kept = []
    for (test,), own in rows.group_by("test", maintain_order=True):
        changed = own.filter(pl.col("case") != stress.AS_CONFIGURED, pl.col("sharpe").is_not_null())
        split = [note.split("; ") for note in changed["note"].unique()]
        several = changed["case"].n_unique() > 1
        shared = [part for part in split[0] if part and all(part in one for one in split)] if several else []
        for part in shared:
            tests_of.setdefault(part, []).append(stress.TEST_NAMES.get(str(test), str(test)))
        bare = [
            ""
            if case == stress.AS_CONFIGURED
            else "; ".join(part for part in str(note).split("; ") if part not in shared)
            for case, note in own.select("case", "note").iter_rows()
        ]
        kept.append(own.with_columns(pl.Series("note", bare, dtype=pl.String)))
    parts_of: dict[str, list[str]] = {}
    for part, tests in tests_of.items():
        parts_of.setdefault(", ".join(tests), []).append(part)
    return pl.concat(kept), [f"{tests}: {'; '.join(parts)}." for tests, parts in parts_of.items()]


def _lags(book: Book) -> list[str]:
    heading = html.heading("Execution lags side by side")
    if "lags" not in book.frames:
        return [heading, html.paragraph("Other execution lags were not computed for this report.", "soft")]
    lags = of_books(book["lags"], "execution_lag_days")
    columns = ["account", "execution_lag_days", *(name for name in _LAG_COLUMNS if name in lags.columns)]
    in_force = book.context.settings.backtest.execution_lag_days
    caption = f"The same decisions executed at the close of D + lag; this study uses lag {in_force}."
    return [heading, html.render_table(lags, chosen(columns), caption, name="lags")]


_LAG_COLUMNS = (
    "n_days", "n_invested_days", "total_return", "cagr", "volatility", "sharpe", "sharpe_se", "max_drawdown",
    "turnover_annual", "cost_annual", "funding_annual",
)  # fmt: skip


def _tails(book: Book) -> list[str]:
    exceptions = _shown(book, "var_exceptions")
    if exceptions is None:
        return [missing(book, "var_exceptions")]
    columns = [
        "account", "level", "n_days", "n_exceptions", "expected", "kupiec_lr", "kupiec_p", "independence_lr",
        "coverage_p", "es",
    ]  # fmt: skip
    behind = html.render_table(
        exceptions, chosen(columns), "Kupiec (1995) and Christoffersen (1998) tests.", name="var_exceptions"
    )
    return [render_chart(stress.var_exceptions(exceptions, behind))]


def _red_flags(book: Book) -> list[str]:
    flags = _shown(book, "red_flags")
    if flags is None:
        return [missing(book, "red_flags")]
    fired = flags.filter("fired")
    columns = chosen(["flag", "subject", "fired", "value", "bound", "message"])
    every = html.render_table(
        flags, columns, f"Signs that a number is wrong rather than good: {flags.height} rules.", name="red_flags"
    )
    if not fired.height:
        said = f"None of {flags.height} rules fired: no sign that a number is wrong rather than good."
        return [html.paragraph(said), html.details("All of them", every)]
    shown = html.render_table(fired, columns, f"{fired.height} of {flags.height} rules fired.", name="red_flags")
    return [shown, html.details("All of them", every)]
