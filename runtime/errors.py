"""Errors of beamstalk, and the one sentence that misuse answers with.

    BeamstalkError
    ├── InvalidValue (ValueError)   the caller passed something we cannot take
    ├── AlreadyExists               the id or name is taken
    ├── NotFound                    no such id or name
    ├── AlreadyStarted              it runs already
    ├── StartError                  a child failed to start; `.child_id`, `.reason`
    ├── MailboxFull                 the actor's load lane is at its capacity
    ├── NotCommitted                nobody took the obligation for a durable event; `.event`, `.reasons`
    └── Exit                        raised inside an actor to end it with `.reason`

An expected "no" is a return value; these are for misuse and for failures the caller must know of.
"""

from __future__ import annotations

import threading

__all__ = [
    "AlreadyExists",
    "AlreadyStarted",
    "BeamstalkError",
    "Exit",
    "ExitReason",
    "InvalidValue",
    "MailboxFull",
    "NotCommitted",
    "NotFound",
    "StartError",
    "expected",
    "is_normal_exit",
    "shown",
]

ExitReason = object
"""Why an actor ended: "normal", "shutdown", ("shutdown", x), "killed", "noproc", another string, or the exception."""


class BeamstalkError(Exception):
    """Root of every error that beamstalk raises."""


class InvalidValue(BeamstalkError, ValueError):
    """Tell the caller what was expected and what it passed instead."""


class AlreadyExists(BeamstalkError):
    """Refuse an id or name that is taken."""


class NotFound(BeamstalkError):
    """Refuse an id or name that nothing has."""


class AlreadyStarted(BeamstalkError):
    """Refuse to start what runs already."""


class StartError(BeamstalkError):
    """Say which child failed to start, and with what reason."""

    def __init__(self, child_id: object, reason: ExitReason) -> None:
        super().__init__(f"expected child {shown(child_id)} to start, got: {shown(reason)}")
        self.child_id = child_id
        self.reason = reason


class MailboxFull(BeamstalkError):
    """Refuse a message to an actor whose load lane is at its capacity."""


class NotCommitted(BeamstalkError):
    """Say that an event that had to be committed was not, and why: one reason per durable subscriber."""

    def __init__(self, event: str, reasons: list[str]) -> None:
        super().__init__(f"expected {event!r} to be committed, got: {'; '.join(reasons)}")
        self.event = event
        self.reasons = reasons


class Exit(BeamstalkError):
    """End the actor that raises it, with this reason.

    >>> Exit("shutdown").reason
    'shutdown'
    """

    def __init__(self, reason: ExitReason = "normal") -> None:
        super().__init__(reason)
        self.reason = reason


def expected(what: str, got: object, fix: str = "") -> InvalidValue:
    """Build the error for a bad argument: what was expected, what came, and the fix if there is one.

    >>> expected("max_seconds to be a positive number", 0)
    InvalidValue('expected max_seconds to be a positive number, got: 0')
    """
    return InvalidValue(f"expected {what}, got: {shown(got, 200)}" + (f". {fix}" if fix else ""))


def shown(value: object, longest: int = 500) -> str:
    """Render a value for a message or report, shortly, and whatever its own `repr` does.

    >>> shown("a" * 1000)[-4:]
    'a...'
    """
    try:
        text = repr(value)
    except BaseException as error:  # a foreign repr may raise anything, and must not end who reports
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # this one is the user's
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= longest else text[: longest - 3] + "..."


def is_normal_exit(reason: ExitReason) -> bool:
    """Tell whether an exit reason is none to report: normal, shutdown, (shutdown, x).

    >>> [is_normal_exit(r) for r in ("normal", "shutdown", ("shutdown", 1), "killed")]
    [True, True, True, False]
    """
    if isinstance(reason, tuple):
        return len(reason) == 2 and reason[0] == "shutdown"
    return reason == "normal" or reason == "shutdown"
