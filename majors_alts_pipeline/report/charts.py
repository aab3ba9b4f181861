"""A figure of the report: the plot, the finding in words, and the data behind it as a table that needs no script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from majors_alts_pipeline.report.html import MISSING, file_links, number

_MONTHS, _QUARTERS = 40, 120
_COLUMNS = 12
_ROWS = 60


@dataclass(frozen=True)
class Chart:
    """A Plotly figure with its words.

    Attributes:
        name: anchor and element id, unique in the report.
        title: heading.
        figure: Plotly JSON, ``{"data": [...], "layout": {...}}``, without colours of text or grid: the page
            sets them for the light or dark theme.
        caption: the finding, with the key number in words.
        tables: names of the tables that hold its data.
        height: pixels.
        data: HTML of the table behind the figure; empty when it is read off the traces (`data_table`).
    """

    name: str
    title: str
    figure: Mapping[str, Any]
    caption: str
    tables: Sequence[str]
    height: int = 380
    data: str = ""


def render_chart(chart: Chart) -> str:
    """Figure element: heading and finding, plot box, folded data table; the JSON beside it as inert data."""
    data = json.dumps(chart.figure, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    data = data.replace("<", "\\u003c")
    links = " ".join(file_links(name) for name in chart.tables)
    name, title = chart.name, escape(chart.title)
    return (
        f'<figure class="chart" id="{name}" aria-labelledby="title-{name}"><figcaption>'
        f'<h3 id="title-{name}">{title}</h3><p id="finding-{name}">{escape(chart.caption)}</p></figcaption>'
        f'<div class="plot" role="img" aria-labelledby="title-{name}" aria-describedby="finding-{name}" '
        f'id="plot-{name}" style="height:{chart.height}px">'
        f"<noscript>This figure needs JavaScript; the table below and the files hold its data.</noscript></div>"
        f'<script type="application/json" id="data-{name}">{data}</script>'
        f'<details class="data"><summary>Data of this figure<span class="hidden">: {title}</span></summary>'
        f"<p>Whole: {links}</p>{chart.data or data_table(chart.figure, chart.title)}</details></figure>"
    )


def data_table(figure: Mapping[str, Any], title: str) -> str:
    """Read a table off the traces of a figure: heat map, daily lines, or bars, whichever it holds.

    Daily lines are shown at the ends of months (quarters, years when there are many), heat maps at twelve columns.

    Raises:
        ValueError: no trace can be read; the figure needs a table of its own (`Chart.data`).
    """
    heat = [trace for trace in figure["data"] if trace["type"] == "heatmap"]
    if heat:
        return _heat_table(heat[0], title)
    shown = [trace for trace in figure["data"] if trace.get("hoverinfo") != "skip"]
    dated = [trace for trace in shown if "x0" in trace]
    if dated:
        return _dated_table(dated, figure["layout"], title)
    bars = [trace for trace in shown if trace["type"] == "bar"]
    if bars:
        rows = list(dict.fromkeys(x for trace in bars for x in trace["x"]))[:_ROWS]
        columns = [(trace["name"], dict(zip(trace["x"], trace["y"], strict=True))) for trace in bars]
        return _grid(rows, columns, "", title)
    if all(not trace.get("x") and not trace.get("y") for trace in shown):
        return "<p>Nothing was drawn.</p>"
    raise ValueError(f"figure {title!r}: no table can be read off its traces")


def _dated_table(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], title: str) -> str:
    axes = {trace.get("yaxis", "y") for trace in traces}
    found = [(_name(trace, layout, len(axes) > 1), *_days(trace)) for trace in traces]
    months = np.unique(np.concatenate([days.astype("M8[M]") for _, days, _ in found]))
    unit, word = (
        ("M8[M]", "month")
        if len(months) <= _MONTHS
        else ("M8[3M]", "quarter")
        if len(months) <= _QUARTERS
        else ("M8[Y]", "year")
    )
    columns: list[tuple[str, Mapping[Any, Any]]] = []
    rows: set[str] = set()
    for name, days, values in found:
        period = days.astype(unit)
        last = np.flatnonzero(np.append(period[1:] != period[:-1], True))
        cells = {str(period[k].astype("M8[M]")): values[int(k)] for k in last}
        rows.update(cells)
        columns.append((name, cells))
    return _grid(sorted(rows), columns, f"Last drawn day of each {word}.", title)


def _days(trace: Mapping[str, Any]) -> tuple[np.ndarray, Sequence[Any]]:
    first, n = np.datetime64(trace["x0"], "D"), len(trace["y"])
    steps = trace["meta"]["steps"] if "meta" in trace else None
    moved = np.cumsum(steps) if steps is not None else np.arange(n) * (int(trace["dx"]) // 86_400_000)
    return first + moved, trace["y"]


def _name(trace: Mapping[str, Any], layout: Mapping[str, Any], several: bool) -> str:
    axis = layout.get(trace.get("yaxis", "y").replace("y", "yaxis", 1), {})
    panel = axis.get("title", {}).get("text", "")
    return f"{panel}: {trace['name']}" if several and panel and panel != trace["name"] else str(trace["name"])


def _heat_table(trace: Mapping[str, Any], title: str) -> str:
    last = max(len(trace["x"]) - 1, 0)
    picked = sorted({round(k * last / (_COLUMNS - 1)) for k in range(_COLUMNS)}) if trace["x"] else []
    columns = [(str(trace["x"][k]), {row: trace["z"][r][k] for r, row in enumerate(trace["y"])}) for k in picked]
    left_out = len(trace["x"]) > len(columns)
    note = f"{len(columns)} of {len(trace['x'])} columns." if left_out else ""
    return _grid(list(trace["y"])[::-1], columns, note, title)


def _grid(rows: Sequence[Any], columns: Sequence[tuple[str, Mapping[Any, Any]]], note: str, title: str) -> str:
    label = escape(f"Data of the figure: {title}", quote=True)
    head = "".join(f'<th scope="col" class="num">{escape(str(name))}</th>' for name, _ in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(str(row))}</th>'
        + "".join(f'<td class="num">{_value(cells.get(row))}</td>' for _, cells in columns)
        + "</tr>"
        for row in rows
    )
    return (
        f"{f'<p>{escape(note)}</p>' if note else ''}"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table aria-label="{label}">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _value(value: Any) -> str:
    if value is None:
        return MISSING
    return escape(number(value, 0 if isinstance(value, int) or abs(value) >= 1000 else 2 if abs(value) >= 10 else 4))
