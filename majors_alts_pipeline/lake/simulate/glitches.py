"""Faults planted on demand, each recorded in the truth by table, asset, day and kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from majors_alts_pipeline.lake.simulate import facts
from majors_alts_pipeline.lake.simulate.market import Array, Market

PRICE_TABLES = ("fact_price", "fact_ohlc")
DAILY_TABLES = ("fact_price", "fact_ohlc", "fact_volume")
VALUES = {
    "fact_price": ("close",),
    "fact_ohlc": ("open", "high", "low", "close"),
    "fact_volume": ("volume",),
    "fact_marketcap": ("marketcap",),
    "fact_funding": ("funding_rate",),
}
QUIET_BEFORE, QUIET_AFTER = 60, 20
TRUTH_SCHEMA = {"table": pl.String, "asset_id": pl.String, "date": pl.Date, "kind": pl.String}


class GlitchError(ValueError):
    """The market is too small for the glitches asked for."""


@dataclass(frozen=True)
class Edit:
    """One change to one row: times `factor`, or set to `value`, or written `copies` times (0 drops it)."""

    table: str
    lake_id: str
    day: date
    factor: float = 1.0
    value: float | None = None
    copies: int = 1


@dataclass(frozen=True)
class GlitchPlan:
    """Edits of rows, a table whose clock is shifted, and the record of all that for the truth."""

    edits: tuple[Edit, ...]
    shifted_table: str | None
    record: pl.DataFrame


class _Planner:
    """Hands out one alt per glitch, alive around the fault, and a day inside its life."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.rng = market.streams.of("glitches")
        span = market.last - market.listed
        room = QUIET_BEFORE + QUIET_AFTER + max(market.spec.glitches.gap_days, market.spec.glitches.stale_days)
        candidates = np.nonzero((market.kind == "alt") & (span > room) & ~market.collapse)[0]
        self.free: list[int] = self.rng.permutation(candidates).tolist()
        self.edits: list[Edit] = []
        self.record: list[tuple[str, str | None, date | None, str]] = []

    def take(self, kind: str, among: Array | None = None) -> int:
        """Row of an unused alt, of those where `among` (n,) is True."""
        usable = [row for row in self.free if among is None or among[row]]
        if not usable:
            raise GlitchError(
                f"glitches: no alt is left for {kind!r}: each fault needs an alt of its own with more than "
                f"{QUIET_BEFORE + QUIET_AFTER} days of life; raise n_alts or n_days, or ask for fewer"
            )
        self.free.remove(usable[0])
        return usable[0]

    def day(self, row: int, length: int = 1) -> int:
        """First day index of a fault of `length` days, quiet days around it."""
        first = int(self.market.listed[row]) + QUIET_BEFORE
        return int(self.rng.integers(first, int(self.market.last[row]) - QUIET_AFTER - length + 1))

    def add(
        self, kind: str, tables: tuple[str, ...], row: int, days: range, note: bool = True,
        factor: float = 1.0, value: float | None = None, copies: int = 1,
    ) -> None:  # fmt: skip
        """Plan the same edit for some tables and days of an asset, and note it in the record."""
        market = self.market
        for table in tables:
            for day in days:
                when = market.date(day)
                self.edits.append(Edit(table, market.lake_names[row], when, factor, value, copies))
                if note or day == days.start:
                    self.record.append((table, market.names[row], when, kind))


def plan_glitches(market: Market) -> GlitchPlan:
    """Choose assets and days of every glitch of the spec.

    Raises:
        GlitchError: more glitches than alts that live long enough to carry them.
    """
    wanted, plan = market.spec.glitches, _Planner(market)

    def one(
        kind: str, tables: tuple[str, ...], copies: int = 1, value: float | None = None, factor: float = 1.0
    ) -> None:
        row = plan.take(kind)
        day = plan.day(row)
        plan.add(kind, tables, row, range(day, day + 1), factor=factor, value=value, copies=copies)

    for _ in range(wanted.duplicate_rows):
        one("duplicate_row", ("fact_price",), copies=2)
    for _ in range(wanted.calendar_gaps):
        row = plan.take("calendar_gap")
        day = plan.day(row, wanted.gap_days)
        plan.add("calendar_gap", DAILY_TABLES, row, range(day, day + wanted.gap_days), copies=0)
    for _ in range(wanted.stale_runs):
        row = plan.take("stale_run")
        day = plan.day(row, wanted.stale_days)
        frozen = float(market.close[row, day - 1])
        plan.add("stale_run", PRICE_TABLES, row, range(day, day + wanted.stale_days), value=frozen)
    for _ in range(wanted.spike_and_reverts):
        one("spike_and_revert", PRICE_TABLES, factor=wanted.spike_factor)
    for _ in range(wanted.non_positive_prices):
        one("non_positive_price", ("fact_price",), value=0.0)
    for _ in range(wanted.redenominations):
        row = plan.take("redenomination")
        days = range(plan.day(row), int(market.last[row]) + 1)
        plan.add("redenomination", PRICE_TABLES, row, days, note=False, factor=wanted.redenomination_ratio)
    _plan_funding(plan, wanted.percent_funding_rows)
    _plan_caps(plan, wanted.cap_breaks, wanted.cap_break_ratio)
    if wanted.shifted_clock_table is not None:
        plan.record.append((wanted.shifted_clock_table, None, None, "shifted_clock"))
    record = pl.DataFrame(plan.record, schema=TRUTH_SCHEMA, orient="row").sort("table", "kind", "asset_id", "date")
    return GlitchPlan(tuple(plan.edits), wanted.shifted_clock_table, record)


def _plan_funding(plan: _Planner, count: int) -> None:
    if count == 0:
        return
    market = plan.market
    last_print, _, _ = facts.funding_prints(market)
    quoted = facts.has_perpetual(market) & (facts.multiplier(market) == 1)
    for _ in range(count):
        row = plan.take("percent_funding", quoted)
        first, last = int(market.listed[row]) + QUIET_BEFORE, int(market.last[row]) - QUIET_AFTER
        # A print near zero looks the same in either unit: take the largest of the asset's life.
        day = first + int(np.argmax(np.abs(last_print[row, first:last])))
        plan.add("percent_funding", ("fact_funding",), row, range(day, day + 1), factor=100.0)


def _plan_caps(plan: _Planner, count: int, ratio: float) -> None:
    if count == 0:
        return
    market = plan.market
    observed = facts.fact_marketcap(market)
    days_of: dict[str, list[date]] = {
        str(name): days for name, days in observed.group_by("asset_id").agg(pl.col("date").sort()).iter_rows()
    }
    enough = np.array([len(days_of.get(name, [])) >= 3 for name in market.lake_names])
    for _ in range(count):
        row = plan.take("cap_break", enough)
        inner = days_of[market.lake_names[row]][1:-1]
        day = (inner[int(plan.rng.integers(len(inner)))] - market.spec.start).days
        plan.add("cap_break", ("fact_marketcap",), row, range(day, day + 1), factor=ratio)


def apply_glitches(table: str, frame: pl.DataFrame, plan: GlitchPlan) -> pl.DataFrame:
    """Return the table as the faulty vendor wrote it."""
    edits = [edit for edit in plan.edits if edit.table == table]
    if edits:
        changes = pl.DataFrame(
            [(e.lake_id, e.day, e.factor, e.value, e.copies) for e in edits],
            schema={
                "asset_id": pl.String,
                "date": pl.Date,
                "_factor": pl.Float64,
                "_value": pl.Float64,
                "_copies": pl.UInt32,
            },
            orient="row",
        )
        frame = frame.join(changes, on=["asset_id", "date"], how="left", maintain_order="left").with_columns(
            pl.coalesce(pl.col("_value"), pl.col(name) * pl.col("_factor").fill_null(1.0)).alias(name)
            for name in VALUES[table]
        )
        copies = frame["_copies"].fill_null(1).to_numpy()
        frame = frame.drop("_factor", "_value", "_copies")[np.repeat(np.arange(frame.height), copies)]
    if plan.shifted_table == table:
        frame = frame.with_columns(pl.col("date").dt.offset_by("-1d"))
    return frame
