"""The few commands that are not Dagster's: ``majors-alts --help``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import polars as pl

    from majors_alts_pipeline.config.paths import Paths

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Point-in-time research: when does long BTC/ETH against a short alt basket pay, after costs and funding?",
)

LakeOption = Annotated[str | None, typer.Option("--lake", help="directory of Parquet tables, DuckDB file or URL")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML merged over the defaults")]
OutOption = Annotated[Path | None, typer.Option("--out", help="directory of the results (default: artifacts/)")]
ArtifactsOption = Annotated[Path | None, typer.Option("--artifacts", "--out-dir", help="directory of the results")]
FromOption = Annotated[str | None, typer.Option("--from", help="first UTC day, YYYY-MM-DD")]
ToOption = Annotated[str | None, typer.Option("--to", help="last UTC day, YYYY-MM-DD")]


def _environment(lake: str | None = None, config: Path | None = None, out: Path | None = None) -> Paths:
    """Put the options where Dagster's processes look for them, and resolve all paths."""
    from majors_alts_pipeline.config.paths import Paths

    for variable, value in (
        ("MAJORS_ALTS_LAKE", lake),
        ("MAJORS_ALTS_CONFIG", config),
        ("MAJORS_ALTS_OUT", out),
    ):
        if value is not None:
            text = str(value)
            os.environ[variable] = text if "://" in text else str(Path(text).resolve())
    return Paths.from_env()


def _day(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day; write YYYY-MM-DD", param_hint=option) from None


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@contextmanager
def _status(message: str) -> Iterator[Any]:
    """One line on standard error that says what is going on; plain lines when it is not a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(message) as status:
            yield status.update
    else:
        _say(message)
        yield _say


_WIDTH = 160
_WHOLE = {"trial", "lake", "lineage", "newest lake", "registered", "last_day"}
"""Columns not folded where there is room: identifiers are copied and joined."""


def _print_table(title: str, frame: pl.DataFrame, decimals: int = 3) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    def shown(value: Any) -> str:
        if value is None:
            return "–"
        if not isinstance(value, float):
            return str(value)
        return f"{value:,.{decimals}f}" if value == 0 or abs(value) >= 1 else f"{value:.{decimals + 1}g}"

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, dtype in frame.schema.items():
        # A narrow terminal folds a cell; it must never cut a number.
        whole = name in _WHOLE and console.width >= _WIDTH
        table.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold", no_wrap=whole)
    for row in frame.iter_rows():
        table.add_row(*map(shown, row))
    console.print(table)


def _headline(kpis: pl.DataFrame) -> pl.DataFrame:
    """KPIs per account as a person reads them, units in the headings."""
    import polars as pl

    def cell(row: dict[str, Any], name: str, form: str, unit: str = "") -> str | None:
        return None if row[name] is None else format(row[name], form) + unit

    def interval(row: dict[str, Any]) -> str | None:
        if row["sharpe"] is None or row["sharpe_low"] is None:
            return cell(row, "sharpe", "+.2f")
        return f"{row['sharpe']:+.2f} [{row['sharpe_low']:+.2f}, {row['sharpe_high']:+.2f}]"

    return pl.DataFrame(
        [
            {
                "account": row["account"],
                "total": cell(row, "total_return", "+.1%"),
                "CAGR": cell(row, "cagr", "+.1%"),
                "vol /yr": cell(row, "volatility", ".1%"),
                "Sharpe [95 %]": interval(row),
                "max DD": cell(row, "max_drawdown", ".1%"),
                "invested": cell(row, "exposure_time", ".0%"),
                "turnover x NAV /yr": cell(row, "turnover_annual", ".1f"),
                "costs paid /yr": cell(row, "cost_annual", ".2%"),
                "funding received /yr": cell(row, "funding_annual", "+.2%"),
            }
            for row in kpis.iter_rows(named=True)
        ],
        infer_schema_length=None,
    )


def _print_report(index: Path, single: Path) -> None:
    print(f"report: {index}")
    print(f"the same in one file: {single}")


@app.command()
def run(
    lake: LakeOption = None,
    start: FromOption = None,
    end: ToOption = None,
    config: ConfigOption = None,
    out: OutOption = None,
) -> None:
    """The main job: the whole chain over the lake's history through Dagster, then the report."""
    paths = _environment(lake, config, out)
    from majors_alts_pipeline.main_job import run_history

    result = run_history(paths, _day(start, "--from"), _day(end, "--to"), _say)
    stamp = "SIMULATED data. " if result.simulated else ""
    _print_table(
        f"{stamp}Net of costs and funding, {result.first_trade} (first trade) to {result.window.end}, "
        f"lake {result.fingerprint}, study {result.study_id}",
        _headline(result.headline),
    )
    print(result.verdict)
    print(f"trial: {result.trial} (majors-alts study show, compare)")
    _print_report(result.index, result.report)


@app.command("check-lake")
def check_lake(
    lake: LakeOption = None,
    config: ConfigOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="write the findings to this Parquet file")] = None,
) -> None:
    """Data-quality verdict of a lake; exit status 1 when an ERROR was found."""
    paths = _environment(lake, config)
    from majors_alts_pipeline.lake.quality import check_lake as check
    from majors_alts_pipeline.lake.quality import findings_frame
    from majors_alts_pipeline.lake.reader import absent_tables
    from majors_alts_pipeline.orchestration.study import Study

    study = Study.open(paths, _say)
    source, settings = study.lake, study.settings
    with _status(f"checking {source.location}"):
        findings = check(source, settings)
    frame = findings_frame(findings)
    import polars as pl

    if out is not None:
        frame.write_parquet(out)
    summary = (
        frame.group_by("severity", "check", "table")
        .agg(pl.len().alias("rows shown"), pl.col("message").first().alias("first"))
        .sort("severity", "check", "table")
    )
    print(
        f"lake {source.location}{' (SIMULATED)' if source.simulated else ''}: {source.first_day()} to "
        f"{source.last_complete_day()}, fingerprint {source.fingerprint()}"
    )
    for sentence in absent_tables(source):
        print(f"absent: {sentence}")
    _print_table("Findings", summary)
    errors = frame.filter(pl.col("severity") == "ERROR").height
    verdict = f"NOT USABLE: {errors} ERROR finding(s) would block the chain" if errors else "usable: no ERROR finding"
    print(verdict)
    raise typer.Exit(1 if errors else 0)


@app.command("simulate-lake")
def simulate_lake(
    directory: Annotated[Path, typer.Argument(help="where to write it; replaced only if it is a simulated lake")],
    alts: Annotated[int, typer.Option(help="number of alts")] = 120,
    days: Annotated[int, typer.Option(help="number of days")] = 1100,
    seed: Annotated[int, typer.Option(help="seed; the same seed gives the same bytes")] = 7,
    effect: Annotated[float, typer.Option(help="planted regime effect, decimal per day; 0 = null market")] = 0.0,
) -> None:
    """Write a simulated lake with known truth (regimes, betas, deaths) beside it."""
    from majors_alts_pipeline.lake.simulate import SimulationSpec, simulate, write_lake

    with _status(f"simulating {alts} alts over {days} days"):
        market = simulate(SimulationSpec(n_alts=alts, n_days=days, seed=seed, regime_effect=effect))
        write_lake(market, directory)
    print(f"SIMULATED lake written to {directory} (truth in {directory / 'truth'})")


@app.command()
def prove(
    lake: Annotated[
        str | None, typer.Option("--lake", help="prove on this lake; without it, on simulated markets and lake")
    ] = None,
    config: ConfigOption = None,
    markets: Annotated[int, typer.Option(min=20, help="null markets to simulate")] = 200,
    days: Annotated[int | None, typer.Option(min=300, help="days of each simulated market (500; 1,500)")] = None,
    alts: Annotated[int | None, typer.Option(min=12, help="alts of each simulated market (30; 60)")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="write the table to this CSV file")] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="instead: size, coverage and power of every method and of selection")
    ] = False,
    planted: Annotated[int, typer.Option(min=0, help="markets of each planted effect, with --calibrate")] = 30,
    write_docs: Annotated[
        bool, typer.Option("--write-docs", help="renew docs/calibration.md and its image, with --calibrate")
    ] = False,
) -> None:
    """Run the truth machines and print what each measured; exit status 1 when one fails."""
    paths = _environment(lake, config)
    if calibrate:
        raise typer.Exit(_calibrate(paths, (markets, planted, alts or 60, days or 1500), out, write_docs))
    import polars as pl

    from majors_alts_pipeline.orchestration.study import Study
    from majors_alts_pipeline.proofs.suite import prove_lake, prove_markets

    with _status("truth machines") as update:
        study = Study.open(paths, _say)
        proofs = prove_lake(study.lake, study.settings, update)
        if lake is None:
            proofs += prove_markets(markets, alts or 30, days or 500, update)
    frame = pl.DataFrame([vars(proof) for proof in proofs]).with_columns(
        holds=pl.when("holds").then(pl.lit("yes")).otherwise(pl.lit("NO"))
    )
    if out is not None:
        frame.write_csv(out)
    _print_table("Truth machines", frame)
    failed = frame.filter(pl.col("holds") == "NO").height
    print("every claim holds" if not failed else f"{failed} claim(s) do NOT hold")
    raise typer.Exit(1 if failed else 0)


def _calibrate(paths: Paths, sizes: tuple[int, int, int, int], out: Path | None, write_docs: bool) -> int:
    """Measure (null markets, planted markets, alts, days), write table and plot; the exit status."""
    import polars as pl

    from majors_alts_pipeline.config import load_settings
    from majors_alts_pipeline.config.paths import REPOSITORY
    from majors_alts_pipeline.orchestration.study import code_version
    from majors_alts_pipeline.proofs.calibration import Plan
    from majors_alts_pipeline.proofs.suite import calibrate_markets

    n_null, n_planted, alts, days = sizes
    plan = Plan(n_null, n_planted, n_alts=alts, n_days=days)
    docs = REPOSITORY / "docs" if write_docs else None
    with _status("calibration") as update:
        result = calibrate_markets(
            plan, load_settings(paths.config), paths.artifacts / "calibration", code_version(), update, docs
        )
    if out is not None:
        result.table.write_csv(out)
    shown = result.table.filter((pl.col("verdict") != "") | (pl.col("group") == "power")).select(
        "group", "claim", "subject", "horizon_days", "effect_bp", "n_markets", "observed", "low", "high", "verdict"
    )
    _print_table(f"SIMULATED. Calibration, code {code_version()}", shown)
    print(f"table and plot: {result.directory}")
    print("every claim holds" if not result.failures else f"{result.failures} claim(s) do NOT hold")
    return 1 if result.failures else 0


@app.command()
def report(lake: LakeOption = None, config: ConfigOption = None, out: OutOption = None) -> None:
    """Rebuild the report from the stored results."""
    paths = _environment(lake, config, out)
    from majors_alts_pipeline.main_job import rebuild_report

    with _status("building the report"):
        built = rebuild_report(paths, _say)
    _print_report(built.index, built.html)


@app.command()
def signals(
    artifacts: ArtifactsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the JSON document instead of a table")] = False,
) -> None:
    """The decision of the last stored day: the backtest's own last rows."""
    paths = _environment(out=artifacts)
    path = paths.artifacts / "signals.json"
    if not path.exists():
        raise SystemExit(f"{path} does not exist; run `majors-alts run` first")
    document = json.loads(path.read_text())
    if as_json:
        print(json.dumps(document, indent=2))
        return
    import polars as pl

    stamp = "SIMULATED. " if document["simulated"] else ""
    title = (
        f"{stamp}Decision at the close of {document['date']} UTC: {document['regime']}; to be traded at the close of "
        f"{document['execute_on']}; weights in fractions of NAV, orders in USD; study {document['study_id']}"
    )
    if document["decisions"]:
        _print_table(title, pl.DataFrame(document["decisions"], infer_schema_length=None))
        if not document["trades"]:
            print("no orders: the book is left to drift")
    else:
        print(f"{title}\nflat: no position is held and none is asked for")
    if document["data_age_days"] > 1:
        print(f"the data are {document['data_age_days']} days old")


@app.command()
def read(
    table: Annotated[str | None, typer.Argument(help="name of a table")] = None,
    artifacts: ArtifactsOption = None,
    start: FromOption = None,
    end: ToOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="write to .parquet, .csv or .json")] = None,
    listing: Annotated[bool, typer.Option("--list", help="show every table with columns and units")] = False,
) -> None:
    """Any table's rows, to the screen or a file."""
    import polars as pl

    from majors_alts_pipeline import access

    if listing:
        marked = access.table_columns().with_columns(key=pl.when("key").then(pl.lit("key")).otherwise(pl.lit("")))
        for (name,), columns in marked.group_by("table", maintain_order=True):
            _print_table(str(name), columns.drop("table"))
        return
    if table is None:
        raise SystemExit("name a table, or ask for --list")
    paths = _environment(out=artifacts)
    frame = access.read(table, _day(start, "--from"), _day(end, "--to"), artifacts=paths.artifacts)
    if out is None:
        with pl.Config(tbl_rows=40, tbl_cols=-1, tbl_width_chars=200):
            print(frame.collect())
        return
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    if out.suffix == ".parquet":
        frame.sink_parquet(temporary)
    elif out.suffix == ".csv":
        frame.sink_csv(temporary)
    elif out.suffix == ".json":
        frame.collect().write_json(temporary)
    else:
        raise SystemExit(f"{out}: the ending must be .parquet, .csv or .json")
    temporary.replace(out)
    print(out)


_NAME_OF_TRIAL = "a trial, or the study or configuration of a run, or how it begins"

study_app = typer.Typer(no_args_is_help=True, help="Every configuration ever evaluated: try one, list, compare, show.")
app.add_typer(study_app, name="study")


def _records(artifacts: Path | None) -> tuple[Paths, pl.DataFrame]:
    """Where the results are, and every trial registered there."""
    from majors_alts_pipeline.evidence.registry import Registry

    paths = _environment(out=artifacts)
    registry = Registry(paths.artifacts / "registry")
    records = registry.read()
    if records.is_empty():
        raise SystemExit(f"no trial is registered under {registry.root}; `majors-alts run` registers the first")
    return paths, records


def _assignments(texts: list[str] | None, option: str) -> dict[str, Any]:
    """Dotted keys and values of ``key=value`` arguments, values read as YAML."""
    import yaml

    found = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r}: write key=value", param_hint=option)
        found[key.strip()] = yaml.safe_load(value)
    return found


@study_app.command("run")
def study_run(
    lake: LakeOption = None,
    config: ConfigOption = None,
    out: OutOption = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="setting to change, e.g. --set basket.n_alts=12; repeatable")
    ] = None,
) -> None:
    """Evaluate a configuration in memory and register it; stored results stay as they are."""
    paths = _environment(lake, config, out)
    from majors_alts_pipeline.orchestration.studies import evaluate
    from majors_alts_pipeline.orchestration.study import Study

    overrides = _assignments(change, "--set")
    study = Study.open(paths, _say)
    with _status("evaluating") as update:
        found = evaluate(study, overrides, datetime.now(UTC), update)
    stamp = "SIMULATED data. " if study.lake.simulated else ""
    _print_table(
        f"{stamp}Trial {found.trial}, net of costs and funding, to {study.history.end}, lake {study.lake_fingerprint}; "
        "registered, nothing stored was replaced",
        found.kpis.select("account", "sharpe", "cagr", "volatility", "max_drawdown", "turnover_annual", "cost_annual"),
    )
    print(
        f"{found.n_evaluated} configurations evaluated (this one and its candidates), {found.n_new} of them new; "
        f"{found.n_trials} are registered on this lake"
    )


@study_app.command("sweep")
def study_sweep(
    lake: LakeOption = None,
    config: ConfigOption = None,
    out: OutOption = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            help="key and values, e.g. --vary basket.n_alts=[12,20], beside which the configured value of the key is "
            "always tried; repeatable: every combination; default: sweep_grid",
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="write the table of variants to this Parquet file")
    ] = None,
) -> None:
    """Evaluate every variant of a grid of settings in one pass and register all of them; nothing stored is replaced."""
    paths = _environment(lake, config, out)
    import polars as pl

    from majors_alts_pipeline.evidence.sweep import OTHER_METHOD, exchanged
    from majors_alts_pipeline.evidence.trials import AS_CONFIGURED
    from majors_alts_pipeline.orchestration.studies import sweep_study
    from majors_alts_pipeline.orchestration.study import Study

    study = Study.open(paths, _say)
    grid = _assignments(vary, "--vary") or dict(study.settings.evaluation.sweep_grid)
    for key, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise typer.BadParameter(f"{key}: write a list of values, as {key}=[1,2]", param_hint="--vary")
    began = time.perf_counter()
    with _status("sweep") as update:
        result = sweep_study(study, grid, datetime.now(UTC), update)
    frame = result.frame
    if save is not None:
        frame.write_parquet(save)
    if not frame.is_empty():
        configured = OTHER_METHOD if exchanged(study.settings) else AS_CONFIGURED
        ranked = frame.sort("sharpe", descending=True, nulls_last=True).with_row_index("rank", offset=1)
        places = {0, 1, 2, ranked.height // 2, ranked.height - 1, int((ranked["variant"] == 0).arg_max() or 0)}
        shown = ranked[sorted(place for place in places if place < ranked.height)].with_columns(
            overrides=pl.when(pl.col("variant") == 0).then(pl.lit(configured)).otherwise("overrides")
        )
        stamp = "SIMULATED data. " if study.lake.simulated else ""
        _print_table(
            f"{stamp}Best three, median, worst and {configured} of {frame.height} variants by net Sharpe ratio, "
            f"{frame['n_days'][0]} days to {result.days[-1]}, lake {study.lake_fingerprint}",
            shown.select(
                "rank", "trial", "overrides", "sharpe", "cagr", "max_drawdown", "cost_annual", "exposure_time"
            ),
        )
        above = frame.filter(pl.col("sharpe") > 0).height
        print(
            f"{above} of {frame.height} variants have a Sharpe ratio above 0; the best of many is best partly by luck"
        )
    for failure in result.failures:
        print(f"failed: {json.dumps(failure.overrides)}: {failure.error}")
    tried = frame.height + len(result.failures)
    print(f"{tried} trials registered, {len(result.failures)} of them failures; {time.perf_counter() - began:.1f} s")


@study_app.command("list")
def study_list(
    artifacts: ArtifactsOption = None,
    every: Annotated[bool, typer.Option("--all", help="candidates, sweeps and robustness cases too")] = False,
) -> None:
    """The trials: what was tried on which lake, and how it fared (Sharpe and rates per year, drawdown decimal)."""
    from majors_alts_pipeline.evidence.compare import lineages, listing

    _, records = _records(artifacts)
    import polars as pl

    marked = pl.when("simulated").then(pl.lit("SIMULATED")).otherwise(pl.lit("real")).alias("data")
    rows = listing(records, every).with_columns(marked, pl.col("time").dt.strftime("%Y-%m-%d %H:%M"))
    _print_table(
        "Trials (times UTC; Sharpe, CAGR and costs per year, net)",
        rows.select(
            pl.col("time").alias("registered"), "trial", "kind", "label", "account", "data", "lake", "lineage",
            "last_day", "sharpe", "cagr", "max_drawdown", "cost_annual", "status",
        ),
    )  # fmt: skip
    for error in rows.filter(pl.col("error") != "").select("trial", "error").iter_rows():
        print(f"failed: {error[0]}: {error[1]}")
    minutes = pl.col(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%d %H:%M")
    _print_table("Lakes", lineages(records).with_columns(marked, minutes).drop("simulated"))


@study_app.command("compare")
def study_compare(
    a: Annotated[str, typer.Argument(help=_NAME_OF_TRIAL)],
    b: Annotated[str, typer.Argument(help="the other trial")],
    artifacts: ArtifactsOption = None,
    account: Annotated[str, typer.Option(help="regime or always_on")] = "regime",
    config: ConfigOption = None,
) -> None:
    """Two trials beside each other: metrics, settings that differ, and whether the Sharpe ratios do."""
    from majors_alts_pipeline.config import load_settings
    from majors_alts_pipeline.evidence.compare import compare

    _, records = _records(artifacts)
    rules = load_settings(config).evaluation
    found = compare(
        records, a, b, account, reps=rules.bootstrap_reps, confidence=rules.confidence, seed=rules.seed
    )  # fmt: skip
    _print_table(f"Account {account}: A = {a}, B = {b} (rates per year, decimal)", found.metrics)
    _print_table("Settings that differ", found.settings)
    gap = found.sharpe
    if gap is None:
        print(f"no paired comparison: {found.words}")
        return
    values = (
        f"Sharpe ratio over the {gap.n_days} days both have: A {gap.sharpe_a:+.2f}, B {gap.sharpe_b:+.2f}, A - B "
        f"{gap.value:+.2f}"
    )
    if gap.no_interval:
        print(f"{values}\nno interval: {gap.no_interval}")
        return
    print(f"{values} [{rules.confidence:.0%} interval {gap.low:+.2f} to {gap.high:+.2f}, paired stationary bootstrap]")
    inside = gap.low <= 0.0 <= gap.high
    print("not distinguishable" if inside else "distinguishable, before counting how many pairs were compared")


@study_app.command("show")
def study_show(
    trial: Annotated[str, typer.Argument(help=_NAME_OF_TRIAL)],
    artifacts: ArtifactsOption = None,
) -> None:
    """Everything that is registered about one trial, newest record first, as JSON."""
    from majors_alts_pipeline.evidence.compare import find

    _, records = _records(artifacts)
    for row in find(records, trial).iter_rows(named=True):
        kept = len(row.pop("returns") or [])
        row["settings"] = json.loads(row["settings"])
        print(json.dumps({**row, "returns kept (days)": kept}, indent=2, default=str))


@app.command("last-day")
def last_day(lake: LakeOption = None, config: ConfigOption = None) -> None:
    """The last complete day of the lake (what env.sh makes the default partition)."""
    paths = _environment(lake, config)
    from majors_alts_pipeline.orchestration.study import Study

    print(Study.open(paths, _say).history.end)


@app.command()
def prune(keep: Annotated[int, typer.Option(min=1, help="runs whose event logs are kept")] = 20) -> None:
    """Delete Dagster's event logs of all but the newest runs; results are not touched."""
    _environment()
    from majors_alts_pipeline.main_job import prune_runs

    print(f"deleted the logs of {prune_runs(keep)} runs")


def main() -> None:
    """Entry point: bad input ends in one clear line, not a traceback."""
    from majors_alts_pipeline.config import ConfigError

    expected: tuple[type[BaseException], ...] = (ConfigError, FileNotFoundError, FileExistsError, KeyError)
    try:
        app()
    except expected as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise SystemExit(f"error: {text}") from None
    except ValueError as error:
        # Lake, contract and storage errors are ValueErrors of ours; any other ValueError is a bug to be seen whole.
        if not type(error).__module__.startswith("majors_alts_pipeline"):
            raise
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
