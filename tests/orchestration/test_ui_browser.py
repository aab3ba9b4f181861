"""The Dagster UI of this repository and the run's report in a real browser: drawn, complete, silent, offline."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from headless import chromium, complaints, picture, requested, wait_until

from majors_alts_pipeline.tables import TABLES

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).parents[2]
ASSETS = {"lake", *TABLES, "report", "signals"}
EXPANDED = ",".join(f"global@global:{group}" for group in ("lake", "core", "products"))


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture(scope="module")
def ui(finished_run) -> Iterator[str]:
    """Address of a webserver on workspace.yaml over the finished run; it and its children end with the module."""
    port = _free_port()
    log = finished_run.folder / "webserver.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("dagster-webserver"), "-w", "workspace.yaml", "-p", str(port)],
            cwd=REPOSITORY, env={**finished_run.environment, "DAGSTER_DISABLE_TELEMETRY": "1"},
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip

    def up() -> bool:
        assert server.poll() is None, f"the webserver ended:\n{log.read_text()}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    try:
        wait_until(up, f"the webserver does not answer:\n{log.read_text()}", 90)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


def _ask(ui: str, query: str) -> dict:
    request = urllib.request.Request(
        f"{ui}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


def _text(driver) -> str:
    return driver.execute_script("return document.body.innerText")


def _wait_for(driver, *words: str) -> None:
    wait_until(lambda: all(word in _text(driver) for word in words), f"{driver.current_url} never shows {words}")


def test_pages_of_the_ui(ui, tmp_path):
    with chromium(tmp_path / "profile", 3200, 3000) as driver:
        driver.get(f"{ui}/asset-groups?expanded={EXPANDED}")
        _wait_for(driver, *ASSETS)
        picture(driver, "asset_graph")
        driver.get(f"{ui}/assets/regime")
        _wait_for(driver, "research", "Parquet", "Polars", "score of the traded method", "unit: probability")
        _wait_for(driver, "Materialize")
        picture(driver, "asset_regime")
        driver.get(f"{ui}/assets/regime?view=events")
        _wait_for(driver, "[Show Markdown]")
        driver.execute_script(
            "[...document.querySelectorAll('*')].filter(e => e.textContent === '[Show Markdown]').pop().click()"
        )
        drawn = (
            "return [...document.querySelectorAll('img')].some(i => i.src.startsWith('data:') && i.naturalWidth > 0)"
        )
        wait_until(lambda: driver.execute_script(drawn), "the preview's picture is not drawn")
        still = "return document.getAnimations().every(a => a.playState !== 'running')"
        wait_until(lambda: driver.execute_script(still), "the preview never comes to rest")
        picture(driver, "asset_preview")
        driver.get(f"{ui}/automation")
        _wait_for(driver, "newest_complete_day", "run_failure")
        picture(driver, "automation")
        driver.get(f"{ui}/runs")
        _wait_for(driver, "Success")
        picture(driver, "runs")
        assert not complaints(driver, "SEVERE")
        assert not [url for url in requested(driver, ui) if not url.startswith((ui, "data:", "blob:"))]


def test_report_of_the_run(finished_run, tmp_path):
    undrawn = "return document.querySelectorAll('.plot:not([data-drawn])').length"
    with chromium(tmp_path / "profile", offline=True) as driver:
        driver.get((finished_run.out / "report" / "report.html").as_uri())
        wait_until(lambda: not driver.execute_script(undrawn), "some figures were never drawn")
        picture(driver, "report")
        assert "SIMULATED" in _text(driver)
        assert not complaints(driver, "SEVERE")
        assert not [url for url in requested(driver, "file:") if not url.startswith(("file:", "data:", "blob:"))]


def test_automation_is_on_and_the_server_says_nothing_outside(ui):
    location = _ask(ui, "{workspaceOrError { ... on Workspace {locationEntries {locationOrLoadError { ... on "
                        "RepositoryLocation {repositories {schedules {name scheduleState {status}} sensors {name "
                        "sensorState {status}}}}}}}}}")  # fmt: skip
    entry = location["workspaceOrError"]["locationEntries"][0]["locationOrLoadError"]["repositories"][0]
    assert [(s["name"], s["scheduleState"]["status"]) for s in entry["schedules"]] == [
        ("newest_complete_day", "RUNNING")
    ]
    assert [(s["name"], s["sensorState"]["status"]) for s in entry["sensors"]] == [("run_failure", "RUNNING")]
    with urllib.request.urlopen(ui, timeout=30) as answer:
        page = answer.read().decode()
    assert '"telemetryEnabled": false' in page
    assert "http://" not in page.replace(ui, "")
    assert "https://" not in page
