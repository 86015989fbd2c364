"""Taps: hear events by pattern, for as long as somebody looks. For tests and for the shell's bounded traces.

Routing is exact by name, and stays so: while there are taps, the routing snapshot is wrapped in one that also asks the
patterns, once per name. Without taps nothing is wrapped and nothing is paid. A tap is called in the emitter's thread
and must only take note.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from runtime import _dispatch, _native
from runtime._dispatch import Routes, Subscriber
from runtime._events import Event, canonical
from runtime._fork import in_child
from runtime.errors import expected

_MOST_NAMES = 10_000
"""So many names are asked of the patterns once and remembered."""


class Tap:
    """Hear the events that match a pattern: a name, a prefix and `.*`, or `*` for all."""

    __slots__ = ("_hear", "_matches", "idle", "lazy", "limit", "load")

    def __init__(self, patterns: tuple[str, ...], hear: Callable[[Event], object]) -> None:
        self._matches = re.compile("|".join(_expression(pattern) for pattern in patterns)).fullmatch
        self._hear = hear
        self.load: list[Any] = []
        self.limit = 0
        self.idle = False
        self.lazy = 0

    def matches(self, name: str) -> bool:
        """Tell whether this tap hears an event name."""
        return self._matches(name) is not None

    def wake(self) -> None:
        """Nothing ever waits here."""

    def put_when_full(self, event: Event) -> bool:
        """Hear an event."""
        self._hear(event)
        return True


def _expression(pattern: str) -> str:
    if pattern == "*":
        return ".*"
    prefix = isinstance(pattern, str) and pattern.endswith(".*")
    try:
        name = canonical(pattern[:-2] if prefix else pattern)
    except ValueError:
        name = "*"
    if "*" in name:
        raise expected("a pattern such as 'a.b.c', 'a.b.*' or '*'", pattern)
    return re.escape(name) + (r"\..*" if prefix else "")


class _Tapped(dict[str, tuple[Subscriber, ...]]):
    """A routing snapshot that also asks the taps."""

    def __init__(self, routes: Routes, taps: tuple[Tap, ...]) -> None:
        super().__init__(routes)
        self._taps = taps
        self._known: dict[str, tuple[Subscriber, ...] | None] = {}

    def get(self, name: Any, default: Any = None) -> Any:
        try:
            found = self._known[name]
        except KeyError:
            heard = tuple(tap for tap in self._taps if isinstance(name, str) and tap.matches(name))
            found = (super().get(name) or ()) + heard or None
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()  # somebody makes names up as he goes
            self._known[name] = found
        return default if found is None else found

    def __contains__(self, name: object) -> bool:
        return self.get(name) is not None

    def __getitem__(self, name: str) -> tuple[Subscriber, ...]:
        found: tuple[Subscriber, ...] = self.get(name) or ()
        return found


_lock = _native.RLock()
_taps: tuple[Tap, ...] = ()


@in_child
def _hear_nothing() -> None:
    global _lock, _taps
    _lock = _native.RLock()
    _taps = ()
    _dispatch.wrap(None)


def add(tap: Tap) -> None:
    """Begin to hear; any thread."""
    global _taps
    with _lock:
        _taps = (*_taps, tap)
        _dispatch.wrap(_wrapper())


def remove(tap: Tap) -> None:
    """Hear no more; harmless when it did not."""
    global _taps
    with _lock:
        _taps = tuple(other for other in _taps if other is not tap)
        _dispatch.wrap(_wrapper())


def _wrapper() -> Callable[[Routes], Routes] | None:
    taps = _taps
    return (lambda routes: _Tapped(routes, taps)) if taps else None
