"""The account kernel against the accounting it must obey, a slow obvious ledger, and vectorbt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from majors_alts_pipeline.backtest import ledger
from majors_alts_pipeline.backtest.ledger import LedgerError, Market, Plan, run, simulate_account
from majors_alts_pipeline.config.settings import StopSettings

FIRST_DAY = 19_723  # 2024-01-01
OUTCOMES = ("pnl_price", "pnl_funding", "cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut")


def stop(fixed=None, trailing=None, time_days=None) -> StopSettings:
    return StopSettings(fixed=fixed, trailing=trailing, time_days=time_days)


def market(price, tradable=None, **over) -> Market:
    price = np.ascontiguousarray(price, dtype=float)
    if price.ndim == 1:
        price = price[:, None]
    own = ~np.isnan(price) if tradable is None else np.asarray(tradable, dtype=bool).reshape(price.shape)
    return Market(price=price, tradable=own, major=np.zeros(price.shape[1], dtype=bool), **over)


def plan(weights, days, rebalance=(), **over) -> Plan:
    weights = np.ascontiguousarray(np.broadcast_to(np.asarray(weights, dtype=float), (days, np.shape(weights)[-1])))
    marks = np.zeros(days, dtype=bool)
    marks[list(rebalance)] = True
    every = np.ones(days, dtype=bool)
    return Plan(
        **{
            "name": "test",
            "weights": weights,
            "exposure": np.ones(days),
            "rebalance": marks,
            "decidable": every,
            "lag": 0,
            **over,
        }
    )


def books(m: Market, p: Plan, capital: float = 1000.0, details: bool = True):
    return run(m, p, capital, FIRST_DAY, [f"A{k}" for k in range(m.price.shape[1])], details)


def test_one_percent_a_day_earns_5_10_percent_in_five_days():
    nav = simulate_account(1.01 ** np.arange(6)[:, None], np.ones((6, 1)), capital=1.0)
    assert nav[-1] - 1 == pytest.approx(0.0510100501, abs=1e-10)


def test_a_flat_book_earns_exactly_zero():
    rng = np.random.default_rng(0)
    prices = np.exp(rng.normal(0, 0.1, (50, 3)).cumsum(0))
    assert (simulate_account(prices, np.zeros((50, 3)), fees=0.01) == 1e6).all()


def test_no_decision_no_trade():
    rng = np.random.default_rng(1)
    price = np.exp(rng.normal(0, 0.05, (60, 3)).cumsum(0))
    out = books(market(price, fee=0.001), plan([0.5, 0.3, -0.4], 60, rebalance=[0, 30]))
    traded = (out.detail("traded_usd") != 0).any(axis=1)
    assert np.nonzero(traded)[0].tolist() == [0, 30]
    assert np.ptp(out.detail("units")[1:30], axis=0).max() == 0.0


@pytest.mark.parametrize("lag", [0, 1, 2, 3])
def test_a_decision_earns_from_the_day_after_its_execution(lag):
    price = np.cumprod(np.r_[1.0, 1 + np.linspace(0.01, 0.08, 8)])
    out = books(market(price), plan([1.0], 9, rebalance=[0], lag=lag))
    earned = out.flow("nav") / 1000.0
    assert (earned[: lag + 1] == 1.0).all()
    np.testing.assert_allclose(earned[lag:], price[lag:] / price[lag], rtol=1e-14)


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("rule", [stop(fixed=0.1), stop(trailing=0.1), stop(time_days=3)])
def test_a_stop_cannot_improve_the_bar_that_triggered_it(lag, side, rule):
    moves = np.array([0.01, 0.01, -0.12, -0.12, -0.12, -0.12, 0.05])[:7] * side
    price = 100 * np.cumprod(np.r_[np.ones(lag + 1), 1 + moves])
    base = plan([side * 0.8], len(price), rebalance=[0], lag=lag)
    m = market(price, fee=0.001)
    without, stopped = books(m, base), books(m, replace(base, stops=rule))
    decided = np.nonzero(~np.isnan(stopped.detail("target_weight")[1:, 0]))[0][0] + 1
    filled = int(np.nonzero(stopped.flow("n_stopped"))[0][0])
    assert filled == decided + max(lag, 1)
    np.testing.assert_array_equal(stopped.flow("nav")[:filled], without.flow("nav")[:filled])
    # Filled at the close of that day: the day's loss is taken in full, and the fill is paid for.
    assert stopped.flow("nav")[filled] < without.flow("nav")[filled]
    assert stopped.flow("cost_fees")[filled] == pytest.approx(0.001 * 8 * price[filled] * 100 / price[lag], rel=1e-12)
    assert (stopped.flow("nav")[filled + 1 :] == stopped.flow("nav")[filled]).all()
    assert stopped.detail("order_usd")[decided, 0] * side < 0


def test_with_no_lag_the_decision_of_the_triggering_close_leaves_the_stopped_asset_alone():
    price = np.array([100, 100, 80, 70, 60.0])
    out = books(market(price), plan([0.5], 5, rebalance=[0, 2], stops=stop(fixed=0.1)))
    np.testing.assert_allclose(out.flow("nav"), [1000, 1000, 900, 850, 850])
    assert out.flow("traded_alt").tolist() == pytest.approx([500, 0, 0, 350, 0])
    assert out.detail("target_weight")[2, 0] == 0.0


def test_a_stop_waits_for_a_price_and_a_pending_decision_does_not_reopen_it():
    price = np.array([100, 100, 80, 80, 80, 85, 90.0])
    tradable = np.array([1, 1, 1, 0, 0, 1, 1], dtype=bool)
    p = plan([1.0], 7, rebalance=range(6), lag=1, stops=stop(fixed=0.1))
    out = books(market(price, tradable), p)
    assert np.nonzero(out.flow("n_stopped"))[0].tolist() == [5]
    assert out.detail("units")[5, 0] == 0.0
    assert out.detail("units")[6, 0] == 0.0, "the decision of the fill day itself must not reopen the position"
    assert ledger.REASONS[int(out.detail("reason")[5, 0])] == "stop_fixed"
    assert out.flow("n_waiting").tolist() == [0, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("weight", "rate", "lake_knows", "expected", "assumed"),
    [
        (-0.5, 0.001, True, 0.5, 0.0),
        (0.5, 0.001, True, -0.5, 0.0),
        (-0.5, -0.001, True, -0.5, 0.0),
        (0.5, np.nan, True, -1.0, -1.0),
        (-0.5, np.nan, True, -1.0, -1.0),
        (0.5, np.nan, False, 0.0, 0.0),
        (-0.5, np.nan, False, -1.0, -1.0),
    ],
)
def test_funding_of_a_day(weight, rate, lake_knows, expected, assumed):
    m = market(
        np.full(3, 10.0),
        funding=np.array([[np.nan], [rate], [0.0]]),
        any_funding=np.array([False, lake_knows, True]),
        missing_funding=0.002,
    )
    out = books(m, plan([weight], 3, rebalance=[0]))
    np.testing.assert_allclose(out.flow("pnl_funding"), [0, expected, 0], atol=1e-12)
    np.testing.assert_allclose(out.flow("pnl_funding_assumed"), [0, assumed, 0], atol=1e-12)


def test_funding_is_charged_on_the_notional_of_the_close_before():
    m = market(np.array([10.0, 20.0]), funding=np.array([[0.5], [0.01]]), any_funding=np.ones(2, dtype=bool))
    out = books(m, plan([-1.0], 2, rebalance=[0]))
    assert out.flow("pnl_funding").tolist() == [0.0, 10.0]


@pytest.mark.parametrize("weight", [0.5, -0.5])
def test_a_dead_asset_is_closed_at_its_last_price_less_the_haircut(weight):
    price = np.array([[10.0, 5], [11, 5], [np.nan, 5], [np.nan, 5]])
    out = books(market(price, exit_haircut=0.2), plan([weight, 0.1], 4, rebalance=[0]))
    value = weight * 1000 * 1.1
    assert out.flow("n_dead_exits").tolist() == [0, 0, 1, 0]
    assert out.flow("cost_exit_haircut")[2] == pytest.approx(0.2 * abs(value))
    assert out.flow("nav")[2] == pytest.approx(1000 + weight * 100 - 0.2 * abs(value))
    assert out.flow("traded_alt")[2] == pytest.approx(abs(value))
    assert (out.detail("units")[2:, 0] == 0).all()
    assert ledger.REASONS[int(out.detail("reason")[2, 0])] == "dead"


def test_an_order_waits_for_the_next_price_of_its_own():
    price = np.array([[10.0, 5], [10, 6], [10, 6], [12, 6]])
    tradable = np.array([[1, 1], [0, 1], [0, 1], [1, 1]], dtype=bool)
    out = books(market(price, tradable), plan([0.5, 0.5], 4, rebalance=[1]))
    assert np.nonzero(out.detail("units")[:, 1])[0].tolist() == [1, 2, 3]
    assert np.nonzero(out.detail("units")[:, 0])[0].tolist() == [3]
    assert out.detail("units")[3, 0] * 12 == pytest.approx(0.5 * out.flow("nav")[3])
    assert out.flow("n_waiting").tolist() == [0, 1, 1, 0], "one leg traded, the other waits for two closes"


def test_an_order_in_an_asset_without_any_price_lapses_and_is_counted_once():
    price = np.array([[10.0, 5], [np.nan, 5], [np.nan, 5], [10, 5]])
    out = books(market(price), plan([0.5, 0.5], 4, rebalance=[1]))
    assert out.flow("n_waiting").tolist() == [0, 1, 0, 0]
    assert (out.detail("units")[:, 0] == 0).all()


@pytest.mark.parametrize("price", [0.0, -1.0, np.inf])
def test_an_impossible_price_is_refused_by_name(price):
    prices = np.full((4, 3), 10.0)
    prices[:2, 1] = np.nan
    prices[2, 1] = price
    with pytest.raises(LedgerError, match=rf"account test: the price of A1 in row 2 is {price}"):
        books(market(prices), plan([0.1, 0.1, 0.1], 4, rebalance=[0]))
    with pytest.raises(LedgerError, match="price of 1 in row 2"):
        simulate_account(prices, np.full((4, 3), 0.1))


def test_the_band_rebalances_and_says_so():
    price = np.array([[1.0, 1], [1, 1], [1.6, 1], [1.6, 1]])
    quiet = books(market(price), plan([0.5, 0.5], 4, rebalance=[0]))
    banded = books(market(price), plan([0.5, 0.5], 4, rebalance=[0], band=0.1, lag=1))
    assert quiet.flow("traded_alt")[1:].sum() == 0
    assert banded.flow("traded_alt")[3] == pytest.approx(300.0)
    assert ledger.REASONS[int(banded.detail("reason")[3, 0])] == "band"


def test_exposure_changes_are_decisions():
    p = plan([1.0], 6, rebalance=[0], exposure=np.array([1, 1, 0, 0, 0.5, 0.5]), lag=1)
    out = books(market(np.full(6, 2.0)), p)
    np.testing.assert_allclose(out.flow("long_usd"), [0, 1000, 1000, 0, 0, 500])
    assert [ledger.REASONS[int(code)] for code in out.detail("reason")[:, 0]] == [
        "",
        "rebalance",
        "",
        "regime",
        "",
        "regime",
    ]


def test_a_ruined_account_is_closed_and_stays_flat():
    out = books(market(np.array([1.0, 1, 2.5, 5, 1]), fee=0.001), plan([-1.0], 5, rebalance=range(5), lag=1))
    assert out.flow("nav")[2] < 0
    assert (out.detail("units")[2:] == 0).all()
    assert np.ptp(out.flow("nav")[2:]) == 0
    assert ledger.REASONS[int(out.detail("reason")[2, 0])] == "ruin"


def test_square_root_impact_half_spread_and_fee():
    m = market(
        np.ones(2),
        fee=0.001,
        half_spread=np.full((2, 1), 0.002),
        impact_unit=np.full((2, 1), 0.05),
        adv=np.full((2, 1), 40_000.0),
        missing_participation=0.04,
    )
    out = books(m, plan([0.4], 2, rebalance=[0]))
    assert out.flow("cost_fees")[0] == pytest.approx(0.4)
    assert out.flow("cost_slippage")[0] == pytest.approx(0.8)
    assert out.flow("cost_impact")[0] == pytest.approx(400 * 0.05 * np.sqrt(400 / 40_000))
    unknown = books(replace(m, adv=np.full((2, 1), np.nan)), plan([0.4], 2, rebalance=[0]))
    assert unknown.flow("cost_impact")[0] == pytest.approx(400 * 0.05 * np.sqrt(0.04))


@pytest.mark.parametrize("cost", ["fee", "half_spread", "impact_unit"])
def test_a_higher_cost_never_earns_more(cost):
    rng = np.random.default_rng(3)
    price = np.exp(rng.normal(0, 0.03, (80, 4)).cumsum(0))
    weights = rng.normal(0, 0.3, (80, 4))
    finals = []
    for level in (0.0, 0.001, 0.003, 0.01):
        value = level if cost == "fee" else np.full(price.shape, level)
        m = market(price, adv=np.full(price.shape, 1e5), **{cost: value})
        finals.append(books(m, plan(weights, 80, rebalance=range(80))).flow("nav")[-1])
    assert finals == sorted(finals, reverse=True)
    assert finals[0] > finals[-1]


def test_a_missing_volatility_or_beta_is_an_error_that_names_it():
    m = market(np.ones(2), impact_unit=np.full((2, 1), np.nan), adv=np.ones((2, 1)))
    with pytest.raises(LedgerError, match=r"test on 2024-01-01: A0 .*volatility.*impact_vol_window_days"):
        books(m, plan([0.4], 2, rebalance=[0]))
    nan = np.full((2, 1), np.nan)
    with pytest.raises(LedgerError, match=r"A0 is held .*beta"):
        books(market(np.ones(2), beta_btc=nan, beta_eth=nan), plan([0.4], 2, rebalance=[0]))


def test_a_broken_identity_names_account_day_and_both_sides(monkeypatch):
    monkeypatch.setattr(ledger, "IDENTITY_TOLERANCE", -1.0)
    with pytest.raises(
        LedgerError, match=r"account test on 2024-01-01: balance sheet 1000.0 USD, income statement 1000.0"
    ):
        books(market(np.ones(2)), plan([0.4], 2, rebalance=[0]))


@st.composite
def histories(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    days, names = draw(st.integers(3, 40)), draw(st.integers(1, 6))
    price = 10 * np.exp(rng.normal(0, draw(st.sampled_from([0.02, 0.15])), (days, names)).cumsum(0))
    tradable = rng.random((days, names)) > 0.15
    for j in range(names):
        for t in range(1, days):
            if not tradable[t, j]:
                price[t, j] = price[t - 1, j]
        if rng.random() < 0.3:
            price[rng.integers(days) :, j] = np.nan
        if rng.random() < 0.2:
            price[: rng.integers(days), j] = np.nan
    tradable &= ~np.isnan(price)
    funding = rng.normal(0, 0.003, (days, names))
    funding[rng.random((days, names)) < 0.3] = np.nan
    m = market(
        price,
        tradable,
        fee=0.001,
        exit_haircut=0.1,
        funding=funding,
        any_funding=~np.isnan(funding).all(axis=1),
        missing_funding=0.0005,
        half_spread=rng.uniform(0, 0.01, (days, names)),
        impact_unit=rng.uniform(0, 0.05, (days, names)),
        adv=np.where(rng.random((days, names)) < 0.2, np.nan, 1e5),
        missing_participation=0.02,
    )
    weights = rng.normal(0, 0.4, (days, names)) * (rng.random((days, names)) < 0.7)
    exposure = np.repeat(rng.choice([0.0, 0.5, 1.0], days), 4)[:days]
    p = Plan(
        "test",
        np.ascontiguousarray(weights),
        exposure,
        rng.random(days) < 0.3,
        rng.random(days) < 0.9,
        lag=draw(st.integers(0, 3)),
        band=draw(st.sampled_from([0.0, 0.2])),
    )
    return m, p


some_stops = st.builds(
    stop, st.none() | st.floats(0.05, 0.3), st.none() | st.floats(0.05, 0.3), st.none() | st.integers(1, 5)
)


@settings(max_examples=150, deadline=None)
@given(histories(), some_stops)
def test_identity_and_attribution_hold_whatever_happens(history, stops):
    m, p = history
    out = books(m, replace(p, stops=stops))
    nav, cash = out.flow("nav"), out.flow("cash")
    scale = np.maximum(np.abs(nav), 1000.0)
    assert out.flow("identity_error").max() <= 1e-10
    last = np.where(np.isnan(m.price), 0.0, m.price)
    assert (np.abs(nav - cash - (out.detail("units") * last).sum(axis=1)) / scale).max() <= 1e-10
    change = sum(out.flow(name) for name in OUTCOMES[:2]) - sum(out.flow(name) for name in OUTCOMES[2:])
    assert (np.abs(np.diff(np.r_[1000.0, nav]) - change) / scale).max() <= 1e-10
    for name in OUTCOMES:
        assert (np.abs(out.detail(name).sum(axis=1) - out.flow(name)) / scale).max() <= 1e-10
    traded = out.flow("traded_major") + out.flow("traded_alt")
    assert (np.abs(np.abs(out.detail("traded_usd")).sum(axis=1) - traded) / scale).max() <= 1e-10
    assert not (out.detail("traded_usd")[~m.tradable & ~np.isnan(m.price)] != 0).any(), "traded without a price"


def slow_ledger(m: Market, p: Plan, capital: float) -> np.ndarray:
    """The rules in plain Python, without stops: dictionaries, one asset at a time."""
    days, names = m.price.shape
    units, last, wait, target_of = {}, {}, {}, {}
    cash, navs, decisions, done, ruined = capital, [], {}, p.exposure[0], False

    def value() -> float:
        return cash + sum(u * last[j] for j, u in units.items())

    def decide(t: int, nav: float) -> None:
        nonlocal done
        outstanding = any(d + p.lag > t for d in decisions if d < t)
        watched = [j for j in set(units) | set(target_of) if j not in wait]
        gross = sum(abs(target_of.get(j, 0.0)) for j in watched)
        moved = sum(abs(units.get(j, 0.0) * last.get(j, 0.0) / nav - target_of.get(j, 0.0)) for j in watched)
        drifted = p.band > 0 and not outstanding and gross > 0 and moved / gross > p.band
        if p.decidable[t] and (p.exposure[t] != done or p.rebalance[t] or drifted):
            decisions[t], done = p.weights[t] * p.exposure[t], p.exposure[t]

    for t in range(days):
        for j in list(units):
            rate, notional = m.funding[t, j], units[j] * last[j]
            if np.isnan(rate):
                cash -= abs(notional) * m.missing_funding if m.any_funding[t] or notional < 0 else 0.0
            else:
                cash -= notional * rate
            if np.isnan(m.price[t, j]):
                cash += notional - abs(notional) * m.exit_haircut
                del units[j]
                target_of.pop(j, None)
            else:
                last[j] = m.price[t, j]
        nav = value()
        if nav <= 0 and not ruined:
            ruined, wait = True, dict.fromkeys(units, 0.0)
        if p.lag == 0 and not ruined:
            decide(t, nav)
        if t - p.lag in decisions and not ruined:
            for j in range(names):
                wanted = decisions[t - p.lag][j]
                if np.isnan(m.price[t, j]):
                    target_of.pop(j, None)
                elif wanted == 0 and j not in units:
                    target_of.pop(j, None)
                    wait.pop(j, None)
                else:
                    wait[j] = wanted
        for j in list(wait):
            if np.isnan(m.price[t, j]):
                del wait[j]
            elif m.tradable[t, j]:
                new = wait.pop(j) * nav / m.price[t, j]
                size = abs(new - units.get(j, 0.0)) * m.price[t, j]
                share = size / m.adv[t, j] if m.adv[t, j] > 0 else m.missing_participation
                cost = m.fee + m.half_spread[t, j] + m.impact_unit[t, j] * share**0.5
                cash -= (new - units.get(j, 0.0)) * m.price[t, j] + size * cost
                target_of[j] = new * m.price[t, j] / nav
                units[j], last[j] = new, m.price[t, j]
                if new == 0:
                    del units[j], target_of[j]
        navs.append(value())
        if p.lag > 0 and not ruined:
            decide(t, navs[-1])
    return np.array(navs)


@settings(max_examples=100, deadline=None)
@given(histories())
def test_the_kernel_equals_the_slow_ledger(history):
    m, p = history
    np.testing.assert_allclose(books(m, p).flow("nav"), slow_ledger(m, p, 1000.0), rtol=1e-9, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(histories(), some_stops, st.data())
def test_cutting_the_days_or_adding_a_later_name_changes_no_bit_before(history, stops, data):
    m, p = history
    p = replace(p, stops=stops)
    days, names = m.price.shape
    whole = books(m, p)
    cut = data.draw(st.integers(1, days))
    arrays = ("price", "tradable", "funding", "any_funding", "half_spread", "impact_unit", "adv")
    shorter = replace(m, **{name: np.ascontiguousarray(getattr(m, name)[:cut]) for name in arrays})
    p_cut = replace(p, **{name: getattr(p, name)[:cut] for name in ("weights", "exposure", "rebalance", "decidable")})
    # And a name that is wanted only after the cut, put before all the others.
    wider = replace(
        m,
        **{
            name: np.insert(getattr(m, name), 0, getattr(m, name)[:, 0], axis=1)
            for name in arrays
            if name != "any_funding"
        },
        major=np.zeros(names + 1, dtype=bool),
    )
    late = np.insert(p.weights, 0, np.where(np.arange(days) >= cut, 0.3, 0.0), axis=1)
    short, wide = books(shorter, p_cut), books(wider, replace(p, weights=late))
    np.testing.assert_array_equal(short.flows, whole.flows[:cut])
    np.testing.assert_array_equal(short.details, whole.details[:, :cut])
    np.testing.assert_array_equal(wide.flows[:cut], whole.flows[:cut])


@pytest.mark.slow
def test_nav_equals_vectorbt():
    vbt = pytest.importorskip("vectorbt")
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    prices = 100 * np.exp(rng.normal(0, 0.03, (250, 40)).cumsum(0))
    raw = rng.normal(0, 1, (250, 40))
    targets = 0.8 * raw / np.abs(raw).sum(axis=1, keepdims=True)
    theirs = vbt.Portfolio.from_orders(
        pd.DataFrame(prices), pd.DataFrame(targets), size_type="targetpercent", direction="both",
        group_by=True,
        cash_sharing=True, call_seq="auto", init_cash=1e6, fees=0.0005, freq="1D",
    )  # fmt: skip
    np.testing.assert_allclose(simulate_account(prices, targets, fees=0.0005), theirs.value().to_numpy(), rtol=1e-9)
