"""The spool's only writer: one native thread that owns the database and commits in groups.

Whoever wants something of the database appends a job and wakes the thread; it takes all that wait, runs them in one
transaction, commits once, and tells everybody. Under load the disk thus sees one commit for many records, and alone a
record waits for no timer.

The database is a local variable of the thread and nowhere else. After a fork the child has no such thread, so it can
neither use the parent's database nor close it by collecting garbage: both would corrupt what the parent goes on using.

When a group fails, its jobs are run one by one, so that each gets its own answer. When the file turns out to be damaged
it is replaced under way; when the machine is the trouble (full, read-only, gone), jobs are refused at once and the
file is opened again later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loguru import logger

import runtime
from reporters.spool._jobs import Job, Sweep
from reporters.spool._ledger import Ledger
from reporters.spool._model import RecordClass, Synchronous
from reporters.spool._owner import Claim, Taken, claim
from reporters.spool._parker import Milestone, Parker
from reporters.spool._recovery import is_damage, open_store
from reporters.spool._store import Changes, Store
from runtime import _native
from runtime.clock import Clock
from runtime.errors import BeamstalkError

_GROUP_JOBS = 4_096
_SWEEP_S = 60.0
_REOPEN_S = (1.0, 2.0, 5.0, 15.0, 60.0)

_REASONS = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
    sqlite3.SQLITE_BUSY: "locked",
}
_ERRNO_REASONS = {
    errno.EROFS: "read_only",
    errno.EACCES: "read_only",
    errno.EPERM: "read_only",
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
}
_PASSING = frozenset({"disk_full", "locked"})
"""Trouble after which the open database is as good as before."""


class Moved(OSError):
    """The file is no longer where it was opened."""


class Writer:
    """Own the database of one spool, on one thread."""

    def __init__(
        self,
        directory: Path,
        classes: Mapping[str, RecordClass],
        synchronous: Synchronous,
        max_dead_letters: int,
        clock: Clock,
        ledger: Ledger,
    ) -> None:
        self._directory = directory
        self._path = directory / "spool.db"
        self._classes = classes
        self._synchronous: Synchronous = synchronous
        self._max_dead_letters = max_dead_letters
        self._clock = clock
        self._ledger = ledger
        self._parker = Parker(clock)
        self._jobs: deque[Job] = deque()
        self._closing = False
        self._gone = False
        self._claim: Claim | None = None
        self._inode = 0
        self._failures = 0
        self._reopen_at_ns = 0
        self._tried = Milestone()
        self._ended = Milestone()
        self.listeners: list[Callable[[], None]] = []
        """Called on the writer's thread after a commit that brought records; must be quick and must not raise."""

    # -- any thread --------------------------------------------------------------------------------------------------

    def start(self, timeout_s: float) -> bool:
        """Start the thread; True when its first attempt to open the file is over, whatever came of it."""
        _native.start_new_thread(self._run, ())
        return self._tried.wait(timeout_s)

    def submit(self, job: Job) -> None:
        """Have a job done; it is told in any case."""
        self._jobs.append(job)
        self._parker.unpark()
        if self._gone:  # published before the thread looked at the jobs for the last time
            self._refuse(self._take_jobs(), "closed")

    def close(self, timeout_s: float) -> bool:
        """Finish what was submitted and end the thread; False when it takes longer than that."""
        self._closing = True
        self._parker.unpark()
        return self._ended.wait(timeout_s)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        store: Store | None = None
        swept_ns = self._clock.monotonic_ns()
        try:
            while True:
                now_ns = self._clock.monotonic_ns()
                if store is None and now_ns >= self._reopen_at_ns and not self._closing:
                    store = self._open()
                    self._tried.reach()
                jobs = self._take_jobs()
                if not jobs and store is not None and now_ns - swept_ns >= _SWEEP_S * 1e9:
                    jobs, swept_ns = [Sweep(tuple(self._classes), self._clock.system_ns())], now_ns
                if jobs:
                    store = self._commit(store, jobs)
                elif self._closing:
                    return
                else:
                    self._parker.park(_SWEEP_S if store is not None else (self._reopen_at_ns - now_ns) / 1e9)
        finally:
            self._end(store)

    def _take_jobs(self) -> list[Job]:
        jobs: list[Job] = []
        with contextlib.suppress(IndexError):
            while len(jobs) < _GROUP_JOBS:
                jobs.append(self._jobs.popleft())
        return jobs

    def _commit(self, store: Store | None, jobs: Sequence[Job]) -> Store | None:
        """Run jobs in one transaction and tell them; answer the store to go on with."""
        if store is None:
            self._refuse(jobs, "unavailable")
            return None
        try:
            changes = self._transact(store, jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the jobs must be told and the thread must live
            return self._after_failure(store, jobs, error)
        self._tell(store, jobs, changes)
        return store

    def _transact(self, store: Store, jobs: Sequence[Job]) -> Changes:
        assert self._claim is not None
        with self._claim.at_work:
            if self._has_moved():
                raise Moved(f"{self._path} was moved or removed")
            store.begin()
            try:
                for job in jobs:
                    job.run(store)
                changes = store.commit()
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # the failure itself is what counts
                    store.rollback()
                raise
        return changes

    def _tell(self, store: Store, jobs: Sequence[Job], changes: Changes) -> None:
        taken = [one for job in jobs for one in job.taken]
        brought = self._ledger.commit(taken, changes, store.usage, store.dead_letters)
        for job in jobs:
            job.done()
        if brought:
            for listener in self.listeners:
                try:
                    listener()
                except Exception:  # noqa: BLE001 - what it listens to is done, and others wait
                    logger.exception("spool {}: a listener failed", self._directory)

    def _after_failure(self, store: Store, jobs: Sequence[Job], error: Exception) -> Store | None:
        self._ledger.count_failed_commit()
        if is_damage(error):
            self._part_from(store)
            replaced = self._open(suspect=str(error))
            if replaced is None:
                self._refuse(jobs, "unavailable")
                return None
            store = replaced
            if len(jobs) == 1:
                return self._commit_or_refuse(store, jobs)
        if len(jobs) > 1:
            current: Store | None = store
            for job in jobs:
                current = self._commit(current, [job])
            return current
        reason = _reason(error)
        if reason in _PASSING or not isinstance(error, OSError | sqlite3.Error):
            self._ledger.become("ready", self._complaint(error))
            self._refuse(jobs, reason)
            return store
        self._part_from(store)
        self._give_up(error)
        self._refuse(jobs, reason)
        return None

    def _commit_or_refuse(self, store: Store, jobs: Sequence[Job]) -> Store | None:
        """Try once more in a file that was just replaced; a second failure is not followed by a third attempt."""
        try:
            changes = self._transact(store, jobs)
        except Exception as error:  # noqa: BLE001 - as in _commit
            self._part_from(store)
            self._give_up(error)
            self._refuse(jobs, _reason(error))
            return None
        self._tell(store, jobs, changes)
        return store

    def _refuse(self, jobs: Sequence[Job], reason: str) -> None:
        """Count jobs by a word, and tell them all there is to say."""
        told = self._ledger.in_words(reason)
        for job in jobs:
            self._ledger.fail(job.taken, reason)
            job.fail(told)

    # -- opening and closing -----------------------------------------------------------------------------------------

    def _open(self, suspect: str = "") -> Store | None:
        try:
            if self._claim is None:
                self._claim = claim(self._directory)
            with self._claim.at_work:
                store, opening = open_store(
                    self._path, self._classes, self._synchronous, self._max_dead_letters, suspect
                )
            self._inode = self._path.stat().st_ino
        except (OSError, sqlite3.Error, BeamstalkError, Taken) as error:
            self._give_up(error)
            return None
        self._failures = 0
        aside = opening.set_aside
        self._ledger.opened(store.usage, store.dead_letters, set_aside=aside is not None, salvaged=opening.salvaged)
        if aside is not None:
            logger.error(
                "spool {}: {}; set aside as {}, {} records salvaged",
                self._directory,
                opening.damage,
                aside.name,
                opening.salvaged,
            )
            runtime.execute(
                "telemetry.spool.damaged",
                {"salvaged": opening.salvaged},
                {"path": str(self._path), "reason": opening.damage, "set_aside": str(aside)},
            )
        return store

    def _give_up(self, error: Exception) -> None:
        """Serve nobody for a while."""
        self._release_claim()
        self._ledger.become("unavailable", self._complaint(error))
        delay_s = _REOPEN_S[min(self._failures, len(_REOPEN_S) - 1)]
        self._failures += 1
        self._reopen_at_ns = self._clock.monotonic_ns() + int(delay_s * 1e9)

    def _complaint(self, error: Exception) -> str:
        """Put trouble into words; when it is news, say so."""
        reason = f"{_reason(error)}: {error}"
        if self._ledger.reason != reason:
            logger.error("spool {} cannot take records: {}", self._directory, reason)
            runtime.execute("telemetry.spool.unavailable", {}, {"path": str(self._path), "reason": reason})
        return reason

    def _part_from(self, store: Store) -> None:
        assert self._claim is not None
        with self._claim.at_work, contextlib.suppress(sqlite3.Error):  # it failed before; nothing depends on this
            store.close()

    def _has_moved(self) -> bool:
        try:
            return os.stat(self._path).st_ino != self._inode
        except FileNotFoundError:
            return True

    def _release_claim(self) -> None:
        held, self._claim = self._claim, None
        if held is not None:
            held.release()

    def _end(self, store: Store | None) -> None:
        self._ledger.become("closed")
        if store is not None:
            self._part_from(store)
        self._release_claim()
        self._gone = True
        while jobs := self._take_jobs():
            self._refuse(jobs, "closed")
        self._tried.reach()
        self._ended.reach()


def _reason(error: BaseException) -> str:
    """Name trouble in a word that can be counted."""
    if isinstance(error, Taken):
        return "second_owner"
    if is_damage(error):
        return "damaged"
    if isinstance(error, sqlite3.Error):
        return _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "database_error")
    if isinstance(error, Moved):
        return "moved"
    if isinstance(error, OSError):
        return _ERRNO_REASONS.get(error.errno or 0, "cannot_open")
    return type(error).__name__
