"""Event names and the event itself.

A name is a non-empty sequence of non-empty segments; its canonical form is the dotted string, because a str caches
its hash and the routing table is one dict lookup. Names are checked in full where they are declared (attach, event,
span prefixes of a catalogue), never on the emitter's path: an unknown name simply has no routes.

An event owns its dicts: `own` copies what the caller passed, nested builtin containers included, so that nothing the
caller does afterwards can change what a handler sees. Other objects, buffers among them, are shared by reference.
"""

from __future__ import annotations

import contextvars
import re
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from gc import is_tracked
from typing import Any, TypeAlias

import msgspec

from runtime.errors import expected

Name: TypeAlias = str | Sequence[str]
"""An event name: `"anvil.label.submit.stop"`, or its segments in a tuple or list."""

_BAD_SEGMENT = re.compile(r"[\s.\x00-\x1f\x7f-\x9f]")
_NAME_RULE = "an event name of non-empty segments without dots, spaces or control characters"
_MAX_DEPTH = 32


def canonical(name: object) -> str:
    """Check a name in full and return its dotted form.

    >>> canonical(["anvil", "label", "submit"])
    'anvil.label.submit'
    >>> canonical("anvil..submit")
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected an event name of non-empty segments without dots, spaces or control \
characters, got: 'anvil..submit'. Write it as 'domain.action.stop'
    """
    if isinstance(name, str):
        segments: Sequence[object] = name.split(".")
    elif isinstance(name, tuple | list) and name:
        segments = name
    else:
        raise expected(_NAME_RULE, name, "Write it as 'domain.action.stop'")
    for segment in segments:
        if not isinstance(segment, str) or not segment or _BAD_SEGMENT.search(segment):
            raise expected(_NAME_RULE, name, "Write it as 'domain.action.stop'")
    return name if type(name) is str else ".".join(segments)  # type: ignore[arg-type]


class Event(msgspec.Struct, frozen=True, gc=False):
    """What travels in mailboxes: one emission.

    Fields: `name` (dotted), `measurements`, `metadata` (both owned by the event), `time_ns` (monotonic, at emission),
    `context` (the emitter's contextvars), `rate` (sample rate: this event stands for 1/rate events).
    """

    name: str
    measurements: dict[str, Any]
    metadata: dict[str, Any]
    time_ns: int
    context: contextvars.Context | None = None
    rate: float = 1.0


def own(mapping: object, what: str) -> dict[str, Any]:
    """Copy a mapping, nested builtin containers included, so that its giver cannot change it any more.

    >>> errors = ["is required"]
    >>> metadata = own({"errors": errors}, "metadata")
    >>> errors.clear()
    >>> metadata
    {'errors': ['is required']}
    """
    if mapping.__class__ is dict:
        copy: dict[str, Any] = mapping.copy()
        # CPython does not track a dict that holds nothing but numbers, strings and the like: then nobody need look.
        if not is_tracked(copy):
            return copy
    elif mapping is None:
        return {}
    elif isinstance(mapping, Mapping):
        copy = dict(mapping)
    else:
        raise expected(f"{what} to be a mapping", mapping, 'Write {"key": value}')
    for value in copy.values():
        if value.__class__ in _COPIERS:
            return {key: _copy(item, _MAX_DEPTH) for key, item in copy.items()}
    return copy


def _copy(value: Any, depth: int) -> Any:
    copier = _COPIERS.get(value.__class__)
    # Deeper than any sane event, or a cycle: share the rest rather than fail the emitter.
    return value if copier is None or depth == 0 else copier(value, depth - 1)


def _copy_dict(value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    return {key: _copy(item, depth) for key, item in value.items()}


def _copy_ordered(value: OrderedDict[Any, Any], depth: int) -> OrderedDict[Any, Any]:
    return OrderedDict((key, _copy(item, depth)) for key, item in value.items())


def _copy_defaultdict(value: defaultdict[Any, Any], depth: int) -> defaultdict[Any, Any]:
    return defaultdict(value.default_factory, _copy_dict(value, depth))


_COPIERS: dict[type, Callable[[Any, int], Any]] = {
    dict: _copy_dict,
    list: lambda value, depth: [_copy(item, depth) for item in value],
    tuple: lambda value, depth: tuple([_copy(item, depth) for item in value]),
    set: lambda value, depth: set(value),
    OrderedDict: _copy_ordered,
    defaultdict: _copy_defaultdict,
    deque: lambda value, depth: deque((_copy(item, depth) for item in value), value.maxlen),
}
