"""The spool's books: every record that was ever offered is in exactly one place, and the sums agree at any moment.

Any thread may offer and read; only the writer posts what a transaction did, all of it at once. Nothing here touches
the disk or waits for anybody who does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from reporters.spool._model import ClassStatistics, Pending, SpoolStatistics, State
from reporters.spool._store import Changes, Usage
from runtime import _native


class Ledger:
    """Count records by class, and hold what the spool says about itself. `path` is for the reader's eyes."""

    def __init__(self, path: str, classes: Iterable[str], max_backlog_rows: int, max_backlog_bytes: int) -> None:
        self._path = path
        self._names = set(classes)
        self._max_rows = max_backlog_rows
        self._max_bytes = max_backlog_bytes
        self._lock = _native.allocate_lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._totals: Counter[str] = Counter()
        self._usage: dict[str, Usage] = {}
        self._dead_letters = 0
        self._backlog_rows = 0
        self._backlog_bytes = 0
        self._state: State = "new"
        self._reason = "not started"

    @property
    def state(self) -> State:
        """What the spool is doing at the moment."""
        return self._state

    @property
    def reason(self) -> str:
        """What is wrong, until a record is committed again; "" when all is well."""
        return self._reason

    def become(self, state: State, reason: str = "") -> None:
        """Enter a state; from now on `offer` decides by it. "closed" is the last one, and keeps the last reason."""
        with self._lock:
            if state != "closed":
                self._reason = reason
            if self._state != "closed":
                self._state = state

    def in_words(self, refusal: str) -> str:
        """Say to whoever was refused all that there is to say."""
        return self._reason or refusal if refusal == "unavailable" else refusal

    def offer(self, name: str, size: int) -> str:
        """Count a record that is offered; answer "" when it may join the backlog, else why it is refused."""
        with self._lock:
            self._names.add(name)
            self._counts[name, "offered"] += 1
            refusal = self._refusal(size)
            if refusal:
                self._counts[name, f"refused:{refusal}"] += 1
                return refusal
            self._counts[name, "backlog"] += 1
            self._backlog_rows += 1
            self._backlog_bytes += size
            return ""

    def _refusal(self, size: int) -> str:
        if self._state not in ("ready", "opening"):
            return self._state
        if self._backlog_rows >= self._max_rows or self._backlog_bytes + size > self._max_bytes:
            return "backlog"
        return ""

    def refuse(self, name: str, reason: str) -> None:
        """Count a record that is refused for what it is."""
        with self._lock:
            self._names.add(name)
            self._counts[name, "offered"] += 1
            self._counts[name, f"refused:{reason}"] += 1

    def commit(
        self, taken: Iterable[tuple[str, int]], changes: Changes, usage: Mapping[str, Usage], dead_letters: int
    ) -> bool:
        """Post a transaction: the records (class, size) it took from the backlog, and what it did.

        True when it brought records, which also proves that what was wrong no longer is.
        """
        brought = any(what in ("committed", "revived") for _, what in changes)
        with self._lock:
            self._take(taken)
            self._counts.update(changes)
            self._publish(usage, dead_letters)
            self._totals["commits"] += 1
            if brought and self._state == "ready":
                self._reason = ""
        return brought

    def fail(self, taken: Iterable[tuple[str, int]], reason: str) -> None:
        """Post records that were taken from the backlog and could not be committed."""
        with self._lock:
            for name in self._take(taken):
                self._counts[name, f"refused:{reason}"] += 1

    def count_failed_commit(self) -> None:
        """Post a transaction that was tried and came to nothing."""
        with self._lock:
            self._totals["failed_commits"] += 1

    def opened(self, usage: Mapping[str, Usage], dead_letters: int, *, set_aside: bool, salvaged: int) -> None:
        """Post what is on disk after the file was opened (again)."""
        with self._lock:
            for name in usage.keys() | self._usage.keys():
                before, after = self._usage.get(name, Usage()).rows, usage.get(name, Usage()).rows
                self._counts[name, "recovered"] += max(after - before, 0)
                self._counts[name, "lost"] += max(before - after, 0)
                self._names.add(name)
            self._publish(usage, dead_letters)
            self._totals["set_aside"] += set_aside
            self._totals["salvaged"] += salvaged
            if self._state != "closed":
                self._state, self._reason = "ready", ""

    def _take(self, taken: Iterable[tuple[str, int]]) -> list[str]:
        names = []
        for name, size in taken:
            self._counts[name, "backlog"] -= 1
            self._backlog_rows -= 1
            self._backlog_bytes -= size
            names.append(name)
        return names

    def _publish(self, usage: Mapping[str, Usage], dead_letters: int) -> None:
        self._usage = {name: one.copy() for name, one in usage.items()}
        self._dead_letters = dead_letters

    def pending(self, name: str) -> Pending:
        """Say what waits on disk in a class, as of the last commit."""
        with self._lock:
            usage = self._usage.get(name)
            return Pending() if usage is None else Pending(usage.rows, usage.bytes, usage.oldest_ns)

    def statistics(self) -> SpoolStatistics:
        """Close the books for a moment and copy them."""
        with self._lock:
            return SpoolStatistics(
                state=self._state,
                reason=self._reason,
                path=self._path,
                classes={name: self._class_statistics(name) for name in sorted(self._names)},
                dead_letters=self._dead_letters,
                dead_discarded=sum(n for (_, what), n in self._counts.items() if what == "dead_discarded"),
                commits=self._totals["commits"],
                failed_commits=self._totals["failed_commits"],
                set_aside=self._totals["set_aside"],
                salvaged=self._totals["salvaged"],
            )

    def _class_statistics(self, name: str) -> ClassStatistics:
        plain: Counter[str] = Counter()
        by_reason: dict[str, dict[str, int]] = {"refused": {}, "dead_lettered": {}}
        for (owner, what), number in self._counts.items():
            if owner == name and number:
                kind, _, reason = what.partition(":")
                if reason:
                    by_reason[kind][reason] = number
                else:
                    plain[what] = number
        usage = self._usage.get(name, Usage())
        return ClassStatistics(
            offered=plain["offered"],
            backlog=plain["backlog"],
            committed=plain["committed"],
            duplicates=plain["duplicate"],
            refused=by_reason["refused"],
            recovered=plain["recovered"],
            revived=plain["revived"],
            stored=usage.rows,
            stored_bytes=usage.bytes,
            leased=usage.leased,
            delivered=plain["delivered"],
            dead_lettered=by_reason["dead_lettered"],
            expired=plain["expired"],
            evicted=plain["evicted"],
            lost=plain["lost"],
        )
