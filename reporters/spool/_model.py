"""What goes into a spool, what comes out of it, and what it says about itself.

Plain frozen values without behaviour; anybody may build and read them. Times are integer nanoseconds of the calendar
clock (they outlive the process), sizes are bytes of payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from runtime.errors import BeamstalkError, expected

Synchronous = Literal["FULL", "NORMAL"]
State = Literal["new", "opening", "ready", "unavailable", "closed"]
WhenFull = Literal["refuse", "drop_oldest"]
WhenExpired = Literal["dead_letter", "discard"]


class NotCommitted(BeamstalkError):
    """Tell the caller that its record is not (known to be) on disk; `reason` says why. Usually nobody's fault."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"expected the record to be committed, got: {reason}")
        self.reason = reason


class SpoolUnavailable(BeamstalkError):
    """Tell the caller that the spool cannot be read or written now; `reason` says why. The machine's fault."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"expected a spool in working order, got: {reason}")
        self.reason = reason


class RecordClass(msgspec.Struct, frozen=True):
    """Bound the records of one kind: how many, how large, how old, and what happens at the bound.

    name: what `put` and `lease` call it.
    max_rows: records that may be stored. Default 100,000.
    max_bytes: their payloads together. Default 256 MiB; the file is somewhat larger.
    max_age_s: how long a record may live undelivered. Default 7 days.
    when_full: "refuse" the new record (default), or "drop_oldest": give up the oldest that is not being delivered.
    when_expired: "dead_letter" (default) keeps what grew too old for a person to look at, "discard" forgets it.

    >>> RecordClass("metrics", max_rows=0)
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected max_rows to be a positive number, got: 0
    """

    name: str
    max_rows: int = 100_000
    max_bytes: int = 256 << 20
    max_age_s: float = 7 * 86_400.0
    when_full: WhenFull = "refuse"
    when_expired: WhenExpired = "dead_letter"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise expected("the name of a record class to be a non-empty string", self.name)
        for field in ("max_rows", "max_bytes", "max_age_s"):
            if not getattr(self, field) > 0:
                raise expected(f"{field} to be a positive number", getattr(self, field))
        if self.when_full not in ("refuse", "drop_oldest"):
            raise expected("when_full to be 'refuse' or 'drop_oldest'", self.when_full)
        if self.when_expired not in ("dead_letter", "discard"):
            raise expected("when_expired to be 'dead_letter' or 'discard'", self.when_expired)


class Record(msgspec.Struct, frozen=True):
    """One committed record, handed out for delivery. `attempts` counts the hand-outs, this one included."""

    id: str
    payload: bytes
    created_ns: int
    attempts: int


class Lease(msgspec.Struct, frozen=True):
    """Records that nobody else is given before `until_ns`. Settle it; what is not settled by then goes out again."""

    number: int
    record_class: str
    records: tuple[Record, ...]
    until_ns: int


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that is not going to be delivered: `kind` (rejected, expired, corrupt, attempts, …) and the reason."""

    id: str
    record_class: str
    payload: bytes
    created_ns: int
    attempts: int
    died_ns: int
    kind: str
    reason: str


class Pending(msgspec.Struct, frozen=True):
    """What is on disk in one class, leased records included. `oldest_ns`: when the first was created, or 0."""

    rows: int = 0
    bytes: int = 0
    oldest_ns: int = 0


class ClassStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Account for every record of one class, in this process. All are numbers of records but `stored_bytes`.

        offered                        = backlog + committed + duplicates + refused
        recovered + committed + revived = stored + delivered + dead_lettered + expired + evicted + lost

    `backlog` waits for the writer; `recovered` was found on disk at the start; `expired` was discarded for its age;
    `lost` could not be read back from a damaged file that this process had open. `leased` is a part of `stored`.
    """

    offered: int = 0
    backlog: int = 0
    committed: int = 0
    duplicates: int = 0
    refused: Mapping[str, int] = {}
    recovered: int = 0
    revived: int = 0
    stored: int = 0
    stored_bytes: int = 0
    leased: int = 0
    delivered: int = 0
    dead_lettered: Mapping[str, int] = {}
    expired: int = 0
    evicted: int = 0
    lost: int = 0

    @property
    def balanced(self) -> bool:
        """Tell whether both sums agree; they always do, and the suite looks."""
        taken = self.backlog + self.committed + self.duplicates + sum(self.refused.values())
        left = self.stored + self.delivered + sum(self.dead_lettered.values())
        left += self.expired + self.evicted + self.lost
        return self.offered == taken and self.recovered + self.committed + self.revived == left


class SpoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Say how a spool does.

    `reason` says what is wrong, or was when the spool was closed; it is "" again once a record has been committed.
    `set_aside` counts damaged files, `salvaged` the records read back from them, `commits` transactions; `dead_letters`
    are those stored now, `dead_discarded` those that made room for newer ones.
    """

    state: State
    reason: str
    path: str
    classes: Mapping[str, ClassStatistics]
    dead_letters: int = 0
    dead_discarded: int = 0
    commits: int = 0
    failed_commits: int = 0
    set_aside: int = 0
    salvaged: int = 0

    @property
    def balanced(self) -> bool:
        """Tell whether every record of every class is accounted for."""
        return all(one.balanced for one in self.classes.values())
