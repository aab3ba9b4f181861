"""The chain without Dagster: the stage functions, fed from what is stored or computed on the way.

Dagster, the truth machines and notebooks all run stages through `Runner`, so a number cannot depend on who
asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Protocol

import polars as pl

from majors_alts_pipeline.calendar import Window
from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.stages import INCEPTION, STAGE_OF_TABLE, STAGES, Input, Stage
from majors_alts_pipeline.tables import TABLES

Announce = Callable[[str], None]


class Reader(Protocol):
    """Where finished days are found."""

    def stored(self, table: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame | None:
        """Rows of `table` in `window` when every day of it is stored and of this study, else None.

        At least the named `columns` (None: all) are handed out.
        """


ROW_BUDGET = 3_000_000
"""Rows computed at once by a stage with a finite look-back: bounds the memory of a long run over many assets."""


class Runner:
    """Runs stages over windows and supplies their inputs.

    Args:
        lake: the lake, already open.
        settings: resolved configuration.
        reader: finished days; what it does not hold is computed in memory and kept for the Runner's life.
        announce: called with one sentence whenever upstream days had to be computed because they were not
            stored.
        row_budget: rows a chunk of `stream` may have; results do not depend on it.
    """

    def __init__(
        self,
        lake: LakeSource,
        settings: Settings,
        reader: Reader | None = None,
        announce: Announce | None = None,
        row_budget: int = ROW_BUDGET,
    ) -> None:
        self.lake = lake
        self.settings = settings
        self._reader = reader
        self._announce = announce
        self._row_budget = row_budget
        self._memory: dict[str, tuple[Window, pl.DataFrame]] = {}
        self._first_day = lake.first_day()

    @property
    def history(self) -> Window:
        """First day of the lake to its last complete day."""
        return Window(self._first_day, self.lake.last_complete_day())

    def input_window(self, item: Input, window: Window) -> Window | None:
        """Days of `item` that `window` needs, cut at the first day of the lake; None when there are none."""
        lookback = item.days(self.settings)
        start = self._first_day if lookback == INCEPTION else Window(window.start, window.start).back(lookback).start
        start = max(start, self._first_day)
        # A lagged input is the stage's own past: it ends on the eve of the window and the stage carries it on.
        end = window.end if item.lag == 0 else date.fromordinal(window.start.toordinal() - item.lag)
        return Window(start, end) if start <= end else None

    def table(self, name: str, window: Window, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Rows of a table in `window`, of `columns` (None: all): stored, remembered, or computed now.

        Raises:
            KeyError: no such table.
            ValueError: the window reaches before the first day of the lake.
        """
        if name not in TABLES:
            raise KeyError(f"no table {name!r}; tables: {', '.join(TABLES)}")
        if window.start < self._first_day:
            raise ValueError(
                f"{name}: {window.start} lies before the first day of the lake at {self.lake.location}, "
                f"{self._first_day}; ask for later days"
            )
        frame = self._found(name, window, columns)
        return frame if columns is None else frame.select(columns)

    def _found(self, name: str, window: Window, columns: Sequence[str] | None) -> pl.DataFrame:
        if name in self._memory:
            held, frame = self._memory[name]
            if held.start <= window.start and window.end <= held.end:
                return window.keep(frame)
        if self._reader is not None:
            stored = self._reader.stored(name, window, columns)
            if stored is not None:
                return stored
        if self._reader is not None and self._announce is not None:
            self._announce(
                f"{name}: {window.start} to {window.end} is not wholly stored; computing these {window.n_days} days "
                "in memory (store them with `majors-alts run` or `dagster asset materialize --partition-range`)"
            )
        stage = STAGE_OF_TABLE[name]
        if stage.carries_state:
            # Its first day needs the day before, and so on: only from inception is it well defined.
            return window.keep(self.run(stage, Window(self._first_day, window.end))[name])
        return self.run(stage, window)[name]

    def inputs(self, stage: Stage, window: Window) -> Mapping[str, Any]:
        """What the stage's function is given for `window`; a table is read when it is first asked for."""
        return _Inputs(self, stage, window) if stage.inputs else {"lake": self.lake}

    def input(self, item: Input, window: Window) -> pl.DataFrame:
        """Rows and columns of one input that `window` needs."""
        wanted = self.input_window(item, window)
        if wanted is not None:
            return self.table(item.table, wanted, item.columns)
        empty = TABLES[item.table].empty()
        return empty if item.columns is None else empty.select(item.columns)

    def stream(self, stage: Stage, window: Window) -> Iterator[tuple[Window, Mapping[str, pl.DataFrame]]]:
        """Yield (days, rows by table) of consecutive pieces of `window`, as `run` would compute them at once.

        A stage that reads everything since inception comes in one piece, the others in pieces of at most the
        row budget, but never shorter than twice the look-back, which would be read again and again.
        """
        for piece in self.pieces(stage, window):
            yield piece, self.run(stage, piece)

    def pieces(self, stage: Stage, window: Window) -> list[Window]:
        """Consecutive pieces of `window`, of nearly equal length, that `stream` computes one after the other."""
        reach = stage.reach(self.settings)
        if reach == INCEPTION:
            return [window]
        longest = max(self._row_budget // max(self.lake.first_seen().height, 1), 2 * reach, 1)
        count = -(-window.n_days // longest)
        edges = [window.start + timedelta(days=window.n_days * k // count) for k in range(count + 1)]
        return [Window(first, after - timedelta(days=1)) for first, after in pairwise(edges)]

    def run(self, stage: Stage, window: Window) -> Mapping[str, pl.DataFrame]:
        """Compute the stage for `window`, check its tables' contracts and remember the rows."""
        produced = stage.compute(self.inputs(stage, window), window, self.settings)
        checked = {name: TABLES[name].conform(produced[name]) for name in stage.tables}
        for name, frame in checked.items():
            held = self._memory.get(name)
            if held is None or held[0].n_days <= window.n_days:
                self._memory[name] = (window, frame)
        return checked

    def run_all(self, window: Window | None = None, through: str | None = None) -> dict[str, pl.DataFrame]:
        """Every stage in order over `window` (default: the whole history), up to stage `through`."""
        window = window or self.history
        tables: dict[str, pl.DataFrame] = {}
        for stage in STAGES:
            tables.update(self.run(stage, window))
            if stage.name == through:
                break
        return tables


class _Inputs(Mapping[str, pl.DataFrame]):
    """Inputs of a stage, each read once, when the stage looks at it.

    On most days some are never looked at: the regime model is chosen on refit dates only.
    """

    def __init__(self, runner: Runner, stage: Stage, window: Window) -> None:
        self._runner, self._window = runner, window
        self._items = {item.table: item for item in stage.inputs}
        self._read: dict[str, pl.DataFrame] = {}

    def __getitem__(self, table: str) -> pl.DataFrame:
        if table not in self._read:
            self._read[table] = self._runner.input(self._items[table], self._window)
        return self._read[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
