"""The double-entry ledger: one account, day by day, in a compiled kernel.

State is units per asset and cash. Shorts are liabilities (negative units), their proceeds are cash. Two sides
are kept apart and compared every day: the balance sheet (cash + sum of units x price) and the income
statement
(yesterday's NAV + price P&L + funding - fees - slippage - impact - exit haircuts).

Order of a day t, all at its close:
    1. mark to the close: price P&L of the position held over the day;
    2. funding on the notional at the close before (a long pays a positive rate, a short receives it);
    3. a position whose price is gone (beyond the carry) is closed at its last price less the haircut;
    4. stops decided at least one close earlier are filled, new stops are decided;
    5. the decision taken `lag` closes ago is traded: weight x NAV of this close, before this day's costs;
    6. the decision of this close is taken (with lag 0 it comes before 5).

An order on a day without a price of its own waits for the next one. With no decision the position drifts.
O(days x assets); sums run over assets in column order and skip empty ones, so a column that is empty until a
day cannot change a bit of any day before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from numba import njit

from majors_alts_pipeline.calendar import EPOCH
from majors_alts_pipeline.config.settings import StopSettings

IDENTITY_TOLERANCE = 1e-10
"""Largest difference between the two sides of the ledger, as a fraction of NAV."""

REASONS = ("", "rebalance", "regime", "band", "stop_fixed", "stop_trailing", "stop_time", "dead", "ruin")
"""Trade reasons by code."""

_REBALANCE, _REGIME, _BAND, _STOP_FIXED, _STOP_TRAILING, _STOP_TIME, _DEAD, _RUIN = range(1, 9)

FLOWS = (
    "nav", "cash", "pnl_price", "pnl_funding", "pnl_funding_assumed", "cost_fees", "cost_slippage",
    "cost_impact", "cost_exit_haircut", "traded_major", "traded_alt", "long_usd", "short_usd",
    "beta_btc_usd", "beta_eth_usd", "n_positions", "n_stopped", "n_dead_exits", "n_waiting", "identity_error",
)  # fmt: skip
"""Columns of `Accounts.flows`."""

(_NAV, _CASH, _PRICE, _FUNDING, _ASSUMED, _FEES, _SLIPPAGE, _IMPACT, _HAIRCUT, _MAJOR, _ALT, _LONG, _SHORT,
 _BETA_BTC, _BETA_ETH, _N_POSITIONS, _N_STOPPED, _N_DEAD, _N_WAITING,
 _IDENTITY) = range(len(FLOWS))  # fmt: skip

DETAILS = (
    "units", "target_weight", "order_usd", "traded_usd", "reason", "pnl_price", "pnl_funding", "cost_fees",
    "cost_slippage", "cost_impact", "cost_exit_haircut",
)  # fmt: skip
"""Planes of `Accounts.details`."""

(_D_UNITS, _D_TARGET, _D_ORDER, _D_TRADED, _D_REASON, _D_PRICE, _D_FUNDING, _D_FEES, _D_SLIPPAGE, _D_IMPACT,
 _D_HAIRCUT) = range(len(DETAILS))  # fmt: skip

(_UNITS, _LAST, _ENTRY, _BEST, _REFERENCE, _WAIT, _ORDER) = range(7)
(_ENTRY_DAY, _STOP_DAY, _STOP_CODE, _FILLED_DAY, _WAIT_CODE, _ORDER_CODE) = range(6)
_NEVER = -1_000_000
_DUST = 1e-12
_SMALLEST = 1e-300

_OK, _BROKEN_IDENTITY, _NO_VOLATILITY, _NO_BETA = range(4)


class LedgerError(RuntimeError):
    """The ledger cannot be trusted; the message names account, day and both sides, or what is missing."""


_NONE_2D = np.empty((0, 0))
_NONE_1D = np.empty(0)


@dataclass(frozen=True)
class Market:
    """What the account trades in; every array (days, assets) float64, C order, unless said otherwise.

    Attributes:
        price: USD; NaN where there is no price, carried or not.
        tradable: bool, the price is the day's own.
        major: (assets,) bool, the asset belongs to the long leg.
        funding: decimal per day, NaN where missing; empty = no funding is charged.
        any_funding: (days,) bool, the lake knows the funding of at least one asset that day.
        missing_funding: decimal per day charged in place of a missing rate.
        half_spread: decimal of notional; empty = none.
        impact_unit: Y x daily volatility, decimal, NaN where unknown; empty = none.
        adv: USD per day, NaN where unknown.
        missing_participation: share of daily volume assumed where `adv` is unknown.
        fee: decimal of notional.
        exit_haircut: decimal of notional lost when a position is closed for want of a price.
        beta_btc: beta to BTC, NaN where unknown; empty = betas are not accounted.
        beta_eth: as `beta_btc`.
    """

    price: np.ndarray
    tradable: np.ndarray
    major: np.ndarray
    funding: np.ndarray = field(default_factory=_NONE_2D.copy)
    any_funding: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    missing_funding: float = 0.0
    half_spread: np.ndarray = field(default_factory=_NONE_2D.copy)
    impact_unit: np.ndarray = field(default_factory=_NONE_2D.copy)
    adv: np.ndarray = field(default_factory=_NONE_2D.copy)
    missing_participation: float = 0.0
    fee: float = 0.0
    exit_haircut: float = 0.0
    beta_btc: np.ndarray = field(default_factory=_NONE_2D.copy)
    beta_eth: np.ndarray = field(default_factory=_NONE_2D.copy)


@dataclass(frozen=True)
class Plan:
    """What an account wants to hold and when it looks.

    Attributes:
        name: account.
        weights: (days, assets) target weights at full exposure, fractions of NAV.
        exposure: (days,) multiplier of the weights; a change is a decision.
        rebalance: (days,) bool, calendar decision days.
        decidable: (days,) bool, a decision may be taken (the book exists).
        lag: closes between a decision and its execution.
        band: sum |weight - traded target| / target gross beyond which the book is rebalanced early; 0 = off.
        stops: stop rules.
    """

    name: str
    weights: np.ndarray
    exposure: np.ndarray
    rebalance: np.ndarray
    decidable: np.ndarray
    lag: int = 1
    band: float = 0.0
    stops: StopSettings = field(default_factory=lambda: StopSettings(fixed=None, trailing=None, time_days=None))


@dataclass(frozen=True)
class Ledger:
    """Result of one account.

    Attributes:
        flows: (days, len(FLOWS)) float64, USD except counts and the identity error.
        details: (len(DETAILS), days, assets) float64, or (len(DETAILS), 0, 0) when not asked for;
            `target_weight` and `order_usd` are NaN where no decision was taken.
    """

    flows: np.ndarray
    details: np.ndarray

    def flow(self, name: str) -> np.ndarray:
        """(days,) column `name` of `FLOWS`."""
        return self.flows[:, FLOWS.index(name)]

    def detail(self, name: str) -> np.ndarray:
        """(days, assets) plane `name` of `DETAILS`."""
        return self.details[DETAILS.index(name)]


@njit(cache=True)
def _execute(
    t: int,
    nav: float,
    stops: bool,
    real: np.ndarray,
    whole: np.ndarray,
    price: np.ndarray,
    major: np.ndarray,
    half_spread: np.ndarray,
    impact_unit: np.ndarray,
    adv: np.ndarray,
    scalars: np.ndarray,
    flow: np.ndarray,
    details: np.ndarray,
) -> float:
    """Trade every asset with an order to its weight x `nav` at the close; returns the cash change.

    With stops, entry prices are averages over adds, unchanged by reductions, new on a change of side.
    `scalars[2]` is set to the asset whose impact is unknown.
    """
    keep = details.shape[1] > 0
    with_spread = half_spread.shape[0] > 0
    with_impact = impact_unit.shape[0] > 0
    fee_rate = scalars[0]
    cash = fees = slippages = impacts = majors = alts = 0.0
    for j in range(real.shape[1]):
        code = whole[_ORDER_CODE, j]
        if code == 0:
            continue
        whole[_ORDER_CODE, j] = 0
        weight = real[_ORDER, j]
        real[_REFERENCE, j] = weight
        held = real[_UNITS, j]
        p = price[t, j]
        units = weight * nav / p
        notional = (units - held) * p
        size = abs(notional)
        if size <= _DUST * abs(nav) and units != 0.0:
            continue
        real[_UNITS, j] = units
        real[_LAST, j] = p
        if stops and held * units <= 0.0:
            real[_ENTRY, j] = p
            real[_BEST, j] = p
            whole[_ENTRY_DAY, j] = t
            whole[_STOP_DAY, j] = _NEVER
        elif stops and abs(units) > abs(held):
            real[_ENTRY, j] += (p - real[_ENTRY, j]) * ((units - held) / units)
        fee = size * fee_rate
        slippage = 0.0
        impact = 0.0
        if with_spread:
            slippage = size * half_spread[t, j]
        if with_impact and size > 0.0:
            share = size / adv[t, j] if adv[t, j] > 0.0 else scalars[1]
            impact = size * impact_unit[t, j] * np.sqrt(share)
            if np.isnan(impact):
                scalars[2] = j
        cash += -notional - fee - slippage - impact
        fees += fee
        slippages += slippage
        impacts += impact
        if major[j]:
            majors += size
        else:
            alts += size
        if keep:
            details[_D_TRADED, t, j] = notional
            details[_D_REASON, t, j] = code
            details[_D_FEES, t, j] = fee
            details[_D_SLIPPAGE, t, j] = slippage
            details[_D_IMPACT, t, j] = impact
    flow[_FEES] += fees
    flow[_SLIPPAGE] += slippages
    flow[_IMPACT] += impacts
    flow[_MAJOR] += majors
    flow[_ALT] += alts
    return cash


@njit(cache=True)
def _hold_over_day(
    t: int,
    real: np.ndarray,
    price: np.ndarray,
    funding: np.ndarray,
    any_funding: np.ndarray,
    missing_funding: float,
    flow: np.ndarray,
    details: np.ndarray,
) -> int:
    """Price P&L and funding of the positions held over day t; returns their number without a price."""
    keep = details.shape[1] > 0
    charged = funding.shape[0] > 0
    gains = funded = assumed = 0.0
    dead = 0
    for j in range(real.shape[1]):
        units = real[_UNITS, j]
        if units == 0.0:
            continue
        before = real[_LAST, j]
        p = price[t, j]
        if np.isnan(p):
            dead += 1
        else:
            gain = units * (p - before)
            gains += gain
            real[_LAST, j] = p
            best = real[_BEST, j]
            if (p > best) == (units > 0.0):
                real[_BEST, j] = p
            if keep:
                details[_D_PRICE, t, j] = gain
        if charged:
            notional = units * before
            rate = funding[t, j]
            paid = 0.0
            if not np.isnan(rate):
                paid = notional * rate
            elif any_funding[t] or units < 0.0:
                paid = abs(notional) * missing_funding
                assumed -= paid
            funded -= paid
            if keep:
                details[_D_FUNDING, t, j] = -paid
    flow[_PRICE] = gains
    flow[_FUNDING] = funded
    flow[_ASSUMED] = assumed
    return dead


@njit(cache=True)
def _positions_value(real: np.ndarray) -> float:
    """Sum of units x price."""
    total = 0.0
    for j in range(real.shape[1]):
        if real[_UNITS, j] != 0.0:
            total += real[_UNITS, j] * real[_LAST, j]
    return total


@njit(cache=True)
def _close_dead(
    t: int,
    real: np.ndarray,
    whole: np.ndarray,
    price: np.ndarray,
    major: np.ndarray,
    haircut: float,
    flow: np.ndarray,
    details: np.ndarray,
) -> float:
    """Close what has lost its price at the last price less the haircut; returns the cash change."""
    cash = 0.0
    for j in range(real.shape[1]):
        units = real[_UNITS, j]
        if units == 0.0 or not np.isnan(price[t, j]):
            continue
        value = units * real[_LAST, j]
        loss = abs(value) * haircut
        cash += value - loss
        flow[_HAIRCUT] += loss
        flow[_N_DEAD] += 1.0
        flow[_MAJOR if major[j] else _ALT] += abs(value)
        real[_UNITS, j] = 0.0
        real[_REFERENCE, j] = 0.0
        whole[_STOP_DAY, j] = _NEVER
        if details.shape[1] > 0:
            details[_D_TRADED, t, j] -= value
            details[_D_REASON, t, j] = _DEAD
            details[_D_HAIRCUT, t, j] = loss
    return cash


@njit(cache=True)
def _decide_stops(
    t: int,
    real: np.ndarray,
    whole: np.ndarray,
    tradable: np.ndarray,
    fixed: float,
    trailing: float,
    time_days: float,
) -> None:
    """Mark the positions whose stop is reached at this close."""
    for j in range(real.shape[1]):
        units = real[_UNITS, j]
        if units == 0.0 or whole[_STOP_DAY, j] != _NEVER or whole[_ORDER_CODE, j] or not tradable[t, j]:
            continue
        side = 1.0 if units > 0.0 else -1.0
        p = real[_LAST, j]
        code = 0
        if side * (p / real[_ENTRY, j] - 1.0) <= -fixed:
            code = _STOP_FIXED
        elif side * (p / real[_BEST, j] - 1.0) <= -trailing:
            code = _STOP_TRAILING
        elif t - whole[_ENTRY_DAY, j] >= time_days and side * (p - real[_ENTRY, j]) < 0.0:
            code = _STOP_TIME
        if code:
            whole[_STOP_DAY, j] = t
            whole[_STOP_CODE, j] = code
            whole[_WAIT_CODE, j] = 0


@njit(cache=True)
def _fill_stops(t: int, stop_lag: int, real: np.ndarray, whole: np.ndarray, tradable: np.ndarray) -> float:
    """Order the close of positions stopped at least `stop_lag` closes ago; returns how many."""
    filled = 0.0
    for j in range(real.shape[1]):
        decided = whole[_STOP_DAY, j]
        if decided != _NEVER and t - decided >= stop_lag and tradable[t, j]:
            real[_ORDER, j] = 0.0
            whole[_ORDER_CODE, j] = whole[_STOP_CODE, j]
            whole[_FILLED_DAY, j] = t
            whole[_STOP_DAY, j] = _NEVER
            filled += 1.0
    return filled


@njit(cache=True)
def _order_targets(
    t: int,
    decided: int,
    reason: int,
    real: np.ndarray,
    whole: np.ndarray,
    price: np.ndarray,
    tradable: np.ndarray,
    weights: np.ndarray,
    exposure: np.ndarray,
    flow: np.ndarray,
) -> bool:
    """Order the targets of the decision of day `decided`; True when an order has to wait for a price.

    A stop decided before or with this decision overrides it for its asset, until a decision taken
    after the fill. An order in an asset whose price is gone lapses and counts as waiting on its day only.
    """
    waits = False
    share = exposure[decided]
    for j in range(real.shape[1]):
        target = weights[decided, j] * share
        if target == 0.0 and real[_UNITS, j] == 0.0:
            real[_REFERENCE, j] = 0.0
            whole[_WAIT_CODE, j] = 0
            continue
        stop_day = whole[_STOP_DAY, j]
        if stop_day != _NEVER and (stop_day < t or decided >= stop_day):
            continue
        if whole[_FILLED_DAY, j] >= decided:
            continue
        if tradable[t, j]:
            real[_ORDER, j] = target
            whole[_ORDER_CODE, j] = reason
            whole[_WAIT_CODE, j] = 0
        elif np.isnan(price[t, j]):
            real[_REFERENCE, j] = 0.0
            flow[_N_WAITING] += 1.0
        else:
            real[_WAIT, j] = target
            whole[_WAIT_CODE, j] = reason
            waits = True
    return waits


@njit(cache=True)
def _order_waiting(t: int, real: np.ndarray, whole: np.ndarray, price: np.ndarray, tradable: np.ndarray) -> bool:
    """Order what waited for a price and has one; orders in dead assets lapse. True while any still waits."""
    waits = False
    for j in range(real.shape[1]):
        if whole[_WAIT_CODE, j] == 0:
            continue
        if tradable[t, j]:
            real[_ORDER, j] = real[_WAIT, j]
            whole[_ORDER_CODE, j] = whole[_WAIT_CODE, j]
            whole[_WAIT_CODE, j] = 0
        elif np.isnan(price[t, j]):
            whole[_WAIT_CODE, j] = 0
        else:
            waits = True
    return waits


@njit(cache=True)
def _count_waiting(t: int, stop_lag: int, whole: np.ndarray, tradable: np.ndarray) -> float:
    """Orders, stops that are due included, that had no price of their own at this close."""
    waiting = 0.0
    for j in range(whole.shape[1]):
        decided = whole[_STOP_DAY, j]
        if whole[_WAIT_CODE, j] or (decided != _NEVER and t - decided >= stop_lag and not tradable[t, j]):
            waiting += 1.0
    return waiting


@njit(cache=True)
def _drift(real: np.ndarray, whole: np.ndarray, nav: float) -> float:
    """Sum |held - traded target weight| / target gross, over assets with no order outstanding."""
    moved = 0.0
    gross = 0.0
    for j in range(real.shape[1]):
        reference = real[_REFERENCE, j]
        if whole[_WAIT_CODE, j] or whole[_STOP_DAY, j] != _NEVER:
            continue
        if reference != 0.0 or real[_UNITS, j] != 0.0:
            moved += abs(real[_UNITS, j] * real[_LAST, j] / nav - reference)
            gross += abs(reference)
    return moved / gross if gross > 0.0 else 0.0


@njit(cache=True)
def _decide(
    t: int,
    nav: float,
    pending: bool,
    exposure: np.ndarray,
    decided_exposure: float,
    rebalance: np.ndarray,
    band: float,
    real: np.ndarray,
    whole: np.ndarray,
) -> int:
    """Reason code of the decision taken at this close, 0 when the book is left to drift."""
    if exposure[t] != decided_exposure:
        return _REGIME
    if rebalance[t]:
        return _REBALANCE
    if band > 0.0 and not pending and _drift(real, whole, nav) > band:
        return _BAND
    return 0


@njit(cache=True)
def _record_decision(
    t: int,
    nav: float,
    reason: int,
    real: np.ndarray,
    whole: np.ndarray,
    weights: np.ndarray,
    exposure: np.ndarray,
    details: np.ndarray,
) -> None:
    """Write the decision of this close: target weight and order per asset; a stop alone decides its asset."""
    for j in range(real.shape[1]):
        held = real[_UNITS, j] * real[_LAST, j] if real[_UNITS, j] != 0.0 else 0.0
        if whole[_STOP_DAY, j] != _NEVER:
            details[_D_TARGET, t, j] = 0.0
            details[_D_ORDER, t, j] = -held
        elif reason:
            stopped_today = whole[_FILLED_DAY, j] == t
            target = 0.0 if stopped_today else weights[t, j] * exposure[t]
            details[_D_TARGET, t, j] = target
            details[_D_ORDER, t, j] = target * nav - held


@njit(cache=True, nogil=True)
def _run(
    price: np.ndarray,
    tradable: np.ndarray,
    major: np.ndarray,
    funding: np.ndarray,
    any_funding: np.ndarray,
    missing_funding: float,
    half_spread: np.ndarray,
    impact_unit: np.ndarray,
    adv: np.ndarray,
    scalars: np.ndarray,
    haircut: float,
    beta_btc: np.ndarray,
    beta_eth: np.ndarray,
    weights: np.ndarray,
    exposure: np.ndarray,
    rebalance: np.ndarray,
    decidable: np.ndarray,
    lag: int,
    band: float,
    fixed: float,
    trailing: float,
    time_days: float,
    capital: float,
    tolerance: float,
    flows: np.ndarray,
    details: np.ndarray,
) -> tuple[int, int, int, float, float]:
    """Run the kernel; returns (status, day, asset or -1, one side, other side)."""
    days, names = price.shape
    real = np.zeros((7, names))
    whole = np.zeros((6, names), dtype=np.int64)
    whole[_STOP_DAY] = _NEVER
    whole[_FILLED_DAY] = _NEVER
    reasons = np.zeros(days, dtype=np.int64)
    stops = fixed < np.inf or trailing < np.inf or time_days < np.inf
    stop_lag = max(lag, 1)
    keep = details.shape[1] > 0
    with_beta = beta_btc.shape[0] > 0
    cash = capital
    nav_before = capital
    decided_exposure = exposure[0]
    last_decision = _NEVER
    outstanding = False
    ruined = False

    for t in range(days):
        flow = flows[t]
        dead = _hold_over_day(t, real, price, funding, any_funding, missing_funding, flow, details)
        cash += flow[_FUNDING]
        if dead:
            cash += _close_dead(t, real, whole, price, major, haircut, flow, details)
        nav = cash + _positions_value(real)

        if stops:
            flow[_N_STOPPED] = _fill_stops(t, stop_lag, real, whole, tradable)
            if not ruined:
                _decide_stops(t, real, whole, tradable, fixed, trailing, time_days)

        if nav <= 0.0 and not ruined:
            ruined = True
            outstanding = True
            for j in range(names):
                if real[_UNITS, j] != 0.0:
                    real[_WAIT, j] = 0.0
                    whole[_WAIT_CODE, j] = _RUIN
                    whole[_STOP_DAY, j] = _NEVER

        if lag == 0 and not ruined:
            if decidable[t]:
                reasons[t] = _decide(t, nav, False, exposure, decided_exposure, rebalance, band, real, whole)
            if reasons[t]:
                decided_exposure = exposure[t]
            if keep:
                _record_decision(t, nav, reasons[t], real, whole, weights, exposure, details)

        due_day = t - lag
        if due_day >= 0 and reasons[due_day] and not ruined:
            outstanding |= _order_targets(t, due_day, reasons[due_day], real, whole, price, tradable, weights,
                                          exposure, flow)  # fmt: skip
        if outstanding:
            outstanding = _order_waiting(t, real, whole, price, tradable)
        if outstanding or stops:
            flow[_N_WAITING] += _count_waiting(t, stop_lag, whole, tradable)
        cash += _execute(t, nav, stops, real, whole, price, major, half_spread, impact_unit, adv, scalars,
        flow,
                         details)  # fmt: skip

        earned = flow[_PRICE] + flow[_FUNDING]
        spent = flow[_FEES] + flow[_SLIPPAGE] + flow[_IMPACT] + flow[_HAIRCUT]
        income_side = nav_before + earned - spent
        balance_side = cash
        for j in range(names):
            units = real[_UNITS, j]
            if units == 0.0:
                continue
            value = units * real[_LAST, j]
            balance_side += value
            flow[_LONG if units > 0.0 else _SHORT] += value
            flow[_N_POSITIONS] += 1.0
            if with_beta:
                if np.isnan(beta_btc[t, j]) or np.isnan(beta_eth[t, j]):
                    return _NO_BETA, t, j, units, value
                flow[_BETA_BTC] += value * beta_btc[t, j]
                flow[_BETA_ETH] += value * beta_eth[t, j]
            if keep:
                details[_D_UNITS, t, j] = units
        if scalars[2] >= 0.0:
            return _NO_VOLATILITY, t, int(scalars[2]), flow[_IMPACT], balance_side
        scale = max(abs(balance_side), abs(nav_before), _SMALLEST)
        error = abs(balance_side - income_side) / scale
        flow[_NAV] = balance_side
        flow[_CASH] = cash
        flow[_IDENTITY] = error
        if not error <= tolerance:
            return _BROKEN_IDENTITY, t, -1, balance_side, income_side

        if lag > 0 and not ruined:
            if decidable[t]:
                pending = last_decision + lag > t
                reasons[t] = _decide(t, balance_side, pending, exposure, decided_exposure, rebalance, band,
                real,
                                     whole)  # fmt: skip
            if reasons[t]:
                decided_exposure = exposure[t]
                last_decision = t
            if keep:
                _record_decision(t, balance_side, reasons[t], real, whole, weights, exposure, details)
        nav_before = balance_side
    return _OK, days - 1, -1, nav_before, nav_before


def run(market: Market, plan: Plan, capital: float, first_day: int, assets: list[str], details: bool = False) -> Ledger:
    """Keep the books of `plan` in `market`.

    Args:
        market: prices, funding and costs, (days, assets).
        plan: targets and decision rules on the same grid.
        capital: USD at the start.
        first_day: day number of row 0, for messages.
        assets: (assets,) names, for messages.
        details: keep the per-asset planes.

    Returns:
        The account's flows and, if asked for, its per-asset details.

    Raises:
        LedgerError: the two sides of the ledger differ by more than 1e-10 of NAV, or a traded or held
            asset has no volatility or beta; names account, day, asset and both sides. Or a price is not
            positive and finite; names account, asset and row.
    """
    _refuse_impossible_prices(market.price, plan.name, assets)
    days, names = market.price.shape
    flows = np.zeros((days, len(FLOWS)))
    planes = np.zeros((len(DETAILS), days, names) if details else (len(DETAILS), 0, 0))
    planes[DETAILS.index("target_weight")] = np.nan
    planes[DETAILS.index("order_usd")] = np.nan
    status, day, asset, left, right = _run(
        market.price, market.tradable, market.major, market.funding, market.any_funding,
        market.missing_funding, market.half_spread, market.impact_unit, market.adv,
        np.array([market.fee, market.missing_participation, -1.0]), market.exit_haircut, market.beta_btc,
        market.beta_eth, plan.weights, plan.exposure, plan.rebalance, plan.decidable, plan.lag, plan.band,
        _or_inf(plan.stops.fixed), _or_inf(plan.stops.trailing), _or_inf(plan.stops.time_days),
        capital, IDENTITY_TOLERANCE, flows, planes,
    )  # fmt: skip
    if status != _OK:
        where = f"account {plan.name} on {EPOCH + timedelta(days=first_day + int(day))}"
        raise LedgerError(_explain(status, where, assets[asset] if asset >= 0 else "", left, right))
    return Ledger(flows, planes)


def _refuse_impossible_prices(price: np.ndarray, account: str, assets: list[str]) -> None:
    impossible = (price <= 0.0) | (price == np.inf)
    if impossible.any():
        row, col = (int(k) for k in np.argwhere(impossible)[0])
        raise LedgerError(
            f"account {account}: the price of {assets[col]} in row {row} is {price[row, col]} USD; a price is positive "
            "and finite, and NaN where there is none"
        )


def _explain(status: int, where: str, asset: str, left: float, right: float) -> str:
    if status == _NO_VOLATILITY:
        return (
            f"{where}: {asset} was traded but has no trailing volatility, so its impact is unknown; lower "
            "costs.impact_vol_window_days or set costs.impact_coefficient to 0"
        )
    if status == _NO_BETA:
        return f"{where}: {asset} is held (USD {right}) but no beta of any asset is known; check the betas table"
    return (
        f"{where}: balance sheet {left!r} USD, income statement {right!r} USD: they differ by more than "
        "1e-10 of NAV, so no number of this account can be trusted; report the inputs of that day"
    )


def _or_inf(value: float | None) -> float:
    return np.inf if value is None else float(value)


def simulate_account(
    prices: np.ndarray,
    targets: np.ndarray,
    rebalance: np.ndarray | None = None,
    *,
    fees: float = 0.0,
    lag: int = 0,
    capital: float = 1e6,
) -> np.ndarray:
    """NAV of an account rebalanced to `targets`, fees its only cost.

    Args:
        prices: (days, assets) USD; NaN where an asset has no price.
        targets: (days, assets) weights, fractions of NAV at execution before costs.
        rebalance: (days,) bool decision days; every day by default.
        fees: decimal of traded notional.
        lag: closes between a decision and its execution.
        capital: USD at the start.

    Returns:
        (days,) NAV in USD at each close, after costs.

    Raises:
        LedgerError: see `run`.
    """
    days, names = prices.shape
    prices = np.ascontiguousarray(prices, dtype=np.float64)
    market = Market(price=prices, tradable=~np.isnan(prices), major=np.zeros(names, dtype=np.bool_), fee=fees)
    every_day = np.ones(days, dtype=np.bool_)
    plan = Plan(
        name="simulate_account",
        weights=np.ascontiguousarray(targets, dtype=np.float64),
        exposure=np.ones(days),
        rebalance=every_day if rebalance is None else np.ascontiguousarray(rebalance, dtype=np.bool_),
        decidable=every_day,
        lag=lag,
    )
    return run(market, plan, capital, 0, [str(j) for j in range(names)]).flow("nav").copy()
