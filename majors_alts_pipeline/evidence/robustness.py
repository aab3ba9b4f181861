"""Robustness: the same accounts under other assumptions, one at a time.

Each case recomputes only the stages its change touches, from the stored tables of the study; what it held fixed is in
its note. The fitted regime methods are refitted only where the data themselves change (price noise, survivorship):
refitting them for every other book would cost more than everything else together, so their labels are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import ConfigError, Settings
from majors_alts_pipeline.config.settings import with_overrides
from majors_alts_pipeline.evaluation.contracts import ROBUSTNESS as CONTRACT
from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR, sharpe_ratio
from majors_alts_pipeline.evaluation.stage import COSTS, MIN_CAGR_DAYS, evaluation_start
from majors_alts_pipeline.evidence.registry import ROBUSTNESS as KIND
from majors_alts_pipeline.evidence.registry import Trial, trial_id
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.stages import STAGE_OF_TABLE, STAGES, ancestors
from majors_alts_pipeline.tables import TABLES

Say = Callable[[str], None]
Tables = Mapping[str, pl.DataFrame]

ACCOUNTS = ("regime", "always_on")
AS_CONFIGURED = "as configured"
COST_BP = (0, 2, 5, 10, 15, 20, 30, 40, 50)
LAGS = (0, 1, 2)
BASKET_SIZES = (8, 12, 16, 20, 30, 40)
MODES = ("dual_beta", "btc_beta", "dollar")
FORECASTS = ("off", "trailing", "ewma", "garch")
LEFT_OUT = 20
"""Alts left out one at a time: those with the largest |P&L| of the always-on book."""

MIN_SLICE_DAYS = 180
NOISE_DRAWS = 3
OUTCOMES = (-0.9, -0.5, -0.2, 0.0, 0.3)
"""Return of an asset after its last price, decimal."""

_CLONE_NOISE = 0.03
_CLONE_HISTORY = 120
_REFITTED = frozenset({"composite"})
"""Methods quick enough to be fitted anew for every other book."""

_BEFORE_RETURN = 1e-12


@dataclass(frozen=True)
class Case:
    """One case of a test.

    Attributes:
        test: name of the test.
        label: what was changed, in words or figures.
        level: the case as a number, None where it is a name.
        note: what a reader must know.
        overrides: settings changed, dotted key to value.
        replaced: tables changed.
        redo: first stage recomputed; those after it follow if they depend on it.
        refit: fit the regime methods anew, whatever they cost.
        trial: it is another configuration one might have chosen, so it counts as a trial.
    """

    test: str
    label: str
    level: float | None = None
    note: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    replaced: Callable[[], Tables] = dict
    redo: str = "backtest"
    refit: bool = False
    trial: bool = False


class Suite:
    """The robustness tests of one study.

    Args:
        tables: every stored table the chain reads, over `window`, the whole history of the study.
        lake: the lake, for what only it knows (two sources of a price).
        window: days of the tables.
        settings: resolved settings of the study.
        say: receives one line per test.
    """

    def __init__(self, tables: Tables, lake: LakeSource, window: Window, settings: Settings, say: Say) -> None:
        self._tables, self._lake, self._window, self._say = tables, lake, window, say
        self._settings = settings
        self._order = [stage for stage in ancestors(STAGE_OF_TABLE["backtest"]) if stage.inputs]
        self.trials: list[Trial] = []

    def frame(self) -> pl.DataFrame:
        """Run every test; rows of the contract `robustness`."""
        rows: list[dict[str, Any]] = []
        for words, cases in self._tests():
            rows += self._test(words, list(cases))
        self._say("robustness: start dates and years left out")
        rows += [*self._start_dates(), *self._years_left_out()]
        ranked = pl.DataFrame(rows, schema={name: CONTRACT.schema[name] for name in CONTRACT.schema if name != "rank"})
        numbered = ranked.with_columns(rank=pl.col("case").rle_id().over("test").cast(CONTRACT.schema["rank"]))
        return CONTRACT.conform(numbered.select(list(CONTRACT.columns)).sort("test", "case", "account"))

    # ---- the tests --------------------------------------------------------------------------------------

    def _tests(self) -> Iterator[tuple[str, Iterable[Case]]]:
        yield "cost sweep", self._costs()
        yield "execution lag", self._lags()
        yield "basket size, neutrality mode, volatility forecast", [*self._sizes(), *self._modes(), *self._forecasts()]
        yield f"leave one of {LEFT_OUT} assets out", self._assets()
        yield "price noise through the whole chain", self._noise()
        yield "survivorship", self._survivorship()

    def _costs(self) -> Iterator[Case]:
        note = (
            "all-in one-way cost of traded notional in place of fee, spread and impact; funding and the haircut of "
            "dead positions unchanged"
        )
        for bp in COST_BP:
            overrides = {
                "costs.taker_fee": bp / 1e4, "costs.maker_share": 0.0, "costs.spread_default": 0.0,
                "costs.spread_min": 0.0, "costs.spread_max": 0.0, "costs.impact_coefficient": 0.0,
            }  # fmt: skip
            yield Case("cost_bp", f"{bp} bp", float(bp), note, overrides)

    def _lags(self) -> Iterator[Case]:
        own = self._settings.backtest.execution_lag_days
        for lag in sorted({*LAGS, own}):
            yield Case(
                "execution_lag", f"{lag} days", float(lag), "same decisions, traded so many closes later",
                {"backtest.execution_lag_days": lag}, trial=lag != own,
            )  # fmt: skip

    def _sizes(self) -> Iterator[Case]:
        basket = self._settings.basket
        for size in sorted({*BASKET_SIZES, basket.n_alts}):
            overrides = {"basket.n_alts": size, "basket.min_alts": min(basket.min_alts, size)}
            yield Case("basket_size", f"{size} alts", float(size), "", overrides, redo="basket",
                       trial=size != basket.n_alts)  # fmt: skip

    def _modes(self) -> Iterator[Case]:
        for mode in MODES:
            own = mode == self._settings.basket.mode
            yield Case("neutrality_mode", mode, None, "", {"basket.mode": mode}, redo="basket", trial=not own)

    def _forecasts(self) -> Iterator[Case]:
        rules = self._settings.backtest
        if rules.vol_target is None:
            yield Case("vol_forecast", "off", None, "backtest.vol_target is off: no forecast is used")
            return
        for name in FORECASTS:
            overrides = {"backtest.vol_target": None} if name == "off" else {"backtest.vol_forecast": name}
            yield Case("vol_forecast", name, None, "", overrides, trial=name != rules.vol_forecast)

    def _assets(self) -> Iterator[Case]:
        positions = self._tables["positions"].filter(pl.col("account") == "always_on", pl.col("leg") == "alt")
        earned = (
            positions.group_by("asset_id")
            .agg((pl.col("pnl_price") + pl.col("pnl_funding")).sum().alias("pnl"))
            .sort(pl.col("pnl").abs(), "asset_id", descending=[True, False])
            .head(LEFT_OUT)
        )
        for asset, pnl in earned.iter_rows():
            note = f"never held; earned {pnl:+,.0f} USD in the always-on account; the regime features still see it"
            yield Case("leave_one_asset_out", asset, pnl, note, {}, self._without(asset), "basket")
        for major in self._settings.lake.majors:
            note = f"impossible: without {major} the book has no hedge and is not this book; n_days 0"
            yield Case("leave_one_asset_out", major, None, note, {})

    def _without(self, asset: str) -> Callable[[], Tables]:
        out = pl.col("asset_id") == asset
        return lambda: {
            "universe": self._tables["universe"].with_columns(
                eligible=pl.col("eligible") & ~out,
                reason=pl.when(out).then(pl.lit("left out")).otherwise("reason"),
            )
        }

    def _noise(self) -> Iterator[Case]:
        size, source = self._noise_size()
        note = f"independent log-normal noise on every price of every asset, sd {size * 1e4:.1f} bp ({source})"
        for draw in range(1, NOISE_DRAWS + 1):
            replaced = _deferred(noisy_panel, self._tables["panel"], size, self._settings.evaluation.seed + draw)
            yield Case("price_noise", f"draw {draw}", size, note, {}, replaced, "universe", refit=True)

    def _noise_size(self) -> tuple[float, str]:
        measured = vendor_difference(self._lake, self._window)
        if measured is not None:
            return measured
        return self._settings.evaluation.price_noise, "evaluation.price_noise: the lake has one source per price"

    def _survivorship(self) -> Iterator[Case]:
        panel, last = self._tables["panel"], self._window.end
        ends = series_ends(panel, self._settings.lake.majors, last, self._settings.lake.price_carry_days)
        if ends.height:
            held = self._held_at_their_end(ends)
            for outcome in OUTCOMES:
                note = (
                    f"{ends.height} series end inside the lake, {held} of them in the always-on book at that close; "
                    f"each is given one more close, {outcome:+.0%} from its last, on the day after; what was held of "
                    "it, short or not, earns that before its exit"
                )
                replaced = _deferred(with_last_return, panel, ends, outcome)
                label = f"dead alts return {outcome:+.0%} at their end"
                yield Case("survivorship", label, outcome, note, {}, replaced)
        known = (
            f"{ends.height} series end in this lake" if ends.height else "no series ends in this lake (survivors only)"
        )
        clones = plan_clones(panel, self._tables["universe"], self._window, self._settings)
        for outcome in OUTCOMES:
            note = (
                f"{known}: {clones.height} alts that die are added, {self._settings.evaluation.death_rate:.0%} of the "
                f"eligible ones per year; each copies an eligible alt with {_CLONE_NOISE:.0%} of daily noise of its "
                f"own, and on its last day returns {outcome:+.0%}; the whole chain after the panel is computed anew "
                "and may hold them short or not"
            )
            replaced = _deferred(with_clones, panel, clones, outcome, self._settings.evaluation.seed)
            label = f"added dead alts return {outcome:+.0%} at their end"
            yield Case("survivorship", label, outcome, note, {}, replaced, "universe", refit=True)

    def _held_at_their_end(self, ends: pl.DataFrame) -> int:
        """Ended series in which the always-on book had a position at the last close."""
        held = self._tables["positions"].filter(pl.col("account") == "always_on", pl.col("units") != 0.0)
        return ends.join(held, on=["asset_id", "date"], how="semi").height

    def _start_dates(self) -> list[dict[str, Any]]:
        days = self._own
        if days.is_empty():
            return []
        first, last = min(days["date"].to_list()), max(days["date"].to_list())
        starts = [
            day
            for day in Window(first, last).days()
            if day.day == 1 and day.month in (1, 4, 7, 10) and (last - day).days >= MIN_SLICE_DAYS
        ]
        note = "the same account, judged from a later first day on"
        rows = self._rows(Case("start_date", AS_CONFIGURED, float(day_number(first)), f"from {first}"), days)
        for day in starts:
            case = Case("start_date", f"from {day}", float(day_number(day)), note)
            rows += self._rows(case, days.filter(pl.col("date") >= day))
        return rows

    def _years_left_out(self) -> list[dict[str, Any]]:
        days = self._own
        rows = self._rows(Case("leave_one_year_out", AS_CONFIGURED), days)
        for year in sorted(days["date"].dt.year().unique()):
            case = Case("leave_one_year_out", f"without {year}", float(year), "the days left, joined in order")
            rows += self._rows(case, days.filter(pl.col("date").dt.year() != year))
        return rows

    # ---- running a case ---------------------------------------------------------------------------------

    @cached_property
    def _own(self) -> pl.DataFrame:
        return _judged(self._tables["backtest"])

    def _test(self, words: str, cases: list[Case]) -> list[dict[str, Any]]:
        self._say(f"robustness: {words} ({len(cases)} cases)")
        rows: list[dict[str, Any]] = []
        tests = list(dict.fromkeys(case.test for case in cases))
        for test in tests:
            rows += self._rows(Case(test, AS_CONFIGURED, note="the study itself"), self._own)
            for case in (case for case in cases if case.test == test):
                rows += self._run(case)
        return rows

    def _run(self, case: Case) -> list[dict[str, Any]]:
        if case.note.startswith("impossible"):
            return self._rows(case, self._own.clear())
        try:
            settings = with_overrides(self._settings, case.overrides)
        except ConfigError as error:
            words = f"impossible: {str(error).splitlines()[-1].strip()}"
            return self._rows(Case(case.test, case.label, case.level, words), self._own.clear())
        labels_held, backtest = self._accounts(settings, case)
        note = "; ".join(part for part in (case.note, labels_held) if part)
        days = _judged(backtest)
        if case.trial:
            self.trials += self._as_trials(case, settings, days)
        return self._rows(Case(case.test, case.label, case.level, note), days)

    def _accounts(self, settings: Settings, case: Case) -> tuple[str, pl.DataFrame]:
        """What was held fixed, in words, and the accounts of the case."""
        held: dict[str, pl.DataFrame] = {**self._tables, **case.replaced()}
        redone = [stage for stage in self._order if _at_or_after(stage.name, case.redo)]
        refit = case.refit or settings.regime.method in _REFITTED
        labels = {"regime_model", "regime", "book_outcome"}
        words = ""
        if not refit:
            words = f"labels of {settings.regime.method} as in the study" if case.redo != "backtest" else ""
            redone = [stage for stage in redone if stage.name not in labels]
        reduced = lean(settings)
        for stage in redone:
            inputs = {
                item.table: _columns(held[item.table], item.columns)
                if not item.lag
                else _columns(TABLES[item.table].empty(), item.columns)
                for item in stage.inputs
            }
            held.update(stage.compute(inputs, self._window, reduced))
        return words, held["backtest"]

    def _rows(self, case: Case, days: pl.DataFrame) -> list[dict[str, Any]]:
        return [
            {"test": case.test, "case": case.label, "account": account, "level": case.level,
             **measures(days.filter(pl.col("account") == account)), "note": case.note}
            for account in ACCOUNTS
        ]  # fmt: skip

    def _as_trials(self, case: Case, settings: Settings, days: pl.DataFrame) -> list[Trial]:
        return [
            Trial(
                trial=trial_id(settings), kind=KIND, label=f"{case.test}: {case.label}", settings=case.overrides,
                seed=settings.backtest.seed, account=account, parent=trial_id(self._settings),
                base=self._settings.digest(), first_day=self._window.start, last_day=self._window.end,
                n_days=rows.height, metrics=measures(rows), returns_from=rows["date"].min(),  # type: ignore[arg-type]
                returns=rows["ret_net"].to_numpy(),
            )
            for account in ACCOUNTS
            if (rows := days.filter(pl.col("account") == account)).height
        ]  # fmt: skip


def _at_or_after(stage: str, first: str) -> bool:
    names = [item.name for item in STAGES]
    return names.index(stage) >= names.index(first)


def lean(settings: Settings) -> Settings:
    """The same accounts without what only the report shows: other methods' labels, sixteen random paths."""
    methods = settings.regime.methods
    alone = settings.regime.method in _REFITTED
    return settings.model_copy(
        update={
            "regime": settings.regime.model_copy(update={"methods": (settings.regime.method,) if alone else methods}),
            "backtest": settings.backtest.model_copy(update={"random_paths": 1}),
        }
    )


def _columns(frame: pl.DataFrame, columns: tuple[str, ...] | None) -> pl.DataFrame:
    return frame if columns is None else frame.select(columns)


def _deferred(function: Callable[..., pl.DataFrame], *arguments: Any) -> Callable[[], Tables]:
    return lambda: {"panel": function(*arguments)}


def _judged(backtest: pl.DataFrame) -> pl.DataFrame:
    """Days of both accounts from the first trade on, with the NAV before each."""
    start = evaluation_start(backtest)
    rows = backtest.filter(pl.col("account").is_in(ACCOUNTS))
    before = (pl.col("nav") / (1.0 + pl.col("ret_net"))).alias("before")
    return rows.filter(pl.col("date") >= start).with_columns(before).sort("account", "date")


def measures(days: pl.DataFrame) -> dict[str, Any]:
    """Metrics of one account's days: those of the contract `robustness`, and what else the registry keeps.

    Args:
        days: rows of `backtest` with `before`, the NAV of the eve.
    """
    n = days.height
    if not n:
        return {"sharpe": None, "cagr": None, "max_drawdown": 0.0, "cost_annual": 0.0, "n_days": 0}
    returns = days["ret_net"].to_numpy()
    growth = np.cumprod(1.0 + returns)
    drawdown = growth / np.maximum(np.maximum.accumulate(growth), 1.0) - 1.0
    cost = days.select(pl.sum_horizontal(COSTS) / pl.col("before")).to_series().to_numpy()
    sharpe = sharpe_ratio(returns)
    return {
        "sharpe": None if np.isnan(sharpe) else sharpe,
        "cagr": float(max(growth[-1], 0.0) ** (DAYS_PER_YEAR / n) - 1.0) if n >= MIN_CAGR_DAYS else None,
        "max_drawdown": min(float(drawdown.min()), 0.0),
        "cost_annual": float(np.mean(cost)) * DAYS_PER_YEAR,
        "n_days": n,
    }


# ---- changed data -------------------------------------------------------------------------------------------


def vendor_difference(lake: LakeSource, window: Window) -> tuple[float, str] | None:
    """Robust sd of log close differences where two tables of the lake hold the same asset and day from two sources.

    Returns:
        (sd, words), 1.4826 x the median absolute difference / sqrt(2), each source being half to blame; None where
        the lake has no such pair of at least 1,000 closes.
    """
    prices = lake.frame("fact_price", window.start, window.end)
    bars = lake.frame("fact_ohlc", window.start, window.end)
    if prices is None or bars is None or "source" not in prices.columns or "source" not in bars.columns:
        return None
    both = prices.select("date", "asset_id", "close", "source").join(
        bars.select("date", "asset_id", other="close", theirs="source"), on=["date", "asset_id"], how="inner"
    )
    differ = both.filter(pl.col("source") != pl.col("theirs"), pl.col("close") > 0, pl.col("other") > 0)
    if differ.height < 1_000:
        return None
    gap = differ.select((pl.col("close") / pl.col("other")).log().abs().median()).item()
    sources = sorted({*differ["source"].unique(), *differ["theirs"].unique()})
    return 1.4826 * gap / np.sqrt(2.0), f"measured between {' and '.join(sources)} on {differ.height:,} closes"


def noisy_panel(panel: pl.DataFrame, size: float, seed: int) -> pl.DataFrame:
    """Multiply every observed price by exp(noise) and every return accordingly; carried prices keep their noise.

    Args:
        panel: rows of `panel`.
        size: sd of the log noise, decimal.
        seed: same seed, same noise.
    """
    rows = panel.sort("asset_id", "date")
    drawn = np.random.default_rng(seed).normal(0.0, size, rows.height)
    own = pl.col("price_age_days") == 0
    noise = pl.when(own).then(pl.col("_drawn")).forward_fill().over("asset_id").fill_null(0.0)
    marked = rows.with_columns(pl.Series("_drawn", drawn)).with_columns(_noise=noise)
    before = pl.col("_noise").shift(1).over("asset_id").fill_null(0.0)
    moved = marked.with_columns(
        *((pl.col(name) * pl.col("_noise").exp()).alias(name) for name in ("open", "high", "low", "close")),
        ret=(1.0 + pl.col("ret")) * (pl.col("_noise") - before).exp() - 1.0,
    )
    return moved.drop("_drawn", "_noise").sort("date", "asset_id").select(panel.columns)


def series_ends(panel: pl.DataFrame, majors: tuple[str, str], last: date, carry_days: int) -> pl.DataFrame:
    """(asset_id, date, close) of the last own price of every series that ends before the lake does."""
    own = panel.filter((pl.col("price_age_days") == 0) & ~pl.col("asset_id").is_in(majors))
    ends = own.sort("date").group_by("asset_id", maintain_order=True).agg(pl.col("date", "close").last())
    return ends.filter(pl.col("date") < last - timedelta(days=max(carry_days, 1))).sort("asset_id")


def with_last_return(panel: pl.DataFrame, ends: pl.DataFrame, outcome: float) -> pl.DataFrame:
    """Give every ended series one more close on the day after its last, `outcome` (decimal) away from it.

    A carried price of that day becomes the new close; later carried ones follow it. With a carry of 0 days a row is
    added.
    """
    end = ends.select("asset_id", _end="date", _last="close")
    factor = 1.0 + outcome
    marked = panel.join(end, on="asset_id", how="left", maintain_order="left")
    after = (pl.col("date") > pl.col("_end")).fill_null(False)
    extra = pl.col("date") == pl.col("_end") + pl.duration(days=1)
    moved = marked.with_columns(
        close=pl.when(after).then(pl.col("close") * factor).otherwise("close"),
        ret=pl.when(after & extra).then(pl.lit(outcome)).otherwise("ret"),
        price_age_days=pl.when(after).then(pl.col("price_age_days") - 1).otherwise("price_age_days"),
    )
    have = moved.filter(after & extra)["asset_id"]
    added = (
        moved.filter((pl.col("date") == pl.col("_end")) & ~pl.col("asset_id").is_in(have.implode()))
        .with_columns(
            pl.col("date") + pl.duration(days=1),
            close=pl.col("close") * factor, ret=pl.lit(outcome), open=pl.lit(None, pl.Float64),
            high=pl.lit(None, pl.Float64), low=pl.lit(None, pl.Float64), price_age_days=pl.lit(0, pl.Int32),
        )
    )  # fmt: skip
    return pl.concat([moved, added]).select(panel.columns).sort("date", "asset_id")


def plan_clones(panel: pl.DataFrame, universe: pl.DataFrame, window: Window, settings: Settings) -> pl.DataFrame:
    """Choose which alts are copied and when the copies die: (asset_id, clone, date), seeded.

    Deaths are spread evenly over the days with an eligible alt, at `evaluation.death_rate` of the mean number of
    eligible alts per year; each copies an alt eligible on its day of death with at least `_CLONE_HISTORY` prices
    before it.
    """
    alive = universe.filter((pl.col("role") == "alt") & pl.col("eligible"))
    schema = {"asset_id": pl.String, "clone": pl.String, "date": pl.Date}
    if alive.is_empty():
        return pl.DataFrame(schema=schema)
    own = panel.filter(pl.col("price_age_days") == 0).sort("date")
    seen = own.select("date", "asset_id", _n=pl.int_range(1, pl.len() + 1).over("asset_id"))
    ready = alive.join(seen, on=["date", "asset_id"]).filter(pl.col("_n") >= _CLONE_HISTORY).sort("date", "asset_id")
    days = ready["date"].unique().sort()
    mean = ready.height / max(days.len(), 1)
    count = round(settings.evaluation.death_rate * mean * days.len() / DAYS_PER_YEAR)
    rng = np.random.default_rng(settings.evaluation.seed)
    rows = []
    for k in range(count):
        # The middle of the k-th of equal stretches, so that deaths neither cluster nor fall on the last day.
        day = days[int((k + 0.5) * days.len() / count)]
        names = ready.filter(pl.col("date") == day)["asset_id"]
        name = names[int(rng.integers(names.len()))]
        rows.append((name, f"{name}~DEAD{k:03d}", day))
    return pl.DataFrame(rows, schema=schema, orient="row")


def with_clones(panel: pl.DataFrame, clones: pl.DataFrame, outcome: float, seed: int) -> pl.DataFrame:
    """Add the copies of `plan_clones` to the panel: noise of their own, `outcome` on the last day, then nothing."""
    own = panel.filter(pl.col("price_age_days") == 0)
    copied = clones.rename({"date": "_end"}).join(own, on="asset_id").filter(pl.col("date") <= pl.col("_end"))
    copied = copied.sort("clone", "date")
    noise = np.random.default_rng(seed).normal(0.0, _CLONE_NOISE, copied.height)
    final = pl.col("date") == pl.col("_end")
    # The path the noise has added by each day; the last day's return replaces the original's.
    path = pl.col("_noise").cum_sum().over("clone")
    moved = (
        copied.with_columns(pl.Series("_noise", noise))
        .with_columns(
            _noise=pl.when(final)
            .then(np.log1p(max(outcome, -1.0 + _BEFORE_RETURN)) - pl.col("ret").fill_null(0.0).log1p())
            .otherwise("_noise")
        )
        .with_columns(
            *((pl.col(name) * path.exp()).alias(name) for name in ("open", "high", "low", "close", "marketcap")),
            ret=(1.0 + pl.col("ret")) * pl.col("_noise").exp() - 1.0,
            asset_id=pl.col("clone"),
        )
    )
    return pl.concat([panel, moved.select(panel.columns)]).sort("date", "asset_id")
