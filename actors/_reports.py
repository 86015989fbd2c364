"""Crash reports: one structured record per incident, as a telemetry event and as a log record, rendered late."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from loguru import logger

from runtime import execute
from runtime._harmless import harmless
from runtime._spans import Stacktrace
from runtime.errors import ExitReason, shown

if TYPE_CHECKING:
    from actors._life import Life

CRASH = "actors.crash"
_late = logger.opt(lazy=True)


@harmless
def crash(actor: Life, reason: ExitReason) -> None:
    """Report that an actor ends abnormally.

    Event `actors.crash`: measurements {mailbox (messages), uptime (ns)}; metadata {name, ref, reason, stacktrace,
    last_message, ancestors}.
    """
    stack = Stacktrace(reason.__traceback__ if isinstance(reason, BaseException) else None)
    metadata = {
        "name": actor._name,
        "ref": actor._actor_ref,
        "reason": reason,
        "stacktrace": stack,
        "last_message": actor._current,
        "ancestors": _ancestors(actor),
    }
    execute(CRASH, {"mailbox": actor._mailbox.pending(), "uptime": monotonic_ns() - actor._started_ns}, metadata)
    _late.error("{} crashed: {} {}", lambda: actor._actor_ref, lambda: shown(reason), lambda: stack.places())


@harmless
def unexpected(actor: Life, message: Any) -> None:
    """Report a message that the actor has no use for."""
    _late.warning("{} got an unexpected message: {}", lambda: actor._actor_ref, lambda: shown(message))


def _ancestors(actor: Life) -> list[Any]:
    found: list[Any] = []
    parent = actor._parent
    while parent is not None:
        found.append(parent.name or parent.id)
        parent = parent.parent
    return found
