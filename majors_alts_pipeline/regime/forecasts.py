"""The regimes as forecasts: probability that the book gains, probability of each state, and what came.

Every forecast is the one that was possible at the close of its day; only `outcome` looks ahead.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.regime.frames import COLUMNS

BOOK_UP = "book_up"
"""Event: the book decided on the day has a positive return over the label horizon."""

FLOOR = 0.01
"""Least probability given to a gain or a loss: a regression on few outcomes may ask for less than 0."""

ORDER = (-1, 0, 1)
"""Sides from the one that should do worst for the book to the one that should do best."""


def went_up(forward_return: np.ndarray) -> np.ndarray:
    """(days,) 1 where the book gained, 0 where it lost, NaN where that is unknown or there was no book (exactly 0)."""
    known = ~np.isnan(forward_return) & (forward_return != 0.0)
    return np.where(known, forward_return > 0.0, np.nan)


def known_so_far(values: np.ndarray, ahead: int) -> np.ndarray:
    """(days,) sum of the values of decisions whose outcome is known at each close.

    Args:
        values: (days,) finite.
        ahead: days from a decision to the close at which its outcome is known.
    """
    out = np.zeros(len(values))
    out[ahead:] = np.cumsum(values)[: max(len(values) - ahead, 0)]
    return out


def base_rate(up: np.ndarray, ahead: int) -> np.ndarray:
    """(days,) climatological probability of `BOOK_UP` known at each close: (k + 1/2) / (n + 1)."""
    known = ~np.isnan(up)
    gains, outcomes = (known_so_far(x.astype(np.float64), ahead) for x in (known & (up == 1.0), known))
    return (gains + 0.5) / (outcomes + 1.0)


def book_up(
    three: np.ndarray, spoke: np.ndarray, up: np.ndarray, *, horizon: int, ahead: int, prior_strength: float
) -> np.ndarray:
    """Probability that the book gains, from a method's label probabilities and what they went with so far.

    p = sum_k P_k f_k with f the ridge regression of the outcome on P over the decisions whose outcome is known, drawn
    to the base rate b: f minimises sum (y - sum_k P_k f_k)^2 / h + c sum_k (f_k - b)^2. Where P is certain, f_k is the
    shrunken frequency (gains_k / h + c b) / (decisions_k / h + c) of the label; frequencies weighted by uncertain P
    would be shrunk a second time by the uncertainty.

    Labels claim an order, so f is made to rise from RISK_ON_ALTS over BALANCED to RISK_ON_MAJORS (weighted isotonic
    means; Barlow et al. 1972): a method that is right the wrong way round forecasts about the base rate.

    Args:
        three: (days, 3) label probabilities in the order of `frames.COLUMNS`.
        spoke: (days,) bool; on other days the forecast is the base rate.
        up: (days,) see `went_up`.
        horizon: h, days an outcome spans: h overlapping outcomes count as one.
        ahead: days from a decision to the close at which its outcome is known.
        prior_strength: c, independent outcomes.

    Returns:
        (days,) probabilities in [`FLOOR`, 1 - `FLOOR`] or the base rate.
    """
    base = base_rate(up, ahead)
    usable = spoke & ~np.isnan(up)
    places = [list(COLUMNS).index(side) for side in ORDER]
    said = np.where(usable[:, None], three[:, places], 0.0)
    gained = said * (up == 1.0)[:, None]
    n = len(ORDER)
    moments, target = np.empty((len(up), n, n)), np.empty((len(up), n))
    for i in range(n):
        target[:, i] = known_so_far(gained[:, i], ahead) / horizon + prior_strength * base
        for j in range(n):
            moments[:, i, j] = known_so_far(said[:, i] * said[:, j], ahead) / horizon + prior_strength * (i == j)
    frequency = np.linalg.solve(moments, target[:, :, None])[:, :, 0]
    weight = [known_so_far(said[:, i], ahead) / horizon + prior_strength for i in range(n)]
    rising = _rising([weight[i] * frequency[:, i] for i in range(n)], weight)
    chance = np.zeros(len(up))
    for place, value in zip(places, rising, strict=True):
        chance += three[:, place] * value
    return np.where(spoke, np.clip(chance, FLOOR, 1.0 - FLOOR), base)


def _rising(total: list[np.ndarray], weight: list[np.ndarray]) -> list[np.ndarray]:
    """Weighted isotonic means: the largest over starts of the smallest over ends of the means of runs."""
    n = len(total)

    def mean(first: int, last: int) -> np.ndarray:
        parts = range(first, last + 1)
        return sum((total[i] for i in parts), np.zeros_like(total[0])) / sum(
            (weight[i] for i in parts), np.zeros_like(total[0])
        )

    return [
        np.max([np.min([mean(first, last) for last in range(i, n)], axis=0) for first in range(i + 1)], axis=0)
        for i in range(n)
    ]


def label_probabilities(regime: pl.DataFrame, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """(days, 3) label probabilities of one method in the order of `COLUMNS`, and (days,) whether it spoke.

    Args:
        regime: rows of `regime` of the method, one for every day of the window.
        window: days.

    Raises:
        ValueError: a day has no row.
    """
    rows = window.keep(regime).sort("date")
    if rows.height != window.n_days:
        raise ValueError(f"regime: {rows.height} rows for the {window.n_days} days {window.start} to {window.end}")
    return rows.select(list(COLUMNS.values())).to_numpy(), rows["score"].is_not_null().to_numpy()


def book_up_forecasts(regime: pl.DataFrame, outcome: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Every method's probability of `BOOK_UP` on every day, and what came.

    Days on which a method did not speak are rows too, without a probability: their outcomes belong to the base rate
    that was known at the time, or a method that begins late would look better than a base rate that knows nothing yet.

    An outcome is known backtest.execution_lag_days after date + horizon_days.

    Args:
        regime: rows of `regime` from inception.
        outcome: rows of `book_outcome` from inception.
        settings: reads regime.label_horizon_days, regime.consensus.prior_strength and backtest.execution_lag_days.

    Returns:
        method, event, horizon_days, date, probability (null where it did not speak), outcome (bool; null while unknown
        or where there was no book).
    """
    horizon = settings.regime.label_horizon_days
    window = Window(regime["date"].min(), regime["date"].max())  # type: ignore[arg-type]
    forward = np.full(window.n_days, np.nan)
    known = outcome.filter(pl.col("decision_date").is_between(window.start, window.end))
    forward[known["decision_date"].to_physical().to_numpy() - day_number(window.start)] = known["ret"].to_numpy()
    up = went_up(forward)
    parts = []
    for (name,), rows in sorted(regime.partition_by("method", as_dict=True).items()):
        three, spoke = label_probabilities(rows, window)
        chance = book_up(
            three, spoke, up, horizon=horizon, ahead=horizon + settings.backtest.execution_lag_days,
            prior_strength=settings.regime.consensus.prior_strength,
        )  # fmt: skip
        frame = pl.DataFrame({
            "method": str(name), "event": BOOK_UP, "horizon_days": pl.Series([horizon] * len(up), dtype=pl.Int32),
            "date": window.days(), "probability": chance, "outcome": pl.Series(up).fill_nan(None).cast(pl.Boolean),
        })  # fmt: skip
        parts.append(frame.with_columns(pl.when(pl.Series(spoke)).then(pl.col("probability")).alias("probability")))
    return pl.concat(parts)


def state_forecasts(regime: pl.DataFrame, probabilities: pl.DataFrame) -> pl.DataFrame:
    """Every method's probability of each of its states in the days ahead, and whether it came.

    The state that came is the one the method itself found most probable on the later day (horizon 0), or its label
    where it gives no such probabilities. Outcomes are known at the close of date + horizon_days.

    Args:
        regime: rows of `regime`.
        probabilities: rows of `regime_probability`.

    Returns:
        method, event (the state), horizon_days, date, probability, outcome (bool; null where the method did not speak
        on the later day or it is not there yet).
    """
    spoke = regime.filter(pl.col("score").is_not_null()).select("date", "method", "label")
    now = probabilities.filter(pl.col("horizon_days") == 0).sort("date", "method", "probability", "state")
    likeliest = now.group_by("date", "method", maintain_order=True).agg(pl.col("state").last())
    came = spoke.join(likeliest, on=["date", "method"], how="left").select(
        "date", "method", came=pl.coalesce("state", "label")
    )
    ahead = probabilities.filter(pl.col("horizon_days") > 0).join(spoke.drop("label"), on=["date", "method"])
    return (
        ahead.with_columns(later=pl.col("date") + pl.duration(days="horizon_days"))
        .join(came, left_on=["later", "method"], right_on=["date", "method"], how="left")
        .select(
            "method", pl.col("state").alias("event"), "horizon_days", "date",
            # Sums over the hidden states of a label may exceed 1 by rounding.
            pl.col("probability").clip(0.0, 1.0),
            outcome=pl.col("came") == pl.col("state"),
        )
        .sort("method", "event", "horizon_days", "date")
    )  # fmt: skip
