"""Stage `basket`: the target book of every day, in date order because turnover looks at yesterday's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import polars as pl

from majors_alts_pipeline.basket.optimiser import Problem, Solution, inverse_vol_prior, solve
from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.config.settings import BasketSettings
from majors_alts_pipeline.tables import BASKET

RANK_COLUMN = {"adv": "adv_usd", "marketcap": "marketcap"}
MAJOR_BETAS = np.eye(2)
"""BTC has betas (1, 0) and ETH (0, 1) by definition; their residual volatility is 0."""


@dataclass(frozen=True)
class Alts:
    """The day's alts to sell, sorted by asset id; arrays are (n,)."""

    names: list[str]
    adv: np.ndarray
    beta_btc: np.ndarray
    beta_eth: np.ndarray
    idio_vol: np.ndarray


@dataclass(frozen=True)
class Majors:
    """The day's majors, BTC first."""

    adv: np.ndarray
    obstacle: str


@dataclass(frozen=True)
class Book:
    """One day's target: what the rows of the day say. `weights` covers the alts, then the two majors."""

    alts: Alts
    weights: np.ndarray
    status: str
    relaxed: str
    reason: str


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Target weights of the window's days.

    Yesterday's book is the stored `basket` of the day before the window, then the stage's own. When it does
    not exist or was flat there is no book to change, so neither the turnover limit nor its penalty applies.

    Args:
        inputs: `universe` and `betas` of the window, `basket` of the day before it (may be empty).
        window: days wanted.
        settings: sections lake (majors), basket, backtest (capital_usd, for the liquidity limit).

    Returns:
        `basket`, conforming to its contract.

    Raises:
        ValueError: a major has no universe row on a day of the window.
    """
    majors = _majors_by_day(inputs["universe"], window, settings)
    alts = _alts_by_day(inputs["universe"], inputs["betas"], window, settings.basket)
    previous = _stored_book(inputs["basket"], window)
    books = []
    for day in range(window.n_days):
        book = _book(alts[day], majors[day], previous, settings)
        previous = _held(book, settings)
        books.append(book)
    return {"basket": _rows(books, window, settings)}


def select_alts(universe: pl.DataFrame, betas: pl.DataFrame, settings: BasketSettings) -> pl.DataFrame:
    """Choose the `n_alts` largest eligible alts of each day that have a beta, sorted by date and asset id.

    An alt whose size (`rank_by`) is unknown cannot be ranked and is left out, as is one with no traded volume
    or no residual volatility to weight it by. Ties go to the first asset id.
    """
    size = pl.col(RANK_COLUMN[settings.rank_by])
    candidates = universe.filter(
        (pl.col("role") == "alt")
        & pl.col("eligible")
        & size.is_not_null()
        & (pl.col("adv_usd").is_null() | (pl.col("adv_usd") > 0))
    ).select("date", "asset_id", "adv_usd", size.alias("size"))
    known = betas.filter(pl.col("idio_vol") > 0).select("date", "asset_id", "beta_btc", "beta_eth", "idio_vol")
    return (
        candidates.join(known, on=["date", "asset_id"], how="inner")
        .sort(["date", "size", "asset_id"], descending=[False, True, False])
        .filter(pl.int_range(pl.len()).over("date") < settings.n_alts)
        .sort("date", "asset_id")
    )


def _alts_by_day(universe: pl.DataFrame, betas: pl.DataFrame, window: Window, settings: BasketSettings) -> list[Alts]:
    frame = select_alts(window.keep(universe), window.keep(betas), settings)
    day = frame["date"].to_physical().to_numpy() - day_number(window.start)
    bounds = np.searchsorted(day, np.arange(window.n_days + 1))
    names = frame["asset_id"].to_list()
    columns = [frame[name].cast(pl.Float64).to_numpy() for name in ("adv_usd", "beta_btc", "beta_eth", "idio_vol")]
    return [Alts(names[start:stop], *(column[start:stop] for column in columns)) for start, stop in pairwise(bounds)]


def _majors_by_day(universe: pl.DataFrame, window: Window, settings: Settings) -> list[Majors]:
    frame = window.keep(universe.filter(pl.col("asset_id").is_in(settings.lake.majors)))
    rows = {
        (row[0], row[1]): row[2:] for row in frame.select("date", "asset_id", "adv_usd", "eligible", "reason").rows()
    }
    majors = []
    for day in window.days():
        adv, obstacles = [], []
        for asset in settings.lake.majors:
            if (day, asset) not in rows:
                raise ValueError(
                    f"universe: no row for {asset} on {day}, the book has no hedge; give the lake a price "
                    f"for {asset} on that day, or change lake.majors"
                )
            volume, eligible, why = rows[day, asset]
            adv.append(math.nan if volume is None else volume)
            if not eligible:
                obstacles.append(f"{asset} not eligible: {why}")
        majors.append(Majors(np.array(adv), "; ".join(obstacles)))
    return majors


def _stored_book(basket: pl.DataFrame, window: Window) -> dict[str, float] | None:
    rows = basket.filter((pl.col("date") == window.start - timedelta(days=1)) & (pl.col("status") != "flat"))
    return dict(rows.select("asset_id", "weight").rows()) or None


def _held(book: Book, settings: Settings) -> dict[str, float] | None:
    if book.status == "flat":
        return None
    return dict(zip([*book.alts.names, *settings.lake.majors], book.weights.tolist(), strict=True))


def _book(alts: Alts, majors: Majors, previous: dict[str, float] | None, settings: Settings) -> Book:
    if majors.obstacle:
        return _flat(majors.obstacle)
    if len(alts.names) < settings.basket.min_alts:
        return _flat(
            f"{len(alts.names)} eligible alts with beta and {RANK_COLUMN[settings.basket.rank_by]}, "
            f"basket.min_alts is {settings.basket.min_alts}"
        )
    problem = _problem(alts, majors, previous, settings)
    solution = solve(problem, settings.basket)
    if solution.weights is None:
        return _flat("; ".join([f"infeasible without {'+'.join(solution.relaxed)}", *sorted(set(solution.trouble))]))
    relaxed = _given_up(solution, problem)
    unused_majors = np.zeros(len(MAJOR_BETAS) - problem.n_majors)
    weights = np.concatenate([solution.weights, unused_majors])
    return Book(alts, weights, "relaxed" if relaxed else "optimal", relaxed, "")


def _flat(reason: str) -> Book:
    nothing = np.zeros(0)
    return Book(Alts([], nothing, nothing, nothing, nothing), np.zeros(len(MAJOR_BETAS)), "flat", "", reason)


def _given_up(solution: Solution, problem: Problem) -> str:
    """Constraints not enforced: relaxed ones, volume that is unknown, and what the solver complained of."""
    unknown = ["liquidity_unknown"] if np.isinf(problem.liquidity).any() else []
    return "+".join([*solution.relaxed, *unknown, *sorted(set(solution.trouble))])


def _problem(alts: Alts, majors: Majors, previous: dict[str, float] | None, settings: Settings) -> Problem:
    """State the day's programme. In mode btc_beta the whole long leg is BTC, so ETH is no variable of it."""
    basket = settings.basket
    n_majors = 1 if basket.mode == "btc_beta" else 2
    alt_betas = np.stack([alts.beta_btc, alts.beta_eth])
    alt_prior = -inverse_vol_prior(alts.idio_vol, basket.short_gross, basket.alt_weight_max)
    hedge = np.maximum(-(alt_betas * alt_prior).sum(axis=1), 0.0)
    volume = np.concatenate([alts.adv, majors.adv[:n_majors]])
    names = [*alts.names, *settings.lake.majors[:n_majors]]
    relative_vol = alts.idio_vol / np.median(alts.idio_vol)
    return Problem(
        prior=np.concatenate([alt_prior, _major_prior(hedge, basket)[:n_majors]]),
        scale=np.concatenate([relative_vol**2, np.ones(n_majors)]),
        betas=np.concatenate([alt_betas, MAJOR_BETAS[:, :n_majors]], axis=1),
        liquidity=np.where(np.isnan(volume), np.inf, volume * (basket.adv_share_max / settings.backtest.capital_usd)),
        previous=None if previous is None else np.array([previous.get(name, 0.0) for name in names]),
        exits=0.0 if previous is None else math.fsum(abs(w) for name, w in previous.items() if name not in names),
        n_majors=n_majors,
    )


def _major_prior(hedge: np.ndarray, settings: BasketSettings) -> np.ndarray:
    """Hedge the alts' prior exactly; a dollar neutral book holds the short leg's dollars in its ratio."""
    if settings.mode != "dollar":
        return hedge
    total = hedge.sum()
    split = hedge / total if total > 0 else np.full(len(hedge), 1.0 / len(hedge))
    return settings.short_gross * split


def _rows(books: list[Book], window: Window, settings: Settings) -> pl.DataFrame:
    majors = list(settings.lake.majors)
    sizes = [len(book.weights) for book in books]
    days = pl.DataFrame({
        "date": window.days(),
        "status": [book.status for book in books],
        "relaxed": [book.relaxed for book in books],
        "reason": [book.reason for book in books],
    })  # fmt: skip
    weights = np.concatenate([book.weights for book in books])
    betas = {
        "beta_btc": [np.concatenate([book.alts.beta_btc, MAJOR_BETAS[0]]) for book in books],
        "beta_eth": [np.concatenate([book.alts.beta_eth, MAJOR_BETAS[1]]) for book in books],
    }
    neutrality = {
        name: [float((book.weights * beta).sum()) for book, beta in zip(books, betas[column], strict=True)]
        for name, column in (("neutrality_btc", "beta_btc"), ("neutrality_eth", "beta_eth"))
    }
    residual = [np.concatenate([book.alts.idio_vol, np.zeros(len(majors))]) for book in books]
    frame = (
        days.with_columns(pl.Series(name, values) for name, values in neutrality.items())
        .select(pl.all().gather(np.repeat(np.arange(len(books)), sizes)))
        .with_columns(
            pl.Series("asset_id", [name for book in books for name in (*book.alts.names, *majors)]),
            pl.Series("leg", [leg for n in sizes for leg in ["alt"] * (n - len(majors)) + ["major"] * len(majors)]),
            pl.Series("weight", weights),
            *(pl.Series(name, np.concatenate(values)) for name, values in betas.items()),
            pl.Series("idio_vol", np.concatenate(residual)),
            pl.lit(settings.basket.mode).alias("mode"),
        )
    )
    return BASKET.conform(frame)
