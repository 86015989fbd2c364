"""The platform's memory: one SQLite file, and the only module that speaks SQL.

Every call is one transaction in the span `anvil.storage.query` (metadata `operation`). WAL with synchronous=NORMAL:
what a call wrote survives the death of the process at any moment; a power cut may cost the last calls, never the
file's consistency. Any thread may call; calls take turns, but reading for an export has a connection and a snapshot
of its own and holds up nobody. Uniqueness rules are the database's: a labeler has a sample at most once, an
assignment has at most one label.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

import runtime
from app.labeling.assignments import Assignment
from app.labeling.records import Label, QueueSettings, QueueStatus, Sample
from app.labeling.schema import Schema
from runtime.errors import AlreadyExists, NotFound, expected

FILTERS = ("sample_id", "labeler_id")
"""The fields by which labels may be filtered."""

_FETCH_ROWS = 1000

# Every table is one b-tree, clustered by what it is read by: a label costs two page writes instead of seven.
_TABLES = """
CREATE TABLE IF NOT EXISTS queues (
    id TEXT PRIMARY KEY, settings BLOB NOT NULL, status TEXT NOT NULL, schema BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
    queue_id TEXT NOT NULL REFERENCES queues, id TEXT NOT NULL, position INTEGER NOT NULL, text TEXT NOT NULL,
    difficulty REAL NOT NULL, PRIMARY KEY (queue_id, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labelers (
    queue_id TEXT NOT NULL REFERENCES queues, id TEXT NOT NULL, PRIMARY KEY (queue_id, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS assignments (
    id TEXT NOT NULL, queue_id TEXT NOT NULL, sample_id TEXT NOT NULL, labeler_id TEXT NOT NULL,
    created_at_ns INTEGER NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL,
    started_at_ns INTEGER, deadline_ns INTEGER, ended_at_ns INTEGER,
    PRIMARY KEY (queue_id, sample_id, labeler_id), FOREIGN KEY (queue_id, sample_id) REFERENCES samples) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels (
    id TEXT NOT NULL, assignment_id TEXT NOT NULL, queue_id TEXT NOT NULL, sample_id TEXT NOT NULL,
    labeler_id TEXT NOT NULL, schema_version_id TEXT NOT NULL, "values" BLOB NOT NULL,
    labeling_time_seconds REAL NOT NULL, submitted_at_ns INTEGER NOT NULL,
    PRIMARY KEY (queue_id, sample_id, labeler_id),
    FOREIGN KEY (queue_id, sample_id, labeler_id) REFERENCES assignments) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
    queue_id TEXT NOT NULL, sample_id TEXT NOT NULL, dimension TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (queue_id, sample_id, dimension)) WITHOUT ROWID;
"""
_LABEL_COLUMNS = ", ".join(f'labels."{name}"' for name in Label.__struct_fields__)


class Storage:
    """An open database file. Blocks for as long as SQLite takes, microseconds as a rule.

    Raises sqlite3.Error when the file cannot be opened or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._connection = self._connect()
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Close the file; the storage is of no further use."""
        with self._lock:
            self._connection.close()

    # -- queues ------------------------------------------------------------------------------------------------------

    def insert_queue(self, settings: QueueSettings, status: QueueStatus, schema: Schema) -> None:
        """Keep a new queue; AlreadyExists if the id is taken."""
        row = (settings.queue_id, msgspec.json.encode(settings), status, msgspec.json.encode(schema))
        try:
            with self._query("queue.insert") as connection:
                connection.execute("INSERT INTO queues VALUES (?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise AlreadyExists(f"expected a queue id that is not taken, got: {settings.queue_id!r}") from None

    def queue(self, queue_id: str) -> tuple[QueueSettings, QueueStatus, Schema]:
        """Return what is kept of a queue; NotFound if nothing is."""
        with self._query("queue.get") as connection:
            row = connection.execute("SELECT settings, status, schema FROM queues WHERE id = ?", [queue_id]).fetchone()
        if row is None:
            raise NotFound(f"expected a queue that exists, got: {queue_id!r}")
        return msgspec.json.decode(row[0], type=QueueSettings), row[1], msgspec.json.decode(row[2], type=Schema)

    def update_status(self, queue_id: str, status: QueueStatus) -> None:
        with self._query("queue.update") as connection:
            connection.execute("UPDATE queues SET status = ? WHERE id = ?", (status, queue_id))

    def migrate(self, queue_id: str, schema: Schema) -> int:
        """Give a queue and all its labels another schema version; return how many labels that were."""
        with self._transaction("queue.migrate") as connection:
            connection.execute("UPDATE queues SET schema = ? WHERE id = ?", (msgspec.json.encode(schema), queue_id))
            return connection.execute(
                "UPDATE labels SET schema_version_id = ? WHERE queue_id = ?", (schema.version_id, queue_id)
            ).rowcount

    def insert_labelers(self, queue_id: str, labeler_ids: Iterable[str]) -> None:
        with self._transaction("labeler.insert") as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO labelers VALUES (?, ?)", [(queue_id, labeler_id) for labeler_id in labeler_ids]
            )

    def labelers(self, queue_id: str) -> list[str]:
        with self._query("labeler.list") as connection:
            rows = connection.execute("SELECT id FROM labelers WHERE queue_id = ?", [queue_id]).fetchall()
        return [labeler_id for (labeler_id,) in rows]

    # -- samples and assignments -------------------------------------------------------------------------------------

    def insert_samples(self, queue_id: str, samples: Sequence[Sample], first_position: int) -> None:
        rows = [
            (queue_id, sample.id, position, sample.text, sample.difficulty)
            for position, sample in enumerate(samples, start=first_position)
        ]
        with self._transaction("sample.insert") as connection:
            connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", rows)

    def samples(self, queue_id: str) -> list[Sample]:
        """Return a queue's samples in order of creation."""
        with self._query("sample.list") as connection:
            rows = connection.execute(
                "SELECT id, text, difficulty FROM samples WHERE queue_id = ? ORDER BY position", [queue_id]
            ).fetchall()
        return [Sample(*row) for row in rows]

    def insert_assignment(self, assignment: Assignment) -> None:
        with self._query("assignment.insert") as connection:
            connection.execute(
                "INSERT INTO assignments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(assignment)
            )

    def update_assignments(self, assignments: Iterable[Assignment]) -> None:
        """Keep the new state of known assignments, all or none."""
        with self._transaction("assignment.update") as connection:
            for assignment in assignments:
                _update(connection, assignment)

    def assignments(self, queue_id: str) -> list[Assignment]:
        with self._query("assignment.list") as connection:
            rows = connection.execute(
                f"SELECT {', '.join(Assignment.__struct_fields__)} FROM assignments WHERE queue_id = ?"
                " ORDER BY created_at_ns, sample_id",
                [queue_id],
            ).fetchall()
        return [Assignment(*row) for row in rows]

    # -- labels and scores -------------------------------------------------------------------------------------------

    def insert_label(self, label: Label, completed: Assignment) -> None:
        """Keep a label and the completion of its assignment, both or neither."""
        row = list(msgspec.structs.astuple(label))
        row[6] = msgspec.json.encode(label.values)
        with self._transaction("label.insert") as connection:
            connection.execute("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            _update(connection, completed)

    def labels(self, queue_id: str, sample_id: str | None = None) -> list[Label]:
        """Return the labels of a queue, or of one of its samples, by sample and labeler."""
        condition, values = ("", [queue_id]) if sample_id is None else (" AND sample_id = ?", [queue_id, sample_id])
        with self._query("label.list") as connection:
            rows = connection.execute(
                f"SELECT {_LABEL_COLUMNS} FROM labels WHERE queue_id = ?{condition} ORDER BY sample_id, labeler_id",
                values,
            ).fetchall()
        return [_label(row) for row in rows]

    def upsert_scores(self, queue_id: str, scores: Iterable[tuple[str, str, float]]) -> None:
        """Keep agreement scores: (sample_id, dimension, value)."""
        with self._transaction("score.upsert") as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", [(queue_id, *score) for score in scores]
            )

    def scores(self, queue_id: str) -> dict[tuple[str, str], float]:
        """Return the kept scores by (sample_id, dimension)."""
        with self._query("score.list") as connection:
            rows = connection.execute(
                "SELECT sample_id, dimension, value FROM scores WHERE queue_id = ?", [queue_id]
            ).fetchall()
        return {(sample_id, dimension): value for sample_id, dimension, value in rows}

    # -- reading for an export ---------------------------------------------------------------------------------------

    @contextmanager
    def export(
        self, queue_id: str, *, limit: int | None, offset: int, filter: Mapping[str, str]
    ) -> Iterator[tuple[int, Iterator[list[tuple[Label, str]]]]]:
        """Read labels and their samples' texts, by sample, labeler and time, as of one moment.

        Gives (number of rows, batches of (label, text)). `filter` maps any of `FILTERS` to the value wanted.
        """
        unknown = [name for name in filter if name not in FILTERS]
        if unknown:
            raise expected(f"an export filter by {' or '.join(FILTERS)}", unknown)
        where = " AND ".join(["labels.queue_id = ?", *(f"labels.{name} = ?" for name in filter)])
        source = (
            "FROM labels JOIN samples ON samples.queue_id = labels.queue_id AND samples.id = labels.sample_id"
            f" WHERE {where}"
        )
        values = [queue_id, *filter.values(), -1 if limit is None else limit, offset]
        with closing(self._connect()) as connection:
            connection.execute("BEGIN")
            with runtime.span("anvil.storage.query", {"operation": "label.count"}):
                (total,) = connection.execute(
                    f"SELECT count(*) FROM (SELECT 1 {source} LIMIT ? OFFSET ?)", values
                ).fetchone()
            cursor = connection.execute(
                f"SELECT samples.text, {_LABEL_COLUMNS} {source}"
                " ORDER BY labels.sample_id, labels.labeler_id, labels.submitted_at_ns LIMIT ? OFFSET ?",
                values,
            )
            yield total, _batches(cursor)

    def _connect(self) -> sqlite3.Connection:
        with ExitStack() as stack:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            stack.callback(connection.close)  # a file that is no database is noticed by the first statement
            connection.executescript(
                # A checkpoint waits for the disk; every 40 MB (10,000 pages) is often enough.
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=10000;"
                "PRAGMA foreign_keys=ON"
            )
            stack.pop_all()
        return connection

    @contextmanager
    def _query(self, operation: str) -> Iterator[sqlite3.Connection]:
        """Run one statement, which is a transaction of its own."""
        with self._lock, runtime.span("anvil.storage.query", {"operation": operation}):
            yield self._connection

    @contextmanager
    def _transaction(self, operation: str) -> Iterator[sqlite3.Connection]:
        """Run several statements, all or none."""
        with self._query(operation) as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _update(connection: sqlite3.Connection, assignment: Assignment) -> None:
    values = msgspec.structs.astuple(assignment)
    connection.execute(
        "UPDATE assignments SET status = ?, attempts = ?, started_at_ns = ?, deadline_ns = ?, ended_at_ns = ?"
        " WHERE queue_id = ? AND sample_id = ? AND labeler_id = ?",
        (*values[5:], *values[1:4]),
    )


def _batches(cursor: sqlite3.Cursor) -> Iterator[list[tuple[Label, str]]]:
    while True:
        with runtime.span("anvil.storage.query", {"operation": "label.fetch"}):
            rows = cursor.fetchmany(_FETCH_ROWS)
        if not rows:
            return
        yield [(_label(row[1:]), row[0]) for row in rows]


def _label(row: Sequence[Any]) -> Label:
    columns = list(row)
    columns[6] = msgspec.json.decode(columns[6])
    return Label(*columns)
