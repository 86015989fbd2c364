"""Traces: the next events of a name, for one session, bounded in number, time and rate.

The tap runs in the emitters' threads and only appends to a bounded deque; choosing, rendering and sending is the
session's. When the session ends, for whatever reason, the tap is gone and emitters pay nothing any more.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from actors._introspection_events import units
from actors._introspection_plain import plain
from runtime import _taps
from runtime._dispatch import now_ns
from runtime._events import Event
from runtime.catalogue import Catalogue
from runtime.clock import Clock

_HELD = 1_000
_LOOK_EVERY_S = 0.05
_MISSING = object()


class TraceArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to trace: at most `limit` events within `for_s` seconds, at most `rate` a second, with all of `where`."""

    event: str
    limit: int = 10
    for_s: float = 30.0
    rate: float = 100.0
    where: dict[str, str] = {}


class Trace:
    """Hear events for one session."""

    def __init__(self, args: TraceArgs, is_gone: Callable[[float], bool], catalogue: Catalogue | None) -> None:
        """`is_gone(timeout_s)` waits that long and tells whether the client has gone meanwhile."""
        self._catalogue = catalogue
        self._args = args
        self._is_gone = is_gone
        self._heard: deque[tuple[int, Event]] = deque(maxlen=_HELD)
        self._numbers = itertools.count(1)
        self._tap = _taps.Tap((args.event,), self._hear)
        self.seen = 0
        self.skipped = 0
        self._why = ""
        # When the last so many were shown: there is room for one more once the oldest is that long ago.
        self._shown_at: deque[float] = deque(maxlen=min(math.ceil(args.rate), args.limit))
        self._window_s = max(1.0, 1.0 / args.rate)

    def _hear(self, event: Event) -> None:
        self._heard.append((next(self._numbers), event))

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield what is seen, until the trace is over or the client gone."""
        args, heard = self._args, self._heard
        deadline = time.monotonic() + args.for_s
        expected = 1
        _taps.add(self._tap)
        try:
            while self.seen < args.limit:
                # So many at a time: where nothing matches and much is emitted, the end must be seen all the same.
                for number, event in _take(heard):
                    self.skipped += number - expected
                    expected = number + 1
                    if not _matches(event, args.where):
                        continue
                    if not self._has_room():
                        self.skipped += 1
                        continue
                    self.seen += 1
                    yield _shown(event, self._catalogue)
                    if self.seen >= args.limit:
                        return
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return
                if self._is_gone(min(left_s, _LOOK_EVERY_S)):
                    self._why = "left"
                    return
        finally:
            _taps.remove(self._tap)

    def _has_room(self) -> bool:
        now, shown_at = time.monotonic(), self._shown_at
        if len(shown_at) == shown_at.maxlen and now - shown_at[0] < self._window_s:
            return False
        shown_at.append(now)
        return True

    def end(self) -> dict[str, Any]:
        """Say how it ended; `skipped` events came too fast to be shown."""
        why = self._why or ("limit" if self.seen >= self._args.limit else "time")
        return {"why": why, "seen": self.seen, "skipped": self.skipped}


def _take(heard: deque[tuple[int, Event]]) -> list[tuple[int, Event]]:
    return [heard.popleft() for _ in range(len(heard))]


def _matches(event: Event, where: dict[str, str]) -> bool:
    """Tell whether measurements or metadata have all these values, as they read."""
    for key, wanted in where.items():
        value = event.metadata.get(key, event.measurements.get(key, _MISSING))
        if value is _MISSING or str(plain(value)) != wanted:
            return False
    return True


def _shown(event: Event, catalogue: Catalogue | None) -> dict[str, Any]:
    return {
        "event": event.name,
        "at": Clock.system_ns() - max(now_ns() - event.time_ns, 0),
        "measurements": plain(event.measurements),
        "units": units(event.name, event.measurements, catalogue),
        "metadata": plain(event.metadata),
        "rate": event.rate,
    }
