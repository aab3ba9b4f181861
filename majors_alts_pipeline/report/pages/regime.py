"""Which regime it was, how sure the methods were, and what the book returned under each label."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report import html, tables
from majors_alts_pipeline.report.book import Book
from majors_alts_pipeline.report.charts import Chart, render_chart
from majors_alts_pipeline.report.fields import chosen
from majors_alts_pipeline.report.figures import features, forecasts, regimes
from majors_alts_pipeline.report.figures.style import label_name, method_name
from majors_alts_pipeline.report.html import Field, percent
from majors_alts_pipeline.report.pages.blocks import kpi_slices, missing
from majors_alts_pipeline.report.site import Page, Part


def page(book: Book) -> Page:
    """Build the page."""
    method = method_name(book.context.settings.regime.method)
    n_methods = book["regime_methods"]["method"].n_unique()
    lead = (
        f"The timed book trades the label of method {method}, one of {n_methods} that label every day; a label shown "
        "beside a return is the one known before it."
    )
    return Page(
        "regime",
        "Regimes",
        [html.paragraph(lead, "lead")],
        [
            Part("regimes", "Does the regime matter?", _matter(book)),
            Part("timeline", "The regime over time", _timeline(book)),
            Part("methods-compared", "The methods side by side", _methods(book)),
            Part("forecasts", "Are the probabilities any good?", _forecasts(book)),
            Part("feature-section", "Features", _features(book)),
            Part("refits", "Refits", _refits(book)),
        ],
    )


def _matter(book: Book) -> list[str]:
    confidence = book.statistics.confidence
    returns = book["accounts"].filter(account="always_on").select("ret_net", label="regime_traded")
    behind = html.render_table(
        book["returns_by_label"],
        chosen(["account", "label", "n_days", "mean", "p05", "p25", "median", "p75", "p95"]),
        "Quantiles of daily net returns by the label carried out.",
        name="returns_by_label",
    )
    return [
        html.paragraph(book.statistics.edge_words()),
        html.paragraph(book.statistics.placebo_words()),
        render_chart(regimes.returns_by_label(returns, book["label_means"], confidence, behind)),
        f'<p class="note">KPIs by label: {html.link("index", "performance", "Performance")}. Longer horizons and every '
        f"method: {html.link('evidence', 'edge-section', 'Edge by regime and horizon')}.</p>",
    ]


def _timeline(book: Book) -> list[str]:
    settings = book.context.settings.regime
    enter = [settings.enter, *settings.grid.enter] if settings.method == "composite" else []
    return [
        render_chart(regimes.regime_timeline(book["regime"], book["regime_episodes"], enter)),
        html.render_table(
            book["regime_summary"],
            chosen(["label", "n_days", "share", "n_episodes", "mean_days", "longest_days"], n_days=Field("Days")),
            "How long each label held.",
            name="regime_summary",
        ),
        html.render_table(
            book["regime_transitions"],
            chosen(["label", *tables.LABELS], label=Field("Label today", "", label_name)),
            "Label of the next day, in % of the days with the label of the row.",
            name="regime_transitions",
        ),
    ]


def _methods(book: Book) -> list[str]:
    every, configured = book["regime_methods"], book.context.settings.regime.method
    methods = sorted(every["method"].unique())
    if len(methods) < 2:
        return [
            html.paragraph(
                f"This study has one method, {method_name(configured)}; there is nothing to compare.", "soft"
            )
        ]
    blocks = [render_chart(regimes.method_probabilities(every, configured)), _last_labels(every, configured)]
    smoothed = book.evidence("hindsight")
    if smoothed is not None and smoothed.height:
        blocks.append(render_chart(regimes.hindsight(every, smoothed)))
    if book["regime_weights"].height:
        blocks.append(render_chart(regimes.consensus_weights(book["regime_weights"])))
    divided = every.drop_nulls("disagreement")
    if divided.height:
        blocks.append(render_chart(regimes.disagreement(divided.filter(method=divided["method"][0]))))
    shares = {name: Field(method_name(name), "% of days", percent) for name in methods}
    agreed = html.render_table(
        book["regime_agreement"],
        {"method": Field("Method", "", method_name), **shares},
        "Share of days on which two methods gave the same label.",
        name="regime_agreement",
    )
    return [*blocks, agreed]


def _last_labels(every: pl.DataFrame, configured: str) -> str:
    last = every.filter(pl.col("date") == pl.col("date").max()).sort(pl.col("method") != configured, "method")
    chances = {name: Field(title, "probability", percent) for name, title in _CHANCES.items()}
    return html.render_table(
        last,
        chosen(["method", "label", "native_state", *chances, "days_in_regime", "in_force"], **chances),
        f"What every method says on the last day, {last['date'][0]}; the first row is traded.",
        name="regime_methods",
    )


_CHANCES = {
    "p_risk_on_majors": "Risk-on majors",
    "p_balanced": "Balanced",
    "p_risk_on_alts": "Risk-on alts",
}


def _forecasts(book: Book) -> list[str]:
    ahead, outlook = book["regime_persistence"], book["regime_outlook"]
    blocks = []
    if ahead.height:
        blocks.append(render_chart(regimes.persistence(ahead, ahead["method"][0])))
    if outlook.height:
        days = [name for name in outlook.columns if name.startswith("days_")]
        labels = {name: Field(_horizon(name), "probability", percent) for name in days}
        blocks.append(
            html.details(
                "Probabilities of the last day, every method",
                html.render_table(
                    outlook,
                    chosen(["method", "state", *days], **labels),
                    "Filtered probability of each state on the last day, and what its own transitions expect later.",
                    name="regime_outlook",
                ),
            )
        )
    blocks.append(missing(book, "probability_scores", "reliability"))
    scores, reliability = book.evidence("probability_scores"), book.evidence("reliability")
    if scores is not None and scores.height:
        columns = chosen([
            "method", "event", "horizon_days", "n", "base_rate", "brier", "brier_base", "log_score", "log_score_base",
            "dm_t",
        ])  # fmt: skip
        of_book = scores.filter(event=forecasts.BOOK_UP)
        blocks.append(html.render_table(of_book, columns, _score_words(scores), name="probability_scores"))
        others = scores.filter(pl.col("event") != forecasts.BOOK_UP)
        words = "Forecasts of the methods' own states."
        blocks.append(html.details(words, html.render_table(others, columns, words, name="probability_scores")))
    if reliability is not None and reliability.height:
        blocks += [render_chart(chart) for chart in _reliability_charts(book, reliability)]
    return blocks


def _horizon(name: str) -> str:
    days = int(name.removeprefix("days_"))
    return "Now" if days == 0 else f"In {days} day{'s' * (days != 1)}"


def _score_words(scores: pl.DataFrame) -> str:
    of_book = scores.filter(event=forecasts.BOOK_UP)
    others = scores.filter(pl.col("event") != forecasts.BOOK_UP)
    better, worse = ((pl.col("dm_t") > _CLEAR), (pl.col("dm_t") < -_CLEAR))
    return (
        f"Forecasts of a positive return of the book against the base rate known at the time: "
        f"{of_book.filter(better).height} of {of_book.height} are better by their log score (t > {_CLEAR:g}), "
        f"{of_book.filter(worse).height} worse; one that does not beat the base rate carries no information. Of the "
        f"methods' own states, {others.filter(better).height} of {others.height} forecasts are better: labels persist, "
        "so these are easy and earn nothing by themselves."
    )


_CLEAR = 1.96


def _reliability_charts(book: Book, reliability: pl.DataFrame) -> list[Chart]:
    """One figure per event that several methods forecast, at its shortest horizon, the book's own return first."""
    events = (
        reliability.group_by("event")
        .agg(horizon=pl.col("horizon_days").min(), n_methods=pl.col("method").n_unique())
        .sort(pl.col("event") == forecasts.BOOK_UP, "n_methods", "event", descending=[True, True, False])
        .head(_MOST_EVENTS)
    )
    charts = []
    configured = book.context.settings.regime.method
    for event, horizon in events.select("event", "horizon").iter_rows():
        rows = reliability.filter(event=event, horizon_days=horizon)
        behind = html.render_table(
            rows,
            chosen(["method", "bin", "forecast", "observed", "low", "high", "n"], **_RELIABILITY),
            f"Forecasts of {forecasts.event_name(event)}, {horizon} days ahead.",
            name="reliability",
        )
        charts.append(forecasts.reliability_curves(rows, event, configured, behind))
    return charts


_MOST_EVENTS = 4
_RELIABILITY = {
    name: Field(title, "%", percent)
    for name, title in {"forecast": "Forecast", "observed": "Observed", "low": "From", "high": "To"}.items()
}


def _features(book: Book) -> list[str]:
    state = features.market_state(book["features"], book["market"])
    blocks = [render_chart(features.feature_heat_map(book["features"]))]
    if book["score_contributions"].height:
        blocks.append(render_chart(features.contribution_map(book["score_contributions"])))
    if state is not None:
        blocks.append(render_chart(state))
    blocks.append(missing(book, "feature_ic"))
    coefficients = book.evidence("feature_ic")
    if coefficients is not None and coefficients["ic"].count():
        behind = html.render_table(
            coefficients,
            chosen(["feature", "horizon_days", "ic", "hac_t", "n_days"], n_days=Field("Days")),
            "Spearman correlation of sign × z with the book's forward return.",
            name="feature_ic",
        )
        blocks.append(render_chart(forecasts.feature_ic(coefficients, behind)))
    summary = html.render_table(
        book["feature_summary"],
        chosen(["feature", "days_with_z", "share", "coverage", "first_z", "last_raw", "last_z"]),
        "Features of the regime score.",
        name="feature_summary",
    )
    return [*blocks, html.details("Features: coverage and last values", summary)]


def _refits(book: Book) -> list[str]:
    method = book.context.settings.regime.method
    refits = book["refits"]
    own = refits.filter(method=method)
    failed = refits.filter(~pl.col("converged"))
    columns = [
        "date", "candidate", "in_force", "converged", "objective", "n_obs", "train_end", "n_candidates", "note",
        "params",
    ]  # fmt: skip
    blocks = [
        html.details(
            f"Model in force of {method_name(method)}: {own.height} refit dates, "
            f"{int(own['n_candidates'].sum()):,} candidates tried",
            html.render_table(
                own,
                chosen(columns),
                "Model in force from each refit date, chosen only from days before it.",
                name="refits",
            ),
        ),
        html.details(
            f"KPIs of {book.statistics.by_fold['fold'].n_unique()} walk-forward folds",
            kpi_slices(
                book, "by_fold", "fold", "Each fold trades the model of its refit date; one continuous account."
            ),
        ),
    ]
    if not failed.height:
        return [
            html.paragraph(f"All {refits.height:,} refits converged.", "soft"),
            *blocks,
        ]
    shown = html.render_table(
        failed,
        chosen(["date", "method", "in_force", "note"]),
        f"Refits that did not converge: {failed.height} of {refits.height:,}; the last good model stayed in force.",
        first=25,
        name="refits",
    )
    return [shown, *blocks]
