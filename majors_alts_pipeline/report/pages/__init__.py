"""One file per page of the report; each has ``page(book) -> Page``."""

from __future__ import annotations

from majors_alts_pipeline.report.book import Book
from majors_alts_pipeline.report.pages import basket, costs, data, evidence, index, regime
from majors_alts_pipeline.report.site import Page


def all_pages(book: Book) -> list[Page]:
    """Return the pages in the order of the navigation."""
    return [module.page(book) for module in (index, regime, basket, costs, evidence, data)]
