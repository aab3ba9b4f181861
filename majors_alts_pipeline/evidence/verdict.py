"""The answer in one sentence, derived by rule from the evidence tables, and what would change it.

The rules, in this order; every one must have what it needs, so a table that is empty can only weaken the answer:

1. *red flag*: a rule of `red_flags` fired. No number is to be believed until it is explained.
2. *too little data*: fewer than `MIN_DAYS` days judged, or no interval.
3. *harmful*: the whole interval of the net Sharpe ratio lies below zero.
4. *supported*: the whole interval lies above zero, the deflated Sharpe ratio reaches the confidence, no more than half
   of the splits overfit, and the net Sharpe ratio is still positive at twice the costs of the study and at every lag.
5. *suggestive*: the interval lies above zero but one of these fails; what fails is named.
6. *not shown*: anything else.

A lake of survivors, a funding rate that is largely assumed, or a study registry that has lost a file, caps the answer
at *suggestive* and is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings

RED_FLAG, TOO_LITTLE, HARMFUL = "red flag", "too little data", "harmful"
SUPPORTED, SUGGESTIVE, NOT_SHOWN = "supported", "suggestive", "not shown"
LEVELS = (RED_FLAG, TOO_LITTLE, HARMFUL, NOT_SHOWN, SUGGESTIVE, SUPPORTED)
"""Answers, from the weakest to the strongest."""

MIN_DAYS = 365
MAX_PBO = 0.5
MAX_BEYOND_LIQUIDITY = 0.05
"""Share of days beyond the liquidity limit up to which a capital counts as one the book can hold."""

ASSUMED_FUNDING = 0.25
"""Share of |funding| from the stand-in above which it is said."""

_NAMES = {"regime": "the regime-timed book", "always_on": "the always-on book"}


@dataclass(frozen=True)
class Caveats:
    """What the lake cannot know.

    Attributes:
        survivors_only: no series of an alt ends inside the lake.
        assumed_funding: share of the always-on book's |funding| that is the stand-in for missing rates.
        simulated: the lake is a simulated one.
        lost_batches: files of the study registry that are gone, so that trials go uncounted.
    """

    survivors_only: bool
    assumed_funding: float
    simulated: bool
    lost_batches: int = 0


@dataclass(frozen=True)
class Judgement:
    """The verdict on one account.

    Attributes:
        account: regime or always_on.
        level: one of `LEVELS`.
        sentence: the answer for a person.
        change: what would change it.
    """

    account: str
    level: str
    sentence: str
    change: str


def caveats_of(
    panel: pl.DataFrame, backtest: pl.DataFrame, settings: Settings, simulated: bool, lost_batches: int
) -> Caveats:
    """Read the caveats off the stored tables.

    Args:
        panel: rows of `panel`.
        backtest: rows of `backtest`.
        settings: resolved settings.
        simulated: whether the lake is a simulated one.
        lost_batches: files of the study registry that are gone.
    """
    from majors_alts_pipeline.evidence.robustness import series_ends

    last = panel["date"].max()
    ends = series_ends(panel, settings.lake.majors, last, settings.lake.price_carry_days)  # type: ignore[arg-type]
    book = backtest.filter(pl.col("account") == "always_on")
    paid, assumed = (float(np.abs(book[name].to_numpy()).sum()) for name in ("pnl_funding", "pnl_funding_assumed"))
    return Caveats(ends.is_empty(), assumed / paid if paid else 0.0, simulated, lost_batches)


def judge(evidence: Mapping[str, pl.DataFrame], account: str, settings: Settings, caveats: Caveats) -> Judgement:
    """Derive the verdict on `account` from the evidence tables; see the module for the rules."""
    facts = _Facts(evidence, account, settings)
    fired = facts.fired()
    if fired is not None:
        return Judgement(
            account, RED_FLAG, f"Red flag, no result is to be believed yet: {fired}.",
            "Explain or mend what the red flag names, then run again.",
        )  # fmt: skip
    sharpe, low, high = facts.interval()
    if facts.days < MIN_DAYS or sharpe is None or low is None or high is None:
        return Judgement(
            account, TOO_LITTLE,
            f"Too little data: {facts.days} days judged{_lake(caveats)}; nothing can be said about {_NAMES[account]}.",
            f"At least {MIN_DAYS} days with trades.",
        )  # fmt: skip
    failed = facts.failed(sharpe)
    capped = _caps(caveats)
    level = NOT_SHOWN
    if high < 0.0:
        level = HARMFUL
    elif low > 0.0:
        level = SUGGESTIVE if failed or capped else SUPPORTED
    return Judgement(
        account, level, facts.sentence(level, failed, capped, caveats), facts.change(level, failed, capped)
    )


def headline(evidence: Mapping[str, pl.DataFrame], settings: Settings, caveats: Caveats) -> tuple[str, str] | None:
    """Verdict on the timed book, with the always-on book in brief, and what would change the former.

    Returns:
        (verdict, what would change it); None when no selection-adjusted number or no robustness test is there.
    """
    if any(evidence.get(name) is None or evidence[name].is_empty() for name in ("selection", "robustness")):
        return None
    timed, always = (judge(evidence, account, settings, caveats) for account in ("regime", "always_on"))
    sharpe, low, high = _Facts(evidence, "always_on", settings).interval()
    brief = ""
    if sharpe is not None and low is not None and high is not None and always.level not in {RED_FLAG, TOO_LITTLE}:
        brief = (
            f" The same book always on: {always.level}, net Sharpe ratio {_signed(sharpe)} ({_signed(low)} to "
            f"{_signed(high)})."
        )
    return timed.sentence + brief, timed.change


def _lake(caveats: Caveats) -> str:
    return " on SIMULATED data" if caveats.simulated else ""


def _caps(caveats: Caveats) -> list[str]:
    out = []
    if caveats.survivors_only:
        out.append("the lake holds survivors only, so alts that died are missing from the short leg")
    if caveats.assumed_funding > ASSUMED_FUNDING:
        out.append(f"{caveats.assumed_funding:.0%} of the funding is an assumed rate")
    if caveats.lost_batches:
        out.append(f"{lost_words(caveats.lost_batches)}, so more was tried than is counted")
    return out


def lost_words(n: int) -> str:
    """How many files of the study registry are gone."""
    return f"{n} file of the study registry is gone" if n == 1 else f"{n} files of the study registry are gone"


class _Facts:
    """What the rules ask of the evidence about one account."""

    def __init__(self, evidence: Mapping[str, pl.DataFrame], account: str, settings: Settings) -> None:
        self._evidence, self._account, self._settings = evidence, account, settings

    def _rows(self, table: str) -> pl.DataFrame | None:
        frame = self._evidence.get(table)
        if frame is None or frame.is_empty():
            return None
        return frame.filter(pl.col("account") == self._account) if "account" in frame.columns else frame

    def measure(self, name: str) -> dict[str, float | None]:
        rows = self._rows("selection")
        found = None if rows is None else rows.filter(pl.col("measure") == name)
        if found is None or found.is_empty():
            return {"value": None, "low": None, "high": None}
        return found.select("value", "low", "high").row(0, named=True)

    def fired(self) -> str | None:
        flags = self._evidence.get("red_flags")
        rows = None if flags is None else flags.filter("fired")
        return None if rows is None or rows.is_empty() else rows["message"][0]

    @property
    def days(self) -> int:
        rows = self._rows("robustness")
        own = [] if rows is None else rows.filter(pl.col("level").is_null())["n_days"].to_list()
        return max(own, default=0)

    def interval(self) -> tuple[float | None, float | None, float | None]:
        row = self.measure("sharpe")
        return row["value"], row["low"], row["high"]

    def case(self, test: str) -> pl.DataFrame:
        rows = self._rows("robustness")
        empty = pl.DataFrame(schema={"level": pl.Float64, "sharpe": pl.Float64, "cost_annual": pl.Float64})
        if rows is None:
            return empty
        return rows.filter(pl.col("test") == test, pl.col("n_days") > 0, pl.col("level").is_not_null()).sort("level")

    def break_even(self) -> float | None:
        """One-way cost in bp at which the net Sharpe ratio is gone, by interpolation; None if not in the sweep."""
        rows = self.case("cost_bp").drop_nulls("sharpe")
        level, sharpe = rows["level"].to_list(), rows["sharpe"].to_list()
        for k in range(1, len(level)):
            if sharpe[k - 1] > 0.0 >= sharpe[k]:
                return level[k - 1] + (level[k] - level[k - 1]) * sharpe[k - 1] / (sharpe[k - 1] - sharpe[k])
        return None

    def paid_bp(self) -> float | None:
        """One-way cost of the study itself, bp: its annual cost among those of the sweep."""
        rows = self._rows("robustness")
        sweep = self.case("cost_bp").filter(pl.col("level") > 0.0)
        if rows is None or sweep.is_empty():
            return None
        own = rows.filter(pl.col("test") == "cost_bp", pl.col("level").is_null())["cost_annual"]
        unit = sweep["cost_annual"][0] / sweep["level"][0]
        return float(own[0] / unit) if own.len() and unit > 0.0 else None

    def failed(self, sharpe: float) -> list[str]:
        """Requirements of `supported` that are not met, in words."""
        out = []
        confidence = self._settings.evaluation.confidence
        dsr, pbo = self.measure("dsr")["value"], self.measure("pbo")["value"]
        trials = self.measure("n_trials")["value"]
        if dsr is None or trials is None:
            out.append("what was tried before is not accounted for")
        elif dsr < confidence:
            found = _probability(dsr)
            out.append(f"after {trials:.0f} trials the deflated Sharpe probability, {found}, is under {confidence:g}")
        if pbo is None:
            out.append("overfitting could not be measured")
        elif pbo > MAX_PBO:
            out.append(f"in {pbo:.0%} of splits the best variant in sample is below the median out of sample")
        out += self._failed_costs()
        lags = self.case("execution_lag").drop_nulls("sharpe")
        if lags.is_empty():
            out.append("other execution lags were not tried")
        elif float(lags["sharpe"].min()) <= 0.0:  # type: ignore[arg-type]
            out.append("the result does not survive every execution lag")
        return out

    def _failed_costs(self) -> list[str]:
        paid, gone = self.paid_bp(), self.break_even()
        sweep = self.case("cost_bp").drop_nulls("sharpe")
        if paid is None or sweep.is_empty():
            return ["other costs were not tried"]
        if sweep["sharpe"][0] <= 0.0:
            return ["it earns nothing even without costs"]
        if gone is not None and gone < 2.0 * paid:
            return [f"it is gone at {gone:.0f} bp one way, less than twice the {paid:.0f} bp it pays"]
        if gone is None and sweep["level"][-1] < 2.0 * paid:
            return [f"costs of twice the {paid:.0f} bp it pays were not tried"]
        return []

    def capacity(self) -> str:
        rows = self._rows("capacity")
        if rows is None:
            return ""
        ladder = rows.sort("capital_usd")
        held = ladder["beyond_liquidity"] <= MAX_BEYOND_LIQUIDITY
        alive = (ladder["sharpe"].fill_null(0.0) > 0.0) & held
        if not alive[0]:
            return (
                "at the smallest capital tried its net Sharpe ratio is not positive"
                if held[0]
                else "at the smallest capital tried it is already beyond its liquidity limit"
            )
        # The curve need not be monotone: beyond the first capital at which it fails, a later success is another book.
        rungs = int(alive.cum_min().sum())
        top = ladder["capital_usd"][rungs - 1]
        if rungs == ladder.height:
            return f"its net Sharpe ratio is positive up to a capital of at least {_dollars(top)}"
        why = "" if held[rungs] else " (beyond it, its liquidity limit does not hold)"
        return f"its net Sharpe ratio is positive up to a capital of {_dollars(top)}{why}"

    def sentence(self, level: str, failed: list[str], capped: list[str], caveats: Caveats) -> str:
        sharpe, low, high = self.interval()
        assert sharpe is not None
        assert low is not None
        assert high is not None
        confidence = self._settings.evaluation.confidence
        name = _NAMES[self._account]
        head = {
            SUPPORTED: f"Supported: {name} earned",
            SUGGESTIVE: f"Suggestive, not established: {name} earned",
            NOT_SHOWN: f"Not shown: {name} earned",
            HARMFUL: f"Harmful: {name} lost money, with",
        }[level]
        figures = (
            f"a net Sharpe ratio of {_signed(sharpe)} ({confidence:.0%} interval {_signed(low)} to {_signed(high)}) "
            f"over {self.days} days{_lake(caveats)}, after costs"
        )
        paid, gone = self.paid_bp(), self.break_even()
        costs = "" if paid is None else f" of about {paid:.0f} bp one way"
        if gone is not None:
            lost = paid is not None and gone < paid
            costs += f" (break-even at {gone:.0f} bp one way)" if lost else f" (gone at {gone:.0f} bp)"
        trials, dsr = self.measure("n_trials")["value"], self.measure("dsr")["value"]
        luck = ""
        if trials is not None and dsr is not None:
            luck = (
                f"; {trials:.0f} configurations were tried, and the probability that its true Sharpe ratio is above "
                f"what the best of so many shows by luck is {_probability(dsr)}"
            )
        capacity = self.capacity()
        parts = [head + " " + figures + costs + luck]
        parts += [capacity] if capacity and level != HARMFUL else []
        parts += failed[:2] if level == SUGGESTIVE else []
        parts += capped
        return "; ".join(parts) + "."

    def change(self, level: str, failed: list[str], capped: list[str]) -> str:
        sharpe, _, _ = self.interval()
        track = self.measure("min_trl_years")["value"]
        if level == HARMFUL:
            return "Only a different rule; more of the same data would have to reverse the sign of what was seen."
        if level == SUPPORTED:
            return (
                "A fall of the net Sharpe ratio's interval to zero on new days, costs of more than twice those "
                "assumed, or further trials that bring the deflated Sharpe probability below "
                f"{self._settings.evaluation.confidence:g}."
            )
        if level == SUGGESTIVE:
            return "It would be supported if these no longer held: " + "; ".join([*failed, *capped]) + "."
        if sharpe is not None and sharpe > 0.0 and track is not None:
            return (
                f"About {track:.1f} years of returns like these in all (one look, no other trials) would put the net "
                f"Sharpe ratio above zero; {self.days / 365:.1f} years are there."
            )
        return "Evidence of another kind: a Sharpe ratio that is not positive becomes no better with more of the same."


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _probability(value: float) -> str:
    """Two decimals, and never a certainty that the estimate cannot have."""
    if value < 0.01:
        return "below 0.01"
    return "above 0.99" if value > 0.99 else f"{value:.2f}"


def _dollars(value: float) -> str:
    for size, unit in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {unit} USD"
    return f"{value:g} USD"
