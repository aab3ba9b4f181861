"""Long frames to dense arrays and back."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.numerics.dense import Dense, long

START = date(2024, 2, 25)
WINDOW = Window(START, START + timedelta(days=9))


def frame(cells, values=None, flags=None):
    cells = sorted(cells)
    return pl.DataFrame(
        {
            "date": [START + timedelta(days=d) for d, _ in cells],
            "asset_id": [f"A{a}" for _, a in cells],
            "x": values or [float(10 * d + a) for d, a in cells],
            "flag": flags or [bool((d + a) % 2) for d, a in cells],
        },
        schema={"date": pl.Date, "asset_id": pl.String, "x": pl.Float64, "flag": pl.Boolean},
    )


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 6)), min_size=1), st.randoms())
@settings(max_examples=60, deadline=None)
def test_round_trip_whatever_the_row_order(cells, random):
    table = frame(cells)
    order = list(range(table.height))
    random.shuffle(order)
    dense = Dense.of(table[order], WINDOW)
    present = np.zeros(dense.shape, dtype=bool)
    present[dense.rows, dense.cols] = True
    back = long(present, WINDOW, dense.assets, {"x": dense.floats("x"), "flag": dense.bools("flag")})
    assert_frame_equal(back, table, check_exact=True)


def test_what_is_missing_stays_missing():
    table = frame({(0, 0), (9, 1)}, values=[1.0, None], flags=[None, True])
    dense = Dense.of(table, WINDOW)
    assert dense.shape == (10, 2)
    assert np.isnan(dense.floats("x")).sum() == 19
    assert dense.bools("flag").sum() == 1
    nothing = long(np.ones((10, 2), dtype=bool), WINDOW, dense.assets, {"x": dense.floats("x")})
    assert nothing["x"].null_count() == 19


def test_rows_outside_the_window_or_the_list_are_left_out():
    table = frame({(0, 0), (5, 1), (9, 2)})
    inner = Dense.of(table, Window(START + timedelta(days=1), START + timedelta(days=5)))
    assert inner.assets == ["A1"]
    assert inner.floats("x").tolist()[-1] == [51.0]
    listed = Dense.of(table, WINDOW, ["A2", "ZZ", "A0"])
    assert listed.assets == ["A2", "ZZ", "A0"]
    assert listed.floats("x")[9, 0] == 92.0
    assert np.isnan(listed.floats("x")[:, 1]).all()


def test_integer_columns_become_floats_and_keep_their_type_on_the_way_back():
    table = frame({(1, 0)}).with_columns(n=pl.lit(3, pl.Int32))
    dense = Dense.of(table, WINDOW)
    assert dense.floats("n")[1, 0] == 3.0
    mask = np.isfinite(dense.floats("n"))
    back = long(mask, WINDOW, dense.assets, {"n": np.full(mask.shape, 3, dtype=np.int32)})
    assert back.schema["n"] == pl.Int32


def test_an_empty_frame_is_an_empty_array():
    dense = Dense.of(frame(set()), WINDOW)
    assert dense.shape == (10, 0)
    assert dense.floats("x").shape == (10, 0)
    assert long(np.zeros((10, 0), dtype=bool), WINDOW, [], {"x": np.zeros((10, 0))}).height == 0


@pytest.mark.parametrize("days", [1, 4])
def test_dates_of_the_rows(days):
    window = Window(START, START + timedelta(days=days - 1))
    mask = np.ones((days, 1), dtype=bool)
    assert long(mask, window, ["A"], {})["date"].to_list() == window.days()
