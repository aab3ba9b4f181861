"""Benchmarks of the issue's targets; see `make bench`. Figures are medians; peers run side by side."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
FIRST_DAY = date(2022, 1, 1)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    peer: str
    ratio: str
    target: str
    met: str


@dataclass(frozen=True)
class Measured:
    """Wall seconds and peak resident memory of a process and its children."""

    wall: float
    peak_gb: float


def process(command: Sequence[str], env: dict[str, str]) -> Measured:
    """Run a command to its end; raises with its output when it fails."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        if status:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{output.read().decode()[-4000:]}")
    return Measured(wall, usage.ru_maxrss / 2**20)


def median(function: Callable[[], object], runs: int) -> float:
    """Median wall seconds of a function, after one call that is not counted."""
    function()
    walls = []
    for _ in range(runs):
        began = time.perf_counter()
        function()
        walls.append(time.perf_counter() - began)
    return statistics.median(walls)


class Scratch:
    """A temporary directory with its own Dagster home, artifacts and cache."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="bench_"))
        home = self.root / "home"
        home.mkdir()
        shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home / "dagster.yaml")
        self.env = {
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "DAGSTER_EVENT_BATCH_SIZE": "1000",
            "MAJORS_ALTS_OUT": str(self.root / "artifacts"),
            "MAJORS_ALTS_CACHE": str(self.root / "cache"),
            "BENCH_FIRST_DAY": FIRST_DAY.isoformat(),
        }

    def lake(self, assets: int, days: int) -> str:
        """Write a simulated lake and return its path."""
        from majors_alts_pipeline.lake.simulate import SimulationSpec, simulate, write_lake

        path = self.root / f"lake_{assets}_{days}"
        write_lake(simulate(SimulationSpec(n_alts=assets, n_days=days, start=FIRST_DAY, listed_at_start=0.9)), path)
        return str(path)

    def close(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.root, ignore_errors=True)


def _binary(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _empty_range(scratch: Scratch, days: int) -> Measured:
    last = FIRST_DAY + timedelta(days=days - 1)
    return process(
        [
            _binary("dagster"),
            "asset",
            "materialize",
            "-m",
            "benchmarks.empty_assets",
            "--select",
            "*",
            "--partition-range",
            f"{FIRST_DAY}...{last}",
        ],
        scratch.env,
    )


def whole_chain(assets: int, days: int, own_target: float | None) -> list[Row]:
    """(a) The main job, beside eight empty assets over the same range."""
    scratch = Scratch()
    try:
        lake = scratch.lake(assets, days)
        ours = process([_binary("majors-alts"), "run", "--lake", lake], scratch.env)
        empty = _empty_range(scratch, days)
    finally:
        scratch.close()
    own = ours.wall - empty.wall
    label = f"(a) whole chain {assets:,} x {days:,}"
    return [
        Row(
            f"{label}: wall",
            f"{ours.wall:.1f} s",
            f"{empty.wall:.1f} s (8 empty assets)",
            f"{empty.wall / ours.wall:.0%} is Dagster",
            "30 s" if own_target else "",
            _met(ours.wall <= 30) if own_target else "",
        ),
        Row(
            f"{label}: peak memory",
            f"{ours.peak_gb:.2f} GB",
            "",
            "",
            "2 GB" if own_target else "",
            _met(ours.peak_gb <= 2) if own_target else "",
        ),
        Row(
            f"{label}: our own work",
            f"{own:.1f} s",
            "",
            "",
            f"{own_target:g} s" if own_target else "",
            _met(own <= own_target) if own_target else "",
        ),
    ]


def increment(runs: int) -> list[Row]:
    """(b) One day of all daily assets, beside `dagster asset materialize` of one empty asset."""
    from majors_alts_pipeline.stages import STAGES

    scratch = Scratch()
    try:
        days = 1100
        env = {**scratch.env, "MAJORS_ALTS_LAKE": scratch.lake(300, days)}
        process([_binary("majors-alts"), "run"], env)
        last = (FIRST_DAY + timedelta(days=days - 1)).isoformat()
        selection = " or ".join(f'key:"{table}"' for stage in STAGES for table in stage.tables)
        ours = [
            _binary("dagster"),
            "asset",
            "materialize",
            "-m",
            "majors_alts_pipeline.definitions",
            "--select",
            selection,
            "--partition",
            last,
        ]
        empty = [
            _binary("dagster"),
            "asset",
            "materialize",
            "-m",
            "benchmarks.empty_assets",
            "--select",
            "empty_0",
            "--partition",
            last,
        ]
        pairs = [(process(ours, env).wall, process(empty, env).wall) for _ in range(runs)]
    finally:
        scratch.close()
    ratio = statistics.median(a / b for a, b in pairs)
    return [
        Row(
            "(b) one day, all daily assets, 300 x 1,100 behind it",
            f"{statistics.median(a for a, _ in pairs):.2f} s",
            f"{statistics.median(b for _, b in pairs):.2f} s (one empty asset)",
            f"{ratio:.2f}x",
            "2x",
            _met(ratio <= 2),
        )
    ]


def betas(runs: int) -> list[Row]:
    """(c) Rolling two-factor betas beside statsmodels RollingOLS, 500 assets x 2,500 days, window 60."""
    import statsmodels.api as sm
    from statsmodels.regression.rolling import RollingOLS

    from majors_alts_pipeline.betas.ridge import rolling_ridge

    random = np.random.default_rng(0)
    factors = random.standard_t(5, (2500, 2)) * 0.02
    returns = factors @ random.normal(0.5, 0.2, (2, 500)) + random.standard_t(5, (2500, 500)) * 0.03
    exog = sm.add_constant(factors)

    def ours() -> object:
        return rolling_ridge(returns, factors, window=60, min_obs=30, ridge=0.05, winsor_probability=0.99, first_day=0)

    def peer() -> None:
        for column in range(500):
            RollingOLS(returns[:, column], exog, window=60).fit(params_only=False)

    mine = median(ours, runs)
    began = time.perf_counter()
    peer()
    theirs = time.perf_counter() - began
    return [
        Row(
            "(c) betas 500 x 2,500 (winsorised ridge, both passes)",
            f"{mine * 1e3:.0f} ms",
            f"{theirs:.1f} s (statsmodels RollingOLS)",
            f"{theirs / mine:.0f}x faster",
            "100x",
            _met(theirs / mine >= 100),
        )
    ]


def simulation(runs: int) -> list[Row]:
    """(d) The account simulation beside vectorbt from_orders, same convention, NAV compared."""
    import pandas as pd
    import vectorbt as vbt

    from majors_alts_pipeline.backtest.ledger import simulate_account

    random = np.random.default_rng(1)
    prices = 100 * np.exp(np.cumsum(random.normal(0, 0.03, (2500, 500)), axis=0))
    raw = random.normal(0, 1, (2500, 500))
    targets = raw / np.abs(raw).sum(axis=1, keepdims=True)
    close, size = pd.DataFrame(prices), pd.DataFrame(targets)

    def ours() -> np.ndarray:
        return simulate_account(prices, targets, capital=1e6)

    def peer() -> np.ndarray:
        portfolio = vbt.Portfolio.from_orders(
            close,
            size,
            size_type="targetpercent",
            direction="both",
            group_by=True,
            cash_sharing=True,
            call_seq="auto",
            init_cash=1e6,
            fees=0.0,
            freq="1D",
        )
        return portfolio.value().to_numpy()

    gap = float(np.max(np.abs(ours() / peer() - 1)))
    mine, theirs = median(ours, runs), median(peer, runs)
    return [
        Row(
            "(d) account simulation 500 x 2,500, daily rebalance",
            f"{mine * 1e3:.1f} ms",
            f"{theirs * 1e3:.0f} ms (vectorbt from_orders)",
            f"{theirs / mine:.0f}x faster",
            "20x",
            _met(theirs / mine >= 20),
        ),
        Row("(d) NAV difference, relative", f"{gap:.1e}", "", "", "1e-9", _met(gap <= 1e-9)),
    ]


def growth(sizes: Sequence[tuple[int, int]]) -> list[Row]:
    """(e) Our own work by assets and days: all stages in memory, each size in a fresh process."""
    rows = []
    base: float | None = None
    for assets, days in sizes:
        scratch = Scratch()
        try:
            lake = scratch.lake(assets, days)
            code = "import sys; from benchmarks.own_work import run; run(sys.argv[1], sys.argv[2])"
            # The first size compiles the kernels once for all; every measured run begins with nothing stored.
            if base is None:
                process([sys.executable, "-c", code, lake, str(scratch.root / "first")], scratch.env)
            measured = process([sys.executable, "-c", code, lake, str(scratch.root / "artifacts")], scratch.env)
        finally:
            scratch.close()
        cells = assets * days
        per_million = measured.wall / cells * 1e6
        base = base or per_million
        rows.append(
            Row(
                f"(e) own work without Dagster {assets:,} x {days:,}",
                f"{measured.wall:.1f} s, {measured.peak_gb:.2f} GB",
                "",
                f"{per_million:.1f} s per million cells",
                "linear; 8 GB",
                _met(measured.peak_gb <= 8 and per_million <= 1.5 * base),
            )
        )
    return rows


def sweep(runs: int) -> list[Row]:
    """(s) The sweep of the default grid beside separate runs, and its accounts beside vectorbt's."""
    from benchmarks.sweep import PEER_VARIANTS, SEPARATE_RUNS, measure, real_lake

    scratch = Scratch()
    try:
        real = real_lake()
        got = measure(real or scratch.lake(300, 900), runs)
    finally:
        scratch.close()
    n = int(got["variants"])
    label = f"(s) sweep of {n} variants, {'the real lake' if real else '300 x 900'}"
    return [
        Row(
            f"{label}; panel to betas stored",
            f"{got['sweep']:.1f} s",
            f"{got['separate']:.0f} s ({n} separate runs: {SEPARATE_RUNS} measured, scaled)",
            f"{got['separate'] / got['sweep']:.0f}x faster",
            "10 s",
            _met(got["sweep"] <= 10),
        ),
        Row(
            "(s) daily returns against the separate runs", f"{got['difference']:.1e}", "", "", "0",
            _met(got["difference"] == 0),
        ),
        Row(
            f"(s) {PEER_VARIANTS} of its accounts, no costs",
            f"{got['accounts'] * 1e3:.0f} ms",
            f"{got['vectorbt'] * 1e3:.0f} ms (vectorbt from_orders)",
            f"{got['vectorbt'] / got['accounts']:.0f}x faster",
            "",
            "",
        ),
        Row("(s) NAV difference, relative", f"{got['gap']:.1e}", "", "", "1e-9", _met(got["gap"] <= 1e-9)),
    ]  # fmt: skip


def history() -> list[Row]:
    """(r) Every refit of each regime method over a whole history, and the evidence of the finished run."""
    from benchmarks.history import measure
    from benchmarks.sweep import real_lake

    scratch = Scratch()
    try:
        real = real_lake()
        got = measure(real or scratch.lake(300, 900))
    finally:
        scratch.close()
    label = f"{'the real lake' if real else 'simulated'}, {got['assets']:,.0f} x {got['days']:,.0f}"
    rows = [
        Row(f"(r) refits of {name.removeprefix('refits ')}, {label}", f"{seconds:.2f} s", "", "", "", "")
        for name, seconds in got.items()
        if name.startswith("refits ")
    ]
    return [*rows, Row(f"(r) the evidence, {label}", f"{got['evidence']:.0f} s", "", "", "", "")]


def calibration(markets: int) -> list[Row]:
    """(f) One null market of the calibration, 60 alts x 1,500 days, every method: seconds a market and of 200."""
    import polars as pl

    from majors_alts_pipeline.config import load_settings
    from majors_alts_pipeline.proofs.calibration import Plan, run_calibration

    plan = Plan(n_null=markets, n_planted=0)
    scratch = Scratch()
    try:
        began = time.perf_counter()
        measured = run_calibration(plan, load_settings(), scratch.root / "markets")
        wall = time.perf_counter() - began
    finally:
        scratch.close()
    seconds = measured.filter(measured["measure"] == "seconds")
    judged = seconds["subject"] == "statistics"
    # The median leaves out what each process imports and compiles for its first market.
    chain = statistics.median(seconds.filter(~judged).group_by("seed").agg(pl.col("value").sum())["value"].to_list())
    judging = statistics.median(seconds.filter(judged)["value"].to_list())
    cores = os.cpu_count() or 1
    total = 200 * chain / cores
    return [
        Row(
            f"(f) a null market through the chain, 60 x 1,500, {markets} measured", f"{chain:.2f} s CPU",
            f"{judging:.2f} s CPU (statistics of the calibration)", "", "", "",
        ),
        Row(
            f"(f) 200 such markets on {cores} cores, chain alone, scaled", f"{total:.0f} s", "", "", "300 s",
            _met(total <= 300),
        ),
        Row(
            f"(f) 200 such markets on {cores} cores with statistics and start, scaled",
            f"{wall / markets * 200:.0f} s", "", "", "", "",
        ),
    ]  # fmt: skip


def apart(part: Callable[[int], list[Row]], runs: int) -> list[Row]:
    """Run a part in a process of its own: what it imports would count as memory of every process started later."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(part, runs).result()


def _met(holds: bool) -> str:
    return "yes" if holds else "NO"


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "a": lambda args: whole_chain(300, 1100, None) + whole_chain(2640, 731, 12.0),
    "b": lambda args: increment(args.runs),
    "c": lambda args: apart(betas, args.runs),
    "d": lambda args: apart(simulation, args.runs),
    "e": lambda args: growth(
        [(300, 731), (600, 731), (1200, 731), (2400, 731), (600, 1462), (600, 2924)]
        + ([(5000, 3650)] if args.largest else [])
    ),
    "s": lambda args: apart(sweep, args.runs),
    "r": lambda _: history(),
    "f": lambda _: calibration(16),
}


def main() -> None:
    """Run the chosen parts and print one table."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--parts", default="abcdesrf", help="which of a, b, c, d, e, s, r, f")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each pair")
    parser.add_argument("--largest", action="store_true", help="also 5,000 x 3,650 in part e")
    args = parser.parse_args()
    table = Table(
        title="Simulated data where no row says otherwise; medians; this machine, one session", title_justify="left"
    )
    for column in ("what", "ours", "peer", "ratio", "target", "met"):
        table.add_column(column)
    for part in args.parts:
        print(f"measuring ({part}) ...", file=sys.stderr, flush=True)
        for row in PARTS[part](args):
            table.add_row(row.what, row.ours, row.peer, row.ratio, row.target, row.met)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
