"""Windowed sums whose value on a day depends only on that window, to the last bit.

A running sum carries the rounding of everything before it, so a day computed alone would differ from the
same day of a long range. Here days are cut into blocks of `window` days at absolute day numbers (the
decomposition of van Herk 1992 and Gil & Werman 1993): a window is the tail of one block plus the head of the
next, each summed from its own end, whatever else was loaded. Cost O(days x assets), two passes.
"""

from __future__ import annotations

import numpy as np


def window_sum(values: np.ndarray, window: int, first_day: int) -> np.ndarray:
    """Sum over the trailing `window` rows, row included.

    Args:
        values: (days, ...) finite numbers; put 0 where there is nothing to add.
        window: length in days, >= 1.
        first_day: day number (days since 1970-01-01) of row 0; the blocks are anchored to it.

    Returns:
        (days, ...) float64. The first window - 1 rows are NaN: their windows are not wholly loaded.

    Raises:
        ValueError: window < 1.
    """
    if window < 1:
        raise ValueError(f"window must be >= 1 day, got {window}")
    values = np.asarray(values, dtype=np.float64)
    days = values.shape[0]
    out = np.full(values.shape, np.nan)
    if days < window:
        return out
    lead = first_day % window
    tail = -(lead + days) % window
    padding = [(lead, tail)] + [(0, 0)] * (values.ndim - 1)
    blocks = np.pad(values, padding).reshape(-1, window, *values.shape[1:])
    head_sum = np.cumsum(blocks, axis=1).reshape(-1, *values.shape[1:])[lead : lead + days]
    tail_sum = np.flip(np.cumsum(np.flip(blocks, 1), axis=1), 1).reshape(-1, *values.shape[1:])[lead : lead + days]
    ends = np.arange(window - 1, days)
    starts = ends - window + 1
    whole_block = (first_day + starts) % window == 0
    out[ends] = head_sum[ends]
    split = ~whole_block
    out[ends[split]] += tail_sum[starts[split]]
    return out


def window_mean_std(
    values: np.ndarray, window: int, first_day: int, min_obs: int, ddof: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trailing mean, standard deviation and count of the non-NaN values of a window.

    Uses sums and sums of squares, so it loses digits when |mean| exceeds the standard deviation by many orders
    of magnitude; centre such data first.

    Returns:
        mean, std, count, each (days, ...); mean and std are NaN where count < min_obs or the window is not
        wholly loaded.
    """
    valid = np.isfinite(values)
    filled = np.where(valid, values, 0.0)
    count = window_sum(valid.astype(np.float64), window, first_day)
    total = window_sum(filled, window, first_day)
    squares = window_sum(filled * filled, window, first_day)
    enough = count >= max(min_obs, ddof + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(enough, total / count, np.nan)
        variance = np.where(enough, (squares - count * mean * mean) / (count - ddof), np.nan)
    return mean, np.sqrt(np.maximum(variance, 0.0)), count
