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
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from gc import is_tracked
from typing import Any, TypeAlias

import msgspec

from runtime.errors import expected

Name: TypeAlias = str | Sequence[str]
"""An event name: `"anvil.label.submit.stop"`, or its segments in a tuple or list."""

_BAD_SEGMENT = re.compile(r"[\s.\x00-\x1f\x7f-\x9f]")
_NAME_RULE = "an event name of non-empty segments without dots, spaces or control characters"
_MAX_DEPTH = 100
_MAX_CONTAINERS = 10_000


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


class Event(msgspec.Struct, frozen=True):
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


PlainEvent: type[Event] = msgspec.defstruct("Event", [], bases=(Event,), frozen=True, gc=False)  # type: ignore[assignment]
"""An event that the garbage collector need not look at, however many wait: one of plain values and no context, which
can be part of no reference cycle. A tenth of the price of an emission."""


def own(mapping: object, what: str) -> dict[str, Any]:
    """Copy a mapping, nested builtin containers included, so that its giver cannot change it any more.

    >>> errors = ["is required"]
    >>> metadata = own({"errors": errors}, "metadata")
    >>> errors.clear()
    >>> metadata
    {'errors': ['is required']}
    """
    if type(mapping) is dict:
        copy: dict[str, Any] = mapping.copy()
    elif mapping is None:
        return {}
    elif isinstance(mapping, Mapping):
        copy = _dict_of(mapping, what)
    else:
        raise expected(f"{what} to be a mapping", mapping, 'Write {"key": value}')
    # CPython does not track a dict that holds nothing but numbers, strings and the like: then nobody need look.
    return own_values(copy) if is_tracked(copy) else copy


def own_values(mapping: dict[str, Any]) -> dict[str, Any]:
    """Replace the builtin containers in a dict that is the event's own already by copies."""
    memo: dict[int, tuple[Any, Any]] = {}
    for key, value in mapping.items():
        if type(value) in _CONTAINERS:
            mapping[key] = _copy(value, memo, 0)
    return mapping


def _dict_of(mapping: Mapping[Any, Any], what: str) -> dict[str, Any]:
    try:
        return dict(mapping)
    except Exception:  # noqa: BLE001  # a mapping of somebody's own, or what pretends to be one, may fail as it likes
        raise expected(f"{what} to be a mapping", mapping, 'Write {"key": value}') from None


def _copy(value: Any, memo: dict[int, tuple[Any, Any]], depth: int) -> Any:
    """Copy a container with all those in it; what is in it twice, or in itself, is so in the copy too."""
    kind = type(value)
    known = memo.get(id(value))
    if known is not None:
        return known[1]
    if depth > _MAX_DEPTH or len(memo) > _MAX_CONTAINERS:
        return value  # beyond any sane event: share the rest rather than hold up the emitter
    if kind is tuple:
        copy: Any = tuple([_copy(item, memo, depth + 1) if type(item) in _CONTAINERS else item for item in value])
        memo[id(value)] = value, copy
        return copy
    # Copied in one step first: another thread may be changing the original.
    copy = value.copy()
    memo[id(value)] = value, copy
    if kind is list or kind is deque:
        for position, item in enumerate(copy):
            if type(item) in _CONTAINERS:
                copy[position] = _copy(item, memo, depth + 1)
    elif kind is not set:
        for key, item in copy.items():
            if type(item) in _CONTAINERS:
                copy[key] = _copy(item, memo, depth + 1)
    return copy


_CONTAINERS = frozenset((dict, list, tuple, set, Counter, OrderedDict, defaultdict, deque))
