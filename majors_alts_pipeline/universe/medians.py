"""Exact trailing medians: order statistics of the window alone, so nothing is carried from earlier days."""

from __future__ import annotations

import numpy as np

_CHUNK = 64


def trailing_median(values: np.ndarray, window: int, min_obs: int) -> np.ndarray:
    """Median of the non-NaN values of the trailing `window` rows, row included.

    Each window is sorted whole, so the result is `numpy.nanmedian` of it to the last bit. Cost
    O(days x assets x window log window), assets taken in chunks that stay in cache.

    Args:
        values: (days, assets) float64, NaN where missing.
        window: length in days, >= 1.
        min_obs: observations below which the median is NaN, >= 1.

    Returns:
        (days - window + 1, assets): only days whose window is wholly loaded.

    Raises:
        ValueError: fewer rows than `window`, or window or min_obs < 1.
    """
    days, assets = values.shape
    if window < 1 or min_obs < 1 or days < window:
        raise ValueError(f"need 1 <= window <= days and min_obs >= 1, got {window}, {days} and {min_obs}")
    windows = np.lib.stride_tricks.sliding_window_view(values, window, axis=0)
    out = np.empty(windows.shape[:2])
    for first in range(0, assets, _CHUNK):
        # NaN sorts last, so the observations are the first `count` of each sorted window.
        ranked = np.sort(windows[:, first : first + _CHUNK], axis=-1)
        count = np.count_nonzero(~np.isnan(ranked), axis=-1)
        lower = np.take_along_axis(ranked, (np.maximum(count - 1, 0) // 2)[..., None], -1)[..., 0]
        upper = np.take_along_axis(ranked, np.minimum(count // 2, window - 1)[..., None], -1)[..., 0]
        out[:, first : first + _CHUNK] = np.where(count >= min_obs, (lower + upper) / 2.0, np.nan)
    return out
