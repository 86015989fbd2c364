"""The load lane of an actor: a bounded list that any thread fills and one consumer empties, counted exactly.

Any thread may `put`; it appends and, if the consumer is parked, wakes it, or drops what finds no room: no lock, no wait
(of the opt-in policies, `drop_oldest` and `sample` take a lock then, and `block` waits). Only the consumer takes. A
mailbox outlives the incarnation that consumes it: the next one adopts it and goes on with the next message.

Why a list and not a queue: `append` and `del load[:n]` are single steps under the GIL, an empty list holds no storage
(a deque 700 bytes), and a batch leaves it in C. Why no counter on the way in: what was accepted follows from what the
consumer has taken and what still waits, so emitters share no number that could go wrong.

    offered  = accepted + dropped
    accepted = handled + failed + discarded + pending

hold for every mailbox at every quiet moment. Parking: the consumer publishes `idle` and *then* looks again; a producer
appends and *then* reads `idle`. Each sees the other's first step, so no wake-up is lost; a superfluous one is harmless.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from typing import Any, Literal, Protocol

import msgspec

from runtime import _dispatch, _native
from runtime._checks import check_seconds
from runtime._fork import in_child
from runtime._waiting import waiter
from runtime.errors import BeamstalkError, expected

EMPTY: Any = object()
"""What `take` answers when nothing waits; None is a message like any other."""

Policy = Literal["drop_newest", "drop_oldest", "sample", "block"]
POLICIES = ("drop_newest", "drop_oldest", "sample", "block")
SAMPLE_EVERY = 10
_BATCH = 64
_UNBOUNDED = sys.maxsize
_CLOSED = -1

# Mailboxes without a bound share this lock: their producers never need it, and their green consumers are one thread.
_SHARED_LOCK = _native.RLock()


@in_child
def _share_a_new_lock() -> None:
    global _SHARED_LOCK
    _SHARED_LOCK = _native.RLock()


class Consumer(Protocol):
    """Who empties a mailbox."""

    def _wake(self) -> None:
        """Make the consumer look at its mail soon; called from any thread, often superfluously."""


class MailboxStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a mailbox has seen. Counts are messages; exact at every quiet moment. `sojourn_ns`: how long the event that
    has waited longest has waited by now (0 for other messages, which carry no time)."""

    accepted: int
    handled: int
    failed: int
    discarded: int
    pending: int
    dropped: dict[str, int]
    capacity: int | None
    sojourn_ns: int = 0

    @property
    def offered(self) -> int:
        """Every message anybody put: accepted + dropped."""
        return self.accepted + sum(self.dropped.values())


class Mailbox:
    """Hold an actor's messages until it takes them.

    Options: `capacity` (messages that may wait; None: unbounded), `policy` when full (`drop_newest`; `drop_oldest`;
    `sample`: above half of the capacity keep one in ten and say so in the event's rate; `block`: the putter waits up
    to `block_s` seconds), `lazy` (do not wake the consumer before so many wait; it looks by itself now and then).

    >>> box = Mailbox(capacity=2)
    >>> [box.put(n) for n in (1, 2, 3)]
    [True, True, False]
    >>> box.take(), box.settle(None)
    (1, True)
    >>> s = box.statistics()
    >>> (s.offered, s.accepted, s.handled, s.pending, s.dropped)
    (3, 2, 1, 1, {'full': 1})
    """

    __slots__ = (
        "_batch",
        "_dropped",
        "_hand",
        "_inflight",
        "_lent",
        "_lock",
        "_looks",
        "_room",
        "_sampled",
        "_taken",
        "_tickets",
        "block_s",
        "capacity",
        "consumer",
        "discarded",
        "failed",
        "handled",
        "idle",
        "lazy",
        "limit",
        "load",
        "policy",
    )

    def __init__(
        self, capacity: int | None = None, policy: Policy = "drop_newest", *, block_s: float = 1.0, lazy: int = 0
    ) -> None:
        if capacity is not None and (not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1):
            raise expected("capacity to be a positive number of messages or None", capacity)
        if policy not in POLICIES:
            raise expected(f"policy to be one of {', '.join(POLICIES)}", policy)
        check_seconds("block_s", block_s)
        self.capacity = capacity
        self.policy: Policy = policy
        self.block_s = block_s
        self.lazy = lazy
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in a forked child: what waits here is the parent's to handle, and so are its accounts."""
        self.load: list[Any] = []
        self.idle = False
        self.consumer: Consumer | None = None
        self.handled = 0
        self.failed = 0
        self.discarded = 0
        self.limit = self._capacity_limit()
        self._batch: list[Any] | None = None
        self._inflight = 0
        self._hand: Any = EMPTY  # of those in flight, what `take` gave
        self._lent = False
        self._taken = 0
        self._dropped: dict[str, int] | None = None
        # Who drops because there is no room draws a number, which needs no lock. Looking at it draws one as well.
        self._tickets = itertools.count() if self.capacity is not None else None
        self._looks = 0
        self._sampled = 0
        self._room: list[Any] | None = None
        self._lock = _SHARED_LOCK if self.capacity is None else _native.RLock()

    # -- producers: any thread ---------------------------------------------------------------------------------------

    def put(self, message: Any) -> bool:
        """Offer a message; tell whether it was accepted. Any thread; blocks only under the policy `block`."""
        load = self.load
        if len(load) >= self.limit:
            return self.put_when_full(message)
        load.append(message)
        if self.idle and len(load) > self.lazy:
            self.wake()
        return True

    def wake(self) -> None:
        """Make the consumer, if there is one, look at its mail."""
        try:
            # In this order: whoever adopts the mailbox in between looks at the mail anyway when it starts.
            self.idle = False
            consumer = self.consumer
            if consumer is not None:
                consumer._wake()
        except BaseException:
            # The putter has no stack left, or is interrupted: the next one wakes the consumer, were it for nothing.
            self.idle = True
            raise

    def put_when_full(self, message: Any) -> bool:
        policy = self.policy
        if policy == "drop_newest" and 0 < self.limit <= len(self.load):
            next(self._tickets)  # type: ignore[arg-type]  # what has a limit has tickets
            return False
        with self._lock:
            if self.limit == _CLOSED:
                return self._drop("closed")
            if len(self.load) < self.limit:
                return self._accept(message)  # the consumer has made room meanwhile
            if policy == "drop_newest":
                return self._drop("full")
            if policy == "drop_oldest":
                self.load.pop(0)
                self._drop("oldest")
                return self._accept(message)
            if policy == "sample":
                return self._put_sampled(message)
        return self._put_when_room(message)

    def _accept(self, message: Any) -> bool:
        self.load.append(message)
        if self.idle and len(self.load) > self.lazy:
            self.wake()
        return True

    def _drop(self, reason: str) -> bool:
        dropped = self._dropped
        if dropped is None:
            dropped = self._dropped = {}
        dropped[reason] = dropped.get(reason, 0) + 1  # a Counter takes three times as long
        return False

    def _put_sampled(self, message: Any) -> bool:
        self._sampled += 1
        if self._sampled % SAMPLE_EVERY:
            return self._drop("sampled")
        if len(self.load) >= (self.capacity or _UNBOUNDED):
            # The one that would have stood for ten is lost as well; nobody takes its place, and the count says so.
            return self._drop("full")
        return self._accept(msgspec.structs.replace(message, rate=message.rate / SAMPLE_EVERY))

    def _put_when_room(self, message: Any) -> bool:
        """Wait at most `block_s` for the consumer to take something; drop what finds no room by then."""
        deadline_ns = time.monotonic_ns() + int(self.block_s * 1e9)
        while True:
            try:
                waiting = waiter()
            except BeamstalkError:  # a callback of a gevent loop cannot wait
                left_s = 0.0
            else:
                left_s = (deadline_ns - time.monotonic_ns()) / 1e9
            with self._lock:
                if self.limit == _CLOSED:
                    return self._drop("closed")
                if len(self.load) < self.limit:
                    return self._accept(message)
                if left_s <= 0:
                    return self._drop("full")
                if self._room is None:
                    self._room = []
                self._room.append(waiting)
            if not waiting.wait(left_s):
                with self._lock, contextlib.suppress(ValueError):
                    (self._room or []).remove(waiting)

    # -- the consumer ------------------------------------------------------------------------------------------------

    def adopt(self, consumer: Consumer) -> Any:
        """Make `consumer` the one that takes from now on; what another had in its hands, or EMPTY, has failed."""
        lost = EMPTY
        with self._lock:
            if self.consumer is not consumer:
                lost, self._hand = self._hand, EMPTY
                self.failed += self._inflight
                self._inflight = 0
            self.consumer = consumer
            self.idle = False
            self._lent = False
        return lost

    # A consumer that is killed while its thread runs may come here once more, after another has taken over. That is
    # why these check who asks, under the lock.

    def park(self, consumer: Consumer | None = None) -> bool:
        """Publish that the consumer sleeps; False when mail has come meanwhile and it must look again."""
        self.idle = True
        if (self._batch or len(self.load) > self.lazy) and self.idle:
            return not self.unpark(consumer)
        return True

    def unpark(self, consumer: Consumer | None = None) -> bool:
        """Publish that the consumer is awake; False when another has taken over."""
        with self._lock:
            if self.consumer is not consumer:
                return False
            self.idle = False
            return True

    def take(self, consumer: Consumer | None = None) -> Any:
        """Take the next message into the consumer's hands, or answer EMPTY. Settle it before the next take."""
        load = self.load
        if not self._batch and not load:
            return EMPTY
        with self._lock:
            batch = self._batch
            if self.consumer is not consumer or not (batch or load):
                return EMPTY
            self._inflight = 1
            if not batch and len(load) > 1:
                batch = self._refill(self._batch_size())
                batch.reverse()
            if batch:
                message = self._hand = batch.pop()
                return message
            message = self._hand = load.pop(0)
            self._taken += 1
            if self._room:
                self._make_room()
            return message

    def take_all(self, at_most: int, consumer: Consumer | None = None) -> list[Any]:
        """Take up to `at_most` messages at once; settle them with their number."""
        with self._lock:
            batch = self._batch
            if self.consumer is not consumer or not (batch or self.load):
                return []
            if batch:
                batch.reverse()
            else:
                batch = self._refill(at_most)
            self._batch = None
            self._inflight = len(batch)
            return batch

    def lend(self, consumer: Consumer | None = None) -> list[Any]:
        """Show the consumer what it will take next, so that another process can begin with it.

        `close` leaves these to the consumer: it goes on taking what was begun, and `release` discards the rest.
        """
        with self._lock:
            if self.consumer is not consumer:
                return []
            if not self._batch and self.load:
                self._refill(self._batch_size()).reverse()
            self._lent = bool(self._batch)
            return (self._batch or [])[::-1]

    def settle(self, consumer: Consumer | None, *, failed: bool = False, count: int = 1) -> bool:
        """Account for what was taken; False when another incarnation has taken over and accounts for it."""
        with self._lock:
            if self.consumer is not consumer or not self._inflight:
                return False
            self._inflight = 0
            self._hand = EMPTY
            if failed:
                self.failed += count
            else:
                self.handled += count
        return True

    def release(self, consumer: Consumer) -> Any:
        """Part from a consumer that ended; the message that it had in its hands, or EMPTY, has failed."""
        lost = EMPTY
        with self._lock:
            if self.consumer is consumer:
                lost, self._hand = self._hand, EMPTY
                self.failed += self._inflight
                self._inflight = 0
                self.consumer = None
                self.idle = False
                self._lent = False
                if self.closed:
                    self.discarded += len(self._batch or ())
                    self._batch = None
        return lost

    def close(self) -> list[Any]:
        """Accept nothing more and hand out what still waits, counted as discarded."""
        with self._lock:
            self.limit = _CLOSED
            left: list[Any] = []
            if not self._lent:
                left = (self._batch or [])[::-1]
                self._batch = None
            waiting = self.load[:]
            del self.load[: len(waiting)]
            self._taken += len(waiting)
            left += waiting
            self.discarded += len(left)
        self._make_room()
        return left

    def count_inline(self, *, failed: bool) -> None:
        """Account for a message that was handled where it was emitted."""
        with self._lock:
            self._taken += 1
            if failed:
                self.failed += 1
            else:
                self.handled += 1

    def refuse(self, reason: str) -> None:
        """Account for a message that was offered and not taken."""
        with self._lock:
            self._drop(reason)

    def open(self) -> None:
        """Accept again after `close`."""
        with self._lock:
            self.limit = self._capacity_limit()

    @property
    def closed(self) -> bool:
        return self.limit == _CLOSED

    def pending(self) -> int:
        """Count what waits or is being handled."""
        waiting = 0 if self.closed else len(self.load)
        return waiting + len(self._batch or ()) + self._inflight

    def oldest(self) -> Any:
        """Peek at the message that has waited longest, or EMPTY."""
        with self._lock:
            if self._batch:
                return self._batch[-1]
            return self.load[0] if self.load else EMPTY

    def statistics(self) -> MailboxStatistics:
        """Count what was seen; any thread, never waits for the consumer."""
        with self._lock:
            return MailboxStatistics(
                accepted=self._taken + len(self.load),
                handled=self.handled,
                failed=self.failed,
                # What an emitter was just about to append when the mailbox was closed is still there.
                discarded=self.discarded + (len(self.load) if self.closed else 0),
                pending=self.pending(),
                dropped=self._all_dropped(),
                capacity=self.capacity,
                sojourn_ns=self._sojourn_ns(),
            )

    def _all_dropped(self) -> dict[str, int]:
        """Count what was dropped, by reason; under the lock."""
        dropped = dict(self._dropped or {})
        if self._tickets is not None:
            full = next(self._tickets) - self._looks
            self._looks += 1
            if full:
                dropped["full"] = dropped.get("full", 0) + full
        return dropped

    def _sojourn_ns(self) -> int:
        since_ns = getattr(self.oldest(), "time_ns", None)
        return max(0, _dispatch.now_ns() - since_ns) if since_ns is not None else 0

    def _batch_size(self) -> int:
        # A batch saves the lock per message; a small mailbox keeps its bound to the message.
        # Without a bound it grows with what waits: each batch moves all that is behind it, and millions may be.
        if self.capacity is None:
            return max(_BATCH, len(self.load) // _BATCH)
        return max(1, min(_BATCH, self.capacity // 16))

    def _capacity_limit(self) -> int:
        if self.capacity is None:
            return _UNBOUNDED
        return max(1, self.capacity // 2) if self.policy == "sample" else self.capacity

    def _refill(self, at_most: int) -> list[Any]:
        """Take a batch of mail into `_batch`; under the lock."""
        batch = self.load[:at_most]
        del self.load[: len(batch)]
        self._taken += len(batch)
        self._batch = batch
        if self._room:
            self._make_room()
        return batch

    def _make_room(self) -> None:
        with self._lock:
            waiting, self._room = self._room or [], None
        for one in waiting:
            one.wake()
