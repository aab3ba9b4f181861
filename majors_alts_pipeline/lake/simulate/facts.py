"""Tables of the lake from the simulated market: what a vendor would have written down.

Every builder is a pure function of the market and draws from streams of its own, so a table is the same
whether or not the others were built. Columns and types are those of a real lake.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.lake.simulate.market import Array, Market, bounce

SOURCE = "simulated"
EXCHANGE = "simulated"
VOLUME_AR, VOLUME_MARKET_VOL = 0.9, 0.15
FUNDING_AR, FUNDING_MARKET_VOL = 0.8, 5e-5
OPEN_INTEREST_SHARE, OPEN_INTEREST_AR, OPEN_INTEREST_VOL = 0.05, 0.98, 0.02


def ar1(shocks: Array, phi: float) -> Array:
    """Stationary AR(1) of unit-variance shocks, unit variance itself: (n, T) in place, O(nT)."""
    shocks[:, 1:] *= np.sqrt(1 - phi**2)
    for day in range(1, shocks.shape[1]):
        shocks[:, day] += phi * shocks[:, day - 1]
    return shocks


def _normals(market: Market, component: str) -> Array:
    n_days = market.spec.n_days
    return market.streams.rows(component, market.number, lambda rng: rng.standard_normal(n_days), n_days)


def _market_noise(market: Market, component: str, phi: float) -> Array:
    return ar1(market.streams.of(component).standard_normal((1, market.spec.n_days)), phi)[0]


def _long(market: Market, mask: Array, columns: dict[str, Array], source: str | None = SOURCE) -> pl.DataFrame:
    """Rows of the True cells of `mask` (n, T), by asset then day."""
    assets, days = np.nonzero(mask)
    day = (market.days[days]).astype("datetime64[D]").astype(np.int32)
    frame = pl.DataFrame(
        [
            pl.Series("asset_id", market.lake_names, dtype=pl.String).gather(assets),
            pl.Series("date", day).cast(pl.Date),
            *(pl.Series(name, values[mask]) for name, values in columns.items()),
        ]
    )
    return frame if source is None else frame.with_columns(source=pl.lit(source))


def returns(market: Market) -> Array:
    """(n, T) simple returns of the observed close; 0 on the first day."""
    out = np.zeros_like(market.close)
    np.divide(market.close[:, 1:], market.close[:, :-1], out=out[:, 1:])
    out[:, 1:] -= 1.0
    return out


def fact_price(market: Market) -> pl.DataFrame:
    """Observed closes."""
    return _long(market, market.live(), {"close": market.close})


def fact_ohlc(market: Market) -> pl.DataFrame:
    """Bars: opens and closes half a spread from the efficient price, extremes of a Brownian bridge.

    Given open o and close c (logs) and volatility s over the day, the maximum of the bridge is
    (o + c + sqrt((c - o)^2 - 2 s^2 ln U)) / 2, the minimum its mirror image.
    """
    n_days = market.spec.n_days
    half = 0.5 * market.spread[:, None]
    previous = np.concatenate([market.efficient[:, :1], market.efficient[:, :-1]], axis=1)
    # On the listing day there is no yesterday: the bar opens at its own efficient price.
    rows = np.arange(market.n_assets)
    previous[rows, market.listed] = market.efficient[rows, market.listed]
    o, c = np.log(previous), np.log(market.efficient)
    opened = previous
    opened *= 1 + half * bounce(market.streams, market.number, n_days, part=1)
    move, centre = c - o, c + o
    variance = (0.5 * market.vol[:, None] + 0.5 * np.abs(move)) ** 2
    del o, c
    u = market.streams.rows("extremes", market.number, lambda rng: -2.0 * np.log1p(-rng.random(2 * n_days)), 2 * n_days)
    extreme = [
        np.exp(0.5 * (centre + sign * np.sqrt(move**2 + variance * u[:, part * n_days : (part + 1) * n_days])))
        for part, sign in ((0, 1.0), (1, -1.0))
    ]
    high = np.maximum.reduce([extreme[0] * (1 + half), opened, market.close])
    low = np.minimum.reduce([extreme[1] * (1 - half), opened, market.close])
    del extreme, u, move, centre, variance
    return _long(market, market.live(), {"open": opened, "high": high, "low": low, "close": market.close})


def fact_volume(market: Market) -> pl.DataFrame:
    """Dollar volume: lognormal around size, higher on large moves, falling for alts in risk_on_majors."""
    spec = market.spec
    is_alt = market.kind == "alt"
    turnover = np.select([market.kind == "major", is_alt], [0.02, 0.12], 0.05)
    own = market.streams.rows(
        "volume", market.number, lambda rng: rng.standard_normal(spec.n_days + 1), spec.n_days + 1
    )
    rank_noise, noise = 0.4 * own[:, 0], ar1(own[:, 1:], VOLUME_AR)
    noise *= 0.5
    start = market.efficient[np.arange(market.n_assets), market.listed]
    noise += 0.7 * np.log(market.efficient / start[:, None])
    noise += np.minimum(8.0 * (np.abs(returns(market)) - 0.8 * market.vol[:, None]), 3.0)
    noise += (np.log(market.marketcap_start * turnover) + rank_noise)[:, None]
    common = VOLUME_MARKET_VOL * _market_noise(market, "volume_market", VOLUME_AR)
    signal = VOLUME_MARKET_VOL * spec.signal_strength * market.state
    noise += common
    noise -= is_alt[:, None] * signal
    return _long(market, market.live(), {"volume": np.exp(noise)})


def supply(market: Market) -> Array:
    """(n, T) circulating supply, coins: constant but for a steady emission of alts of 0 to 15 % a year."""
    u = market.streams.rows("instrument", market.number, lambda rng: rng.random(3), 3)
    emission = np.where(market.kind == "alt", 0.15 * u[:, 0], 0.0)
    start = market.marketcap_start / market.efficient[np.arange(market.n_assets), market.listed]
    age = np.arange(market.spec.n_days) - market.listed[:, None]
    return start[:, None] * (1 + emission[:, None]) ** (age / 365.0)


def fact_marketcap(market: Market) -> pl.DataFrame:
    """Caps of the top N on the first of each month."""
    first_of_month = market.days.astype("datetime64[M]").astype("datetime64[D]") == market.days
    cap = supply(market) * market.close
    mask = market.live() & first_of_month
    ranked = np.argsort(np.argsort(np.where(mask, -cap, np.inf), axis=0, kind="stable"), axis=0, kind="stable")
    return _long(market, mask & (ranked < market.spec.marketcap_top_n), {"marketcap": cap}, "simulated_monthly")


def has_perpetual(market: Market) -> Array:
    """(n,) bool: majors always, alts by chance, tokens never."""
    u = market.streams.rows("instrument", market.number, lambda rng: rng.random(3), 3)[:, 1]
    return (market.kind == "major") | ((market.kind == "alt") & (u < market.spec.perpetual_share))


def multiplier(market: Market) -> Array:
    """(n,) coins per contract: 1,000 for the first alts asked for, else 1."""
    return np.where(market.number < market.spec.thousand_contracts, 1000.0, 1.0)


def interval_hours(market: Market) -> Array:
    """(n, T) hours between funding prints: 8, for some later 4, for some of these later 1."""
    u = market.streams.rows("interval", market.number, lambda rng: rng.random(4), 4)
    n_days = market.spec.n_days
    day = np.arange(n_days)
    to_four = np.where(u[:, 0] < market.spec.interval_switch_share, u[:, 1] * n_days, np.inf)
    to_one = (
        np.where(u[:, 2] < 0.5, to_four + u[:, 3] * np.maximum(n_days - to_four, 0.0), np.inf) if n_days else to_four
    )
    return np.where(day >= to_one[:, None], 1, np.where(day >= to_four[:, None], 4, 8))


def funding_eight_hours(market: Market) -> Array:
    """(n, T) funding at the day's end, decimal per 8 hours: level, momentum, hidden state, noise; capped."""
    spec = market.spec
    noise = ar1(_normals(market, "funding"), FUNDING_AR)
    noise *= spec.funding_noise
    momentum = np.zeros_like(noise)
    week = min(7, spec.n_days - 1)
    momentum[:, week:] = market.efficient[:, week:] / market.efficient[:, : spec.n_days - week] - 1
    day = np.arange(spec.n_days)
    momentum[day - week < market.listed[:, None]] = 0.0
    noise += spec.funding_momentum * np.clip(momentum, -1.0, 1.0)
    noise += spec.funding_level
    common = FUNDING_MARKET_VOL * (
        _market_noise(market, "funding_market", FUNDING_AR) + spec.signal_strength * market.state
    )
    noise += (market.kind == "alt")[:, None] * common
    return np.clip(noise, -spec.funding_cap, spec.funding_cap, out=noise)


def funding_prints(market: Market) -> tuple[Array, Array, Array]:
    """(n, T) last print of the day, sum of the day's prints, number of prints.

    The 8-hour rate r moves in a straight line from yesterday's end to today's. With n = 24 / h prints of
    h hours, print_k = (h / 8) (r_{t-1} + k (r_t - r_{t-1}) / n), hence last print = (h / 8) r_t and
    sum = 3 r_{t-1} + 3 (n + 1) / (2 n) (r_t - r_{t-1}).
    """
    rate, hours = funding_eight_hours(market), interval_hours(market)
    before = np.concatenate([rate[:, :1], rate[:, :-1]], axis=1)
    rows = np.arange(market.n_assets)
    before[rows, market.listed] = rate[rows, market.listed]
    n_prints = 24 // hours
    total = 3 * before + 1.5 * (n_prints + 1) / n_prints * (rate - before)
    return rate * hours / 8, total, n_prints


def _late(market: Market) -> Array:
    first = market.spec.n_days - round(market.spec.daily_sum_share * market.spec.n_days)
    return np.arange(market.spec.n_days) >= first


def _instrument_symbol(name: str, coins: float) -> str:
    return f"{int(coins) if coins > 1 else ''}{name}USDT"


def _instrument_ids(market: Market) -> list[str]:
    pairs = zip(market.names, multiplier(market).tolist(), strict=True)
    return [f"simulated_perp_{_instrument_symbol(name, coins)}" for name, coins in pairs]


def _with_instrument(market: Market, frame: pl.DataFrame) -> pl.DataFrame:
    known = pl.DataFrame(
        {"asset_id": market.lake_names, "instrument_id": _instrument_ids(market)},
        schema_overrides={"asset_id": pl.String},
    )
    return frame.join(known, on="asset_id", how="left", maintain_order="left").with_columns(exchange=pl.lit(EXCHANGE))


def fact_funding(market: Market) -> pl.DataFrame:
    """One print a day, stamped 00:00 of the next day, decimal per interval; absent for 1,000x contracts."""
    last, _, _ = funding_prints(market)
    mask = market.live() & (has_perpetual(market) & (multiplier(market) == 1))[:, None]
    frame = _with_instrument(market, _long(market, mask, {"funding_rate": last}))
    return frame.select("asset_id", "instrument_id", "date", "funding_rate", "exchange", "source")


def fact_funding_daily_sum(market: Market) -> pl.DataFrame:
    """Sum all prints of each day, for the last part of the history."""
    _, total, n_prints = funding_prints(market)
    mask = market.live() & has_perpetual(market)[:, None] & _late(market)
    columns = {"funding_rate": total, "n_prints": n_prints.astype(np.int32)}
    frame = _with_instrument(market, _long(market, mask, columns, "simulated_daily_sum"))
    return frame.select("asset_id", "instrument_id", "date", "funding_rate", "exchange", "source", "n_prints")


def fact_open_interest(market: Market) -> pl.DataFrame:
    """Open interest of the majors, for the last part of the history."""
    rows = np.nonzero(market.kind == "major")[0]
    n_days = market.spec.n_days
    shocks = market.streams.rows("open_interest", market.number[rows], lambda rng: rng.standard_normal(n_days), n_days)
    noise = ar1(shocks, OPEN_INTEREST_AR)
    interest = np.full_like(market.close, np.nan)
    cap = supply(market)[rows] * market.close[rows]
    interest[rows] = OPEN_INTEREST_SHARE * cap * np.exp(OPEN_INTEREST_VOL / np.sqrt(1 - OPEN_INTEREST_AR**2) * noise)
    mask = market.live() & (market.kind == "major")[:, None] & _late(market)
    return _long(market, mask, {"open_interest_usd": interest})


def dim_asset(market: Market) -> pl.DataFrame:
    """Assets with the vendor's flags, some of them wrong."""
    return pl.DataFrame(
        {
            "asset_id": market.names,
            "symbol": market.names,
            "name": [f"Simulated {name}" for name in market.names],
            "coingecko_id": [f"simulated-{name.lower()}" for name in market.names],
            "is_stable": market.stable_flag,
            "is_wrapped_stable": market.wrapped_flag,
        },
        schema={
            "asset_id": pl.String,
            "symbol": pl.String,
            "name": pl.String,
            "coingecko_id": pl.String,
            "is_stable": pl.Boolean,
            "is_wrapped_stable": pl.Boolean,
        },
    ).sort("asset_id")


def onboard_days(market: Market) -> Array:
    """(n,) datetime64[D]: listing day; up to three years before the lake starts for those already trading."""
    u = market.streams.rows("instrument", market.number, lambda rng: rng.random(3), 3)[:, 2]
    before = np.where(market.kind == "major", 900, (30 + 1000 * u).astype(np.int64))
    return market.days[0] + np.where(market.listed == 0, -before, market.listed)


def dim_instrument(market: Market) -> pl.DataFrame:
    """Perpetual contracts: multiplier null where the vendor parsed none, onboard date in the JSON."""
    keep = has_perpetual(market)
    coins = multiplier(market)
    symbols = [_instrument_symbol(name, many) for name, many in zip(market.names, coins.tolist(), strict=True)]
    onboard = [str(day) for day in onboard_days(market)]
    frame = pl.DataFrame(
        {
            "instrument_id": _instrument_ids(market),
            "venue": "simulated",
            "instrument_symbol": symbols,
            "instrument_type": "perpetual",
            "quote": "USDT",
            "base_asset_symbol": market.names,
            "asset_id": market.names,
            "multiplier": [many if many > 1 else None for many in coins.tolist()],
            "metadata_json": [json.dumps({"onboard_date": day, "contract_type": "PERPETUAL"}) for day in onboard],
        },
        schema_overrides={"multiplier": pl.Float64},
    )
    return frame.filter(pl.Series(keep)).sort("instrument_id")


BUILDERS: dict[str, Callable[[Market], pl.DataFrame]] = {
    build.__name__: build
    for build in (
        fact_price, fact_ohlc, fact_volume, fact_marketcap, fact_funding, fact_funding_daily_sum,
        fact_open_interest, dim_asset, dim_instrument,
    )
}  # fmt: skip


def truth_regimes(market: Market) -> pl.DataFrame:
    """Hidden state of every day."""
    from majors_alts_pipeline.lake.simulate.market import REGIMES

    labels = pl.Series(list(REGIMES)).gather(market.state + 1)
    return pl.DataFrame({"date": pl.Series(market.days), "regime": labels})


def truth_betas(market: Market) -> pl.DataFrame:
    """Return population loadings, constant in time."""
    return pl.DataFrame(
        {
            "asset_id": market.names,
            "beta_btc": market.beta_btc,
            "beta_eth": market.beta_eth,
            "alt_loading": market.alt_loading,
        }
    ).sort("asset_id")


def truth_assets(market: Market) -> pl.DataFrame:
    """Say what every asset is, when it lived and what it costs to trade."""
    days: dict[str, Any] = {
        "listed_on": pl.Series(market.days[market.listed]),
        "died_on": pl.Series(market.days[market.last]),
    }
    death = np.select([market.collapse, market.died], ["collapse", "delisted"], "")
    frame = pl.DataFrame(
        {
            "asset_id": market.names,
            "lake_id": market.lake_names,
            "kind": market.kind.tolist(),
            **days,
            "death": death.tolist(),
            "spread": market.spread,
            "vol": market.vol,
            "multiplier": multiplier(market),
            "has_perpetual": has_perpetual(market),
        }
    )
    alive = pl.col("death") == ""
    return frame.with_columns(
        died_on=pl.when(alive).then(None).otherwise(pl.col("died_on")),
        death=pl.when(alive).then(None).otherwise(pl.col("death")),
    ).sort("asset_id")
