"""The events that beamstalk emits about itself, declared like a service's own.

Add them to a catalogue to have them documented and checked: `Catalogue([*OWN, *mine])`. The suite holds the code to
this page.
"""

from __future__ import annotations

from typing import Any, Literal

from runtime.catalogue import Declared

__all__ = ["OWN"]

_NOW = {"monotonic_time": "ns", "system_time": "ns"}
_ERROR = {"kind": str, "reason": Any, "stacktrace": Any}

OWN: tuple[Declared, ...] = (
    # -- handlers ----------------------------------------------------------------------------------------------------
    Declared(
        name="telemetry.handler.failure",
        description="An attached handler failed on an event: exactly once per failure.",
        measurements=_NOW,
        metadata={"event_name": str, "handler_id": str, "handler_config": Any, **_ERROR},
    ),
    Declared(
        name="telemetry.handler.gave_up",
        description="A handler failed too often and is parked until it is reattached.",
        measurements=_NOW,
        metadata={"handler_id": str, "restarts": int},
    ),
    Declared(
        name="telemetry.event.invalid",
        description="An event is not as the service's catalogue declares it.",
        measurements={"problems": "sentences"},
        metadata={"event_name": str, "problems": list[str]},
    ),
    Declared(
        name="telemetry.poller.failure",
        description="A periodic measurement raised; it is tried again after a pause. `failing`: times in a row.",
        measurements={"failing": "failures"},
        metadata={"measurement": str, **_ERROR},
    ),
    # -- the runtime -------------------------------------------------------------------------------------------------
    Declared(
        name="runtime.scheduler.blocked",
        description="An actor holds the hub: no other green actor runs meanwhile. `duration`: so far.",
        measurements={"duration": "ns"},
        metadata={"activity": str, "stacktrace": str},
    ),
    Declared(
        name="runtime.process",
        description="Measured from time to time: the operating system's process.",
        measurements={
            "rss": "byte",
            "cpu": "ns",
            "threads": "threads",
            "gc_collections": "collections",
            "gc_uncollectable": "objects",
        },
        metadata={"pid": int},
    ),
    Declared(
        name="runtime.system",
        description="Measured from time to time: actors and mailboxes, and how late the hub is.",
        measurements={
            "actors": "actors",
            "pending": "messages",
            "dropped": "messages",
            "deepest": "messages",
            "hub_lag": "ns",
        },
    ),
    # -- actors and supervisors --------------------------------------------------------------------------------------
    Declared(
        name="actors.crash",
        description="An actor ended abnormally.",
        measurements={"mailbox": "messages", "uptime": "ns"},
        metadata={
            "name": str | None,
            "ref": Any,
            "reason": Any,
            "stacktrace": Any,
            "last_message": Any,
            "ancestors": list[Any],
        },
    ),
    Declared(
        name="supervisors.report",
        description="A child ended, failed to start or to stop, or its supervisor gives up because of it.",
        measurements={"count": "reports"},
        metadata={
            "supervisor": str,
            "context": Literal["child_terminated", "start_error", "shutdown_error", "shutdown"],
            "reason": Any,
            "offender": dict[str, Any],
        },
    ),
    Declared(
        name="supervisors.progress",
        description="A child was started.",
        measurements={"count": "reports"},
        metadata={"supervisor": str, "started": dict[str, Any]},
    ),
    Declared(
        name="supervisors.unexpected_message",
        description="A supervisor got a message that it has no use for, and dropped it.",
        measurements={"count": "reports"},
        metadata={"supervisor": str, "message": Any},
    ),
)
