"""How the node is as a whole: `status`, and what `doctor` needs to know of it.

Whether a node is healthy is decided here, in `_problems`, and nowhere else.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections import deque
from time import monotonic_ns, perf_counter_ns
from typing import Any

from gevent import monkey

from actors._introspection_crashes import Incidents
from actors._introspection_events import parked, reporters
from actors._introspection_index import Index, gently, running_scheduler
from actors._introspection_plain import clean
from actors.measurements import _rss_bytes
from runtime import _native
from runtime._mailbox import Mailbox
from runtime._table import table
from runtime._waiting import ThreadWaiter
from runtime._watchdog import BLOCKED_NS

_LIBRARIES = ("beamstalk", "gevent", "greenlet", "loguru", "msgspec", "pykka", "tenacity")
_PACKAGES = ("runtime", "actors", "supervisors", "reporters")
_PATCHABLE = ("threading", "socket", "select", "time", "os", "ssl", "subprocess", "queue")
_LAG_S = 0.25
_TOO_LONG_NS = 1_000_000_000
_NEARLY_FULL = 0.8
_COUNTED = 1_000
_AT_LEAST_NS = 1_000_000_000


class Rate:
    """How many events are delivered per second, to handlers and sinks together, over the last seconds.

    Somebody must `look` now and then; nothing is counted on the emitters' path.
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[int, int]] = deque([(monotonic_ns(), 0)], maxlen=12)

    def look(self) -> float | None:
        """Count, and compare with an earlier count; None when there is too much to count."""
        attachments = table.all()
        if len(attachments) > _COUNTED:
            return None
        boxes = {id(one.mailbox): one.mailbox for one in attachments}
        for found in table.snapshot().values():
            boxes.update((id(one), one) for one in found if isinstance(one, Mailbox))
        now_ns, offered = monotonic_ns(), sum(box.statistics().offered for box in boxes.values())
        before = [look for look in list(self._looks) if now_ns - look[0] >= _AT_LEAST_NS]
        then_ns, was = before[-1] if before else self._looks[0]
        if not self._looks or now_ns - self._looks[-1][0] >= _AT_LEAST_NS:
            self._looks.append((now_ns, offered))
        # A handler that was detached takes its count with it.
        return max(offered - was, 0) * 1e9 / max(now_ns - then_ns, 1)


def versions() -> dict[str, str]:
    """Return the versions of what the node runs on."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def status(name: str, uptime_ns: int, rate: Rate, incidents: Incidents, wait_s: float) -> dict[str, Any]:
    """Tell how the node is; waits for the hub, at most a quarter of a second."""
    index = Index()
    hub = _hub(incidents, min(_LAG_S, wait_s))
    deepest: dict[str, Any] | None = None
    nearly_full, dropped = [], 0
    # A handler that restarts, or has given up, has a mailbox and no actor.
    boxes = {id(one.mailbox): (clean(one.id), one.mailbox.statistics()) for one in table.all()}
    boxes.update((id(ref._actor._mailbox), (index.label(ref), info.mailbox)) for ref, info in index.infos())
    for label, box in gently(boxes.values()):
        dropped += sum(box.dropped.values())
        if box.pending and (deepest is None or box.pending > deepest["pending"]):
            deepest = {"actor": label, "pending": box.pending, "capacity": box.capacity}
        if box.capacity and box.pending >= _NEARLY_FULL * box.capacity:
            nearly_full.append(f"the mailbox of {label} holds {box.pending:,} of {box.capacity:,}")
    told = list(reporters(index))
    gave_up = parked()
    problems = [*_problems(hub, gave_up, told), *nearly_full[:5]]
    return {
        "name": name,
        "pid": os.getpid(),
        "uptime_ns": uptime_ns,
        "versions": versions(),
        "actors": len(index.refs),
        "restarts": incidents.restarts(),
        "events_per_s": rate.look(),
        "handlers": {"attached": len(table.all()), "parked": gave_up},
        "deepest_mailbox": deepest,
        "dropped": dropped,
        "reporters": [{key: one[key] for key in ("reporter", "queue", "dropped", "last_error")} for one in told],
        "rss_bytes": _rss_bytes(),
        "hub": hub,
        "healthy": not problems,
        "problems": problems,
    }


def _hub(incidents: Incidents, wait_s: float) -> dict[str, Any]:
    scheduler = running_scheduler()
    answered = ThreadWaiter()
    begun_ns = perf_counter_ns()
    scheduler.post(answered.wake)
    answered.wait(wait_s)
    lag_ns = perf_counter_ns() - begun_ns
    statistics = scheduler.statistics()
    blocked_by = None
    if statistics.blocked_ns > BLOCKED_NS:
        blocked_by = next((one.who for one in reversed(incidents.last()) if one.what == "hub blocked"), None)
    return {
        "lag_ns": max(lag_ns, statistics.blocked_ns),
        "blocked_ns": statistics.blocked_ns,
        "blocked_by": blocked_by,
        "ready": statistics.ready,
        "greenlets": statistics.greenlets,
    }


def _problems(hub: dict[str, Any], gave_up: list[str], told: list[dict[str, Any]]) -> list[str]:
    problems = []
    if hub["lag_ns"] >= _TOO_LONG_NS:
        by = f" by {hub['blocked_by']}" if hub["blocked_by"] else ""
        problems.append(f"the hub has been blocked for {hub['lag_ns'] / 1e9:.1f} s{by}")
    problems += [f"handler {name} gave up; reattach {name} when its cause is gone" for name in gave_up]
    return problems + [f"reporter {one['reporter']}: {one['last_error']}" for one in told if one["last_error"]]


def health(path: str, control: bool) -> dict[str, Any]:
    """Tell what only the node itself knows of its process, for `doctor`."""
    packages = {name: getattr(sys.modules.get(name), "__file__", None) for name in _PACKAGES}
    patched = [name for name in _PATCHABLE if monkey.is_module_patched(name)]
    return {
        "packages": packages,
        "versions": versions(),
        "patched": patched,
        "patched_before_import": _native.patched_at_import,
        "socket": path,
        "control": control,
        "parked": parked(),
        "loaded_from": list(sys.path),
    }
