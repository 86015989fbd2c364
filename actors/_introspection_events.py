"""What the listings say of events and of who hears them: `events`, `handlers`, `dead-letters`, `metrics`, `reporters`.

Read from the kernel's handler table and from what reporters tell of themselves; only `metrics` asks an actor, the
aggregator, and does not wait for it longer than it was told.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pykka

from actors._actor import Actor
from actors._introspection_actors import Late, busy_with
from actors._introspection_index import Index, Unknown, describe, gently
from actors._introspection_plain import clean, masked, plain
from actors._series_points import Distribution, MetricView
from actors.aggregator import NAME as AGGREGATOR
from actors.aggregator import Snapshot
from runtime import _process_table
from runtime._table import Attachment, table
from runtime.catalogue import _START, _STOP, Catalogue
from runtime.errors import NotFound
from runtime.own_events import OWN

_SERIES = 50
_PERCENTILES = (0.5, 0.95, 0.99)
_OWN = Catalogue(OWN)
_OF_SPANS = {"start": _START, "stop": _STOP, "exception": _STOP}


class Below(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is below a prefix of names; the empty prefix is all."""

    prefix: str = ""

    def admits(self, name: str) -> bool:
        """Tell whether a name is the prefix or goes on behind it, by whole segments."""
        prefix = self.prefix.removesuffix(".*").removesuffix(".")
        return not prefix or name == prefix or name.startswith(prefix + ".")


class OfHandler(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which handler."""

    handler: str


def attachment(handler_id: str) -> Attachment:
    """Return an attached handler. Raises Unknown."""
    found = table.get(handler_id)
    if found is None:
        raise Unknown("handler", handler_id, [one.id for one in table.all()])
    return found


def handlers(args: Below) -> list[dict[str, Any]]:
    """List the attached handlers that hear something below a prefix."""
    return [_handler(one) for one in gently(table.all()) if any(map(args.admits, one.events))]


def _handler(one: Attachment) -> dict[str, Any]:
    box = one.mailbox.statistics()
    handler = one.handler
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not isinstance(handler, str) and not hasattr(handler, "__qualname__"):
        handler = type(handler)  # an object with `__call__`: its class says what it is, an address does not
    name = handler if isinstance(handler, str) else handler.__qualname__
    return {
        "handler": clean(one.id),
        "events": list(one.events),
        "function": clean(
            f"{getattr(handler, '__module__', '')}.{name}".lstrip(".") if callable(handler) else str(name)
        ),
        "carrier": one.options.carrier,
        "state": one.state,
        "restarts": one.restarts,
        "mailbox": box.pending,
        "capacity": box.capacity,
        "handled": box.handled,
        "failed": box.failed,
        "dropped": sum(box.dropped.values()),
        "dead_letters": len(one.dead_letters),
    }


def parked() -> list[str]:
    """Name the handlers that gave up."""
    return [clean(one.id) for one in table.all() if one.state == "gave_up"]


def units(name: str, measured: Iterable[str], catalogue: Catalogue | None) -> dict[str, str]:
    """Tell the units of what an event has measured: as declared, by ourselves too; else what every span measures."""
    declared = (catalogue.get(name) if catalogue is not None else None) or _OWN.get(name)
    known = declared.shape(name)[0] if declared is not None else _OF_SPANS.get(name.rpartition(".")[2], {})
    return {key: known[key] for key in measured if key in known}


def dead_letters(args: OfHandler, catalogue: Catalogue | None) -> list[dict[str, Any]]:
    """List the events that a handler failed on, oldest first."""
    return [
        {
            "at": letter.time_ns,
            "event": letter.event.name,
            "measurements": plain(letter.event.measurements),
            "units": units(letter.event.name, letter.event.measurements, catalogue),
            "metadata": plain(letter.event.metadata),
            "traceback": clean(masked(letter.traceback), 8_000),
        }
        for letter in gently(list(attachment(args.handler).dead_letters))
    ]


def events(args: Below, catalogue: Catalogue | None) -> list[dict[str, Any]]:
    """List the events that are declared or that somebody hears."""
    found: dict[str, dict[str, Any]] = {}

    def line(name: str) -> dict[str, Any]:
        empty = {"event": name, "declared": False, "description": "", "measurements": {}, "metadata": {}}
        return found.setdefault(name, {**empty, "handlers": [], "sinks": []})

    for name in catalogue.names if catalogue is not None else ():
        declared = catalogue.get(name) if catalogue is not None else None
        if declared is not None and args.admits(name):
            measurements, metadata = declared.shape(name)
            types = {key: getattr(kind, "__name__", None) or str(kind) for key, kind in metadata.items()}
            told = {"declared": True, "description": declared.description, "measurements": dict(measurements)}
            line(name).update(told, metadata=types)
    for one in table.all():
        for name in filter(args.admits, one.events):
            line(name)["handlers"].append(clean(one.id))
    for sink, names in table.sinks().items():
        for name in filter(args.admits, names):
            line(name)["sinks"].append(clean(sink))
    return [found[name] for name in sorted(found)]


# -- metrics and reporters -------------------------------------------------------------------------------------------


def metrics(args: Below, timeout_s: float) -> list[dict[str, Any]]:
    """List metrics and their series since the start, as the aggregator knows them."""
    ref = _process_table.whereis(AGGREGATOR)
    if ref is None:
        raise NotFound("no aggregator runs in this node. It is part of every Application's tree; see: tree telemetry")
    try:
        views = ref.ask(Snapshot(), timeout=timeout_s)
    except pykka.Timeout:
        why = busy_with(ref, timeout_s)
        raise Late(f"the aggregator did not answer within {timeout_s:g} s: {why}. See: where {AGGREGATOR}") from None
    except pykka.ActorDeadError:
        raise NotFound("the aggregator has just ended. Ask again when it is restarted") from None
    return [_metric(view) for view in gently(views) if args.admits(view.metric.name)]


def _metric(view: MetricView) -> dict[str, Any]:
    metric = view.metric
    return {
        "metric": metric.name,
        "kind": metric.kind,
        "unit": metric.unit,
        "event": metric.event_name,
        "series": [
            {"tags": plain({key: value or "" for key, value in one.tags}), **_value(one.value)}
            for one in gently(view.series[:_SERIES])
        ],
        "series_in_all": len(view.series),
    }


def _value(value: Any) -> dict[str, Any]:
    if not isinstance(value, Distribution):
        return {"value": plain(value)}
    told = {"count": value.count, "sum": plain(value.sum), "low": plain(value.low), "high": plain(value.high)}
    if value.count:
        told |= {f"p{quantile * 100:g}": plain(value.percentile(quantile)) for quantile in _PERCENTILES}
    return told


def reporters(index: Index) -> Iterator[dict[str, Any]]:
    """Tell of every reporter: what waits in it, what it has dropped, and what is wrong."""
    for ref in gently(index.refs.values()):
        if type(ref._actor)._describe is Actor._describe:
            continue
        told = describe(ref).get("reporter")
        if told is not None:
            box = ref.info().mailbox
            yield {
                "reporter": index.label(ref),
                "state": ref.info().state,
                "mailbox": box.pending,
                "queue": told["queue"],
                "dropped": told["dropped"],
                "last_error": clean(masked(str(told["last_error"]))),
                "statistics": plain(told["statistics"]),
            }
