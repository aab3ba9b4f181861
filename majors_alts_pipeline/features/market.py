"""What the feature recipes read: dense facts, the day's members, and statistics over them.

Every statistic over assets runs over the members of one day in the order of their names, and every statistic
over days runs over one window from its first day: a value cannot depend on what else was loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np
import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.numerics.dense import Dense
from majors_alts_pipeline.universe.rules import DETECTED, EXCLUDED

MIN_SHARE = 0.8
"""Share of the days of a short window (up to 30 days) that must exist before its statistic does."""


@dataclass(frozen=True)
class DailySeries:
    """One number per day.

    Attributes:
        raw: (days,) value, NaN where it cannot be computed.
        coverage: (days,) share of the wanted inputs that existed, 0 when none was there.
    """

    raw: np.ndarray
    coverage: np.ndarray


@dataclass(frozen=True)
class Members:
    """Assets that take part on each day, sorted by day, then name.

    Attributes:
        day: (n,) row number.
        col: (n,) column number.
        n_days: rows of the panel they are taken from.
    """

    day: np.ndarray
    col: np.ndarray
    n_days: int

    @classmethod
    def of(cls, mask: np.ndarray) -> Members:
        """Members where the (days, assets) mask is true."""
        day, col = np.nonzero(mask)
        return cls(day, col, len(mask))

    @cached_property
    def count(self) -> np.ndarray:
        """(days,) number of members."""
        return np.bincount(self.day, minlength=self.n_days)

    def known(self, values: np.ndarray) -> np.ndarray:
        """(days,) number of members whose value (n,) is not NaN."""
        return np.bincount(self.day[np.isfinite(values)], minlength=self.n_days)

    def total(self, values: np.ndarray) -> np.ndarray:
        """(days,) sum of the members' values (n,) that are not NaN, added one by one in name order."""
        known = np.isfinite(values)
        return np.bincount(self.day[known], weights=values[known], minlength=self.n_days)

    def quantiles(self, values: np.ndarray, probabilities: Sequence[float]) -> np.ndarray:
        """(len(probabilities), days) quantiles of the members' values, interpolated linearly (type 7)."""
        known = np.isfinite(values)
        out = np.full((len(probabilities), self.n_days), np.nan)
        table = (
            pl.DataFrame({"day": self.day[known], "value": values[known]})
            .group_by("day")
            .agg(pl.col("value").quantile(p, "linear").alias(str(k)) for k, p in enumerate(probabilities))
        )
        out[:, table["day"].to_numpy()] = table.drop("day").to_numpy().T
        return out


@dataclass(frozen=True)
class Market:
    """Facts of every day of a window, and who counts on it.

    Attributes:
        window: days of the rows, look-back included.
        assets: column labels, sorted.
        majors: columns of the majors, BTC first.
        min_assets: members with a value a cross-sectional feature needs.
        facts: the panel's rows that carry a price of their own day.
        alts: eligible alts of each day.
        capital: assets of the dominance: all with a price of the day but stable, wrapped, pegged and gold.
    """

    window: Window
    assets: list[str]
    majors: tuple[int, ...]
    min_assets: int
    facts: Dense
    alts: Members
    capital: Members

    @classmethod
    def of(
        cls,
        panel: pl.DataFrame,
        universe: pl.DataFrame,
        window: Window,
        majors: Sequence[str],
        min_assets: int,
    ) -> Market:
        """Market of `window` from long frames; carried prices take no part.

        Raises:
            ValueError: a major has no row in the panel.
        """
        fresh = window.keep(panel).filter(pl.col("price_age_days") == 0)
        assets = sorted(fresh["asset_id"].unique().to_list())
        absent = [major for major in majors if major not in assets]
        if absent:
            raise ValueError(
                f"panel: majors {absent} have no row from {window.start} to {window.end}; fix fact_price or lake.majors"
            )
        members = Dense.of(universe.filter(pl.col("price_age_days") == 0), window, assets)
        is_alt = (pl.col("role") == "alt") & pl.col("eligible")
        excluded = pl.col("reason").str.starts_with(EXCLUDED) | pl.col("reason").str.starts_with(DETECTED)
        roles = Dense(window, assets, members.rows, members.cols, members.frame.select(alt=is_alt, capital=~excluded))
        return cls(
            window,
            assets,
            tuple(assets.index(major) for major in majors),
            min_assets,
            Dense.of(fresh, window, assets),
            Members.of(roles.bools("alt")),
            Members.of(roles.bools("capital")),
        )

    @cached_property
    def close(self) -> np.ndarray:
        """(days, assets) USD."""
        return self.facts.floats("close")

    @cached_property
    def ret(self) -> np.ndarray:
        """(days, assets) decimal per day."""
        return self.facts.floats("ret")

    @cached_property
    def volume(self) -> np.ndarray:
        """(days, assets) USD per day; no volume at all is not a volume."""
        volume = self.facts.floats("volume_usd")
        return np.where(volume > 0, volume, np.nan)

    @cached_property
    def marketcap(self) -> np.ndarray:
        """(days, assets) USD."""
        return self.facts.floats("marketcap")

    @cached_property
    def funding(self) -> np.ndarray:
        """(days, assets) decimal per day."""
        return self.facts.floats("funding_rate")

    @cached_property
    def open_interest(self) -> np.ndarray:
        """(days, assets) USD."""
        interest = self.facts.floats("open_interest_usd")
        return np.where(interest > 0, interest, np.nan)

    @cached_property
    def tradable(self) -> Members:
        """Majors and eligible alts with a price of the day."""
        mask = np.zeros(self.close.shape, dtype=bool)
        mask[self.alts.day, self.alts.col] = True
        mask[:, list(self.majors)] = np.isfinite(self.close[:, list(self.majors)])
        return Members.of(mask)

    @cached_property
    def alt_returns(self) -> np.ndarray:
        """(n,) return of the day of each eligible alt."""
        return self.ret[self.alts.day, self.alts.col]

    @cached_property
    def wanted_alts(self) -> np.ndarray:
        """(days,) inputs a feature over alts wants: the eligible ones, and never fewer than `min_assets`."""
        return np.maximum(self.alts.count, self.min_assets)

    def enough(self, raw: np.ndarray, known: np.ndarray) -> np.ndarray:
        """(days,) `raw` where at least `min_assets` values are behind it, else NaN."""
        return np.where(known >= self.min_assets, raw, np.nan)

    def alt_median(self, values: np.ndarray) -> DailySeries:
        """Median over the eligible alts' values (n,)."""
        known = self.alts.known(values)
        median = self.alts.quantiles(values, [0.5])[0]
        return DailySeries(self.enough(median, known), share(known, self.wanted_alts))

    def major_mean(self, values: np.ndarray) -> np.ndarray:
        """(days,) mean of (days, assets) `values` over the majors; NaN unless every major has one."""
        total = np.zeros(len(values))
        for column in self.majors:
            total = total + values[:, column]
        return total / len(self.majors)

    def alt_minus_major(self, values: np.ndarray) -> DailySeries:
        """Median of (days, assets) `values` over the eligible alts less the mean over the majors."""
        of_alts = values[self.alts.day, self.alts.col]
        known = self.alts.known(of_alts) + np.isfinite(values[:, list(self.majors)]).sum(axis=1)
        raw = self.alt_median(of_alts).raw - self.major_mean(values)
        return DailySeries(raw, share(known, self.wanted_alts + len(self.majors)))

    def period_return(self, days: int) -> np.ndarray:
        """(days, assets) simple return over `days`; NaN unless both ends have a price of their own."""
        return self.close / lagged(self.close, days) - 1.0

    @cached_property
    def alt_index_return(self) -> DailySeries:
        """Equal-weight return of the day over the alts eligible on the eve: nobody is chosen after."""
        held = self.alts.day + 1 < self.alts.n_days
        members = Members(self.alts.day[held] + 1, self.alts.col[held], self.alts.n_days)
        values = self.ret[members.day, members.col]
        known = members.known(values)
        mean = members.total(values) / np.maximum(known, 1)
        return DailySeries(self.enough(mean, known), share(known, np.maximum(members.count, self.min_assets)))


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide part by whole; 0 where nothing was wanted."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def lagged(values: np.ndarray, days: int) -> np.ndarray:
    """`values` of `days` earlier, NaN at the start."""
    out = np.full(values.shape, np.nan)
    out[days:] = values[: len(values) - days]
    return out


def trailing(values: np.ndarray, window: int) -> np.ndarray:
    """(days, window) trailing windows of a (days,) series, oldest first, NaN before its start."""
    padded = np.concatenate([np.full(window - 1, np.nan), values])
    return np.lib.stride_tricks.sliding_window_view(padded, window)


def _row_sum(values: np.ndarray) -> np.ndarray:
    """Sum of each row from left to right: `accumulate` never splits a row, `sum` may."""
    return np.add.accumulate(values, axis=1)[:, -1]


def trailing_moments(values: np.ndarray, window: int, min_obs: int) -> tuple[np.ndarray, np.ndarray]:
    """(days,) mean and standard deviation (ddof 1) of the last `window` days, row included.

    NaN with fewer than `min_obs` values. A standard deviation that is rounding only (below 1e-12 of the
    largest value) is 0.
    """
    rows = trailing(values, window)
    known = np.isfinite(rows)
    count = np.count_nonzero(known, axis=1)
    mean = _row_sum(np.where(known, rows, 0.0)) / np.maximum(count, 1)
    deviation = np.where(known, rows - mean[:, None], 0.0)
    std = np.sqrt(_row_sum(deviation * deviation) / np.maximum(count - 1, 1))
    largest = np.max(np.abs(np.where(known, rows, 0.0)), axis=1)
    std = np.where(std <= 1e-12 * largest, 0.0, std)
    return np.where(count >= max(min_obs, 1), mean, np.nan), np.where(count >= max(min_obs, 2), std, np.nan)


def trailing_mean(values: np.ndarray, window: int) -> np.ndarray:
    """(days,) mean of the last `window` days, of which `MIN_SHARE` must exist."""
    return trailing_moments(values, window, ceil(MIN_SHARE * window))[0]


def trailing_std(values: np.ndarray, window: int) -> np.ndarray:
    """(days,) standard deviation (ddof 1) of the last `window` days, of which `MIN_SHARE` must exist."""
    return trailing_moments(values, window, ceil(MIN_SHARE * window))[1]


def trailing_coverage(coverage: np.ndarray, window: int) -> np.ndarray:
    """(days,) mean coverage of the last `window` days; days before the start count as 0."""
    return _row_sum(np.nan_to_num(trailing(coverage, window))) / window


def trailing_slope(values: np.ndarray, window: int) -> np.ndarray:
    """(days,) least-squares slope per day over the last `window` days, of which `MIN_SHARE` must exist."""
    rows = trailing(values, window)
    known = np.isfinite(rows)
    count = np.count_nonzero(known, axis=1)
    weight = known.astype(np.float64)
    time = np.arange(window, dtype=np.float64)
    centre = _row_sum(weight * time) / np.maximum(count, 1)
    offset = (time - centre[:, None]) * weight
    slope = _row_sum(offset * np.where(known, rows, 0.0)) / np.maximum(_row_sum(offset * offset), 1e-300)
    return np.where(count >= max(2, ceil(MIN_SHARE * window)), slope, np.nan)


def z_score(values: np.ndarray, window: int, min_obs: int) -> np.ndarray:
    """(days,) z-score of each day within the last `window` days, the day itself included, ddof 1.

    NaN when the day has no value, fewer than `min_obs` days have one, or they do not vary.
    """
    mean, std = trailing_moments(values, window, min_obs)
    varies = std > 0
    return np.where(varies, (values - mean) / np.where(varies, std, 1.0), np.nan)


def trailing_max(values: np.ndarray, window: int) -> np.ndarray:
    """(days, assets) largest known value of the last `window` days, by doubling: O(log window) passes."""
    largest, span = values, 1
    while 2 * span <= window:
        largest = np.fmax(largest, lagged(largest, span))
        span *= 2
    return np.fmax(largest, lagged(largest, window - span)) if span < window else largest


def trailing_count(known: np.ndarray, window: int) -> np.ndarray:
    """(days, assets) number of true values in the last `window` days; whole numbers, hence exact."""
    total = np.cumsum(known, axis=0, dtype=np.int32)
    total[window:] -= total[:-window].copy()
    return total
