"""Where every event went: the accounts of all who listened, and whether they add up.

Read after the application has stopped, when nothing moves any more. For each listener's mailbox

    offered = handled + failed + dropped + discarded + waiting

where offered is how many events were emitted to it. Read-only; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

import runtime
from actors import ActorRef
from supervisors.refs import AnySupervisorRef


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events that were emitted to one listener."""

    listener: str
    offered: int
    handled: int
    failed: int
    dropped: int
    discarded: int
    waiting: int
    state: str = ""

    @property
    def adds_up(self) -> bool:
        """Tell whether every event is accounted for."""
        return self.offered == self.handled + self.failed + self.dropped + self.discarded + self.waiting

    def in_words(self) -> str:
        """Say the account as a sum, leaving out what is nothing.

        >>> Account(listener="x", offered=5, handled=3, failed=0, dropped=2, discarded=0, waiting=0).in_words()
        '5 = 3 handled + 2 dropped'
        """
        parts = [
            f"{getattr(self, name):,} {name}"
            for name in ("handled", "failed", "dropped", "discarded", "waiting")
            if getattr(self, name)
        ]
        return f"{self.offered:,} = {' + '.join(parts) or 'none'}"


def accounts(actors: Iterable[ActorRef[Any]] = ()) -> list[Account]:
    """Return the accounts of all attached handlers and of these actors."""
    handlers = {info.id: (info.mailbox, info.state) for info in runtime.list_handlers()}
    others = {info.name or info.kind: (info.mailbox, "") for info in (actor.info() for actor in actors)}
    return [
        Account(
            listener=listener,
            offered=mailbox.offered,
            handled=mailbox.handled,
            failed=mailbox.failed,
            dropped=sum(mailbox.dropped.values()),
            discarded=mailbox.discarded,
            waiting=mailbox.pending,
            state=state,
        )
        for listener, (mailbox, state) in {**others, **handlers}.items()
    ]


def total(accounts: Iterable[Account]) -> Account:
    """Add accounts up."""
    columns = ("offered", "handled", "failed", "dropped", "discarded", "waiting")
    given = list(accounts)
    return Account(listener="all", **{name: sum(getattr(one, name) for one in given) for name in columns})


def restarts(supervisor: AnySupervisorRef) -> int:
    """Count the restarts below a supervisor, over the whole tree. Blocks until every supervisor has answered."""
    below = [entry.child for entry in supervisor.which_children() if isinstance(entry.child, AnySupervisorRef)]
    return supervisor.supervision().restarts + sum(map(restarts, below))
