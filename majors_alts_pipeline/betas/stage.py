"""Stage `betas`: one row per day and asset of the panel that has enough history."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from majors_alts_pipeline.betas.ridge import rolling_ridge
from majors_alts_pipeline.betas.vasicek import vasicek
from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.numerics.dense import Dense, long
from majors_alts_pipeline.tables import BETAS

VIF_MAX = 1e8


class MissingMajorError(ValueError):
    """A major has no price on a day that other assets have one."""


def lookback_days(window_days: int) -> int:
    """Days before a day that its beta depends on: its window, and the one before it for the winsorisation."""
    return 2 * window_days - 1


def compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]:
    """Betas of every asset of the panel that has `betas.min_obs` observations in its window.

    The majors are rows too, by definition: BTC is (1, 0), ETH (0, 1), without error. Alts (universe role
    `alt`, eligible or not) form the Vasicek prior and are shrunk towards it; excluded assets keep their own
    estimate, so a wrapped bitcoin stays at 1.

    A return counts only between two days' own prices: a carried price is no observation.

    Args:
        inputs: `panel` from `lookback_days` before the window on; `universe` over the window.
        window: days wanted.
        settings: reads `betas` and `lake.majors`.

    Raises:
        MissingMajorError: BTC or ETH has no row on a day of the window.
        ValueError: a panel row has no universe role, or BTC and ETH cannot be told apart.
    """
    chosen, majors = settings.betas, settings.lake.majors
    loaded = window.back(lookback_days(chosen.window_days))
    own_price = pl.col("price_age_days") == 0
    dense = Dense.of(inputs["panel"].with_columns(pl.when(own_price).then("ret").alias("ret")), loaded)
    _require_majors(dense, window, majors)
    if not dense.assets:
        return {"betas": BETAS.empty()}
    returns = dense.floats("ret")
    first, second = (dense.assets.index(major) for major in majors)
    fits = rolling_ridge(
        returns,
        returns[:, [first, second]],
        window=chosen.window_days,
        min_obs=chosen.min_obs,
        ridge=chosen.ridge,
        winsor_probability=chosen.winsor_probability,
        first_day=day_number(loaded.start),
    )
    fits = {name: values[-window.n_days :] for name, values in fits.items()}
    present = np.zeros(dense.shape, dtype=bool)
    present[dense.rows, dense.cols] = True
    wanted = present[-window.n_days :] & (fits["n_obs"] >= chosen.min_obs)
    _require_distinct_factors(fits["vif"], wanted, window, majors)
    is_major = np.zeros(len(dense.assets), dtype=bool)
    is_major[[first, second]] = True
    alts = _alts(inputs["universe"], window, dense.assets, wanted) & ~is_major
    columns = _columns(fits, alts, (first, second), chosen.vasicek_min_assets if chosen.vasicek else None)
    return {"betas": long(wanted, window, dense.assets, columns).select(list(BETAS.columns))}


def _require_majors(dense: Dense, window: Window, majors: tuple[str, str]) -> None:
    rows = window.keep(dense.frame)
    days = rows.select(pl.col("date").unique()).sort("date")
    for major in majors:
        missing = days.join(rows.filter(pl.col("asset_id") == major), on="date", how="anti").sort("date")
        if missing.height:
            raise MissingMajorError(
                f"betas: panel has no row for the major {major} on {missing['date'][0]} "
                f"({missing.height} such days); complete the lake's prices or set lake.majors"
            )


def _require_distinct_factors(vif: np.ndarray, wanted: np.ndarray, window: Window, majors: tuple[str, str]) -> None:
    bad = wanted & ~(vif < VIF_MAX)
    if bad.any():
        day = window.days()[int(np.nonzero(bad)[0][0])]
        raise ValueError(
            f"betas: returns of {majors[0]} and {majors[1]} in the window ending {day} are the same or "
            f"constant (variance inflation {vif[bad].max():.3g} > {VIF_MAX:.0e}); check their prices in "
            "the panel, or lake.majors"
        )


def _alts(universe: pl.DataFrame, window: Window, assets: list[str], wanted: np.ndarray) -> np.ndarray:
    roles = Dense.of(universe, window, assets)
    known = np.zeros(roles.shape, dtype=bool)
    known[roles.rows, roles.cols] = True
    if (wanted & ~known).any():
        row, col = (int(axis[0]) for axis in np.nonzero(wanted & ~known))
        raise ValueError(
            f"betas: universe has no row for {assets[col]} on {window.days()[row]}, which the panel has; "
            "materialise universe for that day"
        )
    alts = np.zeros(roles.shape, dtype=bool)
    alts[roles.rows, roles.cols] = (roles.frame["role"] == "alt").to_numpy()
    return alts & wanted


def _columns(
    fits: Mapping[str, np.ndarray], alts: np.ndarray, majors: tuple[int, int], min_assets: int | None
) -> dict[str, np.ndarray]:
    out = {name: np.array(values) for name, values in fits.items() if name in BETAS.columns}
    for own, other in ((0, 1), (1, 0)):
        column = majors[own]
        exact = {("beta_btc", "beta_eth")[own]: 1.0, ("beta_btc", "beta_eth")[other]: 0.0, "r2": 1.0}
        for name, value in (exact | {"se_btc": 0.0, "se_eth": 0.0, "idio_vol": 0.0}).items():
            out[name][:, column] = value
    raw = np.stack([out["beta_btc"], out["beta_eth"]])
    out["beta_btc_raw"], out["beta_eth_raw"] = raw
    if min_assets is not None:
        errors = np.stack([fits["se_btc"] ** 2, fits["cov_error"], fits["se_eth"] ** 2])
        out["beta_btc"], out["beta_eth"] = vasicek(raw, errors, alts, min_assets)
    out["n_obs"] = np.nan_to_num(out["n_obs"]).astype(np.int32)
    return out
