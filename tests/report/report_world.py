"""Synthetic frames that satisfy the contracts, small enough to build a report in a second."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings, load_settings
from majors_alts_pipeline.regime.composite import Candidate
from majors_alts_pipeline.report.build import ReportContext
from majors_alts_pipeline.tables import TABLES

PARAMS = Candidate("balanced", (("breadth_up", 1.0), ("momentum_7", -0.5)), 4.0, 1, 0.25, 0.4, 3).to_json()
LABELS = ("RISK_ON_MAJORS", "BALANCED", "RISK_ON_ALTS")
ACCOUNTS = ("regime", "always_on", "btc", "eth", "btc_eth", "alt_index", "random_regimes")
BOOK = 20


@dataclass(frozen=True)
class World:
    """Frames by table name, and the settings they claim to come from."""

    frames: dict[str, pl.DataFrame]
    settings: Settings

    def load(self, name: str) -> pl.DataFrame:
        return self.frames[name]


def _long(days: list[date], assets: list[str], **columns: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "date": np.repeat(np.array(days, dtype="datetime64[D]"), len(assets)),
            "asset_id": assets * len(days),
            **{name: np.ascontiguousarray(values).ravel() for name, values in columns.items()},
        }
    )


def _fill(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Cast to the contract; undeclared columns become null where allowed, else 0 or ''."""
    contract = TABLES[name]
    columns = []
    for column, spec in contract.columns.items():
        if column in frame.columns:
            columns.append(pl.col(column).cast(spec.dtype))
        else:
            default = None if spec.nullable else ("" if spec.dtype == pl.String() else 0)
            columns.append(pl.lit(default).cast(spec.dtype).alias(column))
    return contract.conform(frame.select(columns))


def make_world(n_days: int = 900, n_alts: int = 30, seed: int = 3, dies: bool = True) -> World:
    """A market of `n_alts` alts; with `dies`, ALT00 ends 200 days before the lake does while held."""
    rng = np.random.default_rng(seed)
    settings = load_settings()
    days = [date(2023, 4, 19) + timedelta(days=k) for k in range(n_days)]
    stamps = np.array(days, dtype="datetime64[D]")
    assets = ["BTC", "ETH", *(f"ALT{k:02d}" for k in range(n_alts))]
    n = len(assets)
    market = 0.001 + 0.025 * rng.standard_t(5, n_days)
    eth = 0.85 * market + 0.02 * rng.standard_normal(n_days)
    ret = np.empty((n_days, n))
    ret[:, 0], ret[:, 1] = market, eth
    loads = rng.normal(0.7, 0.15, (2, n_alts))
    ret[:, 2:] = market[:, None] * loads[0] + eth[:, None] * loads[1] * 0.6
    ret[:, 2:] += 0.035 * rng.standard_normal((n_days, n_alts)) - 0.001
    ret = np.maximum(ret, -0.6)
    ret[0] = 0.0
    close = 100.0 * np.cumprod(1 + ret, axis=0)
    funding = 0.0003 + 0.0004 * rng.standard_normal((n_days, n))
    kind = np.where(np.arange(n_days)[:, None] < n_days // 2, "print_scaled", "sum")
    kind = np.broadcast_to(kind, (n_days, n))
    panel = _long(
        days,
        assets,
        close=close,
        ret=ret,
        funding_rate=funding,
        funding_kind=kind,
        volume_usd=np.exp(rng.normal(17, 1, (n_days, n))),
    )
    panel = (
        panel.with_columns(
            pl.lit(days[0]).alias("listed_on"),
            pl.lit("simulated").alias("source"),
            missing=(pl.col("asset_id") == "ALT03"),
        )
        .with_columns(
            funding_rate=pl.when("missing").then(None).otherwise("funding_rate"),
            funding_kind=pl.when("missing").then(None).otherwise("funding_kind"),
        )
        .drop("missing")
    )
    last_own = n_days - 201 if dies and n_days > 400 else n_days - 1
    if dies:
        dead_age = (pl.col("date") - pl.lit(days[last_own])).dt.total_days()
        panel = panel.with_columns(
            price_age_days=pl.when(pl.col("asset_id") == "ALT00").then(dead_age.clip(0)).otherwise(0)
        ).filter(pl.col("price_age_days") <= settings.lake.price_carry_days)
    panel = _fill("panel", panel)

    warm = np.arange(n_days) >= 60
    eligible = np.broadcast_to(warm[:, None], (n_days, n)).copy()
    reason = np.where(eligible, "ok", "too_young").astype(object)
    eligible[:, -4:] = False
    reason[:, -4:] = "illiquid"
    unfunded = slice(n_days // 2, n_days // 2 + 100)
    eligible[unfunded, 6] = False
    reason[unfunded, 6] = "no_funding"
    volume = 1e8 / (1.0 + np.arange(n)) * np.ones((n_days, 1))
    universe = _long(
        days,
        assets,
        eligible=eligible,
        reason=reason.astype(str),
        adv_usd=volume,
        shortable=np.ones((n_days, n), dtype=bool),
        age_days=np.repeat(np.arange(n_days), n),
    )
    universe = universe.with_columns(
        role=pl.when(pl.col("asset_id").is_in(["BTC", "ETH"]))
        .then(pl.lit("major"))
        .when(pl.col("eligible"))
        .then(pl.lit("alt"))
        .otherwise(pl.lit("excluded"))
    )
    universe = _fill("universe", universe.join(panel.select("date", "asset_id"), on=["date", "asset_id"], how="semi"))

    score = np.zeros(n_days)
    noise = rng.standard_normal(n_days)
    for k in range(1, n_days):
        score[k] = 0.95 * score[k - 1] + 0.12 * noise[k]
    label = np.where(score > 0.2, 0, np.where(score < -0.2, 2, 1))
    p_major = 1 / (1 + np.exp(-6 * (score - 0.2)))
    p_alts = 1 / (1 + np.exp(6 * (score + 0.2)))
    total = np.maximum(p_major + p_alts, 1.0)
    p_major, p_alts = p_major / total, p_alts / total
    change = np.r_[True, label[1:] != label[:-1]]
    started = np.maximum.accumulate(np.where(change, np.arange(n_days), 0))
    month_start = stamps.astype("datetime64[M]").astype("datetime64[D]")
    names = np.array(LABELS)[label]
    regime = _fill(
        "regime",
        pl.DataFrame(
            {
                "date": stamps,
                "method": "composite",
                "label": names,
                "score": score,
                "p_risk_on_majors": p_major,
                "p_balanced": 1 - p_major - p_alts,
                "p_risk_on_alts": p_alts,
                "model_asof": month_start,
                "in_force": np.where(np.arange(n_days) > 430, "walk_forward", "default"),
                "candidate": np.where(np.arange(n_days) > 430, 4, 0),
                "days_in_regime": np.arange(n_days) - started + 1,
                "n_features": 15,
            }
        ),
    )

    # Two more methods: one that sees the same a little later, one that only guesses.
    others = []
    for method, chances in (
        ("hmm", np.roll(np.column_stack([p_major, 1 - p_major - p_alts, p_alts]), 3, axis=0)),
        ("consensus", rng.dirichlet((2.0, 3.0, 2.0), n_days)),
    ):
        others.append(
            regime.with_columns(
                method=pl.lit(method),
                label=pl.Series(np.array(LABELS)[chances.argmax(axis=1)]),
                score=pl.Series(chances[:, 0] - chances[:, 2]),
                p_risk_on_majors=pl.Series(chances[:, 0]),
                p_balanced=pl.Series(chances[:, 1]),
                p_risk_on_alts=pl.Series(chances[:, 2]),
                native_state=pl.lit("STATE_1" if method == "hmm" else None, pl.String),
                disagreement=pl.Series(rng.uniform(0, 0.6, n_days))
                if method == "consensus"
                else pl.lit(None, pl.Float64),
            )
        )
    regime = pl.concat(
        [regime.with_columns(configured=pl.lit(True)), *(o.with_columns(configured=pl.lit(False)) for o in others)]
    )
    regime = _fill("regime", regime)
    probability = pl.concat([
        regime.select(
            "date", "method", state=pl.lit(label),
            probability=(1 - 0.1 * horizon) * pl.col(f"p_{label.lower()}") + 0.1 * horizon / 3,
        ).with_columns(horizon_days=pl.lit(horizon, pl.Int32))
        for label in LABELS for horizon in (0, 1, 5)
    ])  # fmt: skip
    market = pl.DataFrame({
        "date": stamps, "close": close[:, 0], "majors_minus_alts": ret[:, :2].mean(1) - np.median(ret[:, 2:], axis=1),
        "average_correlation": 0.5 + 0.2 * np.sin(np.arange(n_days) / 40), "n_correlated": n,
    })  # fmt: skip

    weights = pl.concat([
        pl.DataFrame({"date": stamps, "method": method, "weight": share, "skill": skill, "p_book_up": 0.52})
        for method, share, skill in (("composite", 0.6, 0.01), ("hmm", 0.4, -0.02))
    ])  # fmt: skip
    index = ret[:, 2:].mean(axis=1)
    trackers = pl.concat([
        pl.DataFrame({"date": stamps, "tracker": tracker, "level": 100 * np.cumprod(1 + one), "ret": one})
        for tracker, one in (("alt_index", index), ("btc_dominance", ret[:, 0] - index))
    ])  # fmt: skip
    tracker_betas = pl.concat([
        _long(days, assets, beta=np.broadcast_to(slope, (n_days, n)), n_obs=60 + np.zeros((n_days, n), dtype=int))
        .with_columns(tracker=pl.lit(tracker)).filter(pl.col("asset_id") != "ALT05")
        for tracker, slope in (
            ("alt_index", np.r_[0.6, 0.9, np.ones(n_alts)]), ("btc_dominance", np.r_[0.1, -0.5, -np.ones(n_alts)])
        )
    ])  # fmt: skip

    refit_days = np.unique(month_start[month_start >= stamps[0]])
    candidates = 9
    grid = (
        pl.DataFrame(
            {
                "date": np.repeat(refit_days, candidates),
                "candidate": np.tile(np.arange(candidates), refit_days.size),
                "objective": rng.normal(0, 1, refit_days.size * candidates),
            }
        )
        .with_columns(
            method=pl.lit("composite"),
            params=pl.lit(PARAMS),
            converged=pl.lit(True),
            note=pl.lit(""),
            n_obs=(pl.col("date") - days[0]).dt.total_days(),
            train_end=pl.col("date").dt.offset_by("-6d"),
            in_force=pl.when(pl.col("date") > days[0] + timedelta(days=430))
            .then(pl.lit("walk_forward"))
            .otherwise(pl.lit("default")),
        )
        .with_columns(chosen=pl.col("candidate") == pl.when(pl.col("in_force") == "default").then(0).otherwise(4))
    )
    regime_model = _fill("regime_model", grid)

    features = pl.concat(
        [
            pl.DataFrame(
                {
                    "date": stamps,
                    "feature": name,
                    "raw": rng.normal(0, 0.01, n_days),
                    "z": np.where(np.arange(n_days) < 90, np.nan, rng.normal(0, 1, n_days)),
                    "coverage": 0.0 if name == "oi_risk" else 0.95,
                }
            )
            for name in settings.features.enabled
        ]
    ).with_columns(z=pl.when(pl.col("feature") == "oi_risk").then(None).otherwise(pl.col("z").fill_nan(None)))
    features = _fill("features", features)

    beta = np.broadcast_to(np.r_[1.0, 0.0, loads[0]], (n_days, n)) + 0.05 * rng.standard_normal((n_days, 1))
    beta_eth = np.broadcast_to(np.r_[0.0, 1.0, 0.6 * loads[1]], (n_days, n))
    betas = _fill(
        "betas",
        _long(
            days,
            assets,
            beta_btc=beta,
            beta_eth=beta_eth,
            beta_btc_raw=beta,
            beta_eth_raw=beta_eth,
            se_btc=0.2 + 0 * beta,
            se_eth=0.15 + 0 * beta,
            r2=0.6 + 0 * beta,
            idio_vol=0.035 + 0 * beta,
            n_obs=60 + 0 * beta,
            vif=np.broadcast_to(2 + np.sin(np.arange(n_days) / 50)[:, None], (n_days, n)),
        ).filter(pl.col("date") >= days[0] + timedelta(days=60)),
    )

    chosen = np.zeros((n_days, n), dtype=bool)
    block = np.arange(n_days) // 60
    for b in np.unique(block):
        pick = rng.permutation(n_alts - 5)[: BOOK - 1] + 1
        if dies and (b * 60 <= last_own):
            pick = np.r_[pick, 0]
        chosen[np.ix_(block == b, pick + 2)] = True
    chosen[:, 0:2] = True
    chosen &= warm[:, None]
    weight = np.zeros((n_days, n))
    alts_held = chosen[:, 2:].sum(1, keepdims=True)
    weight[:, 2:] = np.where(chosen[:, 2:], -0.5 / np.maximum(alts_held, 1), 0.0)
    weight[:, 0], weight[:, 1] = np.where(warm, 0.33, 0.0), np.where(warm, 0.21, 0.0)
    neutral = 0.01 * rng.standard_normal((n_days, 2)).clip(-1, 1)
    basket = _long(
        days,
        assets,
        weight=weight,
        beta_btc=beta,
        beta_eth=beta_eth,
        idio_vol=0.035 + 0 * beta,
        neutrality_btc=np.repeat(neutral[:, 0], n),
        neutrality_eth=np.repeat(neutral[:, 1], n),
        status=np.repeat(np.where(warm, "optimal", "flat"), n),
        reason=np.repeat(np.where(warm, "", "no betas before the burn-in"), n),
    )
    basket = basket.with_columns(
        leg=pl.when(pl.col("asset_id").is_in(["BTC", "ETH"])).then(pl.lit("major")).otherwise(pl.lit("alt")),
        mode=pl.lit("dual_beta"),
        relaxed=pl.lit(""),
    ).filter((pl.col("weight") != 0) | (pl.col("leg") == "major"))
    basket = _fill("basket", basket)

    exposure = {
        "regime": (label == 0).astype(float),
        "always_on": np.ones(n_days),
        "random_regimes": (np.roll(label, 140) == 0).astype(float),
    }
    plain = {
        "btc": np.eye(n)[0],
        "eth": np.eye(n)[1],
        "btc_eth": (np.eye(n)[0] + np.eye(n)[1]) / 2,
        "alt_index": np.r_[0, 0, np.full(n_alts, 1 / n_alts)],
    }
    waiting = np.arange(n_days) < 90
    forecast = pl.Series(np.where(waiting, np.nan, 0.2 + 0.05 * np.sin(np.arange(n_days) / 30))).fill_nan(None)
    accounts, positions = [], []
    for name in ACCOUNTS:
        target = weight * exposure[name][:, None] if name in exposure else np.tile(plain[name], (n_days, 1))
        held = np.vstack([np.zeros(n), target[:-1]])
        asset_price = held * ret
        asset_fund = -held * funding * (1 if name in exposure else 0)
        trade = np.abs(np.diff(held, axis=0, prepend=np.zeros((1, n))))
        fee, slip, impact = 0.0005 * trade, 0.0006 * trade, 0.0002 * trade
        dead = np.zeros((n_days, n))
        if dies and name in exposure:
            dead[last_own + 4, 2] = 0.1 * abs(held[last_own + 4, 2])
        net = (asset_price + asset_fund - fee - slip - impact - dead).sum(1)
        nav = 1e6 * np.cumprod(1 + net)
        previous = np.r_[1e6, nav[:-1]]
        assumed = (-np.abs(held[:, 5]) * 0.1 / 365) * previous
        accounts.append(
            pl.DataFrame(
                {
                    "date": stamps,
                    "account": name,
                    "nav": nav,
                    "ret_net": net,
                    "ret_gross": (asset_price + asset_fund).sum(1),
                    "pnl_price": asset_price.sum(1) * previous,
                    "pnl_funding": asset_fund.sum(1) * previous,
                    "pnl_funding_assumed": assumed,
                    "cost_fees": fee.sum(1) * previous,
                    "cost_slippage": slip.sum(1) * previous,
                    "cost_impact": impact.sum(1) * previous,
                    "cost_exit_haircut": dead.sum(1) * previous,
                    "cash": nav * (1 - target.sum(1)),
                    "long_usd": nav * np.maximum(target, 0).sum(1),
                    "short_usd": nav * np.minimum(target, 0).sum(1),
                    "turnover": trade.sum(1),
                    "turnover_major": trade[:, :2].sum(1),
                    "turnover_alt": trade[:, 2:].sum(1),
                    "gross_exposure": np.abs(target).sum(1),
                    "net_exposure": target.sum(1),
                    "beta_btc": (target * beta).sum(1),
                    "beta_eth": (target * beta_eth).sum(1),
                    "regime": names,
                    "regime_traded": np.r_[names[:1], names[:1], names[:-2]],
                    "exposure_multiplier": 1.0,
                    "vol_forecast": forecast,
                    "vol_model": np.where(waiting, "none", "ewma"),
                    "n_positions": (target != 0).sum(1),
                    "n_dead_exits": (dead > 0).sum(1),
                    "n_waiting": (np.arange(n_days) % 100 == 99) * (2 if name == "alt_index" else 0),
                    "identity_error": 1e-16,
                }
            )
        )
        if name in ("regime", "always_on"):
            at_risk = (held != 0) | (target != 0) | (trade != 0)
            frame = _long(
                days,
                assets,
                price=close,
                value_usd=target * nav[:, None],
                weight=target,
                units=target * nav[:, None] / close,
                target_weight=target,
                traded_usd=np.diff(held, axis=0, prepend=np.zeros((1, n))) * previous[:, None],
                trade_reason=np.where(dead > 0, "dead", np.where(trade > 0, "regime", "")),
                pnl_price=asset_price * previous[:, None],
                pnl_funding=asset_fund * previous[:, None],
                cost_fees=fee * previous[:, None],
                cost_slippage=slip * previous[:, None],
                cost_impact=impact * previous[:, None],
                cost_exit_haircut=dead * previous[:, None],
                keep=at_risk,
            )
            positions.append(
                frame.filter("keep").with_columns(
                    account=pl.lit(name),
                    leg=pl.when(pl.col("asset_id").is_in(["BTC", "ETH"]))
                    .then(pl.lit("major"))
                    .otherwise(pl.lit("alt")),
                )
            )
    backtest = _fill("backtest", pl.concat(accounts))
    count = pl.int_range(1, pl.len() + 1).over("account")
    kpis = _fill(
        "kpis",
        backtest.select("date", "account", n_days=count, sharpe=pl.lit(0.5), sharpe_se=(365 / count).sqrt()),
    )
    frames = {
        "panel": panel,
        "universe": universe,
        "features": features,
        "betas": betas,
        "basket": basket,
        "regime_model": regime_model,
        "regime": regime,
        "regime_probability": _fill("regime_probability", probability),
        "regime_weights": _fill("regime_weights", weights),
        "market": _fill("market", market),
        "trackers": _fill("trackers", trackers),
        "tracker_betas": _fill("tracker_betas", tracker_betas),
        "backtest": backtest,
        "positions": _fill("positions", pl.concat(positions)),
        "kpis": kpis,
    }
    return World(frames, settings)


FINDINGS = pl.DataFrame(
    {
        "check": ["spike_and_revert", "spike_and_revert", "funding_cap"],
        "severity": ["WARN", "WARN", "ERROR"],
        "table": ["fact_price", "fact_price", "fact_funding"],
        "asset_id": ["ALT01", "ALT02", "ALT09"],
        "date": [date(2023, 5, 1)] * 3,
        "value": [0.6, 0.7, 0.05],
        "message": [
            "ALT01 jumped 60 % and reverted",
            "ALT02 jumped",
            "<script>alert(1)</script> beyond the cap",
        ],
    }
)
LAGS = pl.DataFrame(
    {
        "execution_lag_days": pl.Series([0, 1, 2] * 2, dtype=pl.Int32),
        "account": ["always_on"] * 3 + ["regime"] * 3,
        "sharpe": [1.91, 1.82, 1.73, 0.64, 0.55, 0.46],
        "total_return": [0.3, 0.2, 0.1, 0.03, 0.02, 0.01],
    }
)


def report_context(world, **over):
    fields = {
        "lake_location": "/lakes/<one>",
        "simulated": False,
        "fingerprint": "f00dfeed1234",
        "study_id": "study-abc",
        "code_version": "0.1.0+abcdef",
        "settings": world.settings,
        "absent": ["fact_open_interest: absent, so the feature oi_risk is unknown"],
        "findings": FINDINGS,
    }
    return ReportContext(**(fields | over))
