"""`env.sh`: what is typed wins over the default partition it sets, as a shell does it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DAY = "2024-10-01"
SHELLS = [shell for shell in ("bash", "zsh") if shutil.which(shell)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose commands only say what they were given."""
    root = tmp_path_factory.mktemp("env")
    shutil.copy(REPOSITORY / "env.sh", root)
    bin_ = root / ".venv" / "bin"
    bin_.mkdir(parents=True)
    said = 'echo "partition=${DAGSTER_CLI_ASSET_MATERIALIZE_PARTITION-none} module=${DAGSTER_MODULE_NAME-none}"'
    for name, line in (("majors-alts", f"echo {DAY}"), ("dagster", said)):
        (bin_ / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin_ / name).chmod(0o755)
    return root


def typed(root: Path, shell: str, words: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "MAJORS_ALTS"))}
    done = subprocess.run(
        [shell, "-c", f"set -eu; . ./env.sh; dagster {words}"], env=kept, cwd=root, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "partition"),
    [
        ("--select regime", DAY),
        ("--select regime --partition 2024-09-30", DAY),
        ("--select '*regime' --partition-range 2024-09-01...2024-09-30", "none"),
        ("--select regime --partition-range=2024-09-01...2024-09-30", "none"),
        ("--select evidence", "none"),
        ("--select=evidence", "none"),
        ("--select signals -m elsewhere", "none"),
        ("--select evidence,report,signals", "none"),
        ("--select signals,evidence", "none"),
        ("--select 'report, evidence'", "none"),
        ("--select=report,signals", "none"),
        ("--select regime,evidence", DAY),
        ("--select evidence,kpis", DAY),
        ("--select '*report'", DAY),
    ],
)
def test_the_default_partition_is_left_out_where_dagster_would_refuse_it(
    root: Path, shell: str, words: str, partition: str
) -> None:
    assert typed(root, shell, f"asset materialize {words}").startswith(f"partition={partition} ")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_typed_workspace_wins_over_the_module(root: Path, shell: str) -> None:
    assert typed(root, shell, "dev").endswith("module=majors_alts_pipeline.definitions")
    assert typed(root, shell, "dev -w workspace.yaml").endswith("module=none")
