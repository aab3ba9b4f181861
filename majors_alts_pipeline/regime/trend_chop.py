"""Method `trend_chop`: TRENDING_UP, TRENDING_DOWN, RANGING, CHOPPY or CRISIS, from the bars of the first major.

Every threshold is what a random walk with the market's own bars exceeds on a stated share of days (`bars`), so a
state is evidence against that null and RANGING is its absence. In order:

1. CRISIS: -DI above +DI, and ATR over its trailing median or the five-day rise of the average correlation above its
   quantile 1 - `false_alarm`: of the null for the ATR, of its own past for the correlation, which has no null without
   the cross-section. The null falls on half of its days, so both together fire on at most `false_alarm` of them.
2. TRENDING_UP, TRENDING_DOWN: ADX above its quantile 1 - `false_alarm`; +DI against -DI gives the direction.
3. CHOPPY: choppiness above its quantile 1 - `false_alarm`.
4. RANGING: none of these.

Thresholds, GARCH and transitions (`transitions`) are fitted at each refit date on the bars before it. The label is made
of tomorrow's state probabilities and the configured `label_map`.

A day whose bar is null has no state and no forecast; indicators run over the bars that exist, the first one after a
gap measuring from the last known close. Without a correlation a day can be CRISIS by its ATR only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.numerics.garch import GarchFit, fit_garch, garch_volatility
from majors_alts_pipeline.regime.bars import INDICATORS, WARM_UP, indicators, null_quantiles, random_walks, shapes
from majors_alts_pipeline.regime.frames import Origin, regime_rows
from majors_alts_pipeline.regime.hysteresis import SIDES
from majors_alts_pipeline.regime.interface import LABELS, History, Labelled
from majors_alts_pipeline.regime.states import HORIZONS, FitFailedError
from majors_alts_pipeline.regime.transitions import Transition, fit_transition
from majors_alts_pipeline.regime.walkforward import calendar_refits
from majors_alts_pipeline.tables import REGIME_MODEL

STATES = ("TRENDING_UP", "TRENDING_DOWN", "RANGING", "CHOPPY", "CRISIS")
UP, DOWN, RANGING, CHOPPY, CRISIS = range(len(STATES))
UNKNOWN = -1

CORRELATION_DAYS = 5
"""Days over which a rise of the average correlation is measured."""


@dataclass(frozen=True)
class Series:
    """What the detector sees of each day; every array has one element per day of the window, NaN where unknown.

    Attributes:
        window: from inception.
        bars: rows of `market` with a whole bar, in order.
        row: day of each bar.
        known: {indicator: values}; unknown before `WARM_UP` bars.
        ret: return from the bar before, decimal.
        correlation_rise: change of the average correlation over `CORRELATION_DAYS`.
    """

    window: Window
    bars: pl.DataFrame
    row: np.ndarray
    known: dict[str, np.ndarray]
    ret: np.ndarray
    correlation_rise: np.ndarray

    @classmethod
    def of(cls, history: History) -> Series:
        """Read the market table from inception."""
        days = history.window.n_days
        whole = history.market.drop_nulls(["high", "low", "close"])
        bars = whole.select("high", "low", "close").rechunk()
        row = whole["date"].to_physical().to_numpy() - day_number(history.window.start)
        measured = indicators(bars)
        known = {name: np.full(days, np.nan) for name in INDICATORS}
        for name, values in known.items():
            values[row[WARM_UP:]] = measured[name].fill_null(np.nan).to_numpy()[WARM_UP:]
        ret = np.full(days, np.nan)
        close = bars["close"].to_numpy()
        ret[row[1:]] = close[1:] / close[:-1] - 1.0
        correlation = history.market["average_correlation"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        rise = np.full(days, np.nan)
        rise[CORRELATION_DAYS:] = correlation[CORRELATION_DAYS:] - correlation[:-CORRELATION_DAYS]
        return cls(history.window, bars, row, known, ret, rise)

    def before(self, end: int) -> Series:
        """Return the days before row `end`."""
        n = int(np.searchsorted(self.row, end))
        known = {name: values[:end] for name, values in self.known.items()}
        window = Window(self.window.start, self.window.start + timedelta(days=end - 1))
        return Series(window, self.bars.head(n), self.row[:n], known, self.ret[:end], self.correlation_rise[:end])


@dataclass(frozen=True)
class Detector:
    """Everything a label needs, as stored in `regime_model.params`; floats survive the round trip bit for bit.

    Attributes:
        garch: the volatility model.
        calm: median forecast volatility in training, decimal per day.
        adx: threshold.
        choppiness: threshold.
        spike: threshold of ATR / its trailing median.
        correlation_rise: threshold; None where too few correlations were known.
        transitions: {horizon: model}.
    """

    garch: GarchFit
    calm: float
    adx: float
    choppiness: float
    spike: float
    correlation_rise: float | None
    transitions: dict[int, Transition]

    def to_json(self) -> str:
        """Serialise exactly."""
        return json.dumps(asdict(self), sort_keys=True, default=date.isoformat)

    @classmethod
    @cache
    def from_json(cls, text: str) -> Detector:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        garch = GarchFit(**{**raw["garch"], "refit": date.fromisoformat(raw["garch"]["refit"])})
        ahead = {int(horizon): Transition(**values) for horizon, values in raw["transitions"].items()}
        return cls(**{**raw, "garch": garch, "transitions": ahead})

    def unease(self, series: Series) -> np.ndarray:
        """(days,) ln of the volatility forecast at each close over its median in training."""
        return np.log(garch_volatility(series.ret, self.garch) / self.calm)

    def states(self, series: Series) -> np.ndarray:
        """(days,) number of the state in `STATES`, or `UNKNOWN`."""
        return classify(series, self.adx, self.choppiness, self.spike, self.correlation_rise)


def classify(series: Series, adx: float, choppiness: float, spike: float, correlation_rise: float | None) -> np.ndarray:
    """(days,) number of the state in `STATES`, or `UNKNOWN`, under thresholds."""
    known = series.known
    up, down = known["direction"] > 0.0, known["direction"] < 0.0
    strain = known["spike"] > spike
    if correlation_rise is not None:
        strain |= series.correlation_rise > correlation_rise
    trend = known["adx"] > adx
    complete = ~np.isnan([known[name] for name in INDICATORS]).any(axis=0)
    rules = [~complete, strain & down, trend & up, trend & down, known["choppiness"] > choppiness]
    return np.select(rules, [UNKNOWN, CRISIS, UP, DOWN, CHOPPY], default=RANGING)


def fit_detector(past: Series, refit: date, settings: Settings) -> tuple[Detector, float]:
    """Fit on the days before a refit date.

    Returns:
        the detector, and the log-likelihood per return of its GARCH.

    Raises:
        FitFailedError: the GARCH or a transition model did not converge, or the market never moved.
    """
    if np.nanmax(past.ret) == np.nanmin(past.ret):
        raise FitFailedError("GARCH: the returns of the first major do not vary")
    garch = fit_garch(past.ret, refit)
    if not garch.converged:
        raise FitFailedError(f"GARCH of {garch.n_obs} returns did not converge")
    own = settings.regime.trend_chop
    forecast = garch_volatility(past.ret, garch)
    # The forecast of a bar is made the day before it; the first bar has neither forecast nor return.
    expected = forecast[past.row[2:] - 1]
    walks = random_walks(
        shapes(past.bars)[1:] / expected[:, None], expected, garch, own.null_paths, [own.seed, day_number(refit)]
    )
    limits = null_quantiles(walks, 1.0 - own.false_alarm)
    rises = past.correlation_rise[~np.isnan(past.correlation_rise)]
    enough = len(rises) >= settings.regime.min_train_days
    rise = float(np.quantile(rises, 1.0 - own.false_alarm)) if enough else None
    states = classify(past, correlation_rise=rise, **limits)
    calm = float(np.median(expected))
    unease = np.log(forecast / calm)
    ahead = {horizon: fit_transition(states, unease, horizon, len(STATES), own.prior_strength) for horizon in HORIZONS}
    detector = Detector(garch=garch, calm=calm, correlation_rise=rise, transitions=ahead, **limits)
    return detector, garch.log_likelihood / garch.n_obs


class TrendChop:
    """The detector behind the regime interface."""

    name = "trend_chop"
    needs_others = False

    def refit_dates(self, window: Window, settings: Settings) -> list[date]:
        """First day and the calendar dates of `regime.states.refit`; see `RegimeMethod`."""
        return calendar_refits(window, settings.regime.states.refit)

    def fit(
        self, history: History, refit_dates: list[date], previous: pl.DataFrame, settings: Settings
    ) -> pl.DataFrame:
        """Fit at every refit date on the bars before it; see `RegimeMethod`."""
        series = Series.of(history)
        good = previous["params"].to_list()[-1] if previous.height else "{}"
        rows = []
        for refit in refit_dates:
            row = self._refit(series, refit, good, settings)
            good = row["params"]
            rows.append(row)
        return REGIME_MODEL.conform(pl.DataFrame(rows, schema=REGIME_MODEL.schema))

    def _refit(self, series: Series, refit: date, good: str, settings: Settings) -> dict[str, Any]:
        end = (refit - series.window.start).days
        n_bars = int(np.searchsorted(series.row, end))
        row: dict[str, Any] = {
            "date": refit, "method": self.name, "candidate": 0, "params": good, "objective": None, "n_obs": n_bars,
            "train_end": series.window.start + timedelta(days=int(series.row[n_bars - 1])) if n_bars else None,
            "score_change_sd": None, "chosen": True, "in_force": "default" if good == "{}" else "kept",
            "converged": True, "note": "",
        }  # fmt: skip
        # As many days with a state as without one at the least, so that there are transitions to count.
        wanted = max(settings.regime.min_train_days, 2 * WARM_UP)
        if n_bars < wanted:
            return {**row, "note": f"{n_bars} of {wanted} bars"}
        try:
            detector, objective = fit_detector(series.before(end), refit, settings)
        except FitFailedError as failure:
            return {**row, "converged": False, "note": str(failure)}
        return {**row, "params": detector.to_json(), "objective": objective, "in_force": "walk_forward"}

    def label(
        self, history: History, models: pl.DataFrame, window: Window, others: Mapping[str, Labelled], settings: Settings
    ) -> Labelled:
        """Name the state of each day under the detector in force and say where it goes; see `RegimeMethod`.

        The label probabilities are those of tomorrow's state under the configured map. The state of the day itself
        is certain. On a day without a state BALANCED is certain, there is no score and no row of probabilities.
        """
        series = Series.of(history)
        days = history.window.n_days
        origin = Origin.of(models, history.window)
        state = np.full(days, UNKNOWN)
        chances = {horizon: np.full((days, len(STATES)), np.nan) for horizon in (0, *HORIZONS)}
        starts = [(day - history.window.start).days for day in models["date"]]
        for params, first, end in zip(models["params"], starts, [*starts[1:], days], strict=True):
            if params == "{}":
                continue
            detector = Detector.from_json(params)
            origin.asof[first:end] = [detector.garch.refit] * (end - first)
            seen = series.before(end)
            rows = np.arange(first, end)
            state[rows] = detector.states(seen)[rows]
            rows = rows[state[rows] != UNKNOWN]
            unease = detector.unease(seen)[rows]
            chances[0][rows] = np.eye(len(STATES))[state[rows]]
            for horizon, model in detector.transitions.items():
                chances[horizon][rows] = model.probabilities(state[rows], unease)
        known = state != UNKNOWN
        said = np.array([[settings.regime.trend_chop.label_map[s][LABELS[side]] for side in SIDES] for s in STATES])
        three = sum(
            (chances[1][:, number, None] * said[number] for number in range(len(STATES))), np.zeros((days, len(SIDES)))
        )
        n_features = (~np.isnan([*series.known.values(), series.correlation_rise])).sum(axis=0)
        regime = regime_rows(
            self.name, history.window, three, known, origin, n_features, settings,
            native_state=[STATES[number] if number != UNKNOWN else None for number in state],
        )  # fmt: skip
        tidy = pl.concat(
            pl.DataFrame({
                "date": np.array(history.window.days(), dtype="datetime64[D]")[known],
                "horizon_days": pl.Series([horizon] * int(known.sum()), dtype=pl.Int32),
                "state": STATES[number],
                "probability": values[known, number],
            })
            for horizon, values in chances.items()
            for number in range(len(STATES))
        )  # fmt: skip
        return Labelled(window.keep(regime), window.keep(tidy))


METHOD = TrendChop()
