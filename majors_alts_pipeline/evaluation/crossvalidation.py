"""Choosing among variants in sample, judging the choice out of sample: walk-forward and combinatorial purged folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.evaluation.contracts import FOLDS
from majors_alts_pipeline.evaluation.inference import sharpe_ratio, sharpe_ratios

NO_CHOICE = "none"
"""Stands for the choice where no variant has a Sharpe ratio in sample."""


@dataclass(frozen=True)
class Variants:
    """Daily net returns of variants of one strategy.

    Attributes:
        returns: (days, variants) decimal, finite.
        dates: (days,) in order.
        names: (variants,).
    """

    returns: np.ndarray
    dates: Sequence[date]
    names: Sequence[str]

    def __post_init__(self) -> None:
        if self.returns.shape != (len(self.dates), len(self.names)) or not len(self.names):
            raise ValueError(f"returns {self.returns.shape} beside {len(self.dates)} dates and {len(self.names)} names")
        if not np.isfinite(self.returns).all():
            day, variant = np.argwhere(~np.isfinite(self.returns))[0]
            raise ValueError(f"return of {self.names[variant]} on {self.dates[day]} is not finite")


def walk_forward(variants: Variants, *, train_days: int, test_days: int, purge_days: int) -> pl.DataFrame:
    """Choose the best Sharpe ratio of all days so far, hold it over the next fold (expanding window; `skfolio`).

    The purge lies between the last training and the first test day: label horizon + execution lag, over which a
    training label still looks into the test.

    Args:
        variants: what is chosen from.
        train_days: of the first fold.
        test_days: of each fold; the last may be shorter.
        purge_days: days left out before each test.

    Returns:
        `FOLDS`, scheme walk_forward; empty where the days do not suffice for one fold. Sharpe ratios that do not exist
        (a variant that held nothing) are null; of equal variants the first is chosen.
    """
    if len(variants.dates) <= train_days + purge_days:
        return FOLDS.empty()
    from skfolio.model_selection import WalkForward

    folds = WalkForward(
        test_size=test_days, train_size=train_days, purged_size=purge_days, expand_train=True, reduce_test=True
    )
    rows: list[dict[str, Any]] = []
    for number, (train, test) in enumerate(folds.split(variants.returns)):
        chosen, inside = _choose(variants.returns[train])
        rows.append({
            "scheme": "walk_forward", "fold": number,
            "start": variants.dates[test[0]], "end": variants.dates[test[-1]],
            "chosen": NO_CHOICE if chosen is None else variants.names[chosen],
            "is_sharpe": inside,
            "oos_sharpe": None if chosen is None else _sharpe(variants.returns[test, chosen]),
            "n_train": len(train), "n_test": len(test),
        })  # fmt: skip
    return FOLDS.conform(pl.DataFrame(rows, schema=FOLDS.schema))


def combinatorial(
    variants: Variants, *, n_folds: int, n_test_folds: int, purge_days: int, embargo_days: int
) -> pl.DataFrame:
    """Combinatorial purged cross-validation; Lopez de Prado (2018), chapter 12, by `skfolio`.

    Of `n_folds` groups of days every set of `n_test_folds` is the test once, the variant with the best Sharpe ratio of
    the remaining days (less purge on both sides of each test and embargo after it) is held there, and the tests are
    joined to n_test_folds / n_folds x C(n_folds, n_test_folds) paths over all days. Training days may lie after the
    test: this asks how the choice varies, not what could have been earned.

    Args:
        variants: what is chosen from.
        n_folds: groups, >= 3.
        n_test_folds: groups of a test, >= 2 and < n_folds.
        purge_days: label horizon + execution lag.
        embargo_days: left out after a test besides.

    Returns:
        `FOLDS`, scheme cpcv, a row a path: `is_sharpe` and `n_train` are means over its splits, `oos_sharpe` is that of
        the joined days. Empty where purge and embargo leave nothing of a group.
    """
    days = len(variants.dates)
    if purge_days + embargo_days >= days // n_folds - 1:
        return FOLDS.empty()
    from skfolio.model_selection import CombinatorialPurgedCV

    folds = CombinatorialPurgedCV(
        n_folds=n_folds, n_test_folds=n_test_folds, purged_size=purge_days, embargo_size=embargo_days
    )
    paths = folds.get_path_ids()
    joined = np.zeros((folds.n_test_paths, days))
    choices: list[dict[str, None]] = [{} for _ in range(folds.n_test_paths)]
    inside: list[list[float]] = [[] for _ in range(folds.n_test_paths)]
    trained: list[list[int]] = [[] for _ in range(folds.n_test_paths)]
    for (train, tests), path_of_test in zip(folds.split(variants.returns), paths, strict=True):
        chosen, sharpe = _choose(variants.returns[train])
        for test, path in zip(tests, path_of_test, strict=True):
            trained[path].append(len(train))
            choices[path][NO_CHOICE if chosen is None else variants.names[chosen]] = None
            if chosen is not None and sharpe is not None:
                joined[path, test] = variants.returns[test, chosen]
                inside[path].append(sharpe)
    rows = [
        {
            "scheme": "cpcv", "fold": path, "start": variants.dates[0], "end": variants.dates[-1],
            "chosen": ", ".join(choices[path]),
            "is_sharpe": float(np.mean(inside[path])) if inside[path] else None,
            "oos_sharpe": _sharpe(joined[path]),
            "n_train": round(float(np.mean(trained[path]))), "n_test": days,
        }
        for path in range(folds.n_test_paths)
    ]  # fmt: skip
    return FOLDS.conform(pl.DataFrame(rows, schema=FOLDS.schema))


def _choose(returns: np.ndarray) -> tuple[int | None, float | None]:
    """Column with the best Sharpe ratio of (days, variants) and that ratio; None where no column has one."""
    sharpes = sharpe_ratios(np.ascontiguousarray(returns.T))
    if np.isnan(sharpes).all():
        return None, None
    best = int(np.nanargmax(sharpes))
    return best, float(sharpes[best])


def _sharpe(returns: np.ndarray) -> float | None:
    value = sharpe_ratio(returns)
    return None if np.isnan(value) else value
