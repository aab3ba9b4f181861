"""The stages as data: what each reads, how far it looks back, which settings it depends on, what computes it.

This is the pure half of the orchestration: Dagster builds its assets and partition mappings from `STAGES`,
`majors_alts_pipeline.chain` runs the same functions in memory. A stage function has the signature::

    compute(inputs: Mapping[str, pl.DataFrame], window: Window, settings: Settings) -> dict[str, pl.DataFrame]

`inputs[name]` holds the rows of that table from `window.start - lookback` (or from the beginning, for
`INCEPTION`) to `window.end - lag`. The result holds one frame per table of the stage with the rows of `window`
only. The first stage reads the lake instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from majors_alts_pipeline.config import Settings

INCEPTION = -1
"""Look-back meaning: every day from the first day of the lake."""

Lookback = int | Callable[[Settings], int]


def _days(lookback: Lookback, settings: Settings) -> int:
    return lookback if isinstance(lookback, int) else lookback(settings)


@dataclass(frozen=True)
class Input:
    """A table a stage reads.

    Attributes:
        table: name of the table.
        lookback: days before the window that are needed, or `INCEPTION`; may depend on the settings.
        lag: 0 when the window's own days are read, 1 for the stage's own previous day.
        columns: the columns the stage is given; None for all. Big tables are read by column, so that a stage
            does not pay for facts it never looks at.
    """

    table: str
    lookback: Lookback
    lag: int = 0
    columns: tuple[str, ...] | None = None

    def days(self, settings: Settings) -> int:
        """Look-back in days, or `INCEPTION`."""
        return _days(self.lookback, settings)


@dataclass(frozen=True)
class Stage:
    """One step of the chain.

    Attributes:
        name: name of the stage and of its first table.
        tables: tables it writes.
        inputs: tables it reads, empty for the panel.
        sections: settings sections it reads itself (those of its ancestors are added by `all_sections`).
        function: ``module:function``, imported only when the stage runs.
        title: one line for people.
        lake_lookback: days of the lake before the window that are read, for a stage without inputs.
    """

    name: str
    tables: tuple[str, ...]
    inputs: tuple[Input, ...]
    sections: tuple[str, ...]
    function: str
    title: str
    group: str = field(default="core")
    lake_lookback: Lookback = 0

    @property
    def carries_state(self) -> bool:
        """Whether a day needs the stage's own previous day."""
        return any(item.table in self.tables for item in self.inputs)

    def reach(self, settings: Settings) -> int:
        """Days before a window that are read, or `INCEPTION`."""
        days = [_days(self.lake_lookback, settings), *(item.days(settings) for item in self.inputs)]
        return INCEPTION if INCEPTION in days else max(days)

    def compute(self, *args: Any) -> dict[str, Any]:
        """Run the stage's function."""
        module, name = self.function.split(":")
        return getattr(import_module(module), name)(*args)


def _panel_lookback(settings: Settings) -> int:
    return max(settings.lake.price_carry_days, settings.lake.marketcap_max_age_days)


def _beta_lookback(settings: Settings) -> int:
    return 2 * settings.betas.window_days + 1


_TRACKER_LOOKBACK = 32
"""From the first day of a month back to the eve of the first of the month before."""


def _tracker_beta_lookback(settings: Settings) -> int:
    return settings.betas.window_days - 1


def _universe_lookback(settings: Settings) -> int:
    return max(settings.universe.adv_window_days, settings.universe.detector_window_days) + 1


def _feature_lookback(settings: Settings) -> int:
    return settings.features.z_window_days + 60


def _outcome_lookback(settings: Settings) -> int:
    return settings.backtest.execution_lag_days + settings.regime.label_horizon_days


STAGES: tuple[Stage, ...] = (
    Stage(
        "panel",
        ("panel",),
        (),
        ("lake", "quality"),
        "majors_alts_pipeline.lake.panel:compute",
        "Read-only lake load: normalised, quality-flagged daily facts",
        lake_lookback=_panel_lookback,
    ),
    Stage(
        "universe",
        ("universe",),
        (
            Input("panel", _universe_lookback, columns=(
                "date", "asset_id", "close", "ret", "price_age_days", "volume_usd", "marketcap", "marketcap_kind",
                "marketcap_age_days", "funding_rate", "listed_on",
            )),
        ),
        ("lake", "universe"),
        "majors_alts_pipeline.universe.stage:compute",
        "Point-in-time universe: who could be held, and why not",
    ),
    Stage(
        "features",
        ("features", "market"),
        (
            Input("panel", _feature_lookback, columns=(
                "date", "asset_id", "open", "high", "low", "close", "ret", "price_age_days", "volume_usd", "marketcap",
                "funding_rate", "open_interest_usd",
            )),
            Input("universe", _feature_lookback, columns=(
                "date", "asset_id", "role", "eligible", "reason", "price_age_days",
            )),
        ),
        ("lake", "features"),
        "majors_alts_pipeline.features.stage:compute",
        "Regime features, raw and z-scored, and the market series the regime models read",
    ),
    Stage(
        "betas",
        ("betas",),
        (
            Input("panel", _beta_lookback, columns=("date", "asset_id", "ret", "price_age_days")),
            Input("universe", 0, columns=("date", "asset_id", "role")),
        ),
        ("lake", "betas"),
        "majors_alts_pipeline.betas.stage:compute",
        "Two-factor rolling ridge betas",
    ),
    Stage(
        "trackers",
        ("trackers",),
        (
            Input("panel", _TRACKER_LOOKBACK, columns=("date", "asset_id", "close", "ret", "price_age_days")),
            Input("universe", _TRACKER_LOOKBACK, columns=(
                "date", "asset_id", "role", "eligible", "reason", "marketcap", "price_age_days",
            )),
            Input("trackers", 1, lag=1),
        ),
        ("costs", "lake", "trackers"),
        "majors_alts_pipeline.betas.trackers:compute",
        "Cap-weighted alt index and BTC against it",
    ),
    Stage(
        "tracker_betas",
        ("tracker_betas",),
        (
            Input("panel", _tracker_beta_lookback, columns=("date", "asset_id", "ret", "price_age_days")),
            Input("universe", 0, columns=("date", "asset_id", "eligible")),
            Input("trackers", _tracker_beta_lookback, columns=("date", "tracker", "ret")),
        ),
        ("betas",),
        "majors_alts_pipeline.betas.trackers:compute_betas",
        "Betas to the tradable trackers",
    ),
    Stage(
        "basket",
        ("basket",),
        (
            Input("universe", 0, columns=(
                "date", "asset_id", "role", "eligible", "reason", "adv_usd", "marketcap",
            )),
            Input("betas", 0, columns=("date", "asset_id", "beta_btc", "beta_eth", "idio_vol")),
            Input("basket", 1, lag=1),
        ),
        ("lake", "basket", "backtest"),
        "majors_alts_pipeline.basket.stage:compute",
        "The majors-alts book: dual-beta-neutral target weights",
    ),
    Stage(
        "book_outcome",
        ("book_outcome",),
        (
            Input("basket", _outcome_lookback, columns=("date", "asset_id", "weight")),
            Input("panel", _outcome_lookback, columns=("date", "asset_id", "close")),
        ),
        ("lake", "regime", "backtest"),
        "majors_alts_pipeline.regime.stage:compute_outcome",
        "What the book decided earlier went on to return",
    ),
    Stage(
        "regime_model",
        ("regime_model",),
        (
            Input("features", INCEPTION, columns=("date", "feature", "raw", "z")),
            Input("market", INCEPTION),
            Input("book_outcome", INCEPTION),
            Input("regime_model", INCEPTION, lag=1),
        ),
        ("lake", "regime", "backtest"),
        "majors_alts_pipeline.regime.stage:compute_model",
        "Walk-forward fit and choice of every regime method, every candidate recorded",
    ),
    Stage(
        "regime",
        ("regime", "regime_probability", "regime_weights"),
        (
            Input("features", INCEPTION, columns=("date", "feature", "raw", "z")),
            Input("market", INCEPTION),
            Input("book_outcome", INCEPTION),
            Input("regime_model", INCEPTION),
        ),
        ("lake", "regime", "backtest"),
        "majors_alts_pipeline.regime.stage:compute",
        "Regime label of the day by every method",
    ),
    Stage(
        "backtest",
        ("backtest", "positions"),
        (
            Input("panel", INCEPTION, columns=(
                "date", "asset_id", "open", "high", "low", "close", "ret", "price_age_days", "funding_rate",
            )),
            Input("universe", INCEPTION, columns=("date", "asset_id", "role", "eligible", "adv_usd")),
            Input("betas", INCEPTION, columns=("date", "asset_id", "beta_btc", "beta_eth")),
            Input("basket", INCEPTION, columns=("date", "asset_id", "weight")),
            Input("regime", INCEPTION, columns=("date", "method", "label", "score")),
        ),
        ("lake", "costs", "backtest", "regime"),
        "majors_alts_pipeline.backtest.stage:compute",
        "One continuous account per strategy and baseline",
    ),
    Stage(
        "kpis",
        ("kpis",),
        (Input("backtest", INCEPTION),),
        ("lake", "backtest"),
        "majors_alts_pipeline.evaluation.stage:compute",
        "Performance from inception, as known each day",
    ),
)  # fmt: skip

STAGE_OF_TABLE: dict[str, Stage] = {table: stage for stage in STAGES for table in stage.tables}


def ancestors(stage: Stage) -> list[Stage]:
    """The stages `stage` depends on, itself included, in chain order."""
    wanted = {stage.name}
    for candidate in reversed(STAGES):
        if candidate.name in wanted:
            wanted.update(STAGE_OF_TABLE[item.table].name for item in candidate.inputs)
    return [candidate for candidate in STAGES if candidate.name in wanted]


def all_sections(stage: Stage) -> tuple[str, ...]:
    """Settings sections that can change the stage's rows: its own and its ancestors'."""
    return tuple(sorted({section for item in ancestors(stage) for section in item.sections}))
