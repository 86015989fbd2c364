"""What the spool's writer is asked to do: one job is part of one transaction.

Callers build a job and submit it; the writer runs it, perhaps twice (after a rollback), and then tells it once, `done`
or `fail`. Jobs hold no state of the spool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from reporters.spool._model import SpoolUnavailable
from reporters.spool._store import Store
from reporters.spool._ticket import Ticket
from runtime._waiting import waiter

T = TypeVar("T")


class Job(Protocol):
    """Something to do inside a transaction."""

    @property
    def taken(self) -> Sequence[tuple[str, int]]:
        """What this takes from the backlog: (class, size)."""

    def run(self, store: Store) -> None:
        """Do it; may be run again after a rollback."""

    def done(self) -> None:
        """Tell that it is committed."""

    def fail(self, reason: str) -> None:
        """Tell that it is not."""


class Put:
    """Insert a record; tell its ticket, if somebody holds one."""

    __slots__ = ("_fresh", "_now_ns", "_outcome", "_payload", "_record_id", "_ticket", "taken")

    def __init__(
        self, name: str, record_id: str, payload: bytes, now_ns: int, ticket: Ticket | None, *, fresh: bool
    ) -> None:
        self.taken = ((name, len(payload)),)
        self._record_id = record_id
        self._payload = payload
        self._now_ns = now_ns
        self._ticket = ticket
        self._fresh = fresh
        self._outcome = ""

    def run(self, store: Store) -> None:
        name = self.taken[0][0]
        self._outcome = store.put(name, self._record_id, self._payload, self._now_ns, fresh=self._fresh)

    def done(self) -> None:
        if self._ticket is not None:
            outcome, _, reason = self._outcome.partition(":")
            self._ticket.complete(outcome, reason)  # type: ignore[arg-type]

    def fail(self, reason: str) -> None:
        if self._ticket is not None:
            self._ticket.complete("refused", reason)


class Call(Generic[T]):
    """Run a function on the store and hand its result back to whoever waits."""

    __slots__ = ("_failure", "_function", "_result", "_waiter")

    taken: Sequence[tuple[str, int]] = ()

    def __init__(self, function: Callable[[Store], T]) -> None:
        self._function = function
        self._waiter = waiter()
        self._failure = ""
        self._result: T | None = None

    def run(self, store: Store) -> None:
        self._result = self._function(store)

    def done(self) -> None:
        self._waiter.wake()

    def fail(self, reason: str) -> None:
        self._failure = reason
        self._waiter.wake()

    def result(self, timeout_s: float) -> T:
        """Wait for the result. Errors: SpoolUnavailable."""
        if not self._waiter.wait(timeout_s):
            raise SpoolUnavailable(f"no answer within {timeout_s:g} s")
        if self._failure:
            raise SpoolUnavailable(self._failure)
        return self._result  # type: ignore[return-value]


class Sweep:
    """Part with what has grown too old while nobody asked for records."""

    taken: Sequence[tuple[str, int]] = ()

    def __init__(self, names: Sequence[str], now_ns: int) -> None:
        self._names = names
        self._now_ns = now_ns

    def run(self, store: Store) -> None:
        for name in {*self._names, *store.usage}:
            store.expire(name, self._now_ns)

    def done(self) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass
