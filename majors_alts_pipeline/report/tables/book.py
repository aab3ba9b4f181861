"""The target book and how well its betas are known."""

from __future__ import annotations

import polars as pl

from majors_alts_pipeline.report.tables import in_order


def basket_daily(basket: pl.DataFrame) -> pl.DataFrame:
    """Per day: alts in the book, long and short weight, ex-ante neutrality, status and what was relaxed."""
    weight = pl.col("weight")
    return (
        basket.sort("date", "asset_id")
        .group_by("date", maintain_order=True)
        .agg(
            n_alts=((pl.col("leg") == "alt") & (weight != 0)).sum(),
            long_weight=in_order(pl.when(weight > 0).then(weight).otherwise(0)),
            short_weight=in_order(pl.when(weight < 0).then(weight).otherwise(0)),
            largest_alt=weight.filter(pl.col("leg") == "alt").abs().max(),
            neutrality_btc=pl.col("neutrality_btc").first(),
            neutrality_eth=pl.col("neutrality_eth").first(),
            mode=pl.col("mode").first(),
            status=pl.col("status").first(),
            relaxed=pl.col("relaxed").first(),
            reason=pl.col("reason").first(),
        )
    )


def basket_status(daily: pl.DataFrame) -> pl.DataFrame:
    """Days by outcome of the optimiser, with the constraints given up or the reason for being flat."""
    return (
        daily.group_by("status", "relaxed", "reason")
        .agg(n_days=pl.len(), first=pl.col("date").min(), last=pl.col("date").max())
        .with_columns(share=pl.col("n_days") / pl.col("n_days").sum())
        .sort("n_days", "status", "relaxed", "reason", descending=[True, False, False, False])
    )


def basket_members(basket: pl.DataFrame) -> pl.DataFrame:
    """Every asset the book ever held: days, share of days, mean and largest weight, first and last day."""
    held = basket.filter(pl.col("weight") != 0)
    n_days = held["date"].n_unique()
    return (
        held.sort("date")
        .group_by("asset_id", "leg")
        .agg(
            n_days=pl.len(),
            mean_weight=in_order(pl.col("weight")) / pl.len(),
            largest_weight=pl.col("weight").get(pl.col("weight").abs().arg_max()),
            first=pl.col("date").min(),
            last=pl.col("date").max(),
        )
        .with_columns(share=pl.col("n_days") / max(n_days, 1))
        .sort("leg", "n_days", "asset_id", descending=[True, True, False])
        .select("asset_id", "leg", "n_days", "share", "mean_weight", "largest_weight", "first", "last")
    )


def beta_quality(betas: pl.LazyFrame) -> pl.DataFrame:
    """Per day: assets with a beta, medians of standard errors and R2, and the factors' variance inflation."""
    return (
        betas.group_by("date")
        .agg(
            n_assets=pl.len(),
            se_btc=pl.col("se_btc").median(),
            se_eth=pl.col("se_eth").median(),
            r2=pl.col("r2").median(),
            vif=pl.col("vif").median(),
        )
        .sort("date")
        .collect()
    )


def tracker_exposure(basket: pl.DataFrame, betas: pl.LazyFrame) -> pl.DataFrame:
    """Ex-ante beta of the target book to each tracker: (date, tracker, beta, known).

    `beta` is the sum of weight x beta over the assets that have one, `known` the share of gross weight they are; days
    on which the book is flat or nothing is known are left out.

    Args:
        basket: contract `basket`.
        betas: contract `tracker_betas`.
    """
    held = basket.filter(pl.col("weight") != 0).select("date", "asset_id", "weight")
    gross = held.group_by("date").agg(gross=pl.col("weight").sort_by("asset_id").abs().sum())
    return (
        held.lazy()
        .join(betas.select("date", "asset_id", "tracker", "beta"), on=["date", "asset_id"])
        .sort("date", "tracker", "asset_id")
        .group_by("date", "tracker")
        .agg(beta=in_order(pl.col("weight") * pl.col("beta")), seen=in_order(pl.col("weight").abs()))
        .join(gross.lazy(), on="date")
        .select("date", "tracker", "beta", known=pl.col("seen") / pl.col("gross"))
        .sort("tracker", "date")
        .collect()
    )
