"""Blocks that several pages use: KPI tables with intervals, and what to say where evidence is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from majors_alts_pipeline.report import html, tables
from majors_alts_pipeline.report.book import Book
from majors_alts_pipeline.report.fields import chosen, with_interval
from majors_alts_pipeline.report.html import Field, percent

BOOKS = ("regime", "always_on")
SLICE_COLUMNS = (
    "n_days", "n_episodes", "n_invested_days", "total_return", "volatility", "sharpe", "max_drawdown", "hit_rate",
    "exposure_time", "turnover_annual", "cost_annual", "funding_annual",
)  # fmt: skip


def of_books(frame: pl.DataFrame, *then: str) -> pl.DataFrame:
    """Rows of the two books, sorted by account and `then`."""
    return frame.filter(pl.col("account").is_in(BOOKS)).sort(tables.account_order(), *then)


def kpi_slices(book: Book, attribute: str, key: str, caption: str) -> str:
    """KPIs of the two books in slices (regime, year, fold): one row per account and slice."""
    frame = of_books(getattr(book.statistics, attribute), key)
    left_out = "exposure_time" if key == "label" else "n_episodes"
    columns = [name for name in SLICE_COLUMNS if name != left_out]
    shown = interval_in_words(frame, "sharpe")
    fields = chosen(["account", key, *columns], sharpe=sharpe_field(book))
    return html.render_table(shown, fields, caption, name=f"kpis_{attribute}")


def sharpe_field(book: Book) -> Field:
    """Field of a Sharpe ratio shown with its interval in one cell."""
    return Field("Sharpe, net", f"per year, {percent(book.statistics.confidence, 0)} interval")


def interval_in_words(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Column `name` as text with its interval."""
    return frame.with_columns(
        pl.Series(name, [with_interval(row, name) for row in frame.iter_rows(named=True)], dtype=pl.String)
    )


def cell_with_range(row: Mapping[str, Any], name: str, item: Field) -> str:
    """Value of a column with its interval beneath, as HTML."""
    value = html.render_cell(row[name], item.show)
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if low is None or high is None or row[name] is None:
        return value
    return f'{value}<span class="range">[{html.escape(item.show(low))}, {html.escape(item.show(high))}]</span>'


def number_or_dash(value: float | None, show: html.Format = html.number) -> str:
    """Value as text, a dash for null."""
    return "–" if value is None else show(value)


def missing(book: Book, *names: str) -> str:
    """Say which of the evidence tables `names` are absent or empty, and how to make them; empty when none is."""
    found = {name: book.evidence(name) for name in names}
    # A sweep is made on demand: without one its table is empty.
    absent = [name for name, frame in found.items() if frame is None or (name in _SWEPT and not frame.height)]
    empty = [name for name, frame in found.items() if frame is not None and not frame.height and name not in absent]
    sentences = [
        f"Not computed for this report: {_listed(those)}. Make it with `{command}`."
        for command, those in _by_command(absent)
    ]
    if empty:
        sentences.append(f"Nothing to show: {_listed(empty)} holds no row, for want of days, episodes or variants.")
    return html.paragraph(" ".join(sentences), "missing") if sentences else ""


def _by_command(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    swept = [name for name in names if name in _SWEPT]
    rest = [name for name in names if name not in _SWEPT]
    return [(command, those) for command, those in (("majors-alts run", rest), (_SWEEP, swept)) if those]


_SWEPT = ("sweep",)
_SWEEP = "majors-alts study sweep"


def _listed(names: Sequence[str]) -> str:
    return f"table{'s' * (len(names) > 1)} {', '.join(names)}"
