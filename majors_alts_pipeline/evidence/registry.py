"""Study registry: every configuration ever evaluated on a lake, append-only, failures included.

The more configurations were tried, the better the best of them looks by luck alone; the selection-adjusted
statistics (Bailey & Lopez de Prado 2014) need their number and their correlation. So nothing here is ever
overwritten or deleted: each batch of trials is one new file, ``<UTC time>-<digest of its bytes>.parquet``, written
to a temporary file and linked to its name. Runs at once therefore lose nothing, and a damaged file does not match
its own name. No clock is read here: the time of a batch is an argument.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from majors_alts_pipeline.config import Settings
from majors_alts_pipeline.lake.reader import LakeSource
from majors_alts_pipeline.tables import B, Column, D, F, N, S, TableContract

RUN, SWEEP, CANDIDATE, METHOD, ROBUSTNESS = "run", "sweep", "candidate", "method", "robustness"
KINDS = (RUN, SWEEP, CANDIDATE, METHOD, ROBUSTNESS)
OK, FAILED = "ok", "failed"
METRICS = ("sharpe", "cagr", "volatility", "max_drawdown", "turnover_annual", "cost_annual", "exposure_time")
LINEAGE_DAYS = 30
"""The lineage of a lake is the fingerprint of its first so many days."""

REPEAT_DAYS = 30
"""A derived trial is recorded again only when its window has grown by so many days."""

TRIAL_SECTIONS = ("lake", "universe", "features", "betas", "basket", "regime", "costs", "backtest")
"""Settings sections that can change an account; the others only judge or describe it."""

_FILE = re.compile(r"^\d{8}T\d{12}Z-(?P<digest>[0-9a-f]{16})\.parquet$")
_serial = itertools.count()

REGISTRY = TableContract(
    "registry",
    "Every configuration ever evaluated: one row per evaluation and account, in files that are never rewritten.",
    ("batch", "trial", "kind", "label", "account"),
    {
        "batch": Column(S, "", "file the row is stored in, without its ending"),
        "time": Column(pl.Datetime("us", "UTC"), "UTC", "when the batch was registered"),
        "trial": Column(S, "", "identifier of the configuration: equal for equal settings, whatever the lake or code"),
        "kind": Column(S, "", ", ".join(KINDS)),
        "label": Column(S, "", "the configuration in words"),
        "account": Column(S, "", "account the metrics and returns are of: regime or always_on"),
        "parent": Column(S, "", "trial that led to this one; empty for a run"),
        "base": Column(S, "", "digest of the settings the overrides change; empty for a run"),
        "settings": Column(S, "JSON", "resolved settings of a run, else the overrides, dotted key to value"),
        "study": Column(S, "", "study id: settings, lake and code together"),
        "code": Column(S, "", "code version"),
        "lake": Column(S, "", "fingerprint of the lake"),
        "lineage": Column(S, "", "fingerprint of the lake's first days: the same when the lake grows"),
        "simulated": Column(B, "", "the lake is a simulated one"),
        "seed": Column(pl.Int64, "", "backtest.seed"),
        "first_day": Column(D, "UTC day", "first day of the window; null when it failed before there was one", True),
        "last_day": Column(D, "UTC day", "last day of the window", True),
        "n_days": Column(N, "days", "days judged"),
        **{name: Column(F, "as in kpis", "metric of the net returns", True) for name in METRICS},
        "status": Column(S, "", f"{OK} or {FAILED}"),
        "error": Column(S, "", "why it failed; empty otherwise"),
        "returns_from": Column(D, "UTC day", "day of the first element of returns", True),
        "returns": Column(pl.List(pl.Float32), "decimal per day", "daily net returns; null where not kept", True),
    },
)


class RegistryError(ValueError):
    """The registry cannot be read or written; the message names the file, the cause and the remedy."""


@dataclass(frozen=True)
class Origin:
    """What all trials of a batch share.

    Attributes:
        time: when they were registered, aware, UTC.
        study: study id.
        code: code version.
        lake: fingerprint of the lake.
        lineage: see `lineage_of`.
        simulated: whether the lake is a simulated one.
    """

    time: datetime
    study: str
    code: str
    lake: str
    lineage: str
    simulated: bool


@dataclass(frozen=True)
class Trial:
    """One configuration and how one of its accounts fared.

    Attributes:
        trial: `trial_id` of the configuration.
        kind: one of `KINDS`.
        label: in words.
        settings: resolved settings of a run, else overrides as dotted key to value.
        seed: backtest.seed.
        account: regime or always_on.
        parent: trial that led to this one.
        base: digest of the settings the overrides change.
        first_day: first day of the window.
        last_day: last day of the window.
        n_days: days judged.
        metrics: those of `METRICS` that exist.
        error: why it failed; empty when it did not.
        returns_from: day of the first return.
        returns: (days,) daily net returns, decimal.
    """

    trial: str
    kind: str
    label: str
    settings: Mapping[str, Any]
    seed: int
    account: str = "regime"
    parent: str = ""
    base: str = ""
    first_day: date | None = None
    last_day: date | None = None
    n_days: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    error: str = ""
    returns_from: date | None = None
    returns: np.ndarray | None = None


def trial_id(settings: Settings, part: str = "") -> str:
    """12 hex digits of a configuration: of the settings that can change an account, and of a part of it.

    Args:
        settings: resolved settings.
        part: what distinguishes trials under the same settings, e.g. one candidate of a walk-forward choice; the
            grid it came from is then left out, so that a longer grid does not make old candidates new.
    """
    dumped = settings.model_dump(mode="json", include=set(TRIAL_SECTIONS))
    if part:
        kept = ("label_horizon_days", "switch_cost", "exposure")
        dumped["regime"] = {name: dumped["regime"][name] for name in kept}
    return sha256(json.dumps([dumped, part], sort_keys=True).encode()).hexdigest()[:12]


def lineage_of(lake: LakeSource, cache: Path | None = None) -> str:
    """Identifier of a lake that stays when the lake grows: the fingerprint of its first `LINEAGE_DAYS` days.

    Fingerprints are a hash chain over what was known, so later days leave it alone, and a lake cut after any later
    day has the same lineage. A vendor that revises those first days starts a new lineage, whose count of trials
    begins at nought; `study list` shows every lineage of the registry. A lake shorter than that has its last
    day's fingerprint, which changes until it is long enough.
    """
    fingerprints = lake.day_fingerprints(cache).sort("date")["fingerprint"]
    return str(fingerprints[min(LINEAGE_DAYS, fingerprints.len()) - 1])


class Registry:
    """The trials under one directory.

    Args:
        root: directory of the batch files; created at the first batch.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def files(self) -> list[Path]:
        """Batch files in the order they were registered.

        Raises:
            RegistryError: a Parquet file that is no batch lies among them.
        """
        found = sorted(self.root.glob("*.parquet")) if self.root.exists() else []
        for path in found:
            if not _FILE.match(path.name):
                raise RegistryError(f"{path} is no batch of the study registry: move it out of {self.root}")
        return found

    def read(self, returns: bool = True) -> pl.DataFrame:
        """Every row ever registered, in order of registration, under the contract `REGISTRY`.

        Args:
            returns: False leaves the column null.

        Raises:
            RegistryError: a file is damaged; a trial that cannot be read must not go uncounted.
        """
        batches = [self._batch(path, returns) for path in self.files()]
        return pl.concat(batches) if batches else REGISTRY.empty()

    def _batch(self, path: Path, returns: bool) -> pl.DataFrame:
        remedy = (
            f"restore {path.name} from a copy; only if there is none, move it away, knowing that the number of "
            "trials is then too low and every selection-adjusted number too optimistic"
        )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RegistryError(f"study registry: {path} cannot be read ({error.strerror}); {remedy}") from error
        match = _FILE.match(path.name)
        if match is None or _digest(data) != match["digest"]:
            raise RegistryError(f"study registry: {path} is damaged (its bytes are not those its name tells); {remedy}")
        try:
            frame = pl.read_parquet(BytesIO(data))
        except pl.exceptions.PolarsError as error:
            raise RegistryError(f"study registry: {path} is damaged ({error}); {remedy}") from error
        frame = frame.with_columns(pl.lit(path.stem).alias("batch"))
        if not returns:
            frame = frame.with_columns(pl.lit(None, REGISTRY.schema["returns"]).alias("returns"))
        return REGISTRY.conform(frame)

    def append(self, trials: Sequence[Trial], origin: Origin) -> Path | None:
        """Register a batch of trials as one new file.

        A derived trial (any but a run) that succeeded and is recorded already for this lineage and code, over a
        window that has since grown by less than `REPEAT_DAYS`, adds nothing and is left out: it is counted once.

        Returns:
            The file, or None when every trial was recorded already.

        Raises:
            RegistryError: the directory cannot be written, or an earlier file is damaged.
        """
        fresh = self._fresh(trials, origin)
        if not fresh:
            return None
        frame = REGISTRY.conform(_frame(fresh, origin)).drop("batch")
        buffer = BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        data = buffer.getvalue()
        stamp = origin.time.astimezone(UTC).strftime("%Y%m%dT%H%M%S%f")
        path = self.root / f"{stamp}Z-{_digest(data)}.parquet"
        temporary = self.root / f".{path.stem}.{os.getpid()}.{next(_serial)}.tmp"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                # A link, not a rename: it refuses a name that is taken, and one name means the same bytes.
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise RegistryError(
                f"study registry: cannot write under {self.root}: {error.strerror or error}; a trial that is not "
                "registered is not counted, so free the disk or allow writing, and run again"
            ) from error
        return path

    def _fresh(self, trials: Sequence[Trial], origin: Origin) -> list[Trial]:
        known = self.read(returns=False).filter(
            pl.col("status") == OK, pl.col("lineage") == origin.lineage, pl.col("code") == origin.code
        )
        newest = {
            key: last for *key_, last in known.group_by("trial", "kind", "account").agg(pl.col("last_day").max()).rows()
            if (key := tuple(key_))
        }  # fmt: skip
        seen: set[tuple[str, str, str, str]] = set()
        fresh = []
        for item in trials:
            last = newest.get((item.trial, item.kind, item.account))
            grown = last is None or item.last_day is None or (item.last_day - last).days >= REPEAT_DAYS
            key = (item.trial, item.kind, item.label, item.account)
            if key not in seen and (item.kind == RUN or item.error or grown):
                seen.add(key)
                fresh.append(item)
        return fresh


def count_trials(records: pl.DataFrame, lineage: str) -> int:
    """Distinct configurations that were evaluated, successfully, on the lake of that lineage."""
    return _evaluated(records, lineage)["trial"].n_unique()


def trial_returns(records: pl.DataFrame, lineage: str, account: str) -> pl.DataFrame:
    """Net returns of every distinct trial whose account was kept: (date, one column per trial).

    The newest record of a trial with the longest window stands for it. Only days that all of them have are kept, so
    that correlations compare the same days; a trial that lacks more than a quarter of the longest one's days is
    left out.

    Returns:
        Columns `date` and the trial identifiers, sorted; empty when there is none.
    """
    kept = (
        _evaluated(records, lineage)
        .filter(pl.col("account") == account, pl.col("returns").is_not_null())
        .with_columns(pl.col("returns").list.len().alias("length"))
        .sort("last_day", "time", "batch", descending=[True, True, True])
        .unique("trial", keep="first", maintain_order=True)
    )
    if kept.is_empty():
        return pl.DataFrame(schema={"date": pl.Date})
    first = kept["returns_from"].to_physical().to_numpy().astype(np.int64)
    end = first + kept["length"].to_numpy().astype(np.int64)
    longest = int(np.argmax(end - first))
    shared = np.minimum(end, end[longest]) - np.maximum(first, first[longest])
    use = np.nonzero(4 * shared >= 3 * (end[longest] - first[longest]))[0]
    start, stop = int(first[use].max()), int(end[use].min())
    columns = {}
    for row in use:
        values = kept["returns"][int(row)].to_numpy().astype(np.float64)
        columns[kept["trial"][int(row)]] = values[start - first[row] : stop - first[row]]
    days = pl.Series("date", np.arange(start, stop, dtype=np.int32)).cast(pl.Date)
    return pl.DataFrame({"date": days, **{name: columns[name] for name in sorted(columns)}})


def _evaluated(records: pl.DataFrame, lineage: str) -> pl.DataFrame:
    return records.filter(pl.col("lineage") == lineage, pl.col("status") == OK)


def _frame(trials: Sequence[Trial], origin: Origin) -> pl.DataFrame:
    shared = {
        "batch": "", "time": origin.time, "study": origin.study, "code": origin.code, "lake": origin.lake,
        "lineage": origin.lineage, "simulated": origin.simulated,
    }  # fmt: skip
    rows = [
        {
            **shared,
            "trial": item.trial,
            "kind": item.kind,
            "label": item.label,
            "account": item.account,
            "parent": item.parent,
            "base": item.base,
            "settings": json.dumps(item.settings, sort_keys=True, default=str),
            "seed": item.seed,
            "first_day": item.first_day,
            "last_day": item.last_day,
            "n_days": item.n_days,
            **{name: _finite(item.metrics.get(name)) for name in METRICS},
            "status": FAILED if item.error else OK,
            "error": item.error,
            "returns_from": item.returns_from,
            "returns": None if item.returns is None else item.returns.astype(np.float32).tolist(),
        }
        for item in trials
    ]
    return pl.DataFrame(rows, schema=REGISTRY.schema)


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]
