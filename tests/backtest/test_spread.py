"""Rolling EDGE against the authors' package, planted spreads, and the shrunk spreads the ledger trades at."""

import os
from pathlib import Path

import bidask
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from majors_alts_pipeline.backtest.spread import rolling_edge, spreads
from majors_alts_pipeline.calendar import Window, day_number
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.numerics.dense import Dense

FIRST_DAY = 19_500
COSTS = load_settings().costs
SHARED = Path(os.environ.get("MAJORS_ALTS_SHARED", Path(__file__).parents[2].parent / "shared"))


def bars(days, assets, spread=0.005, vol=0.03, seed=0, trades=120):
    """OHLC (days, assets) of trades that bounce between bid and ask around a random walk that never shuts."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, vol / np.sqrt(trades), size=(assets, days * trades))
    side = rng.choice([-1.0, 1.0], size=steps.shape)
    price = np.exp(np.cumsum(steps, axis=1)) * (1 + side * spread / 2)
    price = price.reshape(assets, days, trades)
    return tuple(np.ascontiguousarray(p.T) for p in (price[..., 0], price.max(-1), price.min(-1), price[..., -1]))


def naive_s2(ohlc, j, t, window):
    """Signed squared spread of one asset and window, and its error, step by step as the paper states it."""
    o, h, low, c = (np.log(p[t - window + 1 : t + 1, j]) for p in ohlc)
    m = (h + low) / 2
    o, h, low, m, before = (
        o[1:],
        h[1:],
        low[1:],
        m[1:],
        {"h": h[:-1], "l": low[:-1], "c": c[:-1], "m": m[:-1]},
    )
    tau = ((h != low) | (low != before["c"])).astype(float)
    at_open = (tau * ((o != h).astype(float) + (o != low))).mean()
    at_close = (tau * ((before["c"] != before["h"]).astype(float) + (before["c"] != before["l"]))).mean()

    def demeaned(r):
        return r - tau * r.mean() / tau.mean()

    to_mid, open_gap, close_gap = demeaned(m - o), demeaned(o - before["c"]), demeaned(m - before["c"])
    x1 = -4 / at_open * to_mid * (o - before["m"]) - 4 / at_close * close_gap * (before["c"] - before["m"])
    x2 = -4 / at_open * to_mid * (o - before["c"]) - 4 / at_close * open_gap * (before["c"] - before["m"])
    w = x2.var() / (x1.var() + x2.var())
    z = w * x1 + (1 - w) * x2
    return z.mean(), z.std() / np.sqrt(len(z))


@pytest.mark.parametrize("window", [3, 21, 60])
def test_equals_the_authors_package(window):
    ohlc = bars(100, 4, seed=1)
    got = rolling_edge(*ohlc, window, window, FIRST_DAY)
    for j in range(4):
        frame = pd.DataFrame(dict(zip(("open", "high", "low", "close"), (p[:, j] for p in ohlc), strict=True)))
        theirs = bidask.edge_rolling(frame, window, sign=True).to_numpy()
        np.testing.assert_allclose(got.signed[:, j], theirs, rtol=0, atol=1e-12)
        for t in (window - 1, 77, 99):
            exact = bidask.edge(*(p[t - window + 1 : t + 1, j] for p in ohlc), sign=True)
            assert got.signed[t, j] == pytest.approx(exact, abs=1e-12)


def test_equals_the_paper_step_by_step():
    ohlc = bars(70, 2, seed=2)
    got = rolling_edge(*ohlc, 60, 30, FIRST_DAY)
    for j, t in ((0, 59), (1, 63), (1, 69)):
        s2, se = naive_s2(ohlc, j, t, 60)
        assert got.s2[t, j] == pytest.approx(s2, rel=1e-9, abs=1e-15)
        assert got.se[t, j] == pytest.approx(se, rel=1e-9)


@pytest.mark.parametrize("planted", [0.005, 0.01, 0.03])
def test_finds_a_planted_spread(planted):
    got = rolling_edge(*bars(60, 60, spread=planted, seed=3), 60, 30, FIRST_DAY)
    assert np.sqrt(got.s2[-1].mean()) == pytest.approx(planted, rel=0.1)


def test_the_standard_error_is_honest():
    got = rolling_edge(*bars(60, 300, spread=0.005, seed=4), 60, 30, FIRST_DAY)
    assert got.s2[-1].std() == pytest.approx(np.sqrt((got.se[-1] ** 2).mean()), rel=0.25)


def test_no_spread_is_no_spread_on_average():
    s2, se = (rolling_edge(*bars(60, 200, spread=0.0, seed=5), 60, 30, FIRST_DAY).__dict__[k][-1] for k in ("s2", "se"))
    assert abs(s2.mean()) < 4 * np.sqrt((se**2).sum()) / len(se)


@given(start=st.integers(0, 60), length=st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_any_range_gives_the_same_bits_whatever_the_width(start, length):
    ohlc = [p.copy() for p in bars(150, 5, seed=6, trades=20)]
    for p in ohlc:
        p[40:44, 1] = np.nan
    whole = spreads(*ohlc, COSTS, FIRST_DAY)
    back = COSTS.spread_window_days - 1
    stop = start + back + length
    part = spreads(*(p[start:stop, 3:0:-1] for p in ohlc), COSTS, FIRST_DAY + start)
    np.testing.assert_array_equal(part.spread[back:], whole.spread[start + back : stop, 3:0:-1])
    np.testing.assert_array_equal(part.kind[back:], whole.kind[start + back : stop, 3:0:-1])
    assert part.estimated[back:].any()


def test_a_gap_costs_two_pairs_and_never_bridges():
    ohlc = [p.copy() for p in bars(70, 1, seed=7)]
    ohlc[1][40, 0] = np.nan
    got = rolling_edge(*ohlc, 60, 30, FIRST_DAY)
    assert got.n_obs[69, 0] == 57


def test_default_where_edge_cannot_be_computed():
    ohlc = [p.copy() for p in bars(80, 3, seed=8)]
    for p in ohlc:
        p[:, 1] = np.nan
    ohlc[0][1:, 2] = ohlc[3][:-1, 2]
    got = spreads(*ohlc, COSTS, FIRST_DAY)
    assert got.kind[-1].tolist() == ["edge", "default", "default"]
    assert (got.spread[-1, 1:] == COSTS.spread_default).all()
    assert not got.estimated[: COSTS.spread_window_days - 1].any()
    assert np.isfinite(got.spread).all()


def test_shrunk_by_its_own_standard_error_towards_the_default():
    ohlc = bars(60, 40, spread=0.0005, vol=0.04, seed=9)
    edge = rolling_edge(*ohlc, COSTS.spread_window_days, COSTS.spread_min_obs, FIRST_DAY)
    got = spreads(*ohlc, COSTS, FIRST_DAY)
    prior = COSTS.spread_default**2
    weight = prior**2 / (prior**2 + edge.se[-1] ** 2)
    want = np.sqrt(np.maximum(weight * edge.s2[-1] + (1 - weight) * prior, 0))
    np.testing.assert_allclose(got.spread[-1], np.clip(want, COSTS.spread_min, COSTS.spread_max), rtol=1e-12)
    assert np.abs(got.spread[-1] - COSTS.spread_default).max() < np.abs(edge.signed[-1] - COSTS.spread_default).max()


def test_bounds_and_a_default_of_zero():
    ohlc = bars(60, 20, spread=0.05, vol=0.01, seed=10)
    tight = COSTS.model_copy(update={"spread_default": 0.02, "spread_max": 0.03})
    assert (spreads(*ohlc, tight, FIRST_DAY).spread[-1] == 0.03).all()
    free = COSTS.model_copy(update={"spread_default": 0.0, "spread_min": 0.0})
    assert (spreads(*ohlc, free, FIRST_DAY).spread == 0.0).all()


def test_too_short_a_window_is_refused():
    with pytest.raises(ValueError, match="window 2"):
        rolling_edge(*bars(10, 1), 2, 2, FIRST_DAY)


@pytest.mark.real_lake
def test_real_lake_levels_are_those_of_perpetuals():
    path = SHARED / "lake" / "fact_ohlc.parquet"
    if not path.exists():
        pytest.skip(f"{path} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    window = Window(pl.Series(["2024-03-01"]).str.to_date().item(), pl.Series(["2025-09-30"]).str.to_date().item())
    dense = Dense.of(pl.read_parquet(path).with_columns(pl.col("date").cast(pl.Date)), window)
    got = spreads(*(dense.floats(k) for k in ("open", "high", "low", "close")), COSTS, day_number(window.start))
    level = [np.median(s[ok]) * 1e4 for s, ok in zip(got.spread, got.estimated, strict=True) if ok.any()]
    assert 5 < np.median(level) < 15
    btc = got.spread[got.estimated[:, dense.assets.index("BTC")], dense.assets.index("BTC")] * 1e4
    assert 1 <= np.median(btc) < 5
