"""What services call: attach a handler, detach it, see what is attached.

`attach` and `detach` change the table and return when the change is effective; while the runtime is stopped it is kept
and goes live at start.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from runtime._dispatch import Subscriber
from runtime._events import Name, canonical
from runtime._handler_options import checked_options
from runtime._importing import check_config, import_string
from runtime._mailbox import MailboxStatistics
from runtime._table import Attachment, DeadLetter, Handler, State, table
from runtime.errors import StartError, expected


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

    Errors: AlreadyExists for an id that is attached; InvalidValue for a bad name, handler or option; StartError when
    the system gives no thread to it.

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
    checked = checked_options(options)
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
        try:
            router.attached(attachment)
        except StartError:
            table.discard(attachment)
            raise


def _bind_owner(attachment: Attachment, owner: Any) -> None:
    """Let the attachment go when its owner goes: an actor that ends, or an object that is collected."""
    call_at_end = getattr(owner, "call_at_end", None)
    if callable(call_at_end):
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

    Any thread; returns when that is done. Errors: NotFound when no such handler is attached; StartError when its actor
    cannot be started.
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
