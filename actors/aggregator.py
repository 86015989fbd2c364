"""The aggregator actor: the single writer of the series store, and who reporters ask what changed.

Events reach its mailbox straight from the emitters; the mailbox is lazy, so that an emission seldom wakes anybody, and
the actor looks by itself every second. Calls (`Collect` and the like) go by the control lane: they are never refused
by a full mailbox, and each is a barrier, because all events that wait are recorded before it is answered. Store and
mailbox outlive the actor: its crash loses nothing.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, ClassVar

import msgspec
from loguru import logger

from actors._actor import Actor
from actors._future import Future
from actors._ref import ASK_TIMEOUT_S, ActorRef
from actors._series import SeriesStore
from actors._series_points import Delta, MetricView, Point, StoreStatistics
from runtime import _scheduler, subscribe
from runtime._gil import YIELD_NS
from runtime._mailbox import Mailbox
from runtime.errors import ExitReason

__all__ = [
    "NAME",
    "Aggregator",
    "AggregatorRef",
    "Call",
    "Collect",
    "Commit",
    "Snapshot",
    "Statistics",
    "Subscribe",
    "Unsubscribe",
    "aggregator_mailbox",
]

NAME = "telemetry.aggregator"
_CAPACITY = 200_000
_LAZY = 1_000
_BATCHES = (32, 1024)
_LOOK_EVERY_S = 1.0


class Collect(msgspec.Struct, frozen=True):
    """Ask for everything this reporter has not committed yet; answered with a `Delta`."""

    reporter: str


class Commit(msgspec.Struct, frozen=True):
    """Tell that a delta was sent, but for the `unsent` points; answered with whether it was the current one."""

    reporter: str
    delta: Delta
    unsent: tuple[Point, ...] = ()


class Subscribe(msgspec.Struct, frozen=True):
    """Tell that a reporter begins, so that nothing from now on is missed."""

    reporter: str


class Unsubscribe(msgspec.Struct, frozen=True):
    """Tell that a reporter will not come back."""

    reporter: str


class Snapshot(msgspec.Struct, frozen=True):
    """Ask for every metric since the start; answered with a tuple of `MetricView`."""


class Statistics(msgspec.Struct, frozen=True):
    """Ask for the store's accounts; answered with `StoreStatistics`."""


Call = Collect | Commit | Subscribe | Unsubscribe | Snapshot | Statistics


class AggregatorRef(ActorRef["Aggregator"]):
    """Talks to the aggregator over the control lane."""

    __slots__ = ()

    def ask(self, message: Call, *, block: bool = True, timeout: float | None = ASK_TIMEOUT_S) -> Any:
        """Record what waits, then answer a call."""
        future: Future[Any] = self._actor._control_ask("answer", message)
        return future.get(timeout=timeout) if block else future

    def tell(self, message: Call) -> None:
        """Record what waits, then do what a call says."""
        self._actor._control_send("answer", message)


def aggregator_mailbox(capacity: int = _CAPACITY) -> Mailbox:
    """Make the mailbox that outlives the aggregator's incarnations."""
    return Mailbox(capacity, lazy=min(_LAZY, capacity // 2))


class Aggregator(Actor):
    """Write the series store; see the module."""

    ref_class: ClassVar[type[ActorRef[Any]]] = AggregatorRef

    def __init__(self, store: SeriesStore) -> None:
        super().__init__()
        self.store = store
        self._look: Any = None
        self._batch = 256

    def on_start(self) -> None:
        subscribe(NAME, self.store.event_names, self._mailbox)
        self._look_later()

    def on_stop(self, reason: ExitReason = "normal") -> None:
        self._look.cancel()
        self._record_all()

    def answer(self, call: Call) -> Delta | tuple[MetricView, ...] | StoreStatistics | bool | None:
        """Answer a call, after everything that waits has been recorded."""
        self._record_all()
        store = self.store
        match call:
            case Collect(reporter):
                return store.subscribe(reporter).collect()
            case Commit(reporter, delta, unsent):
                return store.subscribe(reporter).commit(delta, unsent)
            case Subscribe(reporter):
                store.subscribe(reporter)
            case Unsubscribe(reporter):
                store.unsubscribe(reporter)
            case Snapshot():
                return store.snapshot()
            case Statistics():
                return store.statistics()
        return None

    def get_state(self) -> StoreStatistics:
        return self.store.statistics()

    def _handle_load(self) -> bool:
        """Record a batch instead of one message: about as much as fits into a time slice, for it is one step."""
        events = self._mailbox.take_all(self._batch, self)
        if not events:
            return False
        begun_ns = perf_counter_ns()
        try:
            self.store.update(events)
        except Exception:
            # The store does not raise for what is in an event. Should it all the same, the batch has failed, the
            # reporters and the next batch have not.
            logger.exception("{} events could not be recorded", len(events))
            self._mailbox.settle(self, failed=True, count=len(events))
        else:
            self._mailbox.settle(self, count=len(events))
        took_ns = perf_counter_ns() - begun_ns
        fewest, most = _BATCHES
        if took_ns > YIELD_NS:
            self._batch = max(self._batch // 2, fewest)
        elif took_ns < YIELD_NS // 2 and len(events) == self._batch:
            self._batch = min(self._batch * 2, most)
        return True

    def _record_all(self) -> None:
        """Record what waits now; what arrives meanwhile can wait, or a busy service would keep us here for ever."""
        left = self._mailbox.pending()
        scheduler = _scheduler.scheduler()
        yielded_ns = perf_counter_ns()
        while left > 0:
            left -= self._batch
            if not self._handle_load():
                return
            if perf_counter_ns() - yielded_ns > YIELD_NS:
                scheduler.yield_gil()
                yielded_ns = perf_counter_ns()

    def _look_later(self) -> None:
        self._look = _scheduler.scheduler().call_after(_LOOK_EVERY_S, self._look_now)

    def _look_now(self) -> None:
        if not self._dead:
            self._mailbox.wake()
            self._look_later()
