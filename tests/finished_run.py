"""One `majors-alts run` over a small simulated lake, as a person types it, for every test that looks at results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RUN_FIRST, RUN_LAST = date(2022, 1, 1), date(2022, 1, 1) + timedelta(days=148)


@dataclass(frozen=True)
class FinishedRun:
    """A simulated lake and the results of one `majors-alts run` over it, all in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    stdout: str
    stderr: str

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def command(self, *words: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment's ``bin``; fails when it ends with another status."""
        return run_command(*words, status=status, environment={**self.environment, **environment})


def run_command(*words: str, environment: dict[str, str], status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name(words[0])), *words[1:]],
        env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == status, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def run_everything(folder: Path) -> FinishedRun:
    """Simulate a lake, run the whole chain over it and keep what was printed."""
    home = folder / "home"
    home.mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", home)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "MAJORS_ALTS"))}
    environment = {**kept, "DAGSTER_HOME": str(home), "MAJORS_ALTS_CACHE": str(folder / "cache")}
    run_command(
        "majors-alts", "simulate-lake", str(folder / "lake"), "--alts", "30", "--days", "150", environment=environment
    )
    # Robustness and capacity, the slow parts of the evidence, have tests of their own in tests/evidence.
    (folder / "config.yaml").write_text(
        "evaluation:\n  bootstrap_reps: 100\n  skip: [robustness, capacity]\n  sweep_grid: {basket.n_alts: [10, 20]}\n"
    )
    done = run_command(
        "majors-alts", "run", "--lake", str(folder / "lake"), "--config", str(folder / "config.yaml"),
        "--out", str(folder / "out"), "--from", RUN_FIRST.isoformat(), "--to", RUN_LAST.isoformat(),
        environment=environment,
    )  # fmt: skip
    paths = {"LAKE": folder / "lake", "CONFIG": folder / "config.yaml", "OUT": folder / "out"}
    located = {f"MAJORS_ALTS_{name}": str(path) for name, path in paths.items()}
    return FinishedRun(folder, {**environment, **located}, done.stdout, done.stderr)
