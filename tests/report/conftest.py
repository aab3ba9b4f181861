"""Fixtures of the report's tests."""

from __future__ import annotations

import pytest
from report_world import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()
