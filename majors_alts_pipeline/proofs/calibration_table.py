"""What the measurements of many simulated markets say about the instrument, one claim a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from majors_alts_pipeline.proofs.calibration import (
    ALWAYS_ON,
    FAVOURED,
    HORIZONS,
    INTERVAL_HORIZONS,
    LEAK,
    METHODS,
    SWEEP,
    VOLATILE,
    Plan,
    seeds_in_words,
)
from majors_alts_pipeline.proofs.markets import BAND, CONSENSUS, SIGNIFICANCE, STANDARD_ERRORS, binomial_band

SIZE, CONTROL, SELECTION, COVERAGE, POWER, RECOVERY, OVERFITTING = (
    "size", "control", "selection", "coverage", "power", "recovery", "overfitting",
)  # fmt: skip
GATED = (SIZE, CONTROL, SELECTION, COVERAGE)
"""Groups whose claims decide whether the calibration holds."""

WITHIN, BY_CHANCE, NO, INFORMATION = "within", "by chance", "NO", ""
_NORMAL_975 = 1.959964


@dataclass(frozen=True)
class Row:
    """One claim.

    Attributes:
        group: size, control, selection, coverage, power, recovery or overfitting.
        claim: what is counted or averaged.
        subject: method, account, or the best of many.
        horizon_days: days of forward returns; 0 where there are none.
        effect_bp: planted effect, basis points per day; 0 = null market.
        n_markets: markets in which it could be computed.
        nominal: what it should be; None where nothing is claimed.
        observed: what it was, in `unit`.
        low: lower end of the band that holds `observed` with 99 % if the claim is true; without a claim, of the 95 %
            interval of what was observed.
        high: upper end.
        uniform_p: Kolmogorov-Smirnov p-value of p-values being uniform.
        chance: probability of something this far off (beyond the bound) if the claim is true.
        verdict: within; by chance = outside the band of its own row, as one sound row in a hundred is, but inside that
            which all rows of the table share; NO = outside both; empty = nothing is claimed.
        unit: of nominal, observed, low and high.
    """

    group: str
    claim: str
    subject: str
    horizon_days: int
    effect_bp: float
    n_markets: int
    nominal: float | None
    observed: float | None
    low: float | None
    high: float | None
    uniform_p: float | None
    chance: float | None
    verdict: str
    unit: str


@dataclass(frozen=True)
class Counted:
    """A share of markets held against a nominal one.

    Attributes:
        rule: equal, at most or above: what the claim says of the share.
    """

    group: str
    claim: str
    nominal: float
    rule: str


BELOW = Counted(SIZE, "regime-edge p-values below 5 %", SIGNIFICANCE, "equal")
FORWARD = Counted(SIZE, "forward-edge p-values below 5 %", SIGNIFICANCE, "equal")
CAUGHT = Counted(CONTROL, "labels from the future are found out: p-values below 5 %", SIGNIFICANCE, "above")
ADJUSTED = {
    "best_spa_p": Counted(SELECTION, "p-values of the best below 5 %, SPA (Hansen)", SIGNIFICANCE, "at most"),
    "best_reality_p": Counted(SELECTION, "p-values of the best below 5 %, reality check", SIGNIFICANCE, "at most"),
    "best_dsr_p": Counted(SELECTION, "p-values of the best below 5 %, deflated Sharpe", SIGNIFICANCE, "at most"),
}
RAW = "p-values of the best below 5 %, taken as if it were the only one"
STEPM = Counted(SELECTION, "StepM names a variant", SIGNIFICANCE, "at most")
SHARPE = Counted(COVERAGE, "95 % interval of the Sharpe ratio covers the truth", 0.95, "equal")
SHARPE_PLANTED = Counted(COVERAGE, "95 % interval of the Sharpe ratio covers the truth", 0.95, "at least")
HAC = Counted(COVERAGE, "95 % HAC interval of the regime edge covers 0", 0.95, "equal")
MEAN = Counted(COVERAGE, "95 % interval of the mean forward return covers 0", 0.95, "equal")
HAC_FORWARD = Counted(COVERAGE, "95 % HAC interval of the forward edge covers 0", 0.95, "equal")
FOUND = "regime-edge p-values below 5 %"
FOUND_BEST = "p-values of the best below 5 %, SPA (Hansen)"
LIFT = "share of days with the hidden label, less chance"
AGAINST_BEST = "the same less that of the best method"


def calibration_table(measurements: pl.DataFrame, plan: Plan, methods: Sequence[str], code: str) -> pl.DataFrame:
    """Every claim with its band and verdict.

    Args:
        measurements: rows of `calibration.SCHEMA`.
        plan: what was simulated.
        methods: regime methods, in order.
        code: version of the code that measured.

    Returns:
        The columns of `Row`, then simulated (True), seeds, n_alts, n_days, code.
    """
    found = _Found(measurements)
    rows = [*_null_rows(found, methods), *_planted_rows(found, plan, methods)]
    # P-values are looked at twice: how many are small, and how all of them lie.
    looks = sum((row.verdict != INFORMATION) + (row.group == SIZE) for row in rows)
    judged = [_judged(row, looks) for row in rows]
    frame = pl.DataFrame([asdict(row) for row in judged], infer_schema_length=None)
    markets = measurements.group_by("effect").agg(pl.col("seed").unique())
    by_effect = pl.DataFrame({
        "effect_bp": [effect * 1e4 for effect in markets["effect"]],
        "seeds": [seeds_in_words(seeds) for seeds in markets["seed"].to_list()],
    })  # fmt: skip
    return frame.join(by_effect, on="effect_bp", how="left", maintain_order="left").with_columns(
        simulated=pl.lit(True),
        n_alts=pl.lit(plan.n_alts, pl.Int32),
        n_days=pl.lit(plan.n_days, pl.Int32),
        code=pl.lit(code),
    )


def failures(table: pl.DataFrame) -> int:
    """Claims of size, control, selection and coverage that do not hold; power and recovery are what they are."""
    return table.filter(pl.col("group").is_in(GATED) & (pl.col("verdict") == NO)).height


class _Found:
    """Values by measure, subject, horizon and effect."""

    def __init__(self, measurements: pl.DataFrame) -> None:
        keyed = measurements.sort("seed").partition_by("measure", "subject", "horizon_days", "effect", as_dict=True)
        self._frames = {key: frame.select("seed", "value") for key, frame in keyed.items()}

    def frame(self, measure: str, subject: str, horizon: int = 0, effect: float = 0.0) -> pl.DataFrame:
        empty = pl.DataFrame(schema={"seed": pl.Int64, "value": pl.Float64})
        return self._frames.get((measure, subject, horizon, effect), empty).drop_nulls()

    def values(self, measure: str, subject: str, horizon: int = 0, effect: float = 0.0) -> np.ndarray:
        return self.frame(measure, subject, horizon, effect)["value"].to_numpy()

    def together(self, measures: Sequence[str], subject: str, horizon: int = 0, effect: float = 0.0) -> np.ndarray:
        """(markets, measures) of the markets that have all of them."""
        first, *others = (self.frame(measure, subject, horizon, effect) for measure in measures)
        for number, other in enumerate(others):
            first = first.join(other, on="seed", suffix=f"_{number}", maintain_order="left")
        return first.drop("seed").to_numpy()


def _null_rows(found: _Found, methods: Sequence[str]) -> Iterator[Row]:
    for method in (*methods, VOLATILE):
        yield from _p_values(BELOW, found.values("edge_p", method), method)
    for method in (*methods, VOLATILE):
        for horizon in HORIZONS:
            yield from _p_values(FORWARD, found.values("forward_p", method, horizon), method, horizon)
    yield from _p_values(CAUGHT, found.values("edge_p", LEAK), LEAK)
    for subject in (METHODS, SWEEP):
        yield from _share_only(SELECTION, RAW, found.values("best_raw_p", subject) < SIGNIFICANCE, subject)
        for measure, counted in ADJUSTED.items():
            yield from _p_values(counted, found.values(measure, subject), subject)
        yield from _counted(STEPM, found.values("best_stepm", subject) > 0.0, subject)
        yield from _spread(OVERFITTING, "probability of backtest overfitting", found.values("pbo", subject), subject)
        yield from _spread(
            OVERFITTING, "effective number of trials", found.values("n_effective", subject), subject, "trials"
        )
    for subject in (ALWAYS_ON, *methods):
        yield from _sharpe_coverage(SHARPE, found, subject, 0.0)
    for method in methods:
        yield from _counted(HAC, np.abs(found.values("edge_t", method)) <= _NORMAL_975, method)
    for label in ("ALL", FAVOURED):
        for horizon in INTERVAL_HORIZONS:
            ends = found.together(("forward_low", "forward_high"), label, horizon)
            yield from _counted(MEAN, (ends[:, 0] <= 0.0) & (ends[:, 1] >= 0.0), label, horizon)
    for horizon in INTERVAL_HORIZONS:
        small = np.abs(found.values("forward_hac_t", FAVOURED, horizon)) <= _NORMAL_975
        yield from _counted(HAC_FORWARD, small, FAVOURED, horizon)


def _planted_rows(found: _Found, plan: Plan, methods: Sequence[str]) -> Iterator[Row]:
    for method in methods:
        for effect in (0.0, *plan.effects):
            below = found.values("edge_p", method, effect=effect) < SIGNIFICANCE
            yield from _share_only(POWER, FOUND, below, method, effect)
    for subject in (METHODS, SWEEP):
        for effect in (0.0, *plan.effects):
            below = found.values("best_spa_p", subject, effect=effect) < SIGNIFICANCE
            yield from _share_only(POWER, FOUND_BEST, below, subject, effect)
    for subject in (ALWAYS_ON, *methods):
        for effect in plan.effects:
            yield from _sharpe_coverage(SHARPE_PLANTED, found, subject, effect)
    for effect in plan.effects:
        yield from _recovery(found, methods, effect)


def _sharpe_coverage(counted: Counted, found: _Found, subject: str, effect: float) -> Iterator[Row]:
    ends = found.together(("sharpe_low", "sharpe_truth", "sharpe_high"), subject, effect=effect)
    yield from _counted(
        counted, (ends[:, 0] <= ends[:, 1]) & (ends[:, 1] <= ends[:, 2]), subject, effect=effect
    )  # fmt: skip


def _recovery(found: _Found, methods: Sequence[str], effect: float) -> Iterator[Row]:
    """Mean over markets of the share of days with the hidden label less that expected by chance."""
    lifts: dict[str, np.ndarray] = {}
    for method in methods:
        both = found.together(("recovered", "by_chance"), method, effect=effect)
        if len(both) > 1:
            lifts[method] = both[:, 0] - both[:, 1]
            yield _mean_row(LIFT, method, lifts[method], effect, above=0.0)
    others = {method: lift for method, lift in lifts.items() if method != CONSENSUS}
    if CONSENSUS in lifts and others:
        best = max(others, key=lambda method: float(others[method].mean()))
        if len(others[best]) == len(lifts[CONSENSUS]):
            behind = lifts[CONSENSUS] - others[best]
            yield _mean_row(AGAINST_BEST, f"{CONSENSUS} against {best}", behind, effect, above=None)


def _mean_row(claim: str, subject: str, values: np.ndarray, effect: float, above: float | None) -> Row:
    """Mean with its error: to be above by `STANDARD_ERRORS`, or (None) not below 0 by as much."""
    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    bound = STANDARD_ERRORS * error
    holds = mean > above + bound if above is not None else mean > -bound
    return Row(
        RECOVERY, claim, subject, 0, effect * 1e4, len(values), 0.0, mean, mean - 1.96 * error, mean + 1.96 * error,
        None, None, WITHIN if holds else NO, "share of days",
    )  # fmt: skip


def _p_values(counted: Counted, values: np.ndarray, subject: str, horizon: int = 0) -> Iterator[Row]:
    from scipy.stats import kstest

    uniform = float(kstest(values, "uniform").pvalue) if len(values) else None
    for row in _counted(counted, values < counted.nominal, subject, horizon):
        chance = row.chance
        if counted.rule == "equal" and uniform is not None and chance is not None:
            chance = min(chance, uniform)
        yield Row(**{**vars(row), "uniform_p": uniform, "chance": chance})


def _counted(counted: Counted, hits: np.ndarray, subject: str, horizon: int = 0, effect: float = 0.0) -> Iterator[Row]:
    """Share of markets with a hit, its binomial band, and the chance of one so far off."""
    from scipy.stats import binom, binomtest

    n, k, p = len(hits), int(np.sum(hits)), counted.nominal
    if n == 0:
        return
    low, high = (count / n for count in binomial_band(n, p, BAND))
    if counted.rule == "equal":
        chance = float(binomtest(k, n, p).pvalue)
    elif counted.rule == "at most":
        chance, low = float(binom.sf(k - 1, n, p)), 0.0
    elif counted.rule == "at least":
        chance, high = float(binom.cdf(k, n, p)), 1.0
    else:
        # The claim is that the share lies above: the chance that it does not.
        above = float(binom.sf(k - 1, n, p))
        chance, low, high = (1.0 if above < 1.0 - BAND else 0.0), high, 1.0
    yield Row(
        counted.group, counted.claim, subject, horizon, effect * 1e4, n, p, k / n, low, high, None, chance, WITHIN,
        "share of markets",
    )  # fmt: skip


def _share_only(group: str, claim: str, hits: np.ndarray, subject: str, effect: float = 0.0) -> Iterator[Row]:
    """Share of markets with its Wilson interval; nothing is claimed."""
    from scipy.stats import binomtest

    if len(hits) == 0:
        return
    k = int(np.sum(hits))
    interval = binomtest(k, len(hits)).proportion_ci(0.95, method="wilson")
    yield Row(
        group, claim, subject, 0, effect * 1e4, len(hits), None, k / len(hits), float(interval.low),
        float(interval.high), None, None, INFORMATION, "share of markets",
    )  # fmt: skip


def _spread(group: str, claim: str, values: np.ndarray, subject: str, unit: str = "probability") -> Iterator[Row]:
    """Mean over markets and the 5th and 95th percentile."""
    if len(values) == 0:
        return
    low, high = np.quantile(values, [0.05, 0.95])
    yield Row(
        group, f"{claim}: mean, 5th and 95th percentile", subject, 0, 0.0, len(values), None, float(values.mean()),
        float(low), float(high), None, None, INFORMATION, unit,
    )  # fmt: skip


def _judged(row: Row, looks: int) -> Row:
    if row.verdict == INFORMATION or row.chance is None:
        return row
    alone, together = 1.0 - BAND, (1.0 - BAND) / max(looks, 1)
    verdict = WITHIN if row.chance >= alone else BY_CHANCE if row.chance >= together else NO
    return Row(**{**vars(row), "verdict": verdict})
