"""A spool and the couriers that empty it, as one thing to open, fill and close.

A durable reporter's declaration holds an outbox, so that it outlives the reporter's incarnations: one that crashes or
is killed leaves a spool that goes on committing and couriers that go on delivering, and the next finds them running.
`open` and `close` are for the reporter, one at a time; everything else is for any thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from reporters.delivery._courier import Batching, Courier, CourierStatistics, Transport
from reporters.delivery._retry import RetryPolicy
from reporters.spool import Record, RecordClass, Spool, SpoolStatistics
from reporters.spool._model import Synchronous
from reporters.spool._ticket import Ticket
from runtime.clock import Clock
from runtime.errors import expected

_MAX_CHILDREN = 256
_SPOOL_SHARE = 0.2  # of the time that `close` has: to commit what waits and fold the log


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Say where the records of one class go and who is told of their fate; see `Courier` for the fields.

    `transport` makes a new one each time the outbox opens, because a transport that was cut stays cut.
    """

    record_class: RecordClass
    transport: Callable[[], Transport]
    encode: Callable[[Sequence[Record], str], bytes]
    batching: Batching = Batching()
    on_delivered: Callable[[Sequence[Record]], None] = lambda records: None
    on_buried: Callable[[Sequence[Record], str, str], None] = lambda records, kind, reason: None


class OutboxStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Say how an outbox does: None and nothing before it was ever opened."""

    spool: SpoolStatistics | None
    couriers: Mapping[str, CourierStatistics]


class Outbox:
    """Keep records on disk and deliver them.

    name: of the reporter; a second outbox of that name on the same directory in this process takes over the first's.
    directory: of the spool; in a forked child `<directory>-1`, `<directory>-2` and so on, the first that is free.
    routes: one per class of records. retry, request_s: see `Courier`.
    """

    def __init__(
        self,
        name: str,
        directory: str | os.PathLike[str],
        routes: Iterable[Route],
        *,
        synchronous: Synchronous = "FULL",
        retry: RetryPolicy | None = None,
        request_s: float = 10.0,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise expected("synchronous to be 'FULL' or 'NORMAL'", synchronous)
        self._name = name
        self._directory = Path(directory)
        self._routes = tuple(routes)
        self._synchronous: Synchronous = synchronous
        self._retry = retry or RetryPolicy()
        self._request_s = request_s
        self._spool: Spool | None = None
        self._couriers: tuple[Courier, ...] = ()
        self._home_pid = os.getpid()
        self._pid = 0

    def open(self, clock: Clock | None = None) -> Spool:
        """Open the spool and start the couriers, unless they run: then go on with them. Blocks on the disk."""
        if self._spool is not None and self._pid == os.getpid() and self._spool.statistics().state != "closed":
            return self._spool
        clock = clock or Clock()
        self._pid = os.getpid()
        for directory in self._directories():
            spool = self._spool = Spool(
                directory,
                classes=[route.record_class for route in self._routes],
                synchronous=self._synchronous,
                owner=self._name,
                clock=clock,
            )
            spool.start()
            if not spool.statistics().reason.startswith("second_owner"):
                break
            if self._pid != self._home_pid:
                spool.close()
        self._couriers = tuple(self._courier(spool, route, clock) for route in self._routes)
        for courier in self._couriers:
            courier.start()
        return spool

    def _directories(self) -> Iterator[Path]:
        """Say where the spool may be: a forked child takes the first place that no other child has.

        So each worker of a preforking host has a spool, and what one that died has left goes out with its successor.
        """
        if self._pid == self._home_pid:
            yield self._directory
        else:
            for number in range(1, _MAX_CHILDREN + 1):
                yield self._directory.with_name(f"{self._directory.name}-{number}")

    def _courier(self, spool: Spool, route: Route, clock: Clock) -> Courier:
        return Courier(
            f"{self._name} {route.record_class.name}",
            spool,
            route.record_class.name,
            route.transport(),
            route.encode,
            batching=route.batching,
            retry=self._retry,
            request_s=self._request_s,
            clock=clock,
            on_delivered=route.on_delivered,
            on_buried=route.on_buried,
        )

    def put(self, payload: bytes, *, id: str | None = None, record_class: str = "") -> Ticket:
        """Hand over a record; see `Spool.put`. Refused with "closed" while the outbox is not open."""
        if self._spool is None:
            ticket = Ticket(id or "")
            ticket.complete("refused", "closed")
            return ticket
        return self._spool.put(payload, id=id, record_class=record_class)

    def close(self, drain_s: float) -> bool:
        """Commit what waits, deliver what can be delivered, stop, all within `drain_s` seconds; the rest stays on disk.

        False when a thread could not be made to end in time.
        """
        spool = self._spool
        if spool is None or self._pid != os.getpid():
            return True
        spool.flush(drain_s * _SPOOL_SHARE / 2)
        share_s = drain_s * (1 - _SPOOL_SHARE) / max(len(self._couriers), 1)
        stopped = [courier.stop(share_s) for courier in self._couriers]
        return spool.close(drain_s * _SPOOL_SHARE / 2) and all(stopped)

    def statistics(self) -> OutboxStatistics:
        """Say how the spool and the couriers do; never blocks."""
        return OutboxStatistics(
            spool=None if self._spool is None else self._spool.statistics(),
            couriers={courier.name: courier.statistics() for courier in self._couriers},
        )
