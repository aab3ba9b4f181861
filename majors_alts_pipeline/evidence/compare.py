"""What the registry says about single trials: a list, one in full, two beside each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.evaluation.inference import (
    MIN_BOOTSTRAP_DAYS,
    block_length,
    sharpe_ratio,
    sharpe_ratios,
    stationary_samples,
)
from majors_alts_pipeline.evidence.registry import METRICS, OK, RUN, RegistryError

LISTED = (
    "time", "trial", "kind", "label", "account", *METRICS, "n_days", "first_day", "last_day", "lake", "lineage",
    "simulated", "status", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Sharpe ratio of A less that of B over the days both have.

    Attributes:
        sharpe_a: annualised, over those days.
        sharpe_b: annualised, over those days.
        value: their difference.
        low: lower end of its interval; NaN where there is none.
        high: upper end.
        n_days: days both have.
        no_interval: why there is none; empty when there is.
    """

    sharpe_a: float
    sharpe_b: float
    value: float
    low: float
    high: float
    n_days: int
    no_interval: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two trials beside each other.

    Attributes:
        metrics: metric, a, b, difference.
        settings: setting, a, b: where they differ; null where one of them does not say.
        sharpe: paired difference, None when the returns of one are not kept or they share no lake.
        words: why there is no paired difference; empty when there is.
    """

    metrics: pl.DataFrame
    settings: pl.DataFrame
    sharpe: Difference | None
    words: str


def listing(records: pl.DataFrame, every: bool) -> pl.DataFrame:
    """Trials in order of registration; runs and failures only unless `every`."""
    shown = records if every else records.filter((pl.col("kind") == RUN) | (pl.col("status") != OK))
    return shown.sort("time", "trial", "account").select(LISTED)


def lineages(records: pl.DataFrame) -> pl.DataFrame:
    """One row per lake: lineage, newest fingerprint, simulated, trials, failures, records, times, last day."""
    return (
        records.group_by("lineage", "simulated")
        .agg(
            pl.col("lake").sort_by("time").last().alias("newest lake"),
            pl.col("trial").filter(pl.col("status") == OK).n_unique().alias("distinct trials"),
            (pl.col("status") != OK).sum().alias("failures"),
            pl.len().alias("records"),
            pl.col("time").min().alias("first registered (UTC)"),
            pl.col("time").max().alias("last registered (UTC)"),
            pl.col("last_day").max().alias("last day"),
        )
        .sort("last registered (UTC)")
    )


def find(records: pl.DataFrame, name: str) -> pl.DataFrame:
    """Records of one trial, newest first.

    Args:
        records: the registry.
        name: how the trial's identifier begins; where none begins so, how the study id or the configuration digest of
            a run does, both as the run and the report print them.

    Raises:
        RegistryError: none or several.
    """
    ways = (lambda: records["trial"].str.starts_with(name), lambda: _run_of(records, name)) if name else ()
    trials = next((found for way in ways if (found := records.filter(way())["trial"].unique().sort().to_list())), [])
    if not trials:
        raise RegistryError(f"no trial {name!r} in the registry; `majors-alts study list --all` shows them")
    if len(trials) > 1:
        raise RegistryError(f"trial {name!r} is ambiguous: {', '.join(trials[:5])}")
    return records.filter(pl.col("trial") == trials[0]).sort("time", "batch", descending=True)


def _run_of(records: pl.DataFrame, name: str) -> pl.Series:
    """(rows,) bool: runs whose study id or configuration digest begins with `name`."""
    # A run's settings are registered as the text that `Settings.digest` hashes.
    texts = records.filter(pl.col("kind") == RUN)["settings"].unique().to_list()
    named = [text for text in texts if sha256(text.encode()).hexdigest().startswith(name)]
    either = pl.col("study").str.starts_with(name) | pl.col("settings").is_in(named)
    return records.select((pl.col("kind") == RUN) & either).to_series()


def compare(
    records: pl.DataFrame, a: str, b: str, account: str, *, reps: int, confidence: float, seed: int
) -> Comparison:
    """Newest successful records of trials `a` and `b` beside each other.

    Args:
        records: the registry.
        a: name of a trial, see `find`.
        b: the other.
        account: regime or always_on.
        reps: replications of the stationary bootstrap.
        confidence: of the interval.
        seed: of the bootstrap.

    Raises:
        RegistryError: a trial is unknown, ambiguous, or has no successful record of the account.
    """
    first, second = (_newest(records, name, account) for name in (a, b))
    metrics = pl.DataFrame(
        [
            {"metric": name, "a": first[name], "b": second[name],
             "difference": None if first[name] is None or second[name] is None else first[name] - second[name]}
            for name in (*METRICS, "n_days")
        ],
        schema={"metric": pl.String, "a": pl.Float64, "b": pl.Float64, "difference": pl.Float64}, strict=False,
    )  # fmt: skip
    told = [_flat(json.loads(row["settings"])) for row in (first, second)]
    keys = sorted({*told[0], *told[1]})
    differing = [(key, told[0].get(key), told[1].get(key)) for key in keys if told[0].get(key) != told[1].get(key)]
    settings = pl.DataFrame(differing, schema={"setting": pl.String, "a": pl.String, "b": pl.String}, orient="row")
    if first["lineage"] != second["lineage"]:
        return Comparison(metrics, settings, None, "they were evaluated on different lakes")
    if first["returns"] is None or second["returns"] is None:
        return Comparison(metrics, settings, None, "the returns of one of them are not kept")
    start = max(first["returns_from"], second["returns_from"])
    series = [np.array(row["returns"][(start - row["returns_from"]).days :], float) for row in (first, second)]
    shared = min(len(item) for item in series)
    pair = [item[:shared] for item in series]
    difference = sharpe_difference(pair[0], pair[1], reps=reps, confidence=confidence, seed=seed)
    return Comparison(metrics, settings, difference, "")


def sharpe_difference(a: np.ndarray, b: np.ndarray, *, reps: int, confidence: float, seed: int) -> Difference:
    """Paired percentile interval of the difference of two Sharpe ratios by the stationary bootstrap.

    Whole days are drawn, so both series keep their correlation; the mean block is the optimal one of a - b (Ledoit &
    Wolf 2008 resample pairs likewise).

    Args:
        a: (days,) decimal returns.
        b: (days,) decimal returns of the same days.
        reps: replications.
        confidence: of the interval.
        seed: same seed, same interval.
    """
    days = len(a)
    of_a, of_b = (sharpe_ratio(series) if days else float("nan") for series in (a, b))
    nan = float("nan")
    words = ""
    if days < MIN_BOOTSTRAP_DAYS:
        words = f"fewer than {MIN_BOOTSTRAP_DAYS} days in common"
    elif np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        words = "the returns of one of them never vary over these days"
    elif np.ptp(a - b) == 0.0:
        words = "both returned the same on every one of these days"
    if words:
        return Difference(of_a, of_b, of_a - of_b, nan, nan, days, words)
    drawn = np.concatenate(
        [
            sharpe_ratios(a[sample]) - sharpe_ratios(b[sample])
            for sample in stationary_samples(days, block_length(a - b), reps, seed)
        ]
    )
    tail = (1.0 - confidence) / 2.0
    low, high = np.nanquantile(drawn, [tail, 1.0 - tail])
    return Difference(of_a, of_b, of_a - of_b, float(low), float(high), days)


def _newest(records: pl.DataFrame, name: str, account: str) -> dict[str, Any]:
    rows = find(records, name).filter(pl.col("status") == OK, pl.col("account") == account)
    if rows.is_empty():
        raise RegistryError(f"trial {name!r} has no successful record of account {account}")
    return rows.row(0, named=True)


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        out: dict[str, str] = {}
        for key, inner in value.items():
            out |= _flat(inner, f"{path}.{key}".lstrip("."))
        return out
    return {path: json.dumps(value)}
