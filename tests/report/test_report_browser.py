"""The page in a real browser, offline: every figure drawn, no error, nothing asked for, fits a phone."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from headless import chromium, complaints, picture, requested, wait_until

from majors_alts_pipeline.report import site
from majors_alts_pipeline.report.charts import render_chart
from majors_alts_pipeline.report.figures import style

pytestmark = pytest.mark.browser

UNDRAWN = "return document.querySelectorAll('.plot:not([data-drawn])').length"

CUT_OFF = (
    "return [...document.querySelectorAll('section > .table .scroll')].filter(s => s.scrollWidth > s.clientWidth + 1)"
    ".map(s => s.getAttribute('aria-label'))"
)


PAGES = ("report", "index", "regime", "basket", "costs", "evidence", "data")


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_report_offline(proven, width, theme, tmp_path):
    with chromium(tmp_path / "profile", width, theme=theme, offline=True) as driver:
        for name in PAGES:
            driver.get((proven.index.parent / f"{name}.html").as_uri())
            wait_until(lambda: not driver.execute_script(UNDRAWN), f"some figures of {name} were never drawn")
            n_plots, n_drawn = driver.execute_script(
                "return [document.querySelectorAll('.plot').length, "
                "document.querySelectorAll('.plot .main-svg').length]"
            )
            assert n_plots >= (30 if name == "report" else 3), name
            assert n_drawn >= n_plots
            inner, scroll = driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
            assert scroll <= inner, f"{name} scrolls sideways"
            assert not driver.execute_script("return document.querySelectorAll('.modebar [data-title*=Share]').length")
            if width >= 1280:
                assert not driver.execute_script(CUT_OFF), f"a table of {name} is cut off"
            for element, style in INKS:
                ink, paper = driver.execute_script(
                    f"return [getComputedStyle(document.querySelector({element!r})).{style}, "
                    "getComputedStyle(document.body).backgroundColor]"
                )
                assert _contrast(_rgb(ink), _rgb(paper)) >= 4.5, (name, element)
            picture(driver, f"report_{name}_{width}_{theme}")
            assert not complaints(driver, "SEVERE", "WARNING")
            assert not [url for url in requested(driver, "file:") if not url.startswith(("file:", "data:", "blob:"))]


INKS = (
    (".plot .xtick text", "fill"),
    ("figcaption p", "color"),
    ("a", "color"),
    ("footer", "color"),
    ("summary", "color"),
)


def test_days_that_are_not_evenly_spaced_are_unpacked(tmp_path):
    """What the page draws is what was sent: the steps between days become the days themselves."""
    import plotly.graph_objects as go

    days = [date(2024, 2, 27), date(2024, 2, 29), date(2024, 3, 1), date(2024, 12, 31)]
    frame = pl.DataFrame({"date": days, "value": [1.0, 2.0, None, 4.0]})
    figure = go.Figure(layout=style.layout("Value"))
    figure.add_scatter(**style.daily_line(frame, "value", "Value", {"color": style.BLUE}, 2))
    drawing = style.chart("days", "Days", figure, "Four days, unevenly spaced.", [], 300)
    page = site.Page("index", "Overview", [], [site.Part("part", "Part", [render_chart(drawing)])])
    frame_of_pages = site.Frame("Title", simulated=False, footer="")
    path = tmp_path / "page.html"
    path.write_text(site.render_single([page], frame_of_pages, site.assets()))
    with chromium(tmp_path / "profile", offline=True) as driver:
        driver.get(path.as_uri())
        wait_until(lambda: not driver.execute_script(UNDRAWN), "the figure was never drawn")
        drawn = driver.execute_script("return document.getElementById('plot-days').data[0].x")
        assert drawn == [day.isoformat() for day in days]
        assert not complaints(driver, "SEVERE", "WARNING")


def test_the_keyboard_reaches_the_report_and_its_pages(proven, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    with chromium(tmp_path / "profile", offline=True) as driver:
        driver.get((proven.index.parent / "costs.html").as_uri())
        body = driver.find_element(By.TAG_NAME, "body")
        reached = []
        for _ in range(4):
            body.send_keys(Keys.TAB)
            focused = driver.switch_to.active_element
            reached.append((focused.get_attribute("href") or "").rpartition("/")[2])
            left = driver.execute_script("return document.activeElement.getBoundingClientRect().left")
            assert left >= 0, "what has the focus is in view"
        assert reached == ["costs.html#main", "index.html", "regime.html", "basket.html"]
        current = driver.find_elements(By.CSS_SELECTOR, "nav [aria-current=page]")
        assert [link.text for link in current] == ["Costs"]


def _rgb(text):
    return [float(part) for part in text[text.index("(") + 1 : text.index(")")].split(",")[:3]]


def _contrast(one, other):
    """WCAG 2 contrast ratio."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
