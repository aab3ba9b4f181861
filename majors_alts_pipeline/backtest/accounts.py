"""The accounts of a run: the timed book, the same book always on, and the baselines a sceptic asks for."""

from __future__ import annotations

import numpy as np
import polars as pl

from majors_alts_pipeline.backtest.ledger import DETAILS, FLOWS, Ledger

ACCOUNTS = ("regime", "always_on", "btc", "eth", "btc_eth", "alt_index", "random_regimes")
"""Accounts of every run."""

DETAILED = ("regime", "always_on")
"""Accounts whose positions are written."""

_COUNTS = ("n_positions", "n_stopped", "n_dead_exits", "n_waiting")


def alt_index_targets(universe: pl.DataFrame, decision_days: pl.Series, n: int) -> pl.DataFrame:
    """Equal weights of the `n` eligible alts with the largest volume (date, asset_id, weight).

    Ties and unknown volumes are settled by asset id, so the choice does not depend on row order.
    """
    return (
        universe.filter((pl.col("role") == "alt") & pl.col("eligible") & pl.col("date").is_in(decision_days.implode()))
        .sort(["date", "adv_usd", "asset_id"], descending=[False, True, False], nulls_last=True)
        .with_columns(rank=pl.int_range(pl.len()).over("date"))
        .filter(pl.col("rank") < n)
        .select("date", "asset_id", weight=1.0 / pl.len().over("date"))
    )


MEMORY_DAYS = 365
"""Days over which the switching rates of the random regimes are counted."""

_PRIOR_SWITCHES, _PRIOR_DAYS = 1.0, 10.0
"""Added to the counts of switches and of days at risk, which are few at the start."""


def random_exposure(actual: np.ndarray, path: int, seed: int, first_day: int, start: int) -> np.ndarray:
    """On/off path with the switching rates of the actual one, but at random times.

    A two-state Markov chain: on day D it leaves its state with the frequency at which the actual path left that
    state in the `MEMORY_DAYS` up to and including D, (switches + 1) / (days in the state + 10). Nothing is counted
    before `start`, where the label is not yet a choice. It starts there in the state of the actual path. Its uniforms
    are Philox numbers keyed by (seed, path) and counted by the day, so cutting the data changes nothing before the
    cut (Salmon et al. 2011).

    Args:
        actual: (days,) exposure of the timed account, >= 0; on means > 0.
        path: number of the path.
        seed: of the study.
        first_day: day number of row 0.
        start: row of the first day whose label is a choice: the book exists and the regime has a score.

    Returns:
        (days,) exposure: the mean of the actual exposure over its days on so far (none yet: 0), or 0.
    """
    on = actual > 0.0
    stayed = np.zeros(len(on))
    switched_off, switched_on, was_on, was_off = stayed.copy(), stayed.copy(), stayed.copy(), stayed.copy()
    pairs = slice(start + 1, None)
    before, now = on[start:-1], on[pairs]
    switched_off[pairs], switched_on[pairs] = before & ~now, ~before & now
    was_on[pairs], was_off[pairs] = before, ~before
    leave_on = (_recent(switched_off) + _PRIOR_SWITCHES) / (_recent(was_on) + _PRIOR_DAYS)
    leave_off = (_recent(switched_on) + _PRIOR_SWITCHES) / (_recent(was_off) + _PRIOR_DAYS)
    uniform = _uniforms(seed, path, first_day, len(on))
    state = _chain(bool(on[start]), uniform[pairs], leave_on[pairs], leave_off[pairs])
    counted = np.where(np.arange(len(on)) >= start, actual, 0.0)
    level = np.cumsum(counted) / np.maximum(np.cumsum(counted > 0.0), 1.0)
    out = np.zeros(len(on))
    out[start:] = np.where(state, level[start:], 0.0)
    return out


def _recent(flags: np.ndarray) -> np.ndarray:
    """Number of flags in the last `MEMORY_DAYS`; whole numbers, hence exact wherever the range starts."""
    total = np.cumsum(flags)
    return total - np.concatenate([np.zeros(MEMORY_DAYS), total])[: len(total)]


def _chain(state: bool, uniform: np.ndarray, leave_on: np.ndarray, leave_off: np.ndarray) -> np.ndarray:
    states = [state]
    for u, off, back in zip(uniform.tolist(), leave_on.tolist(), leave_off.tolist(), strict=True):
        state = u >= off if state else u < back
        states.append(state)
    return np.array(states)


def _uniforms(seed: int, path: int, first_day: int, n_days: int) -> np.ndarray:
    """One uniform per day: the first word of the Philox block whose counter is the day number."""
    bits = np.random.Philox(key=np.array([seed, path], dtype=np.uint64)).advance(first_day)
    return np.random.Generator(bits).random(4 * n_days)[::4]


def mean_ledger(ledgers: list[Ledger]) -> Ledger:
    """Average accounts of equal capital; counts are rounded up, the worst identity error is kept."""
    flows = np.cumsum([ledger.flows for ledger in ledgers], axis=0)[-1] / len(ledgers)
    for name in _COUNTS:
        column = FLOWS.index(name)
        flows[:, column] = np.ceil(flows[:, column])
    worst = FLOWS.index("identity_error")
    flows[:, worst] = np.max([ledger.flow("identity_error") for ledger in ledgers], axis=0)
    return Ledger(flows, np.empty((len(DETAILS), 0, 0)))
