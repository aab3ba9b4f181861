"""What the fitted regime methods share: training sample, alignment, what is in force, labels.

A method of this family brings one function, its fit; `StatesMethod` does the rest. The data of a day are
coordinates signed so that a high value favours majors (z-scores, or the majors-minus-alts return); a state is a
diagonal Gaussian over them. A model in force is re-run by the forward recursion from inception, so a label
depends on that model's parameters and on the days up to its own, whatever else was loaded.

Labels belong to states for life: at birth states are ordered by the mean of their signed coordinates, the
lowest being RISK_ON_ALTS and the highest RISK_ON_MAJORS; later refits are matched to the model before by the
assignment of least total squared 2-Wasserstein distance and take its labels over.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from functools import cache
from typing import Any, Literal

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.features.definitions import DEFINITIONS
from majors_alts_pipeline.regime.filtering import (
    FilteredProbabilities,
    SmoothedProbabilities,
    as_hindsight,
    forward,
    forward_costs,
    log_density,
    smooth,
    smooth_costs,
)
from majors_alts_pipeline.regime.frames import Origin, regime_rows
from majors_alts_pipeline.regime.hysteresis import SIDES
from majors_alts_pipeline.regime.interface import LABELS, LABELS_STAY, History, Labelled
from majors_alts_pipeline.regime.walkforward import calendar_refits
from majors_alts_pipeline.tables import REGIME_MODEL

HORIZONS = (1, 5)
"""Days ahead for which probabilities are stored, besides the day itself."""

MIN_SHARE = 0.02
"""Share of the training days below which a state is a handful of outliers: the fit has degenerated."""

COVERAGE = 0.5
"""Share of the training days on which a coordinate must be known to take part."""

MIN_VARIANCE = 1e-6
"""Variance, in units of the training variance, below which a state has collapsed onto a point."""

RETURN = "majors_minus_alts"


class FitFailedError(Exception):
    """A fit did not converge, met a known numerical failure or degenerated; the message says which."""


@dataclass(frozen=True)
class Fit:
    """A fitted model over standardised coordinates, states in any order.

    Attributes:
        mean: (states, d).
        variance: (states, d).
        weight: (states,) distribution of a day of which nothing is known.
        transition: (states, states) of days, for prediction and, unless the model is memoryless, for filtering.
        share: (states,) share of the training days each state explains.
        objective: log-likelihood per training day, or minus the loss.
    """

    mean: np.ndarray
    variance: np.ndarray
    weight: np.ndarray
    transition: np.ndarray
    share: np.ndarray
    objective: float

    def reordered(self, order: np.ndarray) -> Fit:
        """Return the same model with its states in another order."""
        return Fit(
            self.mean[order], self.variance[order], self.weight[order],
            self.transition[np.ix_(order, order)], self.share[order], self.objective,
        )  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """What a fit is given.

    Attributes:
        x: (n, d) complete training days in order, each column with mean 0 and variance 1.
        n_states: states wanted.
        warm: the model before, in the units of `x`, when it has the same coordinates.
        seed: of this refit.
        settings: all settings.
    """

    x: np.ndarray
    n_states: int
    warm: Fit | None
    seed: int
    settings: Settings


Dynamics = Literal["markov", "memoryless", "jump"]


@dataclass(frozen=True)
class StateModel:
    """Everything a label needs, as stored in `regime_model.params`; floats survive the round trip bit for bit.

    Attributes:
        asof: refit date it was fitted on.
        features: coordinates in use.
        left_out: configured coordinates known on too few training days.
        loc: mean of each signed coordinate in training.
        scale: standard deviation in training.
        mean: (states, d) standardised.
        variance: (states, d) standardised.
        weight: (states,).
        transition: (states, states).
        labels: 1, 0 or -1 of each state.
        penalty: cost of a jump, 0 but for jump models.
    """

    asof: str
    features: list[str]
    left_out: list[str]
    loc: list[float]
    scale: list[float]
    mean: list[list[float]]
    variance: list[list[float]]
    weight: list[float]
    transition: list[list[float]]
    labels: list[int]
    penalty: float
    _array: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def to_json(self) -> str:
        """Serialise exactly."""
        values = asdict(self)
        del values["_array"]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StateModel:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    def array(self, name: str) -> np.ndarray:
        """Return a numeric attribute as an array."""
        if name not in self._array:
            self._array[name] = np.array(getattr(self, name), dtype=np.float64)
        return self._array[name]

    @property
    def centre(self) -> np.ndarray:
        """(states, d) means in the units of the signed coordinates."""
        return self.array("loc") + self.array("scale") * self.array("mean")

    @property
    def spread(self) -> np.ndarray:
        """(states, d) standard deviations in the units of the signed coordinates."""
        return self.array("scale") * np.sqrt(self.array("variance"))

    def as_fit(self, loc: np.ndarray, scale: np.ndarray) -> Fit:
        """Return the model in another standardisation."""
        states = len(self.labels)
        return Fit(
            (self.centre - loc) / scale, (self.spread / scale) ** 2, self.array("weight"), self.array("transition"),
            np.full(states, 1.0 / states), float("nan"),
        )  # fmt: skip


def stationary(transition: np.ndarray) -> np.ndarray:
    """(states,) distribution that the chain keeps."""
    states = len(transition)
    system = np.vstack([transition.T - np.eye(states), np.ones(states)])
    solved = np.linalg.lstsq(system, np.append(np.zeros(states), 1.0), rcond=None)[0]
    clipped = np.maximum(solved, 0.0)
    return clipped / clipped.sum()


def counted_transitions(path: np.ndarray, n_states: int) -> np.ndarray:
    """(states, states) transition probabilities counted along a path, one added to each count (Laplace)."""
    counts = np.ones((n_states, n_states))
    np.add.at(counts, (path[:-1], path[1:]), 1.0)
    return counts / counts.sum(axis=1, keepdims=True)


def signed_features(history: History, settings: Settings) -> tuple[list[str], np.ndarray]:
    """Names of the configured features and (days, d) z-scores, clipped and signed to favour majors; NaN = none."""
    window, cap = history.window, settings.regime.z_cap
    names = list(settings.regime.states.features)
    x = np.full((window.n_days, len(names)), np.nan)
    for column, name in enumerate(names):
        rows = history.features.filter(pl.col("feature") == name)
        row = rows["date"].to_physical().to_numpy() - day_number(window.start)
        z = rows["z"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        x[row, column] = DEFINITIONS[name].sign * np.clip(z, -cap, cap)
    return names, x


def signed_return(history: History, settings: Settings) -> tuple[list[str], np.ndarray]:
    """Majors-minus-alts return as (days, 1), clipped at `z_cap` standard deviations of all days before it."""
    value = history.market[RETURN].cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = ~np.isnan(value)
    filled = np.where(known, value, 0.0)
    count = np.cumsum(known) - known
    squares = np.cumsum(filled * filled) - filled * filled
    deviation = np.sqrt(squares / np.maximum(count, 1))
    cap = np.where(count >= settings.regime.min_train_days, settings.regime.z_cap * deviation, np.inf)
    return [RETURN], np.clip(value, -cap, cap)[:, None]


@contextmanager
def complaints(*loggers: str) -> Iterator[list[str]]:
    """Collect the warnings raised and logged inside instead of letting them spill."""
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Collect()
    for name in loggers:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).propagate = False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
        said += [str(warning.message) for warning in caught]
    finally:
        for name in loggers:
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).propagate = True


@cache
def _threads() -> Any:
    """Return the thread pools of the numerical libraries; asking for them takes longer than a fit."""
    import sklearn.cluster  # noqa: F401  (loads the pools that are to be found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def seeded_centres(problem: Problem) -> list[np.ndarray]:
    """Means to start from: k-means of each seeded start, then the model before."""
    from sklearn.cluster import KMeans

    seeds = np.random.default_rng(problem.seed).integers(2**31, size=problem.settings.regime.states.starts)
    centres = [
        KMeans(problem.n_states, n_init=1, random_state=int(seed), max_iter=20).fit(problem.x).cluster_centers_
        for seed in seeds
    ]
    return centres if problem.warm is None else [*centres, problem.warm.mean]


def nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n,) state whose centre is nearest."""
    return np.argmin(((x[:, None, :] - centres[None]) ** 2).sum(axis=2), axis=1)


@dataclass(frozen=True)
class StatesMethod:
    """A fitted state model behind the regime interface.

    Attributes:
        name: of the method.
        dynamics: markov: filtered by the transition matrix; memoryless: a mixture or clustering, each day by
            itself; jump: value recursion with a penalty.
        data: history to names and (days, d) signed coordinates.
        fitter: the fit; raises `FitFailedError`.
    """

    name: str
    dynamics: Dynamics
    data: Callable[[History, Settings], tuple[list[str], np.ndarray]]
    fitter: Callable[[Problem], Fit]
    needs_others: bool = False

    def refit_dates(self, window: Window, settings: Settings) -> list[date]:
        """First day and the calendar dates of `regime.states.refit`; see `RegimeMethod`."""
        return calendar_refits(window, settings.regime.states.refit)

    def fit(
        self, history: History, refit_dates: list[date], previous: pl.DataFrame, settings: Settings
    ) -> pl.DataFrame:
        """Fit at every refit date on the days before it; see `RegimeMethod`."""
        names, x = self.data(history, settings)
        params = previous["params"].to_list()[-1] if previous.height else "{}"
        last = None if params == "{}" else StateModel.from_json(params)
        rows = []
        for refit in refit_dates:
            row, last = self._refit(names, x[: (refit - history.window.start).days], refit, last, settings)
            rows.append(row)
        constant = {"method": self.name, "candidate": 0, "score_change_sd": None, "chosen": True}
        schema = {name: REGIME_MODEL.schema[name] for name in REGIME_MODEL.columns}
        return REGIME_MODEL.conform(pl.DataFrame([{**row, **constant} for row in rows], schema=schema))

    def _refit(
        self, names: list[str], past: np.ndarray, refit: date, last: StateModel | None, settings: Settings
    ) -> tuple[dict[str, Any], StateModel | None]:
        """Row of `regime_model`, and the last good model from then on."""
        some = ~np.isnan(past).all(axis=1)
        inside = [c for c in range(len(names)) if some.any() and (~np.isnan(past[some, c])).mean() >= COVERAGE]
        rows = np.flatnonzero((~np.isnan(past[:, inside])).all(axis=1)) if inside else np.empty(0, dtype=np.int64)
        n_obs = len(rows)
        row = {
            "date": refit, "n_obs": n_obs, "objective": None, "converged": True, "note": "",
            "train_end": refit - timedelta(days=len(past) - int(rows[-1])) if n_obs else None,
        }  # fmt: skip
        if n_obs < settings.regime.min_train_days:
            row["note"] = f"{n_obs} of {settings.regime.min_train_days} training days"
            return {**row, **_in_force(last)}, last
        try:
            model, objective = self._model([names[c] for c in inside], past[rows][:, inside], refit, last, settings)
        except FitFailedError as failure:
            return {**row, **_in_force(last), "converged": False, "note": str(failure)}, last
        model = replace(model, left_out=[name for c, name in enumerate(names) if c not in inside])
        fitted = {"params": model.to_json(), "in_force": "walk_forward", "objective": objective}
        return {**row, **fitted, "note": _order_note(model)}, model

    def _model(
        self, names: list[str], sample: np.ndarray, refit: date, last: StateModel | None, settings: Settings
    ) -> tuple[StateModel, float]:
        loc, scale = sample.mean(axis=0), sample.std(axis=0)
        if not (scale > 0).all():
            raise FitFailedError(f"{names[int(np.argmin(scale))]} is constant in training")
        states = settings.regime.states
        warm = last.as_fit(loc, scale) if last is not None and last.features == names else None
        seed = states.seed + day_number(refit)
        # Sums that threads add up in the order they finish differ in the last bits, hence one thread.
        with _threads().limit(limits=1):
            fit = self.fitter(Problem((sample - loc) / scale, states.n_states, warm, seed, settings))
        _require_sound(fit)
        order, labels = _order(fit, names, loc, scale, last)
        fit = fit.reordered(order)
        model = StateModel(
            asof=refit.isoformat(), features=names, left_out=[], loc=loc.tolist(), scale=scale.tolist(),
            mean=fit.mean.tolist(), variance=fit.variance.tolist(), weight=fit.weight.tolist(),
            transition=fit.transition.tolist(), labels=labels,
            penalty=states.jump_penalty if self.dynamics == "jump" else 0.0,
        )  # fmt: skip
        return model, fit.objective

    def label(
        self, history: History, models: pl.DataFrame, window: Window, others: Mapping[str, Labelled], settings: Settings
    ) -> Labelled:
        """Labels of the forward recursion under the model in force on each day; see `RegimeMethod`.

        Before the first good model BALANCED is certain and there is no score.
        """
        names, x = self.data(history, settings)
        start = history.window.start
        begin = [(day - start).days for day in models["date"]]
        three = np.tile([1.0, 0.0, 0.0], (history.window.n_days, 1))
        ahead = {horizon: three.copy() for horizon in HORIZONS}
        known = (~np.isnan(x)).sum(axis=1)
        origin = []
        first_good = history.window.n_days
        for model_row, first, end in zip(models.to_dicts(), begin, [*begin[1:], history.window.n_days], strict=True):
            if model_row["params"] == "{}":
                origin += [model_row["date"]] * (end - first)
                continue
            first_good = min(first_good, first)
            model = StateModel.from_json(model_row["params"])
            filtered, _ = self.filtered(model, names, x[:end])
            transition, rows = model.array("transition"), slice(first, end)
            three[rows] = by_label(filtered, model)[rows]
            for horizon, chances in ahead.items():
                power = np.linalg.matrix_power(transition, horizon)
                chances[rows] = _by_label(_carried(filtered.values[rows], power), model)
            origin += [date.fromisoformat(model.asof)] * (end - first)
            used = [names.index(name) for name in model.features]
            known[rows] = (~np.isnan(x[rows][:, used])).sum(axis=1)
        scored = np.arange(history.window.n_days) >= first_good
        whose = replace(Origin.of(models, history.window), asof=origin)
        frame = regime_rows(self.name, history.window, three, scored, whose, known, settings)
        tidy = pl.concat(
            pl.DataFrame({
                "date": history.window.days(),
                "horizon_days": pl.Series([horizon] * history.window.n_days, dtype=pl.Int32),
                "state": LABELS[side],
                "probability": values[:, column],
            })
            for horizon, values in {0: three, **ahead}.items()
            for column, side in enumerate(SIDES)
        )  # fmt: skip
        return Labelled(window.keep(frame), window.keep(tidy))

    def filtered(self, model: StateModel, names: list[str], x: np.ndarray) -> tuple[FilteredProbabilities, np.ndarray]:
        """Probabilities of each state from the first row on.

        Args:
            model: parameters; nothing is fitted here.
            names: coordinates of the columns of `x`.
            x: (days, d) signed coordinates from inception, NaN where unknown.

        Returns:
            the probabilities; (days, states) costs they come from for a jump model, log densities for others.
        """
        z = (x[:, [names.index(name) for name in model.features]] - model.array("loc")) / model.array("scale")
        mean, variance = model.array("mean"), model.array("variance")
        transition, weight = model.array("transition"), model.array("weight")
        if self.dynamics == "jump":
            cost = half_distances(z, mean)
            return forward_costs(cost, model.penalty, float(variance[0, 0])), cost
        density, known = log_density(z, mean, variance)
        return forward(density, known, transition, weight, self.dynamics == "memoryless"), density

    def hindsight(self, history: History, models: pl.DataFrame, settings: Settings) -> pl.DataFrame:
        """What the newest model says of the past knowing all of it. To be drawn, never to be traded.

        Args:
            history: from inception.
            models: chosen rows of `regime_model` of this method.
            settings: all settings.

        Returns:
            (date, label, probability) with three rows a day; empty while there is no good model.
        """
        schema = {"date": pl.Date, "label": pl.String, "probability": pl.Float64}
        good = models.filter(pl.col("params") != "{}").sort("date")
        if good.is_empty():
            return pl.DataFrame(schema=schema)
        model = StateModel.from_json(good["params"][-1])
        smoothed = self.smoothed(model, *self.data(history, settings))
        three = _by_label(smoothed.values, model)
        return pl.concat(
            pl.DataFrame({"date": history.window.days(), "label": LABELS[side], "probability": three[:, column]})
            for column, side in enumerate(SIDES)
        ).cast(schema)  # type: ignore[arg-type]

    def smoothed(self, model: StateModel, names: list[str], x: np.ndarray) -> SmoothedProbabilities:
        """Probabilities of each state given all rows of `x`; see `filtered`."""
        filtered, evidence = self.filtered(model, names, x)
        if self.dynamics == "jump":
            return smooth_costs(evidence, model.penalty, model.variance[0][0])
        return as_hindsight(filtered) if self.dynamics == "memoryless" else smooth(filtered, model.array("transition"))


def by_label(filtered: FilteredProbabilities, model: StateModel) -> np.ndarray:
    """(days, 3) probabilities of BALANCED, RISK_ON_MAJORS and RISK_ON_ALTS.

    Raises:
        TypeError: given anything but filtered probabilities; hindsight has no way into a label.
    """
    if not isinstance(filtered, FilteredProbabilities):
        raise TypeError(f"labels are made of filtered probabilities only, not of {type(filtered).__name__}")
    return _by_label(filtered.values, model)


def _by_label(values: np.ndarray, model: StateModel) -> np.ndarray:
    out = np.zeros((len(values), len(SIDES)))
    for state, label in enumerate(model.labels):
        out[:, SIDES.index(label)] += values[:, state]
    return out


def _carried(values: np.ndarray, power: np.ndarray) -> np.ndarray:
    """`values` @ `power` in a fixed order: a matrix product of BLAS may depend on the number of rows."""
    out = np.zeros_like(values)
    for state in range(values.shape[1]):
        out += values[:, state : state + 1] * power[state]
    return out


def half_distances(z: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(days, states) half squared distances over the known coordinates."""
    out = np.zeros((len(z), len(mean)))
    for column in range(z.shape[1]):
        gap = np.nan_to_num(z[:, column, None] - mean[:, column])
        out += 0.5 * gap * gap
    return out


def labels_at_birth(n_states: int) -> list[int]:
    """Labels of states ordered by their signed mean: the ends are the sides, all between are BALANCED."""
    return [-1, *[0] * (n_states - 2), 1]


def wasserstein_squared(mean_a: np.ndarray, sd_a: np.ndarray, mean_b: np.ndarray, sd_b: np.ndarray) -> np.ndarray:
    """(a, b) squared 2-Wasserstein distances between diagonal Gaussians (Givens & Shortt 1984)."""
    gap = mean_a[:, None, :] - mean_b[None, :, :]
    spread = sd_a[:, None, :] - sd_b[None, :, :]
    return (gap * gap + spread * spread).sum(axis=2)


def _order(
    fit: Fit, names: list[str], loc: np.ndarray, scale: np.ndarray, last: StateModel | None
) -> tuple[np.ndarray, list[int]]:
    """Order of the fitted states, and their labels: by rule at birth, later by whom they resemble."""
    from scipy.optimize import linear_sum_assignment

    centre, spread = loc + scale * fit.mean, scale * np.sqrt(fit.variance)
    # By the whole centre after the composite: the order of the fitted states must not matter on ties either.
    born = np.lexsort([*centre.T[::-1], _composite(centre)])
    common = [name for name in names if last is not None and name in last.features]
    if last is None or not common:
        return born, labels_at_birth(len(born))
    mine, theirs = [names.index(n) for n in common], [last.features.index(n) for n in common]
    distance = wasserstein_squared(
        last.centre[:, theirs], last.spread[:, theirs], centre[born][:, mine], spread[born][:, mine]
    )
    return born[linear_sum_assignment(distance)[1]], last.labels


def _composite(centre: np.ndarray) -> np.ndarray:
    """(states,) mean of the signed coordinates."""
    return np.array([sum(row) / len(row) for row in centre.tolist()])


def _order_note(model: StateModel) -> str:
    """Say when the identity of the states and the rule of their birth no longer agree."""
    composite = _composite(model.centre)
    held = {side: [c for c, label in zip(composite, model.labels, strict=True) if label == side] for side in (-1, 0, 1)}
    rising = [(LABELS[side], values) for side, values in held.items() if values]
    wrong = [
        f"{high} has a signed mean of {min(above):.3f}, {low} one of {max(below):.3f}"
        for place, (low, below) in enumerate(rising)
        for high, above in rising[place + 1 :]
        if min(above) <= max(below)
    ]
    return "; ".join([*wrong, LABELS_STAY]) if wrong else ""


def _in_force(last: StateModel | None) -> dict[str, str]:
    """Return what stays when nothing is fitted: the last good model, or none."""
    return {"params": "{}", "in_force": "default"} if last is None else {"params": last.to_json(), "in_force": "kept"}


def _require_sound(fit: Fit) -> None:
    """Refuse a degenerate fit.

    Raises:
        FitFailedError: a parameter is not finite, a state is all but empty or has collapsed onto a point.
    """
    numbers = (fit.mean, fit.variance, fit.weight, fit.transition, fit.share)
    if not all(np.isfinite(values).all() for values in numbers):
        raise FitFailedError("a parameter is not finite")
    if fit.share.min() < MIN_SHARE:
        raise FitFailedError(f"a state holds {fit.share.min():.1%} of the training days")
    if fit.variance.min() < MIN_VARIANCE:
        raise FitFailedError("a state has collapsed onto a point")
