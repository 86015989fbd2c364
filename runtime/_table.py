"""The handler table: what is attached to which events, kept by the kernel so that no actor's death can lose it.

The table changes under its lock, from any thread; whoever changes it then tells the router (the registry actor and
the supervisor of the handlers) to make the change effective. Without a router (the runtime is stopped, or the registry
actor is just being restarted) the change is kept: whoever becomes router adopts the whole table.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
from loguru import logger

from runtime import _native, _scheduler
from runtime._dispatch import Routes, Subscriber, execute, now_ns
from runtime._events import Event
from runtime._fork import in_child
from runtime._handler_options import HandlerOptions
from runtime._inline import Inline
from runtime._mailbox import Mailbox
from runtime._spans import describe
from runtime.clock import Clock
from runtime.errors import AlreadyExists, NotFound, shown
from runtime.sampling import sampled

Handler: TypeAlias = Callable[[str, dict[str, Any], dict[str, Any], Any], object]
State = Literal["waiting", "running", "gave_up"]
FAILURE = "telemetry.handler.failure"
GAVE_UP = "telemetry.handler.gave_up"


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that its handler failed on, with the formatted traceback and the calendar time (ns) of the failure."""

    event: Event
    traceback: str
    time_ns: int


class Attachment:
    """One attached handler: its declaration, its mailbox, and what happened to it. Outlives its actors."""

    __slots__ = (
        "__weakref__",
        "abandoned",
        "config",
        "dead_letters",
        "events",
        "handler",
        "id",
        "incarnations",
        "mailbox",
        "options",
        "owner",
        "state",
        "subscriber",
        "target",
    )

    def __init__(
        self, id: str, events: tuple[str, ...], handler: Any, config: Any, options: HandlerOptions, target: str = ""
    ) -> None:
        self.id = id
        self.events = events
        self.handler = handler
        self.target = target
        self.config = config
        self.options = options
        self.mailbox = Mailbox(options.capacity, options.policy, block_s=options.block_s)
        self.dead_letters: deque[DeadLetter] = deque(maxlen=min(options.dead_letters, sys.maxsize))
        self.incarnations = 0
        self.abandoned: set[int] = set()
        self.state: State = "waiting"
        self.owner: object = None
        self.subscriber: Subscriber = Inline(self) if options.carrier == "inline" else self.mailbox

    @property
    def restarts(self) -> int:
        return max(0, self.incarnations - 1)

    def begin_anew(self) -> None:
        """Forget what happened to it: mail, failures, incarnations."""
        self.mailbox.forget()
        self.dead_letters.clear()
        self.abandoned.clear()
        self.incarnations = 0
        if self.state == "gave_up":
            table.unpark(self)
        self.state = "waiting"

    def change(self, **options: Any) -> None:
        """Change options of a handler that is attached."""
        self.options = msgspec.structs.replace(self.options, **options)

    def detach_soon(self) -> None:
        """Take it out of the table without waiting for its actor: for code inside that actor."""
        table.discard(self)

    def failed(self, event: Event, error: BaseException, described: dict[str, Any] | None = None) -> None:
        """Do what is to be done when this handler has failed on an event."""
        if self.options.on_failure == "detach":
            # telemetry's rule and order: detached first, so that a failing failure handler cannot loop.
            self.detach_soon()
        self.lost(event, error, described)

    def lost(self, event: Event, error: BaseException, described: dict[str, Any] | None = None) -> None:
        """Keep the event that this handler has failed on, or was at when it was killed, and tell of it, once."""
        self.dead_letters.append(DeadLetter(event, _formatted(error), Clock.system_ns()))
        self.report(event, error, described)

    def report(self, event: Event, error: BaseException, described: dict[str, Any] | None = None) -> None:
        """Emit `telemetry.handler.failure`.

        Measurements {monotonic_time, system_time} (ns); metadata {event_name, handler_id, handler_config, kind, reason,
        stacktrace}.
        """
        metadata = {"event_name": event.name, "handler_id": self.id, "handler_config": self.config}
        execute(FAILURE, _now(), metadata | (described or describe(error)))

    def give_up(self) -> None:
        """Park it: route nothing more to it until `reattach`. Emits `telemetry.handler.gave_up`; does not wait."""
        if not table.park(self):
            return
        if table.router is not None:
            table.router.changed(wait=False)
        execute(GAVE_UP, _now(), {"handler_id": self.id, "restarts": self.restarts})
        logger.error("handler {} gave up after {} restarts; reattach it", self.id, self.restarts)

    def move_to_thread(self) -> None:
        """Run the handler in a thread from now on; does not wait."""
        self.change(carrier="thread")
        self.subscriber = self.mailbox
        if table.unpark(self) and table.router is not None:
            table.router.attached(self, wait=False)


class Router(Protocol):
    """Who makes changes of the table effective: the registry actor and the supervisor of the handlers."""

    def attached(self, attachment: Attachment, wait: bool = True) -> None:
        """Route its events to it and start its actor; returns when both are done, or at once without `wait`."""

    def detached(self, attachment: Attachment, wait: bool) -> None:
        """Stop routing to it and stop its actor; returns when both are done, or at once without `wait`."""

    def retire(self, attachment: Attachment) -> None:
        """Stop the actor of a handler that stays attached, so that it is parked; does not wait."""

    def changed(self, wait: bool = True) -> None:
        """Route as the table says now; returns when that is done, or at once without `wait`."""


class Table:
    """Every handler of the process, and the sinks (aggregator, reporters) beside them."""

    def __init__(self) -> None:
        self._lock = _native.RLock()
        self._attachments: dict[str, Attachment] = {}
        self._by_event: dict[str, dict[str, Subscriber]] = {}
        self._sinks: dict[str, tuple[str, ...]] = {}
        self._snapshot: Routes | None = None
        self._orphans: deque[Attachment] = deque()
        self.router: Router | None = None

    def owner_gone(self, attachment: Attachment) -> None:
        """Detach soon; called from the collector, in the middle of anything, perhaps of what is going on here."""
        self._orphans.append(attachment)
        _scheduler.post_if_running(self.discard_orphans)

    def discard_orphans(self) -> None:
        """Discard the attachments whose owners have gone."""
        while self._orphans:
            self.discard(self._orphans.popleft())

    def add(self, attachment: Attachment) -> None:
        self.discard_orphans()
        with self._lock:
            if attachment.id in self._attachments:
                raise AlreadyExists(
                    f"expected a handler id that is not attached yet, got: {attachment.id!r}. Detach it first"
                )
            self._attachments[attachment.id] = attachment
            self._subscribe(f"handler:{attachment.id}", attachment.events, attachment.subscriber)

    def find(self, handler_id: str) -> Attachment:
        attachment = self._attachments.get(handler_id) if isinstance(handler_id, str) else None
        if attachment is None:
            raise NotFound(f"expected the id of an attached handler, got: {shown(handler_id)}")
        return attachment

    def remove(self, handler_id: str) -> Attachment:
        with self._lock:
            attachment = self.find(handler_id)
            del self._attachments[handler_id]
            self._unsubscribe(f"handler:{handler_id}", attachment.events)
            return attachment

    def discard(self, attachment: Attachment) -> None:
        """Remove an attachment, if it is still there, without waiting for anything."""
        with self._lock:
            if self._attachments.get(attachment.id) is not attachment:
                return
            self.remove(attachment.id)
        attachment.mailbox.close()
        if self.router is not None:
            self.router.detached(attachment, wait=False)

    def get(self, handler_id: str) -> Attachment | None:
        return self._attachments.get(handler_id)

    def all(self) -> list[Attachment]:
        self.discard_orphans()
        with self._lock:
            return list(self._attachments.values())

    def park(self, attachment: Attachment) -> bool:
        """Route nothing more to a handler that gave up; it stays listed. False when it is not routed to anyway."""
        with self._lock:
            if attachment.state == "gave_up" or self.get(attachment.id) is not attachment:
                return False
            attachment.state = "gave_up"
            self._unsubscribe(f"handler:{attachment.id}", attachment.events)
            return True

    def unpark(self, attachment: Attachment) -> bool:
        """Route to it again; False when it has been detached."""
        with self._lock:
            if self.get(attachment.id) is not attachment:
                return False
            attachment.state = "waiting"
            self._subscribe(f"handler:{attachment.id}", attachment.events, attachment.subscriber)
            return True

    def set_sink(self, sink_id: str, events: Iterable[str], subscriber: Subscriber) -> None:
        """Deliver these events to a subscriber that is no handler; replaces an earlier set of the same id."""
        with self._lock:
            self.remove_sink(sink_id)
            names = self._sinks[sink_id] = tuple(dict.fromkeys(events))
            self._subscribe(f"sink:{sink_id}", names, subscriber)

    def remove_sinks(self) -> None:
        for sink_id in list(self._sinks):
            self.remove_sink(sink_id)

    def remove_sink(self, sink_id: str) -> None:
        with self._lock:
            self._unsubscribe(f"sink:{sink_id}", self._sinks.pop(sink_id, ()))

    def sinks(self) -> dict[str, tuple[str, ...]]:
        """Return the events of every sink."""
        with self._lock:
            return dict(self._sinks)

    def forget_snapshot(self) -> None:
        """Build the snapshot anew when it is asked for next: the sampling rates have changed."""
        self._snapshot = None

    def snapshot(self) -> Routes:
        """The routing snapshot of the table as it is now."""
        with self._lock:
            if self._snapshot is None:
                routes = {name: tuple(found.values()) for name, found in self._by_event.items()}
                self._snapshot = sampled(routes)
            return self._snapshot

    def _subscribe(self, key: str, events: Iterable[str], subscriber: Subscriber) -> None:
        for event in events:
            self._by_event.setdefault(event, {})[key] = subscriber
        self._snapshot = None

    def _unsubscribe(self, key: str, events: Iterable[str]) -> None:
        for event in events:
            found = self._by_event.get(event, {})
            found.pop(key, None)
            if not found:
                self._by_event.pop(event, None)
        self._snapshot = None


table = Table()
"""The process's handler table."""


def _formatted(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception as second:  # noqa: BLE001  # the exception of somebody who does not want it to be looked at
        return f"{type(error).__name__}, of which nothing can be told: {type(second).__name__}"


def _now() -> dict[str, int]:
    return {"monotonic_time": now_ns(), "system_time": Clock.system_ns()}


@in_child
def _keep_the_declarations() -> None:
    """Keep what is attached, and nothing of what happened to it in the parent."""
    table._lock = _native.RLock()
    table.router = None
    for attachment in table.all():
        attachment.begin_anew()
    table.remove_sinks()
