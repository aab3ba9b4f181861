"""Assets that move with something else, found from prices alone.

Vendor flags are wrong and lists are never complete, so two properties of the data decide: a price that stays
at one USD, and returns that are another asset's returns. No vendor flag is read here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from majors_alts_pipeline.numerics.windows import window_mean_std, window_sum
from majors_alts_pipeline.universe.medians import trailing_median

_PAIRS_AT_ONCE = 512
# A copy follows its reference far more closely than the reference moves; without this, anything quiet for two
# months (gold, a fund token) would "track" a stablecoin.
_MAX_ERROR_TO_VOL = 0.5


def usd_peg(
    ret: np.ndarray,
    price: np.ndarray,
    window: int,
    min_obs: int,
    max_daily_vol: float,
    band: float,
    first_day: int,
) -> np.ndarray:
    """Whether an asset is pegged to the US dollar.

    A peg has a standard deviation of daily returns (ddof 1) below `max_daily_vol` and a median
    |price - 1| below `band`, both over the trailing `window` with at least `min_obs` observations.

    Args:
        ret: (days, assets) decimal daily returns, NaN where missing.
        price: (days, assets) USD, NaN where missing.
        window: days.
        min_obs: observations of each kind the window must hold.
        max_daily_vol: decimal per day.
        band: USD.
        first_day: day number of row 0.

    Returns:
        (days - window + 1, assets) bool.
    """
    out = np.zeros((ret.shape[0] - window + 1, ret.shape[1]), dtype=bool)
    distance = np.abs(price - 1.0)
    # A median below the band needs such a day: assets that never come near one USD are not looked at.
    near = np.flatnonzero((distance < band).any(axis=0))
    if near.size:
        _, vol, _ = window_mean_std(ret[:, near], window, first_day, min_obs)
        quiet = vol[window - 1 :] < max_daily_vol
        some = near[quiet.any(axis=0)]
        if some.size:
            median = trailing_median(distance[:, some], window, min_obs)
            out[:, some] = quiet[:, quiet.any(axis=0)] & (median < band)
    return out


def largest(size: np.ndarray, n: int) -> np.ndarray:
    """Mark the `n` largest assets of each day; ties go to the earlier column, NaN never counts.

    Args:
        size: (days, assets).
        n: how many.

    Returns:
        (days, assets) bool.
    """
    order = np.argsort(-size, axis=1, kind="stable")[:, :n]
    out = np.zeros(size.shape, dtype=bool)
    np.put_along_axis(out, order, True, axis=1)
    return out & np.isfinite(size)


def tracked_asset(
    ret: np.ndarray,
    size: np.ndarray,
    present: np.ndarray,
    majors: Sequence[int],
    listed: Sequence[int],
    n_references: int,
    window: int,
    min_obs: int,
    max_error: float,
    beta_band: float,
    first_day: int,
) -> np.ndarray:
    """Find the asset whose returns an asset repeats: wrapped, staked, bridged or renamed tokens.

    Asset i tracks reference j on a day when, over the trailing `window` with at least `min_obs` common
    observations, the root mean square of r_i - r_j is below `max_error` and below half the standard deviation
    of r_j, and the slope of r_i on r_j is within `beta_band` of 1. References of a day are the majors, the
    `listed` assets (gold and the like) and the `n_references` largest assets of the day; one of the last kind
    must also be larger than the asset (the earlier column if equal), else both halves of a pair would be
    called copies. A major never tracks. Of several references a major is named first, then the one with the
    smallest error.

    Args:
        ret: (days, assets) decimal daily returns, NaN where missing.
        size: (days - window + 1, assets) size that ranks the references (traded notional); NaN when unknown.
        present: (days - window + 1, assets) bool, assets with a price of the day: only they are references.
        majors: column numbers.
        listed: column numbers.
        n_references: how many of the largest assets are references.
        window: days.
        min_obs: common observations.
        max_error: decimal per day.
        beta_band: distance of the slope from 1.
        first_day: day number of row 0 of `ret`.

    Returns:
        (days - window + 1, assets) int64: column of the tracked asset, -1 for none.
    """
    majors, always = list(majors), sorted({*majors, *listed})
    reference = largest(np.where(present, size, np.nan), n_references)
    reference[:, always] = present[:, always]
    tracks = np.full(size.shape, -1, dtype=np.int64)
    best = np.full(size.shape, np.inf)
    assets, references = _possible_pairs(ret, reference, window, min_obs, max_error, first_day)
    kept = ~np.isin(assets, majors)
    assets, references = assets[kept], references[kept]
    for start in range(0, len(assets), _PAIRS_AT_ONCE):
        own, other = assets[start : start + _PAIRS_AT_ONCE], references[start : start + _PAIRS_AT_ONCE]
        error, slope = _tracking(ret[:, own], ret[:, other], window, min_obs, first_day)
        larger = (size[:, own] > size[:, other]) | ((size[:, own] == size[:, other]) & (own < other))
        smaller = ~larger | np.isin(other, always)
        found = (error < max_error) & (np.abs(slope - 1.0) < beta_band) & smaller & reference[:, other]
        # error < max_error, so adding max_error ranks every other reference behind every major.
        rank = np.where(found, error + max_error * ~np.isin(other, majors), np.inf)
        for k in np.flatnonzero(found.any(axis=0)):
            better = rank[:, k] < best[:, own[k]]
            best[better, own[k]] = rank[better, k]
            tracks[better, own[k]] = other[k]
    return tracks


def _tracking(
    ret: np.ndarray, reference: np.ndarray, window: int, min_obs: int, first_day: int
) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square of the return difference and slope on the reference, (days - window + 1, pairs) each.

    The error is NaN with too few observations, or when it is not small beside the reference's own volatility.
    """
    valid = np.isfinite(ret) & np.isfinite(reference)
    y, x = np.where(valid, ret, 0.0), np.where(valid, reference, 0.0)
    parts = np.stack([valid.astype(np.float64), x, y, x * y, x * x, (y - x) ** 2], axis=-1)
    count, sum_x, sum_y, sum_xy, sum_xx, sum_dd = np.moveaxis(window_sum(parts, window, first_day)[window - 1 :], -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(count >= min_obs, np.sqrt(sum_dd / count), np.nan)
        scatter = sum_xx - sum_x * sum_x / count
        slope = (sum_xy - sum_x * sum_y / count) / scatter
        close = sum_dd < _MAX_ERROR_TO_VOL**2 * scatter
    return np.where(close, error, np.nan), slope


def _possible_pairs(
    ret: np.ndarray, reference: np.ndarray, window: int, min_obs: int, max_error: float, first_day: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (asset, reference) that may pass on some day; the exact test follows on these few.

    A passing window holds at most window x max_error^2 of squared differences, and so do the whole calendar
    blocks inside it. Those are summed for all pairs at once by matrix products whose rounding the margin
    covers: the screen is a necessary condition, so it cannot change a result.
    """
    days, assets = ret.shape
    size = max(1, min(window // 4, min_obs // 2))
    inside = (window - size + 1) // size
    needed = min_obs - (window - inside * size)
    bound = window * max_error**2 * 1.001 + 1e-6
    found: set[int] = set()
    for start in range(-first_day % size, days - inside * size + 1, size):
        stop = start + inside * size
        first_end, last_end = max(stop - 1, window - 1), min(start + window, days)
        seen = np.isfinite(ret[start:stop])
        enough = np.count_nonzero(seen, axis=0) >= needed
        own = np.flatnonzero(enough)
        other = np.flatnonzero(enough & reference[first_end - window + 1 : last_end - window + 1].any(axis=0))
        if not own.size or not other.size:
            continue
        known = seen[:, own].astype(np.float64)
        y = np.where(seen[:, own], ret[start:stop, own], 0.0)
        position = np.searchsorted(own, other)
        x, seen_x = y[:, position], known[:, position]
        squares = np.vstack([seen_x, x * x, -2.0 * x]).T @ np.vstack([y * y, known, y])
        rows, cols = np.nonzero(squares <= bound)
        keep = (other[rows] != own[cols]) & ((seen_x[:, rows] * known[:, cols]).sum(axis=0) >= needed)
        found.update((own[cols[keep]] * assets + other[rows[keep]]).tolist())
    code = np.array(sorted(found), dtype=np.int64)
    return code // assets, code % assets
