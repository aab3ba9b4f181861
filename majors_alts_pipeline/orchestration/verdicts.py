"""Does today look right? Pure judgements on stored tables, in words a person understands. No Dagster here.

Every judgement takes the rows of a few tables and the settings, and returns a `Verdict`. The rules that need
no threshold of their own take it from what the table's contract promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from majors_alts_pipeline.backtest.voltarget import STALE
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.evidence.redflags import RULES as EVIDENCE_RULES
from majors_alts_pipeline.regime.interface import LABELS_STAY

IDENTITY_TOLERANCE = 1e-10
"""Fraction of NAV by which the ledger's identities may miss (design, The ledger)."""

# The solver's own tolerance on top of the configured one, in units of beta.
_SOLVER_SLACK = 1e-6
_CONCENTRATION = 0.9
_MIN_DAYS = 90
_MAX_RETURN_PER_GROSS = 1.0

Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Verdict:
    """Outcome of one judgement.

    Attributes:
        passed: nothing wrong was found.
        words: one sentence: what was looked at, or what is wrong, where, and what to do.
        evidence: the offending rows, a few.
    """

    passed: bool
    words: str
    evidence: pl.DataFrame | None = None


@dataclass(frozen=True)
class Rule:
    """A judgement and what it needs.

    Attributes:
        name: name of the check.
        table: table it is about; read with `lookback` days before the window.
        description: what it guards against.
        judge: rows by table, settings -> verdict.
        lookback: days read before the window.
        blocks: a failure stops everything downstream.
        severity: ERROR, or WARN for what a person should know but nothing is wrong with.
    """

    name: str
    table: str
    description: str
    judge: Callable[[Frames, Settings], Verdict]
    lookback: int = 0
    blocks: bool = False
    severity: str = "ERROR"


def _found(rows: pl.DataFrame, good: str, bad: Callable[[dict], str]) -> Verdict:
    if rows.is_empty():
        return Verdict(True, good)
    return Verdict(False, bad(rows.row(0, named=True)), rows.head(20))


def ledger_identity(frames: Frames, settings: Settings) -> Verdict:
    """NAV = cash + positions, and the P&L explains the change of NAV, every day and account."""
    rows = frames["backtest"].filter(pl.col("identity_error") > IDENTITY_TOLERANCE)
    return _found(
        rows.sort("identity_error", descending=True).select("date", "account", "nav", "identity_error"),
        f"accounts balance to {IDENTITY_TOLERANCE:g} of NAV on every day",
        lambda row: (
            f"backtest: account {row['account']} on {row['date']} misses its identity by "
            f"{row['identity_error']:.3g} "
            "of NAV: its numbers cannot be trusted; report it as a bug of backtest/ledger.py"
        ),
    )


def flat_book(frames: Frames, settings: Settings) -> Verdict:
    """Demand that a book without positions, held through the day, earns and pays nothing."""
    columns = ("pnl_price", "pnl_funding", "cost_fees", "cost_slippage", "cost_impact", "cost_exit_haircut")
    flat = (pl.col("gross_exposure") == 0) & (pl.col("gross_exposure").shift(1).over("account") == 0)
    moved = pl.any_horizontal(pl.col(column) != 0 for column in columns)
    rows = frames["backtest"].sort("account", "date").filter(flat & moved)
    return _found(
        rows.select("date", "account", *columns),
        "no P&L on flat days",
        lambda row: (
            f"backtest: account {row['account']} is flat on {row['date']} and the day before, yet P&L or "
            "costs are "
            f"not zero (price {row['pnl_price']:g} USD): a position is missing from the books"
        ),
    )


def return_within_gross(frames: Frames, settings: Settings) -> Verdict:
    """Hold a day's loss against what was at risk: |return| stays below the day's gross exposure."""
    gross = pl.max_horizontal("gross_exposure", pl.col("gross_exposure").shift(1).over("account"))
    bound = _MAX_RETURN_PER_GROSS * gross
    rows = frames["backtest"].sort("account", "date").with_columns(bound.alias("bound"))
    rows = rows.filter(pl.col("ret_gross").abs() > pl.col("bound") + IDENTITY_TOLERANCE)
    return _found(
        rows.select("date", "account", "ret_gross", "gross_exposure", "bound"),
        "every return fits the exposure that earned it",
        lambda row: (
            f"backtest: account {row['account']} returned {row['ret_gross']:.1%} on {row['date']} with a "
            "gross exposure "
            f"of {row['gross_exposure']:.2f} NAV: look at the prices of that day in panel"
        ),
    )


def timing_matters(frames: Frames, settings: Settings) -> Verdict:
    """Compare a strategy that follows the label with the one that ignores it: they cannot be equal."""
    exposure = settings.regime.exposure
    rows = frames["backtest"].filter(pl.col("account").is_in(["regime", "always_on"]))
    wide = rows.pivot("account", index="date", values="nav").sort("date").drop_nulls()
    traded = rows.filter(pl.col("account") == "regime").select(
        pl.col("regime_traded").replace_strict(exposure, default=None, return_dtype=pl.Float64)
    )["regime_traded"]
    comparable = wide.height >= _MIN_DAYS and {"regime", "always_on"} <= set(wide.columns)
    if not comparable or traded.drop_nulls().n_unique() < 2:
        return Verdict(True, "too few days, or only one exposure was traded: nothing to compare")
    same = bool((wide["regime"] == wide["always_on"]).all())
    words = (
        "backtest: regime and always_on have the same NAV on every day although the label changed the "
        "exposure: "
        "the label is not used; look at backtest/accounts.py"
    )
    return Verdict(not same, words if same else "the label changes the account")


def concentration(frames: Frames, settings: Settings) -> Verdict:
    """Flag one asset that carries nearly all of the book's variance: the result is about that asset."""
    rows = frames["positions"].filter(pl.col("account") == "regime", pl.col("pnl_price") != 0)
    if rows["date"].n_unique() < _MIN_DAYS:
        return Verdict(True, f"fewer than {_MIN_DAYS} invested days: nothing to judge")
    # Mean square, not variance: an asset held for a few days only must not be blown up by its small sample.
    share = (
        rows.group_by("asset_id").agg(pl.col("pnl_price").pow(2).sum().alias("square"))
        .with_columns((pl.col("square") / pl.col("square").sum()).alias("share"))
        .sort("share", descending=True)
    )  # fmt: skip
    return _found(
        share.filter(pl.col("share") > _CONCENTRATION).select("asset_id", "share"),
        f"largest share of the price P&L's variation: {share['asset_id'][0]} {share['share'][0]:.0%}",
        lambda row: (
            f"positions: {row['asset_id']} carries {row['share']:.0%} of the regime account's price P&L "
            "variation: "
            "look at its prices in panel, or lower basket.alt_weight_max"
        ),
    )


def neutrality(frames: Frames, settings: Settings) -> Verdict:
    """Hold the optimiser's book against the neutrality it was asked for, unless the row says relaxed."""
    basket = settings.basket
    factors = {
        "dual_beta": ("neutrality_btc", "neutrality_eth"),
        "btc_beta": ("neutrality_btc",),
        "dollar": (),
    }
    limit = basket.beta_tolerance + _SOLVER_SLACK
    daily = frames["basket"].unique("date", keep="first", maintain_order=True)
    off = pl.any_horizontal(pl.lit(False), *(pl.col(name).abs() > limit for name in factors[basket.mode]))
    rows = daily.filter((pl.col("status") == "optimal") & off)
    relaxed = daily.filter(pl.col("status") == "relaxed").height
    return _found(
        rows.select("date", "mode", "status", "neutrality_btc", "neutrality_eth"),
        f"{daily.height} days within {basket.beta_tolerance:g} of neutral, {relaxed} of them with relaxed constraints",
        lambda row: (
            f"basket: {row['date']} is called optimal but its book beta is BTC {row['neutrality_btc']:.4f}, "
            f"ETH {row['neutrality_eth']:.4f}, beyond basket.beta_tolerance {basket.beta_tolerance:g}"
        ),
    )


def garch_in_force(frames: Frames, settings: Settings) -> Verdict:
    """Say when the newest volatility fit could not be used, so that an older one sizes the book."""
    stale = frames["backtest"].filter(pl.col("vol_model") == STALE).sort("date", "account")
    rows = stale.select("date", "account", "vol_forecast", "exposure_multiplier")
    return _found(
        rows,
        "every volatility fit that is in force is the newest",
        lambda row: (
            f"backtest: on {row['date']} the newest GARCH fit had not converged, or to no effect of shocks, and "
            "an older one sized the book; look at the returns of always_on before it, or set backtest.vol_forecast to "
            "ewma"
        ),
    )


def plausible_sharpe(frames: Frames, settings: Settings) -> Verdict:
    """Flag a Sharpe ratio that no daily strategy sustains: an error until proved otherwise."""
    limit = settings.evaluation.red_flag_sharpe
    newest = frames["kpis"].filter(pl.col("date") == pl.col("date").max(), pl.col("n_days") >= _MIN_DAYS)
    rows = newest.filter(pl.col("sharpe").abs() > limit).sort(pl.col("sharpe").abs(), descending=True)
    return _found(
        rows.select("date", "account", "sharpe", "sharpe_se", "n_days"),
        f"every |Sharpe| is below {limit:g}",
        lambda row: (
            f"kpis: account {row['account']} shows a Sharpe ratio of {row['sharpe']:.2f} on {row['date']}, "
            "beyond "
            f"{limit:g}: suspect look-ahead, a price error or missing costs before believing it"
        ),
    )


def drawdown_exists(frames: Frames, settings: Settings) -> Verdict:
    """Demand a drawdown of an account that takes risk for months, and none below -100 %."""
    newest = frames["kpis"].filter(pl.col("date") == pl.col("date").max())
    invested = (pl.col("n_invested_days") >= _MIN_DAYS) & (pl.col("volatility") > 0)
    rows = newest.filter((invested & (pl.col("max_drawdown") >= 0)) | (pl.col("max_drawdown") < -1))
    return _found(
        rows.select("date", "account", "max_drawdown", "volatility", "n_invested_days"),
        "drawdowns agree with the risk taken",
        lambda row: (
            f"kpis: account {row['account']} shows a maximum drawdown of {row['max_drawdown']:.1%} after "
            f"{row['n_invested_days']} invested days at {row['volatility']:.0%} volatility: one of them is "
            "wrong"
        ),
    )


def fits_converged(frames: Frames, settings: Settings) -> Verdict:
    """Name the refits that failed and left the last good model of their method in force."""
    chosen = frames["regime_model"].filter("chosen")
    rows = chosen.filter(~pl.col("converged"))
    return _found(
        rows.select("date", "method", "in_force", "note"),
        f"{chosen.height} refits of {chosen['method'].n_unique()} methods converged",
        lambda row: (
            f"regime_model: the refit of {row['method']} on {row['date']} failed ({row['note']}); "
            + (
                "the last good model stays in force"
                if row["in_force"] == "kept"
                else "there is no earlier model, so the method says BALANCED"
            )
        ),
    )


def states_in_order(frames: Frames, settings: Settings) -> Verdict:
    """Name the refits after which a state no longer means what its label says, compared with the other states."""
    rows = frames["regime_model"].filter("chosen", pl.col("note").str.ends_with(LABELS_STAY))
    return _found(
        rows.select("date", "method", "in_force", "note"),
        "every state ranks as its label says",
        lambda row: f"regime_model: {row['method']} on {row['date']}: {row['note']}; read its labels with that in mind",
    )


RULES: tuple[Rule, ...] = (
    Rule("neutrality", "basket", "Ex-ante book betas are within tolerance", neutrality),
    Rule(
        "fits_converged", "regime_model", "Every refit converged; otherwise the last good model stays in force",
        fits_converged, severity="WARN",
    ),
    Rule(
        "states_in_order", "regime_model", "States rank as their labels say: risk-on majors above balanced above alts",
        states_in_order, severity="WARN",
    ),
    Rule(
        "ledger_identity", "backtest", "NAV = cash + positions, and P&L explains NAV", ledger_identity,
        blocks=True,
    ),
    Rule("flat_book_earns_nothing", "backtest", "Red flag: P&L on flat days", flat_book, lookback=1),
    Rule(
        "return_within_gross", "backtest", "Red flag: return or drawdown inconsistent with gross",
        return_within_gross, lookback=1,
    ),
    Rule(
        "timing_matters", "backtest", "Red flag: a result that ignores its parameter (the regime label)",
        timing_matters, lookback=365,
    ),
    Rule("garch_in_force", "backtest", "The newest volatility fit is the one in force", garch_in_force),
    Rule(
        "concentration", "positions", "Red flag: one component above 90 % of variance", concentration,
        lookback=365,
    ),
    Rule("plausible_sharpe", "kpis", "Red flag: |Sharpe| above a plausible bound", plausible_sharpe),
    Rule("drawdown_exists", "kpis", "Red flag: drawdown inconsistent with the risk taken", drawdown_exists),
)  # fmt: skip

RED_FLAGS: dict[str, str] = {name: words for name, (words, _) in EVIDENCE_RULES.items()}
"""Name of each red flag of the evidence, and what it guards against."""


def red_flag(flags: pl.DataFrame, name: str) -> Verdict:
    """Judge one rule of the table `red_flags`: it fails when the rule fired for any subject."""
    rows = flags.filter(pl.col("flag") == name)
    fired = rows.filter("fired")
    if fired.height:
        return Verdict(False, fired["message"][0], fired)
    return Verdict(True, f"{rows.height} looked at, none fired" if rows.height else "nothing to look at")
