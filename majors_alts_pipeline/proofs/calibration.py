"""Calibration of the whole instrument: what it measures in simulated markets whose truth is known.

Each market is simulated from its own seed and run through the real chain, panel to accounts, by every method of
`regime.methods`. Nothing is tuned to the simulator: the settings are the user's. What is measured is stored market by
market, so that an interrupted run goes on where it stopped and the table can be computed again at no cost.

The truth: price P&L. In the null market the expected return of every asset is 0 on every day whatever is known, so the
true Sharpe ratio of the price P&L of any book and any timing is 0; costs and funding are left out because they are
real. With a planted effect the expected return of each position on each day follows from the hidden state, hence that
of the positions actually held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.proofs.markets import HIDDEN_LABEL, one_thread_each
from majors_alts_pipeline.stages import STAGES

LEAK = "leak"
"""Control: the traded method's label of `LEAK_DAYS` later. A sound test must find it out."""

LEAK_DAYS = 3
"""What smoothing over a centred instead of a trailing week leaks: with an execution lag of one day, the day on which
the position earns and the next."""

VOLATILE = "volatile"
"""Control: favoured in the most turbulent fifth of the days known so far. It marks risk and no edge: a test that takes
the one for the other would find it too often."""

VOLATILE_DAYS, VOLATILE_SHARE = 10, 0.2
"""Days of the trailing volatility, and the share of days that count as turbulent."""

CONTROLS = (LEAK, VOLATILE)

FAVOURED = "RISK_ON_MAJORS"
ALWAYS_ON = "always_on"
METHODS, SWEEP = "best of the methods", "best of the sweep"
HORIZONS = (5, 20, 60)
"""Days over which every method's forward edge is tested; one day is the regime edge itself."""

INTERVAL_HORIZONS = (1, 20)
INTERVAL_REPS = 400
"""Replications of the intervals of forward returns: a market has many of them."""

SPA_REPS = 500
SPA_SIZE = 0.05
PBO_BLOCKS = 10
ROUNDING = 1e-13
SWEEP_GRID: dict[str, list[Any]] = {
    "regime.default_scheme": ["balanced", "trend", "crowding"],
    "regime.enter": [0.15, 0.25, 0.4],
    "regime.smoothing_days": [1, 3, 7],
    "backtest.rebalance": ["week", "month"],
}
"""Variants a person would try, all of one basket, so that a market's sweep costs a quarter of a second."""

PRICE_ONLY: dict[str, Any] = {
    "costs.maker_share": 1.0,
    "costs.maker_fee": 0.0,
    "costs.impact_coefficient": 0.0,
    "costs.exit_haircut": 0.0,
    "costs.missing_funding_annual": 0.0,
}
"""Settings under which a ledger without funding rates earns the price P&L and nothing else."""

SCHEMA = {
    "seed": pl.Int64, "effect": pl.Float64, "measure": pl.String, "subject": pl.String, "horizon_days": pl.Int32,
    "value": pl.Float64,
}  # fmt: skip

_VERSION = "1"


@dataclass(frozen=True)
class Plan:
    """Which markets to simulate.

    Attributes:
        n_null: markets without an effect, seeds 0, 1, ...
        n_planted: markets of each effect, seeds 100000, 100001, ..., the same for every effect.
        effects: planted expected daily returns of the book's alt factor in the favourable hidden state, decimal.
        n_alts: alts of each market.
        n_days: days of each market.
    """

    n_null: int = 200
    n_planted: int = 30
    effects: tuple[float, ...] = (0.001, 0.002, 0.005, 0.01)
    n_alts: int = 60
    n_days: int = 1500

    def markets(self) -> list[tuple[int, float]]:
        """(seed, effect) of every market, the null ones first."""
        planted = [(100_000 + k, effect) for effect in self.effects for k in range(self.n_planted)]
        return [(seed, 0.0) for seed in range(self.n_null)] + planted


@dataclass
class Measurements:
    """Tidy rows of one market: measure, subject, horizon_days (0 where there is none), value."""

    rows: list[tuple[str, str, int, float]] = field(default_factory=list)

    def add(self, measure: str, subject: str, value: float, horizon: int = 0) -> None:
        """Append one number; NaN = it could not be computed."""
        self.rows.append((measure, subject, horizon, float(value)))

    def frame(self, seed: int, effect: float) -> pl.DataFrame:
        """Rows of the market in `SCHEMA`, NaN as null."""
        names = list(SCHEMA)
        data = [(seed, effect, *row) for row in self.rows]
        return pl.DataFrame(data, schema={name: SCHEMA[name] for name in names}, orient="row").with_columns(
            pl.col("value").fill_nan(None)
        )


@dataclass(frozen=True)
class Book:
    """The always-on book of a market, from the day of its first decision on; arrays are (days,).

    Attributes:
        days: window of the rows.
        returns: price P&L / NAV of the eve, decimal.
        expected: what it was expected to be given the hidden state, decimal; 0 in a null market.
        invested: a position was held over the day.
    """

    days: Window
    returns: np.ndarray
    expected: np.ndarray
    invested: np.ndarray


def measure_market(seed: int, effect: float, n_alts: int, n_days: int, settings: Settings) -> pl.DataFrame:
    """Simulate one market, run the chain and measure everything `calibration_table` needs; see `SCHEMA`."""
    from majors_alts_pipeline.lake.reader import MemoryLake
    from majors_alts_pipeline.lake.simulate import SimulationSpec, simulate

    out = Measurements()
    began = process_time()
    market = simulate(SimulationSpec(n_alts=n_alts, n_days=n_days, seed=seed, regime_effect=effect))
    runner = Runner(MemoryLake(market.tables, settings.lake), settings)
    out.add("seconds", "simulate", process_time() - began)
    tables: dict[str, pl.DataFrame] = {}
    for stage in STAGES:
        began = process_time()
        tables |= runner.run(stage, runner.history)
        out.add("seconds", stage.name, process_time() - began)
        if stage.name == "backtest":
            break
    began = process_time()
    measure_tables(out, tables, market.truth.regimes, market.truth.betas, effect, seed, settings)
    measure_sweep(out, runner, tables, seed)
    out.add("seconds", "statistics", process_time() - began)
    return out.frame(seed, effect)


def measure_tables(
    out: Measurements, tables: Mapping[str, pl.DataFrame], regimes: pl.DataFrame, loadings: pl.DataFrame,
    effect: float, seed: int, settings: Settings,
) -> None:  # fmt: skip
    """Everything about the methods and the accounts of one market.

    Args:
        out: receives the rows.
        tables: regime, backtest and positions of the whole history.
        regimes: truth (date, regime).
        loadings: truth (asset_id, alt_loading).
        effect: planted effect, decimal per day.
        seed: of bootstraps and shifts.
        settings: the market's settings.
    """
    book = book_of(tables, regimes, loadings, effect, settings)
    if book is None:
        return
    labels = labels_of(tables["regime"], book.days, settings)
    labels[VOLATILE] = turbulent_days(book.returns)
    lag = settings.backtest.execution_lag_days
    timed: dict[str, np.ndarray] = {}
    expected: dict[str, np.ndarray] = {}
    for method, known in labels.items():
        # The position held over a day was traded at the close of its eve and decided `lag` days before that.
        traded = np.concatenate([np.full(lag + 1, "", dtype=object), known])[: len(known)]
        _edge(out, method, traded[book.invested] == FAVOURED, book.returns[book.invested], seed)
        _forward_edge(out, method, known, book, lag, seed)
        if method not in CONTROLS:
            exposure = np.array([settings.regime.exposure.get(label, 0.0) for label in traded])
            timed[method] = (exposure * book.returns)[book.invested]
            expected[method] = (exposure * book.expected)[book.invested]
    timed[ALWAYS_ON], expected[ALWAYS_ON] = book.returns[book.invested], book.expected[book.invested]
    for subject, returns in timed.items():
        _sharpe(out, subject, returns, expected[subject], seed, settings)
    matrix = np.stack([timed[method] for method in labels if method not in CONTROLS], axis=1)
    _selection(out, METHODS, matrix, seed)
    if effect == 0.0:
        _forward_intervals(out, labels[settings.regime.method], book, seed, settings)
    _recovery(out, tables["regime"], regimes, settings)


def book_of(
    tables: Mapping[str, pl.DataFrame], regimes: pl.DataFrame, loadings: pl.DataFrame, effect: float, settings: Settings
) -> Book | None:
    """The always-on book, None when it never held a position; arguments as in `measure_tables`."""
    account = tables["backtest"].filter(pl.col("account") == ALWAYS_ON).sort("date")
    before = account["nav"].shift(1, fill_value=settings.backtest.capital_usd)
    invested = (account["n_positions"].shift(1, fill_value=0) > 0).to_numpy()
    if not invested.any():
        return None
    state = pl.col("regime").replace_strict({"risk_on_majors": 1.0, "balanced": 0.0, "risk_on_alts": -1.0})
    # r_i = ... + loading_i x (f - effect x state): what short positions gain when majors are favoured.
    exposed = (
        tables["positions"]
        .filter(pl.col("account") == ALWAYS_ON)
        .join(loadings.select("asset_id", "alt_loading"), on="asset_id", how="left")
        .group_by(date=pl.col("date").dt.offset_by("1d"))
        .agg(exposed=-(pl.col("value_usd") * pl.col("alt_loading").fill_null(0.0)).sum())
    )
    days = account.select("date").join(exposed, on="date", how="left").join(regimes, on="date", how="left").sort("date")
    expected = days.select(pl.col("exposed").fill_null(0.0) * state * effect).to_series() / before
    first = max(int(np.argmax(invested)) - settings.backtest.execution_lag_days - 1, 0)
    history = Window(account["date"][first], account["date"][-1])
    return Book(
        days=history,
        returns=(account["pnl_price"] / before).to_numpy()[first:],
        expected=expected.to_numpy()[first:],
        invested=invested[first:],
    )


def labels_of(regime: pl.DataFrame, days: Window, settings: Settings) -> dict[str, np.ndarray]:
    """(days,) label of every method, and of the leaking control.

    Raises:
        ValueError: a method has no label on a day.
    """
    labels: dict[str, np.ndarray] = {}
    for method in settings.regime.methods:
        said = days.keep(regime.filter(pl.col("method") == method)).sort("date")["label"]
        if len(said) != days.n_days:
            raise ValueError(f"regime: method {method} has {len(said)} labels in {days.n_days} days")
        labels[method] = said.to_numpy()
    traded = labels[settings.regime.method]
    labels[LEAK] = np.concatenate([traded[LEAK_DAYS:], np.full(LEAK_DAYS, traded[-1], dtype=object)])
    return labels


def turbulent_days(returns: np.ndarray) -> np.ndarray:
    """(days,) label: favoured where the trailing volatility is among the highest so far, balanced elsewhere.

    Args:
        returns: (days,) of the book; a day's label knows its own return, as every label does.
    """
    squares = np.concatenate([[0.0], np.cumsum(np.square(returns))])
    trailing = np.full(len(returns), np.nan)
    trailing[VOLATILE_DAYS - 1 :] = squares[VOLATILE_DAYS:] - squares[:-VOLATILE_DAYS]
    so_far = pl.Series(trailing).fill_nan(None)
    rank = so_far.cumulative_eval(pl.element().rank().last() / pl.element().count()).fill_null(0.0).to_numpy()
    return np.where(rank > 1.0 - VOLATILE_SHARE, FAVOURED, "BALANCED").astype(object)


def _edge(out: Measurements, method: str, on: np.ndarray, returns: np.ndarray, seed: int) -> None:
    from majors_alts_pipeline.evaluation.inference import regime_edge_test

    test = regime_edge_test(on.astype(bool), returns, seed)
    out.add("edge_p", method, test.p_value)
    out.add("edge_t", method, test.hac_t)
    out.add("edge_difference", method, test.difference)
    out.add("edge_detectable", method, test.minimum_detectable_effect)


def _forward_edge(out: Measurements, method: str, labels: np.ndarray, book: Book, lag: int, seed: int) -> None:
    """The p-value of `edge_by_horizon` without its intervals, of which there would be hundreds a market."""
    from majors_alts_pipeline.evaluation.horizons import forward_returns
    from majors_alts_pipeline.evaluation.inference import circular_shifts

    for horizon in HORIZONS:
        forward = forward_returns(book.returns, horizon, lag)
        shifts = circular_shifts(labels[: len(forward)] == FAVOURED, forward, seed)
        out.add("forward_p", method, float("nan") if shifts is None else shifts.p_two_sided(), horizon)


def _sharpe(
    out: Measurements, subject: str, returns: np.ndarray, expected: np.ndarray, seed: int, settings: Settings
) -> None:
    """Sharpe ratio, its bootstrap interval and the true one: expected mean over realised deviation."""
    from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR, bootstrap_interval, sharpe_ratio, sharpe_ratios

    judged = settings.evaluation
    low, high = bootstrap_interval(returns, sharpe_ratios, judged.bootstrap_reps, judged.confidence, seed)
    spread = float(np.std(returns, ddof=1))
    truth = float(np.mean(expected)) / spread * DAYS_PER_YEAR**0.5 if spread > 0.0 else float("nan")
    for measure, value in (("sharpe", sharpe_ratio(returns)), ("low", low), ("high", high), ("truth", truth)):
        out.add(f"sharpe_{measure}", subject, value)


def _selection(out: Measurements, subject: str, returns: np.ndarray, seed: int) -> None:
    """Raw and adjusted p-values of the best of (days, trials), and whether StepM names any."""
    from majors_alts_pipeline.evaluation.overfitting import cscv
    from majors_alts_pipeline.evaluation.selection import (
        daily_sharpes,
        deflated_sharpe,
        effective_trials,
        moments,
        probabilistic_sharpe,
        trials_deviation,
    )
    from majors_alts_pipeline.evaluation.snooping import superior_ability

    sharpes = daily_sharpes(returns)
    if not np.isfinite(sharpes).any():
        return
    best = moments(returns[:, int(np.nanargmax(sharpes))])
    if best is None:
        return
    trials = effective_trials(returns)
    out.add("n_effective", subject, trials)
    out.add("best_raw_p", subject, 1.0 - probabilistic_sharpe(best))
    out.add("best_dsr_p", subject, 1.0 - deflated_sharpe(best, trials, trials_deviation(returns)))
    tested = superior_ability(returns, np.zeros(len(returns)), SPA_REPS, SPA_SIZE, seed)
    if tested is not None:
        out.add("best_spa_p", subject, tested.consistent)
        out.add("best_reality_p", subject, tested.upper)
        out.add("best_stepm", subject, float(bool(tested.superior)))
    if returns.shape[1] > 1:
        out.add("pbo", subject, cscv(returns[:, np.isfinite(sharpes)], PBO_BLOCKS).pbo)


def _forward_intervals(out: Measurements, labels: np.ndarray, book: Book, seed: int, settings: Settings) -> None:
    from majors_alts_pipeline.evaluation.horizons import ALL, edge_by_horizon

    frame = edge_by_horizon(
        book.returns, labels, settings.regime.method, execution_lag=settings.backtest.execution_lag_days,
        reps=INTERVAL_REPS, confidence=settings.evaluation.confidence, seed=seed, horizons=INTERVAL_HORIZONS,
    )  # fmt: skip
    for row in frame.filter(pl.col("label").is_in([ALL, FAVOURED])).iter_rows(named=True):
        for measure in ("low", "high", "hac_t"):
            value = float("nan") if row[measure] is None else row[measure]
            out.add(f"forward_{measure}", row["label"], value, row["horizon_days"])


def _recovery(out: Measurements, regime: pl.DataFrame, regimes: pl.DataFrame, settings: Settings) -> None:
    """Share of days after the first fit whose label is the hidden regime, and the share due to chance."""
    hidden = regimes.select("date", hidden=pl.col("regime").replace_strict(HIDDEN_LABEL))
    fitted = regime.filter((pl.col("in_force") != "default") & pl.col("score").is_not_null())
    # The same days for all, so that methods can be compared in pairs.
    common = fitted.group_by("date").len().filter(pl.col("len") == len(settings.regime.methods)).select("date")
    for method in settings.regime.methods:
        said = fitted.filter(pl.col("method") == method).join(common, on="date").join(hidden, on="date")
        if said.is_empty():
            continue
        right = float(said.select((pl.col("label") == pl.col("hidden")).mean()).item())
        shares = said.select(pl.col("label").value_counts(normalize=True)).unnest("label")
        truth = said.select(pl.col("hidden").value_counts(normalize=True)).unnest("hidden")
        both = shares.join(truth, left_on="label", right_on="hidden", suffix="_true")
        out.add("recovered", method, right)
        out.add("by_chance", method, float(both.select(pl.col("proportion").dot("proportion_true")).item()))


def measure_sweep(out: Measurements, runner: Runner, tables: Mapping[str, pl.DataFrame], seed: int) -> None:
    """The same of the sweep of `SWEEP_GRID`, on price P&L alone: what is found there in a null market is luck."""
    from majors_alts_pipeline.evidence.sweep import Held, sweep, sweepable

    free = {**tables, "panel": tables["panel"].with_columns(funding_rate=pl.lit(0.0))}
    settings = sweepable(with_overrides(runner.settings, PRICE_ONLY))
    result = sweep(Runner(runner.lake, settings, reader=Held(free, runner.history)), SWEEP_GRID)
    if result.returns.size:
        # A trade at no cost leaves the NAV as it was but for rounding, which is no return.
        _selection(out, SWEEP, np.where(np.abs(result.returns) < ROUNDING, 0.0, result.returns), seed)


def stored_measurements(directory: Path, plan: Plan) -> pl.DataFrame:
    """Rows of the markets of the plan that are stored, sorted."""
    files = [file for market in plan.markets() if (file := _file(directory, *market)).exists()]
    frame = pl.concat([pl.read_parquet(file) for file in files]) if files else pl.DataFrame(schema=SCHEMA)
    return frame.sort("effect", "seed", "measure", "subject", "horizon_days")


def study_key(plan: Plan, settings: Settings, code: str) -> str:
    """12 hex digits of all that a market's rows depend on besides its seed and effect."""
    parts = (settings.digest(), str(plan.n_alts), str(plan.n_days), code, _VERSION)
    return sha256("/".join(parts).encode()).hexdigest()[:12]


def run_calibration(
    plan: Plan,
    settings: Settings,
    directory: Path,
    progress: Callable[[str], None] = lambda _: None,
    workers: int | None = None,
) -> pl.DataFrame:
    """Measure every market of the plan that is not stored yet, spread over processes, and return all rows.

    Args:
        plan: the markets.
        settings: resolved settings of the instrument.
        directory: one Parquet file a market, written by its worker; see `study_key` for what must share it.
        progress: told how far it is.
        workers: processes; default one per core.

    Raises:
        RuntimeError: a market failed; the others done so far are stored.
    """
    directory.mkdir(parents=True, exist_ok=True)
    missing = [market for market in plan.markets() if not _file(directory, *market).exists()]
    done = len(plan.markets()) - len(missing)
    if done:
        progress(f"calibration: {done} markets are stored already in {directory}")
    if missing:
        with one_thread_each(), _pool(workers or os.cpu_count() or 1) as pool:
            jobs = {
                pool.submit(_measure_and_store, directory, seed, effect, plan, settings): (seed, effect)
                for seed, effect in missing
            }
            for finished in as_completed(jobs):
                _raise_named(finished, *jobs[finished])
                done += 1
                progress(f"calibration: {done} of {len(plan.markets())} simulated markets")
    return stored_measurements(directory, plan)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool that forgets what is waiting when its user is interrupted."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _raise_named(finished: Future[None], seed: int, effect: float) -> None:
    error = finished.exception()
    if error is not None:
        raise RuntimeError(f"simulated market with seed {seed} and effect {effect:g} failed: {error}") from error


def _file(directory: Path, seed: int, effect: float) -> Path:
    return directory / f"{round(effect * 1e6)}_{seed}.parquet"


def _measure_and_store(directory: Path, seed: int, effect: float, plan: Plan, settings: Settings) -> None:
    frame = measure_market(seed, effect, plan.n_alts, plan.n_days, settings)
    path = _file(directory, seed, effect)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    frame.write_parquet(temporary)
    temporary.replace(path)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """As 0-199, or the list when it has gaps."""
    ordered = sorted(set(seeds))
    whole = ordered == list(range(ordered[0], ordered[-1] + 1))
    return f"{ordered[0]}-{ordered[-1]}" if whole and len(ordered) > 1 else ", ".join(map(str, ordered))
