"""Method `composite`: signed weighted mean of the z-scores that exist, thresholds with hysteresis and dwell.

score_t = mean over `smoothing_days` of  sum_f sign_f w_f clip(z_f, +-z_cap) / sum_f w_f,  f with a z-score.
Signs are the hypotheses of `features.definitions`. A smoothing window takes the days that have a score; a day
on which no feature of the scheme exists has none itself, and its label is BALANCED.

Candidates are the grid of the settings, candidate 0 the defaults; which is in force is chosen walk-forward, by
nested selection inside each training window.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from itertools import product

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.features.definitions import DEFINITIONS
from majors_alts_pipeline.numerics.windows import window_sum
from majors_alts_pipeline.regime.hysteresis import odds, paths, walk
from majors_alts_pipeline.regime.interface import LABELS, History, Labelled
from majors_alts_pipeline.regime.walkforward import Training, calendar_refits, paper_accounts, train
from majors_alts_pipeline.tables import REGIME, REGIME_MODEL

MIN_CHANGES = 2


@dataclass(frozen=True)
class Candidate:
    """Parameters of one candidate, as stored in `regime_model.params`.

    Attributes:
        scheme: name of the weight scheme.
        weights: (feature, sign x weight) pairs, sorted by feature.
        z_cap: |z| beyond which a feature counts no more.
        smoothing_days: trailing mean of the score.
        enter: entry threshold.
        exit_ratio: exit threshold / entry threshold.
        min_dwell_days: days a label lasts at least.
    """

    scheme: str
    weights: tuple[tuple[str, float], ...]
    z_cap: float
    smoothing_days: int
    enter: float
    exit_ratio: float
    min_dwell_days: int

    @property
    def leave(self) -> float:
        """Exit threshold in score units."""
        return self.enter * self.exit_ratio

    @property
    def score_key(self) -> tuple[tuple[tuple[str, float], ...], float, int]:
        """Return what the score depends on; candidates that share it share their score."""
        return self.weights, self.z_cap, self.smoothing_days

    def to_json(self) -> str:
        """Serialise exactly: floats survive the round trip bit for bit."""
        return json.dumps({**asdict(self), "weights": dict(self.weights)}, sort_keys=True)

    @classmethod
    @cache
    def from_json(cls, text: str) -> Candidate:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(**{**raw, "weights": tuple(sorted(raw["weights"].items()))})


def candidates(settings: Settings) -> list[Candidate]:
    """Defaults first, then the grid in the order of the settings, without the defaults' twin."""
    regime, grid = settings.regime, settings.regime.grid

    def make(scheme: str, smoothing: int, enter: float, exit_ratio: float, dwell: int) -> Candidate:
        weights = tuple(
            (feature, DEFINITIONS[feature].sign * weight)
            for feature, weight in sorted(regime.weight_schemes[scheme].items())
            if weight > 0
        )
        return Candidate(scheme, weights, regime.z_cap, smoothing, enter, exit_ratio, dwell)

    default = make(regime.default_scheme, regime.smoothing_days, regime.enter, regime.exit_ratio, regime.min_dwell_days)
    tried = (
        make(*values)
        for values in product(
            grid.weight_schemes, grid.smoothing_days, grid.enter, grid.exit_ratio, grid.min_dwell_days
        )
    )
    return list(dict.fromkeys([default, *tried]))


class ZScores:
    """z-scores of the features as (days,) columns, NaN where there is none."""

    def __init__(self, features: pl.DataFrame, window: Window) -> None:
        self.window = window
        self._column: dict[str, np.ndarray] = {}
        self._score: dict[object, np.ndarray] = {}
        for (name,), rows in window.keep(features).partition_by("feature", as_dict=True).items():
            column = np.full(window.n_days, np.nan)
            row = rows["date"].to_physical().to_numpy() - day_number(window.start)
            column[row] = rows["z"].cast(pl.Float64).fill_null(np.nan).to_numpy()
            self._column[str(name)] = column

    def known(self) -> np.ndarray:
        """(days,) number of features with a z-score."""
        return sum((~np.isnan(z) for z in self._column.values()), np.zeros(self.window.n_days, dtype=np.int64))

    def score(self, candidate: Candidate) -> np.ndarray:
        """(days,) composite score of the candidate, smoothed; NaN on days without a feature."""
        if candidate.score_key not in self._score:
            self._score[candidate.score_key] = self._smoothed(candidate)
        return self._score[candidate.score_key]

    def _smoothed(self, candidate: Candidate) -> np.ndarray:
        raw, span = self._raw(candidate), candidate.smoothing_days
        known = ~np.isnan(raw)
        lead = span - 1
        first = day_number(self.window.start) - lead
        total = window_sum(np.pad(np.where(known, raw, 0.0), (lead, 0)), span, first)[lead:]
        count = window_sum(np.pad(known.astype(np.float64), (lead, 0)), span, first)[lead:]
        return np.where(known, total / np.maximum(count, 1.0), np.nan)

    def _raw(self, candidate: Candidate) -> np.ndarray:
        total = np.zeros(self.window.n_days)
        weights = np.zeros(self.window.n_days)
        nothing = np.full(self.window.n_days, np.nan)
        for feature, weight in candidate.weights:
            z = self._column.get(feature, nothing)
            known = ~np.isnan(z)
            total += np.where(known, weight * np.clip(z, -candidate.z_cap, candidate.z_cap), 0.0)
            weights += np.where(known, abs(weight), 0.0)
        return np.divide(total, weights, out=nothing.copy(), where=weights > 0)


def expanding_change_sd(score: np.ndarray) -> np.ndarray:
    """(days,) sd (ddof 1) of the daily score changes up to each day; NaN before the second change."""
    change = np.diff(score, prepend=np.nan)
    known = ~np.isnan(change)
    change = np.where(known, change, 0.0)
    n, total, squares = np.cumsum(known), np.cumsum(change), np.cumsum(change * change)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (squares - total * total / n) / (n - 1)
    return np.where(n >= MIN_CHANGES, np.sqrt(np.maximum(variance, 0.0)), np.nan)


def candidate_states(z: ZScores, tried: Sequence[Candidate]) -> np.ndarray:
    """(days, candidates) label states from inception of every candidate, each under its own parameters."""
    return paths(
        np.column_stack([z.score(candidate) for candidate in tried]),
        np.array([candidate.enter for candidate in tried]),
        np.array([candidate.leave for candidate in tried]),
        np.array([candidate.min_dwell_days for candidate in tried]),
    )


def exposures(states: np.ndarray, settings: Settings) -> np.ndarray:
    """Share of the book held in each state, same shape."""
    return np.array([settings.regime.exposure[LABELS[state]] for state in (-1, 0, 1)])[states + 1]


def in_force_limits(
    z: ZScores, in_force: Sequence[Sequence[Candidate]], begins: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores and thresholds of sequences of models, each in force from a row to the next one's.

    Args:
        z: z-scores from inception.
        in_force: of each sequence, its candidates in order.
        begins: row from which each candidate of a sequence is in force, the first one 0.

    Returns:
        score, enter, leave, min_dwell, each (days, sequences), as `hysteresis.walk` takes them.
    """
    days = np.diff([*begins, z.window.n_days])

    def daily(values: Callable[[Candidate], float]) -> np.ndarray:
        return np.column_stack([np.repeat([values(candidate) for candidate in one], days) for one in in_force])

    score = np.empty((z.window.n_days, len(in_force)))
    for column, one in enumerate(in_force):
        for candidate, begin, length in zip(one, begins, days, strict=True):
            score[begin : begin + length, column] = z.score(candidate)[begin : begin + length]
    return score, daily(lambda c: c.enter), daily(lambda c: c.leave), daily(lambda c: c.min_dwell_days)


class Composite:
    """The composite score behind the regime interface."""

    name = "composite"
    needs_others = False

    def refit_dates(self, window: Window, settings: Settings) -> list[date]:
        """First day and the calendar dates of `regime.refit`; see `RegimeMethod`."""
        return calendar_refits(window, settings.regime.refit)

    def fit(
        self, history: History, refit_dates: list[date], previous: pl.DataFrame, settings: Settings
    ) -> pl.DataFrame:
        """Judge every candidate's label path from inception at every refit date; see `RegimeMethod`.

        The best of the grid replaces the defaults only when choosing by grid is worth it out of fold
        (`walkforward.Training.chosen`).
        """
        tried = candidates(settings)
        z = ZScores(history.features, history.window)
        held = exposures(candidate_states(z, tried), settings)
        paper = paper_accounts(held, history.forward_return, z.known() > 0, settings.regime.switch_cost)
        trainings = train(paper, history.window, refit_dates, settings)
        change_sd = {candidate.score_key: expanding_change_sd(z.score(candidate)) for candidate in tried}
        params = [candidate.to_json() for candidate in tried]
        sds = [change_sd[candidate.score_key] for candidate in tried]
        return REGIME_MODEL.conform(
            pl.concat([self._model_rows(training, params, sds, history.window) for training in trainings])
        )

    def _model_rows(
        self, training: Training, params: list[str], change_sd: list[np.ndarray], window: Window
    ) -> pl.DataFrame:
        number = np.arange(len(params), dtype=np.int32)
        row = training.last_row
        learned = training.objective is not None
        return pl.DataFrame({
            "date": training.refit,
            "method": self.name,
            "candidate": number,
            "params": params,
            "objective": pl.Series(training.objective if learned else [None] * len(params), dtype=pl.Float64),
            "nested_objective": pl.Series(
                [training.nested.objective if training.nested else None] * len(params), dtype=pl.Float64
            ),
            "n_obs": pl.Series([training.n_obs] * len(params), dtype=pl.Int32),
            "train_end": pl.Series([window.days()[row] if row >= 0 else None] * len(params), dtype=pl.Date),
            "score_change_sd": pl.Series(
                [sd[row] if learned else None for sd in change_sd], dtype=pl.Float64
            ).fill_nan(None),
            "chosen": number == training.chosen,
            "in_force": training.in_force,
            "converged": True,
            "note": training.note,
        })  # fmt: skip

    def label(
        self, history: History, models: pl.DataFrame, window: Window, others: Mapping[str, Labelled], settings: Settings
    ) -> Labelled:
        """Run the state machine from inception under the models in force; see `RegimeMethod`.

        At a refit the label is carried and judged by the new thresholds. Probabilities are those of
        tomorrow's label, dwell aside: the score is drawn from a normal around today's with the sd of daily
        score changes of the model's training or, before there is one, of the changes seen so far; with fewer
        than two changes, and on a day without a score, all the weight is on one label.
        """
        span = Window(models["date"].item(0), window.end)
        z = ZScores(history.features, span)
        known = z.known()
        first = (window.start - span.start).days
        in_force = [Candidate.from_json(text) for text in models["params"]]
        begins = [(day - span.start).days for day in models["date"]]
        states, lasted = walk(*in_force_limits(z, [in_force], begins))
        rows = []
        for model, candidate, begin, end in zip(
            models.to_dicts(), in_force, begins, [*begins[1:], span.n_days], strict=True
        ):
            score = z.score(candidate)
            so_far = expanding_change_sd(score)
            for row in range(max(begin, first), end):
                sd = model["score_change_sd"] if model["score_change_sd"] is not None else so_far[row]
                rows.append(
                    _row(model, candidate, score[row], sd, int(states[row, 0]), int(lasted[row, 0]), int(known[row]))
                )
        frame = pl.DataFrame(rows, schema=_ROW_SCHEMA, orient="row").with_columns(
            pl.Series("date", window.days()),
            pl.lit(self.name).alias("method"),
            pl.lit(None, pl.String).alias("native_state"),
            pl.lit(None, pl.Float64).alias("disagreement"),
        )
        return Labelled(frame, _tomorrow(frame))


_ROW_SCHEMA = {
    name: REGIME.schema[name]
    for name in (
        "label", "score", "p_risk_on_majors", "p_balanced", "p_risk_on_alts", "model_asof", "in_force", "candidate",
        "days_in_regime", "n_features",
    )
}  # fmt: skip


def _tomorrow(frame: pl.DataFrame) -> pl.DataFrame:
    """The label odds as a forecast of one day ahead, tidy; the label itself is certain on its day."""
    odds = {label: f"p_{label.lower()}" for label in LABELS.values()}
    return pl.concat(
        frame.select("date", pl.lit(1, pl.Int32).alias("horizon_days"), state=pl.lit(label), probability=pl.col(name))
        for label, name in odds.items()
    )


def _row(model: dict, candidate: Candidate, score: float, sd: float, state: int, days: int, n_features: int) -> tuple:
    if np.isnan(score):
        chances, shown = (0.0, 1.0, 0.0), None
    else:
        spread = 0.0 if np.isnan(sd) else sd
        chances, shown = (
            odds(float(score), float(spread), state, candidate.enter, candidate.leave),
            float(score),
        )
    origin = (model["date"], model["in_force"], model["candidate"])
    return (LABELS[state], shown, *chances, *origin, days, n_features)


METHOD = Composite()
