"""Performance statistics of the report: computed by `majors_alts_pipeline.evaluation`, worded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.report import tables
from majors_alts_pipeline.report.html import (
    NARROW_SPACE,
    basis_points,
    number,
    p_words,
    percent,
    signed_basis_points,
)
from majors_alts_pipeline.report.tables import accounts


@dataclass(frozen=True)
class Statistics:
    """KPIs with intervals, and the test of the regime edge.

    Attributes:
        overall: one row per account.
        by_regime: one row per account and label known when the position was decided.
        by_year: one row per account and calendar year.
        by_fold: one row per account and fold of the walk-forward.
        neutrality: ex-ante and ex-post neutrality error per account and factor.
        edge: one row: the test that price P&L differs by regime, with its `p_value`.
        placebo: one row: the timed account's price P&L among circular shifts of its own exposure path.
        walk_forward: KPIs of the two books over the days decided by a walk-forward model.
        largest: largest gross exposure and largest alt weight of every account.
        assumed_funding: one row per book: share of position-days without a rate, and what the stand-in takes.
        confidence: of the intervals.
        stand_in_annual: rate charged for unknown funding, decimal per year of the position.
        charged_to_shorts: the stand-in took nothing from long positions.
        baseline_funding: mean funding of the long-only baselines, decimal of NAV per year, positive = received.
    """

    overall: pl.DataFrame
    by_regime: pl.DataFrame
    by_year: pl.DataFrame
    by_fold: pl.DataFrame
    neutrality: pl.DataFrame
    edge: pl.DataFrame
    placebo: pl.DataFrame
    walk_forward: pl.DataFrame
    largest: pl.DataFrame
    assumed_funding: pl.DataFrame
    confidence: float
    stand_in_annual: float
    charged_to_shorts: bool
    baseline_funding: float

    def frames(self) -> dict[str, pl.DataFrame]:
        """Frames by the name of their files."""
        return {
            "kpis": self.overall,
            "kpis_by_regime": self.by_regime,
            "kpis_by_year": self.by_year,
            "kpis_by_fold": self.by_fold,
            "neutrality": self.neutrality,
            "regime_edge": self.edge,
            "timing_placebo": self.placebo,
            "kpis_walk_forward": self.walk_forward,
            "largest_exposures": self.largest,
            "assumed_funding": self.assumed_funding,
        }

    def account(self, name: str) -> Mapping[str, Any]:
        """KPIs of one account over the whole window."""
        return self.overall.row(by_predicate=pl.col("account") == name, named=True)

    def verdict(self, first: date, last: date) -> str:
        """Say by rule what was earned, how sure that is, whether timing lined up, and what funding was assumed."""
        days = (last - first).days + 1
        always = _earned(self.account("always_on"), self.confidence)
        timed = _earned(self.account("regime"), self.confidence)
        return (
            f"From {first} to {last} ({days:,} days), after costs and funding, the always-on book earned {always}; "
            f"traded only when the regime said so it earned {timed}. {self._timing()}.{self._funding_unknown()}"
        )

    def _timing(self) -> str:
        """State the difference of price P&L by label with its sign, the p-value and what could have been seen."""
        test = self.edge.row(0, named=True)
        if test["p_value"] is None:
            return (
                "Whether price P&L differs by regime cannot be tested: before costs, the always-on book was held "
                f"{test['n_on']:,} days under risk-on majors and {test['n_off']:,} under other labels"
            )
        size = f"{basis_points(abs(test['difference']))} a day {'higher' if test['difference'] >= 0 else 'lower'}"
        return (
            f"Before costs and funding, price P&L of the always-on book was {size} under risk-on majors than "
            f"otherwise (two-sided {p_words(test['p_value'])}{self._detectable()})"
        )

    def _detectable(self) -> str:
        needed = self.edge["minimum_detectable_effect"][0]
        return (
            ""
            if needed is None
            else f"; about {basis_points(needed, 0)} a day would be needed to be seen with 80{NARROW_SPACE}% power"
        )

    def mostly_assumed(self) -> bool:
        """Whether at least half of the funding of a book's position-days is a stand-in."""
        return bool((self.assumed_funding["share"] >= _MOSTLY).any())

    def partly_assumed(self) -> bool:
        """Whether the funding of some, but not most, of a book's position-days is a stand-in."""
        return not self.mostly_assumed() and bool((self.assumed_funding["share"] >= _SOME).any())

    def _funding_unknown(self) -> str:
        return f" {self.assumed_words()}" if self.mostly_assumed() else ""

    def assumed_words(self) -> str:
        """Say what the stand-in for unknown funding takes from each book, and what its Sharpe ratio is without."""
        books = [
            f"{percent(abs(row['per_year']))} of NAV a year of the {_BOOKS[row['account']]} (net Sharpe ratio with it "
            f"{_or_dash(row['sharpe'])}, without it {_or_dash(row['sharpe_without'])})"
            for row in self.assumed_funding.iter_rows(named=True)
        ]
        return (
            f"Funding {self._unknown_share()}: a stand-in of {percent(self.stand_in_annual, 0)} a year charged to "
            f"{'shorts' if self.charged_to_shorts else 'the positions without a rate'} is {' and '.join(books)}; "
            f"{self._baseline_words()}."
        )

    def _unknown_share(self) -> str:
        known = [row for row in self.assumed_funding.iter_rows(named=True) if row["share"] < 1]
        if not known:
            return "unknown"
        shares = " and ".join(f"{percent(row['share'])} of the {_BOOKS[row['account']]}'s" for row in known)
        return f"unknown on {shares} position-days"

    def _baseline_words(self) -> str:
        if self.baseline_funding == 0:
            return "the baselines are long only and pay none"
        return f"the long-only baselines pay {percent(-self.baseline_funding)} a year on average"

    def edge_words(self) -> str:
        """Say what the test of the regime edge found."""
        test = self.edge.row(0, named=True)
        if test["p_value"] is None:
            return f"{self._timing()}."
        return (
            f"Regime edge: before costs and funding, the always-on book's price P&L was "
            f"{basis_points(test['mean_on'])} a day under risk-on majors ({test['n_on']:,} days) and "
            f"{basis_points(test['mean_off'])} otherwise ({test['n_off']:,} days), a difference of "
            f"{signed_basis_points(test['difference'])} with a Newey-West t-statistic of {_or_dash(test['hac_t'])}. "
            f"Shifting the label path against the returns {test['n_shifts']:,} ways gives a t-statistic at least "
            f"as large in absolute value with two-sided {p_words(test['p_value'])}{self._detectable()}."
        )

    def placebo_words(self) -> str:
        """Say where the timed exposure stands among the same exposure at other times."""
        test = self.placebo.row(0, named=True)
        if test["percentile"] is None:
            return "Timing placebo: not available (the exposure never varies, or there are too few days)."
        return (
            f"Timing placebo: the regime-timed exposure path times the always-on book's price return is "
            f"{signed_basis_points(test['timed'])} a day, at percentile {number(100 * test['percentile'], 0)} of "
            f"{test['n_shifts']:,} circular shifts of the same path (mean {signed_basis_points(test['placebo_mean'])}, "
            f"5 to 95{NARROW_SPACE}%: {signed_basis_points(test['placebo_p05'])} to "
            f"{signed_basis_points(test['placebo_p95'])}); one-sided {p_words(test['p_greater'])} that timing helps. "
            "Every shift holds the book as much and switches as often, only at other times; costs and funding are "
            "not in it."
        )


_MOSTLY, _SOME = 0.5, 0.005
_BOOKS = {"always_on": "always-on book", "regime": "regime-timed book"}
_LONG_ONLY = ("btc", "eth", "btc_eth", "alt_index")


def statistics_of(
    backtest: pl.DataFrame,
    positions: pl.DataFrame,
    regime: pl.DataFrame,
    majors: pl.DataFrame,
    held_funding: pl.DataFrame,
    settings: Settings,
) -> Statistics:
    """Ask the evaluation for every statistic the report shows.

    Args:
        backtest: contract `backtest`, all accounts.
        positions: contract `positions`.
        regime: contract `regime`.
        majors: (date, asset_id, ret) of the two majors.
        held_funding: origin of the funding of held positions, `tables.held_funding`.
        settings: of the study.
    """
    from majors_alts_pipeline.evaluation import kpis

    overall = kpis.overall(backtest, majors, settings)
    assumed = held_funding.filter(kind=tables.ASSUMED)
    baselines = overall.filter(pl.col("account").is_in(_LONG_ONLY))["funding_annual"]
    return Statistics(
        overall=overall,
        by_regime=kpis.by_regime(backtest, majors, settings),
        by_year=kpis.by_year(backtest, majors, settings),
        by_fold=kpis.by_fold(backtest, majors, regime, settings),
        neutrality=kpis.neutrality(backtest, majors, settings),
        edge=kpis.regime_edge(backtest, settings),
        placebo=kpis.timing_placebo(backtest, settings),
        walk_forward=kpis.walk_forward_only(backtest, regime, majors, settings),
        largest=kpis.largest_exposures(backtest, positions),
        assumed_funding=_assumed_funding(backtest, held_funding, overall),
        confidence=settings.evaluation.confidence,
        stand_in_annual=settings.costs.missing_funding_annual,
        charged_to_shorts=float(assumed.filter(leg="major")["usd"].sum()) == 0.0,
        baseline_funding=float(baselines.sum()) / max(len(baselines), 1),
    )


def _assumed_funding(backtest: pl.DataFrame, held_funding: pl.DataFrame, overall: pl.DataFrame) -> pl.DataFrame:
    """(account, share, per_year, sharpe, sharpe_without) of the books that hold positions without a funding rate.

    `per_year` is the mean stand-in over NAV x 365, `sharpe_without` the net Sharpe ratio of the same daily returns
    without it.
    """
    from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR, sharpe_ratio
    from majors_alts_pipeline.evaluation.stage import evaluation_start

    rows = []
    for account in _BOOKS:
        share = accounts.share_of_kind(held_funding, account, tables.ASSUMED)
        if not share:
            continue
        days = backtest.filter(pl.col("date") >= evaluation_start(backtest), account=account).sort("date")
        returns = days["ret_net"].to_numpy()
        stand_in = (days["pnl_funding_assumed"] / (days["nav"] / (1 + days["ret_net"]))).to_numpy()
        without = sharpe_ratio(returns - stand_in)
        rows.append({
            "account": account,
            "share": share,
            "per_year": float(np.mean(stand_in)) * DAYS_PER_YEAR,
            "sharpe": overall.row(by_predicate=pl.col("account") == account, named=True)["sharpe"],
            "sharpe_without": None if np.isnan(without) else without,
        })  # fmt: skip
    return pl.DataFrame(rows, schema=_ASSUMED_SCHEMA)


_ASSUMED_SCHEMA = {"account": pl.String, **dict.fromkeys(("share", "per_year", "sharpe", "sharpe_without"), pl.Float64)}


def _or_dash(value: float | None) -> str:
    return "–" if value is None else number(value)


def _earned(kpi: Mapping[str, Any], confidence: float) -> str:
    if kpi["sharpe"] is None:
        return "nothing that can be measured (no Sharpe ratio: it was never invested or has too few days)"
    value = f"a net Sharpe ratio of {number(kpi['sharpe'])}"
    low, high = kpi["sharpe_low"], kpi["sharpe_high"]
    if low is None or high is None:
        return f"{value} (too few days for an interval)"
    if low > 0:
        reading = "above zero"
    elif high < 0:
        reading = "below zero"
    else:
        reading = "not distinguishable from zero"
    return f"{value} ({percent(confidence, 0)} interval {number(low)} to {number(high)}: {reading})"
