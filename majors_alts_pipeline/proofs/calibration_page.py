"""The calibration as a picture and as tables of a documentation page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import polars as pl

from majors_alts_pipeline.proofs.calibration import ALWAYS_ON, HORIZONS, LEAK, METHODS, SWEEP, VOLATILE
from majors_alts_pipeline.proofs.calibration_table import (
    ADJUSTED,
    AGAINST_BEST,
    BELOW,
    BY_CHANCE,
    CONTROL,
    COVERAGE,
    FORWARD,
    FOUND,
    FOUND_BEST,
    GATED,
    HAC,
    LIFT,
    NO,
    OVERFITTING,
    POWER,
    RAW,
    RECOVERY,
    SHARPE,
    STEPM,
    WITHIN,
)

BEGIN, END = "<!-- calibration:begin -->", "<!-- calibration:end -->"
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#7b68c8", "#444444")
"""Okabe & Ito (2008) and three more that the colour-blind can tell apart by lightness."""

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_GREY, _RED = "#777777", "#a50f15"


class PageError(ValueError):
    """The documentation page lacks the markers between which the tables are written."""


def figure(measurements: pl.DataFrame, table: pl.DataFrame, methods: Sequence[str], path: Path) -> None:
    """Draw p-values against their ranks, coverage with its bands and power against the planted effect (PNG)."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(13.5, 6.2), dpi=110, layout="constrained")
    left, middle, right = drawn.subplots(1, 3, width_ratios=(1.1, 1.0, 1.1))
    _p_value_plot(left, measurements, methods)
    _coverage_plot(middle, table)
    _power_plot(right, table)
    seeds = table.filter(pl.col("effect_bp") == 0)["seeds"][0]
    drawn.suptitle(
        f"SIMULATED markets of {table['n_alts'][0]} alts and {table['n_days'][0]:,} days, null seeds {seeds}",
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    drawn.savefig(temporary, format="png", metadata={"Software": None})
    temporary.replace(path)


def _p_value_plot(axes, measurements: pl.DataFrame, methods: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    from scipy.stats import beta

    def values(measure: str, subject: str) -> np.ndarray:
        rows = (pl.col("measure") == measure) & (pl.col("subject") == subject) & (pl.col("effect") == 0.0)
        return np.sort(measurements.filter(rows).drop_nulls("value")["value"].to_numpy())

    def line(found: np.ndarray, label: str, **style: object) -> None:
        if len(found):
            axes.plot(np.arange(1, len(found) + 1) / (len(found) + 1), found, label=label, **style)

    counts = [len(values("edge_p", method)) for method in methods]
    n = max(counts)
    rank = np.arange(1, n + 1)
    band = [beta.ppf(tail, rank, n + 1 - rank) for tail in (0.005, 0.995)]
    axes.fill_between(rank / (n + 1), *band, color="#dddddd", label="99 % of uniform p-values, each rank", zorder=0)
    axes.plot([0, 1], [0, 1], color=_GREY, lw=0.8, zorder=1)
    for number, method in enumerate(methods):
        line(values("edge_p", method), method, color=_COLOURS[number % len(_COLOURS)], lw=1.2)
    line(values("best_raw_p", SWEEP), "best of the sweep, raw", color=_RED, lw=1.4, ls="--")
    line(values("best_spa_p", SWEEP), "best of the sweep, SPA", color=_RED, lw=1.4)
    line(values("edge_p", LEAK), "control: labels from the future", color="black", lw=1.4, ls=":")
    axes.set(
        title="p-values without an edge", xlabel="rank / (markets + 1)", ylabel="p-value", xlim=(0, 1), ylim=(0, 1)
    )
    _legend(axes)


def _legend(axes) -> None:  # type: ignore[no-untyped-def]
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))


def _coverage_plot(axes, table: pl.DataFrame) -> None:  # type: ignore[no-untyped-def]
    wanted = pl.col("claim").is_in([SHARPE.claim, HAC.claim]) & (pl.col("effect_bp") == 0)
    rows = table.filter((pl.col("group") == COVERAGE) & wanted).to_dicts()
    for place, row in enumerate(reversed(rows)):
        axes.plot([row["low"], row["high"]], [place, place], color="#cccccc", lw=6, solid_capstyle="butt", zorder=1)
        colour = _RED if row["verdict"] == NO else _COLOURS[0]
        axes.plot(row["observed"], place, "o", color=colour, ms=5, zorder=2)
    axes.axvline(0.95, color=_GREY, lw=0.8, zorder=0)
    names = [
        f"{row['subject']}, {'Sharpe' if row['claim'] == SHARPE.claim else 'edge (HAC)'}" for row in reversed(rows)
    ]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set(title="95 % intervals without an edge", xlabel="share that covers the truth (grey: 99 % band)")


def _power_plot(axes, table: pl.DataFrame) -> None:  # type: ignore[no-untyped-def]
    power = table.filter(pl.col("group") == POWER)
    for number, (subject, claim) in enumerate(power.select("subject", "claim").unique(maintain_order=True).rows()):
        rows = power.filter((pl.col("subject") == subject) & (pl.col("claim") == claim)).sort("effect_bp")
        adjusted = claim == FOUND_BEST
        axes.plot(
            rows["effect_bp"], rows["observed"], label=f"{subject}{' (SPA)' if adjusted else ''}",
            color=_RED if adjusted else _COLOURS[number % len(_COLOURS)], ls="--" if subject == METHODS else "-",
            marker=_MARKS[number % len(_MARKS)], ms=4, lw=1.2,
        )  # fmt: skip
    axes.axhline(0.05, color=_GREY, lw=0.8)
    axes.set(
        title="power at 5 %", xlabel="planted effect, basis points a day", ylabel="share of markets", ylim=(0, 1.02)
    )
    _legend(axes)


def page_tables(table: pl.DataFrame, methods: Sequence[str]) -> str:
    """Markdown of the tables of the page, every number from `table`."""
    null = table.filter(pl.col("effect_bp") == 0)
    judged = table.filter(pl.col("group").is_in(GATED) & (pl.col("verdict") != ""))
    verdicts = {name: judged.filter(pl.col("verdict") == name).height for name in (WITHIN, BY_CHANCE, NO)}
    effects = sorted(table.filter(pl.col("effect_bp") > 0)["effect_bp"].unique().to_list())
    planted = table.filter(pl.col("effect_bp") > 0)
    null_markets = f"{_most(null)} null markets (seeds {null['seeds'][0]})"
    planted_markets = f" and {_most(planted)} of each planted effect (seeds {planted['seeds'][0]})" if effects else ""
    words = (
        f"SIMULATED: {null_markets}{planted_markets}, {table['n_alts'][0]} alts × {table['n_days'][0]:,} days; "
        f"code {table['code'][0]}. Of {judged.height} claims about p-values, selection and intervals "
        f"{verdicts[WITHIN]} hold within their band, {verdicts[BY_CHANCE]} lie outside it by no more than chance "
        f"among so many, {verdicts[NO]} do not hold."
    )
    parts = [
        fill(words, 110),
        "### P-values where there is nothing to find",
        _size_table(null, methods),
        "### The best of many",
        _selection_table(null),
        "### Intervals",
        _coverage_table(table, methods, effects),
    ]
    if effects:
        parts += ["### Power", _power_table(table, effects), "### Recovery", _recovery_table(table, effects)]
    return "\n\n".join(parts)


def _most(table: pl.DataFrame) -> int:
    return int(table["n_markets"].to_numpy().max())


def _size_table(null: pl.DataFrame, methods: Sequence[str]) -> str:
    rows = []
    for method in (*methods, VOLATILE):
        own = _row(null, BELOW.claim, method)
        if own is None:
            continue
        forward = [_share(_row(null, FORWARD.claim, method, horizon)) for horizon in HORIZONS]
        uniform = "–" if own["uniform_p"] is None else f"{own['uniform_p']:.2f}"
        name = "control: turbulent days" if method == VOLATILE else method
        rows.append([name, str(own["n_markets"]), _share(own), _band(own), uniform, *forward])
    leak = null.filter(pl.col("group") == CONTROL).to_dicts()
    for row in leak:
        bound, uniform = f"> {row['low']:.1%}", f"{row['uniform_p']:.2f}"
        name = "control: labels from the future"
        rows.append([name, str(row["n_markets"]), _share(row), bound, uniform, *["–"] * len(HORIZONS)])
    heads = ["labels of", "markets", "1 day: share of p < 5 %", "99 % band", "uniform (KS p)"]
    return _markdown([*heads, *(f"{horizon} days" for horizon in HORIZONS)], rows)


def _selection_table(null: pl.DataFrame) -> str:
    claims = [RAW, *(counted.claim for counted in ADJUSTED.values()), STEPM.claim]
    rows = []
    for claim in claims:
        pair = [_row(null, claim, subject) for subject in (METHODS, SWEEP)]
        bands = ["" if row is None or row["nominal"] is None else f" (at most {row['high']:.1%})" for row in pair]
        rows.append([claim, *(f"{_share(row)}{band}" for row, band in zip(pair, bands, strict=True))])
    for claim in null.filter(pl.col("group") == OVERFITTING)["claim"].unique(maintain_order=True):
        pair = [_row(null, claim, subject) for subject in (METHODS, SWEEP)]
        rows.append([claim, *("–" if row is None else _spread(row) for row in pair)])
    return _markdown(["without an edge, share of markets with", METHODS, SWEEP], rows)


def _coverage_table(table: pl.DataFrame, methods: Sequence[str], effects: Sequence[float]) -> str:
    rows = []
    for subject in (ALWAYS_ON, *methods):
        own = _row(table, SHARPE.claim, subject)
        if own is None:
            continue
        planted = [_share(_row(table, SHARPE.claim, subject, effect=effect)) for effect in effects]
        rows.append([subject, _share(own), _band(own), _share(_row(table, HAC.claim, subject)), *planted])
    heads = ["price P&L of", "Sharpe, no edge", "99 % band", "edge (HAC), no edge"]
    first = _markdown([*heads, *(f"Sharpe, {effect:g} bp" for effect in effects)], rows)
    forward = table.filter((pl.col("group") == COVERAGE) & (pl.col("horizon_days") > 0)).to_dicts()
    second = _markdown(
        ["no edge, traded method", "label", "days ahead", "covered", "99 % band"],
        [[row["claim"], row["subject"], str(row["horizon_days"]), _share(row), _band(row)] for row in forward],
    )
    return f"{first}\n\n{second}"


def _power_table(table: pl.DataFrame, effects: Sequence[float]) -> str:
    power = table.filter(pl.col("group") == POWER)
    rows = []
    for subject, claim in power.select("subject", "claim").unique(maintain_order=True).rows():
        cells = [_row(power, claim, subject, effect=effect) for effect in (0.0, *effects)]
        last = cells[-1]
        interval = "–" if last is None else f"{last['low']:.0%} to {last['high']:.0%}"
        name = f"{subject}: {'edge' if claim == FOUND else 'SPA'}"
        rows.append([name, *(_share(cell) for cell in cells), interval])
    heads = ["share of markets with p < 5 %", "no effect", *(f"{effect:g} bp/day" for effect in effects)]
    return _markdown([*heads, "95 % interval of the last"], rows)


def _recovery_table(table: pl.DataFrame, effects: Sequence[float]) -> str:
    found = table.filter(pl.col("group") == RECOVERY)
    rows = []
    for claim in (LIFT, AGAINST_BEST):
        for subject in found.filter(pl.col("claim") == claim)["subject"].unique(maintain_order=True):
            cells = [_row(found, claim, subject, effect=effect) for effect in effects]
            rows.append([subject, *(_points(cell) for cell in cells)])
    return _markdown(["days with the hidden label less chance", *(f"{effect:g} bp/day" for effect in effects)], rows)


def _row(
    table: pl.DataFrame, claim: str, subject: str, horizon: int = 0, effect: float = 0.0
) -> dict[str, object] | None:
    same = (pl.col("claim") == claim) & (pl.col("subject") == subject) & (pl.col("horizon_days") == horizon)
    rows = table.filter(same & ((pl.col("effect_bp") - effect).abs() < 1e-9)).to_dicts()
    return rows[0] if rows else None


def _flag(row: dict[str, object]) -> str:
    return {NO: " **NO**", BY_CHANCE: " (chance)"}.get(str(row["verdict"]), "")


def _share(row: dict[str, object] | None) -> str:
    return "–" if row is None else f"{row['observed']:.1%}{_flag(row)}"


def _spread(row: dict[str, object]) -> str:
    return f"{row['observed']:.2f} ({row['low']:.2f}, {row['high']:.2f})"


def _band(row: dict[str, object]) -> str:
    return f"{row['low']:.1%} to {row['high']:.1%}"


def _points(row: dict[str, object] | None) -> str:
    if row is None:
        return "–"
    observed, high = float(str(row["observed"])), float(str(row["high"]))
    return f"{observed:+.1%} ± {high - observed:.1%}{' **NO**' if row['verdict'] == NO else ''}"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_page(page: Path, tables: str) -> None:
    """Replace what stands between the markers of the page.

    Raises:
        PageError: the page lacks them.
    """
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise PageError(f"{page}: needs one line {BEGIN} and one line {END}; put them where the tables belong")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    temporary = page.with_name(f".{page.name}")
    temporary.write_text(f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}", encoding="utf-8")
    temporary.replace(page)
