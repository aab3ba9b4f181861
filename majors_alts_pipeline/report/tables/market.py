"""The universe, its survivors, and the funding the lake knows."""

from __future__ import annotations

from datetime import date

import polars as pl

from majors_alts_pipeline.report.tables import NO_FUNDING


def universe_daily(universe: pl.LazyFrame) -> pl.DataFrame:
    """Per day: assets with a price, with the day's own price, eligible alts, and the shortable of them."""
    alt = pl.col("eligible") & (pl.col("role") == "alt")
    return (
        universe.group_by("date")
        .agg(
            n_priced=pl.len(),
            n_own_price=(pl.col("price_age_days") == 0).sum(),
            n_eligible_alts=alt.sum(),
            n_shortable=(alt & pl.col("shortable").fill_null(False)).sum(),
            n_unknown_shortable=(alt & pl.col("shortable").is_null()).sum(),
        )
        .sort("date")
        .collect()
    )


def universe_reasons(universe: pl.LazyFrame) -> pl.DataFrame:
    """First failing rule: mean assets per day, assets on the last day, and assets it ever kept out."""
    excluded = universe.filter(~pl.col("eligible"))
    span = universe.select(n=pl.col("date").n_unique(), last=pl.col("date").max()).collect().row(0)
    return (
        excluded.group_by("reason")
        .agg(
            mean_assets=pl.len() / span[0],
            last_day=(pl.col("date") == span[1]).sum(),
            n_assets=pl.col("asset_id").n_unique(),
        )
        .sort("mean_assets", "reason", descending=[True, False])
        .collect()
    )


def ended_assets(panel: pl.LazyFrame, universe: pl.LazyFrame, carry_days: int) -> pl.DataFrame:
    """Assets whose own prices stop more than `carry_days` before the lake ends.

    Returns:
        (asset_id, last_date, last_price, price_vs_peak, days_eligible): day and USD of the last own close,
        its ratio to the highest close minus one, and days the asset was eligible.
    """
    own = panel.filter(pl.col("price_age_days") == 0)
    last = own.group_by("asset_id").agg(
        last_date=pl.col("date").max(),
        last_price=pl.col("close").sort_by("date").last(),
        peak=pl.col("close").max(),
    )
    end = own.select(pl.col("date").max()).collect().item()
    eligible = universe.filter("eligible").group_by("asset_id").agg(days_eligible=pl.len())
    if end is None:
        end = date.min
    return (
        last.filter(pl.col("last_date") < pl.lit(end).dt.offset_by(f"-{carry_days}d"))
        .join(eligible, on="asset_id", how="left")
        .with_columns(pl.col("days_eligible").fill_null(0), price_vs_peak=pl.col("last_price") / pl.col("peak") - 1)
        .sort("last_date", "asset_id")
        .select("asset_id", "last_date", "last_price", "price_vs_peak", "days_eligible")
        .collect()
    )


def funding_coverage(panel: pl.LazyFrame, universe: pl.LazyFrame) -> pl.DataFrame:
    """Share of eligible asset-days whose funding is a true sum, one scaled print, or missing, by quarter."""
    kind = pl.col("funding_kind").fill_null("missing")
    eligible = universe.filter("eligible").select("date", "asset_id")
    return (
        eligible.join(panel.select("date", "asset_id", "funding_kind"), on=["date", "asset_id"], how="left")
        .group_by(quarter=pl.col("date").dt.truncate("1q"))
        .agg(
            n_asset_days=pl.len(),
            **{name: (kind == name).mean() for name in ("sum", "print_scaled", "missing")},
        )
        .sort("quarter")
        .collect()
    )


def unfunded_alts(universe: pl.LazyFrame, panel: pl.LazyFrame, n_alts: int) -> pl.DataFrame:
    """Alts that only the funding rule keeps out although they would rank among the `n_alts` most traded.

    The rule is the last of the universe, so such an asset passes every other one.

    Returns:
        (date, asset_id, adv_usd, ret_next, ret_next_kept): `ret_next` is the asset's price return of the day
        after, null where unknown; `ret_next_kept` the mean of the eligible alts of the same rank range that day.
    """
    out = pl.col("reason") == NO_FUNDING
    ranked = (
        universe.filter(out | ((pl.col("role") == "alt") & pl.col("eligible")))
        .select("date", "asset_id", "adv_usd", out=out)
        .sort("date", "adv_usd", "asset_id", descending=[False, True, False], nulls_last=True)
        .filter(pl.int_range(pl.len()).over("date") < n_alts)
    )
    after = panel.select("asset_id", date=pl.col("date").dt.offset_by("-1d"), ret_next="ret")
    kept = pl.col("ret_next").filter(~pl.col("out")).mean()
    return (
        ranked.join(after, on=["date", "asset_id"], how="left")
        .with_columns(ret_next_kept=kept.over("date", order_by="asset_id"))
        .filter("out")
        .sort("date", "asset_id")
        .select("date", "asset_id", "adv_usd", "ret_next", "ret_next_kept")
        .collect()
    )


def unfunded_names(unfunded: pl.DataFrame) -> pl.DataFrame:
    """Assets of `unfunded_alts`, most frequent first: days, first and last of them, median dollar volume."""
    return (
        unfunded.group_by("asset_id")
        .agg(
            n_days=pl.len(),
            first=pl.col("date").min(),
            last=pl.col("date").max(),
            adv_usd=pl.col("adv_usd").median(),
        )
        .sort("n_days", "asset_id", descending=[True, False])
    )


def survivorship_statement(ended: pl.DataFrame, n_assets: int, lake_end: date) -> str:
    """Say what the lake's own data tell about survivorship, and which way that can bias the result."""
    if ended.height:
        names = ", ".join(ended["asset_id"].head(8))
        more = f" and {ended.height - 8} more" if ended.height > 8 else ""
        held = int((ended["days_eligible"] > 0).sum())
        return (
            f"{ended.height} of {n_assets} assets stop trading inside this lake, before {lake_end} "
            f"({names}{more}); "
            f"{held} of them were eligible at some time. Assets that died before they entered the source, or "
            "that "
            "the source never listed, are still unseen."
        )
    return (
        f"No series ends inside this lake: all {n_assets} assets still trade at its end ({lake_end}), so "
        "only "
        "survivors are present. Coins that failed and left are missing from the short leg, which understates "
        "what "
        "shorting them would have earned; the losses of a short that is squeezed, or cannot be closed when a "
        "market "
        "shuts, are missing as well, which overstates it. Neither size is known from this lake: the sign of "
        "the net "
        "bias is open."
    )
