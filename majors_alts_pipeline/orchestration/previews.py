"""What a person sees first in the Dagster UI: a few rows and a small picture per table.

Markdown; no Dagster here.

Pictures are SVG written by hand (a line and its last value): a few hundred bytes in the event log and no
plotting library to import.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

MAX_BYTES = 60_000
HISTORY_DAYS = 90
MAX_ROWS = 12
_WIDTH, _HEIGHT, _PAD = 640, 120, 8


@dataclass(frozen=True)
class Preview:
    """How one table is shown.

    Attributes:
        caption: what the line is, with its unit.
        series: rows of many days -> (date, value), the line.
        rows: rows of the newest day -> the few that tell whether it looks right.
    """

    caption: str
    series: Callable[[pl.DataFrame], pl.DataFrame]
    rows: Callable[[pl.DataFrame], pl.DataFrame]


def _daily(value: pl.Expr, keep: pl.Expr | None = None) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def series(frame: pl.DataFrame) -> pl.DataFrame:
        kept = frame if keep is None else frame.filter(keep)
        return kept.group_by("date").agg(value.alias("value")).sort("date")

    return series


def _largest(by: pl.Expr, *columns: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.sort(by, descending=True, nulls_last=True).select(columns).head(MAX_ROWS)


def _all(*columns: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.select(columns)


def _universe_rows(frame: pl.DataFrame) -> pl.DataFrame:
    return (
        frame.group_by("role", "reason").len("assets").sort("assets", "role", "reason", descending=True).head(MAX_ROWS)
    )


def _beta_rows(frame: pl.DataFrame) -> pl.DataFrame:
    columns = ("beta_btc", "beta_eth", "r2", "idio_vol", "n_obs")
    quantiles = (("10 %", 0.1), ("median", 0.5), ("90 %", 0.9))
    return pl.concat(
        [
            frame.select(
                pl.lit(name).alias("across assets"),
                *(pl.col(c).cast(pl.Float64).quantile(q) for c in columns),
            )
            for name, q in quantiles
        ]
    )


_REGIME_ACCOUNT = pl.col("account") == "regime"

PREVIEWS: dict[str, Preview] = {
    "panel": Preview(
        "assets with a price of the day",
        _daily((pl.col("price_age_days") == 0).sum()),
        _largest(
            pl.col("volume_usd"),
            "asset_id",
            "close",
            "ret",
            "price_age_days",
            "volume_usd",
            "marketcap",
            "funding_rate",
        ),
    ),
    "universe": Preview("eligible assets", _daily(pl.col("eligible").sum()), _universe_rows),
    "features": Preview(
        "mean |z| over features (standard deviations)",
        _daily(pl.col("z").abs().mean()),
        _all("feature", "raw", "z", "coverage"),
    ),
    "market": Preview(
        "majors less median alt (decimal per day)",
        _daily(pl.col("majors_minus_alts").first()),
        _all("close", "majors_minus_alts", "average_correlation", "n_correlated"),
    ),
    "betas": Preview("median beta to BTC (return per return)", _daily(pl.col("beta_btc").median()), _beta_rows),
    "trackers": Preview(
        "level of the alt index (100 before its first return)",
        _daily(pl.col("level").first(), pl.col("tracker") == "alt_index"),
        _all("tracker", "level", "ret", "n_members", "top_asset", "top_weight", "coverage", "dominance"),
    ),
    "tracker_betas": Preview(
        "median beta to the alt index (return per return)",
        _daily(pl.col("beta").median(), pl.col("tracker") == "alt_index"),
        _largest(pl.col("beta").abs(), "asset_id", "tracker", "beta", "se", "r2", "n_obs"),
    ),
    "basket": Preview(
        "gross weight of the alt leg (fraction of NAV)",
        _daily(pl.col("weight").abs().sum(), pl.col("leg") == "alt"),
        _largest(
            pl.col("weight").abs(),
            "asset_id",
            "leg",
            "weight",
            "beta_btc",
            "beta_eth",
            "status",
            "relaxed",
            "reason",
        ),
    ),
    "book_outcome": Preview(
        "price return of the book decided a horizon ago (decimal per day)",
        _daily(pl.col("ret").first()),
        _all("decision_date", "ret"),
    ),
    "regime_model": Preview(
        "candidates recorded per refit",
        _daily(pl.len()),
        lambda frame: frame.filter("chosen").select(
            "method", "candidate", "objective", "n_obs", "in_force", "converged", "note"
        ),
    ),
    "regime": Preview(
        "score of the traded method (positive favours majors)",
        _daily(pl.col("score").first(), pl.col("configured")),
        _all(
            "method",
            "configured",
            "label",
            "native_state",
            "score",
            "p_risk_on_majors",
            "p_balanced",
            "p_risk_on_alts",
            "days_in_regime",
            "in_force",
        ),
    ),
    "regime_probability": Preview(
        "methods that give probabilities",
        _daily(pl.col("method").n_unique()),
        _largest(pl.col("probability"), "method", "horizon_days", "state", "probability"),
    ),
    "regime_weights": Preview(
        "largest weight in the consensus",
        _daily(pl.col("weight").max()),
        _all("method", "weight", "skill", "p_book_up"),
    ),
    "backtest": Preview(
        "NAV of the regime account (USD)",
        _daily(pl.col("nav").first(), _REGIME_ACCOUNT),
        _all(
            "account",
            "nav",
            "ret_net",
            "pnl_price",
            "pnl_funding",
            "turnover",
            "gross_exposure",
            "net_exposure",
            "regime",
        ),
    ),
    "positions": Preview(
        "open positions of the regime account",
        _daily((pl.col("units") != 0).sum(), _REGIME_ACCOUNT),
        lambda frame: _largest(
            pl.col("value_usd").abs(),
            "asset_id",
            "leg",
            "value_usd",
            "weight",
            "target_weight",
            "trade_reason",
            "pnl_price",
        )(frame.filter(_REGIME_ACCOUNT)),
    ),
    "kpis": Preview(
        "Sharpe ratio of the regime account since inception (per year)",
        _daily(pl.col("sharpe").first(), _REGIME_ACCOUNT),
        _all(
            "account",
            "cagr",
            "volatility",
            "sharpe",
            "sharpe_se",
            "max_drawdown",
            "turnover_annual",
            "cost_annual",
        ),
    ),
}


def preview(table: str, history: pl.DataFrame) -> str:
    """Markdown of at most `MAX_BYTES`: the line over `history` and the telling rows of its last day."""
    if history.is_empty():
        return "no rows"
    shown = PREVIEWS[table]
    newest = history.filter(pl.col("date") == pl.col("date").max())
    values = _values(shown, history)
    picture = _picture(_label(shown.caption, values), values) if values else ""
    text = f"**{newest['date'][0]}**\n\n{picture}\n\n{markdown(shown.rows(newest))}\n"
    return text if len(text.encode()) <= MAX_BYTES else f"{picture}\n\n(rows left out: the preview is bounded)"


def headline(table: str, history: pl.DataFrame) -> str:
    """The preview's line in words: the last value, and the range over `history` to hold it against."""
    shown = PREVIEWS[table]
    values = _values(shown, history)
    return _label(shown.caption, values) if values else f"{shown.caption}: no value in these days"


def _values(shown: Preview, history: pl.DataFrame) -> list[float]:
    return [] if history.is_empty() else shown.series(history)["value"].drop_nulls().cast(pl.Float64).to_list()


def _label(caption: str, values: Sequence[float]) -> str:
    return (
        f"{caption}: {_number(values[-1])} (last {len(values)} days: {_number(min(values))} to {_number(max(values))})"
    )


def _picture(label: str, values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    spread = (high - low) or 1.0
    step = (_WIDTH - 2 * _PAD) / max(len(values) - 1, 1)
    points = " ".join(
        f"{_PAD + k * step:.1f},{_HEIGHT - _PAD - (value - low) / spread * (_HEIGHT - 3 * _PAD - 12):.1f}"
        for k, value in enumerate(values)
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" role="img">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{_PAD}" y="16" font-family="sans-serif" font-size="12" fill="#222222">'
        f"{_escape(label)}</text>"
        f'<polyline points="{points}" fill="none" stroke="#0072B2" stroke-width="1.5"/></svg>'
    )
    return f"![{label}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown(frame: pl.DataFrame) -> str:
    """Markdown table of a small frame, numbers to five digits or to the unit."""
    header = f"| {' | '.join(frame.columns)} |\n|{'---|' * frame.width}"
    body = "\n".join(f"| {' | '.join(_cell(value) for value in row)} |" for row in frame.iter_rows())
    return f"{header}\n{body}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return _number(value) if isinstance(value, float) else str(value).replace("|", "\\|")


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:,.5g}"
