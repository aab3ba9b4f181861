"""Stages `trackers` and `tracker_betas`: what one could trade against the alts as a whole, and the betas to it.

* ``alt_index``: all alts that could be held, weighted by market cap. Decided on the eve of the first of each month
  from what was known then (eligibility and dated caps), bought at the close of the first at the members' own prices,
  held unchanged until the close of the next first. A month therefore earns from its second day on.
* ``btc_dominance``: long one dollar of BTC, short one dollar of `alt_index`, set back to that at every close.

A member whose price is carried is marked there; one whose price is gone leaves at its last price less the exit
haircut, and what it fetched is cash until the next first of the month. Costs and funding are not in the returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numba import njit

from majors_alts_pipeline.calendar import Window, date_array, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.features.market import Members
from majors_alts_pipeline.numerics.columns import over_columns, window_sum_column
from majors_alts_pipeline.numerics.dense import Dense, long
from majors_alts_pipeline.tables import TRACKER_BETAS, TRACKERS
from majors_alts_pipeline.universe.rules import DETECTED, EXCLUDED

ALT_INDEX, BTC_DOMINANCE = "alt_index", "btc_dominance"
NAMES = (ALT_INDEX, BTC_DOMINANCE)

FIELDS = ("beta", "se", "r2", "n_obs")
_MOMENTS = 6

BASE = 100.0
"""Level of a tracker before its first return."""

LOOKBACK_DAYS = 32
"""The first of a month still earns what was decided on the eve of the first before it, at most so many days ago."""


@dataclass(frozen=True)
class Index:
    """The alt index on each day; arrays (days,), NaN where there is none.

    Attributes:
        ret: decimal per day.
        n_members: members with a price among those held over the day, 0 where there is no index.
        top_weight: largest weight at the close, before any reconstitution.
        top_member: column of that member, -1 where there is no index.
        coverage: share of the eligible alts that could be weighted and bought when it was last put together.
    """

    ret: np.ndarray
    n_members: np.ndarray
    top_weight: np.ndarray
    top_member: np.ndarray
    coverage: np.ndarray


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Two rows a day, one per tracker, from the first day of the window on.

    Args:
        inputs: `panel` and `universe` from `LOOKBACK_DAYS` before the window on, `trackers` of its eve.
        window: days wanted.
        settings: reads trackers.min_members, costs.exit_haircut and lake.majors.
    """
    loaded = window.back(LOOKBACK_DAYS)
    panel = Dense.of(inputs["panel"], loaded)
    universe = _universe(inputs["universe"], loaded, panel.assets)
    index = alt_index(
        panel.floats("close"),
        panel.floats("price_age_days") == 0.0,
        universe.bools("alt"),
        universe.floats("marketcap"),
        _firsts(loaded),
        settings.trackers.min_members,
        settings.costs.exit_haircut,
    )
    btc = settings.lake.majors[0]
    ret_btc = panel.floats("ret")[:, panel.assets.index(btc)] if btc in panel.assets else np.full(loaded.n_days, np.nan)
    returns = {ALT_INDEX: index.ret, BTC_DOMINANCE: ret_btc - index.ret}
    dominance = _dominance(universe, btc, settings.trackers.min_members)
    names = pl.Series("top_asset", [*panel.assets, None], dtype=pl.String)
    shown = slice(LOOKBACK_DAYS, None)
    frames = [
        pl.DataFrame({
            "date": pl.Series(date_array(window)).cast(pl.Date),
            "tracker": pl.Series([name] * window.n_days, dtype=pl.String),
            "level": _level(returns[name][shown], _level_of_the_eve(inputs["trackers"], name)),
            "ret": returns[name][shown],
            "n_members": index.n_members[shown].astype(np.int32),
            "top_weight": index.top_weight[shown],
            "top_asset": names.gather(index.top_member[shown] % len(names)),
            "coverage": index.coverage[shown],
            "dominance": dominance[shown] if name == BTC_DOMINANCE else np.full(window.n_days, np.nan),
        })
        for name in NAMES
    ]  # fmt: skip
    return {"trackers": TRACKERS.conform(pl.concat(frames).fill_nan(None))}


def _universe(universe: pl.DataFrame, loaded: Window, assets: list[str]) -> Dense:
    excluded = pl.col("reason").str.starts_with(EXCLUDED) | pl.col("reason").str.starts_with(DETECTED)
    return Dense.of(
        universe.with_columns(
            alt=(pl.col("role") == "alt") & pl.col("eligible"), capital=~excluded & (pl.col("price_age_days") == 0)
        ),
        loaded,
        assets,
    )


def _firsts(window: Window) -> np.ndarray:
    """Rows that are the first of a month."""
    days = date_array(window)
    return np.nonzero(days == days.astype("datetime64[M]").astype("datetime64[D]"))[0]


def alt_index(
    close: np.ndarray,
    own: np.ndarray,
    eligible: np.ndarray,
    marketcap: np.ndarray,
    firsts: np.ndarray,
    min_members: int,
    haircut: float,
) -> Index:
    """Cap-weighted index of the eligible alts, put together at the closes of `firsts`.

    Args:
        close: (days, assets) USD, carried prices included; NaN where there is none.
        own: (days, assets) bool, the price is the day's own.
        eligible: (days, assets) bool, an alt that may be held.
        marketcap: (days, assets) USD known at the close; NaN where unknown: such an alt cannot be weighted.
        firsts: rows at whose close the index is bought as decided on the row before.
        min_members: members without which there is no index until the next of `firsts`.
        haircut: decimal lost by a member whose price is gone.
    """
    days = len(close)
    out = Index(*(np.full(days, fill) for fill in (np.nan, 0, np.nan, -1, np.nan)))
    for row, following in pairwise([*firsts[firsts > 0].tolist(), days - 1]):
        wanted = eligible[row - 1]
        cols = np.nonzero(wanted & np.isfinite(marketcap[row - 1]) & own[row])[0]
        held = slice(row + 1, following + 1)
        if len(cols) < min_members or row == following:
            continue
        caps = marketcap[row - 1, cols]
        weights = caps / np.add.accumulate(caps)[-1]
        growth = close[row : following + 1, cols] / close[row, cols]
        alive = np.logical_and.accumulate(np.isfinite(growth), axis=0)
        last = np.maximum.accumulate(np.where(alive, np.arange(len(growth))[:, None], 0), axis=0)
        growth = np.take_along_axis(growth, last, axis=0)
        value = weights * np.where(alive, growth, (1.0 - haircut) * growth)
        # A running sum adds members in order of their names, whatever else was loaded.
        total = np.add.accumulate(value, axis=1)[:, -1]
        living = np.where(alive, value, 0.0)[1:]
        out.ret[held] = total[1:] / total[:-1] - 1.0
        out.n_members[held] = alive[1:].sum(axis=1)
        some = alive[1:].any(axis=1)
        out.top_weight[held] = np.where(some, living.max(axis=1) / total[1:], np.nan)
        out.top_member[held] = np.where(some, cols[living.argmax(axis=1)], -1)
        out.coverage[held] = len(cols) / wanted.sum()
    return out


def _dominance(universe: Dense, btc: str, min_members: int) -> np.ndarray:
    """(days,) cap of BTC / cap of all assets but stable, wrapped, pegged and gold ones, own prices only."""
    caps = universe.floats("marketcap")
    if btc not in universe.assets:
        return np.full(len(caps), np.nan)
    members = Members.of(universe.bools("capital"))
    of_members = caps[members.day, members.col]
    enough = members.known(of_members) >= min_members
    return caps[:, universe.assets.index(btc)] / np.where(enough, members.total(of_members), np.nan)


def _level_of_the_eve(eve: pl.DataFrame, name: str) -> float | None:
    level = eve.filter(pl.col("tracker") == name)["level"]
    return None if level.is_empty() else level[0]


def _level(ret: np.ndarray, before: float | None) -> np.ndarray:
    """(days,) level; it stands still while there is no return and is NaN before the first."""
    known = np.isfinite(ret)
    path = np.multiply.accumulate(
        np.concatenate([[BASE if before is None else before], np.where(known, 1.0 + ret, 1.0)])
    )
    begun = np.logical_or.accumulate(known) | (before is not None)
    return np.where(begun, path[1:], np.nan)


def compute_betas(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Least-squares beta of every asset that may be held to each tracker, over the window of the two-factor betas.

    r_i = a + beta x tracker + e, over the days of the window on which both returns are known and the asset's prices
    are its own. An alt is itself part of the index, by its weight in it.

    Args:
        inputs: `panel` and `trackers` from betas.window_days - 1 before the window on; `universe` over the window.
        window: days wanted.
        settings: reads betas.window_days and betas.min_obs.
    """
    loaded = window.back(settings.betas.window_days - 1)
    held = inputs["universe"].filter("eligible")
    members = Dense.of(held, window)
    own = inputs["panel"].with_columns(pl.when(pl.col("price_age_days") == 0).then("ret").alias("ret"))
    returns = Dense.of(own, loaded, members.assets).floats("ret")
    eligible = members.bools("eligible")
    frames = [
        long(eligible & (fit["n_obs"] >= settings.betas.min_obs), window, members.assets, fit).with_columns(
            tracker=pl.lit(name), n_obs=pl.col("n_obs").cast(pl.Int32)
        )
        for name in NAMES
        for fit in [_window_betas(returns, _returns_of(inputs["trackers"], name, loaded), loaded, window, settings)]
    ]
    return {"tracker_betas": pl.concat(frames).select(list(TRACKER_BETAS.columns))}


def _returns_of(trackers: pl.DataFrame, name: str, loaded: Window) -> np.ndarray:
    rows = loaded.keep(trackers.filter(pl.col("tracker") == name))
    out = np.full(loaded.n_days, np.nan)
    out[rows["date"].to_physical().to_numpy() - day_number(loaded.start)] = rows["ret"].cast(pl.Float64).to_numpy()
    return out


def _window_betas(
    returns: np.ndarray, factor: np.ndarray, loaded: Window, window: Window, settings: Settings
) -> dict[str, np.ndarray]:
    fit = rolling_beta(returns, factor, settings.betas.window_days, settings.betas.min_obs, day_number(loaded.start))
    return {name: values[-window.n_days :] for name, values in fit.items()}


def rolling_beta(
    returns: np.ndarray, factor: np.ndarray, window: int, min_obs: int, first_day: int
) -> dict[str, np.ndarray]:
    """Trailing one-factor least squares of every column; O(days x assets), needs window - 1 days of look-back.

    Args:
        returns: (days, assets) decimal per day, NaN where unknown.
        factor: (days,) decimal per day, NaN where unknown.
        window: trailing days.
        min_obs: days with both needed for a beta, >= 3.
        first_day: day number of row 0.

    Returns:
        beta, se (return per return), r2 (fraction) and n_obs, each (days, assets); all but n_obs are NaN below
        `min_obs` or where the factor does not vary. n_obs is NaN where the window is not wholly loaded.
    """
    y, x = np.ascontiguousarray(returns.T), np.ascontiguousarray(factor)
    days, assets = returns.shape
    out = np.empty((assets, days, len(FIELDS)))

    def work(first: int, last: int) -> None:
        _columns(y[first:last], x, window, max(min_obs, 3), first_day, out[first:last])

    over_columns(work, assets, days)
    return {name: out[:, :, k].T for k, name in enumerate(FIELDS)}


@njit(cache=True, nogil=True)
def _columns(y: np.ndarray, x: np.ndarray, window: int, min_obs: int, first_day: int, out: np.ndarray) -> None:
    assets, days = y.shape
    rows, sums = np.empty((days, _MOMENTS)), np.empty((days, _MOMENTS))
    tail = np.empty((window, _MOMENTS))
    for j in range(assets):
        for t in range(days):
            if np.isfinite(y[j, t]) and np.isfinite(x[t]):
                rows[t, 0], rows[t, 1], rows[t, 2] = 1.0, x[t], y[j, t]
                rows[t, 3], rows[t, 4], rows[t, 5] = x[t] * x[t], x[t] * y[j, t], y[j, t] * y[j, t]
            else:
                rows[t] = 0.0
        window_sum_column(rows, window, first_day, sums, tail)
        for t in range(days):
            n, sum_x, sum_y, sum_xx, sum_xy, sum_yy = sums[t]
            out[j, t] = np.nan
            out[j, t, 3] = n
            if not n >= min_obs:
                continue
            cxx = sum_xx - sum_x * sum_x / n
            if cxx <= 0.0:
                continue
            cxy, cyy = sum_xy - sum_x * sum_y / n, sum_yy - sum_y * sum_y / n
            beta = cxy / cxx
            unexplained = max(cyy - beta * cxy, 0.0)
            out[j, t, 0] = beta
            out[j, t, 1] = np.sqrt(unexplained / (n - 2.0) / cxx)
            out[j, t, 2] = 1.0 - unexplained / cyy if cyy > 0.0 else 0.0
