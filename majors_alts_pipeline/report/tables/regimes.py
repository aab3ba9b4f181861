"""Labels, probabilities, refits and features of the regime methods."""

from __future__ import annotations

from datetime import date

import polars as pl

from majors_alts_pipeline.report.tables import LABELS, account_order, in_order


def regime_episodes(regime: pl.DataFrame) -> pl.DataFrame:
    """Unbroken runs of one label: (label, start, end, n_days), in time order."""
    changed = (pl.col("label") != pl.col("label").shift(1)).fill_null(True)
    return (
        regime.sort("date")
        .with_columns(run=changed.cum_sum())
        .group_by("run")
        .agg(pl.col("label").first(), start=pl.col("date").min(), end=pl.col("date").max(), n_days=pl.len())
        .sort("run")
        .drop("run")
    )


def regime_summary(regime: pl.DataFrame) -> pl.DataFrame:
    """Per label: days, share of days, episodes and their mean and longest length."""
    return (
        regime_episodes(regime)
        .group_by("label")
        .agg(
            n_days=pl.col("n_days").sum(),
            n_episodes=pl.len(),
            mean_days=pl.col("n_days").mean(),
            longest_days=pl.col("n_days").max(),
        )
        .with_columns(share=pl.col("n_days") / pl.col("n_days").sum())
        .sort(pl.col("label").replace_strict({name: k for k, name in enumerate(LABELS)}))
        .select("label", "n_days", "share", "n_episodes", "mean_days", "longest_days")
    )


def decided_by(regime: pl.DataFrame, first: date, last: date, lag: int) -> pl.DataFrame:
    """Days from `first` to `last` by what decided the position held over them.

    Args:
        regime: one method's rows of the contract.
        first: first day.
        last: last day.
        lag: execution lag in days: a decision on D earns from D + lag + 1 on.

    Returns:
        (decided_by, n_days) in the order walk_forward, default, no_score: a walk-forward model, the default
        weights, or nothing, since no feature had a z-score yet.
    """
    decided = regime.select(
        date=pl.col("date").dt.offset_by(f"{lag + 1}d"),
        decided_by=pl.when(pl.col("score").is_null()).then(pl.lit("no_score")).otherwise("in_force"),
    )
    kinds = ("walk_forward", "default", "no_score")
    days = pl.DataFrame({"date": pl.date_range(first, last, eager=True)})
    found = days.join(decided, on="date", how="left").select(pl.col("decided_by").fill_null("no_score"))
    return pl.DataFrame({"decided_by": kinds, "n_days": [int((found["decided_by"] == kind).sum()) for kind in kinds]})


def regime_transitions(regime: pl.DataFrame) -> pl.DataFrame:
    """Share of days on which a label is followed by each label: one row per label of today."""
    frame = regime.sort("date").select(label="label", tomorrow=pl.col("label").shift(-1)).drop_nulls()
    counts = frame.group_by("label").agg(
        n_days=pl.len(), **{name: (pl.col("tomorrow") == name).mean() for name in LABELS}
    )
    return counts.sort(pl.col("label").replace_strict({name: k for k, name in enumerate(LABELS)}))


def return_quartiles(backtest: pl.DataFrame) -> pl.DataFrame:
    """Distribution of daily net returns by the label the held position carries out (known before the return).

    Returns:
        (account, label, n_days, mean, p05, p25, median, p75, p95) of the regime and always_on accounts.
    """
    ret = pl.col("ret_net")
    return (
        backtest.sort("date")
        .filter(pl.col("account").is_in(["regime", "always_on"]) & pl.col("regime_traded").is_in(LABELS))
        .group_by("account", label="regime_traded")
        .agg(
            n_days=pl.len(),
            mean=in_order(ret) / pl.len(),
            p05=ret.quantile(0.05, "linear"),
            p25=ret.quantile(0.25, "linear"),
            median=ret.median(),
            p75=ret.quantile(0.75, "linear"),
            p95=ret.quantile(0.95, "linear"),
        )
        .sort(account_order(), pl.col("label").replace_strict({name: k for k, name in enumerate(LABELS)}))
    )


def refits(regime_model: pl.DataFrame) -> pl.DataFrame:
    """Model in force after each refit date and how many candidates were tried for it."""
    tried = regime_model.group_by("date", "method").agg(n_candidates=pl.len())
    return (
        regime_model.filter("chosen")
        .join(tried, on=["date", "method"])
        .sort("date", "method")
        .select(
            "date",
            "method",
            "candidate",
            "in_force",
            "converged",
            "objective",
            "n_obs",
            "train_end",
            "n_candidates",
            "note",
            "params",
        )
    )


def feature_summary(features: pl.DataFrame) -> pl.DataFrame:
    """Per feature: days with a z-score, share of days, mean coverage, last raw value and z-score."""
    return (
        features.sort("feature", "date")
        .group_by("feature", maintain_order=True)
        .agg(
            days_with_z=pl.col("z").count(),
            share=pl.col("z").count() / pl.len(),
            coverage=in_order(pl.col("coverage")) / pl.len(),
            first_z=pl.col("date").filter(pl.col("z").is_not_null()).min(),
            last_raw=pl.col("raw").last(),
            last_z=pl.col("z").last(),
        )
    )


def agreement(regime: pl.DataFrame) -> pl.DataFrame:
    """Share of common days on which two methods gave the same label: (method, one column per method)."""
    wide = regime.sort("method").pivot("method", index="date", values="label")
    methods = [name for name in wide.columns if name != "date"]
    rows = [
        {"method": one, **{other: wide.select((pl.col(one) == pl.col(other)).mean()).item() for other in methods}}
        for one in methods
    ]
    return pl.DataFrame(rows, schema={"method": pl.String, **dict.fromkeys(methods, pl.Float64)})


def persistence(probability: pl.DataFrame) -> pl.DataFrame:
    """Chance each day that the likeliest state still holds later.

    Args:
        probability: one method's rows of `regime_probability`, horizon 0 among them.

    Returns:
        (date, state, now, and `days_<h>` per horizon h > 0): the state of largest filtered probability (ties: first
        in the alphabet), that probability, and what the method's own transitions give it h days ahead.
    """
    now = (
        probability.filter(horizon_days=0)
        .sort("date", -pl.col("probability"), "state")
        .group_by("date", maintain_order=True)
        .first()
        .select("date", "state", now="probability")
    )
    for horizon in sorted(set(probability["horizon_days"].to_list()) - {0}):
        ahead = probability.filter(horizon_days=horizon).select(
            "date", "state", pl.col("probability").alias(f"days_{horizon}")
        )
        now = now.join(ahead, on=["date", "state"], how="left")
    return now.sort("date")


def outlook(probability: pl.DataFrame) -> pl.DataFrame:
    """Probabilities of the last day: (method, state, and `days_<h>` per horizon)."""
    last = probability.filter(pl.col("date") == pl.col("date").max()).sort("horizon_days")
    return (
        last.with_columns(horizon=pl.format("days_{}", "horizon_days"))
        .pivot("horizon", index=["method", "state"], values="probability")
        .sort("method", "state")
    )


def contributions(features: pl.DataFrame, models: pl.DataFrame) -> pl.DataFrame:
    """What each feature adds to the composite score before smoothing: (date, feature, contribution).

    The contributions of a day add to the score: sign x weight x clipped z / sum of the weights of the features that
    have a z-score.

    Args:
        features: contract `features`.
        models: chosen rows of `regime_model` of method composite.
    """
    # Not at the top: it loads numba, which whoever only looks at a report need not wait for.
    from majors_alts_pipeline.regime.composite import Candidate

    weights = []
    for day, params in models.sort("date").select("date", "params").iter_rows():
        candidate = Candidate.from_json(params)
        weights += [(day, name, weight, candidate.z_cap) for name, weight in candidate.weights]
    in_force = pl.DataFrame(
        weights, schema={"asof": pl.Date, "feature": pl.String, "weight": pl.Float64, "cap": pl.Float64}, orient="row"
    )
    days = features.select("date").unique().sort("date").join_asof(
        in_force.select(date="asof", asof="asof").unique().sort("date"), on="date"
    )  # fmt: skip
    return (
        features.drop_nulls("z")
        .join(days.drop_nulls("asof"), on="date")
        .join(in_force, on=["asof", "feature"])
        .with_columns(whole=pl.col("weight").abs().sum().over("date"))
        .select(
            "date", "feature",
            contribution=pl.col("weight") * pl.col("z").clip(-pl.col("cap"), pl.col("cap")) / pl.col("whole"),
        )
        .sort("feature", "date")
    )  # fmt: skip
