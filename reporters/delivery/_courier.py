"""Carry records from a spool to an endpoint, at least once.

One native thread per courier: lease a batch, encode it, send it, settle it. Whatever happens in between (a crash, an
answer that never comes, a spool that cannot be written) ends in the records being handed out again, with the same ids.
A request never holds more than one batch, and a batch is never in two requests.

`start`, `stop`, `wake` and `statistics` are for any thread. `step` is the whole of what the thread does, once; tests
and simulations may call it themselves instead of starting the thread.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec
from loguru import logger

import runtime
from reporters.delivery._circuit import Circuit, CircuitStatistics
from reporters.delivery._decision import Answer, Verdict
from reporters.delivery._retry import RetryPolicy
from reporters.spool import Lease, Record, Settlement, Spool, SpoolUnavailable
from reporters.spool._parker import Milestone, Parker
from runtime import _native
from runtime.clock import Clock
from runtime.errors import AlreadyStarted, expected

_BATCH_NAMESPACE = uuid.UUID("5f0d5a3e-7f0f-5c39-9a5c-0d2f5b8f4c11")
_SPOOL_WAIT_S = 1.0
_CALM = 0.8  # of the time that `stop` has: what is under way may finish in it
_LEASE_MARGIN_S = 60.0

CourierState = Literal["new", "running", "stopping", "stopped"]


class Transport(Protocol):
    """Bring a body to an endpoint."""

    def send(self, body: bytes, key: str) -> Answer:
        """Send and say what became of it; may block, never raises for the endpoint."""

    def cut(self) -> None:
        """End what `send` is doing; called by another thread when the courier must stop."""


class Batching(msgspec.Struct, frozen=True):
    """Say when a batch goes out: at so many records, so many bytes of payload, or when its oldest is that old (s)."""

    max_rows: int = 500
    max_bytes: int = 1 << 20
    max_age_s: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise expected(f"{name} to be a positive number", getattr(self, name))


class CourierStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Say how a courier does.

    `answers` counts requests by what was decided; `records` records by what became of them (delivered, or the kind of
    dead letter); `batch_rows` is how many the next request may hold: fewer after a 413.
    """

    name: str
    state: CourierState
    endpoint: str
    circuit: CircuitStatistics
    answers: Mapping[str, int]
    records: Mapping[str, int]
    in_flight: int
    batch_rows: int
    last_status: int | None
    last_reason: str


class Courier:
    """Deliver one class of a spool's records to one endpoint.

    name: who it is in statistics, logs and events.
    encode: make the body of a request of records and the batch's id; runs on the courier's thread. A batch it raises
        for is sent one by one, and a single record it raises for becomes a dead letter ("poison").
    on_delivered, on_buried: told, on the courier's thread, of records once it is on disk what became of them. They
        must not block for long; what they raise is logged.
    """

    def __init__(
        self,
        name: str,
        spool: Spool,
        record_class: str,
        transport: Transport,
        encode: Callable[[Sequence[Record], str], bytes],
        *,
        batching: Batching | None = None,
        retry: RetryPolicy | None = None,
        circuit_threshold: int = 5,
        request_s: float = 10.0,
        clock: Clock | None = None,
        on_delivered: Callable[[Sequence[Record]], None] = lambda records: None,
        on_buried: Callable[[Sequence[Record], str, str], None] = lambda records, kind, reason: None,
    ) -> None:
        self.name = name
        self._spool = spool
        self._record_class = record_class
        self._transport = transport
        self._encode = encode
        self._batching = batching or Batching()
        self._retry = retry or RetryPolicy()
        self._lease_s = request_s + _LEASE_MARGIN_S
        self._clock = clock or Clock()
        self._circuit = Circuit(self._clock, circuit_threshold)
        self._on_delivered = on_delivered
        self._on_buried = on_buried
        self._parker = Parker(self._clock)
        self._ended = Milestone()
        self._lock = _native.allocate_lock()
        self._state: CourierState = "new"
        self._must_end = False
        self._has_alarm = False
        self._rows = self._batching.max_rows
        self._owed: tuple[Lease, Settlement] | None = None
        self._in_flight = 0
        self._last: Answer | None = None
        self._answers: Counter[str] = Counter()
        self._records: Counter[str] = Counter()

    # -- any thread --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. Errors: AlreadyStarted."""
        if self._state != "new":
            raise AlreadyStarted(f"expected a new courier, got: {self.name}, {self._state}")
        self._state = "running"
        self._spool.subscribe(self._records_came)
        _native.start_new_thread(self._run, ())

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Deliver what can be delivered at once, then end, within `timeout_s` even when the endpoint hangs.

        What is left stays in the spool. True when the thread has ended; False when it could not be made to (a resolver
        or a disk that hangs): it is then left to itself and settles nothing after the spool is closed.
        """
        if self._state == "new":
            self._state = "stopped"
            return True
        if self._state == "running":
            self._state = "stopping"
        self._parker.unpark()
        if self._ended.wait(timeout_s * _CALM):
            return True
        self._must_end = True
        self._transport.cut()
        self._parker.unpark()
        return self._ended.wait(timeout_s * (1 - _CALM))

    def wake(self) -> None:
        """Have the courier look at the spool again; never blocks."""
        self._parker.unpark()

    def _records_came(self) -> None:
        """Wake up for records, unless the time for the next look is set already and no batch is full before it."""
        if not self._has_alarm or (self._is_full() and not self._circuit.wait_s()):
            self._parker.unpark()

    def statistics(self) -> CourierStatistics:
        """Say how the courier does; never blocks."""
        with self._lock:
            return CourierStatistics(
                name=self.name,
                state=self._state,
                endpoint=str(self._transport),
                circuit=self._circuit.statistics(),
                answers=dict(self._answers),
                records=dict(self._records),
                in_flight=self._in_flight,
                batch_rows=self._rows,
                last_status=None if self._last is None else self._last.status,
                last_reason="" if self._last is None else self._last.reason,
            )

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._must_end:
                try:
                    wait_s = self.step()
                except Exception:  # noqa: BLE001 - a defect must not end the delivery of everything else
                    logger.exception("courier {} failed; it goes on", self.name)
                    self._circuit.failed("a defect of the courier", _SPOOL_WAIT_S)
                    wait_s = _SPOOL_WAIT_S
                if self._state == "stopping" and (wait_s != 0 or self._circuit.failures):
                    return
                if wait_s != 0:
                    self._has_alarm = wait_s is not None
                    self._parker.park(wait_s)
                    self._has_alarm = False
        finally:
            self._state = "stopped"
            self._ended.reach()

    def step(self) -> float | None:
        """Do what is due, at most one request, and say how many seconds to wait before the next step.

        None: until the spool has something new. Blocks on the spool and on the endpoint.
        """
        try:
            if self._owed is not None:
                return self._settle(*self._owed)
            wait_s = self._circuit.wait_s() or self._due_s()
            if wait_s != 0:
                return wait_s
            lease = self._spool.lease(
                self._record_class,
                max_rows=self._rows,
                max_bytes=self._batching.max_bytes,
                lease_s=self._lease_s,
            )
        except SpoolUnavailable:
            return _SPOOL_WAIT_S
        if not lease.records:
            return self._batching.max_age_s  # others hold what there is; their leases may run out
        return self._deliver(lease)

    def _due_s(self) -> float | None:
        pending = self._spool.pending(self._record_class)
        if pending.rows <= 0:
            return None
        if self._is_full() or self._state == "stopping":
            return 0
        age_s = (self._clock.system_ns() - pending.oldest_ns) / 1e9
        # Records from the future say that the clock was set back: they are not going to wait until it has caught up.
        return max(self._batching.max_age_s - age_s, 0) if age_s >= 0 else 0

    def _is_full(self) -> bool:
        pending = self._spool.pending(self._record_class)
        return pending.rows >= self._rows or pending.bytes >= self._batching.max_bytes

    def _deliver(self, lease: Lease) -> float | None:
        batch_id = str(uuid.uuid5(_BATCH_NAMESPACE, " ".join(record.id for record in lease.records)))
        try:
            body = self._encode(lease.records, batch_id)
        except Exception as error:  # noqa: BLE001 - user code; whatever it raises is about these records
            poison = Answer(Verdict.REJECTED, f"cannot be encoded: {type(error).__name__}: {error}")
            if len(lease.records) > 1:
                self._rows = 1
                return self._settle(lease, Settlement())
            return self._settle(lease, _burial(lease.records, "poison", poison))
        self._in_flight = len(lease.records)
        try:
            answer = self._transport.send(body, batch_id)
        except Exception as error:  # noqa: BLE001 - a transport of the user's; the records are free again at once
            logger.exception("courier {}: the transport failed", self.name)
            answer = Answer(Verdict.RETRY, f"{type(error).__name__}: {error}")
        finally:
            self._in_flight = 0
        with self._lock:
            self._last = answer
            self._answers[answer.verdict.value] += 1
        return self._settle(lease, self._judge(lease, answer))

    def _judge(self, lease: Lease, answer: Answer) -> Settlement:
        """Decide what becomes of the records, and of the batches to come."""
        was_closed = self._circuit.state == "closed"
        settlement = Settlement()
        if answer.verdict is Verdict.RETRY:
            self._circuit.failed(answer.reason, self._retry.delay_s(self._circuit.failures + 1, answer))
            tired = [one for one in lease.records if self._retry.gives_up(one.attempts, answer)]
            settlement = _burial(tired, "attempts", answer)
        else:
            self._circuit.succeeded()
            if answer.verdict is Verdict.DELIVERED:
                settlement = Settlement(delivered=[record.id for record in lease.records])
                self._rows = min(self._rows + max(1, self._rows // 4), self._batching.max_rows)
            elif answer.verdict is Verdict.SPLIT and len(lease.records) > 1:
                self._rows = len(lease.records) // 2
            else:
                kind = "too_large" if answer.verdict is Verdict.SPLIT else "rejected"
                settlement = _burial(lease.records, kind, answer)
        if was_closed != (self._circuit.state == "closed"):
            self._report_circuit()
        return settlement

    def _settle(self, lease: Lease, settlement: Settlement) -> float | None:
        """Write down what became of a lease; when that fails it is owed, and nothing else is sent before it is done."""
        self._owed = lease, settlement
        try:
            self._spool.settle(lease, settlement)
        except SpoolUnavailable as error:
            if self._clock.system_ns() < lease.until_ns:
                return _SPOOL_WAIT_S
            logger.warning("courier {} could not settle {} records: {}", self.name, len(lease.records), error)
            self._owed = None  # they have been free for others since the lease ran out
            return _SPOOL_WAIT_S
        self._owed = None
        self._tell(lease, settlement)
        return 0

    def _tell(self, lease: Lease, settlement: Settlement) -> None:
        delivered = set(settlement.delivered)
        arrived = [record for record in lease.records if record.id in delivered]
        by_fate: dict[tuple[str, str], list[Record]] = {}
        for record in lease.records:
            if record.id in settlement.buried:
                by_fate.setdefault(settlement.buried[record.id], []).append(record)
        with self._lock:
            self._records["delivered"] += len(arrived)
            for (kind, _), records in by_fate.items():
                self._records[kind] += len(records)
        try:
            if arrived:
                self._on_delivered(arrived)
            for (kind, reason), records in by_fate.items():
                logger.warning(
                    "courier {}: {} records are dead letters ({}): {}", self.name, len(records), kind, reason
                )
                runtime.execute(
                    "telemetry.delivery.dead_letter",
                    {"count": len(records)},
                    {"courier": self.name, "kind": kind, "reason": reason},
                )
                self._on_buried(records, kind, reason)
        except Exception:  # noqa: BLE001 - the records are settled whatever the listener does
            logger.exception("courier {}: a listener failed", self.name)

    def _report_circuit(self) -> None:
        now = self._circuit.statistics()
        state = "closed" if now.state == "closed" else "open"
        logger.info("courier {}: the circuit is {} ({})", self.name, state, now.reason)
        runtime.execute(
            "telemetry.delivery.circuit",
            {"failures": now.failures, "wait_s": now.wait_s},
            {"courier": self.name, "state": state, "reason": now.reason, "endpoint": str(self._transport)},
        )


def _burial(records: Sequence[Record], kind: str, answer: Answer) -> Settlement:
    return Settlement(buried={record.id: (kind, answer.reason) for record in records})
