"""Red flags: signs that a number is wrong rather than good (design.md, truth machines 6).

Every rule gives one row per thing it looked at, fired or not, with what was measured, the bound and words for a
person. A rule that has nothing to look at gives no row. Pure: frames in, frame out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evaluation.contracts import RED_FLAGS
from majors_alts_pipeline.evaluation.inference import DAYS_PER_YEAR, sharpe_ratio
from majors_alts_pipeline.evaluation.selection import expected_max_sharpe
from majors_alts_pipeline.evaluation.stage import evaluation_start

TIMED, ALWAYS = "regime", "always_on"
MIN_DAYS = 90
CONCENTRATION = 0.9
MIN_P_VALUES = 8
IS_OOS_SIGMAS = 3.0

_SAME = 1e-9
_FLAT_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Flag:
    """One row of the contract `red_flags` but for the rule's name."""

    subject: str
    fired: bool
    value: float | None
    bound: float | None
    message: str


@dataclass(frozen=True)
class Facts:
    """What the rules look at.

    Attributes:
        backtest: contract `backtest`, all days.
        positions: contract `positions`, all days.
        evidence: evidence tables by name, as far as they were computed.
        settings: resolved settings.
    """

    backtest: pl.DataFrame
    positions: pl.DataFrame
    evidence: Mapping[str, pl.DataFrame]
    settings: Settings

    def table(self, name: str) -> pl.DataFrame | None:
        """Evidence table of that name with rows, or None."""
        frame = self.evidence.get(name)
        return frame if frame is not None and frame.height else None


Rule = Callable[[Facts], Iterator[Flag]]


def _accounts(facts: Facts) -> Iterator[tuple[str, pl.DataFrame]]:
    start = evaluation_start(facts.backtest)
    if start is None:
        return
    judged = facts.backtest.filter(pl.col("date") >= start).sort("account", "date")
    for (name,), days in judged.group_by("account", maintain_order=True):
        yield str(name), days


def implausible_sharpe(facts: Facts) -> Iterator[Flag]:
    """|Sharpe| that no daily strategy sustains."""
    bound = facts.settings.evaluation.red_flag_sharpe
    for account, days in _accounts(facts):
        sharpe = sharpe_ratio(days["ret_net"].to_numpy())
        if days.height < MIN_DAYS or np.isnan(sharpe):
            continue
        fired = abs(sharpe) > bound
        words = (
            f"{account}: a net Sharpe ratio of {sharpe:.2f} over {days.height} days is beyond {bound:g}: suspect "
            "look-ahead, a price error or missing costs before believing it"
            if fired
            else f"{account}: net Sharpe ratio {sharpe:.2f}"
        )
        yield Flag(account, fired, sharpe, bound, words)


def flat_day_pnl(facts: Facts) -> Iterator[Flag]:
    """P&L without a position."""
    moved = (
        pl.col("pnl_price").abs() + pl.col("pnl_funding").abs() + pl.col("cost_fees") + pl.col("cost_slippage")
        + pl.col("cost_impact") + pl.col("cost_exit_haircut")
    )  # fmt: skip
    flat = (pl.col("gross_exposure") == 0) & (pl.col("gross_exposure").shift(1) == 0)
    for account, days in _accounts(facts):
        idle = days.filter(flat & ((pl.col("n_positions") == 0) & (pl.col("n_positions").shift(1) == 0)))
        worst = float(np.max(idle.select(moved / pl.col("nav")).to_series().to_numpy(), initial=0.0))
        fired = worst > _FLAT_TOLERANCE
        words = (
            f"{account}: earned or paid up to {worst:.2%} of NAV on a day without a position: a position is missing "
            "from the books"
            if fired
            else f"{account}: nothing earned or paid on {idle.height} flat days"
        )
        yield Flag(account, fired, worst, _FLAT_TOLERANCE, words)


def concentration(facts: Facts) -> Iterator[Flag]:
    """One asset carries nearly all of the variation of an account."""
    for (account,), rows in facts.positions.group_by("account", maintain_order=True):
        held = rows.filter(pl.col("pnl_price") != 0)
        if held["date"].n_unique() < MIN_DAYS:
            continue
        squares = held.group_by("asset_id").agg(pl.col("pnl_price").pow(2).sum()).sort(
            ["pnl_price", "asset_id"], descending=[True, False]
        )  # fmt: skip
        share = float(squares["pnl_price"][0] / squares["pnl_price"].sum())
        name, fired = squares["asset_id"][0], share > CONCENTRATION
        words = f"{account}: {name} carries {share:.0%} of the variation of price P&L"
        if fired:
            words += ": the result is about that asset; look at its prices in panel, or lower basket.alt_weight_max"
        yield Flag(str(account), fired, share, CONCENTRATION, words)


def _robust(facts: Facts, test: str, account: str) -> pl.DataFrame:
    frame = facts.table("robustness")
    if frame is None:
        return pl.DataFrame(schema={"level": pl.Float64, "sharpe": pl.Float64, "cost_annual": pl.Float64})
    return frame.filter(
        pl.col("test") == test, pl.col("account") == account, pl.col("level").is_not_null(), pl.col("n_days") > 0
    ).sort("level")


def costs_ignored(facts: Facts) -> Iterator[Flag]:
    """Net Sharpe that does not fall when costs rise."""
    for account in (TIMED, ALWAYS):
        rows = _robust(facts, "cost_bp", account).drop_nulls("sharpe")
        if rows.height < 2:
            continue
        first, last = rows.row(0, named=True), rows.row(-1, named=True)
        change = last["sharpe"] - first["sharpe"]
        fired = change > -_SAME
        words = f"{account}: from {first['level']:g} to {last['level']:g} bp of cost the net Sharpe moves {change:+.2f}"
        if fired:
            words += ", though it must fall: costs are not charged; look at backtest/costs.py and the sweep"
        yield Flag(account, fired, change, 0.0, words)


def lag_ignored(facts: Facts) -> Iterator[Flag]:
    """The same result whatever the execution lag."""
    for account in (TIMED, ALWAYS):
        rows = _robust(facts, "execution_lag", account).drop_nulls("sharpe")
        if rows.height < 2:
            continue
        spread = float(np.ptp(rows["sharpe"].to_numpy()))
        fired = spread < _SAME
        words = f"{account}: net Sharpe differs by {spread:.2f} between execution lags"
        if fired:
            words += ": backtest.execution_lag_days is not used"
        yield Flag(account, fired, spread, _SAME, words)


def same_day_edge(facts: Facts) -> Iterator[Flag]:
    """A result that lives of the close it was decided on: execution without delay beats the next close by far."""
    for account in (TIMED, ALWAYS):
        sharpe = dict(
            _robust(facts, "execution_lag", account).drop_nulls("sharpe").select("level", "sharpe").iter_rows()
        )
        if not {0.0, 1.0} <= set(sharpe):
            continue
        lost, bound = sharpe[0.0] - sharpe[1.0], facts.settings.evaluation.red_flag_sharpe / 2.0
        fired = lost > bound
        words = f"{account}: a close of delay changes the net Sharpe from {sharpe[0.0]:.2f} to {sharpe[1.0]:.2f}"
        if fired:
            words += ": what is earned lies within the bar of the decision; suspect look-ahead in a feature"
        yield Flag(account, fired, lost, bound, words)


def noise_sensitive(facts: Facts) -> Iterator[Flag]:
    """Price noise of the size of a vendor's difference turns the sign of a clear result."""
    frame = facts.table("robustness")
    if frame is None:
        return
    for account in (TIMED, ALWAYS):
        rows = frame.filter(pl.col("test") == "price_noise", pl.col("account") == account).drop_nulls("sharpe")
        own = rows.filter(pl.col("level").is_null())["sharpe"]
        drawn = rows.filter(pl.col("level").is_not_null())["sharpe"]
        if not own.len() or not drawn.len():
            continue
        moved = float(np.max(np.abs(drawn.to_numpy() - own[0])))
        fired = abs(own[0]) > 1.0 and bool((drawn * own[0] < 0).any())
        words = f"{account}: price noise moves the net Sharpe of {own[0]:.2f} by up to {moved:.2f}"
        if fired:
            words += " and turns its sign: the result rests on differences smaller than those between vendors"
        yield Flag(account, fired, moved, abs(own[0]), words)


def drawdown_against_gross(facts: Facts) -> Iterator[Flag]:
    """A day's loss larger than what was held, or no drawdown in spite of months of risk."""
    gross = pl.max_horizontal("gross_exposure", pl.col("gross_exposure").shift(1).fill_null(0.0))
    for account, days in _accounts(facts):
        excess = float(days.select((pl.col("ret_gross").abs() - gross).max()).item())
        nav = days["nav"].to_numpy()
        invested = int((days["n_positions"] > 0).sum())
        deepest = float((nav / np.maximum.accumulate(nav) - 1.0).min())
        calm = invested >= MIN_DAYS and deepest >= 0.0 and float(np.std(days["ret_net"].to_numpy())) > 0.0
        fired = excess > _SAME or deepest < -1.0 or calm
        words = f"{account}: deepest drawdown {deepest:.1%}, returns within the gross exposure that earned them"
        if fired:
            words = (
                f"{account}: a return exceeds the day's gross exposure by {max(excess, 0.0):.1%}, or the deepest "
                f"drawdown of {deepest:.1%} after {invested} invested days cannot be: look at the panel's prices of "
                "that day and at the ledger"
            )
        yield Flag(account, fired, excess, 0.0, words)


def constant_p_values(facts: Facts) -> Iterator[Flag]:
    """p-values that are all the same: the test does not look at the data."""
    edges = facts.table("edge_by_horizon")
    if edges is None:
        return
    for (method,), rows in edges.drop_nulls("p_value").group_by("method", maintain_order=True):
        values = rows["p_value"].to_numpy()
        if len(values) < MIN_P_VALUES:
            continue
        spread = float(np.ptp(values))
        fired = spread < _SAME
        words = f"{method}: p-values of {len(values)} labels and horizons span {values.min():.3f} to {values.max():.3f}"
        if fired:
            words += ": the permutation does not look at the returns"
        yield Flag(str(method), fired, spread, _SAME, words)


def timing_ignored(facts: Facts) -> Iterator[Flag]:
    """The timed account equals the one that ignores the label, though the label changed the exposure."""
    start = evaluation_start(facts.backtest)
    if start is None:
        return
    rows = facts.backtest.filter(pl.col("account").is_in([TIMED, ALWAYS]), pl.col("date") >= start)
    wide = rows.pivot("account", index="date", values="ret_net").drop_nulls()
    timed = rows.filter(pl.col("account") == TIMED)
    share = timed["regime_traded"].replace_strict(
        facts.settings.regime.exposure, default=None, return_dtype=pl.Float64
    )  # fmt: skip
    if {TIMED, ALWAYS} - set(wide.columns) or wide.height < MIN_DAYS or share.drop_nulls().n_unique() < 2:
        return
    gap = float((wide[TIMED] - wide[ALWAYS]).abs().max())  # type: ignore[arg-type]
    fired = gap < _FLAT_TOLERANCE
    words = (
        "regime and always_on return the same every day although the label changed the exposure: the label is not used"
        if fired
        else f"the label changes the account by up to {gap:.2%} a day"
    )
    yield Flag(TIMED, fired, gap, _FLAT_TOLERANCE, words)


def in_sample_only(facts: Facts) -> Iterator[Flag]:
    """In-sample Sharpe ratios far above the out-of-sample ones of the same folds."""
    folds = facts.table("folds")
    if folds is None:
        return
    selection = facts.table("selection")
    trials = 1.0
    if selection is not None:
        counted = selection.filter(pl.col("measure") == "n_effective_trials", pl.col("account") == TIMED)["value"]
        trials = max(float(counted[0] or 1.0), 1.0) if counted.len() else 1.0
    for (scheme,), rows in folds.drop_nulls(["is_sharpe", "oos_sharpe"]).group_by("scheme", maintain_order=True):
        if rows.height < 2:
            continue
        drop = float(np.mean(rows["is_sharpe"].to_numpy() - rows["oos_sharpe"].to_numpy()))
        tested = rows["n_test"].to_numpy()
        # Paths test the same days again; folds test new ones.
        days = tested.sum() if scheme == "walk_forward" else tested.max()
        luck = expected_max_sharpe(trials, np.sqrt(DAYS_PER_YEAR / max(float(rows["n_train"].to_numpy().mean()), 1.0)))
        bound = luck + IS_OOS_SIGMAS * float(np.sqrt(DAYS_PER_YEAR / max(days, 1)))
        fired = drop > bound
        words = (
            f"{scheme}: the choice loses {drop:.2f} of Sharpe out of sample; choosing the best of {trials:.0f} "
            f"independent trials by luck alone loses about {luck:.2f}"
        )
        if fired:
            words += ": in-sample numbers hold something the future does not; suspect look-ahead in the choice"
        yield Flag(str(scheme), fired, drop, bound, words)


def variants_identical(facts: Facts) -> Iterator[Flag]:
    """A sweep in which a setting changes nothing."""
    sweep = facts.table("sweep")
    if sweep is None or sweep.height < 2:
        return
    distinct = sweep.select("sharpe", "turnover_annual", "max_drawdown").n_unique()
    fired = distinct == 1
    words = f"{distinct} different results among {sweep.height} variants"
    if fired:
        words += ": no swept setting reaches the account"
    yield Flag("sweep", fired, float(distinct), 1.0, words)


RULES: dict[str, tuple[str, Rule]] = {
    "implausible_sharpe": ("|Sharpe| above a plausible bound", implausible_sharpe),
    "flat_day_pnl": ("P&L on flat days", flat_day_pnl),
    "concentration": ("One component above 90 % of variance", concentration),
    "costs_ignored": ("A metric that ignores a parameter: costs", costs_ignored),
    "lag_ignored": ("A metric that ignores a parameter: execution lag", lag_ignored),
    "variants_identical": ("A metric that ignores a parameter: every swept setting", variants_identical),
    "timing_ignored": ("The timed account equals the one always on", timing_ignored),
    "same_day_edge": ("An edge that one close of delay destroys", same_day_edge),
    "noise_sensitive": ("A clear result that vendor noise turns round", noise_sensitive),
    "drawdown_against_gross": ("Drawdown or return inconsistent with gross exposure", drawdown_against_gross),
    "constant_p_values": ("p-values that do not vary", constant_p_values),
    "in_sample_only": ("In sample far above out of sample", in_sample_only),
}
"""Name of each rule, what it guards against, and the rule."""


def red_flags(facts: Facts) -> pl.DataFrame:
    """Apply every rule; rows of the contract `red_flags`, sorted by flag and subject."""
    rows = [
        {"flag": name, **vars(flag), "value": _finite(flag.value), "bound": _finite(flag.bound)}
        for name, (_, rule) in RULES.items()
        for flag in rule(facts)
    ]
    return RED_FLAGS.conform(pl.DataFrame(rows, schema=RED_FLAGS.schema).sort("flag", "subject"))


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
