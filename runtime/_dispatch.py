"""The emitter's path: name → routing snapshot → mailboxes.

The snapshot is an immutable mapping from event name to the mailboxes of its subscribers. The registry actor is its only
writer (`publish`); emitters only read it, so an emission takes no lock and waits for nobody. While the runtime is
stopped the snapshot is empty and an emission is one dict lookup.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextvars import copy_context
from gc import is_tracked
from numbers import Number
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from runtime._events import Event, Name, PlainEvent, canonical, own, own_values
from runtime._fork import in_child
from runtime.clock import Clock
from runtime.errors import NotCommitted


class Subscriber(Protocol):
    """Where an event goes: a mailbox, or what stands for one (`limit` 0: every event goes to `put_when_full`)."""

    load: list[Any]
    limit: int
    idle: bool
    lazy: int

    def put_when_full(self, message: Any) -> bool:
        """Take an event that `load` has no room for, or refuse it."""

    def wake(self) -> None:
        """Tell the consumer that `load` has mail."""


class Obligation(Protocol):
    """What a durable subscriber owes for one event."""

    def wait(self, timeout_s: float) -> str:
        """Wait until the event is committed; "" when it is, otherwise why not."""


@runtime_checkable
class Durable(Protocol):
    """A subscriber that can commit an event before the emitter goes on."""

    def commit(self, event: Event) -> Obligation:
        """Begin to commit an event, in the emitter's thread; does not wait and does not raise."""


Routes: TypeAlias = Mapping[str, tuple[Subscriber, ...]]

_NOTHING: Final[dict[str, Any]] = {}
_routes: Routes = {}
_now_ns: Callable[[], int] = Clock.monotonic_ns


_published: Routes = {}
_wrap: Callable[[Routes], Routes] | None = None


def publish(routes: Routes) -> None:
    """Replace the routing snapshot. Only the registry actor calls it."""
    global _routes, _published
    _published = routes
    _routes = routes if _wrap is None else _wrap(routes)


def wrap(wrapper: Callable[[Routes], Routes] | None) -> None:
    """Put something around every snapshot, from the present one on, or nothing any more; see `_taps`."""
    global _wrap
    _wrap = wrapper
    publish(_published)


def use_clock(clock: Clock) -> None:
    """Take event times from this clock from now on."""
    global _now_ns
    _now_ns = clock.monotonic_ns


def now_ns() -> int:
    """Return the monotonic time (ns) that events are stamped with."""
    return _now_ns()


def execute(name: Name, measurements: Mapping[str, Any] = _NOTHING, metadata: Mapping[str, Any] = _NOTHING) -> None:
    """Emit an event to whatever is attached to it.

    Runs in the caller's thread, takes no lock, never waits (unless a handler was attached with the policy `block`) and
    never raises for what a handler does; with nothing attached it is one dict lookup. Handlers run elsewhere, see
    their own copy of both dicts (nested builtin containers included) and the caller's context variables.

    Args: `name`: dotted, or a sequence of segments. `measurements`: numbers by key. `metadata`: anything by key.
    Errors: InvalidValue when somebody is attached and `measurements` or `metadata` is not a mapping.

    >>> execute("shop.order.placed", {"amount": 12.5}, {"currency": "EUR"})
    """
    routes = _routes
    try:
        # `in` and `[]` are single instructions, `get` is a call.
        subscribers = routes[name] if name in routes else None  # type: ignore[index]  # noqa: SIM401
    except TypeError:  # a list of segments does not hash
        subscribers = None
    if subscribers is None:
        if isinstance(name, str):
            return
        name = canonical(name)
        subscribers = routes.get(name)
        if subscribers is None:
            return
    make = PlainEvent
    # `own`, written out: see there for what the collector has to do with it.
    try:
        own_measurements = {**measurements}
        own_metadata = {**metadata}
    except Exception:  # noqa: BLE001  # one of them is no mapping, or one that fails
        own_measurements, own_metadata = _mappings(measurements, metadata)
    if is_tracked(own_measurements):
        own_measurements = own_values(own_measurements)
        make = Event
    if is_tracked(own_metadata):
        own_metadata = own_values(own_metadata)
        make = Event
    if context := copy_context() or None:
        make = Event
    event = make(name, own_measurements, own_metadata, _now_ns(), context)  # type: ignore[arg-type]
    # `deliver`, written out: the call would be a tenth of an emission.
    for subscriber in subscribers:
        load = subscriber.load
        if len(load) >= subscriber.limit:
            subscriber.put_when_full(event)
        else:
            load.append(event)
            if subscriber.idle and len(load) > subscriber.lazy:
                subscriber.wake()


def emit(name: str, measurements: dict[str, Any], metadata: dict[str, Any], time_ns: int, rate: float) -> None:
    """Emit an event of that time that stands for 1/rate of its kind, and take over its measurements; for spans."""
    subscribers = _routes.get(name)
    if subscribers is not None:
        if is_tracked(measurements):
            measurements = own_values(measurements)
        metadata = own(metadata, "metadata")
        context = copy_context() or None
        make = Event if context or is_tracked(measurements) or is_tracked(metadata) else PlainEvent
        event = make(name, measurements, metadata, time_ns, context, rate)
        for subscriber in subscribers:
            deliver(subscriber, event)


def commit(
    name: Name,
    measurements: Mapping[str, Any] = _NOTHING,
    metadata: Mapping[str, Any] = _NOTHING,
    timeout_s: float = 5.0,
) -> None:
    """Emit an event and return only when every durable reporter of it has committed it to its spool.

    Waits, at most `timeout_s` seconds, for that commit (not for the delivery); all other handlers get the event as
    they do from `execute`. Raises NotCommitted when a durable reporter refused it or was too slow, and when there is
    none: an obligation that nobody takes must never look like a kept one.

    >>> commit("shop.order.paid", {"amount": 12.5})
    Traceback (most recent call last):
        ...
    runtime.errors.NotCommitted: expected 'shop.order.paid' to be committed, got: no durable reporter takes it
    """
    dotted = canonical(name)
    subscribers = _routes.get(dotted, ())
    event = Event(
        dotted, own(measurements, "measurements"), own(metadata, "metadata"), _now_ns(), copy_context() or None
    )
    owed = [subscriber.commit(event) for subscriber in subscribers if isinstance(subscriber, Durable)]
    for subscriber in subscribers:
        if not isinstance(subscriber, Durable):
            deliver(subscriber, event)
    if not owed:
        raise NotCommitted(dotted, ["no durable reporter takes it"])
    deadline_ns = Clock.monotonic_ns() + int(timeout_s * 1e9)
    reasons = [obligation.wait(max(deadline_ns - Clock.monotonic_ns(), 0) / 1e9) for obligation in owed]
    if any(reasons):
        raise NotCommitted(dotted, [reason for reason in reasons if reason])


def deliver(subscriber: Subscriber, event: Event) -> None:
    """Give an event to one subscriber, as `execute` does."""
    load = subscriber.load
    if len(load) >= subscriber.limit:
        subscriber.put_when_full(event)
    else:
        load.append(event)
        if subscriber.idle and len(load) > subscriber.lazy:
            subscriber.wake()


def _mappings(measurements: object, metadata: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make mappings of anything else that `execute` takes; raise InvalidValue for what it does not."""
    if isinstance(measurements, Number):
        warnings.warn('a bare number as measurements means {"value": n}', DeprecationWarning, stacklevel=3)
        measurements = {"value": measurements}
    return own(measurements, "measurements"), own(metadata, "metadata")


@in_child
def _route_nothing() -> None:
    publish({})


class Emitter:
    """An event name checked once, for hot paths and for editors to complete.

    >>> placed = Emitter("shop.order.placed")
    >>> placed.execute({"amount": 12.5}, {"currency": "EUR"})
    """

    __slots__ = ("name",)

    def __init__(self, name: Name) -> None:
        self.name = canonical(name)

    def execute(self, measurements: Mapping[str, Any] = _NOTHING, metadata: Mapping[str, Any] = _NOTHING) -> None:
        """Emit this event; see `runtime.execute`."""
        execute(self.name, measurements, metadata)

    def has_handlers(self) -> bool:
        """Tell whether anything is attached, to save the cost of gathering expensive metadata."""
        return self.name in _routes

    def __repr__(self) -> str:
        return f"runtime.event({self.name!r})"


def event(name: Name) -> Emitter:
    """Bind an event name: checks it in full once, raises InvalidValue when it is none.

    >>> event(["shop", "order", "placed"])
    runtime.event('shop.order.placed')
    """
    return Emitter(name)
