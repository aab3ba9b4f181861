"""Typed, frozen settings. Values live in ``default.yaml`` only; here are their types, units and bounds.

A user's YAML is merged over the defaults block by block. An unknown key, a block in the wrong place, a value
out of bounds or a rule that could never fire is an error that names the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key and the remedy."""


class Section(BaseModel):
    """A frozen block of settings that accepts no unknown key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Days = Annotated[int, Field(ge=1)]
Severity = Literal["ERROR", "WARN", "OFF"]


class LakeSettings(Section):
    """Where tables and columns of the lake are found, and which assets are the majors."""

    tables: dict[str, str] = Field(description="contract table name -> table name in the lake, where they differ")
    columns: dict[str, dict[str, str]] = Field(description="contract table -> {contract column -> lake column}")
    majors: tuple[str, str] = Field(description="asset ids of the long leg; the first is BTC, the second ETH")
    price_carry_days: int = Field(ge=0, le=30, description="days a missing price is carried before the asset is dead")
    complete_day_share: Fraction = Field(description="share of the usual number of priced assets a complete day has")
    late_table_days: int = Field(ge=0, description="a daily table this many days behind the prices is awaited")
    marketcap_max_age_days: Days = Field(description="oldest market cap carried as-of at constant supply")
    funding_prints_per_day: int = Field(ge=1, le=24, description="prints per day assumed where only one is known")
    funding_on_unit_break: Literal["error", "rescale"] = Field(description="rows that look like percent")


class QualitySettings(Section):
    """Thresholds and severities of the lake checks."""

    severity: dict[str, Severity] = Field(description="check name -> ERROR (blocks), WARN or OFF")
    stale_run_days: Days = Field(description="identical closes in a row that count as a stale feed")
    spike_return: Positive = Field(description="|return| of a jump that reverts next day, decimal")
    spike_revert_fraction: Fraction = Field(description="share of the jump taken back the next day")
    supply_jump: Positive = Field(description="|log change| of implied supply between observations")
    cap_price_jump: Positive = Field(description="|log price change| that must be seen in the cap too")
    funding_cap_per_day: Positive = Field(description="largest |funding| per day a venue allows, decimal")
    funding_cap_per_print: Positive = Field(description="largest |funding| of one print, decimal")
    funding_percent_ratio: Positive = Field(
        description="row magnitude against the asset's own median that marks percent"
    )
    funding_usual_per_print: Positive = Field(description="what one print usually is on the venue, decimal")
    frozen_feed_days: int = Field(ge=0, description="newest day may be at most this many days before the expected day")
    clock_shift_correlation: Fraction = Field(description="lagged cross-correlation that marks a shifted clock")
    redenomination_ratio: Positive = Field(
        description="one-day price ratio (or its inverse) that marks a redenomination"
    )


class UniverseSettings(Section):
    """Who may be held."""

    min_age_days: Days = Field(description="days since listing an alt must have")
    min_adv_usd: NonNegative = Field(description="USD per day, trailing median")
    adv_window_days: Days = Field(description="window of the median daily volume (ADV)")
    adv_min_obs: Days = Field(description="days with a volume the window must hold")
    min_marketcap_usd: NonNegative = Field(description="USD; a known market cap below it excludes")
    require_marketcap: bool = Field(description="an alt without a known market cap is excluded")
    require_shortable: bool = Field(
        description="an alt without a funding row is excluded on days when the lake has one for others"
    )
    excluded: dict[str, tuple[str, ...]] = Field(description="kind (stable, wrapped, ...) -> asset ids")
    detector_window_days: Days = Field(description="window of both detectors")
    detector_min_obs: Days = Field(description="days with returns (of both assets) the window must hold")
    peg_max_daily_vol: Positive = Field(description="decimal per day; below it and near one USD it is a peg")
    peg_band: Positive = Field(description="median |price - 1| below it counts as near one USD")
    tracks_max_error: Positive = Field(description="decimal per day; tracking error below it is a wrapped token")
    tracks_beta_band: Positive = Field(description="|beta - 1| of a wrapped token")
    tracks_references: int = Field(ge=0, description="largest assets of the day a wrapped token is looked for in")
    flag_contradiction_return: Positive = Field(description="|daily return| that contradicts a stable flag")


class FeatureSettings(Section):
    """Windows of the regime features."""

    z_window_days: Days = Field(description="window of the z-score, the day included")
    z_min_obs: Days = Field(description="days with a value before a z-score exists")
    min_assets: int = Field(ge=1, description="assets needed before a cross-sectional feature exists")
    min_coverage: Fraction = Field(description="share of its inputs below which a feature of the day is null")
    enabled: tuple[str, ...] = Field(min_length=1, description="features that are computed")


class BetaSettings(Section):
    """Rolling two-factor ridge."""

    window_days: Days = Field(description="trailing days of the regression")
    min_obs: int = Field(ge=5, description="observations of y, BTC and ETH needed in the window")
    ridge: NonNegative = Field(
        description="penalty as a multiple of (unexplained share x mean factor variance); 0 = OLS"
    )
    winsor_probability: float = Field(
        gt=0.5, le=1, description="chi-square(3) probability beyond which a day is drawn in; 1 = never"
    )
    vasicek: bool = Field(description="shrink the alts' betas towards their cross-section")
    vasicek_min_assets: int = Field(ge=2, description="alts with a beta needed for a prior")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_obs > self.window_days:
            raise ValueError(f"min_obs {self.min_obs} > window_days {self.window_days}: no beta could ever exist")
        return self


class TrackerSettings(Section):
    """Tradable trackers of the alts as a whole."""

    min_members: int = Field(
        ge=1, description="alts with a known market cap without which there is no index, assets without no dominance"
    )


class BasketSettings(Section):
    """The majors-alts book."""

    mode: Literal["dual_beta", "btc_beta", "dollar"] = Field(
        description="what is made neutral: both betas, the BTC beta, or dollars"
    )
    n_alts: int = Field(ge=1, description="alts in the short leg, at most")
    min_alts: int = Field(ge=1, description="alts without which the book is flat")
    rank_by: Literal["adv", "marketcap"] = Field(description="size by which alts are chosen, largest first")
    short_gross: Positive = Field(description="absolute weight of the alt leg, fraction of NAV")
    gross_max: Positive = Field(description="largest sum |weight|, fraction of NAV")
    net_min: float = Field(description="smallest sum of weights, fraction of NAV")
    net_max: float = Field(description="largest sum of weights, fraction of NAV")
    alt_weight_max: Fraction = Field(description="per-name cap, fraction of NAV")
    beta_tolerance: NonNegative = Field(description="|book beta| allowed to each factor")
    adv_share_max: Positive = Field(description="largest position as a share of the asset's daily volume")
    turnover_max: Positive = Field(description="sum |change of target weight| per day, fraction of NAV")
    turnover_penalty: NonNegative = Field(
        description="price of squared weight change beside squared distance to the prior"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_alts > self.n_alts:
            raise ValueError(f"min_alts {self.min_alts} > n_alts {self.n_alts}: the book could never be built")
        if self.alt_weight_max * self.min_alts < self.short_gross:
            raise ValueError(
                f"alt_weight_max {self.alt_weight_max} x min_alts {self.min_alts} < short_gross {self.short_gross}: "
                "the short leg could never be filled; raise alt_weight_max or min_alts"
            )
        if self.net_min > self.net_max:
            raise ValueError(f"net_min {self.net_min} > net_max {self.net_max}")
        if self.gross_max < self.short_gross:
            raise ValueError(f"gross_max {self.gross_max} < short_gross {self.short_gross}")
        if self.net_min > self.gross_max - 2 * self.short_gross or self.net_max < -self.short_gross:
            raise ValueError(
                f"net_min {self.net_min}, net_max {self.net_max}, gross_max {self.gross_max} leave no room for a "
                f"long leg beside short_gross {self.short_gross}: the book could never be built"
            )
        if self.mode == "dollar" and not (self.net_min <= 0 <= self.net_max and 2 * self.short_gross <= self.gross_max):
            raise ValueError(
                f"mode dollar needs net_min <= 0 <= net_max and gross_max >= {2 * self.short_gross} (2 x short_gross)"
            )
        return self


class RegimeGrid(Section):
    """Candidates of the walk-forward choice: the Cartesian product of these lists, candidate 0 = defaults."""

    weight_schemes: tuple[str, ...] = Field(min_length=1, description="names in regime.weight_schemes")
    smoothing_days: tuple[Days, ...] = Field(min_length=1, description="trailing means of the score, days")
    enter: tuple[float, ...] = Field(min_length=1, description="scores at which a label is entered, in (0, z_cap]")
    exit_ratio: tuple[float, ...] = Field(min_length=1, description="exit threshold / enter threshold, in [0, 1)")
    min_dwell_days: tuple[Days, ...] = Field(min_length=1, description="days a label lasts at least")


MethodName = Literal["composite", "hmm", "kmeans", "gmm", "jump", "markov", "trend_chop", "consensus"]
"""Regime methods: `majors_alts_pipeline.regime.<name>`."""


class StatesSettings(Section):
    """What the fitted state models share: hmm, kmeans, gmm, jump and markov."""

    features: tuple[str, ...] = Field(min_length=1, description="features whose z-scores are the data (not of markov)")
    n_states: int = Field(
        ge=2, le=4, description="states; 2: majors and alts, 3: BALANCED between, 4: two of them BALANCED"
    )
    refit: Literal["month", "quarter"] = Field(description="calendar refit dates: first day of each")
    starts: int = Field(ge=1, le=100, description="seeded starts of a fit, besides the model before")
    seed: int = Field(ge=0, description="of the starts")
    label_margin: Fraction = Field(description="lead in probability that another label needs to replace the one held")
    jump_penalty: Positive = Field(description="jump: cost of a change of state, half squared standard deviations")


class TrendChopSettings(Section):
    """The trend/chop detector of the first major's bars."""

    false_alarm: float = Field(
        gt=0, lt=0.5, description="share of days on which a random walk shows a trend; the same of CHOPPY and of CRISIS"
    )
    null_paths: int = Field(ge=50, le=2000, description="random walks simulated at each refit")
    seed: int = Field(ge=0, description="of the random walks")
    prior_strength: Positive = Field(description="days by which counted transitions are shrunk to climatology")
    label_map: dict[str, dict[str, Fraction]] = Field(
        description="state -> label -> probability: what a state is taken to say of majors against alts"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        states = {"TRENDING_UP", "TRENDING_DOWN", "RANGING", "CHOPPY", "CRISIS"}
        if set(self.label_map) != states:
            raise ValueError(f"regime.trend_chop.label_map needs exactly {', '.join(sorted(states))}")
        for state, chances in self.label_map.items():
            if set(chances) != {"RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS"} or abs(sum(chances.values()) - 1) > 1e-9:
                raise ValueError(
                    f"regime.trend_chop.label_map.{state} needs RISK_ON_MAJORS, BALANCED and RISK_ON_ALTS that sum to 1"
                )
        return self


class ConsensusSettings(Section):
    """How the consensus weighs the other methods."""

    half_life_days: Days = Field(description="days in which the weight of an old score halves")
    learning_rate: NonNegative = Field(
        description="weights are exp(rate x score in nats of independent outcomes); 1 = posterior odds, 0 = equal"
    )
    prior_strength: Positive = Field(
        description="independent outcomes by which the frequencies behind a label are shrunk to the base rate"
    )


class RegimeSettings(Section):
    """Regime methods, and the walk-forward choice of the composite score's thresholds."""

    method: MethodName = Field(description="the method whose label is traded; one of regime.methods")
    methods: tuple[MethodName, ...] = Field(
        min_length=1, description="methods that label every day, in order; a consensus of the others comes last"
    )
    weight_schemes: dict[str, dict[str, NonNegative]] = Field(
        description="scheme -> feature -> weight (sign is the feature's)"
    )
    default_scheme: str = Field(description="weight scheme before there is enough history")
    z_cap: Positive = Field(description="|z| beyond which a feature counts no more; stated, not hidden")
    smoothing_days: Days = Field(description="trailing mean of the score")
    enter: Positive = Field(description="score at which a label is entered (negative side mirrored)")
    exit_ratio: float = Field(ge=0, lt=1, description="exit threshold / enter threshold")
    min_dwell_days: Days = Field(description="days a label lasts at least")
    refit: Literal["month", "quarter"] = Field(description="calendar refit dates: first day of each")
    min_train_days: Days = Field(
        description="training decisions with a feature before the walk-forward choice replaces the defaults"
    )
    inner_folds: int = Field(ge=2, description="contiguous folds of the training window that judge the choice by grid")
    selection_margin: NonNegative = Field(
        description="standard errors by which the choice by grid must beat the defaults out of fold to replace them"
    )
    label_horizon_days: Days = Field(description="forward return of the book that judges a decision")
    switch_cost: NonNegative = Field(
        description="cost of turning the book on or off in the training objective, decimal of NAV"
    )
    exposure: dict[str, Fraction] = Field(description="label -> share of the book held")
    grid: RegimeGrid
    states: StatesSettings
    trend_chop: TrendChopSettings
    consensus: ConsensusSettings


class CostSettings(Section):
    """Costs in decimal of traded notional."""

    taker_fee: NonNegative = Field(description="fee of an order that crosses the spread")
    maker_fee: float = Field(ge=-0.001, description="fee of a resting order; negative is a rebate")
    maker_share: Fraction = Field(description="share of notional traded by resting orders, which pay no spread")
    spread_window_days: Days = Field(description="bars of the EDGE estimate")
    spread_min_obs: Days = Field(description="bars the window must hold")
    spread_default: NonNegative = Field(
        description="full spread where EDGE cannot be computed, and what it is shrunk towards"
    )
    spread_min: NonNegative = Field(description="lower bound of an estimated full spread")
    spread_max: NonNegative = Field(description="upper bound of an estimated full spread")
    impact_coefficient: NonNegative = Field(description="Y of Y x daily vol x sqrt(traded / daily volume)")
    impact_vol_window_days: Days = Field(description="window of the daily volatility of the impact law")
    adv_missing_participation: Positive = Field(description="share of daily volume assumed where volume is unknown")
    exit_haircut: Fraction = Field(description="loss on the last price when a position is closed for want of a price")
    missing_funding_annual: NonNegative = Field(
        description="stand-in charge where funding is missing, decimal per year"
    )


class StopSettings(Section):
    """Stops decided on a close and filled at the next tradable close; null = off."""

    fixed: Annotated[float, Field(gt=0, lt=1)] | None = Field(description="loss of a position since entry, decimal")
    trailing: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="give-back from the best price since entry"
    )
    time_days: Days | None = Field(description="days after which a losing position is closed")


class BacktestSettings(Section):
    """The accounts."""

    capital_usd: Positive = Field(
        description="NAV of every account at the start, and the capital of the liquidity limit"
    )
    execution_lag_days: int = Field(ge=0, le=10, description="closes between a decision and its execution")
    rebalance: Literal["daily", "week", "month"] = Field(
        description="calendar decision days: every day, Mondays, firsts of the month"
    )
    band: NonNegative = Field(
        description="sum |drift| / target gross beyond which the book is rebalanced early; 0 = off"
    )
    vol_target: Positive | None = Field(description="decimal per year; null = off")
    vol_forecast: Literal["trailing", "ewma", "garch"] = Field(
        description="forecast of the book's volatility: equal weights over a window, exponential weights, or GARCH(1,1)"
    )
    vol_window_days: Days = Field(description="trailing: window of the always-on book's paper returns")
    vol_min_obs: Days = Field(description="paper returns needed; the multiplier is 1 until then")
    ewma_lambda: float = Field(gt=0, lt=1, description="ewma: weight of a return relative to that of the next one")
    garch_min_obs: int = Field(
        ge=100, description="garch: paper returns needed for a fit (quarter starts); ewma until the first one"
    )
    multiplier_max: Positive = Field(description="largest volatility-target multiplier")
    alt_index_n: int = Field(ge=1, description="alts of the baseline alt_index")
    random_paths: int = Field(ge=1, description="accounts averaged in the baseline random_regimes")
    seed: int = Field(description="of the random regimes")
    stops: StopSettings


class EvaluationSettings(Section):
    """Inference and report."""

    bootstrap_reps: int = Field(ge=100, description="replications of the stationary bootstrap")
    confidence: float = Field(gt=0.5, lt=1, description="of every interval")
    seed: int = Field(description="of the bootstrap")
    rolling_window_days: Days = Field(description="window of the report's rolling betas, Sharpe and volatility")
    red_flag_sharpe: Positive = Field(description="|Sharpe| above it is a red flag")
    horizons_days: tuple[Days, ...] = Field(
        min_length=1, description="days over which the book's forward returns are judged by label and by feature"
    )
    skip: tuple[Literal["robustness", "selection", "capacity", "sweep"], ...] = Field(
        description="parts of the evidence that are left out to save time; their tables are then empty"
    )
    price_noise: Positive = Field(
        description="sd of the log price noise of the robustness test, decimal, where the lake has one source"
    )
    death_rate: Fraction = Field(
        description="alts that die per year in the survivorship stress of a lake of survivors, share of eligible ones"
    )
    sweep_grid: dict[str, tuple[Any, ...]] = Field(
        description="dotted key -> values: variants of the sweep are their Cartesian product, the configured value "
        "among them whether listed or not"
    )


FIXED_IN_A_SWEEP = {
    "lake": "section lake says how the lake is read",
    "quality": "section quality changes no account",
    "evaluation": "section evaluation changes no account",
}
"""Sections whose keys cannot be varied in a sweep, and why."""


def _whole(*keys: str) -> str:
    """Remind of the keys that are not merged: what they leave out of the defaults is gone."""
    return f" ({' and '.join(keys)} in a file of yours replace the default whole: repeat what is to stay)"


class Settings(Section):
    """Everything a study depends on besides the lake and the code."""

    lake: LakeSettings
    quality: QualitySettings
    universe: UniverseSettings
    features: FeatureSettings
    betas: BetaSettings
    trackers: TrackerSettings
    basket: BasketSettings
    regime: RegimeSettings
    costs: CostSettings
    backtest: BacktestSettings
    evaluation: EvaluationSettings

    @model_validator(mode="after")
    def _cross_checks(self) -> Self:
        known = set(self.features.enabled)
        for scheme, weights in self.regime.weight_schemes.items():
            for feature in set(weights) - known:
                raise ValueError(
                    f"regime.weight_schemes.{scheme}: {feature!r} is not in features.enabled"
                    f"{_whole('regime.weight_schemes', 'features.enabled')}"
                )
            if sum(weights.values()) <= 0:
                raise ValueError(f"regime.weight_schemes.{scheme}: all weights are 0, the score could never exist")
        for feature in sorted(set(self.regime.states.features) - known):
            raise ValueError(
                f"regime.states.features: {feature!r} is not in features.enabled"
                f"{_whole('regime.states.features', 'features.enabled')}"
            )
        for scheme in {self.regime.default_scheme, *self.regime.grid.weight_schemes} - set(self.regime.weight_schemes):
            raise ValueError(
                f"regime: scheme {scheme!r} is not one of regime.weight_schemes{_whole('regime.weight_schemes')}"
            )
        purge = self.backtest.execution_lag_days + self.regime.label_horizon_days
        folds = self.regime.inner_folds
        # What is left to choose by: the other folds less the purge on both sides of the one held out.
        if self.regime.min_train_days * (folds - 1) // folds - 1 - 2 * purge < 2:
            raise ValueError(
                f"regime.min_train_days {self.regime.min_train_days}: too few for {folds} inner_folds purged of "
                f"{purge} days (label_horizon_days + backtest.execution_lag_days) on both sides; raise it"
            )
        if set(self.regime.exposure) != {"RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS"}:
            raise ValueError(
                f"regime.exposure needs exactly RISK_ON_MAJORS, BALANCED and RISK_ON_ALTS{_whole('regime.exposure')}"
            )
        if self.regime.method not in self.regime.methods:
            raise ValueError(
                f"regime.method {self.regime.method!r} is not one of regime.methods {list(self.regime.methods)}: "
                "no day would have a label to trade"
            )
        if len(set(self.regime.methods)) < len(self.regime.methods):
            raise ValueError(f"regime.methods {list(self.regime.methods)}: a method is listed twice")
        if "consensus" in self.regime.methods and (
            len(self.regime.methods) == 1 or self.regime.methods[-1] != "consensus"
        ):
            raise ValueError(
                f"regime.methods {list(self.regime.methods)}: consensus weighs the methods before it, so it comes last "
                "and not alone"
            )
        if self.regime.enter > self.regime.z_cap:
            raise ValueError("regime.enter > regime.z_cap: the score can never reach it, so the rule never fires")
        for enter in self.regime.grid.enter:
            if not 0 < enter <= self.regime.z_cap:
                raise ValueError(f"regime.grid.enter {enter}: must lie in (0, regime.z_cap], else it never fires")
        for ratio in self.regime.grid.exit_ratio:
            if not 0 <= ratio < 1:
                raise ValueError(f"regime.grid.exit_ratio {ratio}: must lie in [0, 1)")
        if self.costs.spread_min > self.costs.spread_max:
            raise ValueError("costs.spread_min > costs.spread_max")
        for key, values in self.evaluation.sweep_grid.items():
            if key.partition(".")[0] in FIXED_IN_A_SWEEP:
                raise ValueError(
                    f"evaluation.sweep_grid: {key} cannot be varied, {FIXED_IN_A_SWEEP[key.partition('.')[0]]}"
                )
            if not values:
                raise ValueError(f"evaluation.sweep_grid: {key} has no value")
            self.value_of(key)
        for name, minimum, window in (
            ("features.z", self.features.z_min_obs, self.features.z_window_days),
            ("universe.adv", self.universe.adv_min_obs, self.universe.adv_window_days),
            ("universe.detector", self.universe.detector_min_obs, self.universe.detector_window_days),
            ("costs.spread", self.costs.spread_min_obs, self.costs.spread_window_days),
            ("backtest.vol", self.backtest.vol_min_obs, self.backtest.vol_window_days),
        ):
            if minimum > window:
                raise ValueError(f"{name}: minimum observations {minimum} > window {window}: it would never exist")
        return self

    def value_of(self, key: str) -> Any:
        """Value of a dotted key, as plain JSON types.

        Raises:
            ConfigError: there is no such key.
        """
        value: Any = self
        for name in key.split("."):
            known = isinstance(value, Section) and name in type(value).model_fields
            if not known and not (isinstance(value, dict) and name in value):
                raise ConfigError(f"setting {key!r} does not exist{_hint(name)}")
            value = getattr(value, name) if known else value[name]
        return value.model_dump(mode="json") if isinstance(value, Section) else json.loads(json.dumps(value))

    def digest(self, sections: tuple[str, ...] | None = None) -> str:
        """12 hex digits identifying the values of `sections` (all by default)."""
        dumped = self.model_dump(mode="json", include=set(sections) if sections else None)
        return hashlib.sha256(json.dumps(dumped, sort_keys=True).encode()).hexdigest()[:12]


@cache
def _default_yaml() -> dict[str, Any]:
    text = (files("majors_alts_pipeline.config") / "default.yaml").read_text()
    return yaml.safe_load(text)


_REPLACED_WHOLE = {
    ("lake", "tables"), ("lake", "columns"), ("regime", "weight_schemes"), ("regime", "exposure"),
    ("evaluation", "sweep_grid"),
}  # fmt: skip


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        here = (*path, str(key))
        both_blocks = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merge(base[key], value, here) if both_blocks and here not in _REPLACED_WHOLE else value
    return merged


def load_settings(path: Path | str | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Defaults, merged with the YAML at `path`, merged with `overrides` (nested mappings).

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown or misplaced, or a value is impossible.
    """
    raw: Mapping[str, Any] = _default_yaml()
    if path is not None:
        try:
            loaded = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise ConfigError(f"configuration {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"configuration {path}: {error}") from error
        if loaded is not None and not isinstance(loaded, Mapping):
            raise ConfigError(f"configuration {path}: expected blocks of settings, found {type(loaded).__name__}")
        raw = _merge(raw, loaded or {})
    if overrides:
        raw = _merge(raw, overrides)
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"]) or "settings"
            hint = _hint(str(problem["loc"][-1])) if problem["type"] == "extra_forbidden" else ""
            lines.append(f"  {where}: {problem['msg']}{hint}")
        raise ConfigError(f"configuration {path or 'defaults'} cannot be used:\n" + "\n".join(lines)) from error


def with_overrides(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """`settings` with other values, given as dotted key to value (``{"basket.n_alts": 12}``), checked anew.

    Raises:
        ConfigError: a key does not exist or a value is impossible.
    """
    raw = settings.model_dump()
    for key, value in overrides.items():
        *path, last = key.split(".")
        block = raw
        for part in path:
            inner = block.get(part)
            if not isinstance(inner, dict):
                raise ConfigError(f"setting {key!r}: there is no block {part!r}")
            block = inner
        if last not in block:
            raise ConfigError(f"setting {key!r} does not exist; see majors_alts_pipeline/config/default.yaml")
        block[last] = value
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        words = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"settings with {dict(overrides)} cannot be used: {words}") from error


def _hint(key: str) -> str:
    """Say where an unknown key would be known."""
    homes = [f"{section}.{key}" for section, values in _default_yaml().items() if key in values]
    homes += [f"the top level ({key}:)"] if key in _default_yaml() else []
    return f" (misplaced: it belongs at {' or '.join(homes)})" if homes else " (unknown key: check its spelling)"
