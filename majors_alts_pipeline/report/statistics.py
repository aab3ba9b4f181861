"""Performance statistics of the report: computed by `majors_alts_pipeline.evaluation`, worded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.report.html import basis_points, number, p_words, percent


@dataclass(frozen=True)
class Statistics:
    """KPIs with intervals, and the test of the regime edge.

    Attributes:
        overall: one row per account.
        by_regime: one row per account and label known when the position was decided.
        by_year: one row per account and calendar year.
        by_fold: one row per account and fold of the walk-forward.
        neutrality: ex-ante and ex-post neutrality error per account and factor.
        edge: one row: the test that returns differ by regime, with its `p_value`.
        confidence: of the intervals.
    """

    overall: pl.DataFrame
    by_regime: pl.DataFrame
    by_year: pl.DataFrame
    by_fold: pl.DataFrame
    neutrality: pl.DataFrame
    edge: pl.DataFrame
    confidence: float

    def frames(self) -> dict[str, pl.DataFrame]:
        """Frames by the name of their files."""
        return {
            "kpis": self.overall,
            "kpis_by_regime": self.by_regime,
            "kpis_by_year": self.by_year,
            "kpis_by_fold": self.by_fold,
            "neutrality": self.neutrality,
            "regime_edge": self.edge,
        }

    def account(self, name: str) -> Mapping[str, Any]:
        """KPIs of one account over the whole window."""
        return self.overall.row(by_predicate=pl.col("account") == name, named=True)

    def verdict(self, first: date, last: date) -> str:
        """Say in one sentence, by rule, what was earned, how sure that is, and whether timing helped."""
        days = (last - first).days + 1
        always = _earned(self.account("always_on"), self.confidence)
        timed = _earned(self.account("regime"), self.confidence)
        return (
            f"From {first} to {last} ({days:,} days), after costs and funding, the always-on book earned "
            f"{always}; "
            f"traded only when the regime said so it earned {timed}; {self._timing()}{self._p_words()}."
        )

    def _p_words(self) -> str:
        p = self.edge["p_value"][0]
        return "" if p is None else f" ({p_words(p)})"

    def _timing(self) -> str:
        """Whether returns differ by regime, from the sign of the difference and its p-value."""
        test = self.edge.row(0, named=True)
        if test["p_value"] is None:
            return "whether timing helps cannot be tested (one label only, or too few days)"
        if test["p_value"] >= 1 - self.confidence:
            return "that timing helps is not shown"
        way = "more" if test["difference"] > 0 else "less, against the rule,"
        return f"prices paid the book {way} under risk-on majors than otherwise"

    def edge_words(self) -> str:
        """Say what the test of the regime edge found."""
        test = self.edge.row(0, named=True)
        if test["p_value"] is None:
            return (
                f"The regime edge cannot be tested: {test['n_on']} days held under risk-on majors and "
                f"{test['n_off']} "
                "under other labels."
            )
        return (
            f"Regime edge: the always-on book's price P&L was {basis_points(test['mean_on'])} a day under "
            "risk-on majors "
            f"({test['n_on']:,} days) and {basis_points(test['mean_off'])} otherwise ({test['n_off']:,} "
            "days), a difference "
            f"of {basis_points(test['difference'])} with a Newey-West t-statistic of "
            f"{_or_dash(test['hac_t'])}. Shifting the "
            f"label path against the returns {test['n_shifts']:,} ways gives a difference at least as large "
            "with "
            f"{p_words(test['p_value'])}: {self._timing()}."
        )


def statistics_of(backtest: pl.DataFrame, regime: pl.DataFrame, majors: pl.DataFrame, settings: Settings) -> Statistics:
    """Ask the evaluation for every statistic the report shows.

    Args:
        backtest: contract `backtest`, all accounts.
        regime: contract `regime`.
        majors: (date, asset_id, ret) of the two majors.
        settings: of the study.
    """
    from majors_alts_pipeline.evaluation import kpis

    return Statistics(
        overall=kpis.overall(backtest, majors, settings),
        by_regime=kpis.by_regime(backtest, majors, settings),
        by_year=kpis.by_year(backtest, majors, settings),
        by_fold=kpis.by_fold(backtest, majors, regime, settings),
        neutrality=kpis.neutrality(backtest, majors, settings),
        edge=kpis.regime_edge(backtest, settings),
        confidence=settings.evaluation.confidence,
    )


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
