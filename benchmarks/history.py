"""A whole history in memory: every refit of each regime method, and the evidence of the finished run."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.evidence.assemble import Subject, gather
from majors_alts_pipeline.evidence.registry import Origin, Registry
from majors_alts_pipeline.evidence.sweep import Held
from majors_alts_pipeline.lake.reader import open_lake
from majors_alts_pipeline.stages import STAGE_OF_TABLE

MODEL = STAGE_OF_TABLE["regime_model"]


def measure(location: str) -> dict[str, float]:
    """Seconds of ``refits <method>``, ``refits all`` and ``evidence``, beside the sizes ``days`` and ``assets``."""
    settings = load_settings()
    lake = open_lake(location, settings.lake)
    runner = Runner(lake, settings)
    tables = runner.run_all()
    held = Held(tables, runner.history)
    found = {"days": float(runner.history.n_days), "assets": float(lake.first_seen().height)}
    for method in settings.regime.methods:
        # A consensus fits nothing of its own but reads all others: it is in the row of all of them.
        if method != "consensus":
            alone = with_overrides(settings, {"regime.method": method, "regime.methods": [method]})
            found[f"refits {method}"] = _refits(Runner(lake, alone, reader=held))
    found["refits all"] = _refits(Runner(lake, settings, reader=held))
    origin = Origin(datetime.now(UTC), "benchmark", "benchmark", lake.fingerprint(), "benchmark", lake.simulated)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        gather(Subject(tables, lake, runner.history, settings, origin), Registry(Path(folder)), lambda _: None)
        found["evidence"] = time.perf_counter() - began
    return found


def _refits(chain: Runner) -> float:
    chain.table("book_outcome", chain.history)
    began = time.perf_counter()
    chain.run(MODEL, chain.history)
    return time.perf_counter() - began
