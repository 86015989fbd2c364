"""What a caller holds while its record is on the way to the disk.

The spool's writer completes a ticket once; any number of threads, green actors or greenlets of the host may wait for
it, each in its own way, and none of them holds up the writer.
"""

from __future__ import annotations

from typing import Literal

from runtime import _native
from runtime._fork import in_child
from runtime._waiting import Waiter, waiter

Outcome = Literal["pending", "committed", "duplicate", "refused"]

_lock = _native.allocate_lock()


@in_child
def _new_lock() -> None:
    """Have a free lock in a forked child: the parent's may have been held by a thread that the child does not have."""
    global _lock
    _lock = _native.allocate_lock()


class Ticket:
    """The fate of one record: `outcome`, and `reason` when it was refused.

    >>> ticket = Ticket("0190b0c8-0000-7000-8000-000000000001")
    >>> ticket.complete("refused", "disk_full")
    >>> ticket.wait(1.0), ticket.outcome, ticket.reason
    (False, 'refused', 'disk_full')
    """

    __slots__ = ("_waiters", "id", "outcome", "reason")

    def __init__(self, record_id: str) -> None:
        self.id = record_id
        self.outcome: Outcome = "pending"
        self.reason = ""
        self._waiters: list[Waiter] = []

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the record's fate is known; True when it is on disk.

        Blocks the calling thread or greenlet at most `timeout_s` seconds. False with `outcome` "pending" says that the
        time is over first; the record may still be committed later.
        """
        mine = None
        with _lock:
            if self.outcome == "pending":
                mine = waiter()
                self._waiters.append(mine)
        if mine is not None and not mine.wait(timeout_s):
            with _lock:
                if mine in self._waiters:
                    self._waiters.remove(mine)
        return self.outcome in ("committed", "duplicate")

    def complete(self, outcome: Outcome, reason: str = "") -> None:
        """Settle the fate; the spool calls it once."""
        with _lock:
            self.reason = reason
            self.outcome = outcome
            waiters, self._waiters = self._waiters, []
        for one in waiters:
            one.wake()
