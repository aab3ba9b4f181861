"""The page in a real browser, offline: every figure drawn, no error, nothing asked for, fits a phone."""

from __future__ import annotations

import pytest
from headless import chromium, complaints, picture, requested, wait_until

pytestmark = pytest.mark.browser

UNDRAWN = "return document.querySelectorAll('.plot:not([data-drawn])').length"

CUT_OFF = (
    "return [...document.querySelectorAll('section > .table .scroll')].filter(s => s.scrollWidth > s.clientWidth + 1)"
    ".map(s => s.getAttribute('aria-label'))"
)


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_report_offline(built, width, theme, tmp_path):
    with chromium(tmp_path / "profile", width, theme=theme, offline=True) as driver:
        driver.get(built.html.as_uri())
        wait_until(lambda: not driver.execute_script(UNDRAWN), "some figures were never drawn")
        n_plots, n_drawn = driver.execute_script(
            "return [document.querySelectorAll('.plot').length, document.querySelectorAll('.plot .main-svg').length]"
        )
        assert n_plots >= 15
        assert n_drawn >= n_plots
        inner, scroll = driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert scroll <= inner, "the page scrolls sideways"
        assert not driver.execute_script("return document.querySelectorAll('.modebar [data-title*=Share]').length")
        if width >= 1280:
            assert not driver.execute_script(CUT_OFF), "a table is cut off"
        tick, paper = driver.execute_script(
            "return [getComputedStyle(document.querySelector('.plot .xtick text')).fill, "
            "getComputedStyle(document.body).backgroundColor]"
        )
        assert _contrast(_rgb(tick), _rgb(paper)) >= 4.5
        picture(driver, f"report_{width}_{theme}")
        assert not complaints(driver, "SEVERE", "WARNING")
        assert not [url for url in requested(driver, "file:") if not url.startswith(("file:", "data:", "blob:"))]


def _rgb(text):
    return [float(part) for part in text[text.index("(") + 1 : text.index(")")].split(",")[:3]]


def _contrast(one, other):
    """WCAG 2 contrast ratio."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
