"""Everything the pages show, gathered once: the frames, the statistics, and the words that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation import descriptive
from majors_alts_pipeline.evaluation.contracts import EVIDENCE
from majors_alts_pipeline.report import tables
from majors_alts_pipeline.report.statistics import Statistics, statistics_of
from majors_alts_pipeline.report.tables import accounts, market, regimes, sweep
from majors_alts_pipeline.report.tables import book as books
from majors_alts_pipeline.tables import ContractError

Load = Callable[[str], pl.LazyFrame | pl.DataFrame]


class ReportError(ValueError):
    """The report cannot be built or written; the message says why and what to do."""


@dataclass(frozen=True)
class ReportContext:
    """What the report says about the study besides its tables.

    Attributes:
        lake_location: directory, file or URL of the lake.
        simulated: the lake is simulated; stamped on everything.
        fingerprint: of the lake.
        study_id: configuration + lake + code.
        code_version: of this package.
        settings: resolved configuration.
        absent: sentences on tables the lake lacks and what was lost.
        findings: (check, severity, table, asset_id, date, value, message) of the quality rules.
        survivorship: known bias of this lake beyond what its own data show; empty when nothing is known.
        mixed: warnings, such as days stored by another study.
    """

    lake_location: str
    simulated: bool
    fingerprint: str
    study_id: str
    code_version: str
    settings: Settings
    absent: list[str]
    findings: pl.DataFrame
    survivorship: str = ""
    mixed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Book:
    """Everything the pages show.

    Attributes:
        context: what the study is.
        statistics: what the evaluation computed.
        verdict: the one-sentence answer.
        what_would_change: what would have to be seen to change it; empty when nobody said.
        first: first day judged.
        last: last day judged.
        n_assets: assets of the panel.
        survivorship: sentences.
        surface: the sweep over its two most influential parameters; None without a sweep.
        frames: every table of the report by the name of its files.
    """

    context: ReportContext
    statistics: Statistics
    verdict: str
    what_would_change: str
    first: date
    last: date
    n_assets: int
    survivorship: list[str]
    surface: sweep.Surface | None
    frames: Mapping[str, pl.DataFrame]

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.frames[name]

    def evidence(self, name: str) -> pl.DataFrame | None:
        """Evidence table of that name; None when it was not supplied."""
        return self.frames.get(name)


def gather(
    load: Load,
    context: ReportContext,
    lag_table: pl.DataFrame | None,
    evidence: Mapping[str, pl.DataFrame],
    verdict: str | None,
    what_would_change: str,
) -> Book:
    """Read the tables and compute what the pages show; arguments as of `build.build_report`.

    Raises:
        ReportError: there is no day to report on, an account is missing, nothing traded, or an evidence table is
            unknown or breaks its contract.
    """
    settings = context.settings
    backtest = _collected(load("backtest"))
    if not backtest.height:
        raise ReportError("report: table backtest holds no day; materialise the chain first (`majors-alts run`)")
    missing = [name for name in tables.ACCOUNTS if name not in set(backtest["account"].unique())]
    if missing:
        raise ReportError(f"report: table backtest lacks account(s) {', '.join(missing)}; materialise it again")
    all_methods = _collected(load("regime")).sort("method", "date")
    method = settings.regime.method
    regime = all_methods.filter(method=method)
    if not regime.height:
        raise ReportError(f"report: table regime holds no row of method {method!r}; materialise it")
    panel, universe = load("panel").lazy(), load("universe").lazy()
    positions, basket = _collected(load("positions")), _collected(load("basket"))
    features, models = _collected(load("features")), _collected(load("regime_model"))
    majors = panel.filter(pl.col("asset_id").is_in(settings.lake.majors)).select("date", "asset_id", "ret").collect()
    judged = _judged(backtest, basket)
    first, last = _span(judged)
    held_funding = accounts.held_funding(positions, panel, judged)
    statistics = statistics_of(backtest, positions, regime, majors, held_funding, settings)
    window = settings.evaluation.rolling_window_days
    daily, book_daily = accounts.daily_accounts(judged), books.basket_daily(basket)
    ended = market.ended_assets(panel, universe, settings.lake.price_carry_days)
    unfunded = market.unfunded_alts(universe, panel, settings.basket.n_alts)
    n_assets = panel.select(pl.col("asset_id").n_unique()).collect().item()
    frames = {
        **statistics.frames(),
        "accounts": daily,
        "drawdowns": accounts.drawdown_table(daily),
        "monthly_returns": accounts.monthly_returns(judged),
        "attribution": accounts.attribution(judged),
        "attribution_by_leg": accounts.attribution_by_leg(positions),
        "attribution_by_asset": accounts.attribution_by_asset(positions),
        "funding_by_leg": accounts.funding_by_leg(positions, judged),
        "funding_coverage": market.funding_coverage(panel, universe),
        "funding_of_positions": held_funding,
        "rolling_betas": descriptive.rolling_betas(judged, _side_by_side(majors, settings), window),
        "rolling_risk": descriptive.rolling_risk(judged, window),
        "label_means": descriptive.label_means(judged, tables.LABELS, settings.evaluation.confidence),
        "regime": regime,
        "regime_methods": all_methods,
        "regime_agreement": regimes.agreement(all_methods),
        "regime_episodes": regimes.regime_episodes(regime),
        "decided_by": regimes.decided_by(regime, first, last, settings.backtest.execution_lag_days),
        "regime_summary": regimes.regime_summary(regime),
        "regime_transitions": regimes.regime_transitions(regime),
        "returns_by_label": regimes.return_quartiles(judged),
        **_probabilities(_collected(load("regime_probability")), method),
        "regime_weights": _collected(load("regime_weights")).sort("method", "date"),
        "refits": regimes.refits(models),
        "score_contributions": regimes.contributions(features, models.filter("chosen", method=_COMPOSITE)),
        "features": features.sort("feature", "date"),
        "feature_summary": regimes.feature_summary(features),
        "market": _collected(load("market")).sort("date"),
        "basket": basket.sort("date", "asset_id"),
        "basket_daily": book_daily,
        "basket_status": books.basket_status(book_daily),
        "basket_members": books.basket_members(basket),
        "beta_quality": books.beta_quality(load("betas").lazy()),
        "trackers": _collected(load("trackers")).sort("tracker", "date"),
        "tracker_exposure": books.tracker_exposure(basket, load("tracker_betas").lazy()),
        "universe_daily": market.universe_daily(universe),
        "universe_reasons": market.universe_reasons(universe),
        "unfunded_alts": unfunded,
        "unfunded_names": market.unfunded_names(unfunded),
        "ended_assets": ended,
        "dead_exits": accounts.dead_exits(positions),
        "execution": accounts.execution(judged, held_funding),
        "findings": context.findings,
        "kpis_daily": _collected(load("kpis")).filter(pl.col("date") >= first).sort(tables.account_order(), "date"),
    }
    if lag_table is not None:
        frames["lags"] = lag_table
    proven = _conforming(evidence)
    variants = proven.get("sweep")
    surface = None
    if variants is not None and variants.height:
        whole = settings.model_dump(mode="json")
        surface = sweep.surface(variants, whole)
        frames["sweep_influence"] = sweep.influence(sweep.parameter_values(variants, whole))
    survivorship = [market.survivorship_statement(ended, n_assets, last)]
    survivorship += [context.survivorship] if context.survivorship else []
    return Book(
        context=context,
        statistics=statistics,
        verdict=statistics.verdict(first, last) if verdict is None else verdict,
        what_would_change=what_would_change,
        first=first,
        last=last,
        n_assets=n_assets,
        survivorship=survivorship,
        surface=surface,
        frames={**frames, **proven},
    )


_COMPOSITE = "composite"


def _conforming(evidence: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    unknown = sorted(set(evidence) - set(EVIDENCE))
    if unknown:
        raise ReportError(f"report: unknown evidence table(s) {', '.join(unknown)}; known: {', '.join(EVIDENCE)}")
    try:
        return {name: EVIDENCE[name].conform(frame) for name, frame in evidence.items()}
    except ContractError as error:
        raise ReportError(f"report: evidence table {error}; compute it again") from error


def _probabilities(probability: pl.DataFrame, configured: str) -> dict[str, pl.DataFrame]:
    """Outlook of every method, and persistence of the first that looks ahead from today, the configured one first."""
    horizons = probability.group_by("method").agg(pl.col("horizon_days").unique())
    looking = [method for method, found in horizons.sort("method").iter_rows() if 0 in found and len(found) > 1]
    method = configured if configured in looking else next(iter(looking), configured)
    own = probability.filter(method=method)
    return {
        "regime_probability": probability.sort("method", "date", "horizon_days", "state"),
        "regime_persistence": regimes.persistence(own).with_columns(method=pl.lit(method)),
        "regime_outlook": regimes.outlook(probability),
    }


def _collected(frame: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    return frame.collect() if isinstance(frame, pl.LazyFrame) else frame


def _judged(backtest: pl.DataFrame, basket: pl.DataFrame) -> pl.DataFrame:
    """Days on which the accounts are judged: from the first trade of any of them."""
    from majors_alts_pipeline.evaluation.stage import evaluation_start

    start = evaluation_start(backtest)
    if start is None:
        first, last = _span(backtest)
        why = basket.filter(pl.col("reason") != "").group_by("reason").len().sort("len", "reason", descending=True)
        reason = f"the book was flat: {why['reason'][0]}" if why.height else "table basket holds no row"
        raise ReportError(
            f"report: no account traded on any day from {first} to {last} ({reason}); look at table universe "
            "for the rule that keeps assets out, or give a longer lake"
        )
    return backtest.filter(pl.col("date") >= start)


def _side_by_side(majors: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """(date, btc, eth): daily returns of the two majors, days without both left out."""
    btc, eth = settings.lake.majors
    return (
        majors.pivot("asset_id", index="date", values="ret").select("date", btc=btc, eth=eth).drop_nulls().sort("date")
    )


def _span(frame: pl.DataFrame) -> tuple[date, date]:
    first, last = frame.select(first=pl.col("date").min(), last=pl.col("date").max()).row(0)
    return first, last
