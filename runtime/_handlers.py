"""The handler table: what is attached to which events, kept by the kernel so that no actor's death can lose it.

`attach` and `detach` change the table under its lock, from any thread, and then tell the router (the registry actor)
to publish a new routing snapshot and to start or stop the handler's actor. Without a router (the runtime is stopped,
or the registry actor is just being restarted) the change is kept: whoever becomes router adopts the whole table.
"""

from __future__ import annotations

import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
from loguru import logger

from runtime import _native, _scheduler
from runtime._checks import check_count, check_seconds
from runtime._dispatch import Routes, Subscriber, execute, now_ns
from runtime._events import Event, Name, canonical
from runtime._fork import in_child
from runtime._importing import check_config, import_string
from runtime._inline import Inline
from runtime._mailbox import Mailbox, MailboxStatistics, Policy
from runtime._spans import describe
from runtime.clock import Clock
from runtime.errors import AlreadyExists, NotFound, expected, shown
from runtime.sampling import sampled

Handler: TypeAlias = Callable[[str, dict[str, Any], dict[str, Any], Any], object]
FAILURE = "telemetry.handler.failure"
GAVE_UP = "telemetry.handler.gave_up"

State = Literal["waiting", "running", "gave_up"]
OnFailure = Literal["restart", "detach"]
CARRIERS = ("thread", "green", "process", "inline")


class HandlerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `attach`.

    `carrier`: where the handler runs, `thread` (may block), `green` (cooperative, on the runtime's hub), `process` (an
    interpreter of its own, which imports the handler, a function of a module's top level or "package.module:function",
    and may crash as hard as it likes: each event is handled at most once; events and config travel as msgpack, other
    objects as the text "repr: …"; context variables stay behind) or `inline` (in the emitter itself, guarded).
    `capacity`: events that may wait (default 10,000); `policy` when full: drop_newest, drop_oldest, sample, block
    (`block_s`: how long the emitter may then wait). `on_failure`: `restart` (the actor is restarted, after a pause that
    grows; more than `max_restarts` in `max_seconds` and it is parked as gave_up) or `detach` (telemetry's own rule).
    `deadline_s`: how long one event may take (None: as long as it likes); past it the incarnation is fenced and
    replaced, and when `max_abandoned` of its threads still hang the handler is parked. `fallback`: `thread` moves a
    green handler that blocks the hub, or an inline one that raises or exceeds `budget_s`, to a thread; `none` reports
    the one and parks the other. `dead_letters`: how many failed events are kept with their traceback. `owner`: detach
    when this object or actor goes.
    """

    carrier: str = "thread"
    capacity: int = 10_000
    policy: Policy = "drop_newest"
    block_s: float = 1.0
    on_failure: OnFailure = "restart"
    max_restarts: int = 10
    max_seconds: float = 60.0
    deadline_s: float | None = None
    max_abandoned: int = 8
    budget_s: float = 0.001
    fallback: Literal["none", "thread"] = "none"
    dead_letters: int = 100
    owner: Any = None


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that its handler failed on, with the formatted traceback and the calendar time (ns) of the failure."""

    event: Event
    traceback: str
    time_ns: int


class HandlerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One (handler, event) pair as `list_handlers` shows it."""

    id: str
    event: str
    handler: Handler | str
    config: Any
    carrier: str
    state: State
    restarts: int
    mailbox: MailboxStatistics


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
        self.dead_letters: deque[DeadLetter] = deque(maxlen=options.dead_letters)
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
        """Keep the event that this handler failed on, and tell of the failure, once."""
        self.dead_letters.append(DeadLetter(event, "".join(traceback.format_exception(error)), Clock.system_ns()))
        if self.options.on_failure == "detach":
            # telemetry's rule and order: detached first, so that a failing failure handler cannot loop.
            self.detach_soon()
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
        table.park(self)
        if table.router is not None:
            table.router.changed(wait=False)
        execute(GAVE_UP, _now(), {"handler_id": self.id, "restarts": self.restarts})
        logger.error("handler {} gave up after {} restarts; reattach it", self.id, self.restarts)

    def move_to_thread(self) -> None:
        """Run the handler in a thread from now on; does not wait."""
        self.change(carrier="thread")
        self.subscriber = self.mailbox
        table.unpark(self)
        if table.router is not None:
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

    def park(self, attachment: Attachment) -> None:
        """Route nothing more to a handler that gave up; it stays listed."""
        with self._lock:
            attachment.state = "gave_up"
            self._unsubscribe(f"handler:{attachment.id}", attachment.events)

    def unpark(self, attachment: Attachment) -> None:
        """Route to it again."""
        with self._lock:
            attachment.state = "waiting"
            self._subscribe(f"handler:{attachment.id}", attachment.events, attachment.subscriber)

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


@in_child
def _keep_the_declarations() -> None:
    """Keep what is attached, and nothing of what happened to it in the parent."""
    table._lock = _native.RLock()
    table.router = None
    for attachment in table.all():
        attachment.begin_anew()
    table.remove_sinks()


def attach(handler_id: str, event: Name, handler: Handler | str, config: Any = None, **options: Any) -> None:
    """Attach a handler to one event; see `attach_many`.

    >>> def log(event, measurements, metadata, config): ...
    >>> attach("doc-log", "shop.order.placed", log)
    >>> detach("doc-log")
    """
    _attach(handler_id, (canonical(event),), handler, config, options)


def attach_many(
    handler_id: str, events: Iterable[Name], handler: Handler | str, config: Any = None, **options: Any
) -> None:
    """Attach one handler to several events.

    `handler(event, measurements, metadata, config)` then runs for each of them in an actor of its own, outside the
    emitter, one event at a time in the order of emission; a slow, hung or crashing handler costs nobody else anything.
    Any thread may call this; it returns when events reach the handler, at once when the runtime is stopped (the
    attachment is kept and goes live at start). Options: see `HandlerOptions`.

    Errors: AlreadyExists for an id that is attached; InvalidValue for a bad name, handler or option.

    >>> attach_many("doc-log", ["shop.order.placed", ("shop", "order", "paid")], lambda *event: None, carrier="green")
    >>> [info.event for info in list_handlers("shop.order")]
    ['shop.order.placed', 'shop.order.paid']
    >>> detach("doc-log")
    """
    if isinstance(events, str) or not isinstance(events, Iterable):
        raise expected("a list of event names", events, "For one event, use attach")
    names = tuple(dict.fromkeys(canonical(event) for event in events))
    if not names:
        raise expected("at least one event name", [])
    _attach(handler_id, names, handler, config, options)


def _attach(
    handler_id: str, events: tuple[str, ...], handler: Handler | str, config: Any, options: Mapping[str, Any]
) -> None:
    if not isinstance(handler_id, str) or not handler_id:
        raise expected("handler_id to be a non-empty string", handler_id)
    checked = _checked(options)
    target = ""
    if checked.carrier == "process":
        target = import_string(handler)
        check_config(config)
    elif not callable(handler):
        raise expected("handler to be callable as handler(event, measurements, metadata, config)", handler)
    attachment = Attachment(handler_id, events, handler, config, checked, target)
    owner = attachment.options.owner
    attachment.change(owner=None)
    table.add(attachment)
    if owner is not None:
        _bind_owner(attachment, owner)
    router = table.router
    if router is not None:
        router.attached(attachment)


def _has_mailbox(options: HandlerOptions) -> bool:
    return options.carrier != "inline" or options.fallback == "thread"


# An option that means nothing where it is given would be a promise that nobody keeps.
_MEANINGFUL: dict[str, tuple[str, Callable[[HandlerOptions], bool]]] = {
    **dict.fromkeys(
        ("capacity", "policy", "max_restarts", "max_seconds", "deadline_s"),
        ("carrier thread, green or process", _has_mailbox),
    ),
    "block_s": ("policy='block'", lambda options: options.policy == "block"),
    "max_abandoned": ("deadline_s", lambda options: options.deadline_s is not None),
    "budget_s": ("carrier='inline'", lambda options: options.carrier == "inline"),
    "fallback": ("carrier green or inline", lambda options: options.carrier in ("green", "inline")),
}


def _checked(options: Mapping[str, Any]) -> HandlerOptions:
    known = HandlerOptions.__struct_fields__
    for key in options:
        if key not in known:
            raise expected(f"an option of attach ({', '.join(known)})", key)
    checked = HandlerOptions(**options)
    if checked.carrier not in CARRIERS:
        raise expected(f"carrier to be one of {', '.join(CARRIERS)}", checked.carrier)
    if checked.on_failure not in ("restart", "detach"):
        raise expected("on_failure to be restart or detach", checked.on_failure)
    if checked.fallback not in ("none", "thread"):
        raise expected("fallback to be none or thread", checked.fallback)
    if checked.deadline_s is not None:
        check_seconds("deadline_s", checked.deadline_s)
    check_seconds("block_s", checked.block_s)
    check_seconds("budget_s", checked.budget_s)
    check_seconds("max_seconds", checked.max_seconds)
    for name in ("max_restarts", "dead_letters", "max_abandoned"):
        check_count(name, getattr(checked, name))
    for key, (what, means) in _MEANINGFUL.items():
        if key in options and not means(checked):
            raise expected(f"{key} only with {what}", {key: options[key], "carrier": checked.carrier})
    return checked


def _now() -> dict[str, int]:
    return {"monotonic_time": now_ns(), "system_time": Clock.system_ns()}


def _bind_owner(attachment: Attachment, owner: Any) -> None:
    """Let the attachment go when its owner goes: an actor that ends, or an object that is collected."""
    call_at_end = getattr(owner, "call_at_end", None)
    if call_at_end is not None:
        call_at_end(attachment.detach_soon)
        return
    try:
        attachment.owner = weakref.ref(owner, lambda _: table.owner_gone(attachment))
    except TypeError:
        table.discard(attachment)
        raise expected("owner to be an actor or an object that weak references can point to", owner) from None


def detach(handler_id: str) -> None:
    """Detach a handler from all its events and end its actor; what it had not handled yet is discarded and counted.

    Any thread; returns when nothing more will be delivered. Errors: NotFound when no such handler is attached.
    """
    attachment = table.remove(handler_id)
    attachment.mailbox.close()
    router = table.router
    if router is not None:
        router.detached(attachment, wait=True)


def reattach(handler_id: str) -> None:
    """Give a handler that gave up another chance: its events are routed to it again and its actor is started.

    Any thread; returns when that is done. Errors: NotFound when no such handler is attached.
    """
    attachment = table.find(handler_id)
    if attachment.state == "gave_up":
        table.unpark(attachment)
        if table.router is not None:
            table.router.attached(attachment)


def subscribe(sink_id: str, events: Iterable[Name], subscriber: Subscriber) -> None:
    """Deliver events to a mailbox directly, without a handler: for aggregators and reporters.

    The same id again replaces what it subscribed to before. Any thread; returns when the events are routed.
    """
    table.set_sink(sink_id, [canonical(event) for event in events], subscriber)
    if table.router is not None:
        table.router.changed()


def unsubscribe(sink_id: str) -> None:
    """Undo `subscribe`; harmless when there is nothing to undo."""
    table.remove_sink(sink_id)
    if table.router is not None:
        table.router.changed()


def list_handlers(prefix: Name = "") -> list[HandlerInfo]:
    """List what is attached below an event prefix, one entry per handler and event; the empty prefix lists all.

    The prefix matches whole segments: "shop" finds "shop.order.placed" and not "shopping.cart".
    """
    dotted = canonical(prefix) if prefix else ""
    return [
        HandlerInfo(
            id=attachment.id,
            event=event,
            handler=attachment.handler,
            config=attachment.config,
            carrier=attachment.options.carrier,
            state=attachment.state,
            restarts=attachment.restarts,
            mailbox=attachment.mailbox.statistics(),
        )
        for attachment in table.all()
        for event in attachment.events
        if not dotted or event == dotted or event.startswith(dotted + ".")
    ]


def dead_letters(handler_id: str) -> list[DeadLetter]:
    """Return the events that a handler failed on, oldest first, at most as many as its `dead_letters` option."""
    attachment = table.find(handler_id)
    return list(attachment.dead_letters)
