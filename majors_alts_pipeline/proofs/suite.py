"""The truth machines in one call each: on a lake, and on simulated markets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.proofs import accounts, calibration, calibration_page, calibration_table, exactness, markets
from majors_alts_pipeline.proofs.proof import Proof

Progress = Callable[[str], None]
EFFECTS = (0.0, 0.001, 0.002, 0.005, 0.01)
"""Planted expected daily returns of the book in the favourable hidden state, decimal."""


def sample_days(window: Window, count: int) -> list[date]:
    """`count` days spread over the window, its last day and a month end among them, none in the first tenth."""
    first = window.start + timedelta(days=window.n_days // 10)
    span = (window.end - first).days
    spread = {first + timedelta(days=round(span * k / max(count - 1, 1))) for k in range(count)}
    return sorted(spread | {window.end})


def file_hashes(location: Path) -> dict[str, str]:
    """SHA-256 of every file of a lake on disk."""
    files = [location] if location.is_file() else sorted(path for path in location.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def prove_lake(lake: LakeSource, settings: Settings, progress: Progress, cuts: int = 4, days: int = 6) -> list[Proof]:
    """Machines 1, 2 and 5 of the design on a lake, and the placebo of shifted regimes.

    Args:
        lake: the lake; nothing is written.
        settings: resolved configuration.
        progress: told what is being done.
        cuts: days after which the lake is cut.
        days: days computed alone.
    """
    on_disk = Path(lake.location)
    before = file_hashes(on_disk) if on_disk.exists() else lake.identity()
    progress("whole chain over the whole history")
    full = Runner(lake, settings).run_all()
    history = Window(lake.first_day(), lake.last_complete_day())
    proofs = [
        exactness.prefix(lake, settings, full, sample_days(history, cuts + 1)[:-1], progress),
        exactness.single_days(lake, settings, full, sample_days(history, days), progress),
        exactness.replay(lake, settings, full, sample_days(history, 3)[1:2], progress),
    ]
    progress("double run")
    proofs.append(exactness.double_run(lake, settings, full))
    proofs.extend(accounts.ledger(full))
    after = file_hashes(on_disk) if on_disk.exists() else lake.identity()
    proofs.append(
        Proof(
            "lake untouched",
            "the lake's files are the same before and after",
            f"{len(after)} files hashed",
            "equal",
            before == after,
        )
    )
    proofs.append(accounts.placebo(full, settings.evaluation.seed))
    return proofs


def prove_markets(n_markets: int, n_alts: int, n_days: int, progress: Progress) -> list[Proof]:
    """Machines 3 and 4: null markets and planted edges, each through the real chain."""
    null = markets.run_markets(range(n_markets), [0.0], n_alts, n_days, progress=progress)
    planted_seeds = range(1000, 1000 + max(20, n_markets // 5))
    # Regimes last weeks: power needs years where size does not.
    planted = markets.run_markets(planted_seeds, EFFECTS, n_alts, 2 * n_days, progress=progress)
    return [*markets.null_proofs(null), *markets.planted_proofs(planted)]


@dataclass(frozen=True)
class Calibration:
    """What a calibration wrote and found.

    Attributes:
        table: see `calibration_table.calibration_table`.
        directory: where table, measurements and plot are.
        failures: claims of size, control, selection and coverage that do not hold.
    """

    table: pl.DataFrame
    directory: Path
    failures: int


def calibrate_markets(
    plan: calibration.Plan, settings: Settings, directory: Path, code: str, progress: Progress, docs: Path | None = None
) -> Calibration:
    """Measure the markets of the plan, judge them and write table, measurements and plot.

    Args:
        plan: the markets.
        settings: resolved settings of the instrument.
        directory: receives ``calibration.csv``, ``calibration.parquet``, ``measurements.parquet``, ``calibration.png``
            and a folder of single markets, which an interrupted run takes up again.
        code: version of the code; markets measured by another are measured anew.
        progress: told what is being done.
        docs: folder whose ``calibration.md`` and ``images/calibration.png`` are renewed; None leaves them alone.

    Raises:
        RuntimeError: a market failed.
        PageError: the page lacks its markers.
    """
    methods = settings.regime.methods
    single = directory / "markets" / calibration.study_key(plan, settings, code)
    measured = calibration.run_calibration(plan, settings, single, progress)
    table = calibration_table.calibration_table(measured, plan, methods, code)
    table.write_csv(directory / "calibration.csv")
    table.write_parquet(directory / "calibration.parquet")
    measured.write_parquet(directory / "measurements.parquet")
    pictures = [directory / "calibration.png", *([] if docs is None else [docs / "images" / "calibration.png"])]
    for picture in pictures:
        calibration_page.figure(measured, table, methods, picture)
    if docs is not None:
        calibration_page.write_page(docs / "calibration.md", calibration_page.page_tables(table, methods))
    return Calibration(table, directory, calibration_table.failures(table))
