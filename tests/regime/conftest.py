"""Lets the tests read the data of statsmodels' own tests."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "smoke: used by the test module of statsmodels that holds Hamilton's data")
