"""Headless Chromium for tests: one browser, what it asked for, what it complained of, and a picture of it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
SCREENSHOTS = Path(__file__).parents[1] / "artifacts" / "screenshots"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium(
    profile: Path, width: int = 1280, height: int = 1000, theme: str = "light", offline: bool = False
) -> Iterator[Any]:
    """Selenium driver; skips the test without a browser, or fails it when MAJORS_ALTS_REQUIRE_BROWSER is set."""
    if not (shutil.which(CHROMIUM) and shutil.which(DRIVER)):
        absent = pytest.fail if os.environ.get("MAJORS_ALTS_REQUIRE_BROWSER") else pytest.skip
        absent("needs the Debian packages chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.execute_cdp_cmd("Network.enable", {})
        network = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", network)
        yield driver
    finally:
        driver.quit()


def wait_until(condition: Callable[[], Any], complaint: str, seconds: float = 60) -> Any:
    """First truthy value of `condition`; fails with `complaint` when there is none in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, complaint
        time.sleep(0.1)
    return value


def requested(driver: Any, scheme: str) -> list[str]:
    """URLs that documents of `scheme` asked for since the last call; the browser's own pages are left out."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in sent if request["documentURL"].startswith(scheme)]


def complaints(driver: Any, *levels: str) -> list[str]:
    """Messages of the console at these levels since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in levels]


def picture(driver: Any, name: str) -> Path:
    """Screenshot kept under ``artifacts/screenshots``."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    path = SCREENSHOTS / f"{name}.png"
    path.write_bytes(base64.b64decode(shot["data"]))
    return path
