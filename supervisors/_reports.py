"""Supervisor and progress reports: one telemetry event and one loguru record per incident.

Supervisors write them, nobody else. Events: `supervisors.report` (metadata supervisor, context, reason, offender),
`supervisors.progress` (supervisor, started) and `supervisors.unexpected_message` (supervisor, message), each with the
measurement `count`. The loguru record carries the same report as `extra["report"]`; its text is made only if a sink
wants it. A report must never fail its supervisor, so nothing here calls into the child.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from loguru import logger

import runtime
from actors import ActorRef
from runtime._harmless import harmless
from runtime.errors import ExitReason, shown
from supervisors.child_spec import ChildSpec

__all__ = ["Context", "progress", "supervisor_report", "unexpected_message"]

Context = Literal["child_terminated", "start_error", "shutdown_error", "shutdown"]

_report_event = runtime.event("supervisors.report")
_progress_event = runtime.event("supervisors.progress")
_unexpected_event = runtime.event("supervisors.unexpected_message")
_ONE = {"count": 1}
_late = logger.opt(lazy=True)


class Report(msgspec.Struct, frozen=True):
    """Carry one report to loguru's sinks; the text is made when a sink asks for it."""

    title: str
    fields: dict[str, Any]

    def __str__(self) -> str:
        lines = [self.title]
        for key, value in self.fields.items():
            if isinstance(value, dict):
                value = ", ".join(f"{name}={shown(item)}" for name, item in value.items())
            elif not isinstance(value, str):
                value = shown(value)
            lines.append(f"    {key}: {value}")
        return "\n".join(lines)


@harmless
def supervisor_report(
    supervisor: str, context: Context, reason: ExitReason, spec: ChildSpec, ref: ActorRef[Any] | None
) -> None:
    """Report that a child ended, failed to start, failed to stop, or that the supervisor gives up because of it."""
    fields = {"supervisor": supervisor, "context": context, "reason": reason, "offender": _describe(spec, ref)}
    _report_event.execute(_ONE, fields)
    _late.error("{report}", report=lambda: Report("supervisor report", fields))


@harmless
def progress(supervisor: str, spec: ChildSpec, ref: ActorRef[Any]) -> None:
    """Report that a child was started."""
    fields = {"supervisor": supervisor, "started": _describe(spec, ref)}
    _progress_event.execute(_ONE, fields)
    _late.info("{report}", report=lambda: Report("progress report", fields))


@harmless
def unexpected_message(supervisor: str, message: object) -> None:
    """Report a message that no supervisor understands; it is dropped."""
    fields = {"supervisor": supervisor, "message": message}
    _unexpected_event.execute(_ONE, fields)
    _late.error("{report}", report=lambda: Report("unexpected message", fields))


def _describe(spec: ChildSpec, ref: ActorRef[Any] | None) -> dict[str, Any]:
    return {"id": spec.id, "ref": ref, "restart": spec.restart, "shutdown": spec.shutdown, "type": spec.type}
