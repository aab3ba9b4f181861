"""The house rules: pure rooms know no Dagster, arrows point one way, no index address in the lock file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import majors_alts_pipeline

PACKAGE = Path(majors_alts_pipeline.__file__).parent
ROOT = PACKAGE.parent
# A room may import those before it.
ORDER = [
    "calendar", "tables", "numerics", "config", "lake", "universe", "features", "betas", "basket", "regime",
    "backtest", "evaluation", "report", "stages", "chain", "evidence", "data_contract", "proofs", "orchestration",
    "access", "definitions", "main_job", "cli",
]  # fmt: skip
DAGSTER_ROOMS = {"orchestration", "definitions", "main_job"}


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_rooms_do_not_import_dagster(path: Path) -> None:
    if room(path) not in DAGSTER_ROOMS:
        assert not {name for name in imported_modules(path) if name.split(".")[0] == "dagster"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    own = ORDER.index(room(path))
    later = {
        name
        for name in imported_modules(path)
        if name.startswith("majors_alts_pipeline.")
        and (part := name.split(".")[1]) in ORDER
        and ORDER.index(part) > own
    }
    assert later == set()


def test_every_room_has_its_place() -> None:
    assert {room(path) for path in SOURCES} <= set(ORDER)


def test_no_commit_holds_an_index_address() -> None:
    address = re.compile(r"https?://|^--(extra-)?index-url", re.IGNORECASE | re.MULTILINE)
    assert not address.search((ROOT / "requirements.lock").read_text())
    assert not (ROOT / "uv.lock").exists()
