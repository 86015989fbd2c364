"""The spool's tables and what is done to them, one transaction at a time.

Only the spool's writer thread uses a store; nothing here is thread-safe and everything may block on the disk. `begin`,
then any number of operations, then `commit`, which answers with what they changed, or `rollback`, which leaves the
counts as they were. Two tables: `records` wait for delivery in the order of arrival, `dead_letters` for a person.

Each record carries a CRC of its id, class and payload, because SQLite has none for what is inside its pages: a flipped
byte must not be delivered as if it were what the caller committed.

Why whole groups of rows in one statement, and rows that come out as one JSON text: the sqlite3 module gives up the GIL
for each row it steps over, and getting it back costs up to 5 ms beside a thread that computes. A row at a time, one
busy thread of the host would bring the spool down to a hundred records a second.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from reporters.spool._model import DeadLetter, Record, RecordClass, Synchronous

APPLICATION_ID = 0x6265616D  # "beam"
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, class TEXT NOT NULL, payload BLOB NOT NULL, crc INTEGER NOT NULL,
    created_ns INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    lease INTEGER NOT NULL DEFAULT 0,  -- 0: free
    due_ns INTEGER NOT NULL DEFAULT 0  -- leased until; 0: free
) STRICT;
CREATE INDEX records_by_class ON records (class, seq);
CREATE TABLE dead_letters (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, class TEXT NOT NULL, payload BLOB NOT NULL,
    created_ns INTEGER NOT NULL, attempts INTEGER NOT NULL, died_ns INTEGER NOT NULL, kind TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
"""
_LOG_LIMIT_BYTES = 8 << 20
_REASON_LENGTH = 500

_COLUMNS = 6
_INSERT_ROWS = (512, 64, 8, 1)
_INSERT = {
    rows: "INSERT INTO records (id, class, payload, crc, created_ns, attempts) VALUES "
    + ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    for rows in _INSERT_ROWS
}
_LEASABLE = """
SELECT json_group_array(json_array(seq, id, hex(payload), crc, created_ns, attempts, lease)) FROM (
    SELECT *, sum(length(payload)) OVER (ORDER BY seq) AS running FROM (
        SELECT * FROM records WHERE class = ? AND due_ns <= ? AND created_ns >= ? ORDER BY seq LIMIT ?))
WHERE running <= ? OR running = length(payload)
"""

Changes = Counter[tuple[str, str]]
"""What a transaction did, by (class, what): "committed", "dead_lettered:expired", "refused:full_rows", …"""


class Usage:
    """How much of a class is on disk; `oldest_ns`, when its first record was created, is right after each commit."""

    __slots__ = ("bytes", "leased", "oldest_ns", "rows")

    def __init__(self, rows: int = 0, bytes: int = 0, leased: int = 0, oldest_ns: int = 0) -> None:
        self.rows = rows
        self.bytes = bytes
        self.leased = leased
        self.oldest_ns = oldest_ns

    def copy(self) -> Usage:
        """Return an independent copy."""
        return Usage(self.rows, self.bytes, self.leased, self.oldest_ns)


def checksum(record_id: str, record_class: str, payload: bytes) -> int:
    """Return the CRC that is stored with a record."""
    return zlib.crc32(payload, zlib.crc32(f"{record_id}\0{record_class}".encode("utf-8", "replace")))


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a database file in autocommit mode. Text that is no longer UTF-8 reads as such and fails its checksum."""
    uri = path.absolute().as_uri() + ("?mode=ro" if read_only else "")
    connection = sqlite3.connect(uri, timeout=1.0, isolation_level=None, check_same_thread=False, uri=True)
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return connection


def create_schema(connection: sqlite3.Connection) -> None:
    """Make an empty database a spool."""
    connection.executescript(
        f"BEGIN;{_SCHEMA}PRAGMA application_id={APPLICATION_ID};PRAGMA user_version={SCHEMA_VERSION};COMMIT;"
    )


class Store:
    """The open database. `classes` bounds the classes it knows; others found on disk get the default bounds."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        classes: Mapping[str, RecordClass],
        synchronous: Synchronous,
        max_dead_letters: int,
    ) -> None:
        self._sql = connection
        self._classes = dict(classes)
        self._max_dead_letters = max_dead_letters
        # Numbers that no earlier store of this process has given: one that replaces a damaged file meets old holders.
        self._leases = time.monotonic_ns()
        self._sql.execute(f"PRAGMA synchronous={synchronous}")
        self._sql.execute(f"PRAGMA journal_size_limit={_LOG_LIMIT_BYTES}")
        # Whoever held a lease is gone: this process holds the lock and has leased nothing yet.
        self._sql.execute("UPDATE records SET lease = 0, due_ns = 0 WHERE lease != 0 OR due_ns != 0")
        self.usage = {
            name: Usage(rows, size)
            for name, rows, size in self._sql.execute(
                "SELECT class, count(*), sum(length(payload)) FROM records GROUP BY class"
            )
        }
        self._find_oldest()
        self.dead_letters: int = self._sql.execute("SELECT count(*) FROM dead_letters").fetchone()[0]
        self._changes: Changes = Counter()
        self._before: tuple[dict[str, Usage], int] = ({}, 0)
        self._unwritten: list[Any] = []

    # -- transactions ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a transaction."""
        self._sql.execute("BEGIN IMMEDIATE")
        self._before = ({name: usage.copy() for name, usage in self.usage.items()}, self.dead_letters)
        self._changes = Counter()

    def commit(self) -> Changes:
        """Make it durable (as far as `synchronous` says) and answer what it changed."""
        self._flush()
        self._find_oldest()
        self._sql.execute("COMMIT")
        return self._changes

    def rollback(self) -> None:
        """Undo what was done since `begin`; harmless when SQLite has done so already."""
        self.usage, self.dead_letters = self._before
        self._unwritten = []
        if self._sql.in_transaction:
            self._sql.execute("ROLLBACK")

    def close(self) -> None:
        """Fold the log into the database file and close it."""
        self._sql.close()

    # -- operations, inside a transaction ----------------------------------------------------------------------------

    def put(self, name: str, record_id: str, payload: bytes, now_ns: int, *, fresh: bool) -> str:
        """Insert a record; answer "committed", "duplicate" or "refused:<why>". `fresh`: the id was drawn for it."""
        outcome = "" if fresh else self._twin(name, record_id, payload)
        outcome = outcome or self._admit(name, payload, now_ns)
        if not outcome:
            self._insert(name, record_id, payload, now_ns, 0)
            outcome = "committed"
        self._changes[name, outcome] += 1
        return outcome

    def restore(self, name: str, record_id: str, payload: bytes, created_ns: int, attempts: int) -> bool:
        """Take over a record read from elsewhere, beyond any bound; False when it is there already."""
        if self._twin(name, record_id, payload):
            return False
        self._insert(name, record_id, payload, created_ns, attempts)
        return True

    def lease(self, name: str, max_rows: int, max_bytes: int, until_ns: int, now_ns: int) -> tuple[int, list[Record]]:
        """Hand out the oldest free records, at least one if there is any; answer the lease's number and them."""
        self.expire(name, now_ns)
        self._leases += 1
        found = self._one(_LEASABLE, (name, now_ns, self._expiry_ns(name, now_ns), max_rows, max_bytes))[0]
        taken: list[Record] = []
        leased: list[int] = []
        corrupt: list[int] = []
        for seq, record_id, payload_hex, crc, created_ns, attempts, lease in msgspec.json.decode(found):
            payload = bytes.fromhex(payload_hex)
            if checksum(record_id, name, payload) != crc:
                corrupt.append(seq)
                continue
            taken.append(Record(record_id, payload, created_ns, attempts + 1))
            leased.append(seq)
            self._usage(name).leased += not lease
        if leased:
            self._sql.execute(
                "UPDATE records SET lease = ?, due_ns = ?, attempts = attempts + 1"
                " WHERE seq IN (SELECT value FROM json_each(?))",
                (self._leases, until_ns, _json(leased)),
            )
        if corrupt:
            self._bury("seq", corrupt, name, now_ns, "corrupt", "the stored bytes are not those that were committed")
        return self._leases, taken

    def delivered(self, name: str, ids: Collection[str]) -> None:
        """Forget records that have arrived, whoever holds the lease by now."""
        self._changes[name, "delivered"] += self._delete("id", ids, name)

    def release(self, name: str, lease: int, ids: Collection[str]) -> None:
        """Give records back for the next lease, unless this lease has run out and another holds them."""
        self._flush()
        released = self._sql.execute(
            "UPDATE records SET lease = 0, due_ns = 0 WHERE lease = ? AND id IN (SELECT value FROM json_each(?))",
            (lease, _json(ids)),
        ).rowcount
        self._usage(name).leased -= released

    def bury(self, name: str, lease: int, ids: Collection[str], now_ns: int, kind: str, reason: str) -> None:
        """Move records of this lease to the dead letters."""
        self._flush()
        held = self._one(
            "SELECT json_group_array(seq) FROM records WHERE lease = ? AND id IN (SELECT value FROM json_each(?))",
            (lease, _json(ids)),
        )[0]
        self._bury("seq", msgspec.json.decode(held), name, now_ns, kind, reason)

    def expire(self, name: str, now_ns: int) -> None:
        """Part with records that have grown too old, unless they are being delivered."""
        bounds, before_ns = self._bounds(name), self._expiry_ns(name, now_ns)
        oldest = self._oldest_free(name, now_ns)
        if oldest is None or oldest[1] >= before_ns:
            return
        found = self._one(
            "SELECT json_group_array(seq) FROM records WHERE class = ? AND due_ns <= ? AND created_ns < ?",
            (name, now_ns, before_ns),
        )[0]
        expired: list[int] = msgspec.json.decode(found)
        if bounds.when_expired == "dead_letter":
            self._bury("seq", expired, name, now_ns, "expired", f"older than {bounds.max_age_s:g} s")
        else:
            self._changes[name, "expired"] += self._delete("seq", expired, name)

    def revive(self, name: str, now_ns: int) -> int:
        """Move the dead letters of a class back among its records, as far as its bounds allow; answer how many."""
        revived = 0
        for seq, record_id, payload in self._sql.execute(
            "SELECT seq, id, payload FROM dead_letters WHERE class = ? ORDER BY seq", (name,)
        ).fetchall():
            twin = self._twin(name, record_id, payload)
            if not twin:
                if self._admit(name, payload, now_ns, make_room=False):
                    break
                self._insert(name, record_id, payload, now_ns, 0)
                revived += 1
            self._sql.execute("DELETE FROM dead_letters WHERE seq = ?", (seq,))
            self.dead_letters -= 1
        self._changes[name, "revived"] += revived
        return revived

    # -- reading -----------------------------------------------------------------------------------------------------

    def read_dead_letters(self, name: str | None, limit: int) -> list[DeadLetter]:
        """Return the newest dead letters of a class, or of all."""
        rows = self._sql.execute(
            "SELECT id, class, payload, created_ns, attempts, died_ns, kind, reason FROM dead_letters"
            " WHERE ? IS NULL OR class = ? ORDER BY seq DESC LIMIT ?",
            (name, name, limit),
        )
        return [DeadLetter(*row) for row in rows]

    # -- parts -------------------------------------------------------------------------------------------------------

    def _bounds(self, name: str) -> RecordClass:
        return self._classes.setdefault(name, RecordClass(name))

    def _usage(self, name: str) -> Usage:
        return self.usage.setdefault(name, Usage())

    def _expiry_ns(self, name: str, now_ns: int) -> int:
        return now_ns - int(self._bounds(name).max_age_s * 1e9)

    def _one(self, query: str, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._sql.execute(query, parameters).fetchone()
        return row

    def _twin(self, name: str, record_id: str, payload: bytes) -> str:
        """Say what a record of the same id makes of this one; "" when there is none."""
        self._flush()
        twin = self._sql.execute("SELECT class, crc FROM records WHERE id = ?", (record_id,)).fetchone()
        if twin is None:
            return ""
        return "duplicate" if twin == (name, checksum(record_id, name, payload)) else "refused:id_conflict"

    def _admit(self, name: str, payload: bytes, now_ns: int, *, make_room: bool = True) -> str:
        """Say why a record cannot be inserted, after making room if the class's policy is to; "" when it can."""
        bounds, usage = self._bounds(name), self._usage(name)
        if len(payload) > bounds.max_bytes:
            return "refused:too_large"
        while usage.rows >= bounds.max_rows or usage.bytes + len(payload) > bounds.max_bytes:
            by_rows = usage.rows >= bounds.max_rows
            if not make_room or bounds.when_full == "refuse" or not self._evict_oldest(name, now_ns):
                return "refused:full_rows" if by_rows else "refused:full_bytes"
        return ""

    def _evict_oldest(self, name: str, now_ns: int) -> bool:
        oldest = self._oldest_free(name, now_ns)
        if oldest is not None:
            self._changes[name, "evicted"] += self._delete("seq", [oldest[0]], name)
        return oldest is not None

    def _oldest_free(self, name: str, now_ns: int) -> tuple[int, int] | None:
        """Find the oldest record that nobody delivers at the moment: (seq, created_ns)."""
        self._flush()
        row: tuple[int, int] | None = self._sql.execute(
            "SELECT seq, created_ns FROM records WHERE class = ? AND due_ns <= ? ORDER BY seq LIMIT 1", (name, now_ns)
        ).fetchone()
        return row

    def _find_oldest(self) -> None:
        for name, usage in self.usage.items():
            (usage.oldest_ns,) = self._one(
                "SELECT coalesce((SELECT created_ns FROM records WHERE class = ? ORDER BY seq LIMIT 1), 0)", (name,)
            )

    def _insert(self, name: str, record_id: str, payload: bytes, created_ns: int, attempts: int) -> None:
        self._unwritten += (record_id, name, payload, checksum(record_id, name, payload), created_ns, attempts)
        usage = self._usage(name)
        usage.rows += 1
        usage.bytes += len(payload)

    def _flush(self) -> None:
        """Write down the inserts so far; whoever looks into the table does this first."""
        values, self._unwritten = self._unwritten, []
        start = 0
        while start < len(values):
            rows = next(size for size in _INSERT_ROWS if size * _COLUMNS <= len(values) - start)
            self._sql.execute(_INSERT[rows], values[start : start + rows * _COLUMNS])
            start += rows * _COLUMNS

    def _delete(self, key: str, values: Collection[Any], name: str) -> int:
        """Delete records by "seq" or "id"; answer how many there were."""
        self._flush()
        which = _json(values)
        rows, size, leased = self._one(
            "SELECT count(*), coalesce(sum(length(payload)), 0), coalesce(sum(lease != 0), 0) FROM records"
            f" WHERE {key} IN (SELECT value FROM json_each(?))",
            (which,),
        )
        self._sql.execute(f"DELETE FROM records WHERE {key} IN (SELECT value FROM json_each(?))", (which,))
        usage = self._usage(name)
        usage.rows -= rows
        usage.bytes -= size
        usage.leased -= leased
        return int(rows)

    def _bury(self, key: str, values: Collection[Any], name: str, now_ns: int, kind: str, reason: str) -> None:
        # A twin that died earlier makes room: the same id holds the same payload.
        self._sql.execute(
            "INSERT OR REPLACE INTO dead_letters (id, class, payload, created_ns, attempts, died_ns, kind, reason)"
            " SELECT id, class, payload, created_ns, attempts, ?, ?, ? FROM records"
            f" WHERE {key} IN (SELECT value FROM json_each(?)) ORDER BY seq",
            (now_ns, kind, reason[:_REASON_LENGTH], _json(values)),
        )
        self._changes[name, f"dead_lettered:{kind}"] += self._delete(key, values, name)
        self.dead_letters = self._one("SELECT count(*) FROM dead_letters", ())[0]
        surplus = self.dead_letters - self._max_dead_letters
        if surplus > 0:
            self._sql.execute(
                "DELETE FROM dead_letters WHERE seq IN (SELECT seq FROM dead_letters ORDER BY seq LIMIT ?)", (surplus,)
            )
            self.dead_letters -= surplus
            self._changes[name, "dead_discarded"] += surplus


def _json(values: Collection[Any]) -> str:
    return msgspec.json.encode(list(values)).decode()
