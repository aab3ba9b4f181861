"""A SQLite event log that stores a batch of asset events in two transactions instead of two per event.

Stock SQLite storage opens, commits and closes two databases for each (asset, day) of a range; that is 12 ms
times assets times days around seconds of work. Same tables, same rows, same files: one can go back to stock
storage at any time. It touches Dagster's internals, so it batches only under the versions it was tested with
and leaves every other version to stock behaviour. If a batch fails, Dagster itself stores its events one by
one.

Belongs here: how events are stored and pruned. Does not belong here: anything about the pipeline's tables.
"""

import fcntl
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter, StringSource
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from majors_alts_pipeline.orchestration.compatibility import TESTED_VERSIONS, is_tested_dagster

BATCH_SIZE = "1000"
# Where stock storage keeps its databases, so that one can switch between the two.
DEFAULT_BASE_DIR = "history/runs"

_log = logging.getLogger(__name__)
_FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_MATERIALIZATION = "ASSET_MATERIALIZATION"
_RUNS_PER_STATEMENT = 500
# The index and the runs being written.
_OPEN_DATABASES = 3


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """Stock SQLite event log with a batch writer; selected in ``dagster_home/dagster.yaml``."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self.batches = is_tested_dagster()
        if self.batches:
            os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", BATCH_SIZE)
        else:
            _log.warning(
                "event log: dagster %s is not one of the tested versions %s; storing events one by one",
                dg.__version__,
                ", ".join(sorted(TESTED_VERSIONS)),
            )
        self._engine_lock = threading.Lock()
        self._engines: OrderedDict[tuple[Any, ...], sa.Engine] = OrderedDict()
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        """Connect as stock storage does, but keep the connection: closing one costs a checkpoint and its fsync."""
        if not self.batches:
            with super()._connect(shard) as conn:
                yield conn
            return
        with self._engine_lock, self._engine(shard).connect() as conn, conn.begin():
            yield conn

    def _engine(self, shard: str) -> sa.Engine:
        # The inode tells a database that was deleted, the process id one that was opened before a fork.
        key = (shard, os.getpid(), _inode(self.path_for_shard(shard)))
        if key not in self._engines or shard not in self._initialized_dbs:
            with super()._connect(shard):
                pass  # Creates the database and its tables when they are not there.
            key = (shard, os.getpid(), _inode(self.path_for_shard(shard)))
            engine = sa.create_engine(
                self.conn_string_for_shard(shard),
                poolclass=sa.StaticPool,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            sa.event.listen(engine, "connect", _sync_at_checkpoints)
            self._engines[key] = engine
        self._engines.move_to_end(key)
        while len(self._engines) > _OPEN_DATABASES:
            self._engines.popitem(last=False)[1].dispose()
        return self._engines[key]

    @classmethod
    def config_type(cls) -> Any:
        """``base_dir``: directory of the databases, relative to ``DAGSTER_HOME``."""
        return {"base_dir": dg.Field(StringSource, is_required=False, default_value=DEFAULT_BASE_DIR)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchedSqliteEventLogStorage":
        """Build from ``dagster.yaml``.

        Raises:
            DagsterInvariantViolationError: ``base_dir`` is relative and ``DAGSTER_HOME`` is not set.
        """
        return cls(_below_home("event_log_storage", config_value["base_dir"]), inst_data)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in order; consecutive asset events of one run share their transactions."""
        if not self.batches:
            super().store_event_batch(events)
            return
        for (is_asset_event, run_id), group in groupby(events, key=lambda event: (_is_asset(event), event.run_id)):
            if is_asset_event:
                self._store_asset_events(run_id, list(group))
            else:
                for event in group:
                    self.store_event(event)

    def _store_asset_events(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert()
        with self.run_connection(run_id) as conn:
            conn.execute(insert, rows)
        numbered = insert.returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        with self.index_transaction() as conn:
            ids = conn.execute(numbered, rows).scalars().all()
            self._store_asset_event_tags(conn, events, ids)
            # Per asset only the last event of each type leaves a trace in the table of assets.
            last = {(str(row["asset_key"]), row["dagster_event_type"]): k for k, row in enumerate(rows)}
            for k in sorted(last.values()):
                self._store_asset_event(conn, events[k], ids[k])

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """One planned row per check of a range run, not one per day.

        Stock storage plans a check for every day of the range, then stores its one result beside them, so
        that days times checks rows stay PLANNED for ever: most of the database for ten years and twenty
        checks.
        """
        planned = event.get_dagster_event().asset_check_planned_data
        subset = planned.partitions_subset
        if not self.batches or subset is None or len(subset) <= 1:
            super()._store_asset_check_evaluation_planned(event, event_id)
            return
        dagster_event = event.get_dagster_event()._replace(
            event_specific_data=AssetCheckEvaluationPlanned(
                asset_key=planned.asset_key, check_name=planned.check_name, partitions_subset=None
            )
        )
        super()._store_asset_check_evaluation_planned(event._replace(dagster_event=dagster_event), event_id)


class BatchedSqliteStorage(DagsterSqliteStorage):
    """Stock SQLite storage of runs, events and schedules, with the batched event log and a safe first start.

    Two stock instances that start at once on an empty ``DAGSTER_HOME`` both create the databases, and leave
    them with two versions and unusable; here the second one waits.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        with _alone(Path(base_dir)):
            super().__init__(base_dir, inst_data)
            self._event_log_storage = BatchedSqliteEventLogStorage(str(Path(base_dir) / DEFAULT_BASE_DIR))

    @classmethod
    def config_type(cls) -> Any:
        """``base_dir``: directory of the databases, relative to ``DAGSTER_HOME``; by default itself."""
        return {"base_dir": dg.Field(StringSource, is_required=False, default_value=".")}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchedSqliteStorage":
        """Build from ``dagster.yaml``.

        Raises:
            DagsterInvariantViolationError: ``base_dir`` is relative and ``DAGSTER_HOME`` is not set.
        """
        return cls.from_local(_below_home("storage", config_value["base_dir"]), inst_data)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _below_home(block: str, base_dir: str) -> str:
    home = os.environ.get("DAGSTER_HOME", "")
    if not Path(base_dir).is_absolute() and not home:
        raise dg.DagsterInvariantViolationError(
            f"{block}: base_dir {base_dir} is relative to DAGSTER_HOME, which is not set; "
            "run `source env.sh` or set it to an absolute path"
        )
    return str(Path(home) / base_dir)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _sync_at_checkpoints(connection: Any, _: Any) -> None:
    # In write-ahead mode this keeps the log whole across a killed process and across power loss, which may only
    # cost the last events; the default waits for the disk at every single event.
    connection.execute("PRAGMA synchronous=NORMAL")


def _is_asset(event: EventLogEntry) -> bool:
    return bool(
        event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS and event.get_dagster_event().asset_key
    )


def prune(instance: DagsterInstance, keep_runs: int) -> int:
    """Forget all but the newest `keep_runs` finished runs, without forgetting which days are materialised.

    Their logs and superseded events go; the newest materialisation of every (asset, day) stays. Results are
    not touched: they live under ``artifacts/``.

    Returns:
        Number of runs forgotten.

    Raises:
        DagsterInvariantViolationError: the event log is not SQLite (a server has its own retention).
        ValueError: `keep_runs` is negative.
    """
    storage = instance.event_log_storage
    if keep_runs < 0:
        raise ValueError(f"keep_runs {keep_runs} must not be negative")
    if not isinstance(storage, SqliteEventLogStorage):
        raise dg.DagsterInvariantViolationError(
            f"prune knows SQLite event logs only, found {type(storage).__name__}; use the database's own retention"
        )
    runs = [record.dagster_run.run_id for record in instance.get_run_records(RunsFilter(statuses=_FINISHED))]
    old = runs[keep_runs:]
    _forget_superseded(storage, old)
    for run_id in old:
        instance.run_storage.delete_run(run_id)
        shard = Path(storage.path_for_shard(run_id))
        for path in (shard, shard.with_suffix(".db-wal"), shard.with_suffix(".db-shm")):
            path.unlink(missing_ok=True)
    return len(old)


def _forget_superseded(storage: SqliteEventLogStorage, run_ids: Sequence[str]) -> None:
    events, checks, tags = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c, AssetEventTagsTable.c
    newest_events = (
        sa.select(sa.func.max(events.id))
        .where(events.dagster_event_type == _MATERIALIZATION)
        .group_by(events.asset_key, events.partition)
    )
    newest_checks = sa.select(sa.func.max(checks.id)).group_by(checks.asset_key, checks.check_name, checks.partition)
    with storage.index_connection() as conn:
        for start in range(0, len(run_ids), _RUNS_PER_STATEMENT):
            some = run_ids[start : start + _RUNS_PER_STATEMENT]
            conn.execute(
                SqlEventLogStorageTable.delete().where(events.run_id.in_(some), events.id.not_in(newest_events))
            )
            conn.execute(
                AssetCheckExecutionsTable.delete().where(checks.run_id.in_(some), checks.id.not_in(newest_checks))
            )
        conn.execute(AssetEventTagsTable.delete().where(tags.event_id.not_in(sa.select(events.id))))
    engine = sa.create_engine(storage.conn_string_for_shard("index"), isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(sa.text("VACUUM"))
        # VACUUM writes the whole database into the log beside it, where it would stay until the next writer.
        conn.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
    engine.dispose()
