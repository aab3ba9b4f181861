"""Bad input and bad days, end to end: one clear error, every earlier result intact, and no traceback.

A small simulated lake is run once (`baseline`); each case spoils a copy of the lake, or of the machine, runs the
main job on a copy of the baseline's results and compares hashes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from majors_alts_pipeline.config import ConfigError
from majors_alts_pipeline.config.paths import REPOSITORY, Paths
from majors_alts_pipeline.evidence.registry import Registry, count_trials
from majors_alts_pipeline.lake.contracts import LakeError
from majors_alts_pipeline.lake.simulate import SimulationSpec, simulate, write_lake
from majors_alts_pipeline.main_job import HistoryRun, LakeRefusedError, RunFailedError, run_history
from majors_alts_pipeline.orchestration import storage
from majors_alts_pipeline.orchestration.storage import MixedStudyError
from majors_alts_pipeline.orchestration.study import Study
from majors_alts_pipeline.tables import TABLES

START, DAYS, ALT = date(2022, 1, 1), 160, "ALT0003"
DAY = START + timedelta(days=50)
CONFIG = """
universe: {min_age_days: 20, min_adv_usd: 1.0, adv_window_days: 20, adv_min_obs: 10, min_marketcap_usd: 1.0,
  detector_window_days: 30, detector_min_obs: 20}
features: {z_window_days: 40, z_min_obs: 20, min_assets: 3}
betas: {window_days: 30, min_obs: 15, vasicek_min_assets: 4}
basket: {n_alts: 6, min_alts: 3, alt_weight_max: 0.2, adv_share_max: 1.0, turnover_max: 2.0}
regime: {min_train_days: 60}
costs: {spread_window_days: 20, spread_min_obs: 10, impact_vol_window_days: 10}
backtest: {vol_window_days: 20, vol_min_obs: 10, random_paths: 2, alt_index_n: 5}
evaluation: {bootstrap_reps: 100, rolling_window_days: 20, skip: [robustness, capacity, sweep]}
"""

Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class World:
    """Paths of one run; DAGSTER_HOME lies beside them."""

    paths: Paths
    home: Path

    @property
    def lake(self) -> Path:
        assert self.paths.lake is not None
        return Path(self.paths.lake)

    def run(self) -> tuple[HistoryRun, list[str]]:
        said: list[str] = []
        return run_history(self.paths, None, None, said.append), said

    def results(self) -> dict[str, str]:
        """Relative path to hash of every result that can be rebuilt; the study registry only ever grows."""
        every = hashes(self.paths.artifacts)
        return {name: digest for name, digest in every.items() if not name.startswith("registry/")}

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DAGSTER_HOME": str(self.home),
            "MAJORS_ALTS_CACHE": str(self.paths.cache),
            "POLARS_MAX_THREADS": "1",
            "COLUMNS": "200",
        }

    def command(self, *arguments: str, config: Path | None = None) -> list[str]:
        return [
            sys.executable, "-m", "majors_alts_pipeline.cli", *(arguments or ("run",)), "--lake", str(self.lake),
            "--config", str(config or self.paths.config), "--out", str(self.paths.artifacts),
        ]  # fmt: skip

    def cli(self, *arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, config=config),
            env=self.environment(), capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_world(root: Path, lake: Path, results: Path | None = None) -> World:
    root.mkdir(parents=True, exist_ok=True)
    (root / "home").mkdir()
    shutil.copy(REPOSITORY / "dagster_home" / "dagster.yaml", root / "home")
    shutil.copytree(lake, root / "lake")
    (root / "tiny.yaml").write_text(CONFIG)
    if results is not None:
        shutil.copytree(results, root / "out")
    paths = Paths(str(root / "lake"), root / "tiny.yaml", root / "out", root / "cache")
    return World(paths, root / "home")


@pytest.fixture(scope="module")
def clean_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_days") / "lake"
    spec = SimulationSpec(n_alts=14, n_days=DAYS, seed=3, listed_at_start=1.0, listing_spread=0.0, death_rate=0.0)
    write_lake(simulate(spec), folder)
    return folder


@pytest.fixture(scope="module")
def baseline(clean_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("baseline") / "world", clean_lake)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(world.home))
        world.run()
    return world


@pytest.fixture
def world(baseline: World, clean_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the baseline: its lake, and its results as the earlier ones."""
    made = make_world(tmp_path / "world", clean_lake, baseline.paths.artifacts)
    # One home for the in-process runs: making its database costs more than a failing run.
    monkeypatch.setenv("DAGSTER_HOME", str(baseline.home))
    return made


@pytest.fixture
def fresh(baseline: World, clean_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The lake without any earlier result."""
    made = make_world(tmp_path / "fresh", clean_lake)
    monkeypatch.setenv("DAGSTER_HOME", str(baseline.home))
    return made


# ---- spoiling a lake ------------------------------------------------------------------------------------------


def rewritten(table: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Spoil:
    def spoil(lake: Path) -> None:
        path = lake / f"{table}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    return spoil


def cell(asset: str = ALT) -> pl.Expr:
    return (pl.col("asset_id") == asset) & (pl.col("date") == DAY)


def with_value(table: str, column: str, value: object) -> Spoil:
    return rewritten(
        table, lambda frame: frame.with_columns(pl.when(cell()).then(pl.lit(value)).otherwise(column).alias(column))
    )


def with_row_again(table: str, **values: object) -> Spoil:
    return rewritten(
        table,
        lambda frame: pl.concat(
            [frame, frame.filter(cell()).with_columns(pl.lit(v).alias(k) for k, v in values.items())]
        ),
    )


def text_among_numbers(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(close=pl.when(cell()).then(pl.lit("n/a")).otherwise(pl.col("close").cast(pl.String)))


def in_tokyo(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("Asia/Tokyo"))


def in_another_unit(frame: pl.DataFrame) -> pl.DataFrame:
    since = (pl.col("asset_id") == ALT) & (pl.col("date") > DAY)
    return frame.with_columns(close=pl.when(since).then(pl.col("close") * 1000).otherwise("close"))


def in_percent(frame: pl.DataFrame) -> pl.DataFrame:
    broken = pl.col("date").is_between(DAY, DAY + timedelta(days=2))
    rate = pl.col("funding_rate")
    return frame.with_columns(funding_rate=pl.when(broken).then(rate * 100).otherwise(rate))


def renamed_to(name: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    later = (pl.col("asset_id") == ALT) & (pl.col("date") > DAY)
    return lambda frame: frame.with_columns(asset_id=pl.when(later).then(pl.lit(name)).otherwise("asset_id"))


def truncated(lake: Path) -> None:
    path = lake / "fact_price.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(lake: Path) -> None:
    path = lake / "fact_volume.parquet"
    held = bytearray(path.read_bytes())
    held[100:2000] = bytes(range(256)) * 7 + bytes(108)
    path.write_bytes(bytes(held))


def without(*tables: str) -> Spoil:
    def spoil(lake: Path) -> None:
        for table in tables:
            (lake / f"{table}.parquet").unlink()

    return spoil


def only(*assets: str) -> Spoil:
    return rewritten("fact_price", lambda frame: frame.filter(pl.col("asset_id").is_in(assets)))


REFUSED: dict[str, tuple[Spoil, type[Exception], tuple[str, ...]]] = {
    "missing table": (without("fact_price"), LakeError, ("fact_price", "not found", "lake.tables")),
    "missing column": (
        rewritten("fact_price", lambda frame: frame.drop("close")),
        LakeError, ("fact_price", "'close'", "lake.columns"),
    ),
    "dates as text": (
        rewritten("fact_volume", lambda frame: frame.with_columns(pl.col("date").cast(pl.String))),
        LakeError, ("fact_volume.date", "VARCHAR", "wants a date", str(START), "Fix the type"),
    ),
    "empty table": (rewritten("fact_price", pl.DataFrame.clear), LakeError, ("fact_price", "is empty", "must hold")),
    "truncated file": (truncated, LakeError, ("fact_price.parquet", "truncated", "restore")),
    "corrupt file": (garbled, LakeError, ("fact_volume.parquet", "corrupt", "restore")),
    "not Parquet at all": (
        lambda lake: (lake / "fact_price.parquet").write_text("date,close") and None,
        LakeError, ("fact_price.parquet", "corrupt", "regenerate"),
    ),
    "text in numbers": (
        rewritten("fact_price", text_among_numbers), LakeError,
        ("fact_price.close", "'n/a'", ALT, str(DAY), "Fix the type"),
    ),
    "infinite price": (
        with_value("fact_price", "close", float("inf")), LakeRefusedError,
        ("bad_values", "fact_price.close", "inf", ALT, str(DAY), "fix or remove"),
    ),
    "volume not a number": (
        with_value("fact_volume", "volume", float("nan")), LakeRefusedError,
        ("bad_values", "fact_volume.volume", "nan", ALT, str(DAY), "fix or remove"),
    ),
    "negative price": (
        with_value("fact_price", "close", -1.0), LakeRefusedError, ("fact_price.close", "-1.0", ALT, str(DAY)),
    ),
    "duplicate key": (
        with_row_again("fact_price"), LakeRefusedError,
        ("duplicate_keys", "fact_price", "2 rows", ALT, str(DAY), "keep one"),
    ),
    "two names of one asset on a day": (
        with_row_again("fact_price", asset_id=f"{ALT}-PERP"), LakeRefusedError,
        ("duplicate_keys", f"{ALT}, {ALT}-PERP", str(DAY), "keep one"),
    ),
    "an asset listed twice": (
        rewritten("dim_asset", lambda frame: pl.concat([frame, frame.filter(pl.col("asset_id") == ALT)])),
        LakeRefusedError, ("duplicate_keys", "dim_asset", ALT, "keep one"),
    ),
    "no asset id": (
        with_value("fact_price", "asset_id", None), LakeError, ("fact_price.asset_id", str(DAY), "fill or remove"),
    ),
    "timestamps with a time zone": (
        rewritten("fact_price", in_tokyo), LakeError,
        ("fact_price.date", "time zone", "2021-12-31 15:00", "Convert to UTC"),
    ),
    "a fact in the future": (
        with_row_again("fact_volume", date=START + timedelta(days=DAYS + 40)), LakeRefusedError,
        ("future_dates", "fact_volume", ALT, str(START + timedelta(days=DAYS + 40)), "remove it or correct"),
    ),
    "a price in the far future": (
        with_row_again("fact_price", date=date(2099, 1, 1)), LakeRefusedError,
        ("future_dates", "fact_price", ALT, "2099-01-01", "remove it or correct"),
    ),
    "redenominated": (
        rewritten("fact_price", in_another_unit), LakeRefusedError,
        ("redenomination", "fact_price", ALT, str(DAY + timedelta(days=1)), "factor 10", "split the series"),
    ),
    "BTC missing on a day": (
        rewritten("fact_price", lambda frame: frame.filter(~cell("BTC"))), RunFailedError,
        ("panel: fact_price", "major BTC", str(DAY), "add it to the lake"),
    ),
    "ETH missing altogether": (
        rewritten("fact_price", lambda frame: frame.filter(pl.col("asset_id") != "ETH")),
        LakeError, ("fact_price", "ETH", "majors must have prices", "lake.majors"),
    ),
    "funding in percent": (
        rewritten("fact_funding", in_percent), LakeRefusedError,
        ("funding_units", "fact_funding", str(DAY), "percent", "rate 0.0", 'lake.funding_on_unit_break to "rescale"'),
    ),
    "bars stamped a day early": (
        rewritten("fact_ohlc", lambda frame: frame.with_columns(pl.col("date") - pl.duration(days=1))),
        LakeRefusedError, ("shifted_clock", "fact_ohlc", "a day early", "2022-01", "restamp"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_lake_is_one_clear_error_and_changes_nothing(world: World, case: str) -> None:
    spoil, error, words = REFUSED[case]
    spoil(world.lake)
    spoilt, before = hashes(world.lake), world.results()
    with pytest.raises(error) as raised:
        world.run()
    message = str(raised.value)
    for word in words:
        assert word in message
    assert "Traceback" not in message
    assert "majors_alts_pipeline." not in message
    assert len(message.splitlines()) <= 14
    assert world.results() == before
    assert hashes(world.lake) == spoilt


@pytest.mark.parametrize("case", ["missing column", "infinite price", "BTC missing on a day"])
def test_the_command_ends_without_a_traceback(world: World, case: str) -> None:
    spoil, _, words = REFUSED[case]
    spoil(world.lake)
    before = world.results()
    done = world.cli()
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Not executing" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for word in words:
        assert word in done.stderr[done.stderr.index("error: ") :]
    assert world.results() == before


def test_a_run_that_fails_is_registered_as_a_failure(world: World) -> None:
    spoil, _, words = REFUSED["BTC missing on a day"]
    spoil(world.lake)
    registry = Registry(world.paths.artifacts / "registry")
    before = registry.read()
    with pytest.raises(RunFailedError):
        world.run()
    added = registry.read()[before.height :]
    assert added.select("kind", "status").rows() == [("run", "failed")]
    assert all(word in added["error"][0] for word in words if word != "error: ")
    assert count_trials(registry.read(), added["lineage"][0]) == count_trials(before, added["lineage"][0])


# ---- configurations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("betas: {window_dayz: 30}", ("betas.window_dayz", "unknown key", "spelling")),
        ("lake: {betas: {window_days: 30}}", ("lake.betas", "misplaced", "the top level (betas:)")),
        ("window_days: 30", ("window_days", "misplaced", "betas.window_days")),
        ("costs: {maker_share: 1.5}", ("costs.maker_share", "less than or equal to 1")),
        ("regime: {enter: 9.0}", ("regime.enter", "never fires")),
        ("betas: {min_obs: 500}", ("min_obs 500", "no beta could ever exist")),
        ("betas: [1", ("broken.yaml",)),
    ],
)
def test_a_bad_configuration_is_named_before_anything_runs(world: World, text: str, words: tuple[str, ...]) -> None:
    config = world.paths.artifacts.parent / "broken.yaml"
    config.write_text(text)
    before = world.results()
    with pytest.raises(ConfigError) as raised:
        run_history(replace(world.paths, config=config), None, None, print)
    for word in words:
        assert word in str(raised.value)
    assert world.results() == before


# ---- lakes that lack much but run -----------------------------------------------------------------------------


def test_an_asset_that_changes_its_suffix_is_the_same_asset(world: World) -> None:
    before = hashes(world.paths.artifacts / "tables")
    rewritten("fact_price", renamed_to(f"{ALT}-PERP"))(world.lake)
    world.run()
    assert hashes(world.paths.artifacts / "tables") == before


def test_an_asset_that_changes_its_name_is_reported(fresh: World) -> None:
    for table in ("fact_price", "fact_ohlc", "fact_volume", "fact_funding", "fact_funding_daily_sum"):
        rewritten(table, renamed_to("NEWCOIN"))(fresh.lake)
    _, said = fresh.run()
    (line,) = [line for line in said if "renamed" in line]
    for word in ("WARN", "fact_price", ALT, str(DAY), "NEWCOIN", "join the series"):
        assert word in line


@pytest.mark.parametrize(
    "spoil",
    [
        without("fact_funding", "fact_funding_daily_sum"),
        lambda lake: [
            rewritten(t, lambda frame: frame.with_columns(funding_rate=pl.lit(None, pl.Float64)))(lake)
            for t in ("fact_funding", "fact_funding_daily_sum")
        ] and None,
    ],
    ids=["absent", "all null"],
)  # fmt: skip
def test_without_funding_it_runs_and_says_what_it_lost(fresh: World, spoil: Spoil) -> None:
    spoil(fresh.lake)
    result, said = fresh.run()
    lost = " ".join(line for line in said if line.startswith("LOST"))
    assert "no funding print" in lost
    assert "true daily funding is unknown" in lost
    page = result.report.read_text()
    assert "no funding print" in page
    assert "stand-in" in page
    accounts = pl.read_parquet(fresh.paths.artifacts / "tables" / "backtest" / "*.parquet")
    assert accounts["pnl_funding"].null_count() == 0
    assert accounts.filter(pl.col("account") == "always_on")["gross_exposure"].max() > 0  # type: ignore[operator]


@pytest.mark.parametrize("alts", [(), (ALT,)], ids=["no alt", "one alt"])
def test_too_few_alts_end_in_one_clear_error_with_the_tables_kept(fresh: World, alts: tuple[str, ...]) -> None:
    only("BTC", "ETH", *alts)(fresh.lake)
    with pytest.raises(RunFailedError) as raised:
        fresh.run()
    message = str(raised.value)
    for word in ("report: no account traded", f"{len(alts)} eligible alts", "basket.min_alts is 3", "table universe"):
        assert word in message
    for table in TABLES:
        assert len(list((fresh.paths.artifacts / "tables" / table).glob("*.parquet"))) == DAYS
    reasons = pl.read_parquet(fresh.paths.artifacts / "tables" / "universe" / "*.parquet")
    assert set(reasons["asset_id"]) == {"BTC", "ETH", *alts}
    basket = pl.read_parquet(fresh.paths.artifacts / "tables" / "basket" / "*.parquet")
    assert (basket["weight"] == 0).all()


def test_percent_rows_are_rescaled_when_the_settings_say_so(world: World, fresh: World) -> None:
    rewritten("fact_funding", in_percent)(fresh.lake)
    assert fresh.paths.config is not None
    fresh.paths.config.write_text(CONFIG + "lake: {funding_on_unit_break: rescale}\n")
    _, said = fresh.run()
    (line,) = [line for line in said if "funding_units" in line]
    rows = pl.read_parquet(fresh.paths.artifacts / "report" / "tables" / "findings.parquet")
    rescaled = rows.filter(pl.col("check") == "funding_units")
    assert set(rescaled["severity"]) == {"WARN"}
    assert "divided by 100" in line
    assert f"(and {rescaled.height - 1} more such findings)" in line
    panel = pl.read_parquet(fresh.paths.artifacts / "tables" / "panel" / "*.parquet")
    assert panel.filter(pl.col("funding_kind").str.ends_with("_rescaled")).height == rescaled.height
    key = ["date", "asset_id"]
    clean = pl.read_parquet(world.paths.artifacts / "tables" / "panel" / "*.parquet").select(*key, own="funding_rate")
    both = panel.join(clean, on=key, how="inner").filter(pl.col("funding_kind").str.ends_with("_rescaled"))
    assert (both["funding_rate"] / both["own"] - 1).abs().max() < 1e-12  # type: ignore[operator]


# ---- checks through Dagster itself ----------------------------------------------------------------------------


def test_a_quality_error_blocks_everything_downstream_of_the_panel(fresh: World) -> None:
    """Dagster's own commands have no look ahead: the panel is written, its check fails, nothing follows."""
    with_row_again("fact_volume", date=START + timedelta(days=DAYS + 40))(fresh.lake)
    environment = fresh.environment() | {
        "MAJORS_ALTS_LAKE": str(fresh.lake),
        "MAJORS_ALTS_CONFIG": str(fresh.paths.config),
        "MAJORS_ALTS_OUT": str(fresh.paths.artifacts),
    }
    script = (
        "import dagster as dg; from majors_alts_pipeline.definitions import defs; "
        "job = defs.resolve_implicit_global_asset_job_def(); "
        f"result = job.execute_in_process(partition_key='{DAY}', raise_on_error=False); "
        "found = [e for e in result.get_asset_check_evaluations() if not e.passed and e.blocking]; "
        "print(result.success, [(e.check_name, e.description) for e in found])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.startswith("False [('future_dates', ")
    for word in ("fact_volume", ALT, str(START + timedelta(days=DAYS + 40)), "remove it or correct"):
        assert word in done.stdout
    assert {path.name for path in (fresh.paths.artifacts / "tables").iterdir()} == {"panel"}


# ---- machines -------------------------------------------------------------------------------------------------


def test_a_lake_that_changes_under_a_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from majors_alts_pipeline.betas import stage

    before, compute = world.results(), stage.compute

    def slow(*arguments: object) -> dict[str, pl.DataFrame]:
        with_value("fact_volume", "volume", 1.0)(world.lake)
        return compute(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "compute", slow)
    with pytest.raises(RunFailedError) as raised:
        world.run()
    for word in (str(world.lake), "changed while betas was computed", "will not be mixed", "run the same days again"):
        assert word in str(raised.value)
    assert world.results() == before


def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before, replace_day = world.results(), storage._replace

    def full(folder: Path, day: date, *arguments: object) -> object:
        if folder.name == "basket" and day == DAY:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace_day(folder, day, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "_replace", full)
    with pytest.raises(RunFailedError) as raised:
        world.run()
    for word in (f"basket {DAY}", "No space left", "free some space", "run again", "intact"):
        assert word in str(raised.value)
    assert world.results() == before


def mounted(folder: Path, options: str) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_really_full_disk(fresh: World) -> None:
    if os.geteuid() != 0 or not mounted(fresh.paths.artifacts, "size=1m"):
        pytest.skip("no tmpfs can be mounted here")
    try:
        done = fresh.cli()
        held = sorted(fresh.paths.artifacts.rglob("*"))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "the disk is full; free some space" in done.stderr
        assert [path for path in held if path.suffix == ".tmp"] == []
        for path in (path for path in held if path.suffix == ".parquet"):
            pl.read_parquet(path)
    finally:
        subprocess.run(["umount", str(fresh.paths.artifacts)], check=True)


@pytest.mark.slow
def test_a_read_only_output_directory(world: World) -> None:
    out = world.paths.artifacts
    if os.geteuid() != 0 or not mounted(out.with_name("read_only"), "size=64m"):
        pytest.skip("no tmpfs can be mounted here")
    held = out.with_name("read_only")
    try:
        shutil.copytree(out, held, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(held)], check=True)
        before = hashes(held)
        locked = World(replace(world.paths, artifacts=held), world.home)
        done = locked.cli()
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        error = done.stderr[done.stderr.index("error: ") :]
        for word in ("panel", str(held), "read-only", "MAJORS_ALTS_OUT (--out)"):
            assert word in error
        assert hashes(held) == before
    finally:
        subprocess.run(["umount", str(held)], check=True)


def comparable(world: World) -> dict[str, str]:
    """Results that may not depend on where and when a run was: every daily file."""
    return hashes(world.paths.artifacts / "tables")


@pytest.mark.slow
def test_a_killed_run_heals(baseline: World, fresh: World) -> None:
    process = subprocess.Popen(
        fresh.command(), env=fresh.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    betas = fresh.paths.artifacts / "tables" / "betas"
    deadline = time.monotonic() + 60
    while not (betas.exists() and any(betas.glob("*.parquet"))):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    expected, left = comparable(baseline), comparable(fresh)
    whole = {name: digest for name, digest in left.items() if name.endswith(".parquet")}
    assert whole
    assert len(whole) < len(expected)
    assert whole.items() <= expected.items()
    done = fresh.cli()
    assert done.returncode == 0, done.stderr
    assert comparable(fresh) == expected


@pytest.mark.slow
def test_two_runs_at_once(baseline: World, fresh: World) -> None:
    running = [
        subprocess.Popen(
            fresh.command(), env=fresh.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=180), process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0], ended
    assert comparable(fresh) == comparable(baseline)
    document = json.loads((fresh.paths.artifacts / "signals.json").read_text())
    assert document["date"] == str(START + timedelta(days=DAYS - 1))
    assert (fresh.paths.artifacts / "report" / "report.html").stat().st_size > 100_000


def test_part_of_a_history_under_another_configuration_is_refused_untouched(world: World) -> None:
    before = world.results()
    world.paths.config.write_text(CONFIG.replace("costs: {", "costs: {taker_fee: 0.002, "))
    with pytest.raises(MixedStudyError, match=r"(trackers|backtest).*another configuration.*majors-alts run"):
        run_history(world.paths, DAY, None, lambda _: None)
    assert world.results() == before


def test_the_printed_remedy_heals_a_mixture(world: World) -> None:
    world.paths.config.write_text(CONFIG.replace("costs: {", "costs: {taker_fee: 0.002, "))
    result, _ = world.run()
    assert result.report.exists()
    study = Study.open(world.paths, lambda _: None)
    for table in TABLES:
        assert study.store.check_consistent(table, study.history, study.stamps(table, study.history)) == []
