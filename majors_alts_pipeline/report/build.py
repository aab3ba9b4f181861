"""The report: a site of pages, the same in one file, three still pictures, and every table as CSV and Parquet.

Tables of at most `html.JSON_ROWS` rows are written as JSON too.

All of it works with the network off. `book` gathers what is shown, `pages/` words it page by page, `figures/` draws it,
`site` puts the pages around it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from majors_alts_pipeline.report import site, stills
from majors_alts_pipeline.report.book import Book, Load, ReportContext, ReportError, gather
from majors_alts_pipeline.report.html import JSON_ROWS
from majors_alts_pipeline.report.pages import all_pages
from majors_alts_pipeline.report.place import put_in_place

__all__ = ["ReportContext", "ReportError", "ReportPaths", "build_report"]

TITLE = "Long BTC/ETH against a short alt basket"


@dataclass(frozen=True)
class ReportPaths:
    """What was written.

    Attributes:
        html: all pages in one file.
        index: first page of the site.
        tables: directory of the tables.
        kpis: one row per account.
        verdict: the one-sentence answer.
    """

    html: Path
    index: Path
    tables: Path
    kpis: pl.DataFrame
    verdict: str


def build_report(
    load: Load,
    context: ReportContext,
    out: Path,
    lag_table: pl.DataFrame | None = None,
    *,
    evidence: Mapping[str, pl.DataFrame] | None = None,
    verdict: str | None = None,
    what_would_change: str = "",
) -> ReportPaths:
    """Build the report of the loaded days and put it at `out`, whole or not at all.

    The bytes depend only on the arguments. `out` belongs to the report: it is replaced as a whole.

    Args:
        load: table name to its rows; panel, universe and betas may be large and are only scanned.
        context: what the study is.
        out: directory of the report: ``index.html`` and its pages, ``report.html`` alone, ``figures/``, ``tables/``.
        lag_table: KPIs of the same book under other execution lags: (execution_lag_days, account, and any KPI
            columns).
        evidence: tables of `evaluation.contracts.EVIDENCE` by name; of each one left out the page says how to make it.
        verdict: one sentence that follows from the evidence; None has it follow from the KPIs alone.
        what_would_change: what would have to be seen to change the verdict.

    Raises:
        ReportError: there is no day to report on, an account is missing, an evidence table breaks its contract, or
            `out` cannot be written.
    """
    book = gather(load, context, lag_table, evidence or {}, verdict, what_would_change)
    pages = all_pages(book)
    frame = site.Frame(TITLE, context.simulated, _footer(context))
    assets = site.assets()
    texts = {**assets, **site.render_site(pages, frame), "report.html": site.render_single(pages, frame, assets)}
    try:
        _write(book, texts, out)
    except OSError as error:
        raise ReportError(
            f"report: cannot write {out}: {error.strerror or error}; free the disk or choose another directory with "
            "--out. The earlier report is untouched."
        ) from error
    return ReportPaths(out / "report.html", out / "index.html", out / "tables", book.statistics.overall, book.verdict)


def _footer(context: ReportContext) -> str:
    stamp = "SIMULATED. " if context.simulated else ""
    return (
        f"{stamp}Study {context.study_id} · lake {context.fingerprint} · configuration {context.settings.digest()} · "
        f"code {context.code_version}. Past and simulated returns are not a promise."
    )


def _write(book: Book, texts: Mapping[str, str], out: Path) -> None:
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
            if frame.height <= JSON_ROWS:
                frame.write_json(folder / f"{name}.json")
        for name, text in texts.items():
            (building / name).write_text(text, encoding="utf-8")
        stills.draw(book, building / "figures")
        put_in_place(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
