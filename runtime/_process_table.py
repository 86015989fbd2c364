"""The process table: every actor that lives, by id and by name.

Actors enter it when they start and leave it when they end; anybody may read. What an entry can tell about itself it
tells through `info()`, without waiting for the actor, so the table can be listed while an actor hangs.
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol

import msgspec

from runtime._fork import in_child
from runtime._mailbox import MailboxStatistics
from runtime.errors import AlreadyExists


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an actor at a glance. Times are nanoseconds; `busy_ns` is how long the current message takes.

    `started_ns` is on the clock of `time.monotonic_ns()`, so the ages of many actors can be told for one moment.
    """

    id: int
    name: str | None
    kind: str
    parent: int | None
    carrier: str
    state: str
    mailbox: MailboxStatistics
    restarts: int
    started_ns: int
    uptime_ns: int
    busy_ns: int


class Process(Protocol):
    """An entry of the table: an actor's ref."""

    @property
    def id(self) -> int: ...

    def info(self) -> ProcessInfo: ...


_ids = itertools.count(1)
_by_id: dict[int, Any] = {}
_by_name: dict[str, Any] = {}


def next_id() -> int:
    """Return a process id that was never used before."""
    return next(_ids)


def register(process: Any, name: str | None = None) -> None:
    """Enter an actor; AlreadyExists when its name is taken."""
    # setdefault is one step under the GIL: of two that want a name one gets it.
    if name is not None and _by_name.setdefault(name, process) is not process:
        raise AlreadyExists(f"expected a name that no live actor has, got: {name!r}")
    _by_id[process.id] = process


def unregister(process: Any, name: str | None = None) -> None:
    """Take an actor that ended out of the table."""
    _by_id.pop(process.id, None)
    if name is not None and _by_name.get(name) is process:
        del _by_name[name]


def whereis(name: str) -> Any:
    """Return the ref of the live actor with this name, or None."""
    return _by_name.get(name)


def processes() -> list[Any]:
    """Return the refs of all live actors."""
    return list(_by_id.values())


@in_child
def _forget_all() -> None:
    for process in processes():
        process.orphan()
    _by_id.clear()
    _by_name.clear()


def count() -> int:
    """Count the live actors."""
    return len(_by_id)
