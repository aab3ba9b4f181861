"""The documentation says what is: commands, settings, contracts, rules and links are compared with the code."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

import majors_alts_pipeline
from majors_alts_pipeline import data_contract
from majors_alts_pipeline.cli import app
from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.evaluation.kpis import RISK_ADJUSTED
from majors_alts_pipeline.features.definitions import DEFINITIONS
from majors_alts_pipeline.lake.contracts import LAKE_TABLES
from majors_alts_pipeline.lake.quality import CHECKS
from majors_alts_pipeline.regime.composite import candidates
from majors_alts_pipeline.stages import STAGES
from majors_alts_pipeline.tables import TABLES

ROOT = Path(__file__).parents[2]
PACKAGE = Path(majors_alts_pipeline.__file__).parent
NOTES = ("artifacts/README.md", "cache/README.md")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in NOTES)]
README = (ROOT / "README.md").read_text()
METHODS = (ROOT / "docs/methods.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def commands() -> dict[str, Any]:
    return get_command(app).commands  # type: ignore[attr-defined]


def make_targets() -> set[str]:
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    return set(phony.group(1).split())


def leaves(model: type[BaseModel], values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        here = f"{path}.{name}".lstrip(".")
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        found |= leaves(inner, values[name], here) if nested else {here: values[name]}  # type: ignore[arg-type]
    return found


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_data_contract_is_up_to_date() -> None:
    assert data_contract.FILE.read_text() == data_contract.markdown(), f"run {data_contract.COMMAND}"


def test_the_data_contract_names_every_table_column_and_setting() -> None:
    page = data_contract.markdown()
    for table in (*LAKE_TABLES.values(), *TABLES.values()):
        assert f"\n### {table.name}\n" in page
        assert all(f"\n| `{column}` | " in page for column in table.columns)
    assert all(f"| `{key}` | " in page for key in leaves(Settings, load_settings().model_dump()))


def test_every_setting_and_column_has_a_meaning() -> None:
    assert [line for line in data_contract.markdown().splitlines() if line.endswith("|  |")] == []


def test_readme_names_every_make_target_and_no_other() -> None:
    named = set(
        re.findall(r"\bmake ([a-z]+)\b(?=[^\n]*)", "\n".join(re.findall(r"`[^`\n]+`|^    .*$", README, re.MULTILINE)))
    )
    assert named == make_targets()


def test_readme_names_every_command_and_no_other() -> None:
    assert set(re.findall(r"`majors-alts ([a-z-]+)", README)) == set(commands())


def test_every_option_in_a_command_row_exists() -> None:
    rows = re.findall(r"^\| `majors-alts ([a-z-]+)[^|]*\|(.*)\|$", README, re.MULTILINE)
    assert len(rows) == len(commands())
    for name, words in rows:
        known = {option for parameter in commands()[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= known, name


def test_the_public_functions_survive_each_other() -> None:
    """In a fresh process: importing a submodule binds its name over a function of the same name."""
    words = (
        "import majors_alts_pipeline as ma\n"
        "for _ in range(2):\n"
        "    assert callable(ma.read)\n"
        "    assert {'table', 'column', 'unit'} <= set(ma.table_columns().columns)\n"
    )
    subprocess.run([sys.executable, "-c", words], check=True, cwd=ROOT)
    called = set(re.findall(r"\bma\.(\w+)\(", README + str(majors_alts_pipeline.__doc__)))
    assert called == set(majors_alts_pipeline.__all__) - {"__version__"}


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 180


def test_methods_quote_the_defaults() -> None:
    values = leaves(Settings, load_settings().model_dump(mode="json"))
    quoted = re.findall(r"`([a-z]+(?:\.[a-z_]+)+)`\s+=\s+([\w.+-]*\w)", METHODS)
    assert len(quoted) > 60
    for key, text in quoted:
        value = values[key]
        same = text == str(value).lower() if isinstance(value, (str, bool)) else float(text) == value
        assert same, f"{key}: methods.md says {text}, the default is {value}"


def test_methods_speak_of_settings_that_exist_and_of_every_section() -> None:
    values = leaves(Settings, load_settings().model_dump())
    sections = set(Settings.model_fields)
    spoken = {key for key in re.findall(r"`?\b([a-z]+(?:\.[a-z_]+)+)\b", METHODS) if key.split(".")[0] in sections}
    blocks = {key.rsplit(".", 1)[0] for key in values}
    assert {key for key in spoken if not key.endswith((".py", ".yaml"))} <= set(values) | blocks
    assert {key.split(".")[0] for key in spoken} == sections


def test_methods_list_the_features_with_their_signs() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([+−]1) \|", section(METHODS, "Features"), re.MULTILINE)
    assert {name: {"+1": 1, "−1": -1}[sign] for name, sign in rows} == {
        name: definition.sign for name, definition in DEFINITIONS.items()
    }


def test_methods_list_the_quality_rules_with_their_severities() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section(METHODS, "Data quality"), re.MULTILINE))
    assert rows == load_settings().quality.severity
    assert set(rows) == set(CHECKS)


def test_methods_count_the_candidates() -> None:
    assert f"({len(candidates(load_settings()))} by default, candidate 0 the defaults)" in METHODS


def test_methods_define_what_the_report_judges_by() -> None:
    assert all(name.removesuffix("_low").split("_")[0] in section(METHODS, "KPIs").lower() for name in RISK_ADJUSTED)


def test_operations_name_every_error_and_no_other() -> None:
    defined = set()
    for module in pkgutil.walk_packages(majors_alts_pipeline.__path__, "majors_alts_pipeline."):
        if module.name.endswith("__main__"):
            continue
        members = vars(importlib.import_module(module.name)).values()
        defined |= {item.__name__ for item in members if isinstance(item, type) and issubclass(item, Exception)
                    and item.__module__.startswith("majors_alts_pipeline")}  # fmt: skip
    assert set(re.findall(r"`(\w+Error)`", section(OPERATIONS, "Errors"))) == defined


def test_variables_in_the_pages_are_read_by_code() -> None:
    sources = [*PACKAGE.rglob("*.py"), ROOT / "tests/conftest.py"]
    read = "\n".join(path.read_text() for path in sources)
    for page in PAGES:
        for name in re.findall(r"MAJORS_ALTS_([A-Z]+)", page.read_text()):
            assert f"MAJORS_ALTS_{name}" in read or f'path("{name}")' in read, f"{page.name}: {name}"


def test_the_exercise_names_what_exists() -> None:
    page = (ROOT / "docs/adding_a_stage.md").read_text()
    for path in re.findall(r"`((?:majors_alts_pipeline|tests)/[\w/.]+)`", page):
        assert (ROOT / path).exists(), path
    assert all(
        (PACKAGE / f"{stage.function.split(':')[0].split('.', 1)[1].replace('.', '/')}.py").exists() for stage in STAGES
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_images_resolve(page: Path) -> None:
    for link in LINK.finditer(page.read_text()):
        if link["target"].startswith(("http://", "https://")):
            continue
        name, _, anchor = link["target"].partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), link.group()
        assert target.exists(), link.group()
        if target.suffix == ".png":
            assert len(link["text"]) > 20, f"{link.group()}: an image needs words for those who cannot see it"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, link.group()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_hold_no_address_of_a_workplace_or_a_registry(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"(?<![\w.~:/])/(?:work|home|root|tmp|Users)/", text)
    assert not re.search(r"index-url|pypi\.|simple/|artifactory|nexus", text, re.IGNORECASE)
    hosts = set(re.findall(r"https?://([\w.-]+)", text))
    assert hosts <= {"localhost"}, hosts
    assert not re.search(r"[ \t]+$", text, re.MULTILINE)


def test_pages_keep_the_line_length() -> None:
    for page in PAGES:
        if page == data_contract.FILE:
            continue
        long = [
            line
            for line in page.read_text().splitlines()
            if len(line) > 120 and not line.startswith(("|", "![", "    "))
        ]
        assert long == [], page.name
