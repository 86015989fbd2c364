"""What went wrong lately: a bounded ring, filled by the introspector from its mailbox and read by its sessions.

Events are rendered to text when they are taken in, in the introspector's thread: neither does whoever crashed pay for
it, nor does a remembered crash keep the crashed actor's frames alive. The ring outlives the introspector.
"""

from __future__ import annotations

import itertools
from collections import deque
from time import monotonic_ns
from typing import Any

import msgspec

from actors._introspection_index import HANDLERS, child_name, name_of
from actors._introspection_plain import clean, masked, plain, text
from actors._reports import CRASH
from runtime import _dispatch, _native
from runtime._events import Event
from runtime._table import FAILURE, GAVE_UP
from runtime._watchdog import BLOCKED
from runtime.clock import Clock

REPORT = "supervisors.report"
EVENTS = (CRASH, FAILURE, GAVE_UP, REPORT, BLOCKED)
_KEPT = 200
_TRACE = 8_000
_LOOK_BACK = 32
_MINUTE_S, _HOUR_S = 60, 3_600


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that went wrong: who (`actor`: process id, 0 for none), why, where, and when (calendar time, ns)."""

    number: int
    at: int
    what: str
    who: str
    reason: str
    actor: int
    detail: dict[str, Any]
    stacktrace: str


class Incidents:
    """The last incidents, and how often supervisors restarted something."""

    def __init__(self) -> None:
        self._ring: deque[Incident] = deque(maxlen=_KEPT)
        self._numbers = itertools.count(1)
        # Restarts per second, at most an hour of them: {second: restarts}.
        self._restarts: dict[int, int] = {}
        self._restarts_in_all = 0
        self._lock = _native.allocate_lock()

    def hear(self, event: Event) -> None:
        """Take in one of EVENTS. A restart is counted last: who sees it counted finds it told as well."""
        if not self._is_told(event):
            self._tell(event)
        if event.name == REPORT:
            self._count_restart(event.metadata)

    def _tell(self, event: Event) -> None:
        metadata = event.metadata
        what, who, reason = _summary(event)
        keys = ("last_message", "event_name", "ancestors")
        incident = Incident(
            number=next(self._numbers),
            at=Clock.system_ns() - max(_dispatch.now_ns() - event.time_ns, 0),
            what=what,
            who=who,
            reason=reason,
            actor=_id(metadata.get("ref")),
            detail={key: _worded(metadata[key]) for key in keys if metadata.get(key) is not None},
            stacktrace=clean(masked(_rendered(metadata.get("stacktrace"))), _TRACE),
        )
        with self._lock:
            self._ring.append(incident)

    def _count_restart(self, report: dict[str, Any]) -> None:
        context, offender = report.get("context"), report.get("offender")
        rule = offender.get("restart") if isinstance(offender, dict) else None
        if context == "shutdown":
            more = -1  # the supervisor gave up: what it reported as ended before is not started again
        elif context == "start_error" or (context == "child_terminated" and rule != "temporary"):
            more = 1
        else:
            return
        second = monotonic_ns() // 1_000_000_000
        with self._lock:
            self._restarts_in_all += more
            self._restarts[second] = self._restarts.get(second, 0) + more
            if len(self._restarts) > 2 * _HOUR_S:
                self._restarts = {past: count for past, count in self._restarts.items() if past > second - _HOUR_S}

    def _is_told(self, event: Event) -> bool:
        """Tell whether another event says the same: a handler's failure, or a crash that its supervisor reports too."""
        metadata = event.metadata
        if event.name == CRASH:
            return isinstance(metadata.get("last_message"), Event)
        if event.name != REPORT:
            return False
        offender = metadata.get("offender")
        if metadata.get("context") == "shutdown" and isinstance(offender, dict):
            # A handler's supervisor that gives up: GAVE_UP says so too, and of whom.
            above = getattr(getattr(offender.get("ref"), "parent", None), "parent", None)
            return getattr(above, "name", None) == HANDLERS
        if not isinstance(metadata.get("reason"), BaseException):
            return False
        if metadata.get("context") != "child_terminated" or not isinstance(offender, dict):
            return False
        actor = _id(offender.get("ref"))
        with self._lock:
            for number in range(len(self._ring) - 1, max(len(self._ring) - _LOOK_BACK, 0) - 1, -1):
                if actor and self._ring[number].actor == actor:
                    # The supervisor knows by which name its child goes on.
                    self._ring[number] = msgspec.structs.replace(self._ring[number], who=_summary(event)[1])
                    return True
        return True

    def last(self, limit: int = _KEPT) -> list[Incident]:
        """Return the last incidents, oldest first."""
        with self._lock:
            return list(self._ring)[-limit:]

    def of(self, who: str) -> list[Incident]:
        """Return the last incidents of one actor or handler."""
        return [incident for incident in self.last() if incident.who == who]

    def restarts(self) -> dict[str, int]:
        """Count restarts in the last minute, in the last hour, and in all since the introspector was first started."""
        second = monotonic_ns() // 1_000_000_000
        with self._lock:
            counts, total = list(self._restarts.items()), self._restarts_in_all
        minute = sum(count for past, count in counts if past > second - _MINUTE_S)
        hour = sum(count for past, count in counts if past > second - _HOUR_S)
        return {"last_minute": max(minute, 0), "last_hour": max(hour, 0), "total": max(total, 0)}


def _summary(event: Event) -> tuple[str, str, str]:
    metadata = event.metadata
    match event.name:
        case "actors.crash":
            return "crash", clean(str(metadata.get("name") or metadata.get("ref")), 200), text(metadata.get("reason"))
        case "telemetry.handler.failure":
            return "handler failure", _told(metadata, "handler_id"), text(metadata.get("reason"))
        case "telemetry.handler.gave_up":
            restarts = plain(event.measurements.get("restarts", metadata.get("restarts")))
            return "handler gave up", _told(metadata, "handler_id"), f"after {restarts} restarts"
        case "supervisors.report":
            offender = metadata.get("offender")
            offender = offender if isinstance(offender, dict) else {}
            # A supervisor without a name calls itself by its number, listings by whose child it is.
            parent = getattr(offender.get("ref"), "parent", None)
            who = _told(metadata, "supervisor") if parent is None else name_of(parent)
            what = str(metadata.get("context", "report")).replace("_", " ")
            return what, clean(f"{who}/{child_name(offender.get('id'))}", 200), _worded(metadata.get("reason"))
        case _:
            duration_ns = event.measurements.get("duration", 0)
            return "hub blocked", _told(metadata, "activity"), f"for {duration_ns / 1e6:.0f} ms when it was seen"


def _worded(value: object) -> str:
    """Show a word as it is, without the quotes of its repr."""
    return clean(masked(value), 500) if isinstance(value, str) else text(value)


def _id(ref: object) -> int:
    """Return the process id of a ref; 0 for anything else."""
    found = getattr(ref, "id", 0)
    return found if isinstance(found, int) else 0


def _told(metadata: dict[str, Any], key: str) -> str:
    return clean(str(metadata.get(key, "?")), 200)


def _rendered(stack: object) -> str:
    try:
        return "" if stack is None else str(stack)
    except Exception as error:  # noqa: BLE001 - linecache reads files, and a foreign object may stand here
        return f"<{type(stack).__name__}, which raised {type(error).__name__}>"
