"""The market model: hidden regimes, factor returns, alt returns, lives and prices.

Fair game. Every innovation is symmetric around zero given the past and is truncated symmetrically, so the
simple return of every asset's efficient price has conditional mean exactly zero in the null market; the
planted effect moves the mean of the alt factor and nothing else. Observed closes lie half a spread away: to
anyone who trades a day after deciding, that bounce is worth less than the squared spread. Alts are built as

    r_i = beta_btc,i r_btc + beta_eth,i r_eth + g_i f_alt + e_i

with f_alt and e_i of zero mean given (r_btc, r_eth), so that the betas of the truth are the population
coefficients of the two-factor regression on simple returns. A collapse multiplies the gross return by a
mean-one lottery: most tickets lose 90 % a day, a few pay, hence nearly everything is lost in a few days
and yet nobody can earn anything by foreseeing it.

Volatility: GARCH(1,1) with standardised Student-t innovations (Bollerslev 1987), per factor and per alt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from majors_alts_pipeline.lake.simulate.spec import SimulationSpec

Array = np.ndarray[Any, Any]

REGIMES = ("risk_on_alts", "balanced", "risk_on_majors")
NORMAL_CLIP = 8.0
BTC_LIMIT, ETH_LIMIT, ALT_LIMIT = 0.30, 0.20, 0.12
SYSTEMATIC_LIMIT, RETURN_LIMIT = 0.85, 0.95
COLLAPSE_LOSS, COLLAPSE_GAIN, COLLAPSE_LOSS_PROBABILITY = 0.9, 2.1, 0.7
TOKEN_NUMBER = 1_000_000

# Peg, tracking and gold tokens: identifier, kind, tracked asset, noise of the price level, vendor's flags.
# Some identifiers are on no exclusion list and most flags are wrong: a detector has to find them.
PEGGED: tuple[tuple[str, str, str | None, float, bool, bool], ...] = (
    ("DAI", "stable", None, 6e-4, True, False),
    ("PAXG", "gold", None, 0.0, False, False),
    ("STETH", "wrapped", "ETH", 8e-4, False, False),
    ("USDC", "stable", None, 3e-4, True, False),
    ("USDX", "stable", None, 8e-4, False, False),
    ("WBTC", "wrapped", "BTC", 5e-4, False, True),
    ("XBTC", "wrapped", "BTC", 8e-4, False, False),
)
GOLD_VOL = 0.009
# Names a careless suffix rule or digit rule would damage.
SPECIAL_NAMES = {0: "SATS", 4: "PERP", 7: "1ALT"}
FLAGGED_STABLE = 5
SUFFIXES = ("-USDT", "USDT", "lower", "-PERP", "_PERP", "/USDT")
COMPONENTS = (
    "regime", "btc", "eth", "alt_factor", "loadings", "idio", "collapse", "life", "pegged", "size", "spread",
    "extremes", "bounce", "volume_market", "volume", "funding_market", "funding", "interval", "open_interest",
    "instrument", "glitches",
)  # fmt: skip


class Streams:
    """Independent random streams, one per component and asset, all spawned from one seed.

    The stream of (component, asset) depends on nothing else: more assets, other glitches or a table left
    unbuilt do not change it.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def of(self, component: str, asset: int = 0) -> np.random.Generator:
        """Return the generator of a component, optionally of one asset of it."""
        key = (COMPONENTS.index(component), asset)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self._seed, spawn_key=key)))

    def rows(
        self, component: str, assets: int | Array, draw: Callable[[np.random.Generator], Array], width: int
    ) -> Array:
        """(n, width) array whose row is `draw` of the asset's own stream; assets: a count or (n,) numbers."""
        numbers = range(assets) if isinstance(assets, int) else assets.tolist()
        out = np.empty((len(numbers), width))
        for row, number in enumerate(numbers):
            out[row] = draw(self.of(component, number))
        return out


@dataclass(frozen=True)
class Market:
    """The simulated world, dense: n assets (sorted by identifier) x T days.

    Attributes:
        spec: what was asked for.
        streams: random streams, for what is derived later.
        days: (T,) datetime64[D].
        state: (T,) hidden state, -1 risk_on_alts, 0 balanced, +1 risk_on_majors.
        names: clean identifiers; lake_names: as written in the fact tables.
        kind: (n,) major, alt, stable, wrapped or gold.
        number: (n,) number of the asset's random streams: the alt's own, or above TOKEN_NUMBER.
        beta_btc, beta_eth, alt_loading: (n,) population loadings.
        vol: (n,) unconditional daily volatility.
        listed, last: (n,) first and last day index with rows.
        collapse: (n,) bool, dies by collapse.
        died: (n,) bool.
        efficient: (n, T) efficient price, USD.
        close: (n, T) observed close, USD: efficient price with half a spread of bounce.
        spread: (n,) bid-ask spread, decimal of price.
        marketcap_start: (n,) USD on the listing day.
        stable_flag, wrapped_flag: (n,) what the vendor says.
    """

    spec: SimulationSpec
    streams: Streams
    days: Array
    state: Array
    names: list[str]
    lake_names: list[str]
    kind: Array
    number: Array
    beta_btc: Array
    beta_eth: Array
    alt_loading: Array
    vol: Array
    listed: Array
    last: Array
    collapse: Array
    died: Array
    efficient: Array
    close: Array
    spread: Array
    marketcap_start: Array
    stable_flag: Array
    wrapped_flag: Array

    @property
    def n_assets(self) -> int:
        """Number of assets of every kind."""
        return len(self.names)

    def live(self) -> Array:
        """(n, T) bool: the asset has rows that day."""
        day = np.arange(self.spec.n_days)
        return (day >= self.listed[:, None]) & (day <= self.last[:, None])

    def index(self, name: str) -> int:
        """Row of an asset."""
        return self.names.index(name)

    def date(self, day: int) -> date:
        """UTC day of a day index."""
        return self.spec.start + timedelta(days=int(day))


def hidden_states(uniforms: Array, mean_days: float) -> Array:
    """(T,) states in {-1, 0, 1}: stays `mean_days` on average, then moves to either other state evenly."""
    states = np.empty(len(uniforms), dtype=np.int64)
    state = int(uniforms[0] * 3) % 3
    leave = 1.0 / mean_days
    for day, u in enumerate(uniforms):
        if day and u < leave:
            state = (state + (1 if u < leave / 2 else 2)) % 3
        states[day] = state - 1
    return states


def garch(z: Array, vol: Array, alpha: float, beta: float, scale: Array, limit: Array) -> tuple[Array, Array]:
    """GARCH(1,1) shocks: returns (shocks, conditional volatility), both (n, T); O(nT).

    Args:
        z: (n, T) symmetric unit-variance innovations; overwritten by the shocks.
        vol: (n,) unconditional volatility.
        alpha: reaction to the squared shock.
        beta: persistence.
        scale: (T,) multiplier of every volatility, known the day before.
        limit: (n, T) or (n, 1) symmetric truncation of the shock.
    """
    n, n_days = z.shape
    target = vol**2 * (1 - alpha - beta)
    variance = vol**2
    sigma = np.empty((n, n_days))
    for day in range(n_days):
        now = np.sqrt(variance)
        # The recursion runs on the unscaled shock, so that the common multiplier does not compound.
        bound = limit[:, min(day, limit.shape[1] - 1)] / scale[day]
        shock = np.clip(now * z[:, day], -bound, bound)
        variance = target + alpha * shock**2 + beta * variance
        sigma[:, day] = now * scale[day]
        z[:, day] = shock * scale[day]
    return z, sigma


def _innovations(rng: np.random.Generator, spec: SimulationSpec) -> Array:
    unit = np.sqrt((spec.t_dof - 2) / spec.t_dof)
    return np.clip(unit * rng.standard_t(spec.t_dof, spec.n_days), -NORMAL_CLIP, NORMAL_CLIP)


def _factor(streams: Streams, name: str, spec: SimulationSpec, vol: float, limit: float) -> tuple[Array, Array]:
    z = _innovations(streams.of(name), spec)[None, :]
    ones = np.ones(spec.n_days)
    shocks, sigma = garch(z, np.array([vol]), spec.garch_alpha, spec.garch_beta, ones, np.full((1, 1), limit))
    return shocks[0], sigma[0]


def _alt_names(n: int) -> list[str]:
    return [SPECIAL_NAMES.get(number, f"ALT{number:04d}") for number in range(n)]


def _lake_name(name: str, number: int, suffixed: int) -> str:
    if not 10 <= number < 10 + suffixed:
        return name
    suffix = SUFFIXES[(number - 10) % len(SUFFIXES)]
    return name.lower() if suffix == "lower" else name + suffix


@dataclass(frozen=True)
class _Alts:
    """Alts in order of their number: (N,) attributes and (N, T) gross returns."""

    beta_btc: Array
    beta_eth: Array
    loading: Array
    idio: Array
    listed: Array
    last: Array
    died: Array
    collapse: Array
    returns: Array


def _loadings(streams: Streams, spec: SimulationSpec) -> tuple[Array, Array, Array, Array]:
    def draw(rng: np.random.Generator) -> Array:
        # Loadings within two standard deviations: the budget below stays slack and the mean keeps its value.
        return np.clip(rng.standard_normal(4), -2, 2)

    z = streams.rows("loadings", spec.n_alts, draw, 4)
    beta_btc = spec.beta_btc_mean + spec.beta_dispersion * z[:, 0]
    beta_eth = spec.beta_eth_mean + spec.beta_dispersion * z[:, 1]
    loading = 1.0 + 0.25 * z[:, 2]
    worst = (
        np.abs(beta_btc + beta_eth * spec.eth_beta) * BTC_LIMIT
        + np.abs(beta_eth) * ETH_LIMIT
        + np.abs(loading) * (ALT_LIMIT + abs(spec.regime_effect))
    )
    # A systematic move can never reach -100 %, whatever the spec asks for.
    shrink = np.minimum(1.0, SYSTEMATIC_LIMIT / worst)
    idio = spec.idio_vol * np.exp(spec.idio_vol_dispersion * z[:, 3])
    return beta_btc * shrink, beta_eth * shrink, loading * shrink, idio


def _lives(streams: Streams, spec: SimulationSpec) -> tuple[Array, Array, Array, Array]:
    """(N,) listing day, last day, died, collapse. Deaths strike at least 60 days after listing."""
    u = streams.rows("life", spec.n_alts, lambda rng: rng.random(4), 4)
    late = u[:, 0] >= spec.listed_at_start
    listed = np.where(late, (1 + u[:, 1] * spec.listing_spread * (spec.n_days - 1)).astype(np.int64), 0)
    listed = np.minimum(listed, spec.n_days - 1)
    hazard = spec.death_rate / 365.0
    wait = np.full(spec.n_alts, np.inf) if hazard == 0 else -np.log1p(-u[:, 2]) / hazard
    end = listed + 60 + np.minimum(wait, 1e9).astype(np.int64)
    died = end < spec.n_days - 1
    return listed, np.where(died, end, spec.n_days - 1), died, died & (u[:, 3] < spec.collapse_share)


def _collapse_days(lives: tuple[Array, Array, Array, Array], spec: SimulationSpec) -> tuple[Array, Array]:
    """Row and column indices of every (alt, day) of a collapse."""
    _, last, _, collapse = lives
    rows = np.repeat(np.nonzero(collapse)[0], spec.collapse_days)
    offset = np.tile(np.arange(spec.collapse_days), int(collapse.sum()))
    return rows, last[rows] - offset


def _alts(streams: Streams, spec: SimulationSpec, r_btc: Array, r_eth: Array, f_alt: Array, scale: Array) -> _Alts:
    beta_btc, beta_eth, loading, idio = _loadings(streams, spec)
    lives = _lives(streams, spec)
    z = streams.rows("idio", spec.n_alts, lambda rng: _innovations(rng, spec), spec.n_days)
    systematic = beta_btc[:, None] * r_btc
    systematic += beta_eth[:, None] * r_eth
    systematic += loading[:, None] * f_alt
    shocks, _ = garch(z, idio, spec.garch_alpha, spec.garch_beta, scale, RETURN_LIMIT - np.abs(systematic))
    systematic += shocks
    rows, days = _collapse_days(lives, spec)
    lottery = streams.rows("collapse", spec.n_alts, lambda rng: rng.random(spec.collapse_days), spec.collapse_days)
    ticket = lottery[lives[3]].ravel()
    factor = np.where(ticket < COLLAPSE_LOSS_PROBABILITY, 1 - COLLAPSE_LOSS, 1 + COLLAPSE_GAIN)
    systematic[rows, days] = (1 + systematic[rows, days]) * factor - 1
    listed, last, died, collapse = lives
    return _Alts(beta_btc, beta_eth, loading, idio, listed, last, died, collapse, systematic)


def _pegged_prices(streams: Streams, spec: SimulationSpec, btc: Array, eth: Array) -> Array:
    """(P, T) prices of the pegged, tracking and gold tokens."""
    tracked = {"BTC": btc, "ETH": eth}
    out = np.empty((len(PEGGED), spec.n_days))
    for row, (_, kind, target, noise, _, _) in enumerate(PEGGED):
        z = np.clip(streams.of("pegged", row).standard_normal(spec.n_days), -4, 4)
        if kind == "gold":
            out[row] = 1_800.0 * np.cumprod(1 + GOLD_VOL * z)
        else:
            out[row] = (1.0 if target is None else tracked[target]) * (1 + noise * z)
    return out


def build_market(spec: SimulationSpec) -> Market:
    """Simulate regimes, returns, lives and prices; O(assets x days)."""
    streams = Streams(spec.seed)
    n, n_days, n_pegged = spec.n_alts, spec.n_days, len(PEGGED)
    state = hidden_states(streams.of("regime").random(n_days), spec.regime_days)
    r_btc, sigma_btc = _factor(streams, "btc", spec, spec.btc_vol, BTC_LIMIT)
    f_eth, _ = _factor(streams, "eth", spec, spec.eth_factor_vol, ETH_LIMIT)
    f_alt, _ = _factor(streams, "alt_factor", spec, spec.alt_factor_vol, ALT_LIMIT)
    r_eth = spec.eth_beta * r_btc + f_eth
    scale = (sigma_btc / spec.btc_vol) ** spec.common_vol
    alts = _alts(streams, spec, r_btc, r_eth, f_alt - spec.regime_effect * state, scale)

    size = streams.rows("size", n, lambda rng: rng.standard_normal(2), 2)
    cap = np.exp(np.log(8e8) + 1.4 * size[:, 0])
    price_start = np.exp(np.log(1.5) + 1.8 * size[:, 1])
    efficient = np.empty((n + n_pegged + 2, n_days))
    path = efficient[:n]
    np.cumprod(np.add(alts.returns, 1.0, out=alts.returns), axis=1, out=path)
    path *= (price_start / path[np.arange(n), alts.listed])[:, None]
    btc = 46_000.0 * np.cumprod(1 + r_btc)
    eth = 3_700.0 * np.cumprod(1 + r_eth)
    efficient[n : n + n_pegged] = _pegged_prices(streams, spec, btc, eth)
    efficient[-2], efficient[-1] = btc, eth

    names = [*_alt_names(n), *(token[0] for token in PEGGED), "BTC", "ETH"]
    lake_names = [_lake_name(name, k, spec.suffixed_assets if k < n else 0) for k, name in enumerate(names)]
    spread_rank = np.exp(spec.spread_dispersion * streams.rows("spread", n, lambda rng: rng.standard_normal(1), 1))
    spread = np.concatenate([spec.spread_median * spread_rank[:, 0], np.full(n_pegged + 2, 0.1 * spec.spread_median)])
    zeros, ones = np.zeros(n_pegged), np.ones(n_pegged)
    on_btc = np.array([float(token[2] == "BTC") for token in PEGGED])
    on_eth = np.array([float(token[2] == "ETH") for token in PEGGED])
    eth_vol = float(np.hypot(spec.eth_beta * spec.btc_vol, spec.eth_factor_vol))
    alt_vol = np.sqrt(
        (alts.beta_btc + alts.beta_eth * spec.eth_beta) ** 2 * spec.btc_vol**2
        + (alts.beta_eth * spec.eth_factor_vol) ** 2
        + (alts.loading * spec.alt_factor_vol) ** 2
        + alts.idio**2
    )
    token_vol = np.array(
        [GOLD_VOL if t[1] == "gold" else {"BTC": spec.btc_vol, "ETH": eth_vol}.get(t[2] or "", 2**0.5 * t[3])
         for t in PEGGED]
    )  # fmt: skip
    token_cap = np.array([{"stable": 2e10, "gold": 5e8, "wrapped": 8e9}[token[1]] for token in PEGGED])
    never = np.zeros(n_pegged + 2, dtype=bool)
    flagged = np.arange(n) == FLAGGED_STABLE
    columns: dict[str, Array] = {
        "kind": np.array(["alt"] * n + [token[1] for token in PEGGED] + ["major", "major"]),
        "number": np.concatenate([np.arange(n), TOKEN_NUMBER + np.arange(n_pegged + 2)]),
        "beta_btc": np.concatenate([alts.beta_btc, on_btc, [1.0, 0.0]]),
        "beta_eth": np.concatenate([alts.beta_eth, on_eth, [0.0, 1.0]]),
        "alt_loading": np.concatenate([alts.loading, zeros, [0.0, 0.0]]),
        "vol": np.concatenate([alt_vol, token_vol * ones, [spec.btc_vol, eth_vol]]),
        "listed": np.concatenate([alts.listed, np.zeros(n_pegged + 2, dtype=np.int64)]),
        "last": np.concatenate([alts.last, np.full(n_pegged + 2, n_days - 1)]),
        "collapse": np.concatenate([alts.collapse, never]),
        "died": np.concatenate([alts.died, never]),
        "spread": spread,
        "marketcap_start": np.concatenate([cap, token_cap, [8.8e11, 4.4e11]]),
        "stable_flag": np.concatenate([flagged, [token[4] for token in PEGGED], [False, False]]),
        "wrapped_flag": np.concatenate([np.zeros(n, dtype=bool), [token[5] for token in PEGGED], [False, False]]),
    }
    order = np.array(sorted(range(len(names)), key=lambda k: lake_names[k]), dtype=np.int64)
    columns = {name: values[order] for name, values in columns.items()}
    efficient = efficient[order]
    return Market(
        spec=spec,
        streams=streams,
        days=np.datetime64(spec.start, "D") + np.arange(n_days),
        state=state,
        names=[names[k] for k in order],
        lake_names=[lake_names[k] for k in order],
        efficient=efficient,
        close=_with_bounce(efficient, columns["spread"], columns["number"], streams),
        **columns,
    )


def bounce(streams: Streams, numbers: Array, n_days: int, part: int) -> Array:
    """(n, T) of -1 or +1: side of the last trade (part 0: close, 1: open)."""
    out = np.empty((len(numbers), n_days))
    for row, number in enumerate(numbers):
        draws = streams.of("bounce", int(number)).integers(0, 4, n_days, dtype=np.int8)
        out[row] = ((draws >> part) & 1) * 2.0 - 1.0
    return out


def _with_bounce(efficient: Array, spread: Array, numbers: Array, streams: Streams) -> Array:
    side = bounce(streams, numbers, efficient.shape[1], part=0)
    side *= 0.5 * spread[:, None]
    side += 1.0
    side *= efficient
    return side
