"""What every durable reporter shares: events in, records into an outbox, a promise to those who ask for one.

`DurableReporter` is the actor. It runs on a thread of its own, because it reads files and waits for the disk; events
come straight from the emitters into its mailbox, which outlives it. Whoever emits with `runtime.commit` does not go
through the mailbox: the record is made in the emitter's own thread, and the emitter waits until it is on disk.

A subclass of `DurableDeclaration` says what to make of an event (`records`), and is what goes among an application's
children.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

import runtime
from actors import Actor
from reporters.delivery._outbox import Outbox, OutboxStatistics
from reporters.spool import Ticket
from runtime import Event, _native
from runtime._dispatch import Obligation
from runtime._mailbox import Mailbox, MailboxStatistics
from runtime.clock import Clock
from runtime.errors import ExitReason, expected
from supervisors.child_spec import ChildSpec

_SHUTDOWN_MARGIN_S = 1.0
_TAKE = 256


class Draft(msgspec.Struct, frozen=True):
    """A record to be made: payload, class, its id when it has one of its own, and what `emit` wants to know of it."""

    payload: bytes
    record_class: str
    id: str | None = None
    about: Any = None


class Made(msgspec.Struct, frozen=True):
    """The records of an event, perhaps none; `problem` says what of it could not be made a record."""

    drafts: Sequence[Draft] = ()
    problem: str = ""


class DurableStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Account for a durable reporter: events in its mailbox, records in its outbox, `skipped` events by reason."""

    name: str
    mailbox: MailboxStatistics
    outbox: OutboxStatistics
    skipped: Mapping[str, int]


class Owed:
    """The records that a reporter owes for one event."""

    def __init__(self, tickets: Sequence[Ticket], reason: str) -> None:
        self._tickets = tickets
        self._reason = reason

    def wait(self, timeout_s: float) -> str:
        """Wait until all are on disk; "" when they are, otherwise why not."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        for ticket in self._tickets:
            if not ticket.wait(max(deadline_ns - time.monotonic_ns(), 0) / 1e9):
                return ticket.reason or "timeout"
        return self._reason


class DurableMailbox(Mailbox):
    """A mailbox whose owner can be asked to commit an event at once."""

    __slots__ = ("_declared",)

    def __init__(self, declared: DurableDeclaration, capacity: int) -> None:
        super().__init__(capacity)
        self._declared = declared

    def commit(self, event: Event) -> Obligation:
        """Begin to commit an event, in the emitter's thread; does not wait and does not raise."""
        return self._declared.commit(event)


class DurableDeclaration:
    """Declare a durable reporter, as a child of an application or supervisor. Subclasses are the public ones.

    One declaration serves one child at a time; its outbox and its statistics go on across restarts.
    """

    def __init__(
        self, name: str, events: Iterable[str], *, capacity: int, drain_s: float, clock: Clock | None = None
    ) -> None:
        if not isinstance(name, str) or not name:
            raise expected("name to be a non-empty string", name)
        if not drain_s > 0:
            raise expected("drain_s to be a positive number of seconds", drain_s)
        self.name = name
        self.events = tuple(events)
        self.drain_s = drain_s
        self.clock = clock or Clock()
        self._takes_clock = clock is None
        self.mailbox = DurableMailbox(self, capacity)
        self.outbox: Outbox
        self._skipped: Counter[str] = Counter()
        self._skipped_lock = _native.allocate_lock()
        self._pid = os.getpid()

    def records(self, event: Event) -> Made:
        """Make the records of an event; any thread, several at once. What it raises costs the event and is counted."""
        raise NotImplementedError

    def emit(self, event: Event, drafts: Sequence[Draft]) -> None:
        """Emit, in-process, what was made of an event. Default: nothing."""

    def open(self, clock: Clock) -> None:
        """Open the outbox, by the clock of the tree unless the declaration has one of its own."""
        if self._takes_clock:
            self.clock = clock
        self.outbox.open(self.clock)

    def commit(self, event: Event) -> Owed:
        """Make an event's records and hand them to the spool, in the calling thread; does not wait or raise."""
        try:
            made = self.records(event)
        except Exception as error:  # noqa: BLE001 - user functions in definitions; each costs its event, nothing else
            self.skip("error")
            return Owed((), f"{type(error).__name__}: {error}")
        tickets = [self.outbox.put(one.payload, id=one.id, record_class=one.record_class) for one in made.drafts]
        if made.drafts:
            self.emit(event, made.drafts)
        return Owed(tickets, made.problem or ("" if tickets else "nothing of it is to be recorded"))

    def skip(self, reason: str) -> None:
        """Count an event of which there is no record."""
        with self._skipped_lock:
            self._skipped[reason] += 1

    def child_spec(self) -> ChildSpec:
        """Answer the specification under which a supervisor starts the reporter."""
        if self._pid != os.getpid():
            # In a forked child: what waits in the mailbox is the parent's to report.
            self._pid = os.getpid()
            self.mailbox.forget()
        starter = DurableReporter.options(name=self.name, mailbox=self.mailbox)
        shutdown_ms = int((self.drain_s + _SHUTDOWN_MARGIN_S) * 1000)
        return ChildSpec(self.name, (starter.start_link, (self,)), shutdown=shutdown_ms)

    def statistics(self) -> DurableStatistics:
        """Account for everything, from any thread, also before and after it runs; never blocks."""
        with self._skipped_lock:
            skipped = dict(self._skipped)
        return DurableStatistics(
            name=self.name, mailbox=self.mailbox.statistics(), outbox=self.outbox.statistics(), skipped=skipped
        )


class DurableReporter(Actor):
    """Turn events into records; see the module."""

    carrier: ClassVar[str] = "thread"

    def __init__(self, declared: DurableDeclaration) -> None:
        super().__init__()
        self._declared = declared

    def on_start(self) -> None:
        self._declared.open(self.clock)
        runtime.subscribe(self._declared.name, self._declared.events, self._declared.mailbox)

    def on_receive(self, message: Any) -> Any:
        if not isinstance(message, Event):
            return super().on_receive(message)
        self._declared.commit(message)
        return None

    def on_stop(self, reason: ExitReason = "normal") -> None:
        runtime.unsubscribe(self._declared.name)
        mailbox = self._declared.mailbox
        # Stopping comes ahead of the mail, but what was emitted before is owed.
        while messages := mailbox.take_all(_TAKE, self):
            for message in messages:
                if isinstance(message, Event):
                    self._declared.commit(message)
            mailbox.settle(self, count=len(messages))
        self._declared.outbox.close(self._declared.drain_s)

    def get_state(self) -> DurableStatistics:
        return self._declared.statistics()

    def _describe(self) -> dict[str, Any]:
        statistics = self._declared.statistics()
        spool, couriers = statistics.outbox.spool, statistics.outbox.couriers.values()
        classes = list(spool.classes.values()) if spool is not None else []
        lost = sum(sum(one.refused.values()) + one.expired + one.evicted + one.lost for one in classes)
        troubles = [spool.reason] if spool is not None else []
        troubles += [courier.circuit.reason for courier in couriers if courier.circuit.failures]
        told = {
            "queue": statistics.mailbox.pending + sum(one.backlog + one.stored for one in classes),
            "dropped": sum(statistics.mailbox.dropped.values()) + lost,
            "last_error": "; ".join(filter(None, troubles)),
            "statistics": statistics,
        }
        return {"reporter": told}
