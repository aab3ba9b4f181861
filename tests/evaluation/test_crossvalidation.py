"""Walk-forward and combinatorial purged folds: counts of the book, purge, and honesty on noise and on skill."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from majors_alts_pipeline.evaluation.contracts import FOLDS
from majors_alts_pipeline.evaluation.crossvalidation import NO_CHOICE, Variants, combinatorial, walk_forward
from majors_alts_pipeline.evaluation.inference import sharpe_ratio


def variants(returns):
    days, n = returns.shape
    return Variants(returns, [date(2022, 1, 1) + timedelta(k) for k in range(days)], [f"v{k}" for k in range(n)])


def noise(seed=0, days=600, n=30):
    return 0.01 * np.random.default_rng(seed).standard_normal((days, n))


def cpcv(returns, purge=0, embargo=0):
    return combinatorial(variants(returns), n_folds=6, n_test_folds=2, purge_days=purge, embargo_days=embargo)


def test_lopez_de_prado_2018_figure_12_1():
    from skfolio.model_selection import CombinatorialPurgedCV

    folds = CombinatorialPurgedCV(n_folds=6, n_test_folds=2)
    assert (folds.n_splits, folds.n_test_paths) == (15, 5)
    table = cpcv(noise())
    assert table["fold"].to_list() == [0, 1, 2, 3, 4]
    assert (table["n_test"] == 600).all()


def test_purge_and_embargo_remove_training_days():
    # One test stretch inside the sample loses purge on both sides and embargo after it; two apart lose twice that.
    plain, purged, both = (cpcv(noise(), purge, embargo)["n_train"].mean() for purge, embargo in
                           ((0, 0), (7, 0), (7, 5)))  # fmt: skip
    assert plain == 400
    assert plain > purged > both
    stretches_before = stretches_after = 0
    for first in range(6):
        for second in range(first + 1, 6):
            inside = {first, second}
            stretches_before += sum(k > 0 and k - 1 not in inside for k in inside)
            stretches_after += sum(k < 5 and k + 1 not in inside for k in inside)
    assert purged == pytest.approx(400 - 7 * (stretches_before + stretches_after) / 15, abs=0.5)
    assert both == pytest.approx(purged - 5 * stretches_after / 15, abs=0.5)


def test_a_spike_within_the_purge_is_not_seen_by_the_choice():
    returns = noise(3, 300, 3) - 0.01
    returns[200:205, 2] = 0.5
    seen = walk_forward(variants(returns), train_days=205, test_days=50, purge_days=0)
    purged = walk_forward(variants(returns), train_days=200, test_days=50, purge_days=5)
    assert seen["start"][0] == purged["start"][0]
    assert seen["chosen"][0] == "v2"
    assert purged["chosen"][0] != "v2"


def test_walk_forward_by_hand():
    returns = noise(4, 330, 6)
    table = walk_forward(variants(returns), train_days=100, test_days=60, purge_days=6)
    assert table.schema == FOLDS.schema
    assert table["n_train"].to_list() == [100, 160, 220, 280]
    assert table["n_test"].to_list() == [60, 60, 60, 44]
    for row in table.iter_rows(named=True):
        first = row["n_train"] + 6
        sharpes = [sharpe_ratio(returns[: row["n_train"], k]) for k in range(6)]
        best = int(np.argmax(sharpes))
        assert row["chosen"] == f"v{best}"
        assert row["is_sharpe"] == pytest.approx(sharpes[best])
        assert row["oos_sharpe"] == pytest.approx(sharpe_ratio(returns[first : first + row["n_test"], best]))
        assert row["start"] == date(2022, 1, 1) + timedelta(first)


def test_a_later_day_changes_no_earlier_fold():
    returns = noise(5, 500, 8)
    table = walk_forward(variants(returns), train_days=100, test_days=50, purge_days=6)
    cut = walk_forward(variants(returns[:406]), train_days=100, test_days=50, purge_days=6)
    assert table.head(cut.height).equals(cut)
    assert cut.height == 6


def test_noise_shines_in_sample_only():
    tables = [
        table
        for seed in range(12)
        for table in (
            walk_forward(variants(noise(seed)), train_days=200, test_days=100, purge_days=6),
            cpcv(noise(seed), 6, 6),
        )
    ]
    folds = pl.concat(tables)
    for scheme in ("walk_forward", "cpcv"):
        own = folds.filter(pl.col("scheme") == scheme)
        assert own["is_sharpe"].min() > 0.5
        # 48 folds of 100 days, 60 paths of which 12 are independent.
        assert abs(own["oos_sharpe"].mean()) < 1.0
        assert own["is_sharpe"].mean() > own["oos_sharpe"].mean() + 1.0


def test_skill_is_found_and_survives():
    returns = noise(6)
    returns[:, 4] += 0.003
    for table in (cpcv(returns, 6, 6), walk_forward(variants(returns), train_days=200, test_days=100, purge_days=6)):
        assert set(table["chosen"]) == {"v4"}
        assert table["oos_sharpe"].mean() > 2.0


def test_nothing_to_choose_from_is_null_not_a_number():
    idle = np.zeros((300, 2))
    table = walk_forward(variants(idle), train_days=100, test_days=100, purge_days=0)
    assert set(table["chosen"]) == {NO_CHOICE}
    assert table["is_sharpe"].null_count() == table["oos_sharpe"].null_count() == 2
    assert cpcv(idle)["oos_sharpe"].null_count() == 5
    assert walk_forward(variants(noise(0, 106)), train_days=100, test_days=10, purge_days=6).is_empty()
    assert cpcv(noise(0, 60), 6, 4).is_empty()


def test_bad_variants_are_refused():
    with pytest.raises(ValueError, match="3 names"):
        Variants(np.zeros((2, 2)), [date(2022, 1, 1), date(2022, 1, 2)], ["a", "b", "c"])
    returns = noise()
    returns[1, 0] = np.nan
    with pytest.raises(ValueError, match="v0 on 2022-01-02"):
        variants(returns)
