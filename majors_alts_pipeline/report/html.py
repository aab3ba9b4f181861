"""HTML of the report: number formats, tables and small blocks. Text in, text out; nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import polars as pl

MISSING = '<span class="na" title="not available">–</span>'
Format = Callable[[Any], str]


NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
JSON_ROWS = 5_000
"""Longest table that is also written as JSON, which takes several times the room of the same table as CSV."""


def number(value: float, digits: int = 2) -> str:
    """Thousands separators and a typographic minus; what rounds to zero has no sign."""
    text = f"{value:,.{digits}f}"
    if text.startswith("-") and not text.strip("-0.,"):
        return text[1:]
    return text.replace("-", "\N{MINUS SIGN}")


def percent(value: float, digits: int = 1) -> str:
    """Decimal as percent: 0.1234 gives 12.3 %."""
    return f"{number(100 * value, digits)}{NARROW_SPACE}%"


def basis_points(value: float, digits: int = 1) -> str:
    """Decimal as basis points: 0.0005 gives 5.0 bp."""
    return f"{number(1e4 * value, digits)}{NARROW_SPACE}bp"


def signed_basis_points(value: float, digits: int = 1) -> str:
    """Difference in basis points with its sign: 0.0005 gives +5.0 bp."""
    shown = basis_points(value, digits)
    return f"+{shown}" if value > 0 and shown != basis_points(0.0, digits) else shown


def usd(value: float) -> str:
    """Whole US dollars with thousands separators, more digits below 100."""
    digits = 0 if abs(value) >= 100 or value == 0 else 4 if abs(value) < 1 else 2
    sign = "\N{MINUS SIGN}" if value < 0 else ""
    return f"{sign}${abs(value):,.{digits}f}"


def price_usd(value: float) -> str:
    """Price in US dollars: as `usd`, with three significant digits below ten cents."""
    if not 0 < value < 0.1:
        return usd(value)
    return f"${value:.{min(2 - math.floor(math.log10(value)), _MOST_DECIMALS)}f}"


_MOST_DECIMALS = 12


def percent_below(value: float) -> str:
    """Fall from a peak as percent; what is not quite everything is not printed as -100 %: -0.99998 gives -99.998 %."""
    left = 1 + value
    # The sum of 1 and the fall is off by a rounding error: 1 - 0.9999 is a little less than 0.0001.
    digits = 1 if left <= 0 or left >= 0.001 else min(-math.floor(math.log10(left) + 1e-9) - 2, _MOST_DECIMALS)
    return percent(value, digits)


def p_value(value: float) -> str:
    """Probability to three digits, never printed as zero."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_words(value: float) -> str:
    """p-value as a statement: p = 0.210, or p < 0.001."""
    shown = p_value(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def plain(value: Any) -> str:
    """Dates and text as they are, integers with thousands separators, booleans in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value, 0)
    return str(value)


@dataclass(frozen=True)
class Field:
    """How one column is shown: heading, unit (empty when none), format, meaning, may lines break."""

    label: str
    unit: str = ""
    show: Format = plain
    note: str = ""
    wrap: bool = False


def render_cell(value: Any, show: Format) -> str:
    """One value as escaped HTML; null as a dash that says what it means."""
    return MISSING if value is None else escape(show(value))


def render_table(
    frame: pl.DataFrame,
    fields: Mapping[str, Field],
    caption: str,
    *,
    first: int | None = None,
    name: str = "",
) -> str:
    """Scrollable HTML table of the columns in `fields`, in that order.

    Args:
        frame: rows to show.
        fields: column to how it is shown; a key the frame lacks raises polars' ColumnNotFoundError.
        caption: what the table shows, with the number that matters.
        first: rows shown when there are more; the caption says so.
        name: table whose files hold all rows, for the links.
    """
    shown = frame.select(list(fields)) if first is None else frame.select(list(fields)).head(first)
    head = "".join(
        f'<th scope="col" class="{_align(frame, column)}"{_title(item.note)}>{escape(item.label)}'
        + (f'<span class="unit">{escape(item.unit)}</span>' if item.unit else "")
        + "</th>"
        for column, item in fields.items()
    )
    rows = []
    for row in shown.iter_rows(named=True):
        cells = [
            f'<td class="{_align(frame, column)}{" wrap" * item.wrap}">{render_cell(row[column], item.show)}</td>'
            for column, item in fields.items()
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    if not rows:
        rows = [f'<tr><td colspan="{len(fields)}" class="none">none</td></tr>']
    cut = f" First {first:,} of {frame.height:,} rows." if first is not None and frame.height > first else ""
    return wrap_table(head, rows, caption + cut, name)


def wrap_table(head: str, rows: Iterable[str], caption: str, name: str = "", *, stacked: bool = False) -> str:
    """Table in its scrolling box, under a caption that does not scroll, with links to the files of `name`.

    A `stacked` one shows the cells of a row under each other on a phone; its rows end in a note (class ``wrap``).
    """
    links = f" {file_links(name)}" if name else ""
    label = escape(caption, quote=True)
    return (
        f'<div class="table{" stacked" * stacked}"><p class="caption">{escape(caption)}{links}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table aria-label="{label}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></div>"
    )


def file_links(name: str, *, named: bool = True, json: bool = False) -> str:
    """Links to the files of a table beside the page, after its name when `named`; `json` when there is such a file."""
    kinds = ("csv", "parquet", "json") if json else ("csv", "parquet")
    links = " ".join(f'<a href="tables/{name}.{kind}">{kind}</a>' for kind in kinds)
    return f'<span class="files">{f"{escape(name)}: " if named else ""}{links}</span>'


def _align(frame: pl.DataFrame, column: str) -> str:
    return "num" if frame.schema[column].is_numeric() else "txt"


def _title(note: str) -> str:
    return f' title="{escape(note, quote=True)}"' if note else ""


def render_month_grid(monthly: pl.DataFrame, title: str) -> str:
    """Calendar of monthly returns: one row per year, blue above zero and orange below, deeper with size.

    Args:
        monthly: (year, month, ret_net) of one account.
        title: caption.
    """
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    values = {(row["year"], row["month"]): row["ret_net"] for row in monthly.iter_rows(named=True)}
    scale = max((abs(value) for value in values.values()), default=0.0) or 1.0
    head = '<th scope="col">Year</th>' + "".join(f'<th scope="col" class="num">{name}</th>' for name in months)
    rows = []
    for year in sorted({key[0] for key in values}):
        cells, growth = [], 1.0
        for month in range(1, 13):
            value = values.get((year, month))
            if value is None:
                cells.append('<td class="num"></td>')
                continue
            growth *= 1 + value
            strength = round(0.08 + 0.62 * abs(value) / scale, 2)
            kind = "up" if value > 0 else "down" if value < 0 else "zero"
            cells.append(f'<td class="num heat {kind}" style="--s:{strength}">{percent(value)}</td>')
        rows.append(
            f'<tr><th scope="row">{year}</th>{"".join(cells)}<td class="num total">{percent(growth - 1)}</td></tr>'
        )
    return wrap_table(head + '<th scope="col" class="num">Year</th>', rows, title, "monthly_returns")


def paragraph(text: str, kind: str = "") -> str:
    """Escaped paragraph."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def bullet_list(items: Iterable[str], kind: str = "") -> str:
    """Escaped bullet list."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<ul{attribute}>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def fact_list(facts: Mapping[str, str], wide: Collection[str] = ()) -> str:
    """List of names and values; those in `wide` take the whole width."""
    body = "".join(
        f"<div{' class=wide' if name in wide else ''}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    return f'<dl class="facts">{body}</dl>'


def tile(name: str, value: str, detail: str) -> str:
    """One headline number."""
    return (
        f'<div class="tile"><span class="name">{escape(name)}</span>'
        f'<span class="value">{escape(value)}</span>'
        f'<span class="detail">{escape(detail)}</span></div>'
    )


def details(summary: str, body: str) -> str:
    """Folded block; `body` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def link(page: str, anchor: str, text: str) -> str:
    """Link to a section of a page of the report; the single-file variant turns it into a jump."""
    return f'<a href="{page}.html{f"#{anchor}" if anchor else ""}">{escape(text)}</a>'


def heading(text: str) -> str:
    """Heading of a group of blocks within a section."""
    return f"<h3>{escape(text)}</h3>"
