"""Tables of the report that are counted or summed from the daily tables; no performance statistics.

Performance statistics (Sharpe, intervals, realised betas, tests) come from `majors_alts_pipeline.evaluation`; nothing
here computes them a second time. Every function takes frames that satisfy the contracts of
`majors_alts_pipeline.tables` and returns a small, sorted frame: `accounts` of the ledger, `regimes` of labels and
features, `book` of the basket and its betas, `market` of universe and funding, `sweep` of the variants.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import polars as pl

ACCOUNTS = ("regime", "always_on", "btc", "eth", "btc_eth", "alt_index", "random_regimes")
LABELS = ("RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS")
COMPONENTS = ("pnl_price", "pnl_funding", "cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut")
COSTS = COMPONENTS[2:]
YEAR_DAYS = 365
ASSUMED = "assumed"
"""Kind of funding of a position whose rate the lake does not have: the ledger's stand-in."""
NO_FUNDING = "no_funding"
"""Reason of the universe: the lake has no funding of the asset that day, though of others."""


def account_order(column: str = "account") -> pl.Expr:
    """Sort key that lists the accounts in the order a reader wants them, unknown ones last."""
    return pl.col(column).replace_strict({name: k for k, name in enumerate(ACCOUNTS)}, default=len(ACCOUNTS))


def in_order(values: pl.Expr) -> pl.Expr:
    """Sum added row by row, so that its last bit does not depend on the number of threads."""
    return values.cum_sum().last().fill_null(0)


def added(names: Sequence[str]) -> pl.Expr:
    """Sum of columns from left to right; `pl.sum_horizontal` may add in another order on another machine."""
    return reduce(add, (pl.col(name) for name in names))
