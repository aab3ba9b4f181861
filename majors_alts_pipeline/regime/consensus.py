"""Method `consensus`: the label probabilities of the other methods, weighted by how well they forecast the book.

Each method's probability that the book gains (`forecasts.book_up`) is scored when the outcome is known: skill of
decision s = ln p_s(outcome) - ln b_s(outcome), b the base rate. With L = 2^(-1 / half-life) and h the label horizon,

    S_t = sum over s <= t - lag - h of L^(t - lag - h - s) skill_s,     weight_t ~ exp(learning rate x S_t / h)

Exponential weights on the log score (Vovk 1990) with forgetting; at learning rate 1 and without forgetting they are
the posterior odds of the methods. Overlapping outcomes are worth 1 / h each. Without evidence weights are equal. A
method that does not speak on a day has no weight on it and skill 0.

Disagreement is the weighted Jensen-Shannon divergence (Lin 1991) of the label probabilities over ln 3: 0 when all say
the same, 1 when three methods of equal weight are certain of three labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl
from scipy.signal import lfilter
from scipy.special import xlogy

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.regime.forecasts import base_rate, book_up, label_probabilities, went_up
from majors_alts_pipeline.regime.frames import Origin, regime_rows
from majors_alts_pipeline.regime.hysteresis import SIDES
from majors_alts_pipeline.regime.interface import LABELS, History, Labelled
from majors_alts_pipeline.tables import REGIME_MODEL, REGIME_WEIGHTS


def skills(chance: np.ndarray, base: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(days,) ln of the probability given to what came, less the base rate's, nats; 0 where nothing came."""
    gain = np.log(np.where(up == 1.0, chance, 1.0 - chance)) - np.log(np.where(up == 1.0, base, 1.0 - base))
    return np.where(np.isnan(up), 0.0, gain)


def discounted(values: np.ndarray, ahead: int, half_life: float) -> np.ndarray:
    """(days,) sum over decisions s <= t - ahead of 2^(-(t - ahead - s) / half_life) values_s."""
    out = np.zeros(len(values))
    filtered = lfilter([1.0], [1.0, -(2.0 ** (-1.0 / half_life))], values)
    out[ahead:] = filtered[: max(len(values) - ahead, 0)]
    return out


def weights(evidence: list[np.ndarray], spoke: list[np.ndarray], rate: float) -> list[np.ndarray]:
    """Exponential weights of the methods that speak, (days,) each; all 0 on a day on which none does.

    Args:
        evidence: (days,) discounted skill of each method, nats.
        spoke: (days,) bool of each method.
        rate: learning rate per nat.
    """
    exponent = [np.where(there, rate * skill, -np.inf) for skill, there in zip(evidence, spoke, strict=True)]
    top = np.maximum.reduce(exponent)
    raw = [np.exp(value - np.where(np.isneginf(top), 0.0, top)) for value in exponent]
    whole = _total(raw)
    return [np.divide(value, whole, out=np.zeros_like(whole), where=whole > 0.0) for value in raw]


def disagreement(three: list[np.ndarray], weight: list[np.ndarray]) -> np.ndarray:
    """(days,) weighted Jensen-Shannon divergence of (days, 3) probabilities over ln 3, in [0, 1]."""
    mixed = _total([w[:, None] * p for w, p in zip(weight, three, strict=True)])
    inside = _total([w * _entropy(p) for w, p in zip(weight, three, strict=True)])
    return np.clip((_entropy(mixed) - inside) / np.log(len(SIDES)), 0.0, 1.0)


def _entropy(three: np.ndarray) -> np.ndarray:
    terms = -xlogy(three, three)
    return terms[:, 0] + terms[:, 1] + terms[:, 2]


def _total(parts: list[np.ndarray]) -> np.ndarray:
    """Sum in the order given, which callers fix: a day's rounding depends on nothing else."""
    return sum(parts[1:], parts[0].copy())


class Consensus:
    """The weighted opinion of the other methods behind the regime interface."""

    name = "consensus"
    needs_others = True

    def refit_dates(self, window: Window, settings: Settings) -> list[date]:
        """First day only: weights move every day, nothing is fitted."""
        return [window.start]

    def fit(
        self, history: History, refit_dates: list[date], previous: pl.DataFrame, settings: Settings
    ) -> pl.DataFrame:
        """One empty model on the first day; see `RegimeMethod`."""
        rows = [
            {
                "date": day, "method": self.name, "candidate": 0, "params": "{}", "objective": None, "n_obs": 0,
                "train_end": None, "score_change_sd": None, "chosen": True, "in_force": "default", "converged": True,
                "note": "nothing is fitted: weights follow the scores known each day",
            }
            for day in refit_dates
        ]  # fmt: skip
        return REGIME_MODEL.conform(pl.DataFrame(rows, schema=REGIME_MODEL.schema))

    def label(
        self, history: History, models: pl.DataFrame, window: Window, others: Mapping[str, Labelled], settings: Settings
    ) -> Labelled:
        """Weigh the others from inception; see `RegimeMethod`. `in_force` is default until an outcome is known."""
        own = settings.regime.consensus
        horizon = settings.regime.label_horizon_days
        ahead = horizon + settings.backtest.execution_lag_days
        span = history.window
        names = sorted(others)
        up = went_up(history.forward_return)
        base = base_rate(up, ahead)
        said, spoke, chance, evidence, skill = [], [], [], [], []
        count = discounted((~np.isnan(up)).astype(np.float64), ahead, own.half_life_days)
        for name in names:
            three, there = label_probabilities(others[name].regime, span)
            forecast = book_up(three, there, up, horizon=horizon, ahead=ahead, prior_strength=own.prior_strength)
            known = discounted(skills(forecast, base, up), ahead, own.half_life_days)
            said.append(three)
            spoke.append(there)
            chance.append(forecast)
            evidence.append(known / horizon)
            skill.append(np.divide(known, count, out=np.zeros_like(known), where=count > 0.0))
        weight = weights(evidence, spoke, own.learning_rate)
        mixed = _total([w[:, None] * p for w, p in zip(weight, said, strict=True)])
        n_methods = np.sum(spoke, axis=0)
        origin = Origin.of(models, span)
        learned = ["walk_forward" if judged else "default" for judged in count > 0.0]
        regime = regime_rows(
            self.name, span, mixed, n_methods > 0, Origin(origin.asof, learned, origin.candidate), n_methods, settings,
            disagreement=np.where(n_methods > 0, disagreement(said, weight), np.nan),
        )  # fmt: skip
        tidy = pl.concat(
            pl.DataFrame({
                "date": np.array(span.days(), dtype="datetime64[D]")[n_methods > 0],
                "horizon_days": pl.Series([0] * int((n_methods > 0).sum()), dtype=pl.Int32),
                "state": LABELS[side],
                "probability": mixed[n_methods > 0, place],
            })
            for place, side in enumerate(SIDES)
        )  # fmt: skip
        weighed = pl.concat(
            pl.DataFrame({
                "date": span.days(), "method": name, "weight": w, "skill": s, "p_book_up": p,
            })
            for name, w, s, p in zip(names, weight, skill, chance, strict=True)
        )  # fmt: skip
        return Labelled(window.keep(regime), window.keep(tidy), REGIME_WEIGHTS.conform(window.keep(weighed)))


METHOD = Consensus()
