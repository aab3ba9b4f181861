"""The page in a real browser, offline: every figure drawn, no error, nothing asked for, fits a phone."""

from __future__ import annotations

import base64
import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
SCREENSHOTS = Path(__file__).parents[2] / "artifacts" / "screenshots"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def _browser(width, theme, profile):
    selenium = pytest.importorskip("selenium.webdriver")
    if not (shutil.which(CHROMIUM) and shutil.which(DRIVER)):
        pytest.skip("needs the Debian packages chromium and chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    try:
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield driver
    finally:
        driver.quit()


def _wait_until_drawn(driver, seconds=60):
    start = time.monotonic()
    while driver.execute_script("return document.querySelectorAll('.plot:not([data-drawn])').length"):
        assert time.monotonic() - start < seconds, "some figures were never drawn"
        time.sleep(0.1)


def _requested(driver):
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in sent if request["documentURL"].startswith("file:")]


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_report_offline(built, width, theme, tmp_path):
    with _browser(width, theme, tmp_path / "profile") as driver:
        driver.get(built.html.as_uri())
        _wait_until_drawn(driver)
        n_plots, n_drawn = driver.execute_script(
            "return [document.querySelectorAll('.plot').length, document.querySelectorAll('.plot .main-svg').length]"
        )
        assert n_plots >= 15
        assert n_drawn >= n_plots
        inner, scroll = driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert scroll <= inner, "the page scrolls sideways"
        tick, paper = driver.execute_script(
            "return [getComputedStyle(document.querySelector('.plot .xtick text')).fill, "
            "getComputedStyle(document.body).backgroundColor]"
        )
        assert _contrast(_rgb(tick), _rgb(paper)) >= 4.5
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        (SCREENSHOTS / f"report_{width}_{theme}.png").write_bytes(base64.b64decode(shot["data"]))
        errors = [entry for entry in driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]
        assert not errors
        assert not [url for url in _requested(driver) if not url.startswith(("file:", "data:", "blob:"))]


def _rgb(text):
    return [float(part) for part in text[text.index("(") + 1 : text.index(")")].split(",")[:3]]


def _contrast(one, other):
    """WCAG 2 contrast ratio."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
