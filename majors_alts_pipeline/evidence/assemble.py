"""Every evidence table of one study, from what is stored: computed, judged, and kept as files.

    <root>/evidence/<table>.parquet, manifest.json

The trials are registered before anything is judged by their number, so that the run itself counts.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, date_array
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation.contracts import EVIDENCE, HINDSIGHT, SELECTION
from majors_alts_pipeline.evaluation.inference import (
    DAYS_PER_YEAR,
    MIN_BOOTSTRAP_DAYS,
    bootstrap_interval,
    sharpe_ratio,
    sharpe_ratios,
)
from majors_alts_pipeline.evaluation.stage import evaluation_start
from majors_alts_pipeline.evidence.redflags import Facts, red_flags
from majors_alts_pipeline.evidence.registry import OK, Origin, Registry, count_trials, trial_returns
from majors_alts_pipeline.evidence.robustness import Suite, lean
from majors_alts_pipeline.evidence.sweep import (
    OTHER_METHOD,
    Held,
    SweepResult,
    exchanged,
    of_study,
    sweep,
    sweep_trials,
    sweepable,
)
from majors_alts_pipeline.evidence.trials import study_trials
from majors_alts_pipeline.features.definitions import DEFINITIONS
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.regime.forecasts import book_up_forecasts, state_forecasts
from majors_alts_pipeline.regime.interface import load_method
from majors_alts_pipeline.regime.stage import known_history
from majors_alts_pipeline.regime.states import StatesMethod
from majors_alts_pipeline.tables import TABLES, ContractError

if TYPE_CHECKING:
    from majors_alts_pipeline.evaluation.overfitting import Overfitting
    from majors_alts_pipeline.evaluation.snooping import Snooping

Say = Callable[[str], None]
Tables = Mapping[str, pl.DataFrame]

ACCOUNTS = ("regime", "always_on")
MANIFEST = "manifest.json"
CSCV_BLOCKS = 16
PBO_REPS = 200
CPCV = (6, 2)
"""Groups, and groups of a test: 15 splits, 5 paths (Lopez de Prado 2018, figure 12.1)."""

TEST_DAYS = 91
EMBARGO_SHARE = 0.01
VAR_WINDOW = 250
TARGET_SHARPE = 1.0
"""Annual Sharpe ratio of the minimum backtest length."""

_MIN_VARIANTS = 2


class EvidenceError(ValueError):
    """Evidence cannot be read or written; the message names the file and the remedy."""


@dataclass(frozen=True)
class Manifest:
    """What a stored evidence belongs to.

    Attributes:
        study: study id.
        lake: fingerprint of the lake.
        lineage: see `registry.lineage_of`.
        simulated: whether the lake is a simulated one.
        first_day: first stored day.
        last_day: last stored day.
        n_trials: distinct configurations ever evaluated on the lake.
        files: table to the digest of its file.
        batches: files of the study registry about the lake, as far as any evidence here has seen them.
        lost: those of them that are no longer there.
    """

    study: str
    lake: str
    lineage: str
    simulated: bool
    first_day: str
    last_day: str
    n_trials: int
    files: Mapping[str, str]
    batches: Sequence[str] = ()
    lost: Sequence[str] = ()


@dataclass(frozen=True)
class Tally:
    """What was tried on a lake; the attributes are those of `Manifest`."""

    n_trials: int
    batches: Sequence[str]
    lost: Sequence[str]

    @classmethod
    def of(cls, records: pl.DataFrame, lineage: str, before: Manifest | None) -> Tally:
        """Count the trials, and find the registry files that the evidence `before` knew and that are gone.

        A file once lost is remembered as lost until it is back: the number of trials stays too low.
        """
        there = set(records.filter(pl.col("lineage") == lineage)["batch"].to_list())
        known = set(before.batches) if before is not None and before.lineage == lineage else set()
        return cls(count_trials(records, lineage), sorted(known | there), sorted(known - there))


@dataclass(frozen=True)
class Subject:
    """What evidence is gathered about.

    Attributes:
        tables: every stored table over `window`.
        lake: the lake, open.
        window: all stored days, from the first day of the lake.
        settings: resolved settings.
        origin: what its trials share.
    """

    tables: Tables
    lake: LakeSource
    window: Window
    settings: Settings
    origin: Origin


def gather(subject: Subject, registry: Registry, say: Say) -> dict[str, pl.DataFrame]:
    """Register the study's trials and compute every evidence table, but for those of `evaluation.skip`, left empty.

    Raises:
        RegistryError: the registry cannot be read or written.
    """
    skip = set(subject.settings.evaluation.skip)
    frames = {name: contract.empty() for name, contract in EVIDENCE.items()}
    say("trials of this run")
    trials = study_trials(subject.tables, subject.window, subject.settings)
    if "robustness" not in skip:
        suite = Suite(subject.tables, subject.lake, subject.window, subject.settings, say)
        frames["robustness"] = suite.frame()
        trials += suite.trials
    if "sweep" not in skip:
        found = _swept(subject, say)
        frames["sweep"] = found.frame
        trials += sweep_trials(found, subject.window, subject.settings)
    registry.append(trials, subject.origin)
    records = registry.read()
    if "selection" not in skip:
        frames |= _selected(subject, records, say)
    say("edge by horizon, probabilities, features, tail risk")
    frames |= _by_day(subject)
    if "capacity" not in skip:
        from majors_alts_pipeline.evidence.capacity import capacity

        say("capacity")
        frames["capacity"] = capacity(subject.tables, lean(subject.settings))
    say("red flags")
    facts = Facts(subject.tables["backtest"], subject.tables["positions"], frames, subject.settings)
    frames["red_flags"] = red_flags(facts)
    return {name: EVIDENCE[name].conform(frame) for name, frame in frames.items()}


def _swept(subject: Subject, say: Say) -> SweepResult:
    """Every variant of `evaluation.sweep_grid`, from the stored tables."""
    if exchanged(subject.settings):
        say(f"sweep: variants of {subject.settings.regime.method} cannot be swept; these are of {OTHER_METHOD}")
    runner = Runner(subject.lake, sweepable(subject.settings), Held(subject.tables, subject.window))
    return of_study(sweep(runner, announce=say, history=subject.window), subject.settings)


# ---- what was tried ----------------------------------------------------------------------------------------


def _selected(subject: Subject, records: pl.DataFrame, say: Say) -> dict[str, pl.DataFrame]:
    from majors_alts_pipeline.evaluation.crossvalidation import Variants, combinatorial, walk_forward
    from majors_alts_pipeline.evaluation.overfitting import cscv_table

    settings, lineage = subject.settings, subject.origin.lineage
    n_trials = count_trials(records, lineage)
    say(f"selection: {n_trials} distinct trials on this lake")
    held, unseen = _tried(records, lineage)
    returns_tried = np.ascontiguousarray(held.drop("date").to_numpy()) if held.width > 1 else np.empty((held.height, 0))
    common = _Tried.of(returns_tried, n_trials, unseen, settings)
    start = evaluation_start(subject.tables["backtest"])
    rows: list[dict[str, Any]] = []
    for account in ACCOUNTS:
        own = subject.tables["backtest"].filter(pl.col("account") == account).sort("date")
        returns = own.filter(pl.col("date") >= start)["ret_net"].to_numpy() if start else np.empty(0)
        rows += [{"account": account, **row} for row in _measures(returns, common, settings)]
    out = {"selection": SELECTION.conform(pl.DataFrame(rows, schema=SELECTION.schema))}
    if common.splits is not None:
        tried = Variants(returns_tried, held["date"].to_list(), held.columns[1:])
        purge = settings.regime.label_horizon_days + settings.backtest.execution_lag_days
        embargo = round(EMBARGO_SHARE * len(returns_tried))
        out["cscv"] = cscv_table(common.splits, tried.names)
        out["folds"] = pl.concat([
            walk_forward(tried, train_days=settings.regime.min_train_days, test_days=TEST_DAYS, purge_days=purge),
            combinatorial(tried, n_folds=CPCV[0], n_test_folds=CPCV[1], purge_days=purge, embargo_days=embargo),
        ])  # fmt: skip
    return out


def _tried(records: pl.DataFrame, lineage: str) -> tuple[pl.DataFrame, int]:
    """Net returns of everything tried on the lake over the days they share, and how many accounts were not kept.

    Whoever publishes one account has seen the others: the timed and the always-on accounts are one set of trials, and
    each is deflated by all of them. Accounts that never traded are left out.

    Returns:
        (date, one column per account that traded, named by its trial); the number of accounts without returns.
    """
    labels = dict(records.sort("time").select("trial", "label").iter_rows())
    frames, n_kept = [], 0
    for account in ACCOUNTS:
        held = trial_returns(records, lineage, account)
        n_kept += held.width - 1
        always = ", always on" if account == "always_on" else ""
        moving = [name for name in held.columns[1:] if held[name].min() != held[name].max()]
        if moving:
            named = {name: f"{labels[name]} ({name}{always})" for name in moving}
            frames.append(held.select("date", *moving).rename(named))
    evaluated = records.filter(
        pl.col("lineage") == lineage, pl.col("status") == OK, pl.col("account").is_in(ACCOUNTS)
    ).unique(["trial", "account"])
    shared = frames[0] if frames else pl.DataFrame(schema={"date": pl.Date})
    for frame in frames[1:]:
        shared = shared.join(frame, on="date", maintain_order="left")
    return shared, max(evaluated.height - n_kept, 0)


@dataclass(frozen=True)
class _Tried:
    """What is the same for every account: the trials, their luck, and how the best of them do.

    Attributes:
        n_trials: distinct configurations on the lake.
        effective: independent accounts among the trials.
        kept: accounts whose returns are kept and vary.
        unseen: accounts whose returns are not kept, each counted as independent.
        deviation: sd of the trials' daily Sharpe ratios; None without trials, when 1 / sqrt(days) stands in.
        splits: CSCV of the trials; None when there are too few.
        pbo: its interval.
        superior: SPA and StepM against cash; None when they cannot be computed.
    """

    n_trials: int
    effective: float
    kept: int
    unseen: int
    deviation: float | None
    splits: Overfitting | None
    pbo: tuple[float, float]
    superior: Snooping | None

    @classmethod
    def of(cls, variants: np.ndarray, n_trials: int, unseen: int, settings: Settings) -> _Tried:
        """Judge the trials.

        Args:
            variants: (days, accounts) net returns.
            n_trials: distinct configurations on the lake.
            unseen: accounts without returns.
            settings: section evaluation.
        """
        from majors_alts_pipeline.evaluation import selection as formulas
        from majors_alts_pipeline.evaluation.overfitting import cscv, pbo_interval
        from majors_alts_pipeline.evaluation.snooping import superior_ability

        rules = settings.evaluation
        counted = variants.shape[1] >= 1 and len(variants) >= MIN_BOOTSTRAP_DAYS
        enough = variants.shape[1] >= _MIN_VARIANTS and len(variants) >= 4 * CSCV_BLOCKS
        reps = min(PBO_REPS, rules.bootstrap_reps)
        nan = float("nan")
        return cls(
            n_trials=n_trials,
            effective=max((formulas.effective_trials(variants) if counted else 0.0) + unseen, 1.0),
            kept=variants.shape[1],
            unseen=unseen,
            deviation=formulas.trials_deviation(variants) if counted else None,
            splits=cscv(variants, CSCV_BLOCKS) if enough else None,
            pbo=pbo_interval(variants, CSCV_BLOCKS, reps, rules.confidence, rules.seed) if enough else (nan, nan),
            superior=superior_ability(
                variants, np.zeros(len(variants)), rules.bootstrap_reps, 1.0 - rules.confidence, rules.seed
            )
            if enough
            else None,
        )


def _measures(returns: np.ndarray, tried: _Tried, settings: Settings) -> Iterator[dict[str, Any]]:
    """Rows of `selection` of one account.

    Args:
        returns: (days,) its net returns.
        tried: every trial on the lake.
        settings: section evaluation.
    """
    from majors_alts_pipeline.evaluation import selection as formulas

    rules = settings.evaluation

    def row(measure: str, value: float | None, note: str, low: float | None = None, high: float | None = None) -> Any:
        return {"measure": measure, "value": _finite(value), "low": _finite(low), "high": _finite(high), "note": note}

    few = f"fewer than {MIN_BOOTSTRAP_DAYS} days, or returns that do not vary"
    yield row(
        "n_trials", float(tried.n_trials), "distinct configurations ever evaluated on this lake, in this registry"
    )
    words = f"independent ones among {tried.kept} accounts with returns kept, plus {tried.unseen} without"
    yield row("n_effective_trials", tried.effective, words)
    of = formulas.moments(returns)
    sharpe = sharpe_ratio(returns)
    low, high = bootstrap_interval(returns, sharpe_ratios, rules.bootstrap_reps, rules.confidence, rules.seed)
    yield row("sharpe", sharpe, "annualised, net; stationary bootstrap" if of else few, low, high)
    year = float(np.sqrt(DAYS_PER_YEAR))
    deviation = tried.deviation if tried.deviation is not None else 1.0 / float(np.sqrt(max(len(returns), 1)))
    hurdle = formulas.expected_max_sharpe(tried.effective, deviation)
    words = f"annualised Sharpe ratio of the best of {tried.effective:.1f} by luck"
    yield row("expected_max_sharpe", hurdle * year, words)
    yield row("psr", formulas.probabilistic_sharpe(of) if of else None,
              "probability that the true Sharpe ratio is above 0" if of else few)  # fmt: skip
    yield row("dsr", formulas.probabilistic_sharpe(of, hurdle) if of else None,
              "the same above the best of the trials by luck" if of else few)  # fmt: skip
    track = formulas.min_track_record(of, 0.0, rules.confidence) / DAYS_PER_YEAR if of else None
    yield row("min_trl_years", track, few if of is None else
              "no length of this track record shows a Sharpe ratio above 0: it is not positive"
              if track is not None and np.isinf(track) else
              f"years of such returns needed; {len(returns) / DAYS_PER_YEAR:.1f} are there")  # fmt: skip
    words = f"years below which the best of the trials is expected at a Sharpe ratio of {TARGET_SHARPE:g} by luck"
    yield row("min_btl_years", formulas.min_backtest_length(tried.effective, TARGET_SHARPE), words)
    if tried.splits is None:
        for measure in ("pbo", "spa_lower", "spa_consistent", "spa_upper", "stepm_superior"):
            yield row(measure, None, f"needs {_MIN_VARIANTS} trials with returns over {4 * CSCV_BLOCKS} days")
        return
    words = f"share of {CSCV_BLOCKS}-block splits whose in-sample winner is below the median out of sample"
    yield row("pbo", tried.splits.pbo, words, *tried.pbo)
    found = tried.superior
    words = f"p-value that none of {tried.kept} trials earns more than cash"
    for measure in ("lower", "consistent", "upper"):
        yield row(f"spa_{measure}", getattr(found, measure) if found else None, words if found else few)
    words = f"trials better than cash at a family-wise error of {1.0 - rules.confidence:.0%}"
    yield row("stepm_superior", float(len(found.superior)) if found else None, words if found else few)


# ---- day by day --------------------------------------------------------------------------------------------


def _by_day(subject: Subject) -> dict[str, pl.DataFrame]:
    from majors_alts_pipeline.evaluation.feature_ic import feature_ic
    from majors_alts_pipeline.evaluation.horizons import edge_by_horizon
    from majors_alts_pipeline.evaluation.scoring import probability_scores, reliability
    from majors_alts_pipeline.evaluation.tailrisk import var_exceptions

    settings, rules = subject.settings, subject.settings.evaluation
    start = evaluation_start(subject.tables["backtest"])
    if start is None:
        return {}
    lag = settings.backtest.execution_lag_days
    # A decision of the first traded day was taken `lag` days before it.
    days = Window(max(subject.window.start, start), subject.window.end)
    returns = _book_returns(subject.tables["backtest"], days, settings)
    frames: dict[str, pl.DataFrame] = {}
    edges = []
    for method in settings.regime.methods:
        labels = _labels(subject.tables["regime"], method, days)
        edges.append(
            edge_by_horizon(
                returns, labels, method, execution_lag=lag, reps=rules.bootstrap_reps, confidence=rules.confidence,
                seed=rules.seed, horizons=rules.horizons_days,
            )
        )  # fmt: skip
    frames["edge_by_horizon"] = pl.concat(edges).sort("method", "label", "horizon_days")
    states = state_forecasts(subject.tables["regime"], subject.tables["regime_probability"])
    book = book_up_forecasts(subject.tables["regime"], subject.tables["book_outcome"], settings)
    judged = [probability_scores(states, delay=0), probability_scores(book, delay=lag)]
    frames["probability_scores"] = pl.concat(judged).sort("method", "event", "horizon_days")
    frames["reliability"] = reliability(pl.concat([states, book]), confidence=rules.confidence)
    frames["hindsight"] = _hindsight(subject)
    features = subject.tables["features"]
    scores = {name: _z(features, name, days) for name in settings.features.enabled}
    signs = {name: DEFINITIONS[name].sign for name in scores}
    frames["feature_ic"] = feature_ic(scores, signs, returns, execution_lag=lag, horizons=rules.horizons_days)
    tails = []
    for account in ACCOUNTS:
        rows = days.keep(subject.tables["backtest"].filter(pl.col("account") == account)).sort("date")
        invested = np.concatenate([[False], rows["n_positions"].to_numpy()[:-1] > 0])
        tails.append(var_exceptions(rows["ret_net"].to_numpy(), invested, account, window=VAR_WINDOW))
    frames["var_exceptions"] = pl.concat(tails).sort("account", "level")
    return frames


def _hindsight(subject: Subject) -> pl.DataFrame:
    """Smoothed probabilities of every fitted method over all stored days."""
    settings, models = subject.settings, subject.tables["regime_model"].filter("chosen").sort("date")
    first = subject.tables["features"]["date"].min()
    history = known_history(subject.tables, Window(first, subject.window.end), settings)  # type: ignore[arg-type]
    found = [
        method.hindsight(history, models.filter(pl.col("method") == name), settings).with_columns(method=pl.lit(name))
        for name in settings.regime.methods
        if isinstance(method := load_method(name), StatesMethod)
    ]
    return pl.concat(found).select(list(HINDSIGHT.columns)) if found else HINDSIGHT.empty()


def _book_returns(backtest: pl.DataFrame, days: Window, settings: Settings) -> np.ndarray:
    """(days,) price return of the always-on book."""
    rows = backtest.filter(pl.col("account") == "always_on").sort("date")
    before = pl.col("nav").shift(1, fill_value=settings.backtest.capital_usd)
    return days.keep(rows.with_columns(earned=pl.col("pnl_price") / before))["earned"].to_numpy()


def _calendar(days: Window) -> pl.DataFrame:
    return pl.DataFrame({"date": pl.Series(date_array(days)).cast(pl.Date)})


def _labels(regime: pl.DataFrame, method: str, days: Window) -> np.ndarray:
    """(days,) labels, None before the method knew anything: BALANCED for want of a model is no opinion."""
    own = regime.filter(pl.col("method") == method)
    begun = own.filter(pl.col("score").is_not_null())["date"].min()
    rows = own.filter(pl.col("date") >= (days.end if begun is None else begun)).select("date", "label")
    if begun is None:
        rows = rows.clear()
    return np.array(_calendar(days).join(rows, on="date", how="left", maintain_order="left")["label"].to_list(), object)


def _z(features: pl.DataFrame, name: str, days: Window) -> np.ndarray:
    rows = features.filter(pl.col("feature") == name).select("date", pl.col("z").cast(pl.Float64))
    held = _calendar(days).join(rows, on="date", how="left", maintain_order="left")["z"]
    return held.fill_null(np.nan).to_numpy()


# ---- files -------------------------------------------------------------------------------------------------


def shorter(frames: Tables, subject: Subject, before: Manifest, held: Tables) -> str:
    """In one sentence, what the evidence `before` with its tables `held` has and `frames` lack; empty when nothing.

    Evidence of another lake is no fuller evidence of this one.
    """
    if before.lineage != subject.origin.lineage:
        return ""
    lacking = [name for name, frame in held.items() if frame.height and name in frames and frames[name].is_empty()]
    ended = str(subject.window.end) < before.last_day
    parts = [f"its days end on {before.last_day}, these on {subject.window.end}"] if ended else []
    parts += [f"it has {', '.join(lacking)}, now empty (evaluation.skip, or too few days)"] if lacking else []
    return f"this replaces fuller evidence, of study {before.study}: {'; '.join(parts)}" if parts else ""


def write(frames: Tables, folder: Path, subject: Subject, tally: Tally) -> Manifest:
    """Replace the evidence at `folder` as a whole: a reader finds the old one or the new one.

    Raises:
        EvidenceError: the disk refuses.
    """
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        files = {}
        for name, contract in EVIDENCE.items():
            path = scratch / f"{name}.parquet"
            contract.conform(frames[name]).write_parquet(path, compression="zstd")
            files[name] = _digest(path)
        manifest = Manifest(
            study=subject.origin.study, lake=subject.origin.lake, lineage=subject.origin.lineage,
            simulated=subject.origin.simulated, first_day=str(subject.window.start), last_day=str(subject.window.end),
            files=files, **vars(tally),
        )  # fmt: skip
        (scratch / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n")
        scratch.chmod(0o755)
        aside = folder.with_name(f".{folder.name}.old.{os.getpid()}")
        if folder.exists():
            os.replace(folder, aside)
        os.replace(scratch, folder)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise EvidenceError(
            f"evidence: cannot write {folder}: {error.strerror or error}; free the disk or choose another directory "
            "with --out"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def stored(folder: Path) -> tuple[Manifest, dict[str, pl.DataFrame]] | None:
    """Manifest and tables of the evidence at `folder`; None when there is none.

    Raises:
        EvidenceError: a file is damaged or of another evidence than the manifest's.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    again = "materialise the asset `evidence` again (`majors-alts run`)"
    try:
        manifest = Manifest(**json.loads(path.read_text()))
        frames = {}
        for name, digest in manifest.files.items():
            file = folder / f"{name}.parquet"
            if _digest(file) != digest:
                raise EvidenceError(f"evidence: {file} is not the file of {path}; {again}")
            if name in EVIDENCE:
                frames[name] = EVIDENCE[name].conform(pl.read_parquet(file))
    except (OSError, TypeError, json.JSONDecodeError, pl.exceptions.PolarsError, ContractError) as error:
        raise EvidenceError(f"evidence: {folder} is damaged ({error}); {again}") from error
    return manifest, frames


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


NEEDED = tuple(name for name in TABLES if name not in {"kpis"})
"""Tables that `gather` may read."""
