"""The three key figures as PNG, for where a browser is not: same data, same palette, drawn by Matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from majors_alts_pipeline.report.figures.style import (
    ACCOUNT_LINES,
    LABEL_COLOURS,
    account_name,
    label_name,
    method_name,
    present,
)
from majors_alts_pipeline.report.html import percent
from majors_alts_pipeline.report.tables import LABELS

if TYPE_CHECKING:
    from majors_alts_pipeline.report.book import Book

STILLS = {"equity": "equity", "edge": "edge by regime", "drawdown": "drawdown"}
"""File name without ``.png`` to what it shows."""

_DASHES: dict[str, Any] = {
    "solid": "-", "dash": (0, (5, 2)), "dot": (0, (1, 1.5)), "dashdot": "-.", "longdash": (0, (9, 3)),
    "longdashdot": (0, (9, 2, 2, 2)),
}  # fmt: skip
_MARKERS = {"RISK_ON_MAJORS": "o", "BALANCED": "s", "RISK_ON_ALTS": "D", "ALL": "_"}
_INK = "#30363d"


def draw(book: Book, folder: Path) -> None:
    """Write the pictures into `folder`, which is made.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir()
    for name, picture in (("equity", _equity), ("edge", _edge), ("drawdown", _drawdown)):
        figure, axes = _sheet(book)
        picture(book, axes)
        figure.savefig(folder / f"{name}.png", dpi=110)


def _sheet(book: Book) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.tick_params(colors=_INK)
    if book.context.simulated:
        axes.text(
            0.5, 0.5, "SIMULATED", transform=axes.transAxes, fontsize=58, color="#a33c00", alpha=0.16, rotation=18,
            ha="center", va="center", weight="bold", zorder=0,
        )  # fmt: skip
    figure.supxlabel(
        f"Study {book.context.study_id}, lake {book.context.fingerprint}",
        fontsize=8,
        color="#57606a",
        x=0.99,
        ha="right",
    )
    return figure, axes


def _line(axes: Any, frame: pl.DataFrame, column: str, account: str) -> None:
    style = ACCOUNT_LINES[account]
    axes.plot(
        frame["date"].to_numpy(), frame[column].to_numpy(), color=style["color"], linewidth=style["width"],
        linestyle=_DASHES[style["dash"]], label=account_name(account),
    )  # fmt: skip


def _equity(book: Book, axes: Any) -> None:
    daily = book["accounts"]
    for account in present(daily):
        _line(axes, daily.filter(account=account), "growth", account)
    favoured = book["regime_episodes"].filter(label="RISK_ON_MAJORS")
    for start, end in favoured.select("start", pl.col("end").dt.offset_by("1d")).iter_rows():
        axes.axvspan(start, end, color=LABEL_COLOURS["RISK_ON_MAJORS"], alpha=0.1, linewidth=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlim(book.first, book.last)
    axes.set_title(
        f"Growth of $1 after costs and funding, {book.first} to {book.last}; shaded: risk-on majors",
        loc="left",
        fontsize=11,
    )
    axes.legend(loc="upper left", fontsize=8, ncols=2, frameon=False)


def _drawdown(book: Book, axes: Any) -> None:
    daily = book["accounts"].with_columns(pl.col("drawdown") * 100)
    for account in ("regime", "always_on", "btc"):
        _line(axes, daily.filter(account=account), "drawdown", account)
    axes.set_ylabel("Below the running peak (%)", color=_INK)
    axes.set_xlim(book.first, book.last)
    deepest = percent(book.statistics.account("regime")["max_drawdown"])
    axes.set_title(
        f"Underwater, after costs and funding; deepest of the regime-timed book {deepest}", loc="left", fontsize=11
    )
    axes.legend(loc="lower left", fontsize=8, frameon=False)


def _edge(book: Book, axes: Any) -> None:
    edge = book.evidence("edge_by_horizon")
    confidence, method = book.statistics.confidence, book.context.settings.regime.method
    if edge is None or not edge.height:
        rows = book["label_means"].filter(account="always_on")
        labels = rows["label"].to_list()
        for k, row in enumerate(rows.iter_rows(named=True)):
            _mark(axes, [k], [row["mean"]], [row["low"]], [row["high"]], row["label"])
        axes.set_xticks(range(len(labels)), [label_name(label) for label in labels])
        what = "Mean daily net return of the always-on book by label"
    else:
        rows = edge.filter(pl.col("mean").is_not_null(), method=method).sort("horizon_days")
        horizons = rows["horizon_days"].unique().sort().to_list()
        for k, label in enumerate((*LABELS, "ALL")):
            one = rows.filter(label=label)
            at = [horizons.index(h) + 0.13 * (k - 1.5) for h in one["horizon_days"]]
            _mark(axes, at, one["mean"].to_list(), one["low"].to_list(), one["high"].to_list(), label)
        axes.set_xticks(range(len(horizons)), [str(h) for h in horizons])
        axes.set_xlabel("Horizon (days)", color=_INK)
        what = f"Mean forward price return of the always-on book by label of {method_name(method)}"
    axes.axhline(0, color="#9aa3ad", linewidth=1)
    axes.set_ylabel("bp", color=_INK)
    axes.set_title(f"{what}, {percent(confidence, 0)} intervals", loc="left", fontsize=11)
    axes.legend(fontsize=8, frameon=False)


def _mark(
    axes: Any, at: list[float], means: list[float], lows: list[float | None], highs: list[float | None], label: str
) -> None:
    """Points in basis points with their intervals; a point without an interval has none."""
    down = [0.0 if low is None else 1e4 * (mean - low) for mean, low in zip(means, lows, strict=True)]
    up = [0.0 if high is None else 1e4 * (high - mean) for mean, high in zip(means, highs, strict=True)]
    axes.errorbar(
        at, [1e4 * mean for mean in means], yerr=[down, up], fmt=_MARKERS[label], capsize=4, linewidth=1.6,
        markersize=8, color=LABEL_COLOURS.get(label, "#5b6570"), label=label_name(label),
    )  # fmt: skip
