"""The pages around the blocks: a site of pages that share one script and one style, and the same in a single file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

PLOTLY = "plotly.min.js"
STYLE, SCRIPT = "style.css", "page.js"


@dataclass(frozen=True)
class Part:
    """One section of a page: anchor, heading, and its blocks of HTML in order."""

    name: str
    title: str
    blocks: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Page:
    """One page of the site.

    Attributes:
        name: file name without ``.html``, and anchor in the single-file variant.
        title: h1 and entry of the navigation.
        lead: HTML blocks under the title.
        parts: sections in order.
    """

    name: str
    title: str
    lead: Sequence[str]
    parts: Sequence[Part]


@dataclass(frozen=True)
class Frame:
    """What every page carries: name of the report, stamp of a simulated lake, one line of provenance."""

    title: str
    simulated: bool
    footer: str


def assets() -> dict[str, str]:
    """Files beside the pages by name: Plotly, the script that draws, the style."""
    from plotly.offline import get_plotlyjs

    return {PLOTLY: get_plotlyjs(), STYLE: _resource(STYLE), SCRIPT: _resource(SCRIPT)}


def render_site(pages: Sequence[Page], frame: Frame) -> dict[str, str]:
    """Return the pages by file name; each refers to the files of `assets` beside it and to nothing else."""
    head = f'<link rel="stylesheet" href="{STYLE}">'
    scripts = f'<script src="{PLOTLY}" defer></script><script src="{SCRIPT}" defer></script>'
    return {
        f"{page.name}.html": _document(
            frame,
            title=f"{page.title} · {frame.title}" if page is not pages[0] else frame.title,
            head=head,
            body=_page_header(page, frame, h1=frame.title if page is pages[0] else page.title)
            + f'<div class="columns">{_navigation(pages, page)}<main id="main">{_sections(page)}</main></div>',
            scripts=scripts,
        )
        for page in pages
    }


def render_single(pages: Sequence[Page], frame: Frame, found: dict[str, str]) -> str:
    """Return all pages in one file that works alone, with what `assets` returned inline."""
    body = _page_header(pages[0], frame, h1=frame.title)
    chapters = "".join(
        f'<div class="chapter" id="page-{page.name}">'
        + (f'<p class="kicker">{escape(page.title)}</p>{"".join(page.lead)}' if page is not pages[0] else "")
        + f"{_sections(page)}</div>"
        for page in pages
    )
    body += f'<div class="columns">{_contents(pages)}<main id="main">{chapters}</main></div>'
    document = _document(
        frame,
        title=frame.title,
        head=f"<style>{found[STYLE]}</style>",
        body=body,
        scripts=f"<script>{found[PLOTLY]}</script><script>{found[SCRIPT]}</script>",
    )
    names = "|".join(page.name for page in pages)
    document = re.sub(rf'<a href="(?:{names})\.html#', '<a href="#', document)
    return re.sub(rf'<a href="({names})\.html"', r'<a href="#page-\1"', document)


def _resource(name: str) -> str:
    return (files("majors_alts_pipeline.report") / name).read_text()


def _document(frame: Frame, *, title: str, head: str, body: str, scripts: str) -> str:
    shown = f"SIMULATED: {title}" if frame.simulated else title
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(shown)}</title>{head}</head>"
        f'<body{" class=simulated" if frame.simulated else ""}><a class="skip" href="#main">Skip to the report</a>'
        f"{body}<footer>{escape(frame.footer)}</footer>{scripts}</body></html>\n"
    )


def _page_header(page: Page, frame: Frame, h1: str) -> str:
    stamp = (
        '<p class="stamp" role="note">SIMULATED <span>not a market: every number on this page comes from a '
        "simulated lake</span></p>"
    )
    kicker = "majors-alts pipeline" if h1 == frame.title else frame.title
    return (
        f"<header><p class=kicker>{escape(kicker)}</p><h1>{escape(h1)}</h1>{stamp if frame.simulated else ''}"
        f"{''.join(page.lead)}</header>"
    )


def _navigation(pages: Sequence[Page], current: Page) -> str:
    links = "".join(
        f'<li><a href="{page.name}.html"{" aria-current=page" if page is current else ""}>{escape(page.title)}</a></li>'
        for page in pages
    )
    sections = "".join(f'<li><a href="#{part.name}">{escape(part.title)}</a></li>' for part in current.parts)
    return (
        f'<nav aria-label="Report"><ol class="pages">{links}</ol>'
        f'<ol class="sections" aria-label="On this page">{sections}</ol></nav>'
    )


def _contents(pages: Sequence[Page]) -> str:
    items = "".join(
        f'<li><a href="#page-{page.name}">{escape(page.title)}</a><ol class="sections">'
        + "".join(f'<li><a href="#{part.name}">{escape(part.title)}</a></li>' for part in page.parts)
        + "</ol></li>"
        for page in pages
    )
    return f'<nav class="contents" aria-label="Contents"><ol class="pages">{items}</ol></nav>'


def _sections(page: Page) -> str:
    return "".join(
        f'<section id="{part.name}" aria-labelledby="heading-{part.name}">'
        f'<h2 id="heading-{part.name}">{escape(part.title)}</h2>{"".join(part.blocks)}</section>'
        for part in page.parts
    )
