"""The book on the real lake: solvable every day, neutral, and the same alone as in a range."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from majors_alts_pipeline.basket.stage import compute
from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.chain import Runner
from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.lake.reader import open_lake
from majors_alts_pipeline.tables import BASKET

SHARED = Path(os.environ.get("MAJORS_ALTS_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))


@pytest.mark.real_lake
@pytest.mark.parametrize("name", ["lake", "lake_stress"])
def test_the_last_days_of_the_real_lake(name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is absent; MAJORS_ALTS_SHARED names the folder of the real lakes")
    settings = load_settings()
    runner = Runner(open_lake(SHARED / name, settings.lake), settings)
    end = runner.history.end
    window = Window(end - timedelta(days=9), end)
    inputs = {table: runner.table(table, window) for table in ("universe", "betas")}
    book = compute({**inputs, "basket": BASKET.empty()}, window, settings)["basket"]
    assert set(book["status"]) == {"optimal"}
    assert book["neutrality_btc"].abs().max() <= settings.basket.beta_tolerance + 1e-7
    assert book["neutrality_eth"].abs().max() <= settings.basket.beta_tolerance + 1e-7
    last = Window(end, end)
    eve = book.filter(pl.col("date") == end - timedelta(days=1))
    alone_inputs = {"basket": eve, **{table: last.keep(rows) for table, rows in inputs.items()}}
    alone = compute(alone_inputs, last, settings)["basket"]
    assert_frame_equal(alone, last.keep(book), check_exact=True)
