"""For the tests of services: see what they emit, without threads, waiting or a running application.

`capture_events` works with any test framework; the pytest fixtures `telemetry`, `actor_system` and `fake_clock` (module
`pytest_beamstalk`) are made of the same pieces. Nothing here patches anything.
"""

from __future__ import annotations

import contextlib
import difflib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from runtime import _process_table, _scheduler, _taps
from runtime import _reporter_suite as reporter_suite
from runtime._events import Event
from runtime._handlers import list_handlers
from runtime._table import FAILURE
from runtime._waiting import waiter
from runtime.clock import FakeClock
from runtime.errors import BeamstalkError

__all__ = ["Capture", "actor_system", "capture_events", "fake_clock", "reporter_suite"]

_WAIT_S = 5.0
_SETTLE_S = 1.0


class Capture:
    """The events heard so far, in order of emission. Made by `capture_events`; may be read while others emit."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failures: list[Event] = []
        self._failed_before = {info.id: info.mailbox.failed for info in list_handlers()}
        self._failed: Counter[str] = Counter()

    def _hear(self, event: Event) -> None:
        self.events.append(event)

    def _hear_failure(self, event: Event) -> None:
        self.failures.append(event)
        self._failed[event.metadata["handler_id"]] += 1

    def settle(self, timeout_s: float = _SETTLE_S) -> bool:
        """Wait until the running handlers have had what was emitted; False if they have not when time is over.

        Handlers run a moment after the emission: a test that ends with it would not see them fail.
        """
        deadline = time.monotonic() + timeout_s
        while not (is_quiet := self._is_quiet()) and time.monotonic() < deadline:
            waiter().wait(0.002)
        return is_quiet

    def _is_quiet(self) -> bool:
        """Tell whether no handler has mail, and every failure that was counted has been heard of."""
        return all(
            info.mailbox.pending == 0
            and info.mailbox.failed - self._failed_before.get(info.id, 0) <= self._failed[info.id]
            for info in list_handlers()
            if info.state == "running"
        )

    def of(self, name: str) -> list[Event]:
        """Return the events of one name."""
        return [event for event in list(self.events) if event.name == name]

    def count(self, name: str) -> int:
        """Count the events of one name."""
        return len(self.of(name))

    def clear(self) -> None:
        """Forget what was heard."""
        self.events.clear()
        self.failures.clear()

    def assert_event(
        self,
        name: str,
        measurements: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Event:
        """Return the first event of this name that has at least these measurements and metadata.

        Raises AssertionError, which shows the nearest events that were captured.
        """
        for event in self.of(name):
            if _has(event.measurements, measurements) and _has(event.metadata, metadata):
                return event
        wanted = f"{name} with measurements {dict(measurements or {})} and metadata {dict(metadata or {})}"
        raise AssertionError(f"expected an event {wanted}, got: {self._nearest(name)}")

    def refute_event(
        self,
        name: str,
        measurements: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise AssertionError when such an event was captured."""
        for event in self.of(name):
            if _has(event.measurements, measurements) and _has(event.metadata, metadata):
                raise AssertionError(f"expected no such event, got: {_line(event)}")

    def wait_for(self, name: str, count: int = 1, timeout_s: float = _WAIT_S) -> list[Event]:
        """Wait until so many events of this name were captured and return them; AssertionError when time is over."""
        deadline = time.monotonic() + timeout_s
        while len(found := self.of(name)) < count:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"expected {count} events {name} within {timeout_s} s, got: {len(found)}; {self._nearest(name)}"
                )
            waiter().wait(0.002)
        return found

    def _nearest(self, name: str) -> str:
        events = list(self.events)
        same = [event for event in events if event.name == name]
        names = difflib.get_close_matches(name, {event.name for event in events}, n=3, cutoff=0.5)
        near = same or [event for event in events if event.name in names]
        return "nothing was captured" if not events else "\n  ".join(["", *map(_line, near[-5:] or events[-5:])])


def _has(mapping: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    missing = object()
    return all(mapping.get(key, missing) == value for key, value in (wanted or {}).items())


def _line(event: Event) -> str:
    return f"{event.name} {event.measurements} {event.metadata}"


@contextlib.contextmanager
def capture_events(*patterns: str) -> Iterator[Capture]:
    """Capture events while the block runs: names, prefixes (`a.b.*`) or everything (`*`, also without arguments).

    Events are captured in the emitter's own thread, so they are there when `execute` returns; no application need run.

    >>> import runtime
    >>> with capture_events("shop.*") as captured:
    ...     runtime.execute("shop.order.placed", {"amount": 3}, {"currency": "EUR"})
    >>> captured.assert_event("shop.order.placed", {"amount": 3}).metadata
    {'currency': 'EUR'}
    """
    captured = Capture()
    taps = (_taps.Tap(patterns or ("*",), captured._hear), _taps.Tap((FAILURE,), captured._hear_failure))
    for tap in taps:
        _taps.add(tap)
    try:
        yield captured
    finally:
        for tap in taps:
            _taps.remove(tap)


@contextlib.contextmanager
def actor_system() -> Iterator[None]:
    """Kill the actors that the block started and has not stopped, and stop the scheduler if nobody else needs it."""
    before = set(_process_table.processes())
    try:
        yield
    finally:
        for ref in _process_table.processes():
            if ref not in before:
                ref.kill()
                ref.wait(_WAIT_S)
        if not before:
            _scheduler.stop()


@contextlib.contextmanager
def fake_clock(seed: int | None = None) -> Iterator[FakeClock]:
    """Run the actors of the block by a clock that only `advance` moves; with a `seed` in a random, repeatable order.

    No actor may live before the block, and those that it started are killed after it.

    >>> with fake_clock() as clock:
    ...     clock.advance(60)
    ...     clock.monotonic_ns()
    60000000000
    """
    if _process_table.count():
        raise BeamstalkError(f"expected no live actors, got: {_process_table.processes()}")
    _scheduler.stop()
    clock = FakeClock()
    _scheduler.start(clock, seed)
    try:
        with actor_system():
            yield clock
    finally:
        _scheduler.stop()
