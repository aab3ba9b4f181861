"""The simulated lake: its tables, the truth beside them, and writing both to disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from majors_alts_pipeline.lake.simulate import facts
from majors_alts_pipeline.lake.simulate.glitches import GlitchPlan, apply_glitches, plan_glitches
from majors_alts_pipeline.lake.simulate.market import Market, build_market
from majors_alts_pipeline.lake.simulate.spec import SimulationSpec

MARKER = "_SIMULATED.json"
ROW_GROUP = 1_000_000


class LakeExistsError(FileExistsError):
    """The target directory holds something that is not a simulated lake."""


class LakeTables(Mapping[str, pl.DataFrame]):
    """Tables of a simulated lake by name, each built when first asked for and then kept.

    A market of 5,000 assets x 5,000 days has tables of several GB: `build` makes one without keeping it.
    """

    def __init__(self, market: Market, plan: GlitchPlan) -> None:
        self._market = market
        self._plan = plan
        self._kept: dict[str, pl.DataFrame] = {}

    def build(self, name: str) -> pl.DataFrame:
        """Build the table now; KeyError when there is no such table."""
        return apply_glitches(name, facts.BUILDERS[name](self._market), self._plan)

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self._kept:
            self._kept[name] = self.build(name)
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(facts.BUILDERS)

    def __len__(self) -> int:
        return len(facts.BUILDERS)

    def __contains__(self, name: object) -> bool:
        return name in facts.BUILDERS


@dataclass(frozen=True)
class Truth:
    """What the pipeline tries to find out.

    Attributes:
        regimes: (date, regime) hidden state: risk_on_majors, balanced or risk_on_alts.
        betas: (asset_id, beta_btc, beta_eth, alt_loading) population loadings, constant in time.
        assets: (asset_id, lake_id, kind, listed_on, died_on, death, spread, vol, multiplier, has_perpetual);
            died_on is the last day with rows, null while alive; death is collapse or delisted.
        glitches: (table, asset_id, date, kind) one row per faulty row; a redenomination is its first day,
            a shifted clock the whole table (asset and day null).
    """

    regimes: pl.DataFrame
    betas: pl.DataFrame
    assets: pl.DataFrame
    glitches: pl.DataFrame


@dataclass(frozen=True)
class SimulatedLake:
    """Tables as a vendor would have written them, the truth behind them, and the spec that made both."""

    tables: LakeTables
    truth: Truth
    spec: SimulationSpec


def simulate(spec: SimulationSpec) -> SimulatedLake:
    """Simulate a market and the lake it leaves behind.

    Raises:
        GlitchError: the market is too small for the glitches asked for.
    """
    market = build_market(spec)
    plan = plan_glitches(market)
    truth = Truth(facts.truth_regimes(market), facts.truth_betas(market), facts.truth_assets(market), plan.record)
    return SimulatedLake(LakeTables(market, plan), truth, spec)


def write_lake(lake: SimulatedLake, directory: Path) -> None:
    """Write one Parquet file per table, `truth/` beside them and the marker, all or nothing.

    Everything is written to a temporary sibling that is renamed into place; a simulated lake already there is
    replaced. Same spec, same bytes. A killed run leaves the target old, absent or new, never half written.

    Raises:
        LakeExistsError: the directory exists, is not empty and is not a simulated lake.
    """
    directory = Path(directory).absolute()
    _refuse_foreign(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp", dir=directory.parent))
    try:
        fresh = staging / "lake"
        (fresh / "truth").mkdir(parents=True)
        for name in lake.tables:
            _write(lake.tables.build(name), fresh / f"{name}.parquet")
        for name in ("regimes", "betas", "assets", "glitches"):
            _write(getattr(lake.truth, name), fresh / "truth" / f"{name}.parquet")
        (fresh / MARKER).write_text(lake.spec.to_json() + "\n", encoding="utf-8")
        _refuse_foreign(directory)
        _swap(fresh, directory, staging / "replaced")
    finally:
        shutil.rmtree(staging)


def _swap(fresh: Path, directory: Path, aside: Path) -> None:
    replaces = directory.exists()
    if replaces:
        os.rename(directory, aside)
    try:
        os.rename(fresh, directory)
    except OSError:
        if replaces:
            os.rename(aside, directory)
        raise


def _refuse_foreign(directory: Path) -> None:
    if not directory.exists():
        return
    if directory.is_dir() and ((directory / MARKER).is_file() or not any(directory.iterdir())):
        return
    raise LakeExistsError(
        f"{directory} exists and is not a simulated lake (no {MARKER} in it); it was not touched. "
        "Choose another directory or remove it yourself"
    )


def _write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="zstd", statistics=True, row_group_size=ROW_GROUP)
