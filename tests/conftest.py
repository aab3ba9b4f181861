"""What every test may use: the real lakes where they exist, and a small simulated lake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from finished_run import FinishedRun, run_everything

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.lake.reader import LakeSource, MemoryLake, open_lake
from majors_alts_pipeline.lake.simulate import SimulatedLake, SimulationSpec, simulate
from majors_alts_pipeline.proofs.markets import market_settings


def shared_folder() -> Path:
    """Folder of the real lakes: ``MAJORS_ALTS_SHARED``, else ``../shared`` beside the repository."""
    return Path(os.environ.get("MAJORS_ALTS_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session", params=["lake", "lake_stress"])
def real_lake_folder(request: pytest.FixtureRequest) -> Path:
    folder = shared_folder() / request.param
    if not folder.exists():
        pytest.skip(f"{folder} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    return folder


@pytest.fixture(scope="session")
def small_settings() -> Settings:
    return market_settings()


@pytest.fixture(scope="session")
def small_market() -> SimulatedLake:
    return simulate(SimulationSpec(n_alts=30, n_days=420, seed=11))


@pytest.fixture(scope="session")
def small_lake(small_market: SimulatedLake, small_settings: Settings) -> LakeSource:
    return MemoryLake(small_market.tables, small_settings.lake)


@pytest.fixture(scope="session")
def open_real_lake(real_lake_folder: Path) -> LakeSource:
    from majors_alts_pipeline.config import load_settings

    return open_lake(real_lake_folder, load_settings().lake)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return run_everything(tmp_path_factory.mktemp("finished_run"))
