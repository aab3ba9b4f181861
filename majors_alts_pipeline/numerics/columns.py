"""Compiled twins of `windows.window_sum` for one asset at a time, and the split of assets over threads.

A kernel that needs many moments of one asset keeps them in the processor's cache when it works column by
column; the sums are taken in the same order as `window_sum` takes them, so both agree to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numba import njit

_CELLS_WORTH_A_THREAD = 200_000


@njit(cache=True, nogil=True)
def window_sum_column(values: np.ndarray, window: int, first_day: int, out: np.ndarray, tail: np.ndarray) -> None:
    """Trailing sums of the rows of `values`, written to `out`; blocks anchored to absolute day numbers.

    Kernels that call this are cached by the text of their own file: touch them when this function changes.
    Cost O(days x moments), three additions per cell.

    Args:
        values: (days, moments) finite numbers of one asset, 0 where there is nothing to add.
        window: length in days, >= 1.
        first_day: day number of row 0.
        out: (days, moments); rows whose window is not wholly loaded become NaN.
        tail: (window, moments) scratch.
    """
    days, moments = values.shape
    lead = first_day % window
    head = np.zeros(moments)
    for t in range(days):
        place = (lead + t) % window
        if place == 0:
            head[:] = 0.0
            for k in range(moments):
                running = 0.0
                for back in range(1, window + 1):
                    running += values[t - back, k] if t >= back else 0.0
                    tail[window - back, k] = running
        for k in range(moments):
            head[k] += values[t, k]
            if t < window - 1:
                out[t, k] = np.nan
            elif place == window - 1:
                out[t, k] = head[k]
            else:
                out[t, k] = head[k] + tail[place + 1, k]


def over_columns(work: Callable[[int, int], None], n_columns: int, n_days: int) -> None:
    """Call ``work(first, last)`` for slices of the columns, on threads when the array is large.

    The kernels release the interpreter lock and never share a column, so results do not depend on the split.
    Plain threads instead of numba's own pool: that one must not be forked nor entered from two threads.
    """
    wanted = min(os.cpu_count() or 1, n_columns, n_columns * n_days // _CELLS_WORTH_A_THREAD)
    if wanted <= 1:
        work(0, n_columns)
        return
    edges = [n_columns * k // wanted for k in range(wanted + 1)]
    with ThreadPoolExecutor(wanted) as pool:
        for job in [pool.submit(work, first, last) for first, last in pairwise(edges)]:
            job.result()
