"""The rules of the universe, in the order in which they are tried."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from majors_alts_pipeline.config import Settings

OK = "ok"
PEG_USD = "peg_usd"
TRACKS = "tracks:"
EXCLUDED = "excluded_"
DETECTED = "detected_"


@dataclass(frozen=True)
class Rule:
    """One reason not to hold an asset.

    Attributes:
        reason: what the universe table says.
        fails: true where the rule excludes the row; null counts as not failing.
    """

    reason: pl.Expr
    fails: pl.Expr


def listed_kind(settings: Settings) -> dict[str, str]:
    """Asset to the kind of the exclusion list it is on; the first list that names it counts."""
    kinds: dict[str, str] = {}
    for kind, assets in settings.universe.excluded.items():
        for asset in assets:
            kinds.setdefault(asset, kind)
    return kinds


def alt_rules(settings: Settings) -> tuple[Rule, ...]:
    """Rules an alt must pass, first failing one first.

    Reasons: ``excluded_<kind>`` (on a list of `universe.excluded`), ``detected_peg_usd`` and
    ``detected_tracks:<asset>`` (from prices), ``price_stale``, ``too_young``, ``no_adv`` (fewer observations
    than `adv_min_obs`; skipped while the lake holds no volume of any asset), ``illiquid``, ``no_marketcap`` (only
    with `require_marketcap`), ``small_cap`` (a known cap below the minimum), ``no_funding`` (only with
    `require_shortable`: the lake knows funding that day but holds none for this asset, which has no live contract
    or a hole in its data; it cannot tell which).
    """
    rules = settings.universe
    age, adv, cap = pl.col("age_days"), pl.col("adv_usd"), pl.col("marketcap")
    kind, detector = pl.col("kind"), pl.col("detector")
    return (
        Rule(pl.lit(EXCLUDED) + kind, kind.is_not_null()),
        Rule(pl.lit(DETECTED) + detector, detector.is_not_null()),
        Rule(pl.lit("price_stale"), pl.col("price_age_days") > 0),
        Rule(pl.lit("too_young"), age < rules.min_age_days),
        Rule(pl.lit("no_adv"), adv.is_null() & pl.col("volume_known")),
        Rule(pl.lit("illiquid"), adv < rules.min_adv_usd),
        Rule(pl.lit("no_marketcap"), cap.is_null() & rules.require_marketcap),
        Rule(pl.lit("small_cap"), cap < rules.min_marketcap_usd),
        Rule(pl.lit("no_funding"), ~pl.col("shortable") & rules.require_shortable),
    )


def first_failing(settings: Settings) -> pl.Expr:
    """Reason of the row: ``major`` or ``price_stale`` for a major, else ``ok`` or the first failing rule.

    Reads columns asset_id, kind (of exclusion list, null for none), detector, price_age_days, age_days,
    adv_usd, volume_known, marketcap and shortable.
    """
    is_major = pl.col("asset_id").is_in(list(settings.lake.majors))
    stale_major = is_major & (pl.col("price_age_days") > 0)
    chain = pl.when(stale_major).then(pl.lit("price_stale")).when(is_major).then(pl.lit("major"))
    for rule in alt_rules(settings):
        chain = chain.when(rule.fails).then(rule.reason)
    return chain.otherwise(pl.lit(OK))
