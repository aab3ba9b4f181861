"""Windowed sums: equal to the naive sum, and to the last bit whatever range was loaded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from majors_alts_pipeline.numerics.columns import over_columns, window_sum_column
from majors_alts_pipeline.numerics.windows import window_mean_std, window_sum


def returns(days, assets, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_t(3, size=(days, assets)) * 10.0 ** rng.integers(-6, 3, size=(1, assets))


def columnwise(values, window, first_day):
    out = np.empty_like(values)
    window_sum_column(values, window, first_day, out, np.empty((window, values.shape[1])))
    return out


@given(
    days=st.integers(1, 90),
    window=st.integers(1, 40),
    first_day=st.integers(0, 20_000),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_naive_sum(days, window, first_day, seed):
    values = returns(days, 3, seed)
    got = window_sum(values, window, first_day)
    assert np.isnan(got[: window - 1]).all()
    for t in range(window - 1, days):
        exact = values[t - window + 1 : t + 1]
        np.testing.assert_allclose(got[t], exact.sum(0), rtol=0, atol=1e-14 * np.abs(exact).sum())


@given(
    window=st.integers(1, 30),
    first_day=st.integers(0, 20_000),
    start=st.integers(0, 60),
    length=st.integers(1, 60),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_any_range_gives_the_same_bits(window, first_day, start, length, seed):
    values = returns(150, 2, seed)
    whole = window_sum(values, window, first_day)
    stop = start + window - 1 + length
    part = window_sum(values[start:stop], window, first_day + start)
    np.testing.assert_array_equal(part[window - 1 :], whole[start + window - 1 : stop])


@given(
    days=st.integers(1, 120),
    window=st.integers(1, 40),
    first_day=st.integers(0, 20_000),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_the_compiled_twin_gives_the_same_bits(days, window, first_day, seed):
    values = returns(days, 3, seed)
    np.testing.assert_array_equal(columnwise(values, window, first_day), window_sum(values, window, first_day))


def test_a_running_sum_would_fail_the_range_test():
    values = returns(150, 2, 0)
    values[3] = 1e9
    running = np.cumsum(values, axis=0)
    late = np.cumsum(values[50:], axis=0)
    naive_whole = running[140] - running[110]
    naive_part = late[90] - late[60]
    assert (naive_whole != naive_part).any()


def test_one_dimension_and_ones():
    np.testing.assert_array_equal(window_sum(np.ones(10), 4, 7)[3:], np.full(7, 4.0))
    np.testing.assert_array_equal(window_sum(np.arange(5.0), 1, 3), np.arange(5.0))


@pytest.mark.parametrize("window", [0, -1])
def test_window_below_one_is_refused(window):
    with pytest.raises(ValueError, match="window must be >= 1"):
        window_sum(np.ones(5), window, 0)


@given(seed=st.integers(0, 50), ddof=st.integers(0, 1), min_obs=st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_mean_and_std_of_what_is_there(seed, ddof, min_obs):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(60, 3))
    values[rng.random(values.shape) < 0.4] = np.nan
    mean, std, count = window_mean_std(values, 12, 100, min_obs, ddof)
    for t in range(11, 60):
        for j in range(3):
            seen = values[t - 11 : t + 1, j]
            seen = seen[np.isfinite(seen)]
            assert count[t, j] == seen.size
            if seen.size < max(min_obs, ddof + 1):
                assert np.isnan(mean[t, j])
                assert np.isnan(std[t, j])
            else:
                assert mean[t, j] == pytest.approx(seen.mean(), abs=1e-12)
                assert std[t, j] == pytest.approx(seen.std(ddof=ddof), abs=1e-7)


@pytest.mark.parametrize(("columns", "days"), [(1, 5), (7, 10), (700, 2_000), (3, 10_000_000)])
def test_columns_are_split_once_each(columns, days):
    seen = np.zeros(columns, dtype=int)

    def work(first, last):
        seen[first:last] += 1

    over_columns(work, columns, days)
    assert (seen == 1).all()


def test_an_error_in_a_thread_is_raised():
    def work(first, last):
        raise ArithmeticError(f"{first}-{last}")

    with pytest.raises(ArithmeticError):
        over_columns(work, 100, 1_000_000)
