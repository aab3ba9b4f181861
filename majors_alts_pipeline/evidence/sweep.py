"""Many configurations on one lake in one pass, each equal to its own full run.

What variants share is computed once: the stages up to the betas once per distinct settings they read (as a rule
once), the basket once per distinct basket settings, the score of a regime candidate, its label path and its paper
account once for all variants that try it; the walk-forward choice is then a column selection, the labels of all
variants one pass of the state machine, and each account one call of the ledger's kernel, on threads. Nothing is
approximated: the numbers are those of `majors_alts_pipeline.chain.Runner` with the same settings, bit for bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import product
from typing import Any, TypeVar

import numpy as np
import polars as pl

from majors_alts_pipeline.backtest.ledger import Ledger, LedgerError, Market, Plan, run
from majors_alts_pipeline.backtest.stage import (
    Targets,
    book_plan,
    book_weights,
    expected_volatility,
    market_of,
    targets_of,
)
from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.chain import Announce, Runner
from majors_alts_pipeline.config import ConfigError, Settings
from majors_alts_pipeline.config.settings import FIXED_IN_A_SWEEP, with_overrides
from majors_alts_pipeline.evaluation.contracts import SWEEP
from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR, sharpe_ratios
from majors_alts_pipeline.evaluation.stage import COSTS, MIN_CAGR_DAYS
from majors_alts_pipeline.evidence.registry import METRICS, Trial, trial_id
from majors_alts_pipeline.evidence.registry import SWEEP as KIND
from majors_alts_pipeline.evidence.trials import AS_CONFIGURED
from majors_alts_pipeline.regime.composite import (
    Candidate,
    ZScores,
    candidate_states,
    candidates,
    exposures,
    in_force_limits,
)
from majors_alts_pipeline.regime.hysteresis import walk
from majors_alts_pipeline.regime.stage import returns_by_decision
from majors_alts_pipeline.regime.walkforward import Paper, calendar_refits, paper_accounts, train
from majors_alts_pipeline.stages import STAGE_OF_TABLE, all_sections

METHOD = "composite"
"""The regime method whose variants can be swept."""

OTHER_METHOD = f"{METHOD} with these settings"
"""Variant 0 of a study timed by another method."""

ACCOUNT = "regime"
"""The account that is evaluated: the timed book."""

T = TypeVar("T")
Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Variant:
    """One configuration.

    Attributes:
        number: 0 = as configured.
        overrides: dotted key to value, what differs from the configuration.
        settings: resolved.
    """

    number: int
    overrides: dict[str, Any]
    settings: Settings


@dataclass(frozen=True)
class Failure:
    """A configuration that could not be evaluated; it was tried all the same.

    Attributes:
        number: of the variant.
        overrides: dotted key to value.
        settings: resolved, None when they contradict each other.
        error: what went wrong.
    """

    number: int
    overrides: dict[str, Any]
    settings: Settings | None
    error: str


@dataclass(frozen=True)
class Prepared:
    """Variants whose accounts have not been kept yet.

    Attributes:
        history: days of the lake.
        assets: columns of every market and plan.
        variants: as resolved.
        failures: variants that contradict themselves.
        orders: (variants,) market, plan and targets; equal ones are the same objects.
    """

    history: Window
    assets: list[str]
    variants: list[Variant]
    failures: list[Failure]
    orders: list[tuple[Market, Plan, Targets]]


@dataclass(frozen=True)
class SweepResult:
    """Outcome of a sweep.

    Attributes:
        frame: contract `SWEEP`, one row per variant that could be evaluated, ascending.
        returns: (days, variants) float64 daily net returns, columns in the order of `frame`.
        days: days of the rows: from the first on which every variant can hold its book.
        variants: (variants,) in the order of `frame`.
        failures: variants that could not be evaluated.
    """

    frame: pl.DataFrame
    returns: np.ndarray
    days: list[date]
    variants: list[Variant]
    failures: list[Failure]

    @property
    def ids(self) -> list[str]:
        """Identifiers of the columns of `returns` in the study registry."""
        return self.frame["trial"].to_list()


def expand(settings: Settings, grid: Grid) -> list[dict[str, Any]]:
    """Overrides of every variant: the list as it is, or the Cartesian product of a mapping's lists.

    The configured value of every key of a mapping is among its values whether listed or not, so that any two keys
    span a surface with the others as configured.
    """
    if not isinstance(grid, Mapping):
        return [dict(overrides) for overrides in grid]
    lists = [list(values) for values in grid.values()]
    for key, values in zip(grid, lists, strict=True):
        if (configured := settings.value_of(key)) not in values:
            values.append(configured)
    return [dict(zip(grid, values, strict=True)) for values in product(*lists)]


def resolve(settings: Settings, grid: Grid) -> tuple[list[Variant], list[Failure]]:
    """Settings of every variant, the configuration itself first, and those that contradict themselves.

    Overrides that equal the configuration's value are dropped, so that `overrides` says what differs; a variant
    whose settings come out as an earlier one's is left out.
    """
    variants, failures = [Variant(0, {}, settings)], []
    seen = {trial_id(settings)}
    number = 0
    tried = expand(settings, grid)
    for key in dict.fromkeys(key for overrides in tried for key in overrides):
        if (section := key.partition(".")[0]) in FIXED_IN_A_SWEEP:
            raise ConfigError(f"{key} cannot be varied in a sweep: {FIXED_IN_A_SWEEP[section]}")
    for overrides in tried:
        changed = {key: value for key, value in overrides.items() if value != settings.value_of(key)}
        if not changed:
            continue
        number += 1
        try:
            resolved = with_overrides(settings, changed)
            _refuse_other_methods(resolved)
        except ConfigError as error:
            failures.append(Failure(number, changed, None, str(error)))
            continue
        if (trial := trial_id(resolved)) not in seen:
            seen.add(trial)
            variants.append(Variant(number, changed, resolved))
    return variants, failures


def sweep(
    runner: Runner, grid: Grid | None = None, announce: Announce | None = None, history: Window | None = None
) -> SweepResult:
    """Evaluate the timed book of every variant on the lake of `runner`.

    Every setting that can change an account may be varied but those of section lake, which say how it is read. Those
    of the universe, the features and the betas cost a computation of these stages each; the others share them.

    Args:
        runner: the lake, the configuration variants differ from, and where finished days are found.
        grid: dotted key to values (their Cartesian product), or a list of overrides; `evaluation.sweep_grid` by
            default.
        announce: called with one sentence per step.
        history: days, from the first of the lake; by default all its complete days.

    Returns:
        See `SweepResult`. Statistics are those of table `kpis`, over the days all variants have in common.

    Raises:
        ConfigError: `regime.method` of the runner's settings is not `composite` (`sweepable` makes it so, `of_study`
            then says what that changed); a key is none of the settings, or cannot be varied.
    """
    say = announce or (lambda _: None)
    prepared = prepare(runner, grid, say, history)
    failures = list(prepared.failures)
    done = []
    for variant, account in zip(prepared.variants, _accounts(prepared), strict=True):
        if isinstance(account, str):
            failures.append(Failure(variant.number, variant.overrides, variant.settings, account))
        else:
            done.append((variant, account))
    say(f"sweep: {len(done)} accounts are kept, {len(failures)} failed")
    return _result(prepared.history, done, sorted(failures, key=lambda failure: failure.number))


def prepare(
    runner: Runner, grid: Grid | None = None, announce: Announce | None = None, history: Window | None = None
) -> Prepared:
    """Everything of a sweep up to the accounts; see `sweep`."""
    say = announce or (lambda _: None)
    _refuse_other_methods(runner.settings)
    variants, failures = resolve(runner.settings, runner.settings.evaluation.sweep_grid if grid is None else grid)
    say(f"sweep: {len(variants)} variants, {len(failures)} that contradict themselves")
    tables = _Tables(runner, history or runner.history)
    orders = _Orders(tables, variants)
    say(f"sweep: {orders.n_baskets} baskets are known; timing them")
    paths = _exposures(tables, variants)
    ways = len({path.tobytes() for path in paths})
    say(f"sweep: {ways} ways to time a book; keeping {len(variants)} accounts")
    made = [orders.of(variant, path) for variant, path in zip(variants, paths, strict=True)]
    return Prepared(tables.history, orders.assets, variants, failures, made)


def sweepable(settings: Settings) -> Settings:
    """The settings, timed by the method whose variants can be swept."""
    if settings.regime.method == METHOD:
        return settings
    methods = list(dict.fromkeys([*settings.regime.methods, METHOD]))
    return with_overrides(settings, {"regime.method": METHOD, "regime.methods": methods})


def exchanged(settings: Settings) -> dict[str, Any]:
    """What `sweepable` changes about the book that is timed, as overrides; empty when variant 0 is the study."""
    return {} if settings.regime.method == METHOD else {"regime.method": METHOD}


def of_study(result: SweepResult, settings: Settings) -> SweepResult:
    """The sweep of `sweepable(settings)` with `overrides` of the frame saying what differs from `settings` itself."""
    own = exchanged(settings)
    overrides = [_json({**own, **variant.overrides}) for variant in result.variants]
    return replace(result, frame=result.frame.with_columns(pl.Series("overrides", overrides, pl.String)))


@dataclass(frozen=True)
class Held:
    """Finished days of a study in memory, as a Runner reads what is stored.

    What the regime method decides is left out: it may be another than the one that is swept.

    Attributes:
        tables: rows of at least the tables up to the basket.
        window: their days.
    """

    tables: Mapping[str, pl.DataFrame]
    window: Window

    def stored(self, table: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """Rows of the window, None when not all of it is held."""
        del columns
        inside = self.window.start <= window.start and window.end <= self.window.end
        known = table in self.tables and "regime" not in all_sections(STAGE_OF_TABLE[table])
        return window.keep(self.tables[table]) if inside and known else None


def _refuse_other_methods(settings: Settings) -> None:
    if settings.regime.method != METHOD:
        raise ConfigError(
            f"regime.method is {settings.regime.method!r}; the sweep evaluates variants of {METHOD!r}: set it to that "
            "(and keep it in regime.methods)"
        )


class _Memo:
    """Results by key, each computed once."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


class _Tables:
    """Tables up to `book_outcome` under any variant's settings, each computed once for all that share it."""

    def __init__(self, runner: Runner, history: Window) -> None:
        self._runner = runner
        self._memo = _Memo()
        self.history = history

    def key(self, table: str, settings: Settings) -> tuple[Hashable, ...]:
        """What the table depends on: the sections of its stage and its ancestors.

        Of section backtest the basket reads the capital alone and `book_outcome` the lag, and of regime the label
        horizon: naming these keys instead of the sections is what lets most variants share a basket.
        """
        sections = all_sections(STAGE_OF_TABLE[table])
        whole = [getattr(settings, name).model_dump_json() for name in sections if name not in {"backtest", "regime"}]
        fine: tuple[Hashable, ...] = ()
        if "backtest" in sections:
            fine += (settings.backtest.capital_usd,)
        if "regime" in sections:
            fine += (settings.backtest.execution_lag_days, settings.regime.label_horizon_days)
        return table, *whole, *fine

    def frame(self, table: str, settings: Settings) -> pl.DataFrame:
        """Rows of the table over the whole history."""
        return self._memo.get(self.key(table, settings), lambda: self._compute(table, settings))

    def _compute(self, table: str, settings: Settings) -> pl.DataFrame:
        if self.key(table, settings) == self.key(table, self._runner.settings):
            return self._runner.table(table, self.history)
        own = Runner(self._runner.lake, settings, reader=_View(self, settings))
        return own.run(STAGE_OF_TABLE[table], self.history)[table]


@dataclass(frozen=True)
class _View:
    """The tables of one variant, as a Runner reads what is stored."""

    tables: _Tables
    settings: Settings

    def stored(self, table: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame:
        del columns
        return window.keep(self.tables.frame(table, self.settings))


def _timing_key(tables: _Tables, settings: Settings) -> tuple[Hashable, ...]:
    """What the exposure path depends on."""
    rules = settings.regime.model_dump_json(exclude={"method", "methods"})
    return tables.key("features", settings), tables.key("book_outcome", settings), rules


def _exposures(tables: _Tables, variants: Sequence[Variant]) -> list[np.ndarray]:
    """(days,) share of the book held by each variant."""
    keys = [_timing_key(tables, variant.settings) for variant in variants]
    distinct = dict(zip(keys, (variant.settings for variant in variants), strict=True))
    paths: dict[Hashable, np.ndarray] = {}
    for features in dict.fromkeys(key[0] for key in distinct):
        paths |= _timed(tables, {key: settings for key, settings in distinct.items() if key[0] == features})
    return [paths[key] for key in keys]


def _timed(tables: _Tables, rules: Mapping[Any, Settings]) -> dict[Any, np.ndarray]:
    """Exposure path under each of some settings that share their features.

    Raises:
        ValueError: the features do not begin on the first day of the lake.
    """
    history = tables.history
    features = tables.frame("features", next(iter(rules.values())))
    if (first := features.select(pl.col("date").min()).item()) != history.start:
        raise ValueError(
            f"features: first rows on {first}, the lake begins on {history.start}; compute them from there"
        )
    z = ZScores(features, history)
    tried = {key: candidates(settings) for key, settings in rules.items()}
    column = {
        candidate: number for number, candidate in enumerate(dict.fromkeys(c for one in tried.values() for c in one))
    }
    states = candidate_states(z, list(column))
    informed = z.known() > 0
    papers = _Memo()
    chosen: dict[Any, list[Candidate]] = {}
    for key, settings in rules.items():
        paper = papers.get(
            (key[1], settings.regime.switch_cost, json.dumps(settings.regime.exposure)),
            partial(_papers, tables, settings, states, informed),
        )
        own = paper.of(np.array([column[candidate] for candidate in tried[key]]))
        refits = calendar_refits(history, settings.regime.refit)
        chosen[key] = [tried[key][training.chosen] for training in train(own, history, refits, settings)]
    out: dict[Any, np.ndarray] = {}
    for rule in dict.fromkeys(settings.regime.refit for settings in rules.values()):
        same = [key for key, settings in rules.items() if settings.regime.refit == rule]
        begins = [(day - history.start).days for day in calendar_refits(history, rule)]
        walked, _ = walk(*in_force_limits(z, [chosen[key] for key in same], begins))
        out |= {key: exposures(walked[:, place], rules[key]) for place, key in enumerate(same)}
    return out


def _papers(tables: _Tables, settings: Settings, states: np.ndarray, informed: np.ndarray) -> Paper:
    outcome = returns_by_decision(tables.frame("book_outcome", settings), tables.history)
    return paper_accounts(exposures(states, settings), outcome, informed, settings.regime.switch_cost)


class _Orders:
    """What each variant's account trades."""

    def __init__(self, tables: _Tables, variants: Sequence[Variant]) -> None:
        self._tables = tables
        self._memo = _Memo()
        # One list of assets for all books: a column a book never holds changes no bit of its account.
        books = {tables.key("basket", variant.settings): variant.settings for variant in variants}
        held = {asset for settings in books.values() for asset in self._held(settings)}
        self.assets = sorted(held)
        self.n_baskets = len(books)

    def _held(self, settings: Settings) -> list[str]:
        held = self._tables.frame("basket", settings).filter(pl.col("weight") != 0.0)["asset_id"].unique().to_list()
        return [*settings.lake.majors, *held]

    def of(self, variant: Variant, exposure: np.ndarray) -> tuple[Market, Plan, Targets]:
        """Market, plan and targets of the variant whose share of the book is `exposure` (days,)."""
        settings, tables, history = variant.settings, self._tables, self._tables.history
        rules = settings.backtest
        basket = tables.frame("basket", settings)
        prices = (
            "market",
            tables.key("panel", settings),
            tables.key("universe", settings),
            tables.key("betas", settings),
        )
        market = self._memo.get(
            (*prices, settings.costs.model_dump_json()),
            lambda: market_of(
                tables.frame("panel", settings), tables.frame("universe", settings), tables.frame("betas", settings),
                history, self.assets, settings,
            )[0],
        )  # fmt: skip
        book = (*prices, tables.key("basket", settings))
        weights = self._memo.get(("weights", *book), lambda: book_weights(basket, history, self.assets))
        of_forecast = rules.model_dump_json(include=_FORECAST)
        expected = self._memo.get(
            ("volatility", *book, rules.vol_target is None, of_forecast),
            lambda: expected_volatility(weights, market.price, history, settings),
        )
        targets = self._memo.get(
            ("targets", *book, of_forecast, rules.vol_target, rules.multiplier_max),
            lambda: targets_of(basket, weights, expected, history, settings),
        )
        return market, book_plan(ACCOUNT, targets, exposure, history, settings), targets


def _accounts(prepared: Prepared) -> list[Account | str]:
    """Account of each variant, or what went wrong."""
    first_day = day_number(prepared.history.start)

    def account(number: int) -> Account | str:
        market, plan, targets = prepared.orders[number]
        rules = prepared.variants[number].settings.backtest
        if targets.first is None:
            return "basket: the book is flat on every day, nothing could be traded"
        try:
            ledger = run(market, plan, rules.capital_usd, first_day, prepared.assets)
        except LedgerError as error:
            return str(error)
        return Account.of(ledger, rules.capital_usd, targets.first + rules.execution_lag_days)

    # The kernel releases the interpreter lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(account, range(len(prepared.variants))))


_FORECAST = {"vol_forecast", "vol_window_days", "vol_min_obs", "ewma_lambda", "garch_min_obs"}
"""Keys of section backtest that a volatility forecast depends on, beside whether there is a target."""


@dataclass(frozen=True)
class Account:
    """What is kept of a ledger; arrays (days,).

    Attributes:
        before: NAV at the close before, USD.
        returns: daily net returns.
        cost: all costs / `before`.
        turnover: traded notional / `before`.
        invested: the account held a position over the day.
        begins: row on which it can first trade.
    """

    before: np.ndarray
    returns: np.ndarray
    cost: np.ndarray
    turnover: np.ndarray
    invested: np.ndarray
    begins: int

    @classmethod
    def of(cls, ledger: Ledger, capital: float, begins: int) -> Account:
        """The same arithmetic as table `backtest`."""
        nav = ledger.flow("nav")
        before = np.concatenate([[capital], nav[:-1]])
        return cls(
            before,
            (nav - before) / before,
            sum((ledger.flow(name) for name in COSTS), np.zeros(len(nav))) / before,
            ledger.flow("traded_major") / before + ledger.flow("traded_alt") / before,
            np.concatenate([[False], ledger.flow("n_positions")[:-1] > 0]),
            begins,
        )


def _result(history: Window, done: Sequence[tuple[Variant, Account]], failures: list[Failure]) -> SweepResult:
    """Statistics over the days on which every variant can trade."""
    begins = max((account.begins for _, account in done), default=history.n_days)
    days = history.days()[begins:]
    variants, accounts = [variant for variant, _ in done], [account for _, account in done]
    if not days:
        return SweepResult(SWEEP.empty(), np.empty((0, 0)), [], [], failures)

    def column(name: str) -> np.ndarray:
        return np.stack([getattr(account, name)[begins:] for account in accounts], axis=1)

    returns = column("returns")
    n = len(days)
    growth = np.cumprod(1.0 + returns, axis=0)
    drawdown = growth / np.maximum(np.maximum.accumulate(growth, axis=0), 1.0) - 1.0
    unknown = np.full(len(done), np.nan)
    annual = {
        "sharpe": sharpe_ratios(returns.T),
        "cagr": np.maximum(growth[-1], 0.0) ** (DAYS_PER_YEAR / n) - 1.0 if n >= MIN_CAGR_DAYS else unknown,
        "volatility": np.std(returns, axis=0, ddof=1) * np.sqrt(DAYS_PER_YEAR) if n >= 2 else unknown,
        "max_drawdown": np.minimum(drawdown.min(axis=0), 0.0),
        "turnover_annual": column("turnover").mean(axis=0) * DAYS_PER_YEAR,
        "cost_annual": column("cost").mean(axis=0) * DAYS_PER_YEAR,
        "exposure_time": column("invested").mean(axis=0),
    }
    frame = pl.DataFrame({
        "variant": pl.Series([variant.number for variant in variants], dtype=pl.Int32),
        "trial": [trial_id(variant.settings) for variant in variants],
        "overrides": [_json(variant.overrides) for variant in variants],
        **{name: pl.Series(values).fill_nan(None) for name, values in annual.items()},
        "n_days": pl.Series([n] * len(variants), dtype=pl.Int32),
    })  # fmt: skip
    return SweepResult(SWEEP.conform(frame), returns, days, variants, failures)


def sweep_trials(result: SweepResult, history: Window, settings: Settings) -> list[Trial]:
    """What a sweep adds to the study registry: every variant, those that failed too.

    Args:
        result: of `sweep`.
        history: days of the lake.
        settings: the study's; with another method than composite, the variants differ from `sweepable(settings)`,
            and their labels say so.
    """
    own = exchanged(settings)
    settings = sweepable(settings)
    shared: dict[str, Any] = {"kind": KIND, "parent": trial_id(settings), "base": settings.digest()}
    done = [
        Trial(
            trial=row["trial"], label=_words(variant.overrides, own), settings=variant.overrides,
            seed=variant.settings.backtest.seed, first_day=history.start, last_day=history.end, n_days=row["n_days"],
            metrics={name: row[name] for name in METRICS}, returns_from=result.days[0],
            returns=result.returns[:, column], **shared,
        )
        for column, (variant, row) in enumerate(
            zip(result.variants, result.frame.iter_rows(named=True), strict=True)
        )
    ]  # fmt: skip
    failed = [
        Trial(
            trial=trial_id(failure.settings or settings, "" if failure.settings else _json(failure.overrides)),
            label=_words(failure.overrides, own), settings=failure.overrides, seed=settings.backtest.seed,
            first_day=history.start, last_day=history.end, error=failure.error, **shared,
        )
        for failure in result.failures
    ]  # fmt: skip
    return [*done, *failed]


def _json(overrides: Mapping[str, Any]) -> str:
    return json.dumps(overrides, sort_keys=True)


def _words(overrides: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    changes = [f"{key}={value}" for key, value in overrides.items()]
    return ", ".join([OTHER_METHOD, *changes] if own else changes) or AS_CONFIGURED
