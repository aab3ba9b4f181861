"""The verdict is what the evidence says, and never more: one case per branch."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from test_redflags import evidence

from majors_alts_pipeline.config import load_settings
from majors_alts_pipeline.evidence.verdict import (
    HARMFUL,
    LEVELS,
    NOT_SHOWN,
    RED_FLAG,
    SUGGESTIVE,
    SUPPORTED,
    TOO_LITTLE,
    Caveats,
    Judgement,
    headline,
    judge,
)

SETTINGS = load_settings()
FULL = Caveats(survivors_only=False, assumed_funding=0.0, simulated=False)


def tables(
    *, sharpe: float = 1.6, low: float | None = 0.4, high: float | None = 2.8, dsr: float | None = 0.97,
    pbo: float | None = 0.2, days: int = 900, gone: float = 60.0, paid: float = 10.0, lag: float = 1.2,
    flag: str = "", drop: tuple[str, ...] = (), top: float = 1e8,
    again: float = 0.0, liquid: float = 1e10,
) -> dict[str, pl.DataFrame]:  # fmt: skip
    """Evidence of both accounts: costs paid and costs at which it is gone (bp), Sharpe ratio at two days of lag."""
    selection, robust, capacity = [], [], []
    measures = {"n_trials": 120.0, "dsr": dsr, "pbo": pbo, "min_trl_years": 4.0}
    for account in ("regime", "always_on"):
        selection += [{"account": account, "measure": name, "value": value} for name, value in measures.items()]
        selection.append({"account": account, "measure": "sharpe", "value": sharpe, "low": low, "high": high})
        for bp in (None, 0.0, 10.0, 20.0, 50.0, 100.0):
            net = sharpe if bp is None else (gone - bp) / 20.0
            cost = paid if bp is None else bp
            robust.append({"test": "cost_bp", "case": str(bp), "account": account, "level": bp, "sharpe": net,
                           "cost_annual": cost * 0.003, "n_days": days})  # fmt: skip
        for level, net in {0.0: sharpe, 1.0: sharpe, 2.0: lag}.items():
            robust.append({"test": "execution_lag", "case": str(level), "account": account, "level": level,
                           "sharpe": net, "n_days": days})  # fmt: skip
        capacity += [
            {
                "account": account,
                "capital_usd": size,
                "sharpe": 1.0 if size <= top or size == again else -0.2,
                "beyond_liquidity": float(size > liquid),
            }
            for size in (1e6, 1e8, 1e9)
        ]
    flags: list[dict[str, Any]] = [
        {"flag": "implausible_sharpe", "subject": "regime", "fired": bool(flag), "message": flag}
    ]
    every: dict[str, list[dict[str, Any]]] = {
        "selection": selection,
        "robustness": robust,
        "capacity": capacity,
        "red_flags": flags,
    }
    return {name: evidence(name, rows) for name, rows in every.items() if name not in drop}


def of(caveats: Caveats = FULL, **changes: Any) -> Judgement:
    return judge(tables(**changes), "regime", SETTINGS, caveats)


@pytest.mark.parametrize(
    ("level", "changes", "words"),
    [
        (SUPPORTED, {}, ("Supported: the regime-timed", "1.60", "120 configurations", "gone at 60 bp", "100 m USD")),
        (RED_FLAG, {"flag": "Sharpe 9 is beyond 4"}, ("Red flag", "Sharpe 9 is beyond 4")),
        (TOO_LITTLE, {"days": 100}, ("Too little data: 100 days",)),
        (TOO_LITTLE, {"low": None, "high": None}, ("Too little data",)),
        (TOO_LITTLE, {"drop": ("selection",)}, ("Too little data",)),
        (TOO_LITTLE, {"drop": ("robustness",)}, ("Too little data: 0 days",)),
        (HARMFUL, {"sharpe": -2.0, "low": -3.0, "high": -0.5}, ("Harmful: the regime-timed book lost", "2.00")),
        (NOT_SHOWN, {"sharpe": 0.3, "low": -1.0, "high": 1.6}, ("Not shown", "\N{MINUS SIGN}1.00 to 1.60")),
        (NOT_SHOWN, {"sharpe": -0.3, "low": -1.6, "high": 1.0}, ("Not shown",)),
        (NOT_SHOWN, {"sharpe": -0.2, "low": -1.6, "gone": 7.0}, ("about 10 bp one way (break-even at 7 bp one way)",)),
        (NOT_SHOWN, {"low": -1.0, "dsr": 0.001}, ("by luck is below 0.01",)),
        (SUPPORTED, {"dsr": 0.9999}, ("by luck is above 0.99",)),
        (SUGGESTIVE, {"dsr": 0.001}, ("probability, below 0.01, is under 0.95",)),
        (SUGGESTIVE, {"dsr": 0.6}, ("Suggestive, not established", "0.60", "after 120 trials")),
        (SUGGESTIVE, {"dsr": None}, ("what was tried before is not accounted for",)),
        (SUGGESTIVE, {"pbo": 0.7}, ("70% of splits",)),
        (SUGGESTIVE, {"pbo": None}, ("overfitting could not be measured",)),
        (SUGGESTIVE, {"gone": 15.0}, ("gone at 15 bp one way, less than twice the 10 bp",)),
        (SUGGESTIVE, {"gone": -5.0}, ("nothing even without costs",)),
        (SUGGESTIVE, {"lag": -0.1}, ("does not survive every execution lag",)),
        (SUGGESTIVE, {"gone": 1e9, "paid": 80.0}, ("costs of twice the 80 bp it pays were not tried",)),
    ],
)  # fmt: skip
def test_each_branch(level: str, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    found = of(**changes)
    assert found.level == level
    assert all(part in found.sentence for part in words), found.sentence
    assert found.sentence.endswith(".")
    assert found.change.endswith(".")
    assert "None" not in found.sentence + found.change


@pytest.mark.parametrize(
    ("caveats", "words"),
    [
        (Caveats(True, 0.0, False), "survivors only"),
        (Caveats(False, 0.6, False), "60% of the funding is an assumed rate"),
        (Caveats(False, 0.0, False, 2), "2 files of the study registry are gone, so more was tried than is counted"),
    ],
)
def test_what_the_lake_cannot_know_caps_the_answer_and_is_said(caveats: Caveats, words: str) -> None:
    found = of(caveats)
    assert found.level == SUGGESTIVE
    assert words in found.sentence
    assert words in found.change
    assert words in of(caveats, sharpe=0.3, low=-1.0).sentence, "said whatever the answer"


def test_simulated_data_are_named() -> None:
    assert "on SIMULATED data" in of(Caveats(False, 0.0, True)).sentence
    assert "on SIMULATED data" in of(Caveats(False, 0.0, True), days=20).sentence


def test_less_evidence_never_gives_a_stronger_answer() -> None:
    full = LEVELS.index(of().level)
    for name in ("selection", "robustness", "capacity"):
        assert LEVELS.index(of(drop=(name,)).level) <= full, name
    weaker: list[dict[str, Any]] = [
        {"dsr": None}, {"pbo": None}, {"days": 10}, {"low": None}, {"low": -0.1}, {"lag": -1.0}, {"gone": 12.0},
    ]  # fmt: skip
    for change in weaker:
        assert LEVELS.index(of(**change).level) < full, change


def test_what_would_change_a_positive_but_unshown_result_is_a_length() -> None:
    assert of(sharpe=0.3, low=-1.0).change.startswith("About 4.0 years")
    assert "not positive" in of(sharpe=-0.3, low=-1.6, high=1.0).change


def test_the_headline_judges_both_books_and_is_silent_without_evidence() -> None:
    found = headline(tables(sharpe=0.3, low=-1.0), SETTINGS, FULL)
    assert found is not None
    assert found[0].startswith("Not shown: the regime-timed book")
    assert "The same book always on: not shown, net Sharpe ratio 0.30" in found[0]
    assert headline({}, SETTINGS, FULL) is None
    assert headline(tables(drop=("robustness",)), SETTINGS, FULL) is None


def test_capacity_ends_at_the_first_capital_that_fails_and_where_the_limit_is_given_up() -> None:
    assert of().sentence.endswith("positive up to a capital of 100 m USD.")
    assert of(top=1e6, again=1e9).sentence.endswith("a capital of 1 m USD."), "a later success is another book"
    assert of(liquid=1e6).sentence.endswith("a capital of 1 m USD (beyond it, its liquidity limit does not hold).")
    assert "already beyond its liquidity limit" in of(liquid=1e5).sentence
    assert "at the smallest capital tried its net Sharpe ratio is not positive" in of(top=1e5).sentence
    assert "at least 1 bn USD" in of(top=1e9).sentence
