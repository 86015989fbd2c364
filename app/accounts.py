"""Where every event went: the accounts of all who listened, and whether they add up.

Read after the application has stopped, when nothing moves any more; `settle` what is slow before. For each listener's
mailbox

    emitted = handled + dropped + failed + discarded + waiting

where emitted counts the events that were emitted to it. Read-only; any thread.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from typing import Any

import msgspec
import pykka

import runtime
from actors import ActorRef
from supervisors.refs import AnySupervisorRef, DynamicSupervisorRef


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events that were emitted to one listener."""

    listener: str
    emitted: int
    handled: int
    failed: int
    dropped: int
    discarded: int
    waiting: int
    gave_up: bool = False

    @property
    def adds_up(self) -> bool:
        """Tell whether every event is accounted for."""
        return self.emitted == self.handled + self.failed + self.dropped + self.discarded + self.waiting

    def in_words(self) -> str:
        """Say the account as a sum.

        >>> Account(listener="x", emitted=5, handled=3, failed=2, dropped=0, discarded=0, waiting=0).in_words()
        '5 emitted = 3 handled + 0 dropped + 2 failed'
        """
        rest = {"failed": self.failed, "discarded": self.discarded, "still waiting": self.waiting}
        words = "".join(f" + {count:,} {name}" for name, count in rest.items() if count)
        return f"{self.emitted:,} emitted = {self.handled:,} handled + {self.dropped:,} dropped{words}"


def settle(actor: ActorRef[Any], timeout_s: float = 5.0) -> bool:
    """Wait until an actor has handled every message that waits for it; False when time is over or it ends.

    For one with a lazy mailbox, which sleeps on a little mail so as to cost emitters nothing. Asking for its state
    wakes it, and having answered it turns to its mail. Blocks.
    """
    deadline_s = time.monotonic() + timeout_s
    while actor.info().mailbox.pending:
        try:
            actor.get_state(timeout=max(deadline_s - time.monotonic(), 0))
        except (pykka.Timeout, pykka.ActorDeadError):
            return False
    return True


def accounts(actors: Iterable[ActorRef[Any]], gave_up: Container[str]) -> list[Account]:
    """Return the accounts of these actors and of all attached handlers; `gave_up` names those that were parked."""
    handlers = {info.id: info.mailbox for info in runtime.list_handlers()}
    others = {info.name or info.kind: info.mailbox for info in (actor.info() for actor in actors)}
    return [
        Account(
            listener=listener,
            emitted=mailbox.offered,
            handled=mailbox.handled,
            failed=mailbox.failed,
            dropped=sum(mailbox.dropped.values()),
            discarded=mailbox.discarded,
            waiting=mailbox.pending,
            gave_up=listener in gave_up,
        )
        for listener, mailbox in {**others, **handlers}.items()
    ]


def total(accounts: Iterable[Account]) -> Account:
    """Add accounts up."""
    columns = ("emitted", "handled", "failed", "dropped", "discarded", "waiting")
    given = list(accounts)
    return Account(listener="all", **{name: sum(getattr(one, name) for one in given) for name in columns})


def restarts(supervisor: AnySupervisorRef) -> int:
    """Count the restarts of all handlers, those that gave up included, and of everything else below a supervisor.

    Blocks until every supervisor has answered.
    """
    return sum({info.id: info.restarts for info in runtime.list_handlers()}.values()) + _restarts(supervisor)


def _restarts(supervisor: AnySupervisorRef) -> int:
    if isinstance(supervisor, DynamicSupervisorRef):
        below = []  # the handlers, which have been counted
    else:
        below = [entry.child for entry in supervisor.which_children() if isinstance(entry.child, AnySupervisorRef)]
    return supervisor.supervision().restarts + sum(map(_restarts, below))
