"""What to simulate: every parameter of the market model, with unit and bounds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import date

MAX_ASSETS = 5_000
MAX_DAYS = 5_000
SHIFTABLE_TABLES = ("fact_price", "fact_ohlc", "fact_volume")


@dataclass(frozen=True)
class Glitches:
    """Faults planted in the lake, all off by default; each counts assets hit, one fault an asset.

    Attributes:
        duplicate_rows: rows of fact_price written twice.
        calendar_gaps: assets that miss `gap_days` days inside their life, in all daily price tables.
        gap_days: length of a gap, days.
        stale_runs: assets whose close repeats for `stale_days` days after a good one.
        stale_days: length of a stale run, days.
        spike_and_reverts: assets with a close `spike_factor` times its true value for one day.
        spike_factor: ratio of the wrong close to the true one.
        percent_funding_rows: funding prints written in percent instead of decimal (x 100).
        shifted_clock_table: table whose days are stamped one day early, or None.
        non_positive_prices: closes written as 0.
        redenominations: assets whose price unit changes by `redenomination_ratio` from one day on.
        redenomination_ratio: new unit / old unit.
        cap_breaks: market caps written `cap_break_ratio` times too large for one observation.
        cap_break_ratio: ratio of the wrong cap to the true one.
    """

    duplicate_rows: int = 0
    calendar_gaps: int = 0
    gap_days: int = 3
    stale_runs: int = 0
    stale_days: int = 8
    spike_and_reverts: int = 0
    spike_factor: float = 4.0
    percent_funding_rows: int = 0
    shifted_clock_table: str | None = None
    non_positive_prices: int = 0
    redenominations: int = 0
    redenomination_ratio: float = 1000.0
    cap_breaks: int = 0
    cap_break_ratio: float = 10.0

    def __post_init__(self) -> None:
        negative = [item.name for item in fields(self) if item.type == "int" and getattr(self, item.name) < 0]
        if negative:
            raise ValueError(f"glitches.{negative[0]}: {getattr(self, negative[0])} is negative; use 0 for none")
        if self.shifted_clock_table not in {None, *SHIFTABLE_TABLES}:
            raise ValueError(
                f"glitches.shifted_clock_table: {self.shifted_clock_table!r} is not one of {SHIFTABLE_TABLES}"
            )
        if min(self.gap_days, self.stale_days) < 1:
            raise ValueError("glitches: gap_days and stale_days must be at least 1")
        if min(self.spike_factor, self.redenomination_ratio, self.cap_break_ratio) <= 0:
            raise ValueError("glitches: spike_factor, redenomination_ratio and cap_break_ratio must be positive")


@dataclass(frozen=True)
class SimulationSpec:
    """Parameters of one simulated lake. Returns are simple and decimal, volatilities per day.

    Attributes:
        n_alts: alts that are listed at some time, up to 5,000.
        n_days: days of history, 2 to 5,000.
        start: first UTC day.
        seed: root of every random stream.
        regime_effect: expected return of majors minus alts per day, decimal: +effect while the hidden
            state is risk_on_majors, -effect in risk_on_alts, 0 in balanced. 0 is a null market.
        regime_days: mean stay in a hidden state, days.
        signal_strength: how much of the hidden state shows in alt funding and volume, in standard
            deviations of their market-wide noise; present in the null market too. In risk_on_majors alts'
            funding is high and their volume low.
        btc_vol: daily volatility of BTC.
        eth_beta: beta of ETH on BTC.
        eth_factor_vol: daily volatility of the part of ETH that is not BTC.
        alt_factor_vol: daily volatility of the factor common to alts, orthogonal to BTC and ETH.
        idio_vol: median daily idiosyncratic volatility of an alt.
        idio_vol_dispersion: standard deviation of its logarithm across alts.
        t_dof: degrees of freedom of the Student-t innovations, above 4.
        garch_alpha: reaction of tomorrow's variance to today's squared shock.
        garch_beta: persistence of variance; garch_alpha + garch_beta < 1.
        common_vol: power of BTC's relative volatility in every alt's volatility.
        beta_btc_mean: mean beta of alts to BTC (two-factor).
        beta_eth_mean: mean beta of alts to ETH (two-factor).
        beta_dispersion: standard deviation of each beta across alts.
        listed_at_start: share of alts already trading on the first day.
        listing_spread: the others list evenly spread over this share of the history.
        death_rate: hazard of ceasing to trade, per year and alt.
        collapse_share: share of deaths that lose nearly everything first (the others just stop).
        collapse_days: days the collapse takes.
        perpetual_share: share of alts with a perpetual contract (the others have no funding).
        suffixed_assets: alts whose identifier in the fact tables carries a venue suffix or lower case.
        thousand_contracts: alts quoted per 1,000 coins on the venue (no funding print, as in the wild).
        funding_level: mean funding, decimal per 8 hours.
        funding_momentum: change of the 8-hour rate per unit of the trailing 7-day return.
        funding_noise: standard deviation of one asset's own funding, decimal per 8 hours.
        funding_cap: largest absolute funding, decimal per 8 hours.
        interval_switch_share: share of contracts that move from 8 h to 4 h prints; half of them go on to 1 h.
        daily_sum_share: share of history at the end with true daily funding sums and open interest.
        spread_median: median bid-ask spread of alts, decimal of price; 0 removes the bounce from closes.
        spread_dispersion: standard deviation of its logarithm across alts.
        marketcap_top_n: assets with an observed market cap, by rank on the first of each month.
        glitches: faults to plant.
    """

    n_alts: int = 120
    n_days: int = 1100
    start: date = date(2022, 1, 1)
    seed: int = 7
    regime_effect: float = 0.0
    regime_days: float = 30.0
    signal_strength: float = 2.0
    btc_vol: float = 0.025
    eth_beta: float = 1.05
    eth_factor_vol: float = 0.020
    alt_factor_vol: float = 0.015
    idio_vol: float = 0.036
    idio_vol_dispersion: float = 0.30
    t_dof: float = 5.0
    garch_alpha: float = 0.08
    garch_beta: float = 0.89
    common_vol: float = 0.5
    beta_btc_mean: float = 0.50
    beta_eth_mean: float = 0.60
    beta_dispersion: float = 0.20
    listed_at_start: float = 0.5
    listing_spread: float = 0.9
    death_rate: float = 0.05
    collapse_share: float = 0.4
    collapse_days: int = 6
    perpetual_share: float = 0.9
    suffixed_assets: int = 3
    thousand_contracts: int = 2
    funding_level: float = 1e-4
    funding_momentum: float = 8e-4
    funding_noise: float = 8e-5
    funding_cap: float = 0.0075
    interval_switch_share: float = 0.4
    daily_sum_share: float = 1 / 3
    spread_median: float = 0.001
    spread_dispersion: float = 0.5
    marketcap_top_n: int = 200
    glitches: Glitches = field(default_factory=Glitches)

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "n_alts": (0, MAX_ASSETS),
            "n_days": (2, MAX_DAYS),
            "regime_effect": (-0.02, 0.02),
            "regime_days": (1, 1e4),
            "signal_strength": (0, 100),
            "btc_vol": (1e-4, 0.06),
            "eth_beta": (0, 1.5),
            "eth_factor_vol": (1e-4, 0.05),
            "alt_factor_vol": (1e-4, 0.05),
            "idio_vol": (1e-4, 0.15),
            "idio_vol_dispersion": (0, 1),
            "t_dof": (4.01, 1e3),
            "garch_alpha": (0, 1),
            "garch_beta": (0, 1),
            "common_vol": (0, 1),
            "beta_btc_mean": (-1, 2),
            "beta_eth_mean": (-1, 2),
            "beta_dispersion": (0, 1),
            "listed_at_start": (0, 1),
            "listing_spread": (0, 1),
            "death_rate": (0, 10),
            "collapse_share": (0, 1),
            "collapse_days": (1, 30),
            "perpetual_share": (0, 1),
            "suffixed_assets": (0, MAX_ASSETS),
            "thousand_contracts": (0, MAX_ASSETS),
            "funding_level": (-0.01, 0.01),
            "funding_momentum": (-0.1, 0.1),
            "funding_noise": (0, 0.01),
            "funding_cap": (1e-5, 0.04),
            "interval_switch_share": (0, 1),
            "daily_sum_share": (0, 1),
            "spread_median": (0, 0.05),
            "spread_dispersion": (0, 1),
            "marketcap_top_n": (1, MAX_ASSETS),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"simulation.{name}: {value} is outside [{low:g}, {high:g}]")
        if self.seed < 0:
            raise ValueError(f"simulation.seed: {self.seed} is negative; use 0 or more")
        if self.garch_alpha + self.garch_beta >= 1:
            raise ValueError(
                f"simulation: garch_alpha + garch_beta = {self.garch_alpha + self.garch_beta:g} must stay "
                "below 1, or the volatility has no mean"
            )

    def to_json(self) -> str:
        """Canonical JSON of the spec: same spec, same text."""
        return json.dumps(asdict(self), default=str, indent=2, sort_keys=True)
