"""The face of the durable spool.

Any thread of the process that started it may use a spool; a forked child may not, and is told so. Offering never
blocks; everything else waits for the writer's next commit, in a thread, a green actor or a greenlet of the host alike.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from reporters.spool._ids import IdSource
from reporters.spool._jobs import Call, Put, T
from reporters.spool._ledger import Ledger
from reporters.spool._model import (
    DeadLetter,
    Lease,
    NotCommitted,
    Pending,
    RecordClass,
    SpoolStatistics,
    SpoolUnavailable,
    Synchronous,
)
from reporters.spool._store import Store
from reporters.spool._ticket import Ticket
from reporters.spool._writer import Writer
from runtime import _native
from runtime._fork import in_child
from runtime.clock import Clock
from runtime.errors import AlreadyStarted, BeamstalkError, expected

_CALL_S = 30.0
_SQLITE = (3, 37)  # strict tables
_ID = re.compile(r"[ -~]{1,200}")  # printable ASCII


class Settlement(msgspec.Struct, frozen=True):
    """What became of the records of a lease, by id; those not named are given back.

    delivered: arrived. buried: not going to arrive; the value says (kind, reason).
    """

    delivered: Iterable[str] = ()
    buried: Mapping[str, tuple[str, str]] = {}


class Spool:
    """Keep records on disk until they are delivered.

    A record is durable once it is committed: from then on it survives the process (`synchronous="FULL"`: the machine
    as well) and is handed out until somebody settles it. Ids are stable and order by time; who offers the same id twice
    gets one record.

    directory: belongs to this spool alone; created with mode 0700, its files 0600. One process at a time owns it. The
        spool of a second one is unavailable, refuses what it is offered, and takes over when the first is gone.
    classes: bounds and policies per kind of record. Default one class, "default".
    synchronous: "FULL" (default) waits for the disk at each commit; "NORMAL" is faster and survives a crash of the
        process, but a power cut may cost the last commits.
    owner: who uses it. A second spool of the same owner in this process closes the first and goes on with its records:
        the next incarnation of an actor that was killed.
    max_record_bytes: a larger payload is refused. Default 1 MiB.
    max_backlog_rows, max_backlog_bytes: what may wait in memory for the writer. Default 100,000 and 64 MiB.
    max_dead_letters: how many are kept; the oldest go first. Default 10,000.

    Damaged files, full disks, read-only directories and second owners never raise: see `statistics()`.

    >>> import tempfile
    >>> spool = Spool(Path(tempfile.mkdtemp()) / "spool")
    >>> spool.start()
    >>> record_id = spool.commit(b"payload")
    >>> lease = spool.lease("default")
    >>> [record.payload for record in lease.records], lease.records[0].id == record_id
    ([b'payload'], True)
    >>> spool.settle(lease, Settlement(delivered=[record_id]))
    >>> spool.statistics().classes["default"].delivered
    1
    >>> spool.close()
    True
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        classes: Iterable[RecordClass] = (RecordClass("default"),),
        synchronous: Synchronous = "FULL",
        owner: str = "",
        clock: Clock | None = None,
        max_record_bytes: int = 1 << 20,
        max_backlog_rows: int = 100_000,
        max_backlog_bytes: int = 64 << 20,
        max_dead_letters: int = 10_000,
    ) -> None:
        if sqlite3.sqlite_version_info < _SQLITE:
            raise BeamstalkError(
                f"expected SQLite 3.37 or newer, got: {sqlite3.sqlite_version}. Use a newer Python build"
            )
        known = {one.name: one for one in classes}
        if not known:
            raise expected("at least one record class", [])
        if synchronous not in ("FULL", "NORMAL"):
            raise expected("synchronous to be 'FULL' or 'NORMAL'", synchronous)
        for name, value in (
            ("max_record_bytes", max_record_bytes),
            ("max_backlog_rows", max_backlog_rows),
            ("max_backlog_bytes", max_backlog_bytes),
            ("max_dead_letters", max_dead_letters),
        ):
            if not value > 0:
                raise expected(f"{name} to be a positive number", value)
        self.directory = Path(directory).absolute()
        self.owner = owner
        self._clock = clock or Clock()
        self._ids = IdSource(self._clock.system_ns)
        self._max_record_bytes = max_record_bytes
        self._classes = known
        self._pid = 0
        self._ledger = Ledger(str(self.directory / "spool.db"), known, max_backlog_rows, max_backlog_bytes)
        self._writer = Writer(self.directory, known, synchronous, max_dead_letters, self._clock, self._ledger)

    def start(self, timeout_s: float = 30.0) -> None:
        """Start the writer and wait until the file is open, or cannot be opened; never raises for its state.

        A large file takes a while to be checked; when that is longer than `timeout_s`, records may be offered already.
        Errors: AlreadyStarted.
        """
        if self._pid:
            raise AlreadyStarted(f"expected a new spool, got: {self.directory}, {self._ledger.state}")
        self._pid = os.getpid()
        if self.owner:
            _succeed(self)
        self._ledger.become("opening")
        self._writer.start(timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Refuse new records, commit those that wait, close the file and give up its ownership.

        Blocks at most `timeout_s`; False when it takes longer, and it then goes on by itself. Harmless when repeated.
        """
        if self._pid != os.getpid():
            return True
        self._ledger.become("closed")
        closed = self._writer.close(timeout_s)
        if closed:
            _forget(self)
        return closed

    # -- records in --------------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Draw an id for a record: a UUID of version 7, greater than all drawn before."""
        return self._ids.next()

    def offer(self, payload: bytes, *, id: str | None = None, record_class: str = "") -> bool:
        """Hand over a record without waiting; False when it is refused at once (`statistics()` says why).

        True is no promise: the record is committed soon, unless the process or the disk fails first. Any thread; never
        blocks, never raises for the spool's state. `id` defaults to a new one, `record_class` to the first class.
        """
        return self._put(payload, id, record_class, None) == ""

    def put(self, payload: bytes, *, id: str | None = None, record_class: str = "") -> Ticket:
        """Hand over a record and get a ticket to wait for; see `offer`."""
        ticket = Ticket(id or "")
        refusal = self._put(payload, id, record_class, ticket)
        if refusal:
            ticket.complete("refused", self._ledger.in_words(refusal))
        return ticket

    def commit(self, payload: bytes, *, id: str | None = None, record_class: str = "", timeout_s: float = 5.0) -> str:
        """Hand over a record and return its id once it is on disk.

        Blocks the calling thread or greenlet for about one commit (a millisecond or so), at most `timeout_s`. Errors:
        NotCommitted; with the reason "timeout" the record may still be committed later.
        """
        ticket = self.put(payload, id=id, record_class=record_class)
        if not ticket.wait(timeout_s):
            raise NotCommitted(ticket.reason or "timeout")
        return ticket.id

    def _put(self, payload: bytes, record_id: str | None, record_class: str, ticket: Ticket | None) -> str:
        if self._pid != os.getpid():
            # The parent's books and locks are none of ours, and the child must not write to the parent's file.
            return "forked" if self._pid else "new"
        name = record_class or next(iter(self._classes))
        if name not in self._classes:
            raise expected(f"record_class to be one of {', '.join(self._classes)}", record_class)
        if not isinstance(payload, bytes):
            raise expected("payload to be bytes", payload)
        if record_id is not None and not _ID.fullmatch(record_id):
            raise expected("id to be 1 to 200 printable ASCII characters", record_id)
        if len(payload) > self._max_record_bytes:
            self._ledger.refuse(name, "too_large")
            return "too_large"
        refusal = self._ledger.offer(name, len(payload))
        if not refusal:
            drawn = record_id or self.new_id()
            if ticket is not None:
                ticket.id = drawn
            now_ns = self._clock.system_ns()
            self._writer.submit(Put(name, drawn, payload, now_ns, ticket, fresh=record_id is None))
        return refusal

    # -- records out -------------------------------------------------------------------------------------------------

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, on the writer's thread, whenever records have been committed. It must not block."""
        self._writer.listeners.append(listener)

    def pending(self, record_class: str) -> Pending:
        """Say what waits in a class; never blocks."""
        return self._ledger.pending(record_class)

    def lease(
        self, record_class: str, *, max_rows: int = 500, max_bytes: int = 1 << 20, lease_s: float = 120.0
    ) -> Lease:
        """Take the oldest records that nobody else holds, at least one if there is any, for `lease_s` seconds.

        Waits for one commit, so that a record which kills its courier is known for its attempts. Errors:
        SpoolUnavailable.
        """

        def take(store: Store) -> Lease:
            now_ns = self._clock.system_ns()
            until_ns = now_ns + int(lease_s * 1e9)
            number, records = store.lease(record_class, max_rows, max_bytes, until_ns, now_ns)
            return Lease(number, record_class, tuple(records), until_ns)

        return self._call(take)

    def settle(self, lease: Lease, settlement: Settlement) -> None:
        """Say what became of the records of a lease: all of it in one commit, or nothing. Errors: SpoolUnavailable."""

        def do(store: Store) -> None:
            now_ns = self._clock.system_ns()
            delivered = set(settlement.delivered)
            store.delivered(lease.record_class, delivered)
            by_fate: dict[tuple[str, str], list[str]] = {}
            for record_id, fate in settlement.buried.items():
                by_fate.setdefault(fate, []).append(record_id)
            for (kind, reason), ids in by_fate.items():
                store.bury(lease.record_class, lease.number, ids, now_ns, kind, reason)
            done = delivered | settlement.buried.keys()
            left = [record.id for record in lease.records if record.id not in done]
            store.release(lease.record_class, lease.number, left)

        self._call(do)

    # -- dead letters ------------------------------------------------------------------------------------------------

    def dead_letters(self, record_class: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Return the newest dead letters of a class, or of all. Errors: SpoolUnavailable."""
        return self._call(lambda store: store.read_dead_letters(record_class, limit))

    def revive(self, record_class: str) -> int:
        """Give the dead letters of a class another life, as far as its bounds allow; answer how many got one.

        For when what they died of has been mended: a wrong token, a missing route. Errors: SpoolUnavailable.
        """
        return self._call(lambda store: store.revive(record_class, self._clock.system_ns()))

    # -- about itself ------------------------------------------------------------------------------------------------

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything offered before is committed or refused; False when that takes longer."""
        try:
            self._call(lambda store: None, timeout_s)
        except SpoolUnavailable:
            return not any(one.backlog for one in self.statistics().classes.values())
        return True

    def statistics(self) -> SpoolStatistics:
        """Say how the spool does, exactly; never blocks."""
        if self._pid and self._pid != os.getpid():
            return SpoolStatistics(state="closed", reason="forked", path=str(self.directory), classes={})
        return self._ledger.statistics()

    def _call(self, function: Callable[[Store], T], timeout_s: float = _CALL_S) -> T:
        if self._pid != os.getpid():
            raise SpoolUnavailable("forked: a spool belongs to the process that started it" if self._pid else "new")
        call = Call(function)
        self._writer.submit(call)
        return call.result(timeout_s)


_by_owner: dict[tuple[int, Path, str], Spool] = {}
_by_owner_lock = _native.allocate_lock()


def _key(spool: Spool) -> tuple[int, Path, str]:
    return spool._pid, spool.directory, spool.owner


def _succeed(spool: Spool) -> None:
    """Close the spool that an earlier incarnation of the same owner left open: it was killed, and nobody else would."""
    with _by_owner_lock:
        earlier, _by_owner[_key(spool)] = _by_owner.get(_key(spool)), spool
    if earlier is not None:
        earlier.close()


def _forget(spool: Spool) -> None:
    with _by_owner_lock:
        if _by_owner.get(_key(spool)) is spool:
            del _by_owner[_key(spool)]


@in_child
def _new_lock() -> None:
    """Have a free lock in a forked child: the parent's may have been held by a thread that the child does not have."""
    global _by_owner_lock
    _by_owner_lock = _native.allocate_lock()
